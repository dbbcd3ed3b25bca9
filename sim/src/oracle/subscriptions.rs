//! What each connection has joined and left, and what it must be sent for that, as far as a trace tells.
//!
//! Frames name what they are about, not the subscription. So where several subscriptions of a connection are about the
//! same, it may be unknown which of them was refused, or which is the one that remains; then nothing is demanded.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Rules;
use super::frame::{Frame, Told, text};
use crate::trace::{Entry, What, Who};

/// All connections that live. Where the world tells of the server, they are the server's.
#[derive(Debug)]
pub(super) struct Connections {
    rules: Rules,
    pub(super) all: BTreeMap<Who, Connection>,
    /// Which subscription handlers were called about, by the call.
    asked: BTreeMap<String, Arc<str>>,
    /// The subscription that was refused by what happened last, and when.
    denied: Option<(u64, Arc<str>)>,
}

/// A connection, and what it has joined.
#[derive(Debug, Default)]
pub(super) struct Connection {
    path: String,
    /// The server knows of it.
    pub(super) is_open: bool,
    /// By stream and group.
    pub(super) groups: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Joined>>,
    /// By subscription id.
    targets: BTreeMap<Arc<str>, Place>,
    /// The join that was taken last, if nothing was since.
    last: Option<Arc<str>>,
    /// Too much waited for it, and it was not resumed.
    pub(super) behind: bool,
    /// The client has it no more.
    pub(super) is_lost: bool,
}

/// A stream, a group, and possibly an item.
pub(super) type Place = (Arc<str>, Arc<str>, Option<Arc<str>>);

/// What a connection has joined of a group.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// The group as such.
    pub(super) whole: Target,
    /// Single items.
    pub(super) items: BTreeMap<Arc<str>, Target>,
    /// The stamp of what it was told last, and whether that was a sync.
    pub(super) stamp: (u64, bool),
    /// The highest revision that it was told of.
    pub(super) told: u64,
}

/// Something that can be subscribed to.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// The subscriptions that were joined, and neither left nor surely refused. That of the path has no name.
    pub(super) joined: Vec<Arc<str>>,
    /// Another may be there that can't be known of; or its frames may still be on their way.
    pub(super) may: bool,
    /// So many of those were refused, and it is not known which.
    refused: usize,
    /// That was so, and some of those have been left since.
    unsure: bool,
    /// It was told its state, and gets what follows. Which revision it is at.
    pub(super) at: Option<u64>,
    /// The value that it was told last, if it is an item and that is known.
    pub(super) value: Option<Value>,
    /// It surely gets what follows: it is known that the subscription which remains is not one that still waits.
    pub(super) surely: bool,
    /// The same was asked for again, so the first answer may have been replaced by the second.
    pub(super) again: bool,
    /// Its state must be at least this revision.
    pub(super) floor: Option<u64>,
}

impl Connections {
    pub(super) fn new(rules: Rules) -> Connections {
        Connections { rules, all: BTreeMap::new(), asked: BTreeMap::new(), denied: None }
    }

    /// Takes what happened next, after it was judged.
    pub(super) fn see(&mut self, entry: &Entry) {
        let rules = self.rules;
        match &entry.what {
            What::Connected(path) => {
                let mut connection = Connection { path: path.clone(), ..Connection::default() };
                if !rules.tells_server {
                    connection.open();
                }
                self.all.insert(entry.who.clone(), connection);
            }
            What::Opened => self.with(&entry.who, Connection::open),
            What::Gone if rules.tells_server => drop(self.all.remove(&entry.who)),
            What::Lost if !rules.tells_server => drop(self.all.remove(&entry.who)),
            What::Crashed(_) | What::Stopped if rules.tells_server => {
                self.all.retain(|_, connection| !connection.is_open);
            }
            What::Lost => self.with(&entry.who, |connection| connection.is_lost = true),
            What::Overflowed => self.with(&entry.who, Connection::overflow),
            What::Resumed => self.with(&entry.who, |connection| connection.behind = false),
            what => {
                if let Some(message) = rules.asked(what) {
                    self.denied = self.denies(message).map(|subscription| (entry.at, subscription));
                    self.with(&entry.who, |connection| connection.asked(message, rules.tells_server));
                } else if let Some(message) = rules.told(what) {
                    self.told(entry.at, &entry.who, message);
                }
            }
        }
    }

