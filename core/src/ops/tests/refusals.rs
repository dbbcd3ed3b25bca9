//! What is refused because of its own text: paths and values that skip an operation, forms that fail the call.

use super::*;

/// An operation of each type at a path.
fn each_at(path: &str) -> [(&'static str, String); 6] {
    [
        ("set", set(path, "1")),
        ("merge", merge(path, "{}")),
        ("increment", increment(path, "1")),
        ("decrement", decrement(path, "1")),
        ("append", append(path, "1")),
        ("remove", remove(path)),
    ]
}

#[test]
fn paths_that_can_harm_are_refused() {
    for name in ["__proto__", "constructor", "prototype"] {
        for (op, text) in each_at(&format!("{name:?}")) {
            is_skipped(r#"{"x":1}"#, &text, &format!("{op}.path.proto_polluted"));
        }
        for (op, text) in each_at(&format!(r#"["a",{name:?}]"#)) {
            is_skipped(MISSING, &text, &format!("{op}.path.proto_polluted"));
        }
    }
    becomes("{}", &set(r#""_proto_""#, "1"), r#"{"_proto_":1}"#);
}

#[test]
fn a_segment_has_1_to_256_bytes() {
    let longest = "é".repeat(128);
    becomes("{}", &set(&format!("{longest:?}"), "1"), &format!(r#"{{"{longest}":1}}"#));
    for (op, text) in each_at(&format!("\"{longest}x\"")) {
        is_skipped("{}", &text, &format!("{op}.path.segment_too_long"));
    }
    for path in [r#"[""]"#, r#"["a",""]"#, r#"["","a"]"#] {
        for (op, text) in each_at(path) {
            is_skipped("{}", &text, &format!("{op}.path.empty_segment"));
        }
    }
}

#[test]
fn a_path_has_at_most_32_segments() {
    let path = |len: usize| format!("[{}]", vec![r#""k""#; len].join(","));
    let nested = |core: &str| r#"{"k":"#.repeat(32) + core + &"}".repeat(32);
    becomes("{}", &append(&path(32), "1"), &nested("[1]"));
    becomes("7", &merge(&path(32), "{}"), &nested("{}"));
    becomes("{}", &set(&path(32), "1"), &nested("1"));
    becomes("{}", &increment(&path(32), "1"), &nested("1"));
    becomes(&nested("1"), &decrement(&path(32), "1"), &nested("0"));
    becomes(&nested(r#"{"k":1}"#), &remove(&path(32)), &nested("{}").replace(r#"{"k":{}}"#, "{}"));
    for (op, text) in each_at(&path(33)) {
        is_skipped("{}", &text, &format!("{op}.path.too_deep"));
    }
}

#[test]
fn what_is_merged_is_an_object_of_bounded_size_and_depth() {
    for kind in NO_OBJECTS {
        is_skipped("{}", &merge("null", kind), "merge.value.not_an_object");
    }
    let keys = |n: usize| (0..n).map(|i| format!(r#""k{i}":0"#)).collect::<Vec<_>>().join(",");
    becomes("{}", &merge("null", &format!("{{{}}}", keys(1_024))), &format!("{{{}}}", keys(1_024)));
    is_skipped("{}", &merge("null", &format!("{{{}}}", keys(1_025))), "merge.value.too_many_keys");

    for name in ["__proto__", "constructor", "prototype", r"\u005f_proto__"] {
        let value = format!(r#"{{"a":1,"{name}":1}}"#);
        is_skipped("{}", &merge("null", &value), "merge.value.proto_polluted");
    }
    becomes("{}", &merge("null", r#"{"a":{"__proto__":1}}"#), r#"{"a":{"__proto__":1}}"#);

    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    becomes("{}", &merge("null", &nested(16)), &nested(16));
    is_skipped("{}", &merge("null", &nested(17)), "merge.value.too_deep");
}

#[test]
fn a_wrong_form_fails_the_whole_call() {
    for op in [
        "1",
        "[]",
        "null",
        "{}",
        r#"{"type":5}"#,
        r#"{"type":"Set","path":"a"}"#,
        r#"{"type":"replace","path":"a"}"#,
        r#"{"type":"set"}"#,
        r#"{"type":"set","path":null}"#,
        r#"{"type":"set","path":["a",5]}"#,
        r#"{"type":"set","path":5}"#,
        r#"{"type":"set","path":"\ud800"}"#,
        r#"{"type":"remove"}"#,
        r#"{"type":"remove","path":["a",5]}"#,
        r#"{"type":"increment","by":1}"#,
        r#"{"type":"remove","path":null}"#,
        r#"{"type":"increment","path":null,"by":1}"#,
        r#"{"type":"decrement","path":{},"by":1}"#,
        r#"{"type":"increment","path":"n"}"#,
        r#"{"type":"increment","path":[["n"]],"by":1}"#,
        r#"{"type":"increment","path":"n","by":1.0}"#,
        r#"{"type":"increment","path":"n","by":1e2}"#,
        r#"{"type":"increment","path":"n","by":"1"}"#,
        r#"{"type":"increment","path":"n","by":null}"#,
        r#"{"type":"increment","path":"n","by":9223372036854775808}"#,
        r#"{"type":"decrement","path":"n"}"#,
        r#"{"type":"decrement","path":[["n"]],"by":1}"#,
        r#"{"type":"decrement","path":"n","by":0.5}"#,
        r#"{"type":"merge"}"#,
        r#"{"type":"merge","path":5,"value":{}}"#,
        r#"{"type":"merge","path":["a",5],"value":{}}"#,
        r#"{"type":"append"}"#,
        r#"{"type":"append","path":{},"value":1}"#,
        r#"{"type":"append","path":[null],"value":1}"#,
    ] {
        assert!(parsed(&format!("[{op}]")).is_err(), "{op}");
        assert!(parsed(&format!(r#"[{},{op}]"#, set(r#""a""#, "1"))).is_err(), "{op}");
    }
    for ops in ["null", "{}", "1", r#""set""#] {
        assert!(parsed(ops).is_err(), "{ops}");
    }
}

#[test]
fn a_value_deeper_than_the_limit_fails_the_whole_call() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for op in [set, append, merge] {
        assert!(parsed(&format!("[{}]", op(r#""a""#, &nested(128)))).is_ok());
        assert!(parsed(&format!("[{}]", op(r#""a""#, &nested(129)))).is_err());
    }
}

#[test]
fn fields_that_mean_nothing_are_ignored_and_the_last_duplicate_counts() {
    becomes(
        "{}",
        r#"{"path":"x","note":[],"type":"remove","type":"set","path":"a","value":1}"#,
        r#"{"a":1}"#,
    );
    becomes("{}", r#"{"\u0074ype":"set","path":"\u0061","value":1,"by":2.5}"#, r#"{"a":1}"#);
}
