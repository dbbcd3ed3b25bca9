//! G6: each allowed join has exactly one leave, with its ids and its context, and a refused one none; across a crash at
//! most one. Gates are asked once about each join.
//!
//! Handlers are told ids, and ids come again: on the next connection, or after a join that was refused. Where it can't be
//! known which join is meant, all that is asked for is that there are not more leaves than joins.

mod ending;
mod handlers;
mod join;

use std::collections::BTreeMap;

use serde_json::Value;

use super::frame::{STREAM, text};
use super::workers::{Edge, Happened, Kind, Workers};
use super::{CLOSER, Checked, Law, Oracle, Rules, Violation};
use crate::trace::{Entry, What, Who};
use join::{Connection, Fate, Join, Target, asked_for, frame_target, path_target};

/// Everything about joins and leaves.
#[derive(Debug)]
pub(super) struct Leaves {
    rules: Rules,
    workers: Workers,
    connections: BTreeMap<Who, Connection>,
    joins: Vec<Join>,
    by_id: BTreeMap<String, Vec<usize>>,
    /// What paths have joined, and those of them whose names are not known.
    by_path: Vec<usize>,
    unnamed: Vec<usize>,
    by_connection: BTreeMap<Who, Vec<usize>>,
    /// The join and the function, by the gate's call.
    asked: BTreeMap<String, (usize, String)>,
    /// What each function is bound to.
    roles: BTreeMap<String, Roles>,
    early: Vec<Early>,
    /// When the server certainly did not stop yet.
    lived: u64,
    healed: Option<usize>,
    /// Where the trace has it that the world is at rest.
    rest: Option<usize>,
    judged: bool,
}

/// What a function is bound to.
#[derive(Debug, Default)]
struct Roles {
    /// In this process of the server, how many triggers of gates and of leaves it had at a time, at most.
    gates: usize,
    leaves: usize,
    /// A condition decides whether it is called.
    is_conditional: bool,
    is_condition: bool,
}

/// A leave that was told while its subscription lived: only a server that stops does that.
#[derive(Debug)]
struct Early {
    join: usize,
    index: usize,
    at: u64,
    how: String,
}

impl Oracle for Leaves {
    fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        match &entry.what {
            What::Crashed(_) => self.dies()?,
            What::Stopped => self.stops(entry.at)?,
            What::Healed => self.healed = Some(self.workers.index),
            What::Connected(path) => {
                let connection = Connection { path: path.clone(), ..Connection::default() };
                self.connections.insert(entry.who.clone(), connection);
            }
            _ => {}
        }
        let happened = self.workers.take(entry);
        let who = &entry.who;
        match Edge::of(&entry.what, self.rules.tells_server) {
            Some(Edge::Opens) => self.opens(who),
            Some(Edge::Says(message)) => self.says(who, message)?,
            Some(Edge::Hears(message)) => self.hears(who, message, checked)?,
            Some(Edge::Goes) => self.goes(who),
            Some(Edge::Ends) => self.ends(),
            None => {}
        }
        match happened {
            Happened::Called(id) => match self.workers.call(&id).cloned() {
                Some(call) => self.called(&call, checked),
                None => Ok(()),
            },
            Happened::Answered(call, result) => self.answered(&call, result.as_ref(), checked),
            Happened::Nothing => Ok(()),
        }
    }

    fn end(&mut self, _: &mut Checked) -> Result<(), Violation> {
        self.judge()
    }
}

impl Leaves {
    pub(super) fn new(rules: Rules) -> Leaves {
        Leaves {
            rules,
            workers: Workers::new(rules),
            connections: BTreeMap::new(),
            joins: Vec::new(),
            by_id: BTreeMap::new(),
            by_path: Vec::new(),
            unnamed: Vec::new(),
            by_connection: BTreeMap::new(),
            asked: BTreeMap::new(),
            roles: BTreeMap::new(),
            early: Vec::new(),
            lived: 0,
            healed: None,
            rest: None,
            judged: false,
        }
    }

    fn opens(&mut self, who: &Who) {
        let path = self.connections.get(who).map(|connection| connection.path.clone());
        if let Some(target) = path.and_then(|path| path_target(&path)) {
            self.by_path.push(self.joins.len());
            self.unnamed.push(self.joins.len());
            self.join(who, None, target);
        }
    }

    fn join(&mut self, who: &Who, id: Option<String>, target: Target) {
        self.by_connection.entry(who.clone()).or_default().push(self.joins.len());
        self.joins.push(Join {
            who: who.clone(),
            id,
            target,
            taken: self.workers.index,
            at: self.workers.now,
            process: self.workers.process,
            ended: None,
            fate: Fate::Unknown,
            unsure: false,
            awaits_refusal: false,
            asks: BTreeMap::new(),
            told: BTreeMap::new(),
        });
    }

    fn says(&mut self, who: &Who, message: &Value) -> Result<(), Violation> {
        match text(&message["type"]) {
            "join" => {
                if let Some((id, target)) = asked_for(message) {
                    self.joins_by_frame(who, id, target);
                }
            }
            "leave" => {
                let id = text(&message["data"]["subscriptionId"]).to_owned();
                self.end_joins(who, |join| join.id.as_ref() == Some(&id));
            }
            "registertrigger" => self.count_roles(),
            "invokefunction"
                if self.healed.is_some()
                    && *who.client == *CLOSER
                    && message["function_id"] == "stream::list" =>
            {
                self.rest.get_or_insert(self.workers.index);
                // It is at rest, so it does not stop.
                return self.is_running(self.workers.index);
            }
            _ => {}
        }
        Ok(())
    }

