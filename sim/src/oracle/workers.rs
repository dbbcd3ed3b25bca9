//! What workers have registered and what the server has called them for, as far as a trace tells. The oracles of handlers
//! look at the world through this.
//!
//! Where the trace tells what the server took, this is exact. Where it tells only what clients sent and got, a
//! registration counts once an answer to a later call of its connection proves that it was taken.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Rules;
use super::frame::text;
use crate::trace::{Entry, What, Who};

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

/// What a trigger waits for; what is `None` may be any.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Stream { stream: String, group: Option<String>, item: Option<String> },
    Join(Option<String>),
    Leave(Option<String>),
}

/// What a trigger asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    pub(super) function: String,
    pub(super) condition: Option<String>,
    pub(super) metadata: Value,
}

/// A trigger and its handler.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) wanted: Wanted,
    /// Where the trace has the registration that made it.
    pub(super) registered: usize,
    /// When that was.
    pub(super) at: u64,
    /// In which process of the server.
    pub(super) process: u64,
    /// The worker's name for it.
    id: String,
    held: Held,
    /// Whose it was before it was taken up with the last registration.
    before: Option<Held>,
}

/// Whose a function or a binding is.
#[derive(Clone, Debug)]
struct Held {
    holder: Holder,
    /// Where the trace has the registration.
    asked: usize,
    /// Since when it certainly works without a break; what is unproven does not.
    since: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Holder {
    Worker(Who),
    /// Its worker went away without a word, and is waited for until then.
    Nobody {
        until: u64,
    },
    /// It was taken back, here in the trace.
    Ended(usize),
}

/// When an event happened, as exactly as that is known: not before one place of the trace, and not after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) from: usize,
    /// A time not after `from`.
    pub(super) at: u64,
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

    fn register_function(&mut self, who: &Who, id: &str) {
        let since = self.rules.tells_server.then_some(self.index);
        let new = Held { holder: Holder::Worker(who.clone()), asked: self.index, since };
        let before = self.functions.get(id).cloned();
        let held = match &before {
            // It is refused.
            Some(Held { holder: Holder::Worker(_), .. }) => return,
            Some(old) if self.is_waited_for(&old.holder) => Held { since: old.since, ..new },
            _ => new,
        };
        self.functions.insert(id.to_owned(), held);
        self.registered = Some((id.to_owned(), before));
    }

    fn register_trigger(&mut self, who: &Who, id: &str, wanted: Wanted) {
        let known = self.bindings.values().find(|binding| binding.is_of(who, id));
        if known.is_some_and(|binding| binding.wanted == wanted) {
            return;
        }
        self.end_binding(who, id);
        let process = self.born.get(who).copied().unwrap_or(self.process);
        let since = self.rules.tells_server.then_some(self.index);
        let held = Held { holder: Holder::Worker(who.clone()), asked: self.index, since };
        // Of those alike the one that vanished first is taken up.
        let waits_until = |binding: &Binding| match binding.held.holder {
            Holder::Nobody { until } if binding.wanted == wanted && binding.process == process => Some(until),
            _ => None,
        };
        let alike =
            self.bindings.iter().filter_map(|(number, binding)| Some((waits_until(binding)?, *number)));
        let first = alike.filter(|(until, _)| self.now < *until).min();
        match first.and_then(|(_, number)| self.bindings.get_mut(&number)) {
            Some(binding) => {
                let since = binding.held.since;
                binding.before = Some(std::mem::replace(&mut binding.held, Held { since, ..held }));
                id.clone_into(&mut binding.id);
            }
            None => {
                self.next += 1;
                let (id, registered, at) = (id.to_owned(), self.index, self.now);
                let binding = Binding { wanted, registered, at, process, id, held, before: None };
                self.bindings.insert(self.next, binding);
            }
        }
    }

    fn end_binding(&mut self, who: &Who, id: &str) {
        // Where it is not known when the server took that, it may go on.
        let holder = if self.rules.tells_server {
            Holder::Ended(self.index)
        } else {
            Holder::Nobody { until: u64::MAX }
        };
        if let Some(binding) = self.bindings.values_mut().find(|binding| binding.is_of(who, id)) {
            binding.held = Held { holder, since: None, ..binding.held };
        }
    }

    /// A registration was refused: it is as it was before.
    fn refused(&mut self, who: &Who, id: &str) {
        let found = self.bindings.iter_mut().find(|(_, binding)| binding.is_of(who, id));
        if let Some((number, binding)) = found {
            match binding.before.take() {
                Some(before) => binding.held = before,
                None => {
                    let number = *number;
                    self.bindings.remove(&number);
                }
            }
        }
    }

