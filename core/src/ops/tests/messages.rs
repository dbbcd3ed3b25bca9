//! The sentences that callers read: each tells what to change.

use super::*;

fn refusals(ops: &[&str]) -> String {
    ops.iter().map(|op| parsed(&format!("[{op}]")).expect_err(op).to_string()).collect::<Vec<_>>().join("\n")
}

fn skips(before: &str, ops: &[&str]) -> String {
    let errors = applied(before, &format!("[{}]", ops.join(","))).errors;
    errors
        .into_iter()
        .map(|error| format!("{} | {}", error.code.as_str(), error.message))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_refused_call_says_which_operation_to_change_and_how() {
    let deep = format!(r#"{{"type":"set","path":"a","value":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    insta::assert_snapshot!(refusals(&[
        "5",
        r#"{"path":"a"}"#,
        r#"{"type":"inc","path":"a"}"#,
        r#"{"type":"set","value":1}"#,
        r#"{"type":"set","path":null,"value":1}"#,
        r#"{"type":"merge","path":[1],"value":{}}"#,
        r#"{"type":"remove","path":"\ud800"}"#,
        r#"{"type":"append","path":"a"}"#,
        r#"{"type":"set","path":"a"},{"type":"set","path":"a"},{"type":"increment","path":"n","by":1.0}"#,
        r#"{"type":"increment","path":"n","by":99999999999999999999}"#,
        &deep,
    ]), @r#"
    ops[0]: an operation must be an object such as {"type":"set","path":"a","value":1}, got 5
    ops[0]: `type` is missing
    ops[0]: `type` must be "set", "merge", "increment", "decrement", "append" or "remove", got "inc"
    ops[0]: `path` is missing
    ops[0]: `path` of `set` must be a string (one key, or "" for the whole value) or an array of strings (one key a level); got null
    ops[0]: `path` of `merge` must be a string (one key), an array of strings (one key a level), or null for the whole value; got [1]
    ops[0]: `path` must be Unicode text without lone surrogates, got "\ud800"
    ops[0]: `value` is missing
    ops[2]: `by` must be an integer, got 1.0
    ops[0]: `by` must be an integer from -9223372036854775808 to 9223372036854775807, got 99999999999999999999
    ops[0]: `value` is nested deeper than 128 levels (`json_depth`)
    "#);
    insta::assert_snapshot!(parsed(r#"{"type":"set"}"#).unwrap_err(), @r#"`ops` must be an array of operations, got {"type":"set"}"#);
}

#[test]
fn a_call_with_too_many_operations_or_too_much_in_them_says_what_the_limit_is() {
    let limits = Limits { update_ops: 2, value_bytes: 50, ..Limits::default() };
    let refusal =
        |ops: &str| parse(serde_json::from_str(ops).unwrap(), &limits).map_err(|error| error.to_string());
    let (op, long) = (r#"{"type":"remove","path":"a"}"#, "x".repeat(100));
    // As many operations as there may be, and as long.
    assert_eq!(refusal(&format!("[{op},{:69}]", op)).map(|ops| ops.len()), Ok(2));
    insta::assert_snapshot!(refusal(&format!("[{op},{op},{op}]")).unwrap_err(), @"`ops` has more than 2 operations, which is the limit (`update_ops`)");
    insta::assert_snapshot!(refusal(&format!("[{op},5,{op}]")).unwrap_err(), @r#"ops[1]: an operation must be an object such as {"type":"set","path":"a","value":1}, got 5"#);
    insta::assert_snapshot!(refusal(&format!("[{op},{op},5]")).unwrap_err(), @"`ops` has more than 2 operations, which is the limit (`update_ops`)");
    insta::assert_snapshot!(refusal(&format!(r#"["{long}"]"#)).unwrap_err(), @"`ops` is 104 bytes of JSON; the limit is 100, twice `value_bytes`");
}

#[test]
fn a_path_in_a_message_is_spelled_as_a_caller_would_write_it() {
    let op = set(r#"["👩‍👩‍👧","a\u0001\n"]"#, "1");
    insta::assert_snapshot!(skips(r#"{"👩‍👩‍👧":1}"#, &[&op]), @r#"set.target_not_object | ops[0]: `set`: the path ["👩‍👩‍👧","a\u0001\n"] needs an object at "👩‍👩‍👧", found a number"#);
}

#[test]
fn a_skipped_operation_says_what_was_in_its_way() {
    insta::assert_snapshot!(skips(r#"{"s":"text","o":{"t":true},"n":18446744073709551615,"far":-1e999}"#, &[
        r#"{"type":"increment","path":"s","by":1}"#,
        r#"{"type":"increment","path":"n","by":1}"#,
        r#"{"type":"decrement","path":"far","by":1}"#,
        r#"{"type":"increment","path":"far","by":1}"#,
        r#"{"type":"append","path":"s","value":1}"#,
        r#"{"type":"append","path":"o","value":1}"#,
        r#"{"type":"append","path":["o","t","u"],"value":1}"#,
        r#"{"type":"append","path":"","value":1}"#,
    ]), @r#"
    increment.not_number | ops[0]: `increment`: "s" is a string, not a number
    increment.not_number | ops[1]: `increment`: "n" is 18446744073709551615; with 1 added it would be outside of -9223372036854775808 to 18446744073709551615
    decrement.not_number | ops[2]: `decrement`: "far" is -1e999; only integers from -9223372036854775808 to 18446744073709551615 and finite floats can be added to
    increment.not_number | ops[3]: `increment`: "far" is -1e999; only integers from -9223372036854775808 to 18446744073709551615 and finite floats can be added to
    append.type_mismatch | ops[4]: `append`: "s" is a string: it takes only strings, not a number
    append.type_mismatch | ops[5]: `append`: "o" is an object, not an array, a string or null
    append.target_not_object | ops[6]: `append`: the path ["o","t","u"] needs an object at ["o","t"], found a boolean
    append.type_mismatch | ops[7]: `append`: the root is an object, not an array, a string or null
    "#);
    insta::assert_snapshot!(skips("[]", &[r#"{"type":"set","path":"a","value":1}"#]), @r#"set.target_not_object | ops[0]: `set`: the path "a" needs an object at the root, found an array"#);
}

#[test]
fn a_bad_path_or_value_to_merge_is_named() {
    let long = format!(r#"{{"type":"remove","path":"{}"}}"#, "x".repeat(257));
    let deep_path = format!(r#"{{"type":"append","path":[{}],"value":1}}"#, vec![r#""k""#; 40].join(","));
    let keys = (0..1_025).map(|i| format!(r#""k{i}":0"#)).collect::<Vec<_>>().join(",");
    let large = format!(r#"{{"type":"merge","value":{{{keys}}}}}"#);
    let deep = format!(r#"{{"type":"merge","value":{{"a":{}{}}}}}"#, "[".repeat(16), "]".repeat(16));
    insta::assert_snapshot!(skips("{}", &[
        r#"{"type":"append","path":["a",""],"value":1}"#,
        r#"{"type":"set","path":"__proto__","value":1}"#,
        &long,
        &deep_path,
        r#"{"type":"merge","value":[1,2]}"#,
        r#"{"type":"merge","value":{"constructor":1}}"#,
        &large,
        &deep,
    ]), @r#"
    append.path.empty_segment | ops[0]: `append`: `path` has an empty segment; the root is "" or []
    set.path.proto_polluted | ops[1]: `set`: `path` must not name "__proto__", which is dangerous in JavaScript
    remove.path.segment_too_long | ops[2]: `remove`: `path` has a segment of 257 bytes; the limit is 256
    append.path.too_deep | ops[3]: `append`: `path` has 40 segments; the limit is 32
    merge.value.not_an_object | ops[4]: `merge`: `value` must be an object, got [1,2]
    merge.value.proto_polluted | ops[5]: `merge`: `value` must not have the key "constructor", which is dangerous in JavaScript
    merge.value.too_many_keys | ops[6]: `merge`: `value` has more than 1024 keys, which is the limit
    merge.value.too_deep | ops[7]: `merge`: `value` is nested deeper than 16 levels
    "#);
}
