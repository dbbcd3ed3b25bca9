//! Sessions, their subscriptions, and the channels that events reach them through.
//!
//! Each group has a channel for those who subscribe to all of it, and one for each item that somebody subscribes
//! to alone. An event of an item goes to both. Per group, a session is either in the group's channel or in channels
//! of its items, never in both: so it gets each event once, however many of its subscriptions match.

mod outbox;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use outbox::{Outbox, Pushed};

use crate::config::Limits;
use crate::effect::Effect;
use crate::key::{ChannelKey, SessionKey};
use crate::log::Epoch;
use crate::name::{GroupPath, ItemId, SubscriptionId, Target};
use crate::store::{Durable, Event, EventKind, State};
use crate::time::Stamp;
use crate::wire::stream::{StreamError, SyncFrame, ToSubscriber, code};

#[derive(Debug, Default)]
struct Session {
    subscriptions: BTreeMap<SubscriptionId, Target>,
    /// How many of the subscriptions have each target.
    targets: BTreeMap<GroupPath, BTreeMap<Option<ItemId>, usize>>,
    /// The outbox has overflowed: nothing is sent until it is empty and gets fresh snapshots.
    behind: bool,
}

#[derive(Debug)]
struct Channel {
    key: ChannelKey,
    members: usize,
}

/// All sessions and channels.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    sessions: BTreeMap<SessionKey, Session>,
    /// By group, then by item; `None` is the group's own.
    channels: BTreeMap<GroupPath, BTreeMap<Option<ItemId>, Channel>>,
    next_channel: u64,
}

impl Hub {
    pub(crate) fn connect(&mut self, key: SessionKey) {
        self.sessions.insert(key, Session::default());
    }

