//! Calls of functions that other workers run: each is handed to its worker at most once, and what that returns comes back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{CallId, function_of_others};
use crate::trace::Who;

/// What the server answers a call with that did not get to its handler or not back.
const SERVERS_OWN: [&str; 7] = [
    "function_not_found",
    "invocation_stopped",
    "invocation_failed",
    "TIMEOUT",
    "overloaded",
    "unsupported",
    "server_stopping",
];

/// The calls of functions of other workers.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// By function and input, which worlds don't use twice, except to try again: then nobody knows which it was.
    calls: BTreeMap<(String, String), Call>,
    /// The input of each call.
    inputs: BTreeMap<CallId, (String, String)>,
    /// What handlers are running, by their connection and the server's id.
    running: BTreeMap<CallId, (String, String)>,
    /// Who runs which function, where the world tells what the server does. Who has registered one may have been refused;
    /// who was called for it has it.
    owners: BTreeMap<String, Who>,
}

#[derive(Debug)]
struct Call {
    id: CallId,
    is_unique: bool,
    handed: bool,
    /// Whether a worker that was connected certainly had the function when the server took the call.
    is_there: bool,
    /// What handlers sent back: the server takes the first, if it gets there.
    returned: Vec<Value>,
}

impl Passed {
    pub(super) fn called(&mut self, id: &CallId, function: &str, data: &Value) {
        let input = (function.to_owned(), data.to_string());
        self.inputs.insert(id.clone(), input.clone());
        let new =
            || Call { id: id.clone(), is_unique: true, handed: false, is_there: false, returned: Vec::new() };
        let call = self.calls.entry(input).or_insert_with(new);
        call.is_unique &= call.id == *id;
    }

    /// The server has taken a message.
    pub(super) fn took(&mut self, who: &Who, message: &Value) {
        match message["type"].as_str() {
            Some("unregisterfunction") => {
                let name = message["id"].as_str().or_else(|| message["function_path"].as_str());
                if let Some(function) = name.filter(|function| self.owners.get(*function) == Some(who)) {
                    self.owners.remove(function);
                }
            }
            // It may retire a connection that this client had.
            Some("reattach") => {
                self.owners.retain(|_, owner| owner.client != who.client || owner == who);
            }
            Some("invokefunction") => {
                let is_there = function_of_others(message).is_some_and(|name| self.owners.contains_key(name));
                let id = message["invocation_id"].as_str().map(|id| (who.clone(), id.to_owned()));
                if let Some(call) = id.and_then(|id| self.call(&id)) {
                    call.is_there = is_there;
                }
            }
            _ => {}
        }
    }

    /// The server calls a worker.
    pub(super) fn calls(&mut self, who: &Who, message: &Value) {
        if let Some(function) =
            message["function_id"].as_str().filter(|_| message["type"] == "invokefunction")
        {
            self.owners.insert(function.to_owned(), who.clone());
        }
    }

    pub(super) fn gone(&mut self, who: &Who) {
        self.owners.retain(|_, owner| owner != who);
    }

    pub(super) fn crashed(&mut self) {
        self.owners.clear();
    }

    /// A worker was handed a call. What is not a worker's call is the server's own.
    pub(super) fn handed(&mut self, who: &Who, message: &Value) -> Result<(), String> {
        let (function, data) = (message["function_id"].as_str(), &message["data"]);
        let (Some(function), Some(id)) = (function, message["invocation_id"].as_str()) else { return Ok(()) };
        let input = (function.to_owned(), data.to_string());
        let Some(call) = self.calls.get_mut(&input) else { return Ok(()) };
        if call.is_unique && call.handed {
            return Err("a call was handed to its handler twice".to_owned());
        }
        call.handed = true;
        self.running.insert((who.clone(), id.to_owned()), input);
        Ok(())
    }

    /// A handler sends what it returns.
    pub(super) fn returned(&mut self, who: &Who, message: &Value) {
        let id = message["invocation_id"].as_str().unwrap_or_default().to_owned();
        let call = self.running.remove(&(who.clone(), id)).and_then(|input| self.calls.get_mut(&input));
        if let Some(call) = call {
            call.returned.push(message.clone());
        }
    }

    /// The caller was answered: with what the handler returned, or with an error of the server's own.
    pub(super) fn answered(&mut self, id: &CallId, message: &Value) -> Result<(), String> {
        let Some(call) = self.call(id) else { return Ok(()) };
        let is_own = SERVERS_OWN.iter().any(|code| message["error"]["code"] == *code);
        if is_own || call.returned.iter().any(|returned| is_same(returned, message)) {
            return Ok(());
        }
        Err(format!("no handler has returned this, but {:?}", call.returned.iter().map(Value::to_string)))
    }

    /// Whether a handler has answered this call with an error.
    pub(super) fn has_failed(&mut self, id: &CallId) -> bool {
        self.call(id).is_some_and(|call| call.returned.iter().any(|returned| returned.get("error").is_some()))
    }

    /// Whether there was a worker for this call.
    pub(super) fn is_there(&mut self, id: &CallId) -> bool {
        self.call(id).is_some_and(|call| call.is_there)
    }

    /// A call, if it is known to be this one.
    fn call(&mut self, id: &CallId) -> Option<&mut Call> {
        let input = self.inputs.get(id)?;
        self.calls.get_mut(input).filter(|call| call.is_unique)
    }
}

/// Whether an answer is what a handler has returned. An error gets what it lacks.
fn is_same(returned: &Value, answer: &Value) -> bool {
    match (returned.get("error"), answer.get("error")) {
        (None, None) => returned.get("result") == answer.get("result"),
        (Some(returned), Some(error)) => ["code", "message"]
            .iter()
            .all(|field| returned.get(field).is_none_or(|returned| *returned == error[field])),
        _ => false,
    }
}
