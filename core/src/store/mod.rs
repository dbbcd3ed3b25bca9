//! Streams, groups and items: what commands do to them, and what waits until it is durable.
//!
//! A command applies to a group's *newest* state at once. Its answer, and the event that it makes, wait until
//! that state is durable: they are released in the order in which they were made, when the write that holds
//! the group's head is done. So nobody is ever told of a change that a crash could take back.

mod cache;
mod checkpoint;
mod command;
mod commit;
mod contents;
mod custom;
mod expect;
mod faults;
mod hot;
mod joins;
mod loads;
pub mod repair;
mod replay;
mod root;
pub mod saved;

pub use command::{Builtin, Command, ItemPath};
pub(crate) use custom::{Audience, Kept};
pub use expect::Expect;
pub use joins::Joined;
pub use loads::{Load, Loaded};
pub use replay::{Base, Damage, Part, Place, Recovered, Replay, Unreadable};
pub use root::{Item, Snapshot};
pub use saved::Save;

use checkpoint::Checkpoints;
use commit::{Commits, Failed, Persisted, Waiting};
use contents::{Contents, Group, GroupKey};
use hot::Hot;
use loads::Loads;
use root::Root;

use crate::call::{Answer, Caller, Outcome};
use crate::config::{CoreConfig, Durability, Limits, Storage};
use crate::error::CallError;
use crate::json::Json;
use crate::key::JoinKey;
use crate::log::{Epoch, Record, Revision, SegmentNumber, Write, WriteNumber};
use crate::name::{GroupPath, ItemId, Target};
use crate::ops::{Applied, Document, OpError, UpdateOp};
use crate::rng::Rng;
use crate::time::{Mono, Now, Stamp, WallMs};

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
    /// What it happened to, or was sent to.
    pub fn target(&self) -> Target {
        Target { group: self.group.clone(), item: self.item.clone() }
    }

    /// Whether it was sent, and is kept nowhere: who misses it can't have it again.
    pub fn is_sent(&self) -> bool {
        matches!(self.kind, EventKind::Sent { .. })
    }

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
    Persist(Write),
    /// Make this part of a checkpoint durable.
    Save(Save),
    /// The checkpoint makes these files of the log superfluous.
    Discard(Vec<SegmentNumber>),
    /// Read this from the checkpoint.
    Load(Load),
    /// This group was read: subscribers can be given its state now, and then [`Store::run_held`] is to be called.
    Ready(GroupPath),
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
    checkpoints: Checkpoints,
    loads: Loads,
    /// The clock of all groups that never had a change, or are not in memory: only its last stamp and reservation are
    /// used.
    shared: Root,
    /// A group that never had a change, as subscribers may see it: stamped as the last event of such groups that
    /// was released, with what is durably reserved. The shared clock is ahead of it while events wait.
    unchanged: Root,
    /// The write that holds the shared clock's last reservation, until it is durable.
    shared_head: Option<WriteNumber>,
    /// The highest that was ever reserved on the shared clock, for the checkpoint: a write that has failed may hold the last
    /// reservation, and one before it another.
    reserved: Stamp,
    /// The items that were updated last.
    hot: Hot,
    /// More is in memory than should be, but none of it can go before a checkpoint was made, or time has passed: when
    /// to look again.
    nothing_to_let_go: Option<Mono>,
}

impl Store {
    /// A store that forgets everything when it ends; what is applied is durable at once.
    pub(crate) fn in_memory(epoch: Epoch, rng: Rng, started: WallMs) -> Store {
        Store::new(Contents::default(), Commits::volatile(epoch, rng), 0, started)
    }

    /// A store that goes on where a log ends.
    pub(crate) fn recovered(recovered: Recovered, mut rng: Rng, started: WallMs, storage: &Storage) -> Store {
        let epoch = recovered.epoch.unwrap_or_else(|| rng.uuid());
        let relaxed = storage.durability != Durability::Sync;
        let commits = Commits::new(recovered.log, epoch, rng, relaxed);
        Store::new(recovered.contents, commits, recovered.saved_to, started)
    }

    fn new(mut contents: Contents, commits: Commits, saved_to: u64, started: WallMs) -> Store {
        let reserved = contents.reserved;
        let mut shared = Root::starting_at(contents.start_clocks(started));
        shared.reserved = reserved;
        Store {
            contents,
            commits,
            checkpoints: Checkpoints::new(saved_to),
            loads: Loads::default(),
            unchanged: shared.clone(),
            shared,
            shared_head: None,
            reserved,
            hot: Hot::default(),
            nothing_to_let_go: None,
        }
    }

