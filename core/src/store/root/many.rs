//! The items of a large group: in blocks by creation, with an index by id.

use std::ptr;

use im::OrdMap;

use super::entries::{Block, Entry, blocks_memory, find_created, with, without};
use crate::log::Revision;
use crate::name::ItemId;

/// Many items in creation order. The nodes of the maps have room for 16 entries and are half full when they are filled
/// in order, so the items themselves are not in nodes but in blocks that are as large as they must be.
#[derive(Clone)]
pub(super) struct Many {
    /// Each by the revision that created its first item, which may be gone since. None is empty. They are not joined
    /// when they get smaller: a block of one item takes as much as an item in a node that is half full.
    blocks: OrdMap<Revision, Block>,
    /// The block that each item is in. The ids are the items' own, not copies of their texts.
    index: OrdMap<ItemId, Revision>,
}

/// The most items in a block: as many are copied when one of them changes.
pub(super) const BLOCK: usize = 8;

impl Many {
    /// Entries in creation order, without an id that comes twice.
    pub(super) fn from_ordered(entries: impl Iterator<Item = Entry>) -> Many {
        let mut many = Many { blocks: OrdMap::new(), index: OrdMap::new() };
        let mut entries = entries.peekable();
        while let Some(Entry { created: first, .. }) = entries.peek() {
            let first = *first;
            let block: Block = entries.by_ref().take(BLOCK).collect();
            for entry in &*block {
                many.index.insert(entry.item.id.clone(), first);
            }
            many.blocks.insert(first, block);
        }
        many
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.values().flat_map(|block| block.iter())
    }

    pub(super) fn get(&self, id: &ItemId) -> Option<&Entry> {
        let (id, first) = self.index.get_key_value(id)?;
        let block = self.blocks.get(first)?;
        block.get(position_of_same(block, id)?)
    }

    pub(super) fn created(&self, created: Revision) -> Option<&Entry> {
        let (_, block) = self.blocks.get_prev(&created)?;
        find_created(block, created)
    }

    pub(super) fn get_mut(&mut self, id: &ItemId) -> Option<&mut Entry> {
        let (id, first) = self.index.get_key_value(id)?;
        let block = self.blocks.get_mut(first)?;
        let at = position_of_same(block, id)?;
        Block::make_mut(block).get_mut(at)
    }

    /// Adds an entry that is created after all others, with an id that none of them has.
    pub(super) fn push(&mut self, entry: Entry) {
        let (first, block) = match self.blocks.get_max() {
            Some((first, last)) if last.len() < BLOCK => (*first, with(last, entry.clone())),
            _ => (entry.created, [entry.clone()].into()),
        };
        self.blocks.insert(first, block);
        self.index.insert(entry.item.id, first);
    }

    pub(super) fn remove(&mut self, id: &ItemId) -> Option<Entry> {
        let (id, first) = self.index.remove_with_key(id)?;
        let block = self.blocks.get_mut(&first)?;
        let (removed, rest) = without(block, position_of_same(block, &id)?);
        *block = rest;
        if block.is_empty() {
            self.blocks.remove(&first);
        }
        Some(removed)
    }

    /// About how many bytes of memory it takes beside the texts.
    pub(super) fn memory(&self) -> usize {
        /// The maps, and nodes with room to spare.
        const BASE: usize = 700;
        /// A place in a node, which is from half to all full, and the part of it in the nodes above.
        const BLOCK_PLACE: usize = 45;
        const INDEX_PLACE: usize = 52;
        BASE + blocks_memory(self.blocks.len(), self.len())
            + self.blocks.len() * BLOCK_PLACE
            + self.len() * INDEX_PLACE
    }
}

/// Where an id of the index is in its block, without a look at the texts.
fn position_of_same(block: &[Entry], id: &ItemId) -> Option<usize> {
    block.iter().position(|entry| ptr::eq(entry.item.id.as_str(), id.as_str()))
}
