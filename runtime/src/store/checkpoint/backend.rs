//! A file of a [`Disk`](crate::store::Disk) as the storage of a `redb` database.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::pages::Pages;
use crate::store::DiskFile;

/// A database's file. It locks nothing: the folder is this process's alone, and one database at a time uses a file.
#[derive(Debug)]
pub(super) struct Backend<F> {
    pub(super) pages: Pages<F>,
    pub(super) retired: Retired,
}

/// Set when a database is given up: what it does from then on, such as closing, no longer reaches its file, which
/// another may have opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Retired(Arc<AtomicBool>);

impl Retired {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Acquire) {
            true => Err(io::Error::other("it was given up after an error")),
            false => Ok(()),
        }
    }
}

impl<F: DiskFile> StorageBackend for Backend<F> {
    fn len(&self) -> io::Result<u64> {
        self.retired.check()?;
        self.pages.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.retired.check()?;
        self.pages.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.retired.check()?;
        self.pages.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.retired.check()?;
        self.pages.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.retired.check()?;
        self.pages.write(offset, data)
    }
}
