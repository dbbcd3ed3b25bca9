//! What waits to be sent on one connection, between the engine or a delivery shard, who put frames in and never
//! wait, and the connection's own task, which takes them out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use headwater_core::call::Answer;
use headwater_core::error::{CallError, code};
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
    /// The engine has set aside what the peer sent, until the queue is not crowded.
    parked: bool,
    /// The core has let the peer in; one whose handshake does not wait for that is in anyway.
    admitted: bool,
    /// Closed to new frames.
    closed: bool,
    /// How to say goodbye once all that is queued was sent.
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
            state: Mutex::new(State {
                queue,
                sending: false,
                parked: false,
                admitted: false,
                closed: false,
                closing: None,
            }),
            filled: Notify::new(),
            emptied: Notify::new(),
            lagging: Notify::new(),
        }
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

    /// Whether what the peer has sent is to wait, because its answer would. Then [`Mailbox::unparked`] tells when
    /// it need not any more.
    pub(crate) fn park(&self) -> bool {
        let mut state = self.state();
        let crowded = state.queue.is_crowded() && !state.closed;
        state.parked |= crowded;
        crowded
    }

    /// Waits until something was parked and the queue is not crowded any more.
    pub(crate) async fn unparked(&self) {
        wait(&self.emptied, || {
            let mut state = self.state();
            let unparked = state.parked && !state.queue.is_crowded();
            state.parked &= !unparked;
            unparked
        })
        .await;
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

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
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
            self.filled.notify_one();
        }
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
    /// Small, and shared with all who get the same.
    Encoded(Utf8Bytes),
    /// For this subscriber alone, and possibly large.
    Sync(Box<SyncFrame>),
    /// A group's state, for all who are in its channel.
    Shared(Arc<SharedSync>),
}

/// A group's state on its way to many: encoded by the first whose turn it is to send it, or, when newer state comes
/// before that, by nobody.
#[derive(Debug)]
pub(crate) struct SharedSync {
    frame: Arc<ToSubscriber>,
    text: OnceLock<Utf8Bytes>,
}

impl SharedSync {
    pub(crate) fn new(frame: Arc<ToSubscriber>) -> SharedSync {
        SharedSync { frame, text: OnceLock::new() }
    }

    fn text(&self) -> Utf8Bytes {
        self.text.get_or_init(|| self.frame.encode().into()).clone()
    }
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

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_crowded(&self) -> bool {
        self.0.len() > CROWDED_FRAMES
            || self.0.notices() > CROWDED_NOTICES
            || self.0.snapshots() > CROWDED_SNAPSHOTS
    }
}

impl Mailbox<SessionQueue> {
    pub(crate) fn push_event(&self, text: Utf8Bytes) {
        self.push_with(|outbox| outbox.push_event(text.len(), SessionFrame::Encoded(text)));
    }

    pub(crate) fn push_sync(&self, subscription: SubscriptionId, frame: SyncFrame) {
        self.push_with(|outbox| {
            outbox.push_snapshot(SnapshotOf::Subscription(subscription), SessionFrame::Sync(Box::new(frame)))
        });
    }

    /// Queues a group's state that is broadcast.
    pub(crate) fn push_group(&self, group: GroupPath, state: Arc<SharedSync>) {
        self.push_with(|outbox| outbox.push_snapshot(SnapshotOf::Group(group), SessionFrame::Shared(state)));
    }

    pub(crate) fn push_notice(&self, text: Utf8Bytes) {
        self.push_with(|outbox| {
            outbox.push_notice(SessionFrame::Encoded(text));
            Pushed::Queued
        });
    }

