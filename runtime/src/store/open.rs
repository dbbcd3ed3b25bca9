//! Opening the log: a new one is made whole or not at all; one that is there is read back.

use std::io;

use headwater_core::log::{FileHeader, HeaderError};
use headwater_core::store::{Damage, Recovered, Replay};

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
    /// The log is of a format that can't be read.
    #[error("{LOG_FILE}: {0}. Nothing was changed")]
    Header(#[from] HeaderError),
    /// The log was changed after it was written.
    #[error(
        "{LOG_FILE}: {0}. Nothing was changed: restore the folder from a backup, or move it away to start empty"
    )]
    Damaged(#[from] Damage),
}

/// A log, ready to be written.
#[derive(Debug)]
pub struct Opened<F> {
    /// The log's file.
    pub file: F,
    /// What it holds.
    pub recovered: Recovered,
}

/// The log's only segment.
const LOG_FILE: &str = "00000001.log";
/// Where a new segment is made, until it is whole.
const NEW_LOG_FILE: &str = "new.log";
/// How much is read at once.
const READ_BYTES: usize = 1 << 20;

/// Opens the log of a folder, or makes one that starts with `header`.
pub fn open<D: Disk>(disk: &D, header: FileHeader) -> Result<Opened<D::File>, OpenError> {
    let failed = |doing: &'static str| move |error| OpenError::Io { doing, error };
    match disk.open(LOG_FILE).map_err(failed("open the log"))? {
        Some(file) => {
            let recovered = replay(&file)?;
            file.set_len(recovered.end).map_err(failed("cut off the torn end of the log"))?;
            make_durable(&file, recovered.last_batch, recovered.end)
                .and_then(|()| disk.sync_names())
                .map_err(failed("sync the log"))?;
            Ok(Opened { file, recovered })
        }
        None => {
            let file = create(disk, header).map_err(failed("create the log"))?;
            Ok(Opened { file, recovered: Recovered::empty(header) })
        }
    }
}

