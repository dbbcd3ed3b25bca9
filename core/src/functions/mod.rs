//! Workers, the functions that they run, and the calls on their way to them: those of other workers, and the
//! server's own.

mod asks;
mod calls;
mod discovery;

use std::collections::BTreeMap;

pub(crate) use asks::{Absent, Ask};

use crate::call::{Answer, Caller, Outcome, Purpose};
use crate::effect::{Effect, Notice};
use crate::error::{CallError, code};
use crate::json::Json;
use crate::key::{BindingKey, SessionKey, WorkerKey};
use crate::name::FunctionId;
use crate::rng::{Secret, Uuid};
use crate::store::Builtin;
use crate::time::{Mono, WallMs};
use crate::turn::Turn;
use crate::wire::worker::{Payload, PayloadData, ToWorker};

use asks::{Asks, Waiting, WaitsFor};
use calls::{Asker, Call, Calls};

/// A connected worker.
#[derive(Debug)]
struct Worker {
    id: Uuid,
    token: Secret,
    connected: WallMs,
    /// What it tells of itself.
    about: Option<Json>,
    /// With what it tells of each.
    functions: BTreeMap<FunctionId, Json>,
}

/// What came of a call of the server's own.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) purpose: Purpose,
    pub(crate) outcome: Outcome,
    /// The worker went away while it ran the call.
    pub(crate) vanished: bool,
}

/// All workers, functions and calls.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    workers: BTreeMap<WorkerKey, Worker>,
    owners: BTreeMap<FunctionId, WorkerKey>,
    /// The functions of workers that went away without a word, and until when they are waited for.
    vanished: BTreeMap<FunctionId, Mono>,
    calls: Calls,
    asks: Asks,
    /// The workers that had no room for a call of the server's own, and when it is tried again.
    full: BTreeMap<WorkerKey, Mono>,
    answered: Vec<Answered>,
    /// The server has stopped: it calls nobody any more.
    stopped: bool,
}

/// After how long a call that its worker had no room for is made again, in milliseconds.
const FULL_PAUSE: u64 = 100;
/// More functions of workers that went away are not waited for.
const MOST_VANISHED: usize = 100_000;

impl Functions {
    pub(crate) fn connect(&mut self, turn: &mut Turn<'_>, key: WorkerKey) {
        let worker = Worker {
            id: turn.rng.uuid(),
            token: turn.rng.secret(),
            connected: turn.now.wall,
            about: None,
            functions: BTreeMap::new(),
        };
        let frame = ToWorker::Registered { worker_id: worker.id, reattach_token: worker.token.reveal() };
        self.workers.insert(key, worker);
        turn.effects.push(Effect::ToWorker { worker: key, frame });
    }

    /// The connection is gone: its functions are no more, and calls that it was running will not be answered.
    pub(crate) fn disconnect(&mut self, turn: &mut Turn<'_>, key: WorkerKey) {
        let Some(worker) = self.workers.remove(&key) else { return };
        let until = turn.now.mono.after(turn.config.timeouts.gate_grace_ms);
        if self.vanished.len() + worker.functions.len() > MOST_VANISHED {
            self.vanished.retain(|_, until| *until > turn.now.mono);
        }
        self.full.remove(&key);
        for function in worker.functions.into_keys() {
            self.owners.remove(&function);
            if self.vanished.len() < MOST_VANISHED {
                self.vanished.insert(function, until);
            }
        }
        for call in self.calls.remove_all_run_by(key) {
            let message = format!("the worker that ran `{}` disconnected before it answered", call.function);
            let error = CallError::new(code::INVOCATION_STOPPED, message);
            self.answer(turn, call.asker, Err(error), true);
        }
        while let Some(Waiting { ask, .. }) = self.asks.take_for_place(key) {
            self.wait_for_function(turn, ask);
        }
    }

    /// The connection that a worker had before, if the worker proves that it was its own.
    pub(crate) fn previous(&self, key: WorkerKey, previous: Uuid, token: &str) -> Option<WorkerKey> {
        let is_previous = |(other, worker): &(&WorkerKey, &Worker)| {
            **other != key && worker.id == previous && worker.token.matches(token)
        };
        self.workers.iter().find(is_previous).map(|(key, _)| *key)
    }

