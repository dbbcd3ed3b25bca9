//! The calls that workers are running, by id, by worker and by deadline.

use std::collections::{BTreeMap, BTreeSet};

use super::asks::Ask;
use crate::call::Caller;
use crate::key::WorkerKey;
use crate::name::FunctionId;
use crate::rng::Uuid;
use crate::time::Mono;

/// Who waits for a call to be answered.
#[derive(Debug)]
pub(super) enum Asker {
    /// A worker.
    Worker(Caller),
    /// The server, which makes the call again if it did not reach its worker.
    Server(Ask),
}

/// A call that a worker is running.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) asker: Asker,
    pub(super) function: FunctionId,
    pub(super) worker: WorkerKey,
    pub(super) deadline: Mono,
}

/// All of them. The three maps always name the same calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_id: BTreeMap<Uuid, Call>,
    by_worker: BTreeMap<WorkerKey, BTreeSet<Uuid>>,
    by_deadline: BTreeSet<(Mono, Uuid)>,
}

impl Calls {
    pub(super) fn insert(&mut self, id: Uuid, call: Call) {
        self.by_worker.entry(call.worker).or_default().insert(id);
        self.by_deadline.insert((call.deadline, id));
        self.by_id.insert(id, call);
    }

    /// How many calls a worker is running.
    pub(super) fn run_by(&self, worker: WorkerKey) -> usize {
        self.by_worker.get(&worker).map_or(0, BTreeSet::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Takes a call out if this worker runs it.
    pub(super) fn remove_run_by(&mut self, worker: WorkerKey, id: Uuid) -> Option<Call> {
        match self.by_id.get(&id) {
            Some(call) if call.worker == worker => self.remove(id),
            _ => None,
        }
    }

    /// Takes out all calls that a worker runs.
    pub(super) fn remove_all_run_by(&mut self, worker: WorkerKey) -> Vec<Call> {
        let ids = self.by_worker.get(&worker).cloned().unwrap_or_default();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes out all calls whose deadline is reached.
    pub(super) fn remove_due(&mut self, now: Mono) -> Vec<Call> {
        let mut due = Vec::new();
        while let Some(&(deadline, id)) = self.by_deadline.first()
            && deadline <= now
        {
            due.extend(self.remove(id));
        }
        due
    }

    /// Takes out all calls.
    pub(super) fn remove_all(&mut self) -> Vec<Call> {
        self.by_deadline.clear();
        self.by_worker.clear();
        std::mem::take(&mut self.by_id).into_values().collect()
    }

    fn remove(&mut self, id: Uuid) -> Option<Call> {
        let call = self.by_id.remove(&id)?;
        self.by_deadline.remove(&(call.deadline, id));
        if let Some(calls) = self.by_worker.get_mut(&call.worker) {
            calls.remove(&id);
            if calls.is_empty() {
                self.by_worker.remove(&call.worker);
            }
        }
        Some(call)
    }
}
