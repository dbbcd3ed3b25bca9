//! What waits to be sent to one subscriber: what is kept, what is dropped, and what is asked for then.

use std::collections::{BTreeMap, VecDeque};

/// Frames on their way to one subscriber, with a bound on the events among them.
///
/// When the events that wait would exceed the bound, everything that can be had again is dropped: the events and
/// the snapshots. From then on the outbox refuses both until [`Outbox::resume`], so that a subscriber that is too
/// slow sees no gap: it is told its targets' fresh state once it has taken what was left.
#[derive(Debug)]
pub struct Outbox<S, F> {
    frames: VecDeque<Frame<S, F>>,
    /// The number of the frame in front; frames count up from there.
    front: u64,
    /// For each subscription the number of its snapshot that waits.
    snapshots: BTreeMap<S, u64>,
    /// Bytes of the events that wait.
    bytes: usize,
    limit: usize,
    behind: bool,
    /// How many of the frames are notices.
    notices: usize,
    /// How often it has overflowed.
    overflows: u64,
}

#[derive(Debug)]
enum Frame<S, F> {
    Event {
        bytes: usize,
        frame: F,
    },
    Snapshot {
        subscription: S,
        frame: F,
    },
    /// An answer to something the subscriber did; never dropped.
    Notice(F),
    /// A snapshot that a newer one of the same subscription has replaced.
    Replaced,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It waits to be sent.
    Queued,
    /// It and what waited were dropped: tell the core that the session's outbox overflowed.
    Overflowed,
    /// It was dropped: the outbox has overflowed before and was not resumed yet.
    Dropped,
}

impl<S: Ord + Clone, F> Outbox<S, F> {
    /// An outbox for events of at most `limit` bytes together. One event alone always fits.
    pub fn new(limit: usize) -> Outbox<S, F> {
        Outbox {
            frames: VecDeque::new(),
            front: 0,
            snapshots: BTreeMap::new(),
            bytes: 0,
            limit,
            behind: false,
            notices: 0,
            overflows: 0,
        }
    }

    /// Whether an event of `bytes` bytes finds room.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= self.limit
    }

    /// Queues an event of `bytes` bytes.
    pub fn push_event(&mut self, bytes: usize, frame: F) -> Pushed {
        if self.behind {
            return Pushed::Dropped;
        }
        if !self.has_room(bytes) {
            self.behind = true;
            self.overflows += 1;
            self.bytes = 0;
            self.snapshots.clear();
            self.frames.retain(|frame| matches!(frame, Frame::Notice(_)));
            return Pushed::Overflowed;
        }
        self.bytes += bytes;
        self.frames.push_back(Frame::Event { bytes, frame });
        Pushed::Queued
    }

    /// Queues the state of a subscription's target. It is outside of the bound: at most one waits a subscription.
    pub fn push_snapshot(&mut self, subscription: S, frame: F) -> Pushed {
        if self.behind {
            return Pushed::Dropped;
        }
        let number = self.front + self.frames.len() as u64;
        if let Some(older) = self.snapshots.insert(subscription.clone(), number) {
            let at = usize::try_from(older - self.front).expect("a frame that waits is within the queue");
            self.frames[at] = Frame::Replaced;
        }
        self.frames.push_back(Frame::Snapshot { subscription, frame });
        Pushed::Queued
    }

    /// Queues an answer to something the subscriber did.
    pub fn push_notice(&mut self, frame: F) {
        self.notices += 1;
        self.frames.push_back(Frame::Notice(frame));
    }

    /// The next frame to send, which stays.
    pub fn front(&self) -> Option<&F> {
        self.frames.iter().find_map(|frame| match frame {
            Frame::Event { frame, .. } | Frame::Snapshot { frame, .. } | Frame::Notice(frame) => Some(frame),
            Frame::Replaced => None,
        })
    }

    /// The next frame to send.
    pub fn pop(&mut self) -> Option<F> {
        loop {
            let frame = self.frames.pop_front()?;
            self.front += 1;
            match frame {
                Frame::Event { bytes, frame } => {
                    self.bytes -= bytes;
                    return Some(frame);
                }
                Frame::Snapshot { subscription, frame } => {
                    self.snapshots.remove(&subscription);
                    return Some(frame);
                }
                Frame::Notice(frame) => {
                    self.notices -= 1;
                    return Some(frame);
                }
                Frame::Replaced => {}
            }
        }
    }

    /// Whether it has overflowed and was not resumed.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// How often it has overflowed. Each time is to be told to the core, also when it is resumed before.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// How many notices wait. They are not bounded here: who reads from a subscriber stops while there are many.
    pub fn notices(&self) -> usize {
        self.notices
    }

    /// Takes events and snapshots again.
    pub fn resume(&mut self) {
        self.behind = false;
    }

    /// How many snapshots wait.
    pub fn snapshots(&self) -> usize {
        self.snapshots.len()
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox<char, &'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let mut outbox = Outbox::new(10);
        outbox.push_notice("error");
        assert_eq!(outbox.push_snapshot('a', "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(4, "one"), Pushed::Queued);
        assert_eq!(outbox.push_event(6, "two"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["error", "sync", "one", "two"]);
    }

    #[test]
    fn an_overflow_drops_what_can_be_had_again_and_keeps_the_rest() {
        let mut outbox = Outbox::new(10);
        assert_eq!(outbox.push_snapshot('a', "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(10, "one"), Pushed::Queued);
        outbox.push_notice("error");
        assert_eq!(outbox.push_event(1, "two"), Pushed::Overflowed);
        assert!(outbox.is_behind());
        assert_eq!(outbox.push_event(1, "three"), Pushed::Dropped);
        assert_eq!(outbox.push_snapshot('a', "sync"), Pushed::Dropped);
        assert_eq!(drain(&mut outbox), ["error"]);
        outbox.resume();
        assert_eq!(outbox.push_snapshot('a', "fresh sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(10, "four"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["fresh sync", "four"]);
    }

    #[test]
    fn one_event_alone_always_fits() {
        let mut outbox: Outbox<char, _> = Outbox::new(10);
        assert_eq!(outbox.push_event(1_000, "large"), Pushed::Queued);
        assert_eq!(outbox.pop(), Some("large"));
        assert_eq!(outbox.push_event(10, "small"), Pushed::Queued);
    }

    #[test]
    fn at_most_one_snapshot_of_a_subscription_waits() {
        let mut outbox = Outbox::new(10);
        assert_eq!(outbox.push_snapshot('a', "a1"), Pushed::Queued);
        assert_eq!(outbox.push_event(1, "one"), Pushed::Queued);
        assert_eq!(outbox.push_snapshot('b', "b1"), Pushed::Queued);
        assert_eq!(outbox.push_snapshot('a', "a2"), Pushed::Queued);
        assert_eq!(outbox.pop(), Some("one"));
        assert_eq!(outbox.push_snapshot('b', "b2"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["a2", "b2"]);
        assert!(outbox.is_empty());
    }
}
