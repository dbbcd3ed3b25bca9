//! The state of one group at one moment, as an immutable map: a clone is O(1) and never changes.

mod entries;
mod many;
mod snapshot;
#[cfg(test)]
mod tests;

pub use snapshot::{Item, Snapshot};

use entries::Entry;

use crate::json::{Json, quoted_len};
use crate::log::Revision;
use crate::name::ItemId;
use crate::time::Stamp;

/// A group at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Root {
    snapshot: Snapshot,
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

    /// A group as it was saved.
    pub(super) fn restored(snapshot: Snapshot, revision: Revision, stamp: Stamp, reserved: Stamp) -> Root {
        Root { snapshot, revision, stamp, reserved }
    }

    pub(super) fn get(&self, id: &ItemId) -> Option<&Item> {
        self.snapshot.entries.get(id).map(|entry| &entry.item)
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Stores `value`; the change's revision and stamp become the group's. Returns the revision that created the
    /// item: this one, if it is new.
    pub(super) fn put(&mut self, id: ItemId, value: Json, revision: Revision, stamp: Stamp) -> Revision {
        self.advance(revision, stamp);
        let Snapshot { entries, bytes } = &mut self.snapshot;
        *bytes += weight(&id, &value);
        match entries.get_mut(&id) {
            Some(Entry { created, item }) => {
                *bytes -= weight(&item.id, &item.value);
                // The id stays the one that the index may share.
                (item.value, item.revision) = (value, revision);
                *created
            }
            None => {
                entries.push(Entry { created: revision, item: Item { id, value, revision } });
                revision
            }
        }
    }

    /// Removes an item, if it is there; the change's revision and stamp become the group's. Returns the revision
    /// that created the item.
    pub(super) fn remove(&mut self, id: &ItemId, revision: Revision, stamp: Stamp) -> Option<Revision> {
        self.advance(revision, stamp);
        let Entry { created, item } = self.snapshot.entries.remove(id)?;
        self.snapshot.bytes -= weight(&item.id, &item.value);
        Some(created)
    }

    fn advance(&mut self, revision: Revision, stamp: Stamp) {
        self.revision = revision;
        self.stamp = stamp;
    }
}

/// What is around an item's id and value in a list with ids and revisions, at most.
const AROUND: usize = r#"{"id":,"value":,"revision":18446744073709551615},"#.len();

/// What an item counts against the limit of its group: its text in a list with ids and revisions, at most.
pub(super) fn weight(id: &ItemId, value: &Json) -> usize {
    quoted_len(id.as_str()) + value.as_str().len() + AROUND
}