    fn joins_by_frame(&mut self, who: &Who, id: String, target: Target) {
        let index = self.joins.len();
        let mut unsure = false;
        for before in self.by_connection.get(who).into_iter().flatten() {
            let join = &mut self.joins[*before];
            if join.id.as_ref() != Some(&id) || join.ended.is_some() || join.fate == Fate::Refused {
                continue;
            }
            // It gets its state once more, or an error.
            if join.fate == Fate::Allowed && !join.unsure {
                return;
            }
            // The one before may have been refused, and may wait.
            join.unsure = true;
            unsure = true;
        }
        self.by_id.entry(id.clone()).or_default().push(index);
        self.join(who, Some(id), target);
        self.joins[index].unsure = unsure;
    }

    fn end_joins(&mut self, who: &Who, ends: impl Fn(&Join) -> bool) {
        let (index, now) = (self.workers.index, self.workers.now);
        for at in self.by_connection.get(who).into_iter().flatten() {
            let join = &mut self.joins[*at];
            if join.ended.is_none() && ends(join) {
                join.ended = Some(index);
                // A world may note the end of a subscription right behind what follows from it.
                self.early.retain(|early| early.join != *at || early.at < now);
            }
        }
    }

    fn goes(&mut self, who: &Who) {
        self.end_joins(who, |_| true);
        if let Some(connection) = self.connections.get_mut(who) {
            connection.gone.get_or_insert(self.workers.index);
        }
    }

    /// The server died or stopped.
    fn ends(&mut self) {
        self.early.clear();
        // Clients may still get what was sent before.
        if self.rules.tells_server {
            self.roles.values_mut().for_each(|roles| (roles.gates, roles.leaves) = (0, 0));
        }
    }

    /// A trigger was registered: of how many triggers each function is.
    fn count_roles(&mut self) {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for wanted in self.workers.bound() {
            let roles = match self.roles.get_mut(&wanted.function) {
                Some(roles) => roles,
                None => self.roles.entry(wanted.function.clone()).or_default(),
            };
            roles.is_conditional |= wanted.condition.is_some();
            let count = counts.entry(&wanted.function).or_default();
            match wanted.kind {
                Kind::Join(_) => count.0 += 1,
                Kind::Leave(_) => count.1 += 1,
                Kind::Stream { .. } => {}
            }
            if let Some(condition) = &wanted.condition {
                self.roles.entry(condition.clone()).or_default().is_condition = true;
            }
        }
        for (function, (gates, leaves)) in counts {
            if let Some(roles) = self.roles.get_mut(function) {
                roles.gates = roles.gates.max(gates);
                roles.leaves = roles.leaves.max(leaves);
            }
        }
    }

    fn hears(&mut self, who: &Who, message: &Value, checked: &mut Checked) -> Result<(), Violation> {
        if message["type"] != "stream" {
            return Ok(());
        }
        let target = frame_target(message);
        let of_connection = self.by_connection.get(who).map_or(&[][..], Vec::as_slice);
        let lives = |at: &usize| {
            let join = &self.joins[*at];
            join.ended.is_none() && join.fate != Fate::Refused && join.target == target
        };
        let live: Vec<usize> = of_connection.iter().copied().filter(lives).collect();
        match (text(&message["event"]["type"]), &live[..]) {
            // One that was refused at once has never been there.
            ("error", _) => {
                let last = of_connection.last().copied();
                let last = last.filter(|last| self.joins[*last].taken + 1 == self.workers.index);
                let code = text(&message["event"]["error"]["code"]);
                let is_refusal = matches!(code, "too_many_subscriptions" | "overloaded");
                if let Some(last) = last.filter(|_| is_refusal && self.rules.tells_server) {
                    self.joins[last].fate = Fate::Refused;
                }
            }
            // What a worker keeps is told as a state also when it changes.
            ("sync", [one]) if target.0 == STREAM => return self.is_allowed(*one, checked),
            ("unauthorized", _) => {
                // That of a join whose gate has denied it says nothing about others.
                let awaits =
                    |at: &&usize| self.joins[**at].awaits_refusal && self.joins[**at].target == target;
                if let Some(at) = of_connection.iter().find(awaits) {
                    self.joins[*at].awaits_refusal = false;
                    return Ok(());
                }
                let undecided: Vec<usize> =
                    live.into_iter().filter(|at| self.joins[*at].fate == Fate::Unknown).collect();
                match &undecided[..] {
                    [one] => self.joins[*one].fate = Fate::Refused,
                    some => some.iter().for_each(|at| self.joins[*at].unsure = true),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_allowed(&mut self, at: usize, checked: &mut Checked) -> Result<(), Violation> {
        let join = &mut self.joins[at];
        if join.fate != Fate::Unknown || join.unsure {
            return Ok(());
        }
        join.fate = Fate::Allowed;
        checked.joins += 1;
        self.lived = self.lived.max(join.at);
        let taken = join.taken;
        self.is_running(taken)
    }

    /// The server did not stop when this was taken: what was told before that was told too early.
    fn is_running(&self, taken: usize) -> Result<(), Violation> {
        let early = self.early.iter().find(|early| early.index < taken);
        Law::OneLeave.require(early.is_none(), || early.map(|early| early.how.clone()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
