//! Sessions, their subscriptions, and the channels that events reach them through.
//!
//! Each group has a channel for those who subscribe to all of it, and one for each item that somebody subscribes
//! to alone. An event of an item goes to both. Per group, a session is either in the group's channel or in channels
//! of its items, never in both, so it gets each event once, however many of its subscriptions match. While it is
//! behind it is in none.

mod access;
mod channels;
mod outbox;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use access::context;
pub use outbox::{Outbox, Pushed};

use access::Access;
use channels::{Absence, Channels, Ways};

use crate::effect::Effect;
use crate::json::Json;
use crate::key::{GateKey, JoinKey, SessionKey};
use crate::log::Epoch;
use crate::name::{GroupPath, ItemId, StreamName, SubscriptionId, Target};
use crate::store::{Durable, Event, EventKind, Joined, State};
use crate::time::{Mono, Now, Stamp};
use crate::turn::Turn;
use crate::wire::stream::{StreamError, SyncFrame, ToSubscriber, code};

type Targets = BTreeMap<GroupPath, BTreeMap<Option<ItemId>, usize>>;

#[derive(Debug)]
struct Session {
    access: Access,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// How many of the open subscriptions have each target.
    targets: Targets,
    /// The outbox has overflowed: nothing is sent until it is empty and gets fresh snapshots.
    behind: bool,
    /// What it misses meanwhile, and of what a worker keeps until that is loaded again.
    absence: Absence,
}

#[derive(Debug)]
struct Subscription {
    target: Target,
    state: Progress,
}

/// How far a subscription is. Only an open one is sent anything.
#[derive(Debug)]
enum Progress {
    /// It waits until somebody vouches for its connection; its place among those that do.
    Held(u64),
    /// It waits for its gate.
    Gated(Option<GateKey>),
    /// `key` if the log knows of it; `left` once its leave was told, although its connection is still there; `loading`
    /// while a worker that keeps the stream is asked for what it starts from: nothing is sent before that.
    Open { key: Option<JoinKey>, left: bool, loading: bool },
}

/// What became of a join.
#[derive(Debug)]
pub(crate) enum Join {
    /// It was refused with an error, or is on its way already.
    Nothing,
    /// It is open already: its state is to be sent again.
    Again,
    /// It is to be decided about.
    New(Joined),
}

/// A subscription that has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Before its gate had decided.
    Gated(GateKey),
    /// After it was allowed; `key` if the log knows of it.
    Open { join: Joined, key: Option<JoinKey> },
}

/// All sessions and channels.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    sessions: BTreeMap<SessionKey, Session>,
    channels: Channels,
    next_held: u64,
    /// The sessions that nobody vouches for, and when they are closed.
    refused: BTreeSet<(Mono, SessionKey)>,
}

impl Hub {
    /// A session is gone. Returns its subscriptions that somebody may want to know the end of.
    pub(crate) fn disconnect(&mut self, turn: &mut Turn<'_>, key: SessionKey) -> Vec<Ended> {
        let Some(mut session) = self.sessions.remove(&key) else { return Vec::new() };
        if let Access::Refused { close_at } = session.access {
            self.refused.remove(&(close_at, key));
        }
        if !session.behind {
            self.channels.detach(key, &channels_of(&session.targets), turn.effects);
        }
        session.absence.forget_all(&mut self.channels);
        session.end_all()
    }

    /// The server stops: every subscription has ended, as far as others are concerned. Their connections still get
    /// what is on its way.
    pub(crate) fn end_all(&mut self) -> Vec<Ended> {
        self.sessions.values_mut().flat_map(Session::end_all).collect()
    }

