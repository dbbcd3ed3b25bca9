//! Delivery: who is in which channel, and the frames that go there. Never waits for the core or for a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use headwater_core::key::{ChannelKey, SessionKey};
use headwater_core::name::{SubscriptionId, Target};
use headwater_core::time::WallMs;
use headwater_core::wire::stream::{StreamError, SyncFrame, ToSubscriber};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::mailbox::{Push, SessionMailbox, SharedSync, encode};
use crate::metrics::Metrics;

/// What the engine has delivered, in order. The variants that carry the name of an effect are that effect.
#[derive(Debug)]
pub(crate) enum Delivery {
    Connected {
        session: SessionKey,
        mailbox: Arc<SessionMailbox>,
    },
    Disconnected {
        session: SessionKey,
    },
    Attach {
        session: SessionKey,
        channel: ChannelKey,
    },
    Detach {
        session: SessionKey,
        channel: ChannelKey,
    },
    Resume {
        session: SessionKey,
        follows: BTreeSet<Target>,
    },
    Sync {
        session: SessionKey,
        subscription: SubscriptionId,
        frame: SyncFrame,
        missed: u64,
    },
    Refuse {
        session: SessionKey,
        error: StreamError,
    },
    Admit {
        session: SessionKey,
    },
    Unauthorized {
        session: SessionKey,
        target: Target,
        at: WallMs,
    },
    Close {
        session: SessionKey,
    },
    Broadcast {
        channel: ChannelKey,
        frame: Arc<ToSubscriber>,
    },
    /// Every session sends what it has queued and is closed.
    CloseAll {
        code: CloseCode,
        reason: &'static str,
    },
}

/// Some of the sessions, with their channels.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    sessions: BTreeMap<SessionKey, Arc<SessionMailbox>>,
    channels: BTreeMap<ChannelKey, BTreeMap<SessionKey, Arc<SessionMailbox>>>,
    /// The last event that was broadcast, its frame, and what it was sent to if it was: one often goes to two channels.
    encoded: Option<(Arc<ToSubscriber>, Bytes, Option<Arc<Target>>)>,
    /// The last state that somebody joined to: those who come back after a break join to the same.
    joined: Option<Arc<SharedSync>>,
    /// Somebody has joined in this batch.
    joins: bool,
    /// Those for whom something was queued in this batch.
    filled: Vec<Arc<SessionMailbox>>,
    metrics: Arc<Metrics>,
}

/// How many deliveries are queued before anything is sent: what queues up for one socket leaves in one write.
const BATCH: usize = 64;
/// To how many sockets is written before others run on this thread.
const TURN: usize = 256;

impl Shard {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Shard {
        Shard { metrics, ..Shard::default() }
    }

    pub(crate) async fn run(mut self, mut deliveries: mpsc::Receiver<Delivery>) {
        let mut batch = Vec::with_capacity(BATCH);
        while deliveries.recv_many(&mut batch, BATCH).await > 0 {
            for delivery in batch.drain(..) {
                self.take(delivery);
            }
            for (sent, mailbox) in self.filled.drain(..).enumerate() {
                if sent % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
                mailbox.deliver();
            }
            // As large as a group: kept for a crowd that comes, and no longer.
            if !std::mem::take(&mut self.joins) {
                self.joined = None;
            }
            tokio::task::yield_now().await;
        }
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Connected { session, mailbox } => {
                self.sessions.insert(session, mailbox);
            }
            Delivery::Disconnected { session } => {
                self.sessions.remove(&session);
            }
            Delivery::Attach { session, channel } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    self.channels.entry(channel).or_default().insert(session, Arc::clone(mailbox));
                }
            }
            Delivery::Detach { session, channel } => {
                if let Some(members) = self.channels.get_mut(&channel) {
                    members.remove(&session);
                    if members.is_empty() {
                        self.channels.remove(&channel);
                    }
                }
            }
            Delivery::Resume { session, follows } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.resume(&follows);
                }
            }
            Delivery::Sync { session, subscription, frame, missed } => {
                let state = self.joined(frame);
                self.push(session, |mailbox| mailbox.push_sync(subscription, state, missed));
            }
            Delivery::Refuse { session, error } => self.notice(session, &ToSubscriber::Error(error)),
            Delivery::Admit { session } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.admit();
                }
            }
            Delivery::Unauthorized { session, target, at } => {
                self.notice(session, &ToSubscriber::Unauthorized { target, at });
            }
            Delivery::Close { session } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.close(CloseCode::Policy, "unauthorized");
                }
            }
            Delivery::Broadcast { channel, frame } => self.broadcast(channel, frame),
            Delivery::CloseAll { code, reason } => {
                for mailbox in self.sessions.values() {
                    mailbox.close(code, reason);
                }
            }
        }
    }

    fn notice(&mut self, session: SessionKey, frame: &ToSubscriber) {
        self.push(session, |mailbox| mailbox.push_notice(encode(frame)));
    }

    fn push(&mut self, session: SessionKey, push: impl FnOnce(&SessionMailbox) -> Push) {
        let Some(mailbox) = self.sessions.get(&session) else { return };
        self.metrics.deliveries.inc();
        if push(mailbox) == Push::First {
            self.filled.push(Arc::clone(mailbox));
        }
    }

    /// The state that a join starts from: the one before, if that is the same.
    fn joined(&mut self, frame: SyncFrame) -> Arc<SharedSync> {
        self.joins = true;
        match &self.joined {
            Some(last) if last.is_same(&frame) => Arc::clone(last),
            _ => {
                let state = Arc::new(SharedSync::new(frame));
                self.joined = Some(Arc::clone(&state));
                state
            }
        }
    }

    fn broadcast(&mut self, channel: ChannelKey, frame: Arc<ToSubscriber>) {
        let Some(members) = self.channels.get(&channel) else { return };
        self.metrics.deliveries.inc_by(members.len() as u64);
        if let ToSubscriber::Sync(state @ SyncFrame { target: Target { group, item: None }, .. }) = &*frame {
            // As large as the group: not an event that counts against a subscriber's bound.
            let state = Arc::new(SharedSync::new(state.clone()));
            for mailbox in members.values() {
                if mailbox.push_group(group.clone(), Arc::clone(&state)) == Push::First {
                    self.filled.push(Arc::clone(mailbox));
                }
            }
            return;
        }
        let (encoded, sent) = match self.encoded.take() {
            Some((last, encoded, sent)) if Arc::ptr_eq(&last, &frame) => (encoded, sent),
            _ => (encode(&frame), sent_to(&frame)),
        };
        for mailbox in members.values() {
            if mailbox.push_event(encoded.clone(), sent.as_ref()) == Push::First {
                self.filled.push(Arc::clone(mailbox));
            }
        }
        self.encoded = Some((frame, encoded, sent));
    }
}

/// What an event was sent to, if it is one that was.
fn sent_to(frame: &ToSubscriber) -> Option<Arc<Target>> {
    match frame {
        ToSubscriber::Event(event) if event.is_sent() => Some(Arc::new(event.target())),
        _ => None,
    }
}
