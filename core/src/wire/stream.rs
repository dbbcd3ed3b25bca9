//! The stream port's frames: what subscribers send and what they expect.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{push_array, push_json_member, push_key, push_string, push_text_member};
use crate::config::Limits;
use crate::field;
use crate::json::Json;
use crate::log::Epoch;
use crate::name::{GroupName, GroupPath, ItemId, NameError, StreamName, SubscriptionId, Target};
use crate::store::{Change, Durable, Event, EventKind, State};
use crate::time::{Stamp, WallMs};

/// A frame from a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromSubscriber {
    /// Subscribe.
    Join {
        /// The client's name for the subscription.
        subscription: SubscriptionId,
        /// What it covers.
        target: Target,
    },
    /// Unsubscribe.
    Leave {
        /// The client's name for the subscription.
        subscription: SubscriptionId,
    },
}

/// What a subscriber's WebSocket handshake said.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Handshake {
    /// Its headers, with names in lower case; one that came several times stands there as often.
    pub headers: Vec<(String, String)>,
    /// The path, as it came.
    pub path: String,
    /// What stood behind the question mark, as it came.
    pub query: String,
    /// Where it came from, as `ip:port`.
    pub addr: String,
}

impl Handshake {
    /// The input of an `auth_function`.
    pub fn to_json(&self) -> Json {
        let mut out = String::with_capacity(512);
        out.push_str(r#"{"headers":{"#);
        let values =
            by_key(self.headers.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())));
        push_members(&mut out, values, |out, values| push_string(out, &values.join(", ")));
        out.push('}');
        push_text_member(&mut out, "path", &self.path);
        push_key(&mut out, "query_params");
        out.push('{');
        push_members(&mut out, by_key(query_params(&self.query)), |out, values| {
            push_array(out, values.iter(), |out, value| push_string(out, value));
        });
        out.push('}');
        push_text_member(&mut out, "addr", &self.addr);
        out.push('}');
        Json::trusted(out)
    }
}

/// Tokens are in the headers and in the query: neither is shown.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("path", &self.path)
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Keys with all their values, in the order in which the keys first came.
fn by_key<'a>(
    pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
) -> Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)> {
    let mut places = BTreeMap::new();
    let mut out: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)> = Vec::new();
    for (key, value) in pairs {
        let at = *places.entry(key.clone()).or_insert(out.len());
        match out.get_mut(at) {
            Some((_, values)) => values.push(value),
            None => out.push((key, vec![value])),
        }
    }
    out
}

/// A query's parameters, as forms spell them: `+` is a space, the rest percent-decoded.
pub fn query_params(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        Cow::Owned(percent_decode_str(&text).decode_utf8_lossy().into_owned())
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

/// Appends the members of an object.
fn push_members<V>(out: &mut String, members: Vec<(Cow<'_, str>, V)>, push: impl Fn(&mut String, V)) {
    for (at, (key, value)) in members.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_string(out, &key);
        out.push(':');
        push(out, value);
    }
}

/// An error of the stream port. Clients ignore it; people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// Stable, for programs.
    pub code: &'static str,
    /// What happened and what to do about it, for people.
    pub message: String,
    /// The stream, group and item that the frame named, as far as it did; echoed.
    pub names: [Option<String>; 3],
}

/// The codes of a [`StreamError`].
pub mod code {
    /// The frame is no JSON, lacks a field, or has a name that can't be one.
    pub const BAD_FRAME: &str = "bad_frame";
    /// The frame's type is not one of `join` and `leave`.
    pub const UNKNOWN_FRAME: &str = "unknown_frame";
    /// The subscription id is in use for something else on this connection.
    pub const DUPLICATE_SUBSCRIPTION: &str = "duplicate_subscription";
    /// There is no subscription of this id on this connection.
    pub const UNKNOWN_SUBSCRIPTION: &str = "unknown_subscription";
    /// The worker that keeps the stream is away, or has failed.
    pub const STREAM_UNAVAILABLE: &str = "stream_unavailable";
    /// The server can't take the join at the moment.
    pub const OVERLOADED: &str = "overloaded";
    /// The connection has as many subscriptions as it may.
    pub const TOO_MANY_SUBSCRIPTIONS: &str = "too_many_subscriptions";
}

impl StreamError {
    /// An error that names nothing.
    pub fn new(code: &'static str, message: impl Into<String>) -> StreamError {
        StreamError { code, message: message.into(), names: [None, None, None] }
    }

