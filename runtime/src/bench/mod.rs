//! `headwater bench`: load on any server that speaks both protocols, measured and checked.
//!
//! Writers and subscribers are this one process, so that one clock says how long a delivery took. Each value carries a
//! number: whatever is lost, repeated or out of order is counted, and nothing is measured that is not checked.

mod clock;
mod crowd;
mod floor;
mod machine;
mod report;
mod scenarios;
mod sequence;
mod value;
mod websocket;
mod worker;

use std::future::Future;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::backup::Address;
use crate::files;
use machine::{Cpu, Process, Usage};
pub use report::Report;
use scenarios::Row;
use value::Space;
use websocket::Broken;
use worker::Worker;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// All that follow, as far as the limits of open files allow.
    All,
    /// Connections that have joined and get nothing: the server's memory for each.
    Idle,
    /// One caller, one set after the other.
    Latency,
    /// Four workers with 64 sets in flight each.
    Throughput,
    /// Increments of the same items by many workers, which must add up.
    Increments,
    /// One group, many subscribers, sets as fast as they are acknowledged.
    FanOutBurst,
    /// One group, many subscribers, so many sets a second.
    FanOutPaced,
    /// What connections cost that have joined other groups.
    Selective,
    /// A handler of a stream's changes: over many groups, and of one alone.
    Triggers,
    /// What a subscriber that reads nothing costs the others.
    Slow,
    /// All subscribers lose their connection, and come back at once.
    Reconnect,
    /// Connections a second.
    Accept,
}

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// In this order; none of them is all.
    pub scenarios: Vec<Scenario>,
    /// The worker port.
    pub workers: Address,
    /// The stream port.
    pub streams: Address,
    /// How long a scenario measures, where it goes by time.
    pub seconds: u64,
    /// How many subscribers, if not as many as the scenario has by itself.
    pub subscribers: Option<usize>,
    /// How many writes of a burst.
    pub writes: u64,
    /// How many writes a second, if not as many as the scenario has by itself.
    pub rate: Option<u64>,
    /// How many items in the group that many come back to.
    pub items: usize,
    /// How many groups a trigger is bound to.
    pub groups: usize,
    /// The server's process, if it can't be found by its port.
    pub pid: Option<u32>,
}

/// Why a scenario can't be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Nobody is there, or it takes no worker.
    #[error("can't connect to {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
    /// A subscriber can't connect or join.
    #[error("a subscriber can't join: {0}")]
    Subscriber(String),
    /// A connection ended.
    #[error("a worker's connection has ended: {0}")]
    Disconnected(String),
    /// A call that everything else needs was refused.
    #[error("{function} was refused: {error}")]
    Refused {
        /// What was called.
        function: String,
        /// What the server said.
        error: String,
    },
    /// Nothing comes any more.
    #[error("the server has said nothing for {} s", worker::PATIENCE.as_secs())]
    Silent,
    /// This machine does not give what is needed.
    #[error("{0}")]
    Machine(String),
    /// It was not done in a time that is long enough for any server.
    #[error("it was given up after {0} s")]
    Endless(u64),
    /// Somebody wants it to end.
    #[error("it was interrupted; what it had written is deleted")]
    Interrupted,
}

impl From<Broken> for BenchError {
    fn from(broken: Broken) -> BenchError {
        BenchError::Disconnected(broken.to_string())
    }
}

/// How long a scenario may take beside the time that it measures.
const LONGEST: Duration = Duration::from_secs(300);
/// How long it may take to delete what was written.
const CLEANING: Duration = Duration::from_secs(30);
/// How many deletes may be unanswered.
const CLEANING_WINDOW: usize = 64;
/// What may be open beside the connections of a scenario.
const FILES_BESIDE: u64 = 64;

/// What all scenarios have in common.
pub(crate) struct Bench {
    workers: Address,
    streams: Address,
    seconds: u64,
    process: Option<Process>,
}

