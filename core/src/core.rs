//! The core: the rooms, put together.

use crate::call::Caller;
use crate::config::CoreConfig;
use crate::effect::{Effect, Notice};
use crate::error::{CallError, code};
use crate::functions::Functions;
use crate::hub::Hub;
use crate::input::Input;
use crate::key::{SessionKey, WorkerKey};
use crate::log::Epoch;
use crate::name::{SubscriptionId, Target};
use crate::rng::Rng;
use crate::store::{Output, Recovered, Store};
use crate::time::{Mono, Now};
use crate::wire::stream::{FromSubscriber, StreamError, SyncFrame};
use crate::wire::worker::{BadFrame, BadFrameAnswer, FromWorker, Invoke, InvokeTarget, ToWorker};

/// The state machine. See the [crate's page](crate) for how to drive it.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    rng: Rng,
    epoch: Epoch,
    store: Store,
    hub: Hub,
    functions: Functions,
    stopping: Option<Stopping>,
    /// What the store puts out during one input; empty between inputs, kept for its memory.
    outputs: Vec<Output>,
}

/// How far a stop is.
#[derive(Clone, Copy, Debug)]
enum Stopping {
    /// Calls are under way; after this moment they are not waited for.
    Until(Mono),
    Done,
}

impl Core {
    /// A core with an empty store that forgets everything when the process ends. All randomness comes from `seed`.
    pub fn new(config: CoreConfig, seed: [u8; 32], now: Now) -> Core {
        let mut rng = Rng::new(seed);
        let epoch = rng.uuid();
        Core::with_store(config, rng, epoch, Store::in_memory(now.wall))
    }

    /// A core that goes on with what a log holds, and asks for its changes to be written there.
    pub fn recovered(config: CoreConfig, seed: [u8; 32], now: Now, recovered: Recovered) -> Core {
        let epoch = recovered.epoch;
        Core::with_store(config, Rng::new(seed), epoch, Store::recovered(recovered, now.wall))
    }

