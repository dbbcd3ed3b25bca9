//! Sessions, their subscriptions, and the channels that events reach them through.
//!
//! Each group has a channel for those who subscribe to all of it, and one for each item that somebody subscribes
//! to alone. An event of an item goes to both. Per group, a session is either in the group's channel or in channels
//! of its items, never in both, so it gets each event once, however many of its subscriptions match. While it is
//! behind it is in none.

mod outbox;

use std::collections::BTreeMap;
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
        if let Some(session) = self.sessions.remove(&key)
            && !session.behind
        {
            self.leave_all(key, session.channels(), effects);
        }
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
        let Some(session) = self.sessions.get_mut(&key) else { return false };
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
        session.subscriptions.insert(subscription.clone(), target.clone());
        let items = session.targets.entry(target.group.clone()).or_default();
        let count = items.entry(target.item.clone()).or_default();
        *count += 1;
        let first = *count == 1;
        if session.behind {
            return false;
        }
        if first && target.item.is_none() {
            // From the channels of single items to that of them all.
            let single =
                items.keys().flatten().map(|item| (target.group.clone(), Some(item.clone()))).collect();
            self.leave_all(key, single, effects);
            self.enter(key, &target.group, &None, effects);
        } else if first && !items.contains_key(&None) {
            self.enter(key, &target.group, &target.item, effects);
        }
        true
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
        let Some(items) = session.targets.get_mut(&target.group) else { return };
        let Some(count) = items.get_mut(&target.item) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        items.remove(&target.item);
        let covered = items.contains_key(&None);
        let single: Vec<Option<ItemId>> = match target.item {
            None => items.keys().cloned().collect(),
            Some(_) => Vec::new(),
        };
        if items.is_empty() {
            session.targets.remove(&target.group);
        }
        if session.behind || covered {
            return;
        }
        self.leave_all(key, vec![(target.group.clone(), target.item)], effects);
        for item in &single {
            self.enter(key, &target.group, item, effects);
        }
    }

    /// The session's outbox dropped what waited there: it gets nothing until [`Hub::drained`].
    pub(crate) fn overflowed(&mut self, key: SessionKey, effects: &mut Vec<Effect>) {
        if let Some(session) = self.sessions.get_mut(&key)
            && !session.behind
        {
            session.behind = true;
            let channels = session.channels();
            self.leave_all(key, channels, effects);
        }
    }

    /// The session's outbox is empty again: back to its channels. Returns the subscriptions that need fresh state.
    pub(crate) fn drained(
        &mut self,
        key: SessionKey,
        effects: &mut Vec<Effect>,
    ) -> Vec<(SubscriptionId, Target)> {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| session.behind) else {
            return Vec::new();
        };
        session.behind = false;
        let stale = session.subscriptions.iter().map(|(id, target)| (id.clone(), target.clone())).collect();
        let channels = session.channels();
        effects.push(Effect::Resume { session: key });
        for (group, item) in &channels {
            self.enter(key, group, item, effects);
        }
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

    /// Puts a session into a channel, which is made if it is not there.
    fn enter(
        &mut self,
        session: SessionKey,
        group: &GroupPath,
        item: &Option<ItemId>,
        effects: &mut Vec<Effect>,
    ) {
        let channels = self.channels.entry(group.clone()).or_default();
        let channel = channels.entry(item.clone()).or_insert_with(|| {
            self.next_channel += 1;
            Channel { key: ChannelKey(self.next_channel), members: 0 }
        });
        channel.members += 1;
        effects.push(Effect::Attach { session, channel: channel.key });
    }

    /// Takes a session out of channels; an empty one is no more.
    fn leave_all(
        &mut self,
        session: SessionKey,
        left: Vec<(GroupPath, Option<ItemId>)>,
        effects: &mut Vec<Effect>,
    ) {
        for (group, item) in left {
            let Some(channels) = self.channels.get_mut(&group) else { continue };
            let Some(channel) = channels.get_mut(&item) else { continue };
            effects.push(Effect::Detach { session, channel: channel.key });
            channel.members -= 1;
            if channel.members == 0 {
                channels.remove(&item);
                if channels.is_empty() {
                    self.channels.remove(&group);
                }
            }
        }
    }
}

impl Session {
    /// The channels that the session belongs in: of each group the group's own if it subscribes to all of it, else
    /// those of its items.
    fn channels(&self) -> Vec<(GroupPath, Option<ItemId>)> {
        let of_group = |(group, items): (&GroupPath, &BTreeMap<Option<ItemId>, usize>)| {
            let items = match items.contains_key(&None) {
                true => vec![None],
                false => items.keys().cloned().collect(),
            };
            items.into_iter().map(|item| (group.clone(), item)).collect::<Vec<_>>()
        };
        self.targets.iter().flat_map(of_group).collect()
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
