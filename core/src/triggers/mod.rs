//! What happens when something happens: the functions that workers bind to changes, joins and leaves.
//!
//! A binding lives as long as its worker's connection. When that breaks without a word, the binding stays for
//! `gate_grace_ms` so that the worker, back on a new connection, takes it up where it was: its gates have let nobody
//! pass meanwhile, and the events that came wait.

mod binding;
mod gate;
mod leave;
mod queue;
mod vanished;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use gate::{Joining, Verdict};

use crate::call::{Answer, Purpose};
use crate::config::Limits;
use crate::effect::{Effect, Notice};
use crate::error::{CallError, code};
use crate::functions::{Absent, Answered, Ask, Functions};
use crate::json::Json;
use crate::key::{BindingKey, GateKey, JoinKey, WorkerKey};
use crate::name::{GroupName, GroupPath, ItemId, StreamName, TriggerId};
use crate::store::{Event, EventKind, Joined};
use crate::time::Mono;
use crate::turn::Turn;
use crate::wire::text::{push_json_member, push_string, push_text_member};
use crate::wire::worker::{PayloadData, ToWorker, TriggerRequest};

use binding::{After, Handler, Kind, Stage};
use gate::Gates;
use leave::Leaves;
use queue::{Pushed, Queue};
use vanished::Vanished;

#[derive(Debug)]
struct Binding {
    kind: Kind,
    handler: Handler,
    request: TriggerRequest,
    owner: Owner,
    /// Of a `stream` trigger.
    queue: Queue,
}

/// Whose a binding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Worker(WorkerKey),
    /// Its worker went away without a word; until then it may come back.
    Vanished {
        until: Mono,
    },
}

/// Which items of a stream a trigger is for: `None` is any.
type Filter = (Option<GroupName>, Option<ItemId>);

/// Bindings by the stream that they are for; `None` is every stream.
type ByStream = BTreeMap<Option<StreamName>, BTreeSet<BindingKey>>;

/// All bindings, and what is on its way to their handlers.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    bindings: BTreeMap<BindingKey, Binding>,
    by_worker: BTreeMap<WorkerKey, BTreeMap<TriggerId, BindingKey>>,
    of_streams: BTreeMap<StreamName, BTreeMap<Filter, BTreeSet<BindingKey>>>,
    of_joins: ByStream,
    of_leaves: ByStream,
    vanished: Vanished,
    next: u64,
    /// How many events were dropped because handlers are too slow.
    dropped: u64,
    gates: Gates,
    leaves: Leaves,
}

impl Triggers {
    /// What the log remembers at the start: the joins of a process that crashed.
    pub(crate) fn remember(&mut self, joins: Vec<(JoinKey, Joined)>) {
        self.leaves.remember(joins);
    }

    /// A worker binds a function. Returns the joins that the log is to forget, so that it can be told of their leaves.
    pub(crate) fn register(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        worker: WorkerKey,
        request: TriggerRequest,
    ) -> Vec<JoinKey> {
        let (kind, handler) = match self.check(worker, &request, &turn.config.limits) {
            Ok(checked) => checked,
            Err(message) => {
                let error = CallError::new(code::TRIGGER_REGISTRATION_FAILED, message);
                let TriggerRequest { id, trigger_type, .. } = request;
                let frame = ToWorker::TriggerRefused { id: id.to_string(), trigger_type, error };
                turn.effects.push(Effect::ToWorker { worker, frame });
                return Vec::new();
            }
        };
        let of_worker = self.by_worker.entry(worker).or_default();
        if let Some(key) = of_worker.get(&request.id).copied() {
            if self.bindings.get(&key).is_some_and(|old| old.kind == kind && old.handler == handler) {
                return Vec::new();
            }
            self.remove(turn, functions, key);
        }
        let owes = match &kind {
            Kind::Leave { stream } => Some((stream.clone(), handler.clone())),
            _ => None,
        };
        self.adopt_or_add(worker, kind, handler, request);
        let Some((stream, handler)) = owes else { return Vec::new() };
        self.leaves.tell_late(turn, functions, stream.as_ref(), &handler);
        self.leaves.owed(stream.as_ref())
    }

