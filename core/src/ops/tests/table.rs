//! The table of the protocol, row by row.

use super::*;

const KINDS: [&str; 7] = ["null", "true", "false", "1", r#""s""#, "[1]", r#"{"x":1}"#];

#[test]
fn a_missing_item_starts_as_an_empty_object() {
    becomes(MISSING, &set(r#""a""#, "1"), r#"{"a":1}"#);
    becomes(MISSING, &increment(r#""n""#, "3"), r#"{"n":3}"#);
    becomes(MISSING, &decrement(r#""n""#, "3"), r#"{"n":-3}"#);
    becomes(MISSING, &merge("null", r#"{"a":1}"#), r#"{"a":1}"#);
    becomes(MISSING, &merge(r#"["a","b"]"#, r#"{"c":1}"#), r#"{"a":{"b":{"c":1}}}"#);
    becomes(MISSING, &append(r#""a""#, "1"), r#"{"a":[1]}"#);
    becomes(MISSING, &remove(r#""a""#), "{}");
    becomes(MISSING, &set(r#""""#, "5"), "5");
    becomes(MISSING, &remove(r#""""#), "null");
}

#[test]
fn a_missing_item_is_as_nothing_to_increment_and_append_at_the_root() {
    becomes(MISSING, &increment(r#""""#, "3"), "3");
    becomes(MISSING, &decrement(r#""""#, "3"), "-3");
    becomes(MISSING, &append(r#""""#, r#""s""#), r#""s""#);
    becomes(MISSING, &append(r#""""#, r#"{"a":1}"#), r#"[{"a":1}]"#);
    becomes(MISSING, &append(r#""""#, "null"), "[null]");
}

#[test]
fn an_item_is_stored_even_if_every_operation_was_skipped_or_there_was_none() {
    assert_eq!(applied(MISSING, "[]"), Applied { after: json("{}"), errors: vec![] });
    assert_eq!(applied("7", "[]"), Applied { after: json("7"), errors: vec![] });
    is_skipped(MISSING, &set(r#""__proto__""#, "1"), "set.path.proto_polluted");
}

#[test]
fn after_the_first_operation_no_item_is_missing() {
    let ops = format!("[{},{}]", set(r#""__proto__""#, "1"), increment(r#""""#, "1"));
    let Applied { after, errors } = applied(MISSING, &ops);
    assert_eq!(after.as_str(), "{}");
    assert_eq!(
        errors.iter().map(|e| (e.op_index, e.code.as_str())).collect::<Vec<_>>(),
        [(0, "set.path.proto_polluted"), (1, "increment.not_number")]
    );
}

#[test]
fn set_replaces_the_root_or_one_literal_key() {
    for kind in KINDS {
        becomes(kind, &set(r#""""#, "5"), "5");
    }
    becomes(r#"{"x":1}"#, &set(r#""a.b""#, "1"), r#"{"x":1,"a.b":1}"#);
    becomes(r#"{"x":1,"y":2}"#, &set(r#""x""#, "[3]"), r#"{"x":[3],"y":2}"#);
    becomes(r#"{"x":1}"#, r#"{"type":"set","path":"x"}"#, r#"{"x":null}"#);
    becomes(r#"{"x":1}"#, r#"{"type":"set","path":""}"#, "null");
}

#[test]
fn what_is_no_object_has_no_keys_to_change() {
    for kind in NO_OBJECTS {
        is_skipped(kind, &set(r#""a""#, "1"), "set.target_not_object");
        is_skipped(kind, &remove(r#""a""#), "remove.target_not_object");
        is_skipped(kind, &increment(r#""n""#, "1"), "increment.target_not_object");
        is_skipped(kind, &decrement(r#""n""#, "1"), "decrement.target_not_object");
        is_skipped(kind, &append(r#""a""#, "1"), "append.target_not_object");
        is_skipped(kind, &append(r#"["a","b"]"#, "1"), "append.target_not_object");
    }
}

#[test]
fn merge_is_shallow() {
    let before = r#"{"a":{"x":1}}"#;
    for op in [
        r#"{"type":"merge","value":{"a":{"y":2}}}"#.into(),
        merge("null", r#"{"a":{"y":2}}"#),
        merge(r#""""#, r#"{"a":{"y":2}}"#),
        merge("[]", r#"{"a":{"y":2}}"#),
    ] {
        becomes(before, &op, r#"{"a":{"y":2}}"#);
    }
    becomes(before, &merge(r#""a""#, r#"{"y":2}"#), r#"{"a":{"x":1,"y":2}}"#);
    becomes(before, &merge(r#"["a"]"#, r#"{"x":null}"#), r#"{"a":{"x":null}}"#);
    becomes(before, &merge(r#""b""#, r#"{"y":2}"#), r#"{"a":{"x":1},"b":{"y":2}}"#);
    becomes(before, &merge(r#"["a.x"]"#, "{}"), r#"{"a":{"x":1},"a.x":{}}"#);
}

#[test]
fn merge_at_the_root_leaves_what_is_no_object_alone() {
    for kind in NO_OBJECTS {
        becomes(kind, &merge("null", r#"{"a":1}"#), kind);
    }
}

#[test]
fn merge_at_a_path_makes_objects_of_what_is_on_it() {
    for kind in NO_OBJECTS {
        becomes(kind, &merge(r#""k""#, r#"{"a":1}"#), r#"{"k":{"a":1}}"#);
        becomes(&format!(r#"{{"k":{kind}}}"#), &merge(r#""k""#, r#"{"a":1}"#), r#"{"k":{"a":1}}"#);
        let before = format!(r#"{{"o":1,"j":{{"k":{kind}}}}}"#);
        becomes(&before, &merge(r#"["j","k","l"]"#, "{}"), r#"{"o":1,"j":{"k":{"l":{}}}}"#);
    }
    becomes(r#"{"s":{"abc":"str"}}"#, &merge(r#"["s","abc"]"#, r#"{"t":1}"#), r#"{"s":{"abc":{"t":1}}}"#);
}

#[test]
fn increment_and_decrement_add_to_numbers() {
    for (before, by, plus, minus) in [
        ("{}", "3", r#"{"n":3}"#, r#"{"n":-3}"#),
        (r#"{"n":2.5}"#, "1", r#"{"n":3.5}"#, r#"{"n":1.5}"#),
        (r#"{"n":2.0}"#, "1", r#"{"n":3.0}"#, r#"{"n":1.0}"#),
        (r#"{"n":1}"#, "-2", r#"{"n":-1}"#, r#"{"n":3}"#),
        ("{}", "-9223372036854775808", r#"{"n":-9223372036854775808}"#, r#"{"n":9223372036854775808}"#),
        (r#"{"n":9223372036854775807}"#, "1", r#"{"n":9223372036854775808}"#, r#"{"n":9223372036854775806}"#),
    ] {
        becomes(before, &increment(r#""n""#, by), plus);
        becomes(before, &decrement(r#""n""#, by), minus);
    }
    becomes("41", &increment(r#""""#, "1"), "42");
}

#[test]
fn what_is_no_number_or_would_leave_their_range_stays() {
    for kind in
        [r#""3""#, "null", "true", "[1]", "{}", "1e400", "18446744073709551616", "-9223372036854775809"]
    {
        let member = format!(r#"{{"n":{kind}}}"#);
        is_skipped(&member, &increment(r#""n""#, "1"), "increment.not_number");
        is_skipped(&member, &decrement(r#""n""#, "1"), "decrement.not_number");
        is_skipped(kind, &increment(r#""""#, "1"), "increment.not_number");
    }
    is_skipped(r#"{"n":18446744073709551615}"#, &increment(r#""n""#, "1"), "increment.not_number");
    is_skipped(r#"{"n":-9223372036854775808}"#, &decrement(r#""n""#, "1"), "decrement.not_number");
}

#[test]
fn append_makes_strings_of_strings_and_arrays_of_the_rest() {
    for (before, value, after) in [
        (r#"{}"#, r#""s""#, r#"{"a":"s"}"#),
        (r#"{}"#, "1", r#"{"a":[1]}"#),
        (r#"{}"#, "[1]", r#"{"a":[[1]]}"#),
        (r#"{"a":null}"#, r#""y""#, r#"{"a":"y"}"#),
        (r#"{"a":null}"#, "1", r#"{"a":[1]}"#),
        (r#"{"a":null}"#, "null", r#"{"a":[null]}"#),
        (r#"{"a":"x"}"#, r#""y""#, r#"{"a":"xy"}"#),
        (r#"{"a":""}"#, r#""""#, r#"{"a":""}"#),
        (r#"{"a":[1]}"#, "[2,3]", r#"{"a":[1,[2,3]]}"#),
        (r#"{"a":[1]}"#, r#""s""#, r#"{"a":[1,"s"]}"#),
        (r#"{"a":[]}"#, "null", r#"{"a":[null]}"#),
        (r#"{"a":[ ]}"#, "1", r#"{"a":[1]}"#),
    ] {
        becomes(before, &append(r#""a""#, value), after);
        becomes(before, &append(r#"["a"]"#, value), after);
    }
    for (before, value, after) in [("null", r#""y""#, r#""y""#), ("null", "1", "[1]"), ("[1]", "2", "[1,2]")]
    {
        for root in [r#""""#, "[]", "null"] {
            becomes(before, &append(root, value), after);
        }
    }
}

#[test]
fn append_below_the_first_level_starts_an_array() {
    for (before, value, after) in [
        ("{}", r#""x""#, r#"{"a":{"b":["x"]}}"#),
        ("{}", "1", r#"{"a":{"b":[1]}}"#),
        (r#"{"a":{}}"#, r#""x""#, r#"{"a":{"b":["x"]}}"#),
        (r#"{"a":{"b":null}}"#, r#""x""#, r#"{"a":{"b":"x"}}"#),
        (r#"{"a":{"b":"w"}}"#, r#""x""#, r#"{"a":{"b":"wx"}}"#),
    ] {
        becomes(before, &append(r#"["a","b"]"#, value), after);
    }
}

#[test]
fn append_destroys_nothing() {
    for kind in [r#"{"x":1}"#, "true", "false", "1"] {
        for value in ["1", r#""s""#] {
            is_skipped(&format!(r#"{{"a":{kind}}}"#), &append(r#""a""#, value), "append.type_mismatch");
            is_skipped(kind, &append("null", value), "append.type_mismatch");
        }
    }
    is_skipped(r#"{"a":"x"}"#, &append(r#""a""#, "1"), "append.type_mismatch");
    is_skipped("{}", &append(r#""""#, r#""s""#), "append.type_mismatch");
    for kind in NO_OBJECTS {
        is_skipped(&format!(r#"{{"a":{kind}}}"#), &append(r#"["a","b"]"#, "1"), "append.target_not_object");
    }
}

#[test]
fn remove_takes_a_key_away_and_leaves_null_at_the_root() {
    for kind in KINDS {
        becomes(kind, &remove(r#""""#), "null");
    }
    becomes(r#"{"a":1,"b":2,"c":3}"#, &remove(r#""b""#), r#"{"a":1,"c":3}"#);
    becomes(r#"{"a":1}"#, &remove(r#""a""#), "{}");
    becomes(r#"{"a":1}"#, &remove(r#""b""#), r#"{"a":1}"#);
}

#[test]
fn every_operation_takes_an_array_of_literal_keys() {
    let before = r#"{"a":{"b.c":{"n":1,"m":2}},"a.b":0}"#;
    let at = r#"["a","b.c","n"]"#;
    becomes(before, &set(at, "[5]"), r#"{"a":{"b.c":{"n":[5],"m":2}},"a.b":0}"#);
    becomes(before, &increment(at, "2"), r#"{"a":{"b.c":{"n":3,"m":2}},"a.b":0}"#);
    becomes(before, &decrement(at, "2"), r#"{"a":{"b.c":{"n":-1,"m":2}},"a.b":0}"#);
    becomes(before, &remove(at), r#"{"a":{"b.c":{"m":2}},"a.b":0}"#);
    becomes(before, &set(r#"["a.b"]"#, "1"), r#"{"a":{"b.c":{"n":1,"m":2}},"a.b":1}"#);
    for kind in KINDS {
        becomes(kind, &set("[]", "5"), "5");
        becomes(kind, &remove("[]"), "null");
    }
    becomes("41", &increment("[]", "1"), "42");
    becomes("41", &decrement("[]", "1"), "40");
}

#[test]
fn objects_that_are_missing_on_the_way_are_made_but_not_to_remove_something() {
    let at = r#"["a","b","c"]"#;
    for before in [MISSING, "{}", r#"{"a":{}}"#, r#"{"a":{"b":{}}}"#] {
        becomes(before, &set(at, "1"), r#"{"a":{"b":{"c":1}}}"#);
        becomes(before, &increment(at, "3"), r#"{"a":{"b":{"c":3}}}"#);
        becomes(before, &decrement(at, "3"), r#"{"a":{"b":{"c":-3}}}"#);
        becomes(before, &remove(at), if before == MISSING { "{}" } else { before });
    }
    for kind in NO_OBJECTS {
        for before in [format!(r#"{{"a":{kind}}}"#), format!(r#"{{"a":{{"b":{kind}}}}}"#)] {
            is_skipped(&before, &set(at, "1"), "set.target_not_object");
            is_skipped(&before, &increment(at, "1"), "increment.target_not_object");
            is_skipped(&before, &decrement(at, "1"), "decrement.target_not_object");
            is_skipped(&before, &remove(at), "remove.target_not_object");
        }
    }
}

#[test]
fn operations_see_what_the_ones_before_them_did() {
    let ops = format!(
        "[{},{},{},{},{},{},{}]",
        set(r#""o""#, r#"{"n":1,"l":[]}"#),
        append(r#"["o","l"]"#, "1"),
        append(r#"["o","l"]"#, r#""s""#),
        merge(r#""o""#, r#"{"n":2}"#),
        increment(r#""o""#, "1"),
        append(r#""s""#, r#""x""#),
        append(r#""s""#, r#""y""#),
    );
    let Applied { after, errors } = applied(MISSING, &ops);
    assert_eq!(after.as_str(), r#"{"o":{"n":2,"l":[1,"s"]},"s":"xy"}"#);
    assert_eq!(
        errors.iter().map(|e| (e.op_index, e.code.as_str())).collect::<Vec<_>>(),
        [(4, "increment.not_number")]
    );
}
