//! What is known of a group: its changes by revision, and its states, each from one that was shown and the changes after
//! it. Everybody must have been told the same.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::state::State;
use crate::oracle::frame::Kind;
use crate::oracle::{Law, Violation};

/// One group, as all who were told of it know it.
#[derive(Debug)]
pub(super) struct History {
    name: String,
    changes: BTreeMap<u64, Change>,
    /// The revisions of each item's changes.
    items: BTreeMap<Rc<str>, BTreeSet<u64>>,
    states: BTreeMap<u64, Known>,
    /// The highest revision that anybody was told of, and how many crashes there were before.
    seen: (u64, u64),
    /// How many crashes there were.
    crashes: u64,
    /// What can't be judged before more is known.
    claims: Vec<Claim>,
}

/// A change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) item: Rc<str>,
    /// Its value from then on.
    pub(super) after: Option<Rc<Value>>,
    /// Its value before, if that is known.
    pub(super) before: Option<Option<Rc<Value>>>,
    pub(super) kind: Option<Kind>,
    pub(super) stamp: Option<u64>,
    /// How many crashes there were before it was known.
    crashes: u64,
}

/// A state that was shown, or follows from one.
#[derive(Debug)]
struct Known {
    state: State,
    crashes: u64,
}

/// What somebody was told of a state.
#[derive(Debug)]
enum Claim {
    /// At this revision the item was this.
    At { revision: u64, item: Rc<str>, value: Option<Rc<Value>> },
    /// At this revision or later the item's last change was that of `last`; 0 if there was no such item.
    Last { since: u64, item: Rc<str>, last: u64 },
    /// At this revision or later this was the group.
    Listed { since: u64, values: Vec<Value> },
    /// Between these two revisions the item was not changed.
    Unchanged { item: Rc<str>, from: u64, to: u64 },
}

/// What a message tells of a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) item: &'a str,
    pub(super) after: Option<&'a Value>,
    pub(super) before: Option<Option<&'a Value>>,
    pub(super) kind: Option<Kind>,
    pub(super) stamp: Option<u64>,
}

impl History {
    pub(super) fn new(name: &str, crashes: u64) -> History {
        let empty = Known { state: State::default(), crashes: 0 };
        History {
            name: name.to_owned(),
            changes: BTreeMap::new(),
            items: BTreeMap::new(),
            states: BTreeMap::from([(0, empty)]),
            seen: (0, crashes),
            crashes,
            claims: Vec::new(),
        }
    }

    /// The server stopped dead.
    pub(super) fn crashed(&mut self) {
        self.crashes += 1;
    }

    /// The highest revision that anybody was told of.
    pub(super) fn seen(&self) -> u64 {
        self.seen.0
    }

    /// Somebody is told of a revision.
    pub(super) fn see(&mut self, revision: u64) {
        if revision > self.seen.0 {
            self.seen = (revision, self.crashes);
        }
    }

    /// What is shown at `revision` must be no older than `since`.
    pub(super) fn require_since(&self, revision: u64, since: u64) -> Result<(), Violation> {
        self.law(self.seen.1).require(revision >= since, || {
            format!("{} is shown at revision {revision}, after somebody was told of {since}", self.name)
        })
    }

    /// What is broken when something differs from what was known `crashes` ago.
    fn law(&self, crashes: u64) -> Law {
        if crashes < self.crashes { Law::SeenIsDurable } else { Law::OneOrder }
    }

    /// Somebody is told of a change.
    pub(super) fn change(&mut self, revision: u64, told: Told<'_>) -> Result<(), Violation> {
        self.see(revision);
        let crashes = self.crashes;
        if let Some(known) = self.changes.get_mut(&revision) {
            let (before, details) = (known.clone(), known.details());
            if !known.merge(told) {
                let how = format!("revision {revision} of {} is {told:?}, but was {before:?}", self.name);
                return Err(self.law(before.crashes).broken(how));
            }
            // Only what tells more can be at odds with the states around it.
            return if details == known.details() { Ok(()) } else { self.fold(revision) };
        }
        let item = match self.items.get_key_value(told.item) {
            Some((item, _)) => item.clone(),
            None => told.item.into(),
        };
        self.items.entry(item.clone()).or_default().insert(revision);
        self.changes.insert(revision, Change::new(item, told, crashes));
        self.fold(revision)
    }

