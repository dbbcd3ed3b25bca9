//! Opening a store: what the checkpoint and the log hold is put together again, and nothing is changed before it is known
//! to be whole.

use std::io;
use std::path::Path;

use headwater_core::log::{Epoch, HeaderError, Salt, SegmentHeader, SegmentNumber};
use headwater_core::name::GroupPath;
use headwater_core::store::saved::SavedGroup;
use headwater_core::store::{Base, Damage, Part, Recovered, Replay, Unreadable};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::log::Log;
use super::{Disk, DiskFile, read_some};

/// Why a store can't be opened. The sentences name no folder: the caller knows which it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "it is in use by another Headwater (process {holder}): stop that one, or give this one a `file_path` of its own"
    )]
    InUse {
        /// What the other process wrote about itself.
        holder: String,
    },
    /// The system refuses something.
    #[error("can't {doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A file of the log is of a format that can't be read, or its start is damaged.
    #[error("{file}: {error}. No data was changed")]
    Header {
        /// Its name.
        file: String,
        /// What it is.
        error: HeaderError,
    },
    /// The log was changed after it was written.
    #[error("{0}. No data was changed")]
    Damaged(#[from] Damage),
    /// The checkpoint can't be read.
    #[error("{error}. No data was changed")]
    Checkpoint {
        /// Why.
        #[from]
        error: CheckpointError,
    },
    /// A group that the log goes on with can't be read from the checkpoint.
    #[error("{0}. No data was changed")]
    Unreadable(#[from] Unreadable),
}

impl OpenError {
    /// What to do about damage of the store in this folder; nothing for other errors.
    pub fn hint(&self, folder: &Path) -> String {
        let damaged = match self {
            OpenError::Header { error, .. } => matches!(error, HeaderError::NotALog),
            OpenError::Checkpoint { error } => {
                matches!(error, CheckpointError::Damaged(_) | CheckpointError::Entry { .. })
            }
            OpenError::Damaged(_) | OpenError::Unreadable(_) => true,
            OpenError::InUse { .. } | OpenError::Io { .. } => false,
        };
        match damaged {
            true => format!(
                "; restore the folder from a backup, or run `headwater repair --data {}`, which says what would be lost",
                folder.display()
            ),
            false => String::new(),
        }
    }
}

/// A store, ready to be used.
#[derive(Debug)]
pub struct Opened<D: Disk> {
    /// Its log, to be written.
    pub log: Log<D>,
    /// Its checkpoint.
    pub checkpoint: Checkpoint<D>,
    /// What it holds.
    pub recovered: Recovered,
}

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;

/// Opens the store of a folder, to go on with it. An empty folder is an empty store. `random` is for the name of a new
/// history, if it needs one.
pub fn open<D: Disk>(disk: &D, random: [u8; 32]) -> Result<Opened<D>, OpenError> {
    let failed = |doing: &'static str| move |error| OpenError::Io { doing, error };
    let (checkpoint, mut recovered) = read(disk)?;
    if let Some(part) = recovered.last_batch {
        write_again(disk, part).map_err(failed("sync the log"))?;
    }
    disk.sync_names().map_err(failed("sync the folder"))?;
    let mut log = Log::new(disk.clone(), &disk.list().map_err(failed("read the folder"))?);
    if recovered.epoch.is_none() {
        let (epoch, rest) = random.split_first_chunk::<16>().expect("half of 32 bytes");
        let salt = Salt(*rest.first_chunk().expect("a quarter of 32 bytes"));
        let header = recovered.begin_epoch(Epoch::from_random(u128::from_le_bytes(*epoch)), salt);
        log.begin(&header, &[]).map_err(failed("begin the log"))?;
    }
    Ok(Opened { log, checkpoint, recovered })
}

/// Reads the store of a folder, as it is. Part of it may not be durable.
pub fn read<D: Disk>(disk: &D) -> Result<(Checkpoint<D>, Recovered), OpenError> {
    let files = disk.list().map_err(|error| OpenError::Io { doing: "read the folder", error })?;
    let headers = read_headers(disk, &files)?;
    let (checkpoint, found) = Checkpoint::open(disk.clone())?;
    let mut replay = Replay::new(found, headers)?;
    let mut base = FromCheckpoint(&checkpoint);
    while let Some(part) = replay.next_part() {
        read_part(disk, part, |bytes| Ok(replay.push(bytes, &mut base)?))?;
    }
    Ok((checkpoint, replay.finish()?))
}

/// The headers of all files of the log.
pub(super) fn read_headers<D: Disk>(disk: &D, files: &[String]) -> Result<Vec<SegmentHeader>, OpenError> {
    let segments = files.iter().filter_map(|name| SegmentNumber::of_file(name));
    segments.map(|number| read_header(disk, number)).collect()
}

pub(super) fn read_header<D: Disk>(disk: &D, number: SegmentNumber) -> Result<SegmentHeader, OpenError> {
    let mut bytes = [0; SegmentHeader::LEN];
    let mut filled = 0;
    let part = Part { segment: number, from: 0, until: Some(SegmentHeader::LEN as u64) };
    read_part(disk, part, |read| {
        bytes[filled..filled + read.len()].copy_from_slice(read);
        filled += read.len();
        Ok(())
    })?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) if header.number != number => Err(HeaderError::NotALog),
        decoded => decoded,
    };
    header.map_err(|error| OpenError::Header { file: number.file_name(), error })
}

/// Reads a part of a file, piece by piece; less if the file ends before it.
pub(super) fn read_part<D: Disk>(
    disk: &D,
    part: Part,
    mut take: impl FnMut(&[u8]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let failed = |error| OpenError::Io { doing: "read the log", error };
    let name = part.segment.file_name();
    let file =
        disk.open(&name).and_then(|file| file.ok_or(io::ErrorKind::NotFound.into())).map_err(failed)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = part.from;
    loop {
        let left = part.until.map_or(u64::MAX, |until| until.saturating_sub(offset));
        let most = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let len = read_some(&file, offset, &mut buffer[..most]).map_err(failed)?;
        if len == 0 {
            return Ok(());
        }
        take(&buffer[..len])?;
        offset += len as u64;
    }
}

/// What the last process wrote and did not get to sync was read like the rest, and is shown like the rest from now on:
/// so it must be as safe. If its sync failed, the system takes what it kept in memory for written: only writing it
/// again makes the next sync write it.
fn write_again<D: Disk>(disk: &D, part: Part) -> io::Result<()> {
    let file = disk.open(&part.segment.file_name())?.ok_or(io::ErrorKind::NotFound)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = part.from;
    let until = part.until.unwrap_or(u64::MAX);
    while offset < until {
        let most = usize::try_from(until - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        let len = read_some(&file, offset, &mut buffer[..most])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(offset, &buffer[..len])?;
        offset += len as u64;
    }
    file.sync()
}

/// The groups of a checkpoint that the log goes on with.
pub(super) struct FromCheckpoint<'a, D: Disk>(pub(super) &'a Checkpoint<D>);

impl<D: Disk> Base for FromCheckpoint<'_, D> {
    fn group(&mut self, path: &GroupPath) -> Result<Option<SavedGroup>, Unreadable> {
        self.0.load_group(path).map_err(|error| Unreadable(error.to_string()))
    }
}
