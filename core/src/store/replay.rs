//! Reading a log back after a start, in pieces of any size.

use super::contents::Contents;
use crate::log::{self, BatchNumber, Epoch, FileHeader, HeaderError, Salt, Step};

/// Reads a log: [`Replay::open`] with its header, [`Replay::push`] with what follows, in order, in pieces of any
/// size, then [`Replay::finish`].
#[derive(Debug)]
pub struct Replay {
    epoch: Epoch,
    salt: Salt,
    contents: Contents,
    records: u64,
    /// The batch that the next record is of, unless it says that it is of a later one.
    batch: BatchNumber,
    /// Where the batch of the last record starts.
    batch_start: u64,
    /// Whether that record was not the last of its batch.
    within_batch: bool,
    /// Bytes that were pushed and not consumed; the first of them stands at `position`.
    pending: Vec<u8>,
    position: u64,
    /// Where the first bytes stand that are no valid record.
    broken: Option<u64>,
    damage: Option<Damage>,
}

/// What a log holds.
#[derive(Debug)]
pub struct Recovered {
    /// The epoch of the store.
    pub epoch: Epoch,
    /// Everything that is durable, and the joins without a leave.
    pub(crate) contents: Contents,
    /// How many records were read.
    pub records: u64,
    /// Where the valid part ends: what follows must be cut off before the next write goes here.
    pub end: u64,
    /// Bytes after `end`: the torn end of a batch that was never acknowledged.
    pub torn: u64,
    /// The number of the next batch to write. A batch whose end was cut off goes on under its number: else a
    /// second torn write could not be told from damage.
    pub(crate) next_batch: BatchNumber,
    pub(crate) salt: Salt,
    /// Where the last batch starts. It may be one whose sync failed: what is there was read from the system's
    /// cache, and must be written again to be sure.
    pub last_batch: u64,
}

impl Recovered {
    /// The empty store of a new log.
    pub fn empty(header: FileHeader) -> Recovered {
        Replay::new(header).finish().expect("nothing was pushed that could be damaged")
    }

    /// How many items there are.
    pub fn items(&self) -> usize {
        self.contents.items()
    }

    /// How many groups hold at least one item.
    pub fn groups(&self) -> usize {
        self.contents.groups()
    }
}

/// A synced batch can't be read: something changed the file after it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record at byte {at} is damaged, and a valid record of a later batch follows at byte {later}: \
     acknowledged changes are lost"
)]
pub struct Damage {
    /// Where the damaged bytes start.
    pub at: u64,
    /// Where a valid record of a later batch starts.
    pub later: u64,
}

impl Replay {
    /// Reads the header of a log file.
    pub fn open(header: &[u8; FileHeader::LEN]) -> Result<Replay, HeaderError> {
        FileHeader::decode(header).map(Replay::new)
    }

    fn new(header: FileHeader) -> Replay {
        Replay {
            epoch: header.epoch,
            salt: header.salt,
            contents: Contents::default(),
            records: 0,
            batch: BatchNumber(1),
            batch_start: FileHeader::LEN as u64,
            within_batch: false,
            pending: Vec::new(),
            position: FileHeader::LEN as u64,
            broken: None,
            damage: None,
        }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.damage.is_some() {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let consumed = if self.broken.is_none() { self.read_records() } else { 0 };
        let scanned = if self.broken.is_some() { self.scan_for_later_batch(consumed, false) } else { 0 };
        self.discard(consumed + scanned);
    }

    /// The end of the file: what the log holds, unless a synced batch is damaged.
    pub fn finish(mut self) -> Result<Recovered, Damage> {
        if !self.pending.is_empty() {
            // The file ends in the middle of a record; or the length of that record is damaged, and whole
            // records follow within what it claims.
            self.broken.get_or_insert(self.position);
            self.scan_for_later_batch(0, true);
        }
        if let Some(damage) = self.damage {
            return Err(damage);
        }
        let file_end = self.position + self.pending.len() as u64;
        let end = self.broken.unwrap_or(file_end);
        Ok(Recovered {
            epoch: self.epoch,
            salt: self.salt,
            contents: self.contents,
            records: self.records,
            end,
            torn: file_end - end,
            next_batch: self.batch,
            last_batch: self.batch_start,
        })
    }

    /// Applies whole records from the front of `pending`; returns how many bytes they take.
    fn read_records(&mut self) -> usize {
        let mut consumed = 0;
        loop {
            let position = self.position + consumed as u64;
            match log::read(self.salt, &self.pending[consumed..], position) {
                Step::Record { batch, last, record, len }
                    if batch >= self.batch && self.contents.apply(&record) =>
                {
                    if batch > self.batch || !self.within_batch {
                        self.batch_start = position;
                    }
                    self.within_batch = !last;
                    self.batch = if last { batch.next() } else { batch };
                    self.records += 1;
                    consumed += len;
                }
                Step::More => return consumed,
                Step::Record { .. } | Step::Invalid => {
                    self.broken = Some(position);
                    return consumed;
                }
            }
        }
    }

    /// Looks at every byte from `from` on for a valid record of a batch after the broken one: it was written
    /// after the broken one was synced. Returns how many bytes were looked at; a record may start in the rest.
    fn scan_for_later_batch(&mut self, from: usize, at_end: bool) -> usize {
        let Some(at) = self.broken else { return 0 };
        for start in from..self.pending.len() {
            let position = self.position + start as u64;
            match log::read(self.salt, &self.pending[start..], position) {
                Step::Record { batch, .. } if batch > self.batch => {
                    self.damage = Some(Damage { at, later: position });
                    return self.pending.len() - from;
                }
                Step::More if !at_end => return start - from,
                Step::Record { .. } | Step::More | Step::Invalid => {}
            }
        }
        self.pending.len() - from
    }

    fn discard(&mut self, len: usize) {
        self.pending.drain(..len);
        self.position += len as u64;
    }
}
