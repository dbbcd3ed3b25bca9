//! What waits to be sent on one connection, between the engine or a delivery shard, who put frames in and never
//! wait, and the connection's own task, which takes them out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater_core::hub::{Outbox, Pushed};
use headwater_core::name::SubscriptionId;
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
    /// The queue has overflowed, or has been resumed.
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
    bytes: usize,
    limit: usize,
}

/// A frame to a worker, and what it counts as while it waits.
#[derive(Debug)]
pub(crate) struct WorkerFrame {
    frame: ToWorker,
    bytes: usize,
}

pub(crate) type WorkerMailbox = Mailbox<WorkerQueue>;

/// A worker for whom more frames wait than this is not read from.
const CROWDED_FRAMES: usize = 4_096;

impl WorkerQueue {
    /// A queue of at most `limit` bytes. A peer that lets more wait does not read: it is disconnected.
    pub(crate) fn new(limit: usize) -> WorkerQueue {
        WorkerQueue { frames: VecDeque::new(), bytes: 0, limit }
    }
}

impl Queue for WorkerQueue {
    type Frame = WorkerFrame;

    fn pop(&mut self) -> Option<WorkerFrame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.bytes;
        Some(frame)
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn is_crowded(&self) -> bool {
        // A peer that sends requests and reads no answers is slowed down long before it is disconnected.
        self.bytes > self.limit / 8 || self.frames.len() > CROWDED_FRAMES
    }
}

impl Mailbox<WorkerQueue> {
    pub(crate) fn push(&self, frame: ToWorker) {
        let bytes = frame.size_hint();
        let mut state = self.state();
        if state.queue.bytes + bytes > state.queue.limit && !state.queue.frames.is_empty() {
            state.queue.frames.clear();
            state.queue.bytes = 0;
            drop(state);
            return self.close(CloseCode::Again, "too many frames wait to be read: read faster");
        }
        state.queue.bytes += bytes;
        state.queue.frames.push_back(WorkerFrame { frame, bytes });
        drop(state);
        self.filled.notify_one();
    }
}

impl From<WorkerFrame> for Utf8Bytes {
    fn from(frame: WorkerFrame) -> Utf8Bytes {
        frame.frame.encode().into()
    }
}

/// Frames to a subscriber.
#[derive(Debug)]
pub(crate) struct SessionQueue(Outbox<SubscriptionId, SessionFrame>);

/// A frame to a subscriber.
#[derive(Debug)]
pub(crate) enum SessionFrame {
    /// Shared with all who get the same.
    Encoded(Utf8Bytes),
    /// For this subscriber alone, and possibly large.
    Sync(Box<SyncFrame>),
}

pub(crate) type SessionMailbox = Mailbox<SessionQueue>;

/// A subscriber for whom more frames wait than this is not read from.
const CROWDED_SESSION: usize = 65_536;

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
        self.0.len() > CROWDED_SESSION
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
        let pushed = self.state().queue.0.push_snapshot(subscription, SessionFrame::Sync(Box::new(frame)));
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
        self.lagging.notify_waiters();
    }

    /// Waits until the queue has overflowed.
    pub(crate) async fn overflowed(&self) {
        wait(&self.lagging, || self.state().queue.0.is_behind()).await;
    }

    /// Waits until all that was queued has left.
    pub(crate) async fn drained(&self) {
        wait(&self.emptied, || {
            let state = self.state();
            state.queue.is_empty() && !state.sending
        })
        .await;
    }

    /// Waits until the queue takes events again.
    pub(crate) async fn resumed(&self) {
        wait(&self.lagging, || !self.state().queue.0.is_behind()).await;
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
