//! A subscriber: it watches until the world is over, in its own way.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use super::kept::KEPT;
use super::{AGAIN, Connection, END, Edge, LOOK, Next, Progress, STREAM, text};
use crate::random::Random;
use crate::server::setting::SubscriberSetting;

/// A group, or an item of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::server) struct Watched {
    /// It is of the stream that a worker keeps: nobody can tell what comes of that.
    pub(in crate::server) is_kept: bool,
    pub(in crate::server) group: String,
    pub(in crate::server) item: Option<String>,
}

/// What a subscriber does while there are faults, and how often among what it does then.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::server) struct Habits {
    /// It stops reading for a while.
    pub(in crate::server) pauses: u64,
    /// It drops its connection, and comes back.
    pub(in crate::server) vanishes: u64,
    /// It leaves something.
    pub(in crate::server) leaves: u64,
    /// It joins something else.
    pub(in crate::server) joins: u64,
    /// It joins what it has joined, with the same id: it wants a fresh sync.
    pub(in crate::server) repeats: u64,
    /// It does something that is wrong: joins something else with an id that it has, leaves what it does not have.
    pub(in crate::server) errs: u64,
}

/// A subscriber, from its first connection to the end of the world.
pub(in crate::server) struct Subscriber {
    edge: Edge,
    /// Joined by the path.
    by_path: Option<Watched>,
    /// Joined by frames, by subscription id.
    joined: BTreeMap<String, Watched>,
    /// All that there is to watch.
    all: Vec<Watched>,
    habits: Habits,
    /// Whether it says who it is.
    has_tokens: bool,
    /// In percent: how often it joins what it may not.
    denied: u64,
    random: Random,
    joins: u64,
}

/// What it sees on one connection.
#[derive(Debug, Default)]
struct Seen {
    /// What it watches and has not seen the end of; what it may not watch does not count.
    open: BTreeSet<Watched>,
    /// How many joins that it may not have it has asked for, by what they are of.
    denied: BTreeMap<Watched, u64>,
    /// How many joins have brought nothing yet, by what they are of.
    undecided: BTreeMap<Watched, u64>,
    /// It was refused what it should have.
    is_refused: bool,
}

/// How long it does not read, in milliseconds; how long it is away; how long it waits between what it does.
const PAUSE: std::ops::Range<u64> = 50..1_800;
const AWAY: std::ops::Range<u64> = 10..700;
const BETWEEN: std::ops::Range<u64> = 20..400;

impl Subscriber {
    pub(in crate::server) fn new(
        edge: Edge,
        setting: SubscriberSetting,
        all: Vec<Watched>,
        has_tokens: bool,
        random: Random,
    ) -> Subscriber {
        let mut subscriber = Subscriber {
            edge,
            by_path: setting.by_path,
            joined: BTreeMap::new(),
            all,
            habits: setting.habits,
            has_tokens,
            denied: setting.denied,
            random,
            joins: 0,
        };
        for watched in setting.by_frames {
            let id = subscriber.draw_id();
            subscriber.joined.insert(id, watched);
        }
        subscriber
    }

    pub(in crate::server) async fn run(mut self) {
        while !self.edge.progress.is_over() {
            let Some(mut connection) = self.connects().await else { return };
            if self.watches(&mut connection).await {
                return;
            }
            drop(connection);
            self.edge.progress.state().settled.remove(&self.edge.name);
            let away = if self.edge.progress.is_healed() { AGAIN } else { self.random.millis(AWAY) };
            sleep(away).await;
        }
    }

    async fn connects(&mut self) -> Option<Connection> {
        let path = self.by_path.as_ref().map_or("/".to_owned(), |watched| {
            let Watched { group, item, .. } = watched;
            let item = item.as_ref().map(|item| format!("/{item}")).unwrap_or_default();
            format!("/stream/{}/{group}{item}", watched.stream())
        });
        let Subscriber { edge, has_tokens, random, .. } = self;
        let (name, progress) = (edge.name.clone(), edge.progress.clone());
        edge.connect(|number| {
            if !*has_tokens {
                return path.clone();
            }
            let is_bad = !progress.is_healed() && random.chance(20);
            if is_bad {
                progress.happened("subscribers with a bad token");
            }
            format!("{path}?who={name}%23{number}&token={}", if is_bad { "bad" } else { "good" })
        })
        .await
    }

    /// Watches over one connection; says whether the world is over.
    async fn watches(&mut self, connection: &mut Connection) -> bool {
        let mut seen = Seen::default();
        if let Some(watched) = &self.by_path {
            seen.asked(watched, false);
        }
        for (id, watched) in self.joined.clone() {
            self.joins(connection, &mut seen, &id, &watched).await;
        }
        let mut acts_at = Instant::now() + self.random.millis(BETWEEN);
        while !self.edge.progress.is_over() {
            self.settles(connection, &seen);
            if acts_at <= Instant::now() {
                if !self.edge.progress.is_healed() && self.acts(connection, &mut seen).await {
                    return false;
                }
                acts_at = Instant::now() + self.random.millis(BETWEEN);
            }
            match connection.next(acts_at.min(Instant::now() + LOOK)).await {
                Next::Message(message) => seen.take(&message, &self.edge.progress),
                // It tries again with another token, or with a gate that is better by then.
                Next::Nothing if seen.is_refused => {
                    connection.give_up();
                    return false;
                }
                Next::Nothing => {}
                Next::Lost => return false,
            }
        }
        true
    }

    /// Says whether it is there and has seen all that it is to see.
    fn settles(&self, connection: &Connection, seen: &Seen) {
        let mut state = self.edge.progress.state();
        let is_there = state.healed.is_some_and(|healed| connection.heard_at > healed);
        match is_there && seen.is_whole() {
            true => state.settled.insert(self.edge.name.clone()),
            false => state.settled.remove(&self.edge.name),
        };
    }

