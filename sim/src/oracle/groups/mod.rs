//! What is seen of groups: everybody sees one history, and what they replay is the group.
//!
//! What is shown and told of a group goes into one [`History`], whoever is told it: subscribers, callers, handlers. So
//! what remains to be seen of a subscriber is that nothing is missing or repeated between its syncs and changes.
//! Clients of these worlds store an item's id in its value, or no id.

mod answers;
mod epochs;
mod history;
mod replay;
mod stamps;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::frame::{Frame, Kind, STREAM, Told, text};
use super::subscriptions::{Connections, Joined};
use super::{Checked, Law, Oracle, Rules, Violation};
use crate::trace::{Entry, What, Who};
use answers::Call;
use epochs::Epochs;
use history::History;
use stamps::{Stamps, Thing};

/// Watches over what is seen of groups.
#[derive(Debug)]
pub(super) struct Groups {
    rules: Rules,
    connections: Connections,
    groups: BTreeMap<Arc<str>, Group>,
    calls: BTreeMap<String, Call>,
    epochs: Epochs,
    /// In which term each connection was made, where joins are its own: what a path joins may be of the term before.
    terms: BTreeMap<Who, usize>,
    /// What was seen of each group when a client lost its last connection.
    seen_at_loss: BTreeMap<Arc<str>, BTreeMap<Arc<str>, u64>>,
    crashes: u64,
    healed: bool,
}

#[derive(Debug)]
struct Group {
    history: History,
    stamps: Stamps,
    /// What the closer has listed.
    closed_with: Option<Vec<Value>>,
    /// The last revision that there is, once the world has come to rest.
    top: Option<u64>,
}

impl Groups {
    pub(super) fn new(rules: Rules) -> Groups {
        Groups {
            rules,
            connections: Connections::new(rules),
            groups: BTreeMap::new(),
            calls: BTreeMap::new(),
            epochs: Epochs::new(rules.new_epochs),
            terms: BTreeMap::new(),
            seen_at_loss: BTreeMap::new(),
            crashes: 0,
            healed: false,
        }
    }

    fn group(&mut self, name: &str) -> &mut Group {
        if !self.groups.contains_key(name) {
            let history = History::new(name, self.crashes);
            let group = Group { history, stamps: Stamps::default(), closed_with: None, top: None };
            self.groups.insert(name.into(), group);
        }
        self.groups.get_mut(name).expect("it was just made")
    }

