//! What workers have registered and what the server has called them for, as far as a trace tells. The oracles of handlers
//! look at the world through this.
//!
//! Where the trace tells what the server took, this is exact. Where it tells only what clients sent and got, a
//! registration counts once an answer to a later call of its connection proves that it was taken.

mod binding;
mod registration;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Rules;
use super::frame::text;
use crate::trace::{Entry, What, Who};
pub(super) use binding::{Binding, Kind, Wanted};
use binding::{Held, Holder};

/// What happens to a connection, at the edge that a world tells most of.
pub(super) enum Edge<'a> {
    Opens,
    /// The client says something.
    Says(&'a Value),
    /// It is told something.
    Hears(&'a Value),
    Goes,
    /// The server died, or stopped.
    Ends,
}

/// What an entry means for whoever watches handlers.
pub(super) enum Happened {
    Nothing,
    /// The server has called a worker; the call's id.
    Called(String),
    /// A worker has answered in time: what it returned, or nothing if it failed.
    Answered(Call, Option<Value>),
}

/// A call on its way.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) function: String,
    pub(super) metadata: Value,
    pub(super) data: Value,
    /// Who is to run it.
    pub(super) who: Who,
    /// When it was made.
    pub(super) at: u64,
}

/// When an event happened, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// A time not after it.
    pub(super) at: u64,
    /// It is not behind this place of the trace.
    pub(super) until: usize,
}

/// Everything about workers.
#[derive(Debug)]
pub(super) struct Workers {
    rules: Rules,
    /// How many entries there were.
    pub(super) index: usize,
    pub(super) now: u64,
    /// The time of the entries before those of now.
    earlier: u64,
    /// How often the server has died or stopped.
    pub(super) process: u64,
    /// By number, in the order of their registration.
    bindings: BTreeMap<u64, Binding>,
    next: u64,
    functions: BTreeMap<String, Held>,
    calls: BTreeMap<String, Call>,
    /// By the id that the server gave to a worker: the secret that it gave with it, and to whom.
    identities: BTreeMap<String, (Value, Who)>,
    gone: BTreeSet<Who>,
    /// In which process of the server each connection was made.
    born: BTreeMap<Who, u64>,
    /// Calls of workers without an answer: by caller and id, where the trace has them.
    sent: BTreeMap<(Who, String), usize>,
    /// Functions that more than one connection wanted at a time, where it is not known who had them when.
    contended: BTreeSet<String>,
    /// The function that was registered with the last entry, and whose it was before.
    registered: Option<(String, Option<Held>)>,
}

impl Edge<'_> {
    pub(super) fn of(what: &What, tells_server: bool) -> Option<Edge<'_>> {
        Some(match (what, tells_server) {
            (What::Opened, true) | (What::Connected(_), false) => Edge::Opens,
            (What::Took(message), true) | (What::Sent(message), false) => Edge::Says(message),
            (What::Queued(message), true) | (What::Got(message), false) => Edge::Hears(message),
            (What::Gone, true) | (What::Lost, false) => Edge::Goes,
            (What::Crashed(_) | What::Stopped, _) => Edge::Ends,
            _ => return None,
        })
    }
}

impl Workers {
    pub(super) fn new(rules: Rules) -> Workers {
        Workers {
            rules,
            index: 0,
            now: 0,
            earlier: 0,
            process: 0,
            bindings: BTreeMap::new(),
            next: 0,
            functions: BTreeMap::new(),
            calls: BTreeMap::new(),
            identities: BTreeMap::new(),
            gone: BTreeSet::new(),
            born: BTreeMap::new(),
            sent: BTreeMap::new(),
            contended: BTreeSet::new(),
            registered: None,
        }
    }

    pub(super) fn take(&mut self, entry: &Entry) -> Happened {
        self.index += 1;
        if entry.at > self.now {
            self.earlier = self.now;
            self.now = entry.at;
        }
        let registered = self.registered.take();
        if let (What::Complained(_), Some((function, before))) = (&entry.what, registered) {
            // The operator is told, and not the worker, that it has too many.
            match before {
                Some(before) => self.functions.insert(function, before),
                None => self.functions.remove(&function),
            };
        }
        let who = &entry.who;
        match Edge::of(&entry.what, self.rules.tells_server) {
            Some(Edge::Opens) => {
                self.born.insert(who.clone(), self.process);
            }
            Some(Edge::Says(message)) => return self.says(who, message),
            Some(Edge::Hears(message)) => return self.hears(who, message),
            Some(Edge::Goes) => self.goes(who),
            Some(Edge::Ends) => self.ends(),
            None => {}
        }
        Happened::Nothing
    }

