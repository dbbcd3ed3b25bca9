//! The core: the rooms, put together.

mod custom;
mod joins;
mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::call::{Caller, Purpose};
use crate::config::CoreConfig;
use crate::custom::Custom;
use crate::effect::{Effect, Notice};
use crate::error::{CallError, code};
use crate::functions::{Functions, LIST_TRIGGERS};
use crate::hub::Hub;
use crate::input::Input;
use crate::key::{SessionKey, WorkerKey};
use crate::log::Epoch;
use crate::name::{GroupPath, StreamName, SubscriptionId, Target};
use crate::rng::Rng;
use crate::store::{Command, Output, Recovered, Snapshot, Store};
use crate::time::{Mono, Now};
use crate::triggers::Triggers;
use crate::turn::Turn;
use crate::wire::worker::{BadFrame, BadFrameAnswer, FromWorker, Invoke, InvokeTarget, ToWorker};

use joins::BehindLeaves;
use stop::Stopping;

/// The state machine. See the [crate's page](crate) for how to drive it.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    rng: Rng,
    rooms: Rooms,
}

/// All that a core knows.
#[derive(Debug)]
struct Rooms {
    epoch: Epoch,
    store: Store,
    functions: Functions,
    triggers: Triggers,
    custom: Custom,
    hub: Hub,
    /// The joins that came after leaves that the log has not forgotten yet: their gates are asked after those.
    behind_leaves: BehindLeaves,
    /// The subscriptions that wait until their group is read.
    starts: BTreeMap<GroupPath, BTreeSet<(SessionKey, SubscriptionId, Target)>>,
    stopping: Option<Stopping>,
    /// What the store puts out during one input; empty between inputs, kept for its memory.
    outputs: Vec<Output>,
}

impl Core {
    /// A core with an empty store that forgets everything when the process ends. All randomness comes from `seed`.
    pub fn new(config: CoreConfig, seed: [u8; 32], now: Now) -> Core {
        let mut rng = Rng::new(seed);
        let store = Store::in_memory(rng.uuid(), Rng::of_log(seed), now.wall);
        Core { config, rng, rooms: Rooms::new(store) }
    }

    /// A core that goes on with what a log holds, and asks for its changes to be written there.
    pub fn recovered(config: CoreConfig, seed: [u8; 32], now: Now, recovered: Recovered) -> Core {
        let store = Store::recovered(recovered, Rng::of_log(seed), now.wall, &config.storage);
        Core { config, rng: Rng::new(seed), rooms: Rooms::new(store) }
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let turn = &mut Turn { now, config: &self.config, rng: &mut self.rng, effects };
        self.rooms.handle(turn, input);
        self.rooms.settle(turn);
    }

    /// When [`Input::Tick`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.rooms.next_deadline()
    }

    /// All that is stored, as far as it is in memory: groups as they are durable at this moment, in byte order of their
    /// names, also those without an item. All others are in the checkpoint, as it can be read before the next effect is
    /// carried out: the two together are the state of one moment.
    pub fn groups_in_memory(&self) -> Vec<(GroupPath, Snapshot)> {
        self.rooms.store.in_memory_groups()
    }

    /// About how many bytes of changes, answers and events wait for the disk. While this is above its bound the
    /// runtime hands in no more frames.
    pub fn backlog_bytes(&self) -> usize {
        self.rooms.store.backlog_bytes(&self.config.storage)
    }

    /// About how many bytes of those wait for the log. For monitoring: unlike [`Core::backlog_bytes`] it does not say
    /// that frames should wait for anything else.
    pub fn log_backlog_bytes(&self) -> usize {
        self.rooms.store.log_backlog_bytes()
    }

    /// How many events of triggers were dropped so far because their handlers are too slow for them. Each counts when it
    /// is dropped, while [`Notice::EventsDropped`] comes at the end of a burst, and also tells of events that nobody was
    /// too slow for.
    pub fn handler_dropped_events(&self) -> u64 {
        self.rooms.triggers.dropped_events()
    }
}

impl Rooms {
    fn new(store: Store) -> Rooms {
        let mut triggers = Triggers::default();
        triggers.remember(store.remembered_joins());
        let mut custom = Custom::default();
        custom.remember(store.custom_streams());
        Rooms {
            epoch: store.epoch(),
            store,
            functions: Functions::default(),
            triggers,
            custom,
            hub: Hub::default(),
            behind_leaves: BehindLeaves::default(),
            starts: BTreeMap::new(),
            stopping: None,
            outputs: Vec::new(),
        }
    }

