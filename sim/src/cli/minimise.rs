//! `minimise`: a world that fails, made smaller.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use headwater_sim::many::{Minimised, minimise};

use super::{Done, World, tell_failure, written};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    world: World,
    /// For how many seconds it looks for a smaller one.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    for_secs: u64,
}

pub(super) fn run(options: &Options) -> Done {
    let (kind, seed) = (options.world.worlds, options.world.seed);
    let part = options.world.part()?;
    if part.keep.is_some() || !part.without.is_empty() {
        return Err("a world is made smaller from its seed alone: leave out --keep and --without".to_owned());
    }
    let world = kind.draw(seed);
    let Some(Minimised { part, shown, tried }) = minimise(&*world, Duration::from_secs(options.for_secs))
    else {
        println!("{kind} world {seed} keeps all promises");
        return Ok(true);
    };
    let mut out = io::stdout().lock();
    let mut tell = || -> io::Result<()> {
        writeln!(out, "{kind} world {seed}, as small as {tried} attempts have made it:\n")?;
        world.part(&part).words().iter().try_for_each(|line| writeln!(out, "{line}"))?;
        writeln!(out, "\nwhat happens in it:\n")?;
        shown.trace.iter().try_for_each(|entry| writeln!(out, "{entry}"))?;
        let Some(failure) = &shown.failure else { return Ok(()) };
        let steps = part.keep.as_ref().map(|keep| format!("{} of {} steps; ", keep.len(), world.steps()));
        let steps = steps.unwrap_or_default();
        writeln!(out, "\n{steps}without {} of {} faults", part.without.len(), world.faults().len())?;
        tell_failure(&mut out, (kind, seed, &part), &shown, failure)
    };
    written(tell())?;
    Ok(false)
}
