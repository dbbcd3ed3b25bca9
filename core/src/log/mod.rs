//! The log on disk: what a batch of changes looks like as bytes, and what is left of it after a crash.
//!
//! A log file is a [`FileHeader`] and then records, back to back. All numbers are little-endian.
//!
//! ```text
//! length    u32   bytes of the payload; the highest bit is set on the last record of a batch
//! crc32c    u32   of the log's salt, length, batch, position and payload
//! batch     u64   number of the batch: all of a batch becomes durable with one sync
//! position  u64   where the record starts in the log, so that bytes of another place or an older
//!                 file that a crash left behind are never taken for it
//! payload         one `Record`
//! ```
//!
//! Batch n + 1 is written only after batch n is synced. So bytes that don't check out can be the torn end of
//! the last batch, and are cut off; but when a valid record of a *later* batch follows them, then a synced
//! batch is damaged, and [`crate::store::Replay`]
//! refuses to go on.
//!
//! A batch may be written in several parts. All but the last hold only what nobody waits for, and are not synced:
//! the sync of the last one covers them. They carry the number of the batch that they begin, so what a crash loses of
//! them, even if it keeps what was written behind it, is the torn end of the last batch as well.

mod record;

use std::fmt;

use bytes::Bytes;

pub(crate) use record::Record;

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

/// The number of a batch of changes: 1, 2, 3, … Batch 0 is the empty past, durable from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchNumber(pub u64);

impl BatchNumber {
    pub(crate) fn next(self) -> BatchNumber {
        BatchNumber(self.0 + 1)
    }

    pub(crate) fn previous(self) -> BatchNumber {
        BatchNumber(self.0 - 1)
    }
}

/// One write to the log: a batch of changes, or, without a sync, the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number that [`crate::Input::Persisted`] repeats: what is durable once this is done. Without a sync that is
    /// what was durable before.
    pub number: BatchNumber,
    /// Where its bytes go, counted from the start of the log.
    pub position: u64,
    /// Its records, encoded.
    pub bytes: Bytes,
    /// Whether it is to be synced, with all that was written before. If not, writing it is enough: nobody waits for
    /// anything in it.
    pub sync: bool,
}

/// The name of a store's history. It changes whenever a part of the history may have been lost, so that a
/// client that comes back with a revision knows whether that number still means the same.
pub type Epoch = Uuid;

/// The start of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The epoch of the store.
    pub epoch: Epoch,
    /// Goes into the checksum of every record.
    pub salt: Salt,
}

/// A random number of a log that nobody outside is told. With it under the checksums, no name or value that a
/// client sends can look like a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 8]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

/// Why the start of a file is not the header of a log that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a log, or a damaged one.
    #[error(
        "this is not a Headwater log, or its start is damaged: restore the folder from a backup, or move it away to \
         start empty"
    )]
    NotALog,
    /// Written by a newer Headwater.
    #[error(
        "the log has format version {0}, this program reads version {FORMAT_VERSION}: use a newer Headwater"
    )]
    Newer(u32),
}

const MAGIC: &[u8; 8] = b"HEADWATR";
const FORMAT_VERSION: u32 = 1;

impl FileHeader {
    /// Length in bytes; the first record starts here.
    pub const LEN: usize = 40;

    /// The header as bytes: magic, version, epoch, salt, CRC32C of the four.
    pub fn encode(&self) -> [u8; FileHeader::LEN] {
        let mut bytes = [0; FileHeader::LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.epoch.to_bytes());
        bytes[28..36].copy_from_slice(&self.salt.0);
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header back.
    pub fn decode(bytes: &[u8; FileHeader::LEN]) -> Result<FileHeader, HeaderError> {
        if &bytes[..8] != MAGIC {
            return Err(HeaderError::NotALog);
        }
        let version = u32::from_le_bytes(array(&bytes[8..12]));
        if version > FORMAT_VERSION {
            return Err(HeaderError::Newer(version));
        }
        if version != FORMAT_VERSION
            || u32::from_le_bytes(array(&bytes[36..])) != crc32c::crc32c(&bytes[..36])
        {
            return Err(HeaderError::NotALog);
        }
        let (epoch, salt) = (Uuid::from_bytes(array(&bytes[12..28])), Salt(array(&bytes[28..36])));
        Ok(FileHeader { epoch, salt })
    }
}

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

    /// Appends one record to the batch `number`, which starts at `position` in the log.
    pub(crate) fn append(&mut self, number: BatchNumber, position: u64, record: &Record<'_>) {
        let start = self.bytes.len();
        self.last_record = start;
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&number.0.to_le_bytes());
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

/// The checksum of a record: of the salt and everything but itself.
fn checksum(salt: Salt, record: &[u8]) -> u32 {
    [&record[..4], &record[8..]].into_iter().fold(crc32c::crc32c(&salt.0), crc32c::crc32c_append)
}

/// A slice whose length is known, as an array.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller took exactly N bytes")
}
