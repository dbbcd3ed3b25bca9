//! Triggers: how many changes a handler gets a second, each group's in order.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::calls::{is_set, set};
use super::fan_out::micros_each;
use crate::bench::clock::{Moment, Times};
use crate::bench::report::Report;
use crate::bench::sequence::{Faults, Sequence};
use crate::bench::value::{Mark, Space, Told, VALUE_BYTES};
use crate::bench::websocket::put_text;
use crate::bench::worker::{Answers, Heard, PATIENCE, Worker};
use crate::bench::{Bench, BenchError};

/// The items that are written, of each group.
pub(super) const ITEMS: usize = 16;
/// How many write, if there are as many groups: each writes to groups of its own, so that theirs is the order.
const WRITERS: usize = 4;
/// How many sets are unanswered, of all together.
const WINDOW: usize = 256;
/// How far the handler may be behind: a server may drop what waits for it for too long.
const LAG: usize = 10_000;
/// How long is waited for what may come once more.
const SETTLE: Duration = Duration::from_millis(100);
/// How often it is looked whether all is there.
const LOOK: Duration = Duration::from_millis(5);

/// What the handler got.
struct Handled {
    sequences: Vec<Sequence>,
    count: u64,
    last: Moment,
    times: Times,
    faults: Faults,
}

pub(super) async fn triggers(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    groups: usize,
) -> Result<Report, BenchError> {
    let mut handler = Worker::connect(&bench.workers).await?;
    let function = register(&mut handler, space).await?;
    let mut writers = Vec::new();
    for _ in 0..WRITERS.min(groups) {
        writers.push(Worker::connect(&bench.workers).await?);
    }
    let lag = Semaphore::new(LAG);
    let handled = RefCell::new(Handled {
        sequences: vec![Sequence::default(); groups],
        count: 0,
        last: Moment::now(),
        times: Times::new(),
        faults: Faults::default(),
    });
    let meter = bench.meter();
    let (start, moment) = (Instant::now(), Moment::now());
    let end = start + Duration::from_secs(bench.seconds);
    let count = writers.len();
    let writing = writers.iter_mut().enumerate().map(|(first, worker)| {
        let own: Vec<usize> = (first..groups).step_by(count).collect();
        write(worker, space, own, WINDOW / count, &lag, end)
    });
    let writing = async {
        let mut answers = Answers::new();
        let mut written = vec![0; groups];
        for (each, numbers) in try_join_all(writing).await? {
            answers.add(&each);
            for (group, count) in numbers {
                written[group] = count;
            }
        }
        Ok::<_, BenchError>((answers, written, start.elapsed()))
    };
    // The handler runs beside all of it, and ends only by an error.
    let (answers, written, took, cpu) = tokio::select! {
        biased;
        Err(error) = handle(&mut handler, space, &handled, &lag) => return Err(error),
        ended = async {
            let (answers, written, took) = writing.await?;
            all_handled(&handled, written.iter().sum()).await;
            let cpu = meter.stop();
            tokio::time::sleep(SETTLE).await;
            Ok::<_, BenchError>((answers, written, took, cpu))
        } => ended?,
    };
    unregister(&mut handler, &function).await?;

    let mut handled = handled.into_inner();
    for (sequence, written) in handled.sequences.iter().zip(&written) {
        handled.faults.add(&sequence.faults(*written));
    }
    let rate = handled.count as f64 / handled.last.since(moment).as_secs_f64();
    report.figure("events_per_second", "events handled a second", "", rate);
    report.figure("p50_us", "from set to handler, p50", "us", handled.times.percentile(50.0));
    report.figure("p99_us", "from set to handler, p99", "us", handled.times.percentile(99.0));
    report.figure("events", "events handled", "", handled.count as f64);
    report.calls("writes_per_second", "sets a second", &answers, took);
    if let Some(cpu) = cpu {
        report.figure(
            "cpu_us_per_event",
            "processor time a set and its event",
            "us",
            micros_each(cpu, handled.count),
        );
    }
    report.faults(&handled.faults);
    Ok(report)
}

