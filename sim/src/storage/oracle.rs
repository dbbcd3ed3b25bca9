//! Judges what callers were answered, what a subscriber saw, and what is there after a start: a plain history of each
//! group, written from the promises alone.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use headwater_core::call::{Answer, Outcome};
use headwater_core::log::Epoch;
use headwater_core::store::{Durable, Event, EventKind, Snapshot, State as Stored};
use headwater_core::time::Stamp;

use super::command::{Command, Items, Kind};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub law: Law,
    /// How.
    pub how: String,
}

/// What a store promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// What was acknowledged or seen is there after a start, as far as the level of durability goes.
    AcknowledgedSurvives,
    /// A start succeeds whatever a crash or a fault that is over has left.
    StartSucceeds,
    /// What is there was sent, in this order, and not taken back by "nothing was written".
    OnlyWhatWasSent,
    /// A group's changes are seen and acknowledged once each, in order, with revisions that have no gap.
    OneOrder,
    /// What a power cut takes is the end of the whole history.
    PrefixOfAll,
    /// A history that may have lost something has a new name, and only that.
    EpochNamesHistory,
    /// Reads tell the state at their place in the order.
    ReadsAreTrue,
    /// Stamps increase.
    StampsIncrease,
    /// Nothing fails if no operation of the disk does, and everything works once none does.
    FaultsEnd,
}

impl Law {
    pub(super) fn broken(self, how: impl fmt::Display) -> Broken {
        Broken { law: self, how: how.to_string() }
    }

    pub(super) fn require(self, holds: bool, how: impl FnOnce() -> String) -> Result<(), Broken> {
        if holds { Ok(()) } else { Err(self.broken(how())) }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.how)
    }
}

/// What is known of all groups.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    groups: BTreeMap<String, Group>,
    /// The number of the next change, of all groups together, in the order in which they were seen.
    next: u64,
    /// What the last crash has kept, and what it has taken, by that number.
    kept: Option<u64>,
    taken: Option<u64>,
    /// Whether the disk has ever failed.
    pub(super) faults: bool,
    /// Whether the last process has ended well.
    closed: bool,
    /// Whether files were changed behind the store's back: then it can't know that something is lost.
    pub(super) damaged: bool,
    pub(super) seen: Seen,
}

/// How much a world has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Changes that a subscriber saw.
    pub changes: u64,
    /// Calls that were answered well.
    pub answers: u64,
    /// Calls that were told that nothing was written.
    pub refused: u64,
    /// Calls that were told that nobody knows.
    pub unknown: u64,
    /// States of groups after a start.
    pub found: u64,
    /// Changes that nobody had been told of, and that were there after a start.
    pub surfaced: u64,
    /// Changes that were acknowledged and that a power cut has taken, where that is allowed.
    pub lost: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Seen) {
        self.changes += other.changes;
        self.answers += other.answers;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.found += other.found;
        self.surfaced += other.surfaced;
        self.lost += other.lost;
    }
}

#[derive(Clone, Debug)]
struct Group {
    /// Its items after each change; the first is before all of them.
    history: Vec<(u64, Items)>,
    /// How many changes no crash may take: of a power cut and of a kill.
    safe: usize,
    /// How many of them must be there after the last crash.
    must_be: usize,
    epoch: Option<Epoch>,
    stamp: Stamp,
    /// Calls without an answer, in the order in which they were sent.
    open: Vec<Command>,
    /// Those of which nobody knows what became.
    unknown: Vec<Command>,
    /// What may have been done behind the history when the last process died: a first part of one of these.
    perhaps: Vec<Vec<Command>>,
    /// Whether it was seen since the last start.
    found: bool,
    /// Whether the last start but one has shown it, too: then what it has lost, was lost by the last crash.
    followed: bool,
}

impl Oracle {
    pub(super) fn new(groups: impl Iterator<Item = String>) -> Oracle {
        let group = || Group {
            history: vec![(0, Items::default())],
            safe: 0,
            must_be: 0,
            epoch: None,
            stamp: Stamp(0),
            open: Vec::new(),
            unknown: Vec::new(),
            perhaps: vec![Vec::new()],
            found: false,
            followed: true,
        };
        Oracle {
            groups: groups.map(|name| (name, group())).collect(),
            next: 1,
            kept: None,
            taken: None,
            faults: false,
            closed: false,
            damaged: false,
            seen: Seen::default(),
        }
    }