    fn push_with(&self, push: impl FnOnce(&mut Outbox<SnapshotOf, SessionFrame>) -> Pushed) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let pushed = push(&mut state.queue.0);
        drop(state);
        match pushed {
            Pushed::Queued => self.filled.notify_one(),
            Pushed::Overflowed => self.lagging.notify_waiters(),
            Pushed::Dropped => {}
        }
    }

    /// Lets the peer in, whose handshake waits.
    pub(crate) fn admit(&self) {
        self.state().admitted = true;
        self.filled.notify_one();
    }

    /// Waits until the core has let the peer in, or else, as an error, with which code it is to be closed.
    pub(crate) async fn admission(&self) -> Result<(), CloseCode> {
        let answer = || {
            let State { admitted, closing, .. } = &*self.state();
            if *admitted { Some(Ok(())) } else { closing.as_ref().map(|close| Err(close.code)) }
        };
        wait(&self.filled, || answer().is_some()).await;
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
            SessionFrame::Shared(state) => state.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::json::Json;
    use headwater_core::log::Revision;
    use headwater_core::name::{GroupName, StreamName, Target};
    use headwater_core::rng::Uuid;
    use headwater_core::store::{Durable, Snapshot, State};
    use headwater_core::time::Stamp;

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

    #[test]
    fn a_groups_state_that_newer_state_replaces_is_never_encoded() {
        let mailbox = Mailbox::new(SessionQueue::new(1_000));
        let (older, newer) = (state(1), state(2));
        mailbox.push_group(group(), Arc::clone(&older));
        mailbox.push_group(group(), Arc::clone(&newer));
        let Next::Send(frame) = mailbox.next() else { panic!("a state waits") };
        assert!(Utf8Bytes::from(frame).contains("\"revision\":2"));
        assert!(matches!(mailbox.next(), Next::Flush));
        assert!(older.text.get().is_none() && newer.text.get().is_some());
    }

    #[tokio::test]
    async fn a_peer_is_let_in_or_closed_whatever_is_queued() {
        let refused = Mailbox::new(SessionQueue::new(1_000));
        refused.push_notice("queued".into());
        let refusing = async { refused.close(CloseCode::Policy, "unauthorized") };
        assert_eq!(tokio::join!(refused.admission(), refusing).0, Err(CloseCode::Policy));
        assert!(matches!(refused.next(), Next::Send(_)));

        let admitted = Mailbox::new(SessionQueue::new(1_000));
        let admitting = async {
            admitted.push_notice("queued".into());
            tokio::task::yield_now().await;
            admitted.admit();
        };
        assert_eq!(tokio::join!(admitted.admission(), admitting).0, Ok(()));
        admitted.close(CloseCode::Policy, "unauthorized");
        assert_eq!(admitted.admission().await, Ok(()), "it was let in first");
        assert!(matches!(admitted.next(), Next::Send(_)));
        assert!(matches!(admitted.next(), Next::Close(_)));
    }

    fn returned(bytes: usize) -> ToWorker {
        let value = Json::trusted("1".repeat(bytes));
        ToWorker::Result {
            invocation_id: "1".to_owned(),
            function_id: "f".to_owned(),
            outcome: Ok(Answer::Returned(value)),
        }
    }

    fn next(mailbox: &WorkerMailbox) -> String {
        match mailbox.next() {
            Next::Send(frame) => Utf8Bytes::from(frame).to_string(),
            other => panic!("a frame waits, not {other:?}"),
        }
    }

    #[test]
    fn what_was_returned_and_finds_no_room_is_answered_with_overloaded() {
        let mailbox = Mailbox::new(WorkerQueue::new(20_000));
        mailbox.push(returned(9_000)).expect("it is no call");
        mailbox.push(returned(9_000)).expect("it is no call");
        assert!(next(&mailbox).contains("\"result\":1"));
        assert!(next(&mailbox).contains("\"code\":\"overloaded\""));
        mailbox.push(returned(9_000)).expect("it is no call");
        assert!(next(&mailbox).contains("\"result\":1"), "there is room again");
    }

    #[tokio::test]
    async fn what_is_parked_for_a_crowd_is_unparked_when_the_crowd_has_left() {
        let mailbox = Mailbox::new(WorkerQueue::new(20_000));
        assert!(!mailbox.park(), "nobody waits");
        mailbox.push(returned(9_000)).expect("it is no call");
        assert!(mailbox.park());
        let leaving = async {
            tokio::task::yield_now().await;
            next(&mailbox);
        };
        tokio::join!(mailbox.unparked(), mailbox.uncrowded(), leaving);
        assert!(!mailbox.park());
    }
}
