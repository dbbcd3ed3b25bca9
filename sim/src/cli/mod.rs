//! What can be asked for.

mod meta;
mod minimise;
mod mutants;
mod registry;
mod replay;
mod run;

use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use headwater_sim::many::{Failure, Kind, Part, Shown};

/// Runs worlds in which a Headwater has a hard time, and says which promise breaks. A seed is a world, always the same.
#[derive(Parser)]
#[command(name = "headwater-sim")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many worlds, up to the first that fails, and sums up what happened in them.
    Run(run::Options),
    /// Runs one world again and shows it.
    Replay(replay::Options),
    /// Makes a world that fails smaller.
    Minimise(minimise::Options),
    /// Runs worlds twice, and again in another process: one seed is one run.
    Meta(meta::Options),
    /// Prints a number for all that happens in each world.
    #[command(hide = true)]
    Digests(meta::Digests),
    /// Runs all worlds that ever failed.
    Registry(registry::Options),
    /// Plants bugs into copies of the sources, one after the other, and says which are found.
    Mutants(mutants::Options),
}

/// Which worlds, and on how many threads.
#[derive(Args)]
struct Worlds {
    /// Their kind: core, server or storage.
    #[arg(long, value_name = "KIND", default_value = "core")]
    worlds: Kind,
    /// How many run at the same time; as many as there are processors, if it is not said.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// One world, or a part of it.
#[derive(Args)]
struct World {
    /// Which.
    #[arg(long)]
    seed: u64,
    /// Its kind: core, server or storage.
    #[arg(long, value_name = "KIND", default_value = "core")]
    worlds: Kind,
    /// Only these of its steps, as in 3,7,9-20, or none; of a storage world so many from the start.
    #[arg(long, value_name = "STEPS")]
    keep: Option<String>,
    /// Without these of its faults, as in kill,disk-full.
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    without: Vec<String>,
}

/// What a command comes to: whether all is well, or why it can't say.
type Done = Result<bool, String>;

pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Minimise(options) => minimise::run(&options),
        Command::Meta(options) => meta::run(&options),
        Command::Digests(options) => meta::print_digests(&options),
        Command::Registry(options) => registry::run(&options),
        Command::Mutants(options) => mutants::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

impl Worlds {
    fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }
}

impl World {
    fn part(&self) -> Result<Part, String> {
        let keep = self.keep.as_deref().map(Part::parse_keep).transpose()?;
        let part = Part { keep, without: self.without.iter().cloned().collect(), tells: false };
        part.is_of(&*self.worlds.draw(self.seed))
            .map_err(|wrong| format!("{} world {}: {wrong}", self.worlds, self.seed))?;
        Ok(part)
    }
}

/// Reads seeds: `0..5000`, or a single one.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| {
        text.replace('_', "").parse::<u64>().map_err(|_| format!("`{text}` is not a seed, as in 0..5000"))
    };
    let seeds = match text.split_once("..") {
        Some((first, "")) => number(first)?..u64::MAX,
        Some((first, last)) => number(first)?..number(last)?,
        None => number(text).map(|seed| seed..seed.saturating_add(1))?,
    };
    if seeds.is_empty() { Err(format!("there are no seeds in `{text}`")) } else { Ok(seeds) }
}

/// How many of the last things that happened are shown.
const LAST: usize = 30;

/// What a person wants to know of a world that failed.
fn tell_failure(
    out: &mut impl Write,
    (kind, seed, part): (Kind, u64, &Part),
    shown: &Shown,
    failure: &Failure,
) -> io::Result<()> {
    writeln!(out, "\n{kind} world {seed} breaks {}", short(&failure.to_string()))?;
    if !shown.trace.is_empty() {
        writeln!(out, "\nthe last of {} things that happened:", shown.trace.len())?;
        for entry in shown.trace.iter().skip(shown.trace.len().saturating_sub(LAST)) {
            writeln!(out, "{}", short(&entry.to_string()))?;
        }
    }
    writeln!(out, "\nsee it again: {}", replay_command(kind, seed, part))
}

/// What came of writing. That nobody reads on, as behind `head`, is no failure.
fn written(wrote: io::Result<()>) -> Result<(), String> {
    match wrote {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("can't write: {error}")),
        _ => Ok(()),
    }
}

/// Lines that are not longer than people read.
fn short(text: &str) -> String {
    const LONGEST: usize = 300;
    let cut = |line: &str| match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

fn replay_command(kind: Kind, seed: u64, part: &Part) -> String {
    format!("cargo run -p headwater-sim -- replay --worlds {kind} --seed {seed} --trace{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_that_is_not_empty() {
        assert_eq!(seeds("5_000..6_000"), Ok(5_000..6_000));
        assert_eq!(seeds("7.."), Ok(7..u64::MAX));
        assert_eq!(seeds("7"), Ok(7..8));
        for text in ["9..5", "5..5", "x..5", "..5", ""] {
            assert!(seeds(text).is_err(), "{text}");
        }
    }
}
