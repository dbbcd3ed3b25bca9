//! Many connections: what they cost while nothing is for them, how fast they come, and come back.

use std::time::Duration;

use super::calls::{is_set, set};
use super::fan_out::{Delivered, Pace, micros_each};
use crate::bench::clock::Moment;
use crate::bench::crowd::{Crowd, Groups};
use crate::bench::machine::Process;
use crate::bench::report::Report;
use crate::bench::sequence::Faults;
use crate::bench::value::{Space, VALUE_BYTES};
use crate::bench::worker::Worker;
use crate::bench::{Bench, BenchError};

/// How many connect at once where only that is measured.
const ACCEPTING: usize = 256;
/// How many sets are in flight while a group is filled.
const FILLING: usize = 64;
/// How often memory is looked at until it stays as it is.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: usize = 20;
/// By how much it may differ then.
const STILL: u64 = 128 << 10;

pub(super) async fn idle(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    connections: usize,
) -> Result<Report, BenchError> {
    let process = bench.process.ok_or_else(|| {
        BenchError::Machine(
            "idle: it needs the server's process on this machine, and that was not found: say --pid"
                .to_owned(),
        )
    })?;
    let before = settled(process).await?;
    let mut crowd = Crowd::start(bench.plan(space, connections, Groups::Own(0), 0))?;
    crowd.joined().await?;
    let with = settled(process).await?;
    let meter = bench.meter();
    tokio::time::sleep(Duration::from_secs(bench.seconds)).await;
    let cpu = meter.stop();
    let seen = crowd.leave_now(0)?;
    let after = settled(process).await?;
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let each = (kib(with) - kib(before)) / connections as f64;
    report.figure("kib_per_connection", "server's memory a connection", "KiB", each);
    report.figure("kib_before", "server's memory before", "KiB", kib(before));
    report.figure("kib_with", "with all connections", "KiB", kib(with));
    report.figure("kib_after", "after they have gone", "KiB", kib(after));
    if let Some(cpu) = cpu {
        let share = cpu.as_secs_f64() / Duration::from_secs(bench.seconds).as_secs_f64();
        report.figure("cpu_percent", "processor while idle", "%", share * 100.0);
    }
    report.faults(&seen.faults);
    Ok(report)
}

/// The memory of a process once it stays about as it is.
async fn settled(process: Process) -> Result<u64, BenchError> {
    let memory = || {
        let memory = process.memory();
        memory.ok_or_else(|| BenchError::Machine("the server's process has ended".to_owned()))
    };
    let mut before = memory()?;
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = memory()?;
        if now.abs_diff(before) < STILL {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}

/// Alone, among many, and alone again: what is slow about the machine at the moment is slow for both.
pub(super) async fn selective(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    connections: usize,
) -> Result<Report, BenchError> {
    let whole = Duration::from_secs(bench.seconds);
    let half = Duration::from_millis(bench.seconds * 500);
    let mut worker = Worker::connect(&bench.workers).await?;
    let (mut first, mut faults) = (0, Faults::default());
    let mut phases = Vec::new();
    for (among_others, time) in [(false, half), (true, whole), (false, half)] {
        let others = if among_others {
            let others = Crowd::start(bench.plan(space, connections.saturating_sub(1), Groups::Own(1), 0))?;
            others.joined().await?;
            Some(others)
        } else {
            None
        };
        let crowd = bench.crowd(space, 1, first).await?;
        let delivered = bench.deliver(&mut worker, space, crowd, 1, first, Pace::For(time)).await?;
        first += delivered.answers.count;
        faults.add(&delivered.answers.faults);
        faults.add(&delivered.seen.faults);
        if let Some(others) = others {
            faults.add(&others.leave(0).await?.faults);
        }
        phases.push(delivered);
    }
    let [mut alone, among, again]: [Delivered; 3] =
        phases.try_into().map_err(|_| BenchError::Machine("three phases were run".to_owned()))?;
    alone.answers.add(&again.answers);
    alone.seen.times.add(&again.seen.times);
    alone.writing += again.writing;
    report.beside("alone");
    if let (Some(cpu), Some(first), Some(second)) = (among.cpu, alone.cpu, again.cpu) {
        let each = micros_each(cpu, among.answers.count);
        let without = micros_each(first + second, alone.answers.count);
        report.compared("cpu_us_per_write", "processor time a write", "us", each, without);
    }
    for (key, name, percent) in
        [("p50_us", "from set to delivery, p50", 50.0), ("p99_us", "from set to delivery, p99", 99.0)]
    {
        let (times, without) = (&among.seen.times, &alone.seen.times);
        report.compared(key, name, "us", times.percentile(percent), without.percentile(percent));
    }
    let rate = |delivered: &Delivered| delivered.answers.count as f64 / delivered.writing.as_secs_f64();
    report.compared("writes_per_second", "sets a second", "", rate(&among), rate(&alone));
    report.faults(&faults);
    Ok(report)
}

pub(super) async fn reconnect(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    subscribers: usize,
    items: usize,
) -> Result<Report, BenchError> {
    let mut worker = Worker::connect(&bench.workers).await?;
    let mut numbers = 0..items as u64;
    let fill = |worker: &mut Worker| {
        numbers.next().inspect(|number| set(worker, space, 0, *number, VALUE_BYTES)).is_some()
    };
    let filled = worker.drive(FILLING, fill, is_set).await?;
    report.faults(&filled.faults);
    let mut crowd = bench.crowd(space, subscribers, items as u64).await?;
    let meter = bench.meter();
    let dropped = Moment::now();
    report.faults(&crowd.leave_now(items as u64)?.faults);
    let mut plan = bench.plan(space, subscribers, Groups::One(0), items as u64);
    plan.at_once = subscribers;
    let mut crowd = Crowd::start(plan)?;
    let synced = crowd.joined().await?;
    let cpu = meter.stop();
    let memory = bench.process.and_then(Process::memory);
    report.faults(&crowd.leave_now(items as u64)?.faults);
    let took = synced.since(dropped);
    report.figure("seconds", "until all have their sync", "s", took.as_secs_f64());
    if let Some(cpu) = cpu {
        let each = micros_each(cpu, subscribers as u64);
        report.figure("cpu_us_per_subscriber", "processor time a subscriber", "us", each);
    }
    if let Some(memory) = memory {
        report.figure("kib_with", "server's memory then", "KiB", memory as f64 / 1024.0);
    }
    Ok(report)
}

pub(super) async fn accept(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    connections: usize,
) -> Result<Report, BenchError> {
    let mut plan = bench.plan(space, connections, Groups::None, 0);
    plan.at_once = ACCEPTING;
    let meter = bench.meter();
    let start = Moment::now();
    let crowd = Crowd::start(plan)?;
    let last = crowd.joined().await?;
    let cpu = meter.stop();
    let seen = crowd.leave(0).await?;
    let rate = connections as f64 / last.since(start).as_secs_f64();
    report.figure("connections_per_second", "connections a second", "", rate);
    if let Some(cpu) = cpu {
        let each = micros_each(cpu, connections as u64);
        report.figure("cpu_us_per_connection", "processor time a connection", "us", each);
    }
    report.faults(&seen.faults);
    Ok(report)
}
