//! The laws of update operations.

mod documents;
mod exact_text;
mod messages;
mod properties;
mod refusals;
mod table;

use serde_json::value::RawValue;

use super::error::excerpt;
use super::{Applied, OpsError, UpdateOp, apply, parse};
use crate::config::Limits;
use crate::json::Json;

/// The `before` of an item that does not exist.
const MISSING: &str = "";

/// A value of each kind that has no keys.
const NO_OBJECTS: [&str; 6] = ["null", "true", "false", "1", r#""s""#, "[1]"];

/// Room for the tests that make many operations.
fn limits() -> Limits {
    Limits { update_ops: 200_000, ..Limits::default() }
}

fn parsed(ops: &str) -> Result<Vec<UpdateOp>, OpsError> {
    let ops: &RawValue = serde_json::from_str(ops).expect("test ops are JSON");
    parse(ops, &limits())
}

fn json(text: &str) -> Json {
    Json::parse(text, &Limits::default()).expect("a test value is JSON")
}

fn applied(before: &str, ops: &str) -> Applied {
    let before = (before != MISSING).then(|| json(before));
    let ops = parsed(ops).unwrap_or_else(|error| panic!("{}: {error}", excerpt(ops)));
    apply(before.as_ref(), &ops)
}

/// The value after one operation, and the code of its error if it was skipped.
fn one(before: &str, op: &str) -> (String, Option<&'static str>) {
    let Applied { after, errors } = applied(before, &format!("[{op}]"));
    assert!(errors.len() <= 1, "{op}");
    (after.as_str().into(), errors.first().map(|error| error.code.as_str()))
}

fn set(path: &str, value: &str) -> String {
    format!(r#"{{"type":"set","path":{path},"value":{value}}}"#)
}

fn merge(path: &str, value: &str) -> String {
    format!(r#"{{"type":"merge","path":{path},"value":{value}}}"#)
}

fn increment(path: &str, by: &str) -> String {
    format!(r#"{{"type":"increment","path":{path},"by":{by}}}"#)
}

fn decrement(path: &str, by: &str) -> String {
    format!(r#"{{"type":"decrement","path":{path},"by":{by}}}"#)
}

fn append(path: &str, value: &str) -> String {
    format!(r#"{{"type":"append","path":{path},"value":{value}}}"#)
}

fn remove(path: &str) -> String {
    format!(r#"{{"type":"remove","path":{path}}}"#)
}

#[track_caller]
fn becomes(before: &str, op: &str, after: &str) {
    assert_eq!(one(before, op), (after.into(), None), "{before} {op}");
}

#[track_caller]
fn is_skipped(before: &str, op: &str, code: &str) {
    let unchanged = if before == MISSING { "{}" } else { before };
    let (after, error) = one(before, op);
    assert_eq!((after.as_str(), error), (unchanged, Some(code)), "{before} {op}");
}