    /// Somebody is shown the group at a revision.
    pub(super) fn shown(&mut self, revision: u64, values: &[Value]) -> Result<(), Violation> {
        self.see(revision);
        if let Some(known) = self.states.get(&revision) {
            return self.agree(revision, known, known.state.holds(values), &format!("{values:?}"));
        }
        let (from, before) =
            self.states.range(..revision).next_back().map_or((0, None), |(at, known)| (*at, Some(known)));
        if let Some(before) = before {
            let steps = before.state.distance(values);
            Law::ReplayIsList.require(steps as u64 <= revision - from, || {
                let (name, state) = (&self.name, &before.state);
                format!(
                    "{name} at revision {revision} is {values:?}, but was {state} at {from}: too few changes"
                )
            })?;
        }
        self.states.insert(revision, Known { state: State::shown(values), crashes: self.crashes });
        self.fold(revision + 1)
    }

    fn agree(&self, revision: u64, known: &Known, agrees: bool, other: &str) -> Result<(), Violation> {
        let law = if known.crashes < self.crashes { Law::SeenIsDurable } else { Law::ReplayIsList };
        law.require(agrees, || {
            format!("{} at revision {revision} is {}, and also {other}", self.name, known.state)
        })
    }

    /// Goes on from the state before `revision`, as far as the changes are known.
    fn fold(&mut self, mut revision: u64) -> Result<(), Violation> {
        while let Some((before, change)) = self.states.get(&(revision - 1)).zip(self.changes.get(&revision)) {
            let after = before.state.after(change).map_err(|how| {
                Law::ReplayIsList.broken(format!("revision {revision} of {}: {how}", self.name))
            })?;
            let Some(after) = after else { break };
            let crashes = before.crashes.max(change.crashes);
            match self.states.get(&revision) {
                None => drop(self.states.insert(revision, Known { state: after, crashes })),
                Some(known) => {
                    self.agree(revision, known, known.state == after, &after.to_string())?;
                    if !after.names_more_than(&known.state) {
                        break;
                    }
                    self.states.insert(revision, Known { state: after, crashes });
                }
            }
            revision += 1;
        }
        Ok(())
    }

    /// Somebody is shown an item at a revision of the group.
    pub(super) fn item_shown(&mut self, revision: u64, item: &str, value: &Value) -> Result<(), Violation> {
        self.see(revision);
        let value = (!value.is_null()).then(|| Rc::new(value.clone()));
        self.claim(Claim::At { revision, item: item.into(), value })
    }

    /// Somebody is told that an item's last change is that of `last`, by an answer to a call after `since`.
    pub(super) fn last_is(&mut self, since: u64, item: &str, last: u64) -> Result<(), Violation> {
        self.see(last);
        self.claim(Claim::Last { since, item: item.into(), last })
    }

    /// Somebody who follows an item was told of it at `from` and at `to`, and of nothing between.
    pub(super) fn unchanged(&mut self, item: &str, from: u64, to: u64) -> Result<(), Violation> {
        self.claim(Claim::Unchanged { item: item.into(), from, to })
    }

    /// Somebody is told what is in the group, by an answer to a call after `since`.
    pub(super) fn listed(&mut self, since: u64, values: Vec<Value>) {
        let holds = |known: &Known| known.state.holds(&values);
        if !self.states.range(since..).rev().any(|(_, known)| holds(known)) {
            self.claims.push(Claim::Listed { since, values });
        }
    }

    fn claim(&mut self, claim: Claim) -> Result<(), Violation> {
        if !self.decide(&claim, None)? {
            self.claims.push(claim);
        }
        Ok(())
    }

    /// Judges what is open. `top` is the group's last revision, if that is known for sure.
    pub(super) fn judge(&mut self, top: Option<u64>) -> Result<(), Violation> {
        let mut claims = std::mem::take(&mut self.claims);
        let mut wrong = Ok(());
        claims.retain(|claim| match self.decide(claim, top) {
            Ok(decided) => !decided,
            Err(violation) => {
                wrong = Err(violation);
                false
            }
        });
        self.claims = claims;
        wrong
    }

