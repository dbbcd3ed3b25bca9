//! The scenarios: what each does, and what it has to say.

mod calls;
mod connections;
mod fan_out;
mod triggers;

use super::report::Report;
use super::value::Space;
use super::{Bench, BenchError, Options, Scenario};

/// One table: a scenario and its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row {
    Idle { connections: usize },
    Latency,
    Throughput,
    Increments,
    Burst { subscribers: usize, writes: u64 },
    Paced { subscribers: usize, rate: u64 },
    Selective { connections: usize },
    Triggers { groups: usize },
    Slow { subscribers: usize, rate: u64 },
    Reconnect { subscribers: usize, items: usize },
    Accept { connections: usize },
}

impl Row {
    /// What a scenario consists of.
    pub(super) fn of(scenario: Scenario, options: &Options) -> Vec<Row> {
        let Options { writes, rate, items, groups, .. } = *options;
        let subscribers = |usual| options.subscribers.unwrap_or(usual);
        let paced = |(usual, usual_rate): (usize, u64)| Row::Paced {
            subscribers: subscribers(usual),
            rate: rate.unwrap_or(usual_rate),
        };
        match scenario {
            Scenario::All => vec![],
            Scenario::Idle => vec![Row::Idle { connections: subscribers(10_000) }],
            Scenario::Latency => vec![Row::Latency],
            Scenario::Throughput => vec![Row::Throughput],
            Scenario::Increments => vec![Row::Increments],
            Scenario::FanOutBurst => vec![Row::Burst { subscribers: subscribers(1_000), writes }],
            Scenario::FanOutPaced if options.subscribers.or(rate.map(|_| 0)).is_some() => {
                vec![paced((100, 100))]
            }
            Scenario::FanOutPaced => [(100, 100), (1_000, 20)].map(paced).into(),
            Scenario::Selective => vec![Row::Selective { connections: subscribers(10_000) }],
            Scenario::Triggers => vec![Row::Triggers { groups }, Row::Triggers { groups: 1 }],
            Scenario::Slow => vec![Row::Slow { subscribers: subscribers(1_000), rate: rate.unwrap_or(20) }],
            Scenario::Reconnect => vec![Row::Reconnect { subscribers: subscribers(5_000), items }],
            Scenario::Accept => vec![Row::Accept { connections: subscribers(5_000) }],
        }
    }