    pub(crate) fn is_connected(&self, key: WorkerKey) -> bool {
        self.workers.contains_key(&key)
    }

    /// A worker runs a function from now on. Returns whether it does: another may have it, or it may be the server's.
    pub(crate) fn register(
        &mut self,
        turn: &mut Turn<'_>,
        key: WorkerKey,
        id: FunctionId,
        about: Json,
    ) -> bool {
        let Some(worker) = self.workers.get_mut(&key) else { return false };
        match self.owners.get(&id) {
            _ if is_taken(&id) => {
                turn.effects.push(Effect::Note(Notice::ReservedFunction { worker: key, function: id }))
            }
            Some(owner) if *owner != key => {
                let notice = Notice::FunctionTaken { worker: key, function: id.clone(), owner: *owner };
                turn.effects.push(Effect::Note(notice));
                let owner = self.workers.get(owner).map_or(Uuid::from_bytes([0; 16]), |owner| owner.id);
                turn.effects
                    .push(Effect::ToWorker { worker: key, frame: ToWorker::FunctionRefused { id, owner } });
            }
            None if worker.functions.len() >= turn.config.limits.registrations => {
                turn.effects.push(Effect::Note(Notice::TooManyFunctions { worker: key, function: id }));
            }
            _ => {
                worker.functions.insert(id.clone(), about);
                self.vanished.remove(&id);
                self.owners.insert(id.clone(), key);
                for Waiting { ask, .. } in self.asks.take_for_function(&id) {
                    self.ask(turn, ask);
                }
                return true;
            }
        }
        false
    }

    /// A worker does not run a function any more. Returns whether it did.
    pub(crate) fn unregister(&mut self, key: WorkerKey, id: &FunctionId) -> bool {
        let removed = self.workers.get_mut(&key).is_some_and(|worker| worker.functions.remove(id).is_some());
        if removed {
            self.owners.remove(id);
        }
        removed
    }

    /// Whether a function is registered, or its worker went away only just now and may bring it back.
    pub(crate) fn has(&self, id: &FunctionId, now: Mono) -> bool {
        self.owners.contains_key(id) || self.vanished.get(id).is_some_and(|until| *until > now)
    }

    /// A worker calls a function of the server's own (see [`is_taken`]) or of a worker.
    pub(crate) fn call(&mut self, turn: &mut Turn<'_>, caller: Caller, payload: Payload) {
        match caller.function_id.as_str() {
            REGISTER_WORKER => {
                if let PayloadData::Json(about) = payload.data {
                    self.tell_about(caller.worker, about);
                }
                return turn.effects.push(Effect::reply(caller, Ok(Answer::Nothing)));
            }
            LIST_FUNCTIONS => {
                return turn.effects.push(Effect::reply(caller, Ok(self.list_functions())));
            }
            LIST_WORKERS => return turn.effects.push(Effect::reply(caller, Ok(self.list_workers()))),
            _ => {}
        }
        let function = caller.function_id.clone();
        let Some(&owner) = self.owners.get(&function) else {
            return turn.effects.push(Effect::reply(caller, Err(not_found(&function))));
        };
        if caller.invocation_id.is_none() {
            let frame = ToWorker::Invoke { invocation_id: None, function_id: function, payload };
            return turn.effects.push(Effect::ToWorker { worker: owner, frame });
        }
        let limit = turn.config.limits.calls_in_flight;
        if self.calls.run_by(owner) >= limit {
            let message =
                format!("the worker of `{function}` is running {limit} calls already; try again later");
            return turn.effects.push(Effect::reply(caller, Err(CallError::new(code::OVERLOADED, message))));
        }
        let deadline = turn.now.mono.after(turn.config.timeouts.call_ms);
        self.start(turn, payload, Call { asker: Asker::Worker(caller), function, worker: owner, deadline });
    }

