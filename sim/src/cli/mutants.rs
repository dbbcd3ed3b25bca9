//! `mutants`: whether bugs are found.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use headwater_sim::many::Kind;

use super::Done;

#[derive(Args)]
pub(super) struct Options {
    /// Only those whose names hold this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only those from this name or number on, as in 17; what was found of the others is remembered.
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// In how many worlds each is looked for.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    seeds: u64,
    /// How many worlds run at the same time.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// A bug to be planted.
#[derive(Debug)]
struct Mutant {
    name: String,
    patch: PathBuf,
    /// What it breaks, in a line.
    about: String,
    /// In which worlds it is looked for.
    kind: Kind,
}

/// Where bugs are planted, below the target folder: a copy of the sources, and what is built of it.
struct Nursery {
    sources: PathBuf,
    copy: PathBuf,
    target: PathBuf,
    /// What was found of each mutant, a row of the table in each file.
    rows: PathBuf,
}

/// What became of a mutant.
struct Found {
    caught: bool,
    row: String,
}

/// A run that takes longer has not found anything.
const LONGEST: Duration = Duration::from_secs(30 * 60);

pub(super) fn run(options: &Options) -> Done {
    let nursery = Nursery::new()?;
    let mutants = mutants(&nursery.sources.join("sim/mutants"))?;
    let from = options.from.as_deref().unwrap_or_default();
    let chosen = |mutant: &Mutant| {
        options.only.as_ref().is_none_or(|only| mutant.name.contains(only.as_str()))
            && is_from(&mutant.name, from)
    };
    if !mutants.iter().any(chosen) {
        return Err("there are no such mutants".to_owned());
    }
    nursery.remember_nothing_unless(options.from.is_some() || options.only.is_some())?;
    let mut survivors = Vec::new();
    for mutant in mutants.iter().filter(|mutant| chosen(mutant)) {
        eprintln!("{} …", mutant.name);
        let found = nursery.look_for(mutant, options)?;
        eprintln!("{}", found.row);
        fs::write(nursery.rows.join(&mutant.name), &found.row)
            .map_err(|error| failed("keep a row", &error))?;
        if !found.caught {
            survivors.push(mutant.name.as_str());
        }
    }
    nursery.plant(None)?;
    println!("| mutant | what is wrong | worlds | caught by | at seed | after |\n|---|---|---|---|---|---|");
    for mutant in &mutants {
        if let Ok(row) = fs::read_to_string(nursery.rows.join(&mutant.name)) {
            println!("{row}");
        }
    }
    match survivors.is_empty() {
        true => println!("\nall caught"),
        false => println!("\n{} survive: {}", survivors.len(), survivors.join(", ")),
    }
    Ok(survivors.is_empty())
}

/// Whether a mutant is not before this name or number.
fn is_from(name: &str, from: &str) -> bool {
    let number = |text: &str| text.split('-').next().and_then(|number| number.parse::<u64>().ok());
    match (number(name), from.parse()) {
        (Some(number), Ok(from)) => number >= from,
        _ => name >= from,
    }
}

/// All patches of a folder, in the order of their names.
fn mutants(folder: &Path) -> Result<Vec<Mutant>, String> {
    let files = fs::read_dir(folder).map_err(|error| failed("read the folder of mutants", &error))?;
    let paths = files.filter_map(|file| Some(file.ok()?.path()));
    let mut mutants = Vec::new();
    for patch in paths.filter(|path| path.extension().is_some_and(|end| end == "patch")) {
        let text = fs::read_to_string(&patch).map_err(|error| failed("read a mutant", &error))?;
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let kind = head.iter().find_map(|line| line.strip_prefix("worlds: "));
        let kind = kind.unwrap_or("core").trim().parse().map_err(|error| format!("{name}: {error}"))?;
        let about = head.iter().filter(|line| !line.starts_with("worlds: ")).copied();
        mutants.push(Mutant { name, about: about.collect::<Vec<_>>().join(" "), kind, patch });
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutants)
}

impl Nursery {
    fn new() -> Result<Nursery, String> {
        let program = std::env::current_exe().map_err(|error| failed("find this program", &error))?;
        let target = program.parent().and_then(Path::parent).ok_or("this program is in no target folder")?;
        let home = target.join("mutants");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let nursery = Nursery {
            sources,
            copy: home.join("copy"),
            target: home.join("target"),
            rows: home.join("rows"),
        };
        for folder in [&nursery.copy, &nursery.rows] {
            fs::create_dir_all(folder).map_err(|error| failed("make a folder for mutants", &error))?;
        }
        Ok(nursery)
    }

    fn remember_nothing_unless(&self, remembers: bool) -> Result<(), String> {
        if !remembers {
            fs::remove_dir_all(&self.rows)
                .and_then(|()| fs::create_dir(&self.rows))
                .map_err(|error| failed("forget what was found before", &error))?;
        }
        Ok(())
    }

