//! The engine: the one task that owns the core, hands in what happened and carries out the effects.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_core::key::WorkerKey;
use headwater_core::store::{Load, Save};
use headwater_core::time::Mono;
use headwater_core::wire::worker::{FromWorker, ToWorker};
use headwater_core::{Core, Effect, Input, Notice};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::backup::{self, Contents, Wanted};
use crate::delivery::Delivery;
use crate::inbox::Message;
use crate::mailbox::{NoRoom, WorkerMailbox};
use crate::metrics::Metrics;
use crate::notes::Notes;
use crate::platform::Platform;
use crate::socket::STOPPING;
use crate::store::LogTask;
use crate::store::checkpoint::{CheckpointError, Scan};

/// The ends of the engine's channels.
#[derive(Debug)]
pub(crate) struct Channels {
    /// From connections. Not read while too much waits for the disk.
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// To and from the store's threads, if it has files.
    pub(crate) store: Option<StoreChannels>,
    /// To delivery, which never waits for the engine.
    pub(crate) delivery: mpsc::Sender<Delivery>,
    /// Asks for a stop.
    pub(crate) stop: oneshot::Receiver<()>,
    /// Told when a stop has nothing left to wait for.
    pub(crate) stopped: oneshot::Sender<()>,
}

/// The ends of the channels to the threads that write and read the store's files. None of them waits for the engine.
#[derive(Debug)]
pub(crate) struct StoreChannels {
    /// From the log writer, always read.
    pub(crate) written: mpsc::Receiver<Input>,
    /// From those that write and read the checkpoint, always read.
    pub(crate) stored: mpsc::Receiver<Input>,
    /// To the log writer.
    pub(crate) log: mpsc::Sender<LogTask>,
    /// To the one that writes the checkpoint.
    pub(crate) saves: mpsc::Sender<Save>,
    /// To the one that reads it; there is room for all that the core asks for at the same time.
    pub(crate) loads: mpsc::Sender<Load>,
    /// What the checkpoint holds at this moment.
    pub(crate) scans: Scans,
}

/// Begins to read what the checkpoint holds at this moment, of what is wanted.
pub(crate) struct Scans(pub(crate) Box<BeginScan>);

/// Begins to read what is wanted of the checkpoint.
pub(crate) type BeginScan = dyn Fn(&Wanted) -> Result<Scan, CheckpointError> + Send + Sync;

impl fmt::Debug for Scans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scans")
    }
}

/// Owns the core.
#[derive(Debug)]
pub(crate) struct Engine<P> {
    platform: P,
    core: Core,
    inbox: mpsc::Receiver<Message>,
    store: Option<StoreChannels>,
    delivery: mpsc::Sender<Delivery>,
    stop: Option<oneshot::Receiver<()>>,
    /// Taken when a stop has nothing left to wait for; who connects after that is sent away.
    stopped: Option<oneshot::Sender<()>>,
    workers: BTreeMap<WorkerKey, Worker>,
    /// Taken from the inbox and not handed in yet.
    taken: VecDeque<Message>,
    backlog_limit: usize,
    /// The effects of one input; empty between inputs, kept for its memory.
    effects: Vec<Effect>,
    notes: Notes,
    metrics: Arc<Metrics>,
}

/// A connected worker, as the engine sees it.
#[derive(Debug)]
struct Worker {
    mailbox: Arc<WorkerMailbox>,
    /// What it sent while its mailbox was crowded, in order: at most what was in the inbox before it was no longer
    /// read from.
    parked: VecDeque<FromWorker>,
}

/// How many messages are taken from the inbox at once.
const BATCH: usize = 256;

impl<P: Platform> Engine<P> {
    /// `backlog_limit`: how many bytes may wait for the disk before the inbox is left alone.
    pub(crate) fn new(
        platform: P,
        core: Core,
        channels: Channels,
        backlog_limit: usize,
        metrics: Arc<Metrics>,
    ) -> Engine<P> {
        let Channels { inbox, store, delivery, stop, stopped } = channels;
        Engine {
            platform,
            core,
            inbox,
            store,
            delivery,
            stop: Some(stop),
            stopped: Some(stopped),
            workers: BTreeMap::new(),
            taken: VecDeque::new(),
            backlog_limit,
            effects: Vec::new(),
            notes: Notes::default(),
            metrics,
        }
    }