    fn told(&mut self, at: u64, who: &Who, message: &Value) {
        let exact = self.rules.tells_server;
        if let Some(frame) = Frame::read(message) {
            let denied = self.denied.take().filter(|(denied_at, _)| exact && *denied_at == at);
            let denied = denied.map(|(_, subscription)| subscription);
            self.with(who, |connection| connection.told(&frame, denied, exact));
        } else if let Some(subscription) = message["data"]["subscription_id"].as_str() {
            self.asked.insert(text(&message["invocation_id"]).to_owned(), subscription.into());
        }
    }

    /// The subscription that a handler's answer refuses: what follows at once is that.
    fn denies(&mut self, message: &Value) -> Option<Arc<str>> {
        if message["type"] != "invocationresult" {
            return None;
        }
        let subscription = self.asked.remove(text(&message["invocation_id"]))?;
        let refuses = !message["error"].is_null() || message["result"]["unauthorized"] == true;
        refuses.then_some(subscription)
    }

    fn with(&mut self, who: &Who, act: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.all.get_mut(who) {
            act(connection);
        }
    }
}

impl Connection {
    fn open(&mut self) {
        self.is_open = true;
        if let Some(place) = path_target(&self.path) {
            self.target(&place).joined.push("".into());
        }
    }

    /// What it has joined by its path.
    pub(super) fn joined_by_path(&self) -> Option<Place> {
        path_target(&self.path)
    }

    /// What it has joined of a group.
    pub(super) fn group(&self, stream: &str, group: &str) -> Option<&Joined> {
        self.groups.get(stream)?.get(group)
    }

    pub(super) fn group_mut(&mut self, stream: &str, group: &str) -> Option<&mut Joined> {
        self.groups.get_mut(stream)?.get_mut(group)
    }

    /// The subscription of an id.
    pub(super) fn place(&self, id: &str) -> Option<&Place> {
        self.targets.get(id)
    }

    pub(super) fn target(&mut self, (stream, group, item): &Place) -> &mut Target {
        let groups = self.groups.entry(stream.clone()).or_default();
        let joined = groups.entry(group.clone()).or_default();
        match item {
            Some(item) => joined.items.entry(item.clone()).or_default(),
            None => &mut joined.whole,
        }
    }

    fn asked(&mut self, message: &Value, exact: bool) {
        self.last = None;
        let id: Arc<str> = text(&message["data"]["subscriptionId"]).into();
        match text(&message["type"]) {
            "join" if !id.is_empty() => self.join(id, &message["data"], exact),
            "leave" if !id.is_empty() => self.leave(&id, exact),
            _ => {}
        }
    }

    fn join(&mut self, id: Arc<str>, data: &Value, exact: bool) {
        let Some(place) = place(data) else { return };
        match self.targets.get(&id) {
            Some(known) if *known == place => {
                let target = self.target(&place);
                target.again = true;
                target.may |= target.refused > 0;
            }
            Some(known) => {
                // An error, unless the first was refused before this was taken.
                let known = known.clone();
                let known = self.target(&known);
                if !exact || known.refused > 0 || known.unsure {
                    self.target(&place).may = true;
                }
            }
            None => {
                self.target(&place).joined.push(id.clone());
                self.targets.insert(id.clone(), place);
                self.last = Some(id);
            }
        }
    }

    fn leave(&mut self, id: &str, exact: bool) {
        let Some(place) = self.targets.remove(id) else { return };
        self.target(&place).give_up(id, exact);
        let (stream, group, item) = &place;
        let Some(joined) = self.group_mut(stream, group) else { return };
        match item {
            Some(item) if exact && joined.items.get(item).is_some_and(Target::is_over) => {
                joined.items.remove(item);
            }
            None if exact && joined.whole.is_over() => {
                joined.leave_whole();
                joined.whole = Target::default();
            }
            _ => {}
        }
    }

