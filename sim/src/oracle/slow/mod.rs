//! Who is slow is told afresh and nothing is skipped silently; others are not held up.

mod queue;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::frame::{Frame, STREAM, Told, text};
use super::subscriptions::{Connections, Joined};
use super::{CLOSER, Checked, Law, Oracle, Rules, Violation};
use crate::trace::{Entry, What, Who};
use queue::Queue;
use runs::Runs;

/// Watches over what waits for subscribers.
#[derive(Debug)]
pub(super) struct Slow {
    rules: Rules,
    connections: Connections,
    /// What the server has queued and the client did not get.
    queues: BTreeMap<Who, Queue>,
    /// The states that connections which overflowed are owed.
    owed: BTreeMap<Who, BTreeSet<Owed>>,
    wave: Option<Wave>,
    runs: Runs,
    healed: bool,
    /// The closer's lists on their way.
    lists: BTreeSet<String>,
}

/// A group, and possibly an item.
type Owed = (Arc<str>, Option<Arc<str>>);

/// An event on its way to all who are to get it, at one moment.
#[derive(Debug)]
struct Wave {
    group: String,
    stamp: u64,
    /// Those who did not get it yet.
    missing: BTreeSet<Who>,
}

impl Slow {
    pub(super) fn new(rules: Rules) -> Slow {
        Slow {
            rules,
            connections: Connections::new(rules),
            queues: BTreeMap::new(),
            owed: BTreeMap::new(),
            wave: None,
            runs: Runs::new(rules),
            healed: false,
            lists: BTreeSet::new(),
        }
    }

    /// The server queues something for a connection.
    fn queued(&mut self, who: &Who, message: &Value) -> Result<(), Violation> {
        let Some(frame) = Frame::read(message) else { return Ok(()) };
        let connection = self.connections.all.get(who);
        if connection.is_some_and(|connection| !connection.is_lost) {
            let queue = self.queues.entry(who.clone()).or_default();
            queue.push(message, &frame);
            queue.check_bound(self.rules)?;
        }
        if matches!(frame.told, Told::Unauthorized | Told::Error { .. }) {
            return Ok(());
        }
        let behind = connection.is_some_and(|connection| connection.behind);
        Law::SlowIsResynced.require(!behind, || "it was too slow, and is not served again yet".to_owned())?;
        let is_sync = matches!(frame.told, Told::Sync { .. });
        let Some(owed) = self.owed.get_mut(who).filter(|_| frame.stream == STREAM) else { return Ok(()) };
        if is_sync {
            owed.remove(&(frame.group.into(), frame.item.map(Arc::from)));
            return Ok(());
        }
        match owed.iter().find(|(group, _)| **group == *frame.group) {
            None => Ok(()),
            Some(owed) => {
                Err(Law::SlowIsResynced.broken(format!("it was too slow, and owed the state of {owed:?}")))
            }
        }
    }

    /// An event is queued for all who are to get it, one right after the other.
    fn follow_wave(&mut self, entry: &Entry) -> Result<(), Violation> {
        let frame = match &entry.what {
            What::Queued(message) => Frame::read(message),
            // It was to get the event, and was too slow.
            What::Overflowed => {
                if let Some(wave) = &mut self.wave {
                    wave.missing.remove(&entry.who);
                }
                return Ok(());
            }
            _ => None,
        };
        let is_event = |frame: &Frame<'_>| matches!(frame.told, Told::Change { .. } | Told::Sent(_));
        let Some(frame) = frame.filter(|frame| is_event(frame) && frame.stream == STREAM) else {
            return self.end_wave();
        };
        if self.wave.as_ref().is_none_or(|wave| wave.stamp != frame.stamp || wave.group != frame.group) {
            self.end_wave()?;
            let gets =
                |joined: Option<&Joined>| joined.and_then(|joined| joined.gets(frame.item)) == Some(true);
            let all = self.connections.all.iter();
            let missing = all.filter(|(_, connection)| gets(connection.group(STREAM, frame.group)));
            let missing = missing.map(|(who, _)| who.clone()).collect();
            self.wave = Some(Wave { group: frame.group.to_owned(), stamp: frame.stamp, missing });
        }
        if let Some(wave) = &mut self.wave {
            wave.missing.remove(&entry.who);
        }
        Ok(())
    }

