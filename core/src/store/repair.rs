//! What is left of a store that is damaged, and how it becomes one again.

use std::collections::BTreeMap;

use super::contents::GroupKey;
use super::replay::{Base, Damage, Part, Recovered, Replay, Unreadable};
use super::saved::{Checkpoint, CheckpointState, Save};
use crate::log::{self, Epoch, Record, Salt, SegmentHeader, SegmentNumber, Step};
use crate::name::{GroupName, GroupPath, StreamName};
use crate::rng::Rng;

/// Reads a log up to its first damage, as a [`Replay`] is used.
#[derive(Debug)]
pub struct Salvage(Replay);

impl Salvage {
    /// Of a log on a checkpoint that is whole. `headers` are those that can be read.
    pub fn of_log(checkpoint: Option<Checkpoint>, headers: Vec<SegmentHeader>) -> Salvage {
        Salvage(Replay::begin(checkpoint, headers))
    }

    /// The same on what is left of a checkpoint: groups may be missing, and items of groups. What the log changes of
    /// them counts all the same.
    pub fn of_all(checkpoint: Checkpoint, headers: Vec<SegmentHeader>) -> Salvage {
        let mut replay = Replay::begin(Some(checkpoint), headers);
        replay.take_what_does_not_fit();
        Salvage(replay)
    }

    /// See [`Replay::next_part`].
    pub fn next_part(&mut self) -> Option<Part> {
        self.0.next_part()
    }

    /// See [`Replay::push`].
    pub fn push(&mut self, bytes: &[u8], base: &mut impl Base) -> Result<(), Unreadable> {
        self.0.push(bytes, base)
    }

    /// What there is up to the first damage, and what that is.
    pub fn finish(self) -> (Salvaged, Option<Damage>) {
        let (recovered, damage) = self.0.finish_anyway();
        (Salvaged { recovered, to_save: None }, damage)
    }
}

/// What can be kept of a damaged store.
#[derive(Debug)]
pub struct Salvaged {
    recovered: Recovered,
    /// The groups that are to go into the new checkpoint, from the first save on.
    to_save: Option<Vec<GroupKey>>,
}

/// Most groups of one save.
const MOST_GROUPS: usize = 1_000;

impl Salvaged {
    /// How many items there are.
    pub fn items(&self) -> u64 {
        self.recovered.items
    }

    /// How many groups hold them.
    pub fn groups(&self) -> u64 {
        self.recovered.groups
    }

    /// Where in the log it ends.
    pub fn end(&self) -> u64 {
        self.recovered.end
    }

    /// The header of a file that fences off everything in the log behind what can be kept. It has a new epoch: those who
    /// come back see that history may be lost. `newest` is the highest number that a file of the log has.
    pub fn fence(&self, newest: Option<SegmentNumber>, seed: [u8; 32]) -> SegmentHeader {
        let mut rng = Rng::new(seed);
        let number = newest.map_or(SegmentNumber(1), SegmentNumber::next);
        let (start, batch) = (self.recovered.end, self.recovered.log.batch);
        SegmentHeader { number, start, batch, epoch: rng.uuid(), salt: rng.salt(), relaxed: false }
    }

    /// The next part of a checkpoint that goes up to the fence, on top of the groups that are in the checkpoint already:
    /// the last one finishes it.
    pub fn next_save(&mut self, epoch: Epoch) -> Save {
        let Recovered { contents, log, .. } = &mut self.recovered;
        let to_save = self.to_save.get_or_insert_with(|| contents.unsaved.iter().rev().copied().collect());
        let first = to_save.len().saturating_sub(MOST_GROUPS);
        let keys = to_save.split_off(first);
        let groups = keys.into_iter().rev().filter_map(|key| contents.take_unsaved(key)).collect();
        let finish = to_save.is_empty().then(|| {
            let (last_join, joins) = contents.joins.saved();
            CheckpointState {
                position: log.position,
                batch: log.batch,
                epoch,
                reserved: contents.reserved,
                last_join,
                joins,
                custom: contents.custom.iter().cloned().collect(),
            }
        });
        Save { groups, next_group: contents.next_number, finish }
    }
}

/// Records that can still be read where the log is given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many there are that change a group.
    pub groups: BTreeMap<GroupPath, u64>,
    /// How many of other kinds.
    pub others: u64,
}

/// Looks for records in bytes of a file, wherever they begin.
#[derive(Debug)]
pub struct Search {
    salt: Salt,
    position: u64,
    pending: Vec<u8>,
}

impl Search {
    /// Begins at an offset of a file.
    pub fn new(header: &SegmentHeader, offset: u64) -> Search {
        let position = header.start + offset.saturating_sub(SegmentHeader::LEN as u64);
        Search { salt: header.salt, position, pending: Vec::new() }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], found: &mut Found) {
        self.pending.extend_from_slice(bytes);
        self.look(false, found);
    }

    /// There are no more.
    pub fn finish(mut self, found: &mut Found) {
        self.look(true, found);
    }

    fn look(&mut self, at_end: bool, found: &mut Found) {
        let mut at = 0;
        while at < self.pending.len() {
            match log::read(self.salt, &self.pending[at..], self.position + at as u64) {
                Step::Record { record, len, .. } => {
                    found.count(&record);
                    at += len;
                }
                Step::More if !at_end => break,
                Step::More | Step::Invalid => at += 1,
            }
        }
        self.pending.drain(..at);
        self.position += at as u64;
    }
}

impl Found {
    fn count(&mut self, record: &Record<'_>) {
        match record {
            Record::Put { stream, group, .. } | Record::Delete { stream, group, .. } => {
                let path =
                    GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
                *self.groups.entry(path).or_default() += 1;
            }
            Record::Synced | Record::Closed => {}
            _ => self.others += 1,
        }
    }
}
