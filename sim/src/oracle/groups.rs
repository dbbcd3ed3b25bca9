//! What the subscribers saw of the groups: each replays its syncs and changes, and all of them saw one history.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Checked, Law, Lists, Violation, text};
use crate::trace::{Entry, What};

/// A subscriber, a group, and the item if it is one.
type Watching = (String, String, Option<String>);

/// Everything that the subscribers saw.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// On the connections that live, or were closed at the end.
    replays: BTreeMap<Watching, Replay>,
    /// By group and stamp: what was given this stamp.
    stamps: BTreeMap<String, BTreeMap<u64, Stamped>>,
    /// By group and revision: the change.
    changes: BTreeMap<(String, u64), Value>,
    epoch: Option<Value>,
}

/// What one subscription holds.
#[derive(Debug)]
struct Replay {
    revision: u64,
    stamp: u64,
    /// In creation order; of an item subscription only the one.
    items: Vec<Value>,
}

#[derive(Debug, PartialEq)]
struct Stamped {
    revision: u64,
    /// The event with its item, or for a sync its state.
    what: Value,
}

impl Groups {
    pub(super) fn take(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        match &entry.what {
            What::Connected => self.forget(&entry.who),
            What::Got(message) if message["type"] == "stream" => {
                match text(&message["event"]["type"]).as_str() {
                    "sync" => {
                        checked.syncs += 1;
                        return self.synced(&entry.who, message);
                    }
                    "error" => return Err(Law::CallsSucceed.broken("a subscriber was refused")),
                    _ => {
                        checked.events += 1;
                        return self.happened(&entry.who, message);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self, who: &str) {
        self.replays.retain(|(of, ..), _| of != who);
    }

    fn synced(&mut self, who: &str, message: &Value) -> Result<(), Violation> {
        let Frame { group, item, revision, stamp } = Frame::read(message)?;
        let epoch = self.epoch.get_or_insert_with(|| message["epoch"].clone());
        Law::SeenIsDurable.require(*epoch == message["epoch"], "the store has another epoch")?;
        let data = message["event"]["data"].clone();
        if item.is_none() {
            self.stamped(&group, stamp, revision, &data)?;
        }
        let watching = (who.to_owned(), group, item);
        if let Some(before) = self.replays.get(&watching) {
            Law::OneOrder.require(revision >= before.revision, "a sync goes back")?;
            Law::StampsIncrease.require(stamp >= before.stamp, "a sync's stamp goes back")?;
        }
        let items = match data {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            value => vec![value],
        };
        self.replays.insert(watching, Replay { revision, stamp, items });
        Ok(())
    }

    fn happened(&mut self, who: &str, message: &Value) -> Result<(), Violation> {
        let Frame { group, item, revision, stamp } = Frame::read(message)?;
        let event = &message["event"];
        let is_change = event["type"] != "event";
        if is_change {
            let same = self.changes.entry((group.clone(), revision)).or_insert_with(|| event.clone());
            let how = format!("revision {revision} was seen before as {same}");
            Law::SeenIsDurable.require(same == event, how)?;
        }
        self.stamped(&group, stamp, revision, event)?;
        let whole = (who.to_owned(), group.clone(), None);
        let watching = if self.replays.contains_key(&whole) { whole } else { (who.to_owned(), group, item) };
        let Some(replay) = self.replays.get_mut(&watching) else {
            return Err(Law::ReplayIsList.broken("an event came before any sync"));
        };
        Law::StampsIncrease.require(stamp > replay.stamp, "the stamp is not above the last")?;
        replay.stamp = stamp;
        let next = match (is_change, watching.2.is_some()) {
            (true, false) => revision == replay.revision + 1,
            (true, true) => revision > replay.revision,
            (false, false) => revision == replay.revision,
            // The revision is the group's, of which this subscriber sees a part.
            (false, true) => revision >= replay.revision,
        };
        Law::OneOrder.require(next, format!("the revision before was {}", replay.revision))?;
        replay.revision = revision;
        if is_change { replay.apply(&text(&message["id"]), event) } else { Ok(()) }
    }

    /// Everything in a group has a stamp of its own; syncs of one state share theirs.
    fn stamped(&mut self, group: &str, stamp: u64, revision: u64, what: &Value) -> Result<(), Violation> {
        let new = Stamped { revision, what: what.clone() };
        let known = self.stamps.entry(group.to_owned()).or_default().entry(stamp).or_insert(new);
        let how = format!("the stamp is also that of {known:?}");
        Law::StampsIncrease.require(known.revision == revision && known.what == *what, how)
    }

    /// At the end every subscriber holds what is there, and stamps and revisions are in one order.
    pub(super) fn end(&self, lists: &Lists) -> Result<(), Violation> {
        for (group, stamps) in &self.stamps {
            let revisions = stamps.values().map(|stamped| stamped.revision);
            Law::StampsIncrease
                .require(revisions.is_sorted(), format!("{group}: a later change is stamped earlier"))?;
        }
        Law::ReplayIsList.require(!self.replays.is_empty(), "nobody saw the end")?;
        for ((who, group, item), replay) in &self.replays {
            let Some(list) = lists.get(group) else {
                return Err(Law::ReplayIsList.broken(format!("{group} was not listed")));
            };
            let is_watched = |value: &&Value| item.as_ref().is_none_or(|item| value["id"] == item.as_str());
            let list: Vec<_> = list.iter().filter(is_watched).collect();
            let how = format!("{who} holds {:?} of {group}, the list has {list:?}", replay.items);
            Law::ReplayIsList.require(replay.items.iter().eq(list), how)?;
        }
        Ok(())
    }
}

impl Replay {
    fn apply(&mut self, item: &str, event: &Value) -> Result<(), Violation> {
        let (kind, value) = (text(&event["type"]), &event["data"]);
        let at = self.items.iter().position(|value| value["id"] == item);
        match (kind.as_str(), at) {
            ("create", None) => self.items.push(value.clone()),
            ("update", Some(at)) => self.items[at] = value.clone(),
            ("delete", Some(at)) if self.items[at] == *value => {
                self.items.remove(at);
            }
            _ => {
                let held = at.map(|at| &self.items[at]);
                return Err(Law::ReplayIsList.broken(format!("{kind} of {item}, which was {held:?}")));
            }
        }
        Ok(())
    }
}

/// What every frame says.
struct Frame {
    group: String,
    item: Option<String>,
    revision: u64,
    stamp: u64,
}

impl Frame {
    fn read(message: &Value) -> Result<Frame, Violation> {
        match (message["revision"].as_u64(), message["timestamp"].as_u64()) {
            (Some(revision), Some(stamp)) => {
                let item = message["id"].as_str().map(str::to_owned);
                Ok(Frame { group: text(&message["groupId"]), item, revision, stamp })
            }
            _ => Err(Law::OneOrder.broken("a frame without revision or timestamp")),
        }
    }
}
