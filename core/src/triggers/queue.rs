//! The events that wait for one handler of a `stream` trigger.
//!
//! Of each group one event is handled at a time, in order; those of different groups at once. What waits is bounded:
//! when more comes, the oldest that wait are dropped and counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::binding::Stage;
use crate::config::Limits;
use crate::name::GroupPath;
use crate::store::Event;

/// The events of one group, in order.
#[derive(Debug)]
struct Lane {
    running: Running,
    /// The numbers of those that wait.
    waiting: VecDeque<u64>,
}

/// An event that is being handled.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) event: Arc<Event>,
    pub(super) stage: Stage,
    /// How many events were dropped before it.
    pub(super) skipped: u64,
}

/// All events of one handler.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<GroupPath, Lane>,
    /// By number, as they came.
    waiting: BTreeMap<u64, Arc<Event>>,
    next: u64,
    /// Of the events that wait or are being handled.
    bytes: usize,
    /// Dropped, and the handler was not told yet.
    skipped: u64,
    /// Dropped since nothing waited.
    burst: u64,
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    /// It is the next of its group: the handler is to be called.
    pub(super) start: bool,
    /// How many events were dropped: older ones, or it.
    pub(super) dropped: u64,
    /// Events were dropped, the first ones since nothing waited.
    pub(super) dropping: bool,
}

impl Queue {
    /// Takes an event; `first` is where a handler begins with it.
    pub(super) fn push(&mut self, event: Arc<Event>, first: Stage, limits: &Limits) -> Pushed {
        let quiet = self.burst == 0;
        let (bytes, before) = (size(&event), self.burst);
        // One alone always fits; one that does not fit beside any other drops none for nothing.
        while bytes <= limits.trigger_bytes && self.is_full(bytes, limits) && self.drop_oldest() {}
        let fits = self.lanes.is_empty() || !self.is_full(bytes, limits);
        let mut start = false;
        if !fits {
            self.count_dropped();
        } else if let Some(lane) = self.lanes.get_mut(&event.group) {
            self.next += 1;
            lane.waiting.push_back(self.next);
            self.waiting.insert(self.next, event);
            self.bytes += bytes;
        } else {
            let group = event.group.clone();
            let running = Running { event, stage: first, skipped: std::mem::take(&mut self.skipped) };
            self.lanes.insert(group, Lane { running, waiting: VecDeque::new() });
            self.bytes += bytes;
            start = true;
        }
        Pushed { start, dropped: self.burst - before, dropping: quiet && self.burst > 0 }
    }

    /// Whether there is no room for an event of `bytes` bytes.
    fn is_full(&self, bytes: usize, limits: &Limits) -> bool {
        self.len() >= limits.trigger_events || self.bytes + bytes > limits.trigger_bytes
    }

    fn count_dropped(&mut self) {
        self.skipped += 1;
        self.burst += 1;
    }

    /// Drops the oldest event that waits, if one does. It is the first of its lane: lanes are in order, too.
    fn drop_oldest(&mut self) -> bool {
        let Some((number, event)) = self.waiting.pop_first() else { return false };
        if let Some(lane) = self.lanes.get_mut(&event.group) {
            debug_assert_eq!(lane.waiting.front(), Some(&number));
            lane.waiting.pop_front();
        }
        self.bytes -= size(&event);
        self.count_dropped();
        true
    }

    /// The event of a group that is being handled.
    pub(super) fn running(&mut self, group: &GroupPath) -> Option<&mut Running> {
        self.lanes.get_mut(group).map(|lane| &mut lane.running)
    }

    /// The event of a group was handled: goes on to the next. `false` if none waits.
    pub(super) fn next(&mut self, group: &GroupPath, first: Stage) -> bool {
        let Some(lane) = self.lanes.get_mut(group) else { return false };
        self.bytes -= size(&lane.running.event);
        let next = lane.waiting.pop_front().and_then(|number| self.waiting.remove(&number));
        match next {
            Some(event) => {
                let skipped = std::mem::take(&mut self.skipped);
                lane.running = Running { event, stage: first, skipped };
                true
            }
            None => {
                self.lanes.remove(group);
                false
            }
        }
    }

    /// So many dropped events were to be told with an event that the handler did not get.
    pub(super) fn tell_again(&mut self, skipped: u64) {
        self.skipped += skipped;
    }

    /// How many events were dropped since nothing waited, once nothing waits again.
    pub(super) fn end_of_burst(&mut self) -> Option<u64> {
        (self.burst > 0 && self.waiting.is_empty()).then(|| std::mem::take(&mut self.burst))
    }

    /// How many events are lost with the queue, those dropped since nothing waited included, and so many of those whose
    /// turn it was.
    pub(super) fn lost(&self, running: usize) -> Option<u64> {
        let lost = self.burst + (self.waiting.len() + running) as u64;
        (lost > 0).then_some(lost)
    }

    /// How many events it is the turn of.
    pub(super) fn running_count(&self) -> usize {
        self.lanes.len()
    }

    /// How many events wait or are being handled.
    fn len(&self) -> usize {
        self.lanes.len() + self.waiting.len()
    }
}

/// About how many bytes of memory an event holds on to while it waits here: its value may be gone from the store.
fn size(event: &Event) -> usize {
    event.value_len() + 256
}
