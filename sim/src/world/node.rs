//! A node of the world: a machine, the process on it with the core in it, and what the runtime does around a core:
//! sessions with their channels and outboxes, and which worker is on which connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use headwater_core::Input;
use headwater_core::hub::{Outbox, Pushed};
use headwater_core::key::{ChannelKey, SessionKey, WorkerKey};
use headwater_core::name::{GroupPath, SubscriptionId, Target};
use headwater_core::wire::stream::{SyncFrame, ToSubscriber};
use serde_json::Value;

use crate::disk::{SimDisk, Syncing};
use crate::power::Power;
use crate::process::Process;
use crate::trace::Loss;

/// A machine: what outlives the processes on it. There is one; more of them on a store that they share would be a list.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) power: Power,
    pub(super) disk: SimDisk,
    /// The server, while it runs.
    pub(super) node: Option<Node>,
    /// What goes with its process when the power is cut, if that is decided.
    pub(super) loss: Option<Loss>,
    /// When it is started again.
    pub(super) starts_at: u64,
    /// How often it was started.
    pub(super) starts: u64,
}

impl Machine {
    /// A machine with an empty disk, on which files of the log grow by so many bytes at once.
    pub(super) fn new(growth: u64) -> Machine {
        let power = Power::default();
        let disk = SimDisk::new(power.clone(), Syncing::Honest).growing_by(growth);
        Machine { power, disk, node: None, loss: None, starts_at: 0, starts: 0 }
    }
}

/// A process that lives.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) process: Process,
    /// Which connection is whose.
    pub(super) workers: BTreeMap<WorkerKey, usize>,
    pub(super) sessions: BTreeMap<SessionKey, Session>,
    channels: BTreeMap<ChannelKey, BTreeSet<SessionKey>>,
    /// What the connections' tasks have told the core, and it has not taken yet.
    pub(super) told: VecDeque<Input>,
}

/// A subscriber's connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) link: usize,
    outbox: Outbox<SnapshotOf, Waiting>,
    /// How many of its overflows were told to the core.
    told: u64,
    /// The core was told of an overflow, and is to be told when nothing waits any more.
    drains: bool,
    /// Its handshake is answered.
    pub(super) admitted: bool,
    /// It is closed once all that waits was sent.
    pub(super) closing: bool,
}

/// What a snapshot is for: of each, only the newest waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SnapshotOf {
    Subscription(SubscriptionId),
    Group(GroupPath),
}

/// A message for a subscriber; of a state also what it is the state of.
#[derive(Debug)]
struct Waiting {
    message: Value,
    state_of: Option<Target>,
}

/// What became of a frame for a session.
pub(super) enum Put {
    Queued(usize, Value),
    Overflowed(usize),
}

impl Node {
    pub(super) fn new(process: Process) -> Node {
        Node {
            process,
            workers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            channels: BTreeMap::new(),
            told: VecDeque::new(),
        }
    }

    pub(super) fn attach(&mut self, session: SessionKey, channel: ChannelKey) {
        if self.sessions.contains_key(&session) {
            self.channels.entry(channel).or_default().insert(session);
        }
    }