    fn check(
        &self,
        worker: WorkerKey,
        request: &TriggerRequest,
        limits: &Limits,
    ) -> Result<(Kind, Handler), String> {
        let checked = binding::parse(request, limits)?;
        let of_worker = self.by_worker.get(&worker);
        let known = of_worker.is_some_and(|triggers| triggers.contains_key(&request.id));
        let limit = limits.registrations;
        if !known && of_worker.map_or(0, BTreeMap::len) >= limit {
            return Err(format!("a worker has at most {limit} triggers (`registrations`)"));
        }
        Ok(checked)
    }

    /// Takes up the same binding of a worker that vanished, or makes one.
    fn adopt_or_add(&mut self, worker: WorkerKey, kind: Kind, handler: Handler, request: TriggerRequest) {
        let is_same = |key: &BindingKey| self.bindings.get(key).is_some_and(|old| old.handler == handler);
        let same = self.vanished.alike(&kind, &handler.function).find(|(_, key)| is_same(key));
        let of_worker = self.by_worker.entry(worker).or_default();
        if let Some((until, key)) = same
            && let Some(binding) = self.bindings.get_mut(&key)
        {
            self.vanished.remove(until, key, &kind, &handler.function);
            of_worker.insert(request.id.clone(), key);
            binding.owner = Owner::Worker(worker);
            binding.request = request;
            return;
        }
        self.next += 1;
        let key = BindingKey(self.next);
        of_worker.insert(request.id.clone(), key);
        match &kind {
            Kind::Stream { stream, group, item } => {
                let filters = self.of_streams.entry(stream.clone()).or_default();
                filters.entry((group.clone(), item.clone())).or_default().insert(key);
            }
            Kind::Join { stream } => {
                self.of_joins.entry(stream.clone()).or_default().insert(key);
            }
            Kind::Leave { stream } => {
                self.of_leaves.entry(stream.clone()).or_default().insert(key);
            }
        }
        let owner = Owner::Worker(worker);
        self.bindings.insert(key, Binding { kind, handler, request, owner, queue: Queue::default() });
    }

    pub(crate) fn unregister(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        worker: WorkerKey,
        id: &TriggerId,
    ) {
        let key = self.by_worker.get_mut(&worker).and_then(|triggers| triggers.remove(id));
        if let Some(key) = key {
            self.remove(turn, functions, key);
        }
    }

    /// Whether a trigger is there, or still waits for its worker.
    pub(crate) fn has(&self, key: BindingKey) -> bool {
        self.bindings.contains_key(&key)
    }

    /// A worker's connection broke: its bindings stay for a while.
    pub(crate) fn disconnect(&mut self, turn: &mut Turn<'_>, worker: WorkerKey) {
        let until = turn.now.mono.after(turn.config.timeouts.gate_grace_ms);
        for key in self.by_worker.remove(&worker).unwrap_or_default().into_values() {
            if let Some(binding) = self.bindings.get_mut(&key) {
                binding.owner = Owner::Vanished { until };
                self.vanished.insert(until, key, &binding.kind, &binding.handler.function);
            }
        }
    }

    fn remove(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, key: BindingKey) {
        let Some(Binding { kind, handler, owner, queue, .. }) = self.bindings.remove(&key) else { return };
        if let Owner::Vanished { until } = owner {
            self.vanished.remove(until, key, &kind, &handler.function);
        }
        match kind {
            Kind::Join { stream } => remove_from(&mut self.of_joins, &stream, key),
            Kind::Leave { stream } => remove_from(&mut self.of_leaves, &stream, key),
            Kind::Stream { stream, group, item } => {
                if let Some(filters) = self.of_streams.get_mut(&stream) {
                    remove_from(filters, &(group, item), key);
                    if filters.is_empty() {
                        self.of_streams.remove(&stream);
                    }
                }
            }
        }
        // Were it called for them later, they could come behind those of a trigger that takes this one's place.
        let forgotten = functions.forget_events(key);
        let never_handled = match owner {
            Owner::Worker(_) => forgotten,
            Owner::Vanished { .. } => queue.running_count(),
        };
        if let Some(count) = queue.lost(never_handled) {
            let function = handler.function;
            turn.effects.push(Effect::Note(Notice::EventsDropped { function, count }));
        }
    }

