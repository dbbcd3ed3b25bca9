//! Stamps: within a group they increase strictly in the order of what happened there, also across crashes. In these
//! worlds no clock is behind when the server starts.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::oracle::{Law, Violation};

/// What was given a stamp of one group.
#[derive(Debug, Default)]
pub(super) struct Stamps(BTreeMap<u64, Stamped>);

#[derive(Debug)]
struct Stamped {
    revision: u64,
    what: Thing,
}

/// What has a stamp.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Thing {
    /// The change of the revision.
    Change,
    /// The state at the revision. All syncs of one state share their stamp.
    Sync,
    /// An event after the change of the revision: its item and what was sent.
    Sent(Option<String>, Value),
}

impl Stamps {
    pub(super) fn take(&mut self, stamp: u64, revision: u64, what: Thing) -> Result<(), Violation> {
        if let Some(known) = self.0.get(&stamp) {
            return Law::StampsIncrease.require(known.revision == revision && known.what == what, || {
                format!("stamp {stamp} of {what:?} at revision {revision} is also that of {known:?}")
            });
        }
        let before = self.0.range(..stamp).next_back();
        let after = self.0.range(stamp..).next();
        let new = Stamped { revision, what };
        let in_order = before.is_none_or(|(_, before)| before.precedes(&new))
            && after.is_none_or(|(_, after)| new.precedes(after));
        Law::StampsIncrease
            .require(in_order, || format!("{new:?} is stamped {stamp}, between {before:?} and {after:?}"))?;
        self.0.insert(stamp, new);
        Ok(())
    }
}

impl Stamped {
    fn precedes(&self, after: &Stamped) -> bool {
        match after.what {
            Thing::Change => self.revision < after.revision,
            _ => self.revision <= after.revision,
        }
    }
}
