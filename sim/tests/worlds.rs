//! What is run for each commit: every world that ever failed, a fixed set, and some that only this commit sees.
//!
//! `cargo run -p headwater-sim -- run --seeds 0..100000` runs more.

use std::ops::{ControlFlow, Range};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

use headwater_sim::many::{Fleet, Kind, Known, Ran, digest, in_order, registry, run};

/// How many worlds of the core are the same for all commits, and how many are another commit's others.
const FIXED: u64 = 4_000;
const OF_COMMIT: u64 = 1_500;
/// Where the seeds of commits begin.
const COMMITS: u64 = 1 << 32;

fn jobs() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Runs worlds of the core that must all keep what is promised.
fn all_hold(seeds: Range<u64>) -> Ran {
    let fleet = Fleet { kind: Kind::Core, seeds, jobs: jobs(), longest: None, keep_going: true };
    let started = Instant::now();
    let ran = fleet.run(|run| {
        let failure = run.shown.failure.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("core world {}: {failure}", run.seed);
    });
    println!("{}\n{:.1} s", ran.counts, started.elapsed().as_secs_f64());
    let failed: Vec<u64> = ran.failed.iter().map(|run| run.seed).collect();
    assert!(
        failed.is_empty(),
        "core worlds {failed:?}: `cargo run -p headwater-sim -- replay --seed {}` shows it again",
        failed[0]
    );
    assert!(ran.counts.is_decided(), "too many histories are given up: {}", ran.counts);
    ran
}

/// What this commit is: from the environment, else from git; without both always the same.
fn commit() -> String {
    std::env::var("SIM_COMMIT").unwrap_or_else(|_| {
        let mut head = Command::new("git");
        head.args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let head = head.output().ok().filter(|output| output.status.success());
        head.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    })
}

#[test]
fn no_world_that_ever_failed_fails_again() {
    let known = registry().expect("the registry can be read");
    let work = |world: Known| (run(&*world.kind.draw(world.seed)), world);
    let ended = in_order(known.clone().into_iter(), jobs(), work, |(shown, world)| {
        let Known { kind, seed, found } = world;
        assert_eq!(shown.failure, None, "{kind} world {seed}, which found: {found}");
        ControlFlow::Continue(())
    });
    assert_eq!(ended, Ok(()), "the place of a world in {known:#?} that does not come to its end");
}

#[test]
fn a_fixed_set_of_worlds_keeps_all_promises_and_shows_everything() {
    let ran = all_hold(0..FIXED);
    assert_eq!(ran.counts.worlds, FIXED);
    assert_eq!(ran.counts.holes(), [""; 0], "never seen in {FIXED} worlds");
}

#[test]
fn worlds_that_only_this_commit_sees_keep_all_promises() {
    let commit = commit();
    let first = COMMITS + digest(&commit) % COMMITS;
    println!("commit {commit}: worlds from {first} on");
    assert_eq!(all_hold(first..first + OF_COMMIT).counts.worlds, OF_COMMIT);
}
