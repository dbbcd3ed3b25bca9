//! The channels that events reach sessions through, and what those miss that are away from them.

use std::collections::BTreeMap;

use crate::effect::Effect;
use crate::key::{ChannelKey, SessionKey};
use crate::name::{GroupPath, ItemId, Target};

/// All channels. One is there for as long as a session is in it, or away from it.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// By group, then by item; `None` is the group's own.
    all: BTreeMap<GroupPath, BTreeMap<Option<ItemId>, Channel>>,
    last_key: u64,
}

#[derive(Debug)]
struct Channel {
    key: ChannelKey,
    members: usize,
    /// How many follow its target and are not in it for now.
    away: usize,
    /// How many sent events have come this way.
    sent: u64,
}

/// The channels of an event that somebody is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ways {
    /// The group's.
    pub(super) whole: Option<ChannelKey>,
    /// The item's.
    pub(super) item: Option<ChannelKey>,
}

impl Channels {
    /// Puts a session into a channel, which is made if it is not there.
    pub(super) fn attach(&mut self, session: SessionKey, target: &Target, effects: &mut Vec<Effect>) {
        let channel = self.channel(target);
        channel.members += 1;
        effects.push(Effect::Attach { session, channel: channel.key });
    }

    /// Takes a session out of channels.
    pub(super) fn detach(&mut self, session: SessionKey, targets: &[Target], effects: &mut Vec<Effect>) {
        for target in targets {
            self.change(target, |channel| {
                channel.members -= 1;
                effects.push(Effect::Detach { session, channel: channel.key });
            });
        }
    }

    /// The channel of a target, if somebody is in it.
    pub(super) fn of(&self, target: &Target) -> Option<ChannelKey> {
        self.all.get(&target.group)?.get(&target.item)?.key_if_heard()
    }

    /// The channels of an event. One that is `sent` can't be had again, so those who are away will be told of it.
    pub(super) fn ways(&mut self, group: &GroupPath, item: &Option<ItemId>, sent: bool) -> Ways {
        let Some(of_group) = self.all.get_mut(group) else { return Ways::default() };
        let mut way = |item: &Option<ItemId>| {
            let channel = of_group.get_mut(item)?;
            channel.sent += u64::from(sent);
            channel.key_if_heard()
        };
        Ways { whole: way(&None), item: item.is_some().then(|| way(item)).flatten() }
    }

    fn channel(&mut self, target: &Target) -> &mut Channel {
        let of_group = self.all.entry(target.group.clone()).or_default();
        of_group.entry(target.item.clone()).or_insert_with(|| {
            self.last_key += 1;
            Channel { key: ChannelKey(self.last_key), members: 0, away: 0, sent: 0 }
        })
    }

    /// Changes a channel; one that nobody is left in is no more.
    fn change<T>(&mut self, target: &Target, change: impl FnOnce(&mut Channel) -> T) -> Option<T> {
        let of_group = self.all.get_mut(&target.group)?;
        let channel = of_group.get_mut(&target.item)?;
        let changed = change(channel);
        if channel.members + channel.away == 0 {
            of_group.remove(&target.item);
            if of_group.is_empty() {
                self.all.remove(&target.group);
            }
        }
        Some(changed)
    }
}

impl Channel {
    fn key_if_heard(&self) -> Option<ChannelKey> {
        (self.members > 0).then_some(self.key)
    }
}

/// What one session misses of the targets that it follows while it is in none of their channels.
#[derive(Debug, Default)]
pub(super) struct Absence {
    /// What it is away from.
    away: BTreeMap<Target, Away>,
    /// How many sent events it has missed of what it follows, and was not told of yet.
    missed: BTreeMap<Target, u64>,
}

/// How many sent events had come through a channel.
#[derive(Debug)]
struct Away {
    /// When the session went away from it.
    since: u64,
    /// When the session was away from both an item and its group at first: from then on the item's do not count for the
    /// group.
    beside: Option<u64>,
}

impl Absence {
    /// The session follows this, and is away from it from now on.
    pub(super) fn begin(&mut self, channels: &mut Channels, target: &Target) {
        if self.away.contains_key(target) {
            return;
        }
        let channel = channels.channel(target);
        channel.away += 1;
        let since = channel.sent;
        let beside = match target.item {
            Some(_) => {
                let whole = Target { group: target.group.clone(), item: None };
                self.away.contains_key(&whole).then_some(since)
            }
            None => {
                for (item, away) in self.items(target) {
                    away.beside = Some(channels.channel(item).sent);
                }
                None
            }
        };
        self.away.insert(target.clone(), Away { since, beside });
    }

    /// The session comes back to this.
    pub(super) fn end(&mut self, channels: &mut Channels, target: &Target) {
        let Some(Away { since, .. }) = self.away.remove(target) else { return };
        let mut missed = come_back(channels, target).saturating_sub(since);
        if target.item.is_none() {
            for (item, away) in self.items(target) {
                if let Some(beside) = away.beside.take() {
                    missed = missed.saturating_sub(channels.channel(item).sent - beside);
                }
            }
        }
        if missed > 0 {
            *self.missed.entry(target.clone()).or_default() += missed;
        }
    }

    /// The session comes back to a target of this group. It may be away from others still, as a worker tells what is in
    /// them one by one: what passes those until then can't be told from what comes by way of the first.
    pub(super) fn end_of_group(&mut self, channels: &mut Channels, group: &GroupPath) {
        let whole = Target { group: group.clone(), item: None };
        let from_group = self.away.range(&whole..);
        let of_group = from_group.take_while(|(target, _)| target.group == *group);
        let of_group: Vec<Target> = of_group.map(|(target, _)| target.clone()).collect();
        of_group.iter().for_each(|target| self.end(channels, target));
    }

    /// The session does not follow this any more: nobody is to be told what it has missed of it.
    pub(super) fn forget(&mut self, channels: &mut Channels, target: &Target) {
        self.missed.remove(target);
        if self.away.remove(target).is_some() {
            come_back(channels, target);
            if target.item.is_none() {
                self.items(target).for_each(|(_, away)| away.beside = None);
            }
        }
    }

    /// The session is gone.
    pub(super) fn forget_all(&mut self, channels: &mut Channels) {
        for target in std::mem::take(self).away.keys() {
            come_back(channels, target);
        }
    }

    /// How many sent events of this the session has missed, for the state of it that is sent now.
    pub(super) fn take_missed(&mut self, target: &Target) -> u64 {
        self.missed.remove(target).unwrap_or(0)
    }

    /// The items of a group that it is away from.
    fn items<'a>(&'a mut self, whole: &'a Target) -> impl Iterator<Item = (&'a Target, &'a mut Away)> {
        let from_group = self.away.range_mut(whole..);
        let of_group = from_group.take_while(|(target, _)| target.group == whole.group);
        of_group.filter(|(target, _)| target.item.is_some())
    }
}

/// One less is away. Returns how many sent events have come through the channel.
fn come_back(channels: &mut Channels, target: &Target) -> u64 {
    let sent = channels.change(target, |channel| {
        channel.away -= 1;
        channel.sent
    });
    sent.unwrap_or(0)
}
