//! All groups that are in memory, by name, and each one's states from the durable one to the newest.
//!
//! Where a checkpoint holds groups, those that nobody has used for a while need not be here: see [`super::cache`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::joins::{Joined, Joins};
use super::replay::{Base, Unreadable};
use super::root::{Root, Snapshot};
use super::saved::{GroupHead, GroupNumber, SaveGroup, SavedGroup, saved_size};
use crate::json::Json;
use crate::log::{Record, Revision, WriteNumber};
use crate::name::{GroupName, GroupPath, ItemId, StreamName};
use crate::time::{Stamp, WallMs};

/// The core's handle for a group that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey(u32);

/// Everything that is in memory, and what is known of the rest.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    names: BTreeMap<StreamName, BTreeMap<GroupName, GroupKey>>,
    /// By key.
    groups: Vec<Option<Box<Group>>>,
    free: Vec<GroupKey>,
    /// About how many bytes of memory the groups take.
    pub(super) bytes: usize,
    /// The groups that can go when there are too many, those that have waited longest in front; some may not be able to
    /// any more.
    pub(super) clean: VecDeque<GroupKey>,
    /// Whether there may be groups that are not here, in the checkpoint. Not before one was let go: until then, events
    /// of groups without a change may be on their way of which nothing is here.
    pub(super) elsewhere: bool,
    /// The groups that the checkpoint does not have as they are.
    pub(super) unsaved: BTreeSet<GroupKey>,
    /// About how many bytes of theirs.
    pub(super) unsaved_bytes: usize,
    /// About how many bytes of memory they take that can't be let go of.
    pub(super) unsaved_memory: usize,
    pub(super) next_number: GroupNumber,
    /// Stamps up to this one may have been given to events of groups that never had a change.
    pub(super) reserved: Stamp,
    pub(super) joins: Joins,
    /// The streams that workers keep themselves.
    pub(super) custom: BTreeSet<StreamName>,
    /// How many items and groups of the checkpoint are here instead, while a log is replayed.
    pub(super) replaced: (u64, u64),
    /// Whether a record is taken, too, that can't follow what was applied before: something between is lost.
    pub(super) takes_what_does_not_fit: bool,
}

/// A group, as it is on the way from its newest state to its durable one.
#[derive(Debug)]
pub(super) struct Group {
    path: GroupPath,
    /// Its place in the checkpoint; 0 while it has none.
    number: GroupNumber,
    durable: Root,
    /// The states that are not durable yet, each with the write that makes it so, in order; the last one is
    /// the newest. At most two: one for the write under way, one for what gathers.
    dirty: Vec<(WriteNumber, Root)>,
    /// The durable changes that the checkpoint does not have, if there are any.
    unsaved: Option<Box<Unsaved>>,
    /// What it counts in [`Contents::bytes`].
    counted: usize,
    /// It is on its way to the checkpoint.
    pub(super) saving: bool,
    /// A stamp that it has at least when it is read from the checkpoint.
    pub(super) saved_stamp: Stamp,
    /// It was used since it was looked at last.
    pub(super) touched: bool,
    /// It is in [`Contents::clean`].
    pub(super) queued: bool,
    /// It never had a change, as far as anybody knows: only that is remembered here.
    absent: bool,
}

/// What the checkpoint does not have of a group.
#[derive(Debug, Default)]
struct Unsaved {
    /// The items that have changed, by the revisions that created them.
    items: BTreeSet<Revision>,
    /// About how many bytes there are to be saved.
    bytes: usize,
    /// About how many bytes of memory the group took when it was saved last.
    memory: usize,
}

/// What a group takes beside its items and names: itself, its places in the maps.
const GROUP_BYTES: usize = 256;

impl Group {
    /// What subscribers may see.
    pub(super) fn durable(&self) -> &Root {
        &self.durable
    }

    /// What commands apply to.
    pub(super) fn newest(&self) -> &Root {
        self.dirty.last().map_or(&self.durable, |(_, root)| root)
    }

