//! A value somewhere in a tree: text, until an operation needs more of it.

use std::ops::Range;

use super::error::{Reason, Refusal, excerpt};
use super::number::{MAX, MIN, Number};
use super::object::Object;
use super::path::Path;
use super::tree::OnTheWay;
use crate::json::{Json, Kind};

/// A value.
#[derive(Debug)]
pub(super) enum Node {
    /// As it came with the object around it, or as it was put there. What changes in its place becomes something
    /// else.
    Text(Text),
    /// As it came, a number that was found to be out of range. Kept apart so that it is read only once.
    OutOfRange(Text),
    Object(Object),
    /// The text of an array that was appended to, without its last bracket.
    OpenArray(String),
    /// The text of a string that was appended to, without its last quote.
    OpenString(String),
    Number(Number),
}

/// A part of a text that is a JSON value.
#[derive(Clone, Debug)]
pub(super) struct Text {
    source: Json,
    range: Range<usize>,
}

/// Why a value can't take an operation.
#[derive(Debug)]
pub(super) struct Problem {
    reason: Reason,
    /// Continues a sentence that starts with the place of the value.
    detail: String,
}

impl Node {
    pub(super) fn value(value: &Json) -> Node {
        Node::Text(Text::whole(value))
    }

    /// `[value]`.
    pub(super) fn array_of(value: &Json) -> Node {
        Node::OpenArray(format!("[{}", value.as_str()))
    }

    /// What appending to nothing makes: the string, or an array of whatever else it is.
    pub(super) fn first_appended(value: &Json) -> Node {
        match Kind::of(value.as_str()) {
            Kind::String => Node::OpenString(without_last(value.as_str()).into()),
            _ => Node::array_of(value),
        }
    }