    /// An error about a target.
    pub fn about(code: &'static str, message: impl Into<String>, target: &Target) -> StreamError {
        let names = [
            Some(target.group.stream.to_string()),
            Some(target.group.group.to_string()),
            target.item.as_ref().map(ItemId::to_string),
        ];
        StreamError { code, message: message.into(), names }
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    subscription_id: Option<&'a RawValue>,
    #[serde(borrow)]
    stream_name: Option<&'a RawValue>,
    #[serde(borrow)]
    group_id: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Reads a frame.
pub fn parse(text: &str, limits: &Limits) -> Result<FromSubscriber, StreamError> {
    let frame: Frame<'_> =
        field::object(text).map_err(|message| bad_frame(format!("the frame {message}"), None))?;
    let kind = field::text("type", frame.kind).map_err(|message| bad_frame(message, None))?;
    if kind != "join" && kind != "leave" {
        return Err(StreamError::new(code::UNKNOWN_FRAME, "a frame's `type` is `join` or `leave`"));
    }
    let Some(data) = frame.data else { return Err(bad_frame(field::missing("data"), None)) };
    let data: Data<'_> =
        field::object(data.get()).map_err(|message| bad_frame(format!("`data` {message}"), None))?;
    let bad = |message| bad_frame(message, Some(&data));
    let subscription =
        field::name("data.subscriptionId", data.subscription_id, limits, SubscriptionId::new).map_err(bad)?;
    if kind == "leave" {
        return Ok(FromSubscriber::Leave { subscription });
    }
    let stream = field::name("data.streamName", data.stream_name, limits, StreamName::new).map_err(bad)?;
    let group = field::name("data.groupId", data.group_id, limits, GroupName::new).map_err(bad)?;
    let item = field::optional_name("data.id", data.id, limits, ItemId::new).map_err(bad)?;
    Ok(FromSubscriber::Join { subscription, target: Target { group: GroupPath { stream, group }, item } })
}

fn bad_frame(message: String, data: Option<&Data<'_>>) -> StreamError {
    // A name that is too long to be one is too long to be echoed.
    let echo = |raw: Option<&RawValue>| {
        let text: Option<String> = raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
        text.filter(|text| text.len() <= 512)
    };
    let names = data.map_or([None, None, None], |data| [data.stream_name, data.group_id, data.id].map(echo));
    StreamError { code: code::BAD_FRAME, message, names }
}

/// What a connection's path joins at once: `/stream/{stream_name}/{group_id}`, with a slash at the end or an item
/// id as third segment; percent-decoded. `None` for every other path: it waits for join frames.
pub fn parse_path(path: &str, limits: &Limits) -> Option<Result<Target, StreamError>> {
    let rest = path.strip_prefix("/stream/")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let segments: Vec<&str> = rest.split('/').collect();
    let (stream, group, item) = match *segments {
        [stream, group] => (stream, group, None),
        [stream, group, item] => (stream, group, Some(item)),
        _ => return None,
    };
    Some(path_target(stream, group, item, limits).map_err(|message| bad_frame(message, None)))
}

fn path_target(stream: &str, group: &str, item: Option<&str>, limits: &Limits) -> Result<Target, String> {
    fn segment<T>(
        text: &str,
        what: &str,
        limits: &Limits,
        new: impl Fn(&str, &Limits) -> Result<T, NameError>,
    ) -> Result<T, String> {
        let text = percent_decode_str(text)
            .decode_utf8()
            .map_err(|_| format!("the path's {what} is not UTF-8 once its percent escapes are decoded"))?;
        new(&text, limits).map_err(|error| format!("the path's {what} {error}"))
    }
    let stream = segment(stream, "stream name", limits, StreamName::new)?;
    let group = segment(group, "group id", limits, GroupName::new)?;
    let item = item.map(|item| segment(item, "item id", limits, ItemId::new)).transpose()?;
    Ok(Target { group: GroupPath { stream, group }, item })
}

/// A frame to subscribers.
#[derive(Clone, Debug, PartialEq)]
pub enum ToSubscriber {
    /// Something happened in a group.
    Event(Arc<Event>),
    /// The state of a group or an item.
    Sync(SyncFrame),
    /// The subscriber did something wrong.
    Error(StreamError),
    /// A join is refused.
    Unauthorized {
        /// Of what.
        target: Target,
        /// When, by the wall clock: a stamp of the group would tell something of it.
        at: WallMs,
    },
}

/// The state of a group or an item; what is sent after it starts at the next revision.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncFrame {
    /// What it is the state of.
    pub target: Target,
    /// The state, with its revision and stamp.
    pub state: Durable,
    /// Which history the revision counts in.
    pub epoch: Epoch,
}

impl ToSubscriber {
    /// The frame's text. The same for every subscriber, so it is made once an event.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(256);
        self.encode_onto(&mut out);
        out
    }

