//! Many worlds on all processors, reported in the order of their seeds whatever comes first.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Counts, Failure, Kind, Shown, digest, run};

/// Worlds that are to be run.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Of which kind.
    pub kind: Kind,
    /// Which.
    pub seeds: Range<u64>,
    /// On how many threads.
    pub jobs: usize,
    /// How long worlds are begun at most.
    pub longest: Option<Duration>,
    /// Whether it goes on after a failure.
    pub keep_going: bool,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Ran {
    /// All of them together, up to the last one that is reported.
    pub counts: Counts,
    /// Those that failed, as short as the fleet wants it.
    pub failed: Vec<Run>,
    /// A number for all that has happened in all of them.
    pub digest: u64,
}

/// One world that was run.
#[derive(Debug)]
pub struct Run {
    /// Which.
    pub seed: u64,
    /// What it has shown; without its trace where nothing failed.
    pub shown: Shown,
    /// A number for all that has happened in it.
    pub digest: u64,
}

/// A world that does not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The place of what was waited for among all that was to be done.
    pub at: usize,
}

/// How a world that does not come to its end is looked for. Looks are counted, and not the time, which also passes while
/// this process is not given any.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// How much time passes between two looks, at least.
    look: Duration,
    /// No world takes as many looks as these, from the end of the one before on.
    patience: u32,
}

const WATCH: Watch = Watch { look: Duration::from_secs(1), patience: 120 };

impl Fleet {
    /// Runs them; each that fails is handed on, in the order of the seeds.
    pub fn run(&self, mut failed: impl FnMut(&Run)) -> Ran {
        let kind = self.kind;
        let (mut ran, keep_going, first) = (Ran::default(), self.keep_going, self.seeds.start);
        let until = self.longest.map(|longest| Instant::now() + longest);
        let seeds = self.seeds.clone().take_while(move |_| until.is_none_or(|until| Instant::now() < until));
        let work = move |seed: u64| {
            let mut shown = run(&*kind.draw(seed));
            let digest = digest(&shown.text());
            if shown.failure.is_none() {
                shown.trace = Vec::new();
            }
            Run { seed, shown, digest }
        };
        let ended = in_order(seeds, self.jobs, work, |run| {
            ran.counts += &run.shown.counts;
            ran.digest = ran.digest.rotate_left(1) ^ run.digest;
            if run.shown.failure.is_none() {
                return ControlFlow::Continue(());
            }
            failed(&run);
            ran.failed.push(run);
            if keep_going { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Err(Stuck { at }) = ended {
            let how = format!("it was still running after {} s", (WATCH.look * WATCH.patience).as_secs());
            let failure = Failure { law: "Ends".to_owned(), how };
            let run = Run {
                seed: first + at as u64,
                shown: Shown { failure: Some(failure), ..Shown::default() },
                digest: 0,
            };
            failed(&run);
            ran.failed.push(run);
        }
        ran
    }
}

/// Does some work for each of `tasks` on `jobs` threads, and hands on what came of it in the order of the tasks, until that
/// says that it is enough. If one does not come to its end, its thread is left behind.
pub fn in_order<T, R>(
    tasks: impl Iterator<Item = T> + Send + 'static,
    jobs: usize,
    work: impl Fn(T) -> R + Send + Sync + 'static,
    each: impl FnMut(R) -> ControlFlow<()>,
) -> Result<(), Stuck>
where
    T: 'static,
    R: Send + 'static,
{
    in_order_watched(tasks, jobs, WATCH, work, each)
}

fn in_order_watched<T, R>(
    tasks: impl Iterator<Item = T> + Send + 'static,
    jobs: usize,
    watch: Watch,
    work: impl Fn(T) -> R + Send + Sync + 'static,
    mut each: impl FnMut(R) -> ControlFlow<()>,
) -> Result<(), Stuck>
where
    T: 'static,
    R: Send + 'static,
{
    let tasks = Arc::new(Mutex::new(tasks.enumerate()));
    let (work, enough) = (Arc::new(work), Arc::new(AtomicBool::new(false)));
    let (sender, results) = sync_channel(jobs * 8);
    for _ in 0..jobs.max(1) {
        let (tasks, work, enough, sender) = (tasks.clone(), work.clone(), enough.clone(), sender.clone());
        thread::spawn(move || {
            while !enough.load(Ordering::Relaxed) {
                let task = tasks.lock().ok().and_then(|mut tasks| tasks.next());
                let Some((at, task)) = task else { return };
                if sender.send((at, work(task))).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let (mut early, mut next) = (BTreeMap::new(), 0);
    let (mut looks, mut looked) = (0, Instant::now());
    loop {
        match results.recv_timeout(watch.look) {
            Ok((at, result)) => drop(early.insert(at, result)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        // What comes of others says nothing about the one that is waited for.
        if early.contains_key(&next) {
            looks = 0;
        } else if looked.elapsed() >= watch.look {
            (looks, looked) = (looks + 1, Instant::now());
        }
        if looks > watch.patience {
            return Err(Stuck { at: next });
        }
        while let Some(result) = early.remove(&next) {
            next += 1;
            if each(result).is_break() {
                enough.store(true, Ordering::Relaxed);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_tasks() {
        let mut seen = Vec::new();
        let work = |task: u64| {
            thread::sleep(Duration::from_millis((task * 7) % 5));
            task
        };
        let ended = in_order(0..50, 4, work, |task| {
            seen.push(task);
            if task == 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(ended, Ok(()));
        assert_eq!(seen, (0..=40).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_does_not_end_is_noticed_while_others_do() {
        let work = |task: u64| {
            if task == 3 {
                loop {
                    thread::park();
                }
            }
            thread::sleep(Duration::from_millis(1));
        };
        let watch = Watch { look: Duration::from_millis(10), patience: 20 };
        let ended = in_order_watched(0.., 4, watch, work, |()| ControlFlow::Continue(()));
        assert_eq!(ended, Err(Stuck { at: 3 }));
    }
}