    /// An event may be seen: it goes to the handlers that it is for.
    pub(crate) fn event(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, event: &Arc<Event>) {
        let Some(filters) = self.of_streams.get(&event.group.stream) else { return };
        let mut matching = BTreeSet::new();
        let groups = [None, Some(event.group.group.clone())];
        let items = [None, event.item.clone()];
        // An event of the whole group matches no trigger of an item.
        for item in &items[..if event.item.is_some() { 2 } else { 1 }] {
            for group in &groups {
                matching.extend(filters.get(&(group.clone(), item.clone())).into_iter().flatten().copied());
            }
        }
        if matching.is_empty() {
            return;
        }
        let event = &for_handlers(event);
        for key in matching {
            let Some(binding) = self.bindings.get_mut(&key) else { continue };
            let first = binding.handler.first();
            let Pushed { start, dropped, dropping } =
                binding.queue.push(Arc::clone(event), first, &turn.config.limits);
            self.dropped += dropped;
            if dropping {
                let function = binding.handler.function.clone();
                turn.effects.push(Effect::Note(Notice::HandlerTooSlow { function }));
            }
            if start {
                binding.ask(turn, functions, key, &event.group);
            }
        }
    }

    /// A handler of an event, or its condition, has answered.
    fn event_answered(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        key: BindingKey,
        group: &GroupPath,
        answered: Answered,
    ) {
        let Some(binding) = self.bindings.get_mut(&key) else { return };
        let Some(running) = binding.queue.running(group) else { return };
        let function = binding.handler.function(running.stage).clone();
        let revision = running.event.revision;
        let failure = match running.stage.after(answered.outcome) {
            After::Call => {
                running.stage = Stage::Handler;
                return binding.ask(turn, functions, key, group);
            }
            After::Skipped(failure) => {
                // The handler has not heard of them.
                let skipped = running.skipped;
                binding.queue.tell_again(skipped);
                failure
            }
            After::Done(outcome) => outcome.err(),
        };
        if let Some(error) = failure {
            let group = group.clone();
            turn.effects.push(Effect::Note(Notice::HandlerFailed { function, group, revision, error }));
        }
        if binding.queue.next(group, binding.handler.first()) {
            binding.ask(turn, functions, key, group);
        }
        if let Some(count) = binding.queue.end_of_burst() {
            let function = binding.handler.function.clone();
            turn.effects.push(Effect::Note(Notice::EventsDropped { function, count }));
        }
    }

    /// How many events were dropped so far because handlers are too slow for them.
    pub(crate) fn dropped_events(&self) -> u64 {
        self.dropped
    }

    /// Asks the gate of a join. Without one, or with none that answers, it is decided by the configuration.
    pub(crate) fn open_gate(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        joining: Joining,
    ) -> Result<GateKey, Verdict> {
        let handlers = self.handlers(&self.of_joins, &joining.join);
        self.gates.open(turn, functions, joining, handlers)
    }

    /// Nobody wants this join any more. If it is allowed in the end, its leave is told.
    pub(crate) fn abandon_gate(&mut self, gate: GateKey) {
        self.gates.abandon(gate);
    }

    /// Whether the leave of this join is to be told to anybody, as it is now.
    pub(crate) fn watches_leave(&self, join: &Joined) -> bool {
        covering(&self.of_leaves, join).next().is_some()
    }

