//! What a subscriber may see, and what it makes of it.

use std::collections::BTreeMap;

use crate::driver::{Seen, View};
use crate::history::{Change, group_after};
use crate::story::GROUPS;

/// What a session is subscribed to.
#[derive(Default)]
pub(crate) struct Subscriber {
    /// By id; an empty item is the group.
    pub(crate) targets: BTreeMap<usize, (&'static str, &'static str)>,
    pub(crate) behind: bool,
    /// For each group that it has all of, what it made of it.
    pub(crate) views: BTreeMap<&'static str, View>,
    /// For each group the stamp of the last frame, and whether that was a sync.
    pub(crate) last: BTreeMap<&'static str, (u64, bool)>,
}

impl Subscriber {
    /// A group that it no longer has all of has no view.
    pub(crate) fn forget_views(&mut self) {
        let targets: Vec<_> = self.targets.values().copied().collect();
        self.views.retain(|group, _| !self.behind && targets.contains(&(*group, "")));
    }
}

/// A subscriber gets a frame.
pub(crate) fn see(subscriber: &mut Subscriber, seen: &Seen, durable: &[Change]) {
    let group = GROUPS.into_iter().find(|group| seen.group == *group).expect("a group");
    let revision = seen.revision.expect("no error");
    let at = usize::try_from(revision).expect("a short story");
    let is_sync = seen.kind == "sync";
    let (last, was_sync) = subscriber.last.insert(group, (seen.stamp, is_sync)).unwrap_or_default();
    let shared = seen.stamp == last && is_sync && was_sync;
    assert!(seen.stamp > last || shared, "a stamp that is not above {last}: {seen}");
    assert!(revision <= group_after(durable, group).0, "told before it was durable: {seen}");
    let item = seen.item.as_deref().unwrap_or_default();
    let is_covered = |target: &(&str, &str)| target.0 == group && (target.1.is_empty() || target.1 == item);
    assert!(subscriber.targets.values().any(is_covered), "not subscribed: {seen}");
    if !is_sync && !seen.sent {
        let changed = durable.iter().filter(|change| change.group == group).nth(at - 1);
        let changed = changed.expect("a change");
        assert_eq!(changed.item, item, "{seen}");
        assert!(changed.value.as_ref().is_none_or(|value| *value == seen.data), "{seen}");
    }
    let has_all = subscriber.targets.values().any(|target| *target == (group, ""));
    match subscriber.views.get_mut(group) {
        Some(view) if !shared => view.take(seen),
        Some(_) => {}
        None if has_all && seen.is_group_sync() => {
            let mut view = View::default();
            view.take(seen);
            subscriber.views.insert(group, view);
        }
        None => {}
    }
    let Some(view) = subscriber.views.get(group) else {
        return;
    };
    // After an item's sync, that of the group is on its way.
    if !is_sync || seen.is_group_sync() {
        let upto = durable.iter().enumerate().filter(|(_, change)| change.group == group);
        let upto = upto.map(|(at, _)| at + 1).nth(at.wrapping_sub(1)).unwrap_or_default();
        let (_, items) = group_after(&durable[..upto], group);
        let values: Vec<_> =
            items.into_iter().map(|(_, value)| value).filter(|value| !value.is_null()).collect();
        assert_eq!(view.values, values, "after {seen}");
    }
}
