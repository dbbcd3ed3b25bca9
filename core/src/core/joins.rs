//! The way of a subscription: somebody vouches for its connection, its gate decides, it is opened; in the end, its
//! leave is told.

use std::collections::VecDeque;

use super::Rooms;
use crate::call::Purpose;
use crate::effect::{Effect, Notice};
use crate::functions::{Absent, Answered, Ask};
use crate::hub::{self, Ended, Join};
use crate::key::{JoinKey, SessionKey};
use crate::name::{SubscriptionId, Target};
use crate::store::{Durable, Joined};
use crate::triggers::{Joining, Verdict};
use crate::turn::Turn;
use crate::wire::stream::{FromSubscriber, Handshake, StreamError, SyncFrame, code};
use crate::wire::worker::{Payload, PayloadData};

/// While more leaves are on their way to their handlers, no join is taken: each would be another leave.
const MOST_LEAVES: usize = 100_000;

/// Joins that wait until the leaves before them are told.
#[derive(Debug, Default)]
pub(super) struct BehindLeaves {
    /// The last leave that waits for the log.
    last: Option<JoinKey>,
    /// Each with the leave that it waits for: those in front wait for the earliest.
    joins: VecDeque<(JoinKey, Joining)>,
}

impl Rooms {
    pub(super) fn session_connected(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionKey,
        handshake: &Handshake,
        join: Option<Result<Target, StreamError>>,
    ) {
        match turn.config.access.auth_function {
            None => self.hub.connect(session),
            Some(_) => {
                let deadline = turn.now.mono.after(turn.config.timeouts.auth_ms);
                self.hub.connect_asked(session, handshake.to_json(), deadline);
                if self.stopping.is_none() {
                    self.ask_auth(turn, session);
                }
            }
        }
        match join {
            Some(Ok(target)) => {
                let subscription = SubscriptionId::trusted(&turn.rng.uuid().to_string());
                self.join(turn, session, subscription, &target);
            }
            Some(Err(error)) => self.refuse_frame(turn, session, error),
            None => {}
        }
    }

    pub(super) fn session_frame(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionKey,
        frame: Result<FromSubscriber, StreamError>,
    ) {
        match frame {
            Ok(FromSubscriber::Join { subscription, target }) => {
                self.join(turn, session, subscription, &target);
            }
            Ok(FromSubscriber::Leave { subscription }) => {
                let ended = self.hub.leave(turn, session, &subscription);
                ended.into_iter().for_each(|ended| self.unsubscribed(turn, session, ended));
            }
            Err(error) => self.refuse_frame(turn, session, error),
        }
    }

    /// A session that nobody vouches for is told nothing but that.
    fn refuse_frame(&mut self, turn: &mut Turn<'_>, session: SessionKey, error: StreamError) {
        if !self.hub.is_denied(session) {
            turn.effects.push(Effect::Refuse { session, error });
        }
    }

    fn ask_auth(&mut self, turn: &mut Turn<'_>, session: SessionKey) {
        let Some(function) = turn.config.access.auth_function.clone() else { return };
        let Some((data, deadline)) = self.hub.asked(session) else { return };
        let payload = Payload { data: PayloadData::Json(data), ..Payload::default() };
        let (purpose, deadline) = (Purpose::Auth(session), Some(deadline));
        let ask = Ask { purpose, function, payload, deadline, absent: Absent::Waits };
        self.functions.ask(turn, ask);
    }

    pub(super) fn auth_answered(&mut self, turn: &mut Turn<'_>, session: SessionKey, answered: Answered) {
        if self.stopping.is_some() || self.hub.asked(session).is_none() {
            return;
        }
        if answered.vanished {
            return self.ask_auth(turn, session);
        }
        match hub::context(answered.outcome) {
            Ok(context) => {
                for join in self.hub.grant(turn, session, context) {
                    self.ask_gate(turn, Joining { session, join });
                }
            }
            Err(error) => {
                if let (Some(error), Some(function)) = (error, turn.config.access.auth_function.clone()) {
                    turn.effects.push(Effect::Note(Notice::AuthFailed { session, function, error }));
                }
                self.hub.deny(turn, session);
            }
        }
    }

    fn join(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionKey,
        subscription: SubscriptionId,
        target: &Target,
    ) {
        if self.stopping.is_some() {
            return;
        }
        if self.triggers.leaves() > MOST_LEAVES && !self.hub.is_denied(session) {
            let message = "too many leaves wait for their handlers; join again later";
            let error = StreamError::about(code::OVERLOADED, message, target);
            return turn.effects.push(Effect::Refuse { session, error });
        }
        match self.hub.join(turn, session, &subscription, target) {
            Join::Nothing => {}
            Join::Again => self.start(turn, session, subscription, target.clone()),
            Join::New(join) => self.ask_gate(turn, Joining { session, join }),
        }
    }

    /// Asks a join's gate, after all leaves that came before it were told: a handler that keeps who is there must not
    /// hear of them the other way round.
    fn ask_gate(&mut self, turn: &mut Turn<'_>, joining: Joining) {
        match self.behind_leaves.last {
            // Those leaves may take long, and subscribers can be served meanwhile.
            _ if self.store.refusal(&turn.config.storage).is_some() => self.ask_gate_now(turn, joining),
            Some(leave) => self.behind_leaves.joins.push_back((leave, joining)),
            None => self.ask_gate_now(turn, joining),
        }
    }