    fn says(&mut self, who: &Who, message: &Value) -> Happened {
        let id = text(&message["id"]);
        match text(&message["type"]) {
            // What a retired connection had still sent binds nothing.
            "registerfunction" | "registertrigger" | "unregistertrigger" | "unregisterfunction"
                if self.gone.contains(who) => {}
            "registerfunction" => self.register_function(who, id),
            "unregisterfunction" if self.holder(id) == Some(who) => {
                self.functions.remove(id);
            }
            "registertrigger" => {
                if let Some(wanted) = Wanted::read(message) {
                    self.register_trigger(who, id, wanted);
                }
            }
            "unregistertrigger" => self.end_binding(who, id),
            "reattach" => self.reattach(who, message),
            "invokefunction" => {
                if let (false, Some(id)) = (self.rules.tells_server, message["invocation_id"].as_str()) {
                    self.sent.insert((who.clone(), id.to_owned()), self.index);
                }
            }
            "invocationresult" => {
                let id = text(&message["invocation_id"]);
                if self.calls.get(id).is_some_and(|call| call.who == *who)
                    && let Some(call) = self.calls.remove(id)
                {
                    // Nobody waits for an answer that comes too late.
                    let late = self.rules.tells_server && !self.is_in_time(&call);
                    let failed = message.get("error").is_some_and(|error| !error.is_null());
                    if !late {
                        let result = message.get("result").cloned().unwrap_or_default();
                        return Happened::Answered(call, (!failed).then_some(result));
                    }
                }
            }
            _ => {}
        }
        Happened::Nothing
    }

    fn hears(&mut self, who: &Who, message: &Value) -> Happened {
        match text(&message["type"]) {
            "invokefunction" => {
                let Some(id) = message["invocation_id"].as_str() else { return Happened::Nothing };
                let call = Call {
                    id: id.to_owned(),
                    function: text(&message["function_id"]).to_owned(),
                    metadata: message["metadata"].clone(),
                    data: message["data"].clone(),
                    who: who.clone(),
                    at: self.now,
                };
                self.calls.insert(id.to_owned(), call);
                return Happened::Called(id.to_owned());
            }
            "invocationresult" => {
                let place = (who.clone(), text(&message["invocation_id"]).to_owned());
                if let Some(sent) = self.sent.remove(&place) {
                    self.proven(who, sent);
                }
            }
            "workerregistered" => {
                let identity = (message["reattach_token"].clone(), who.clone());
                self.identities.insert(text(&message["worker_id"]).to_owned(), identity);
            }
            "registrationrejected" => {
                let function = text(&message["function_id"]);
                if self.holder(function) == Some(who) {
                    self.functions.remove(function);
                }
                if !self.rules.tells_server {
                    self.contended.insert(function.to_owned());
                }
            }
            "triggerregistrationresult" => self.refused(who, text(&message["id"])),
            _ => {}
        }
        Happened::Nothing
    }

    fn goes(&mut self, who: &Who) {
        if !self.gone.insert(who.clone()) {
            return;
        }
        let exact = self.rules.tells_server;
        let until = if exact { self.now.saturating_add(self.rules.limits.gate_grace_ms) } else { u64::MAX };
        let bindings = self.bindings.values_mut().map(|binding| &mut binding.held);
        for held in bindings.chain(self.functions.values_mut()).filter(|held| held.is_of(who)) {
            held.holder = Holder::Nobody { until };
            held.since = held.since.filter(|_| exact);
        }
        self.calls.retain(|_, call| call.who != *who);
    }

