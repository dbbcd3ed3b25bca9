//! The built-in functions on streams, groups and items, what they answer, and what subscribers are told.

use std::collections::BTreeMap;

use crate::json::Value;
use crate::update::{self, DEEPEST};

/// A stream and a group in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupName {
    /// The stream.
    pub stream: String,
    /// The group.
    pub group: String,
}

/// A call of a built-in function.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `stream::set`
    Set {
        /// In which group.
        group: GroupName,
        /// Which item.
        item: String,
        /// Its new value.
        data: Value,
        /// What the caller asks for beside.
        asks: Asks,
    },
    /// `stream::update`
    Update {
        /// In which group.
        group: GroupName,
        /// Which item.
        item: String,
        /// The operations.
        ops: Value,
        /// What the caller asks for beside.
        asks: Asks,
    },
    /// `stream::delete`
    Delete {
        /// In which group.
        group: GroupName,
        /// Which item.
        item: String,
        /// What the caller asks for beside.
        asks: Asks,
    },
    /// `stream::get`
    Get {
        /// In which group.
        group: GroupName,
        /// Which item.
        item: String,
        /// Whether the answer is to hold the revision.
        revision: bool,
    },
    /// `stream::list`
    List {
        /// Which group.
        group: GroupName,
        /// Whether the answer is to hold ids and revisions.
        revision: bool,
    },
    /// `stream::list_groups`
    ListGroups {
        /// Of which stream.
        stream: String,
    },
    /// `stream::list_all`
    ListAll,
    /// `stream::send`
    Send {
        /// To which group.
        group: GroupName,
        /// To which item, if to one.
        item: Option<String>,
        /// The event's type.
        kind: String,
        /// Its payload.
        data: Value,
    },
}

/// What a caller asks for beside a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asks {
    /// Change the item only if this holds.
    pub expect: Option<Expect>,
    /// Tell the revision.
    pub revision: bool,
}

/// What an item must be for a change to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// Its last change has this revision; 0 if there is no such item.
    Revision(u64),
    /// It is there, and its value means the same as this one.
    Value(Value),
}

/// What a call is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// No `result`.
    Nothing,
    /// A `result`.
    Result(Value),
    /// An update's result, whose `errors` have a message beside what stands here, free in its words.
    Updated(Value),
    /// An error with this code.
    Error(&'static str),
    /// The error `STREAM_CONFLICT`, with what the item is instead.
    Conflict {
        /// Of the item's last change, 0 if there is no item.
        revision: u64,
        /// Null if there is no item.
        value: Value,
    },
}

/// Something that subscribers are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// In which group.
    pub group: GroupName,
    /// Of which item, if of one.
    pub item: Option<String>,
    /// The group's last change, this one included.
    pub revision: u64,
    /// What.
    pub kind: Kind,
}

/// What an [`Event`] tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A change: `create`, `update` or `delete`, with its data.
    Change(&'static str, Value),
    /// A change to or from a stored null: a `sync` of the item, and to those who subscribe to the group one of the group.
    Syncs {
        /// The item now.
        item: Value,
        /// The group now.
        group: Value,
    },
    /// Somebody's own event: its type and data.
    Sent(String, Value),
}

/// What a subscriber gets, but for timestamp and epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The group.
    pub group: GroupName,
    /// The item, if it is about one.
    pub item: Option<String>,
    /// The member `event`.
    pub event: Value,
    /// The group's last change.
    pub revision: u64,
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    /// In byte order. One that was emptied stays, with its revision.
    groups: BTreeMap<GroupName, Group>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    /// Of the last change.
    revision: u64,
    /// In creation order.
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    id: String,
    value: Value,
    /// Of its last change.
    revision: u64,
}