    /// The log has forgotten a join, and its leave was told: those that came after it go on.
    pub(super) fn left(&mut self, turn: &mut Turn<'_>, key: JoinKey) {
        if self.behind_leaves.last == Some(key) {
            self.behind_leaves.last = None;
        }
        while let Some((_, joining)) = self.behind_leaves.joins.pop_front_if(|(leave, _)| *leave == key) {
            self.ask_gate_again(turn, joining);
        }
    }

    /// If nothing can be written, the joins that wait for leaves go on.
    pub(super) fn let_joins_pass(&mut self, turn: &mut Turn<'_>) {
        if self.store.refusal(&turn.config.storage).is_some() {
            for (_, joining) in std::mem::take(&mut self.behind_leaves.joins) {
                self.ask_gate_again(turn, joining);
            }
        }
    }

    /// Asks the gate of a join that has waited, if it is still wanted.
    fn ask_gate_again(&mut self, turn: &mut Turn<'_>, joining: Joining) {
        if self.hub.awaits_gate(joining.session, &joining.join) {
            self.ask_gate_now(turn, joining);
        }
    }

    fn ask_gate_now(&mut self, turn: &mut Turn<'_>, joining: Joining) {
        let (session, subscription) = (joining.session, joining.join.subscription.clone());
        match self.triggers.open_gate(turn, &mut self.functions, joining) {
            Ok(gate) => self.hub.gated(session, &subscription, gate),
            Err(verdict) => self.decided(turn, verdict),
        }
    }

    /// A join is decided. One that nobody wants any more is told its leave if it was allowed: its handlers know of it.
    pub(super) fn decided(&mut self, turn: &mut Turn<'_>, verdict: Verdict) {
        let Verdict { joining: Joining { session, join }, allowed, abandoned } = verdict;
        match (allowed, abandoned) {
            (true, true) => self.triggers.leave(turn, &mut self.functions, join, None),
            (true, false) => self.open(turn, session, join),
            (false, true) => {}
            (false, false) => self.hub.refuse(turn, session, &join.subscription),
        }
    }

    /// A join is allowed. The session is in the target's channel and has its durable state, in one step: what follows
    /// starts at the next revision. Of a stream that a worker keeps, the state has to be asked for first.
    fn open(&mut self, turn: &mut Turn<'_>, session: SessionKey, join: Joined) {
        let key = match self.triggers.watches_leave(&join) {
            true => self.store.joined(&join),
            false => None,
        };
        let Joined { subscription, target, .. } = join;
        let loads = self.custom.keeps(&target.group.stream);
        if self.hub.open(turn, session, &subscription, key, loads) {
            self.start(turn, session, subscription, target);
        }
    }

    /// Gives a subscription what it starts from.
    pub(super) fn start(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionKey,
        subscription: SubscriptionId,
        target: Target,
    ) {
        match self.custom.keeps(&target.group.stream) {
            true => self.custom.load(turn, &mut self.functions, target, (session, subscription)),
            // Nothing happens in the group before it is read: what the subscription is sent first is this.
            false if !self.store.is_ready(&target.group) => {
                let starts = self.starts.entry(target.group.clone()).or_default();
                starts.insert((session, subscription, target));
            }
            false if self.hub.loaded(turn, session, &subscription, &target) => {
                let state = self.store.durable(&target);
                self.sync(turn, session, subscription, target, state);
            }
            false => {}
        }
    }

    /// A subscription waits no more for its group to be read.
    fn forget_start(&mut self, session: SessionKey, join: &Joined) {
        let Joined { subscription, target, .. } = join;
        if let Some(starts) = self.starts.get_mut(&target.group) {
            starts.remove(&(session, subscription.clone(), target.clone()));
            if starts.is_empty() {
                self.starts.remove(&target.group);
                self.store.nobody_starts(&target.group);
            }
        }
    }

    /// A session has given up a subscription, or is gone.
    pub(super) fn unsubscribed(&mut self, turn: &mut Turn<'_>, session: SessionKey, ended: Ended) {
        if let Ended::Open { join, .. } = &ended {
            self.custom.left(session, join);
            self.forget_start(session, join);
        }
        self.ended(turn, ended);
    }

    /// A subscription has ended.
    pub(super) fn ended(&mut self, turn: &mut Turn<'_>, ended: Ended) {
        match ended {
            Ended::Gated(gate) => self.triggers.abandon_gate(gate),
            Ended::Open { join, key } => {
                if let Some(key) = key {
                    self.store.left(key, &mut self.outputs);
                    self.behind_leaves.last = Some(key);
                }
                self.triggers.leave(turn, &mut self.functions, join, key);
            }
        }
    }

    pub(super) fn sync(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionKey,
        subscription: SubscriptionId,
        target: Target,
        state: Durable,
    ) {
        let missed = self.hub.take_missed(session, &target);
        let frame = SyncFrame { target, state, epoch: self.epoch };
        turn.effects.push(Effect::Sync { session, subscription, frame, missed });
    }
}
