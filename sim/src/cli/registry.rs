//! `registry`: the worlds that ever failed.

use std::io::{self, Write};
use std::ops::ControlFlow;

use clap::Args;
use headwater_sim::many::{Failure, Known, Part, Shown, Stuck, in_order, registry, run as run_world};

use super::{Done, tell_failure, written};

#[derive(Args)]
pub(super) struct Options {}

pub(super) fn run(_: &Options) -> Done {
    let known = registry().map_err(|error| format!("sim/seeds.txt: {error}"))?;
    let mut failed = 0;
    let work = |world: Known| (run_world(&*world.kind.draw(world.seed)), world);
    let mut told = Ok(());
    let ended = in_order(known.clone().into_iter(), 1, work, |(shown, world)| {
        let Some(failure) = &shown.failure else { return ControlFlow::Continue(()) };
        failed += 1;
        told = tell(&world, &shown, failure);
        if told.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    written(told)?;
    ended.map_err(|Stuck { at }| {
        let Known { kind, seed, .. } = &known[at];
        format!("{kind} world {seed} does not come to its end")
    })?;
    written(writeln!(io::stdout(), "{failed} of {} worlds that ever failed fail", known.len()))?;
    Ok(failed == 0)
}

fn tell(world: &Known, shown: &Shown, failure: &Failure) -> io::Result<()> {
    let mut out = io::stdout().lock();
    tell_failure(&mut out, (world.kind, world.seed, &Part::default()), shown, failure)?;
    writeln!(out, "it once found: {}", world.found)
}
