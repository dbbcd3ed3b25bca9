//! What waits to be sent on one connection, between the engine or a delivery shard, who put frames in and never
//! wait, and the connection's own task, which takes them out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater_core::hub::{Outbox, Pushed};
use headwater_core::name::{GroupPath, SubscriptionId};
use headwater_core::wire::stream::{SyncFrame, ToSubscriber};
use headwater_core::wire::worker::ToWorker;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A queue of frames to one peer.
pub(crate) trait Queue {
    /// What is queued, not encoded yet where encoding is work: that is done by the connection's task.
    type Frame: Into<Utf8Bytes>;

    fn pop(&mut self) -> Option<Self::Frame>;

    fn is_empty(&self) -> bool;

    /// Whether so much waits that nothing more should be read from the peer.
    fn is_crowded(&self) -> bool;
}

/// A queue, and those who wait for it to change.
#[derive(Debug)]
pub(crate) struct Mailbox<Q> {
    state: Mutex<State<Q>>,
    /// There is something to send.
    filled: Notify,
    /// There may be room again.
    emptied: Notify,
    /// The queue has overflowed.
    lagging: Notify,
}

#[derive(Debug)]
struct State<Q> {
    queue: Q,
    /// Frames were taken out that may not have reached the socket.
    sending: bool,
    closing: Option<CloseFrame>,
}

/// What the connection's task is to do next.
#[derive(Debug)]
pub(crate) enum Next<F> {
    Send(F),
    /// Nothing is queued: what was sent must leave now.
    Flush,
    Close(CloseFrame),
}

impl<Q: Queue> Mailbox<Q> {
    pub(crate) fn new(queue: Q) -> Mailbox<Q> {
        Mailbox {
            state: Mutex::new(State { queue, sending: false, closing: None }),
            filled: Notify::new(),
            emptied: Notify::new(),
            lagging: Notify::new(),
        }
    }

    /// Closes the connection once all that is queued was sent.
    pub(crate) fn close(&self, code: CloseCode, reason: &'static str) {
        self.state().closing.get_or_insert(CloseFrame { code, reason: reason.into() });
        self.filled.notify_one();
    }

    /// The next thing to do, without waiting for one. After [`Next::Flush`] comes [`Mailbox::flushed`].
    pub(crate) fn next(&self) -> Next<Q::Frame> {
        let mut state = self.state();
        let crowded = state.queue.is_crowded();
        match state.queue.pop() {
            Some(frame) => {
                state.sending = true;
                if crowded && !state.queue.is_crowded() {
                    self.emptied.notify_waiters();
                }
                Next::Send(frame)
            }
            None => match state.closing.take() {
                Some(close) => Next::Close(close),
                None => Next::Flush,
            },
        }
    }

    /// All that was taken out has left.
    pub(crate) fn flushed(&self) {
        self.state().sending = false;
        self.emptied.notify_waiters();
    }

    /// Waits until there is something to do but flushing.
    pub(crate) async fn filled(&self) {
        wait(&self.filled, || {
            let state = self.state();
            !state.queue.is_empty() || state.closing.is_some()
        })
        .await;
    }

    /// Waits until reading from the peer can go on.
    pub(crate) async fn uncrowded(&self) {
        wait(&self.emptied, || !self.state().queue.is_crowded()).await;
    }

    fn state(&self) -> MutexGuard<'_, State<Q>> {
        // Nothing that is done under this lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until `reached`, looking again whenever notified.
async fn wait(changed: &Notify, reached: impl Fn() -> bool) {
    loop {
        let mut notified = std::pin::pin!(changed.notified());
        notified.as_mut().enable();
        if reached() {
            return;
        }
        notified.await;
    }
}

/// Frames to a worker.
#[derive(Debug)]
pub(crate) struct WorkerQueue {
    frames: VecDeque<WorkerFrame>,
    /// Calls that others make: they are refused when they would take too much.
    calls: Share,
    /// Answers to what the worker asked for itself.
    answers: Share,
    /// What each of the two may take, in bytes.
    limit: usize,
}

/// What the frames of a kind take while they wait.
#[derive(Debug, Default)]
struct Share {
    frames: usize,
    bytes: usize,
}

/// A frame to a worker, and what it counts as while it waits.
#[derive(Debug)]
pub(crate) struct WorkerFrame {
    frame: ToWorker,
    bytes: usize,
}

pub(crate) type WorkerMailbox = Mailbox<WorkerQueue>;

/// A call that was not queued: too much waits for its worker already.
#[derive(Debug)]
pub(crate) struct NoRoom;

/// A worker for whom more answers wait than this is not read from.
const CROWDED_ANSWERS: usize = 4_096;

impl WorkerQueue {
    /// A queue of at most `limit` bytes, half of them for calls.
    pub(crate) fn new(limit: usize) -> WorkerQueue {
        WorkerQueue {
            frames: VecDeque::new(),
            calls: Share::default(),
            answers: Share::default(),
            limit: limit / 2,
        }
    }

    fn share(&mut self, frame: &ToWorker) -> &mut Share {
        match frame {
            ToWorker::Invoke { .. } => &mut self.calls,
            _ => &mut self.answers,
        }
    }
}

impl Queue for WorkerQueue {
    type Frame = WorkerFrame;

