//! Joins that wait for their gate: the handlers of `stream:join`, who may refuse them.
//!
//! A join is decided once every handler has answered, or as soon as one refuses it. A handler whose worker goes away
//! meanwhile is asked again when the worker is back: a reconnect opens no hole.

use std::collections::{BTreeMap, BTreeSet};

use super::binding::{After, Handler, Stage};
use crate::call::Purpose;
use crate::config::JoinGate;
use crate::effect::{Effect, Notice};
use crate::error::{CallError, code};
use crate::functions::{Absent, Answered, Ask, Functions};
use crate::json::Json;
use crate::key::{GateKey, SessionKey};
use crate::store::Joined;
use crate::time::Mono;
use crate::turn::Turn;
use crate::wire::worker::PayloadData;

/// A join that wants to be allowed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Joining {
    pub(crate) session: SessionKey,
    pub(crate) join: Joined,
}

/// A join that is decided.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) joining: Joining,
    pub(crate) allowed: bool,
    /// Nobody wants to join any more: only the leave of an allowed join is to be told.
    pub(crate) abandoned: bool,
}

#[derive(Debug)]
struct Gate {
    joining: Joining,
    /// What the handlers are given.
    data: Json,
    /// Those who have not answered.
    votes: BTreeMap<usize, (Handler, Stage)>,
    /// How many have allowed it.
    allowed: usize,
    /// At least one has failed.
    failed: bool,
    abandoned: bool,
    /// When those who have not answered have failed.
    until: Mono,
}

#[derive(Debug, Default)]
pub(super) struct Gates {
    open: BTreeMap<GateKey, Gate>,
    by_deadline: BTreeSet<(Mono, GateKey)>,
    /// How many of them nobody waits for.
    abandoned: usize,
    next: u64,
}

impl Gates {
    /// Asks these handlers about a join. Without any, it is decided at once.
    pub(super) fn open(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        joining: Joining,
        handlers: Vec<Handler>,
    ) -> Result<GateKey, Verdict> {
        self.next += 1;
        let key = GateKey(self.next);
        let timeouts = &turn.config.timeouts;
        let until = turn.now.mono.after(timeouts.call_ms).after(timeouts.gate_grace_ms);
        let data = super::join_data(&joining.join);
        let votes = handlers.into_iter().map(|handler| {
            let first = handler.first();
            (handler, first)
        });
        let votes: BTreeMap<_, _> = votes.enumerate().collect();
        let gate = Gate { joining, data, votes, allowed: 0, failed: false, abandoned: false, until };
        if gate.votes.is_empty() {
            return Err(gate.decide(turn.config.access.join_gate));
        }
        for vote in gate.votes.keys() {
            gate.ask(turn, functions, key, *vote);
        }
        self.by_deadline.insert((until, key));
        self.open.insert(key, gate);
        Ok(key)
    }

    /// Nobody wants to join any more.
    pub(super) fn abandon(&mut self, key: GateKey) {
        if let Some(gate) = self.open.get_mut(&key).filter(|gate| !gate.abandoned) {
            gate.abandoned = true;
            self.abandoned += 1;
        }
    }

    /// A handler, or its condition, has answered.
    pub(super) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        key: GateKey,
        vote: usize,
        answered: Answered,
    ) -> Option<Verdict> {
        let gate = self.open.get_mut(&key)?;
        if answered.vanished {
            gate.ask(turn, functions, key, vote);
            return None;
        }
        let (handler, stage) = gate.votes.get_mut(&vote)?;
        let function = handler.function(*stage).clone();
        let failure = match stage.after(answered.outcome) {
            After::Call => {
                *stage = Stage::Handler;
                gate.ask(turn, functions, key, vote);
                return None;
            }
            After::Skipped(failure) => failure,
            After::Done(Ok(answer)) if answer.denies() => {
                return self.close(key).map(|gate| gate.refuse());
            }
            After::Done(Ok(_)) => {
                gate.allowed += 1;
                None
            }
            After::Done(Err(failure)) => Some(failure),
        };
        gate.votes.remove(&vote);
        if let Some(error) = failure {
            gate.failed = true;
            let join = gate.joining.join.clone();
            turn.effects.push(Effect::Note(Notice::GateFailed { function, join, error }));
        }
        if gate.votes.is_empty() {
            return self.close(key).map(|gate| gate.decide(turn.config.access.join_gate));
        }
        None
    }

    /// Decides the joins whose time is up: who has not answered has failed.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while let Some(&(until, key)) = self.by_deadline.first()
            && until <= turn.now.mono
        {
            let Some(mut gate) = self.close(key) else { break };
            gate.failed = true;
            for (handler, stage) in gate.votes.values() {
                let function = handler.function(*stage).clone();
                let message = "the gate was not answered in time, its worker's absence included";
                let error = CallError::new(code::TIMEOUT, message);
                let join = gate.joining.join.clone();
                turn.effects.push(Effect::Note(Notice::GateFailed { function, join, error }));
            }
            verdicts.push(gate.decide(turn.config.access.join_gate));
        }
        verdicts
    }

    /// How many joins are to be decided that nobody wants any more.
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.by_deadline.first().map(|(until, _)| *until)
    }

    fn close(&mut self, key: GateKey) -> Option<Gate> {
        let gate = self.open.remove(&key)?;
        self.by_deadline.remove(&(gate.until, key));
        self.abandoned -= usize::from(gate.abandoned);
        Some(gate)
    }
}

impl Gate {
    fn ask(&self, turn: &mut Turn<'_>, functions: &mut Functions, gate: GateKey, vote: usize) {
        let Some((handler, stage)) = self.votes.get(&vote) else { return };
        let ask = Ask {
            purpose: Purpose::Gate { gate, vote },
            function: handler.function(*stage).clone(),
            payload: handler.payload(PayloadData::Json(self.data.clone())),
            deadline: None,
            absent: Absent::WaitsIfVanished,
        };
        functions.ask(turn, ask);
    }

    /// What is decided when nobody has refused.
    fn decide(self, policy: JoinGate) -> Verdict {
        let allowed = match policy {
            JoinGate::FailOpen => true,
            JoinGate::FailClosed => self.allowed > 0 && !self.failed,
        };
        Verdict { joining: self.joining, allowed, abandoned: self.abandoned }
    }

    fn refuse(self) -> Verdict {
        Verdict { joining: self.joining, allowed: false, abandoned: self.abandoned }
    }
}