    /// The server calls a function. The answer is among [`Functions::take_answered`], now or later; after
    /// [`Functions::stop_all`] never.
    pub(crate) fn ask(&mut self, turn: &mut Turn<'_>, ask: Ask) {
        if self.stopped {
            return;
        }
        let Some(&owner) = self.owners.get(&ask.function) else { return self.wait_for_function(turn, ask) };
        let call_ends = turn.now.mono.after(turn.config.timeouts.call_ms);
        if !self.has_place(turn, owner) || self.asks.wait_for_place(owner) {
            let until = ask.waits_for_place(call_ends);
            return self.asks.insert(Waiting { ask, until, what: WaitsFor::Place(owner) });
        }
        let deadline = ask.deadline.unwrap_or(call_ends);
        self.start_ask(turn, ask, owner, deadline);
    }

    /// A worker answers a call. An answer that nobody waits for, or of another worker's call, is ignored.
    pub(crate) fn result(&mut self, turn: &mut Turn<'_>, key: WorkerKey, id: Uuid, outcome: Outcome) {
        if let Some(call) = self.calls.remove_run_by(key, id) {
            self.answer(turn, call.asker, outcome, false);
            self.fill_places(turn, key);
        }
    }

    /// A call could not be handed to its worker: too much waits there already. A worker's is refused; the server's own
    /// are made again if they are still wanted, and no more until then.
    pub(crate) fn not_delivered(
        &mut self,
        turn: &mut Turn<'_>,
        key: WorkerKey,
        id: Uuid,
        is_wanted: impl FnOnce(&Purpose) -> bool,
    ) {
        let Some(Call { asker, function, deadline, .. }) = self.calls.remove_run_by(key, id) else { return };
        match asker {
            Asker::Worker(caller) => {
                let message =
                    format!("too many bytes wait to be read by the worker of `{function}`; try again later");
                turn.effects.push(Effect::reply(caller, Err(CallError::new(code::OVERLOADED, message))));
                self.fill_places(turn, key);
            }
            Asker::Server(ask) => {
                self.full.insert(key, turn.now.mono.after(FULL_PAUSE));
                if is_wanted(&ask.purpose) {
                    let until = ask.waits_for_place(deadline);
                    self.asks.insert(Waiting { ask, until, what: WaitsFor::Place(key) });
                }
            }
        }
    }

