//! What may be in the store after a crash, and what not: pure, so that `oracle/tests.rs` can show that it says no.
//!
//! The changes that one writer sends to one group are a [`Lane`]: they are made in the order in which they were sent.
//! So whatever a crash leaves of a lane is what its first `k` changes made, for a `k` that is at least what was
//! acknowledged or seen of it, and at most what was sent. And as every change takes the group's next revision, the
//! `k`s of all lanes of a group add up to the revisions that the group has gained.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// What an item holds. Every change makes it different: `seq` is never given twice by a writer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Content {
    /// The item's id, which says who writes it.
    pub(crate) id: String,
    pub(crate) writer: u32,
    /// The change that made it, among the writer's.
    pub(crate) seq: u64,
    /// How often it was counted up since it was set.
    pub(crate) n: u64,
    /// Some text, so that records are of different lengths.
    pub(crate) text: String,
}

/// What a writer does to an item.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Puts new content there.
    Set { seq: u64, text: String },
    /// Adds one to `n`, in the item as it is.
    Count { seq: u64 },
    /// Removes it.
    Delete,
}

/// A change that was sent: its place in its lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) group: String,
    pub(crate) writer: u32,
    pub(crate) step: usize,
}

/// An item as the store shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) content: Content,
    pub(crate) revision: u64,
}

/// A change as a subscriber is told of it. A delete has no content.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) content: Option<Content>,
    /// Whether it is said to be the item's first.
    pub(crate) created: bool,
    pub(crate) revision: u64,
    pub(crate) stamp: u64,
}

/// A law that was broken, with where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) law: Law,
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Law {
    /// An answer tells what the change really did.
    Answer,
    /// What was acknowledged or seen is there, as it was left by a later change that was sent, or as it was;
    /// nothing is there that was never sent.
    Kept,
    /// Each change has a revision of its own, and they have no gap.
    Revisions,
    /// A subscriber sees the changes that were sent, each once and in their order.
    Seen,
    /// Timestamps increase.
    Stamps,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.detail)
    }
}

pub(crate) type Checked<T = ()> = Result<T, Wrong>;

fn ensure(holds: bool, law: Law, detail: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Wrong { law, detail: detail() }) }
}

/// What all writers sent and what anybody was told of it, group by group.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// The revision that the group had when this process of the server started.
    head: u64,
    /// The items with their revisions at that time.
    held: BTreeMap<String, (Content, u64)>,
    /// The latest timestamp that anybody was told.
    stamp: u64,
    /// Everything that this process tells must be newer.
    stamp_floor: u64,
    lanes: BTreeMap<u32, Lane>,
    /// The changes whose revisions are known.
    revisions: BTreeMap<u64, (u32, usize)>,
}

/// The changes of one writer to one group since the server started.
#[derive(Debug, Default)]
struct Lane {
    /// What its items hold once all that was sent is done.
    ahead: BTreeMap<String, Content>,
    steps: Vec<Step>,
    /// How many of the steps must be there after a crash.
    owed: usize,
}

#[derive(Debug)]
struct Step {
    id: String,
    before: Option<Content>,
    after: Option<Content>,
    revision: Option<u64>,
}

/// How far a subscriber has come in a group.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    group: String,
    revision: u64,
    stamp: u64,
    /// The next step of each lane.
    next: BTreeMap<u32, usize>,
}

impl Oracle {
    /// What an item of the writer's holds once all is done that was sent.
    pub(crate) fn ahead(&self, group: &str, writer: u32, id: &str) -> Option<&Content> {
        let group = self.groups.get(group)?;
        match group.lanes.get(&writer) {
            Some(lane) => lane.ahead.get(id),
            None => group.held.get(id).map(|(content, _)| content),
        }
    }

    /// A change is about to be sent. It must be one that changes something.
    pub(crate) fn sends(&mut self, group: &str, writer: u32, id: &str, change: Change) -> Ticket {
        let state = self.groups.entry(group.to_owned()).or_default();
        let held = &state.held;
        let lane = state.lanes.entry(writer).or_insert_with(|| {
            let own = held.values().filter(|(content, _)| content.writer == writer);
            Lane { ahead: own.map(|(item, _)| (item.id.clone(), item.clone())).collect(), ..Lane::default() }
        });
        let before = lane.ahead.remove(id);
        let after = match change {
            Change::Set { seq, text } => Some(Content { id: id.to_owned(), writer, seq, n: 0, text }),
            Change::Count { seq } => {
                let old = before.clone().unwrap_or_default();
                Some(Content { id: id.to_owned(), writer, seq, n: old.n + 1, text: old.text })
            }
            Change::Delete => None,
        };
        assert_ne!(before, after, "a change that changes nothing is none");
        if let Some(content) = &after {
            lane.ahead.insert(id.to_owned(), content.clone());
        }
        lane.steps.push(Step { id: id.to_owned(), before, after, revision: None });
        Ticket { group: group.to_owned(), writer, step: lane.steps.len() - 1 }
    }

