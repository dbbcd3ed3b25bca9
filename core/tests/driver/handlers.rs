//! Workers that handle things: what they bind, what they are asked, what they answer.

use std::fmt;

use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::wire::stream::{self, Handshake};
use headwater_core::{Input, Notice};
use serde_json::Value;

use super::{Seen, Session, World};

/// A call that a worker is to run.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The server's id of it; none if no answer is wanted.
    pub(crate) id: Option<String>,
    pub(crate) function: String,
    pub(crate) data: Value,
    pub(crate) frame: String,
}

impl Call {
    /// The subscription that a join or a leave is about.
    pub(crate) fn subscription(&self) -> &str {
        self.data["subscription_id"].as_str().expect("the input of a join or a leave")
    }

    /// How many events were dropped before this one.
    pub(crate) fn skipped(&self) -> Option<u64> {
        self.data["skipped"].as_u64()
    }
}

/// `function input`; an event as [`Seen`] shows it, a join or leave as its subscription.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.function)?;
        match (&self.data["type"], &self.data["subscription_id"]) {
            (Value::String(kind), _) if kind == "stream" => {
                write!(f, "{}", Seen::read(&self.data.to_string()))
            }
            (_, Value::String(subscription)) => write!(f, "{subscription}"),
            _ => write!(f, "{}", self.data),
        }
    }
}

impl World {
    /// Binds a function, which the worker registers as well.
    pub(crate) fn handles(&mut self, worker: WorkerKey, kind: &str, function: &str, config: &str) {
        self.registers(worker, function);
        self.binds(worker, function, kind, function, config);
    }

    pub(crate) fn binds(&mut self, worker: WorkerKey, id: &str, kind: &str, function: &str, config: &str) {
        self.says(
            worker,
            &format!(
                r#"{{"type":"registertrigger","id":"{id}","trigger_type":"{kind}","function_id":"{function}","config":{config}}}"#
            ),
        );
    }

    pub(crate) fn unbinds(&mut self, worker: WorkerKey, id: &str) {
        self.says(worker, &format!(r#"{{"type":"unregistertrigger","id":"{id}"}}"#));
    }

    /// The calls that a worker got since this was asked last; it got nothing else.
    pub(crate) fn calls(&mut self, worker: WorkerKey) -> Vec<Call> {
        self.heard(worker).into_iter().map(read_call).collect()
    }

    /// The same, short.
    #[track_caller]
    pub(crate) fn asked(&mut self, worker: WorkerKey) -> Vec<String> {
        self.calls(worker).iter().map(Call::to_string).collect()
    }

    #[track_caller]
    pub(crate) fn one_call(&mut self, worker: WorkerKey) -> Call {
        let mut calls = self.calls(worker);
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    /// The call of a function that a worker got, among answers to its own calls.
    #[track_caller]
    pub(crate) fn one_call_of(&mut self, worker: WorkerKey, function: &str) -> Call {
        let mut frames = self.heard(worker);
        frames.retain(|frame| frame.starts_with(r#"{"type":"invokefunction""#));
        assert_eq!(frames.len(), 1, "{frames:?}");
        let call = read_call(frames.remove(0));
        assert_eq!(call.function, function);
        call
    }

    /// A worker answers a call that wants an answer; without a result if `result` is empty.
    pub(crate) fn returns(&mut self, worker: WorkerKey, call: &Call, result: &str) {
        let result = if result.is_empty() { String::new() } else { format!(r#","result":{result}"#) };
        self.answers(worker, call, &result);
    }

    /// A worker's handler fails.
    pub(crate) fn throws(&mut self, worker: WorkerKey, call: &Call) {
        self.answers(worker, call, r#","error":{"code":"E","message":"it broke"}"#);
    }

    fn answers(&mut self, worker: WorkerKey, call: &Call, members: &str) {
        let id = call.id.as_ref().expect("an answer is wanted");
        let function = &call.function;
        self.says(
            worker,
            &format!(
                r#"{{"type":"invocationresult","invocation_id":"{id}","function_id":"{function}"{members}}}"#
            ),
        );
    }

    /// A worker answers all that it is asked, and what it is asked then, with the same. Returns it, short.
    #[track_caller]
    pub(crate) fn returns_to_all(&mut self, worker: WorkerKey, result: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let calls = self.calls(worker);
            if calls.is_empty() {
                return all;
            }
            for call in calls {
                self.returns(worker, &call, result);
                all.push(call.to_string());
            }
        }
    }

    /// A subscriber who shows a token, at a path.
    pub(crate) fn session_with_token(&mut self, token: &str, path: &str) -> SessionKey {
        let session = SessionKey(self.key());
        self.sessions.insert(session, Session::default());
        let handshake = Handshake {
            headers: vec![("authorization".to_owned(), format!("Bearer {token}"))],
            path: path.to_owned(),
            query: "q=1".to_owned(),
            addr: "127.0.0.1:9".to_owned(),
        };
        let join = stream::parse_path(path, &self.config.limits);
        self.input(Input::SessionConnected { session, handshake, join });
        session
    }

    /// What the operator was told since this was asked last, short.
    pub(crate) fn noted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes).iter().map(short_note).collect()
    }
}

pub(super) fn short_note(notice: &Notice) -> String {
    match notice {
        Notice::HandlerFailed { function, group, revision, error } => {
            format!("{function} failed at {} #{}: {}", group.group, revision.0, error.code)
        }
        Notice::HandlerTooSlow { function } => format!("{function} is too slow"),
        Notice::EventsDropped { function, count } => format!("{function} lost {count}"),
        Notice::GateFailed { function, join, error } => {
            format!("gate {function} failed for {}: {}", join.subscription, error.code)
        }
        Notice::LeaveFailed { function, join, error } => {
            format!("{function} failed at the leave of {}: {}", join.subscription, error.code)
        }
        Notice::AuthFailed { error, .. } => format!("auth failed: {}", error.code),
        other => format!("{other:?}"),
    }
}

pub(super) fn read_call(frame: String) -> Call {
    let value: Value = serde_json::from_str(&frame).expect("frames are JSON");
    assert_eq!(value["type"], "invokefunction", "{frame}");
    Call {
        id: value["invocation_id"].as_str().map(str::to_owned),
        function: value["function_id"].as_str().expect("a function").to_owned(),
        data: value["data"].clone(),
        frame,
    }
}
