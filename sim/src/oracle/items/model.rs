//! An item, one operation at a time, as the protocol describes it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Number, Value};

use crate::oracle::linear::Model;

/// A value, by its number among those that the item may have had.
pub(super) type Known = usize;

/// What is done to items, and what is known of their values.
#[derive(Debug, Default)]
pub(super) struct Items {
    numbers: BTreeMap<String, Known>,
    values: Vec<Value>,
    /// Something was done without an answer of which the model does not know what it does.
    is_lost: bool,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// `None` if there is no such item.
    pub(super) value: Option<Known>,
    /// The revision of the last change, also of a removal; at least this, if it is not `told`.
    pub(super) revision: u64,
    pub(super) told: bool,
}

/// An operation on one item.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Op {
    pub(super) kind: Kind,
    pub(super) expect: Option<Expect>,
    pub(super) answer: Answer,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Set(Known),
    Update(Vec<Change>),
    Delete,
    Read,
}

/// One operation of an update, on a member of the item, or on all of it if the path is empty.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Set(String, Value),
    Add(String, i64),
    /// One whose effect worlds don't rely on.
    Other,
}

/// What must hold for a change to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expect {
    Revision(u64),
    Value(Known),
}

/// What the caller was told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Nothing,
    /// Nothing but that the disk has failed: if it has happened, a restart shows it.
    Unknown,
    Changed {
        old: Seen,
        new: Option<Known>,
        revision: Option<u64>,
    },
    Found {
        value: Seen,
        revision: Option<u64>,
    },
    /// It is not there, or it is one of these: a list does not say which item a value without an id is of.
    Among(Vec<Known>),
    Conflict {
        value: Seen,
        revision: u64,
    },
}

/// A value that somebody was shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Seen {
    /// There is no such item.
    Missing,
    Value(Known),
    /// There is no such item, or its value is null.
    Null,
}

/// Whether an expectation holds.
enum Holds {
    /// It does, and the item is this.
    Yes(Item),
    No,
}

impl Items {
    /// The number of a value.
    pub(super) fn number(&mut self, value: &Value) -> Known {
        let next = self.values.len();
        let number = *self.numbers.entry(value.to_string()).or_insert(next);
        if number == next {
            self.values.push(value.clone());
        }
        number
    }

    /// What is called null where there may be no such item.
    pub(super) fn seen(&mut self, value: &Value) -> Seen {
        if value.is_null() { Seen::Null } else { Seen::Value(self.number(value)) }
    }

    /// A value whose revision tells whether there is such an item.
    pub(super) fn seen_at(&mut self, value: &Value, revision: u64) -> Seen {
        if revision == 0 { Seen::Missing } else { Seen::Value(self.number(value)) }
    }

    pub(super) fn value(&self, number: Known) -> &Value {
        &self.values[number]
    }

    /// An operation in words.
    pub(super) fn words(&self, op: &Op) -> String {
        let value = |number: &Known| self.values[*number].to_string();
        let asked = match &op.kind {
            Kind::Set(number) => format!("set {}", value(number)),
            Kind::Update(changes) => {
                let changes: Vec<_> = changes.iter().map(Change::to_string).collect();
                format!("update {}", changes.join(", "))
            }
            Kind::Delete => "delete".to_owned(),
            Kind::Read => "read".to_owned(),
        };
        let expected = match &op.expect {
            Some(Expect::Revision(revision)) => format!(", expecting revision {revision}"),
            Some(Expect::Value(number)) => format!(", expecting {}", value(number)),
            None => String::new(),
        };
        let seen = |seen: &Seen| match seen {
            Seen::Missing => "nothing".to_owned(),
            Seen::Value(number) => value(number),
            Seen::Null => "null".to_owned(),
        };
        let at =
            |revision: &Option<u64>| revision.map_or(String::new(), |revision| format!(" at {revision}"));
        let told = match &op.answer {
            Answer::Nothing => "no answer".to_owned(),
            Answer::Unknown => "outcome unknown".to_owned(),
            Answer::Changed { old, new, revision } => {
                let new = new.as_ref().map_or("nothing".to_owned(), value);
                format!("{} became {new}{}", seen(old), at(revision))
            }
            Answer::Found { value, revision } => format!("found {}{}", seen(value), at(revision)),
            Answer::Among(numbers) => {
                let values: Vec<_> = numbers.iter().map(value).collect();
                format!("found nothing, or one of {}", values.join(", "))
            }
            Answer::Conflict { value, revision } => {
                format!("refused: it is {}{}", seen(value), at(&Some(*revision)))
            }
        };
        format!("{asked}{expected}: {told}")
    }