    /// Answers the calls whose time is up.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) {
        // First those that wait: they are not to take the places of the others for no time at all.
        for Waiting { ask, what, .. } in self.asks.take_due(turn.now.mono) {
            let error = match what {
                WaitsFor::Function => not_found(&ask.function),
                WaitsFor::Place(_) => {
                    let message = format!("the worker of `{}` had no time for the call", ask.function);
                    CallError::new(code::OVERLOADED, message)
                }
            };
            self.answer(turn, Asker::Server(ask), Err(error), false);
        }
        for call in self.calls.remove_due(turn.now.mono) {
            let function = &call.function;
            let message = match call.asker {
                Asker::Server(Ask { purpose: Purpose::Auth(_), .. }) => {
                    format!("`{function}` did not answer in time (`auth_ms`)")
                }
                _ => {
                    let limit = turn.config.timeouts.call_ms;
                    format!("`{function}` did not answer within {limit} ms (`call_ms`)")
                }
            };
            self.answer(turn, call.asker, Err(CallError::new(code::TIMEOUT, message)), false);
            self.fill_places(turn, call.worker);
        }
        let rested = |(worker, until): (&WorkerKey, &Mono)| (*until <= turn.now.mono).then_some(*worker);
        for worker in self.full.iter().filter_map(rested).collect::<Vec<_>>() {
            self.full.remove(&worker);
            self.fill_places(turn, worker);
        }
    }

    /// The server stops and waits no longer: answers every call that is still running, and makes no more of its own.
    pub(crate) fn stop_all(&mut self, turn: &mut Turn<'_>) {
        self.stopped = true;
        let error = || {
            let message = "the server stopped before the function answered";
            Err(CallError::new(code::INVOCATION_STOPPED, message))
        };
        for call in self.calls.remove_all() {
            self.answer(turn, call.asker, error(), false);
        }
        for Waiting { ask, .. } in self.asks.take_all() {
            self.answer(turn, Asker::Server(ask), error(), false);
        }
    }

    /// A session is gone: nobody has to vouch for it any more.
    pub(crate) fn forget_session(&mut self, session: SessionKey) {
        self.asks.forget_session(session);
    }

    /// A trigger is gone: its handler is called for no more of its events. How many waited for a call.
    pub(crate) fn forget_events(&mut self, binding: BindingKey) -> usize {
        self.asks.forget_binding(binding)
    }

    /// The server stops: nobody has to be vouched for any more.
    pub(crate) fn forget_auth(&mut self) {
        self.asks.forget(|ask| matches!(ask.purpose, Purpose::Auth(_)));
    }

    /// What came of the server's own calls since this was asked last.
    pub(crate) fn take_answered(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.asks.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let full = self.full.values().min().copied();
        [self.calls.next_deadline(), self.asks.next_deadline(), full].into_iter().flatten().min()
    }

    /// Whether one more call of the server's own can be made to a worker.
    fn has_place(&self, turn: &Turn<'_>, worker: WorkerKey) -> bool {
        self.calls.run_by(worker) < turn.config.limits.calls_in_flight && !self.full.contains_key(&worker)
    }

    fn start(&mut self, turn: &mut Turn<'_>, payload: Payload, call: Call) {
        let id = turn.rng.uuid();
        let (worker, function_id) = (call.worker, call.function.clone());
        self.calls.insert(id, call);
        let frame = ToWorker::Invoke { invocation_id: Some(id), function_id, payload };
        turn.effects.push(Effect::ToWorker { worker, frame });
    }

    /// Makes a call of the server's own.
    fn start_ask(&mut self, turn: &mut Turn<'_>, ask: Ask, worker: WorkerKey, deadline: Mono) {
        let (function, payload) = (ask.function.clone(), ask.payload.clone());
        self.start(turn, payload, Call { asker: Asker::Server(ask), function, worker, deadline });
    }

    /// Makes calls that waited for a place at this worker.
    fn fill_places(&mut self, turn: &mut Turn<'_>, worker: WorkerKey) {
        let call_ends = turn.now.mono.after(turn.config.timeouts.call_ms);
        while self.has_place(turn, worker)
            && let Some(Waiting { ask, until, .. }) = self.asks.take_for_place(worker)
        {
            match self.owners.get(&ask.function) {
                Some(&owner) if owner == worker => {
                    self.start_ask(turn, ask, owner, until.unwrap_or(call_ends));
                }
                // It was unregistered meanwhile, and may be another's.
                _ => self.ask(turn, ask),
            }
        }
    }

    fn wait_for_function(&mut self, turn: &Turn<'_>, ask: Ask) {
        let until = match ask.absent {
            Absent::Fails => None,
            Absent::WaitsIfVanished => self.vanished.get(&ask.function).copied(),
            Absent::WaitsUntil(until) => Some(until),
            Absent::Waits => ask.deadline,
        };
        match until.filter(|until| *until > turn.now.mono) {
            Some(_) => self.asks.insert(Waiting { ask, until, what: WaitsFor::Function }),
            None => {
                let outcome = Err(not_found(&ask.function));
                self.answered.push(Answered { purpose: ask.purpose, outcome, vanished: false });
            }
        }
    }

    fn answer(&mut self, turn: &mut Turn<'_>, asker: Asker, outcome: Outcome, vanished: bool) {
        match asker {
            Asker::Worker(caller) => turn.effects.push(Effect::reply(caller, outcome)),
            Asker::Server(Ask { purpose, .. }) => self.answered.push(Answered { purpose, outcome, vanished }),
        }
    }
}

fn not_found(function: &FunctionId) -> CallError {
    let message = format!(
        "no connected worker has registered `{function}`: start the worker that does, or check the spelling"
    );
    CallError::new(code::FUNCTION_NOT_FOUND, message)
}

const REGISTER_WORKER: &str = "engine::workers::register";
const LIST_FUNCTIONS: &str = "engine::functions::list";
const LIST_WORKERS: &str = "engine::workers::list";
/// Answered by the room of the triggers.
pub(crate) const LIST_TRIGGERS: &str = "engine::triggers::list";

/// Whether calls of this function never reach a worker: the server has one of that name.
pub(crate) fn is_taken(id: &FunctionId) -> bool {
    Builtin::from_name(id.as_str()).is_some()
        || [REGISTER_WORKER, LIST_FUNCTIONS, LIST_WORKERS, LIST_TRIGGERS].contains(&id.as_str())
}
