//! What waits to be sent on one connection, between the engine or a delivery shard, who put frames in and never
//! wait, and the connection's own task, which sends what its socket does not take at once.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use headwater_core::call::Answer;
use headwater_core::error::{CallError, code};
use headwater_core::hub::{Outbox, Pushed};
use headwater_core::name::{GroupPath, SubscriptionId};
use headwater_core::store::State as Contents;
use headwater_core::wire::stream::{SyncFrame, ToSubscriber};
use headwater_core::wire::worker::ToWorker;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::frame;
use crate::wire::{Taking, Wire};

/// A queue of frames to one peer.
pub(crate) trait Queue {
    /// What is queued, not encoded yet where encoding is work: that is done by the connection's task.
    type Frame: Encode;

    fn pop(&mut self) -> Option<Self::Frame>;

    /// Whether the next frame, if there is one, is encoded already.
    fn is_prepared(&self) -> bool;

    fn is_empty(&self) -> bool;

    /// Whether so much waits that nothing more should be read from the peer.
    fn is_crowded(&self) -> bool;

    /// Drops all that waits.
    fn clear(&mut self);
}

/// What can be put on its way.
pub(crate) trait Encode {
    /// Does so, and tells how many bytes it has.
    fn encode(self, wire: &mut Wire) -> usize;
}

/// A queue, the way from it to the socket, and the task that runs the connection.
///
/// `wire` is locked before `state`, and never the other way round.
#[derive(Debug)]
pub(crate) struct Mailbox<Q> {
    state: Mutex<State<Q>>,
    wire: Mutex<Wire>,
    /// The connection's task, when it waits for something here to change.
    task: AtomicWaker,
    opened: Instant,
    /// When the peer last sent something, in milliseconds since it was opened.
    read_at: AtomicU64,
    /// Nothing is read from the peer for now: that it is silent says nothing.
    pauses: AtomicBool,
}

#[derive(Debug)]
struct State<Q> {
    queue: Q,
    /// Frames were taken out that may not have reached the socket.
    sending: bool,
    /// The connection's task waits until all that was queued has left.
    draining: bool,
    /// The engine has set aside what the peer sent, until the queue is not crowded.
    parked: bool,
    /// The engine is to be told when the queue is not crowded.
    tells: bool,
    /// The core has let the peer in; one whose handshake does not wait for that is in anyway.
    admitted: bool,
    /// It is in the shard's list of those that have something to send.
    listed: bool,
    /// Closed to new frames.
    closed: bool,
    /// How to say goodbye once all that is queued was sent.
    closing: Option<CloseFrame>,
}

/// How the sending on a connection ends.
#[derive(Debug)]
pub(crate) enum SendingEnded {
    /// The socket takes nothing any more.
    Gone,
    /// All that was queued has left, and this is to be said.
    Closing(CloseFrame),
}

/// A peer's last sign of life.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It sent something, or took something that had waited for it.
    At(Instant),
    /// It has taken nothing since, of what is on its way.
    StuckSince(Instant),
}

/// How far a try to send came.
enum Sent {
    /// To the end of the queue, or to where the socket takes no more for now.
    Enough,
    /// To a frame that is to be encoded first.
    Unprepared,
    Ended(SendingEnded),
}

impl<Q: Queue> Mailbox<Q> {
    pub(crate) fn new(queue: Q) -> Mailbox<Q> {
        Mailbox {
            state: Mutex::new(State {
                queue,
                sending: false,
                draining: false,
                parked: false,
                tells: false,
                admitted: false,
                listed: false,
                closed: false,
                closing: None,
            }),
            wire: Mutex::default(),
            task: AtomicWaker::new(),
            opened: Instant::now(),
            read_at: AtomicU64::new(0),
            pauses: AtomicBool::new(false),
        }
    }