    /// A session asks for a subscription.
    pub(crate) fn join(
        &mut self,
        turn: &mut Turn<'_>,
        key: SessionKey,
        subscription: &SubscriptionId,
        target: &Target,
    ) -> Join {
        let Some(session) = self.sessions.get_mut(&key) else { return Join::Nothing };
        let limit = turn.config.limits.subscriptions;
        let (code, message) = match session.subscriptions.get(subscription) {
            _ if matches!(session.access, Access::Refused { .. }) => {
                turn.effects.push(unauthorized(key, target, turn.now));
                return Join::Nothing;
            }
            Some(existing) if existing.target == *target => {
                return match existing.state {
                    Progress::Open { .. } if !session.behind => Join::Again,
                    _ => Join::Nothing,
                };
            }
            Some(_) => {
                let message = "this connection uses the subscription id for another target: leave it first, or \
                               use another id";
                (code::DUPLICATE_SUBSCRIPTION, message.to_owned())
            }
            None if session.subscriptions.len() >= limit => {
                let message = format!(
                    "a connection has at most {limit} subscriptions (`subscriptions`): leave some first"
                );
                (code::TOO_MANY_SUBSCRIPTIONS, message)
            }
            None => {
                let (state, join) = match &session.access {
                    Access::Granted { context } => {
                        let join = joined(subscription, target, context);
                        (Progress::Gated(None), Join::New(join))
                    }
                    _ => {
                        self.next_held += 1;
                        (Progress::Held(self.next_held), Join::Nothing)
                    }
                };
                let new = Subscription { target: target.clone(), state };
                session.subscriptions.insert(subscription.clone(), new);
                return join;
            }
        };
        let error = StreamError::about(code, message, target);
        turn.effects.push(Effect::Refuse { session: key, error });
        Join::Nothing
    }

    /// Whether a subscription still waits for its gate to be asked.
    pub(crate) fn awaits_gate(&mut self, key: SessionKey, join: &Joined) -> bool {
        self.subscription(key, &join.subscription)
            .is_some_and(|found| found.target == join.target && matches!(found.state, Progress::Gated(None)))
    }

    /// A subscription waits for this gate.
    pub(crate) fn gated(&mut self, key: SessionKey, subscription: &SubscriptionId, gate: GateKey) {
        if let Some(found) = self.subscription(key, subscription) {
            found.state = Progress::Gated(Some(gate));
        }
    }

    /// A subscription is allowed; `key` if the log knows of it, `loads` if a worker has to be asked for what it starts
    /// from. Returns whether it is to be given that.
    pub(crate) fn open(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionKey,
        subscription: &SubscriptionId,
        key: Option<JoinKey>,
        loads: bool,
    ) -> bool {
        let Some(found) = self.subscription(session, subscription) else { return false };
        found.state = Progress::Open { key, left: false, loading: loads };
        let target = found.target.clone();
        loads || self.cover(turn, session, &target)
    }