    fn told(&mut self, who: &Who, message: &Value, checked: &mut Checked) -> Result<(), Violation> {
        if Frame::is_one(message) {
            let Some(frame) = Frame::read(message) else {
                return Err(Law::ReplayIsList.broken("a subscriber gets what it can't read"));
            };
            match frame.told {
                Told::Sync { .. } => checked.syncs += 1,
                Told::Change { .. } | Told::Sent(_) => checked.events += 1,
                Told::Unauthorized | Told::Error { .. } => return Ok(()),
            }
            return self.frame(who, &frame);
        }
        match text(&message["type"]) {
            "invocationresult" => self.answered(message, checked),
            "invokefunction" => match Frame::read(&message["data"]) {
                Some(frame) if frame.stream == STREAM => self.happened(&frame),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A subscriber is told something of a group.
    fn frame(&mut self, who: &Who, frame: &Frame<'_>) -> Result<(), Violation> {
        let is_sync = matches!(frame.told, Told::Sync { .. });
        if let Some(joined) = self.joined(who, frame) {
            let (last, was_sync) = std::mem::replace(&mut joined.stamp, (frame.stamp, is_sync));
            let increases = frame.stamp > last || (is_sync && was_sync && frame.stamp == last);
            Law::StampsIncrease.require(increases, || format!("{} comes after {last}", frame.stamp))?;
        }
        if frame.stream != STREAM {
            return Ok(());
        }
        let term = match self.rules.tells_server {
            true => Some(self.epochs.term()),
            false => self.terms.get(who).copied(),
        };
        match frame.told {
            Told::Sync { data, epoch } => {
                self.epochs.told(term, epoch)?;
                self.synced(who, frame, data)?;
            }
            told => {
                if let (Told::Change { .. }, Some(term)) = (told, term) {
                    self.epochs.wrote(term);
                }
                self.followed(who, frame)?;
            }
        }
        self.happened(frame)
    }

    /// Something has happened in a group, or is shown of it, whoever is told.
    fn happened(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let Group { history, stamps, .. } = self.group(frame.group);
        let (revision, stamp) = (frame.revision, frame.stamp);
        let thing = match frame.told {
            Told::Sync { data, .. } => {
                match (frame.item, data.as_array()) {
                    (Some(item), _) => history.item_shown(revision, item, data)?,
                    (None, Some(values)) => history.shown(revision, values)?,
                    (None, None) => return Err(Law::ReplayIsList.broken("a group's sync is no list")),
                }
                Thing::Sync
            }
            Told::Change { kind, data } => {
                let Some(item) = frame.item else {
                    return Err(Law::ReplayIsList.broken("a change of no item"));
                };
                let (after, before) = match kind {
                    Kind::Create => (Some(data), Some(None)),
                    Kind::Update => (Some(data), None),
                    Kind::Delete => (None, Some(Some(data))),
                };
                let told = history::Told { item, after, before, kind: Some(kind), stamp: Some(stamp) };
                history.change(revision, told)?;
                Thing::Change
            }
            Told::Sent(what) => {
                history.see(revision);
                Thing::Sent(frame.item.map(str::to_owned), what.clone())
            }
            Told::Unauthorized | Told::Error { .. } => return Ok(()),
        };
        stamps.take(stamp, revision, thing)
    }

    fn joined(&mut self, who: &Who, frame: &Frame<'_>) -> Option<&mut Joined> {
        self.connections.all.get_mut(who)?.group_mut(frame.stream, frame.group)
    }
}

impl Oracle for Groups {
    fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        let (rules, who) = (self.rules, &entry.who);
        match &entry.what {
            What::Crashed(_) => {
                self.crashes += 1;
                self.epochs.crashed();
                self.groups.values_mut().for_each(|group| group.history.crashed());
                if rules.tells_server {
                    self.calls.clear();
                }
            }
            What::Stopped => {
                if !rules.tells_server {
                    self.epochs.disk_failed();
                }
                self.epochs.stopped();
            }
            What::DiskFailed => self.epochs.disk_failed(),
            What::Stops(_) => self.epochs.stops(),
            What::Restarted => self.epochs.restarted(),
            What::Healed => self.healed = true,
            What::Lost => {
                if !rules.tells_server {
                    self.calls.retain(|_, call| call.who != *who);
                    let seen = self.groups.iter().map(|(name, group)| (name.clone(), group.history.seen()));
                    self.seen_at_loss.insert(who.client.clone(), seen.collect());
                }
                self.terms.remove(who);
            }
            what => {
                if let Some(message) = rules.asked(what) {
                    self.asked(who, message);
                } else if let Some(message) = rules.told(what) {
                    self.told(who, message, checked)?;
                }
            }
        }
        self.connections.see(entry);
        self.set_floors(entry);
        Ok(())
    }

    fn end(&mut self, _checked: &mut Checked) -> Result<(), Violation> {
        self.epochs.end()?;
        self.groups.values_mut().try_for_each(Group::judge)
    }
}

impl Groups {
    /// A join that was just asked for gets what was seen before.
    fn set_floors(&mut self, entry: &Entry) {
        let Some(connection) = self.connections.all.get_mut(&entry.who) else { return };
        let seen = |group: &Arc<str>| self.groups.get(group).map_or(0, |group| group.history.seen());
        match &entry.what {
            What::Connected(_) if !self.rules.tells_server => match connection.joined_by_path() {
                Some(place) => {
                    let at_loss = self.seen_at_loss.get(&entry.who.client);
                    let floor = at_loss.and_then(|seen| seen.get(&place.1)).copied().unwrap_or(0);
                    connection.target(&place).floor = Some(floor);
                }
                None => drop(self.terms.insert(entry.who.clone(), self.epochs.term())),
            },
            What::Opened => {
                if let Some(place) = connection.joined_by_path() {
                    connection.target(&place).floor = Some(seen(&place.1));
                }
            }
            what => {
                let Some(message) = self.rules.asked(what).filter(|message| message["type"] == "join") else {
                    return;
                };
                if let Some(place) = connection.place(text(&message["data"]["subscriptionId"])).cloned() {
                    connection.target(&place).floor.get_or_insert(seen(&place.1));
                }
            }
        }
    }
}

impl Group {
    fn judge(&mut self) -> Result<(), Violation> {
        let top = self.top.filter(|top| *top == self.history.seen());
        self.history.judge(top)
    }
}
