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
/// What a document costs beside its own size and its names: its places in the maps.
const OVERHEAD: usize = 512;

impl Hot {
    /// The document of an item whose value is `value`.
    pub(super) fn take(&mut self, item: &ItemPath, value: Option<&Json>) -> Document {
        self.forget(item).filter(|document| document.is_of(value)).unwrap_or_else(|| Document::new(value))
    }

    /// Keeps a document, if there is something in it that its text does not tell, and if there can be room for it.
    pub(super) fn keep(&mut self, item: ItemPath, document: Document) {
        self.forget(&item);
        let bytes = cost(&item, &document);
        if bytes > MOST_BYTES || !document.is_apart() {
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
        self.bytes -= cost(item, &document);
        Some(document)
    }
}

fn cost(item: &ItemPath, document: &Document) -> usize {
    let names = item.group.stream.as_str().len() + item.group.group.as_str().len() + item.id.as_str().len();
    document.bytes() + names + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::name::{GroupName, GroupPath, ItemId, StreamName};
    use crate::ops;

    fn item(id: &str) -> ItemPath {
        let group = GroupPath { stream: StreamName::trusted("s"), group: GroupName::trusted("g") };
        ItemPath { group, id: ItemId::trusted(id) }
    }

    fn increment(path: &str) -> Vec<ops::UpdateOp> {
        let ops = format!(r#"[{{"type":"increment","path":"{path}","by":1}}]"#);
        ops::parse(serde_json::from_str(&ops).expect("JSON"), &Limits::default()).expect("operations")
    }

    /// Updates an item's value once.
    fn update(hot: &mut Hot, id: &str, value: &Json) -> Json {
        let mut document = hot.take(&item(id), Some(value));
        let after = document.apply(&increment("n")).after;
        hot.keep(item(id), document);
        after
    }

    fn value(text_bytes: usize) -> Json {
        Json::trusted(format!(r#"{{"n":0,"text":"{}"}}"#, "x".repeat(text_bytes)))
    }

    fn kept(hot: &Hot) -> Vec<&str> {
        hot.by_turn.values().map(|item| item.id.as_str()).collect()
    }

    #[test]
    fn a_document_is_used_for_its_own_text_only() {
        let mut hot = Hot::default();
        let first = update(&mut hot, "a", &value(0));
        let other = Json::trusted(r#"{"n":10}"#);
        assert!(hot.take(&item("a"), Some(&other)).is_of(Some(&other)));
        assert_eq!(update(&mut hot, "a", &first).as_str(), r#"{"n":2,"text":""}"#);
        assert_eq!(update(&mut hot, "a", &other).as_str(), r#"{"n":11}"#);
        assert_eq!(update(&mut hot, "a", &Json::trusted(first.as_str())).as_str(), r#"{"n":2,"text":""}"#);
        assert!(hot.take(&item("a"), None).is_of(None));
    }

    #[test]
    fn what_was_not_updated_for_longest_is_forgotten_first() {
        let mut hot = Hot::default();
        let quarter = value(MOST_BYTES / 4 - 4_096);
        for id in ["a", "b", "c", "d", "a"] {
            update(&mut hot, id, &quarter);
        }
        assert_eq!(kept(&hot), ["b", "c", "d", "a"]);
        update(&mut hot, "e", &quarter);
        assert_eq!(kept(&hot), ["c", "d", "a", "e"]);
        update(&mut hot, "f", &value(MOST_BYTES / 2));
        assert_eq!(kept(&hot), ["a", "e", "f"]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_counted() {
        let mut hot = Hot::default();
        for i in 0..200_000 {
            update(&mut hot, &i.to_string(), &value(i % 100));
            assert!(hot.bytes <= MOST_BYTES);
        }
        assert!(hot.bytes > MOST_BYTES / 2, "there is room for many: {} bytes", hot.bytes);
        assert_eq!(hot.documents.len(), hot.by_turn.len());
        while let Some(item) = hot.by_turn.values().next().cloned() {
            hot.forget(&item);
        }
        assert_eq!((hot.bytes, hot.documents.len()), (0, 0));
    }

    #[test]
    fn names_count_too() {
        let long = |i: usize| format!("{i}{}", "x".repeat(1 << 20));
        for which in 0..3 {
            let mut hot = Hot::default();
            for i in 0..100 {
                let mut names = ["stream".to_owned(), "group".to_owned(), "item".to_owned()];
                names[which] = long(i);
                let [stream, group, id] = &names;
                let group =
                    GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
                let item = ItemPath { group, id: ItemId::trusted(id) };
                let mut document = hot.take(&item, Some(&value(0)));
                document.apply(&increment("n"));
                hot.keep(item, document);
            }
            let kept = hot.documents.len();
            assert!((20..32).contains(&kept), "{kept} documents with names of 1 MiB");
        }
    }

    #[test]
    fn a_value_with_nothing_taken_apart_is_not_kept() {
        let mut hot = Hot::default();
        let mut document = hot.take(&item("n"), None);
        document.apply(&increment(""));
        hot.keep(item("n"), document);
        assert!(kept(&hot).is_empty());
    }

    #[test]
    fn a_document_that_is_too_large_is_not_kept_and_costs_the_others_nothing() {
        let mut hot = Hot::default();
        update(&mut hot, "small", &value(0));
        update(&mut hot, "large", &value(MOST_BYTES));
        assert_eq!(kept(&hot), ["small"]);
    }
}
