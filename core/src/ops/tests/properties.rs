//! Laws that hold for all values and operations, odd spellings included.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

use super::*;
use crate::json::depth;
use crate::ops::object::{name_of, split};
use crate::ops::{Document, OpError};

/// Keys that meet each other in several spellings.
const KEYS: [&str; 8] =
    [r#""a""#, r#""\u0061""#, r#""b""#, r#""a.b""#, r#""""#, r#""\ud800""#, r#""é""#, r#""\u00e9""#];
const PATH_KEYS: [&str; 6] = ["a", "b", "c", "a.b", "é", "__proto__"];
const SCALARS: [&str; 14] = [
    "null",
    "true",
    "0",
    "-0",
    "1",
    "1.0",
    "2.5e3",
    "1e400",
    "9223372036854775807",
    "18446744073709551615",
    "123456789012345678901234567890",
    r#""""#,
    r#""text\n""#,
    r#""\ud83d""#,
];

fn value() -> impl Strategy<Value = String> {
    let scalar = select(&SCALARS[..]).prop_map(String::from);
    scalar.prop_recursive(4, 40, 5, |inner| {
        let space = || select(&["", " ", "\n\t"][..]);
        prop_oneof![
            (vec(inner.clone(), 0..4), space())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},")))),
            object(inner, 6),
        ]
    })
}

fn object(member: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = String> {
    let space = select(&["", " ", "\n\t"][..]);
    (vec((select(&KEYS[..]), member), 0..most), space).prop_map(|(members, space)| {
        let members: Vec<_> =
            members.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
        format!("{{{space}{}{space}}}", members.join(&format!("{space},")))
    })
}

/// An item, or none.
fn before() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just(String::from(MISSING)), 3 => value(), 6 => object(value(), 8), 1 => object(value(), 40)]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![6 => select(&PATH_KEYS[..]), 1 => Just("")].prop_map(|key| format!("{key:?}"))
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![key(), vec(key(), 0..4).prop_map(|keys| format!("[{}]", keys.join(",")))]
}

/// What `merge` and `append` take.
fn path_or_null() -> impl Strategy<Value = String> {
    prop_oneof![6 => path(), 1 => Just("null".into())]
}

