//! The `ops` of a call, from JSON text to operations.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{OpFault, OpName, OpsError, Reason, Refusal, excerpt};
use super::object::{name_of, split_into};
use super::path::{Path, pollutes_prototypes};
use super::{Change, Plan, UpdateOp};
use crate::config::Limits;
use crate::json::{Json, Kind, deeper_than};

/// Most keys at the top of a value to merge.
const MERGE_KEYS: usize = 1_024;
/// Deepest nesting of a value to merge; the value itself counts 1.
const MERGE_DEPTH: usize = 16;

/// Parses the `ops` array of a call, of at most [`Limits::update_ops`] operations and twice [`Limits::value_bytes`].
/// An error fails the whole call.
pub fn parse(ops: &RawValue, limits: &Limits) -> Result<Vec<UpdateOp>, OpsError> {
    let (len, limit) = (ops.get().len(), limits.value_bytes.saturating_mul(2));
    if len > limit {
        return Err(OpsError::TooLarge { len, limit });
    }
    let mut refused = None;
    let reader = Reader { limits, refused: &mut refused };
    let read = serde_json::Deserializer::from_str(ops.get()).deserialize_seq(reader);
    match (read, refused) {
        (_, Some(error)) => Err(error),
        (Ok(ops), None) => Ok(ops),
        (Err(_), None) => Err(OpsError::NotAnArray(excerpt(ops.get()))),
    }
}

/// Reads operations up to the first that must not be there.
struct Reader<'a> {
    limits: &'a Limits,
    refused: &'a mut Option<OpsError>,
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Vec<UpdateOp>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<UpdateOp>, A::Error> {
        let mut ops = Vec::new();
        while let Some(op) = seq.next_element()? {
            let limit = self.limits.update_ops;
            let parsed = match ops.len() {
                op_index if op_index < limit => {
                    parse_op(op, self.limits).map_err(|fault| OpsError::BadOp { op_index, fault })
                }
                _ => Err(OpsError::TooMany { limit }),
            };
            match parsed {
                Ok(op) => ops.push(op),
                Err(error) => {
                    *self.refused = Some(error);
                    return Err(A::Error::custom("refused"));
                }
            }
        }
        Ok(ops)
    }
}

fn parse_op(op: &RawValue, limits: &Limits) -> Result<UpdateOp, OpFault> {
    let fields = Fields::read(op.get())?;
    let name = op_name(fields.required("type", fields.kind)?)?;
    let path = parse_path(name, fields.path)?;
    let change = match name {
        OpName::Set => Ok(Change::Set(fields.value(limits)?.unwrap_or_else(Json::null))),
        OpName::Merge => mergeable(fields.required("value", fields.value(limits)?)?),
        OpName::Append => Ok(Change::Append(fields.required("value", fields.value(limits)?)?)),
        OpName::Increment => Ok(Change::Add(fields.by()?)),
        OpName::Decrement => Ok(Change::Add(-fields.by()?)),
        OpName::Remove => Ok(Change::Remove),
    };
    Ok(UpdateOp { name, plan: path.and_then(|path| Ok(Plan { path, change: change? })) })
}

/// The fields of an operation. Others are ignored, and of duplicates the last one counts.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a RawValue>,
    path: Option<&'a RawValue>,
    by: Option<&'a RawValue>,
    value: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read(op: &'a str) -> Result<Fields<'a>, OpFault> {
        let mut fields = Fields::default();
        let read = |key: &'a RawValue, value| match &*name_of(key.get()) {
            b"type" => fields.kind = Some(value),
            b"path" => fields.path = Some(value),
            b"by" => fields.by = Some(value),
            b"value" => fields.value = Some(value),
            _ => {}
        };
        split_into(op, read).ok_or_else(|| OpFault::NotAnObject(excerpt(op)))?;
        Ok(fields)
    }

    fn required<T>(&self, name: &'static str, field: Option<T>) -> Result<T, OpFault> {
        field.ok_or(OpFault::Missing(name))
    }

    fn value(&self, limits: &Limits) -> Result<Option<Json>, OpFault> {
        Ok(self.value.map(|value| Json::bounded_depth(value, limits)).transpose()?)
    }

    fn by(&self) -> Result<i128, OpFault> {
        let text = self.required("by", self.by)?.get();
        if Kind::of(text) != Kind::Number || text.contains(['.', 'e', 'E']) {
            return Err(OpFault::ByNotAnInteger(excerpt(text)));
        }
        let by: i64 = text.parse().map_err(|_| OpFault::ByOutOfRange(excerpt(text)))?;
        Ok(by.into())
    }
}

fn op_name(text: &RawValue) -> Result<OpName, OpFault> {
    let name: Option<String> = string(text);
    let known = OpName::ALL.into_iter().find(|op| name.as_deref() == Some(op.as_str()));
    known.ok_or_else(|| OpFault::UnknownType(excerpt(text.get())))
}

/// The path of an operation. Its form fails the call (outer error), its content skips the operation (inner).
fn parse_path(op: OpName, path: Option<&RawValue>) -> Result<Result<Path, Refusal>, OpFault> {
    let Some(path) = path else {
        return if op.may_omit_path() { Ok(Ok(Path::root())) } else { Err(OpFault::Missing("path")) };
    };
    let wrong_form = || OpFault::BadPath { op, got: excerpt(path.get()) };
    match Kind::of(path.get()) {
        Kind::String => Ok(Path::of_key(segment(path)?)),
        Kind::Null if op.may_omit_path() => Ok(Ok(Path::root())),
        Kind::Array => {
            let segments: Vec<&RawValue> = serde_json::from_str(path.get()).map_err(|_| wrong_form())?;
            if segments.iter().any(|segment| Kind::of(segment.get()) != Kind::String) {
                return Err(wrong_form());
            }
            Ok(Path::of_segments(segments.into_iter().map(segment).collect::<Result<_, _>>()?))
        }
        _ => Err(wrong_form()),
    }
}

fn segment(text: &RawValue) -> Result<String, OpFault> {
    string(text).ok_or_else(|| OpFault::PathNotUnicode(excerpt(text.get())))
}

fn string(text: &RawValue) -> Option<String> {
    serde_json::from_str(text.get()).ok()
}

/// A value to merge, or why it can't be merged.
fn mergeable(value: Json) -> Result<Change, Refusal> {
    let mut keys = BTreeSet::new();
    let collect = |key: &RawValue, _: &RawValue| {
        // One too many tells all.
        if keys.len() <= MERGE_KEYS {
            keys.insert(name_of(key.get()).into_owned());
        }
    };
    if split_into(value.as_str(), collect).is_none() {
        let detail = format!("`value` must be an object, got {}", excerpt(value.as_str()));
        return Err(Refusal::new(Reason::ValueNotAnObject, detail));
    }
    if keys.len() > MERGE_KEYS {
        let detail = format!("`value` has more than {MERGE_KEYS} keys, which is the limit");
        return Err(Refusal::new(Reason::ValueTooManyKeys, detail));
    }
    if let Some(key) = keys.iter().find(|key| pollutes_prototypes(key)) {
        let key = String::from_utf8_lossy(key);
        let detail = format!("`value` must not have the key {key:?}, which is dangerous in JavaScript");
        return Err(Refusal::new(Reason::ValueProtoPolluted, detail));
    }
    if deeper_than(value.as_str(), MERGE_DEPTH) {
        let detail = format!("`value` is nested deeper than {MERGE_DEPTH} levels");
        return Err(Refusal::new(Reason::ValueTooDeep, detail));
    }
    Ok(Change::Merge(value))
}
