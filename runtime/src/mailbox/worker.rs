//! What waits for a worker.

use std::collections::VecDeque;

use headwater_core::call::Answer;
use headwater_core::error::{CallError, code};
use headwater_core::wire::worker::ToWorker;

use super::{Encode, Mailbox, Queue};
use crate::frame;
use crate::wire::Wire;

/// Frames to a worker.
#[derive(Debug)]
pub(crate) struct WorkerQueue {
    frames: VecDeque<WorkerFrame>,
    /// Calls that others make.
    calls: Waiting,
    /// What the handlers of others returned.
    returned: Waiting,
    /// All other frames: they answer what the worker sent.
    answers: Waiting,
    /// How many bytes of calls, and of what was returned, may wait.
    limit: usize,
}

/// How much of a kind waits.
#[derive(Debug, Default)]
struct Waiting {
    frames: usize,
    bytes: usize,
}

/// A frame to a worker, and what it counts as while it waits.
#[derive(Debug)]
pub(crate) struct WorkerFrame {
    frame: ToWorker,
    bytes: usize,
}

pub(crate) type WorkerMailbox = Mailbox<WorkerQueue>;

/// A call that was not queued: too much waits for its worker already.
#[derive(Debug)]
pub(crate) struct NoRoom;

/// More answers than this are a crowd.
const CROWDED_WORKER: usize = 4_096;

impl WorkerQueue {
    /// A queue of about `limit` bytes, half of them for calls.
    pub(crate) fn new(limit: usize) -> WorkerQueue {
        let [calls, returned, answers] = Default::default();
        WorkerQueue { frames: VecDeque::new(), calls, returned, answers, limit: limit / 2 }
    }

    fn waiting(&mut self, frame: &ToWorker) -> &mut Waiting {
        match frame {
            ToWorker::Invoke { .. } => &mut self.calls,
            ToWorker::Result { outcome: Ok(Answer::Returned(_)), .. } => &mut self.returned,
            _ => &mut self.answers,
        }
    }

    /// Queues a frame. Calls, and what the handlers of others returned, come without the worker's doing: what finds no
    /// room is refused. Answers always find room; what they answer is not handed to the core while they are a crowd.
    fn push(&mut self, frame: ToWorker) -> Result<(), NoRoom> {
        let limit = self.limit;
        let bytes = frame.size_hint();
        let waiting = self.waiting(&frame);
        if waiting.bytes == 0 || waiting.bytes + bytes <= limit {
            self.add(frame, bytes);
            return Ok(());
        }
        match frame {
            ToWorker::Invoke { .. } => return Err(NoRoom),
            ToWorker::Result { invocation_id, function_id, outcome: Ok(Answer::Returned(_)) } => {
                let message = "the function was run, but too much that was returned to you waits to be read";
                let outcome = Err(CallError::new(code::OVERLOADED, message));
                let frame = ToWorker::Result { invocation_id, function_id, outcome };
                let bytes = frame.size_hint();
                self.add(frame, bytes);
            }
            frame => self.add(frame, bytes),
        }
        Ok(())
    }

    fn add(&mut self, frame: ToWorker, bytes: usize) {
        let waiting = self.waiting(&frame);
        waiting.frames += 1;
        waiting.bytes += bytes;
        self.frames.push_back(WorkerFrame { frame, bytes });
    }
}

impl Queue for WorkerQueue {
    type Frame = WorkerFrame;

    fn pop(&mut self) -> Option<WorkerFrame> {
        let frame = self.frames.pop_front()?;
        let waiting = self.waiting(&frame.frame);
        waiting.frames -= 1;
        waiting.bytes -= frame.bytes;
        Some(frame)
    }

    fn is_prepared(&self) -> bool {
        self.frames.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    fn is_crowded(&self) -> bool {
        // Calls don't count: others make them, and the worker must be read to answer them.
        let bytes = self.answers.bytes + self.returned.bytes;
        bytes > self.limit / 4 || self.answers.frames + self.returned.frames > CROWDED_WORKER
    }
}

impl Mailbox<WorkerQueue> {
    /// Queues a frame, unless it is a call that finds no room. One that is being closed takes none: the engine hears
    /// of its end soon.
    pub(crate) fn push(&self, frame: ToWorker) -> Result<(), NoRoom> {
        let mut state = self.state();
        if !state.closed {
            state.queue.push(frame)?;
            drop(state);
            self.task.wake();
        }
        Ok(())
    }
}

impl Encode for WorkerFrame {
    fn encode(self, wire: &mut Wire) -> usize {
        let frame = frame::text(|out| self.frame.encode_onto(out));
        let bytes = frame.len();
        if bytes > COPIED {
            wire.push(frame);
        } else {
            wire.push_small(&frame);
        }
        bytes
    }
}

/// What is larger goes on its way without being copied behind others.
const COPIED: usize = 4 << 10;
