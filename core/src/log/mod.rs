//! The log on disk: what a batch of changes looks like as bytes, and what is left of it after a crash.
//!
//! A log is kept in segments: files with a [`SegmentHeader`] and then records, back to back. Places in it are counted from
//! the start of its first segment, without the headers. All numbers are little-endian.
//!
//! ```text
//! length    u32   bytes of the payload; the highest bit is set on the last record of a batch
//! crc32c    u32   of the segment's salt, length, batch, position and payload
//! batch     u64   number of the batch: all of a batch becomes durable with one sync
//! position  u64   where the record starts in the log, so that bytes of another place or an older
//!                 file that a crash left behind are never taken for it
//! payload         one `Record`
//! ```
//!
//! Batch n + 1 is written only after batch n is synced. So bytes that don't check out can be the torn end of
//! the last batch, and are cut off; but when a valid record of a *later* batch follows them, or a later segment, then a
//! synced batch is damaged, and [`crate::store::Replay`] refuses to go on. Behind the records of the last segment there may
//! be anything that is none: zeros, or what the file held when it was another segment.
//!
//! A batch may be written in several parts, each with a write of its own. All but the last are not synced: the sync of the
//! last one covers them. They carry the number of the batch that they are of, so what a crash loses of them, even if it
//! keeps what was written behind it, is the torn end of the last batch as well.

pub(crate) mod fields;
mod record;
mod segment;

use bytes::Bytes;

pub(crate) use record::Record;
pub use segment::{HeaderError, Salt, SegmentHeader, SegmentNumber};

use crate::rng::Uuid;

/// The number of a change within its group: 1, 2, 3, … Never given twice, not after a crash, not after the
/// group was emptied and filled again. 0 is the group before its first change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    pub(crate) fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

/// The number of a batch in the log: 1, 2, 3, … All of a batch becomes durable with one sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchNumber(pub u64);

impl BatchNumber {
    pub(crate) fn next(self) -> BatchNumber {
        BatchNumber(self.0 + 1)
    }
}

/// The number of a write to the log in this run: 1, 2, 3, …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteNumber(pub u64);

impl WriteNumber {
    pub(crate) fn next(self) -> WriteNumber {
        WriteNumber(self.0 + 1)
    }
}

/// One write to the log: a batch of changes, or, without a sync, a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What [`crate::Input::Persisted`] repeats once it is done.
    pub number: WriteNumber,
    /// The segment that is to be made, if this is the first write to it. What was written to the one before must be
    /// synced first, unless that has failed. It must be there with its header and these bytes, durably, or not at all.
    pub begins: Option<SegmentHeader>,
    /// The segment that it goes into.
    pub segment: SegmentNumber,
    /// Where in the segment's file.
    pub offset: u64,
    /// Its records, encoded; may be none.
    pub bytes: Bytes,
    /// Whether it is to be synced, with all that was written before. If not, writing it is enough.
    pub sync: bool,
}

/// The name of a store's history. It changes whenever a part of the history may have been lost, so that a
/// client that comes back with a revision knows whether that number still means the same.
pub type Epoch = Uuid;

/// Length of what stands before each payload.
const RECORD_HEADER: usize = 24;
/// Set in the length of a batch's last record: with it, a reader knows which batch the bytes behind are of.
const LAST_OF_BATCH: u32 = 1 << 31;
/// No record is longer; a length above it is damage.
const MAX_RECORD: usize = 1 << 28;

/// The records of one write, as they are gathered.
#[derive(Debug)]
pub(crate) struct BatchBytes {
    salt: Salt,
    bytes: Vec<u8>,
    last_record: usize,
}

impl BatchBytes {
    pub(crate) fn new(salt: Salt) -> BatchBytes {
        BatchBytes { salt, bytes: Vec::new(), last_record: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends one record of a batch; what is gathered starts at `position` in the log.
    pub(crate) fn append(&mut self, batch: BatchNumber, position: u64, record: &Record<'_>) {
        let start = self.bytes.len();
        self.last_record = start;
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&batch.0.to_le_bytes());
        self.bytes.extend_from_slice(&(position + start as u64).to_le_bytes());
        record.encode(&mut self.bytes);
        let payload = self.bytes.len() - start - RECORD_HEADER;
        assert!(payload < MAX_RECORD, "limits keep a record far below 256 MiB");
        self.set_length(u32::try_from(payload).expect("less than 256 MiB"));
    }

    /// Gives the bytes away: the batch goes on with the next write.
    pub(crate) fn leave_open(self) -> Bytes {
        self.bytes.into()
    }

    /// Marks the last record as the batch's last and gives the bytes away.
    pub(crate) fn seal(mut self) -> Bytes {
        if let Some(length) = self.bytes.get(self.last_record..self.last_record + 4) {
            self.set_length(u32::from_le_bytes(array(length)) | LAST_OF_BATCH);
        }
        self.bytes.into()
    }

    /// Writes the length field and the checksum of the last record.
    fn set_length(&mut self, length: u32) {
        let record = &mut self.bytes[self.last_record..];
        record[..4].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(self.salt, record);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The records in bytes that [`BatchBytes`] has made.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(array(bytes.get(..4)?)) & !LAST_OF_BATCH;
        let (record, rest) = bytes.split_at_checked(RECORD_HEADER + length as usize)?;
        bytes = rest;
        Record::decode(&record[RECORD_HEADER..])
    })
}

/// What stands at a place in the log.
pub(crate) enum Step<'a> {
    /// A record, `len` bytes long with its header.
    Record { batch: BatchNumber, last: bool, record: Record<'a>, len: usize },
    /// The record goes on past the bytes that are there.
    More,
    /// Something else.
    Invalid,
}

/// What stands at the front of `bytes`, which start at `position` in the log.
pub(crate) fn read(salt: Salt, bytes: &[u8], position: u64) -> Step<'_> {
    let Some(header) = bytes.get(..RECORD_HEADER) else { return Step::More };
    if u64::from_le_bytes(array(&header[16..24])) != position {
        return Step::Invalid;
    }
    let length = u32::from_le_bytes(array(&header[..4]));
    let payload = (length & !LAST_OF_BATCH) as usize;
    if payload >= MAX_RECORD {
        return Step::Invalid;
    }
    let len = RECORD_HEADER + payload;
    let Some(whole) = bytes.get(..len) else { return Step::More };
    if u32::from_le_bytes(array(&header[4..8])) != checksum(salt, whole) {
        return Step::Invalid;
    }
    let batch = BatchNumber(u64::from_le_bytes(array(&header[8..16])));
    let last = length & LAST_OF_BATCH != 0;
    match Record::decode(&whole[RECORD_HEADER..]) {
        Some(record) => Step::Record { batch, last, record, len },
        None => Step::Invalid,
    }
}

/// How many bytes a record has that was begun at `position`, where these bytes are; 0 if none was.
pub(crate) fn begun_len(bytes: &[u8], position: u64) -> u64 {
    let Some(header) = bytes.get(..RECORD_HEADER) else { return 0 };
    let payload = u64::from(u32::from_le_bytes(array(&header[..4])) & !LAST_OF_BATCH);
    let begun = u64::from_le_bytes(array(&header[16..24])) == position && payload < MAX_RECORD as u64;
    if begun { RECORD_HEADER as u64 + payload } else { 0 }
}

/// The checksum of a record: of the salt and everything but itself.
fn checksum(salt: Salt, record: &[u8]) -> u32 {
    [&record[..4], &record[8..]].into_iter().fold(crc32c::crc32c(&salt.0), crc32c::crc32c_append)
}

/// A slice whose length is known, as an array.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller took exactly N bytes")
}
