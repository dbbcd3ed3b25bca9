//! One process: the core with the log and the checkpoint of the product, and what its threads have to do.

use std::collections::VecDeque;
use std::ops::AddAssign;

use headwater::store::checkpoint::Checkpoint;
use headwater::store::{Log, OpenError, Opened, open};
use headwater_core::config::CoreConfig;
use headwater_core::log::{SegmentNumber, Write};
use headwater_core::store::{Load, Loaded, Save};
use headwater_core::time::Now;
use headwater_core::{Core, Effect, Input};

use crate::disk::SimDisk;

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) core: Core,
    log: Log<SimDisk>,
    checkpoint: Checkpoint<SimDisk>,
    /// What the log writer has to do, in order.
    log_tasks: VecDeque<LogTask>,
    /// What is to be saved; with whether the core was told already that it is.
    pub(crate) saves: VecDeque<(Save, bool)>,
    pub(crate) loads: VecDeque<Load>,
    pub(crate) stopped: bool,
}

#[derive(Debug)]
enum LogTask {
    Write(Write),
    Discard(Vec<SegmentNumber>),
}

/// What the threads of processes have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How many files of the log were begun.
    pub segments: u64,
    /// How many were not needed any more.
    pub discarded: u64,
    /// How many writes of the log failed.
    pub failed_writes: u64,
    /// How many parts of checkpoints were saved.
    pub saves: u64,
    /// How many could not be.
    pub failed_saves: u64,
    /// How often something was read from the checkpoint.
    pub loads: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.segments += other.segments;
        self.discarded += other.discarded;
        self.failed_writes += other.failed_writes;
        self.saves += other.saves;
        self.failed_saves += other.failed_saves;
        self.loads += other.loads;
    }
}

/// Which of its threads does something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    Log,
    Save,
    Load,
}

/// The most that names may take.
const MAX_NAMES: usize = 1 << 20;

impl Process {
    /// Starts with what is on the disk.
    pub(crate) fn open(
        disk: &SimDisk,
        config: CoreConfig,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Process, OpenError> {
        let Opened { log, checkpoint, recovered } = open(disk, seed)?;
        Ok(Process {
            core: Core::recovered(config, seed, now, recovered),
            log,
            checkpoint,
            log_tasks: VecDeque::new(),
            saves: VecDeque::new(),
            loads: VecDeque::new(),
            stopped: false,
        })
    }

    pub(crate) fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.handle(now, input, &mut effects);
        effects
    }

    /// Whether little enough waits for the disk.
    pub(crate) fn takes_calls(&self, backlog: usize) -> bool {
        self.core.backlog_bytes() < backlog
    }

    pub(crate) fn write(&mut self, write: Write, work: &mut Work) {
        work.segments += u64::from(write.begins.is_some());
        self.log_tasks.push_back(LogTask::Write(write));
    }

    pub(crate) fn discard(&mut self, segments: Vec<SegmentNumber>, work: &mut Work) {
        work.discarded += segments.len() as u64;
        self.log_tasks.push_back(LogTask::Discard(segments));
    }

    /// What waits to be done.
    pub(crate) fn next_task(&self) -> Option<Task> {
        let tasks = [
            (Task::Log, self.log_tasks.is_empty()),
            (Task::Save, self.saves.is_empty()),
            (Task::Load, self.loads.is_empty()),
        ];
        tasks.into_iter().find(|(_, is_empty)| !is_empty).map(|(task, _)| task)
    }

    /// Does what is next for one of the threads: what the core is to be told of it, and the write that was done.
    pub(crate) fn work(&mut self, task: Task, work: &mut Work) -> (Option<Write>, Option<Input>) {
        match task {
            Task::Log => match self.log_tasks.pop_front() {
                Some(LogTask::Write(write)) => {
                    let input = match self.log.write(&write) {
                        Ok(()) => Input::Persisted { through: write.number },
                        Err(error) => {
                            work.failed_writes += 1;
                            Input::PersistFailed { reason: error.to_string() }
                        }
                    };
                    (Some(write), Some(input))
                }
                Some(LogTask::Discard(segments)) => {
                    // Files that stay take room, and nothing else.
                    let _ = self.log.discard(&segments);
                    (None, None)
                }
                None => (None, None),
            },
            Task::Save => {
                let Some((save, told)) = self.saves.pop_front() else { return (None, None) };
                let input = match self.checkpoint.save(&save) {
                    Ok(()) => Input::Saved,
                    Err(error) => {
                        work.failed_saves += 1;
                        Input::SaveFailed { reason: error.to_string() }
                    }
                };
                work.saves += u64::from(input == Input::Saved);
                (None, Some(input).filter(|_| !told))
            }
            Task::Load => {
                let Some(load) = self.loads.pop_front() else { return (None, None) };
                work.loads += 1;
                let result = match &load {
                    Load::Group(path) => self.checkpoint.load_group(path).map(Loaded::Group),
                    Load::Names(stream) => {
                        self.checkpoint.load_names(stream.as_ref(), MAX_NAMES).map(Loaded::Names)
                    }
                };
                let result = result.map_err(|error| error.to_string());
                (None, Some(Input::Loaded { load, result }))
            }
        }
    }
}
