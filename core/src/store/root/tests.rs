//! A root against a plain list.

use proptest::prelude::*;

use super::entries::{FEW, FEW_AGAIN};
use super::*;

/// What a root must be: all items in creation order.
#[derive(Clone, Debug, Default)]
struct Model {
    items: Vec<(Revision, Item)>,
    revision: Revision,
    stamp: Stamp,
}

impl Model {
    fn put(&mut self, id: &ItemId, value: &Json) -> Revision {
        let revision = self.next();
        match self.items.iter_mut().find(|(_, item)| item.id == *id) {
            Some((created, item)) => {
                (item.value, item.revision) = (value.clone(), revision);
                *created
            }
            None => {
                self.items.push((revision, Item { id: id.clone(), value: value.clone(), revision }));
                revision
            }
        }
    }

    fn remove(&mut self, id: &ItemId) -> Option<Revision> {
        self.next();
        let at = self.items.iter().position(|(_, item)| item.id == *id)?;
        Some(self.items.remove(at).0)
    }

    fn next(&mut self) -> Revision {
        self.revision = self.revision.next();
        self.stamp = Stamp(self.stamp.0 + 2);
        self.revision
    }
}

/// Everything that can be seen of a root is as the model says.
fn check(root: &Root, model: &Model) {
    let snapshot = root.snapshot();
    let items: Vec<(Revision, Item)> =
        snapshot.iter_created().map(|(created, item)| (created, item.clone())).collect();
    assert_eq!(items, model.items);
    assert!(snapshot.iter().eq(model.items.iter().map(|(_, item)| item)));
    assert_eq!((root.revision, root.stamp), (model.revision, model.stamp));
    assert_eq!((snapshot.len(), snapshot.is_empty()), (model.items.len(), model.items.is_empty()));
    let bytes: usize = model.items.iter().map(|(_, item)| weight(&item.id, &item.value)).sum();
    assert_eq!(snapshot.bytes(), bytes);
    for n in 0..IDS {
        let known = model.items.iter().find(|(_, item)| item.id == id(n)).map(|(_, item)| item);
        assert_eq!(root.get(&id(n)), known);
    }
    for revision in (0..=model.revision.0 + 1).map(Revision) {
        let at = model.items.binary_search_by_key(&revision, |(created, _)| *created).ok();
        assert_eq!(snapshot.created(revision), at.map(|at| &model.items[at].1), "created by {revision:?}");
    }
    let restored = Root::restored(Snapshot::of(items), root.revision, root.stamp, root.reserved);
    assert_eq!(restored.snapshot(), snapshot);
    assert_eq!(restored.snapshot().bytes(), bytes);
}

const IDS: usize = 3 * FEW;

fn id(n: usize) -> ItemId {
    ItemId::trusted(&format!("item-{n}"))
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    Remove(usize),
    /// Removes the oldest or the newest item.
    RemoveEnd(bool),
    /// Puts new items until there are so many, or removes some until there are so few.
    Reach(usize, usize),
    /// Keeps a clone.
    Keep,
    /// Goes on from a group as it was saved.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..IDS).prop_map(Step::Put),
        4 => (0..IDS).prop_map(Step::Remove),
        2 => any::<bool>().prop_map(Step::RemoveEnd),
        2 => (0..=IDS, 0..IDS).prop_map(|(len, from)| Step::Reach(len, from)),
        1 => prop_oneof![Just(0), Just(1), Just(2), Just(FEW_AGAIN), Just(FEW), Just(FEW + 1)]
            .prop_flat_map(|len| (Just(len), 0..IDS))
            .prop_map(|(len, from)| Step::Reach(len, from)),
        2 => Just(Step::Keep),
        1 => Just(Step::Restore),
    ]
}

/// A root and its model, changed together, and what they were.
#[derive(Default)]
struct History {
    root: Root,
    model: Model,
    kept: Vec<(Root, Model)>,
}

impl History {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Put(n) => self.put(&id(n)),
            Step::Remove(n) => self.remove(&id(n)),
            Step::RemoveEnd(newest) => {
                let items = &self.model.items;
                if let Some((_, item)) = if newest { items.last() } else { items.first() } {
                    self.remove(&item.id.clone());
                }
            }
            Step::Reach(len, from) => {
                for id in (0..IDS).map(|n| id((from + n * 7) % IDS)) {
                    let there = self.root.get(&id).is_some();
                    match self.model.items.len() {
                        now if now < len && !there => self.put(&id),
                        now if now > len && there => self.remove(&id),
                        _ => {}
                    }
                }
            }
            Step::Keep => self.kept.push((self.root.clone(), self.model.clone())),
            Step::Restore => {
                let Model { items, revision, stamp } = self.model.clone();
                self.root = Root::restored(Snapshot::of(items), revision, stamp, Stamp(0));
            }
        }
    }

    fn put(&mut self, id: &ItemId) {
        let value = Json::trusted(format!("{:?}", self.model.revision.0.pow(2)));
        let created = self.model.put(id, &value);
        let Model { revision, stamp, .. } = self.model;
        assert_eq!(self.root.put(id.clone(), value, revision, stamp), created);
    }

    fn remove(&mut self, id: &ItemId) {
        let created = self.model.remove(id);
        let Model { revision, stamp, .. } = self.model;
        assert_eq!(self.root.remove(id, revision, stamp), created);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 4_000 }))]

    #[test]
    fn a_root_is_a_list_of_items_in_creation_order_and_its_clones_never_change(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut history = History::default();
        for step in &steps {
            history.take(step);
            check(&history.root, &history.model);
        }
        for (root, model) in &history.kept {
            check(root, model);
        }
    }
}

/// A group of items with ids from 0.
fn filled(items: usize) -> History {
    let mut history = History::default();
    history.take(&Step::Reach(items, 0));
    history
}

#[test]
fn snapshots_are_equal_if_their_items_are_whatever_form_they_are_kept_in() {
    let mut shrunk = filled(FEW + 1);
    shrunk.take(&Step::Reach(FEW, 0));
    let few = Root::restored(Snapshot::of(shrunk.model.items.clone()), Revision(1), Stamp(1), Stamp(1));
    assert!(shrunk.root.snapshot().memory() > few.snapshot().memory(), "two forms");
    assert_eq!(shrunk.root.snapshot(), few.snapshot());
    for (root, model) in [(few, shrunk.model.clone()), (shrunk.root, shrunk.model)] {
        let mut changed = History { root: root.clone(), model, kept: Vec::new() };
        let last = changed.model.items[FEW - 1].1.id.clone();
        changed.put(&last);
        assert_ne!(changed.root.snapshot(), root.snapshot());
    }
}

#[test]
fn an_item_keeps_the_id_that_it_was_created_with() {
    for items in [1, 2, FEW, FEW + 1] {
        let mut history = filled(items);
        let text = |history: &History| {
            let item = history.root.snapshot().iter().next().expect("an item");
            (item.id.clone(), item.id.as_str().as_ptr())
        };
        let (id, before) = text(&history);
        history.put(&ItemId::trusted(id.as_str()));
        assert_eq!(text(&history).1, before);
    }
}

#[test]
fn a_root_with_its_only_item_is_small() {
    assert!(size_of::<Root>() <= 80, "{} bytes", size_of::<Root>());
}