    fn told(&mut self, frame: &Frame<'_>, denied: Option<Arc<str>>, exact: bool) {
        let place = (frame.stream.into(), frame.group.into(), frame.item.map(Into::into));
        match frame.told {
            Told::Sync { .. } => {
                let target = self.target(&place);
                target.at = Some(frame.revision);
                target.surely = target.joined.len() == 1 && !target.unsure && !target.may;
            }
            Told::Unauthorized => {
                let refused = match &self.target(&place).joined[..] {
                    [one] => Some(one.clone()),
                    _ => denied,
                };
                self.refused(&place, refused, exact);
            }
            Told::Error { code: "too_many_subscriptions" | "overloaded" } => {
                let refused = self.last.take().filter(|_| exact);
                self.refused(&place, refused, exact);
            }
            _ => {}
        }
    }

    /// A join was refused; which, if that is known.
    fn refused(&mut self, place: &Place, id: Option<Arc<str>>, exact: bool) {
        let target = self.target(place);
        if !exact && target.may {
            // It may have been one that was left before that was known.
            return;
        }
        // The same may have been asked for again, after it was refused.
        let again = !exact && target.again;
        let over = match id.filter(|id| target.joined.contains(id)) {
            Some(id) => {
                target.joined.retain(|joined| *joined != id);
                target.may |= again;
                vec![id]
            }
            None => {
                (target.refused, target.unsure, target.surely) = (target.refused + 1, true, false);
                if target.refused < target.joined.len() {
                    return;
                }
                (target.refused, target.unsure) = (0, false);
                target.may |= again;
                std::mem::take(&mut target.joined)
            }
        };
        for id in over {
            self.targets.remove(&id);
        }
    }

    fn overflow(&mut self) {
        self.behind = true;
        let groups = self.groups.values_mut().flat_map(BTreeMap::values_mut);
        for joined in groups {
            joined.whole.at = None;
            joined.items.values_mut().for_each(|target| target.at = None);
        }
    }
}

impl Joined {
    /// The group as such is not followed any more. Those of single items had all that it had.
    pub(super) fn leave_whole(&mut self) {
        let at = self.whole.at.take();
        self.items.values_mut().for_each(|item| item.advance(at));
    }

    /// Whether a frame of this item, or of the group as such, may come.
    pub(super) fn covers(&self, item: Option<&str>) -> bool {
        self.whole.is_covered() || item.and_then(|item| self.items.get(item)).is_some_and(Target::is_covered)
    }

    /// Whether it gets what happens to this item, or to the group as such; `None` if that is not known.
    pub(super) fn gets(&self, item: Option<&str>) -> Option<bool> {
        let gets = |target: &Target| match target.at {
            Some(_) => target.surely.then_some(true),
            None => Some(false),
        };
        let one = item.and_then(|item| self.items.get(item)).map_or(Some(false), gets);
        match (gets(&self.whole), one) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }
}

impl Target {
    fn give_up(&mut self, id: &str, exact: bool) {
        self.joined.retain(|joined| **joined != *id);
        self.refused = self.refused.saturating_sub(1);
        self.unsure &= !self.joined.is_empty();
        self.surely = false;
        // What was sent before that was heard still comes.
        self.may |= !exact;
    }

    /// It had all that another target was told that covers it.
    fn advance(&mut self, at: Option<u64>) {
        if self.at.is_some() && self.at < at {
            (self.at, self.value) = (at, None);
        }
    }

    /// Whether nothing of it is left.
    fn is_over(&self) -> bool {
        self.joined.is_empty() && !self.may
    }

    /// Whether a subscription may be there.
    pub(super) fn is_covered(&self) -> bool {
        self.may || self.joined.len() > self.refused
    }

    /// Whether a subscription is surely there, or waits to be decided.
    pub(super) fn is_wanted(&self) -> bool {
        !self.may && !self.unsure && !self.joined.is_empty()
    }
}

/// What a join is for.
fn place(data: &Value) -> Option<Place> {
    let item = data["id"].as_str().filter(|item| !item.is_empty());
    Some((data["streamName"].as_str()?.into(), data["groupId"].as_str()?.into(), item.map(Into::into)))
}

/// What a path joins.
fn path_target(path: &str) -> Option<Place> {
    let path = path.split('?').next()?.strip_prefix("/stream/")?;
    let segments: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    match *segments {
        [stream, group] => Some((stream.into(), group.into(), None)),
        [stream, group, item] => Some((stream.into(), group.into(), Some(item.into()))),
        _ => None,
    }
}
