//! `replay`: one world again.

use std::io::{self, Write};

use clap::Args;
use headwater_sim::many::{Part, Shown, run as run_world};

use super::{Done, World, tell_failure, written};

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
        let mut out = io::stdout().lock();
        written(world.words().iter().try_for_each(|line| writeln!(out, "{line}")))?;
    }
    let shown = run_world(&*world);
    written(tell(options, &part, &shown))?;
    Ok(shown.failure.is_none())
}

fn tell(options: &Options, part: &Part, shown: &Shown) -> io::Result<()> {
    let (kind, seed) = (options.world.worlds, options.world.seed);
    let mut out = io::stdout().lock();
    if options.trace {
        shown.trace.iter().try_for_each(|entry| writeln!(out, "{entry}"))?;
    }
    match &shown.failure {
        Some(failure) => tell_failure(&mut out, (kind, seed, part), shown, failure),
        None => writeln!(out, "\n{kind} world {seed} keeps all promises: {}", shown.counts),
    }
}
