//! The store on a simulated disk that loses, tears and fails: what was acknowledged is there, and nothing else is.
//!
//! `WORLD=seed cargo test -p headwater-sim --test storage in_all_worlds -- --nocapture` shows one world again.

use std::ops::Range;

use headwater_core::config::Durability;
use headwater_sim::disk::{FaultKind, Syncing};
use headwater_sim::storage::{Broken, Found, Image, Law, Loss, Plan, Report, World};

fn run(plan: Plan) -> Result<Report, Broken> {
    World::new(plan).run()
}

/// Runs a world in which nothing may be broken.
fn holds(plan: &Plan) -> Report {
    run(plan.clone()).unwrap_or_else(|broken| panic!("{broken}\n{plan:?}"))
}

/// The seeds of a test, or the one that is to be seen again.
fn seeds(count: u64) -> (Range<u64>, bool) {
    match std::env::var("WORLD").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => (seed..seed + 1, true),
        None => (0..count, false),
    }
}

#[test]
fn in_all_worlds_the_promises_hold() {
    let (seeds, tells) = seeds(3_000);
    let mut all = Report::default();
    for seed in seeds {
        all += holds(&Plan { tells, ..Plan::draw(seed) });
    }
    println!("{all:?}");
    if !tells {
        // Worlds in which little happens prove little.
        let seen = all.seen;
        assert!(
            seen.changes > 50_000 && seen.refused > 5_000 && seen.unknown > 500 && seen.lost > 300,
            "{all:?}"
        );
        assert!(seen.surfaced > 300 && all.deaths > 5_000 && all.deaths_at_start > 100, "{all:?}");
        assert!(
            all.failed_starts > 100 && all.work.failed_writes > 1_000 && all.work.failed_saves > 500,
            "{all:?}"
        );
        assert!(all.work.saves > 5_000 && all.work.discarded > 3_000 && all.work.loads > 5_000, "{all:?}");
    }
}

#[test]
fn one_seed_is_one_world() {
    for seed in 0..100 {
        assert_eq!(run(Plan::draw(seed)), run(Plan::draw(seed)), "seed {seed}");
    }
}

/// A short life with several segments and checkpoints, and with what is read back from them.
fn short_life(durability: Durability, seed: u64) -> Plan {
    Plan {
        durability,
        segment_bytes: 300,
        checkpoint_log_bytes: 600,
        cache_bytes: 400,
        growth: 256,
        groups: 2,
        items: 3,
        steps: 80,
        ..Plan::calm(seed)
    }
}

const LEVELS: [Durability; 2] = [Durability::Sync, Durability::Interval(20)];

#[test]
fn power_or_process_may_go_at_each_operation_of_the_disk() {
    for (seed, durability) in (0..3).flat_map(|seed| LEVELS.map(|level| (seed, level))) {
        let plan = short_life(durability, seed);
        let calm = holds(&plan);
        assert!(
            calm.work.segments > 1 && calm.work.saves > 1 && calm.work.discarded > 0 && calm.work.loads > 0,
            "{calm:?}"
        );
        for after in 0..calm.operations {
            for loss in [Loss::Process, Loss::Power] {
                holds(&Plan { cut: Some((after, loss)), ..plan.clone() });
            }
        }
    }
}

#[test]
fn each_operation_of_the_disk_may_fail_once_or_for_a_while() {
    for (seed, durability) in (0..3).flat_map(|seed| LEVELS.map(|level| (seed, level))) {
        let plan = short_life(durability, seed);
        let mut failed = 0;
        for after in 0..holds(&plan).operations {
            for kind in [FaultKind::Full, FaultKind::Write, FaultKind::Sync] {
                for failing in [1, 4] {
                    let report = holds(&Plan { faults: vec![(kind, after, failing)], ..plan.clone() });
                    failed += u64::from(report.failed_operations > 0);
                }
            }
        }
        assert!(failed > 300, "only {failed} worlds had a fault");
    }
}

#[test]
fn an_operation_may_fail_and_the_power_go_soon_after() {
    for (seed, durability) in (0..2).flat_map(|seed| LEVELS.map(|level| (seed, level))) {
        let plan = short_life(durability, seed);
        for after in 0..holds(&plan).operations {
            for kind in [FaultKind::Write, FaultKind::Sync] {
                for later in [1, 2, 3, 5, 8] {
                    let faults = vec![(kind, after, 1)];
                    holds(&Plan { cut: Some((after + later, Loss::Power)), faults, ..plan.clone() });
                }
            }
        }
    }
}

/// The pictures of short lives: with a checkpoint or without.
fn images(checkpoint_log_bytes: usize) -> impl Iterator<Item = Image> {
    (0..3).map(move |seed| {
        let plan = short_life(Durability::Sync, seed);
        let steps = if checkpoint_log_bytes == NEVER { 50 } else { 150 };
        let plan = Plan { checkpoint_log_bytes, cache_bytes: 1 << 20, steps, ..plan };
        World::new(plan).into_image().unwrap_or_else(|broken| panic!("{broken}"))
    })
}

const NEVER: usize = 1 << 40;

