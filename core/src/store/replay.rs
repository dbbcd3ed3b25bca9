//! Reading a log back after a start, in pieces of any size, on top of what a checkpoint holds.

use super::commit::{LogEnd, begin_in_order};
use super::contents::Contents;
use super::joins::Joins;
use super::saved::{Checkpoint, SavedGroup};
use crate::log::{self, BatchNumber, Epoch, Salt, SegmentHeader, SegmentNumber, Step};
use crate::name::GroupPath;

/// Reads a log: [`Replay::new`] with what heads its files, then for each part that [`Replay::next_part`] asks for,
/// [`Replay::push`] with its bytes, in pieces of any size, then [`Replay::finish`].
#[derive(Debug)]
pub struct Replay {
    contents: Contents,
    /// Where the checkpoint goes up to, and how many items and groups it holds.
    saved_to: u64,
    saved: (u64, u64),
    /// Every file, in order, with where it begins.
    segments: Vec<(SegmentNumber, u64)>,
    /// Those of which something counts.
    headers: Vec<SegmentHeader>,
    /// How many of them are read already, the one at hand included; the first of them hold nothing that is asked for.
    begun: usize,
    records: u64,
    /// The batch that the next record is of, unless it says that it is of a later one.
    batch: BatchNumber,
    /// Where the batch of the last record starts, if that is in the part at hand.
    batch_start: Option<u64>,
    /// Whether that record was not the last of its batch.
    within_batch: bool,
    /// Whether that record says that the process ended well.
    closed: bool,
    /// Of the file at hand, once there is one.
    salt: Option<Salt>,
    /// Bytes that were pushed and not consumed; the first of them stands at `position`.
    pending: Vec<u8>,
    position: u64,
    /// Where the first bytes stand that are no valid record.
    broken: Option<u64>,
    /// How many bytes of a record stand there that was begun.
    begun_record: u64,
    damage: Option<Damage>,
}

/// A part of a file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which file.
    pub segment: SegmentNumber,
    /// The offset of its first byte.
    pub from: u64,
    /// The offset behind its last byte; `None` is the file's end.
    pub until: Option<u64>,
}

/// Groups that a checkpoint holds: what the log tells of them goes on from there.
pub trait Base {
    /// The group as it was saved; `None` if there is none of this name.
    fn group(&mut self, path: &GroupPath) -> Result<Option<SavedGroup>, Unreadable>;
}

/// No checkpoint.
impl Base for () {
    fn group(&mut self, _path: &GroupPath) -> Result<Option<SavedGroup>, Unreadable> {
        Ok(None)
    }
}

/// Why a group can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// What a log and a checkpoint hold.
#[derive(Debug)]
pub struct Recovered {
    /// The epoch of the store; `None` if it has none yet, or if history may have been lost: see
    /// [`Recovered::begin_epoch`].
    pub epoch: Option<Epoch>,
    /// What was read, and the joins without a leave.
    pub(crate) contents: Contents,
    /// How many records were read.
    pub records: u64,
    /// Where the valid part of the log ends.
    pub end: u64,
    /// How many bytes of a record stand there that a crash has interrupted: nobody was told of it.
    pub torn: u64,
    /// Where the last batch is. It may be one whose sync failed: what is there was read from the system's
    /// cache, and must be written again to be sure.
    pub last_batch: Option<Part>,
    /// How many items there are.
    pub items: u64,
    /// How many groups hold at least one.
    pub groups: u64,
    /// Where the checkpoint goes up to.
    pub(super) saved_to: u64,
    pub(super) log: LogEnd,
}

impl Recovered {
    /// The empty store of a new log.
    pub fn empty() -> Recovered {
        let replay = Replay::new(None, Vec::new()).expect("nothing can be damaged");
        replay.finish().expect("nothing can be damaged")
    }

    /// Gives the store a new epoch: it has it once this segment, which has no records, is durable. Before that nobody
    /// must be told of it.
    pub fn begin_epoch(&mut self, epoch: Epoch, salt: Salt) -> SegmentHeader {
        let log = &mut self.log;
        let number = log.next_segment;
        log.segments.push((number, log.position));
        log.next_segment = number.next();
        self.epoch = Some(epoch);
        let (start, batch) = (log.position, log.batch);
        let header = SegmentHeader { number, start, batch, epoch, salt, relaxed: false };
        log.current = Some(header);
        header
    }
}