    async fn joins(&mut self, connection: &mut Connection, seen: &mut Seen, id: &str, watched: &Watched) {
        seen.asked(watched, id.starts_with("deny"));
        let message = frame("join", id, watched);
        let bytes = message.to_string();
        // Servers take either.
        let sent = if self.random.chance(80) { Message::text(bytes) } else { Message::binary(bytes) };
        connection.send_as(message, sent).await;
    }

    /// Does one of the things that it does; says whether it is gone then.
    async fn acts(&mut self, connection: &mut Connection, seen: &mut Seen) -> bool {
        let Habits { pauses, vanishes, leaves, joins, repeats, errs } = self.habits;
        let weights = [pauses, vanishes, leaves, joins, repeats, errs];
        let sum: u64 = weights.iter().sum();
        if sum == 0 {
            return false;
        }
        let mut draw = self.random.within(0..sum);
        let drawn = weights.iter().position(|weight| match draw.checked_sub(*weight) {
            Some(rest) => {
                draw = rest;
                false
            }
            None => true,
        });
        let progress = self.edge.progress.clone();
        let one = self.draw_joined();
        match (drawn, one) {
            (Some(0), _) => {
                progress.happened("subscribers that paused");
                let pause = self.random.millis(PAUSE);
                connection.look_away(pause).await;
            }
            (Some(1), _) => {
                progress.happened("subscribers that vanished");
                connection.give_up();
                return true;
            }
            (Some(2), Some((id, watched))) => {
                self.joined.remove(&id);
                connection.send(frame("leave", &id, &watched)).await;
                seen.decided(&watched);
                let is_watched = self.joined.iter().any(|(id, of)| *of == watched && !id.starts_with("deny"));
                if !is_watched && self.by_path.as_ref() != Some(&watched) {
                    seen.open.remove(&watched);
                }
            }
            (Some(3), _) => {
                let id = self.draw_id();
                let watched = self.all[self.random.index(self.all.len())].clone();
                self.joins(connection, seen, &id, &watched).await;
                self.joined.insert(id, watched);
            }
            // One that is not decided yet is not asked for twice.
            (Some(4), Some((id, watched))) if seen.undecided(&watched) == 0 => {
                self.joins(connection, seen, &id, &watched).await;
            }
            (Some(5), Some((id, watched))) => {
                let other = self.all.iter().find(|other| **other != watched);
                let wrong = match other {
                    // One that was refused is free to be used for something else.
                    Some(other) if self.random.chance(50) && !seen.is_refused => frame("join", &id, other),
                    _ => frame("leave", "nothing", &watched),
                };
                connection.send(wrong).await;
            }
            _ => {}
        }
        false
    }

    /// One of the subscriptions that it may have: what becomes of the others can't be told apart by what comes.
    fn draw_joined(&mut self) -> Option<(String, Watched)> {
        let may_have: Vec<_> = self.joined.iter().filter(|(id, _)| !id.starts_with("deny")).collect();
        let (id, watched) = may_have.get(self.random.index(may_have.len().max(1)))?;
        Some(((*id).clone(), (*watched).clone()))
    }

    /// A subscription's id that no other has.
    fn draw_id(&mut self) -> String {
        self.joins += 1;
        let kind = if self.random.chance(self.denied) { "deny-" } else { "" };
        format!("{kind}{}-{}", self.edge.name, self.joins)
    }
}

impl Watched {
    fn stream(&self) -> &'static str {
        if self.is_kept { KEPT } else { STREAM }
    }
}

impl Seen {
    /// Whether everything that it has asked for is decided, and it has seen the end of what it may see.
    fn is_whole(&self) -> bool {
        self.open.is_empty() && !self.is_refused && self.undecided.values().all(|count| *count == 0)
    }

    /// It has asked for this.
    fn asked(&mut self, watched: &Watched, is_denied: bool) {
        if watched.is_kept {
            return;
        }
        *self.undecided.entry(watched.clone()).or_default() += 1;
        if is_denied {
            *self.denied.entry(watched.clone()).or_default() += 1;
        } else {
            self.open.insert(watched.clone());
        }
    }

    fn undecided(&self, watched: &Watched) -> u64 {
        self.undecided.get(watched).copied().unwrap_or_default()
    }

    /// One of the joins of this is decided; says whether one was to be.
    fn decided(&mut self, watched: &Watched) -> bool {
        match self.undecided.get_mut(watched) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }

    fn take(&mut self, message: &Value, progress: &Progress) {
        let watched = Watched {
            is_kept: message["streamName"] == KEPT,
            group: text(&message["groupId"]).to_owned(),
            item: message["id"].as_str().map(str::to_owned),
        };
        if watched.is_kept {
            return;
        }
        let event = &message["event"];
        if event["type"] == "unauthorized" {
            self.decided(&watched);
            match self.denied.get_mut(&watched) {
                Some(count) if *count > 0 => *count -= 1,
                _ => self.is_refused = true,
            }
        } else if event["type"] == "sync" {
            if !self.decided(&watched) {
                progress.happened("syncs of subscribers that were too slow");
            } else if self.denied.contains_key(&watched) {
                // Nobody was there to deny it.
                self.open.insert(watched);
            }
        } else if event["event"]["type"] == END {
            self.open.remove(&watched);
            self.open.remove(&Watched { item: None, ..watched });
        }
    }
}

fn frame(kind: &str, subscription: &str, watched: &Watched) -> Value {
    let Watched { group, item, .. } = watched;
    let stream = watched.stream();
    let data = json!({"subscriptionId": subscription, "streamName": stream, "groupId": group, "id": item});
    json!({"type": kind, "data": data})
}
