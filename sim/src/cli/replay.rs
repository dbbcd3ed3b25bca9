//! `replay`: one world again.

use clap::Args;
use headwater_sim::many::{Part, Shown, run as run_world};

use super::{Done, World, tell_failure};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    world: World,
    /// Show all that happens, not only the end.
    #[arg(long)]
    trace: bool,
    /// Show what was drawn.
    #[arg(long)]
    plan: bool,
}

pub(super) fn run(options: &Options) -> Done {
    let (kind, seed) = (options.world.worlds, options.world.seed);
    let part = Part { tells: options.trace, ..options.world.part()? };
    let world = kind.draw(seed).part(&part);
    if options.plan {
        world.words().iter().for_each(|line| println!("{line}"));
    }
    let shown = run_world(&*world);
    if options.trace {
        shown.trace.iter().for_each(|entry| println!("{entry}"));
    }
    let Shown { failure: Some(failure), .. } = &shown else {
        println!("\n{kind} world {seed} keeps all promises: {}", shown.counts);
        return Ok(true);
    };
    tell_failure(kind, seed, &part, &shown, failure);
    Ok(false)
}
