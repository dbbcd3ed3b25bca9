//! What the stream port's messages say, and who says it where.

use serde_json::Value;

use super::Rules;
use crate::trace::What;

/// The stream that the server keeps. What a worker keeps itself has no revisions.
pub(super) const STREAM: &str = "world";

/// A message of the stream port, or what the handler of a trigger is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) stream: &'a str,
    pub(super) group: &'a str,
    pub(super) item: Option<&'a str>,
    pub(super) stamp: u64,
    /// 0 where there is none.
    pub(super) revision: u64,
    /// How many events were dropped before it.
    pub(super) skipped: u64,
    pub(super) told: Told<'a>,
}

/// What a frame tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told<'a> {
    Sync { data: &'a Value, epoch: &'a str },
    Change { kind: Kind, data: &'a Value },
    Sent(&'a Value),
    Unauthorized,
    Error { code: &'a str },
}

/// What happened to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Update,
    Delete,
}

impl<'a> Frame<'a> {
    /// Whether a message claims to be one.
    pub(super) fn is_one(message: &Value) -> bool {
        message["type"] == "stream"
    }

    /// Reads a message; `None` if it is none of the stream port's.
    pub(super) fn read(message: &'a Value) -> Option<Frame<'a>> {
        if !Frame::is_one(message) {
            return None;
        }
        let event = &message["event"];
        let change = |kind| Told::Change { kind, data: &event["data"] };
        let told = match event["type"].as_str()? {
            "sync" => Told::Sync { data: &event["data"], epoch: message["epoch"].as_str().unwrap_or("") },
            "create" => change(Kind::Create),
            "update" => change(Kind::Update),
            "delete" => change(Kind::Delete),
            "event" => Told::Sent(&event["event"]),
            "unauthorized" => Told::Unauthorized,
            "error" => Told::Error { code: event["error"]["code"].as_str()? },
            _ => return None,
        };
        Some(Frame {
            stream: message["streamName"].as_str()?,
            group: message["groupId"].as_str()?,
            item: message["id"].as_str(),
            stamp: message["timestamp"].as_u64()?,
            revision: message["revision"].as_u64().unwrap_or(0),
            skipped: message["skipped"].as_u64().unwrap_or(0),
            told,
        })
    }
}

impl Rules {
    /// What a client is told: where the world tells of the server, at the moment at which the server says it.
    pub(super) fn told(self, what: &What) -> Option<&Value> {
        match what {
            What::Queued(message) if self.tells_server => Some(message),
            What::Got(message) if !self.tells_server => Some(message),
            _ => None,
        }
    }

    /// What a client asks: where the world tells of the server, at the moment at which the server hears it.
    pub(super) fn asked(self, what: &What) -> Option<&Value> {
        match what {
            What::Took(message) if self.tells_server => Some(message),
            What::Sent(message) if !self.tells_server => Some(message),
            _ => None,
        }
    }
}

/// The text of a JSON string.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
