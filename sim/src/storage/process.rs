//! One process: the core with the log and the checkpoint of the product, and what its threads have to do.

use std::collections::VecDeque;

use headwater::store::checkpoint::Checkpoint;
use headwater::store::{Log, OpenError, Opened, open};
use headwater_core::config::CoreConfig;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::log::{SegmentNumber, Write};
use headwater_core::store::{Load, Loaded, Save};
use headwater_core::time::Now;
use headwater_core::wire::{stream, worker};
use headwater_core::{Core, Effect, Input};

use super::command::Command;
use super::{Plan, Report};
use crate::disk::SimDisk;

#[derive(Debug)]
pub(super) struct Process {
    pub(super) core: Core,
    log: Log<SimDisk>,
    checkpoint: Checkpoint<SimDisk>,
    /// What the log writer has to do, in order.
    log_tasks: VecDeque<LogTask>,
    /// What is to be saved; with whether the core was told already that it is.
    pub(super) saves: VecDeque<(Save, bool)>,
    pub(super) loads: VecDeque<Load>,
    pub(super) stopped: bool,
}

#[derive(Debug)]
enum LogTask {
    Write(Write),
    Discard(Vec<SegmentNumber>),
}

/// Which of its threads does something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    Log,
    Save,
    Load,
}

/// The most that callers may have on the way.
const BACKLOG: usize = 1 << 20;
/// The most that names may take.
const MAX_NAMES: usize = 1 << 20;
const WORKER: WorkerKey = WorkerKey(1);
const SESSION: SessionKey = SessionKey(1);

impl Process {
    /// Starts with what is on the disk.
    pub(super) fn open(disk: &SimDisk, plan: &Plan, seed: [u8; 32], now: Now) -> Result<Process, OpenError> {
        let Opened { log, checkpoint, recovered } = open(disk, seed)?;
        Ok(Process {
            core: Core::recovered(plan.config(), seed, now, recovered),
            log,
            checkpoint,
            log_tasks: VecDeque::new(),
            saves: VecDeque::new(),
            loads: VecDeque::new(),
            stopped: false,
        })
    }

    pub(super) fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.handle(now, input, &mut effects);
        effects
    }

    pub(super) fn takes_calls(&self) -> bool {
        self.core.backlog_bytes() < BACKLOG
    }

    pub(super) fn write(&mut self, write: Write, report: &mut Report) {
        report.segments += u64::from(write.begins.is_some());
        self.log_tasks.push_back(LogTask::Write(write));
    }

    pub(super) fn discard(&mut self, segments: Vec<SegmentNumber>, report: &mut Report) {
        report.discarded += segments.len() as u64;
        self.log_tasks.push_back(LogTask::Discard(segments));
    }

    /// What waits to be done.
    pub(super) fn next_task(&self) -> Option<Task> {
        let tasks = [
            (Task::Log, self.log_tasks.is_empty()),
            (Task::Save, self.saves.is_empty()),
            (Task::Load, self.loads.is_empty()),
        ];
        tasks.into_iter().find(|(_, is_empty)| !is_empty).map(|(task, _)| task)
    }

    /// Does what is next for one of the threads: what the core is to be told of it, and the write that was done.
    pub(super) fn work(&mut self, task: Task, report: &mut Report) -> (Option<Write>, Option<Input>) {
        match task {
            Task::Log => match self.log_tasks.pop_front() {
                Some(LogTask::Write(write)) => {
                    let input = match self.log.write(&write) {
                        Ok(()) => Input::Persisted { through: write.number },
                        Err(error) => {
                            report.failed_writes += 1;
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
                        report.failed_saves += 1;
                        Input::SaveFailed { reason: error.to_string() }
                    }
                };
                report.saves += u64::from(input == Input::Saved);
                (None, Some(input).filter(|_| !told))
            }
            Task::Load => {
                let Some(load) = self.loads.pop_front() else { return (None, None) };
                report.loads += 1;
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

/// A worker's call.
pub(super) fn call(command: &Command, config: &CoreConfig) -> Input {
    Input::WorkerFrame { worker: WORKER, frame: worker::parse(&command.frame(), &config.limits) }
}

/// A worker connects, and somebody who subscribes to all groups.
pub(super) fn greetings(groups: u64, config: &CoreConfig) -> Vec<Input> {
    let handshake = stream::Handshake::default();
    let mut inputs = vec![
        Input::WorkerConnected { worker: WORKER },
        Input::SessionConnected { session: SESSION, handshake, join: None },
    ];
    inputs.extend((0..groups).map(|group| {
        let data = format!(r#"{{"subscriptionId":"{group}","streamName":"s","groupId":"g{group}"}}"#);
        let frame = stream::parse(&format!(r#"{{"type":"join","data":{data}}}"#), &config.limits);
        Input::SessionFrame { session: SESSION, frame }
    }));
    inputs
}