    /// A call was made.
    pub(super) fn sent(&mut self, command: Command) {
        self.closed = false;
        self.group(&command.group.clone()).open.push(command);
    }

    fn group(&mut self, name: &str) -> &mut Group {
        self.groups.get_mut(name).expect("a group of this world")
    }

    /// A subscriber saw an event.
    pub(super) fn saw(&mut self, event: &Event) -> Result<(), Broken> {
        let (number, name) = (self.next, event.group.group.as_str().to_owned());
        let group = self.group(&name);
        let how = || format!("{name}: an event before its state");
        Law::OneOrder.require(group.found, how)?;
        let how = || format!("{name}: an event of stamp {:?} after {:?}", event.stamp, group.stamp);
        Law::StampsIncrease.require(event.stamp > group.stamp, how)?;
        group.stamp = event.stamp;
        let (value, revision) = match &event.kind {
            EventKind::Created(value) | EventKind::Updated(value) => (Some(value.as_str()), event.revision.0),
            EventKind::Deleted(_) => (None, event.revision.0),
            EventKind::Sent { .. } => {
                let how = || format!("{name}: an event after {:?}", event.revision);
                return Law::OneOrder.require(event.revision.0 == group.last(), how);
            }
            EventKind::Replaced { .. } => return Err(Law::OnlyWhatWasSent.broken("a null")),
        };
        let how = || format!("{name}: revision {revision} after {}", group.last());
        Law::OneOrder.require(revision == group.last() + 1, how)?;
        let items = group.newest().clone();
        let id = event.item.as_ref().map_or("", |id| id.as_str());
        let next = group.open.iter_mut().find(|command| command.done_at.is_none() && command.changes(&items));
        let what = |command: Option<&Command>| format!("{name}: {id} is {value:?}, but next is {command:?}");
        let Some(command) = next else { return Err(Law::OnlyWhatWasSent.broken(what(None))) };
        let after = command.applied(&items);
        let is_next = command.item == id && after.get(id) == value;
        Law::OnlyWhatWasSent.require(is_next, || what(Some(command)))?;
        command.done_at = Some(revision);
        group.history.push((number, after));
        self.next += 1;
        self.seen.changes += 1;
        // What had failed is fenced off since.
        self.groups.values_mut().for_each(|group| group.unknown.clear());
        Ok(())
    }

    /// A call was answered.
    pub(super) fn answered(&mut self, id: &str, outcome: &Outcome) -> Result<(), Broken> {
        let found = self.groups.iter_mut().find_map(|(name, group)| {
            let at = group.open.iter().position(|command| command.id == id)?;
            Some((name.clone(), group.open.remove(at), group))
        });
        let Some((name, command, group)) = found else {
            return Err(
                Law::OneOrder.broken(format!("an answer to {id}, which was not asked, or was answered"))
            );
        };
        let how = |what: &str| format!("{name}: {what}: {command:?} got {outcome:?}");
        let done_at = command.done_at.and_then(|at| usize::try_from(at).ok());
        match outcome {
            Ok(Answer::Changed { old, new, revision, .. }) => {
                let Some(at) = done_at else {
                    return Err(Law::OneOrder.broken(how("an answer before its event")));
                };
                let (before, after) = (&group.history[at - 1].1, &group.history[at].1);
                let told = (revision.map(|revision| revision.0), old.as_ref().map(|old| old.as_str()));
                let is_so = told == (Some(at as u64), before.get(&command.item))
                    && after.get(&command.item) == Some(new.as_str());
                Law::ReadsAreTrue.require(is_so, || how("not what happened"))?;
            }
            Ok(Answer::Deleted { old: Some(old), .. }) => {
                let Some(at) = done_at else {
                    return Err(Law::OneOrder.broken(how("an answer before its event")));
                };
                let before = group.history[at - 1].1.get(&command.item);
                Law::ReadsAreTrue.require(before == Some(old.as_str()), || how("not what happened"))?;
            }
            Ok(Answer::Deleted { old: None, .. }) => {
                let is_so = done_at.is_none() && group.newest().get(&command.item).is_none();
                Law::ReadsAreTrue.require(is_so, || how("it is there"))?;
            }
            Ok(Answer::Items(items)) => {
                let is_so = *group.newest() == listed(items);
                Law::ReadsAreTrue.require(is_so, || how(&format!("it is {:?}", group.newest())))?;
            }
            Ok(_) => Law::ReadsAreTrue.require(command.kind == Kind::Send, || how("another answer"))?,
            Err(error) => {
                Law::FaultsEnd.require(self.faults, || how("nothing was wrong with the disk"))?;
                Law::OneOrder.require(done_at.is_none(), || how("it was seen"))?;
                let unknown = error.message.starts_with("outcome_unknown");
                let denied = error.message.starts_with("nothing was written");
                let says = unknown || denied || command.kind == Kind::List;
                Law::FaultsEnd.require(says, || how("it does not say whether something was written"))?;
                self.seen.unknown += u64::from(unknown);
                self.seen.refused += u64::from(!unknown);
                if unknown {
                    group.unknown.push(command);
                }
                return Ok(());
            }
        }
        self.seen.answers += 1;
        Ok(())
    }

