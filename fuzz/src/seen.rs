//! Frames to subscribers, as the protocol has them.

use headwater_model::json::Value;

/// A frame of the stream port, read.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) stamp: u64,
    pub(crate) stream: String,
    pub(crate) group: String,
    pub(crate) item: Option<String>,
    pub(crate) event: Value,
    /// The `type` of the event.
    pub(crate) kind: String,
    /// None of an error.
    pub(crate) revision: Option<u64>,
}

impl Seen {
    /// Reads a frame that must have exactly the form of the protocol.
    pub(crate) fn read(frame: &str) -> Seen {
        let value = Value::parse(frame).unwrap_or_else(|error| panic!("no JSON: {error:?} {frame}"));
        let event = member(&value, "event", frame);
        let kind = text(event, "type", frame);
        let mut fields = vec!["type", "timestamp", "streamName", "groupId", "id", "event"];
        match kind.as_str() {
            "sync" => {
                fields.extend(["revision", "epoch"]);
                let data = only(event, &["type", "data"], frame).1;
                let is_item = *member(&value, "id", frame) != Value::Null;
                let is_list = matches!(data, Value::Array(items) if !items.contains(&Value::Null));
                assert!(is_item || is_list, "clients die of it: {frame}");
                text(&value, "epoch", frame);
            }
            "create" | "update" | "delete" => {
                fields.push("revision");
                let data = only(event, &["type", "data"], frame).1;
                assert_ne!(*data, Value::Null, "clients die of it: {frame}");
                assert_ne!(*member(&value, "id", frame), Value::Null, "a change is of an item: {frame}");
            }
            "event" => {
                fields.push("revision");
                let own = only(event, &["type", "event"], frame).1;
                only(own, &["type", "data"], frame);
                text(own, "type", frame);
            }
            "error" => {
                let error = only(event, &["type", "error"], frame).1;
                only(error, &["code", "message"], frame);
                assert!(!text(error, "code", frame).is_empty() && !text(error, "message", frame).is_empty());
            }
            kind => panic!("no kind of event: {kind} in {frame}"),
        }
        only(&value, &fields, frame);
        assert_eq!(text(&value, "type", frame), "stream", "{frame}");
        let stamp = integer(&value, "timestamp", frame);
        assert_eq!(stamp == 0, kind == "error", "{frame}");
        Seen {
            stamp,
            stream: text(&value, "streamName", frame),
            group: text(&value, "groupId", frame),
            item: match member(&value, "id", frame) {
                Value::Null => None,
                _ => Some(text(&value, "id", frame)),
            },
            event: event.clone(),
            revision: (kind != "error").then(|| integer(&value, "revision", frame)),
            kind,
        }
    }
}

/// Checks that an object has these members, each once, and no others. Gives the first and the second.
fn only<'v>(value: &'v Value, names: &[&str], frame: &str) -> (&'v Value, &'v Value) {
    let Value::Object(members) = value else { panic!("no object: {value} in {frame}") };
    assert_eq!(members.len(), names.len(), "{frame}");
    for name in names {
        member(value, name, frame);
    }
    (member(value, names[0], frame), member(value, names[1], frame))
}

fn member<'v>(value: &'v Value, name: &str, frame: &str) -> &'v Value {
    value.get(name).unwrap_or_else(|| panic!("no `{name}` in {frame}"))
}

fn text(value: &Value, name: &str, frame: &str) -> String {
    member(value, name, frame).text().unwrap_or_else(|| panic!("`{name}` is no text in {frame}"))
}

fn integer(value: &Value, name: &str, frame: &str) -> u64 {
    let number = member(value, name, frame).to_string();
    number.parse().unwrap_or_else(|_| panic!("`{name}` is no integer in {frame}"))
}
