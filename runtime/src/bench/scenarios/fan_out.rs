//! One group, many subscribers: how fast each change reaches all of them, and what a delivery costs.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::calls::{is_set, set};
use crate::bench::clock::{Moment, Times};
use crate::bench::crowd::{AT_ONCE, Crowd, Groups, Plan, Seen};
use crate::bench::floor::{self, Floor, Load};
use crate::bench::report::Report;
use crate::bench::sequence::Faults;
use crate::bench::value::{Space, VALUE_BYTES};
use crate::bench::websocket::{Broken, Connection, put_text};
use crate::bench::worker::{Answers, PATIENCE, Worker};
use crate::bench::{Bench, BenchError};

/// The items that are written, of each group.
pub(super) const ITEMS: usize = 100;

/// What is written to fill the connection of one that reads nothing: more than the system and any server keep for it.
const FILLING: usize = 16 << 20;
/// In values of this size.
const LARGE_VALUE: usize = 128 << 10;

/// What came of writing to one group, and of delivering that.
pub(super) struct Delivered {
    pub(super) answers: Answers,
    pub(super) seen: Seen,
    /// From the first write to the last answer.
    pub(super) writing: Duration,
    /// From the first write to the last delivery.
    pub(super) took: Duration,
    /// The server's processor time for it.
    pub(super) cpu: Option<Duration>,
}

/// How sets follow each other.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// So many, each once the one before is acknowledged.
    Count(u64),
    /// The same, for so long.
    For(Duration),
    /// So many a second, for so long.
    Rate(u64, Duration),
}

impl Bench {
    /// A crowd that has joined the first group, into which `first` sets were made before.
    pub(super) async fn crowd(&self, space: &Space, members: usize, first: u64) -> Result<Crowd, BenchError> {
        let plan = self.plan(space, members, Groups::One(0), first);
        let crowd = Crowd::start(plan)?;
        crowd.joined().await?;
        Ok(crowd)
    }

    pub(super) fn plan(&self, space: &Space, members: usize, groups: Groups, first: u64) -> Plan {
        Plan {
            streams: self.streams.clone(),
            space: space.clone(),
            members,
            groups,
            first,
            items: space.items.min(usize::try_from(first).unwrap_or(usize::MAX)),
            at_once: AT_ONCE,
        }
    }

    /// Writes to the first group, and waits until the crowd has it all.
    pub(super) async fn deliver(
        &self,
        worker: &mut Worker,
        space: &Space,
        crowd: Crowd,
        members: usize,
        first: u64,
        pace: Pace,
    ) -> Result<Delivered, BenchError> {
        let meter = self.meter();
        let start = Instant::now();
        let moment = Moment::now();
        let (sent, answers) = write(worker, space, first, pace).await?;
        let writing = start.elapsed();
        let last = crowd.delivered(sent * members as u64).await;
        let cpu = meter.stop();
        let seen = crowd.leave(first + sent).await?;
        Ok(Delivered { answers, seen, writing, took: last.since(moment), cpu })
    }
}

/// Makes sets, and says how many.
async fn write(
    worker: &mut Worker,
    space: &Space,
    first: u64,
    pace: Pace,
) -> Result<(u64, Answers), BenchError> {
    let mut sent = 0;
    let end = match pace {
        Pace::Rate(rate, time) => return write_paced(worker, space, first, rate, time).await,
        Pace::For(time) => Some(Instant::now() + time),
        Pace::Count(_) => None,
    };
    let next = |worker: &mut Worker| {
        let more = match pace {
            Pace::Count(count) => sent < count,
            _ => end.is_some_and(|end| Instant::now() < end),
        };
        if more {
            set(worker, space, 0, first + sent, VALUE_BYTES);
            sent += 1;
        }
        more
    };
    let answers = worker.drive(1, next, is_set).await?;
    Ok((sent, answers))
}

/// Makes sets at their time, whether those before were answered or not.
async fn write_paced(
    worker: &mut Worker,
    space: &Space,
    first: u64,
    rate: u64,
    time: Duration,
) -> Result<(u64, Answers), BenchError> {
    let count = (rate * time.as_secs()).max(1);
    let start = tokio::time::Instant::now();
    let mut answers = Answers::new();
    let mut sent = 0;
    while sent < count {
        let due = start + Duration::from_nanos(1_000_000_000 / rate * sent);
        tokio::select! {
            biased;
            () = sleep_until(due) => {
                set(worker, space, 0, first + sent, VALUE_BYTES);
                worker.flush().await?;
                sent += 1;
            }
            read = worker.read(|heard| answers.hear(&heard, &mut is_set)) => read?,
        }
    }
    while worker.waiting() > 0 && answers.read(worker, &mut is_set).await? {}
    Ok((sent, answers))
}

pub(super) async fn burst(
    bench: &Bench,
    space: &Space,
    report: Report,
    subscribers: usize,
    writes: u64,
) -> Result<Report, BenchError> {
    beside_floor(bench, space, report, subscribers, Pace::Count(writes)).await
}

pub(super) async fn paced(
    bench: &Bench,
    space: &Space,
    report: Report,
    subscribers: usize,
    rate: u64,
) -> Result<Report, BenchError> {
    let pace = Pace::Rate(rate, Duration::from_secs(bench.seconds));
    beside_floor(bench, space, report, subscribers, pace).await
}

