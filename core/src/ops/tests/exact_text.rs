//! What no operation touches keeps its text to the letter; and no size makes an update slow.

use std::fmt::Write as _;

use super::*;
use crate::ops::Document;

/// A value with all that a JSON library likes to change.
const ODD: &str = r#"{ "z": 1.0, "big" : 123456789012345678901234567890,"inf":1e400, "\u00e9":"\u00e9\/", "sur":"\ud800",
    "\udfff": -0, "dup":1, "a":{ "k" : [ 1 , 2 ] }, "dup":2,"n":1, "s":"\ud83d", "l":[ 1.0 , {} ] }"#;

#[test]
fn an_update_that_changes_nothing_gives_back_the_very_text() {
    for ops in [
        "[]",
        r#"[{"type":"remove","path":"none"}]"#,
        r#"[{"type":"merge","value":{}},{"type":"merge","path":"a","value":{}}]"#,
        r#"[{"type":"increment","path":"s","by":1},{"type":"append","path":["a","k","x"],"value":1}]"#,
        r#"[{"type":"increment","path":"inf","by":1},{"type":"increment","path":"inf","by":1}]"#,
        r#"[{"type":"append","path":["a","k","x","y"],"value":1}]"#,
    ] {
        assert_eq!(applied(ODD, ops).after.as_str(), ODD, "{ops}");
    }
}