    /// A change was acknowledged, with what the answer tells.
    pub(crate) fn acknowledged(
        &mut self,
        ticket: &Ticket,
        old: Option<&Content>,
        new: Option<&Content>,
        revision: u64,
    ) -> Checked {
        let group = self.groups.get_mut(&ticket.group).expect("it was sent");
        let step = &group.lanes[&ticket.writer].steps[ticket.step];
        ensure((step.before.as_ref(), step.after.as_ref()) == (old, new), Law::Answer, || {
            format!("{ticket:?} was {step:?}, but its answer says {old:?} and then {new:?}")
        })?;
        group.happened(ticket.writer, ticket.step, revision)
    }

    /// Somebody subscribes to a group that nobody writes to, and is told this.
    pub(crate) fn watch(
        &mut self,
        group: &str,
        revision: u64,
        stamp: u64,
        items: &[Content],
    ) -> Checked<Watcher> {
        let state = self.groups.entry(group.to_owned()).or_default();
        ensure(revision == state.head, Law::Revisions, || {
            format!("the sync of {group} is of revision {revision}, not {}", state.head)
        })?;
        let told: BTreeMap<&str, &Content> = items.iter().map(|item| (&*item.id, item)).collect();
        let held: BTreeMap<&str, &Content> = state.held.iter().map(|(id, (item, _))| (&**id, item)).collect();
        ensure(told == held && told.len() == items.len(), Law::Seen, || {
            format!("the sync of {group} has {items:?}, but the group holds {held:?}")
        })?;
        state.stamp_is_told(stamp, group)?;
        Ok(Watcher { group: group.to_owned(), revision, stamp, next: BTreeMap::new() })
    }

    /// A subscriber is told of a change.
    pub(crate) fn told(&mut self, watcher: &mut Watcher, told: &Told) -> Checked {
        let name = &watcher.group;
        ensure(told.revision == watcher.revision + 1, Law::Revisions, || {
            format!("in {name}, revision {} was followed by {told:?}", watcher.revision)
        })?;
        ensure(told.stamp > watcher.stamp, Law::Stamps, || {
            format!("in {name}, the timestamp {} was followed by {told:?}", watcher.stamp)
        })?;
        let group = self.groups.get_mut(name).expect("it is watched");
        group.stamp_is_told(told.stamp, name)?;
        let writer = writer_of(&told.id);
        let next = watcher.next.entry(writer).or_default();
        let step = group.lanes.get(&writer).and_then(|lane| lane.steps.get(*next));
        let as_sent = step.is_some_and(|step| {
            step.id == told.id && step.after == told.content && step.before.is_none() == told.created
        });
        ensure(as_sent, Law::Seen, || format!("in {name}, {told:?} was told instead of {step:?}"))?;
        group.happened(writer, *next, told.revision)?;
        *next += 1;
        (watcher.revision, watcher.stamp) = (told.revision, told.stamp);
        Ok(())
    }

    /// The server was started again, and this is what a group holds. Gives how many changes are there of which
    /// nobody had been told.
    pub(crate) fn restarted(&mut self, name: &str, revision: u64, items: &[Shown]) -> Checked<u64> {
        let group = self.groups.entry(name.to_owned()).or_default();
        let held = group.contents(name, revision, items)?;

        let (mut least, mut most, mut owed) = (0, 0, 0);
        for (writer, lane) in &group.lanes {
            let fits = lane.prefixes(&group.held, *writer, &held);
            let (Some(first), Some(last)) = (fits.first(), fits.last()) else {
                let shown: Vec<_> = items.iter().filter(|item| item.content.writer == *writer).collect();
                let owed = lane.steps[..lane.owed].last();
                let open = &lane.steps[lane.owed..];
                return Err(Wrong {
                    law: Law::Kept,
                    detail: format!(
                        "{name} holds {shown:?} of writer {writer}: the last change that was acknowledged or seen \
                         is {owed:?}, those without an answer are {open:?}"
                    ),
                });
            };
            (least, most, owed) = (least + first, most + last, owed + lane.owed);
        }
        let untouched = |held: &BTreeMap<String, (Content, u64)>| {
            let others = held.values().filter(|(item, _)| !group.lanes.contains_key(&item.writer));
            others.cloned().collect::<Vec<_>>()
        };
        let (was, is) = (untouched(&group.held), untouched(&held));
        ensure(was == is, Law::Kept, || {
            format!("{name} held {was:?} of writers who have sent nothing since, and now {is:?}")
        })?;

        let gained = usize::try_from(revision - group.head).expect("a test is short");
        ensure((least..=most).contains(&gained), Law::Revisions, || {
            format!("{name} went from {} to {revision}, by {least} to {most} changes", group.head)
        })?;
        // Two syncs of the same state may have the same timestamp.
        let stamp_floor = if gained == 0 { group.stamp.saturating_sub(1) } else { group.stamp };
        *group = Group { head: revision, held, stamp: group.stamp, stamp_floor, ..Group::default() };
        Ok((gained - owed) as u64)
    }