/// Runs the scenarios one after the other and hands over what each has to say. Whether everything was as it should be.
pub async fn run(
    options: &Options,
    stop: impl Future<Output = ()>,
    starts: impl Fn(&str),
    mut tell: impl FnMut(&Report),
) -> Result<bool, BenchError> {
    let files = files::raise();
    let process = Process::find(options.pid, &options.workers).map_err(BenchError::Machine)?;
    let bench = Bench {
        workers: options.workers.clone(),
        streams: options.streams.clone(),
        seconds: options.seconds,
        process,
    };
    let all = options.scenarios.is_empty() || options.scenarios.contains(&Scenario::All);
    let chosen: &[Scenario] = if all { Scenario::value_variants() } else { &options.scenarios };
    let mut clean = true;
    let mut stop = std::pin::pin!(stop);
    for row in chosen.iter().flat_map(|scenario| Row::of(*scenario, options)) {
        if let Some(why) = too_few_files(&row, files, process) {
            if !all {
                return Err(BenchError::Machine(format!("{}: {why}", row.name())));
            }
            tell(&row.report().skip(why));
            continue;
        }
        starts(row.name());
        let space = row.space(&suffix()?);
        let limit = LONGEST + Duration::from_secs(4 * options.seconds);
        let usage = Usage::now(process);
        let ended = tokio::select! {
            biased;
            () = &mut stop => Err(BenchError::Interrupted),
            ended = timeout(limit, row.run(&bench, &space)) => {
                ended.unwrap_or(Err(BenchError::Endless(limit.as_secs())))
            }
        };
        let others = usage.and_then(Usage::of_others);
        // A server that is gone keeps what was written; that has been said by then.
        let cleaned = timeout(CLEANING, clean_up(&bench.workers, &space)).await;
        let mut report = ended?;
        if !matches!(cleaned, Ok(Ok(()))) {
            return Err(BenchError::Machine(format!(
                "what was written to the stream {} is still there",
                space.stream
            )));
        }
        if let Some(percent) = others {
            report.figure("others_percent", "processor that others have used", "%", percent);
        }
        clean &= report.is_clean();
        tell(&report);
    }
    Ok(clean)
}

/// Why a scenario does not fit into the limits of open files.
fn too_few_files(row: &Row, own: u64, server: Option<Process>) -> Option<String> {
    let (own_needs, server_needs) = (row.own_files() + FILES_BESIDE, row.server_files() + FILES_BESIDE);
    if own < own_needs {
        return Some(format!(
            "it needs {own_needs} open files, and may have {own}: raise the hard limit (`ulimit -Hn`) or choose fewer \
             with --subscribers"
        ));
    }
    // A server that raises its limit itself has done so by now.
    let servers = server.and_then(Process::files)?;
    (servers < server_needs).then(|| {
        format!(
            "the server needs {server_needs} open files, and may have {servers}: raise its limit (`ulimit -n`) or \
             choose fewer with --subscribers"
        )
    })
}

/// What nobody else's stream is called.
fn suffix() -> Result<String, BenchError> {
    let random = getrandom::u32().map_err(|error| BenchError::Machine(error.to_string()))?;
    Ok(format!("{random:08x}"))
}

/// Deletes every item that the scenario may have written.
async fn clean_up(workers: &Address, space: &Space) -> Result<(), BenchError> {
    let mut items = (0..space.groups).flat_map(|group| (0..space.items).map(move |item| (group, item)));
    if space.groups * space.items == 0 {
        return Ok(());
    }
    let mut worker = Worker::connect(workers).await?;
    let delete = |worker: &mut Worker| {
        let Some((group, item)) = items.next() else { return false };
        worker.call("stream::delete", 0, |input, _| {
            space.put_item(input, group, item);
            input.push(b'}');
        });
        true
    };
    let deleted =
        worker.drive(CLEANING_WINDOW, delete, |_, result: Option<&RawValue>| result.is_some()).await?;
    match deleted.faults.any() {
        false => Ok(()),
        true => Err(BenchError::Machine(deleted.faults.example.unwrap_or_default())),
    }
}

/// What the server's processor time is measured with.
struct Meter {
    process: Option<Process>,
    before: Option<Cpu>,
}

impl Bench {
    /// Starts to measure.
    fn meter(&self) -> Meter {
        Meter { process: self.process, before: self.process.and_then(Process::cpu) }
    }
}

impl Meter {
    /// The processor time since then, if it can be told.
    fn stop(self) -> Option<Duration> {
        Some(self.process?.cpu()?.since(self.before?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_needs_more_files_than_there_may_be_says_so() {
        let row = Row::Burst { subscribers: 1_000, writes: 1 };
        // Of the floor, both ends of each connection are in this process.
        assert_eq!(too_few_files(&row, 2_064, None), None);
        let why = too_few_files(&row, 2_063, None).expect("one is missing");
        assert!(why.contains("it needs 2064 open files, and may have 2063"), "{why}");
    }
}