    /// A worker is back on another connection, and says so: the old one is retired at once.
    fn reattach(&mut self, who: &Who, message: &Value) {
        let previous = self.identities.get(text(&message["previous_worker_id"]));
        if let Some((token, old)) = previous
            && *token == message["reattach_token"]
            && old != who
            && self.rules.tells_server
        {
            let old = old.clone();
            self.goes(&old);
        }
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

    /// All bindings that the server may act for when it calls this worker for what happened then, by number. Also those
    /// that are no more: what waits for a worker with too much to do is called for them all the same.
    pub(super) fn bindings(&self, who: &Who, then: Option<Moment>) -> impl Iterator<Item = (u64, &Binding)> {
        let process = self.born.get(who).copied().unwrap_or(self.process);
        let then = then.filter(|_| self.rules.tells_server);
        let all = self.bindings.iter().filter(move |(_, binding)| {
            let was_there = then.is_none_or(|then| {
                binding.registered < then.until
                    && match binding.held.holder {
                        Holder::Worker(_) => true,
                        Holder::Ended(index) => then.from <= index,
                        Holder::Nobody { until } => then.at <= until,
                    }
            });
            binding.process == process && was_there
        });
        all.map(|(number, binding)| (*number, binding))
    }

    /// What is bound now, or still waits for its worker.
    pub(super) fn bound(&self) -> impl Iterator<Item = &Wanted> {
        let bound = self.bindings.values().filter(|binding| {
            binding.process == self.process
                && match binding.held.holder {
                    Holder::Worker(_) => true,
                    Holder::Ended(_) => false,
                    Holder::Nobody { until } => self.earlier <= until,
                }
        });
        bound.map(|binding| &binding.wanted)
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

impl Held {
    fn is_of(&self, who: &Who) -> bool {
        self.holder == Holder::Worker(who.clone())
    }
}

impl Binding {
    fn is_of(&self, who: &Who, id: &str) -> bool {
        self.id == id && self.held.is_of(who)
    }
}

impl Wanted {
    /// What a registration asks for; nothing if that can't be had.
    fn read(message: &Value) -> Option<Wanted> {
        let config = &message["config"];
        let name = |key: &str| match &config[key] {
            Value::Null => Some(None),
            Value::String(name) => Some(Some(name.clone()).filter(|name| !name.is_empty())),
            _ => None,
        };
        let (stream, group, item) = (name("stream_name")?, name("group_id")?, name("item_id")?);
        let kind = match text(&message["trigger_type"]) {
            "stream" => Kind::Stream { stream: stream?, group, item },
            "stream:join" | "streams:join" => Kind::Join(stream),
            "stream:leave" | "streams:leave" => Kind::Leave(stream),
            _ => return None,
        };
        let function = text(&message["function_id"]).to_owned();
        let (condition, metadata) = (name("condition_function_id")?, message["metadata"].clone());
        Some(Wanted { kind, function, condition, metadata })
    }

    /// The functions that are called for it, the condition first.
    pub(super) fn functions(&self) -> impl Iterator<Item = &str> {
        self.condition.iter().chain([&self.function]).map(String::as_str)
    }

    /// What is called first for it.
    pub(super) fn first(&self) -> &str {
        self.condition.as_ref().unwrap_or(&self.function)
    }

    /// How often a call like this may be made for one event.
    pub(super) fn calls(&self, call: &Call) -> usize {
        let called = self.functions().filter(|function| *function == call.function);
        if self.metadata == call.metadata { called.count() } else { 0 }
    }

    /// Whether it is for the events of whole groups.
    pub(super) fn is_for_all_items(&self) -> bool {
        matches!(self.kind, Kind::Stream { item: None, .. })
    }

    /// Whether it is for the joins, or the leaves, of a stream.
    pub(super) fn is_about(&self, stream: &str) -> bool {
        match &self.kind {
            Kind::Join(of) | Kind::Leave(of) => of.as_deref().is_none_or(|of| of == stream),
            Kind::Stream { .. } => false,
        }
    }

    /// Whether it is for this event.
    pub(super) fn covers(&self, stream: &str, group: &str, item: Option<&str>) -> bool {
        let Kind::Stream { stream: of, group: group_filter, item: item_filter } = &self.kind else {
            return false;
        };
        let fits =
            |filter: &Option<String>, name| filter.as_deref().is_none_or(|filter| Some(filter) == name);
        of == stream && fits(group_filter, Some(group)) && fits(item_filter, item)
    }
}
