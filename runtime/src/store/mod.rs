//! The embedded store's files: opening and recovering the log, and writing it.

mod folder;
mod open;
mod writer;

use std::io;

pub use folder::Folder;
pub use open::{OpenError, Opened, open};
pub(crate) use writer::write_log;

/// A folder that holds the log. What was written is durable only once it was synced; a name only once the folder was.
pub trait Disk: Send + 'static {
    /// A file in it.
    type File: LogFile;

    /// Opens a file; `None` if there is none of this name.
    fn open(&self, name: &str) -> io::Result<Option<Self::File>>;

    /// Creates a file, or empties the one that is there.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name; one that has that name already is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names of files durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file of the log.
pub trait LogFile: Send + 'static {
    /// Reads up to `buffer.len()` bytes from `offset` on; 0 is the end of the file.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file off at `len`.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Makes what was written, and the file's length, durable (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
}
