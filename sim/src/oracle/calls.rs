//! Calls and their answers: each gets one, of the right form, and a good one unless there is a reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{CLOSER, Checked, Law, Oracle, Rules, Violation};
use crate::trace::{Entry, What, Who};
use passed::Passed;

mod passed;
mod shape;
#[cfg(test)]
mod tests;

/// A connection, and the id of a call on it.
type CallId = (Who, String);

/// All calls that want an answer.
#[derive(Debug)]
pub(super) struct Calls {
    rules: Rules,
    /// What clients wait for, on connections that they have.
    waiting: BTreeMap<CallId, Value>,
    /// What the server has taken and not answered, where the world tells.
    taken: BTreeMap<CallId, u64>,
    passed: Passed,
    /// The connections whose other end is gone: nothing is to be expected there.
    ended: BTreeSet<Who>,
    connections: BTreeSet<Who>,
    is_healed: bool,
    has_crashed: bool,
}

impl Calls {
    pub(super) fn new(rules: Rules) -> Calls {
        Calls {
            rules,
            waiting: BTreeMap::new(),
            taken: BTreeMap::new(),
            passed: Passed::default(),
            ended: BTreeSet::new(),
            connections: BTreeSet::new(),
            is_healed: false,
            has_crashed: false,
        }
    }

    fn sent(&mut self, who: &Who, message: &Value) -> Result<(), Violation> {
        if message["type"] == "invocationresult" {
            self.passed.returned(who, message);
            return Ok(());
        }
        let lists = &*who.client == CLOSER && message["function_id"] == "stream::list";
        if lists && self.is_healed {
            self.nobody_waits(|waiting| *waiting.client != *CLOSER)?;
        }
        if let Some(id) = wants_answer(message) {
            let id = (who.clone(), id);
            if let Some(function) = function_of_others(message) {
                self.passed.called(&id, function, &message["data"]);
            }
            self.waiting.insert(id, message.clone());
        }
        Ok(())
    }

    /// A message was handed to the core.
    fn took(&mut self, who: &Who, message: &Value) {
        self.passed.took(who, message);
        if let Some(id) = wants_answer(message) {
            *self.taken.entry((who.clone(), id)).or_default() += 1;
        }
    }

    /// The server has answered, as far as the world tells: the client may get it or not.
    fn answered(&mut self, who: &Who, message: &Value, checked: &mut Checked) -> Result<(), Violation> {
        let Some(id) = answers(message) else { return Ok(()) };
        let id = (who.clone(), id);
        if self.rules.tells_server {
            match self.taken.get_mut(&id) {
                Some(times) if *times > 0 => *times -= 1,
                _ => return Err(broken("an answer to a call that was not taken, or was answered before")),
            }
        }
        let Some(call) = self.waiting.get(&id) else {
            // Where the world tells of the server, its client may be gone.
            return match self.rules.tells_server {
                true => Ok(()),
                false => Err(broken("an answer to no call, or a second one")),
            };
        };
        shape::check(call, message).map_err(|how| broken(&how))?;
        self.passed.answered(&id, message).map_err(|how| broken(&how))?;
        match message.get("error") {
            None => checked.answers += 1,
            Some(error) => {
                checked.refused += 1;
                let may_be = self.rules.faults || self.passed.has_failed(&id) || shape::may_fail(call, error);
                if !may_be {
                    return Err(broken("a call failed, and nothing was wrong"));
                }
                let is_there = self.passed.is_there(&id);
                if error["code"] == "function_not_found" && is_there {
                    return Err(broken("the worker that runs the function is connected"));
                }
            }
        }
        Ok(())
    }

    fn got(&mut self, who: &Who, message: &Value) -> Result<(), Violation> {
        if message["type"] == "invokefunction" {
            return self.passed.handed(who, message).map_err(|how| broken(&how));
        }
        if let Some(id) = answers(message) {
            self.waiting.remove(&(who.clone(), id));
        }
        Ok(())
    }

    fn lost(&mut self, who: &Who, checked: &mut Checked) {
        let lost = self.waiting.extract_if(.., |(waiting, _), _| waiting == who).count();
        checked.refused += lost as u64;
        self.connections.remove(who);
        self.ended.remove(who);
    }

    fn crashed(&mut self) {
        self.ended.clone_from(&self.connections);
        self.taken.clear();
        self.passed.crashed();
    }

    /// The world is at rest: what is not answered now, never will be.
    fn nobody_waits(&self, among: impl Fn(&Who) -> bool) -> Result<(), Violation> {
        let mut waiting = self.waiting.iter().filter(|((who, _), _)| among(who) && !self.ended.contains(who));
        match waiting.next() {
            Some(((who, _), call)) => Err(broken(&format!("{who} still waits for an answer to {call}"))),
            None => Ok(()),
        }
    }
}

impl Oracle for Calls {
    fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        let who = &entry.who;
        match &entry.what {
            What::Connected(_) => {
                // A client has one connection: what it waited for on the one before does not come.
                let before = |other: &&Who| other.client == who.client && *other != who;
                let before: Vec<_> = self.connections.iter().filter(before).cloned().collect();
                before.iter().for_each(|who| self.lost(who, checked));
                self.connections.insert(who.clone());
            }
            What::Lost => self.lost(who, checked),
            What::Sent(message) => self.sent(who, message)?,
            What::Took(message) => self.took(who, message),
            What::Queued(message) if self.rules.tells_server => {
                self.passed.calls(who, message);
                self.answered(who, message, checked)?;
            }
            What::Got(message) => {
                if !self.rules.tells_server {
                    self.answered(who, message, checked)?;
                }
                self.got(who, message)?;
            }
            What::Gone => {
                self.ended.insert(who.clone());
                self.taken.retain(|(taken, _), _| taken != who);
                self.passed.gone(who);
            }
            What::Crashed(_) | What::Stopped => {
                self.has_crashed |= matches!(entry.what, What::Crashed(_));
                self.crashed();
            }
            What::Healed => self.is_healed = true,
            What::Complained(_) if !self.rules.faults && !self.has_crashed => {
                return Err(Law::NoComplaint.broken("nothing was wrong"));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, checked: &mut Checked) -> Result<(), Violation> {
        self.nobody_waits(|_| true)?;
        checked.refused += self.waiting.len() as u64;
        Ok(())
    }
}

/// The id of a call that wants an answer.
fn wants_answer(message: &Value) -> Option<String> {
    let wants = message["type"] == "invokefunction" && message["action"]["type"] != "void";
    message["invocation_id"].as_str().filter(|_| wants).map(str::to_owned)
}

/// The id of the call that this answers.
fn answers(message: &Value) -> Option<String> {
    message["invocation_id"].as_str().filter(|_| message["type"] == "invocationresult").map(str::to_owned)
}

/// The function that is called, if workers run it.
fn function_of_others(message: &Value) -> Option<&str> {
    let own = ["stream::", "streams.", "engine::"];
    message["function_id"].as_str().filter(|function| !own.iter().any(|prefix| function.starts_with(prefix)))
}

fn broken(how: &str) -> Violation {
    Law::CallsAnswered.broken(how)
}