#[test]
fn what_is_beside_a_change_keeps_its_text() {
    for (op, changed) in [
        (r#"{"type":"set","path":"n","value": 1.00}"#, r#""n":1.00"#),
        (r#"{"type":"increment","path":"n","by":1}"#, r#""n":2"#),
    ] {
        let expected = [
            r#"{"z":1.0,"big":123456789012345678901234567890,"inf":1e400,"\u00e9":"\u00e9\/","sur":"\ud800","#,
            r#""\udfff":-0,"dup":1,"a":{ "k" : [ 1 , 2 ] },"dup":2,"#,
            changed,
            r#","s":"\ud83d","l":[ 1.0 , {} ]}"#,
        ];
        assert_eq!(applied(ODD, &format!("[{op}]")).after.as_str(), expected.concat());
    }
}

#[test]
fn appended_text_and_elements_stay_as_they_were_written() {
    becomes(
        r#""\ud83d""#,
        r#"{"type":"append","path":"","value":"\ude00\u0041"}"#,
        r#""\ud83d\ude00\u0041""#,
    );
    becomes("[ 1.0 , {} ]", r#"{"type":"append","path":"","value":1e400}"#, "[ 1.0 , {},1e400]");
    becomes("{}", r#"{"type":"append","path":"a","value":{ "b" : 1 }}"#, r#"{"a":[{ "b" : 1 }]}"#);
    becomes(r#"["] "]"#, r#"{"type":"append","path":"","value":"]"}"#, r#"["] ","]"]"#);
}

#[test]
fn keys_are_compared_by_what_they_say_and_keep_their_spelling() {
    becomes(r#"{"\u0061":1}"#, r#"{"type":"set","path":"a","value":2}"#, r#"{"\u0061":2}"#);
    becomes(r#"{"\u0061":1}"#, r#"{"type":"remove","path":"a"}"#, "{}");
    becomes(r#"{"a\"\\":1}"#, r#"{"type":"increment","path":"a\"\\","by":1}"#, r#"{"a\"\\":2}"#);
    becomes("{}", r#"{"type":"set","path":"\n\u0001\"é","value":1}"#, r#"{"\n\u0001\"é":1}"#);
    becomes(r#"{"\ud83d\ude00":1}"#, r#"{"type":"set","path":"😀","value":2}"#, r#"{"\ud83d\ude00":2}"#);
}

#[test]
fn a_key_that_is_no_unicode_text_is_on_no_path_but_can_be_merged() {
    becomes(r#"{"\ud800":1}"#, r#"{"type":"remove","path":"\ufffd"}"#, r#"{"\ud800":1}"#);
    becomes(r#"{"\ud800":1}"#, r#"{"type":"merge","value":{"\uD800":2}}"#, r#"{"\ud800":2}"#);
    becomes(r#"{"\ud800":1}"#, r#"{"type":"merge","value":{"\ud801":2}}"#, r#"{"\ud800":1,"\ud801":2}"#);
}

#[test]
fn of_duplicate_keys_the_last_counts_and_a_write_drops_the_others() {
    let before = r#"{"n":1,"x":0,"n":5,"o":{"a":1},"o":{"b":1}}"#;
    for (op, after) in [
        (r#"{"type":"set","path":"x","value":1}"#, r#"{"n":1,"x":1,"n":5,"o":{"a":1},"o":{"b":1}}"#),
        (r#"{"type":"set","path":"n","value":9}"#, r#"{"x":0,"n":9,"o":{"a":1},"o":{"b":1}}"#),
        (r#"{"type":"increment","path":"n","by":1}"#, r#"{"x":0,"n":6,"o":{"a":1},"o":{"b":1}}"#),
        (r#"{"type":"merge","value":{"n":9}}"#, r#"{"x":0,"n":9,"o":{"a":1},"o":{"b":1}}"#),
        (r#"{"type":"remove","path":"n"}"#, r#"{"x":0,"o":{"a":1},"o":{"b":1}}"#),
        (r#"{"type":"append","path":["o","b2"],"value":1}"#, r#"{"n":1,"x":0,"n":5,"o":{"b":1,"b2":[1]}}"#),
        (r#"{"type":"remove","path":["o","b"]}"#, r#"{"n":1,"x":0,"n":5,"o":{}}"#),
        (r#"{"type":"remove","path":["o","a"]}"#, before),
    ] {
        becomes(before, op, after);
    }
    is_skipped(before, r#"{"type":"append","path":"n","value":1}"#, "append.type_mismatch");
}

#[test]
fn a_merged_duplicate_counts_once_with_its_last_value() {
    becomes("{}", r#"{"type":"merge","value":{"a":1,"b":2,"a":3}}"#, r#"{"a":3,"b":2}"#);
}

#[test]
fn a_key_that_was_removed_and_is_set_again_is_the_last() {
    let looked_up = vec![increment(r#""a""#, "1"); 20].join(",");
    for before_it in ["", &looked_up] {
        let ops = [
            set(r#""b""#, "1"),
            remove(r#""b""#),
            remove(r#""b""#),
            set(r#""c""#, "1"),
            set(r#""b""#, "2"),
            remove(r#""a""#),
            set(r#""a""#, "0"),
        ];
        let ops = format!("[{before_it}{}{}]", if before_it.is_empty() { "" } else { "," }, ops.join(","));
        let Applied { after, errors } = applied(r#"{"a":0,"a":0}"#, &ops);
        assert_eq!((after.as_str(), errors), (r#"{"c":1,"b":2,"a":0}"#, vec![]), "{ops}");
    }
}

/// Members enough for an index, with duplicates and escapes: the index and the plain search agree.
#[test]
fn a_large_object_behaves_as_a_small_one() {
    let mut before = String::from(r#"{"dup":1"#);
    for i in 0..100 {
        write!(before, r#","k\u0030{i}": {i}.0"#).unwrap();
    }
    before.push_str(r#","dup":2,"dup":3}"#);
    let mut ops = Vec::new();
    for i in 0..100 {
        ops.push(match i % 4 {
            0 => format!(r#"{{"type":"remove","path":"k0{i}"}}"#),
            1 => format!(r#"{{"type":"increment","path":"k0{i}","by":1}}"#),
            2 => format!(r#"{{"type":"set","path":"k0{i}","value":null}}"#),
            _ => format!(r#"{{"type":"append","path":"new{i}","value":"{i}"}}"#),
        });
    }
    ops.push(r#"{"type":"increment","path":"dup","by":1}"#.into());
    ops.push(r#"{"type":"remove","path":"k01"}"#.into());
    ops.push(r#"{"type":"set","path":"k01","value":"again"}"#.into());
    let at_once = applied(&before, &format!("[{}]", ops.join(",")));
    assert_eq!(at_once.errors, []);
    let one_by_one = ops.iter().fold(before, |value, op| one(&value, op).0);
    assert_eq!(at_once.after.as_str(), one_by_one);
    assert!(one_by_one.contains(r#","dup":4,"#) && one_by_one.ends_with(r#","k01":"again"}"#));
}

/// Quadratic work would take minutes here.
#[test]
fn many_operations_on_a_large_item_take_linear_time() {
    const MANY: usize = 50_000;
    let list = |op: &dyn Fn(usize) -> String| (0..MANY).map(op).collect::<Vec<_>>().join(",");
    let members = list(&|i| format!(r#""k{i}":{i}"#));
    let before = format!(r#"{{"s":"","l":[],"far":{}e400,{members}}}"#, "9".repeat(1 << 20));
    for op in [
        &(|i| format!(r#"{{"type":"increment","path":"k{i}","by":1}}"#)) as &dyn Fn(usize) -> String,
        &|i| format!(r#"{{"type":"set","path":"new{i}","value":{i}}}"#),
        &|i| format!(r#"{{"type":"remove","path":"k{i}"}}"#),
        &|_| r#"{"type":"append","path":"s","value":"0123456789"}"#.into(),
        &|_| r#"{"type":"append","path":["l"],"value":[1]}"#.into(),
        &|i| format!(r#"{{"type":"merge","path":"m","value":{{"k{i}":{i}}}}}"#),
        &|i| format!(r#"{{"type":"set","path":"k0","value":{i}}},{{"type":"remove","path":"k0"}}"#),
    ] {
        assert_eq!(applied(&before, &format!("[{}]", list(op))).errors, []);
    }
    // As many new keys as one merge takes, again and again.
    let merges = list(&|i| match i % 1_000 {
        0 => format!(r#"{{"type":"merge","value":{{"n{i}":0"#),
        999 => format!(r#""n{i}":0}}}}"#),
        _ => format!(r#""n{i}":0"#),
    });
    assert_eq!(applied(&before, &format!("[{merges}]")).errors, []);
    let far =
        applied(&before, &format!("[{}]", list(&|_| r#"{"type":"increment","path":"far","by":1}"#.into())));
    assert_eq!((far.errors.len(), far.after.as_str().len()), (MANY, before.len()));
}

#[test]
fn the_deepest_result_is_told_by_its_depth() {
    let limits = Limits::default();
    let path = format!("[{}]", vec![r#""k""#; 32].join(","));
    let value = "[".repeat(128) + &"]".repeat(128);
    let ops = format!(r#"[{{"type":"append","path":{path},"value":{value}}}]"#);
    let mut document = Document::new(None);
    assert_eq!(document.apply(&parsed(&ops).unwrap()).errors, []);
    assert!(document.check(&limits).is_err());
    assert!(document.check(&Limits { json_depth: 128 + 33, ..limits.clone() }).is_ok());
    assert!(document.check(&Limits { json_depth: 128 + 32, ..limits }).is_err());
}

/// Reading the long key for each operation would take minutes.
#[test]
fn a_long_key_is_not_read_again_by_each_operation() {
    let key = "\\n".repeat(4 << 20);
    let before = Json::trusted(format!(r#"{{"{key}":1}}"#));
    let ops = format!("[{}]", vec![r#"{"type":"set","path":"b","value":2}"#; 10_000].join(","));
    let raw: &RawValue = serde_json::from_str(&ops).unwrap();
    let applied = apply(Some(&before), &parse(raw, &Limits::default()).unwrap());
    assert!(applied.after.as_str().ends_with(r#"":1,"b":2}"#));
}
