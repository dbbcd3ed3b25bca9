//! What the store does for streams that workers keep themselves: it remembers which they are, and stamps what happens
//! in them, so that what they tell of their state can follow it.

use std::collections::BTreeSet;

use super::{EventKind, Output, State, Store, Waiting};
use crate::key::SessionKey;
use crate::log::Record;
use crate::name::{GroupPath, ItemId, StreamName, SubscriptionId, Target};
use crate::time::WallMs;

/// The state of something that a worker keeps, as it was after all events that the store was given before it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) target: Target,
    pub(crate) state: State,
    pub(crate) audience: Audience,
}

/// For whom a [`Kept`] state is.
#[derive(Debug)]
pub(crate) enum Audience {
    /// For all who subscribe to the target.
    All,
    /// For these subscriptions, which start from it.
    Starting(BTreeSet<(SessionKey, SubscriptionId)>),
}

impl Kept {
    /// About how many bytes of memory it holds on to.
    pub(super) fn size_hint(&self) -> usize {
        let state = match &self.state {
            State::Listed(value) | State::Item(Some(value)) => value.as_str().len(),
            State::Group(_) | State::Item(None) => 0,
        };
        let audience = match &self.audience {
            Audience::All => 0,
            Audience::Starting(subscribers) => subscribers.len() * 64,
        };
        256 + state + audience
    }
}

impl Store {
    /// The streams that workers keep themselves, as far as the log knows.
    pub(crate) fn custom_streams(&self) -> impl Iterator<Item = &StreamName> {
        self.contents.custom.iter()
    }

    /// A worker keeps a stream itself from now on, or no more: the log knows that soon, and nobody waits for it.
    pub(crate) fn set_custom(&mut self, stream: StreamName, custom: bool) {
        let name = stream.as_str();
        self.commits.append(&match custom {
            true => Record::Custom { stream: name },
            false => Record::Ordinary { stream: name },
        });
        match custom {
            true => self.contents.custom.insert(stream),
            false => self.contents.custom.remove(&stream),
        };
    }

    /// Stamps something that happened in a stream that a worker keeps, for those who subscribe to it.
    pub(crate) fn publish(
        &mut self,
        wall: WallMs,
        group: &GroupPath,
        item: ItemId,
        kind: EventKind,
        out: &mut Vec<Output>,
    ) {
        self.send(wall, group, Some(item), kind, out);
    }

    /// Has a state that a worker has told follow the events before it, which may wait for the disk. It is stamped like
    /// them: nobody knows whether it is the state that was told last.
    pub(crate) fn show(&mut self, wall: WallMs, kept: Kept, out: &mut Vec<Output>) {
        let (_, stamp, head) = self.stamp(wall, &kept.target.group);
        self.after(head, Waiting::Kept(kept, stamp), out);
    }
}