    pub(super) fn detach(&mut self, session: SessionKey, channel: ChannelKey) {
        if let Some(members) = self.channels.get_mut(&channel) {
            members.remove(&session);
            if members.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }

    /// The session is gone; whether it is still in a channel.
    pub(super) fn disconnected(&mut self, session: SessionKey) -> bool {
        self.sessions.remove(&session);
        self.channels.values().any(|members| members.contains(&session))
    }

    /// What is broadcast is put into the outboxes of the channel's members.
    pub(super) fn broadcast(&mut self, channel: ChannelKey, frame: &Arc<ToSubscriber>) -> Vec<Put> {
        let text = frame.encode();
        let message = decoded(&text);
        let snapshot = match &**frame {
            ToSubscriber::Sync(SyncFrame { target: target @ Target { group, item: None }, .. }) => {
                Some((SnapshotOf::Group(group.clone()), target))
            }
            _ => None,
        };
        let Some(members) = self.channels.get(&channel) else { return Vec::new() };
        let sent = match &**frame {
            ToSubscriber::Event(event) if event.is_sent() => Some(Arc::new(event.target())),
            _ => None,
        };
        let sessions = &mut self.sessions;
        let put = |member| {
            let session: &mut Session = sessions.get_mut(member)?;
            session.put(&message, |outbox, message| match &snapshot {
                Some((of, target)) => outbox.push_snapshot(of.clone(), None, Waiting::state(message, target)),
                None => outbox.push_event(text.len(), sent.clone(), Waiting::new(message)),
            })
        };
        members.iter().filter_map(put).collect()
    }

    pub(super) fn sync(
        &mut self,
        session: SessionKey,
        subscription: SubscriptionId,
        frame: SyncFrame,
        missed: u64,
    ) -> Option<Put> {
        let target = frame.target.clone();
        let message = decoded(&ToSubscriber::Sync(frame).encode());
        let of = SnapshotOf::Subscription(subscription);
        let session = self.sessions.get_mut(&session)?;
        session.put(&message, |outbox, message| {
            outbox.push_snapshot(of, Some((&target, missed)), Waiting::state(message, &target))
        })
    }

    pub(super) fn notice(&mut self, session: SessionKey, frame: &ToSubscriber) -> Option<Put> {
        let message = decoded(&frame.encode());
        self.sessions.get_mut(&session)?.put(&message, |outbox, message| {
            outbox.push_notice(Waiting::new(message));
            Pushed::Queued
        })
    }
}

impl Session {
    pub(super) fn new(link: usize, outbox_bytes: usize, admitted: bool) -> Session {
        let outbox = Outbox::new(outbox_bytes);
        Session { link, outbox, told: 0, drains: false, admitted, closing: false }
    }

    fn put(
        &mut self,
        message: &Value,
        push: impl FnOnce(&mut Outbox<SnapshotOf, Waiting>, Value) -> Pushed,
    ) -> Option<Put> {
        if self.closing {
            return None;
        }
        match push(&mut self.outbox, message.clone()) {
            Pushed::Queued => Some(Put::Queued(self.link, message.clone())),
            Pushed::Overflowed => Some(Put::Overflowed(self.link)),
            Pushed::Dropped => None,
        }
    }

    pub(super) fn resume(&mut self, follows: &BTreeSet<Target>) {
        self.outbox.resume(follows);
    }

    /// The next message for the socket.
    pub(super) fn pop(&mut self) -> Option<Value> {
        let Waiting { mut message, state_of } = self.admitted.then(|| self.outbox.pop()).flatten()?;
        let skipped = state_of.map_or(0, |target| self.outbox.take_skipped(&target));
        if skipped > 0 {
            message["skipped"] = skipped.into();
        }
        Some(message)
    }

    /// Whether something could be sent.
    pub(super) fn has_more(&self) -> bool {
        self.admitted && !self.outbox.is_empty()
    }

    /// What the connection's task has to tell the core; `sent` says whether the socket has taken all.
    pub(super) fn tells(&mut self, session: SessionKey, sent: bool) -> Option<Input> {
        if self.drains {
            let drained = sent && self.outbox.is_empty();
            self.drains = !drained;
            return drained.then_some(Input::SessionDrained { session });
        }
        let overflowed = self.outbox.overflows() > self.told;
        self.told = self.outbox.overflows();
        self.drains = overflowed;
        overflowed.then_some(Input::SessionOverflowed { session })
    }
}

impl Waiting {
    fn new(message: Value) -> Waiting {
        Waiting { message, state_of: None }
    }

    fn state(message: Value, of: &Target) -> Waiting {
        Waiting { message, state_of: Some(of.clone()) }
    }
}

/// A message of the server's.
pub(super) fn decoded(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("the server sends JSON: {error}: {text}"))
}