    /// Copies the sources, and changes them as the patch says. A file that is as it should be is not touched, so that
    /// little is built again.
    fn plant(&self, patch: Option<&Path>) -> Result<(), String> {
        let listed = Command::new("git").arg("-C").arg(&self.sources).args(["ls-files", "-z"]).output();
        let listed = listed.map_err(|error| failed("ask git for the sources", &error))?;
        if !listed.status.success() {
            return Err("git does not know the sources".to_owned());
        }
        let listed = String::from_utf8_lossy(&listed.stdout);
        let names: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
        for name in &names {
            self.copy_file(name).map_err(|error| failed(&format!("copy {name}"), &error))?;
        }
        let is_one = |file: &Path| {
            let name = file.strip_prefix(&self.copy).ok().and_then(Path::to_str);
            name.is_some_and(|name| names.contains(name) && self.sources.join(name).exists())
        };
        remove_unless(&self.copy, &is_one).map_err(|error| failed("remove what is no source", &error))?;
        let Some(patch) = patch else { return Ok(()) };
        let mut apply = Command::new("git");
        // Else it would be the repository around the target folder that is changed.
        apply.env("GIT_CEILING_DIRECTORIES", self.copy.parent().unwrap_or(&self.copy));
        apply.current_dir(&self.copy).arg("apply").arg(patch);
        let applied = apply.output().map_err(|error| failed("run git", &error))?;
        match applied.status.success() {
            true => Ok(()),
            false => Err(format!("it does not apply: {}", String::from_utf8_lossy(&applied.stderr).trim())),
        }
    }

    fn copy_file(&self, name: &str) -> io::Result<()> {
        let (from, to) = (self.sources.join(name), self.copy.join(name));
        // One that is removed and not committed.
        let Ok(bytes) = fs::read(&from) else { return Ok(()) };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(to, bytes)
    }

    /// A mutant that can't be planted or built any more is found by nobody.
    fn look_for(&self, mutant: &Mutant, options: &Options) -> Result<Found, String> {
        let row = |caught: &str, seed: &str, after: &str| {
            let Mutant { name, about, kind, .. } = mutant;
            format!("| {name} | {about} | {kind} | {caught} | {seed} | {after} |")
        };
        if let Err(error) = self.plant(Some(&mutant.patch)) {
            eprintln!("{error}");
            return Ok(Found { caught: false, row: row("**does not apply**", "–", "–") });
        }
        let built = self.build().output().map_err(|error| failed("run cargo", &error))?;
        if !built.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&built.stderr));
            return Ok(Found { caught: false, row: row("**does not build**", "–", "–") });
        }
        let started = Instant::now();
        let (text, ended) = self.run_worlds(mutant, options)?;
        let after = format!("{:.1} s", started.elapsed().as_secs_f64());
        let failure = text.lines().rev().find_map(|line| line.strip_prefix("failed: "));
        let mut words = failure.unwrap_or_default().split(' ').skip(1);
        Ok(match (words.next(), words.next()) {
            (Some(seed), Some(law)) => Found { caught: true, row: row(law, seed, &after) },
            _ if !ended => Found { caught: true, row: row("a crash of the simulation", "?", &after) },
            _ => Found { caught: false, row: row("**nothing**", "–", &after) },
        })
    }

    /// What the copy prints about its worlds, and whether it has come to its end in good order.
    fn run_worlds(&self, mutant: &Mutant, options: &Options) -> Result<(String, bool), String> {
        let log = self.rows.with_file_name("run.log");
        let file = fs::File::create(&log).map_err(|error| failed("keep what a run prints", &error))?;
        let mut run = Command::new(self.target.join("debug/headwater-sim"));
        run.args(["run", "--seeds", &format!("0..{}", options.seeds), "--worlds", mutant.kind.name()]);
        if let Some(jobs) = options.jobs {
            run.args(["--jobs", &jobs.to_string()]);
        }
        run.env("RUST_BACKTRACE", "0").stdout(file).stderr(Stdio::null());
        let mut child = run.spawn().map_err(|error| failed("run the worlds", &error))?;
        let until = Instant::now() + LONGEST;
        let ended = loop {
            match child.try_wait().map_err(|error| failed("wait for the worlds", &error))? {
                Some(status) => break matches!(status.code(), Some(0 | 1)),
                None if Instant::now() >= until => {
                    child.kill().map_err(|error| failed("end the worlds", &error))?;
                    child.wait().map_err(|error| failed("end the worlds", &error))?;
                    break true;
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let text = fs::read(&log).map_err(|error| failed("read what a run has printed", &error))?;
        Ok((String::from_utf8_lossy(&text).into_owned(), ended))
    }

    fn build(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.target).arg("build");
        cargo.args(["--locked", "--quiet", "--package", "headwater-sim", "--bin", "headwater-sim"]);
        // Most mutants are found within a few worlds: what takes long is to build them.
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo
    }
}

/// Removes all files below a folder but those that are to stay.
fn remove_unless(folder: &Path, stays: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => remove_unless(&path, stays)?,
            false if !stays(&path) => fs::remove_file(&path)?,
            false => {}
        }
    }
    Ok(())
}

fn failed(doing: &str, error: &io::Error) -> String {
    format!("can't {doing}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_are_counted_by_their_numbers() {
        assert!(is_from("02-answer", "1") && is_from("10-lag", "9") && is_from("17-twice", "17"));
        assert!(!is_from("02-answer", "3") && !is_from("16-sent", "17"));
        assert!(is_from("17-twice", "17-t") && !is_from("17-twice", "17-u"));
        assert!(is_from("17-twice", ""));
    }
}