#[test]
fn each_prefix_of_a_log_is_a_prefix_of_the_history_or_refused() {
    for image in images(NEVER) {
        assert_eq!(image.open(&image.files, &image.all()), Ok(Found::Revisions(image.all())));
        let segments = image.segments();
        for number in segments.keys() {
            let name = number.file_name();
            for len in 0..image.files[&name].len() {
                let mut files = image.files.clone();
                files.get_mut(&name).expect("a segment").truncate(len);
                // Damage in the middle of the log is refused, or has touched nothing.
                if Some(number) != segments.keys().last() {
                    let found = image.open(&files, &image.all());
                    assert!(found.is_ok(), "{name} cut off at {len}: {found:?}");
                }
                // So it is if what comes after was never there.
                files.retain(|other, _| *other <= name);
                let whole = image.before(image.whole_writes(*number, len as u64));
                match image.open(&files, &whole) {
                    Ok(Found::Revisions(_)) => {}
                    Ok(Found::Refused(_)) => assert!(len < 64, "{name} cut off at {len} is refused"),
                    Err(broken) => panic!("{name} cut off at {len}: {broken}"),
                }
            }
        }
    }
}

#[test]
fn each_flipped_bit_of_a_log_is_refused_or_harmless_unless_it_is_in_the_last_batch() {
    let (mut refused, mut cut) = (0, 0);
    let without = images(NEVER).map(|image| (image, false));
    for (image, with_checkpoint) in without.chain(images(500).take(2).map(|image| (image, true))) {
        let segments = image.segments();
        let (last, (from, until)) = segments.last_key_value().expect("a segment");
        assert_eq!(image.files.contains_key("checkpoint.redb"), with_checkpoint);
        for number in segments.keys() {
            let name = number.file_name();
            for bit in 0..image.files[&name].len() * 8 {
                let mut files = image.files.clone();
                files.get_mut(&name).expect("a segment")[bit / 8] ^= 1 << (bit % 8);
                let at = (bit / 8) as u64;
                let in_last_batch = number == last && (*from..*until).contains(&at);
                let whole = if in_last_batch { image.before(image.writes() - 1) } else { image.all() };
                match image.open(&files, &whole) {
                    Ok(Found::Refused(_)) => refused += 1,
                    Ok(Found::Revisions(found)) => cut += u64::from(found != image.all()),
                    Err(broken) => panic!("{name}, bit {} of byte {at}: {broken}", bit % 8),
                }
            }
        }
    }
    assert!(refused > 10_000 && cut > 1_000, "{refused} refused, {cut} cut off");
}

/// In how many of these worlds the oracle finds that something is broken, and the first such.
fn caught(plan: impl Fn(u64) -> Plan, count: u64) -> (usize, Option<Broken>) {
    let broken: Vec<Broken> = (0..count).filter_map(|seed| run(plan(seed)).err()).collect();
    (broken.len(), broken.into_iter().next())
}

/// Many crashes and many faults, where all is to be synced.
fn rough(seed: u64) -> Plan {
    Plan { durability: Durability::Sync, deaths: 20, steps: 200, ..Plan::draw(seed) }
}

fn on(syncing: Syncing) -> impl Fn(u64) -> Plan {
    move |seed| Plan { syncing, ..rough(seed) }
}

/// As [`rough`], with some single faults on the way.
fn with_faults(syncing: Syncing) -> impl Fn(u64) -> Plan {
    move |seed| {
        let kind = [FaultKind::Sync, FaultKind::Write][usize::from(seed.is_multiple_of(2))];
        let faults = (1..12).map(|at| (kind, at * (9 + seed % 7), 1)).collect();
        Plan { syncing, faults, ..rough(seed) }
    }
}

#[test]
fn without_faults_of_the_program_rough_worlds_hold() {
    assert_eq!(caught(on(Syncing::Honest), 100), (0, None));
    assert_eq!(caught(with_faults(Syncing::Honest), 100), (0, None));
}

#[test]
fn leaving_out_the_fdatasync_is_caught() {
    let (count, first) = caught(on(Syncing::NotFiles), 50);
    assert!(count >= 25, "{count} of 50, {first:?}");
}

#[test]
fn leaving_out_the_sync_of_the_folder_is_caught() {
    let (count, first) = caught(on(Syncing::NotNames), 50);
    assert!(count >= 10, "{count} of 50, {first:?}");
}

#[test]
fn a_fence_that_is_not_synced_is_caught() {
    let (count, first) = caught(with_faults(Syncing::NotFences), 200);
    assert!(count >= 3, "{count} of 200, {first:?}");
}

#[test]
fn going_on_in_a_segment_whose_sync_has_failed_is_caught() {
    let (count, first) = caught(with_faults(Syncing::Again), 100);
    assert!(count >= 10, "{count} of 100, {first:?}");
}

#[test]
fn discarding_a_log_before_its_checkpoint_is_durable_is_caught() {
    let plan = |seed| Plan { hasty: true, checkpoint_log_bytes: 500, cache_bytes: 1 << 20, ..rough(seed) };
    let (count, first) = caught(plan, 100);
    let lost = first
        .as_ref()
        .is_some_and(|first| [Law::AcknowledgedSurvives, Law::StartSucceeds].contains(&first.law));
    assert!(count >= 10 && lost, "{count} of 100, {first:?}");
}
