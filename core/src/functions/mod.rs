//! Workers, the functions that they run, and the calls on their way between them.

mod calls;

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Answer, Caller, Outcome};
use crate::config::CoreConfig;
use crate::effect::{Effect, Notice};
use crate::error::{CallError, code};
use crate::key::WorkerKey;
use crate::name::{FunctionId, TriggerId};
use crate::rng::{Rng, Secret, Uuid};
use crate::store::Builtin;
use crate::time::{Mono, Now};
use crate::wire::worker::{Payload, ToWorker, TriggerRequest};

use calls::{Call, Calls};

/// A connected worker.
#[derive(Debug)]
struct Worker {
    id: Uuid,
    token: Secret,
    functions: BTreeSet<FunctionId>,
    triggers: BTreeMap<TriggerId, TriggerRequest>,
}

/// All workers, functions and calls.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    workers: BTreeMap<WorkerKey, Worker>,
    owners: BTreeMap<FunctionId, WorkerKey>,
    calls: Calls,
}

impl Functions {
    pub(crate) fn connect(&mut self, key: WorkerKey, rng: &mut Rng, effects: &mut Vec<Effect>) {
        let worker = Worker {
            id: rng.uuid(),
            token: rng.secret(),
            functions: BTreeSet::new(),
            triggers: BTreeMap::new(),
        };
        let frame = ToWorker::Registered { worker_id: worker.id, reattach_token: worker.token.reveal() };
        self.workers.insert(key, worker);
        effects.push(Effect::ToWorker { worker: key, frame });
    }

    /// The connection is gone: its functions are no more, and calls that it was running will not be answered.
    pub(crate) fn disconnect(&mut self, key: WorkerKey, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.remove(&key) else { return };
        for function in &worker.functions {
            self.owners.remove(function);
        }
        for call in self.calls.remove_all_run_by(key) {
            let message =
                format!("the worker that ran `{}` disconnected before it answered", call.caller.function_id);
            effects.push(Effect::reply(call.caller, Err(CallError::new(code::INVOCATION_STOPPED, message))));
        }
    }

    /// A worker is back on a new connection: the one that it had before is retired at once, so that what it
    /// registers again meets no remains of its own.
    pub(crate) fn reattach(
        &mut self,
        key: WorkerKey,
        previous: Uuid,
        token: &str,
        effects: &mut Vec<Effect>,
    ) {
        let is_previous = |(other, worker): &(&WorkerKey, &Worker)| {
            **other != key && worker.id == previous && worker.token.matches(token)
        };
        if let Some((&old, _)) = self.workers.iter().find(is_previous) {
            self.disconnect(old, effects);
            effects.push(Effect::CloseWorker { worker: old });
        }
    }

    pub(crate) fn register(
        &mut self,
        key: WorkerKey,
        id: FunctionId,
        config: &CoreConfig,
        effects: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        match self.owners.get(&id) {
            _ if is_taken(&id) => {
                effects.push(Effect::Note(Notice::ReservedFunction { worker: key, function: id }))
            }
            Some(owner) if *owner != key => {
                let owner = self.workers.get(owner).map_or(Uuid::from_bytes([0; 16]), |owner| owner.id);
                effects
                    .push(Effect::ToWorker { worker: key, frame: ToWorker::FunctionRefused { id, owner } });
            }
            _ if !worker.functions.contains(&id) && worker.functions.len() >= config.limits.registrations => {
                effects.push(Effect::Note(Notice::TooManyFunctions { worker: key, function: id }));
            }
            _ => {
                worker.functions.insert(id.clone());
                self.owners.insert(id, key);
            }
        }
    }

    pub(crate) fn unregister(&mut self, key: WorkerKey, id: &FunctionId) {
        if let Some(worker) = self.workers.get_mut(&key)
            && worker.functions.remove(id)
        {
            self.owners.remove(id);
        }
    }

    /// Keeps a trigger for as long as its worker is connected.
    pub(crate) fn register_trigger(
        &mut self,
        key: WorkerKey,
        trigger: TriggerRequest,
        config: &CoreConfig,
        effects: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        if !worker.triggers.contains_key(&trigger.id) && worker.triggers.len() >= config.limits.registrations
        {
            let limit = config.limits.registrations;
            let message = format!("a worker has at most {limit} triggers (`registrations`)");
            let error = CallError::new(code::TRIGGER_REGISTRATION_FAILED, message);
            let (id, trigger_type) = (trigger.id.to_string(), trigger.trigger_type);
            let frame = ToWorker::TriggerRefused { id, trigger_type, error };
            effects.push(Effect::ToWorker { worker: key, frame });
            return;
        }
        effects.push(Effect::Note(Notice::TriggerKept { worker: key, trigger: trigger.clone() }));
        worker.triggers.insert(trigger.id.clone(), trigger);
    }