impl Store {
    /// Answers a call. The event is what subscribers are told of it.
    pub fn run(&mut self, command: &Command) -> (Answer, Option<Event>) {
        match command {
            Command::Set { group, item, data, asks } => {
                let old = self.find(group, item);
                if conflicts(old, asks) {
                    return (conflict(old), None);
                }
                let old = old.map(|old| old.value.clone());
                let event = self.put(group, item, data.clone());
                (changed(old, data.clone(), &[], asks, event.revision), Some(event))
            }
            Command::Update { group, item, ops, asks } => {
                let old = self.find(group, item);
                let before = old.map(|old| old.value.clone());
                // The form of the input is looked at before the item is.
                let Ok(updated) = update::apply(before.clone(), ops) else {
                    return (Answer::Error("deserialization_error"), None);
                };
                if conflicts(old, asks) {
                    return (conflict(old), None);
                }
                // The operations may have put deep values deep into the item.
                if updated.after.depth() > DEEPEST {
                    return (Answer::Error("STREAM_UPDATE_ERROR"), None);
                }
                let event = self.put(group, item, updated.after.clone());
                let answer = changed(before, updated.after, &updated.errors, asks, event.revision);
                (answer, Some(event))
            }
            Command::Delete { group, item, asks } => {
                let old = self.find(group, item);
                if conflicts(old, asks) {
                    return (conflict(old), None);
                }
                let Some(old) = old.map(|old| old.value.clone()) else {
                    return (deleted(Value::Null, asks, 0), None);
                };
                let event = self.remove(group, item, old.clone());
                (deleted(old, asks, event.revision), Some(event))
            }
            Command::Get { group, item, revision: false } => match self.find(group, item) {
                Some(found) => (Answer::Result(found.value.clone()), None),
                None => (Answer::Nothing, None),
            },
            Command::Get { group, item, revision: true } => {
                let found = self.find(group, item);
                let value = found.map_or(Value::Null, |found| found.value.clone());
                let revision = Value::integer(found.map_or(0, |found| found.revision));
                (Answer::Result(Value::object([("value", value), ("revision", revision)])), None)
            }
            Command::List { group, revision } => {
                let list = self.items(group).iter().map(|item| match revision {
                    false => item.value.clone(),
                    true => Value::object([
                        ("id", Value::string(&item.id)),
                        ("value", item.value.clone()),
                        ("revision", Value::integer(item.revision)),
                    ]),
                });
                (Answer::Result(Value::Array(list.collect())), None)
            }
            Command::ListGroups { stream } => (Answer::Result(self.groups_of(stream)), None),
            Command::ListAll => {
                let mut streams: Vec<&String> = self.filled().map(|name| &name.stream).collect();
                streams.dedup();
                let count = Value::integer(streams.len() as u64);
                let streams = streams.into_iter().map(|stream| {
                    Value::object([("id", Value::string(stream)), ("groups", self.groups_of(stream))])
                });
                let streams = Value::Array(streams.collect());
                (Answer::Result(Value::object([("stream", streams), ("count", count)])), None)
            }
            Command::Send { group, item, kind, data } => {
                let kind = Kind::Sent(kind.clone(), data.clone());
                let event =
                    Event { group: group.clone(), item: item.clone(), revision: self.revision(group), kind };
                (Answer::Result(Value::Null), Some(event))
            }
        }
    }

    /// The last change of a group; 0 before its first.
    pub fn revision(&self, group: &GroupName) -> u64 {
        self.groups.get(group).map_or(0, |group| group.revision)
    }

    /// An item's value, and the revision of its last change.
    pub fn item(&self, group: &GroupName, id: &str) -> Option<(&Value, u64)> {
        self.find(group, id).map(|item| (&item.value, item.revision))
    }

    /// What a join is answered with: the state of a group, or of an item.
    pub fn sync(&self, group: &GroupName, item: Option<&str>) -> Frame {
        let state = match item {
            None => self.without_nulls(group),
            Some(item) => self.find(group, item).map_or(Value::Null, |found| found.value.clone()),
        };
        Frame {
            group: group.clone(),
            item: item.map(str::to_owned),
            event: data_event("sync", state),
            revision: self.revision(group),
        }
    }

