//! Judges a trace: models of the workers' items and of the subscribers' groups, written from the protocol alone.

mod groups;
mod items;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::client::CLOSER;
use crate::trace::{Entry, Trace, What};
use groups::Groups;
use items::Items;

/// The guarantees that a trace can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// G1: an acknowledged write survives.
    AcknowledgedSurvives,
    /// G2: nothing is seen that a crash takes back.
    SeenIsDurable,
    /// G3: everybody sees a group's changes in one order, without a gap or a repeat.
    OneOrder,
    /// G4: a sync and the changes after it are the group.
    ReplayIsList,
    /// Stamps increase strictly within a group.
    StampsIncrease,
    /// Every call is answered, and well.
    CallsSucceed,
}

/// A guarantee is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// How.
    pub how: String,
}

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Calls that were answered.
    pub answers: usize,
    /// Changes and events that subscribers saw.
    pub events: usize,
    /// States that subscribers started from.
    pub syncs: usize,
    /// Times that the server stopped dead.
    pub crashes: usize,
}

/// Checks all laws. What is lost is told first: much else goes wrong after it.
pub fn check(trace: &Trace) -> Result<Checked, Violation> {
    let mut checked = Checked::default();
    let mut items = Items::default();
    let mut groups = Groups::default();
    let mut first = None;
    for entry in trace {
        let seen = items.take(entry, &mut checked).and_then(|()| groups.take(entry, &mut checked));
        let found = seen.err().map(|violation| violation.at(entry));
        first = [first, found].into_iter().flatten().min_by_key(|violation: &Violation| violation.law);
    }
    checked.crashes = trace.iter().filter(|entry| entry.what == What::Crashed).count();
    let lists = last_lists(trace);
    let last = items.end(&lists).and_then(|()| groups.end(&lists)).err();
    match [first, last].into_iter().flatten().min_by_key(|violation| violation.law) {
        Some(violation) => Err(violation),
        None => Ok(checked),
    }
}

/// What the closer found in each group.
type Lists = BTreeMap<String, Vec<Value>>;

fn last_lists(trace: &[Entry]) -> Lists {
    let mut asked = BTreeMap::new();
    let mut lists = Lists::new();
    for entry in trace.iter().filter(|entry| entry.who == CLOSER) {
        match &entry.what {
            What::Sent(call) if call["function_id"] == "stream::list" => {
                asked.insert(text(&call["invocation_id"]), text(&call["data"]["group_id"]));
            }
            What::Got(answer) => {
                if let Some(group) = asked.remove(&text(&answer["invocation_id"])) {
                    lists.insert(group, answer["result"].as_array().cloned().unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    lists
}

/// The text of a JSON string.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Law {
    fn broken(self, how: impl fmt::Display) -> Violation {
        Violation { law: self, how: how.to_string() }
    }

    fn require(self, holds: bool, how: impl fmt::Display) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(self.broken(how)) }
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
