//! Calls: how long they take, how many the server can take, and whether they add up.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fan_out::micros_each;
use crate::bench::report::Report;
use crate::bench::value::{Mark, Space, VALUE_BYTES, mark_of};
use crate::bench::worker::{Answers, Worker};
use crate::bench::{Bench, BenchError};

pub(super) const WORKERS: usize = 4;
pub(super) const WINDOW: usize = 64;
pub(super) const MANY_WORKERS: usize = 16;
pub(super) const SMALL_WINDOW: usize = 16;
/// The items that are written, of one group.
pub(super) const ITEMS: usize = 1_000;
/// The items that are counted up.
pub(super) const COUNTERS: usize = 8;

/// The result of a set or an update.
#[derive(Deserialize)]
pub(super) struct Written<'a> {
    #[serde(borrow)]
    new_value: Option<&'a RawValue>,
}

/// Whether a set was answered with the very value.
pub(super) fn is_set(number: u64, result: Option<&RawValue>) -> bool {
    let written = result.and_then(|result| serde_json::from_str::<Written<'_>>(result.get()).ok());
    let mark = written.and_then(|written| mark_of(written.new_value?));
    mark.is_some_and(|mark| mark.number == number)
}

/// Queues the set of an item; its number is what the answer is known by.
pub(super) fn set(worker: &mut Worker, space: &Space, group: usize, number: u64, bytes: usize) {
    let item = usize::try_from(number).unwrap_or(usize::MAX) % space.items;
    worker.call("stream::set", number, |input, sent| {
        space.put_set(input, group, item, Mark { number, sent }, bytes);
    });
}

pub(super) async fn latency(bench: &Bench, space: &Space, report: Report) -> Result<Report, BenchError> {
    load(bench, space, report, 1, 1).await
}

pub(super) async fn throughput(bench: &Bench, space: &Space, report: Report) -> Result<Report, BenchError> {
    load(bench, space, report, WORKERS, WINDOW).await
}

/// Sets from so many workers, with so many unanswered of each.
async fn load(
    bench: &Bench,
    space: &Space,
    mut report: Report,
    workers: usize,
    window: usize,
) -> Result<Report, BenchError> {
    let mut connected = Vec::new();
    for _ in 0..workers {
        connected.push(Worker::connect(&bench.workers).await?);
    }
    let meter = bench.meter();
    let start = Instant::now();
    let end = start + Duration::from_secs(bench.seconds);
    let running = connected.iter_mut().zip(0..).map(|(worker, first)| {
        let mut numbers = (first..).step_by(workers);
        let next = move |worker: &mut Worker| {
            if Instant::now() >= end {
                return false;
            }
            numbers.next().inspect(|number| set(worker, space, 0, *number, VALUE_BYTES)).is_some()
        };
        worker.drive(window, next, is_set)
    });
    let mut answers = Answers::new();
    for each in try_join_all(running).await? {
        answers.add(&each);
    }
    let took = start.elapsed();
    let cpu = meter.stop();
    report.calls("sets_per_second", "sets a second", &answers, took);
    report_cpu(&mut report, cpu, answers.count);
    Ok(report)
}

fn report_cpu(report: &mut Report, cpu: Option<Duration>, calls: u64) {
    if let Some(cpu) = cpu {
        report.figure("cpu_us_per_call", "processor time a call", "us", micros_each(cpu, calls));
    }
}

/// The result of an increment.
#[derive(Deserialize)]
struct Counted {
    new_value: Counter,
}

#[derive(Clone, Copy, Deserialize)]
struct Counter {
    n: usize,
}

/// Increments of the same items by many workers. Each of the numbers up to the last must come out once.
pub(super) async fn increments(
    bench: &Bench,
    space: &Space,
    mut report: Report,
) -> Result<Report, BenchError> {
    let mut connected = Vec::new();
    for _ in 0..MANY_WORKERS {
        connected.push(Worker::connect(&bench.workers).await?);
    }
    let reached: RefCell<Vec<Vec<bool>>> = RefCell::new(vec![Vec::new(); COUNTERS]);
    let meter = bench.meter();
    let start = Instant::now();
    let end = start + Duration::from_secs(bench.seconds);
    let running = connected.iter_mut().enumerate().map(|(first, worker)| {
        let mut items = (0..COUNTERS).cycle().skip(first % COUNTERS);
        let next = move |worker: &mut Worker| {
            let item = items.next().filter(|_| Instant::now() < end);
            item.inspect(|item| increment(worker, space, *item)).is_some()
        };
        let check = |item: u64, result: Option<&RawValue>| {
            let counted = result.and_then(|result| serde_json::from_str(result.get()).ok());
            counted.is_some_and(|Counted { new_value: Counter { n } }| {
                let item = usize::try_from(item).unwrap_or(usize::MAX);
                count(&mut reached.borrow_mut()[item], n)
            })
        };
        worker.drive(SMALL_WINDOW, next, check)
    });
    let mut answers = Answers::new();
    for each in try_join_all(running).await? {
        answers.add(&each);
    }
    let took = start.elapsed();
    let cpu = meter.stop();
    let mut sum = 0;
    for (item, reached) in reached.into_inner().iter().enumerate() {
        let found = connected[0]
            .ask("stream::get", |input, _| {
                space.put_item(input, 0, item);
                input.push(b'}');
            })
            .await?;
        let found = found.and_then(|value| serde_json::from_str::<Counter>(value.get()).ok());
        let n = found.map_or(0, |Counter { n }| n);
        sum += n;
        if n != reached.len() || reached.iter().any(|reached| !reached) {
            answers.faults.wrong(|| format!("i{item} is {n} after {} increments", reached.len()));
        }
    }
    if sum as u64 != answers.count {
        answers.faults.wrong(|| format!("{} increments have made {sum}", answers.count));
    }
    report.calls("increments_per_second", "increments a second", &answers, took);
    report.figure("sum", "sum of the items at the end", "", sum as f64);
    report.figure("increments", "increments acknowledged", "", answers.count as f64);
    report_cpu(&mut report, cpu, answers.count);
    Ok(report)
}

fn increment(worker: &mut Worker, space: &Space, item: usize) {
    worker.call("stream::update", item as u64, |input, _| {
        space.put_item(input, 0, item);
        input.extend_from_slice(br#","ops":[{"type":"increment","path":"n","by":1}]}"#);
    });
}

/// Notes that a counter has reached a number, and says whether that is the first time.
fn count(reached: &mut Vec<bool>, n: usize) -> bool {
    // No server counts further than it was told to by far.
    const FURTHEST: usize = 1 << 30;
    if n == 0 || n > FURTHEST {
        return false;
    }
    if reached.len() < n {
        reached.resize(n, false);
    }
    !std::mem::replace(&mut reached[n - 1], true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_comes_out_twice_or_never_is_noticed() {
        let mut reached = Vec::new();
        assert!(count(&mut reached, 2) && count(&mut reached, 1));
        assert!(!count(&mut reached, 2), "twice");
        assert!(!count(&mut reached, 0) && !count(&mut reached, usize::MAX));
        assert!(count(&mut reached, 4));
        assert_eq!(reached, [true, true, false, true]);
    }

    #[test]
    fn a_set_is_answered_with_its_value() {
        let result = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
        let right = result(r#"{"old_value":{"mark":"7 2"},"new_value":{"mark":"6 1"}}"#);
        assert!(is_set(6, Some(&right)) && !is_set(7, Some(&right)));
        assert!(!is_set(6, None) && !is_set(6, Some(&result("null"))));
    }
}
