//! The items of a group, as everybody may keep them.

use std::fmt;

use super::entries::{Entries, Entry};
use super::{AROUND, weight};
use crate::json::Json;
use crate::log::Revision;
use crate::name::ItemId;

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
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) entries: Entries,
    /// What the items count against the limit of a group's size.
    pub(super) bytes: usize,
}

impl Snapshot {
    /// These items, which are in creation order, each with the revision that created it.
    pub fn of(items: Vec<(Revision, Item)>) -> Snapshot {
        let bytes = items.iter().map(|(_, item)| weight(&item.id, &item.value)).sum();
        let entries: Vec<Entry> = items.into_iter().map(|(created, item)| Entry { created, item }).collect();
        Snapshot { entries: Entries::from_ordered(entries), bytes }
    }

    /// The items in creation order.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.entries.iter().map(|entry| &entry.item)
    }

    /// The items in creation order, each with the revision that created it: it is unique in the group and increases.
    pub fn iter_created(&self) -> impl Iterator<Item = (Revision, &Item)> {
        self.entries.iter().map(|entry| (entry.created, &entry.item))
    }

    /// The item that this revision created, if it is there.
    pub fn created(&self, created: Revision) -> Option<&Item> {
        self.entries.created(created).map(|entry| &entry.item)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes the items are as a list with ids and revisions, at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes of memory it takes beside itself: texts and what holds them, as if nothing of it were
    /// shared with other snapshots. Ids with many characters that JSON escapes are counted as they are escaped.
    pub fn memory(&self) -> usize {
        /// Its counts of references, and the allocator's header and rounding.
        const AROUND_TEXT: usize = 32;
        let texts = self.bytes - self.len() * (AROUND + r#""""#.len());
        texts + self.len() * 2 * AROUND_TEXT + self.entries.memory()
    }
}

/// The same items with the same histories, whatever form they are kept in.
impl PartialEq for Snapshot {
    fn eq(&self, other: &Snapshot) -> bool {
        self.len() == other.len() && self.entries.iter().eq(other.entries.iter())
    }
}

impl Eq for Snapshot {}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter_created()).finish()
    }
}
