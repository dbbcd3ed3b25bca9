//! Streams, groups and items: what commands do to them, and what waits until it is durable.
//!
//! A command applies to a group's *newest* state at once. Its answer, and the event that it makes, wait until
//! that state is durable: they are released in the order in which they were made, when the batch that holds
//! the group's head is. So nobody is ever told of a change that a crash could take back.

mod command;
mod commit;
mod contents;
mod custom;
mod expect;
mod hot;
mod joins;
mod replay;
mod root;

pub use command::{Builtin, Command, ItemPath};
pub(crate) use custom::{Audience, Kept};
pub use expect::Expect;
pub use joins::Joined;
pub use replay::{Damage, Recovered, Replay};
pub use root::{Item, Snapshot};

use commit::{Commits, Waiting};
use contents::{Contents, Group};
use hot::Hot;
use root::Root;

use crate::call::{Answer, Caller, Outcome};
use crate::config::Limits;
use crate::error::CallError;
use crate::json::Json;
use crate::key::JoinKey;
use crate::log::{Batch, BatchNumber, Record, Revision};
use crate::name::{GroupPath, ItemId, Target};
use crate::ops::{Applied, Document, OpError, UpdateOp};
use crate::time::{Stamp, WallMs};

/// The core's handle for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey(u64);

/// Something that happened in a group, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub group: GroupPath,
    /// To which item; `None` for an event that was sent to the group.
    pub item: Option<ItemId>,
    /// The change's revision; for a sent event that of the last change before it.
    pub revision: Revision,
    /// When; above that of every event and snapshot before it in the group.
    pub stamp: Stamp,
    /// What.
    pub kind: EventKind,
}

impl Event {
    /// The length of its value or payload, in bytes.
    pub(crate) fn value_len(&self) -> usize {
        match &self.kind {
            EventKind::Created(value) | EventKind::Updated(value) | EventKind::Deleted(value) => value,
            EventKind::Replaced { value, .. } => value,
            EventKind::Sent { data, .. } => data,
        }
        .as_str()
        .len()
    }
}

/// What an [`Event`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The item was created with this value.
    Created(Json),
    /// The item has this value now.
    Updated(Json),
    /// The item was removed; this was its value.
    Deleted(Json),
    /// The item has this value now, where it or the value before is `null`: public clients die of a change
    /// whose data is null, so items get this as a `sync`, and groups a `sync` of the whole group.
    Replaced {
        /// What happened to the item.
        change: Change,
        /// The item's value; null also if it was removed.
        value: Json,
        /// The group after it; `None` if that is told by itself.
        group: Option<Snapshot>,
    },
    /// Somebody sent it; nothing is stored.
    Sent {
        /// Its type, the users' own.
        kind: String,
        /// Its payload.
        data: Json,
    },
}

/// What happened to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It did not exist before.
    Created,
    /// It existed before.
    Updated,
    /// It exists no more.
    Deleted,
}

/// The durable state of a group or an item at a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Durable {
    /// Above the stamp of the last event before it, below that of the next.
    pub stamp: Stamp,
    /// The group's last change that it holds.
    pub revision: Revision,
    /// What there is.
    pub state: State,
}

/// What there is in a [`Durable`] state.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// A group's items in creation order.
    Group(Snapshot),
    /// A group's items as an array, without nulls: from the worker that keeps the stream.
    Listed(Json),
    /// An item's value, `None` if there is no such item.
    Item(Option<Json>),
}

/// What comes out of the store, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Write this and, if it says so, make it durable.
    Persist(Batch),
    /// The answer to a command.
    Reply { caller: Caller, outcome: Outcome },
    /// Subscribers may see this.
    Release(Event),
    /// Subscribers may see this, too.
    Show { target: Target, state: Durable, audience: Audience },
    /// The log has forgotten the join for good: its leave may be told.
    Left(JoinKey),
}

/// What a group's limit leaves for the frame around its list: the names and fields of the call.
const LIST_ENVELOPE: usize = 8 << 10;

/// How far ahead of the event at hand stamps are reserved, in milliseconds.
const RESERVE_AHEAD: u64 = 1_000;

