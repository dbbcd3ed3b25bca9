//! What a subscriber makes of its frames.

use std::fmt;

use serde_json::Value;

/// A frame of the stream port, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) group: String,
    pub(crate) item: Option<String>,
    /// `sync`, `create`, `update`, `delete`, `error`, or for a sent event its own type.
    pub(crate) kind: String,
    pub(crate) data: Value,
    pub(crate) stamp: u64,
    pub(crate) revision: Option<u64>,
    pub(crate) sent: bool,
    /// How many sent events were missed before it.
    pub(crate) skipped: Option<u64>,
}

impl Seen {
    pub(crate) fn read(frame: &str) -> Seen {
        let value: Value = serde_json::from_str(frame).expect("frames are JSON");
        assert_eq!(value["type"], "stream");
        let event = &value["event"];
        let kind = event["type"].as_str().expect("an event has a type");
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let (kind, data, sent) = match kind {
            "event" => (text(&event["event"]["type"]), event["event"]["data"].clone(), true),
            "error" => (text(&event["error"]["code"]), event["error"]["message"].clone(), false),
            kind => (kind.to_owned(), event["data"].clone(), false),
        };
        Seen {
            group: text(&value["groupId"]),
            item: value["id"].as_str().map(str::to_owned),
            kind,
            data,
            stamp: value["timestamp"].as_u64().expect("a timestamp"),
            revision: value["revision"].as_u64(),
            sent,
            skipped: value["skipped"].as_u64(),
        }
    }

    /// Whether it is the state of a whole group.
    pub(crate) fn is_group_sync(&self) -> bool {
        self.kind == "sync" && self.item.is_none()
    }
}

/// `group/item kind data #revision @stamp skipped`, the stamp counted from the start of the story; errors: `! code`.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(revision) = self.revision else {
            return write!(f, "! {}", self.kind);
        };
        write!(f, "{}", self.group)?;
        if let Some(item) = &self.item {
            write!(f, "/{item}")?;
        }
        let stamp = self.stamp.saturating_sub(super::START);
        write!(f, " {} {} #{revision} @{stamp}", self.kind, self.data)?;
        match self.skipped {
            Some(skipped) => write!(f, " skipped {skipped}"),
            None => Ok(()),
        }
    }
}

/// A group as a subscriber of all of it knows it, from its first sync on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) values: Vec<Value>,
    pub(crate) revision: u64,
    pub(crate) stamp: u64,
}

impl View {
    /// Takes a frame of the group. Values are objects that name their item in `id`, as in the clients' examples;
    /// so a sync tells which item is which.
    pub(crate) fn take(&mut self, seen: &Seen) {
        assert!(seen.stamp > self.stamp, "a timestamp that is not newer than {}: {seen}", self.stamp);
        let revision = seen.revision.expect("no error frame");
        let next = self.revision + 1;
        let is_right = match (seen.is_group_sync(), seen.kind.as_str()) {
            (true, _) => revision == self.revision || self.stamp == 0,
            (false, "sync") => revision == self.revision || revision == next,
            (false, _) if seen.sent => revision == self.revision,
            (false, _) => revision == next,
        };
        assert!(is_right, "a gap or a repeat after {}: {seen}", self.revision);
        (self.stamp, self.revision) = (seen.stamp, revision);
        if seen.is_group_sync() {
            self.values = seen.data.as_array().expect("a group is an array").clone();
        } else if !seen.sent && seen.kind != "sync" {
            self.change(seen);
        }
    }

    fn change(&mut self, seen: &Seen) {
        let id = Value::from(seen.item.clone().expect("a change names its item"));
        let at = self.values.iter().position(|value| value["id"] == id);
        match (seen.kind.as_str(), at) {
            ("create", None) => self.values.push(seen.data.clone()),
            ("update", Some(at)) => self.values[at] = seen.data.clone(),
            ("delete", Some(at)) => drop(self.values.remove(at)),
            (kind, at) => panic!("{kind} of an item at {at:?}: {seen}"),
        }
    }
}