    pub(crate) fn unregister_trigger(&mut self, key: WorkerKey, id: &TriggerId) {
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.triggers.remove(id);
        }
    }

    /// Calls a function of the server's own (see [`is_taken`]) or of a worker.
    pub(crate) fn call(
        &mut self,
        now: Now,
        caller: Caller,
        payload: Payload,
        config: &CoreConfig,
        rng: &mut Rng,
        effects: &mut Vec<Effect>,
    ) {
        match caller.function_id.as_str() {
            // What a worker tells of itself is not used by anything yet; the clients only need it taken.
            REGISTER_WORKER => return effects.push(Effect::reply(caller, Ok(Answer::Nothing))),
            LIST_FUNCTIONS => {
                let functions = self.owners.keys().cloned().collect();
                return effects.push(Effect::reply(caller, Ok(Answer::Functions(functions))));
            }
            _ => {}
        }
        let Some(&owner) = self.owners.get(&caller.function_id) else {
            let message = format!(
                "no connected worker has registered `{}`: start the worker that does, or check the spelling",
                caller.function_id
            );
            return effects
                .push(Effect::reply(caller, Err(CallError::new(code::FUNCTION_NOT_FOUND, message))));
        };
        let function_id = caller.function_id.clone();
        let mut invocation_id = None;
        if caller.invocation_id.is_some() {
            let limit = config.limits.calls_in_flight;
            if self.calls.run_by(owner) >= limit {
                let message = format!(
                    "the worker of `{function_id}` is running {limit} calls already; try again later"
                );
                return effects.push(Effect::reply(caller, Err(CallError::new(code::OVERLOADED, message))));
            }
            let id = rng.uuid();
            invocation_id = Some(id);
            let deadline = now.mono.after(config.timeouts.call_ms);
            self.calls.insert(id, Call { caller, worker: owner, deadline });
        }
        effects.push(Effect::ToWorker {
            worker: owner,
            frame: ToWorker::Invoke { invocation_id, function_id, payload },
        });
    }

    /// A worker answers a call. An answer that nobody waits for, or of another worker's call, is ignored.
    pub(crate) fn result(&mut self, key: WorkerKey, id: Uuid, outcome: Outcome, effects: &mut Vec<Effect>) {
        if let Some(call) = self.calls.remove_run_by(key, id) {
            effects.push(Effect::reply(call.caller, outcome));
        }
    }

    /// A call could not be handed to its worker: too much waits there already.
    pub(crate) fn not_delivered(&mut self, key: WorkerKey, id: Uuid, effects: &mut Vec<Effect>) {
        if let Some(call) = self.calls.remove_run_by(key, id) {
            let message = format!(
                "too many bytes wait to be read by the worker of `{}`; try again later",
                call.caller.function_id
            );
            effects.push(Effect::reply(call.caller, Err(CallError::new(code::OVERLOADED, message))));
        }
    }

    /// Answers the calls whose time is up.
    pub(crate) fn expire(&mut self, now: Mono, config: &CoreConfig, effects: &mut Vec<Effect>) {
        for call in self.calls.remove_due(now) {
            let function = &call.caller.function_id;
            let message =
                format!("`{function}` did not answer within {} ms (`call_ms`)", config.timeouts.call_ms);
            effects.push(Effect::reply(call.caller, Err(CallError::new(code::TIMEOUT, message))));
        }
    }

    /// The server stops and waits no longer: answers every call that is still running.
    pub(crate) fn stop_all(&mut self, effects: &mut Vec<Effect>) {
        for call in self.calls.remove_all() {
            let message = "the server stopped before the function answered".to_owned();
            effects.push(Effect::reply(call.caller, Err(CallError::new(code::INVOCATION_STOPPED, message))));
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.calls.next_deadline()
    }
}

const REGISTER_WORKER: &str = "engine::workers::register";
const LIST_FUNCTIONS: &str = "engine::functions::list";

/// Whether calls of this function never reach a worker: the server has one of that name.
fn is_taken(id: &FunctionId) -> bool {
    Builtin::from_name(id.as_str()).is_some() || [REGISTER_WORKER, LIST_FUNCTIONS].contains(&id.as_str())
}
