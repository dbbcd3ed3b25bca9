//! Any story at all, through all crashes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::{World, group, join, replay};
use crate::key::JoinKey;
use crate::name::Target;
use crate::store::State;

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave(Index),
    Set,
    Written,
    Fail,
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
        1 => Just(Step::Fail),
        1 => any::<Index>().prop_map(Step::Kill),
        2 => prop::collection::vec(prop::bool::weighted(0.7), 1..40).prop_map(Step::PowerLoss),
    ]
}

/// Everything that happened, through all crashes.
struct History {
    world: World,
    /// Whose joins the process knows of and has not left.
    open: BTreeMap<JoinKey, usize>,
    /// Which were left, whatever came of that; by key those of this process.
    leaving: BTreeMap<JoinKey, usize>,
    left: BTreeSet<usize>,
    told: BTreeSet<usize>,
    /// How many joins there were; how many of the first ones are in what is being written, or safe.
    joins: usize,
    writing: usize,
    safe: usize,
    lost: BTreeSet<usize>,
    sets: usize,
    acknowledged: BTreeSet<String>,
}

impl History {
    fn new() -> History {
        History {
            world: World::new(),
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            left: BTreeSet::new(),
            told: BTreeSet::new(),
            joins: 0,
            writing: 0,
            safe: 0,
            lost: BTreeSet::new(),
            sets: 0,
            acknowledged: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        let idle = self.world.in_flight.is_none();
        match step {
            Step::Join => match self.world.join(self.joins) {
                Some(key) => {
                    assert_eq!(self.open.insert(key, self.joins), None, "a key is used twice");
                    self.joins += 1;
                }
                None => assert!(self.world.store.commits.failure().is_some()),
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
                let synced = self.world.in_flight.as_ref().is_some_and(|batch| batch.sync);
                let writing = self.writing;
                self.world.written();
                if synced {
                    self.safe = writing;
                }
            }
            Step::Fail if idle => {}
            Step::Fail => self.world.fail(),
            Step::Kill(keep) => {
                let given = self.world.given();
                let unwritten = given.len() - self.world.log.len();
                let keep = self.world.log.len() + keep.index(unwritten + 1);
                return self.start(given[..keep].to_vec());
            }
            Step::PowerLoss(keeps) => {
                let left = self.world.left_by_power_loss(|n| keeps[n % keeps.len()]);
                return self.start(left);
            }
        }
        if self.world.in_flight.is_some() && (idle || matches!(step, Step::Written)) {
            self.writing = self.joins;
        }
        self.see();
    }

    /// What came out is allowed to.
    fn see(&mut self) {
        for told in self.world.told() {
            let Some(key) = told.strip_prefix("left ") else {
                if !told.ends_with('!') {
                    self.acknowledged.insert(told);
                }
                continue;
            };
            let key = JoinKey(key.parse().expect("a key"));
            let n = self.leaving.remove(&key).expect("a leave of a join that was left");
            assert!(n < self.safe, "its leave is safe, so is it");
            assert!(self.told.insert(n), "the leave of join {n} is told twice");
        }
    }

    fn start(&mut self, log: Vec<u8>) {
        let recovered = replay(&log).unwrap_or_else(|damage| panic!("{damage}"));
        assert!(recovered.last_batch <= self.world.synced as u64, "a start leaves something unsynced");
        self.world = World::on(log);
        let State::Group(items) = self.world.store.durable(&Target { group: group(), item: None }).state
        else {
            panic!("it is a group's")
        };
        let items: BTreeSet<_> = items.iter().map(|item| item.id.as_str().to_owned()).collect();
        assert!(items.is_superset(&self.acknowledged), "acknowledged items are lost");

        self.open.clear();
        self.leaving.clear();
        for (key, joined) in self.world.store.take_remembered_joins() {
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
                assert!(n >= self.safe && Some(n) > last, "join {n} is forgotten");
                self.lost.insert(n);
            }
        }
        // The log was written and synced again.
        (self.writing, self.safe) = (self.joins, self.joins);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_000 } else { 4_000 }))]

    #[test]
    fn whatever_happens_a_safe_join_is_remembered_until_its_leave_is_told_at_most_once(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut history = History::new();
        for step in &steps {
            history.take(step);
        }
        while history.world.in_flight.is_some() {
            history.take(&Step::Written);
        }
        assert!(history.world.store.is_idle());
    }
}