/// All streams, and what is on the way to the disk.
#[derive(Debug)]
pub(crate) struct Store {
    contents: Contents,
    commits: Commits,
    /// The clock of all groups that never had a change: only its last stamp and reservation are used.
    shared: Root,
    /// A group that never had a change, as subscribers may see it: stamped as the last event of such groups that
    /// was released. The shared clock is ahead of it while events wait.
    unchanged: Root,
    /// The batch that holds the shared clock's last reservation, until it is durable.
    shared_head: Option<BatchNumber>,
    /// The items that were updated last.
    hot: Hot,
}

impl Store {
    /// A store that forgets everything when it ends; what is applied is durable at once.
    pub(crate) fn in_memory(started: WallMs) -> Store {
        Store::new(Contents::default(), Commits::volatile(), started)
    }

    /// A store that goes on where a log ends.
    pub(crate) fn recovered(recovered: Recovered, started: WallMs) -> Store {
        let commits = Commits::new(recovered.next_batch, recovered.end, recovered.salt);
        Store::new(recovered.contents, commits, started)
    }

    fn new(mut contents: Contents, commits: Commits, started: WallMs) -> Store {
        let stamp = contents.start_clocks(started);
        let shared = Root::starting_at(stamp);
        Store { contents, commits, unchanged: shared.clone(), shared, shared_head: None, hot: Hot::default() }
    }

    /// Runs a command; the answer comes out now or once it is durable.
    pub(crate) fn run(
        &mut self,
        wall: WallMs,
        caller: Caller,
        command: Command,
        limits: &Limits,
        out: &mut Vec<Output>,
    ) {
        let builtin = command.builtin();
        let writes = builtin.writes();
        if writes && let Some(reason) = self.commits.failure() {
            let message = format!("the store takes no writes: {reason}");
            let outcome = Err(CallError::new(builtin.error_code(), message));
            out.push(Output::Reply { caller, outcome });
            return;
        }
        if let Some((conflict, head)) = self.conflict(&command) {
            let reply = Waiting::Reply { caller, command: builtin, outcome: Err(conflict), again: None };
            return self.after(head, reply, out);
        }
        let again = (!writes).then(|| command.clone());
        let (outcome, head) = match command {
            Command::Set { item, data, revision, .. } => {
                self.change(wall, &item, revision, limits, out, |_| Ok((data, Vec::new())))
            }
            Command::Update { item, ops, revision, .. } => {
                let value = self.newest(&item).map(|item| item.value.clone());
                let mut document = self.hot.take(&item, value.as_ref());
                let new_value = |_: Option<&Json>| update(&mut document, &ops, limits);
                let (outcome, head) = self.change(wall, &item, revision, limits, out, new_value);
                if outcome.is_ok() {
                    self.hot.keep(item, document);
                }
                (outcome, head)
            }
            Command::Delete { item, revision, .. } => self.delete(wall, &item, revision, out),
            Command::Send { group, item, kind, data } => {
                let head = self.send(wall, &group, item, EventKind::Sent { kind, data }, out);
                (Ok(Answer::Value(Json::null())), head)
            }
            Command::Get { item, revision } => {
                let head = self.contents.get(&item.group).and_then(Group::head);
                (Ok(read(self.newest(&item), revision)), head)
            }
            Command::List { group, revision } => {
                let group = self.contents.get(&group);
                let items = group.map(|group| group.newest().snapshot().clone()).unwrap_or_default();
                let answer = if revision { Answer::ItemsWithRevisions } else { Answer::Items };
                (Ok(answer(items)), group.and_then(Group::head))
            }
            Command::ListGroups { stream } => {
                (Ok(Answer::Groups(self.contents.groups_of(&stream))), self.commits.head())
            }
            Command::ListAll => (Ok(Answer::Streams(self.contents.all())), self.commits.head()),
        };
        let outcome = outcome.map_err(|message| CallError::new(builtin.error_code(), message));
        let reply = Waiting::Reply { caller, command: builtin, outcome, again };
        self.after(head, reply, out);
    }

    /// Whether a command is refused because an earlier write has failed.
    pub(crate) fn refuses(&self, command: &Command) -> bool {
        command.builtin().writes() && self.commits.failure().is_some()
    }