    /// The object that this is, taken apart if it was not before.
    pub(super) fn object(&mut self) -> Option<&mut Object> {
        if let Node::Text(text) = self
            && text.kind() == Kind::Object
        {
            *self = Node::Object(Object::open(text.clone())?);
        }
        match self {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The object that a path leads through, or what is there instead.
    pub(super) fn object_on(&mut self, way: OnTheWay) -> Result<&mut Object, &'static str> {
        let found = self.kind().described();
        if way == OnTheWay::BecomeObjects && self.object().is_none() {
            *self = Node::Object(Object::new());
        }
        self.object().ok_or(found)
    }

    /// Adds an integer to a number.
    pub(super) fn add(&mut self, by: i128) -> Result<(), Problem> {
        let number = match self {
            Node::Number(number) => Some(*number),
            Node::Text(text) if text.kind() == Kind::Number => Number::read(text.as_str()),
            Node::OutOfRange(_) => None,
            _ => {
                return Err(Problem::not_number(format!("is {}, not a number", self.kind().described())));
            }
        };
        let Some(number) = number else {
            return Err(self.out_of_range());
        };
        *self = Node::Number(number.plus(by).map_err(Problem::not_number)?);
        Ok(())
    }

    /// Appends an element to an array, or text to a string; null is as nothing.
    pub(super) fn append(&mut self, value: &Json) -> Result<(), Problem> {
        let appended = Kind::of(value.as_str());
        match self.kind() {
            Kind::Array => {
                if let Some(array) = self.open(|array| Node::OpenArray(without_last(array).trim_end().into()))
                {
                    if array.len() > 1 {
                        array.push(',');
                    }
                    array.push_str(value.as_str());
                }
                Ok(())
            }
            Kind::String if appended == Kind::String => {
                if let Some(string) = self.open(|string| Node::OpenString(without_last(string).into())) {
                    string.push_str(without_last(value.as_str()).get(1..).unwrap_or_default());
                }
                Ok(())
            }
            Kind::String => Err(Problem::mismatch(format!(
                "is a string: it takes only strings, not {}",
                appended.described()
            ))),
            Kind::Null => {
                *self = Node::first_appended(value);
                Ok(())
            }
            found => {
                Err(Problem::mismatch(format!("is {}, not an array, a string or null", found.described())))
            }
        }
    }

    /// Takes note of what changed within objects. Says whether this is something else than it came as.
    pub(super) fn note_changes(&mut self) -> bool {
        match self {
            Node::Text(_) | Node::OutOfRange(_) => false,
            Node::Object(object) => object.note_changes(),
            Node::OpenArray(_) | Node::OpenString(_) | Node::Number(_) => true,
        }
    }

    /// Appends the JSON text. Objects are of that text from then on.
    pub(super) fn write(&mut self, out: &mut String) {
        match self {
            Node::Text(text) | Node::OutOfRange(text) => out.push_str(text.as_str()),
            Node::Object(object) => object.write(out),
            Node::OpenArray(open) => {
                out.push_str(open);
                out.push(']');
            }
            Node::OpenString(open) => {
                out.push_str(open);
                out.push('"');
            }
            Node::Number(number) => out.push_str(&number.text()),
        }
    }

    /// The value as text, the very text that it came as if nothing changed, and about how many bytes of memory
    /// it takes beside that. An object is of that text from then on and stays taken apart; anything else becomes
    /// that text.
    pub(super) fn settle(&mut self) -> (Json, usize) {
        let changed = self.note_changes();
        let text = match self {
            Node::Object(object) if !changed => object.settled(),
            Node::Text(text) | Node::OutOfRange(text) => text.to_json(),
            _ => {
                // Most updates leave a text about as long as it was.
                let len = if let Node::Object(object) = self { object.source_len() } else { 0 };
                let mut out = String::with_capacity(len + 64);
                self.write(&mut out);
                Json::trusted(out)
            }
        };
        let bytes = match self {
            Node::Object(object) => object.adopt(&text),
            _ => {
                *self = Node::value(&text);
                0
            }
        };
        (text, bytes)
    }

    fn kind(&self) -> Kind {
        match self {
            Node::Text(text) => text.kind(),
            Node::Object(_) => Kind::Object,
            Node::OpenArray(_) => Kind::Array,
            Node::OpenString(_) => Kind::String,
            Node::Number(_) | Node::OutOfRange(_) => Kind::Number,
        }
    }

    /// The open end of an array or a string, opened if it was not before.
    fn open(&mut self, opened: fn(&str) -> Node) -> Option<&mut String> {
        if let Node::Text(text) = self {
            *self = opened(text.as_str());
        }
        match self {
            Node::OpenArray(open) | Node::OpenString(open) => Some(open),
            _ => None,
        }
    }

    fn out_of_range(&mut self) -> Problem {
        if let Node::Text(text) = self {
            *self = Node::OutOfRange(text.clone());
        }
        let found = match self {
            Node::OutOfRange(text) => excerpt(text.as_str()),
            _ => self.kind().described().into(),
        };
        Problem::not_number(format!(
            "is {found}; only integers from {MIN} to {MAX} and finite floats can be added to"
        ))
    }
}

impl Text {
    pub(super) fn whole(json: &Json) -> Text {
        Text { source: json.clone(), range: 0..json.as_str().len() }
    }

    pub(super) fn part(json: &Json, range: Range<usize>) -> Text {
        Text { source: json.clone(), range }
    }

    /// A part of this part.
    pub(super) fn within(&self, range: Range<usize>) -> Text {
        let start = self.range.start;
        Text::part(&self.source, start + range.start..start + range.end)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.source.as_str()[self.range.clone()]
    }

    pub(super) fn to_json(&self) -> Json {
        if self.range.len() == self.source.as_str().len() {
            return self.source.clone();
        }
        Json::trusted(self.as_str())
    }

    /// Where in its source it is.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// It is to be found there in the text that [`adopt`](Self::adopt) will give it.
    pub(super) fn move_to(&mut self, range: Range<usize>) {
        self.range = range;
    }

    pub(super) fn adopt(&mut self, source: &Json) {
        self.source = source.clone();
    }

    fn kind(&self) -> Kind {
        Kind::of(self.as_str())
    }
}

impl Problem {
    fn not_number(detail: String) -> Problem {
        Problem { reason: Reason::NotNumber, detail }
    }

    fn mismatch(detail: String) -> Problem {
        Problem { reason: Reason::TypeMismatch, detail }
    }

    pub(super) fn at(self, path: &Path) -> Refusal {
        Refusal::new(self.reason, format!("{path} {}", self.detail))
    }
}

/// A text without its last byte, which is a bracket or a quote.
fn without_last(text: &str) -> &str {
    text.get(..text.len().saturating_sub(1)).unwrap_or_default()
}
