//! The embedded store's files: opening them after whatever happened, and writing the log and the checkpoint.

pub mod checkpoint;
mod folder;
mod log;
mod open;
pub mod repair;
mod writer;

use std::fmt::Debug;
use std::io;

pub use folder::Folder;
pub use log::Log;
pub use open::{OpenError, Opened, open, read};
pub(crate) use writer::{LogTask, write_log};

/// A folder that holds the store's files. What was written is durable only once it was synced; a name only once the
/// folder was. Clones are the same folder.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// A file in it.
    type File: DiskFile;

    /// The names of its files, in the order of their bytes.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file; `None` if there is none of this name.
    fn open(&self, name: &str) -> io::Result<Option<Self::File>>;

    /// Creates a file, or empties the one that is there.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name; one that has that name already is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; an error if there is none of this name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names of files durable.
    fn sync_names(&self) -> io::Result<()>;

    /// By how many bytes a file of the log grows at once, at least one: a sync that has no new place to write down is
    /// one write of the disk.
    fn growth(&self) -> u64 {
        1 << 20
    }
}

/// An open file of a [`Disk`]. It may be used by several threads at once.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes from `offset` on; 0 is the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. If it fails, a part of them may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// How many bytes it holds.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file off at `len`, or fills it up to there with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes what was written, and the file's length, durable (`fdatasync`). What was written before a sync that failed
    /// may be lost, also if a later one succeeds.
    fn sync(&self) -> io::Result<()>;
}

/// Reads on when a signal came between.
fn read_some(file: &impl DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(offset, buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
