//! A subscription, from its join to its leave.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::oracle::frame::text;
use crate::oracle::workers::Workers;
use crate::trace::Who;

/// A stream, a group, and possibly an item.
pub(super) type Target = (String, String, Option<String>);

/// A subscription.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) who: Who,
    /// The client's name for it. The server names what a path joins; its handlers are told.
    pub(super) id: Option<String>,
    pub(super) target: Target,
    /// Where the trace has the join, and when that was.
    pub(super) taken: usize,
    pub(super) at: u64,
    /// In which process of the server.
    pub(super) process: u64,
    /// Where the trace has its end.
    pub(super) ended: Option<usize>,
    pub(super) fate: Fate,
    /// It can't be told from another one, or may not exist: nothing is sure about it.
    pub(super) unsure: bool,
    /// Its gate has denied it, and its client was not told yet.
    pub(super) awaits_refusal: bool,
    /// What its gates were asked, by function.
    pub(super) asks: BTreeMap<String, Vec<Ask>>,
    /// What each function was told of its leave.
    pub(super) told: BTreeMap<String, Told>,
}

/// What a function was told of a leave.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Where the trace has the calls.
    pub(super) calls: Vec<usize>,
    /// When one was made, this join had to be told of.
    pub(super) was_owed: bool,
}

/// What is known of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Unknown,
    Allowed,
    Refused,
}

/// A gate that was asked.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) call: String,
    pub(super) who: Who,
    pub(super) vote: Option<Vote>,
}

/// What a gate has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    Allows,
    Denies,
    Fails,
}

/// What the handlers of a join and of its leave are given.
#[derive(Debug)]
pub(super) struct Payload<'a> {
    pub(super) id: &'a str,
    pub(super) target: Target,
    pub(super) context: &'a Value,
}

/// What is known of who vouches for a connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) path: String,
    /// Somebody was asked to.
    pub(super) asked: bool,
    /// What was told of it then.
    pub(super) contexts: Vec<Value>,
    /// Where the trace has its end.
    pub(super) gone: Option<usize>,
}

impl Join {
    /// Asks of a function that still count: who vanished before it answered is asked again.
    pub(super) fn asks_of(&self, function: &str, workers: &Workers, asked_now: &Who) -> usize {
        let counts = |ask: &&Ask| {
            match workers.is_exact() {
                true => ask.vote.is_some() || !workers.is_gone(&ask.who),
                // An answer may have been lost with its connection.
                false => ask.who == *asked_now,
            }
        };
        self.asks.get(function).map_or(0, |asks| asks.iter().filter(counts).count())
    }

    pub(super) fn told_of(&self, function: &str) -> usize {
        self.told.get(function).map_or(0, |told| told.calls.len())
    }

    /// Whether a function is asked now, or not at all yet.
    pub(super) fn waits_for(&self, function: &str, workers: &Workers) -> bool {
        let is_open = |ask: &Ask| ask.vote.is_none() && workers.running(&ask.call).is_some();
        self.asks.get(function).is_none_or(|asks| asks.iter().any(is_open))
    }

    /// Whether it is about this. What a path joins has any name, until one is known.
    pub(super) fn fits(&self, payload: &Payload<'_>) -> bool {
        self.target == payload.target && self.id.as_deref().is_none_or(|id| id == payload.id)
    }
}

impl Payload<'_> {
    pub(super) fn read(data: &Value) -> Option<Payload<'_>> {
        let name = |key: &str| Some(data[key].as_str()?.to_owned());
        let id = data["subscription_id"].as_str()?;
        let item = data["id"].as_str().map(str::to_owned);
        let target = (name("stream_name")?, name("group_id")?, item);
        Some(Payload { id, target, context: &data["context"] })
    }
}

impl Connection {
    /// Whether handlers may be told this context of it.
    pub(super) fn has(&self, context: &Value) -> bool {
        if self.asked { self.contexts.contains(context) } else { context.is_null() }
    }
}

/// What a join frame asks for: its id and its target.
pub(super) fn asked_for(message: &Value) -> Option<(String, Target)> {
    let data = &message["data"];
    let name = |key: &str| Some(data[key].as_str()?.to_owned()).filter(|name| !name.is_empty());
    let item = name("id");
    Some((name("subscriptionId")?, (name("streamName")?, name("groupId")?, item)))
}

/// What a path joins.
pub(super) fn path_target(path: &str) -> Option<Target> {
    let path = path.split('?').next()?.strip_prefix("/stream/")?;
    let segments: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    match *segments {
        [stream, group] => Some((stream.to_owned(), group.to_owned(), None)),
        [stream, group, item] => Some((stream.to_owned(), group.to_owned(), Some(item.to_owned()))),
        _ => None,
    }
}

/// The target of a frame for a subscriber.
pub(super) fn frame_target(message: &Value) -> Target {
    let name = |key: &str| text(&message[key]).to_owned();
    (name("streamName"), name("groupId"), message["id"].as_str().map(str::to_owned))
}

/// The connection that `auth` is asked about: worlds give each an address that says which it is.
pub(super) fn asked_about(data: &Value) -> Option<Who> {
    let (name, _) = data["addr"].as_str()?.rsplit_once(':')?;
    let (client, connection) = name.rsplit_once('#')?;
    Some(Who::new(client, connection.parse().ok()?))
}