    fn handle(&mut self, turn: &mut Turn<'_>, input: Input) {
        match input {
            Input::WorkerConnected { worker } => self.functions.connect(turn, worker),
            Input::WorkerFrame { worker, frame: Ok(frame) } => self.worker_frame(turn, worker, frame),
            Input::WorkerFrame { worker, frame: Err(bad) } => bad_worker_frame(turn, worker, bad),
            Input::WorkerDisconnected { worker } => self.worker_gone(turn, worker),
            Input::CallNotDelivered { worker, invocation_id } => {
                let (triggers, hub) = (&self.triggers, &self.hub);
                let stops = self.stopping.is_some();
                // What it was for may have ended while the call was on its way.
                let is_wanted = |purpose: &Purpose| match purpose {
                    Purpose::Event { binding, .. } => triggers.has(*binding),
                    Purpose::Auth(session) => !stops && hub.asked(*session).is_some(),
                    Purpose::Gate { .. } | Purpose::Leave(_) | Purpose::Custom(_) => true,
                };
                self.functions.not_delivered(turn, worker, invocation_id, is_wanted);
            }
            Input::SessionConnected { session, handshake, join } => {
                self.session_connected(turn, session, &handshake, join);
            }
            Input::SessionFrame { session, frame } => self.session_frame(turn, session, frame),
            Input::SessionDisconnected { session } => {
                self.functions.forget_session(session);
                for ended in self.hub.disconnect(turn, session) {
                    self.unsubscribed(turn, session, ended);
                }
            }
            Input::SessionOverflowed { session } => self.hub.overflowed(session, turn.effects),
            Input::SessionDrained { session } => {
                let custom = &self.custom;
                let stale = self.hub.drained(turn, session, |stream| custom.keeps(stream));
                for (subscription, target) in stale {
                    self.start(turn, session, subscription, target);
                }
            }
            Input::Persisted { through } => self.store.persisted(through, &mut self.outputs),
            Input::PersistFailed { reason } => {
                self.store.persist_failed(turn.now, &reason, turn.config, &mut self.outputs);
                self.put_out(turn);
                self.let_joins_pass(turn);
            }
            Input::Saved => self.store.saved(&mut self.outputs),
            Input::SaveFailed { reason } => self.store.save_failed(turn.now.mono, reason),
            Input::Loaded { load, result } => {
                self.store.loaded(turn.now, load, result, &mut self.outputs);
            }
            Input::Tick => self.expire(turn),
            Input::Stop => self.stop(turn),
        }
    }

