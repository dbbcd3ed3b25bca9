//! Update operations.

use headwater_core::config::Limits;
use headwater_core::json::Json;
use headwater_core::ops::{self, Applied, Document};
use headwater_model::json::Value;
use headwater_model::update;
use serde_json::value::RawValue;

use crate::input::Input;

/// Applies operations to a value, call after call, in the core and in the model.
///
/// # Panics
///
/// If the two differ; if a list of operations does not do what they do one by one; if a document that is kept from call
/// to call does not do what a new one does; or if what comes of it is no JSON.
pub fn update_ops(data: &[u8]) {
    let mut input = Input::new(data);
    let text = (!input.once_in(6)).then(|| input.value());
    let mut value = text.as_deref().map(|text| Value::parse(text).expect("a generated value is JSON"));
    let mut text = text.map(Json::trusted);
    let mut document = Document::new(text.as_ref());
    for _ in 0..MOST_CALLS {
        let ops = input.ops(MOST_OPS);
        if let Some((applied, expected)) = call(text.as_ref(), value.as_ref(), &ops) {
            let kept = document.apply(&parse(&ops).expect("it was just parsed"));
            assert_eq!(kept, applied, "a document that was kept: {ops:?}");
            check_depth(&mut document, &expected);
            (text, value) = (Some(kept.after), Some(expected));
            assert!(document.is_of(text.as_ref()));
        }
        if input.is_over() {
            return;
        }
    }
}

const MOST_CALLS: usize = 8;
const MOST_OPS: usize = 6;

/// One call, applied to what the core and the model had before. `None` if both refuse it.
fn call(text: Option<&Json>, value: Option<&Value>, ops: &[String]) -> Option<(Applied, Value)> {
    let list = format!("[{}]", ops.join(","));
    let expected =
        update::apply(value.cloned(), &Value::parse(&list).expect("generated operations are JSON"));
    let (expected, parsed) = match (expected, parse(ops)) {
        (Ok(expected), Some(parsed)) => (expected, parsed),
        (Err(_), None) => return None,
        (expected, parsed) => panic!("model: {expected:?}, core: {parsed:?}: {list}"),
    };
    let applied = ops::apply(text, &parsed);
    let found = Value::parse(applied.after.as_str());
    let found = found.unwrap_or_else(|error| panic!("{error:?}: {} after {list}", applied.after.as_str()));
    assert!(expected.after.is_spelled(&found), "model: {}\ncore: {found}\n{list}", expected.after);
    let codes = applied.errors.iter().map(|error| (error.op_index, error.code.as_str().to_owned()));
    assert_eq!(codes.collect::<Vec<_>>(), expected.errors, "{list}");
    one_by_one(text, ops, &applied);
    Some((applied, expected.after))
}

fn one_by_one(before: Option<&Json>, ops: &[String], at_once: &Applied) {
    let mut value = before.cloned();
    let mut errors = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        let op = parse(std::slice::from_ref(op)).expect("it was parsed with the others");
        let applied = ops::apply(value.as_ref(), &op);
        value = Some(applied.after);
        errors.extend(applied.errors.into_iter().map(|error| (index, error.code)));
    }
    assert_eq!(value.as_ref(), Some(&at_once.after), "{ops:?}");
    assert_eq!(errors, at_once.errors.iter().map(|error| (error.op_index, error.code)).collect::<Vec<_>>());
}

/// A document knows how deep its value is.
fn check_depth(document: &mut Document, value: &Value) {
    let depth = value.depth();
    for (json_depth, fits) in [(depth, true), (depth.saturating_sub(1), depth == 0)] {
        let limits = Limits { json_depth, ..Limits::default() };
        assert_eq!(
            document.check(&limits).is_ok(),
            fits,
            "the value is {depth} deep, the limit {json_depth}"
        );
    }
}

fn parse(ops: &[String]) -> Option<Vec<ops::UpdateOp>> {
    let list = format!("[{}]", ops.join(","));
    let list: &RawValue = serde_json::from_str(&list).expect("generated operations are JSON");
    ops::parse(list, &Limits::default()).ok()
}