    fn put(&mut self, name: &GroupName, id: &str, value: Value) -> Event {
        let group = self.groups.entry(name.clone()).or_default();
        group.revision += 1;
        let revision = group.revision;
        let old = match group.items.iter_mut().find(|item| item.id == id) {
            Some(item) => {
                item.revision = revision;
                Some(std::mem::replace(&mut item.value, value.clone()))
            }
            None => {
                group.items.push(Item { id: id.into(), value: value.clone(), revision });
                None
            }
        };
        let kind = match old {
            _ if value == Value::Null => self.syncs(name, value),
            Some(Value::Null) => self.syncs(name, value),
            Some(_) => Kind::Change("update", value),
            None => Kind::Change("create", value),
        };
        Event { group: name.clone(), item: Some(id.into()), revision, kind }
    }

    fn remove(&mut self, name: &GroupName, id: &str, old: Value) -> Event {
        let group = self.groups.entry(name.clone()).or_default();
        group.revision += 1;
        group.items.retain(|item| item.id != id);
        let revision = group.revision;
        let kind = match old {
            Value::Null => self.syncs(name, Value::Null),
            old => Kind::Change("delete", old),
        };
        Event { group: name.clone(), item: Some(id.into()), revision, kind }
    }

    fn syncs(&self, group: &GroupName, item: Value) -> Kind {
        Kind::Syncs { item, group: self.without_nulls(group) }
    }

    /// What those who subscribe to a group see of it: clients die of a null in the list.
    fn without_nulls(&self, group: &GroupName) -> Value {
        let values = self.items(group).iter().map(|item| item.value.clone());
        Value::Array(values.filter(|value| *value != Value::Null).collect())
    }

    fn items(&self, group: &GroupName) -> &[Item] {
        self.groups.get(group).map_or(&[], |group| &group.items)
    }

    fn find(&self, group: &GroupName, id: &str) -> Option<&Item> {
        self.items(group).iter().find(|item| item.id == id)
    }

    fn filled(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.iter().filter(|(_, group)| !group.items.is_empty()).map(|(name, _)| name)
    }

    fn groups_of(&self, stream: &str) -> Value {
        let groups = self.filled().filter(|name| name.stream == stream);
        Value::Array(groups.map(|name| Value::string(&name.group)).collect())
    }
}

impl Event {
    /// What a subscriber gets of it, who subscribes to the whole group or only to the item.
    pub fn frames(&self, whole_group: bool) -> Vec<Frame> {
        let frame = |item: &Option<String>, event| Frame {
            group: self.group.clone(),
            item: item.clone(),
            event,
            revision: self.revision,
        };
        match &self.kind {
            Kind::Change(name, data) => vec![frame(&self.item, data_event(name, data.clone()))],
            Kind::Sent(kind, data) => {
                let own = Value::object([("type", Value::string(kind)), ("data", data.clone())]);
                let event = Value::object([("type", Value::string("event")), ("event", own)]);
                vec![frame(&self.item, event)]
            }
            Kind::Syncs { item, group } => {
                let mut frames = vec![frame(&self.item, data_event("sync", item.clone()))];
                if whole_group {
                    frames.push(frame(&None, data_event("sync", group.clone())));
                }
                frames
            }
        }
    }
}

fn conflict(found: Option<&Item>) -> Answer {
    let value = found.map_or(Value::Null, |item| item.value.clone());
    Answer::Conflict { revision: found.map_or(0, |item| item.revision), value }
}

fn conflicts(found: Option<&Item>, asks: &Asks) -> bool {
    match &asks.expect {
        None => false,
        Some(Expect::Revision(revision)) => found.map_or(0, |item| item.revision) != *revision,
        Some(Expect::Value(value)) => !found.is_some_and(|item| item.value.means(value)),
    }
}

/// The answer to `set` and `update`.
fn changed(old: Option<Value>, new: Value, errors: &[(usize, String)], asks: &Asks, revision: u64) -> Answer {
    let errors: Vec<Value> = errors
        .iter()
        .map(|(index, code)| {
            Value::object([("op_index", Value::integer(*index as u64)), ("code", Value::string(code))])
        })
        .collect();
    let mut members = vec![("old_value", old.unwrap_or(Value::Null)), ("new_value", new)];
    if !errors.is_empty() {
        members.push(("errors", Value::Array(errors)));
    }
    Answer::Updated(with_revision(members, asks, revision))
}