    /// All that was seen so far is safe from a power cut.
    pub(super) fn synced(&mut self) {
        for group in self.groups.values_mut().filter(|group| group.found) {
            group.safe = group.history.len() - 1;
        }
    }

    /// The process has ended well.
    pub(super) fn stopped(&mut self) {
        self.synced();
        self.closed = true;
    }

    /// The process is gone; with the power, what is not synced may be gone, too.
    pub(super) fn died(&mut self, power: bool) {
        (self.kept, self.taken) = (None, None);
        for group in self.groups.values_mut() {
            group.followed = group.found;
            if group.found {
                group.must_be = if power { group.safe } else { group.history.len() - 1 };
                let open = std::mem::take(&mut group.open);
                let open = open.into_iter().filter(|command| command.done_at.is_none()).collect();
                group.perhaps = vec![open, std::mem::take(&mut group.unknown)];
            } else if power {
                group.must_be = group.must_be.min(group.safe);
            }
            // What was sent before the group was found, was not begun.
            group.open.clear();
            group.found = false;
        }
    }

    /// A subscriber was given the state of a group.
    pub(super) fn synced_to(
        &mut self,
        name: &str,
        epoch: Epoch,
        durable: &Durable,
        synced: bool,
    ) -> Result<(), Broken> {
        let Stored::Group(items) = &durable.state else { return Err(Law::ReadsAreTrue.broken("no group")) };
        let (items, revision) = (listed(items), durable.revision.0);
        let first = !self.group(name).found;
        if first {
            self.find(name, epoch, &items, revision, synced)?;
        }
        let group = self.group(name);
        let how = || format!("{name} at {revision} is {items:?}, but seen was {:?}", group.history.last());
        Law::ReadsAreTrue.require(revision == group.last() && items == *group.newest(), how)?;
        let how = || format!("{name}: {epoch} follows {:?}", group.epoch);
        Law::EpochNamesHistory.require(first || group.epoch == Some(epoch), how)?;
        let how = || format!("{name}: a state of stamp {:?} after {:?}", durable.stamp, group.stamp);
        Law::StampsIncrease.require(group.epoch != Some(epoch) || durable.stamp >= group.stamp, how)?;
        (group.stamp, group.epoch) = (durable.stamp, Some(epoch));
        Ok(())
    }