    /// Sends what has gathered to the disk, unless a write is under way: then it goes with the next.
    pub(crate) fn flush(&mut self, out: &mut Vec<Output>) {
        if let Some(batch) = self.commits.seal() {
            out.push(Output::Persist(batch));
        }
        if self.commits.is_volatile()
            && let Some(through) = self.commits.head()
        {
            self.persisted(through, out);
        }
    }

    /// Everything up to `through` is durable: releases what waited for it.
    pub(crate) fn persisted(&mut self, through: BatchNumber, out: &mut Vec<Output>) {
        let Some((groups, waiting)) = self.commits.persisted(through) else { return };
        for key in groups {
            if let Some(group) = self.contents.by_key(key) {
                group.persisted(through);
            }
        }
        if self.shared_head.is_some_and(|head| head <= through) {
            self.shared_head = None;
        }
        for waiting in waiting {
            self.release(waiting, out);
        }
    }

    /// The write of the batch in flight failed: nothing of it, and nothing applied since, was ever seen. Writers
    /// get an error, reads are done again, and the store takes no more writes.
    pub(crate) fn persist_failed(&mut self, reason: &str, out: &mut Vec<Output>) {
        let (groups, waiting) = self.commits.failed(reason);
        self.shared_head = None;
        for key in groups {
            if let Some(group) = self.contents.by_key(key) {
                group.roll_back();
            }
        }
        for waiting in waiting {
            let (caller, command, outcome, again) = match waiting {
                Waiting::Reply { caller, command, outcome, again } => (caller, command, outcome, again),
                // It is nothing that the disk could have lost.
                kept @ Waiting::Kept(_) => {
                    self.release(kept, out);
                    continue;
                }
                Waiting::Event(_) | Waiting::Unstored(_) | Waiting::Left(_) => continue,
            };
            match again {
                // Reads don't look at the clock or the limits.
                Some(again) => self.run(WallMs::default(), caller, again, &Limits::default(), out),
                None => {
                    let message = match wrote_nothing(&outcome) {
                        true => format!(
                            "nothing was written: the store failed to write what this call was checked against, \
                             and takes no writes: {reason}"
                        ),
                        false => format!(
                            "outcome_unknown: the store failed to write, so the change may be there after a \
                             restart or not; read before you repeat it. {reason}"
                        ),
                    };
                    let outcome = Err(CallError::new(command.error_code(), message));
                    out.push(Output::Reply { caller, outcome });
                }
            }
        }
    }

    /// The durable state of a group or an item: what a subscriber starts from.
    pub(crate) fn durable(&self, target: &Target) -> Durable {
        let root = self.contents.get(&target.group).map_or(&self.unchanged, Group::durable);
        let state = match &target.item {
            None => State::Group(root.snapshot().clone()),
            Some(id) => State::Item(root.get(id).map(|item| item.value.clone())),
        };
        Durable { stamp: root.stamp.of_sync(), revision: root.revision, state }
    }

