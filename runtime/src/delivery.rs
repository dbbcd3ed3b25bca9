//! Delivery: who is in which channel, and the frames that go there. Never waits for the core or for a socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_core::key::{ChannelKey, SessionKey};
use headwater_core::name::{SubscriptionId, Target};
use headwater_core::time::WallMs;
use headwater_core::wire::stream::{StreamError, SyncFrame, ToSubscriber};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::mailbox::{SessionMailbox, SharedSync};

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
    },
    Sync {
        session: SessionKey,
        subscription: SubscriptionId,
        frame: SyncFrame,
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
    /// The last frame that was broadcast and its text: an event often goes to two channels.
    encoded: Option<(Arc<ToSubscriber>, Utf8Bytes)>,
}

impl Shard {
    pub(crate) async fn run(mut self, mut deliveries: mpsc::Receiver<Delivery>) {
        let mut batch = Vec::new();
        while deliveries.recv_many(&mut batch, 256).await > 0 {
            for delivery in batch.drain(..) {
                self.deliver(delivery);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
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
            Delivery::Resume { session } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.resume();
                }
            }
            Delivery::Sync { session, subscription, frame } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.push_sync(subscription, frame);
                }
            }
            Delivery::Refuse { session, error } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.push_notice(ToSubscriber::Error(error).encode().into());
                }
            }
            Delivery::Admit { session } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.admit();
                }
            }
            Delivery::Unauthorized { session, target, at } => {
                if let Some(mailbox) = self.sessions.get(&session) {
                    mailbox.push_notice(ToSubscriber::Unauthorized { target, at }.encode().into());
                }
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

    fn broadcast(&mut self, channel: ChannelKey, frame: Arc<ToSubscriber>) {
        let Some(members) = self.channels.get(&channel) else { return };
        if let ToSubscriber::Sync(SyncFrame { target: Target { group, item: None }, .. }) = &*frame {
            // As large as the group: not an event that counts against a subscriber's bound.
            let state = Arc::new(SharedSync::new(Arc::clone(&frame)));
            for mailbox in members.values() {
                mailbox.push_group(group.clone(), Arc::clone(&state));
            }
            return;
        }
        let text = match self.encoded.take() {
            Some((last, text)) if Arc::ptr_eq(&last, &frame) => text,
            _ => frame.encode().into(),
        };
        for mailbox in members.values() {
            mailbox.push_event(text.clone());
        }
        self.encoded = Some((frame, text));
    }
}
