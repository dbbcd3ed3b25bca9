//! The lines of an export: items, and at the end how many there were.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// One line.
#[derive(Debug)]
pub(super) enum Line<'a> {
    Item(Item<'a>),
    /// All items that there are came before.
    End {
        /// How many.
        items: u64,
    },
    /// The export could not go on.
    Broken {
        /// Why.
        reason: String,
    },
}

/// An item with its place.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) id: String,
    pub(super) value: &'a RawValue,
}

/// What a line may have. It has more in a file of a later version, maybe.
#[derive(Deserialize)]
struct Fields<'a> {
    stream: Option<String>,
    group: Option<String>,
    id: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    end: Option<End>,
    error: Option<Failure>,
}

#[derive(Deserialize, Serialize)]
struct End {
    items: u64,
}

#[derive(Deserialize, Serialize)]
struct Failure {
    message: String,
}

/// Tells a `null` from a key that is not there.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Line<'_> {
    /// Reads a line, with or without its line break.
    pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, String> {
        let text = str::from_utf8(line).map_err(|error| format!("it is no text: {error}"))?;
        let fields: Fields<'_> =
            serde_json::from_str(text).map_err(|error| format!("it is no item: {error}"))?;
        match fields {
            Fields { end: Some(End { items }), .. } => Ok(Line::End { items }),
            Fields { error: Some(Failure { message }), .. } => Ok(Line::Broken { reason: message }),
            Fields { stream: Some(stream), group: Some(group), id: Some(id), value: Some(value), .. } => {
                Ok(Line::Item(Item { stream, group, id, value }))
            }
            _ => Err("it is no item: an item has `stream`, `group`, `id` and `value`".to_owned()),
        }
    }
}

/// Appends the line of an item whose value has this JSON text.
pub(super) fn put_item(out: &mut Vec<u8>, stream: &str, group: &str, id: &str, value: &str) {
    for (key, name) in [("{\"stream\":", stream), (",\"group\":", group), (",\"id\":", id)] {
        out.extend_from_slice(key.as_bytes());
        put_json(out, &name);
    }
    out.extend_from_slice(b",\"value\":");
    let start = out.len();
    out.extend_from_slice(value.as_bytes());
    // In JSON they stand between tokens only: a string has them escaped. There, one space is as good as another.
    for byte in out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the last line.
pub(super) fn put_end(out: &mut Vec<u8>, items: u64) {
    put_only(out, "end", &End { items });
}

/// Appends the last line of an export that could not go on.
pub(super) fn put_broken(out: &mut Vec<u8>, reason: String) {
    put_only(out, "error", &Failure { message: reason });
}

fn put_only(out: &mut Vec<u8>, key: &str, value: &impl Serialize) {
    out.push(b'{');
    put_json(out, &key);
    out.push(b':');
    put_json(out, value);
    out.extend_from_slice(b"}\n");
}

/// Appends a value as JSON; of numbers and texts there is nothing that could fail.
pub(super) fn put_json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("memory takes numbers and texts");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_one_line_that_reads_back_to_the_letter() {
        for (name, value) in [
            ("a", "1e400"),
            ("\n\"\\/\u{0}\u{1f}\u{7f}", "{ \"b\" : [ ], \"a\":1.0,\"a\":12345678901234567890123 }"),
            ("😀\u{2028}", "null"),
            ("é", r#""\ud800\n""#),
        ] {
            let mut line = Vec::new();
            put_item(&mut line, name, name, name, value);
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "{line:?}");
            let Ok(Line::Item(item)) = Line::parse(&line) else { panic!("{line:?} is an item") };
            assert_eq!([&item.stream, &item.group, &item.id], [name; 3]);
            assert_eq!(item.value.get(), value);
        }
    }

    #[test]
    fn line_breaks_between_the_tokens_of_a_value_become_spaces() {
        let mut line = Vec::new();
        put_item(&mut line, "s", "g", "i", "{\r\n  \"a\\n\": [\n1]}");
        let line = String::from_utf8(line).expect("it is text");
        assert_eq!(line, "{\"stream\":\"s\",\"group\":\"g\",\"id\":\"i\",\"value\":{    \"a\\n\": [ 1]}}\n");
    }

    #[test]
    fn the_last_line_says_how_many_items_there_are_or_what_went_wrong() {
        let mut line = Vec::new();
        put_end(&mut line, 7);
        assert_eq!(line, b"{\"end\":{\"items\":7}}\n");
        assert!(matches!(Line::parse(&line), Ok(Line::End { items: 7 })));
        line.clear();
        put_broken(&mut line, "no \"more\"".to_owned());
        assert!(matches!(Line::parse(&line), Ok(Line::Broken { reason }) if reason == "no \"more\""));
    }

    #[test]
    fn what_is_no_item_is_said_to_be_none() {
        for line in [
            "",
            "{}",
            "[]",
            "{\"stream\":\"s\",\"group\":\"g\",\"id\":\"i\"}",
            "{\"stream\":\"s\",\"group\":\"g\",\"id\":1,\"value\":1}",
            "{\"stream\":\"s\",\"group\":\"g\",\"id\":\"i\",\"value\":1",
            "{\"end\":{}}",
        ] {
            let error = Line::parse(line.as_bytes()).expect_err(line);
            assert!(error.starts_with("it is no item: "), "{line}: {error}");
        }
        assert!(Line::parse(b"\"\xff\"").is_err());
    }
}