    /// Its scenario's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Row::Idle { .. } => "idle",
            Row::Latency => "latency",
            Row::Throughput => "throughput",
            Row::Increments => "increments",
            Row::Burst { .. } => "fan-out-burst",
            Row::Paced { .. } => "fan-out-paced",
            Row::Selective { .. } => "selective",
            Row::Triggers { .. } => "triggers",
            Row::Slow { .. } => "slow",
            Row::Reconnect { .. } => "reconnect",
            Row::Accept { .. } => "accept",
        }
    }

    /// What is run, in words.
    pub(super) fn what(&self, seconds: u64) -> String {
        match self {
            Row::Idle { connections } => {
                format!("{connections} connections, each joined to a group of its own, {seconds} s")
            }
            Row::Latency => format!("one caller, one set after the other, {seconds} s"),
            Row::Throughput => {
                format!("{} workers, {} sets in flight each, {seconds} s", calls::WORKERS, calls::WINDOW)
            }
            Row::Increments => format!(
                "{} workers, {} increments in flight each, of the same {} items, {seconds} s",
                calls::MANY_WORKERS,
                calls::SMALL_WINDOW,
                calls::COUNTERS
            ),
            Row::Burst { subscribers, writes } => {
                format!(
                    "{subscribers} subscribers of one group, {writes} sets as fast as they are acknowledged"
                )
            }
            Row::Paced { subscribers, rate } => {
                format!("{subscribers} subscribers of one group, {rate} sets a second, {seconds} s")
            }
            Row::Selective { connections } => format!(
                "sets to one group with one subscriber, as fast as they are acknowledged, {seconds} s; {connections} \
                 connections have joined a group each, or none but that one"
            ),
            Row::Triggers { groups: 1 } => {
                format!("a handler of a stream's changes, sets to one group alone, {seconds} s")
            }
            Row::Triggers { groups } => {
                format!("a handler of a stream's changes, sets over {groups} groups, {seconds} s")
            }
            Row::Slow { subscribers, rate } => format!(
                "{} subscribers of one group, {rate} sets a second, {seconds} s, with and without one more that reads \
                 nothing",
                subscribers.saturating_sub(1)
            ),
            Row::Reconnect { subscribers, items } => {
                format!(
                    "{subscribers} subscribers of one group of {items} items lose their connection and come back at once"
                )
            }
            Row::Accept { connections } => format!("{connections} connections are opened, and kept"),
        }
    }

    /// A report that has only the numbers of what is run.
    pub(super) fn report(&self) -> Report {
        self.report_of(0)
    }

    fn report_of(&self, seconds: u64) -> Report {
        let mut report = Report::new(self.name(), self.what(seconds));
        let mut parameter = |key, value: usize| report.parameter(key, value as u64);
        match *self {
            Row::Idle { connections } | Row::Selective { connections } | Row::Accept { connections } => {
                parameter("connections", connections);
            }
            Row::Latency | Row::Throughput | Row::Increments => {}
            Row::Burst { subscribers, writes } => {
                parameter("subscribers", subscribers);
                report.parameter("writes", writes);
            }
            Row::Paced { subscribers, rate } | Row::Slow { subscribers, rate } => {
                parameter("subscribers", subscribers);
                report.parameter("rate", rate);
            }
            Row::Triggers { groups } => parameter("groups", groups),
            Row::Reconnect { subscribers, items } => {
                parameter("subscribers", subscribers);
                parameter("items", items);
            }
        }
        report
    }

    /// What it writes, at the most.
    pub(super) fn space(&self, suffix: &str) -> Space {
        let (groups, items) = match *self {
            Row::Idle { .. } | Row::Accept { .. } => (0, 0),
            Row::Latency | Row::Throughput => (1, calls::ITEMS),
            Row::Increments => (1, calls::COUNTERS),
            Row::Burst { .. } | Row::Paced { .. } | Row::Selective { .. } => (1, fan_out::ITEMS),
            Row::Triggers { groups } => (groups, triggers::ITEMS),
            // The second group is what fills the connection of the one that reads nothing.
            Row::Slow { .. } => (2, fan_out::ITEMS),
            Row::Reconnect { items, .. } => (1, items),
        };
        Space { stream: format!("bench-{}-{suffix}", self.name()), groups, items }
    }

    /// How many sockets the server has open at the most.
    pub(super) fn server_files(&self) -> u64 {
        let sockets = match *self {
            Row::Idle { connections } | Row::Selective { connections } | Row::Accept { connections } => {
                connections
            }
            Row::Latency | Row::Throughput | Row::Increments | Row::Triggers { .. } => 0,
            Row::Burst { subscribers, .. }
            | Row::Paced { subscribers, .. }
            | Row::Slow { subscribers, .. } => subscribers,
            // The server may not have noticed yet that the old ones are gone.
            Row::Reconnect { subscribers, .. } => 2 * subscribers,
        };
        sockets as u64
    }

    /// How many sockets this process has open at the most: of the floor, both ends.
    pub(super) fn own_files(&self) -> u64 {
        match *self {
            Row::Burst { subscribers, .. } | Row::Paced { subscribers, .. } => 2 * subscribers as u64,
            Row::Reconnect { subscribers, .. } => subscribers as u64,
            _ => self.server_files(),
        }
    }

    pub(super) async fn run(&self, bench: &Bench, space: &Space) -> Result<Report, BenchError> {
        let report = self.report_of(bench.seconds);
        match *self {
            Row::Idle { connections } => connections::idle(bench, space, report, connections).await,
            Row::Latency => calls::latency(bench, space, report).await,
            Row::Throughput => calls::throughput(bench, space, report).await,
            Row::Increments => calls::increments(bench, space, report).await,
            Row::Burst { subscribers, writes } => {
                fan_out::burst(bench, space, report, subscribers, writes).await
            }
            Row::Paced { subscribers, rate } => fan_out::paced(bench, space, report, subscribers, rate).await,
            Row::Selective { connections } => connections::selective(bench, space, report, connections).await,
            Row::Triggers { groups } => triggers::triggers(bench, space, report, groups).await,
            Row::Slow { subscribers, rate } => fan_out::slow(bench, space, report, subscribers, rate).await,
            Row::Reconnect { subscribers, items } => {
                connections::reconnect(bench, space, report, subscribers, items).await
            }
            Row::Accept { connections } => connections::accept(bench, space, report, connections).await,
        }
    }
}
