//! Reading the fields of objects that came in, with errors that name the field.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::Limits;
use crate::json::Kind;
use crate::name::NameError;

/// Reads an object. A derived reader alone would take an array of the fields in order, too.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
    match text.starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| format!("can't be read: {error}")),
        false => Err("must be a JSON object".to_owned()),
    }
}

/// The members of an object as they are spelled; of two with one key, the later one. `None` if it is no object, or has a
/// key that is no Unicode text.
pub(crate) fn members(text: &str) -> Option<BTreeMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(text).ok()
}

/// Reads a field so that an explicit `null` differs from no field: for fields where null is a value.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A field that must be there and be a string.
pub(crate) fn text(field: &str, raw: Option<&RawValue>) -> Result<String, String> {
    optional_text(field, raw)?.ok_or_else(|| missing(field))
}

/// A field that may be absent or null, and else is a string.
pub(crate) fn optional_text(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, String> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| match Kind::of(raw.get()) {
        Kind::String => format!("`{field}` has an escape that is no Unicode character"),
        found => format!("`{field}` must be a string, got {}", found.described()),
    })
}

/// A field that must be there and be a name.
pub(crate) fn name<T>(
    field: &str,
    raw: Option<&RawValue>,
    limits: &Limits,
    new: impl Fn(&str, &Limits) -> Result<T, NameError>,
) -> Result<T, String> {
    new(&text(field, raw)?, limits).map_err(|error| format!("`{field}` {error}"))
}

/// A field that may be absent, null or empty, and else is a name.
pub(crate) fn optional_name<T>(
    field: &str,
    raw: Option<&RawValue>,
    limits: &Limits,
    new: impl Fn(&str, &Limits) -> Result<T, NameError>,
) -> Result<Option<T>, String> {
    match raw {
        None => Ok(None),
        Some(raw) if raw.get() == "\"\"" => Ok(None),
        raw => name(field, raw, limits, new).map(Some),
    }
}

/// A field that may be absent or null, which is `false`, and else is true or false.
pub(crate) fn flag(field: &str, raw: Option<&RawValue>) -> Result<bool, String> {
    match raw.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("`{field}` must be true or false, got {}", Kind::of(other).described())),
    }
}

/// What came, for a message: cut where it would drown it.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST_CHARS: usize = 60;
    match text.char_indices().nth(MOST_CHARS) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
        None => text.to_owned(),
    }
}

pub(crate) fn missing(field: &str) -> String {
    format!("`{field}` is missing")
}
