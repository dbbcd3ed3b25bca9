//! An object taken apart into its members, each of them still text until an operation goes into it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::node::{Node, Text};
use crate::json::Json;

/// Objects with fewer members are searched from end to end.
const INDEX_MEMBERS: usize = 16;
/// An object is searched from end to end that many times before an index of its keys pays.
const INDEX_LOOKUPS: usize = 8;

/// The members of an object as the text has them, duplicates included: the last one of a key is the one that
/// counts, and the others keep their text until that key is written to.
#[derive(Clone, Debug)]
pub(super) struct Object {
    source: Text,
    /// In the order of the text. Members that are gone leave a gap, so that no removal moves the rest.
    members: Vec<Member>,
    /// Whether a member was put in, replaced or removed. (One that changed within knows so itself.)
    changed: bool,
    lookups: usize,
    /// The positions of each key, once there were enough lookups.
    index: Option<BTreeMap<Box<[u8]>, Positions>>,
}

#[derive(Clone, Debug)]
struct Member {
    key: Key,
    value: Slot,
}

/// A key's JSON text, with its quotes.
#[derive(Clone, Debug)]
enum Key {
    Kept(Range<usize>),
    New(String),
}

#[derive(Clone, Debug)]
enum Slot {
    /// Untouched: a range of the object's source.
    Kept(Range<usize>),
    Held(Node),
    Gone,
}

#[derive(Clone, Debug)]
struct Positions {
    last: usize,
    earlier: Vec<usize>,
}

impl Object {
    /// A new object without members.
    pub(super) fn new() -> Object {
        let source = Text::whole(&Json::trusted("{}"));
        Object { source, members: Vec::new(), changed: true, lookups: 0, index: None }
    }

    /// Takes a text apart. `None` if it is no object.
    pub(super) fn open(source: Text) -> Option<Object> {
        let text = source.as_str();
        let members = split(text)?
            .into_iter()
            .map(|(key, value)| Member {
                key: Key::Kept(range_in(text, key.get())),
                value: Slot::Kept(range_in(text, value.get())),
            })
            .collect();
        Some(Object { source, members, changed: false, lookups: 0, index: None })
    }

    /// The value of a key.
    pub(super) fn get(&mut self, key: &str) -> Option<&mut Node> {
        let position = self.find(key.as_bytes())?;
        self.node(position)
    }

    /// The value of a key, a new object if there is none.
    pub(super) fn get_or_new(&mut self, key: &str) -> Option<&mut Node> {
        let position = match self.find(key.as_bytes()) {
            Some(position) => position,
            None => self.push(key.as_bytes(), quoted(key), Node::Object(Object::new())),
        };
        self.node(position)
    }

    /// Gives a key a value: in its place if it is there, else at the end.
    pub(super) fn insert(&mut self, key: &str, value: Node) {
        self.insert_raw(key.as_bytes(), || quoted(key), value);
    }

    /// Puts all members of another object into this one. What is no object has none.
    pub(super) fn merge(&mut self, value: &Json) {
        for (key, member) in split(value.as_str()).unwrap_or_default() {
            let range = range_in(value.as_str(), member.get());
            let node = Node::Text(Text::part(value, range));
            self.insert_raw(&decode(key.get()), || key.get().into(), node);
        }
    }

    /// Removes a key and all duplicates of it.
    pub(super) fn remove(&mut self, key: &str) {
        self.drop_shadowed(key);
        if let Some(position) = self.find(key.as_bytes()) {
            self.members[position].value = Slot::Gone;
            self.changed = true;
            if let Some(index) = &mut self.index {
                index.remove(key.as_bytes());
            }
        }
    }

    /// Removes the duplicates of a key that do not count.
    pub(super) fn drop_shadowed(&mut self, key: &str) {
        self.drop_earlier(key.as_bytes());
    }

    /// The text it was opened from.
    pub(super) fn source(&self) -> &Text {
        &self.source
    }

    /// Appends the JSON text. Says whether it is the very text that was opened.
    pub(super) fn write(&self, out: &mut String) -> bool {
        let start = out.len();
        let mut as_it_came = !self.changed;
        out.push('{');
        for member in &self.members {
            if matches!(member.value, Slot::Gone) {
                continue;
            }
            if out.len() > start + 1 {
                out.push(',');
            }
            out.push_str(self.key_text(member));
            out.push(':');
            match &member.value {
                Slot::Kept(range) => out.push_str(&self.source.as_str()[range.clone()]),
                Slot::Held(node) => as_it_came &= node.write(out),
                Slot::Gone => {}
            }
        }
        out.push('}');
        if as_it_came {
            // Keeps the whitespace between the members too.
            out.truncate(start);
            out.push_str(self.source.as_str());
        }
        as_it_came
    }