    /// Runs until every connection and the server have let go of the inbox.
    pub(crate) async fn run(mut self) {
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            while self.takes_more()
                && let Some(message) = self.taken.pop_front()
            {
                self.take(message).await;
            }
            self.measure();
            if self.notes.next_deadline().is_some() {
                self.notes.expire(self.platform.now().mono);
            }
            // After what was taken, which may be due earlier than all before. Looked at here, because the inbox may
            // never be empty.
            let wait = self.core.next_deadline().map(|deadline| self.until(deadline));
            if wait.is_some_and(|wait| wait.is_zero()) {
                self.step(Input::Tick).await;
                continue;
            }
            let to_be_said = self.notes.next_deadline().map(|deadline| self.until(deadline));
            let wait = wait.into_iter().chain(to_be_said).min();
            let takes_more = self.takes_more();
            tokio::select! {
                biased;
                stored = heard(&mut self.store) => match stored {
                    Some(input) => self.step(input).await,
                    // Without one of its threads the store is of no use.
                    None => return,
                },
                () = asked(&mut self.stop) => self.step(Input::Stop).await,
                count = self.inbox.recv_many(&mut messages, BATCH), if takes_more => {
                    if count == 0 {
                        return;
                    }
                    self.taken.extend(messages.drain(..));
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// Whether little enough waits for the disk.
    fn takes_more(&self) -> bool {
        self.core.backlog_bytes() < self.backlog_limit
    }

    /// How long it is until `deadline`; a timer that wakes up too early is set again.
    fn until(&self, deadline: Mono) -> Duration {
        Duration::from_millis(deadline.0.saturating_sub(self.platform.now().mono.0))
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::WorkerConnected { mailbox, .. } if self.stopped.is_none() => {
                mailbox.close(STOPPING.0, STOPPING.1);
            }
            Message::SessionConnected { mailbox, .. } if self.stopped.is_none() => {
                mailbox.close(STOPPING.0, STOPPING.1);
            }
            Message::WorkerConnected { worker, mailbox } => {
                self.workers.insert(worker, Worker { mailbox, parked: VecDeque::new() });
                self.step(Input::WorkerConnected { worker }).await;
            }
            Message::SessionConnected { session, mailbox, handshake, join } => {
                self.deliver(Delivery::Connected { session, mailbox }).await;
                self.step(Input::SessionConnected { session, handshake, join }).await;
            }
            Message::WorkerUncrowded { worker } => self.unpark(worker).await,
            Message::Export { wanted, answer } => {
                // Nothing is begun that a stop would have to wait for. Whoever asked may be gone.
                if self.stopped.is_some() {
                    let _ = answer.send(self.export(&wanted));
                }
            }
            Message::Input { input: Input::WorkerFrame { worker, frame: Ok(frame) }, share } => {
                if let Some(frame) = self.unless_parked(worker, frame) {
                    self.step(Input::WorkerFrame { worker, frame: Ok(frame) }).await;
                }
                drop(share);
            }
            Message::Input { input: Input::WorkerDisconnected { worker }, .. } => {
                let parked = self.workers.remove(&worker).map(|gone| gone.parked);
                for frame in parked.into_iter().flatten() {
                    self.step(Input::WorkerFrame { worker, frame: Ok(frame) }).await;
                }
                self.step(Input::WorkerDisconnected { worker }).await;
            }
            Message::Input { input: Input::SessionDisconnected { session }, .. } => {
                self.step(Input::SessionDisconnected { session }).await;
                self.deliver(Delivery::Disconnected { session }).await;
            }
            Message::Input { input, share } => {
                self.step(input).await;
                drop(share);
            }
        }
    }

    /// Takes a snapshot, and has a thread of its own make lines of it.
    fn export(&self, wanted: &Wanted) -> Result<mpsc::Receiver<Bytes>, String> {
        let scan = match &self.store {
            Some(store) => (store.scans.0)(wanted).map_err(|error| error.to_string())?,
            None => Scan::empty(),
        };
        let contents = Contents::new(self.core.groups_in_memory(), scan, wanted);
        let (chunks, receiver) = mpsc::channel(backup::CHUNKS);
        let sending = self.platform.spawn_thread("export", backup::send(contents, chunks));
        sending.map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(receiver)
    }

    /// The frame, unless it must wait: its answer would join a crowd, or it must not overtake one that waits. What
    /// the worker's own handlers return never waits: others wait for it.
    fn unless_parked(&mut self, worker: WorkerKey, frame: FromWorker) -> Option<FromWorker> {
        let Some(sender) = self.workers.get_mut(&worker) else { return Some(frame) };
        if matches!(frame, FromWorker::Result { .. }) || (sender.parked.is_empty() && !sender.mailbox.park())
        {
            return Some(frame);
        }
        sender.parked.push_back(frame);
        None
    }

    /// Goes on with what a worker sent, until its mailbox is crowded again, or too much waits for the disk.
    async fn unpark(&mut self, worker: WorkerKey) {
        while self.takes_more()
            && let Some(sender) = self.workers.get_mut(&worker)
            && !sender.parked.is_empty()
            && !sender.mailbox.park()
            && let Some(frame) = sender.parked.pop_front()
        {
            self.step(Input::WorkerFrame { worker, frame: Ok(frame) }).await;
        }
        let Some(sender) = self.workers.get(&worker) else { return };
        if sender.parked.is_empty() {
            sender.mailbox.unpark();
        } else if !sender.mailbox.park() {
            // The disk is behind: first of all that is taken once it is not.
            self.taken.push_front(Message::WorkerUncrowded { worker });
        }
    }

    async fn step(&mut self, input: Input) {
        if matches!(input, Input::PersistFailed { .. }) {
            self.metrics.log_failures.inc();
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.core.handle(self.platform.now(), input, &mut effects);
        let mut undelivered = VecDeque::new();
        loop {
            for effect in effects.drain(..) {
                self.execute(effect, &mut undelivered).await;
            }
            let Some(input) = undelivered.pop_front() else { break };
            self.core.handle(self.platform.now(), input, &mut effects);
        }
        self.effects = effects;
    }

    /// What the core must be told of an effect that could not be carried out goes to `undelivered`.
    async fn execute(&mut self, effect: Effect, undelivered: &mut VecDeque<Input>) {
        match effect {
            Effect::Persist(write) => {
                self.metrics.log_writes.inc();
                self.metrics.log_bytes.inc_by(write.bytes.len() as u64);
                self.log(LogTask::Write(write)).await;
            }
            Effect::Discard(segments) => self.log(LogTask::Discard(segments)).await,
            Effect::Save(save) => {
                if let Some(store) = &self.store
                    && store.saves.send(save).await.is_err()
                {
                    tracing::error!("the thread that writes the checkpoint is gone");
                }
            }
            Effect::Load(load) => {
                if let Some(store) = &self.store
                    && store.loads.send(load).await.is_err()
                {
                    tracing::error!("the thread that reads the checkpoint is gone");
                }
            }
            Effect::Reply { worker, invocation_id: Some(invocation_id), function_id, outcome } => {
                self.send(worker, ToWorker::Result { invocation_id, function_id, outcome }, undelivered);
            }
            Effect::Reply { worker, invocation_id: None, function_id, outcome } => {
                if let Err(error) = outcome {
                    self.notes.call_failed(self.platform.now().mono, worker, &function_id, error);
                }
            }
            Effect::ToWorker { worker, frame } => self.send(worker, frame, undelivered),
            Effect::CloseWorker { worker } => {
                // It stays until its disconnect, which hands in what it had sent.
                if let Some(Worker { mailbox, .. }) = self.workers.get(&worker) {
                    mailbox.close(CloseCode::Policy, "replaced by a newer connection of the same worker");
                }
            }
            Effect::Attach { session, channel } => self.deliver(Delivery::Attach { session, channel }).await,
            Effect::Detach { session, channel } => self.deliver(Delivery::Detach { session, channel }).await,
            Effect::Resume { session, follows } => self.deliver(Delivery::Resume { session, follows }).await,
            Effect::Sync { session, subscription, frame, missed } => {
                self.deliver(Delivery::Sync { session, subscription, frame, missed }).await;
            }
            Effect::Refuse { session, error } => self.deliver(Delivery::Refuse { session, error }).await,
            Effect::Admit { session } => self.deliver(Delivery::Admit { session }).await,
            Effect::Unauthorized { session, target, at } => {
                tracing::debug!(session = session.0, ?target, "a join is refused");
                self.deliver(Delivery::Unauthorized { session, target, at }).await;
            }
            Effect::CloseSession { session } => self.deliver(Delivery::Close { session }).await,
            Effect::Broadcast { channel, frame } => {
                self.deliver(Delivery::Broadcast { channel, frame }).await
            }
            Effect::Note(notice) => {
                self.count(&notice);
                self.notes.take(self.platform.now().mono, notice);
            }
            Effect::Stopped => self.close_all().await,
        }
    }

    /// What the core tells about itself: looked at once for all that was taken, as only the last of it is ever read.
    fn measure(&self) {
        let backlog = self.core.log_backlog_bytes();
        self.metrics.log_backlog.set(i64::try_from(backlog).unwrap_or(i64::MAX));
        let counted = self.metrics.handler_dropped.get();
        self.metrics.handler_dropped.inc_by(self.core.handler_dropped_events() - counted);
    }

    fn count(&self, notice: &Notice) {
        if let Notice::HandlerFailed { .. }
        | Notice::GateFailed { .. }
        | Notice::LeaveFailed { .. }
        | Notice::AuthFailed { .. } = notice
        {
            self.metrics.handler_failures.inc();
        }
    }

    async fn log(&self, task: LogTask) {
        if let Some(store) = &self.store
            && store.log.send(task).await.is_err()
        {
            tracing::error!("the log writer is gone");
        }
    }

    fn send(&mut self, worker: WorkerKey, frame: ToWorker, undelivered: &mut VecDeque<Input>) {
        let Some(Worker { mailbox, .. }) = self.workers.get(&worker) else { return };
        let call = match &frame {
            ToWorker::Invoke { invocation_id, .. } => *invocation_id,
            _ => None,
        };
        if let Err(NoRoom) = mailbox.push(frame) {
            match call {
                Some(invocation_id) => {
                    undelivered.push_back(Input::CallNotDelivered { worker, invocation_id })
                }
                None => self.notes.call_dropped(self.platform.now().mono, worker),
            }
        }
    }

    async fn deliver(&self, delivery: Delivery) {
        if self.delivery.send(delivery).await.is_err() {
            tracing::error!("delivery is gone");
        }
    }

    async fn close_all(&mut self) {
        let (code, reason) = STOPPING;
        for worker in self.workers.values() {
            worker.mailbox.close(code, reason);
        }
        self.deliver(Delivery::CloseAll { code, reason }).await;
        if let Some(stopped) = self.stopped.take() {
            // Nobody may be waiting any more.
            let _ = stopped.send(());
        }
    }
}

/// What one of the store's threads has to say next; `None` if one of them has ended.
async fn heard(store: &mut Option<StoreChannels>) -> Option<Input> {
    let Some(store) = store else { return std::future::pending().await };
    tokio::select! {
        biased;
        written = store.written.recv() => written,
        stored = store.stored.recv() => stored,
    }
}

/// Waits until a stop is asked for, the first time; then never again.
async fn asked(stop: &mut Option<oneshot::Receiver<()>>) {
    let asked = match stop {
        Some(stop) => stop.await.is_ok(),
        None => false,
    };
    *stop = None;
    if !asked {
        std::future::pending().await
    }
}
