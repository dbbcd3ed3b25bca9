//! Update operations against the reference model: values in odd spellings, every limit from both sides, malformed calls.

use headwater_core::config::Limits;
use headwater_core::json::Json;
use headwater_core::ops;
use headwater_model::json::Value;
use headwater_model::update::{Refused, Updated, update};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;

/// What the core makes of it; `None` if it refuses the call.
fn by_the_core(before: Option<&str>, ops: &str) -> Option<(String, Vec<(usize, String)>)> {
    let before = before.map(|text| Json::parse(text, &Limits::default()).expect("the test's value is JSON"));
    let ops: &RawValue = serde_json::from_str(ops).expect("the test's operations are JSON");
    let ops = ops::parse(ops, &Limits::default()).ok()?;
    let applied = ops::apply(before.as_ref(), &ops);
    let errors = applied.errors.iter().map(|error| (error.op_index, error.code.as_str().to_owned()));
    Some((applied.after.as_str().to_owned(), errors.collect()))
}

fn agree(before: Option<&str>, ops: &str) -> Result<(), TestCaseError> {
    match (update(before, ops), by_the_core(before, ops)) {
        (Err(Refused(_)), None) => {}
        (Ok(Updated { after, errors }), Some((core_after, core_errors))) => {
            prop_assert_eq!(core_errors, errors);
            let found = Value::parse(&core_after);
            let found = found.map_err(|_| TestCaseError::fail(format!("no JSON: {core_after}")))?;
            prop_assert!(after.is_spelled(&found), "the core: {core_after}\nthe model: {after}");
        }
        (Err(Refused(why)), Some(_)) => prop_assert!(false, "the core takes what it must refuse: {why}"),
        (Ok(_), None) => prop_assert!(false, "the core refuses what it must take"),
    }
    Ok(())
}

/// Keys as they may be spelled in a value, some of them the same in several ways.
const SPELLED: [&str; 11] = [
    r#""a""#,
    r#""\u0061""#,
    r#""b""#,
    r#""a.b""#,
    r#""""#,
    r#""\ud800""#,
    r#""\uD800""#,
    r#""é""#,
    r#""\u00e9""#,
    r#""\ud83d\ude00""#,
    r#""__proto__""#,
];
/// Segments of paths, as they may be spelled.
const SEGMENTS: [&str; 9] = [
    r#""a""#,
    r#""\u0061""#,
    r#""b""#,
    r#""c""#,
    r#""a.b""#,
    r#""é""#,
    r#""😀""#,
    r#""constructor""#,
    r#""\"\\\/\n\u0001""#,
];
const SCALARS: [&str; 27] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "-0.0",
    "1.50",
    "2.5e3",
    "1E+2",
    "1e300",
    "1.7976931348623157e308",
    "1e400",
    "-1e400",
    "5e-324",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    r#""""#,
    r#""text\n\/""#,
    r#""\ud83d""#,
    r#""\ude00 é""#,
];

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n\t")]
}

fn array(elements: &[String], space: &str) -> String {
    format!("[{space}{}{space}]", elements.join(&format!("{space},")))
}

fn object(members: &[(&str, String)], space: &str) -> String {
    let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
    format!("{{{space}{}{space}}}", members.join(&format!("{space},")))
}

fn value() -> impl Strategy<Value = String> {
    select(&SCALARS[..]).prop_map(String::from).prop_recursive(4, 30, 6, |inner| {
        prop_oneof![
            1 => (vec(inner.clone(), 0..4), space()).prop_map(|(elements, space)| array(&elements, space)),
            3 => members(inner, 0..6),
        ]
    })
}

