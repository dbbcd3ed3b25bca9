//! Traces written by hand.
#![expect(clippy::needless_pass_by_value, reason = "tales are told in place")]

use headwater_core::config::CoreConfig;
use serde_json::{Value, json};

use super::{CLOSER, Checked, Judge, Law, Limits, Rules, Violation, of_subscribers};
use crate::trace::{Entry, Loss, Trace, What, Who};

/// A world in which all that is told is told at once: what the server takes was sent, and what it queues is got.
pub(super) struct Tale {
    rules: Rules,
    trace: Trace,
    calls: u64,
}

impl Tale {
    /// A world of the core.
    pub(super) fn of_core() -> Tale {
        Tale::new(true)
    }

    /// A world in which only clients tell.
    pub(super) fn of_clients() -> Tale {
        Tale::new(false)
    }

    fn new(tells_server: bool) -> Tale {
        let rules = Rules {
            faults: true,
            tells_server,
            new_epochs: false,
            outbox_bytes: 600,
            pipe: 0,
            limits: Limits::of(&CoreConfig::default()),
        };
        Tale { rules, trace: Trace::new(), calls: 0 }
    }

    /// Each crash makes another history.
    pub(super) fn with_new_epochs(mut self) -> Tale {
        self.rules.new_epochs = true;
        self
    }

    pub(super) fn note(mut self, who: &str, what: What) -> Tale {
        let at = self.trace.len() as u64;
        self.trace.push(Entry { at, who: who_is(who), what });
        self
    }

    /// A connection to a path.
    pub(super) fn connects(self, who: &str, path: &str) -> Tale {
        self.note(who, What::Connected(path.to_owned())).of_server(who, What::Opened)
    }

    fn of_server(self, who: &str, what: What) -> Tale {
        if self.rules.tells_server { self.note(who, what) } else { self }
    }

    pub(super) fn ends(self, who: &str) -> Tale {
        self.note(who, What::Lost).of_server(who, What::Gone)
    }

    pub(super) fn sends(self, who: &str, message: Value) -> Tale {
        self.note(who, What::Sent(message.clone())).of_server(who, What::Took(message))
    }

    pub(super) fn gets(self, who: &str, message: Value) -> Tale {
        self.of_server(who, What::Queued(message.clone())).note(who, What::Got(message))
    }

    /// The same for several, as it is queued: for all at one moment.
    pub(super) fn all_get(self, all: &[&str], message: Value) -> Tale {
        let queued = all.iter().fold(self, |tale, who| tale.of_server(who, What::Queued(message.clone())));
        all.iter().fold(queued, |tale, who| tale.note(who, What::Got(message.clone())))
    }

    /// A subscription to `g0`, or to an item of it.
    pub(super) fn joins(self, who: &str, id: &str, item: Option<&str>) -> Tale {
        self.sends(who, frame_of_client("join", id, item))
    }

    pub(super) fn leaves(self, who: &str, id: &str, item: Option<&str>) -> Tale {
        self.sends(who, frame_of_client("leave", id, item))
    }

    /// A call by `worker0#1`, or by the closer, and its answer.
    pub(super) fn calls(mut self, who: &str, function: &str, data: Value, result: Value) -> Tale {
        self.calls += 1;
        let id = format!("call:{}", self.calls);
        let mut input = json!({"stream_name": "world", "group_id": "g0"});
        let members = data.as_object().cloned().unwrap_or_default();
        members.into_iter().for_each(|(key, value)| input[key] = value);
        let call =
            json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": input});
        let mut answer = json!({"type": "invocationresult", "invocation_id": id, "function_id": function});
        match result.get("code") {
            Some(_) => answer["error"] = result,
            None => answer["result"] = result,
        }
        self.sends(who, call).gets(who, answer)
    }