    /// How many changes were sent since the last start, and how many of them must be there after a crash.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let lanes = self.groups.values().flat_map(|group| group.lanes.values());
        lanes.fold((0, 0), |(sent, owed), lane| (sent + lane.steps.len(), owed + lane.owed))
    }
}

impl Group {
    /// A step of a lane is known to have happened at a revision: it must survive, with all before it.
    fn happened(&mut self, writer: u32, step: usize, revision: u64) -> Checked {
        let other = *self.revisions.entry(revision).or_insert((writer, step));
        ensure(other == (writer, step) && revision > self.head, Law::Revisions, || {
            format!(
                "revision {revision} is step {step} of writer {writer} as well as {other:?}, after {}",
                self.head
            )
        })?;
        let lane = self.lanes.get_mut(&writer).expect("it was sent");
        let known = *lane.steps[step].revision.get_or_insert(revision);
        let neighbours = [step.checked_sub(1), Some(step + 1)].map(|at| lane.steps.get(at?)?.revision);
        let ordered = neighbours[0].is_none_or(|before| before < revision)
            && neighbours[1].is_none_or(|after| revision < after);
        ensure(known == revision && ordered, Law::Revisions, || {
            format!("step {step} of writer {writer} is of {known} and of {revision}, between {neighbours:?}")
        })?;
        lane.owed = lane.owed.max(step + 1);
        Ok(())
    }

    fn stamp_is_told(&mut self, stamp: u64, name: &str) -> Checked {
        ensure(stamp > self.stamp_floor, Law::Stamps, || {
            format!("in {name}, {stamp} was told after a restart, and {} before it", self.stamp_floor)
        })?;
        self.stamp = self.stamp.max(stamp);
        Ok(())
    }

    /// What is shown of the group after a restart, if its ids and revisions can be true.
    fn contents(&self, name: &str, head: u64, items: &[Shown]) -> Checked<BTreeMap<String, (Content, u64)>> {
        let last = self.revisions.last_key_value().map_or(self.head, |(last, _)| *last);
        ensure(head >= last, Law::Revisions, || format!("{name} went back from {last} to {head}"))?;
        let mut revisions = BTreeSet::new();
        let mut held = BTreeMap::new();
        for item in items {
            let id = &item.content.id;
            ensure(writer_of(id) == item.content.writer && item.id == *id, Law::Kept, || {
                format!("{name} holds {item:?}, which nobody sent")
            })?;
            ensure(revisions.insert(item.revision) && item.revision <= head, Law::Revisions, || {
                format!("{name}, at {head}, holds {item:?}, whose revision another one has, or none yet")
            })?;
            let known =
                self.revisions.get(&item.revision).map(|(writer, step)| &self.lanes[writer].steps[*step].id);
            ensure(known.is_none_or(|known| known == id), Law::Revisions, || {
                format!("{name} holds {item:?}, but that revision was a change of {known:?}")
            })?;
            let twice = held.insert(id.clone(), (item.content.clone(), item.revision));
            ensure(twice.is_none(), Law::Kept, || format!("{name} holds {id} twice"))?;
        }
        Ok(held)
    }
}

impl Lane {
    /// All `k` for which the first `k` steps, on what was held before, make what is held now.
    fn prefixes(
        &self,
        before: &BTreeMap<String, (Content, u64)>,
        writer: u32,
        now: &BTreeMap<String, (Content, u64)>,
    ) -> Vec<usize> {
        let own = |held: &BTreeMap<String, (Content, u64)>| {
            let own = held.iter().filter(|(_, (item, _))| item.writer == writer);
            own.map(|(id, (item, revision))| (id.clone(), (item.clone(), Some(*revision)))).collect()
        };
        let now: BTreeMap<String, (Content, Option<u64>)> = own(now);
        let mut made: BTreeMap<String, (Content, Option<u64>)> = own(before);
        let mut fits = Vec::new();
        for k in 0..=self.steps.len() {
            if let Some(step) = k.checked_sub(1).map(|last| &self.steps[last]) {
                match &step.after {
                    Some(content) => made.insert(step.id.clone(), (content.clone(), step.revision)),
                    None => made.remove(&step.id),
                };
            }
            // The revision of a step that nobody was told of may be any.
            let same = |(id, (content, revision)): (&String, &(Content, Option<u64>))| {
                now.get(id)
                    .is_some_and(|(shown, at)| shown == content && (revision.is_none() || revision == at))
            };
            if k >= self.owed && made.len() == now.len() && made.iter().all(same) {
                fits.push(k);
            }
        }
        fits
    }
}

/// The writer whose item it is: ids are `WRITER-NUMBER`.
fn writer_of(id: &str) -> u32 {
    id.split_once('-').and_then(|(writer, _)| writer.parse().ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
