//! Values: JSON text, checked once on the way in and never changed after.

mod equal;
mod string;

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

pub(crate) use string::decode_string;

use crate::config::Limits;

/// A valid JSON value as the exact text that came in: big numbers, `1.0`, escapes, key order and duplicate
/// keys stay as they are. Shared, never copied: a clone is a reference count.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

/// Why a text is refused as a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("is not valid JSON: {0}")]
    Invalid(String),
    /// Longer than [`Limits::value_bytes`].
    #[error("is {len} bytes of JSON; the limit is {limit} (`value_bytes`)")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Nested deeper than [`Limits::json_depth`].
    #[error("is nested deeper than {limit} levels (`json_depth`)")]
    TooDeep {
        /// The limit in levels.
        limit: usize,
    },
}

impl Json {
    /// The value `null`.
    pub fn null() -> Json {
        Json("null".into())
    }

    /// Checks a text: valid JSON, not too large, not too deep.
    pub fn parse(text: &str, limits: &Limits) -> Result<Json, JsonError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| JsonError::Invalid(e.to_string()))?;
        let value = Json::bounded_depth(raw, limits)?;
        value.check_size(limits)?;
        Ok(value)
    }

    /// Takes a value out of a frame that was parsed already. Checks its depth, not its size: what is passed on
    /// and not kept is bounded by the frame.
    pub fn bounded_depth(raw: &RawValue, limits: &Limits) -> Result<Json, JsonError> {
        check_depth(raw.get(), limits)?;
        Ok(Json(raw.get().into()))
    }

    /// Checks the size against [`Limits::value_bytes`].
    pub fn check_size(&self, limits: &Limits) -> Result<(), JsonError> {
        let len = self.0.len();
        if len > limits.value_bytes {
            return Err(JsonError::TooLarge { len, limit: limits.value_bytes });
        }
        Ok(())
    }

    /// A text that is known to be valid JSON, such as one read back from the log or built by the core.
    pub fn trusted(text: impl Into<Arc<str>>) -> Json {
        Json(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are the same text in memory: clones of each other.
    pub fn is_same_text(&self, other: &Json) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether both are the same value, however they are spelled: `==` compares the texts. Numbers are compared by
    /// their exact decimal value, strings by what their escapes stand for, objects without the order of their
    /// members, where of a key that comes twice the last one counts. A number whose exponent is beyond 64 bits is
    /// equal to its own spelling only, unless it is zero. Two different texts are read and the keys of their objects
    /// sorted, with 16 bytes of memory for every token of both.
    pub fn same_value(&self, other: &Json) -> bool {
        self.is_same_text(other) || equal::same_value(&self.0, &other.0)
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(80) {
            Some((cut, _)) => write!(f, "{}… ({} bytes)", &self.0[..cut], self.0.len()),
            None => f.write_str(&self.0),
        }
    }
}

/// How long `text` is as a JSON string, at most, whichever escapes are written.
pub(crate) fn quoted_len(text: &str) -> usize {
    let len = |byte| match byte {
        0..=0x1f => r"\u0000".len(),
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(len).sum::<usize>() + 2
}

/// What sort of value a JSON text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// The kind of a valid JSON text without whitespace before it: its first byte tells.
    pub(crate) fn of(text: &str) -> Kind {
        match text.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// For people.
    pub(crate) fn described(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Bool => "a boolean",
            Kind::Null => "null",
        }
    }
}

fn check_depth(text: &str, limits: &Limits) -> Result<(), JsonError> {
    match deeper_than(text, limits.json_depth) {
        true => Err(JsonError::TooDeep { limit: limits.json_depth }),
        false => Ok(()),
    }
}

/// Whether a valid JSON text nests arrays and objects deeper than `limit`.
pub(crate) fn deeper_than(text: &str, limit: usize) -> bool {
    // A text nests at most half as deep as it is long.
    text.len() / 2 > limit && depth_up_to(text, limit + 1) > limit
}

/// How deep a valid JSON text nests arrays and objects.
pub(crate) fn depth(text: &str) -> usize {
    depth_up_to(text, usize::MAX)
}

/// How deep a text is nested, as far as that is of interest. One pass, no recursion.
fn depth_up_to(text: &str, most: usize) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut in_string = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            // An escape is two bytes here, and neither of them opens or closes anything.
            b'\\' if in_string => {
                bytes.next();
            }
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
                if deepest >= most {
                    break;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_exact_text() {
        let limits = Limits::default();
        for text in [
            "1e400",
            "12345678901234567890123",
            "1.0",
            "-0",
            r#""\ud800""#,
            r#"{"a":1,"a":2}"#,
            r#"{ "b" : [ ] }"#,
            r#""\u00e9""#,
        ] {
            assert_eq!(Json::parse(text, &limits).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let limits = Limits::default();
        for text in ["", "{", "nul", "01", "'a'", "[1,]", "\"\u{1}\"", "1 2", "NaN"] {
            assert!(matches!(Json::parse(text, &limits), Err(JsonError::Invalid(_))), "{text:?}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings_only() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(!deeper_than(&nested(128), 128));
        assert!(deeper_than(&nested(129), 128));
        assert!(!deeper_than(r#"{"a":"[[[[\"[[[[","b":[1,2,3]}"#, 2));
        assert!(deeper_than(r#"{"a\\":{"b":{}}}"#, 2));
        let limits = Limits::default();
        assert_eq!(Json::parse(&nested(10_000), &limits), Err(JsonError::TooDeep { limit: 128 }));
    }
}
