//! All streams and groups by name, and each group's states from the durable one to the newest.

use std::collections::{BTreeMap, BTreeSet};

use super::GroupKey;
use super::joins::{Joined, Joins};
use super::root::Root;
use crate::json::Json;
use crate::log::{BatchNumber, Record, Revision};
use crate::name::{GroupName, GroupPath, ItemId, StreamName, SubscriptionId, Target};
use crate::time::{Stamp, WallMs};

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    streams: BTreeMap<StreamName, BTreeMap<GroupName, GroupKey>>,
    groups: BTreeMap<GroupKey, Group>,
    next_key: u64,
    /// Stamps up to this one may have been given to events of groups that never had a change.
    reserved: Stamp,
    pub(super) joins: Joins,
    /// The streams that workers keep themselves.
    pub(super) custom: BTreeSet<StreamName>,
}

/// A group, as it is on the way from its newest state to its durable one.
#[derive(Debug)]
pub(super) struct Group {
    durable: Root,
    /// The states that are not durable yet, each with the batch that makes it so, in order; the last one is
    /// the newest. At most two: one for the batch in flight, one for the batch that gathers.
    dirty: Vec<(BatchNumber, Root)>,
}

impl Group {
    /// What subscribers may see.
    pub(super) fn durable(&self) -> &Root {
        &self.durable
    }

    /// What commands apply to.
    pub(super) fn newest(&self) -> &Root {
        self.dirty.last().map_or(&self.durable, |(_, root)| root)
    }

    /// The batch that makes the newest state durable; `None` if it is.
    pub(super) fn head(&self) -> Option<BatchNumber> {
        self.dirty.last().map(|(batch, _)| *batch)
    }

    /// The newest state, to be changed by a record of `batch`.
    pub(super) fn dirty_in(&mut self, batch: BatchNumber) -> &mut Root {
        if self.head() != Some(batch) {
            self.dirty.push((batch, self.newest().clone()));
        }
        self.newest_mut()
    }

    /// The newest state, to get a stamp that is not in the log.
    pub(super) fn newest_mut(&mut self) -> &mut Root {
        self.dirty.last_mut().map_or(&mut self.durable, |(_, root)| root)
    }

    /// Everything up to `through` is durable.
    pub(super) fn persisted(&mut self, through: BatchNumber) {
        let reached = self.dirty.iter().take_while(|(batch, _)| *batch <= through).count();
        if let Some((_, root)) = self.dirty.drain(..reached).next_back() {
            self.durable = root;
        }
    }

    /// Subscribers were told of an event with this stamp.
    pub(super) fn advance_durable(&mut self, stamp: Stamp) {
        self.durable.stamp = self.durable.stamp.max(stamp);
    }

    /// Nothing that is not durable will become so.
    pub(super) fn roll_back(&mut self) {
        self.dirty.clear();
    }
}

impl Contents {
    pub(crate) fn items(&self) -> usize {
        self.groups.values().map(|group| group.durable.snapshot().len()).sum()
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.values().filter(|group| !group.durable.snapshot().is_empty()).count()
    }

    pub(super) fn find(&self, path: &GroupPath) -> Option<GroupKey> {
        self.streams.get(&path.stream)?.get(&path.group).copied()
    }

    pub(super) fn get(&self, path: &GroupPath) -> Option<&Group> {
        self.groups.get(&self.find(path)?)
    }

    /// The group, made with a last stamp of `stamp` if it is not there.
    pub(super) fn ensure(&mut self, path: &GroupPath, stamp: Stamp) -> (GroupKey, &mut Group) {
        let key = match self.find(path) {
            Some(key) => key,
            None => {
                let key = GroupKey(self.next_key);
                self.next_key += 1;
                self.streams.entry(path.stream.clone()).or_default().insert(path.group.clone(), key);
                key
            }
        };
        let group = self
            .groups
            .entry(key)
            .or_insert_with(|| Group { durable: Root::starting_at(stamp), dirty: Vec::new() });
        (key, group)
    }

    pub(super) fn by_key(&mut self, key: GroupKey) -> Option<&mut Group> {
        self.groups.get_mut(&key)
    }

    /// The groups of a stream that hold an item, in byte order.
    pub(super) fn groups_of(&self, stream: &StreamName) -> Vec<GroupName> {
        self.streams.get(stream).map_or_else(Vec::new, |groups| self.filled(groups))
    }

    /// All streams that hold an item, with their groups, in byte order.
    pub(super) fn all(&self) -> Vec<(StreamName, Vec<GroupName>)> {
        self.streams
            .iter()
            .map(|(stream, groups)| (stream.clone(), self.filled(groups)))
            .filter(|(_, groups)| !groups.is_empty())
            .collect()
    }

    fn filled(&self, groups: &BTreeMap<GroupName, GroupKey>) -> Vec<GroupName> {
        groups
            .iter()
            .filter(|(_, key)| {
                self.groups.get(key).is_some_and(|group| !group.newest().snapshot().is_empty())
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Applies a record read from the log. `false` if it can't follow what was applied before.
    pub(crate) fn apply(&mut self, record: &Record<'_>) -> bool {
        match *record {
            Record::Put { stream, group, item, revision, stamp, value } => {
                let root = self.replayed(stream, group);
                let fits = follows(root, revision, stamp);
                if fits {
                    root.put(ItemId::trusted(item), Json::trusted(value), revision, stamp);
                }
                fits
            }
            Record::Delete { stream, group, item, revision, stamp } => {
                let root = self.replayed(stream, group);
                let fits = follows(root, revision, stamp);
                if fits {
                    root.remove(&ItemId::trusted(item), revision, stamp);
                }
                fits
            }
            Record::Reserve { stream, group, stamp } => {
                let root = self.replayed(stream, group);
                root.reserved = root.reserved.max(stamp);
                true
            }
            Record::ReserveShared { stamp } => {
                self.reserved = self.reserved.max(stamp);
                true
            }
            Record::Joined { key, subscription, stream, group, item, context } => {
                let group =
                    GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
                let joined = Joined {
                    subscription: SubscriptionId::trusted(subscription),
                    target: Target { group, item: item.map(ItemId::trusted) },
                    context: context.map(Json::trusted),
                };
                self.joins.replay_joined(key, joined)
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
        }
    }

    fn replayed(&mut self, stream: &str, group: &str) -> &mut Root {
        let path = GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
        let (_, group) = self.ensure(&path, Stamp::default());
        &mut group.durable
    }

    /// After the last record: from now on every group's stamps are above all that were given out before, to
    /// events in the log, to those whose stamps were reserved, and to those that took theirs from a wall
    /// clock that showed less than `started`. Returns where the clock of new groups starts.
    pub(super) fn start_clocks(&mut self, started: WallMs) -> Stamp {
        let floor = Stamp(started.0);
        for group in self.groups.values_mut() {
            let root = &mut group.durable;
            root.stamp = root.stamp.max(root.reserved).max(floor);
        }
        self.reserved.max(floor)
    }
}

/// Whether a change comes right after the state `root`.
fn follows(root: &Root, revision: Revision, stamp: Stamp) -> bool {
    revision == root.revision.next() && stamp > root.stamp
}
