//! What waits to be sent to one subscriber: what is kept, what is dropped, and what is asked for then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::name::Target;

/// Frames on their way to one subscriber, with a bound on the events among them.
///
/// When the events that wait would exceed the bound, everything that can be had again is dropped: the events and
/// the snapshots. From then on the outbox refuses both until [`Outbox::resume`], so that a subscriber that is too
/// slow sees no gap: it is told its targets' fresh state once it has taken what was left. Sent events can't be had
/// again, so those that are dropped are counted, see [`Outbox::take_skipped`].
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
    /// How many sent events were dropped, and the subscriber was not told so yet, by the target that it followed.
    skipped: BTreeMap<Target, u64>,
}

#[derive(Debug)]
enum Frame<S, F> {
    Event {
        bytes: usize,
        /// The target through which the subscriber gets it, if it is counted when it is dropped.
        sent: Option<Arc<Target>>,
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
            skipped: BTreeMap::new(),
        }
    }

    /// Whether an event of `bytes` bytes finds room.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= self.limit
    }

    /// Queues an event of `bytes` bytes. Of a sent one, `sent` is the target of the channel through which it came.
    pub fn push_event(&mut self, bytes: usize, sent: Option<Arc<Target>>, frame: F) -> Pushed {
        let overflows = !self.behind && !self.has_room(bytes);
        if overflows {
            self.behind = true;
            self.overflows += 1;
            self.bytes = 0;
            self.snapshots.clear();
            let skipped = &mut self.skipped;
            self.frames.retain(|frame| {
                if let Frame::Event { sent: Some(target), .. } = frame {
                    skip(skipped, target);
                }
                matches!(frame, Frame::Notice(_))
            });
        }
        if self.behind {
            if let Some(target) = sent {
                skip(&mut self.skipped, &target);
            }
            return if overflows { Pushed::Overflowed } else { Pushed::Dropped };
        }
        self.bytes += bytes;
        self.frames.push_back(Frame::Event { bytes, sent, frame });
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
                Frame::Event { bytes, frame, .. } => {
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

    /// Takes events and snapshots again. `missed` names what the subscriber follows, and says how many sent events
    /// have not even come here. What was dropped of other targets is forgotten: no state of those will be told.
    pub fn resume(&mut self, missed: BTreeMap<Target, u64>) {
        self.behind = false;
        let dropped = std::mem::replace(&mut self.skipped, missed);
        for (target, skipped) in &mut self.skipped {
            *skipped += dropped.get(target).copied().unwrap_or(0);
        }
        self.skipped.retain(|_, skipped| *skipped > 0);
    }

    /// How many sent events the subscriber has missed of what it follows as `target`, since this was last taken. For
    /// the snapshot of it that was just popped: that is to tell.
    pub fn take_skipped(&mut self, target: &Target) -> u64 {
        self.skipped.remove(target).unwrap_or(0)
    }

    /// Whether a snapshot of this target has to tell what was missed.
    pub fn has_skipped(&self, target: &Target) -> bool {
        self.skipped.contains_key(target)
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

fn skip(skipped: &mut BTreeMap<Target, u64>, target: &Target) {
    match skipped.get_mut(target) {
        Some(count) => *count += 1,
        None => drop(skipped.insert(target.clone(), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::name::{GroupName, GroupPath, StreamName};

    fn drain(outbox: &mut Outbox<char, &'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let mut outbox = Outbox::new(10);
        outbox.push_notice("error");
        assert_eq!(outbox.push_snapshot('a', "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(4, None, "one"), Pushed::Queued);
        assert_eq!(outbox.push_event(6, None, "two"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["error", "sync", "one", "two"]);
    }

    #[test]
    fn an_overflow_drops_what_can_be_had_again_and_keeps_the_rest() {
        let mut outbox = Outbox::new(10);
        assert_eq!(outbox.push_snapshot('a', "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(10, None, "one"), Pushed::Queued);
        outbox.push_notice("error");
        assert_eq!(outbox.push_event(1, None, "two"), Pushed::Overflowed);
        assert!(outbox.is_behind());
        assert_eq!(outbox.push_event(1, None, "three"), Pushed::Dropped);
        assert_eq!(outbox.push_snapshot('a', "sync"), Pushed::Dropped);
        assert_eq!(drain(&mut outbox), ["error"]);
        outbox.resume(BTreeMap::new());
        assert_eq!(outbox.push_snapshot('a', "fresh sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(10, None, "four"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["fresh sync", "four"]);
    }

    #[test]
    fn sent_events_that_are_dropped_are_counted_until_that_is_told() {
        let limits = Limits::default();
        let target = |group| {
            let stream = StreamName::new("s", &limits).unwrap();
            let group = GroupName::new(group, &limits).unwrap();
            Arc::new(Target { group: GroupPath { stream, group }, item: None })
        };
        let (g, h, left) = (target("g"), target("h"), target("left"));
        let mut outbox: Outbox<char, _> = Outbox::new(10);
        assert_eq!(outbox.push_event(2, Some(Arc::clone(&g)), "gone before"), Pushed::Queued);
        assert_eq!(outbox.pop(), Some("gone before"));
        assert_eq!(outbox.push_event(4, Some(Arc::clone(&g)), "waits"), Pushed::Queued);
        assert_eq!(outbox.push_event(4, None, "a change"), Pushed::Queued);
        assert_eq!(outbox.push_event(4, Some(Arc::clone(&g)), "one too many"), Pushed::Overflowed);
        assert_eq!(outbox.push_event(4, Some(Arc::clone(&h)), "too late"), Pushed::Dropped);
        assert_eq!(outbox.push_event(4, Some(Arc::clone(&left)), "of no interest soon"), Pushed::Dropped);
        outbox.resume(BTreeMap::from([((*g).clone(), 5), ((*h).clone(), 0)]));
        // The state that tells it is dropped in its turn.
        assert_eq!(outbox.push_snapshot('a', "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(11, Some(Arc::clone(&g)), "large"), Pushed::Queued);
        assert_eq!(outbox.push_event(1, None, "a change"), Pushed::Overflowed);
        outbox.resume(BTreeMap::from([((*g).clone(), 0), ((*h).clone(), 0)]));
        assert_eq!([&g, &h, &left].map(|target| outbox.has_skipped(target)), [true, true, false]);
        assert_eq!([&g, &h, &left].map(|target| outbox.take_skipped(target)), [8, 1, 0]);
        assert_eq!(outbox.take_skipped(&g), 0);
    }

    #[test]
    fn one_event_alone_always_fits() {
        let mut outbox: Outbox<char, _> = Outbox::new(10);
        assert_eq!(outbox.push_event(1_000, None, "large"), Pushed::Queued);
        assert_eq!(outbox.pop(), Some("large"));
        assert_eq!(outbox.push_event(10, None, "small"), Pushed::Queued);
    }

    #[test]
    fn at_most_one_snapshot_of_a_subscription_waits() {
        let mut outbox = Outbox::new(10);
        assert_eq!(outbox.push_snapshot('a', "a1"), Pushed::Queued);
        assert_eq!(outbox.push_event(1, None, "one"), Pushed::Queued);
        assert_eq!(outbox.push_snapshot('b', "b1"), Pushed::Queued);
        assert_eq!(outbox.push_snapshot('a', "a2"), Pushed::Queued);
        assert_eq!(outbox.pop(), Some("one"));
        assert_eq!(outbox.push_snapshot('b', "b2"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["a2", "b2"]);
        assert!(outbox.is_empty());
    }
}
