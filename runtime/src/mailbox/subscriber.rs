//! What waits for a subscriber.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, TryLockError};

use bytes::Bytes;
use headwater_core::hub::{Outbox, Pushed};
use headwater_core::name::{GroupPath, SubscriptionId, Target};
use headwater_core::wire::stream::{SyncFrame, ToSubscriber};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Encode, Mailbox, Queue, Sent, State};
use crate::frame;
use crate::wire::Wire;

/// Frames to a subscriber.
#[derive(Debug)]
pub(crate) struct SessionQueue(pub(super) Outbox<SnapshotOf, SessionFrame>);

/// What a snapshot is for: of each, only the newest waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SnapshotOf {
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

/// A frame that leaves.
#[derive(Debug)]
pub(crate) struct Leaving {
    frame: SessionFrame,
    /// How many sent events were missed before it, which it says.
    skipped: u64,
}

/// A state on its way to one or many: encoded by the first whose turn it is to send it, or, when newer state comes
/// before that, by nobody.
#[derive(Debug)]
pub(crate) struct SharedSync {
    pub(super) frame: SyncFrame,
    pub(super) encoded: OnceLock<Bytes>,
}

impl SharedSync {
    pub(crate) fn new(frame: SyncFrame) -> SharedSync {
        SharedSync { frame, encoded: OnceLock::new() }
    }

    /// Whether it is what `other` tells: the same moment of the same history.
    pub(crate) fn is_same(&self, other: &SyncFrame) -> bool {
        let moment = |frame: &SyncFrame| (frame.state.revision, frame.state.stamp, frame.epoch);
        self.frame.target == other.target && moment(&self.frame) == moment(other)
    }

    pub(super) fn encoded(&self) -> Bytes {
        self.encoded.get_or_init(|| frame::text(|out| self.frame.encode_onto(out, 0))).clone()
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
    type Frame = Leaving;

    fn pop(&mut self) -> Option<Leaving> {
        let frame = self.0.pop()?;
        let skipped = match &frame {
            SessionFrame::Shared(state) => self.0.take_skipped(&state.frame.target),
            SessionFrame::Encoded(_) => 0,
        };
        Some(Leaving { frame, skipped })
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
    /// Queues an event; `sent` says what it was sent to, if it was.
    pub(crate) fn push_event(&self, frame: Bytes, sent: Option<&Arc<Target>>) -> Push {
        let untried = |state: &State<SessionQueue>| state.listed && !state.queue.0.has_room(frame.len());
        if untried(&self.state()) {
            // What waits is of this batch: nobody knows yet whether the peer is slow.
            self.deliver();
        }
        self.push_with(|outbox| {
            outbox.push_event(frame.len(), sent.map(Arc::clone), SessionFrame::Encoded(frame))
        })
    }

    /// Queues the state that a subscription starts from, and of which so many sent events have not come here.
    pub(crate) fn push_sync(
        &self,
        subscription: SubscriptionId,
        state: Arc<SharedSync>,
        missed: u64,
    ) -> Push {
        self.metrics.skipped.inc_by(missed);
        let of = SnapshotOf::Subscription(subscription);
        let target = state.frame.target.clone();
        self.push_with(|outbox| {
            outbox.push_snapshot(of, Some((&target, missed)), SessionFrame::Shared(state))
        })
    }

    /// Queues a group's state that is broadcast.
    pub(crate) fn push_group(&self, group: GroupPath, state: Arc<SharedSync>) -> Push {
        let of = SnapshotOf::Group(group);
        self.push_with(|outbox| outbox.push_snapshot(of, None, SessionFrame::Shared(state)))
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
        let dropped = state.queue.0.dropped();
        let pushed = push(&mut state.queue.0);
        let dropped = state.queue.0.dropped() - dropped;
        if dropped > 0 {
            self.metrics.skipped.inc_by(dropped);
        }
        match pushed {
            Pushed::Queued => {
                if !std::mem::replace(&mut state.listed, true) {
                    return Push::First;
                }
            }
            Pushed::Overflowed => {
                drop(state);
                self.metrics.overflows.inc();
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
    pub(crate) fn resume(&self, follows: &BTreeSet<Target>) {
        self.state().queue.0.resume(follows);
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

impl Encode for Leaving {
    fn encode(self, wire: &mut Wire) -> usize {
        let frame = match self.frame {
            SessionFrame::Encoded(frame) => frame,
            SessionFrame::Shared(state) => state.encoded(),
        };
        let bytes = frame.len();
        match self.skipped {
            0 => wire.push(frame),
            skipped => wire.push_parts(frame::ending(&frame, &SyncFrame::ending(skipped))),
        }
        bytes
    }
}