    /// The write that makes the newest state durable; `None` if it is.
    pub(super) fn head(&self) -> Option<WriteNumber> {
        self.dirty.last().map(|(write, _)| *write)
    }

    /// The newest state, to be changed by a record of `write`.
    pub(super) fn dirty_in(&mut self, write: WriteNumber) -> &mut Root {
        if self.head() != Some(write) {
            let newest = self.newest().clone();
            self.dirty.reserve_exact(1);
            self.dirty.push((write, newest));
        }
        self.newest_mut()
    }

    /// The newest state, to get a stamp that is not in the log.
    pub(super) fn newest_mut(&mut self) -> &mut Root {
        self.dirty.last_mut().map_or(&mut self.durable, |(_, root)| root)
    }

    /// Everything up to `through` is durable.
    fn persisted(&mut self, through: WriteNumber) {
        let reached = self.dirty.iter().take_while(|(write, _)| *write <= through).count();
        if let Some((_, root)) = self.dirty.drain(..reached).next_back() {
            self.durable = root;
        }
        if self.dirty.is_empty() {
            // Its memory, too: most groups are at rest.
            self.dirty = Vec::new();
        }
    }

    /// Subscribers were told of an event with this stamp.
    pub(super) fn advance_durable(&mut self, stamp: Stamp) {
        self.durable.stamp = self.durable.stamp.max(stamp);
    }

    /// Whether the checkpoint has it as it is, and nothing is on its way.
    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.unsaved.is_none() && !self.saving
    }
}

impl Contents {
    /// How many items are in memory, and how many groups with at least one.
    pub(super) fn count(&self) -> (u64, u64) {
        let lens = self.groups.iter().flatten().map(|group| group.durable.snapshot().len() as u64);
        lens.fold((0, 0), |(items, groups), len| (items + len, groups + u64::from(len > 0)))
    }

    pub(super) fn find(&self, path: &GroupPath) -> Option<GroupKey> {
        self.names.get(&path.stream)?.get(&path.group).copied()
    }

    /// A group that ever had a change, or an event with a stamp of its own. `None` if there is none: only for one of
    /// which [`Contents::touch`] says that this is known.
    pub(super) fn get(&self, path: &GroupPath) -> Option<&Group> {
        self.by_key(self.find(path)?).filter(|group| !group.absent)
    }

    pub(super) fn by_key(&self, key: GroupKey) -> Option<&Group> {
        self.groups.get(key.0 as usize)?.as_deref()
    }

    pub(super) fn by_key_mut(&mut self, key: GroupKey) -> Option<&mut Group> {
        self.groups.get_mut(key.0 as usize)?.as_deref_mut()
    }

    /// Whether all is known of a group, which somebody is about to use.
    pub(super) fn touch(&mut self, path: &GroupPath) -> bool {
        match self.find(path) {
            Some(key) => {
                if let Some(group) = self.by_key_mut(key) {
                    group.touched = true;
                }
                true
            }
            None => !self.elsewhere,
        }
    }

    /// Whether all is known of a group.
    pub(super) fn knows(&self, path: &GroupPath) -> bool {
        !self.elsewhere || self.find(path).is_some()
    }

    /// The group, made with a last stamp of `stamp` if it is not there.
    pub(super) fn ensure(&mut self, path: &GroupPath, stamp: Stamp) -> (GroupKey, &mut Group) {
        let key = self.find(path).unwrap_or_else(|| {
            self.insert(Group {
                path: path.clone(),
                number: GroupNumber(0),
                durable: Root::starting_at(stamp),
                dirty: Vec::new(),
                unsaved: None,
                counted: 0,
                saving: false,
                saved_stamp: Stamp::default(),
                touched: true,
                queued: false,
                absent: false,
            })
        });
        let group = self.groups[key.0 as usize].as_mut().expect("a name leads to a group");
        if group.absent {
            group.absent = false;
            group.durable.stamp = stamp;
        }
        (key, group)
    }

