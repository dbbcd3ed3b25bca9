//! The joins whose leaves are to be told, also after a crash: at most once.
//!
//! An allowed join is written to the log, and nobody waits for that: what a crash takes back of it is a leave that
//! is never told. A leave is the other way round. It is told only once the log has forgotten its join for good, so no
//! process after this one tells it again.

use std::collections::BTreeMap;

use super::{Output, Store, Waiting};
use crate::json::Json;
use crate::key::JoinKey;
use crate::log::Record;
use crate::name::{ItemId, SubscriptionId, Target};

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
    last: u64,
    /// Those of an earlier process without a leave. Keys only grow, so they are in the order of joining.
    remembered: BTreeMap<JoinKey, Joined>,
}

impl Store {
    /// Remembers an allowed join in the log; nobody waits for that, so no sync is made for it. `None` if this store
    /// remembers nothing: in memory, or after a failed write.
    pub(crate) fn joined(&mut self, join: &Joined) -> Option<JoinKey> {
        if self.commits.is_volatile() || self.commits.failure().is_some() {
            return None;
        }
        let key = self.contents.joins.next_key();
        let Target { group, item } = &join.target;
        self.commits.append(&Record::Joined {
            key,
            subscription: join.subscription.as_str(),
            stream: group.stream.as_str(),
            group: group.group.as_str(),
            item: item.as_ref().map(ItemId::as_str),
            context: join.context.as_ref().map(Json::as_str),
        });
        Some(key)
    }

    /// Forgets it. [`Output::Left`] comes out once that is durable: only then may the leave be told to anybody, so
    /// that it is not told again after a crash. After a failed write it never comes out: `false`.
    pub(crate) fn left(&mut self, key: JoinKey, out: &mut Vec<Output>) -> bool {
        if self.commits.failure().is_some() {
            return false;
        }
        let batch = self.commits.append(&Record::Left { key });
        self.after(Some(batch), Waiting::Left(key), out);
        true
    }

    /// The joins that the log holds without a leave: of a process that crashed, in the order in which they were
    /// allowed. Empty after the first call.
    pub(crate) fn take_remembered_joins(&mut self) -> Vec<(JoinKey, Joined)> {
        std::mem::take(&mut self.contents.joins.remembered).into_iter().collect()
    }
}

impl Joins {
    fn next_key(&mut self) -> JoinKey {
        self.last += 1;
        JoinKey(self.last)
    }

    /// Remembers a join read from the log. `false` if its key can't follow those before.
    pub(super) fn replay_joined(&mut self, key: JoinKey, joined: Joined) -> bool {
        let fits = key.0 > self.last;
        if fits {
            self.last = key.0;
            self.remembered.insert(key, joined);
        }
        fits
    }

    /// Forgets a join. Its key may be unknown: the log need not hold what nobody waited for.
    pub(super) fn replay_left(&mut self, key: JoinKey) {
        self.last = self.last.max(key.0);
        self.remembered.remove(&key);
    }
}

#[cfg(test)]
mod tests;