    fn pop(&mut self) -> Option<WorkerFrame> {
        let frame = self.frames.pop_front()?;
        let share = self.share(&frame.frame);
        share.frames -= 1;
        share.bytes -= frame.bytes;
        Some(frame)
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn is_crowded(&self) -> bool {
        // A peer that sends requests and reads no answers is slowed down long before it is disconnected. Calls
        // don't count: others make them, and the worker must be read to answer them.
        self.answers.bytes > self.limit / 4 || self.answers.frames > CROWDED_ANSWERS
    }
}

impl Mailbox<WorkerQueue> {
    /// Queues a frame. A worker that lets too many of its own answers wait does not read: it is disconnected.
    pub(crate) fn push(&self, frame: ToWorker) -> Result<(), NoRoom> {
        let bytes = frame.size_hint();
        let mut state = self.state();
        if state.closing.is_some() {
            return Ok(());
        }
        let limit = state.queue.limit;
        let share = state.queue.share(&frame);
        if share.bytes > 0 && share.bytes + bytes > limit {
            if matches!(frame, ToWorker::Invoke { .. }) {
                return Err(NoRoom);
            }
            tracing::warn!(bytes = share.bytes, "a worker is disconnected: it does not read its answers");
            state.queue.frames.clear();
            drop(state);
            self.close(CloseCode::Again, "too many answers wait to be read: read faster");
            return Ok(());
        }
        share.frames += 1;
        share.bytes += bytes;
        state.queue.frames.push_back(WorkerFrame { frame, bytes });
        drop(state);
        self.filled.notify_one();
        Ok(())
    }
}

impl From<WorkerFrame> for Utf8Bytes {
    fn from(frame: WorkerFrame) -> Utf8Bytes {
        frame.frame.encode().into()
    }
}

/// Frames to a subscriber.
#[derive(Debug)]
pub(crate) struct SessionQueue(Outbox<SnapshotOf, SessionFrame>);

/// What a snapshot is for: of each, only the newest waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SnapshotOf {
    /// A subscription that was joined, or has caught up.
    Subscription(SubscriptionId),
    /// A group whose change could not be told otherwise.
    Group(GroupPath),
}

/// A frame to a subscriber.
#[derive(Debug)]
pub(crate) enum SessionFrame {
    /// Shared with all who get the same.
    Encoded(Utf8Bytes),
    /// For this subscriber alone, and possibly large.
    Sync(Box<SyncFrame>),
}

pub(crate) type SessionMailbox = Mailbox<SessionQueue>;

/// A subscriber for whom more frames, or more answers to its own mistakes, wait than this is not read from.
const CROWDED_FRAMES: usize = 65_536;
const CROWDED_NOTICES: usize = 256;

impl SessionQueue {
    pub(crate) fn new(limit: usize) -> SessionQueue {
        SessionQueue(Outbox::new(limit))
    }
}

impl Queue for SessionQueue {
    type Frame = SessionFrame;

    fn pop(&mut self) -> Option<SessionFrame> {
        self.0.pop()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_crowded(&self) -> bool {
        self.0.len() > CROWDED_FRAMES || self.0.notices() > CROWDED_NOTICES
    }
}

impl Mailbox<SessionQueue> {
    pub(crate) fn push_event(&self, text: Utf8Bytes) {
        let pushed = self.state().queue.0.push_event(text.len(), SessionFrame::Encoded(text));
        match pushed {
            Pushed::Queued => self.filled.notify_one(),
            Pushed::Overflowed => self.lagging.notify_waiters(),
            Pushed::Dropped => {}
        }
    }

    pub(crate) fn push_sync(&self, subscription: SubscriptionId, frame: SyncFrame) {
        self.push_snapshot(SnapshotOf::Subscription(subscription), SessionFrame::Sync(Box::new(frame)));
    }

    /// Queues a group's state that is broadcast.
    pub(crate) fn push_group(&self, group: GroupPath, text: Utf8Bytes) {
        self.push_snapshot(SnapshotOf::Group(group), SessionFrame::Encoded(text));
    }

    fn push_snapshot(&self, of: SnapshotOf, frame: SessionFrame) {
        let pushed = self.state().queue.0.push_snapshot(of, frame);
        match pushed {
            Pushed::Queued => self.filled.notify_one(),
            Pushed::Overflowed | Pushed::Dropped => {}
        }
    }

    pub(crate) fn push_notice(&self, text: Utf8Bytes) {
        self.state().queue.0.push_notice(SessionFrame::Encoded(text));
        self.filled.notify_one();
    }

    /// Takes events again after an overflow.
    pub(crate) fn resume(&self) {
        self.state().queue.0.resume();
    }

    /// Waits until the queue has overflowed more often than `known`, and gives how often. Counted, not looked at:
    /// between two looks it can be resumed and overflow again.
    pub(crate) async fn overflowed(&self, known: u64) -> u64 {
        let overflows = || self.state().queue.0.overflows();
        wait(&self.lagging, || overflows() > known).await;
        overflows()
    }

    /// Waits until all that was queued has left.
    pub(crate) async fn drained(&self) {
        wait(&self.emptied, || {
            let state = self.state();
            state.queue.is_empty() && !state.sending
        })
        .await;
    }
}

impl From<SessionFrame> for Utf8Bytes {
    fn from(frame: SessionFrame) -> Utf8Bytes {
        match frame {
            SessionFrame::Encoded(text) => text,
            SessionFrame::Sync(sync) => ToSubscriber::Sync(*sync).encode().into(),
        }
    }
}