    /// The name of the store's history.
    pub(crate) fn epoch(&self) -> Epoch {
        self.commits.epoch()
    }

    /// Runs a command; the answer comes out now, or once what it is about is read and what it tells is durable.
    pub(crate) fn run(
        &mut self,
        now: Now,
        caller: Caller,
        command: Command,
        config: &CoreConfig,
        out: &mut Vec<Output>,
    ) {
        let builtin = command.builtin();
        if builtin.writes()
            && let Some(reason) = self.refusal(&config.storage)
        {
            let outcome = Err(CallError::new(builtin.error_code(), reason));
            return out.push(Output::Reply { caller, outcome });
        }
        let Some((caller, command)) = self.hold(now, caller, command, config, out) else { return };
        if let Some((conflict, head)) = self.conflict(&command) {
            let reply = Waiting::Reply { caller, command: builtin, outcome: Err(conflict), again: None };
            return self.after(head, reply, out);
        }
        let (wall, limits) = (now.wall, &config.limits);
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
            Command::Get { .. } | Command::List { .. } | Command::ListGroups { .. } | Command::ListAll => {
                let (answer, head) = self.read(&command);
                return self.answer_read(caller, command, answer, head, out);
            }
        };
        let outcome = outcome.map_err(|message| CallError::new(builtin.error_code(), message));
        self.after(head, Waiting::Reply { caller, command: builtin, outcome, again: None }, out);
    }

    /// What a command reads that changes nothing, and the write that this waits for.
    fn read(&self, command: &Command) -> (Answer, Option<WriteNumber>) {
        match command {
            Command::Get { item, revision } => {
                let head = self.contents.get(&item.group).and_then(Group::head);
                (read_item(self.newest(item), *revision), head)
            }
            Command::List { group, revision } => {
                let group = self.contents.get(group);
                let items = group.map(|group| group.newest().snapshot().clone()).unwrap_or_default();
                let answer = if *revision { Answer::ItemsWithRevisions } else { Answer::Items };
                (answer(items), group.and_then(Group::head))
            }
            Command::ListGroups { stream } => {
                (Answer::Groups(self.contents.groups_of(stream, Vec::new())), self.commits.head())
            }
            _ => (Answer::Streams(self.contents.all(Vec::new())), self.commits.head()),
        }
    }

    fn answer_read(
        &mut self,
        caller: Caller,
        command: Command,
        answer: Answer,
        head: Option<WriteNumber>,
        out: &mut Vec<Output>,
    ) {
        let builtin = command.builtin();
        let (outcome, again) = (Ok(answer), Some(command));
        self.after(head, Waiting::Reply { caller, command: builtin, outcome, again }, out);
    }

    /// Sends what has gathered to the disk, unless a write is under way: then it goes with the next.
    pub(crate) fn flush(&mut self, now: Now, storage: &Storage, out: &mut Vec<Output>) {
        if self.commits.is_volatile() {
            if let Some(through) = self.commits.head() {
                self.persisted(through, out);
            }
        } else if let Some(write) = self.commits.seal(now.mono, storage) {
            out.push(Output::Persist(write));
        }
    }

    /// Keeps memory and log small, and reads what is waited for. At the end of a turn: what was just read has been used.
    pub(crate) fn tidy_up(&mut self, now: Now, storage: &Storage, out: &mut Vec<Output>) {
        if !self.commits.is_volatile() {
            self.trim(now, storage);
            self.ask_loads(storage, out);
            self.save(now.mono, storage, out);
            self.flush(now, storage, out);
        }
    }

    /// When [`Store::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let room = self.nothing_to_let_go.filter(|_| self.loads.waits_for_room());
        let deadlines = [
            self.commits.next_deadline(),
            self.checkpoints.next_deadline(),
            self.loads.next_deadline(),
            room,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Time has passed. What is due beside this, [`Store::flush`] does.
    pub(crate) fn expire(&mut self, now: Now, out: &mut Vec<Output>) {
        self.expire_loads(now.mono, out);
    }

    /// The process is to end, and nothing more is going to be written.
    pub(crate) fn close(&mut self) {
        self.commits.close();
    }

    /// Everything up to `through` is durable: releases what waited for it.
    pub(crate) fn persisted(&mut self, through: WriteNumber, out: &mut Vec<Output>) {
        let Some(Persisted { changes, waiting, fenced }) = self.commits.persisted(through) else { return };
        let volatile = self.commits.is_volatile();
        for (group, created) in changes {
            self.contents.persisted(group, created, through, volatile);
        }
        if self.shared_head.is_some_and(|head| head <= through) {
            self.shared_head = None;
            self.unchanged.reserved = self.shared.reserved;
        }
        for waiting in waiting {
            self.release(waiting, out);
        }
        for Failed { caller, command, reason, .. } in fenced {
            let message = format!("nothing was written: {reason}");
            out.push(Output::Reply { caller, outcome: Err(CallError::new(command.error_code(), message)) });
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

    /// All groups that are in memory, as they are durable.
    pub(crate) fn in_memory_groups(&self) -> Vec<(GroupPath, Snapshot)> {
        self.contents.durable().map(|(path, snapshot)| (path.clone(), snapshot.clone())).collect()
    }

    /// What waits for the disk, in bytes: the caller stops taking commands while it is too much. Everything, while
    /// memory is full and a part of a checkpoint is being written that makes room.
    pub(crate) fn backlog_bytes(&self, storage: &Storage) -> usize {
        match self.checkpoints.is_saving() && self.is_full(storage) {
            true => usize::MAX,
            false => self.log_backlog_bytes() + self.loads.held_bytes(),
        }
    }

    /// What waits for the log, in bytes.
    pub(crate) fn log_backlog_bytes(&self) -> usize {
        self.commits.backlog_bytes()
    }

    /// Whether nothing is on its way to the disk, and nobody waits for anything from there.
    pub(crate) fn is_idle(&self) -> bool {
        self.commits.is_idle() && self.loads.is_idle()
    }

    /// Why a command is not applied: what it expects does not hold. With the write that this answer waits for.
    fn conflict(&self, command: &Command) -> Option<(CallError, Option<WriteNumber>)> {
        let (item, expect) = command.precondition()?;
        let conflict = expect.check(self.newest(item)).err()?;
        Some((conflict, self.contents.get(&item.group).and_then(Group::head)))
    }

    /// An item as commands see it, `None` if there is none.
    fn newest(&self, item: &ItemPath) -> Option<&Item> {
        self.contents.get(&item.group)?.newest().get(&item.id)
    }

    /// Stores what `new_value` makes of an item's value. Returns the answer, with the revision if `tell` says so, or
    /// why it can't be stored, and the write that this waits for.
    fn change(
        &mut self,
        wall: WallMs,
        path: &ItemPath,
        tell: bool,
        limits: &Limits,
        out: &mut Vec<Output>,
        new_value: impl FnOnce(Option<&Json>) -> Result<(Json, Vec<OpError>), String>,
    ) -> (Result<Answer, String>, Option<WriteNumber>) {
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
        let write = self.commits.append(&Record::Put {
            stream: path.group.stream.as_str(),
            group: path.group.group.as_str(),
            item: path.id.as_str(),
            revision,
            stamp,
            value: new.as_str(),
        });
        let (key, root) = self.dirty_root(&path.group, write);
        let created = root.put(path.id.clone(), new.clone(), revision, stamp);
        let kind = match &old {
            _ if new.is_null() || old.as_ref().is_some_and(Json::is_null) => {
                let change = if old.is_some() { Change::Updated } else { Change::Created };
                EventKind::Replaced { change, value: new.clone(), group: Some(root.snapshot().clone()) }
            }
            None => EventKind::Created(new.clone()),
            Some(_) => EventKind::Updated(new.clone()),
        };
        self.changed(key, Some(created));
        let event = Event { group: path.group.clone(), item: Some(path.id.clone()), revision, stamp, kind };
        self.after(Some(write), Waiting::Event(event), out);
        (Ok(Answer::Changed { old, new, errors, revision: tell.then_some(revision) }), Some(write))
    }

    /// Removes an item. Returns the answer, with the revision if `tell` says so, and the write that it waits for.
    fn delete(
        &mut self,
        wall: WallMs,
        path: &ItemPath,
        tell: bool,
        out: &mut Vec<Output>,
    ) -> (Result<Answer, String>, Option<WriteNumber>) {
        let group = self.contents.get(&path.group);
        let root = group.map_or(&self.shared, Group::newest);
        let Some(old) = root.get(&path.id).map(|item| item.value.clone()) else {
            let answer = Answer::Deleted { old: None, revision: tell.then_some(Revision(0)) };
            return (Ok(answer), group.and_then(Group::head));
        };
        let (revision, stamp) = (root.revision.next(), root.stamp.next(wall));
        let write = self.commits.append(&Record::Delete {
            stream: path.group.stream.as_str(),
            group: path.group.group.as_str(),
            item: path.id.as_str(),
            revision,
            stamp,
        });
        let (key, root) = self.dirty_root(&path.group, write);
        let created = root.remove(&path.id, revision, stamp);
        let kind = match old.is_null() {
            true => {
                let group = Some(root.snapshot().clone());
                EventKind::Replaced { change: Change::Deleted, value: old.clone(), group }
            }
            false => EventKind::Deleted(old.clone()),
        };
        self.changed(key, created);
        let event = Event { group: path.group.clone(), item: Some(path.id.clone()), revision, stamp, kind };
        self.after(Some(write), Waiting::Event(event), out);
        (Ok(Answer::Deleted { old: Some(old), revision: tell.then_some(revision) }), Some(write))
    }

    /// Stamps an event that is not stored. Returns the write that it waits for.
    fn send(
        &mut self,
        wall: WallMs,
        group: &GroupPath,
        item: Option<ItemId>,
        kind: EventKind,
        out: &mut Vec<Output>,
    ) -> Option<WriteNumber> {
        let (revision, stamp, head) = self.stamp(wall, group);
        let event = Event { group: group.clone(), item, revision, stamp, kind };
        self.after(head, Waiting::Unstored(event), out);
        head
    }

    /// The next stamp of a group, for what is not stored, with the revision that it follows and the write that it
    /// waits for.
    fn stamp(&mut self, wall: WallMs, group: &GroupPath) -> (Revision, Stamp, Option<WriteNumber>) {
        let root = self.contents.get(group).map_or(&self.shared, Group::newest);
        let (revision, stamp) = (root.revision, root.stamp.next(wall));
        // A stamp that the wall clock has reached can't be given out again after a restart: the wall clock
        // will show more. One ahead of it can, unless the log tells.
        let reserve = stamp.0 > wall.0 && stamp.of_sync() > root.reserved;
        let until = Stamp(stamp.0.saturating_add(RESERVE_AHEAD));
        let head = if self.contents.get(group).is_some() {
            let write = reserve.then(|| {
                self.commits.append(&Record::Reserve {
                    stream: group.stream.as_str(),
                    group: group.group.as_str(),
                    stamp: until,
                })
            });
            match write {
                Some(write) => {
                    let (key, root) = self.dirty_root(group, write);
                    (root.stamp, root.reserved) = (stamp, until);
                    self.changed(key, None);
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
                self.reserved = self.reserved.max(until);
                self.shared_head = Some(self.commits.append(&Record::ReserveShared { stamp: until }));
            }
            self.shared_head
        };
        (revision, stamp, head)
    }

    /// The newest state of a group, made if it is not there, to be changed by a record of `write`.
    fn dirty_root(&mut self, group: &GroupPath, write: WriteNumber) -> (GroupKey, &mut Root) {
        let (key, group) = self.contents.ensure(group, self.unchanged.stamp);
        (key, group.dirty_in(write))
    }

    /// The write that gathers changes a group: an item of it, or its clock alone.
    fn changed(&mut self, group: GroupKey, created: Option<Revision>) {
        self.commits.note_change(group, created);
        self.contents.recount(group);
    }

    /// Releases something when the write `head` is durable; now, if there is none to wait for.
    fn after(&mut self, head: Option<WriteNumber>, waiting: Waiting, out: &mut Vec<Output>) {
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
                self.advance_durable(&event.group, event.stamp);
                Output::Release(event)
            }
            Waiting::Kept(Kept { target, state, audience }, stamp) => {
                self.advance_durable(&target.group, stamp);
                let revision = self.durable(&target).revision;
                Output::Show { target, state: Durable { stamp, revision, state }, audience }
            }
            Waiting::Left(key) => {
                self.contents.joins.forget(key);
                Output::Left(key)
            }
        });
    }

    /// From now on snapshots are stamped above this. What is stored, or was stamped in a group with changes, is in the
    /// group's durable state already; what was stamped before the group's first change is not.
    fn advance_durable(&mut self, group: &GroupPath, stamp: Stamp) {
        let key = self.contents.get(group).and_then(|_| self.contents.find(group));
        match key.and_then(|key| self.contents.by_key_mut(key)) {
            Some(group) => group.advance_durable(stamp),
            None => self.unchanged.stamp = self.unchanged.stamp.max(stamp),
        }
    }
}

/// The answer to a read of an item, with its revision if `tell` says so.
fn read_item(item: Option<&Item>, tell: bool) -> Answer {
    let value = item.map(|item| item.value.clone());
    match tell {
        true => Answer::ItemWithRevision { value, revision: item.map_or(Revision(0), |item| item.revision) },
        false => value.map_or(Answer::Nothing, Answer::Value),
    }
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
