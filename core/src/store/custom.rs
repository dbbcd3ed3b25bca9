//! What the store does for streams that workers keep themselves: it remembers which they are, and stamps what happens
//! in them.

use super::{EventKind, Output, Store};
use crate::log::Record;
use crate::name::{GroupPath, ItemId, StreamName};
use crate::time::WallMs;

impl Store {
    /// The streams that workers keep themselves, as far as the log knows.
    pub(crate) fn custom_streams(&self) -> impl Iterator<Item = &StreamName> {
        self.contents.custom.iter()
    }

    /// A worker keeps a stream itself from now on, or no more: the log knows that soon, and nobody waits for it.
    pub(crate) fn set_custom(&mut self, stream: StreamName, custom: bool) {
        let name = stream.as_str();
        let record = match custom {
            true => Record::Custom { stream: name },
            false => Record::Ordinary { stream: name },
        };
        if self.commits.failure().is_none() {
            self.commits.append(&record);
        }
        match custom {
            true => self.contents.custom.insert(stream),
            false => self.contents.custom.remove(&stream),
        };
    }

    /// Stamps something that happened in a stream that a worker keeps, for those who subscribe to it. After a failed
    /// write nothing is: a stamp could be given out again after a restart.
    pub(crate) fn publish(
        &mut self,
        wall: WallMs,
        group: &GroupPath,
        item: Option<ItemId>,
        kind: EventKind,
        out: &mut Vec<Output>,
    ) {
        if self.commits.failure().is_none() {
            self.send(wall, group, item, kind, out);
        }
    }
}
