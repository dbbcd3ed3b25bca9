//! Files that nobody writes by accident.

use proptest::prelude::*;

use super::super::Config;
use super::{errors, parse};

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        let text = format!("{}{}", open.repeat(10_000), close.repeat(10_000));
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("headwater.yaml: line 1, column "), "{error}");
    }
    let indented: String = (0..10_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    assert!(parse(&indented).is_err());
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..20 {
        let aliases = vec![format!("*a{}", n - 1); 9].join(", ");
        text += &format!("a{n}: &a{n} [{aliases}]\n");
    }
    insta::assert_snapshot!(errors(&[&text, "&a [*a]", "a: &a\n  <<: *a"]), @r"
    headwater.yaml: line 5, column 10: expected valid YAML: YAML document too large or too complex: total_replayed_events=10001 > 10000
    headwater.yaml: line 1, column 5: expected valid YAML: Recursive reference not allowed here
    headwater.yaml: line 2, column 7: expected valid YAML: Recursive reference not allowed here
    ");
}

/// Pieces that files are made of.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "- ",
        "\n",
        "  ",
        "    ",
        ": ",
        "class: ",
        "name: ",
        "config:\n",
        "modules:\n",
        "workers:\n",
        "iii-stream",
        "headwater",
        "modules::stream::StreamModule",
        "port: ",
        "host: ",
        "adapter: ",
        "kv",
        "limits:",
        "timeouts:",
        "inbox: ",
        "store_method: ",
        "auth_failure: ",
        "allowed_origins: ",
        "https://[::1]:443",
        "worker_token: ",
        "worker_host: ",
        "0",
        "3112",
        "-1",
        "1e9",
        "${",
        "}",
        "${A:",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "? ",
        "| ",
        "> ",
        "!!int ",
        "#",
        "---\n",
        "\t",
        "é",
        "\0",
    ]);
    prop_oneof![9 => known.prop_map(String::from), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in prop_oneof![
        prop::collection::vec(piece(), 0..60).prop_map(|pieces| pieces.concat()),
        any::<String>(),
    ], value in any::<Option<String>>()) {
        let outcome = Config::parse("headwater.yaml", &text, &|_| value.clone());
        if let Err(error) = outcome {
            prop_assert!(error.to_string().starts_with("headwater.yaml: "));
        }
    }
}
