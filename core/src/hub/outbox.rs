//! What waits to be sent to one subscriber: what is kept, what is dropped, and what is asked for then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// How many sent events the subscriber has missed and was not told of yet: of items, of groups.
    skipped: BTreeMap<Target, u64>,
    /// How many sent events were dropped here, in all.
    dropped: u64,
}

#[derive(Debug)]
enum Frame<S, F> {
    Event {
        bytes: usize,
        /// What it was sent to, if it was sent: then it is counted when it is dropped.
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
            dropped: 0,
        }
    }

    /// Whether an event of `bytes` bytes finds room.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= self.limit
    }

    /// Queues an event of `bytes` bytes; `sent` says what it was sent to, if it was.
    pub fn push_event(&mut self, bytes: usize, sent: Option<Arc<Target>>, frame: F) -> Pushed {
        let overflows = !self.behind && !self.has_room(bytes);
        if overflows {
            self.overflow();
        }
        if self.behind {
            self.skip(sent.as_deref(), 1);
            return if overflows { Pushed::Overflowed } else { Pushed::Dropped };
        }
        self.bytes += bytes;
        self.frames.push_back(Frame::Event { bytes, sent, frame });
        Pushed::Queued
    }

    fn overflow(&mut self) {
        self.behind = true;
        self.overflows += 1;
        self.bytes = 0;
        self.snapshots.clear();
        // Of many that wait, most are often of one place.
        let mut last: Option<(Arc<Target>, u64)> = None;
        for frame in std::mem::take(&mut self.frames) {
            match frame {
                Frame::Event { sent: Some(target), .. } => match &mut last {
                    Some((of, count)) if *of == target => *count += 1,
                    _ => {
                        if let Some((of, count)) = last.replace((target, 1)) {
                            self.skip(Some(&of), count);
                        }
                    }
                },
                Frame::Notice(_) => self.frames.push_back(frame),
                Frame::Event { .. } | Frame::Snapshot { .. } | Frame::Replaced => {}
            }
        }
        if let Some((of, count)) = last {
            self.skip(Some(&of), count);
        }
    }

    fn skip(&mut self, sent: Option<&Target>, count: u64) {
        let Some(target) = sent else { return };
        self.dropped += count;
        match self.skipped.get_mut(target) {
            Some(skipped) => *skipped += count,
            None => drop(self.skipped.insert(target.clone(), count)),
        }
    }

    /// Queues the state of a subscription's target, of which so many sent events have not even come here. It is outside
    /// of the bound: at most one waits a subscription.
    pub fn push_snapshot(&mut self, subscription: S, missed: Option<(&Target, u64)>, frame: F) -> Pushed {
        if let Some((target, missed @ 1..)) = missed {
            *self.skipped.entry(target.clone()).or_default() += missed;
        }
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

    /// Takes events and snapshots again. What was missed of an item counts for its group if only that is followed; of what
    /// the subscriber does not follow any more, it is not to be told.
    pub fn resume(&mut self, follows: &BTreeSet<Target>) {
        self.behind = false;
        for (mut target, skipped) in std::mem::take(&mut self.skipped) {
            if !follows.contains(&target) {
                target.item = None;
            }
            if follows.contains(&target) {
                *self.skipped.entry(target).or_default() += skipped;
            }
        }
    }

    /// How many sent events the subscriber has missed of this target, since this was last taken. For the state of it
    /// that was just popped: that is to tell. What was missed of items, the state of the whole group tells, unless one
    /// of them has before.
    pub fn take_skipped(&mut self, target: &Target) -> u64 {
        match target.item {
            _ if self.skipped.is_empty() => 0,
            Some(_) => self.skipped.remove(target).unwrap_or(0),
            None => {
                let from_group = self.skipped.range(target..);
                let of_group = from_group.take_while(|(of, _)| of.group == target.group);
                let of_group: Vec<Target> = of_group.map(|(of, _)| of.clone()).collect();
                of_group.iter().filter_map(|of| self.skipped.remove(of)).sum()
            }
        }
    }

    /// How many sent events were dropped here, in all.
    pub fn dropped(&self) -> u64 {
        self.dropped
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
    use crate::name::{GroupName, GroupPath, ItemId, StreamName};

    fn drain(outbox: &mut Outbox<char, &'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let mut outbox = Outbox::new(10);
        outbox.push_notice("error");
        assert_eq!(outbox.push_snapshot('a', None, "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(4, None, "one"), Pushed::Queued);
        assert_eq!(outbox.push_event(6, None, "two"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["error", "sync", "one", "two"]);
    }

    #[test]
    fn an_overflow_drops_what_can_be_had_again_and_keeps_the_rest() {
        let mut outbox = Outbox::new(10);
        assert_eq!(outbox.push_snapshot('a', None, "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(10, None, "one"), Pushed::Queued);
        outbox.push_notice("error");
        assert_eq!(outbox.push_event(1, None, "two"), Pushed::Overflowed);
        assert!(outbox.is_behind());
        assert_eq!(outbox.push_event(1, None, "three"), Pushed::Dropped);
        assert_eq!(outbox.push_snapshot('a', None, "sync"), Pushed::Dropped);
        assert_eq!(drain(&mut outbox), ["error"]);
        outbox.resume(&BTreeSet::new());
        assert_eq!(outbox.push_snapshot('a', None, "fresh sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(10, None, "four"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["fresh sync", "four"]);
    }

    fn target(group: &str, item: &str) -> Arc<Target> {
        let group = GroupPath { stream: StreamName::trusted("s"), group: GroupName::trusted(group) };
        Arc::new(Target { group, item: (!item.is_empty()).then(|| ItemId::trusted(item)) })
    }

    #[test]
    fn sent_events_that_are_dropped_are_counted_until_a_state_tells_it() {
        let [g, h, left] = ["g", "h", "left"].map(|group| target(group, ""));
        let sent = |to: &Arc<Target>| Some(Arc::clone(to));
        let mut outbox: Outbox<char, _> = Outbox::new(10);
        assert_eq!(outbox.push_event(2, sent(&g), "gone before"), Pushed::Queued);
        assert_eq!(outbox.pop(), Some("gone before"));
        assert_eq!(outbox.push_event(4, sent(&g), "waits"), Pushed::Queued);
        assert_eq!(outbox.push_event(4, None, "a change"), Pushed::Queued);
        assert_eq!(outbox.push_event(4, sent(&g), "one too many"), Pushed::Overflowed);
        assert_eq!(outbox.push_event(4, sent(&h), "too late"), Pushed::Dropped);
        assert_eq!(outbox.push_event(4, sent(&left), "of no interest soon"), Pushed::Dropped);
        outbox.resume(&[&g, &h].map(|to| (**to).clone()).into());
        // The state that would tell it is dropped in its turn.
        assert_eq!(outbox.push_snapshot('a', Some((&*g, 5)), "sync"), Pushed::Queued);
        assert_eq!(outbox.push_event(11, sent(&g), "large"), Pushed::Queued);
        assert_eq!(outbox.push_event(1, None, "a change"), Pushed::Overflowed);
        assert_eq!(outbox.push_snapshot('a', Some((&*g, 10)), "sync"), Pushed::Dropped);
        outbox.resume(&[&g, &h].map(|to| (**to).clone()).into());
        assert_eq!([&g, &h, &left].map(|to| outbox.take_skipped(to)), [18, 1, 0]);
        assert_eq!(outbox.take_skipped(&g), 0);
        assert_eq!(outbox.dropped(), 5);
    }

    #[test]
    fn what_was_missed_of_items_is_told_with_the_item_or_else_with_the_group() {
        let mut outbox: Outbox<char, _> = Outbox::new(1);
        let places = [("g", ""), ("g", "a"), ("g", "b"), ("h", "a"), ("h", "b")];
        for (group, item) in places.iter().cycle().take(10) {
            let _ = outbox.push_event(1, Some(target(group, item)), "");
        }
        outbox.resume(&[target("g", ""), target("g", "a"), target("h", "a")].map(|to| (*to).clone()).into());
        assert_eq!(outbox.take_skipped(&target("g", "a")), 2);
        assert_eq!(outbox.take_skipped(&target("g", "")), 4);
        assert_eq!(outbox.take_skipped(&target("h", "")), 2, "nobody follows the other item");
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
        assert_eq!(outbox.push_snapshot('a', None, "a1"), Pushed::Queued);
        assert_eq!(outbox.push_event(1, None, "one"), Pushed::Queued);
        assert_eq!(outbox.push_snapshot('b', None, "b1"), Pushed::Queued);
        assert_eq!(outbox.push_snapshot('a', None, "a2"), Pushed::Queued);
        assert_eq!(outbox.pop(), Some("one"));
        assert_eq!(outbox.push_snapshot('b', None, "b2"), Pushed::Queued);
        assert_eq!(drain(&mut outbox), ["a2", "b2"]);
        assert!(outbox.is_empty());
    }
}
