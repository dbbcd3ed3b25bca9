//! `registry`: the worlds that ever failed.

use clap::Args;
use headwater_sim::many::{Part, registry, run as run_world};

use super::{Done, tell_failure};

#[derive(Args)]
pub(super) struct Options {}

pub(super) fn run(_: &Options) -> Done {
    let known = registry().map_err(|error| format!("sim/seeds.txt: {error}"))?;
    let mut failed = 0;
    for world in &known {
        let shown = run_world(&*world.kind.draw(world.seed));
        if let Some(failure) = &shown.failure {
            failed += 1;
            tell_failure(world.kind, world.seed, &Part::default(), &shown, failure);
            println!("it once found: {}", world.found);
        }
    }
    println!("{} of {} worlds that ever failed fail", failed, known.len());
    Ok(failed == 0)
}
