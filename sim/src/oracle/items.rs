//! What the callers of the store were answered: each item is one thing that changes at once, whoever calls, and a crash takes
//! back nothing that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::linear::{Fate, Impossible};
use super::{Checked, Law, Oracle, Rules, Violation};
use crate::trace::{Entry, What, Who};
use call::{Asked, Call, Told};
use group::Group;
use model::Op;

mod call;
mod group;
mod model;
#[cfg(test)]
mod tests;

/// The histories of all items of the stream that the server keeps itself.
///
/// A write without an answer may happen at any time until a crash ends it. Where the world tells what the server took and
/// queued, that is when a call begins and when it is answered: what was not taken has not happened, and what was queued for a
/// connection that is gone was acknowledged all the same.
#[derive(Debug)]
pub(super) struct Items {
    tells_server: bool,
    /// How many entries were seen.
    now: u64,
    groups: BTreeMap<String, Group>,
    /// The calls that may be answered yet.
    calls: BTreeMap<(Who, String), Pending>,
    /// Writes of which nobody knows, because the disk has failed: a restart may show them, unless it works again before.
    failed: Vec<Failed>,
    crashes: Vec<u64>,
    /// The connections of clients up to this one are those of a process that is gone.
    dead: BTreeMap<Arc<str>, u64>,
    connections: BTreeMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Pending {
    group: String,
    called: u64,
    /// A crash came since: it has happened before that or not at all.
    ended: Option<u64>,
    /// The newest revision that anybody knew of when it was called.
    newest: u64,
    what: Waits,
}

#[derive(Debug)]
enum Waits {
    Item { item: String, number: usize, call: Call },
    List { revisions: bool },
}

#[derive(Debug)]
struct Failed {
    group: String,
    item: String,
    op: (Op, (u64, Who)),
    since: u64,
}

impl Items {
    pub(super) fn new(rules: Rules) -> Items {
        Items {
            tells_server: rules.tells_server,
            now: 0,
            groups: BTreeMap::new(),
            calls: BTreeMap::new(),
            failed: Vec::new(),
            crashes: Vec::new(),
            dead: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    fn called(&mut self, at: u64, who: &Who, message: &Value) {
        if message["type"] != "invokefunction" || self.dead.get(&who.client) >= Some(&who.connection) {
            return;
        }
        let Some((group, asked)) = Asked::read(message) else { return };
        let id = message["invocation_id"].as_str().filter(|_| message["action"]["type"] != "void");
        let called = self.now;
        let in_group = self.groups.entry(group.clone()).or_default();
        let newest = in_group.newest;
        let what = match asked {
            Asked::List { revisions } => Waits::List { revisions },
            Asked::Item { item, call } => {
                in_group.name(&item, &call);
                let number = in_group.item(&item).called(called, at, who, &call);
                Waits::Item { item, number, call }
            }
        };
        let pending = Pending { group, called, ended: None, newest, what };
        match id {
            Some(id) => {
                in_group.open += 1;
                if let Some(before) = self.calls.insert((who.clone(), id.to_owned()), pending) {
                    self.lost(before);
                }
            }
            // It wants no answer.
            None => {
                in_group.open += 1;
                self.lost(pending);
            }
        }
    }

    /// A call will not be answered any more.
    fn lost(&mut self, pending: Pending) {
        let Some(group) = self.groups.get_mut(&pending.group) else { return };
        group.open -= 1;
        if let Waits::Item { item, number, call } = pending.what {
            group.item(&item).may_be(number, &call);
        }
    }

    /// Nothing comes back on these connections any more.
    fn gone(&mut self, is_gone: impl Fn(&Who) -> bool) -> Result<(), Violation> {
        let gone: Vec<_> = self.calls.extract_if(.., |(who, _), _| is_gone(who)).collect();
        for (_, pending) in gone {
            self.lost(pending);
        }
        self.settle()
    }

    fn crashed(&mut self) -> Result<(), Violation> {
        if self.tells_server {
            self.gone(|_| true)?;
        }
        for pending in self.calls.values_mut() {
            pending.ended.get_or_insert(self.now);
        }
        for Failed { group, item, op, .. } in std::mem::take(&mut self.failed) {
            if let Some(group) = self.groups.get_mut(&group) {
                group.item(&item).happens_only(self.now, op);
            }
        }
        self.groups.values_mut().for_each(|group| group.end_all(self.now));
        self.dead = self.connections.clone();
        self.settle()
    }

    fn answered(&mut self, at: u64, who: &Who, message: &Value) -> Result<(), Violation> {
        let Some(id) = message["invocation_id"].as_str().filter(|_| message["type"] == "invocationresult")
        else {
            return Ok(());
        };
        let Some(pending) = self.calls.remove(&(who.clone(), id.to_owned())) else { return Ok(()) };
        let (now, name) = (self.now, pending.group.clone());
        let Some(group) = self.groups.get_mut(&name) else { return Ok(()) };
        match pending.what {
            Waits::List { revisions } => {
                group.open -= 1;
                if let Some(listed) = message["result"].as_array().filter(|_| message.get("error").is_none())
                {
                    let between = (pending.called, pending.ended.unwrap_or(now));
                    group.listed(between, (at, who), listed, revisions).map_err(|how| broken(&name, &how))?;
                }
            }
            Waits::Item { ref item, number, ref call } => match call.told(message) {
                Told::Nothing => self.lost(pending),
                Told::Unknown => {
                    group.open -= 1;
                    let op = group.item(item).never(number);
                    match pending.ended {
                        Some(crash) => group.item(item).happens_only(crash, op),
                        None => self.failed.push(Failed {
                            group: name.clone(),
                            item: item.clone(),
                            op,
                            since: now,
                        }),
                    }
                }
                Told::Refused => {
                    group.open -= 1;
                    group.item(item).never(number);
                }
                Told::All(told) => {
                    group.open -= 1;
                    let called = pending.called;
                    let to = pending.ended.unwrap_or(now);
                    let newest = pending.newest;
                    let is_change = group
                        .answered(item, number, to, call, &told, newest)
                        .map_err(|how| broken(&name, &how))?;
                    if is_change {
                        self.works_again(called);
                    }
                }
            },
        }
        self.settle_group(&name)
    }

    /// A change was made that was called then: nothing comes back that had failed before.
    fn works_again(&mut self, called: u64) {
        self.failed.retain(|failed| failed.since >= called);
    }

    fn settle(&mut self) -> Result<(), Violation> {
        let names: Vec<_> = self.groups.keys().cloned().collect();
        names.iter().try_for_each(|name| self.settle_group(name))
    }

    /// Where nobody waits for an answer, it is known what may have happened.
    fn settle_group(&mut self, name: &str) -> Result<(), Violation> {
        match self.groups.get_mut(name) {
            Some(group) if group.open == 0 => group.settle(&self.crashes).map_err(|found| found.of(name)),
            _ => Ok(()),
        }
    }
}

impl Oracle for Items {
    fn see(&mut self, entry: &Entry, _checked: &mut Checked) -> Result<(), Violation> {
        self.now += 1;
        let Entry { at, who, what } = entry;
        match (what, self.tells_server) {
            (What::Took(message), true) | (What::Sent(message), false) => {
                self.called(*at, who, message);
                Ok(())
            }
            (What::Queued(message), true) | (What::Got(message), false) => self.answered(*at, who, message),
            (What::Connected(_), false) => {
                self.connections.insert(Arc::clone(&who.client), who.connection);
                Ok(())
            }
            (What::Gone, true) | (What::Lost, false) => self.gone(|gone| gone == who),
            (What::Crashed(_), _) => {
                self.crashes.push(self.now);
                self.crashed()
            }
            (What::Stopped, _) => self.crashed(),
            _ => Ok(()),
        }
    }

    fn end(&mut self, checked: &mut Checked) -> Result<(), Violation> {
        self.gone(|_| true)?;
        for (name, group) in &self.groups {
            group.lists_are_of_one_moment().map_err(|how| broken(name, &how))?;
            let (decided, undecided) = group.decided();
            checked.histories += decided;
            checked.undecided += undecided;
        }
        Ok(())
    }
}

fn broken(group: &str, how: &str) -> Violation {
    Law::Linearizable.broken(format!("{group}: {how}"))
}