    /// A subscription has ended; `key` if the log has to forget it before that may be told.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        join: Joined,
        key: Option<JoinKey>,
    ) {
        match key {
            Some(key) => self.leaves.depart(key, join),
            None => {
                let handlers = self.handlers(&self.of_leaves, &join);
                self.leaves.tell(turn, functions, &join, handlers);
            }
        }
    }

    /// The log has forgotten a join: its leave may be told.
    pub(crate) fn departed(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, key: JoinKey) {
        let Some(join) = self.leaves.departed(key) else { return };
        let handlers = self.handlers(&self.of_leaves, &join);
        self.leaves.tell_forgotten(turn, functions, key, &join, handlers);
    }

    /// A call that the server made for one of the triggers was answered.
    pub(crate) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        answered: Answered,
    ) -> Option<Verdict> {
        match answered.purpose.clone() {
            Purpose::Gate { gate, vote } => {
                return self.gates.answered(turn, functions, gate, vote, answered);
            }
            Purpose::Leave(key) => self.leaves.answered(turn, functions, key, answered),
            Purpose::Event { binding, group } => {
                self.event_answered(turn, functions, binding, &group, answered);
            }
            Purpose::Auth(_) | Purpose::Custom(_) => {}
        }
        None
    }

    /// Lets go of what was waited for long enough.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>, functions: &mut Functions) -> Vec<Verdict> {
        while let Some((until, key)) = self.vanished.first()
            && until <= turn.now.mono
        {
            self.remove(turn, functions, key);
        }
        self.leaves.expire(turn.now.mono);
        self.gates.expire(turn)
    }

    /// `engine::triggers::list`.
    pub(crate) fn list(&self) -> Answer {
        let entries = self.bindings.values().map(|binding| binding.request.to_json()).collect();
        Answer::Listing { of: "triggers", entries }
    }

    /// How many leaves are on their way to their handlers, or will be if a join that was given up is allowed.
    pub(crate) fn leaves(&self) -> usize {
        self.leaves.len() + self.gates.abandoned()
    }

    /// Whether every join is decided and every leave told.
    pub(crate) fn is_settled(&self) -> bool {
        self.gates.is_empty() && self.leaves.len() == 0
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let vanished = self.vanished.first().map(|(until, _)| until);
        [vanished, self.gates.next_deadline(), self.leaves.next_deadline()].into_iter().flatten().min()
    }

    /// The handlers of those of these bindings that are for this join or its leave.
    fn handlers(&self, bindings: &ByStream, join: &Joined) -> Vec<Handler> {
        let mut keys: Vec<BindingKey> = covering(bindings, join).flatten().copied().collect();
        keys.sort_unstable();
        keys.iter().filter_map(|key| self.bindings.get(key)).map(|binding| binding.handler.clone()).collect()
    }
}

/// The bindings that are for this join or its leave.
fn covering<'a>(bindings: &'a ByStream, join: &Joined) -> impl Iterator<Item = &'a BTreeSet<BindingKey>> {
    let streams = [None, Some(join.target.group.stream.clone())];
    streams.into_iter().filter_map(|stream| bindings.get(&stream))
}

fn remove_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<BindingKey>>, at: &K, key: BindingKey) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(&key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

/// An event as it waits for handlers: without its group's state, which they are not told. It would keep what was stored
/// then, and nobody would count that.
fn for_handlers(event: &Arc<Event>) -> Arc<Event> {
    let EventKind::Replaced { change, value, .. } = &event.kind else { return Arc::clone(event) };
    let kind = EventKind::Replaced { change: *change, value: value.clone(), group: None };
    let (group, item) = (event.group.clone(), event.item.clone());
    Arc::new(Event { group, item, kind, revision: event.revision, stamp: event.stamp })
}

/// What the handlers of a join and of its leave are given.
fn join_data(join: &Joined) -> Json {
    let mut out = String::from(r#"{"subscription_id":"#);
    push_string(&mut out, join.subscription.as_str());
    push_text_member(&mut out, "stream_name", join.target.group.stream.as_str());
    push_text_member(&mut out, "group_id", join.target.group.group.as_str());
    let null = Json::null();
    match &join.target.item {
        Some(item) => push_text_member(&mut out, "id", item.as_str()),
        None => push_json_member(&mut out, "id", &null),
    }
    push_json_member(&mut out, "context", join.context.as_ref().unwrap_or(&null));
    out.push('}');
    Json::trusted(out)
}

impl Binding {
    /// Calls the handler, or its condition, for the event of a group whose turn it is.
    fn ask(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, key: BindingKey, group: &GroupPath) {
        let Some(running) = self.queue.running(group) else { return };
        let data = PayloadData::Event { event: Arc::clone(&running.event), skipped: running.skipped };
        let ask = Ask {
            purpose: Purpose::Event { binding: key, group: group.clone() },
            function: self.handler.function(running.stage).clone(),
            payload: self.handler.payload(data),
            deadline: None,
            absent: Absent::WaitsIfVanished,
        };
        functions.ask(turn, ask);
    }
}
