//! A core in memory with many groups of the same size, and what it takes of the allocator.

mod allocator;

use allocator::{Counted, taken};
use headwater_core::call::Answer;
use headwater_core::config::{CoreConfig, Limits};
use headwater_core::key::WorkerKey;
use headwater_core::store::Snapshot;
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::worker;
use headwater_core::{Core, Effect, Input};

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// The length of every value.
const VALUE_BYTES: usize = 64;

const WORKER: WorkerKey = WorkerKey(1);
const NOW: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

/// The core, and what was taken when it was empty.
pub(crate) struct Filled {
    core: Core,
    groups: usize,
    /// How many were put into each group.
    items: usize,
    before: usize,
}

impl Filled {
    /// All groups get their first item, then all their second, and so on, in an order of the items.
    pub(crate) fn new(groups: usize, items: usize, order: impl Fn(usize) -> usize) -> Filled {
        let mut core = Core::new(CoreConfig::default(), [7; 32], NOW);
        core.handle(NOW, Input::WorkerConnected { worker: WORKER }, &mut Vec::new());
        let mut filled = Filled { core, groups, items, before: taken() };
        filled.set_all(order, 0);
        filled
    }

    /// The ids in an order that is not theirs.
    pub(crate) fn mixed(groups: usize, items: usize) -> Filled {
        const STEP: usize = 7_919;
        assert!(!items.is_multiple_of(STEP), "the step would come to the same item again");
        Filled::new(groups, items, |i| i * STEP % items)
    }

    /// Sets every item once.
    pub(crate) fn set_all(&mut self, order: impl Fn(usize) -> usize, version: usize) {
        for item in (0..self.items).map(order).map(item_id) {
            for group in (0..self.groups).map(group_id) {
                let value = format!("{version:0>width$}", width = VALUE_BYTES - 2);
                self.call("set", &group, &format!(r#","item_id":"{item}","data":"{value}""#));
            }
        }
    }

    /// Removes every second item of every group. Returns how many each has left.
    pub(crate) fn halve(&mut self) -> usize {
        for item in (0..self.items).skip(1).step_by(2).map(item_id) {
            for group in (0..self.groups).map(group_id) {
                self.call("delete", &group, &format!(r#","item_id":"{item}""#));
            }
        }
        self.items.div_ceil(2)
    }

    /// How many bytes it takes.
    pub(crate) fn taken(&self) -> usize {
        taken() - self.before
    }

    /// How many bytes it takes an item beside the texts of names, ids and values, with so many items left in each
    /// group.
    pub(crate) fn overhead(&self, items: usize) -> f64 {
        let texts = self.groups * (group_id(0).len() + items * (item_id(0).len() + VALUE_BYTES));
        (self.taken() - texts) as f64 / (self.groups * items) as f64
    }

    /// How many bytes the snapshots of all groups think that they take.
    pub(crate) fn estimate(&mut self) -> usize {
        (0..self.groups).map(group_id).map(|group| self.list(&group).memory()).sum()
    }

    fn list(&mut self, group: &str) -> Snapshot {
        match self.call("list", group, "").as_slice() {
            [Effect::Reply { outcome: Ok(Answer::Items(items)), .. }] => items.clone(),
            other => panic!("no list: {other:?}"),
        }
    }

    fn call(&mut self, function: &str, group: &str, rest: &str) -> Vec<Effect> {
        let frame = format!(
            r#"{{"type":"invokefunction","function_id":"stream::{function}","data":{{"stream_name":"s","group_id":"{group}"{rest}}}}}"#,
        );
        let frame = worker::parse(&frame, &Limits::default()).expect("a frame");
        let mut effects = Vec::new();
        self.core.handle(NOW, Input::WorkerFrame { worker: WORKER, frame: Ok(frame) }, &mut effects);
        effects
    }
}

fn group_id(group: usize) -> String {
    format!("group-{group:06}")
}

fn item_id(item: usize) -> String {
    format!("item-{item:06}")
}