fn members(
    value: impl Strategy<Value = String>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = String> {
    (vec((select(&SPELLED[..]), value), count), space()).prop_map(|(members, space)| object(&members, space))
}

fn before() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        1 => Just(None),
        2 => value().prop_map(Some),
        6 => members(value(), 0..8).prop_map(Some),
        // Large enough that the core looks keys up in an index.
        1 => members(value(), 16..40).prop_map(Some),
    ]
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        60 => select(&SEGMENTS[..]).prop_map(String::from),
        2 => Just(r#""""#.to_owned()),
        1 => Just(r#""\ud800""#.to_owned()),
        1 => (255..258_usize).prop_map(|bytes| format!("\"{}\"", "x".repeat(bytes))),
        1 => (127..130_usize).prop_map(|chars| format!("\"{}\"", "é".repeat(chars))),
        1 => select(&["null", "1", "[]", "{}"][..]).prop_map(String::from),
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => segment(),
        8 => (vec(segment(), 0..5), space()).prop_map(|(segments, space)| array(&segments, space)),
        1 => (31..34_usize, segment()).prop_map(|(count, last)| {
            let mut segments = vec![r#""a""#.to_owned(); count - 1];
            segments.push(last);
            array(&segments, "")
        }),
        1 => select(&["null", "7", "{}", "true"][..]).prop_map(String::from),
    ]
}

/// What is merged, put or appended: values, and those at the limits of `merge` and of all.
fn operand() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => value(),
        20 => members(value(), 0..5),
        1 => (1_023..1_026_usize, any::<bool>()).prop_map(|(keys, doubled)| {
            let mut members: Vec<_> = (0..keys).map(|key| format!(r#""k{key}":0"#)).collect();
            if doubled {
                members.push(r#""\u006b0":1"#.to_owned());
            }
            format!("{{{}}}", members.join(","))
        }),
        1 => (15..18_usize, any::<bool>()).prop_map(|(depth, arrays)| nested(depth, arrays)),
        1 => (127..130_usize, any::<bool>()).prop_map(|(depth, arrays)| nested(depth, arrays)),
    ]
}

/// An object that nests so deep.
fn nested(depth: usize, arrays: bool) -> String {
    let (open, close) = if arrays { ("[", "]") } else { (r#"{"a":"#, "}") };
    let innermost = if arrays { "" } else { "[]" };
    let levels = if arrays { depth - 1 } else { depth - 2 };
    format!(r#"{{"a":{}{innermost}{}}}"#, open.repeat(levels), close.repeat(levels))
}

fn by() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (-3..4_i64).prop_map(|by| by.to_string()),
        2 => any::<i64>().prop_map(|by| by.to_string()),
        2 => select(&["9223372036854775807", "-9223372036854775808", "-0"][..]).prop_map(String::from),
        1 => select(&["9223372036854775808", "-9223372036854775809", "1.0", "1e2", "\"1\"", "null"][..])
            .prop_map(String::from),
    ]
}

/// An operation, now and then without one of its fields, with one twice, or with one too many.
fn op() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        60 => select(&["set", "merge", "increment", "decrement", "append", "remove"][..]),
        1 => select(&["replace", "Set", "", r"\u0073et", r"\ud800"][..]),
    ];
    let odds = (0..60_usize, 0..60_usize);
    (name, path(), operand(), by(), odds, space()).prop_map(|(name, path, operand, by, odds, space)| {
        let mut fields = vec![(r#""type""#, format!("\"{name}\"")), (r#""path""#, path)];
        match name {
            "increment" | "decrement" => fields.push((r#""by""#, by)),
            "remove" => {}
            _ => fields.push((r#""value""#, operand)),
        }
        let (missing, twice) = odds;
        if twice < fields.len() {
            fields.push(fields[twice].clone());
            fields.swap(0, twice);
        }
        if missing < fields.len() {
            fields.remove(missing);
        }
        object(&fields, space)
    })
}

fn ops() -> impl Strategy<Value = String> {
    prop_oneof![
        60 => (vec(op(), 0..6), space()).prop_map(|(ops, space)| array(&ops, space)),
        1 => value(),
        1 => value().prop_map(|value| format!("[{value}]")),
    ]
}

/// More cases than the default, unless the environment asks for a number.
#[expect(clippy::disallowed_methods, reason = "a test may look around")]
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = std::env::var("PROPTEST_CASES").map_or(4_000, |_| default.cases);
    ProptestConfig { cases, failure_persistence: None, max_global_rejects: 0, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_core_does_what_the_table_says(before in before(), ops in ops()) {
        agree(before.as_deref(), &ops)?;
    }
}