    fn is_seen(&self, item: &Item, seen: Seen) -> bool {
        match (seen, item.value) {
            (Seen::Missing, value) => value.is_none(),
            (Seen::Value(seen), value) => value == Some(seen),
            (Seen::Null, value) => value.is_none_or(|value| self.values[value].is_null()),
        }
    }

    /// What the operation makes of the item's value, `None` if the model can't tell.
    fn after(&mut self, item: &Item, kind: &Kind) -> Option<Option<Known>> {
        match kind {
            Kind::Set(value) => Some(Some(*value)),
            Kind::Update(changes) => {
                let before = item.value.map(|value| self.values[value].clone());
                let after = changes.iter().try_fold(before, |value, change| change.apply(value).map(Some))?;
                let after = after.unwrap_or_else(|| Value::Object(Map::new()));
                Some(Some(self.number(&after)))
            }
            Kind::Delete => Some(None),
            Kind::Read => Some(item.value),
        }
    }
}

impl Item {
    pub(super) const MISSING: Item = Item { value: None, revision: 0, told: true };

    /// Somebody was told the revision of the item, 0 if there is none.
    fn at(self, revision: u64) -> Option<Item> {
        match self.value {
            None => (revision == 0).then_some(self),
            Some(_) if self.told => (revision == self.revision).then_some(self),
            Some(_) => (revision >= self.revision).then_some(Item { revision, told: true, ..self }),
        }
    }

    /// The item has another value; somebody may have been told the revision of the change.
    fn changed(self, value: Option<Known>, revision: Option<u64>) -> Option<Item> {
        match revision {
            Some(revision) => (revision > self.revision).then_some(Item { value, revision, told: true }),
            None => Some(Item { value, revision: self.revision + 1, told: false }),
        }
    }

    fn meets(self, expect: Option<&Expect>) -> Holds {
        let met = match expect {
            None => Some(self),
            Some(Expect::Revision(revision)) => self.at(*revision),
            Some(Expect::Value(value)) => (self.value == Some(*value)).then_some(self),
        };
        met.map_or(Holds::No, Holds::Yes)
    }
}

impl Model for Items {
    type State = Item;
    type Op = Op;
    type Class = Option<Known>;

    fn step(&mut self, item: &Item, op: &Op) -> Option<Item> {
        match op.answer {
            Answer::Found { value, revision } => {
                let item = revision.map_or(Some(*item), |revision| item.at(revision))?;
                self.is_seen(&item, value).then_some(item)
            }
            Answer::Among(ref values) => {
                item.value.is_none_or(|value| values.contains(&value)).then_some(*item)
            }
            Answer::Conflict { value, revision } => {
                let item = item.at(revision)?;
                let refused = matches!(item.meets(op.expect.as_ref()), Holds::No);
                (refused && self.is_seen(&item, value)).then_some(item)
            }
            Answer::Changed { old, new, revision } => {
                let Holds::Yes(item) = item.meets(op.expect.as_ref()) else { return None };
                if !self.is_seen(&item, old) {
                    return None;
                }
                if op.kind == Kind::Delete && item.value.is_none() {
                    return revision.is_none_or(|revision| revision == 0).then_some(item);
                }
                let after = self.after(&item, &op.kind).unwrap_or(new);
                (after == new).then(|| item.changed(after, revision)).flatten()
            }
            Answer::Nothing | Answer::Unknown => {
                let Holds::Yes(item) = item.meets(op.expect.as_ref()) else { return None };
                let is_idle = op.kind == Kind::Read || (op.kind == Kind::Delete && item.value.is_none());
                if is_idle {
                    return None;
                }
                let Some(after) = self.after(&item, &op.kind) else {
                    self.is_lost = true;
                    return None;
                };
                item.changed(after, None)
            }
        }
    }

