//! What is written, and how it is known again: each value carries its number and the moment in which it was sent.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::clock::Moment;

/// The stream of a scenario, and of what it is made: groups `g0`, `g1`, … with items `i0`, `i1`, … each.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) stream: String,
    pub(super) groups: usize,
    pub(super) items: usize,
}

/// A number and the moment in which it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: u64,
    pub(super) sent: Moment,
}

/// How many bytes a value has, if nothing else is said.
pub(super) const VALUE_BYTES: usize = 128;

impl Mark {
    fn parse(text: &str) -> Option<Mark> {
        let (number, sent) = text.split_once(' ')?;
        Some(Mark { number: number.parse().ok()?, sent: Moment(sent.parse().ok()?) })
    }
}

impl Space {
    /// Appends the input of `stream::set`, as the value of which this mark is.
    pub(super) fn put_set(&self, out: &mut Vec<u8>, group: usize, item: usize, mark: Mark, bytes: usize) {
        self.put_item(out, group, item);
        out.extend_from_slice(b",\"data\":");
        put_value(out, item, mark, bytes);
        out.push(b'}');
    }

    /// The frame that joins a group.
    pub(super) fn join(&self, group: usize) -> String {
        format!(
            r#"{{"type":"join","data":{{"subscriptionId":"s{group}","streamName":"{}","groupId":"g{group}"}}}}"#,
            self.stream
        )
    }

    /// Appends the start of what is about an item: an object without its end.
    pub(super) fn put_item(&self, out: &mut Vec<u8>, group: usize, item: usize) {
        let Space { stream, .. } = self;
        // Writing to a vector does not fail.
        let _ = write!(out, r#"{{"stream_name":"{stream}","group_id":"g{group}","item_id":"i{item}""#);
    }
}

/// Appends a value of about this many bytes.
pub(super) fn put_value(out: &mut Vec<u8>, item: usize, mark: Mark, bytes: usize) {
    let start = out.len();
    let Mark { number, sent: Moment(sent) } = mark;
    let _ = write!(out, r#"{{"id":"i{item}","mark":"{number} {sent}","pad":""#);
    let padded = (start + bytes).saturating_sub(2).max(out.len());
    out.resize(padded, b'-');
    out.extend_from_slice(b"\"}");
}

/// A value as it comes back.
#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    mark: Cow<'a, str>,
}

/// The mark of a value.
pub(super) fn mark_of(value: &RawValue) -> Option<Mark> {
    let Value { mark } = serde_json::from_str(value.get()).ok()?;
    Mark::parse(&mark)
}

/// What the stream port sends, as far as it is of interest here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame<'a> {
    #[serde(borrow)]
    stream_name: Cow<'a, str>,
    #[serde(borrow)]
    group_id: Cow<'a, str>,
    #[serde(borrow)]
    event: Event<'a>,
    revision: Option<u64>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What a subscriber or a handler was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The state of the group, with this many items.
    Sync { group: usize, items: usize, revision: Option<u64> },
    /// A change.
    Change { group: usize, mark: Mark, revision: Option<u64> },
}

impl Space {
    /// What a frame says; a sentence if it is nothing that should come here.
    pub(super) fn read_frame(&self, text: &[u8]) -> Result<Told, String> {
        let odd = |why: &str| {
            let text = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
            format!("a subscriber got a frame {why}: {text}")
        };
        let frame: Frame<'_> =
            serde_json::from_slice(text).map_err(|error| odd(&format!("that can't be read ({error})")))?;
        let Frame { stream_name, group_id, event: Event { kind, data }, revision } = frame;
        let group = group_id.strip_prefix('g').and_then(|number| number.parse().ok());
        let (Some(group), true) = (group, stream_name == self.stream) else {
            return Err(odd("of another group"));
        };
        let Some(data) = data else { return Err(odd("without data")) };
        match &*kind {
            "sync" => {
                let items: Vec<&RawValue> =
                    serde_json::from_str(data.get()).map_err(|_| odd("whose sync is no list"))?;
                Ok(Told::Sync { group, items: items.len(), revision })
            }
            "create" | "update" => {
                let mark = mark_of(data).ok_or_else(|| odd("with a value that nobody wrote"))?;
                Ok(Told::Change { group, mark, revision })
            }
            _ => Err(odd("of a kind that nobody caused")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_length_and_its_mark() {
        let mark = Mark { number: 7, sent: Moment(u64::MAX) };
        for bytes in [0, 128, 200] {
            let mut value = b"before".to_vec();
            put_value(&mut value, 3, mark, bytes);
            let value = String::from_utf8(value.split_off(6)).expect("text");
            assert!(value.len() == bytes || bytes == 0, "{value}");
            let value: &RawValue = serde_json::from_str(&value).expect("JSON");
            assert_eq!(mark_of(value), Some(mark));
        }
    }

    #[test]
    fn frames_are_read_whatever_their_order_and_spaces() {
        let space = Space { stream: "s".to_owned(), groups: 1, items: 1 };
        let sync =
            br#"{"event": {"data": [1, 2], "type": "sync"}, "groupId": "g4", "streamName": "s", "id": null}"#;
        assert_eq!(space.read_frame(sync), Ok(Told::Sync { group: 4, items: 2, revision: None }));
        let change = br#"{"streamName":"s","groupId":"g4","event":{"type":"update","data":{"mark":"5 6"}},"revision":9}"#;
        let mark = Mark { number: 5, sent: Moment(6) };
        assert_eq!(space.read_frame(change), Ok(Told::Change { group: 4, mark, revision: Some(9) }));
        for wrong in [
            r#"{"streamName":"t","groupId":"g4","event":{"type":"sync","data":[]}}"#,
            r#"{"streamName":"s","groupId":"g4","event":{"type":"sync","data":{}}}"#,
            r#"{"streamName":"s","groupId":"g4","event":{"type":"update","data":{}}}"#,
            r#"{"streamName":"s","groupId":"g4","event":{"type":"delete","data":{"mark":"5 6"}}}"#,
            r#"{"streamName":"s","groupId":"g4","event":{"type":"unauthorized"}}"#,
            "no",
        ] {
            assert!(space.read_frame(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
