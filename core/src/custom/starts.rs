//! The subscriptions that wait for what they start from. Those of one target wait together: however many they are, the
//! worker is asked once.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::SessionKey;
use crate::name::{StreamName, SubscriptionId, Target};

/// One subscription of a session.
pub(crate) type Subscriber = (SessionKey, SubscriptionId);

/// Who waits for the state of one target.
#[derive(Debug, Default)]
struct Start {
    /// For whom the worker is to be asked: a request is in the target's line.
    waiting: BTreeSet<Subscriber>,
    queued: bool,
    /// For whom it is being asked. Who comes meanwhile may know of more than its answer will hold.
    asked: BTreeSet<Subscriber>,
    /// Who waits until the worker registers: it gave nothing when it was asked.
    unserved: BTreeSet<Subscriber>,
}

#[derive(Debug, Default)]
pub(super) struct Starts(BTreeMap<StreamName, BTreeMap<Target, Start>>);

impl Starts {
    /// One more waits. Returns whether a request is to be queued for it.
    pub(super) fn insert(&mut self, target: &Target, subscriber: Subscriber) -> bool {
        let start = self.start(target);
        start.unserved.remove(&subscriber);
        start.waiting.insert(subscriber);
        !std::mem::replace(&mut start.queued, true)
    }

    /// One more waits until the worker registers.
    pub(super) fn insert_unserved(&mut self, target: &Target, subscriber: Subscriber) {
        self.start(target).unserved.insert(subscriber);
    }

    /// One waits no more.
    pub(super) fn remove(&mut self, target: &Target, subscriber: &Subscriber) {
        self.change(target, |start| {
            start.waiting.remove(subscriber);
            start.asked.remove(subscriber);
            start.unserved.remove(subscriber);
        });
    }

    /// Nobody waits any more for anything of a stream.
    pub(super) fn remove_all(&mut self, stream: &StreamName) {
        self.0.remove(stream);
    }

    /// A worker has registered what tells the state of such targets. Returns those for which a request is to be queued.
    pub(super) fn retry(&mut self, stream: &StreamName, told: impl Fn(&Target) -> bool) -> Vec<Target> {
        let starts = self.0.get_mut(stream).into_iter().flatten();
        let mut to_queue = Vec::new();
        for (target, start) in starts.filter(|(target, start)| told(target) && !start.unserved.is_empty()) {
            start.waiting.append(&mut start.unserved);
            if !std::mem::replace(&mut start.queued, true) {
                to_queue.push(target.clone());
            }
        }
        to_queue
    }

    /// It is a request's turn. Returns whether anybody still waits.
    pub(super) fn ask(&mut self, target: &Target) -> bool {
        let asked = self.change(target, |start| {
            start.queued = false;
            start.asked = std::mem::take(&mut start.waiting);
            !start.asked.is_empty()
        });
        asked.unwrap_or(false)
    }

    /// A request is answered. Returns who is to be told.
    pub(super) fn answered(&mut self, target: &Target) -> BTreeSet<Subscriber> {
        let told = self.change(target, |start| {
            let mut told = std::mem::take(&mut start.asked);
            told.append(&mut start.unserved);
            told
        });
        told.unwrap_or_default()
    }

    /// A request has failed. Returns who has to wait until the worker registers.
    pub(super) fn failed(&mut self, target: &Target) -> BTreeSet<Subscriber> {
        let told = self.change(target, |start| {
            let told = std::mem::take(&mut start.asked);
            start.unserved.extend(told.iter().cloned());
            told
        });
        told.unwrap_or_default()
    }

    fn start(&mut self, target: &Target) -> &mut Start {
        let of_stream = self.0.entry(target.group.stream.clone()).or_default();
        of_stream.entry(target.clone()).or_default()
    }

    /// Changes what is known of a target, if there is something; nothing is kept of one that nobody waits for.
    fn change<T>(&mut self, target: &Target, change: impl FnOnce(&mut Start) -> T) -> Option<T> {
        let stream = &target.group.stream;
        let of_stream = self.0.get_mut(stream)?;
        let start = of_stream.get_mut(target)?;
        let changed = change(start);
        let Start { waiting, queued, asked, unserved } = start;
        if waiting.is_empty() && !*queued && asked.is_empty() && unserved.is_empty() {
            of_stream.remove(target);
            if of_stream.is_empty() {
                self.0.remove(stream);
            }
        }
        Some(changed)
    }
}