    fn insert_raw(&mut self, name: &[u8], key: impl FnOnce() -> String, value: Node) {
        self.drop_earlier(name);
        match self.find(name) {
            Some(position) => self.members[position].value = Slot::Held(value),
            None => {
                self.push(name, key(), value);
            }
        }
        self.changed = true;
    }

    fn push(&mut self, name: &[u8], key: String, value: Node) -> usize {
        let position = self.members.len();
        self.members.push(Member { key: Key::New(key), value: Slot::Held(value) });
        self.changed = true;
        if let Some(index) = &mut self.index {
            index.insert(name.into(), Positions { last: position, earlier: Vec::new() });
        }
        position
    }

    fn drop_earlier(&mut self, name: &[u8]) {
        let earlier = match self.indexed() {
            Some(index) => index.get_mut(name).map(|at| std::mem::take(&mut at.earlier)).unwrap_or_default(),
            None => {
                let mut found: Vec<usize> = self.search(name).collect();
                found.pop();
                found
            }
        };
        for position in earlier {
            self.members[position].value = Slot::Gone;
            self.changed = true;
        }
    }

    /// The position of the member that counts for a key.
    fn find(&mut self, name: &[u8]) -> Option<usize> {
        match self.indexed() {
            Some(index) => index.get(name).map(|at| at.last),
            None => self.search(name).next_back(),
        }
    }

    /// The index, built when the object is large enough and was searched often enough.
    fn indexed(&mut self) -> Option<&mut BTreeMap<Box<[u8]>, Positions>> {
        if self.index.is_none() {
            self.lookups += 1;
            if self.lookups > INDEX_LOOKUPS && self.members.len() > INDEX_MEMBERS {
                self.index = Some(self.build_index());
            }
        }
        self.index.as_mut()
    }

    fn build_index(&self) -> BTreeMap<Box<[u8]>, Positions> {
        let mut index: BTreeMap<Box<[u8]>, Positions> = BTreeMap::new();
        for (position, member) in self.present() {
            let name = decode(self.key_text(member));
            match index.get_mut(&*name) {
                Some(at) => at.earlier.push(std::mem::replace(&mut at.last, position)),
                None => {
                    index.insert(name.into(), Positions { last: position, earlier: Vec::new() });
                }
            }
        }
        index
    }

    /// All positions of a key.
    fn search(&self, name: &[u8]) -> impl DoubleEndedIterator<Item = usize> {
        self.present().filter(move |(_, member)| is_named(self.key_text(member), name)).map(|(at, _)| at)
    }

    fn present(&self) -> impl DoubleEndedIterator<Item = (usize, &Member)> {
        self.members.iter().enumerate().filter(|(_, member)| !matches!(member.value, Slot::Gone))
    }

    fn key_text<'a>(&'a self, member: &'a Member) -> &'a str {
        match &member.key {
            Key::Kept(range) => &self.source.as_str()[range.clone()],
            Key::New(text) => text,
        }
    }

    fn node(&mut self, position: usize) -> Option<&mut Node> {
        let slot = &mut self.members[position].value;
        if let Slot::Kept(range) = slot {
            *slot = Slot::Held(Node::Text(self.source.within(range.clone())));
        }
        match slot {
            Slot::Held(node) => Some(node),
            Slot::Kept(_) | Slot::Gone => None,
        }
    }
}

/// The members of an object's text, as they are written. `None` if it is no object.
pub(super) fn split(text: &str) -> Option<Vec<(&RawValue, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(&'de RawValue, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Members).ok()
}

/// What a key's text names. Escapes are resolved; a lone surrogate becomes the three bytes that its number
/// would have, which are in no UTF-8 text: no path names such a key.
pub(super) fn decode(key: &str) -> Cow<'_, [u8]> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.into())
        }
    }
    match unescaped(key) {
        Some(name) => Cow::Borrowed(name),
        None => match serde_json::Deserializer::from_str(key).deserialize_bytes(Bytes) {
            Ok(name) => Cow::Owned(name),
            Err(_) => Cow::Borrowed(key.as_bytes()),
        },
    }
}

fn is_named(key: &str, name: &[u8]) -> bool {
    // The length alone rules most keys out, and every key that would take long to read: a character is at most
    // six times as long when it is escaped.
    if key.len() > 2 + 6 * name.len() {
        return false;
    }
    match unescaped(key) {
        Some(unescaped) => unescaped == name,
        // An escape is never shorter than what it stands for.
        None => key.len() >= name.len() && *decode(key) == *name,
    }
}

/// What is between the quotes, if there is no escape in it.
fn unescaped(key: &str) -> Option<&[u8]> {
    let inner = key.as_bytes().get(1..key.len().saturating_sub(1))?;
    (!inner.contains(&b'\\')).then_some(inner)
}

fn quoted(key: &str) -> String {
    serde_json::Value::from(key).to_string()
}

/// Where `part`, a slice of `text`, is in it.
fn range_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}
