//! A group's items in the form that suits their number.

use std::iter;
use std::sync::Arc;

use super::many::Many;
use super::snapshot::Item;
use crate::log::Revision;
use crate::name::ItemId;

/// An item, and the revision that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) created: Revision,
    pub(super) item: Item,
}

/// Items in creation order. As large as it must be: most groups are small, and there are many of them.
pub(super) type Block = Arc<[Entry]>;

/// The items of a group in creation order. Most groups that there are hold one item or a few: one takes no allocation
/// of its own, and a few are searched as they lie.
#[derive(Clone)]
pub(super) enum Entries {
    One(Entry),
    /// Apart from `One`, so that its tag needs no room: it is in the place of the entry's first pointer.
    Shared(Shared),
}

#[derive(Clone)]
pub(super) enum Shared {
    /// None, or from 2 to `FEW`.
    Few(Block),
    /// More than `FEW_AGAIN`.
    Many(Arc<Many>),
}

/// The most items that are kept without an index.
pub(super) const FEW: usize = 16;
/// With so many items left the index goes. Less than `FEW`, so that a group at the limit doesn't change its form with
/// every item that comes and goes.
pub(super) const FEW_AGAIN: usize = 8;

impl Default for Entries {
    fn default() -> Entries {
        Entries::Shared(Shared::Few(Block::default()))
    }
}

impl Entries {
    /// Entries in creation order, without an id that comes twice.
    pub(super) fn from_ordered(entries: Vec<Entry>) -> Entries {
        debug_assert!(entries.is_sorted_by(|a, b| a.created < b.created), "not in creation order");
        match entries.len() {
            0..=FEW => Entries::few(entries.into()),
            _ => Entries::many(entries.into_iter()),
        }
    }

    fn few(block: Block) -> Entries {
        match &*block {
            [] => Entries::default(),
            [entry] => Entries::One(entry.clone()),
            _ => Entries::Shared(Shared::Few(block)),
        }
    }

    fn many(entries: impl Iterator<Item = Entry>) -> Entries {
        Entries::Shared(Shared::Many(Arc::new(Many::from_ordered(entries))))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Entries::One(_) => 1,
            Entries::Shared(Shared::Few(block)) => block.len(),
            Entries::Shared(Shared::Many(many)) => many.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        let (few, many): (&[Entry], Option<&Many>) = match self {
            Entries::One(entry) => (std::slice::from_ref(entry), None),
            Entries::Shared(Shared::Few(block)) => (block, None),
            Entries::Shared(Shared::Many(many)) => (&[], Some(many)),
        };
        few.iter().chain(many.into_iter().flat_map(Many::iter))
    }

    pub(super) fn get(&self, id: &ItemId) -> Option<&Entry> {
        match self {
            Entries::One(entry) => (entry.item.id == *id).then_some(entry),
            Entries::Shared(Shared::Few(block)) => block.get(position(block, id)?),
            Entries::Shared(Shared::Many(many)) => many.get(id),
        }
    }

    pub(super) fn created(&self, created: Revision) -> Option<&Entry> {
        match self {
            Entries::One(entry) => (entry.created == created).then_some(entry),
            Entries::Shared(Shared::Few(block)) => find_created(block, created),
            Entries::Shared(Shared::Many(many)) => many.created(created),
        }
    }

    /// An entry to be changed: what clones share is copied first.
    pub(super) fn get_mut(&mut self, id: &ItemId) -> Option<&mut Entry> {
        match self {
            Entries::One(entry) => (entry.item.id == *id).then_some(entry),
            Entries::Shared(Shared::Few(block)) => {
                let at = position(block, id)?;
                Arc::make_mut(block).get_mut(at)
            }
            Entries::Shared(Shared::Many(many)) => Arc::make_mut(many).get_mut(id),
        }
    }

    /// Adds an entry that is created after all others, with an id that none of them has.
    pub(super) fn push(&mut self, entry: Entry) {
        match self {
            Entries::One(first) => *self = Entries::few([first.clone(), entry].into()),
            Entries::Shared(Shared::Few(block)) => {
                *self = match block.len() {
                    0 => Entries::One(entry),
                    FEW.. => Entries::many(block.iter().cloned().chain(iter::once(entry))),
                    _ => Entries::few(with(block, entry)),
                }
            }
            Entries::Shared(Shared::Many(many)) => Arc::make_mut(many).push(entry),
        }
    }

    pub(super) fn remove(&mut self, id: &ItemId) -> Option<Entry> {
        match self {
            Entries::One(entry) => {
                let removed = (entry.item.id == *id).then(|| entry.clone())?;
                *self = Entries::default();
                Some(removed)
            }
            Entries::Shared(Shared::Few(block)) => {
                let (removed, rest) = without(block, position(block, id)?);
                *self = Entries::few(rest);
                Some(removed)
            }
            Entries::Shared(Shared::Many(many)) => {
                let many = Arc::make_mut(many);
                let removed = many.remove(id)?;
                if many.len() <= FEW_AGAIN {
                    *self = Entries::few(many.iter().cloned().collect());
                }
                Some(removed)
            }
        }
    }

    /// About how many bytes of memory it takes beside itself and the texts.
    pub(super) fn memory(&self) -> usize {
        match self {
            Entries::One(_) => 0,
            Entries::Shared(Shared::Few(block)) => blocks_memory(1, block.len()),
            Entries::Shared(Shared::Many(many)) => many.memory(),
        }
    }
}

/// Where an id is among a few. Ids that are made by counting differ at their ends, so their last bytes are compared
/// first.
fn position(block: &[Entry], id: &ItemId) -> Option<usize> {
    let wanted = id.as_str().as_bytes();
    let last = wanted.last();
    block.iter().position(|entry| {
        let id = entry.item.id.as_str().as_bytes();
        id.len() == wanted.len() && id.last() == last && id == wanted
    })
}

pub(super) fn find_created(block: &[Entry], created: Revision) -> Option<&Entry> {
    let at = block.binary_search_by_key(&created, |entry| entry.created).ok()?;
    block.get(at)
}

/// The block with one entry more.
pub(super) fn with(block: &[Entry], entry: Entry) -> Block {
    block.iter().cloned().chain(iter::once(entry)).collect()
}

/// The entry at a place, and the block without it.
pub(super) fn without(block: &[Entry], at: usize) -> (Entry, Block) {
    let (before, after) = (&block[..at], &block[at + 1..]);
    (block[at].clone(), before.iter().chain(after).cloned().collect())
}

/// About how many bytes of memory blocks of so many entries together take.
pub(super) fn blocks_memory(blocks: usize, entries: usize) -> usize {
    /// Its counts of references, and the allocator's header and rounding.
    const AROUND_BLOCK: usize = 32;
    blocks * AROUND_BLOCK + entries * size_of::<Entry>()
}
