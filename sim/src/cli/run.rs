//! `run`: many worlds.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use clap::Args;
use headwater_sim::many::{Fleet, Kind, Part, Ran, Run};

use super::{Done, Worlds, seeds, short, tell_failure, written};

#[derive(Args)]
pub(super) struct Options {
    /// Which, as in 0..5000; `0..` goes on until the time is over.
    #[arg(long, value_parser = seeds, default_value = "0..5000")]
    seeds: Range<u64>,
    #[command(flatten)]
    worlds: Worlds,
    /// For how many seconds worlds are begun at most.
    #[arg(long, value_name = "SECONDS")]
    for_secs: Option<u64>,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
}

/// Fewer worlds than this need not show everything.
const ENOUGH: u64 = 1_000;

pub(super) fn run(options: &Options) -> Done {
    let kind = options.worlds.worlds;
    let fleet = Fleet {
        kind,
        seeds: options.seeds.clone(),
        jobs: options.worlds.jobs(),
        longest: options.for_secs.map(Duration::from_secs),
        keep_going: options.keep_going,
    };
    let started = Instant::now();
    let (mut laws, mut told) = (BTreeMap::new(), Ok(()));
    let ran = fleet.run(|run| {
        if told.is_ok() {
            told = tell(kind, run, &mut laws);
        }
    });
    let holes = match kind {
        Kind::Core if ran.counts.worlds >= ENOUGH => ran.counts.holes(),
        _ => Vec::new(),
    };
    written(told.and_then(|()| sum_up(kind, &ran, started.elapsed(), &holes, &laws)))?;
    Ok(ran.failed.is_empty() && holes.is_empty())
}

/// How often each law is broken.
type Laws = BTreeMap<String, u64>;

fn sum_up(kind: Kind, ran: &Ran, took: Duration, holes: &[String], laws: &Laws) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let took = took.as_secs_f64();
    writeln!(out, "\n{kind}: {}", ran.counts)?;
    let a_minute = ran.counts.worlds as f64 / took * 60.0;
    writeln!(out, "  all of it {:016x}; {took:.1} s, {a_minute:.0} worlds a minute", ran.digest)?;
    if !holes.is_empty() {
        writeln!(out, "\nholes in the workload, never seen: {}", holes.join(", "))?;
    }
    if !ran.failed.is_empty() {
        let laws: Vec<String> = laws.iter().map(|(law, count)| format!("{law} {count}")).collect();
        let (failed, worlds) = (ran.failed.len(), ran.counts.worlds);
        writeln!(out, "\n{failed} of {worlds} worlds failed: {}", laws.join(", "))?;
    }
    // For programs: the first failure on a line.
    if let Some(Run { seed, shown, .. }) = ran.failed.first()
        && let Some(failure) = &shown.failure
    {
        writeln!(out, "failed: {kind} {seed} {}", failure.law)?;
    }
    Ok(())
}

/// Shows the first world that breaks a law, and names the others.
fn tell(kind: Kind, run: &Run, laws: &mut Laws) -> io::Result<()> {
    let Some(failure) = &run.shown.failure else { return Ok(()) };
    let count = laws.entry(failure.law.clone()).or_default();
    *count += 1;
    let mut out = io::stdout().lock();
    match *count {
        1 => tell_failure(&mut out, (kind, run.seed, &Part::default()), &run.shown, failure),
        _ => writeln!(out, "{kind} world {} breaks {}", run.seed, short(&failure.to_string())),
    }
}
