//! The server's own calls that can't be made yet: their function is not registered, or its worker runs as many calls
//! as it may. Unlike the calls of workers they are not refused then: a join that slipped past its gate because the
//! gate was busy would be a hole.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::Purpose;
use crate::key::{BindingKey, SessionKey, WorkerKey};
use crate::name::FunctionId;
use crate::time::Mono;
use crate::wire::worker::Payload;

/// A call that the server wants to make.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What for.
    pub(crate) purpose: Purpose,
    /// Of which function.
    pub(crate) function: FunctionId,
    /// Its input.
    pub(crate) payload: Payload,
    /// When it must be answered at the latest. Without one, its function may take as long as for any call.
    pub(crate) deadline: Option<Mono>,
    /// What happens when nobody has registered its function.
    pub(crate) absent: Absent,
}

/// What happens to an [`Ask`] whose function is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It fails.
    Fails,
    /// It waits if the function's worker has just vanished.
    WaitsIfVanished,
    /// It waits until then: after a start of the server, functions come back one by one.
    WaitsUntil(Mono),
    /// It waits until its deadline.
    Waits,
}

impl Ask {
    /// Until when a place at a busy worker is waited for. A join can't wait for ever. An event or a leave can: whoever
    /// asks bounds how many there are, and the worker's calls end.
    pub(super) fn waits_for_place(&self, call_ends: Mono) -> Option<Mono> {
        let hurries = matches!(self.purpose, Purpose::Gate { .. });
        self.deadline.or(hurries.then_some(call_ends))
    }
}

/// What an ask waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    Function,
    /// A place among the calls of this worker.
    Place(WorkerKey),
}

/// An ask that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ask: Ask,
    /// `None` is for as long as it takes.
    pub(super) until: Option<Mono>,
    pub(super) what: WaitsFor,
}

/// All of them, numbered as they came.
#[derive(Debug, Default)]
pub(super) struct Asks {
    all: BTreeMap<u64, Waiting>,
    by_function: BTreeMap<FunctionId, BTreeSet<u64>>,
    by_worker: BTreeMap<WorkerKey, BTreeSet<u64>>,
    /// Those about a session: at most one of each.
    by_session: BTreeMap<SessionKey, u64>,
    /// Those about events, by the trigger that they are for.
    by_binding: BTreeMap<BindingKey, BTreeSet<u64>>,
    by_deadline: BTreeSet<(Mono, u64)>,
    next: u64,
}

impl Asks {
    pub(super) fn insert(&mut self, waiting: Waiting) {
        self.next += 1;
        let number = self.next;
        match waiting.what {
            WaitsFor::Function => {
                self.by_function.entry(waiting.ask.function.clone()).or_default().insert(number);
            }
            WaitsFor::Place(worker) => {
                self.by_worker.entry(worker).or_default().insert(number);
            }
        }
        match waiting.ask.purpose {
            Purpose::Auth(session) => {
                self.by_session.insert(session, number);
            }
            Purpose::Event { binding, .. } => {
                self.by_binding.entry(binding).or_default().insert(number);
            }
            _ => {}
        }
        self.by_deadline.extend(waiting.until.map(|until| (until, number)));
        self.all.insert(number, waiting);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Whether any waits for a place at this worker.
    pub(super) fn wait_for_place(&self, worker: WorkerKey) -> bool {
        self.by_worker.contains_key(&worker)
    }

    /// The next one that waits for a place at this worker.
    pub(super) fn take_for_place(&mut self, worker: WorkerKey) -> Option<Waiting> {
        let number = *self.by_worker.get(&worker)?.first()?;
        self.remove(number)
    }

    /// All that wait for this function, in order.
    pub(super) fn take_for_function(&mut self, function: &FunctionId) -> Vec<Waiting> {
        let numbers = self.by_function.get(function).cloned().unwrap_or_default();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// Those whose time is up.
    pub(super) fn take_due(&mut self, now: Mono) -> Vec<Waiting> {
        let mut due = Vec::new();
        while let Some(&(deadline, number)) = self.by_deadline.first()
            && deadline <= now
        {
            due.extend(self.remove(number));
        }
        due
    }

    /// Lets go of what was to be asked about a session.
    pub(super) fn forget_session(&mut self, session: SessionKey) {
        if let Some(number) = self.by_session.get(&session) {
            self.remove(*number);
        }
    }

    /// Lets go of the events of a trigger; how many there were.
    pub(super) fn forget_binding(&mut self, binding: BindingKey) -> usize {
        let numbers = self.by_binding.get(&binding).cloned().unwrap_or_default();
        numbers.into_iter().filter_map(|number| self.remove(number)).count()
    }

    /// Lets go of those that nobody wants an answer to any more.
    pub(super) fn forget(&mut self, unwanted: impl Fn(&Ask) -> bool) {
        let unwanted = self.all.iter().filter(|(_, waiting)| unwanted(&waiting.ask));
        for number in unwanted.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.remove(number);
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<Waiting> {
        let Asks { all, .. } = std::mem::replace(self, Asks { next: self.next, ..Asks::default() });
        all.into_values().collect()
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.all.remove(&number)?;
        match waiting.ask.purpose {
            Purpose::Auth(session) => {
                self.by_session.remove(&session);
            }
            Purpose::Event { binding, .. } => remove_from(&mut self.by_binding, &binding, number),
            _ => {}
        }
        if let Some(until) = waiting.until {
            self.by_deadline.remove(&(until, number));
        }
        match waiting.what {
            WaitsFor::Function => {
                remove_from(&mut self.by_function, &waiting.ask.function, number);
            }
            WaitsFor::Place(worker) => remove_from(&mut self.by_worker, &worker, number),
        }
        Some(waiting)
    }
}

fn remove_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, number: u64) {
    if let Some(numbers) = map.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            map.remove(key);
        }
    }
}
