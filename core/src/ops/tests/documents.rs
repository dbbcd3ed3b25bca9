//! What a document keeps from one update to the next, and what it counts of it.

use super::*;
use crate::ops::Document;

/// An object of so many members; their keys say `k0`, `k1`, …
fn object(members: usize, key: impl Fn(usize) -> String) -> Json {
    let members: Vec<_> = (0..members).map(|i| format!(r#""{}":{i}"#, key(i))).collect();
    Json::trusted(format!("{{{}}}", members.join(",")))
}

fn plain(i: usize) -> String {
    format!("k{i}")
}

fn updated(document: &mut Document, op: &str) -> Json {
    let Applied { after, errors } = document.apply(&parsed(&format!("[{op}]")).unwrap());
    assert_eq!(errors, []);
    after
}

#[test]
fn what_did_not_change_is_the_very_text_in_memory_and_no_copy() {
    for value in [r#"{ "a" : {"n":1} }"#, "[1]", "7", "1e400", r#""s""#] {
        let value = json(value);
        for ops in [
            "[]",
            r#"[{"type":"increment","path":["a"],"by":1},{"type":"remove","path":["a","b"]}]"#,
            r#"[{"type":"append","path":["a","n"],"value":1},{"type":"append","path":["a","n","x"],"value":1}]"#,
        ] {
            assert!(apply(Some(&value), &parsed(ops).unwrap()).after.is_same_text(&value), "{value:?} {ops}");
        }
        let set = parsed(&format!("[{}]", set(r#""""#, value.as_str()))).unwrap();
        let mut document = Document::new(None);
        let after = document.apply(&set).after;
        assert!(document.apply(&[]).after.is_same_text(&after));
        assert!(document.is_of(Some(&after)) && !document.is_of(Some(&json(after.as_str()))));
    }
    assert!(Document::new(None).is_of(None));
    assert!(
        !Document::new(None).is_of(Some(&Json::null())) && !Document::new(Some(&Json::null())).is_of(None)
    );
}

#[test]
fn an_object_stays_taken_apart_and_its_memory_is_counted() {
    const MEMBERS: usize = 1_000;
    let text_and_members = |text: &Json| text.as_str().len() + MEMBERS * 48;
    let (before, increment) = (object(MEMBERS, plain), increment(r#""k7""#, "1"));
    let mut document = Document::new(Some(&before));
    assert!((before.as_str().len()..before.as_str().len() + 512).contains(&document.bytes()));

    let after = updated(&mut document, &increment);
    let apart = document.bytes();
    // A vector has room for at most twice of what is in it.
    assert!((text_and_members(&after)..2 * text_and_members(&after)).contains(&apart), "{apart} bytes");

    // A number, an array and a string have nothing to be taken apart.
    for op in [append(r#""new""#, "1"), set(r#""k8""#, r#""s""#)] {
        updated(&mut document, &op);
    }
    assert!(document.bytes() - apart < 512);

    // The index of the keys counts, and what it has to keep of them.
    for _ in 0..8 {
        updated(&mut document, &increment);
    }
    let indexed = document.bytes();
    assert!((24 * MEMBERS..50 * MEMBERS).contains(&(indexed - apart)), "{indexed} bytes, {apart} before");
    let long = "x".repeat(256);
    for i in 0..100 {
        updated(&mut document, &set(&format!("\"{i}{}\"", &long[4..]), "1"));
    }
    let text = 100 * (256 + r#","":1"#.len());
    assert!(document.bytes() - indexed > text + 100 * 250, "{} bytes, {indexed} before", document.bytes());

    let escaped = object(MEMBERS, |i| format!(r"\u006b{i}{}", "y".repeat(100)));
    let mut document = Document::new(Some(&escaped));
    for _ in 0..12 {
        updated(&mut document, r#"{"type":"remove","path":"none"}"#);
    }
    assert!(document.bytes() > text_and_members(&escaped) + MEMBERS * (24 + 100), "{}", document.bytes());
}

#[test]
fn objects_within_stay_taken_apart_and_count_too() {
    let inner = object(1_000, plain);
    let before = Json::trusted(format!(r#"{{"a":{{"b":{}}},"c":1}}"#, inner.as_str()));
    let mut document = Document::new(Some(&before));
    for (op, at) in [(increment(r#"["a","b","k7"]"#, "1"), "k7"), (increment(r#""c""#, "1"), "c")] {
        let after = updated(&mut document, &op);
        assert!(document.bytes() > after.as_str().len() + 48_000, "{at}: {} bytes", document.bytes());
    }
    // What takes their place has nothing within.
    let after = updated(&mut document, &set(r#""a""#, "{}"));
    assert!(document.bytes() < after.as_str().len() + 4_096, "{} bytes", document.bytes());
}

/// An operation that is skipped has looked at a value and left it; a change beside it moves it.
#[test]
fn what_was_looked_at_and_left_is_found_again_where_it_moved_to() {
    let before = r#"{"x":9,"a":{"s":"t","f":1e400,"o":{"m":1},"n":1},"b":{"s":"u"}}"#;
    let looked = [
        increment(r#"["a","s"]"#, "1"),
        increment(r#"["a","f"]"#, "1"),
        increment(r#"["a","o","m","k"]"#, "1"),
        increment(r#"["b","s"]"#, "1"),
        increment(r#""x""#, "1"),
    ];
    let mut document = Document::new(Some(&json(before)));
    let Applied { after, errors } = document.apply(&parsed(&format!("[{}]", looked.join(","))).unwrap());
    assert_eq!(errors.len(), 4);
    assert_eq!(after.as_str(), before.replace(":9,", ":10,"));
    let after = updated(&mut document, &increment(r#"["a","n"]"#, "1"));
    assert_eq!(after.as_str(), before.replace(":9,", ":10,").replace(r#""n":1"#, r#""n":2"#));
    let after = updated(&mut document, &increment(r#"["a","o","m"]"#, "1"));
    let after_b = updated(&mut document, &append(r#"["b","s"]"#, r#""v""#));
    assert_eq!(after.as_str(), r#"{"x":10,"a":{"s":"t","f":1e400,"o":{"m":2},"n":2},"b":{"s":"u"}}"#);
    assert_eq!(after_b.as_str(), after.as_str().replace(r#""u""#, r#""uv""#));
}

#[test]
fn what_was_removed_takes_no_memory() {
    let mut document = Document::new(Some(&object(10, plain)));
    let mut after_a_few = 0;
    for call in 0..1_000 {
        updated(&mut document, &format!("{},{}", set(r#""new""#, "1"), remove(r#""k3""#)));
        updated(&mut document, &format!("{},{}", remove(r#""new""#), set(r#""k3""#, "1")));
        if call == 20 {
            after_a_few = document.bytes();
        }
    }
    assert_eq!(document.bytes(), after_a_few);
}

/// Few keys get an index too, because they may be long: without it, each operation would read them again.
#[test]
fn a_few_long_keys_are_read_once() {
    const LONG: usize = 100 << 10;
    let before = object(2, |i| format!("{}{i}", r"\n".repeat(LONG)));
    let mut document = Document::new(Some(&before));
    for _ in 0..8 {
        updated(&mut document, &increment(r#""n""#, "1"));
    }
    let after = updated(&mut document, &increment(r#""n""#, "1"));
    let apart = document.bytes() - after.as_str().len();
    assert!((2 * LONG..2 * LONG + 4_096).contains(&apart), "the names of both, decoded: {apart}");
}

/// The names of the keys that came after an index was made are kept beside it, but not for ever.
#[test]
fn an_index_that_most_keys_came_after_is_made_again() {
    let mut document = Document::new(Some(&object(20, plain)));
    for i in 0..2_000 {
        updated(&mut document, &set(&format!("\"{i:0>250}\""), "1"));
    }
    let after = document.apply(&[]).after;
    let mut fresh = Document::new(Some(&after));
    for _ in 0..12 {
        updated(&mut fresh, &remove(r#""none""#));
    }
    let beside = |document: &Document| document.bytes() - after.as_str().len();
    assert!(beside(&document) < 3 * beside(&fresh), "{} and {}", beside(&document), beside(&fresh));
}
