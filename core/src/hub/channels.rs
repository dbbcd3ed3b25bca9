//! The channels that events reach sessions through, and what those miss that are behind.

use std::collections::BTreeMap;

use crate::effect::Effect;
use crate::key::{ChannelKey, SessionKey};
use crate::name::{GroupPath, ItemId, Target};

/// All channels. One is there for as long as a session is in it or, being behind, would be.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// By group, then by item; `None` is the group's own.
    all: BTreeMap<GroupPath, BTreeMap<Option<ItemId>, Channel>>,
    last: u64,
}

#[derive(Debug)]
struct Channel {
    key: ChannelKey,
    members: usize,
    /// How many would be members if they weren't behind.
    away: usize,
    /// How many sent events have come this way.
    sent: u64,
}

/// What a session misses while it is behind.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// How many sent events had come through each channel that it is away from, when it went away.
    since: BTreeMap<Target, u64>,
    /// How many it has missed of what it follows, in channels that it is not away from any more.
    counts: BTreeMap<Target, u64>,
}

impl Missed {
    /// It follows this no more: nobody is to be told what it has missed of it.
    pub(super) fn forget(&mut self, target: &Target) {
        self.counts.remove(target);
    }

    /// For each target that it would have followed, how many sent events it has missed, after it has left all channels.
    pub(super) fn counts(self) -> BTreeMap<Target, u64> {
        self.counts
    }
}

/// Which channels an event goes to, as far as somebody is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    /// The group's.
    pub(super) whole: Option<ChannelKey>,
    /// The item's.
    pub(super) item: Option<ChannelKey>,
}

impl Channels {
    /// Puts a session into a channel, which is made if it is not there.
    pub(super) fn enter(
        &mut self,
        session: SessionKey,
        behind: &mut Option<Missed>,
        target: Target,
        effects: &mut Vec<Effect>,
    ) {
        let of_group = self.all.entry(target.group.clone()).or_default();
        let channel = of_group.entry(target.item.clone()).or_insert_with(|| {
            self.last += 1;
            Channel { key: ChannelKey(self.last), members: 0, away: 0, sent: 0 }
        });
        match behind {
            None => {
                channel.members += 1;
                effects.push(Effect::Attach { session, channel: channel.key, target });
            }
            Some(missed) => {
                channel.away += 1;
                missed.since.insert(target, channel.sent);
            }
        }
    }

    /// Takes a session out of channels; one that nobody is left in is no more.
    pub(super) fn leave(
        &mut self,
        session: SessionKey,
        behind: &mut Option<Missed>,
        targets: Vec<Target>,
        effects: &mut Vec<Effect>,
    ) {
        for target in targets {
            let Some(of_group) = self.all.get_mut(&target.group) else { continue };
            let Some(channel) = of_group.get_mut(&target.item) else { continue };
            match behind {
                None => {
                    channel.members -= 1;
                    effects.push(Effect::Detach { session, channel: channel.key });
                }
                Some(missed) => {
                    channel.away -= 1;
                    let since = missed.since.remove(&target).unwrap_or(channel.sent);
                    *missed.counts.entry(target.clone()).or_default() += channel.sent - since;
                }
            }
            if channel.members + channel.away == 0 {
                of_group.remove(&target.item);
                if of_group.is_empty() {
                    self.all.remove(&target.group);
                }
            }
        }
    }

    /// The channel of a target, if somebody is there.
    pub(super) fn of(&self, target: &Target) -> Option<ChannelKey> {
        let channel = self.all.get(&target.group)?.get(&target.item)?;
        channel.is_heard()
    }

    /// The channels of an event; one that is `sent` can't be had again, so those who are away will be told of it.
    pub(super) fn ways(&mut self, group: &GroupPath, item: &Option<ItemId>, sent: bool) -> Ways {
        let Some(of_group) = self.all.get_mut(group) else { return Ways { whole: None, item: None } };
        let mut way = |item: &Option<ItemId>| {
            let channel = of_group.get_mut(item)?;
            channel.sent += u64::from(sent);
            channel.is_heard()
        };
        Ways { whole: way(&None), item: item.is_some().then(|| way(item)).flatten() }
    }
}

impl Channel {
    fn is_heard(&self) -> Option<ChannelKey> {
        (self.members > 0).then_some(self.key)
    }
}
