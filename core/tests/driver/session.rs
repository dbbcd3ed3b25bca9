//! A subscriber's connection as the runtime keeps it: its channels, and its outbox in front of an inbox that takes
//! everything at once, unless it is told not to.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_core::hub::{Outbox, Pushed};
use headwater_core::key::ChannelKey;
use headwater_core::name::{SubscriptionId, Target};
use headwater_core::wire::stream::{SyncFrame, ToSubscriber};

/// More than all that is ever queued.
const LIMIT: usize = 1 << 40;

pub(super) struct Session {
    pub(super) channels: BTreeSet<ChannelKey>,
    outbox: Outbox<SubscriptionId, Waiting>,
    /// Nothing is taken out of the outbox.
    holds: bool,
    inbox: Vec<String>,
}

enum Waiting {
    Frame(String),
    State(SyncFrame),
}

impl Default for Session {
    fn default() -> Session {
        Session { channels: BTreeSet::new(), outbox: Outbox::new(LIMIT), holds: false, inbox: Vec::new() }
    }
}

impl Session {
    pub(super) fn attach(&mut self, channel: ChannelKey) {
        assert!(self.channels.insert(channel), "attached twice to {channel:?}");
    }

    pub(super) fn detach(&mut self, channel: ChannelKey) {
        assert!(self.channels.remove(&channel), "detached from {channel:?} without being there");
    }

    pub(super) fn resume(&mut self, follows: &BTreeSet<Target>) {
        assert!(self.outbox.is_behind(), "resumed without being behind");
        self.outbox.resume(follows);
    }

    pub(super) fn broadcast(&mut self, frame: &ToSubscriber) {
        let sent = match frame {
            ToSubscriber::Event(event) if event.is_sent() => Some(Arc::new(event.target())),
            _ => None,
        };
        let text = frame.encode();
        let _ = self.outbox.push_event(text.len(), sent, Waiting::Frame(text));
        self.take();
    }

    pub(super) fn sync(&mut self, subscription: SubscriptionId, frame: SyncFrame, missed: u64) {
        let target = frame.target.clone();
        let _ = self.outbox.push_snapshot(subscription, Some((&target, missed)), Waiting::State(frame));
        self.take();
    }

    pub(super) fn notice(&mut self, frame: &ToSubscriber) {
        self.outbox.push_notice(Waiting::Frame(frame.encode()));
        self.take();
    }

    pub(super) fn hold(&mut self) {
        self.holds = true;
    }

    /// Takes all that waits, from now on at once.
    pub(super) fn drain(&mut self) {
        self.holds = false;
        self.take();
    }

    /// So much comes at once that what waits is dropped.
    pub(super) fn burst(&mut self) {
        let mut large = || self.outbox.push_event(LIMIT, None, Waiting::Frame(String::new()));
        // One alone always fits.
        while large() == Pushed::Queued {}
    }

    pub(super) fn frames(&mut self) -> Vec<String> {
        std::mem::take(&mut self.inbox)
    }

    fn take(&mut self) {
        while !self.holds
            && let Some(waiting) = self.outbox.pop()
        {
            self.inbox.push(match waiting {
                Waiting::Frame(text) => text,
                Waiting::State(frame) => {
                    let mut text = String::new();
                    frame.encode_onto(&mut text, self.outbox.take_skipped(&frame.target));
                    text
                }
            });
        }
    }
}