    /// It is known what a subscription starts from. Returns whether that is to be sent: not if the subscription
    /// has ended meanwhile, or its session is behind and will ask again.
    pub(crate) fn loaded(
        &mut self,
        turn: &mut Turn<'_>,
        session_key: SessionKey,
        subscription: &SubscriptionId,
        target: &Target,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&session_key) else { return false };
        let behind = session.behind;
        match session.subscriptions.get_mut(subscription) {
            Some(Subscription { target: own, state: Progress::Open { loading, .. } }) if own == target => {
                match std::mem::take(loading) {
                    true => self.cover(turn, session_key, target),
                    false => !behind,
                }
            }
            _ => false,
        }
    }

    /// One subscription more of a session has this target. Returns whether the session is sent anything.
    fn cover(&mut self, turn: &mut Turn<'_>, session_key: SessionKey, target: &Target) -> bool {
        let Some(Session { targets, behind, absence, .. }) = self.sessions.get_mut(&session_key) else {
            return false;
        };
        let items = targets.entry(target.group.clone()).or_default();
        let count = items.entry(target.item.clone()).or_default();
        *count += 1;
        let first = *count == 1;
        if *behind {
            absence.begin(&mut self.channels, target);
            return false;
        }
        absence.end_of_group(&mut self.channels, &target.group);
        if first && target.item.is_none() {
            // From the channels of single items to that of them all.
            let single = items.keys().flatten();
            let single = single.map(|item| Target { group: target.group.clone(), item: Some(item.clone()) });
            self.channels.detach(session_key, &single.collect::<Vec<_>>(), turn.effects);
        }
        if first && (target.item.is_none() || !items.contains_key(&None)) {
            self.channels.attach(session_key, target, turn.effects);
        }
        true
    }

    /// A subscription is refused.
    pub(crate) fn refuse(&mut self, turn: &mut Turn<'_>, key: SessionKey, subscription: &SubscriptionId) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if let Some(refused) = session.subscriptions.remove(subscription) {
            turn.effects.push(unauthorized(key, &refused.target, turn.now));
        }
    }

    /// A session gives up a subscription.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        key: SessionKey,
        subscription: &SubscriptionId,
    ) -> Option<Ended> {
        let session = self.sessions.get_mut(&key)?;
        if matches!(session.access, Access::Refused { .. }) {
            // It has none, and is told nothing more.
            return None;
        }
        let Some(left) = session.subscriptions.remove(subscription) else {
            let message =
                "this connection has no subscription of this id: it was never joined, or left already";
            let error = StreamError::new(code::UNKNOWN_SUBSCRIPTION, message);
            turn.effects.push(Effect::Refuse { session: key, error });
            return None;
        };
        let target = left.target.clone();
        let ended = session.ended(subscription, &left);
        match left.state {
            Progress::Open { loading: false, .. } => self.uncover(turn, key, &target),
            Progress::Open { loading: true, .. } if !session.follows().contains(&target) => {
                session.absence.forget(&mut self.channels, &target);
            }
            _ => {}
        }
        ended
    }

    /// One subscription less of a session has this target.
    fn uncover(&mut self, turn: &mut Turn<'_>, key: SessionKey, target: &Target) {
        let Some(Session { targets, behind, absence, .. }) = self.sessions.get_mut(&key) else { return };
        if !uncount(targets, target) {
            return;
        }
        absence.forget(&mut self.channels, target);
        let left = targets.get(&target.group);
        if *behind || left.is_some_and(|items| items.contains_key(&None)) {
            return;
        }
        self.channels.detach(key, std::slice::from_ref(target), turn.effects);
        if target.item.is_none() {
            for item in left.into_iter().flat_map(BTreeMap::keys) {
                let single = Target { group: target.group.clone(), item: item.clone() };
                self.channels.attach(key, &single, turn.effects);
            }
        }
    }

    /// The session's outbox dropped what waited there: it gets nothing until [`Hub::drained`].
    pub(crate) fn overflowed(&mut self, key: SessionKey, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if std::mem::replace(&mut session.behind, true) {
            return;
        }
        self.channels.detach(key, &channels_of(&session.targets), effects);
        for target in all_of(&session.targets) {
            session.absence.begin(&mut self.channels, &target);
        }
    }

    /// The session's outbox is empty again: back to its channels. Returns the subscriptions that need fresh state.
    /// Those of a stream that `loads` have to ask a worker for it, and are in no channel until then.
    pub(crate) fn drained(
        &mut self,
        turn: &mut Turn<'_>,
        key: SessionKey,
        loads: impl Fn(&StreamName) -> bool,
    ) -> Vec<(SubscriptionId, Target)> {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| session.behind) else {
            return Vec::new();
        };
        session.behind = false;
        let follows = session.follows();
        let mut stale = Vec::new();
        for (id, subscription) in &mut session.subscriptions {
            let Progress::Open { loading, .. } = &mut subscription.state else { continue };
            let target = &subscription.target;
            if loads(&target.group.stream) {
                if !std::mem::replace(loading, true) {
                    uncount(&mut session.targets, target);
                } else {
                    // It is being asked for already.
                    continue;
                }
            }
            stale.push((id.clone(), target.clone()));
        }
        turn.effects.push(Effect::Resume { session: key, follows });
        for target in all_of(&session.targets) {
            session.absence.end(&mut self.channels, &target);
        }
        for target in channels_of(&session.targets) {
            self.channels.attach(key, &target, turn.effects);
        }
        stale
    }

    /// How many sent events of this a session has missed, for the state of it that is sent now.
    pub(crate) fn take_missed(&mut self, key: SessionKey, target: &Target) -> u64 {
        self.sessions.get_mut(&key).map_or(0, |session| session.absence.take_missed(target))
    }

    /// The open subscriptions of a stream, but for those of sessions that are behind.
    pub(crate) fn subscriptions(&self, stream: &StreamName) -> Vec<(Target, (SessionKey, SubscriptionId))> {
        let mut found = Vec::new();
        for (key, session) in self.sessions.iter().filter(|(_, session)| !session.behind) {
            for (id, Subscription { target, state }) in &session.subscriptions {
                if target.group.stream == *stream && matches!(state, Progress::Open { .. }) {
                    found.push((target.clone(), (*key, id.clone())));
                }
            }
        }
        found
    }

    /// Sends a state to all who subscribe to its target.
    pub(crate) fn refresh(&mut self, turn: &mut Turn<'_>, target: Target, state: Durable, epoch: Epoch) {
        if let Some(channel) = self.channels.of(&target) {
            let frame = Arc::new(ToSubscriber::Sync(SyncFrame { target, state, epoch }));
            turn.effects.push(Effect::Broadcast { channel, frame });
        }
    }

    fn subscription(&mut self, key: SessionKey, id: &SubscriptionId) -> Option<&mut Subscription> {
        self.sessions.get_mut(&key)?.subscriptions.get_mut(id)
    }

    /// Sends an event to everybody that it is for.
    pub(crate) fn broadcast(&mut self, event: &Arc<Event>, epoch: Epoch, effects: &mut Vec<Effect>) {
        let Ways { whole, item } = self.channels.ways(&event.group, &event.item, event.is_sent());
        if whole.is_none() && item.is_none() {
            return;
        }
        let (frame, group_frame) = match &event.kind {
            EventKind::Replaced { value, group, .. } => {
                let item =
                    sync(event, event.item.clone(), event.stamp, State::Item(Some(value.clone())), epoch);
                // Two syncs, two stamps; that of the group is kept free for it, see `Stamp::next`.
                let stamp = event.stamp.of_sync();
                let group = group.as_ref();
                (item, group.map(|group| sync(event, None, stamp, State::Group(group.clone()), epoch)))
            }
            _ => (ToSubscriber::Event(Arc::clone(event)), None),
        };
        let frame = Arc::new(frame);
        for channel in [whole, item].into_iter().flatten() {
            effects.push(Effect::Broadcast { channel, frame: Arc::clone(&frame) });
        }
        if let (Some(channel), Some(frame)) = (whole, group_frame) {
            effects.push(Effect::Broadcast { channel, frame: Arc::new(frame) });
        }
    }
}

