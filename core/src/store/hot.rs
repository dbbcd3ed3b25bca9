//! Items that are updated again and again.

use std::collections::BTreeMap;

use super::ItemPath;
use crate::json::Json;
use crate::ops::Document;

/// The documents of the items that were updated last, so that the next update of one of them starts where the last
/// one ended. Bounded: those that were not updated for longest are forgotten first, and cost a reading of their
/// text when they are updated again.
///
/// Nobody has to tell it what happens to items otherwise: a document that is not of the item's present text is
/// not used.
#[derive(Debug, Default)]
pub(super) struct Hot {
    documents: BTreeMap<ItemPath, (Document, Turn)>,
    by_turn: BTreeMap<Turn, ItemPath>,
    last_turn: Turn,
    bytes: usize,
}

/// When a document was kept: its place in the order of all.
type Turn = u64;

/// About how many bytes of memory documents may take, the texts that they are of included: some of those may be in
/// no item any more.
const MOST_BYTES: usize = 32 << 20;
/// What a document costs beside its own size: its names, its places in the maps.
const OVERHEAD: usize = 512;

impl Hot {
    /// The document of an item whose value is `value`.
    pub(super) fn take(&mut self, item: &ItemPath, value: Option<&Json>) -> Document {
        self.forget(item).filter(|document| document.is_of(value)).unwrap_or_else(|| Document::new(value))
    }

    /// Keeps a document, if there can be room for it.
    pub(super) fn keep(&mut self, item: ItemPath, document: Document) {
        self.forget(&item);
        let bytes = cost(&document);
        if bytes > MOST_BYTES {
            return;
        }
        while self.bytes + bytes > MOST_BYTES
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.forget(&oldest);
        }
        self.bytes += bytes;
        self.last_turn += 1;
        self.by_turn.insert(self.last_turn, item.clone());
        self.documents.insert(item, (document, self.last_turn));
    }

    fn forget(&mut self, item: &ItemPath) -> Option<Document> {
        let (document, turn) = self.documents.remove(item)?;
        self.by_turn.remove(&turn);
        self.bytes -= cost(&document);
        Some(document)
    }
}

fn cost(document: &Document) -> usize {
    document.bytes() + OVERHEAD
}
