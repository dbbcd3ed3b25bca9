//! Judges a world: one oracle for each guarantee, written from the protocol and the promises alone. They see what the
//! clients of a world see, entry by entry, and share no code with the server.

mod access;
mod calls;
mod frame;
mod groups;
mod items;
mod leaves;
mod linear;
#[cfg(test)]
mod script;
mod slow;
mod subscriptions;
#[cfg(test)]
mod testing;
mod triggers;
mod workers;

use std::fmt;

use headwater_core::config::CoreConfig;

use crate::trace::{Entry, Trace, What};

/// What is guaranteed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// G1: an acknowledged write survives.
    AcknowledgedSurvives,
    /// G2: nothing is seen that a crash takes back.
    SeenIsDurable,
    /// G3: everybody sees a group's changes in one order, without a gap or a repeat.
    OneOrder,
    /// G4: a sync and the changes after it are the group.
    ReplayIsList,
    /// G5: nobody gets what no allowed subscription covers.
    OnlyWhatIsAllowed,
    /// G6: each allowed join has one leave, a refused one none.
    OneLeave,
    /// G7: calls are atomic and linearizable.
    Linearizable,
    /// G8: who is slow is told afresh, and nothing is skipped silently.
    SlowIsResynced,
    /// G9: a handler gets a group's events in order, at most once, and no writer waits for it.
    HandledInOrder,
    /// Stamps increase strictly within a group.
    StampsIncrease,
    /// A history that may have lost something has a new name, and only that.
    EpochNamesHistory,
    /// Every call is answered once, and well unless there is a reason.
    CallsAnswered,
    /// Where nothing goes wrong the operator hears of nothing.
    NoComplaint,
    /// After the faults everything works and comes to rest.
    Converges,
    /// The core never panics.
    NeverPanics,
}

/// A guarantee is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// How, and where in the trace.
    pub how: String,
}

/// What the oracles have to know of a world beside its trace.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether anything may go wrong in this world: without faults, every call succeeds.
    pub faults: bool,
    /// Whether the trace tells what the server took and queued, see [`What::Opened`].
    pub tells_server: bool,
    /// Whether the store's epoch is another one after each crash, although nothing was lost: with `interval` durability
    /// nobody can know.
    pub new_epochs: bool,
    /// How much may wait for a subscriber, in bytes of events.
    pub outbox_bytes: usize,
    /// How many messages are on the way to a subscriber, at most, and don't wait any more.
    pub pipe: usize,
    /// What handlers are given, and how long.
    pub limits: Limits,
}

/// What handlers are given, and how long, as the server is set up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a worker's function may take to answer, in milliseconds.
    pub call_ms: u64,
    /// For how long the functions and triggers of a worker that vanished are waited for, in milliseconds.
    pub gate_grace_ms: u64,
    /// How long a stop in good order may take, in milliseconds.
    pub stop_ms: u64,
    /// How many events may wait for a trigger's handler, or be with it.
    pub trigger_events: usize,
}

impl Limits {
    /// Those of a server that is set up so.
    pub fn of(config: &CoreConfig) -> Limits {
        Limits {
            call_ms: config.timeouts.call_ms,
            gate_grace_ms: config.timeouts.gate_grace_ms,
            stop_ms: config.timeouts.stop_ms,
            trigger_events: config.limits.trigger_events,
        }
    }
}

/// How much was checked: a world in which little happens proves little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Calls that were answered well.
    pub answers: u64,
    /// Calls that were refused, or of which nobody knows.
    pub refused: u64,
    /// Changes and sent events that subscribers saw.
    pub events: u64,
    /// States that subscribers started from.
    pub syncs: u64,
    /// Histories of single items that were found to be linearizable.
    pub histories: u64,
    /// Those of which it could not be said: the search was given up, or met what the model does not know.
    pub undecided: u64,
    /// Times that the server stopped dead.
    pub crashes: u64,
    /// Joins that were allowed.
    pub joins: u64,
    /// Joins that were refused.
    pub unauthorized: u64,
    /// Leaves that were told.
    pub leaves: u64,
    /// Events that handlers were called for.
    pub handled: u64,
    /// Times that the names of the groups that there are were compared with their lists.
    pub names: u64,
    /// Times that a subscriber was too slow.
    pub overflows: u64,
    /// Sent events that slow subscribers were told they have missed.
    pub skipped: u64,
}

/// Watches over one guarantee, or a few that need the same knowledge.
trait Oracle {
    /// Takes what happened next.
    fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation>;

    /// Judges what can only be judged at the end: the world has come to rest, and the closer has listed every group.
    fn end(&mut self, checked: &mut Checked) -> Result<(), Violation>;
}

/// All oracles over one world.
pub struct Judge {
    oracles: Vec<Box<dyn Oracle>>,
    checked: Checked,
}

/// The name of the client that ends a world: what it lists last is what there is.
pub const CLOSER: &str = "closer";

impl Judge {
    /// Before anything has happened.
    pub fn new(rules: Rules) -> Judge {
        let of_workers: Vec<Box<dyn Oracle>> = vec![
            Box::new(calls::Calls::new(rules)),
            Box::new(items::Items::new(rules)),
            Box::new(triggers::Triggers::new(rules)),
            Box::new(leaves::Leaves::new(rules)),
        ];
        let oracles = of_subscribers(rules).into_iter().chain(of_workers).collect();
        Judge { oracles, checked: Checked::default() }
    }

    /// Takes what happened next.
    pub fn see(&mut self, entry: &Entry) -> Result<(), Violation> {
        self.checked.crashes += u64::from(matches!(entry.what, What::Crashed(_)));
        self.oracles
            .iter_mut()
            .try_for_each(|oracle| oracle.see(entry, &mut self.checked))
            .map_err(|violation| violation.at(entry))
    }

    /// Judges the world as a whole.
    pub fn end(mut self) -> Result<Checked, Violation> {
        self.oracles.iter_mut().try_for_each(|oracle| oracle.end(&mut self.checked))?;
        Ok(self.checked)
    }
}

/// Those that watch over what subscribers see.
fn of_subscribers(rules: Rules) -> Vec<Box<dyn Oracle>> {
    vec![
        Box::new(access::Access::new(rules)),
        Box::new(slow::Slow::new(rules)),
        Box::new(groups::Groups::new(rules)),
    ]
}

/// Judges a whole trace.
pub fn check(trace: &Trace, rules: Rules) -> Result<Checked, Violation> {
    let mut judge = Judge::new(rules);
    trace.iter().try_for_each(|entry| judge.see(entry))?;
    judge.end()
}

impl Law {
    pub(crate) fn broken(self, how: impl fmt::Display) -> Violation {
        Violation { law: self, how: how.to_string() }
    }

    pub(crate) fn require(self, holds: bool, how: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(self.broken(how())) }
    }
}

impl Violation {
    fn at(self, entry: &Entry) -> Violation {
        Violation { how: format!("{}\n  {entry}", self.how), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.how)
    }
}
