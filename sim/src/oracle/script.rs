//! Traces written by hand, for the tests of the oracles.

use serde_json::{Value, json};

use super::{Checked, Judge, Limits, Oracle, Rules, Violation};
use crate::trace::Entry;
use crate::trace::{Loss, Trace, What, Who};

/// A trace that is being written.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) rules: Rules,
    pub(super) trace: Trace,
    oracle: fn(Rules) -> Box<dyn Oracle>,
}

impl Script {
    /// For this oracle alone; whether it tells what the server does. There are faults.
    pub(super) fn new(tells_server: bool, oracle: fn(Rules) -> Box<dyn Oracle>) -> Script {
        let limits = Limits { call_ms: 1_000, gate_grace_ms: 500, stop_ms: 300, trigger_events: 100_000 };
        let rules =
            Rules { faults: true, tells_server, new_epochs: false, outbox_bytes: 1 << 20, pipe: 8, limits };
        Script { rules, trace: Trace::new(), oracle }
    }

    pub(super) fn note(&mut self, who: &Who, what: What) -> &mut Script {
        let at = self.trace.last().map_or(0, |last| last.at + 1);
        self.trace.push(Entry { at, who: who.clone(), what });
        self
    }

    /// Time passes, in milliseconds.
    pub(super) fn waits(&mut self, ms: u64) -> &mut Script {
        let at = self.trace.last().map_or(0, |last| last.at + ms);
        self.trace.push(Entry { at, who: Who::server(), what: What::Did("time passes".to_owned()) });
        self
    }

    /// A client sends a message.
    pub(super) fn sends(&mut self, who: &Who, message: Value) -> &mut Script {
        self.note(who, What::Sent(message))
    }

    /// The server takes one, if the trace tells.
    pub(super) fn takes(&mut self, who: &Who, message: Value) -> &mut Script {
        if self.rules.tells_server { self.note(who, What::Took(message)) } else { self }
    }

    /// A client sends a message, and the server takes it.
    pub(super) fn says(&mut self, who: &Who, message: Value) -> &mut Script {
        self.sends(who, message.clone()).takes(who, message)
    }

    /// The server has a message for a client, which gets it.
    pub(super) fn hears(&mut self, who: &Who, message: Value) -> &mut Script {
        if self.rules.tells_server {
            self.note(who, What::Queued(message.clone()));
        }
        self.note(who, What::Got(message))
    }

    pub(super) fn connects(&mut self, who: &Who) -> &mut Script {
        self.note(who, What::Connected("/".to_owned()));
        if self.rules.tells_server { self.note(who, What::Opened) } else { self }
    }

    /// A client's connection breaks, at both ends.
    pub(super) fn loses(&mut self, who: &Who) -> &mut Script {
        if self.rules.tells_server {
            self.note(who, What::Gone);
        }
        self.note(who, What::Lost)
    }

    pub(super) fn crashes(&mut self) -> &mut Script {
        self.note(&Who::server(), What::Crashed(Loss::Power)).note(&Who::server(), What::Restarted)
    }

    /// What the oracle says of it.
    /// With it the world comes to rest and ends: somebody lists what is there, and the server dies, if the trace
    /// tells.
    pub(super) fn ended(mut self) -> Script {
        let closer = Who::new("closer", 1);
        self.note(&Who::server(), What::Healed);
        let data = json!({"stream_name": "world", "group_id": "g0"});
        self.says(&closer, call("list", "stream::list", data));
        self.hears(&closer, answer("list", "stream::list", json!([])));
        if self.rules.tells_server {
            self.crashes();
        }
        self
    }

    pub(super) fn check(&self) -> Result<Checked, Violation> {
        let mut judge = Judge { oracles: vec![(self.oracle)(self.rules)], checked: Checked::default() };
        self.trace.iter().try_for_each(|entry| judge.see(entry))?;
        judge.end()
    }
}

/// A call.
pub(super) fn call(id: &str, function: &str, data: Value) -> Value {
    with(json!({"type": "invokefunction", "invocation_id": id, "function_id": function}), "data", data)
}

/// Its answer.
pub(super) fn answer(id: &str, function: &str, result: Value) -> Value {
    with(json!({"type": "invocationresult", "invocation_id": id, "function_id": function}), "result", result)
}

/// Its failure.
pub(super) fn failure(id: &str, function: &str, error: Value) -> Value {
    with(json!({"type": "invocationresult", "invocation_id": id, "function_id": function}), "error", error)
}

fn with(mut message: Value, field: &str, value: Value) -> Value {
    message[field] = value;
    message
}
