//! The joins whose leaves are to be told, also after a crash: at most once.
//!
//! An allowed join is written to the log, and nobody waits for that: what a crash takes back of it is a leave that
//! is never told. A leave is the other way round. It is told only once the log has forgotten its join for good, so no
//! process after this one tells it again.

use im::OrdMap;

use super::{Output, Store, Waiting};
use crate::json::Json;
use crate::key::JoinKey;
use crate::log::Record;
use crate::name::{GroupName, GroupPath, ItemId, StreamName, SubscriptionId, Target};

/// A join that was allowed, as its leave needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The client's name for it.
    pub subscription: SubscriptionId,
    /// What it is a subscription to.
    pub target: Target,
    /// What authentication told of its connection.
    pub context: Option<Json>,
}

/// What a log holds of joins.
#[derive(Debug, Default)]
pub(super) struct Joins {
    /// The highest key that was given out.
    last: JoinKey,
    /// The highest that the checkpoint knows: the log tells of some of those, too.
    saved: JoinKey,
    /// Those without a leave that is durable. Keys only grow, so they are in the order of joining.
    remembered: OrdMap<JoinKey, Joined>,
}

impl Joined {
    /// Its record in the log.
    pub(super) fn record(&self, key: JoinKey) -> Record<'_> {
        let Target { group, item } = &self.target;
        Record::Joined {
            key,
            subscription: self.subscription.as_str(),
            stream: group.stream.as_str(),
            group: group.group.as_str(),
            item: item.as_ref().map(ItemId::as_str),
            context: self.context.as_ref().map(Json::as_str),
        }
    }

    /// A join as its record has it.
    pub(super) fn of_record(
        subscription: &str,
        stream: &str,
        group: &str,
        item: Option<&str>,
        context: Option<&str>,
    ) -> Joined {
        let group = GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
        Joined {
            subscription: SubscriptionId::trusted(subscription),
            target: Target { group, item: item.map(ItemId::trusted) },
            context: context.map(Json::trusted),
        }
    }
}

impl Store {
    /// Remembers an allowed join in the log; nobody waits for that, so no sync is made for it. `None` if this store
    /// remembers nothing: in memory, or while it can't write.
    pub(crate) fn joined(&mut self, join: &Joined) -> Option<JoinKey> {
        if self.commits.is_volatile() || self.commits.refusal().is_some() {
            return None;
        }
        let key = self.contents.joins.insert(join.clone());
        self.commits.append(&join.record(key));
        Some(key)
    }

    /// Forgets it. [`Output::Left`] comes out once that is durable: only then may the leave be told to anybody, so
    /// that it is not told again after a crash.
    pub(crate) fn left(&mut self, key: JoinKey, out: &mut Vec<Output>) {
        let write = self.commits.append(&Record::Left { key });
        self.after(Some(write), Waiting::Left(key), out);
    }

    /// The joins that the log holds without a leave: of a process that crashed, in the order in which they were
    /// allowed.
    pub(crate) fn remembered_joins(&self) -> Vec<(JoinKey, Joined)> {
        self.contents.joins.remembered.iter().map(|(key, join)| (*key, join.clone())).collect()
    }
}

impl Joins {
    /// What a checkpoint knows.
    pub(super) fn restored(last: JoinKey, remembered: OrdMap<JoinKey, Joined>) -> Joins {
        Joins { last, saved: last, remembered }
    }

    /// What a checkpoint is to know: the highest key, and the joins.
    pub(super) fn saved(&self) -> (JoinKey, OrdMap<JoinKey, Joined>) {
        (self.last, self.remembered.clone())
    }

    fn insert(&mut self, join: Joined) -> JoinKey {
        self.last = JoinKey(self.last.0 + 1);
        self.remembered.insert(self.last, join);
        self.last
    }

    /// Its leave is durable.
    pub(super) fn forget(&mut self, key: JoinKey) {
        self.remembered.remove(&key);
    }

    /// Remembers a join read from the log. `false` if its key can't follow those before. The checkpoint may know it
    /// already, with its leave or without.
    pub(super) fn replay_joined(&mut self, key: JoinKey, joined: Joined) -> bool {
        if key <= self.saved {
            return true;
        }
        let fits = key > self.last;
        if fits {
            self.last = key;
            self.remembered.insert(key, joined);
        }
        fits
    }

    /// Forgets a join. Its key may be unknown: the log need not hold what nobody waited for.
    pub(super) fn replay_left(&mut self, key: JoinKey) {
        self.last = self.last.max(key);
        self.remembered.remove(&key);
    }
}

#[cfg(test)]
mod tests;
