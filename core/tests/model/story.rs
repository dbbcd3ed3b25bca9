//! What may happen.

use proptest::prelude::*;
use proptest::sample::Index;

pub(crate) const GROUPS: [&str; 2] = ["g", "h"];
pub(crate) const ITEMS: [&str; 3] = ["a", "b", "c"];
pub(crate) const WORKERS: usize = 2;
pub(crate) const SESSIONS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Set {
        worker: usize,
        group: usize,
        item: usize,
        null: bool,
    },
    /// With the item's revision as its precondition, or that of its last change before.
    SetIf {
        worker: usize,
        group: usize,
        item: usize,
        outdated: bool,
    },
    Delete {
        worker: usize,
        group: usize,
        item: usize,
    },
    Get {
        worker: usize,
        group: usize,
        item: usize,
    },
    List {
        worker: usize,
        group: usize,
    },
    Send {
        worker: usize,
        group: usize,
        item: usize,
        times: usize,
    },
    /// The item after the last one is the whole group.
    Join {
        session: usize,
        subscription: usize,
        group: usize,
        item: usize,
    },
    Leave {
        session: usize,
        subscription: usize,
    },
    Overflow {
        session: usize,
    },
    Drain {
        session: usize,
    },
    Persist,
    FailWrite {
        made: bool,
    },
    Pass {
        ms: u64,
    },
    Crash {
        keep: Index,
        ms: u64,
    },
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let (worker, group, item) = (0..WORKERS, 0..GROUPS.len(), 0..ITEMS.len());
    let (session, subscription, target) = (0..SESSIONS, 0..3_usize, 0..=ITEMS.len());
    let at = (worker.clone(), group.clone(), item);
    prop_oneof![
        8 => (at.clone(), prop::bool::weighted(0.1))
            .prop_map(|((worker, group, item), null)| Step::Set { worker, group, item, null }),
        4 => (at.clone(), any::<bool>())
            .prop_map(|((worker, group, item), outdated)| Step::SetIf { worker, group, item, outdated }),
        3 => at.clone().prop_map(|(worker, group, item)| Step::Delete { worker, group, item }),
        2 => at.prop_map(|(worker, group, item)| Step::Get { worker, group, item }),
        2 => (worker.clone(), group.clone()).prop_map(|(worker, group)| Step::List { worker, group }),
        4 => (worker, group.clone(), target.clone(), prop_oneof![9 => Just(1_usize), 1 => Just(600)])
            .prop_map(|(worker, group, item, times)| Step::Send { worker, group, item, times }),
        6 => (session.clone(), subscription.clone(), group, target)
            .prop_map(|(session, subscription, group, item)| Step::Join { session, subscription, group, item }),
        2 => (session.clone(), subscription)
            .prop_map(|(session, subscription)| Step::Leave { session, subscription }),
        1 => session.clone().prop_map(|session| Step::Overflow { session }),
        2 => session.prop_map(|session| Step::Drain { session }),
        9 => Just(Step::Persist),
        2 => any::<bool>().prop_map(|made| Step::FailWrite { made }),
        3 => (0..3_000_u64).prop_map(|ms| Step::Pass { ms }),
        2 => (any::<Index>(), 0..3_u64).prop_map(|(keep, ms)| Step::Crash { keep, ms }),
    ]
}
