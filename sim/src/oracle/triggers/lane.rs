//! What one function was called for, of one group.

use std::collections::{BTreeMap, BTreeSet};

use super::Frame;
use crate::oracle::workers::{Binding, Call, Workers};
use crate::oracle::{Law, Violation};
use crate::trace::Who;

/// The events that one function was called for, of one group.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// In which process of the server it was called last.
    process: u64,
    /// The highest stamp of the processes before.
    floor: u64,
    /// What each binding got last, if that is known.
    last: BTreeMap<u64, Last>,
    running: Vec<Running>,
    /// The next call can't have been made before.
    free_at: u64,
    /// By stamp, how often it was called for each event, and how often it may have been.
    given: BTreeMap<u64, (usize, usize)>,
    /// The revisions of the changes among them.
    changes: BTreeSet<u64>,
}

/// What a binding got last.
#[derive(Clone, Debug)]
pub(super) struct Last {
    /// Where the trace has it.
    pub(super) index: usize,
    pub(super) revision: Option<u64>,
    stamp: u64,
    who: Who,
}

#[derive(Debug)]
struct Running {
    call: String,
    binding: u64,
    who: Who,
    /// The call was not made before.
    since: u64,
}

impl Lane {
    /// It is called for the first time in a process of the server, or once more.
    pub(super) fn enter(&mut self, workers: &Workers) {
        if self.process != workers.process && workers.is_exact() {
            self.floor = self.given.last_key_value().map_or(self.floor, |(stamp, _)| *stamp);
            self.running.clear();
            self.last.clear();
            self.process = workers.process;
        }
    }

    pub(super) fn has(&self, stamp: u64) -> bool {
        self.given.contains_key(&stamp)
    }

    pub(super) fn has_change(&self, revision: u64) -> bool {
        self.changes.contains(&revision)
    }

    pub(super) fn last_of(&self, binding: u64) -> Option<&Last> {
        self.last.get(&binding)
    }

    /// An event is given at most `most` times, and never after a crash.
    pub(super) fn at_most(&mut self, most: usize, frame: &Frame<'_>) -> Result<(), Violation> {
        let (times, may) = self.given.entry(frame.stamp).or_default();
        *may = most.max(*may);
        let how = || format!("a function is called again for an event that it got {times} times");
        Law::HandledInOrder.require(times < may, how)?;
        *times += 1;
        let floor = self.floor;
        let how = || format!("a function got what is stamped {floor} before the server died, and now this");
        Law::HandledInOrder.require(frame.stamp > floor, how)
    }

    /// What reaches a client on one connection is in order. Where the server tells, that is so on all of them.
    pub(super) fn in_order(
        &self,
        exact: bool,
        binding: u64,
        who: &Who,
        frame: &Frame<'_>,
    ) -> Result<(), Violation> {
        let last = self.last.get(&binding).filter(|last| exact || last.who == *who);
        let stamp = last.map_or(0, |last| last.stamp);
        Law::HandledInOrder
            .require(frame.stamp > stamp, || format!("a function got what is stamped {stamp} before this"))
    }

    /// Nothing is called for the next event of a group while this is.
    pub(super) fn is_free(
        &mut self,
        workers: &Workers,
        who: &Who,
        number: u64,
        call_ms: u64,
    ) -> Result<(), Violation> {
        let exact = workers.is_exact();
        self.running.retain(|running| workers.call(&running.call).is_some());
        let runs = |running: &&Running| workers.now < running.since.saturating_add(call_ms);
        let mine = |running: &&Running| running.binding == number && (exact || running.who == *who);
        let running = self.running.iter().filter(runs).find(mine);
        Law::HandledInOrder.require(running.is_none(), || {
            let id = running.map_or("", |running| &running.call);
            format!("the call {id} of the same group has neither been answered nor failed")
        })
    }

    pub(super) fn runs(&mut self, workers: &Workers, number: u64, call: &Call, binding: &Binding) {
        // A client gets a call some time after it was made.
        let since = if workers.is_exact() { workers.now } else { self.free_at.max(binding.at) };
        self.running.push(Running { call: call.id.clone(), binding: number, who: call.who.clone(), since });
    }

    /// A call was answered. Returns the binding that it was for, if that is known.
    pub(super) fn answered(&mut self, now: u64, id: &str) -> Option<u64> {
        self.free_at = now;
        self.running.iter().find(|running| running.call == id).map(|running| running.binding)
    }

    /// The function has it, for one of these bindings.
    pub(super) fn got(&mut self, index: usize, users: &[u64], call: &Call, frame: &Frame<'_>) {
        if frame.is_change() {
            self.changes.extend(frame.revision);
        }
        if let [binding] = users {
            let (stamp, revision, who) = (frame.stamp, frame.revision, call.who.clone());
            self.last.insert(*binding, Last { index, revision, stamp, who });
        } else {
            self.last.retain(|binding, _| !users.contains(binding));
        }
    }
}