    /// Opens the way out, for as long as the guard lives.
    pub(crate) fn attach(&self, socket: impl AsyncWrite + Send + Unpin + 'static) -> Attached<'_, Q> {
        self.wire().attach(Box::new(socket));
        Attached(self)
    }

    /// Takes no more frames, and closes the connection once all that is queued was sent.
    pub(crate) fn close(&self, code: CloseCode, reason: &'static str) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.closed = true;
        state.closing = Some(CloseFrame { code, reason: reason.into() });
        drop(state);
        self.task.wake();
    }

    /// Takes no more frames, and drops those that wait: nothing may follow a goodbye.
    pub(crate) fn shut(&self) {
        let mut state = self.state();
        state.closed = true;
        state.queue.clear();
    }

    /// The same, and drops what is on its way, but for a frame that was begun.
    pub(crate) fn cut(&self) {
        self.wire().cut();
        self.shut();
    }

    /// Sends what is queued, to the end of the connection. For the connection's task alone.
    pub(crate) fn poll_send(&self, cx: &Context<'_>) -> Poll<SendingEnded> {
        self.task.register(cx.waker());
        let mut wire = self.wire();
        wire.set_task(cx.waker());
        match self.send(&mut wire, true) {
            Sent::Ended(ended) => Poll::Ready(ended),
            Sent::Enough | Sent::Unprepared => Poll::Pending,
        }
    }

    /// Sends what was begun, and no more; ready when all of it has left, or nothing leaves any more.
    pub(crate) fn poll_drain(&self, cx: &Context<'_>) -> Poll<()> {
        let mut wire = self.wire();
        wire.set_task(cx.waker());
        match wire.poll_send() {
            Poll::Pending if !wire.has_failed() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Puts what the WebSocket library wrote on its way, behind all that is there.
    pub(crate) fn poll_push(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let pushed = self.wire().poll_push(cx, bytes);
        if pushed.is_ready() {
            // It is the task that sends which calls this: it runs again.
            cx.waker().wake_by_ref();
        }
        pushed
    }

    /// Asks the peer for a sign of life.
    pub(crate) fn ping(&self) {
        let mut wire = self.wire();
        // Else it is sent more than it takes already.
        if wire.is_empty() {
            wire.push(frame::PING);
            drop(wire);
            self.task.wake();
        }
    }

    fn send(&self, wire: &mut Wire, encodes: bool) -> Sent {
        loop {
            match wire.poll_send() {
                _ if wire.has_failed() => return Sent::Ended(SendingEnded::Gone),
                Poll::Pending => return Sent::Enough,
                Poll::Ready(()) => {}
            }
            let mut taken = 0;
            while wire.has_room(taken) {
                let mut state = self.state();
                if !encodes && !state.queue.is_prepared() {
                    return Sent::Unprepared;
                }
                let crowded = state.queue.is_crowded();
                let Some(frame) = state.queue.pop() else {
                    if wire.is_empty() {
                        state.sending = false;
                        let wakes = state.draining;
                        let closing = if encodes { state.closing.take() } else { None };
                        drop(state);
                        if wakes {
                            self.task.wake();
                        }
                        return closing
                            .map_or(Sent::Enough, |close| Sent::Ended(SendingEnded::Closing(close)));
                    }
                    break;
                };
                state.sending = true;
                let uncrowded = crowded && !state.queue.is_crowded();
                drop(state);
                if uncrowded {
                    self.task.wake();
                }
                taken += frame.encode(wire);
            }
        }
    }

    /// The peer has sent something.
    pub(crate) fn has_read(&self) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.read_at.store(since, Ordering::Relaxed);
    }

    /// When the peer was last seen to live. It can't be seen while nothing is read from it.
    pub(crate) fn seen(&self) -> Seen {
        let taking = self.wire().taking();
        let read_at = self.opened + Duration::from_millis(self.read_at.load(Ordering::Relaxed));
        match taking {
            Taking::StuckSince(since) => Seen::StuckSince(since),
            _ if self.pauses.load(Ordering::Relaxed) => Seen::At(Instant::now()),
            Taking::LastAt(at) => Seen::At(read_at.max(at)),
            Taking::All => Seen::At(read_at),
        }
    }

    /// Waits for something that reading from the peer waits for.
    pub(crate) async fn pause<T>(&self, wait: impl Future<Output = T>) -> T {
        self.pauses.store(true, Ordering::Relaxed);
        let waited = wait.await;
        self.pauses.store(false, Ordering::Relaxed);
        self.has_read();
        waited
    }

    /// Whether reading from the peer can go on: its answers are no crowd, and nothing that it sent is set aside.
    pub(crate) fn is_uncrowded(&self) -> bool {
        let state = self.state();
        !state.queue.is_crowded() && !state.parked
    }

    /// Waits until reading from the peer can go on.
    pub(crate) async fn uncrowded(&self) {
        self.wait(|| self.is_uncrowded()).await;
    }

    /// Whether what the peer has sent is to wait, because its answer would. Then [`Mailbox::unparked`] tells when
    /// it need not any more, and nothing is read from the peer until [`Mailbox::unpark`].
    pub(crate) fn park(&self) -> bool {
        let mut state = self.state();
        let crowded = state.queue.is_crowded() && !state.closed;
        state.parked |= crowded;
        state.tells |= crowded;
        crowded
    }

    /// Nothing is set aside any more.
    pub(crate) fn unpark(&self) {
        self.state().parked = false;
        self.task.wake();
    }

    /// Waits until something was parked and the queue is not crowded any more.
    pub(crate) async fn unparked(&self) {
        self.wait(|| {
            let mut state = self.state();
            let tells = state.tells && !state.queue.is_crowded();
            state.tells &= !tells;
            tells
        })
        .await;
    }

    /// Waits until `reached`. For the connection's task alone.
    async fn wait(&self, reached: impl Fn() -> bool) {
        std::future::poll_fn(|cx| {
            self.task.register(cx.waker());
            if reached() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State<Q>> {
        // Nothing that is done under this lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open way out. It ends with this, and with it the socket.
pub(crate) struct Attached<'a, Q: Queue>(&'a Mailbox<Q>);

impl<Q: Queue> Drop for Attached<'_, Q> {
    fn drop(&mut self) {
        self.0.wire().detach();
    }
}

/// Frames to a worker.
#[derive(Debug)]
pub(crate) struct WorkerQueue {
    frames: VecDeque<WorkerFrame>,
    /// Calls that others make.
    calls: Waiting,
    /// What the handlers of others returned.
    returned: Waiting,
    /// All other frames: they answer what the worker sent.
    answers: Waiting,
    /// How many bytes of calls, and of what was returned, may wait.
    limit: usize,
}

/// How much of a kind waits.
#[derive(Debug, Default)]
struct Waiting {
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

/// More answers than this are a crowd.
const CROWDED_WORKER: usize = 4_096;

impl WorkerQueue {
    /// A queue of about `limit` bytes, half of them for calls.
    pub(crate) fn new(limit: usize) -> WorkerQueue {
        let [calls, returned, answers] = Default::default();
        WorkerQueue { frames: VecDeque::new(), calls, returned, answers, limit: limit / 2 }
    }

    fn waiting(&mut self, frame: &ToWorker) -> &mut Waiting {
        match frame {
            ToWorker::Invoke { .. } => &mut self.calls,
            ToWorker::Result { outcome: Ok(Answer::Returned(_)), .. } => &mut self.returned,
            _ => &mut self.answers,
        }
    }

    /// Queues a frame. Calls, and what the handlers of others returned, come without the worker's doing: what finds no
    /// room is refused. Answers always find room; what they answer is not handed to the core while they are a crowd.
    fn push(&mut self, frame: ToWorker) -> Result<(), NoRoom> {
        let limit = self.limit;
        let bytes = frame.size_hint();
        let waiting = self.waiting(&frame);
        if waiting.bytes == 0 || waiting.bytes + bytes <= limit {
            self.add(frame, bytes);
            return Ok(());
        }
        match frame {
            ToWorker::Invoke { .. } => return Err(NoRoom),
            ToWorker::Result { invocation_id, function_id, outcome: Ok(Answer::Returned(_)) } => {
                let message = "the function was run, but too much that was returned to you waits to be read";
                let outcome = Err(CallError::new(code::OVERLOADED, message));
                let frame = ToWorker::Result { invocation_id, function_id, outcome };
                let bytes = frame.size_hint();
                self.add(frame, bytes);
            }
            frame => self.add(frame, bytes),
        }
        Ok(())
    }

    fn add(&mut self, frame: ToWorker, bytes: usize) {
        let waiting = self.waiting(&frame);
        waiting.frames += 1;
        waiting.bytes += bytes;
        self.frames.push_back(WorkerFrame { frame, bytes });
    }
}

impl Queue for WorkerQueue {
    type Frame = WorkerFrame;

    fn pop(&mut self) -> Option<WorkerFrame> {
        let frame = self.frames.pop_front()?;
        let waiting = self.waiting(&frame.frame);
        waiting.frames -= 1;
        waiting.bytes -= frame.bytes;
        Some(frame)
    }

    fn is_prepared(&self) -> bool {
        self.frames.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    fn is_crowded(&self) -> bool {
        // Calls don't count: others make them, and the worker must be read to answer them.
        let bytes = self.answers.bytes + self.returned.bytes;
        bytes > self.limit / 4 || self.answers.frames + self.returned.frames > CROWDED_WORKER
    }
}

impl Mailbox<WorkerQueue> {
    /// Queues a frame, unless it is a call that finds no room. One that is being closed takes none: the engine hears
    /// of its end soon.
    pub(crate) fn push(&self, frame: ToWorker) -> Result<(), NoRoom> {
        let mut state = self.state();
        if !state.closed {
            state.queue.push(frame)?;
            drop(state);
            self.task.wake();
        }
        Ok(())
    }
}

impl Encode for WorkerFrame {
    fn encode(self, wire: &mut Wire) -> usize {
        let frame = frame::text(|out| self.frame.encode_onto(out));
        let bytes = frame.len();
        if bytes > COPIED {
            wire.push(frame);
        } else {
            wire.push_small(&frame);
        }
        bytes
    }
}

/// What is larger goes on its way without being copied behind others.
const COPIED: usize = 4 << 10;

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
    /// A whole frame, small, and shared with all who get the same.
    Encoded(Bytes),
    /// The state of a group or an item, possibly large, and shared with all who get the same.
    Shared(Arc<SharedSync>),
}

/// A state on its way to one or many: encoded by the first whose turn it is to send it, or, when newer state comes
/// before that, by nobody.
#[derive(Debug)]
pub(crate) struct SharedSync {
    frame: Arc<ToSubscriber>,
    encoded: OnceLock<Bytes>,
}

impl SharedSync {
    pub(crate) fn new(frame: Arc<ToSubscriber>) -> SharedSync {
        SharedSync { frame, encoded: OnceLock::new() }
    }

    /// Whether it is what `other` tells: the same moment of the same history. What a worker listed has no moments.
    pub(crate) fn is_same(&self, other: &SyncFrame) -> bool {
        let ToSubscriber::Sync(this) = &*self.frame else { return false };
        let moment = |frame: &SyncFrame| (frame.state.revision, frame.state.stamp, frame.epoch);
        this.target == other.target
            && moment(this) == moment(other)
            && !matches!(other.state.state, Contents::Listed(_))
    }

    fn encoded(&self) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.frame)).clone()
    }
}

/// A frame to subscribers, ready to be sent.
pub(crate) fn encode(frame: &ToSubscriber) -> Bytes {
    frame::text(|out| frame.encode_onto(out))
}

pub(crate) type SessionMailbox = Mailbox<SessionQueue>;

/// A subscriber for whom more of these wait is not read from: frames, answers to its own mistakes, snapshots.
const CROWDED_FRAMES: usize = 65_536;
const CROWDED_NOTICES: usize = 256;
const CROWDED_SNAPSHOTS: usize = 64;

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

    fn is_prepared(&self) -> bool {
        match self.0.front() {
            // Large ones are copied for so long that others would wait.
            Some(SessionFrame::Shared(state)) => {
                state.encoded.get().is_some_and(|frame| frame.len() <= LARGE)
            }
            Some(SessionFrame::Encoded(_)) | None => true,
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self) {
        while self.0.pop().is_some() {}
    }

    fn is_crowded(&self) -> bool {
        self.0.len() > CROWDED_FRAMES
            || self.0.notices() > CROWDED_NOTICES
            || self.0.snapshots() > CROWDED_SNAPSHOTS
    }
}

/// A larger state is sent by the connection's task alone.
const LARGE: usize = 64 << 10;

/// Whether a mailbox is to be handed to [`Mailbox::deliver`] once everything is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Push {
    /// It has something to send, and nobody knows that yet.
    First,
    /// Somebody knows.
    Again,
}

impl Mailbox<SessionQueue> {
    pub(crate) fn push_event(&self, frame: Bytes) -> Push {
        let untried = |state: &State<SessionQueue>| state.listed && !state.queue.0.has_room(frame.len());
        if untried(&self.state()) {
            // What waits is of this batch: nobody knows yet whether the peer is slow.
            self.deliver();
        }
        self.push_with(|outbox| outbox.push_event(frame.len(), SessionFrame::Encoded(frame)))
    }

    /// Queues the state that a subscription starts from.
    pub(crate) fn push_sync(&self, subscription: SubscriptionId, state: Arc<SharedSync>) -> Push {
        self.push_with(|outbox| {
            outbox.push_snapshot(SnapshotOf::Subscription(subscription), SessionFrame::Shared(state))
        })
    }

    /// Queues a group's state that is broadcast.
    pub(crate) fn push_group(&self, group: GroupPath, state: Arc<SharedSync>) -> Push {
        self.push_with(|outbox| outbox.push_snapshot(SnapshotOf::Group(group), SessionFrame::Shared(state)))
    }

    pub(crate) fn push_notice(&self, frame: Bytes) -> Push {
        self.push_with(|outbox| {
            outbox.push_notice(SessionFrame::Encoded(frame));
            Pushed::Queued
        })
    }

    fn push_with(&self, push: impl FnOnce(&mut Outbox<SnapshotOf, SessionFrame>) -> Pushed) -> Push {
        let mut state = self.state();
        if state.closed {
            return Push::Again;
        }
        match push(&mut state.queue.0) {
            Pushed::Queued => {
                if !std::mem::replace(&mut state.listed, true) {
                    return Push::First;
                }
            }
            Pushed::Overflowed => {
                drop(state);
                self.task.wake();
            }
            Pushed::Dropped => {}
        }
        Push::Again
    }

    /// Sends what the socket takes at once and needs no work, without the connection's task. The rest is the task's.
    pub(crate) fn deliver(&self) {
        self.state().listed = false;
        let mut wire = match self.wire.try_lock() {
            Ok(wire) => wire,
            Err(TryLockError::Poisoned(wire)) => wire.into_inner(),
            // The task is sending, and may have looked at the queue already.
            Err(TryLockError::WouldBlock) => return self.task.wake(),
        };
        if wire.is_open()
            && let Sent::Unprepared | Sent::Ended(_) = self.send(&mut wire, false)
        {
            self.task.wake();
        }
    }

    /// Lets the peer in, whose handshake waits.
    pub(crate) fn admit(&self) {
        self.state().admitted = true;
        self.task.wake();
    }

    /// Waits until the core has let the peer in, or else, as an error, with which code it is to be closed.
    pub(crate) async fn admission(&self) -> Result<(), CloseCode> {
        let answer = || {
            let State { admitted, closing, .. } = &*self.state();
            if *admitted { Some(Ok(())) } else { closing.as_ref().map(|close| Err(close.code)) }
        };
        self.wait(|| answer().is_some()).await;
        // Neither is ever taken back before the connection is served.
        answer().unwrap_or(Err(CloseCode::Error))
    }

    /// Takes events again after an overflow.
    pub(crate) fn resume(&self) {
        self.state().queue.0.resume();
    }

    /// Waits until the queue has overflowed more often than `known`, and gives how often. Counted, not looked at:
    /// between two looks it can be resumed and overflow again.
    pub(crate) async fn overflowed(&self, known: u64) -> u64 {
        let overflows = || self.state().queue.0.overflows();
        self.wait(|| overflows() > known).await;
        overflows()
    }

    /// Waits until all that was queued has left.
    pub(crate) async fn drained(&self) {
        self.wait(|| {
            let mut state = self.state();
            state.draining = state.sending || !state.queue.is_empty();
            !state.draining
        })
        .await;
    }
}

impl Encode for SessionFrame {
    fn encode(self, wire: &mut Wire) -> usize {
        let frame = match self {
            SessionFrame::Encoded(frame) => frame,
            SessionFrame::Shared(state) => state.encoded(),
        };
        let bytes = frame.len();
        wire.push(frame);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Waker;

    use headwater_core::json::Json;
    use headwater_core::log::Revision;
    use headwater_core::name::{GroupName, StreamName, Target};
    use headwater_core::rng::Uuid;
    use headwater_core::store::{Durable, Snapshot, State};
    use headwater_core::time::Stamp;
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    fn group() -> GroupPath {
        GroupPath { stream: StreamName::trusted("s"), group: GroupName::trusted("g") }
    }

    fn state(revision: u64) -> Arc<SharedSync> {
        let state = Durable {
            stamp: Stamp(revision),
            revision: Revision(revision),
            state: State::Group(Snapshot::default()),
        };
        let target = Target { group: group(), item: None };
        let frame = ToSubscriber::Sync(SyncFrame { target, state, epoch: Uuid::from_random(0) });
        Arc::new(SharedSync::new(Arc::new(frame)))
    }

    /// All that a mailbox sends for now, as its peer gets it.
    async fn sent<Q: Queue>(mailbox: &Mailbox<Q>) -> Vec<u8> {
        let (mut peer, own) = duplex(1 << 20);
        let attached = mailbox.attach(own);
        let pending = poll_fn(|cx| Poll::Ready(mailbox.poll_send(cx).is_pending())).await;
        assert!(pending, "it is not closed");
        drop(attached);
        let mut sent = Vec::new();
        peer.read_to_end(&mut sent).await.expect("it is there");
        sent
    }

    fn event(text: &str) -> Bytes {
        frame::text(|out| out.push_str(text))
    }

    #[tokio::test]
    async fn a_groups_state_that_newer_state_replaces_is_never_encoded() {
        let mailbox = Mailbox::new(SessionQueue::new(1_000));
        let (older, newer) = (state(1), state(2));
        assert_eq!(mailbox.push_group(group(), Arc::clone(&older)), Push::First);
        assert_eq!(mailbox.push_group(group(), Arc::clone(&newer)), Push::Again);
        assert_eq!(sent(&mailbox).await, newer.encoded());
        assert!(older.encoded.get().is_none());
    }

    #[tokio::test]
    async fn what_is_delivered_leaves_at_once_but_for_what_must_be_encoded_first() {
        let mailbox = Mailbox::new(SessionQueue::new(1_000));
        let (mut peer, own) = duplex(1_000);
        let _attached = mailbox.attach(own);
        let task = Context::from_waker(Waker::noop());
        assert!(mailbox.poll_send(&task).is_pending());

        let [one, two] = ["one", "two"].map(event);
        assert_eq!(mailbox.push_event(one.clone()), Push::First);
        let state = state(1);
        assert_eq!(mailbox.push_group(group(), Arc::clone(&state)), Push::Again);
        assert_eq!(mailbox.push_event(two.clone()), Push::Again);
        mailbox.deliver();
        assert!(state.encoded.get().is_none(), "that is the work of the connection's task");
        assert!(mailbox.poll_send(&task).is_pending());
        let expected = [one, state.encoded(), two].concat();
        let mut got = vec![0; expected.len()];
        peer.read_exact(&mut got).await.expect("all of it");
        assert_eq!(got, expected);

        let three = event("three");
        assert_eq!(mailbox.push_event(three.clone()), Push::First);
        mailbox.deliver();
        let mut got = vec![0; three.len()];
        peer.read_exact(&mut got).await.expect("without the task");
        assert_eq!(got, three);
    }

    #[tokio::test]
    async fn what_waits_for_a_slow_peer_can_be_dropped_and_what_was_begun_leaves() {
        let mailbox = Mailbox::new(SessionQueue::new(1_000));
        let (mut peer, own) = duplex(7);
        let _attached = mailbox.attach(own);
        let task = Context::from_waker(Waker::noop());
        assert!(mailbox.poll_send(&task).is_pending());
        let [one, two] = ["first", "second"].map(event);
        for frame in [&two, &one, &two] {
            let _ = mailbox.push_event(frame.clone());
        }
        mailbox.deliver();
        let queued_behind = mailbox.push_event(one);
        assert_eq!(queued_behind, Push::First);
        mailbox.cut();
        let mut got = Vec::new();
        while got.len() < two.len() {
            peer.read_buf(&mut got).await.expect("it is open");
            assert!(mailbox.poll_drain(&task).is_ready());
        }
        assert_eq!(got, two);
        assert_eq!(mailbox.push_event(two), Push::Again, "it takes nothing any more");
        assert!(mailbox.state().queue.is_empty());
    }

    #[tokio::test]
    async fn a_batch_that_is_larger_than_the_bound_does_not_make_a_peer_slow() {
        let mailbox = Mailbox::new(SessionQueue::new(10));
        let (mut peer, own) = duplex(1_000);
        let _attached = mailbox.attach(own);
        assert!(mailbox.poll_send(&Context::from_waker(Waker::noop())).is_pending());
        let [one, two] = ["first", "second"].map(event);
        let _ = mailbox.push_event(one.clone());
        let _ = mailbox.push_event(two.clone());
        mailbox.deliver();
        let mut got = vec![0; one.len() + two.len()];
        peer.read_exact(&mut got).await.expect("both");
        assert_eq!(got, [one, two].concat());
        assert_eq!(mailbox.state().queue.0.overflows(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_not_read_is_not_silent() {
        let mailbox = Mailbox::new(SessionQueue::new(10));
        let begun = Instant::now();
        mailbox.pause(tokio::time::sleep(Duration::from_secs(100))).await;
        assert!(matches!(mailbox.seen(), Seen::At(at) if at - begun >= Duration::from_secs(100)));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(matches!(mailbox.seen(), Seen::At(at) if at - begun < Duration::from_secs(101)));
    }

    /// How often somebody was woken.
    #[derive(Default)]
    struct Woken(AtomicU64);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn who_asks_for_answers_and_takes_none_keeps_nobody_busy() {
        let mailbox = Mailbox::new(SessionQueue::new(10));
        let (_peer, own) = duplex(1);
        let _attached = mailbox.attach(own);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let task = Context::from_waker(&waker);
        assert!(mailbox.poll_send(&task).is_pending());
        while mailbox.poll_push(&task, b"an answer").is_ready() {
            assert!(mailbox.poll_send(&task).is_pending());
        }
        let before = woken.0.load(Ordering::Relaxed);
        assert!(mailbox.poll_push(&task, b"one more").is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), before);
    }

    #[tokio::test]
    async fn a_peer_is_let_in_or_closed_whatever_is_queued() {
        let refused = Mailbox::new(SessionQueue::new(1_000));
        let _ = refused.push_notice("queued".into());
        let refusing = async { refused.close(CloseCode::Policy, "unauthorized") };
        assert_eq!(tokio::join!(refused.admission(), refusing).0, Err(CloseCode::Policy));

        let admitted = Mailbox::new(SessionQueue::new(1_000));
        let admitting = async {
            let _ = admitted.push_notice(event("queued"));
            tokio::task::yield_now().await;
            admitted.admit();
        };
        assert_eq!(tokio::join!(admitted.admission(), admitting).0, Ok(()));
        admitted.close(CloseCode::Policy, "unauthorized");
        assert_eq!(admitted.admission().await, Ok(()), "it was let in first");
        let (mut peer, own) = duplex(100);
        let attached = admitted.attach(own);
        let Poll::Ready(SendingEnded::Closing(close)) =
            admitted.poll_send(&Context::from_waker(Waker::noop()))
        else {
            panic!("all was sent")
        };
        assert_eq!(close.code, CloseCode::Policy);
        drop(attached);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.expect("what was queued");
        assert_eq!(got, event("queued"));
    }

    fn returned(bytes: usize) -> ToWorker {
        let value = Json::trusted("1".repeat(bytes));
        ToWorker::Result {
            invocation_id: "1".to_owned(),
            function_id: "f".to_owned(),
            outcome: Ok(Answer::Returned(value)),
        }
    }

    #[tokio::test]
    async fn what_was_returned_and_finds_no_room_is_answered_with_overloaded() {
        let mailbox = Mailbox::new(WorkerQueue::new(20_000));
        mailbox.push(returned(9_000)).expect("it is no call");
        mailbox.push(returned(9_000)).expect("it is no call");
        let text = String::from_utf8_lossy(&sent(&mailbox).await).into_owned();
        assert_eq!(text.matches("\"result\":1").count(), 1);
        assert_eq!(text.matches("\"code\":\"overloaded\"").count(), 1);
    }

    #[tokio::test]
    async fn what_is_parked_for_a_crowd_is_unparked_when_the_crowd_has_left() {
        let mailbox = Mailbox::new(WorkerQueue::new(20_000));
        assert!(!mailbox.park(), "nobody waits");
        mailbox.push(returned(9_000)).expect("it is no call");
        assert!(mailbox.park());
        let leaving = async {
            tokio::task::yield_now().await;
            sent(&mailbox).await;
        };
        tokio::join!(mailbox.unparked(), leaving);
        let reads = poll_fn(|cx| Poll::Ready(pin!(mailbox.uncrowded()).poll(cx).is_ready()));
        assert!(!reads.await, "something is set aside, which comes first");
        mailbox.unpark();
        mailbox.uncrowded().await;
        assert!(!mailbox.park());
    }
}