/// A synced batch can't be read: something changed the file after it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A record is damaged.
    #[error(
        "the record at byte {} of {} is damaged or missing, and what was written later follows at byte {} of {}: \
         acknowledged changes are lost", at.offset, at.segment.file_name(), later.offset, later.segment.file_name()
    )]
    Record {
        /// Where the damaged bytes start.
        at: Place,
        /// Where something stands that was written after they were synced.
        later: Place,
    },
    /// A file is missing.
    #[error(
        "a part of the store is missing: no file of the log goes on at position {0}. Either files of the log are gone, or \
         the checkpoint is whose place they took"
    )]
    Missing(u64),
}

/// A place in a file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which file.
    pub segment: SegmentNumber,
    /// Where in it, in bytes.
    pub offset: u64,
}

impl Replay {
    /// Starts with what was found: a checkpoint, and the headers of all files of the log.
    pub fn new(checkpoint: Option<Checkpoint>, headers: Vec<SegmentHeader>) -> Result<Replay, Damage> {
        let mut replay = Replay::begin(checkpoint, headers);
        replay.damage.take().map_or(Ok(replay), Err)
    }

    /// The same, also if nothing can be read.
    pub(super) fn begin(checkpoint: Option<Checkpoint>, mut headers: Vec<SegmentHeader>) -> Replay {
        headers.sort_by_key(|header| header.number);
        let mut segments: Vec<_> = headers.iter().map(|header| (header.number, header.start)).collect();
        begin_in_order(&mut segments);
        let mut starts = segments.iter().map(|(_, start)| *start);
        headers.retain(|header| starts.next() == Some(header.start));
        let mut contents = Contents::default();
        let (mut position, mut batch) = (0, BatchNumber(1));
        let found = checkpoint.is_some();
        let saved = checkpoint.as_ref().map_or((0, 0), |checkpoint| (checkpoint.items, checkpoint.groups));
        if let Some(Checkpoint { state, next_group, .. }) = checkpoint {
            (position, batch) = (state.position, state.batch);
            contents.elsewhere = true;
            contents.next_number = next_group;
            contents.reserved = state.reserved;
            contents.joins = Joins::restored(state.last_join, state.joins);
            contents.custom = state.custom.into_iter().collect();
        }
        // What a later file begins at or before, is not asked for any more.
        let over = headers.iter().skip(1).take_while(|next| next.start <= position).count();
        let missing = headers.get(over).map_or(found, |first| first.start > position);
        Replay {
            contents,
            saved_to: position,
            saved,
            segments,
            headers,
            begun: over,
            records: 0,
            batch,
            batch_start: None,
            within_batch: false,
            closed: false,
            salt: None,
            pending: Vec::new(),
            position,
            broken: None,
            begun_record: 0,
            damage: missing.then_some(Damage::Missing(position)),
        }
    }

    /// What changes a group that was not where the change begins is taken, as far as it goes: what it begins with is
    /// lost.
    pub(super) fn take_what_does_not_fit(&mut self) {
        self.contents.takes_what_does_not_fit = true;
    }

    /// What is to be read next; `None` is the end.
    pub fn next_part(&mut self) -> Option<Part> {
        self.end_part();
        if self.damage.is_some() {
            return None;
        }
        let header = *self.headers.get(self.begun)?;
        let until = self.headers.get(self.begun + 1).map(|next| header.offset_of(next.start));
        self.begun += 1;
        self.salt = Some(header.salt);
        self.batch = self.batch.max(header.batch);
        (self.batch_start, self.within_batch) = (None, false);
        Some(Part { segment: header.number, from: header.offset_of(self.position), until })
    }