    /// The server died or stopped, and with it all that it knew of workers.
    fn ends(&mut self) {
        self.process += 1;
        self.functions.clear();
        self.contended.clear();
        if self.rules.tells_server {
            self.bindings.clear();
            self.calls.clear();
            self.identities.clear();
        }
        // Clients may still get what it sent before.
        for binding in self.bindings.values_mut() {
            binding.held.holder = Holder::Nobody { until: u64::MAX };
            binding.held.since = None;
        }
    }

    /// The server has taken what a worker sent up to this.
    fn proven(&mut self, who: &Who, sent: usize) {
        let now = self.index;
        let bindings = self.bindings.values_mut().map(|binding| &mut binding.held);
        for held in bindings.chain(self.functions.values_mut()) {
            if held.is_of(who) && held.asked < sent {
                held.since.get_or_insert(now);
            }
        }
    }

    /// Whether the trace tells what the server knew.
    pub(super) fn is_exact(&self) -> bool {
        self.rules.tells_server
    }

    pub(super) fn is_gone(&self, who: &Who) -> bool {
        self.gone.contains(who)
    }

    /// A call that is not answered, whose time is not up, and whose worker is there.
    pub(super) fn running(&self, id: &str) -> Option<&Call> {
        self.calls.get(id).filter(|call| self.is_in_time(call))
    }

    pub(super) fn call(&self, id: &str) -> Option<&Call> {
        self.calls.get(id)
    }

    /// Whether a worker is at something.
    pub(super) fn is_busy(&self, who: &Who) -> bool {
        self.calls.values().any(|call| call.who == *who && self.is_in_time(call))
    }

    fn is_in_time(&self, call: &Call) -> bool {
        self.now < call.at.saturating_add(self.rules.limits.call_ms)
    }

    /// Who runs a function.
    pub(super) fn holder(&self, function: &str) -> Option<&Who> {
        match &self.functions.get(function)?.holder {
            Holder::Worker(who) => Some(who),
            _ => None,
        }
    }

    /// Whether it is not known how many bindings of a function there are.
    pub(super) fn is_contended(&self, function: &str) -> bool {
        self.contended.contains(function)
    }

    /// All bindings that the server may act for when it calls this worker for what happened then, by number.
    pub(super) fn bindings(&self, who: &Who, then: Option<Moment>) -> impl Iterator<Item = (u64, &Binding)> {
        let process = self.born.get(who).copied().unwrap_or(self.process);
        let then = then.filter(|_| self.rules.tells_server);
        let all = self.bindings.iter().filter(move |(_, binding)| {
            let was_there = then.is_none_or(|then| {
                let vanished = matches!(binding.held.holder, Holder::Nobody { until } if until < then.at);
                binding.registered < then.until && !vanished
            });
            binding.process == process && was_there && self.is_bound(binding)
        });
        all.map(|(number, binding)| (*number, binding))
    }

    /// What is bound now, or still waits for its worker.
    pub(super) fn bound(&self) -> impl Iterator<Item = &Wanted> {
        let all = self.bindings.values().filter(|binding| binding.process == self.process);
        all.filter(|binding| self.is_bound(binding)).map(|binding| &binding.wanted)
    }

    fn is_bound(&self, binding: &Binding) -> bool {
        // What was due when the time was up comes with what happens next.
        !matches!(binding.held.holder, Holder::Nobody { until } if until < self.earlier)
    }

    /// The time of the entries before those of now.
    pub(super) fn earlier(&self) -> u64 {
        self.earlier
    }

    /// The bindings that work without a break since some time, with that and their numbers.
    pub(super) fn certain(&self) -> impl Iterator<Item = (u64, usize, &Binding)> {
        self.bindings
            .iter()
            .filter_map(|(number, binding)| Some((*number, self.certain_since(binding)?, binding)))
    }

    /// Since when a binding works without a break: its worker is there, and its functions are.
    pub(super) fn certain_since(&self, binding: &Binding) -> Option<usize> {
        let held = binding.wanted.functions().map(|function| self.functions.get(function));
        held.chain([Some(&binding.held)]).try_fold(0, |latest, held| {
            let held = held.filter(|held| matches!(held.holder, Holder::Worker(_)))?;
            Some(latest.max(held.since?))
        })
    }

    fn is_waited_for(&self, holder: &Holder) -> bool {
        self.rules.tells_server && matches!(holder, Holder::Nobody { until } if self.now < *until)
    }
}
