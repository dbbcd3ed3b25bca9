//! What one connection is told of a group: a sync, what follows it without a gap or a repeat, and in the end what the
//! closer lists.

use serde_json::Value;

use super::{Group, Groups};
use crate::oracle::frame::{Frame, Kind, STREAM, Told};
use crate::oracle::subscriptions::{Joined, Target};
use crate::oracle::{Law, Violation};
use crate::trace::Who;

impl Groups {
    /// A subscription starts afresh.
    pub(super) fn synced(&mut self, who: &Who, frame: &Frame<'_>, data: &Value) -> Result<(), Violation> {
        let exact = self.rules.tells_server;
        let revision = frame.revision;
        if exact {
            let history = &self.group(frame.group).history;
            history.require_since(revision, history.seen())?;
        }
        let Some(joined) = self.joined(who, frame) else { return Ok(()) };
        let how = |at: u64| format!("the sync is at revision {revision}, after {at} was told here");
        Law::OneOrder.require(revision >= joined.told, || how(joined.told))?;
        joined.told = revision;
        let (whole, mut followed) = (joined.whole.at, None);
        if exact
            && joined.whole.surely
            && let Some(at) = whole
        {
            Law::OneOrder.require(revision == at, || how(at))?;
        } else if frame.item.is_some() && whole.is_some_and(|at| at < revision) {
            // It was too slow, or it left the group: the group's own sync comes before anything else of it.
            joined.leave_whole();
        }
        let target = match frame.item {
            None => &mut joined.whole,
            Some(item) => joined.items.entry(item.into()).or_default(),
        };
        if frame.item.is_some() {
            target.value = Some(data.clone());
            followed = target.at.filter(|_| exact && target.surely && whole.is_none());
        }
        let floor = target.floor.unwrap_or(0);
        let history = &mut self.group(frame.group).history;
        history.require_since(revision, floor)?;
        if let (Some(item), Some(from)) = (frame.item, followed) {
            history.unchanged(item, from, revision + 1)?;
        }
        Ok(())
    }

    /// A subscriber is told what happened after what it was told before.
    pub(super) fn followed(&mut self, who: &Who, frame: &Frame<'_>) -> Result<(), Violation> {
        let exact = self.rules.tells_server;
        let Some(joined) = self.joined(who, frame) else { return Ok(()) };
        let followed = joined.follow(frame, exact)?;
        if let (Some(item), Some(from), Told::Change { .. }) = (frame.item, followed, frame.told) {
            self.group(frame.group).history.unchanged(item, from, frame.revision)?;
        }
        Ok(())
    }

    /// The closer has listed a group of a world at rest: every subscriber holds just that.
    pub(super) fn closed(&mut self, name: &str, values: Vec<Value>) -> Result<(), Violation> {
        let group = self.groups.get_mut(name);
        let mut top = None;
        for (who, connection) in &self.connections.all {
            let Some(joined) = connection.group(STREAM, name).filter(|_| !connection.behind) else {
                continue;
            };
            let wanted = |target: &Target| target.is_wanted();
            let whole = Some(&joined.whole).filter(|whole| wanted(whole));
            let never = |what: &str| Law::Converges.broken(format!("{who} never got the state of {what}"));
            let Some(Group { history, .. }) = &group else {
                return if whole.is_some() { Err(never(name)) } else { Ok(()) };
            };
            if let Some(whole) = whole {
                let at = whole.at.ok_or_else(|| never(name))?;
                Law::ReplayIsList.require(at >= history.seen(), || {
                    format!("{who} is at revision {at} of {name}, but {} was seen", history.seen())
                })?;
                let state = history.state(at);
                Law::ReplayIsList.require(state.is_none_or(|state| state.holds(&values)), || {
                    let held = state.map_or_else(String::new, ToString::to_string);
                    format!("{who} holds {held} of {name}, but the list is {values:?}")
                })?;
                top = Some(at);
                continue;
            }
            // In the group's channel it gets its items' changes there.
            let items = joined.items.iter().filter(|(_, item)| wanted(item) && joined.whole.at.is_none());
            for (item, target) in items {
                let at = target.at.ok_or_else(|| never(item))?;
                let last = history.last_revision_of(item);
                Law::ReplayIsList.require(at >= last, || {
                    format!("{who} is at revision {at} of {name} {item}, which changed at {last}")
                })?;
                let holds = match &target.value {
                    None => true,
                    Some(Value::Null) => values.iter().all(|value| value["id"] != **item),
                    Some(held) => values.contains(held),
                };
                Law::ReplayIsList.require(holds, || {
                    format!("{who} holds {:?} of {name} {item}, but the list is {values:?}", target.value)
                })?;
            }
        }
        let Some(group) = group else { return Ok(()) };
        if let Some(before) = &group.closed_with {
            Law::SeenIsDurable.require(*before == values, || {
                format!("nothing was written since {name} was {before:?}, and now it is {values:?}")
            })?;
        }
        group.closed_with = Some(values);
        group.top = group.top.max(top);
        group.judge()
    }
}

impl Joined {
    /// Takes what happened next; gives where the item was, if it is followed alone.
    fn follow(&mut self, frame: &Frame<'_>, exact: bool) -> Result<Option<u64>, Violation> {
        let revision = frame.revision;
        let is_change = matches!(frame.told, Told::Change { .. });
        self.told = self.told.max(revision);
        let item = frame.item.and_then(|item| self.items.get_mut(item));
        if let Some(at) = self.whole.at {
            if revision == at + u64::from(is_change) {
                self.whole.at = Some(revision);
                return Ok(None);
            }
            if !exact && self.whole.again && revision > at {
                // It left and joined again, and the state that was before this was replaced by a newer one.
                self.whole.at = None;
                return Ok(None);
            }
            let may_be_left = !self.whole.surely && item.as_ref().is_some_and(|item| item.at.is_some());
            Law::OneOrder
                .require(may_be_left && revision > at, || format!("the revision before was {at}"))?;
            self.leave_whole();
            return self.follow(frame, exact);
        }
        let Some(item) = item.filter(|item| item.at.is_some()) else {
            let target = frame.item.and_then(|item| self.items.get(item)).unwrap_or(&self.whole);
            let unsure = |target: &Target| target.again || target.may;
            let may_be = !exact && (unsure(target) || unsure(&self.whole));
            return match may_be {
                true => Ok(None),
                false => Err(Law::ReplayIsList.broken("it was not told before what there was")),
            };
        };
        let at = item.at.unwrap_or(0);
        let follows = if is_change { revision > at } else { revision >= at };
        Law::OneOrder.require(follows, || format!("the revision before was {at}"))?;
        if let Told::Change { kind, data } = frame.told {
            item.value = Some(if kind == Kind::Delete { Value::Null } else { data.clone() });
        }
        item.at = Some(revision);
        // A state that was replaced by a newer one may have been the one that this follows.
        let is_sure = exact || !(item.again || self.whole.again);
        Ok(is_sure.then_some(at))
    }
}