    pub(crate) fn disconnect(&mut self, key: SessionKey, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&key) else { return };
        let groups: Vec<GroupPath> = session.targets.keys().cloned().collect();
        for group in &groups {
            self.rewire(key, group, effects, |session| {
                session.targets.remove(group);
            });
        }
        self.sessions.remove(&key);
    }

    /// Adds a subscription. Returns whether its target's state is to be sent.
    pub(crate) fn join(
        &mut self,
        key: SessionKey,
        subscription: &SubscriptionId,
        target: &Target,
        limits: &Limits,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(session) = self.sessions.get(&key) else { return false };
        match session.subscriptions.get(subscription) {
            Some(existing) if existing == target => return !session.behind,
            Some(_) => {
                let message = "this connection uses the subscription id for another target: leave it first, or use \
                               another id";
                let error = StreamError::about(code::DUPLICATE_SUBSCRIPTION, message, target);
                effects.push(Effect::Refuse { session: key, error });
                return false;
            }
            None if session.subscriptions.len() >= limits.subscriptions => {
                let limit = limits.subscriptions;
                let message = format!("a connection has at most {limit} subscriptions (`subscriptions`)");
                let error = StreamError::about(code::TOO_MANY_SUBSCRIPTIONS, message, target);
                effects.push(Effect::Refuse { session: key, error });
                return false;
            }
            None => {}
        }
        self.rewire(key, &target.group, effects, |session| {
            session.subscriptions.insert(subscription.clone(), target.clone());
            let items = session.targets.entry(target.group.clone()).or_default();
            *items.entry(target.item.clone()).or_default() += 1;
        });
        self.sessions.get(&key).is_some_and(|session| !session.behind)
    }

    /// Removes a subscription.
    pub(crate) fn leave(
        &mut self,
        key: SessionKey,
        subscription: &SubscriptionId,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(target) = session.subscriptions.remove(subscription) else {
            let message =
                "this connection has no subscription of this id: it was never joined, or left already";
            let error = StreamError::new(code::UNKNOWN_SUBSCRIPTION, message);
            return effects.push(Effect::Refuse { session: key, error });
        };
        self.rewire(key, &target.group, effects, |session| {
            let Some(items) = session.targets.get_mut(&target.group) else { return };
            if let Some(count) = items.get_mut(&target.item) {
                *count -= 1;
                if *count == 0 {
                    items.remove(&target.item);
                }
            }
            if items.is_empty() {
                session.targets.remove(&target.group);
            }
        });
    }

    /// The session's outbox dropped what waited there: it gets nothing until [`Hub::drained`].
    pub(crate) fn overflowed(&mut self, key: SessionKey, effects: &mut Vec<Effect>) {
        self.rewire_all(key, true, effects);
    }

    /// The session's outbox is empty again: back to its channels. Returns the subscriptions that need fresh state.
    pub(crate) fn drained(
        &mut self,
        key: SessionKey,
        effects: &mut Vec<Effect>,
    ) -> Vec<(SubscriptionId, Target)> {
        let Some(session) = self.sessions.get(&key) else { return Vec::new() };
        if !session.behind {
            return Vec::new();
        }
        let stale = session.subscriptions.iter().map(|(id, target)| (id.clone(), target.clone())).collect();
        effects.push(Effect::Resume { session: key });
        self.rewire_all(key, false, effects);
        stale
    }

    /// Sends an event to everybody that it is for.
    pub(crate) fn broadcast(&self, event: Event, epoch: Epoch, effects: &mut Vec<Effect>) {
        let Some(channels) = self.channels.get(&event.group) else { return };
        let whole = channels.get(&None).map(|channel| channel.key);
        let item = event.item.as_ref().and_then(|_| channels.get(&event.item)).map(|channel| channel.key);
        let (frame, group_frame) = match &event.kind {
            EventKind::Replaced { value, group } => {
                let item =
                    sync(&event, event.item.clone(), event.stamp, State::Item(Some(value.clone())), epoch);
                // Two syncs, two stamps; that of the group is kept free for it, see `Stamp::next`.
                let stamp = event.stamp.of_sync();
                (item, Some(sync(&event, None, stamp, State::Group(group.clone()), epoch)))
            }
            _ => (ToSubscriber::Event(Arc::new(event)), None),
        };
        let frame = Arc::new(frame);
        for channel in [whole, item].into_iter().flatten() {
            effects.push(Effect::Broadcast { channel, frame: Arc::clone(&frame) });
        }
        if let (Some(channel), Some(frame)) = (whole, group_frame) {
            effects.push(Effect::Broadcast { channel, frame: Arc::new(frame) });
        }
    }

    fn rewire_all(&mut self, key: SessionKey, behind: bool, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&key) else { return };
        // One by one would be right, too; but what a session is in is told from `behind` for all groups at once.
        let groups: Vec<GroupPath> = session.targets.keys().cloned().collect();
        let before: Vec<_> = groups.iter().map(|group| session.channels_of(group)).collect();
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.behind = behind;
        let after: Vec<_> = groups.iter().map(|group| session.channels_of(group)).collect();
        for ((group, before), after) in groups.iter().zip(before).zip(after) {
            self.move_between(key, group, &before, &after, effects);
        }
    }

    /// Changes a session, and moves it to the channels of one group that it belongs in after that.
    fn rewire(
        &mut self,
        key: SessionKey,
        group: &GroupPath,
        effects: &mut Vec<Effect>,
        change: impl FnOnce(&mut Session),
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let before = session.channels_of(group);
        change(session);
        let after = session.channels_of(group);
        self.move_between(key, group, &before, &after, effects);
    }

    fn move_between(
        &mut self,
        session: SessionKey,
        group: &GroupPath,
        before: &BTreeSet<Option<ItemId>>,
        after: &BTreeSet<Option<ItemId>>,
        effects: &mut Vec<Effect>,
    ) {
        for item in before.difference(after) {
            if let Some(channel) = self.release_channel(group, item) {
                effects.push(Effect::Detach { session, channel });
            }
        }
        for item in after.difference(before) {
            let channel = self.acquire_channel(group, item);
            effects.push(Effect::Attach { session, channel });
        }
    }

    fn acquire_channel(&mut self, group: &GroupPath, item: &Option<ItemId>) -> ChannelKey {
        let channels = self.channels.entry(group.clone()).or_default();
        let channel = channels.entry(item.clone()).or_insert_with(|| {
            self.next_channel += 1;
            Channel { key: ChannelKey(self.next_channel), members: 0 }
        });
        channel.members += 1;
        channel.key
    }

    /// Takes a member out of a channel; an empty one is no more.
    fn release_channel(&mut self, group: &GroupPath, item: &Option<ItemId>) -> Option<ChannelKey> {
        let channels = self.channels.get_mut(group)?;
        let channel = channels.get_mut(item)?;
        let key = channel.key;
        channel.members -= 1;
        if channel.members == 0 {
            channels.remove(item);
            if channels.is_empty() {
                self.channels.remove(group);
            }
        }
        Some(key)
    }
}

impl Session {
    /// The channels of a group that the session is in: the group's own if it subscribes to all of it, else those
    /// of its items; none while it is behind.
    fn channels_of(&self, group: &GroupPath) -> BTreeSet<Option<ItemId>> {
        match self.targets.get(group) {
            Some(_) if self.behind => BTreeSet::new(),
            Some(items) if items.contains_key(&None) => BTreeSet::from([None]),
            Some(items) => items.keys().cloned().collect(),
            None => BTreeSet::new(),
        }
    }
}

/// The state of a group or an item right after an event.
fn sync(event: &Event, item: Option<ItemId>, stamp: Stamp, state: State, epoch: Epoch) -> ToSubscriber {
    ToSubscriber::Sync(SyncFrame {
        target: Target { group: event.group.clone(), item },
        state: Durable { stamp, revision: event.revision, state },
        epoch,
    })
}