    /// Whether a claim is known to hold, for ever.
    fn decide(&self, claim: &Claim, top: Option<u64>) -> Result<bool, Violation> {
        let name = &self.name;
        match claim {
            Claim::At { revision, item, value } => {
                let last = self.last_change(item, *revision);
                let is = last.and_then(|(_, change)| change.after.as_ref());
                let complete = self.knows_all(last.map_or(0, |(at, _)| at), *revision);
                if !complete
                    && let Some(known) = self.states.get(revision)
                    && let Some(is) = known.state.get(item)
                {
                    let how =
                        || format!("{name} {item} at revision {revision} is {value:?}, and also {is:?}");
                    Law::ReplayIsList.require(is == value.as_deref(), how)?;
                    return Ok(true);
                }
                let how = || format!("{name} {item} at revision {revision} is {value:?}, but was {is:?}");
                Law::ReplayIsList.require(!complete || is == value.as_ref(), how)?;
                Ok(complete)
            }
            Claim::Last { since, item, last } => {
                let known = self.last_change(item, *since);
                let at = known.map_or(0, |(at, _)| at);
                if *last > 0 {
                    let how = || format!("the last change of {name} {item} is {last}, after {at} was seen");
                    self.law(self.seen.1).require(at <= *last, how)?;
                    return Ok(self.knows_all(*last, *since));
                }
                let gone = |at: &u64| self.changes.get(at).is_some_and(|change| change.after.is_none());
                if at == 0 || gone(&at) || self.items.get(item).is_some_and(|all| all.range(at..).any(gone)) {
                    return Ok(self.knows_all(at, *since));
                }
                let complete = top.is_some_and(|top| self.knows_all(at, top));
                let how = || format!("{name} {item} is not there, after {at} was seen");
                self.law(self.seen.1).require(!complete, how)?;
                Ok(false)
            }
            Claim::Listed { since, values } => {
                let holds = |(_, known): (&u64, &Known)| known.state.holds(values);
                if self.states.range(since..).any(holds) {
                    return Ok(true);
                }
                let complete = top.is_some_and(|top| {
                    top >= *since && self.states.range(since..=&top).count() as u64 == top - since + 1
                });
                let how = || format!("{name} was never {values:?} from revision {since} on");
                Law::ReplayIsList.require(!complete, how)?;
                Ok(false)
            }
            Claim::Unchanged { item, from, to } => {
                let between = self.items.get(item).and_then(|all| all.range(from + 1..*to).next());
                let how = |missed: &u64| format!("revision {missed} of {name} {item} was skipped");
                between.map_or(Ok(()), |missed| Err(Law::OneOrder.broken(how(missed))))?;
                Ok(self.knows_all(*from, to.saturating_sub(1)))
            }
        }
    }

    /// The last known change of an item up to a revision.
    fn last_change(&self, item: &str, to: u64) -> Option<(u64, &Change)> {
        let at = *self.items.get(item)?.range(..=to).next_back()?;
        self.changes.get(&at).map(|change| (at, change))
    }

    /// Whether all changes after `from` up to `to` are known.
    fn knows_all(&self, from: u64, to: u64) -> bool {
        to <= from || self.changes.range(from + 1..=to).count() as u64 == to - from
    }

    /// The group's state at a revision, if it is known.
    pub(super) fn state(&self, revision: u64) -> Option<&State> {
        self.states.get(&revision).map(|known| &known.state)
    }

    /// The last known change of an item.
    pub(super) fn last_revision_of(&self, item: &str) -> u64 {
        self.items.get(item).and_then(BTreeSet::last).copied().unwrap_or(0)
    }
}

impl Change {
    fn new(item: Rc<str>, told: Told<'_>, crashes: u64) -> Change {
        let keep = |value: &Value| Rc::new(value.clone());
        Change {
            item,
            after: told.after.map(keep),
            before: told.before.map(|before| before.map(keep)),
            kind: told.kind,
            stamp: told.stamp,
            crashes,
        }
    }

    /// How much is known of it.
    fn details(&self) -> (bool, bool) {
        (self.kind.is_some(), self.before.is_some())
    }

    /// Takes what else is told of it; `false` if that is something else.
    fn merge(&mut self, told: Told<'_>) -> bool {
        let both = |known: Option<Kind>| known.is_none() || told.kind.is_none() || known == told.kind;
        let same = *self.item == *told.item
            && self.after.as_deref() == told.after
            && both(self.kind)
            && (self.stamp.is_none() || told.stamp.is_none() || self.stamp == told.stamp);
        let keep = |value: &Value| Rc::new(value.clone());
        match (&self.before, told.before) {
            (Some(known), Some(before)) if known.as_deref() != before => return false,
            (None, Some(before)) => self.before = Some(before.map(keep)),
            _ => {}
        }
        self.kind = self.kind.or(told.kind);
        self.stamp = self.stamp.or(told.stamp);
        same
    }
}
