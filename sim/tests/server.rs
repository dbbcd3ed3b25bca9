//! The real server in simulated worlds.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_sim::disk::Syncing;
use headwater_sim::oracle::{self, Checked};
use headwater_sim::server::{Report, Stuck, World};
use headwater_sim::trace::{Entry, Trace, What};

/// How many worlds the guarantees are checked in.
const WORLDS: u64 = 300;

fn run(seed: u64) -> (Trace, Report) {
    World::draw(seed).run().unwrap_or_else(|stuck| panic!("{}", told(seed, &stuck)))
}

fn told(seed: u64, Stuck { why, trace }: &Stuck) -> String {
    let last = trace.iter().rev().take(30).rev();
    format!("seed {seed}: {why}\n{}", last.map(|entry| format!("{entry}\n")).collect::<String>())
}

/// Does something for each seed, on all processors.
fn for_each(seeds: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    work(seed);
                }
            });
        }
    });
}

/// Where two traces part, in words.
fn assert_same(seed: u64, one: &[Entry], other: &[Entry]) {
    for (at, (one, other)) in one.iter().zip(other).enumerate() {
        assert_eq!(one, other, "seed {seed}: entry {at} differs:\n{one}\n{other}");
    }
    assert_eq!(one.len(), other.len(), "seed {seed}");
}

#[test]
fn one_seed_is_one_run() {
    for_each(40, |seed| {
        let ((one, counted), (other, again)) = (run(seed), run(seed));
        assert_same(seed, &one, &other);
        assert_eq!(counted, again, "seed {seed}");
    });
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(run(1), run(2));
}

/// How often clients saw what.
fn count(trace: &[Entry], seen: &mut BTreeMap<String, u64>) {
    for entry in trace {
        let what = match &entry.what {
            What::Got(message) if message["type"] == "stream" => &message["event"]["type"],
            What::Got(message) if message["type"] == "invokefunction" => &message["function_id"],
            What::Got(message) if message.get("error").is_some() => &message["error"]["code"],
            What::Got(message) => &message["type"],
            _ => continue,
        };
        let what = what.as_str().unwrap_or_default();
        // Functions are their workers'.
        *seen.entry(what.split('-').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
}

fn add(all: &mut Checked, checked: Checked) {
    all.answers += checked.answers;
    all.refused += checked.refused;
    all.events += checked.events;
    all.syncs += checked.syncs;
    all.histories += checked.histories;
    all.undecided += checked.undecided;
    all.crashes += checked.crashes;
    all.joins += checked.joins;
    all.unauthorized += checked.unauthorized;
    all.leaves += checked.leaves;
    all.handled += checked.handled;
    all.overflows += checked.overflows;
}

#[test]
fn the_guarantees_hold_whatever_befalls_the_server() {
    let all = Mutex::new((Report::default(), BTreeMap::new(), Checked::default()));
    for_each(WORLDS, |seed| {
        let rules = World::draw(seed).rules();
        let (trace, report) = run(seed);
        let checked = oracle::check(&trace, rules).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(trace.iter().any(|entry| entry.what == What::Healed), "seed {seed} has no end");
        let (reports, seen, all) = &mut *all.lock().expect("no other seed failed");
        *reports += report;
        count(&trace, seen);
        add(all, checked);
    });
    let (report, seen, all) = all.into_inner().expect("no seed failed");
    println!("{report}{seen:#?}\n{all:?}");
    // A world in which little happens proves little.
    assert_eq!(report.holes(), [""; 0], "never happened");
    let often = ["create", "update", "delete", "event", "sync", "unauthorized", "invocationresult"];
    let called = ["saw", "condition", "gate", "left", "auth", "echo"];
    let refused =
        ["STREAM_CONFLICT", "function_not_found", "TIMEOUT", "invocation_stopped", "server_stopping"];
    for (what, least) in often.map(|what| (what, 3)).into_iter().chain(called.map(|what| (what, 2))) {
        assert!(seen.get(what).is_some_and(|times| *times > least * WORLDS), "too little {what}: {seen:?}");
    }
    for what in refused {
        assert!(seen.get(what).is_some_and(|times| *times > WORLDS / 40), "too little {what}: {seen:?}");
    }
    assert!(all.crashes > 2 * WORLDS, "{all:?}");
    // All checks but that of names, which nobody asks for in the end, and of overflows, of which these worlds don't tell.
    let Checked { answers, refused, events, syncs, histories, undecided, joins, .. } = all;
    let Checked { unauthorized, leaves, handled, .. } = all;
    let checks = [answers, refused, events, syncs, histories, joins, unauthorized, leaves, handled];
    assert!(
        checks.iter().all(|count| *count > WORLDS / 10),
        "a check that never or hardly ever ran: {all:?}"
    );
    assert!(undecided * 100 < histories, "too many histories are given up: {all:?}");
}

#[test]
fn a_world_whose_faults_are_left_out_has_none() {
    for_each(20, |seed| {
        let world = World::draw(seed);
        let faults = world.faults().into_iter().collect();
        let (trace, _) =
            world.without(&faults).run().unwrap_or_else(|stuck| panic!("{}", told(seed, &stuck)));
        let is_fault = |entry: &&Entry| {
            matches!(entry.what, What::Crashed(_) | What::Restarted | What::Stopped | What::Complained(_))
        };
        assert_eq!(trace.iter().find(is_fault), None, "seed {seed}");
    });
}

#[test]
fn without_the_sync_acknowledged_writes_are_lost_and_the_oracles_say_so() {
    let [lost, refused] = [(); 2].map(|()| AtomicU64::new(0));
    for_each(60, |seed| {
        let world = World::draw(seed).with_syncing(Syncing::Lying);
        let rules = world.rules();
        match world.run().map(|(trace, _)| oracle::check(&trace, rules)) {
            // Whatever is noticed first: much else goes wrong with what is lost.
            Ok(Err(_)) => {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            // Processes died, but never the machine.
            Ok(Ok(_)) => {}
            // What is left can't be all: the server refuses to go on with it.
            Err(stuck) => {
                assert!(stuck.why.contains("can't be opened"), "{}", told(seed, &stuck));
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let [lost, refused] = [lost, refused].map(AtomicU64::into_inner);
    assert!(lost >= 6 && lost + refused >= 15, "{lost} worlds tell what was lost, {refused} are refused");
}
