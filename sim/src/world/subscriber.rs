//! A subscriber: what it joins, and what it joins again when it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::Setup;
use super::worker::{KEPT, STREAM};
use crate::random::Random;

/// A client of the stream port, from one connection to the next.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) name: Arc<str>,
    /// How many connections it has had.
    pub(super) connections: u64,
    /// The one that it has.
    pub(super) link: Option<usize>,
    /// What it has joined, by subscription id: joined again on each connection.
    joined: BTreeMap<String, Value>,
    /// The token of its last connection was none that anybody vouches for.
    pub(super) is_refused: bool,
    /// How many subscription ids it has made up.
    subscriptions: u64,
}

/// The most that a subscriber wants to follow at a time.
const MOST: usize = 5;

impl Subscriber {
    pub(super) fn new(name: &str) -> Subscriber {
        Subscriber {
            name: name.into(),
            connections: 0,
            link: None,
            joined: BTreeMap::new(),
            is_refused: false,
            subscriptions: 0,
        }
    }

    /// The path and query of its next connection.
    pub(super) fn path(&mut self, setup: &Setup, healed: bool, random: &mut Random) -> String {
        let group = random.within(0..setup.groups);
        let path = match random.within(0..10) {
            0 | 1 => format!("/stream/{STREAM}/g{group}"),
            2 => format!("/stream/{STREAM}/g{group}/c0"),
            _ => "/".to_owned(),
        };
        self.is_refused = random.chance(10) && !healed;
        let token = if self.is_refused { "bad" } else { "good" };
        if self.is_refused || random.chance(50) { format!("{path}?token={token}") } else { path }
    }

    /// What it sends first on a new connection.
    pub(super) fn greetings(&self) -> Vec<Value> {
        self.joined.values().cloned().collect()
    }

    /// Something that it joins: mostly new, sometimes what it has, sometimes under a name that it uses for something
    /// else.
    pub(super) fn join(&mut self, setup: &Setup, random: &mut Random) -> Value {
        let again = random.within(0..20);
        if again == 0
            && let Some(join) = self.joined.values().nth(random.index(self.joined.len().max(1)))
        {
            return join.clone();
        }
        if self.joined.len() >= MOST {
            return self.leave(random).unwrap_or_default();
        }
        self.subscriptions += 1;
        let kind = if random.chance(15) { "deny" } else { "s" };
        let mut id = format!("{kind}{}-{}", self.subscriptions, self.name);
        let target = self.target(setup, random);
        if again == 1
            && let Some(taken) = self.joined.keys().next()
        {
            id.clone_from(taken);
        }
        let [stream, group, item] = target;
        let join = json!({
            "type": "join",
            "data": {"subscriptionId": id, "streamName": stream, "groupId": group, "id": item},
        });
        self.joined.entry(id).or_insert_with(|| join.clone());
        join
    }

    fn target(&self, setup: &Setup, random: &mut Random) -> [Value; 3] {
        let stream = if random.chance(10) { KEPT } else { STREAM };
        let group = format!("g{}", random.within(0..setup.groups));
        let item = format!("{}{}", ["r", "c"][random.index(2)], random.within(0..setup.items));
        let item = if random.chance(30) { json!(item) } else { Value::Null };
        [json!(stream), json!(group), item]
    }

    /// Something that it leaves.
    pub(super) fn leave(&mut self, random: &mut Random) -> Option<Value> {
        let id = self.joined.keys().nth(random.index(self.joined.len().max(1)))?.clone();
        let join = self.joined.remove(&id)?;
        Some(json!({"type": "leave", "data": join["data"]}))
    }
}