    fn with_store(config: CoreConfig, rng: Rng, epoch: Epoch, store: Store) -> Core {
        Core {
            config,
            rng,
            epoch,
            store,
            hub: Hub::default(),
            functions: Functions::default(),
            stopping: None,
            outputs: Vec::new(),
        }
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::WorkerConnected { worker } => self.functions.connect(worker, &mut self.rng, effects),
            Input::WorkerFrame { worker, frame: Ok(frame) } => self.worker_frame(now, worker, frame, effects),
            Input::WorkerFrame { worker, frame: Err(bad) } => bad_worker_frame(worker, bad, effects),
            Input::WorkerDisconnected { worker } => self.functions.disconnect(worker, effects),
            Input::CallNotDelivered { worker, invocation_id } => {
                self.functions.not_delivered(worker, invocation_id, effects);
            }
            Input::SessionConnected { session, handshake: _, join } => {
                self.session_connected(session, join, effects)
            }
            Input::SessionFrame { session, frame } => self.session_frame(session, frame, effects),
            Input::SessionDisconnected { session } => self.hub.disconnect(session, effects),
            Input::SessionOverflowed { session } => self.hub.overflowed(session, effects),
            Input::SessionDrained { session } => {
                for (subscription, target) in self.hub.drained(session, effects) {
                    self.sync(session, subscription, &target, effects);
                }
            }
            Input::Persisted { through } => self.store.persisted(through, &mut self.outputs),
            Input::PersistFailed { reason } => self.store.persist_failed(&reason, &mut self.outputs),
            Input::Tick => self.functions.expire(now.mono, &self.config, effects),
            Input::Stop => {
                self.stopping.get_or_insert(Stopping::Until(now.mono.after(self.config.timeouts.stop_ms)));
            }
        }
        self.store.flush(&mut self.outputs);
        self.put_out(effects);
        self.finish_stop(now, effects);
    }

    /// When [`Input::Tick`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Mono> {
        let stop = match self.stopping {
            Some(Stopping::Until(deadline)) => Some(deadline),
            Some(Stopping::Done) | None => None,
        };
        self.functions.next_deadline().into_iter().chain(stop).min()
    }

    /// About how many bytes of changes, answers and events wait for the disk. While this is above its bound the
    /// runtime hands in no more frames.
    pub fn backlog_bytes(&self) -> usize {
        self.store.backlog_bytes()
    }

    fn worker_frame(&mut self, now: Now, worker: WorkerKey, frame: FromWorker, effects: &mut Vec<Effect>) {
        match frame {
            FromWorker::Invoke(invoke) => self.invoke(now, worker, invoke, effects),
            FromWorker::Result { invocation_id, outcome } => {
                self.functions.result(worker, invocation_id, outcome, effects);
            }
            FromWorker::RegisterFunction { id } => self.functions.register(worker, id, &self.config, effects),
            FromWorker::UnregisterFunction { id } => self.functions.unregister(worker, &id),
            FromWorker::RegisterTrigger(trigger) => {
                self.functions.register_trigger(worker, trigger, &self.config, effects);
            }
            FromWorker::UnregisterTrigger { id } => self.functions.unregister_trigger(worker, &id),
            FromWorker::Reattach { previous, token } => {
                self.functions.reattach(worker, previous, &token, effects)
            }
            FromWorker::Ping => effects.push(Effect::ToWorker { worker, frame: ToWorker::Pong }),
            FromWorker::Ignored => {}
        }
    }

    fn invoke(&mut self, now: Now, worker: WorkerKey, invoke: Invoke, effects: &mut Vec<Effect>) {
        let Invoke { function_id, invocation_id, target } = invoke;
        let caller = Caller { worker, invocation_id, function_id };
        if self.stopping.is_some() {
            let error = CallError::new(code::STOPPING, "the server is stopping: connect again in a moment");
            return effects.push(Effect::reply(caller, Err(error)));
        }
        match target {
            InvokeTarget::Builtin(Ok(command)) => {
                self.store.run(now.wall, caller, command, &self.config.limits, &mut self.outputs);
            }
            InvokeTarget::Builtin(Err(error)) | InvokeTarget::Refused(error) => {
                effects.push(Effect::reply(caller, Err(error)))
            }
            InvokeTarget::Function(payload) => {
                self.functions.call(now, caller, payload, &self.config, &mut self.rng, effects);
            }
        }
    }

    fn session_connected(
        &mut self,
        session: SessionKey,
        join: Option<Result<Target, StreamError>>,
        effects: &mut Vec<Effect>,
    ) {
        self.hub.connect(session);
        match join {
            Some(Ok(target)) => {
                let subscription = SubscriptionId::trusted(&self.rng.uuid().to_string());
                self.join(session, subscription, &target, effects);
            }
            Some(Err(error)) => effects.push(Effect::Refuse { session, error }),
            None => {}
        }
    }

    fn session_frame(
        &mut self,
        session: SessionKey,
        frame: Result<FromSubscriber, StreamError>,
        effects: &mut Vec<Effect>,
    ) {
        match frame {
            Ok(FromSubscriber::Join { subscription, target }) => {
                self.join(session, subscription, &target, effects)
            }
            Ok(FromSubscriber::Leave { subscription }) => self.hub.leave(session, &subscription, effects),
            Err(error) => effects.push(Effect::Refuse { session, error }),
        }
    }

    /// The session is in the target's channel and has its durable state, in one step: what follows starts at the
    /// next revision.
    fn join(
        &mut self,
        session: SessionKey,
        subscription: SubscriptionId,
        target: &Target,
        effects: &mut Vec<Effect>,
    ) {
        if self.hub.join(session, &subscription, target, &self.config.limits, effects) {
            self.sync(session, subscription, target, effects);
        }
    }

    fn sync(
        &self,
        session: SessionKey,
        subscription: SubscriptionId,
        target: &Target,
        effects: &mut Vec<Effect>,
    ) {
        let state = self.store.durable(target);
        let frame = SyncFrame { target: target.clone(), state, epoch: self.epoch };
        effects.push(Effect::Sync { session, subscription, frame });
    }

    fn put_out(&mut self, effects: &mut Vec<Effect>) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Persist(batch) => effects.push(Effect::Persist(batch)),
                Output::Reply { caller, outcome } => effects.push(Effect::reply(caller, outcome)),
                Output::Release(event) => self.hub.broadcast(event, self.epoch, effects),
                Output::Left(_) => {}
            }
        }
    }

    fn finish_stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(Stopping::Until(deadline)) = self.stopping else { return };
        let overdue = now.mono >= deadline;
        if overdue {
            self.functions.stop_all(effects);
        }
        if overdue || self.functions.is_idle() && self.store.is_idle() {
            self.stopping = Some(Stopping::Done);
            effects.push(Effect::Stopped);
        }
    }
}

/// Answers what can be answered; the operator hears of the rest.
fn bad_worker_frame(worker: WorkerKey, bad: BadFrame, effects: &mut Vec<Effect>) {
    let BadFrame { answer, error } = bad;
    effects.push(match answer {
        BadFrameAnswer::Call { invocation_id, function_id } => {
            Effect::Reply { worker, invocation_id: Some(invocation_id), function_id, outcome: Err(error) }
        }
        BadFrameAnswer::Trigger { id, trigger_type } => {
            Effect::ToWorker { worker, frame: ToWorker::TriggerRefused { id, trigger_type, error } }
        }
        BadFrameAnswer::None => Effect::Note(Notice::BadWorkerFrame { worker, error }),
    });
}
