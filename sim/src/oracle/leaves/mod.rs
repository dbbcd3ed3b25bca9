//! G6: each allowed join has exactly one leave, with its ids and its context, and a refused one none; across a crash at
//! most one. Gates are asked once about each join.
//!
//! Handlers are told ids, and ids come again: on the next connection, or after a join that was refused. Where it can't be
//! known which join is meant, all that is asked for is that there are not more leaves than joins.

mod ending;
mod join;

use std::collections::BTreeMap;

use serde_json::Value;

use super::frame::{STREAM, text};
use super::workers::{Call, Edge, Happened, Kind, Workers};
use super::{CLOSER, Checked, Law, Oracle, Rules, Violation};
use crate::trace::{Entry, What, Who};
use join::{
    Ask, Connection, Fate, Join, Payload, Target, Vote, asked_about, asked_for, frame_target, path_target,
};

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

    fn called(&mut self, call: &Call, checked: &mut Checked) -> Result<(), Violation> {
        if let Some(who) = asked_about(&call.data) {
            self.connections.entry(who).or_default().asked = true;
        }
        let Some(payload) = Payload::read(&call.data) else { return Ok(()) };
        let Some(roles) = self.roles.get(&call.function).filter(|roles| !roles.is_condition) else {
            return Ok(());
        };
        let is_contended = self.workers.is_contended(&call.function);
        match (roles.gates, roles.leaves) {
            (0, most) if most > 0 => {
                checked.leaves += 1;
                self.leave_told(call, &payload, if is_contended { usize::MAX } else { most })
            }
            (most, 0) if most > 0 => {
                self.gate_asked(call, &payload, if is_contended { usize::MAX } else { most })
            }
            _ => Ok(()),
        }
    }

    /// The joins that handlers may be told of like this.
    fn candidates(&self, payload: &Payload<'_>) -> Vec<usize> {
        let named = self.by_id.get(payload.id).unwrap_or(&self.unnamed);
        let exact = self.rules.tells_server;
        let fits = |at: &&usize| {
            let join = &self.joins[**at];
            // Where the addresses of connections are not known, neither is what belongs to them.
            let connection = self.connections.get(&join.who);
            let has = connection.is_some_and(|connection| connection.has(payload.context));
            join.fits(payload) && (has || !exact)
        };
        named.iter().filter(fits).copied().collect()
    }

    fn leave_told(&mut self, call: &Call, payload: &Payload<'_>, most: usize) -> Result<(), Violation> {
        let mut candidates = self.candidates(payload);
        candidates.retain(|at| {
            let join = &self.joins[*at];
            (join.fate != Fate::Refused || join.unsure) && join.told_of(&call.function) < most
        });
        // What must be told of comes before what may be.
        let is_owed = |at: &&usize| self.owes(&self.joins[**at], Some(&call.function)).is_some();
        let left: Vec<usize> =
            candidates.iter().copied().filter(|at| self.may_have_left(&self.joins[*at])).collect();
        let (owed, left) = (left.iter().find(is_owed), left.first());
        let is_sure = owed.is_some();
        let left = owed.or(left);
        let lives = || candidates.iter().find(|at| self.joins[**at].ended.is_none());
        let how = |what: &str| format!("`{}` is told of a leave {what}: {}", call.function, call.data);
        let found = left.copied().or_else(|| lives().copied());
        let Some(at) = found else {
            let what = if candidates.is_empty() { "that no join has" } else { "before its gate has decided" };
            return Err(Law::OneLeave.broken(how(what)));
        };
        // Nobody can know at the client's edge how long a connection lives at the server.
        if left.is_none() && self.rules.tells_server {
            let (index, now) = (self.workers.index, self.workers.now);
            self.early.push(Early { join: at, index, at: now, how: how("of somebody who has not left") });
        }
        self.name(at, payload);
        let index = self.workers.index;
        let told = self.joins[at].told.entry(call.function.clone()).or_default();
        told.times += 1;
        told.doubtful = if is_sure { told.doubtful } else { index };
        Ok(())
    }

    /// Whether a join may have ended after it was allowed.
    fn may_have_left(&self, join: &Join) -> bool {
        let is_sure = self.rules.tells_server && !join.unsure;
        if !is_sure || join.process < self.workers.process {
            return true;
        }
        // Until then a gate waits for its handlers.
        let may_have_failed = self.workers.now >= join.at.saturating_add(self.rules.limits.call_ms);
        let waits = self.workers.certain().any(|(_, since, binding)| {
            let wanted = &binding.wanted;
            let is_gate = matches!(wanted.kind, Kind::Join(_)) && wanted.is_about(&join.target.0);
            is_gate
                && since < join.taken
                && wanted.condition.is_none()
                && join.waits_for(&wanted.function, &self.workers)
        });
        join.ended.is_some() && (join.fate == Fate::Allowed || may_have_failed || !waits)
    }

    /// What a path has joined has a name from here on.
    fn name(&mut self, at: usize, payload: &Payload<'_>) {
        if self.joins[at].id.is_none() {
            self.unnamed.retain(|unnamed| *unnamed != at);
            self.joins[at].id = Some(payload.id.to_owned());
            self.by_id.entry(payload.id.to_owned()).or_default().push(at);
        }
    }

    fn gate_asked(&mut self, call: &Call, payload: &Payload<'_>, most: usize) -> Result<(), Violation> {
        let mut candidates = self.candidates(payload);
        let (workers, exact) = (&self.workers, self.rules.tells_server);
        candidates.retain(|at| {
            let join = &self.joins[*at];
            // Also when it is decided: what waits for a worker with too much to do is called all the same.
            let in_process = !exact || join.process == workers.process;
            in_process && join.asks_of(&call.function, workers, &call.who) < most
        });
        let is_over =
            |at: &&usize| self.joins[**at].fate == Fate::Refused || self.joins[**at].ended.is_some();
        let Some(&at) = candidates.iter().min_by_key(|at| is_over(at)) else {
            let how = format!("`{}` is asked about a join that has not to be decided", call.function);
            return Err(Law::OneLeave.broken(how));
        };
        if candidates.len() > 1 {
            candidates.iter().for_each(|at| self.joins[*at].unsure = true);
        }
        self.name(at, payload);
        self.asked.insert(call.id.clone(), (at, call.function.clone()));
        let ask = Ask { call: call.id.clone(), who: call.who.clone(), vote: None };
        let join = &mut self.joins[at];
        join.asks.entry(call.function.clone()).or_default().push(ask);
        if join.unsure {
            return Ok(());
        }
        self.lived = self.lived.max(join.at);
        let taken = join.taken;
        self.is_running(taken)
    }

    /// A worker has answered in time.
    fn answered(
        &mut self,
        call: &Call,
        result: Option<&Value>,
        checked: &mut Checked,
    ) -> Result<(), Violation> {
        let denies = result.is_some_and(|result| result["unauthorized"] == true);
        if let (Some(who), Some(result), false) = (asked_about(&call.data), result, denies) {
            let context = result["context"].clone();
            self.connections.entry(who).or_default().contexts.push(context);
        }
        let Some((at, function)) = self.asked.remove(&call.id) else { return Ok(()) };
        let join = &mut self.joins[at];
        let vote = match result {
            Some(_) if denies => Vote::Denies,
            Some(_) => Vote::Allows,
            None => Vote::Fails,
        };
        let asks = join.asks.get_mut(&function).into_iter().flatten();
        asks.filter(|ask| ask.call == call.id).for_each(|ask| ask.vote = Some(vote));
        // Later it may have been decided without this.
        let in_time = self.workers.now < join.at.saturating_add(self.rules.limits.call_ms);
        if join.unsure || !in_time || !self.rules.tells_server || join.process != self.workers.process {
            return Ok(());
        }
        match vote {
            Vote::Denies => {
                join.fate = Fate::Refused;
                join.awaits_refusal = join.ended.is_none();
                Law::OneLeave.require(join.told.is_empty(), || "its leave was told before".to_owned())
            }
            Vote::Allows if self.all_allow(&self.joins[at]) => self.is_allowed(at, checked),
            _ => Ok(()),
        }
    }

    /// Whether all gates that there were in this process have allowed a join.
    fn all_allow(&self, join: &Join) -> bool {
        let mut gates = self.roles.iter().filter(|(_, roles)| roles.gates > 0);
        gates.all(|(function, roles)| {
            let asks = join.asks.get(function).map_or(&[][..], Vec::as_slice);
            let allows = asks.iter().any(|ask| ask.vote == Some(Vote::Allows));
            roles.gates == 1 && !roles.is_conditional && allows
        })
    }
}