    /// The server calls a function, and the worker answers.
    pub(super) fn asks(self, function: &str, data: Value, result: Value) -> Tale {
        let id = format!("ask:{}", self.trace.len());
        let call =
            json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": data});
        let answer = json!({
            "type": "invocationresult", "invocation_id": id, "function_id": function, "result": result,
        });
        self.gets("worker0#1", call).sends("worker0#1", answer)
    }

    /// The world is at rest, and the closer lists `g0`.
    pub(super) fn closes_with(self, values: Value) -> Tale {
        let closer = format!("{CLOSER}#1");
        let tale = match self.trace.iter().any(|entry| entry.what == What::Healed) {
            true => self,
            false => self.note("server#0", What::Healed).connects(&closer, "/"),
        };
        tale.calls(&closer, "stream::list", json!({}), values)
    }

    pub(super) fn crashes(self) -> Tale {
        self.note("server#0", What::Crashed(Loss::Process)).note("server#0", What::Restarted)
    }

    /// By those who watch over subscribers: a tale tells no more of workers than they have to know.
    fn judged(&self) -> Result<Checked, Violation> {
        let mut judge = Judge { oracles: of_subscribers(self.rules), checked: Checked::default() };
        self.trace.iter().try_for_each(|entry| judge.see(entry))?;
        judge.end()
    }

    pub(super) fn holds(self) -> Checked {
        self.judged().unwrap_or_else(|violation| panic!("{violation}"))
    }

    #[track_caller]
    pub(super) fn breaks(self, law: Law) {
        match self.judged() {
            Err(violation) => assert_eq!(violation.law, law, "{violation}"),
            Ok(_) => panic!("{law:?} is broken, and nobody notices"),
        }
    }
}

fn who_is(name: &str) -> Who {
    let (client, connection) = name.split_once('#').expect("a client's connection");
    Who::new(client, connection.parse().expect("a number"))
}

fn frame_of_client(kind: &str, id: &str, item: Option<&str>) -> Value {
    let data = json!({"subscriptionId": id, "streamName": "world", "groupId": "g0", "id": item});
    json!({"type": kind, "data": data})
}

fn frame(item: Option<&str>, stamp: u64, event: &Value) -> Value {
    json!({
        "type": "stream", "timestamp": stamp, "streamName": "world", "groupId": "g0", "id": item, "event": event,
    })
}

/// A state of `g0`, or of an item of it.
pub(super) fn sync(item: Option<&str>, revision: u64, stamp: u64, data: &Value) -> Value {
    let mut frame = frame(item, stamp, &json!({"type": "sync", "data": data}));
    (frame["revision"], frame["epoch"]) = (json!(revision), json!("e"));
    frame
}

/// The same in another history.
pub(super) fn sync_of(epoch: &str, revision: u64, stamp: u64, data: &Value) -> Value {
    let mut frame = sync(None, revision, stamp, data);
    frame["epoch"] = json!(epoch);
    frame
}

/// A change of an item.
pub(super) fn change(kind: &str, item: &str, revision: u64, stamp: u64, data: &Value) -> Value {
    let mut frame = frame(Some(item), stamp, &json!({"type": kind, "data": data}));
    frame["revision"] = json!(revision);
    frame
}

/// An event that is not stored.
pub(super) fn sent(item: Option<&str>, revision: u64, stamp: u64, n: u64) -> Value {
    let event = json!({"type": "event", "event": {"type": "note", "data": {"n": n}}});
    let mut frame = frame(item, stamp, &event);
    frame["revision"] = json!(revision);
    frame
}

/// A join is refused.
pub(super) fn unauthorized(item: Option<&str>) -> Value {
    frame(item, 7, &json!({"type": "unauthorized"}))
}

/// The subscriber did something wrong.
pub(super) fn error(code: &str, item: Option<&str>) -> Value {
    frame(item, 0, &json!({"type": "error", "error": {"code": code, "message": "it did"}}))
}

/// The value of item `a`, `b`, …
pub(super) fn value(id: &str, n: u64) -> Value {
    json!({"id": id, "n": n})
}
