//! Leaves on their way to the handlers of `stream:leave`, and those that an earlier process owes.
//!
//! A leave whose join is in the log is told once the log has forgotten the join for good, so that no process tells it
//! again. What the log remembers at the start, a process that crashed has not told: its leaves are told when a
//! handler for them registers.

use std::collections::{BTreeMap, BTreeSet};

use super::binding::{After, Handler, Stage};
use crate::call::Purpose;
use crate::effect::{Effect, Notice};
use crate::functions::{Absent, Answered, Ask, Functions};
use crate::json::Json;
use crate::key::{JoinKey, LeaveKey};
use crate::name::{FunctionId, StreamName};
use crate::store::Joined;
use crate::time::Mono;
use crate::turn::Turn;
use crate::wire::worker::PayloadData;

/// A leave on its way to one handler.
#[derive(Debug)]
struct Leave {
    handler: Handler,
    stage: Stage,
    join: Joined,
    data: Json,
    /// What becomes of it when nobody has registered its function.
    absent: Absent,
}

/// A join of an earlier process.
#[derive(Debug)]
struct Remembered {
    join: Joined,
    /// The log is asked to forget it, or has.
    forgotten: bool,
    /// Who was told of its leave.
    told: BTreeSet<FunctionId>,
}

#[derive(Debug, Default)]
pub(super) struct Leaves {
    running: BTreeMap<LeaveKey, Leave>,
    next: u64,
    /// Told once the log has forgotten their joins.
    departing: BTreeMap<JoinKey, Joined>,
    remembered: BTreeMap<JoinKey, Remembered>,
    /// When the handlers of an earlier process' leaves have all had time to register.
    settled: Option<Mono>,
}

impl Leaves {
    /// What the log remembers at the start.
    pub(super) fn remember(&mut self, joins: Vec<(JoinKey, Joined)>) {
        let remembered = |join| Remembered { join, forgotten: false, told: BTreeSet::new() };
        self.remembered = joins.into_iter().map(|(key, join)| (key, remembered(join))).collect();
    }

    /// Tells these handlers of a leave.
    pub(super) fn tell(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        join: &Joined,
        handlers: Vec<Handler>,
    ) {
        self.tell_or(turn, functions, join, handlers, Absent::WaitsIfVanished);
    }

    /// Tells these handlers of a leave that an earlier process owes. Their functions have as long to come back as a
    /// worker that has just vanished.
    fn tell_owed(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        join: &Joined,
        handlers: Vec<Handler>,
    ) {
        let until = turn.now.mono.after(turn.config.timeouts.gate_grace_ms);
        self.tell_or(turn, functions, join, handlers, Absent::WaitsUntil(until));
    }

    fn tell_or(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        join: &Joined,
        handlers: Vec<Handler>,
        absent: Absent,
    ) {
        let data = super::join_data(join);
        for handler in handlers {
            self.next += 1;
            let key = LeaveKey(self.next);
            let stage = handler.first();
            let leave = Leave { handler, stage, join: join.clone(), data: data.clone(), absent };
            leave.ask(turn, functions, key);
            self.running.insert(key, leave);
        }
    }

    /// Keeps a leave until the log has forgotten its join.
    pub(super) fn depart(&mut self, key: JoinKey, join: Joined) {
        self.departing.insert(key, join);
    }

    /// The log has forgotten this join; it may be one of an earlier process.
    pub(super) fn departed(&mut self, key: JoinKey) -> Option<Joined> {
        let remembered = || self.remembered.get(&key).map(|remembered| remembered.join.clone());
        self.departing.remove(&key).or_else(remembered)
    }

    /// A handler for leaves has registered: which joins the log is to forget, so that it can be told.
    pub(super) fn owed(&mut self, stream: Option<&StreamName>) -> Vec<JoinKey> {
        let owed = self.remembered.iter_mut().filter(|(_, remembered)| {
            let covers = stream.is_none_or(|stream| remembered.join.target.group.stream == *stream);
            covers && !remembered.forgotten
        });
        owed.map(|(key, remembered)| {
            remembered.forgotten = true;
            *key
        })
        .collect()
    }

    /// Tells of a leave whose join the log has forgotten. Of one that an earlier process owes, each function is told
    /// once.
    pub(super) fn tell_forgotten(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        key: JoinKey,
        join: &Joined,
        handlers: Vec<Handler>,
    ) {
        let Some(remembered) = self.remembered.get_mut(&key) else {
            return self.tell(turn, functions, join, handlers);
        };
        let settled = turn.now.mono.after(turn.config.timeouts.gate_grace_ms);
        self.settled.get_or_insert(settled);
        let is_new = |handler: &Handler| remembered.told.insert(handler.function.clone());
        let handlers = handlers.into_iter().filter(is_new).collect();
        self.tell_owed(turn, functions, join, handlers);
    }

    /// A handler registers after others were told of leaves that an earlier process owed: it is told, too.
    pub(super) fn tell_late(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        stream: Option<&StreamName>,
        handler: &Handler,
    ) {
        let mut late = Vec::new();
        for remembered in self.remembered.values_mut().filter(|remembered| !remembered.told.is_empty()) {
            let covers = stream.is_none_or(|stream| remembered.join.target.group.stream == *stream);
            if covers && remembered.told.insert(handler.function.clone()) {
                late.push(remembered.join.clone());
            }
        }
        for join in late {
            self.tell_owed(turn, functions, &join, vec![handler.clone()]);
        }
    }

    /// A handler, or its condition, has answered.
    pub(super) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        key: LeaveKey,
        answered: Answered,
    ) {
        let Some(leave) = self.running.get_mut(&key) else { return };
        let function = leave.handler.function(leave.stage).clone();
        let failure = match leave.stage.after(answered.outcome) {
            After::Call => {
                leave.stage = Stage::Handler;
                return leave.ask(turn, functions, key);
            }
            After::Skipped(failure) => failure,
            After::Done(outcome) => outcome.err(),
        };
        let leave = self.running.remove(&key);
        if let (Some(error), Some(Leave { join, .. })) = (failure, leave) {
            turn.effects.push(Effect::Note(Notice::LeaveFailed { function, join, error }));
        }
    }

    /// Lets go of the joins whose handlers have all had time to register.
    pub(super) fn expire(&mut self, now: Mono) {
        if self.settled.is_some_and(|settled| settled <= now) {
            self.settled = None;
            self.remembered.retain(|_, remembered| remembered.told.is_empty());
        }
    }

    /// How many are on their way.
    pub(super) fn len(&self) -> usize {
        self.running.len() + self.departing.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.settled
    }
}

impl Leave {
    fn ask(&self, turn: &mut Turn<'_>, functions: &mut Functions, key: LeaveKey) {
        let ask = Ask {
            purpose: Purpose::Leave(key),
            function: self.handler.function(self.stage).clone(),
            payload: self.handler.payload(PayloadData::Json(self.data.clone())),
            deadline: None,
            absent: self.absent,
        };
        functions.ask(turn, ask);
    }
}