/// Binds a function to the stream's changes, and gives its name.
async fn register(handler: &mut Worker, space: &Space) -> Result<String, BenchError> {
    let stream = &space.stream;
    let function = format!("{stream}::handler");
    handler.say(&format!(r#"{{"type":"registerfunction","id":"{function}"}}"#));
    handler.say(&format!(
        r#"{{"type":"registertrigger","id":"{TRIGGER}","trigger_type":"stream","function_id":"{function}","config":{{"stream_name":"{stream}"}}}}"#
    ));
    answered(handler).await?;
    Ok(function)
}

/// The trigger's id: one connection has one.
const TRIGGER: &str = "00000000-0000-4000-8000-000000000001";

async fn unregister(handler: &mut Worker, function: &str) -> Result<(), BenchError> {
    handler.say(&format!(r#"{{"type":"unregistertrigger","id":"{TRIGGER}","trigger_type":"stream"}}"#));
    handler.say(&format!(r#"{{"type":"unregisterfunction","id":"{function}"}}"#));
    answered(handler).await
}

/// A worker's frames are handled in order: what was said before is known once this is answered.
async fn answered(handler: &mut Worker) -> Result<(), BenchError> {
    handler.ask("stream::list_all", |input, _| input.extend_from_slice(b"{}")).await.map(|_| ())
}

/// Handles events until the connection ends.
async fn handle(
    handler: &mut Worker,
    space: &Space,
    handled: &RefCell<Handled>,
    lag: &Semaphore,
) -> Result<Infallible, BenchError> {
    let mut results = Vec::new();
    loop {
        handler
            .read(|heard| match heard {
                Heard::Invoked { id, function, data } => {
                    handled.borrow_mut().take(space, data);
                    lag.add_permits(1);
                    if let Some(id) = id {
                        let result = format!(
                            r#"{{"type":"invocationresult","invocation_id":"{id}","function_id":"{function}","result":null}}"#
                        );
                        put_text(&mut results, result.as_bytes());
                    }
                }
                Heard::Rejected(why) => handled.borrow_mut().faults.wrong(|| why.to_owned()),
                Heard::Answer { .. } => {}
            })
            .await?;
        handler.send(&results).await?;
        results.clear();
    }
}

/// Waits until that many events were handled, or none comes any more.
async fn all_handled(handled: &RefCell<Handled>, wanted: u64) {
    let (mut before, mut moved) = (0, Moment::now());
    loop {
        let now = handled.borrow().count;
        if now != before {
            (before, moved) = (now, Moment::now());
        }
        if now >= wanted || Moment::now().since(moved) > PATIENCE {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Handled {
    fn take(&mut self, space: &Space, event: &RawValue) {
        let now = Moment::now();
        let (group, Mark { number, sent }, revision) = match space.read_frame(event.get().as_bytes()) {
            Ok(Told::Change { group, mark, revision }) if group < self.sequences.len() => {
                (group, mark, revision)
            }
            Ok(other) => return self.faults.wrong(|| format!("a handler got {other:?}")),
            Err(sentence) => return self.faults.wrong(|| sentence),
        };
        let sequence = &mut self.sequences[group];
        if revision.is_some_and(|revision| !sequence.fits(number, revision)) {
            self.faults.wrong(|| format!("change {number} came with the revision of another one"));
        }
        if sequence.see(number) {
            self.count += 1;
            self.last = now;
            self.times.record(now.since(sent));
        }
    }
}

/// Writes to some groups in turn, as fast as sets are acknowledged and events handled. How many to each.
async fn write(
    worker: &mut Worker,
    space: &Space,
    groups: Vec<usize>,
    window: usize,
    lag: &Semaphore,
    end: Instant,
) -> Result<(Answers, Vec<(usize, u64)>), BenchError> {
    let mut answers = Answers::new();
    let mut written: Vec<(usize, u64)> = groups.into_iter().map(|group| (group, 0)).collect();
    let mut turn = 0;
    let mut write_one = |worker: &mut Worker| {
        let (group, count) = &mut written[turn];
        set(worker, space, *group, *count, VALUE_BYTES);
        *count += 1;
        turn = (turn + 1) % written.len();
    };
    loop {
        let more = Instant::now() < end;
        while more && worker.waiting() < window {
            let Ok(place) = lag.try_acquire() else { break };
            place.forget();
            write_one(worker);
        }
        worker.flush().await?;
        if worker.waiting() > 0 {
            if !answers.read(worker, &mut is_set).await? {
                break;
            }
        } else if more {
            // The handler is far behind, or has got nothing for long.
            let Ok(Ok(place)) = timeout(PATIENCE, lag.acquire()).await else { break };
            place.forget();
            write_one(worker);
        } else {
            break;
        }
    }
    Ok((answers, written))
}
