//! An object taken apart into its members, each of them still text until an operation goes into it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::index::Index;
use super::node::{Node, Text};
use crate::json::{Json, decode_string};

/// An object is searched from end to end that many times before it gets an index of its keys, however few they are:
/// they may be long.
const INDEX_LOOKUPS: usize = 8;

/// The members of an object as the text has them, duplicates included: the last one of a key is the one that
/// counts, and the others keep their text until that key is written to.
#[derive(Debug)]
pub(super) struct Object {
    source: Text,
    /// In the order of the text. Members that are gone leave a gap, so that no removal moves the rest.
    members: Vec<Member>,
    /// Whether a member was put in, replaced or removed. (One that changed within knows so itself.)
    changed: bool,
    lookups: usize,
    /// The positions of the keys, once there were enough lookups.
    index: Option<Index>,
}

#[derive(Debug)]
struct Member {
    key: Key,
    value: Slot,
}

/// A key's JSON text, with its quotes.
#[derive(Debug)]
enum Key {
    /// A range of the object's source.
    Kept(Range<usize>),
    New(Box<str>),
}

#[derive(Debug)]
enum Slot {
    /// Untouched: a range of the object's source.
    Kept(Range<usize>),
    Held(Box<Node>),
    Gone,
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
        let members = split_into(text, |key, value| Member {
            key: Key::Kept(range_in(text, key.get())),
            value: Slot::Kept(range_in(text, value.get())),
        })?;
        Some(Object { source, members, changed: false, lookups: 0, index: None })
    }

    /// The value of a key.
    pub(super) fn get(&mut self, key: &str) -> Option<&mut Node> {
        let position = self.find(key.as_bytes())?;
        self.node(position)
    }

    /// The value of a key. Removes the duplicates of the key that do not count.
    pub(super) fn get_sole(&mut self, key: &str) -> Option<&mut Node> {
        let position = self.find_sole(key.as_bytes())?;
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
            self.insert_raw(&name_of(key.get()), || key.get().into(), node);
        }
    }

    /// Removes a key and all duplicates of it. Says whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(position) = self.find_sole(key.as_bytes()) else { return false };
        self.members[position].value = Slot::Gone;
        self.changed = true;
        if let Some(index) = &mut self.index {
            index.remove(key.as_bytes());
        }
        true
    }

    /// Takes note of what changed within. Says whether anything did.
    pub(super) fn note_changes(&mut self) -> bool {
        for member in &mut self.members {
            if let Slot::Held(node) = &mut member.value {
                self.changed |= node.note_changes();
            }
        }
        self.changed
    }

    /// Appends the JSON text, the very text that was opened if [`note_changes`](Self::note_changes) found none.
    /// From then on the object is a range of that text; [`adopt`](Self::adopt) has to give it the text.
    pub(super) fn write(&mut self, out: &mut String) {
        let start = out.len();
        if !self.changed {
            out.push_str(self.source.as_str());
            return self.move_to(start);
        }
        out.push('{');
        let source = self.source.as_str();
        // A part of the source that is copied in one piece: members with no more than a comma between them.
        let mut run = 0..0;
        let mut gaps = false;
        for Member { key, value } in &mut self.members {
            match (&mut *key, &mut *value) {
                (_, Slot::Gone) => gaps = true,
                (Key::Kept(key), Slot::Kept(value)) if value.start == key.end + 1 => {
                    if run.is_empty() || key.start != run.end + 1 {
                        out.push_str(&source[run]);
                        push_comma(out, start);
                        run = key.start..key.start;
                    }
                    run.end = value.end;
                    let to = out.len() - start;
                    for range in [key, value] {
                        *range = range.start - run.start + to..range.end - run.start + to;
                    }
                }
                (_, slot) => {
                    out.push_str(&source[std::mem::take(&mut run)]);
                    push_comma(out, start);
                    let at = out.len() - start;
                    out.push_str(key.text(source));
                    *key = Key::Kept(at..out.len() - start);
                    out.push(':');
                    let at = out.len() - start;
                    match slot {
                        Slot::Kept(range) => out.push_str(&source[range.clone()]),
                        Slot::Held(node) => node.write(out),
                        Slot::Gone => {}
                    }
                    if !slot.is_object() {
                        *slot = Slot::Kept(at..out.len() - start);
                    }
                }
            }
        }
        out.push_str(&source[run]);
        out.push('}');
        if gaps {
            self.close_gaps();
        }
        self.index.take_if(|index| index.is_outgrown());
        self.changed = false;
        self.source.move_to(start..out.len());
    }

    /// The text in which the object was written is `text`. Returns about how many bytes of memory it takes beside
    /// that.
    pub(super) fn adopt(&mut self, text: &Json) -> usize {
        self.source.adopt(text);
        let within: usize = self.objects_mut().map(|object| object.adopt(text)).sum();
        let index = self.index.as_ref().map_or(0, Index::bytes);
        size_of::<Object>() + self.members.capacity() * size_of::<Member>() + index + within
    }

    /// How long the text is that it was opened from, in bytes.
    pub(super) fn source_len(&self) -> usize {
        self.source.range().len()
    }

    /// The text of an object in which nothing changed.
    pub(super) fn settled(&mut self) -> Json {
        let text = self.source.to_json();
        self.move_to(0);
        text
    }

    /// The object's text, unchanged, is now found at `start` of another text.
    fn move_to(&mut self, start: usize) {
        let was = self.source.range();
        for Member { value, .. } in &mut self.members {
            let Slot::Held(node) = value else { continue };
            match &mut **node {
                Node::Object(object) => object.move_to(object.source.range().start - was.start + start),
                Node::Text(text) | Node::OutOfRange(text) => {
                    let range = text.range();
                    *value = Slot::Kept(range.start - was.start..range.end - was.start);
                }
                Node::OpenArray(_) | Node::OpenString(_) | Node::Number(_) => {}
            }
        }
        self.source.move_to(start..start + was.len());
    }

    fn objects_mut(&mut self) -> impl Iterator<Item = &mut Object> {
        self.members.iter_mut().filter_map(|member| member.value.object_mut())
    }

    fn insert_raw(&mut self, name: &[u8], key: impl FnOnce() -> Box<str>, value: Node) {
        match self.find_sole(name) {
            Some(position) => self.members[position].value = Slot::Held(Box::new(value)),
            None => {
                self.push(name, key(), value);
            }
        }
        self.changed = true;
    }

    fn push(&mut self, name: &[u8], key: Box<str>, value: Node) -> usize {
        let position = self.members.len();
        self.members.push(Member { key: Key::New(key), value: Slot::Held(Box::new(value)) });
        self.changed = true;
        if let Some(index) = &mut self.index {
            index.add(name, position);
        }
        position
    }

    /// The position of the member that counts for a key.
    fn find(&mut self, name: &[u8]) -> Option<usize> {
        self.ensure_index();
        match &self.index {
            Some(index) => self.lookup(index, name).next(),
            None => self.search(name).next(),
        }
    }

    /// The position of the member that counts for a key. Removes the others.
    fn find_sole(&mut self, name: &[u8]) -> Option<usize> {
        self.ensure_index();
        let positions: Vec<usize> = match &self.index {
            Some(index) => self.lookup(index, name).collect(),
            None => self.search(name).collect(),
        };
        let (last, earlier) = positions.split_first()?;
        for position in earlier {
            self.members[*position].value = Slot::Gone;
            self.changed = true;
        }
        Some(*last)
    }

    /// Makes an index if the object was searched often enough.
    fn ensure_index(&mut self) {
        self.lookups = self.lookups.saturating_add(1);
        if self.index.is_none() && self.lookups > INDEX_LOOKUPS {
            let source = self.source.as_str();
            let names = self.present().map(|(at, member)| (name_of(member.key.text(source)), at)).collect();
            self.index = Some(Index::new(names));
        }
    }

    /// All positions of a key, the last one first, by the index.
    fn lookup<'a>(&'a self, index: &'a Index, name: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let source = self.source.as_str();
        index.positions(name, move |position| {
            let Member { key, value } = &self.members[position];
            (inner(key.text(source)), matches!(value, Slot::Gone))
        })
    }

    /// All positions of a key, the last one first, by looking at every member.
    fn search(&self, name: &[u8]) -> impl Iterator<Item = usize> {
        let source = self.source.as_str();
        self.present()
            .rev()
            .filter(move |(_, member)| is_named(member.key.text(source), name))
            .map(|(at, _)| at)
    }

    fn present(&self) -> impl DoubleEndedIterator<Item = (usize, &Member)> {
        self.members.iter().enumerate().filter(|(_, member)| !matches!(member.value, Slot::Gone))
    }

    /// Forgets the members that are gone.
    fn close_gaps(&mut self) {
        let mut left = 0..;
        let moved: Vec<Option<usize>> = self
            .members
            .iter()
            .map(|member| if matches!(member.value, Slot::Gone) { None } else { left.next() })
            .collect();
        self.members.retain(|member| !matches!(member.value, Slot::Gone));
        if let Some(index) = &mut self.index {
            index.follow(|position| moved[position]);
        }
    }

    fn node(&mut self, position: usize) -> Option<&mut Node> {
        let slot = &mut self.members[position].value;
        if let Slot::Kept(range) = slot {
            *slot = Slot::Held(Box::new(Node::Text(self.source.within(range.clone()))));
        }
        match slot {
            Slot::Held(node) => Some(node),
            Slot::Kept(_) | Slot::Gone => None,
        }
    }
}