    /// What waits for the disk, in bytes: the caller stops taking commands while it is too much.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.commits.backlog_bytes()
    }

    /// Whether nothing is on its way to the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.commits.is_idle()
    }

    /// Why a command is not applied: what it expects does not hold. With the batch that this answer waits for.
    fn conflict(&self, command: &Command) -> Option<(CallError, Option<BatchNumber>)> {
        let (item, expect) = command.precondition()?;
        let conflict = expect.check(self.newest(item)).err()?;
        Some((conflict, self.contents.get(&item.group).and_then(Group::head)))
    }

    /// An item as commands see it, `None` if there is none.
    fn newest(&self, item: &ItemPath) -> Option<&Item> {
        self.contents.get(&item.group)?.newest().get(&item.id)
    }

    /// Stores what `new_value` makes of an item's value. Returns the answer, with the revision if `tell` says so, or
    /// why it can't be stored, and the batch that this waits for.
    fn change(
        &mut self,
        wall: WallMs,
        path: &ItemPath,
        tell: bool,
        limits: &Limits,
        out: &mut Vec<Output>,
        new_value: impl FnOnce(Option<&Json>) -> Result<(Json, Vec<OpError>), String>,
    ) -> (Result<Answer, String>, Option<BatchNumber>) {
        let group = self.contents.get(&path.group);
        let root = group.map_or(&self.shared, Group::newest);
        let old = root.get(&path.id).map(|item| item.value.clone());
        let checked = new_value(old.as_ref()).and_then(|(new, errors)| {
            check_group_size(root, &path.id, old.as_ref(), &new, limits)?;
            Ok((new, errors))
        });
        let (new, errors) = match checked {
            Ok(done) => done,
            // Which error it is tells something about the state, so it waits for the state.
            Err(message) => return (Err(message), group.and_then(Group::head)),
        };
        let (revision, stamp) = (root.revision.next(), root.stamp.next(wall));
        let batch = self.commits.append(&Record::Put {
            stream: path.group.stream.as_str(),
            group: path.group.group.as_str(),
            item: path.id.as_str(),
            revision,
            stamp,
            value: new.as_str(),
        });
        let root = self.dirty_root(&path.group, batch);
        root.put(path.id.clone(), new.clone(), revision, stamp);
        let kind = match &old {
            _ if new.is_null() || old.as_ref().is_some_and(Json::is_null) => {
                let change = if old.is_some() { Change::Updated } else { Change::Created };
                EventKind::Replaced { change, value: new.clone(), group: Some(root.snapshot().clone()) }
            }
            None => EventKind::Created(new.clone()),
            Some(_) => EventKind::Updated(new.clone()),
        };
        let event = Event { group: path.group.clone(), item: Some(path.id.clone()), revision, stamp, kind };
        self.after(Some(batch), Waiting::Event(event), out);
        (Ok(Answer::Changed { old, new, errors, revision: tell.then_some(revision) }), Some(batch))
    }

    /// Removes an item. Returns the answer, with the revision if `tell` says so, and the batch that it waits for.
    fn delete(
        &mut self,
        wall: WallMs,
        path: &ItemPath,
        tell: bool,
        out: &mut Vec<Output>,
    ) -> (Result<Answer, String>, Option<BatchNumber>) {
        let group = self.contents.get(&path.group);
        let root = group.map_or(&self.shared, Group::newest);
        let Some(old) = root.get(&path.id).map(|item| item.value.clone()) else {
            let answer = Answer::Deleted { old: None, revision: tell.then_some(Revision(0)) };
            return (Ok(answer), group.and_then(Group::head));
        };
        let (revision, stamp) = (root.revision.next(), root.stamp.next(wall));
        let batch = self.commits.append(&Record::Delete {
            stream: path.group.stream.as_str(),
            group: path.group.group.as_str(),
            item: path.id.as_str(),
            revision,
            stamp,
        });
        let root = self.dirty_root(&path.group, batch);
        root.remove(&path.id, revision, stamp);
        let kind = match old.is_null() {
            true => {
                let group = Some(root.snapshot().clone());
                EventKind::Replaced { change: Change::Deleted, value: old.clone(), group }
            }
            false => EventKind::Deleted(old.clone()),
        };
        let event = Event { group: path.group.clone(), item: Some(path.id.clone()), revision, stamp, kind };
        self.after(Some(batch), Waiting::Event(event), out);
        (Ok(Answer::Deleted { old: Some(old), revision: tell.then_some(revision) }), Some(batch))
    }

    /// Stamps an event that is not stored. Returns the batch that it waits for.
    fn send(
        &mut self,
        wall: WallMs,
        group: &GroupPath,
        item: Option<ItemId>,
        kind: EventKind,
        out: &mut Vec<Output>,
    ) -> Option<BatchNumber> {
        let root = self.contents.get(group).map_or(&self.shared, Group::newest);
        let (revision, stamp) = (root.revision, root.stamp.next(wall));
        // A stamp that the wall clock has reached can't be given out again after a restart: the wall clock
        // will show more. One ahead of it can, unless the log tells.
        let reserve = stamp.0 > wall.0 && stamp.of_sync() > root.reserved;
        let until = Stamp(stamp.0.saturating_add(RESERVE_AHEAD));
        let head = if self.contents.get(group).is_some() {
            let batch = reserve.then(|| {
                self.commits.append(&Record::Reserve {
                    stream: group.stream.as_str(),
                    group: group.group.as_str(),
                    stamp: until,
                })
            });
            match batch {
                Some(batch) => {
                    let root = self.dirty_root(group, batch);
                    (root.stamp, root.reserved) = (stamp, until);
                }
                None => {
                    let (_, group) = self.contents.ensure(group, stamp);
                    group.newest_mut().stamp = stamp;
                }
            }
            self.contents.get(group).and_then(Group::head)
        } else {
            self.shared.stamp = stamp;
            if reserve {
                self.shared.reserved = until;
                self.shared_head = Some(self.commits.append(&Record::ReserveShared { stamp: until }));
            }
            self.shared_head
        };
        let event = Event { group: group.clone(), item, revision, stamp, kind };
        self.after(head, Waiting::Unstored(event), out);
        head
    }

    /// The newest state of a group, made if it is not there, to be changed by a record of `batch`.
    fn dirty_root(&mut self, group: &GroupPath, batch: BatchNumber) -> &mut Root {
        let (key, group) = self.contents.ensure(group, self.unchanged.stamp);
        if group.head() != Some(batch) {
            self.commits.note_dirty(key);
        }
        group.dirty_in(batch)
    }

    /// Releases something when the batch `head` is durable; now, if there is none to wait for.
    fn after(&mut self, head: Option<BatchNumber>, waiting: Waiting, out: &mut Vec<Output>) {
        let released = match head {
            Some(head) => self.commits.wait(head, waiting),
            None => Some(waiting),
        };
        if let Some(released) = released {
            self.release(released, out);
        }
    }

    fn release(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        out.push(match waiting {
            Waiting::Reply { caller, outcome, .. } => Output::Reply { caller, outcome },
            Waiting::Event(event) => Output::Release(event),
            Waiting::Unstored(event) => {
                self.advance_durable(&event);
                Output::Release(event)
            }
            Waiting::Kept(Kept { target, state, audience }) => {
                // Stamped now: events that are released with it are after it.
                let state = Durable { state, ..self.durable(&target) };
                Output::Show { target, state, audience }
            }
            Waiting::Left(key) => Output::Left(key),
        });
    }

    /// From now on snapshots are stamped above this event. One that is stored, or that was sent to a group with
    /// changes, is in the group's durable state already; one that was sent before the group's first change is not.
    fn advance_durable(&mut self, event: &Event) {
        let group = self.contents.find(&event.group).and_then(|key| self.contents.by_key(key));
        match group {
            Some(group) => group.advance_durable(event.stamp),
            None => self.unchanged.stamp = self.unchanged.stamp.max(event.stamp),
        }
    }
}