    fn end_wave(&mut self) -> Result<(), Violation> {
        let Some(Wave { group, stamp, missing }) = self.wave.take() else { return Ok(()) };
        Law::SlowIsResynced.require(missing.is_empty(), || {
            let missing: Vec<String> = missing.iter().map(Who::to_string).collect();
            format!("what is stamped {stamp} in {group} was not queued for {}", missing.join(", "))
        })
    }

    fn overflowed(&mut self, who: &Who) {
        if let Some(queue) = self.queues.get_mut(who) {
            queue.overflow();
        }
        let Some(groups) = self.connections.all.get(who).and_then(|connection| connection.groups.get(STREAM))
        else {
            return;
        };
        let owed = self.owed.entry(who.clone()).or_default();
        for (group, joined) in groups {
            let items = joined.items.iter().map(|(item, target)| (Some(item), target));
            let all = [(None, &joined.whole)].into_iter().chain(items);
            let served = all.filter(|(_, target)| target.surely && target.at.is_some());
            owed.extend(served.map(|(item, _)| (group.clone(), item.cloned())));
        }
    }

    /// A subscription is left. Another of the same target may be there; it may never have been served.
    fn left(&mut self, who: &Who, message: &Value) {
        let connection = self.connections.all.get(who);
        let place =
            connection.and_then(|connection| connection.place(text(&message["data"]["subscriptionId"])));
        if let (Some((_, group, item)), Some(owed)) = (place, self.owed.get_mut(who)) {
            owed.remove(&(group.clone(), item.clone()));
        }
    }

    /// The world is at rest: nothing waits, and nothing is owed.
    fn closed(&self) -> Result<(), Violation> {
        for (who, connection) in &self.connections.all {
            let broken = |how: String| Err(Law::SlowIsResynced.broken(how));
            if connection.behind {
                return broken(format!("{who} was too slow, and was not served again"));
            }
            if let Some(owed) = self.owed.get(who).and_then(BTreeSet::first) {
                return broken(format!("{who} was too slow, and never got the state of {owed:?}"));
            }
            if let Some(waits) = self.queues.get(who).and_then(Queue::first) {
                return Err(Law::Converges.broken(format!("{who} never got {waits}")));
            }
        }
        Ok(())
    }

    /// Whether the closer gets a list.
    fn is_close(&mut self, entry: &Entry) -> bool {
        if !self.healed || *entry.who.client != *CLOSER {
            return false;
        }
        if let Some(call) = self.rules.asked(&entry.what).filter(|call| call["function_id"] == "stream::list")
        {
            self.lists.insert(text(&call["invocation_id"]).to_owned());
        }
        let told = self.rules.told(&entry.what);
        told.is_some_and(|answer| self.lists.remove(text(&answer["invocation_id"])))
    }
}

impl Oracle for Slow {
    fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        let who = &entry.who;
        if self.rules.tells_server {
            self.follow_wave(entry)?;
            match &entry.what {
                What::Queued(message) => self.queued(who, message)?,
                What::Got(message) if Frame::is_one(message) => {
                    self.queues.entry(who.clone()).or_default().pop(message)?;
                }
                What::Lost => drop(self.queues.remove(who)),
                What::Overflowed => {
                    checked.overflows += 1;
                    self.overflowed(who);
                }
                What::Took(message) if message["type"] == "leave" => self.left(who, message),
                What::Resumed => {
                    if let Some(queue) = self.queues.get_mut(who) {
                        queue.resume();
                    }
                }
                What::Gone => drop(self.owed.remove(who)),
                What::Crashed(_) | What::Stopped => self.owed.clear(),
                _ => {}
            }
        }
        self.runs.see(entry, checked)?;
        self.healed |= entry.what == What::Healed;
        if self.is_close(entry) {
            self.closed()?;
        }
        self.connections.see(entry);
        Ok(())
    }

    fn end(&mut self, _checked: &mut Checked) -> Result<(), Violation> {
        self.end_wave()?;
        self.runs.end()
    }
}
