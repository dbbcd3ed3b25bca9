//! All changes ever made, and the groups that they make.

use serde_json::Value;

/// A change that was made; without a value it removed the item.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) group: &'static str,
    pub(crate) item: &'static str,
    pub(crate) value: Option<Value>,
}

/// A group after some changes: its revision, and its items in creation order.
pub(crate) fn group_after(changes: &[Change], group: &str) -> (u64, Vec<(&'static str, Value)>) {
    let (mut revision, mut items) = (0, Vec::<(&'static str, Value)>::new());
    for change in changes.iter().filter(|change| change.group == group) {
        revision += 1;
        let at = items.iter().position(|(item, _)| *item == change.item);
        match (&change.value, at) {
            (Some(value), Some(at)) => items[at].1 = value.clone(),
            (Some(value), None) => items.push((change.item, value.clone())),
            (None, Some(at)) => drop(items.remove(at)),
            (None, None) => unreachable!("only what is there is removed"),
        }
    }
    (revision, items)
}

/// The revision of an item's last change, and that of the one before; 0 without a change, and where the item is not.
pub(crate) fn revisions_of(changes: &[Change], group: &str, item: &str) -> (u64, u64) {
    let (mut now, mut before, mut revision) = (0, 0, 0);
    for change in changes.iter().filter(|change| change.group == group) {
        revision += 1;
        if change.item == item {
            before = now;
            now = if change.value.is_some() { revision } else { 0 };
        }
    }
    (now, before)
}

pub(crate) fn values_after(changes: &[Change], group: &str) -> (u64, Value) {
    let (revision, items) = group_after(changes, group);
    (revision, items.into_iter().map(|(_, value)| value).collect())
}
