//! Sent events between a sync and what was got last: none may be missing that anybody got. Changes have revisions, so
//! that nobody has to ask others what is missing.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::oracle::frame::{Frame, Told};
use crate::oracle::subscriptions::Joined;
use crate::oracle::{Law, Violation};
use crate::trace::Who;

/// A group, and possibly an item.
type Followed = (Arc<str>, Option<Arc<str>>);

/// What clients got between one sync and the next.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// By group: the stamps of all sent events that anybody got, with their items.
    sent: BTreeMap<Arc<str>, BTreeMap<u64, Option<Arc<str>>>>,
    open: BTreeMap<Who, BTreeMap<Followed, Run>>,
    over: Vec<(Who, Followed, Run)>,
}

/// What a connection got of a group or an item.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The stamp of the sync.
    from: u64,
    /// That of what came last.
    to: u64,
    /// How many sent events were among that.
    sent: usize,
}

impl Runs {
    pub(super) fn got(&mut self, who: &Who, frame: &Frame<'_>, joined: Option<&Joined>) {
        let Some(joined) = joined else { return };
        let group: Arc<str> = frame.group.into();
        let item: Option<Arc<str>> = frame.item.map(Into::into);
        let sent = matches!(frame.told, Told::Sent(_));
        match frame.told {
            Told::Sync { .. } => {
                // It may be of a subscription that was left: those whose channel is in doubt are not looked at.
                let run = Run { from: frame.stamp, to: frame.stamp, sent: 0 };
                let open = self.open.entry(who.clone()).or_default();
                let old = open.insert((group.clone(), item.clone()), run);
                self.over.extend(old.map(|old| (who.clone(), (group, item), old)));
                return;
            }
            Told::Change { .. } => {}
            Told::Sent(_) => {
                self.sent.entry(group.clone()).or_default().insert(frame.stamp, item.clone());
            }
            Told::Unauthorized | Told::Error { .. } => return,
        }
        let Some(open) = self.open.get_mut(who) else { return };
        let one = item.as_ref().and_then(|item| joined.items.get(item));
        let targets = [(None, Some(&joined.whole)), (item.clone(), one)];
        for (item, target) in targets {
            let Some(target) = target else { continue };
            let key = (group.clone(), item);
            match open.get_mut(&key) {
                Some(run) if target.surely => {
                    (run.to, run.sent) = (frame.stamp, run.sent + usize::from(sent));
                }
                Some(_) => drop(open.remove(&key)),
                None => {}
            }
        }
    }

    pub(super) fn lost(&mut self, who: &Who) {
        let open = self.open.remove(who).unwrap_or_default();
        self.over.extend(open.into_iter().map(|(of, run)| (who.clone(), of, run)));
    }

    pub(super) fn end(&mut self) -> Result<(), Violation> {
        let all: Vec<Who> = self.open.keys().cloned().collect();
        all.iter().for_each(|who| self.lost(who));
        for (who, (group, item), Run { from, to, sent }) in &self.over {
            let known = self.sent.get(group).into_iter();
            let known = known.flat_map(|known| known.range((Bound::Excluded(from), Bound::Included(to))));
            let of_item = known.filter(|(_, of)| item.is_none() || *of == item).count();
            Law::SlowIsResynced.require(of_item == *sent, || {
                format!("{who} got {sent} of the {of_item} events that were sent to {group} {item:?} from {from} to {to}")
            })?;
        }
        Ok(())
    }
}