fn deleted(old: Value, asks: &Asks, revision: u64) -> Answer {
    Answer::Result(with_revision(vec![("old_value", old)], asks, revision))
}

fn with_revision(mut members: Vec<(&str, Value)>, asks: &Asks, revision: u64) -> Value {
    // Who expects something is told the revision, asked or not.
    if asks.revision || asks.expect.is_some() {
        members.push(("revision", Value::integer(revision)));
    }
    let member = |(name, value): (&str, Value)| crate::json::Member { key: name.into(), value };
    Value::Object(members.into_iter().map(member).collect())
}

fn data_event(kind: &str, data: Value) -> Value {
    Value::object([("type", Value::string(kind)), ("data", data)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(group: &str) -> GroupName {
        GroupName { stream: "s".into(), group: group.into() }
    }

    fn set(name: &str, item: &str, value: &str, asks: Asks) -> Command {
        Command::Set { group: group(name), item: item.into(), data: Value::parse(value).unwrap(), asks }
    }

    fn told(store: &mut Store, command: &Command) -> String {
        let (answer, event) = store.run(command);
        let answer = match answer {
            Answer::Nothing => "nothing".to_owned(),
            Answer::Result(value) | Answer::Updated(value) => value.to_string(),
            other => format!("{other:?}"),
        };
        let frames = event.into_iter().flat_map(|event| event.frames(true));
        frames.fold(answer, |told, frame| format!("{told} {} #{}", frame.event, frame.revision))
    }

    #[test]
    fn changes_are_answered_and_told_and_an_emptied_group_keeps_its_revision() {
        let mut store = Store::default();
        let asks = Asks::default();
        let with_revision = Asks { revision: true, ..Asks::default() };
        let delete = |asks| Command::Delete { group: group("g"), item: "a".into(), asks };
        for (command, expected) in [
            (
                set("g", "a", "1", asks.clone()),
                r#"{"old_value":null,"new_value":1} {"type":"create","data":1} #1"#,
            ),
            (
                set("g", "a", "2", with_revision.clone()),
                r#"{"old_value":1,"new_value":2,"revision":2} {"type":"update","data":2} #2"#,
            ),
            (Command::ListAll, r#"{"stream":[{"id":"s","groups":["g"]}],"count":1}"#),
            (delete(with_revision.clone()), r#"{"old_value":2,"revision":3} {"type":"delete","data":2} #3"#),
            (delete(with_revision), r#"{"old_value":null,"revision":0}"#),
            (Command::ListAll, r#"{"stream":[],"count":0}"#),
            (
                set("g", "b", "null", asks.clone()),
                r#"{"old_value":null,"new_value":null} {"type":"sync","data":null} #4 {"type":"sync","data":[]} #4"#,
            ),
            (
                set("g", "b", "1", asks),
                r#"{"old_value":null,"new_value":1} {"type":"sync","data":1} #5 {"type":"sync","data":[1]} #5"#,
            ),
            (Command::List { group: group("g"), revision: true }, r#"[{"id":"b","value":1,"revision":5}]"#),
            (
                Command::Get { group: group("g"), item: "a".into(), revision: true },
                r#"{"value":null,"revision":0}"#,
            ),
            (Command::Get { group: group("g"), item: "a".into(), revision: false }, "nothing"),
        ] {
            assert_eq!(told(&mut store, &command), expected);
        }
    }

    #[test]
    fn what_is_expected_and_not_there_is_a_conflict_that_changes_nothing() {
        let mut store = Store::default();
        let expecting = |expect| Asks { expect: Some(expect), revision: false };
        let value = |text| Expect::Value(Value::parse(text).unwrap());
        for (expect, passes) in [
            (value("null"), false),
            (Expect::Revision(1), false),
            (Expect::Revision(0), true),
            (Expect::Revision(1), true),
            (value("1"), false),
            (value("7.0"), true),
        ] {
            let before = store.clone();
            let (answer, event) = store.run(&set("g", "a", "7", expecting(expect.clone())));
            assert_eq!(
                (!matches!(answer, Answer::Conflict { .. }), event.is_some()),
                (passes, passes),
                "{expect:?}"
            );
            assert!(passes || store == before);
        }
    }
}