    fn class(&self, item: &Item) -> Option<Known> {
        item.value
    }

    fn covers(&self, item: &Item, other: &Item) -> bool {
        match (item.value, item.told) {
            // What is told of an item that is not there is no revision.
            (None, _) | (Some(_), false) => item.revision <= other.revision,
            (Some(_), true) => item == other,
        }
    }

    fn alike(&self, op: &Op, other: &Op) -> bool {
        // What failed on the disk ends when the disk works again, each at its own time.
        op.answer == Answer::Nothing && op == other
    }

    fn tells_all(&self, op: &Op) -> bool {
        match op.answer {
            Answer::Changed { old: seen, .. }
            | Answer::Found { value: seen, .. }
            | Answer::Conflict { value: seen, .. } => seen != Seen::Null,
            Answer::Nothing | Answer::Unknown | Answer::Among(_) => false,
        }
    }

    fn is_sure(&self) -> bool {
        !self.is_lost
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Set(path, value) => write!(f, "set {path} {value}"),
            Change::Add(path, by) => write!(f, "add {by} to {path}"),
            Change::Other => f.write_str("another operation"),
        }
    }
}

impl Change {
    /// Reads the operations of an update.
    pub(super) fn read(ops: &Value) -> Vec<Change> {
        let ops = ops.as_array().map_or(&[][..], Vec::as_slice);
        ops.iter().map(Change::read_one).collect()
    }

    fn read_one(op: &Value) -> Change {
        let by = op["by"].as_i64();
        match (op["type"].as_str(), op["path"].as_str(), by) {
            (Some("set"), Some(path), _) => Change::Set(path.to_owned(), op["value"].clone()),
            (Some("increment"), Some(path), Some(by)) => Change::Add(path.to_owned(), by),
            (Some("decrement"), Some(path), Some(by)) if by != i64::MIN => Change::Add(path.to_owned(), -by),
            _ => Change::Other,
        }
    }

    /// What it makes of a value, and of nothing; `None` if the model can't tell.
    fn apply(&self, value: Option<Value>) -> Option<Value> {
        match (self, value) {
            (Change::Other, _) => None,
            (Change::Set(path, value), _) if path.is_empty() => Some(value.clone()),
            (Change::Add(path, by), value) if path.is_empty() => added(value.as_ref(), *by),
            (Change::Set(path, _) | Change::Add(path, _), _) if !is_plain(path) => None,
            (Change::Set(path, value), before) => {
                let mut members = match before {
                    None => Map::new(),
                    Some(Value::Object(members)) => members,
                    // It is skipped.
                    Some(other) => return Some(other),
                };
                members.insert(path.clone(), value.clone());
                Some(Value::Object(members))
            }
            (Change::Add(path, by), before) => {
                let mut members = match before {
                    None => Map::new(),
                    Some(Value::Object(members)) => members,
                    Some(other) => return Some(other),
                };
                members.insert(path.clone(), added(members.get(path), *by)?);
                Some(Value::Object(members))
            }
        }
    }
}

/// The sum, of whole numbers only; what is no number stays as it is.
fn added(value: Option<&Value>, by: i64) -> Option<Value> {
    match value {
        None => Some(by.into()),
        Some(Value::Number(number)) => {
            let sum = i128::from(number.as_i64()?) + i128::from(by);
            i64::try_from(sum).ok().map(|sum| Value::Number(Number::from(sum)))
        }
        Some(other) => Some(other.clone()),
    }
}

/// Whether a member may be called so.
fn is_plain(path: &str) -> bool {
    path.len() <= 256 && !["__proto__", "constructor", "prototype"].contains(&path)
}
