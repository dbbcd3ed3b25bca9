//! What is exported: the groups in memory and those of the checkpoint, in one order, as lines.

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_core::name::{GroupPath, StreamName};
use headwater_core::store::Snapshot;
use tokio::sync::mpsc;

use super::lines;
use crate::store::checkpoint::{CheckpointError, Scan};

/// What of all that is stored is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Everything.
    #[default]
    All,
    /// One stream.
    Stream(StreamName),
    /// One group.
    Group(GroupPath),
}

impl Wanted {
    fn has(&self, path: &GroupPath) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Stream(stream) => path.stream == *stream,
            Wanted::Group(group) => path == group,
        }
    }

    /// The first name that is wanted, and the first behind it that is not, in byte order.
    pub(crate) fn range(&self) -> ((&str, &str), Option<(String, String)>) {
        let next = |name: &str| format!("{name}\0");
        match self {
            Wanted::All => (("", ""), None),
            Wanted::Stream(stream) => ((stream.as_str(), ""), Some((next(stream.as_str()), String::new()))),
            Wanted::Group(GroupPath { stream, group }) => {
                let (stream, group) = (stream.as_str(), group.as_str());
                ((stream, group), Some((stream.to_owned(), next(group))))
            }
        }
    }
}

/// The state of one moment: all groups that were in memory, and the checkpoint for the rest.
pub(crate) struct Contents {
    /// In byte order, also those without an item.
    memory: VecDeque<(GroupPath, Snapshot)>,
    scan: Scan,
    /// Taken from the scan, and behind the next group in memory.
    saved: Option<(GroupPath, Snapshot)>,
}

impl Contents {
    /// What is wanted of `memory`, which is in byte order, and what `scan` has of other groups.
    pub(crate) fn new(memory: Vec<(GroupPath, Snapshot)>, scan: Scan, wanted: &Wanted) -> Contents {
        let memory = memory.into_iter().filter(|(path, _)| wanted.has(path)).collect();
        Contents { memory, scan, saved: None }
    }

    fn next_group(&mut self) -> Option<Result<(GroupPath, Snapshot), CheckpointError>> {
        if self.saved.is_none() {
            // What is in memory and before this was given out already, and the scan has nothing before that.
            let is_here = |path: &GroupPath| self.memory.binary_search_by(|(here, _)| here.cmp(path)).is_ok();
            self.saved = match self.scan.next_where(|path| !is_here(path)) {
                Some(Ok((path, group))) => Some((path, group.snapshot)),
                Some(Err(error)) => return Some(Err(error)),
                None => None,
            };
        }
        let from_memory = match (self.memory.front(), &self.saved) {
            (Some((here, _)), Some((there, _))) => here < there,
            (here, _) => here.is_some(),
        };
        let next = if from_memory { self.memory.pop_front() } else { self.saved.take() };
        next.map(Ok)
    }
}

/// How much is sent at once.
const CHUNK: usize = 64 << 10;
/// How many chunks may wait to be taken.
pub(crate) const CHUNKS: usize = 4;

/// Sends everything as lines, group by group, until nobody wants more. Blocks while it reads: it is for a thread of its
/// own.
pub(crate) async fn send(mut contents: Contents, chunks: mpsc::Sender<Bytes>) {
    let mut out = Vec::with_capacity(CHUNK);
    let mut count = 0;
    while let Some(next) = contents.next_group() {
        let (path, items) = match next {
            Ok(group) => group,
            Err(error) => {
                tracing::error!(%error, "an export can't go on");
                lines::put_broken(&mut out, error.to_string());
                // Whoever does not want it any more does not miss it.
                let _ = chunks.send(out.into()).await;
                return;
            }
        };
        for item in items.iter() {
            let (stream, group) = (path.stream.as_str(), path.group.as_str());
            lines::put_item(&mut out, stream, group, item.id.as_str(), item.value.as_str());
            count += 1;
            if out.len() >= CHUNK && chunks.send(std::mem::take(&mut out).into()).await.is_err() {
                return;
            }
        }
    }
    lines::put_end(&mut out, count);
    let _ = chunks.send(out.into()).await;
}
