//! The state of one group at one moment, as an immutable map: a clone is O(1) and never changes.

use im::OrdMap;

use crate::json::{Json, quoted_len};
use crate::log::Revision;
use crate::name::ItemId;
use crate::time::Stamp;

/// A stored item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: ItemId,
    /// Its value.
    pub value: Json,
    /// The revision of its last change.
    pub revision: Revision,
}

/// The items of a group at one revision, in creation order. A clone is O(1); later changes don't touch it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By the revision that created the item: it is unique in the group and increases.
    items: OrdMap<Revision, Item>,
    /// What the items count against the limit of a group's size.
    bytes: usize,
}

impl Snapshot {
    /// The items in creation order.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// How many bytes the items are as a list with ids and revisions, at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// A group at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Root {
    snapshot: Snapshot,
    created: OrdMap<ItemId, Revision>,
    /// The last change's revision.
    pub(super) revision: Revision,
    /// The last event's stamp.
    pub(super) stamp: Stamp,
    /// Stamps up to this one may be given to events that are not in the log.
    pub(super) reserved: Stamp,
}

impl Root {
    /// An empty group whose next event is stamped above `stamp`.
    pub(super) fn starting_at(stamp: Stamp) -> Root {
        Root { stamp, ..Root::default() }
    }

    pub(super) fn get(&self, id: &ItemId) -> Option<&Item> {
        self.snapshot.items.get(self.created.get(id)?)
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Stores `value`; the change's revision and stamp become the group's.
    pub(super) fn put(&mut self, id: ItemId, value: Json, revision: Revision, stamp: Stamp) {
        let created = match self.created.get(&id) {
            Some(created) => *created,
            None => {
                self.created.insert(id.clone(), revision);
                revision
            }
        };
        self.snapshot.bytes += weight(&id, &value);
        if let Some(before) = self.snapshot.items.insert(created, Item { id, value, revision }) {
            self.snapshot.bytes -= weight(&before.id, &before.value);
        }
        self.advance(revision, stamp);
    }

    /// Removes an item, if it is there; the change's revision and stamp become the group's.
    pub(super) fn remove(&mut self, id: &ItemId, revision: Revision, stamp: Stamp) {
        if let Some(created) = self.created.remove(id)
            && let Some(item) = self.snapshot.items.remove(&created)
        {
            self.snapshot.bytes -= weight(&item.id, &item.value);
        }
        self.advance(revision, stamp);
    }

    fn advance(&mut self, revision: Revision, stamp: Stamp) {
        self.revision = revision;
        self.stamp = stamp;
    }
}

/// What an item counts against the limit of its group: its text in a list with ids and revisions, at most.
pub(super) fn weight(id: &ItemId, value: &Json) -> usize {
    const AROUND: usize = r#"{"id":,"value":,"revision":18446744073709551615},"#.len();
    quoted_len(id.as_str()) + value.as_str().len() + AROUND
}