    /// Takes the next bytes of the part.
    pub fn push(&mut self, bytes: &[u8], base: &mut impl Base) -> Result<(), Unreadable> {
        if self.damage.is_some() {
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        let consumed = if self.broken.is_none() { self.read_records(base)? } else { 0 };
        let scanned = if self.broken.is_some() { self.scan_for_later_batch(consumed, false) } else { 0 };
        self.discard(consumed + scanned);
        Ok(())
    }

    /// What the log holds, unless a synced batch is damaged.
    pub fn finish(self) -> Result<Recovered, Damage> {
        match self.finish_anyway() {
            (recovered, None) => Ok(recovered),
            (_, Some(damage)) => Err(damage),
        }
    }

    /// What the log holds before the first damage.
    pub(super) fn finish_anyway(mut self) -> (Recovered, Option<Damage>) {
        if self.broken.is_none() && !self.pending.is_empty() {
            // The file ends in the middle of a record; or the length of that record is damaged, and whole
            // records follow within what it claims.
            self.broken = Some(self.position);
            self.begun_record = self.pending.len() as u64;
        }
        if self.broken.is_some() {
            self.scan_for_later_batch(0, true);
        }
        let end = match &self.damage {
            Some(Damage::Missing(position)) => *position,
            Some(Damage::Record { at, .. }) => self.position_of(*at),
            None => self.broken.unwrap_or(self.position),
        };
        let last = self.headers.last();
        let last_batch = last.zip(self.batch_start).filter(|_| self.damage.is_none());
        let last_batch = last_batch.map(|(header, start)| Part {
            segment: header.number,
            from: header.offset_of(start),
            until: Some(header.offset_of(end)),
        });
        let history_lost = last.is_some_and(|header| header.relaxed) && !self.closed;
        let (items, groups) = self.contents.count();
        let (saved_items, saved_groups) = self.saved;
        let (replaced_items, replaced_groups) = self.contents.replaced;
        let recovered = Recovered {
            epoch: last.filter(|_| !history_lost).map(|header| header.epoch),
            records: self.records,
            end,
            torn: self.begun_record,
            last_batch,
            items: (saved_items + items).saturating_sub(replaced_items),
            groups: (saved_groups + groups).saturating_sub(replaced_groups),
            saved_to: self.saved_to,
            log: LogEnd {
                segments: self.segments,
                next_segment: last.map_or(SegmentNumber(1), |header| header.number.next()),
                batch: self.batch,
                position: end,
                current: None,
            },
            contents: self.contents,
        };
        (recovered, self.damage)
    }

    /// Where in the log a place of a file is.
    fn position_of(&self, place: Place) -> u64 {
        let header = self.headers.iter().find(|header| header.number == place.segment);
        header.map_or(self.position, |header| header.start + place.offset - SegmentHeader::LEN as u64)
    }

    /// The part at hand has no more bytes. If another one follows, all of it must have been read.
    fn end_part(&mut self) {
        let Some(next) = self.headers.get(self.begun).filter(|_| self.damage.is_none()) else { return };
        let Some(at_hand) = self.begun.checked_sub(1).map(|at| self.headers[at]) else { return };
        let end = self.broken.unwrap_or(self.position);
        if self.salt == Some(at_hand.salt) && end != next.start {
            let at = Place { segment: at_hand.number, offset: at_hand.offset_of(end) };
            let later = Place { segment: next.number, offset: 0 };
            self.damage = Some(Damage::Record { at, later });
        }
        (self.broken, self.begun_record) = (None, 0);
        self.pending.clear();
    }

    /// Applies whole records from the front of `pending`; returns how many bytes they take.
    fn read_records(&mut self, base: &mut impl Base) -> Result<usize, Unreadable> {
        let mut consumed = 0;
        let Some(salt) = self.salt else { return Ok(0) };
        loop {
            let position = self.position + consumed as u64;
            let bytes = &self.pending[consumed..];
            match log::read(salt, bytes, position) {
                Step::Record { batch, last, record, len }
                    if batch >= self.batch && self.contents.apply(&record, base)? =>
                {
                    if batch > self.batch || !self.within_batch {
                        self.batch_start = Some(position);
                    }
                    self.closed = matches!(record, log::Record::Closed);
                    self.within_batch = !last;
                    self.batch = if last { batch.next() } else { batch };
                    self.records += 1;
                    consumed += len;
                }
                Step::More => return Ok(consumed),
                Step::Record { .. } | Step::Invalid => {
                    self.broken = Some(position);
                    self.begun_record = log::begun_len(bytes, position);
                    return Ok(consumed);
                }
            }
        }
    }

    /// Looks at every byte from `from` on for a valid record of a batch after the broken one: it was written
    /// after the broken one was synced. Returns how many bytes were looked at; a record may start in the rest.
    fn scan_for_later_batch(&mut self, from: usize, at_end: bool) -> usize {
        let Some((broken, salt)) = self.broken.zip(self.salt) else { return 0 };
        let Some(header) = self.begun.checked_sub(1).and_then(|at| self.headers.get(at)) else { return 0 };
        for start in from..self.pending.len() {
            let position = self.position + start as u64;
            match log::read(salt, &self.pending[start..], position) {
                Step::Record { batch, .. } if batch > self.batch => {
                    let place =
                        |position| Place { segment: header.number, offset: header.offset_of(position) };
                    self.damage = Some(Damage::Record { at: place(broken), later: place(position) });
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