    /// A group that was not here, as the checkpoint has it; with `None` it has none of this name. Its last event is
    /// taken to have had this stamp.
    pub(super) fn restore(&mut self, path: &GroupPath, saved: Option<SavedGroup>, stamp: Stamp) -> GroupKey {
        let absent = saved.is_none();
        let saved_stamp = saved.as_ref().map_or(Stamp::default(), |saved| saved.head.stamp_of_restored());
        let (number, durable) = match saved {
            None => (GroupNumber(0), Root::starting_at(stamp)),
            Some(SavedGroup { head, snapshot }) => {
                (head.number, Root::restored(snapshot, head.revision, stamp, head.reserved))
            }
        };
        let key = self.insert(Group {
            path: path.clone(),
            number,
            durable,
            dirty: Vec::new(),
            unsaved: None,
            counted: 0,
            saving: false,
            saved_stamp,
            touched: true,
            queued: false,
            absent,
        });
        self.note_clean(key);
        key
    }

    fn insert(&mut self, mut group: Group) -> GroupKey {
        // All groups of a stream share its name.
        if let Some((stream, _)) = self.names.get_key_value(&group.path.stream) {
            group.path.stream = stream.clone();
        }
        let key = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            GroupKey(u32::try_from(self.groups.len() - 1).expect("memory holds fewer groups"))
        });
        let GroupPath { stream, group: name } = group.path.clone();
        self.names.entry(stream).or_default().insert(name, key);
        self.groups[key.0 as usize] = Some(Box::new(group));
        self.recount(key);
        key
    }

    /// Lets go of a group that the checkpoint has, or that never was.
    pub(super) fn forget(&mut self, key: GroupKey) {
        let Some(group) = self.groups.get_mut(key.0 as usize).and_then(Option::take) else { return };
        self.elsewhere |= group.number != GroupNumber(0);
        self.bytes -= group.counted;
        self.free.push(key);
        if let Some(names) = self.names.get_mut(&group.path.stream) {
            names.remove(&group.path.group);
            if names.is_empty() {
                self.names.remove(&group.path.stream);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A group can go, if that is so.
    pub(super) fn note_clean(&mut self, key: GroupKey) {
        if let Some(group) = self.by_key_mut(key).filter(|group| group.is_clean() && !group.queued) {
            group.queued = true;
            self.clean.push_back(key);
        }
    }

    /// Counts the memory of a group's newest state.
    pub(super) fn recount(&mut self, key: GroupKey) {
        let Some(group) = self.groups.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        let names = group.path.stream.as_str().len() + group.path.group.as_str().len();
        let bytes = GROUP_BYTES + names + group.newest().snapshot().memory();
        self.bytes = self.bytes - group.counted + bytes;
        group.counted = bytes;
    }

    /// A write is done that has changed an item of a group, or its clock alone. In a `volatile` store nothing is ever
    /// saved.
    pub(super) fn persisted(
        &mut self,
        key: GroupKey,
        created: Option<Revision>,
        through: WriteNumber,
        volatile: bool,
    ) {
        let Some(group) = self.by_key_mut(key) else { return };
        group.persisted(through);
        if !volatile {
            self.note_unsaved(key, created);
        }
    }

    /// The checkpoint does not have a group as it is, nor this item of it.
    pub(super) fn note_unsaved(&mut self, key: GroupKey, created: Option<Revision>) {
        let Some(group) = self.groups.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        let unsaved = group.unsaved.get_or_insert_with(|| {
            self.unsaved.insert(key);
            self.unsaved_memory += group.counted;
            Box::new(Unsaved { memory: group.counted, ..Unsaved::default() })
        });
        if let Some(created) = created
            && unsaved.items.insert(created)
        {
            let bytes = saved_size(group.durable.snapshot().created(created));
            unsaved.bytes += bytes;
            self.unsaved_bytes += bytes;
        }
    }

    /// Takes the group that is to be saved next out of those that are unsaved, as it is durable now.
    pub(super) fn take_unsaved(&mut self, key: GroupKey) -> Option<SaveGroup> {
        let next = self.next_number;
        let group = self.by_key_mut(key)?;
        let Unsaved { items, bytes, memory } = *group.unsaved.take()?;
        let changed = items.into_iter().collect();
        group.saving = true;
        let new = group.number == GroupNumber(0);
        if new {
            group.number = GroupNumber(next.0 + 1);
        }
        let Root { revision, stamp, reserved, .. } = group.durable;
        let snapshot = group.durable.snapshot().clone();
        let items = snapshot.len() as u64;
        let head = GroupHead { number: group.number, revision, stamp, reserved, items };
        group.saved_stamp = head.stamp_of_restored();
        let saved = SaveGroup { path: group.path.clone(), head, snapshot, changed };
        if new {
            self.next_number.0 += 1;
        }
        self.unsaved.remove(&key);
        self.unsaved_bytes -= bytes;
        self.unsaved_memory -= memory;
        Some(saved)
    }

    /// A save has come to its end; what it did not save is unsaved again.
    pub(super) fn saved(&mut self, key: GroupKey, lost: Option<Vec<Revision>>) {
        if let Some(group) = self.by_key_mut(key) {
            group.saving = false;
        }
        self.note_clean(key);
        if let Some(changed) = lost {
            self.note_unsaved(key, None);
            changed.into_iter().for_each(|created| self.note_unsaved(key, Some(created)));
        }
    }

    pub(super) fn roll_back(&mut self, key: GroupKey) {
        if let Some(group) = self.by_key_mut(key) {
            group.dirty = Vec::new();
        }
        self.recount(key);
        self.note_clean(key);
    }

    /// The groups of a stream that hold an item, in byte order: those in memory, and of the rest `others`.
    pub(super) fn groups_of(&self, stream: &StreamName, others: Vec<GroupName>) -> Vec<GroupName> {
        self.filled(self.names.get(stream), others)
    }

    /// All streams that hold an item, with their groups, in byte order: those in memory, and of the rest `others`.
    pub(super) fn all(&self, others: Vec<(StreamName, Vec<GroupName>)>) -> Vec<(StreamName, Vec<GroupName>)> {
        let mut streams: BTreeMap<StreamName, Vec<GroupName>> = others.into_iter().collect();
        for stream in self.names.keys() {
            streams.entry(stream.clone()).or_default();
        }
        streams
            .into_iter()
            .map(|(stream, others)| {
                let groups = self.filled(self.names.get(&stream), others);
                (stream, groups)
            })
            .filter(|(_, groups)| !groups.is_empty())
            .collect()
    }

    fn filled(&self, here: Option<&BTreeMap<GroupName, GroupKey>>, others: Vec<GroupName>) -> Vec<GroupName> {
        let Some(here) = here else { return others };
        let is_filled =
            |key: &GroupKey| self.by_key(*key).is_some_and(|group| !group.newest().snapshot().is_empty());
        let filled = here.iter().filter(|(_, key)| is_filled(key)).map(|(name, _)| name.clone());
        let mut groups: Vec<GroupName> = others.into_iter().filter(|name| !here.contains_key(name)).collect();
        groups.extend(filled);
        groups.sort_unstable();
        groups
    }

    /// The groups that are in memory as they are durable, in byte order of their names: also those without an item.
    pub(super) fn durable(&self) -> impl Iterator<Item = (&GroupPath, &Snapshot)> {
        let groups = self.names.values().flat_map(BTreeMap::values).filter_map(|key| self.by_key(*key));
        groups.map(|group| (&group.path, group.durable.snapshot()))
    }

    /// Applies a record read from the log. `false` if it can't follow what was applied before. Groups that are not
    /// here come from `base`.
    pub(crate) fn apply(&mut self, record: &Record<'_>, base: &mut impl Base) -> Result<bool, Unreadable> {
        let fits = match *record {
            Record::Put { stream, group, item, revision, stamp, value } => {
                let put = |root: &mut Root, stamp| {
                    Some(root.put(ItemId::trusted(item), Json::trusted(value), revision, stamp))
                };
                self.apply_change(stream, group, revision, stamp, put, base)?
            }
            Record::Delete { stream, group, item, revision, stamp } => {
                let remove = |root: &mut Root, stamp| root.remove(&ItemId::trusted(item), revision, stamp);
                self.apply_change(stream, group, revision, stamp, remove, base)?
            }
            Record::Reserve { stream, group, stamp } => {
                let key = self.replayed(stream, group, base)?;
                if let Some(group) = self.by_key_mut(key) {
                    group.durable.reserved = group.durable.reserved.max(stamp);
                }
                self.note_unsaved(key, None);
                true
            }
            Record::ReserveShared { stamp } => {
                self.reserved = self.reserved.max(stamp);
                true
            }
            Record::Joined { key, subscription, stream, group, item, context } => {
                let joined = Joined::of_record(subscription, stream, group, item, context);
                self.joins.replay_joined(key, joined) || self.takes_what_does_not_fit
            }
            Record::Left { key } => {
                self.joins.replay_left(key);
                true
            }
            Record::Custom { stream } => {
                self.custom.insert(StreamName::trusted(stream));
                true
            }
            Record::Ordinary { stream } => {
                self.custom.remove(&StreamName::trusted(stream));
                true
            }
            Record::Synced | Record::Closed => true,
        };
        Ok(fits)
    }

    /// Applies a change of an item, unless its group has it already: from a checkpoint that is younger than where the
    /// log was read from.
    fn apply_change(
        &mut self,
        stream: &str,
        group: &str,
        revision: Revision,
        stamp: Stamp,
        change: impl FnOnce(&mut Root, Stamp) -> Option<Revision>,
        base: &mut impl Base,
    ) -> Result<bool, Unreadable> {
        let key = self.replayed(stream, group, base)?;
        let any = self.takes_what_does_not_fit;
        let Some(group) = self.by_key_mut(key) else { return Ok(false) };
        let saved = group.number != GroupNumber(0);
        if (saved || any) && revision <= group.durable.revision {
            return Ok(true);
        }
        let fits = revision == group.durable.revision.next() && stamp > group.durable.stamp;
        if !fits && !any {
            return Ok(false);
        }
        let stamp = stamp.max(group.durable.stamp);
        let created = change(&mut group.durable, stamp);
        self.note_unsaved(key, created);
        self.recount(key);
        Ok(true)
    }

    fn replayed(&mut self, stream: &str, group: &str, base: &mut impl Base) -> Result<GroupKey, Unreadable> {
        let path = GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
        if let Some(key) = self.find(&path) {
            return Ok(key);
        }
        let saved = if self.elsewhere { base.group(&path)? } else { None };
        Ok(match saved {
            Some(saved) => {
                let GroupHead { stamp, items, .. } = saved.head;
                self.replaced = (self.replaced.0 + items, self.replaced.1 + u64::from(items > 0));
                self.restore(&path, Some(saved), stamp)
            }
            None => self.ensure(&path, Stamp::default()).0,
        })
    }

    /// After the last record: from now on every group's stamps are above all that were given out before, to
    /// events in the log, to those whose stamps were reserved, and to those that took theirs from a wall
    /// clock that showed less than `started`. Returns where the clock of new groups starts.
    pub(super) fn start_clocks(&mut self, started: WallMs) -> Stamp {
        // A group that was read again went on where its reservation ends, or where the shared clock was, and showed its
        // state one stamp later. What it shows now may be another one: a write that had failed can be there after all.
        let floor = Stamp(started.0).max(self.reserved.of_sync());
        for group in self.groups.iter_mut().flatten() {
            let root = &mut group.durable;
            root.stamp = root.stamp.max(root.reserved.of_sync()).max(floor);
        }
        floor
    }
}
