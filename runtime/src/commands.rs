//! `headwater export`, `import`, `repair` and `bench`, as far as they are the command line's.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use headwater::backup::{self, Address, Imported, Tail, Wanted};
use headwater::bench::{self, Options, Scenario};
use headwater::platform::{Platform as _, System};
use headwater::store::{Folder, OpenError, repair};
use headwater_core::name::{GroupName, GroupPath, StreamName};
use tokio::runtime::Runtime;

use crate::{counted, say};

#[derive(Args)]
pub(crate) struct Export {
    /// The folder of a server that is stopped.
    #[arg(long, value_name = "DIR", required_unless_present = "url", conflicts_with_all = ["url", "token"])]
    data: Option<PathBuf>,
    /// The worker port of a running server, such as `http://127.0.0.1:49134`.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What its `worker_token` is. Others on this machine may see it: HEADWATER_TOKEN in the environment is better.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// This stream alone.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// This group of it alone.
    #[arg(long, value_name = "NAME", requires = "stream")]
    group: Option<String>,
}

#[derive(Args)]
pub(crate) struct Import {
    /// The worker port of a running server, such as `http://127.0.0.1:49134`.
    #[arg(long, value_name = "URL")]
    url: String,
    /// What its `worker_token` is. Others on this machine may see it: HEADWATER_TOKEN in the environment is better.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The export; without one, standard input.
    file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Repair {
    /// The folder of the server, which must be stopped.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Go on without asking.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure; without any, all of it. A server that has just started tells most about memory.
    #[arg(value_enum, value_name = "SCENARIO")]
    scenarios: Vec<Scenario>,
    /// The worker port of the server.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:49134")]
    workers: String,
    /// Its stream port.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:3112")]
    streams: String,
    /// What its `worker_token` is. Others on this machine may see it: HEADWATER_TOKEN in the environment is better.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// One line of JSON for each table.
    #[arg(long)]
    json: bool,
    /// How long to measure, where it goes by time.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many subscribers or connections, instead of as many as the scenario has by itself.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    subscribers: Option<u64>,
    /// How many sets in a burst.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    writes: u64,
    /// How many sets a second where they are paced, instead of as many as the scenario has by itself.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: Option<u64>,
    /// How many items in the group that many come back to.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    items: u64,
    /// How many groups a trigger is bound to.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    groups: u64,
    /// The server's process on this machine, for its processor time and memory; it is found by itself on a loopback
    /// address.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// How often an import tells how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

impl Export {
    fn wanted(&self) -> Wanted {
        let stream = self.stream.as_deref().map(StreamName::trusted);
        let group = self.group.as_deref().map(GroupName::trusted);
        match (stream, group) {
            (Some(stream), Some(group)) => Wanted::Group(GroupPath { stream, group }),
            (Some(stream), None) => Wanted::Stream(stream),
            (None, _) => Wanted::All,
        }
    }
}

/// Writes an export to standard output. What was written is whole if this succeeds.
pub(crate) fn export(command: &Export) -> Result<String, String> {
    let wanted = command.wanted();
    let mut tail = Tail::default();
    let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
    let mut put = |bytes: &[u8]| {
        tail.push(bytes);
        out.write_all(bytes)
    };
    match (&command.data, &command.url) {
        (Some(folder), _) => {
            let exported = backup::export_folder(folder, &wanted);
            let mut chunks = exported
                .map_err(|error| format!("the store in {} can't be exported: {error}", folder.display()))?;
            while let Some(chunk) = chunks.blocking_recv() {
                put(&chunk).map_err(|error| unwritable(&error))?;
            }
        }
        (None, Some(url)) => {
            let address = address(url, command.token.as_ref())?;
            let downloaded = runtime()?.block_on(backup::download(&address, &wanted, put));
            downloaded.map_err(|error| error.to_string())?;
        }
        (None, None) => return Err("say what to export: `--data DIR` or `--url URL`".to_owned()),
    }
    out.flush().map_err(|error| unwritable(&error))?;
    let items = tail.finish().map_err(|error| format!("the export is not whole: {error}"))?;
    Ok(format!("{} exported", counted(items, "item")))
}

fn unwritable(error: &io::Error) -> String {
    format!("can't write the export: {error}")
}

/// Sets all items of an export.
pub(crate) fn import(command: &Import) -> Result<String, String> {
    let address = address(&command.url, command.token.as_ref())?;
    let file: Box<dyn Read + Send> = match &command.file {
        Some(path) => {
            Box::new(File::open(path).map_err(|error| format!("can't read {}: {error}", path.display()))?)
        }
        None => Box::new(io::stdin()),
    };
    let mut told = Instant::now();
    let progress = |items| {
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!("headwater: {} set so far", counted(items, "item"));
        }
    };
    let Imported { items, error } = runtime()?.block_on(backup::import(&address, file, progress));
    let items = counted(items, "item");
    match error {
        None => Ok(format!("{items} set")),
        Some(error) => Err(format!("{error}\nheadwater: {items} set; importing them again is harmless")),
    }
}

/// Runs scenarios. Whether everything came, once, in order, and every call was answered.
pub(crate) fn bench(command: &Bench) -> Result<bool, String> {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let options = Options {
        scenarios: command.scenarios.clone(),
        workers: address(&command.workers, command.token.as_ref())?,
        streams: Address::parse(&command.streams, None).map_err(|error| error.to_string())?,
        seconds: command.seconds,
        subscribers: command.subscribers.map(count),
        writes: command.writes,
        rate: command.rate,
        items: count(command.items),
        groups: count(command.groups),
        pid: command.pid,
    };
    let tell = |report: &bench::Report| {
        say(&if command.json { format!("{}\n", report.json()) } else { report.table() });
    };
    let starts = |scenario: &str| eprintln!("headwater: measuring {scenario}");
    let stop = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    };
    let ended = runtime()?.block_on(bench::run(&options, stop, starts, tell));
    ended.map_err(|error| error.to_string())
}