    /// Carries on with what the rooms have for each other, until nothing is left.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        loop {
            self.store.flush(turn.now, &turn.config.storage, &mut self.outputs);
            self.put_out(turn);
            let (answered, done) = (self.functions.take_answered(), self.custom.take_done());
            if answered.is_empty() && done.is_empty() && self.outputs.is_empty() && !self.go_on_stopping(turn)
            {
                break;
            }
            for done in done {
                self.custom_done(turn, done);
            }
            for answered in answered {
                match answered.purpose.clone() {
                    Purpose::Custom(line) => self.custom.answered(turn, &mut self.functions, &line, answered),
                    Purpose::Auth(session) => self.auth_answered(turn, session, answered),
                    _ => {
                        let verdict = self.triggers.answered(turn, &mut self.functions, answered);
                        verdict.into_iter().for_each(|verdict| self.decided(turn, verdict));
                    }
                }
            }
        }
        self.store.tidy_up(turn.now, &turn.config.storage, &mut self.outputs);
        self.put_out(turn);
    }

    fn next_deadline(&self) -> Option<Mono> {
        let stop = self.stopping.and_then(Stopping::deadline);
        let rooms = [
            self.store.next_deadline(),
            self.functions.next_deadline(),
            self.triggers.next_deadline(),
            self.hub.next_deadline(),
            stop,
        ];
        rooms.into_iter().flatten().min()
    }

    fn expire(&mut self, turn: &mut Turn<'_>) {
        self.store.expire(turn.now, &mut self.outputs);
        self.functions.expire(turn);
        self.hub.expire(turn);
        for verdict in self.triggers.expire(turn, &mut self.functions) {
            self.decided(turn, verdict);
        }
    }

    fn worker_frame(&mut self, turn: &mut Turn<'_>, worker: WorkerKey, frame: FromWorker) {
        match frame {
            FromWorker::Invoke(invoke) => self.invoke(turn, worker, invoke),
            FromWorker::Result { invocation_id, outcome } => {
                self.functions.result(turn, worker, invocation_id, outcome);
            }
            FromWorker::RegisterFunction { id, about } => {
                if self.functions.register(turn, worker, id.clone(), about) {
                    let subscriptions = |stream: &StreamName| self.hub.subscriptions(stream);
                    let new = self.custom.registered(turn, &mut self.functions, &id, subscriptions);
                    new.into_iter().for_each(|stream| self.store.set_custom(stream, true));
                }
            }
            FromWorker::UnregisterFunction { id } => {
                if self.functions.unregister(worker, &id)
                    && let Some(stream) = self.custom.unregistered(&id)
                {
                    for (target, (session, subscription)) in self.hub.subscriptions(&stream) {
                        self.start(turn, session, subscription, target);
                    }
                    self.store.set_custom(stream, false);
                }
            }
            // What a retired connection had still sent: it would bind beside its successor, or instead of it.
            FromWorker::RegisterTrigger(_) if !self.functions.is_connected(worker) => {}
            FromWorker::RegisterTrigger(trigger) => {
                for join in self.triggers.register(turn, &mut self.functions, worker, trigger) {
                    self.store.left(join, &mut self.outputs);
                }
            }
            FromWorker::UnregisterTrigger { id } => {
                self.triggers.unregister(turn, &mut self.functions, worker, &id)
            }
            FromWorker::Reattach { previous, token } => {
                // Retired at once, so that what the worker registers again meets no remains of its own.
                if let Some(old) = self.functions.previous(worker, previous, &token) {
                    self.worker_gone(turn, old);
                    turn.effects.push(Effect::CloseWorker { worker: old });
                }
            }
            FromWorker::Ping => turn.effects.push(Effect::ToWorker { worker, frame: ToWorker::Pong }),
            FromWorker::Ignored => {}
        }
    }

    fn worker_gone(&mut self, turn: &mut Turn<'_>, worker: WorkerKey) {
        self.functions.disconnect(turn, worker);
        self.triggers.disconnect(turn, worker);
    }

    fn invoke(&mut self, turn: &mut Turn<'_>, worker: WorkerKey, invoke: Invoke) {
        let Invoke { function_id, invocation_id, target } = invoke;
        let caller = Caller { worker, invocation_id, function_id };
        if self.refuses_calls() {
            let error = CallError::new(code::STOPPING, "the server is stopping: connect again in a moment");
            return turn.effects.push(Effect::reply(caller, Err(error)));
        }
        match target {
            InvokeTarget::Builtin(Ok(command))
                if command.stream().is_some_and(|stream| self.custom.keeps(stream))
                    && !self.refuses(turn, &command) =>
            {
                self.custom.run(turn, &mut self.functions, caller, command);
            }
            InvokeTarget::Builtin(Ok(command)) => {
                self.store.run(turn.now, caller, command, turn.config, &mut self.outputs);
            }
            InvokeTarget::Builtin(Err(error)) | InvokeTarget::Refused(error) => {
                turn.effects.push(Effect::reply(caller, Err(error)));
            }
            InvokeTarget::Function(_) if caller.function_id.as_str() == LIST_TRIGGERS => {
                turn.effects.push(Effect::reply(caller, Ok(self.triggers.list())));
            }
            InvokeTarget::Function(payload) => self.functions.call(turn, caller, payload),
        }
    }

    /// Whether a command would change something, and the store takes no changes now.
    fn refuses(&self, turn: &Turn<'_>, command: &Command) -> bool {
        command.builtin().writes() && self.store.refusal(&turn.config.storage).is_some()
    }

    fn put_out(&mut self, turn: &mut Turn<'_>) {
        while !self.outputs.is_empty() {
            self.put_out_once(turn);
        }
    }

    fn put_out_once(&mut self, turn: &mut Turn<'_>) {
        let mut outputs = std::mem::take(&mut self.outputs);
        // A join that goes on starts from the durable state: the events up to that come first.
        let mut left = Vec::new();
        for output in outputs.drain(..) {
            match output {
                Output::Persist(write) => turn.effects.push(Effect::Persist(write)),
                Output::Save(save) => turn.effects.push(Effect::Save(save)),
                Output::Discard(segments) => turn.effects.push(Effect::Discard(segments)),
                Output::Load(load) => turn.effects.push(Effect::Load(load)),
                Output::Ready(group) => {
                    for (session, subscription, target) in self.starts.remove(&group).unwrap_or_default() {
                        self.start(turn, session, subscription, target);
                    }
                    self.store.run_held(turn.now, &group, turn.config, &mut self.outputs);
                }
                Output::Reply { caller, outcome } => turn.effects.push(Effect::reply(caller, outcome)),
                Output::Release(event) => {
                    let event = Arc::new(event);
                    self.hub.broadcast(&event, self.epoch, turn.effects);
                    self.triggers.event(turn, &mut self.functions, &event);
                }
                Output::Show { target, state, audience } => self.show(turn, target, state, audience),
                Output::Left(key) => {
                    self.triggers.departed(turn, &mut self.functions, key);
                    left.push(key);
                }
            }
        }
        left.into_iter().for_each(|key| self.left(turn, key));
        // With what was put out meanwhile, if anything was.
        outputs.append(&mut self.outputs);
        self.outputs = outputs;
    }
}

/// Answers what can be answered; the operator hears of the rest.
fn bad_worker_frame(turn: &mut Turn<'_>, worker: WorkerKey, bad: BadFrame) {
    let BadFrame { answer, error } = bad;
    turn.effects.push(match answer {
        BadFrameAnswer::Call { invocation_id, function_id } => {
            Effect::Reply { worker, invocation_id: Some(invocation_id), function_id, outcome: Err(error) }
        }
        BadFrameAnswer::Trigger { id, trigger_type } => {
            Effect::ToWorker { worker, frame: ToWorker::TriggerRefused { id, trigger_type, error } }
        }
        BadFrameAnswer::None => Effect::Note(Notice::BadWorkerFrame { worker, error }),
    });
}