    /// Appends the frame's text.
    pub fn encode_onto(&self, out: &mut String) {
        match self {
            ToSubscriber::Event(event) => push_event(out, event, "sync"),
            ToSubscriber::Sync(sync) => return sync.encode_onto(out, 0),
            ToSubscriber::Error(error) => {
                let [stream, group, item] = &error.names;
                push_names(out, 0, stream.as_deref().unwrap_or(""), group.as_deref().unwrap_or(""));
                push_item(out, item.as_deref());
                push_key(out, "event");
                out.push_str(r#"{"type":"error","error":{"code":"#);
                push_string(out, error.code);
                push_text_member(out, "message", &error.message);
                out.push_str("}}");
            }
            ToSubscriber::Unauthorized { target, at } => {
                push_start(out, Stamp(at.0), &target.group, target.item.as_ref());
                out.push_str(r#"{"type":"unauthorized"}"#);
            }
        }
        out.push('}');
    }
}

impl SyncFrame {
    /// Appends the frame's text, for a subscriber that has missed so many sent events of the target.
    pub fn encode_onto(&self, out: &mut String, skipped: u64) {
        let SyncFrame { target, state: Durable { stamp, revision, state }, epoch } = self;
        push_start(out, *stamp, &target.group, target.item.as_ref());
        out.push_str(r#"{"type":"sync","data":"#);
        match state {
            State::Listed(items) => out.push_str(items.as_str()),
            State::Item(value) => out.push_str(value.as_ref().map_or("null", Json::as_str)),
            // A null in the list would kill clients that read the ids of its items.
            State::Group(items) => {
                let items = items.iter().filter(|item| !item.value.is_null());
                push_array(out, items, |out, item| out.push_str(item.value.as_str()));
            }
        }
        out.push('}');
        push_key(out, "revision");
        out.push_str(&revision.0.to_string());
        push_text_member(out, "epoch", &epoch.to_string());
        push_skipped(out, skipped);
        out.push('}');
    }

    /// How the text ends after so many: what the text after none has instead of its last character.
    pub fn ending(skipped: u64) -> String {
        let mut out = String::new();
        push_skipped(&mut out, skipped);
        out.push('}');
        out
    }
}

/// Appends an event as the handler of a trigger gets it: like a subscriber's frame, but a change to or from null is
/// told as the change that it is.
pub(super) fn push_trigger_event(out: &mut String, event: &Event, skipped: u64) {
    let replaced = match event.kind {
        EventKind::Replaced { change: Change::Created, .. } => "create",
        EventKind::Replaced { change: Change::Deleted, .. } => "delete",
        _ => "update",
    };
    push_event(out, event, replaced);
    push_skipped(out, skipped);
    out.push('}');
}

/// Appends how many events were dropped before, if any were.
fn push_skipped(out: &mut String, skipped: u64) {
    if skipped > 0 {
        push_key(out, "skipped");
        out.push_str(&skipped.to_string());
    }
}

/// Appends an event up to its closing brace. `replaced` is the type of a change to or from null.
fn push_event(out: &mut String, event: &Event, replaced: &str) {
    push_start(out, event.stamp, &event.group, event.item.as_ref());
    match &event.kind {
        EventKind::Created(value) => push_change(out, "create", value),
        EventKind::Updated(value) => push_change(out, "update", value),
        EventKind::Deleted(value) => push_change(out, "delete", value),
        EventKind::Replaced { value, .. } => push_change(out, replaced, value),
        EventKind::Sent { kind, data } => {
            out.push_str(r#"{"type":"event","event":{"type":"#);
            push_string(out, kind);
            push_json_member(out, "data", data);
            out.push_str("}}");
        }
    }
    push_key(out, "revision");
    out.push_str(&event.revision.0.to_string());
}

fn push_start(out: &mut String, stamp: Stamp, group: &GroupPath, item: Option<&ItemId>) {
    push_names(out, stamp.0, group.stream.as_str(), group.group.as_str());
    push_item(out, item.map(ItemId::as_str));
    push_key(out, "event");
}

fn push_names(out: &mut String, stamp: u64, stream: &str, group: &str) {
    out.push_str(r#"{"type":"stream","timestamp":"#);
    out.push_str(&stamp.to_string());
    push_text_member(out, "streamName", stream);
    push_text_member(out, "groupId", group);
}

fn push_item(out: &mut String, item: Option<&str>) {
    match item {
        Some(item) => push_text_member(out, "id", item),
        None => {
            push_key(out, "id");
            out.push_str("null");
        }
    }
}

fn push_change(out: &mut String, kind: &str, value: &Json) {
    out.push_str(r#"{"type":""#);
    out.push_str(kind);
    out.push('"');
    push_json_member(out, "data", value);
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_told_as_headers_and_parameters_with_all_their_values() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let handshake = Handshake {
            headers: vec![header("host", "h"), header("cookie", "a=1"), header("cookie", "b=\"2\"")],
            path: "/stream/a%20b/g".to_owned(),
            query: "token=a%2Bb&tag=x+y&&tag=&flag&bad=%ff".to_owned(),
            addr: "127.0.0.1:5".to_owned(),
        };
        assert_eq!(
            handshake.to_json().as_str(),
            concat!(
                r#"{"headers":{"host":"h","cookie":"a=1, b=\"2\""},"path":"/stream/a%20b/g","#,
                r#""query_params":{"token":["a+b"],"tag":["x y",""],"flag":[""],"bad":["�"]},"addr":"127.0.0.1:5"}"#
            )
        );
    }

    #[test]
    fn tokens_in_a_handshake_are_not_shown() {
        let token = "s3cret".to_owned();
        let headers = vec![("authorization".to_owned(), token.clone())];
        let shown = format!("{:?}", Handshake { headers, query: token.clone(), ..Handshake::default() });
        assert!(!shown.contains(&token), "{shown}");
    }
}