async fn beside_floor(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    subscribers: usize,
    pace: Pace,
) -> Result<Report, BenchError> {
    let mut worker = Worker::connect(&bench.workers).await?;
    let crowd = bench.crowd(space, subscribers, 0).await?;
    let delivered = bench.deliver(&mut worker, space, crowd, subscribers, 0, pace).await?;
    let Delivered { answers, seen, writing, took, cpu } = delivered;
    let writes = answers.count.max(1);
    let pause = match pace {
        Pace::Rate(rate, _) => Duration::from_nanos(1_000_000_000 / rate),
        _ => writing / u32::try_from(writes).unwrap_or(u32::MAX),
    };
    let load = Load { subscribers, writes, pause, frame_bytes: seen.frame_bytes() };
    let Floor { seen: floor, cpu: floor_cpu } = floor::measure(load).await?;

    report.beside("floor");
    times(&mut report, &seen.times, &floor.times);
    if let Some(cpu) = cpu {
        let (each, floor_each) = (micros_each(cpu, seen.delivered), micros_each(floor_cpu, floor.delivered));
        report.compared("cpu_us_per_delivery", "processor time a delivery", "us", each, floor_each);
    }
    report.figure("deliveries", "deliveries", "", seen.delivered as f64);
    report.figure(
        "deliveries_per_second",
        "deliveries a second",
        "",
        seen.delivered as f64 / took.as_secs_f64(),
    );
    report.figure("frame_bytes", "a delivery's length", "bytes", seen.frame_bytes() as f64);
    report.calls("writes_per_second", "sets a second", &answers, writing);
    report.faults(&seen.faults);
    if floor.faults.any() {
        return Err(BenchError::Machine(format!("the floor is not right: {:?}", floor.faults)));
    }
    Ok(report)
}

/// How long deliveries took, beside others.
fn times(report: &mut Report, times: &Times, beside: &Times) {
    for (key, name, percent) in [
        ("p50_us", "from set to delivery, p50", 50.0),
        ("p99_us", "from set to delivery, p99", 99.0),
        ("max_us", "from set to delivery, longest", 100.0),
    ] {
        report.compared(key, name, "us", times.percentile(percent), beside.percentile(percent));
    }
}

pub(super) fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// Without, with, and without one that reads nothing: what is slow about the machine at the moment is slow for both.
pub(super) async fn slow(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    subscribers: usize,
    rate: u64,
) -> Result<Report, BenchError> {
    let fast = subscribers.saturating_sub(1);
    let whole = Duration::from_secs(bench.seconds);
    let half = Duration::from_secs(bench.seconds.div_ceil(2));
    let mut worker = Worker::connect(&bench.workers).await?;
    let (mut first, mut faults) = (0, Faults::default());
    let (mut with, mut without) = (Times::new(), Times::new());
    let (mut cpu_with, mut cpu_without) = ((Duration::ZERO, 0), (Duration::ZERO, 0));
    for (is_there, time) in [(false, half), (true, whole), (false, half)] {
        let stuck = if is_there { Some(stuck(bench, &mut worker, space, first).await?) } else { None };
        let crowd = bench.crowd(space, fast, first).await?;
        let pace = Pace::Rate(rate, time);
        let delivered = bench.deliver(&mut worker, space, crowd, fast, first, pace).await?;
        drop(stuck);
        let Delivered { answers, seen, cpu, .. } = delivered;
        first += (rate * time.as_secs()).max(1);
        faults.add(&answers.faults);
        faults.add(&seen.faults);
        let (times, cpus) =
            if is_there { (&mut with, &mut cpu_with) } else { (&mut without, &mut cpu_without) };
        times.add(&seen.times);
        cpus.0 += cpu.unwrap_or_default();
        cpus.1 += seen.delivered;
    }
    report.beside("without it");
    times(&mut report, &with, &without);
    if cpu_with.0 > Duration::ZERO {
        let (each, without) =
            (micros_each(cpu_with.0, cpu_with.1), micros_each(cpu_without.0, cpu_without.1));
        report.compared("cpu_us_per_delivery", "processor time a delivery", "us", each, without);
    }
    report.figure("deliveries", "deliveries", "", (with.count() + without.count()) as f64);
    report.faults(&faults);
    Ok(report)
}

/// A subscriber that reads nothing any more, and whose connection is full.
async fn stuck(
    bench: &Bench,
    worker: &mut Worker,
    space: &Space,
    first: u64,
) -> Result<Connection, BenchError> {
    let joining = async {
        let mut connection = Connection::open(&bench.streams).await?;
        let mut joins = Vec::new();
        for group in 0..2 {
            put_text(&mut joins, space.join(group).as_bytes());
        }
        connection.write(&joins).await?;
        let mut syncs = 0;
        while syncs < 2 {
            connection.read(|_| syncs += 1).await?;
        }
        Ok(connection)
    };
    let failed = |error: Broken| BenchError::Subscriber(error.to_string());
    let joined = tokio::time::timeout(PATIENCE, joining).await;
    let connection = joined.map_err(|_| BenchError::Silent)?.map_err(failed)?;
    let mut numbers = first..first + (FILLING / LARGE_VALUE) as u64;
    let fill = |worker: &mut Worker| {
        numbers.next().inspect(|number| set(worker, space, 1, *number, LARGE_VALUE)).is_some()
    };
    let filled = worker.drive(1, fill, is_set).await?;
    if filled.faults.any() {
        return Err(BenchError::Subscriber(filled.faults.example.unwrap_or_default()));
    }
    Ok(connection)
}