/// Repairs a store, if its damage can be lived with.
pub(crate) fn repair(command: &Repair) -> Result<String, String> {
    let data = command.data.display();
    let refused = |error: OpenError| match error {
        OpenError::InUse { holder } => {
            format!("{data} is in use by a running Headwater (process {holder}): stop it first")
        }
        error => format!("the store in {data} can't be repaired: {error}"),
    };
    let Some(folder) = Folder::lock_store(&command.data).map_err(refused)? else {
        return Err(format!("there is no store in {data}"));
    };
    let findings = repair::look(&folder).map_err(refused)?;
    if findings.is_whole() {
        return Ok(format!("nothing is damaged in {data}, and nothing was changed"));
    }
    say(&findings.report());
    if !command.yes && !agreed()? {
        return Err("nothing was changed".to_owned());
    }
    let repaired = findings.repair(System::new().entropy()).map_err(|error| {
        format!("the store in {data} is not repaired: {error}; what was changed was copied before, as `FILE.damaged-N`")
    })?;
    for file in &repaired.kept {
        say(&format!("Kept {file}.\n"));
    }
    let (items, groups) = (counted(repaired.items, "item"), counted(repaired.groups, "group"));
    Ok(format!("the store in {data} is whole again, and holds {items} in {groups}"))
}

/// Whether the person at the terminal wants to go on; without one, only `--yes` can say so.
fn agreed() -> Result<bool, String> {
    if !io::stdin().is_terminal() {
        return Err("nothing was changed: to go on without being asked, add `--yes`".to_owned());
    }
    say("go on? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| format!("can't read the answer: {error}"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn address(url: &str, token: Option<&String>) -> Result<Address, String> {
    let token =
        token.cloned().or_else(|| std::env::var("HEADWATER_TOKEN").ok().filter(|token| !token.is_empty()));
    Address::parse(url, token).map_err(|error| error.to_string())
}

fn runtime() -> Result<Runtime, String> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| format!("can't start: {error}"))
}