impl Session {
    fn ended(&self, id: &SubscriptionId, subscription: &Subscription) -> Option<Ended> {
        match (&subscription.state, &self.access) {
            (Progress::Gated(Some(gate)), _) => Some(Ended::Gated(*gate)),
            (Progress::Open { key, left: false, .. }, Access::Granted { context }) => {
                Some(Ended::Open { join: joined(id, &subscription.target, context), key: *key })
            }
            _ => None,
        }
    }

    /// The targets of its open subscriptions.
    fn follows(&self) -> BTreeSet<Target> {
        let open = self.subscriptions.values().filter(|one| matches!(one.state, Progress::Open { .. }));
        open.map(|subscription| subscription.target.clone()).collect()
    }

    fn end_all(&mut self) -> Vec<Ended> {
        let subscriptions = self.subscriptions.iter();
        let ended = subscriptions.filter_map(|(id, subscription)| self.ended(id, subscription)).collect();
        for subscription in self.subscriptions.values_mut() {
            subscription.state = match subscription.state {
                Progress::Open { key, loading, .. } => Progress::Open { key, left: true, loading },
                Progress::Held(_) | Progress::Gated(_) => Progress::Held(0),
            };
        }
        ended
    }
}

/// All targets.
fn all_of(targets: &Targets) -> Vec<Target> {
    let of_group = |(group, items): (&GroupPath, &BTreeMap<Option<ItemId>, usize>)| {
        let items = items.keys().cloned();
        items.map(|item| Target { group: group.clone(), item }).collect::<Vec<_>>()
    };
    targets.iter().flat_map(of_group).collect()
}

/// The channels that a session belongs in: of each group the group's own if it subscribes to all of it, else those of
/// its items.
fn channels_of(targets: &Targets) -> Vec<Target> {
    let of_group = |(group, items): (&GroupPath, &BTreeMap<Option<ItemId>, usize>)| {
        let items = match items.contains_key(&None) {
            true => vec![None],
            false => items.keys().cloned().collect(),
        };
        items.into_iter().map(|item| Target { group: group.clone(), item }).collect::<Vec<_>>()
    };
    targets.iter().flat_map(of_group).collect()
}

/// One less has this target. Returns whether it was the last.
fn uncount(targets: &mut Targets, target: &Target) -> bool {
    let Some(items) = targets.get_mut(&target.group) else { return false };
    let Some(count) = items.get_mut(&target.item) else { return false };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    items.remove(&target.item);
    if items.is_empty() {
        targets.remove(&target.group);
    }
    true
}

fn joined(subscription: &SubscriptionId, target: &Target, context: &Option<Json>) -> Joined {
    Joined { subscription: subscription.clone(), target: target.clone(), context: context.clone() }
}

fn unauthorized(session: SessionKey, target: &Target, now: Now) -> Effect {
    Effect::Unauthorized { session, target: target.clone(), at: now.wall }
}

/// The state of a group or an item right after an event.
fn sync(event: &Event, item: Option<ItemId>, stamp: Stamp, state: State, epoch: Epoch) -> ToSubscriber {
    ToSubscriber::Sync(SyncFrame {
        target: Target { group: event.group.clone(), item },
        state: Durable { stamp, revision: event.revision, state },
        epoch,
    })
}