    /// A group is seen for the first time after a start.
    fn find(
        &mut self,
        name: &str,
        epoch: Epoch,
        items: &Items,
        revision: u64,
        synced: bool,
    ) -> Result<(), Broken> {
        let (kept, taken, next, damaged) = (self.kept, self.taken, self.next, self.damaged);
        let firm = synced || self.closed;
        let group = self.group(name);
        let at = usize::try_from(revision).unwrap_or(usize::MAX);
        let how = || format!("{name} is at revision {revision}, but {} was to stay", group.must_be);
        Law::AcknowledgedSurvives.require(at >= group.must_be, how)?;
        let last = group.history.len() - 1;
        let is_new = group.epoch.is_some_and(|before| before != epoch);
        let how = || format!("{name}: the epoch is {epoch}, it was {:?}; {at} of {last}", group.epoch);
        let named = at >= last || is_new || damaged;
        Law::EpochNamesHistory.require(last == 0 || (named && !(is_new && firm)), how)?;
        let (mut keeps, mut takes) = (kept, taken);
        if at < last && group.followed {
            takes = takes.min(Some(group.history[at + 1].0)).or(Some(group.history[at + 1].0));
        }
        let lost = last.saturating_sub(at) as u64;
        let surfaced = at.saturating_sub(last) as u64;
        if at <= last {
            group.history.truncate(at + 1);
            let how = || format!("{name} at {revision} is {items:?}, but was {:?}", group.newest());
            Law::OnlyWhatWasSent.require(group.newest() == items, how)?;
        } else {
            let (newest, perhaps) = (group.newest(), &group.perhaps);
            let mut parts = perhaps.iter().filter_map(|commands| first_part(newest, commands, at - last));
            let Some(states) = parts.find(|states| states.last() == Some(items)) else {
                let how =
                    format!("{name} at {revision} is {items:?}; after {newest:?} at {last} came {perhaps:?}");
                return Err(Law::OnlyWhatWasSent.broken(how));
            };
            group.history.extend(states.into_iter().map(|state| (next - 1, state)));
        }
        if group.followed {
            keeps = keeps.max(group.history.last().map(|(number, _)| *number));
        }
        if is_new {
            group.stamp = Stamp(0);
        }
        (group.found, group.safe, group.perhaps) = (true, at, vec![Vec::new()]);
        group.unknown.clear();
        (self.kept, self.taken) = (keeps, takes);
        let how = || format!("{name}: number {keeps:?} is there, but not {takes:?}");
        Law::PrefixOfAll.require(takes.is_none_or(|takes| keeps < Some(takes)), how)?;
        self.seen.lost += lost;
        self.seen.surfaced += surfaced;
        self.seen.found += 1;
        Ok(())
    }

    /// Whether all groups were seen since the last start, and no call waits.
    pub(super) fn is_settled(&self) -> bool {
        self.groups.values().all(|group| group.found && group.open.is_empty())
    }

    /// What waits, for people.
    pub(super) fn waits(&self) -> String {
        let open = self
            .groups
            .iter()
            .map(|(name, group)| format!("{name} found: {}, open: {:?}", group.found, group.open));
        open.collect::<Vec<_>>().join("\n")
    }

    /// How many changes all groups have together.
    pub(super) fn revisions(&self) -> BTreeMap<String, u64> {
        self.groups.iter().map(|(name, group)| (name.clone(), group.last())).collect()
    }

    /// From now on so many changes of each group have to be there, and no others may.
    pub(super) fn expect_at_least(&mut self, revisions: &BTreeMap<String, u64>) {
        for (name, revision) in revisions {
            let group = self.group(name);
            group.must_be = usize::try_from(*revision).unwrap_or(usize::MAX);
            (group.found, group.followed) = (false, true);
        }
        (self.kept, self.taken) = (None, None);
    }
}

impl Group {
    fn newest(&self) -> &Items {
        &self.history.last().expect("there is always one").1
    }

    fn last(&self) -> u64 {
        self.history.len() as u64 - 1
    }
}

/// What the first `count` of these commands that change something make of a group; `None` if they are fewer.
fn first_part(items: &Items, commands: &[Command], count: usize) -> Option<Vec<Items>> {
    let mut states = Vec::new();
    let mut items = items.clone();
    for command in commands {
        if states.len() < count && command.changes(&items) {
            items = command.applied(&items);
            states.push(items.clone());
        }
    }
    (states.len() == count).then_some(states)
}

fn listed(snapshot: &Snapshot) -> Items {
    Items(snapshot.iter().map(|item| (item.id.as_str().to_owned(), item.value.as_str().to_owned())).collect())
}
