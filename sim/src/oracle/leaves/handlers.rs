//! What the handlers of joins and leaves are called for, and which join that is about.

use serde_json::Value;

use super::join::{Ask, Fate, Join, Payload, Vote, asked_about};
use super::{Early, Leaves};
use crate::oracle::workers::{Call, Kind};
use crate::oracle::{Checked, Law, Violation};

impl Leaves {
    pub(super) fn called(&mut self, call: &Call, checked: &mut Checked) -> Result<(), Violation> {
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
        let is_owed = |at: &&usize| self.owes(&self.joins[**at], &call.function);
        let left: Vec<usize> =
            candidates.iter().copied().filter(|at| self.may_have_left(&self.joins[*at])).collect();
        let (owed, left) = (left.iter().find(is_owed), left.first());
        let was_owed = owed.is_some();
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
        told.calls.push(index);
        told.was_owed |= was_owed;
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
    pub(super) fn answered(
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