fn by() -> impl Strategy<Value = i64> {
    prop_oneof![-3..3_i64, Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

fn op() -> impl Strategy<Value = String> {
    Union::new([
        (path(), value()).prop_map(|(path, value)| op_text("set", &path, "value", &value)).boxed(),
        (path_or_null(), object(value(), 4))
            .prop_map(|(path, value)| op_text("merge", &path, "value", &value))
            .boxed(),
        (path_or_null(), value()).prop_map(|(path, value)| op_text("merge", &path, "value", &value)).boxed(),
        (path_or_null(), value()).prop_map(|(path, value)| op_text("append", &path, "value", &value)).boxed(),
        (path(), by()).prop_map(|(path, by)| op_text("increment", &path, "by", &by.to_string())).boxed(),
        (path(), by()).prop_map(|(path, by)| op_text("decrement", &path, "by", &by.to_string())).boxed(),
        path().prop_map(|path| format!(r#"{{"type":"remove","path":{path}}}"#)).boxed(),
    ])
}

fn op_text(name: &str, path: &str, field: &str, operand: &str) -> String {
    format!(r#"{{"type":"{name}","path":{path},"{field}":{operand}}}"#)
}

/// The members of an object whose key says something else than `key`.
fn members_beside<'a>(object: &'a str, key: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let others = split(object)?.into_iter().filter(|(k, _)| *name_of(k.get()) != *key.as_bytes());
    Some(others.map(|(k, v)| (k.get(), v.get())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_is_json_and_the_errors_are_in_order(before in before(), ops in vec(op(), 0..8)) {
        let Applied { after, errors } = applied(&before, &format!("[{}]", ops.join(",")));
        prop_assert_eq!(json(after.as_str()), after);
        prop_assert!(errors.iter().all(|error| error.op_index < ops.len()));
        prop_assert!(errors.windows(2).all(|pair| pair[0].op_index < pair[1].op_index));
        for OpError { op_index, code, message } in &errors {
            let name = code.as_str().split('.').next().unwrap();
            prop_assert!(message.starts_with(&format!("ops[{op_index}]: `{name}`")), "{}", message);
        }
    }

    #[test]
    fn no_text_makes_parsing_panic(ops in "[\\[\\]{}\",:a-z0-9.\\\\ -]{0,40}", value in value()) {
        for text in [ops, value.clone(), format!("[{value}]"), format!(r#"[{{"type":"set","path":{value}}}]"#)] {
            if serde_json::from_str::<&RawValue>(&text).is_ok() {
                let _ = parsed(&text);
            }
        }
    }

    /// Values that were never checked, such as ones from a damaged disk, must not bring the server down.
    #[test]
    fn no_text_makes_applying_panic(before in "[\\[\\]{}\",:a-z0-9.\\\\ é-]{0,20}", ops in vec(op(), 0..6)) {
        let ops = parsed(&format!("[{}]", ops.join(","))).unwrap();
        apply(Some(&Json::trusted(before)), &ops);
    }

    #[test]
    fn a_list_does_what_its_operations_do_one_by_one(before in before(), ops in vec(op(), 1..8)) {
        let at_once = applied(&before, &format!("[{}]", ops.join(",")));
        let mut value = before;
        let mut skipped = Vec::new();
        for (op_index, op) in ops.iter().enumerate() {
            let (after, code) = one(&value, op);
            value = after;
            skipped.extend(code.map(|code| (op_index, code)));
        }
        prop_assert_eq!(at_once.after.as_str(), value);
        let reported: Vec<_> = at_once.errors.iter().map(|e| (e.op_index, e.code.as_str())).collect();
        prop_assert_eq!(reported, skipped);
    }

    #[test]
    fn a_document_that_is_kept_gives_what_its_value_gives(before in before(), calls in vec(vec(op(), 0..5), 1..8)) {
        let mut value = (before != MISSING).then(|| json(&before));
        let mut document = Document::new(value.as_ref());
        let no_deeper = |depth: usize| Limits { json_depth: depth, ..Limits::default() };
        for ops in calls {
            prop_assert!(document.is_of(value.as_ref()));
            let ops = parsed(&format!("[{}]", ops.join(","))).unwrap();
            let fresh = apply(value.as_ref(), &ops);
            let kept = document.apply(&ops);
            prop_assert_eq!(&kept, &fresh);
            let depth = depth(fresh.after.as_str());
            prop_assert_eq!(document.check(&no_deeper(depth)), Ok(()));
            prop_assert!(depth == 0 || document.check(&no_deeper(depth - 1)).is_err());
            value = Some(kept.after);
        }
    }

    #[test]
    fn a_skipped_operation_leaves_no_trace(before in before(), op in op()) {
        let (after, code) = one(&before, &op);
        if code.is_some() {
            let unchanged = if before == MISSING { "{}".into() } else { before };
            prop_assert_eq!(after, unchanged);
        }
    }

    #[test]
    fn untouched_members_keep_their_text_and_order(
        before in object(value(), 30),
        key in select(&PATH_KEYS[..]),
        op in op(),
    ) {
        let op = op.replace(r#""path":"#, &format!(r#""path":{key:?},"was":"#));
        let (after, _) = one(&before, &op);
        prop_assert_eq!(members_beside(&before, key), members_beside(&after, key));
    }

    #[test]
    fn increments_of_an_integer_commute(start in any::<i64>(), first in by(), second in by()) {
        let before = format!(r#"{{"n":{start}}}"#);
        let increment = |by: i64| op_text("increment", r#""n""#, "by", &by.to_string());
        let one_way = applied(&before, &format!("[{},{}]", increment(first), increment(second)));
        let other_way = applied(&before, &format!("[{},{}]", increment(second), increment(first)));
        if one_way.errors.is_empty() && other_way.errors.is_empty() {
            let sum = i128::from(start) + i128::from(first) + i128::from(second);
            prop_assert_eq!(one_way.after.as_str(), format!(r#"{{"n":{sum}}}"#));
            prop_assert_eq!(one_way.after, other_way.after);
        }
    }

    #[test]
    fn a_decrement_undoes_an_increment(start in any::<i64>(), by in by()) {
        let before = format!(r#"{{"n":{start}}}"#);
        let (after, code) = one(&before, &op_text("increment", r#""n""#, "by", &by.to_string()));
        if code.is_none() {
            becomes(&after, &op_text("decrement", r#""n""#, "by", &by.to_string()), &before);
        }
    }

    #[test]
    fn merge_is_idempotent(before in before(), path in path_or_null(), value in object(value(), 20)) {
        let merge = op_text("merge", &path, "value", &value);
        let (once, code) = one(&before, &merge);
        prop_assert_eq!(one(&once, &merge), (once, code));
    }

    #[test]
    fn an_appended_element_is_the_last_and_the_others_stay(
        elements in vec(value(), 0..6),
        appended in vec(value(), 1..4),
    ) {
        let append = |value: &String| op_text("append", r#"["l"]"#, "value", value);
        let ops = format!("[{}]", appended.iter().map(append).collect::<Vec<_>>().join(","));
        let Applied { after, errors } = applied(&format!(r#"{{"l":[{}]}}"#, elements.join(",")), &ops);
        prop_assert_eq!(errors, []);
        let after: BTreeMap<String, Vec<&RawValue>> = serde_json::from_str(after.as_str()).unwrap();
        let after: Vec<&str> = after["l"].iter().map(|element| element.get()).collect();
        prop_assert_eq!(after, [elements, appended].concat());
    }

    #[test]
    fn appended_text_is_put_to_the_end_of_the_string(before in any::<String>(), more in vec(any::<String>(), 1..4)) {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let append = |more: &String| op_text("append", r#""s""#, "value", &text(more));
        let ops = format!("[{}]", more.iter().map(append).collect::<Vec<_>>().join(","));
        let Applied { after, errors } = applied(&format!(r#"{{"s":{}}}"#, text(&before)), &ops);
        prop_assert_eq!(errors, []);
        let after: BTreeMap<String, String> = serde_json::from_str(after.as_str()).unwrap();
        prop_assert_eq!(&after["s"], &(before + &more.concat()));
    }

    #[test]
    fn a_value_grows_by_no_more_than_what_is_put_into_it(before in before(), ops in vec(op(), 0..8)) {
        let ops = format!("[{}]", ops.join(","));
        let Applied { after, .. } = applied(&before, &ops);
        prop_assert!(after.as_str().len() <= before.len() + ops.len() + 2);
        prop_assert!(depth(after.as_str()) <= depth(&before).max(depth(&ops)) + 33);
    }

    #[test]
    fn set_and_remove_have_the_last_word(
        before in object(value(), 20),
        key in select(&["", "a", "b", "c", "a.b", "é"][..]),
        value in value(),
    ) {
        let key = format!("{key:?}");
        let set = op_text("set", &key, "value", &value);
        let remove = format!(r#"{{"type":"remove","path":{key}}}"#);
        let (was_set, _) = one(&before, &set);
        prop_assert_eq!(&one(&was_set, &set).0, &was_set);
        let (removed, _) = one(&before, &remove);
        prop_assert_eq!(one(&was_set, &remove).0, compact(&removed));
    }
}

/// An object without the whitespace between its members, as it is after a change; anything else as it is.
fn compact(text: &str) -> String {
    let Some(members) = split(text) else {
        return text.into();
    };
    let members: Vec<_> =
        members.iter().map(|(key, value)| format!("{}:{}", key.get(), value.get())).collect();
    format!("{{{}}}", members.join(","))
}
