//! The real server in simulated worlds.

use headwater_sim::World;
use headwater_sim::disk::Syncing;
use headwater_sim::oracle::{self, Checked, Law};
use headwater_sim::trace::Trace;

fn run(seed: u64) -> Trace {
    World::draw(seed).run().unwrap_or_else(|stuck| panic!("seed {seed}: {}", stuck.0))
}

/// Where two traces part, in words.
fn assert_same(one: &Trace, other: &Trace) {
    for (at, (one, other)) in one.iter().zip(other).enumerate() {
        assert_eq!(one, other, "entry {at} differs:\n{one}\n{other}");
    }
    assert_eq!(one.len(), other.len());
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..8 {
        assert_same(&run(seed), &run(seed));
    }
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(run(1), run(2));
}

#[test]
fn the_guarantees_hold_whenever_the_server_crashes() {
    let mut all = Checked::default();
    for seed in 0..24 {
        let checked = oracle::check(&run(seed)).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        all.answers += checked.answers;
        all.events += checked.events;
        all.syncs += checked.syncs;
        all.crashes += checked.crashes;
    }
    println!("{all:?}");
    // A world in which little happens proves little.
    assert!(all.answers > 5_000 && all.events > 10_000 && all.syncs > 200 && all.crashes > 40, "{all:?}");
}

#[test]
fn without_the_sync_acknowledged_writes_are_lost_and_the_oracle_says_so() {
    let (mut lost, mut refused) = (0, 0);
    for seed in 0..20 {
        match World::draw(seed).with_syncing(Syncing::Lying).run().map(|trace| oracle::check(&trace)) {
            // The store of an empty disk is another one, and says so to whoever asks first.
            Ok(Err(broken)) if matches!(broken.law, Law::AcknowledgedSurvives | Law::SeenIsDurable) => {
                lost += 1
            }
            // A process died, but never the machine.
            Ok(_) => {}
            // What is left can't be all: the server refuses to go on with it.
            Err(stuck) => {
                assert!(stuck.0.contains("can't be opened"), "seed {seed}: {}", stuck.0);
                refused += 1;
            }
        }
    }
    assert!(lost >= 3 && lost + refused >= 10, "{lost} worlds tell what was lost, {refused} are refused");
}
