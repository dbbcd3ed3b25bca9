//! `meta`: one seed is one run.

use std::ops::{ControlFlow, Range};
use std::process::Command;

use clap::Args;
use headwater_sim::many::{Kind, Stuck, digest, in_order, run as run_world};

use super::{Done, Worlds, seeds};

#[derive(Args)]
pub(super) struct Options {
    /// Which, as in 0..200.
    #[arg(long, value_parser = seeds, default_value = "0..200")]
    seeds: Range<u64>,
    #[command(flatten)]
    worlds: Worlds,
}

#[derive(Args)]
pub(super) struct Digests {
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    #[command(flatten)]
    worlds: Worlds,
}

pub(super) fn run(options: &Options) -> Done {
    let kind = options.worlds.worlds;
    let twice = move |seed| {
        let texts = [text(kind, seed), text(kind, seed)];
        let parts = first_difference(&texts[0], &texts[1]);
        (seed, digest(&texts[0]), parts)
    };
    let (mut digests, mut differences) = (Vec::new(), 0_u64);
    let ended = in_order(options.seeds.clone(), options.worlds.jobs(), twice, |(seed, digest, parts)| {
        if let Some([one, other]) = parts {
            differences += 1;
            println!("{kind} world {seed} runs in two ways. Once:\n{one}\nand once:\n{other}");
        }
        digests.push(line(seed, digest));
        ControlFlow::Continue(())
    });
    ended.map_err(|stuck| never_ends(kind, &options.seeds, stuck))?;
    let elsewhere = in_another_process(options)?;
    for (here, there) in digests.iter().zip(&elsewhere).filter(|(here, there)| here != there) {
        differences += 1;
        println!("{kind} worlds run in another way in another process: {here} here, {there} there");
    }
    if elsewhere.len() != digests.len() {
        return Err(format!("the other process ran {} of {} worlds", elsewhere.len(), digests.len()));
    }
    println!(
        "{} {kind} worlds, each run three times in two processes: {differences} differences",
        digests.len()
    );
    Ok(differences == 0)
}

pub(super) fn print_digests(options: &Digests) -> Done {
    let kind = options.worlds.worlds;
    let work = move |seed| line(seed, digest(&text(kind, seed)));
    let ended = in_order(options.seeds.clone(), options.worlds.jobs(), work, |line| {
        println!("{line}");
        ControlFlow::Continue(())
    });
    ended.map_err(|stuck| never_ends(kind, &options.seeds, stuck))?;
    Ok(true)
}

fn in_another_process(options: &Options) -> Result<Vec<String>, String> {
    let Range { start, end } = options.seeds;
    let failed = |error| format!("can't run this program a second time: {error}");
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("digests").args(["--seeds", &format!("{start}..{end}")]);
    command.args(["--worlds", options.worlds.worlds.name(), "--jobs", &options.worlds.jobs().to_string()]);
    let output = command.output().map_err(failed)?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn text(kind: Kind, seed: u64) -> String {
    run_world(&*kind.draw(seed)).text()
}

fn line(seed: u64, digest: u64) -> String {
    format!("{seed} {digest:016x}")
}

fn never_ends(kind: Kind, seeds: &Range<u64>, Stuck { at }: Stuck) -> String {
    format!("{kind} world {} does not come to its end", seeds.start + at as u64)
}

/// The first lines in which two texts differ.
fn first_difference(one: &str, other: &str) -> Option<[String; 2]> {
    if one == other {
        return None;
    }
    let at = one.lines().zip(other.lines()).take_while(|(one, other)| one == other).count();
    Some([one, other].map(|text| text.lines().nth(at).unwrap_or("(it is over)").to_owned()))
}
