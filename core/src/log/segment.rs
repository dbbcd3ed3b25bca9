//! The files that a log is kept in.

use std::fmt;

use super::{BatchNumber, Epoch, array};

/// The number of a segment: 1, 2, 3, … Never given twice, also not to one that replaces one that could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentNumber(pub u32);

impl SegmentNumber {
    pub(crate) fn next(self) -> SegmentNumber {
        SegmentNumber(self.0 + 1)
    }

    /// The name of its file.
    pub fn file_name(self) -> String {
        format!("{:08}.log", self.0)
    }

    /// The segment that a file of this name is; `None` if it is something else.
    pub fn of_file(name: &str) -> Option<SegmentNumber> {
        let number = SegmentNumber(name.strip_suffix(".log")?.parse().ok()?);
        (number.file_name() == name).then_some(number)
    }
}

/// The start of a segment.
///
/// What older segments hold at [`SegmentHeader::start`] or behind it does not count; before it, all of it does. So a new
/// segment goes on where the last one was full, and it also fences off one whose end can't be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number.
    pub number: SegmentNumber,
    /// Where in the log its first record is. A record at this position stands right behind the header.
    pub start: u64,
    /// The batch that its first record is of, or one before that.
    pub batch: BatchNumber,
    /// The store's history.
    pub epoch: Epoch,
    /// Goes into the checksum of every record in it.
    pub salt: Salt,
    /// Whether changes in it were acknowledged before they were synced: then the end of it may be lost in a crash.
    pub relaxed: bool,
}

/// A random number of a segment that nobody outside is told. With it under the checksums, no name or value that a client
/// sends can look like a record, and neither can what is left in a file that was another segment before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 8]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

/// Why the start of a file is not the header of a segment that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a log, or a damaged one.
    #[error("this is not a Headwater log, or its start is damaged")]
    NotALog,
    /// Written by a newer Headwater.
    #[error(
        "the log has format version {0}, this program reads version {FORMAT_VERSION}: use a newer Headwater"
    )]
    Newer(u32),
    /// Written by a Headwater before the first release.
    #[error(
        "the log has format version {0}, which was in use before the first release; this program reads version \
         {FORMAT_VERSION}: move the folder away to start empty"
    )]
    Older(u32),
}

const MAGIC: &[u8; 8] = b"HEADWATR";
/// Version 2 keeps a log in segments.
const FORMAT_VERSION: u32 = 2;
const RELAXED: u32 = 1;

impl SegmentHeader {
    /// Length in bytes; the first record starts here.
    pub const LEN: usize = 64;

    /// Where in its file a position of the log is.
    pub fn offset_of(&self, position: u64) -> u64 {
        SegmentHeader::LEN as u64 + (position - self.start)
    }

    /// The header as bytes: magic, version, flags, number, start, batch, epoch, salt, CRC32C of them all.
    pub fn encode(&self) -> [u8; SegmentHeader::LEN] {
        let mut bytes = [0; SegmentHeader::LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let flags: u32 = if self.relaxed { RELAXED } else { 0 };
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.number.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.start.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.batch.0.to_le_bytes());
        bytes[36..52].copy_from_slice(&self.epoch.to_bytes());
        bytes[52..60].copy_from_slice(&self.salt.0);
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header back.
    pub fn decode(bytes: &[u8; SegmentHeader::LEN]) -> Result<SegmentHeader, HeaderError> {
        if &bytes[..8] != MAGIC {
            return Err(HeaderError::NotALog);
        }
        let number = |at: usize| u32::from_le_bytes(array(&bytes[at..at + 4]));
        let long = |at: usize| u64::from_le_bytes(array(&bytes[at..at + 8]));
        let version = number(8);
        // If it is one of this version but for these four bytes, they are what is damaged.
        let mut this_version = *bytes;
        this_version[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let whole = number(60) == crc32c::crc32c(&this_version[..60]);
        match version {
            FORMAT_VERSION if whole => {}
            newer if newer > FORMAT_VERSION && !whole => return Err(HeaderError::Newer(newer)),
            older if older < FORMAT_VERSION && !whole => return Err(HeaderError::Older(older)),
            _ => return Err(HeaderError::NotALog),
        }
        Ok(SegmentHeader {
            number: SegmentNumber(number(16)),
            start: long(20),
            batch: BatchNumber(long(28)),
            epoch: Epoch::from_bytes(array(&bytes[36..52])),
            salt: Salt(array(&bytes[52..60])),
            relaxed: number(12) & RELAXED != 0,
        })
    }
}
