//! Any story at all, through all crashes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::{File, World, join, remembered, replay};
use crate::key::JoinKey;
use crate::log::SegmentHeader;

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave(Index),
    Set,
    Written,
    /// The write under way fails when so much of it is done.
    Fail(Index),
    /// A second passes.
    Wait,
    /// The process dies; the disk will get what it was given, of the write under way a part.
    Kill(Index),
    /// The machine dies; what was not synced is lost, but for these pieces.
    PowerLoss(Vec<bool>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Join),
        5 => any::<Index>().prop_map(Step::Leave),
        3 => Just(Step::Set),
        12 => Just(Step::Written),
        2 => any::<Index>().prop_map(Step::Fail),
        2 => Just(Step::Wait),
        1 => any::<Index>().prop_map(Step::Kill),
        2 => prop::collection::vec(prop::bool::weighted(0.7), 1..40).prop_map(Step::PowerLoss),
    ]
}

/// Everything that happened, through all crashes.
struct History {
    world: World,
    segment_bytes: usize,
    /// Whose joins the process knows of and has not left.
    open: BTreeMap<JoinKey, usize>,
    /// Which were left, whatever came of that; by key those of this process.
    leaving: BTreeMap<JoinKey, usize>,
    left: BTreeSet<usize>,
    told: BTreeSet<usize>,
    /// How many joins there were.
    joins: usize,
    /// Those that gather, those in what is being written, and those in what was written without a sync.
    gathering: BTreeSet<usize>,
    writing: BTreeSet<usize>,
    written: BTreeSet<usize>,
    safe: BTreeSet<usize>,
    /// What a crash took.
    lost: BTreeSet<usize>,
    sets: usize,
    acknowledged: BTreeSet<String>,
    /// The items of which it is known that they were not written.
    denied: BTreeSet<String>,
}

impl History {
    fn new(segment_bytes: usize) -> History {
        History {
            world: World::of_segments(segment_bytes),
            segment_bytes,
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            left: BTreeSet::new(),
            told: BTreeSet::new(),
            joins: 0,
            gathering: BTreeSet::new(),
            writing: BTreeSet::new(),
            written: BTreeSet::new(),
            safe: BTreeSet::new(),
            lost: BTreeSet::new(),
            sets: 0,
            acknowledged: BTreeSet::new(),
            denied: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        let idle = self.world.in_flight.is_none();
        match step {
            Step::Join => match self.world.join(self.joins) {
                Some(key) => {
                    assert_eq!(self.open.insert(key, self.joins), None, "a key is used twice");
                    self.gathering.insert(self.joins);
                    self.joins += 1;
                }
                None => assert!(self.world.store.commits.refusal().is_some()),
            },
            Step::Leave(_) if self.open.is_empty() => {}
            Step::Leave(which) => {
                let (key, n) = self.open.iter().nth(which.index(self.open.len())).expect("within");
                let (key, n) = (*key, *n);
                self.open.remove(&key);
                self.left.insert(n);
                assert_eq!(self.leaving.insert(key, n), None, "a key is used twice");
                self.world.leave(key);
            }
            Step::Set => {
                self.sets += 1;
                self.world.set(&format!("i{}", self.sets));
            }
            Step::Written if idle => {}
            Step::Written => {
                let synced = self.world.in_flight.as_ref().is_some_and(|write| write.sync);
                self.world.written();
                self.written.append(&mut self.writing);
                if synced {
                    self.safe.append(&mut self.written);
                }
            }
            Step::Fail(_) if idle => {}
            Step::Fail(keep) => {
                // They are written again.
                self.gathering.append(&mut self.writing);
                self.world.fail_after(keep.index(self.world.parts() + 1));
            }
            Step::Wait => self.world.wait(),
            Step::Kill(keep) => {
                return self.start(self.world.with_part(keep.index(self.world.parts() + 1)));
            }
            Step::PowerLoss(keeps) => {
                return self.start(self.world.left_by_power_loss(|n| keeps[n % keeps.len()]));
            }
        }
        let is_new = idle || matches!(step, Step::Written | Step::Fail(_));
        if self.world.in_flight.is_some() && is_new && !self.world.is_fence() {
            self.writing = std::mem::take(&mut self.gathering);
        }
        self.see();
    }

    /// What came out is allowed to.
    fn see(&mut self) {
        for told in self.world.told() {
            let Some(key) = told.strip_prefix("left ") else {
                match told.strip_suffix(['!', '?']) {
                    None => assert!(self.acknowledged.insert(told)),
                    Some(id) if told.ends_with('!') => assert!(self.denied.insert(id.to_owned())),
                    Some(_) => {}
                }
                continue;
            };
            let key = JoinKey(key.parse().expect("a key"));
            let n = self.leaving.remove(&key).expect("a leave of a join that was left");
            assert!(self.safe.contains(&n), "its leave is safe, so is it");
            assert!(self.told.insert(n), "the leave of join {n} is told twice");
        }
    }

    fn start(&mut self, files: Vec<File>) {
        let recovered = replay(&files).unwrap_or_else(|damage| panic!("{damage}"));
        if let Some(last) = files.last() {
            let from = recovered.last_batch.map(|part| {
                assert_eq!(part.segment, last.header.number);
                part.from
            });
            let end = last.header.offset_of(recovered.end.max(last.header.start));
            let safe = (SegmentHeader::LEN + last.synced) as u64;
            assert!(from.unwrap_or(end) <= safe.min(end), "a start leaves something unsynced");
        }
        self.world = World::on(files);
        self.world.config.storage.segment_bytes = self.segment_bytes;
        let items = self.world.items();
        assert!(items.is_superset(&self.acknowledged), "acknowledged items are lost");
        assert!(items.is_disjoint(&self.denied), "items are there of which it was told that they are not");

        self.open.clear();
        self.leaving.clear();
        for (key, joined) in self.world.store.remembered_joins() {
            let n = (0..self.joins).find(|n| join(*n) == joined).expect("somebody joined like this");
            assert!(!self.told.contains(&n), "join {n} is remembered, and its leave was told");
            assert!(!self.lost.contains(&n), "join {n} comes back");
            assert!(self.open.last_entry().is_none_or(|last| *last.get() < n), "out of order");
            self.open.insert(key, n);
        }
        let last = self.open.last_entry().map(|last| *last.get());
        for n in 0..self.joins {
            if self.open.values().all(|open| *open != n) && !self.left.contains(&n) && !self.lost.contains(&n)
            {
                assert!(!self.safe.contains(&n) && Some(n) > last, "join {n} is forgotten");
                self.lost.insert(n);
            }
        }
        // The log was written and synced again.
        self.safe = (0..self.joins).collect();
        for of_process in [&mut self.gathering, &mut self.writing, &mut self.written] {
            of_process.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_000 } else { 4_000 }))]

    #[test]
    fn whatever_happens_a_safe_join_is_remembered_until_its_leave_is_told_at_most_once(
        segment_bytes in prop::sample::select(vec![1, 300, 1_000, 1 << 20]),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut history = History::new(segment_bytes);
        for step in &steps {
            history.take(step);
        }
        // Everything comes right in the end.
        history.take(&Step::Wait);
        while history.world.in_flight.is_some() {
            history.take(&Step::Written);
        }
        assert!(history.world.store.is_idle() && history.world.store.commits.refusal().is_none());
        assert!(history.leaving.is_empty(), "not told: {:?}", history.leaving);
        let remembered = remembered(&history.world.files).into_iter().map(|(key, _)| key);
        assert!(remembered.eq(history.open.keys().copied()), "the log knows of those that are open, and no others");
    }
}