/// What the last process wrote and did not get to sync was read like the rest, and is shown like the rest from now on:
/// so it must be as safe. If its sync failed, the system takes what it kept in memory for written: only writing it
/// again makes the next sync write it.
fn make_durable(file: &impl DiskFile, last_batch: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = last_batch;
    while offset < end {
        let most = usize::try_from(end - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        let len = read_some(file, offset, &mut buffer[..most])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(offset, &buffer[..len])?;
        offset += len as u64;
    }
    file.sync()
}

fn create<D: Disk>(disk: &D, header: FileHeader) -> io::Result<D::File> {
    let file = disk.create(NEW_LOG_FILE)?;
    file.write_at(0, &header.encode())?;
    file.sync()?;
    disk.rename(NEW_LOG_FILE, LOG_FILE)?;
    disk.sync_names()?;
    Ok(file)
}

fn replay(file: &impl DiskFile) -> Result<Recovered, OpenError> {
    let mut header = [0; FileHeader::LEN];
    let mut buffer = vec![0; READ_BYTES];
    let mut replay = None;
    let mut offset = 0;
    loop {
        let space = if replay.is_none() { &mut header[..] } else { &mut buffer[..] };
        let len =
            read_some(file, offset, space).map_err(|error| OpenError::Io { doing: "read the log", error })?;
        match &mut replay {
            None if len == header.len() => replay = Some(Replay::open(&header)?),
            None => return Err(HeaderError::NotALog.into()),
            Some(replay) if len > 0 => replay.push(&buffer[..len]),
            Some(_) => break,
        }
        offset += len as u64;
    }
    let Some(replay) = replay else { return Err(HeaderError::NotALog.into()) };
    Ok(replay.finish()?)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use headwater_core::config::{CoreConfig, Limits};
    use headwater_core::key::WorkerKey;
    use headwater_core::log::Salt;
    use headwater_core::rng::Uuid;
    use headwater_core::time::{Mono, Now, WallMs};
    use headwater_core::wire::worker;
    use headwater_core::{Core, Effect, Input};

    use super::*;

    /// A disk with the log in it. Clones are the same disk.
    #[derive(Clone, Debug, Default)]
    struct FakeDisk(Arc<Mutex<FakeLog>>);

    #[derive(Debug, Default)]
    struct FakeLog {
        /// What is read: the system's memory.
        cached: Vec<u8>,
        /// What a power loss leaves.
        safe: Vec<u8>,
        /// What a sync writes. A sync that fails takes it for written, as Linux does.
        dirty: Vec<(usize, Vec<u8>)>,
    }

    impl FakeDisk {
        fn log(&self) -> MutexGuard<'_, FakeLog> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn fail_sync(&self) {
            self.log().dirty.clear();
        }

        fn lose_power(&self) {
            let mut log = self.log();
            log.dirty.clear();
            log.cached = log.safe.clone();
        }
    }

    impl Disk for FakeDisk {
        type File = FakeDisk;

        fn list(&self) -> io::Result<Vec<String>> {
            Ok(vec![LOG_FILE.to_owned()])
        }

        fn open(&self, _name: &str) -> io::Result<Option<FakeDisk>> {
            Ok(Some(self.clone()).filter(|disk| !disk.log().cached.is_empty()))
        }

        fn create(&self, _name: &str) -> io::Result<FakeDisk> {
            Ok(self.clone())
        }

        fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
            Ok(())
        }

        fn remove(&self, _name: &str) -> io::Result<()> {
            Ok(())
        }

        fn sync_names(&self) -> io::Result<()> {
            Ok(())
        }
    }

    impl DiskFile for FakeDisk {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let log = self.log();
            let rest = &log.cached[usize::try_from(offset).expect("a small log")..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let (mut log, offset) = (self.log(), usize::try_from(offset).expect("a small log"));
            let end = log.cached.len().max(offset + bytes.len());
            log.cached.resize(end, 0);
            log.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
            log.dirty.push((offset, bytes.to_vec()));
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.log().cached.len() as u64)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.log().cached.resize(usize::try_from(len).expect("a small log"), 0);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            let mut log = self.log();
            let len = log.cached.len();
            log.safe.resize(len, 0);
            for (offset, bytes) in std::mem::take(&mut log.dirty) {
                log.safe[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            Ok(())
        }
    }

    fn open(disk: &FakeDisk) -> Opened<FakeDisk> {
        super::open(disk, FileHeader { epoch: Uuid::from_random(7), salt: Salt([7; 8]) })
            .expect("the log can be opened")
    }

    /// Opens the store and writes an item, without a sync.
    fn write(disk: &FakeDisk, item: &str, bytes: usize) {
        let Opened { file, recovered } = open(disk);
        let now = Now { mono: Mono(0), wall: WallMs(1) };
        let mut core = Core::recovered(CoreConfig::default(), [1; 32], now, recovered);
        let data = "x".repeat(bytes);
        let frame = format!(
            r#"{{"type":"invokefunction","function_id":"stream::set",
                 "data":{{"stream_name":"s","group_id":"g","item_id":"{item}","data":"{data}"}}}}"#
        );
        let frame = worker::parse(&frame, &Limits::default());
        let mut effects = Vec::new();
        core.handle(now, Input::WorkerFrame { worker: WorkerKey(1), frame }, &mut effects);
        for effect in effects {
            if let Effect::Persist(batch) = effect {
                file.write_at(batch.position, &batch.bytes).expect("the disk takes it");
            }
        }
    }

    #[test]
    fn what_a_failed_sync_left_in_memory_only_is_safe_once_the_store_is_open() {
        let disk = FakeDisk::default();
        write(&disk, "first", 10);
        open(&disk);
        write(&disk, "last", 3 * READ_BYTES);
        disk.fail_sync();
        assert_eq!(open(&disk).recovered.items(), 2, "both can be read");
        disk.lose_power();
        assert_eq!(open(&disk).recovered.items(), 2, "and what was read once is there for good");
    }
}