/// The answer to a read of an item, with its revision if `tell` says so.
fn read(item: Option<&Item>, tell: bool) -> Answer {
    let value = item.map(|item| item.value.clone());
    match tell {
        true => Answer::ItemWithRevision { value, revision: item.map_or(Revision(0), |item| item.revision) },
        false => value.map_or(Answer::Nothing, Answer::Value),
    }
}

/// Whether a write came to nothing: a conflict, a value beyond a limit, the removal of what is not there.
fn wrote_nothing(outcome: &Outcome) -> bool {
    matches!(outcome, Err(_) | Ok(Answer::Deleted { old: None, .. }))
}

/// What the operations of an update make of an item, if it can be stored.
pub(crate) fn update(
    document: &mut Document,
    ops: &[UpdateOp],
    limits: &Limits,
) -> Result<(Json, Vec<OpError>), String> {
    let Applied { after, errors } = document.apply(ops);
    document.check(limits).map_err(|e| format!("the new value {e}"))?;
    Ok((after, errors))
}

/// Refuses a change that takes a group beyond its limit. One that makes the group smaller always passes.
fn check_group_size(
    root: &Root,
    id: &ItemId,
    old: Option<&Json>,
    new: &Json,
    limits: &Limits,
) -> Result<(), String> {
    let before = root.snapshot().bytes();
    let after = before - old.map_or(0, |old| root::weight(id, old)) + root::weight(id, new);
    let (bytes, limit) = (after + LIST_ENVELOPE, limits.group_bytes);
    if bytes > limit && after > before {
        return Err(format!("the group's list would be {bytes} bytes; the limit is {limit} (`group_bytes`)"));
    }
    Ok(())
}