impl Key {
    fn text<'a>(&'a self, source: &'a str) -> &'a str {
        match self {
            Key::Kept(range) => &source[range.clone()],
            Key::New(text) => text,
        }
    }
}

impl Slot {
    fn object_mut(&mut self) -> Option<&mut Object> {
        match self {
            Slot::Held(node) => match &mut **node {
                Node::Object(object) => Some(object),
                _ => None,
            },
            _ => None,
        }
    }

    fn is_object(&self) -> bool {
        matches!(self, Slot::Held(node) if matches!(**node, Node::Object(_)))
    }
}

/// Before every member of an object that starts at `start`, but the first.
fn push_comma(out: &mut String, start: usize) {
    if out.len() > start + 1 {
        out.push(',');
    }
}

/// The members of an object's text, as they are written. `None` if it is no object.
pub(super) fn split(text: &str) -> Option<Vec<(&RawValue, &RawValue)>> {
    split_into(text, |key, value| (key, value))
}

/// What `member` makes of each member of an object's text. `None` if it is no object.
pub(super) fn split_into<'a, T>(
    text: &'a str,
    member: impl FnMut(&'a RawValue, &'a RawValue) -> T,
) -> Option<Vec<T>> {
    struct Members<T, F>(F, PhantomData<T>);
    impl<'de, T, F: FnMut(&'de RawValue, &'de RawValue) -> T> Visitor<'de> for Members<T, F> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry()? {
                members.push(self.0(key, value));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Members(member, PhantomData)).ok()
}

/// What a key's text names, see [`decode_string`]: a name with a lone surrogate is no UTF-8, so no path names such a
/// key.
pub(super) fn name_of(key: &str) -> Cow<'_, [u8]> {
    match unescaped(key) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(decode_string(key.get(1..key.len().saturating_sub(1)).unwrap_or_default())),
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
        None => key.len() >= name.len() && *name_of(key) == *name,
    }
}

/// What is between the quotes, if there is no escape in it.
fn unescaped(key: &str) -> Option<&[u8]> {
    let inner = inner(key);
    (!inner.contains(&b'\\')).then_some(inner)
}

fn inner(key: &str) -> &[u8] {
    key.as_bytes().get(1..key.len().saturating_sub(1)).unwrap_or_default()
}

fn quoted(key: &str) -> Box<str> {
    serde_json::Value::from(key).to_string().into()
}

/// Where `part`, a slice of `text`, is in it.
fn range_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}
