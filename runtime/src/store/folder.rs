//! The log's folder on the real disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Disk, LogFile, OpenError};

/// A folder that this process alone uses, for as long as this value lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Its lock goes with the file handle, so also with the process, however that ends.
    _lock: File,
}

const LOCK_FILE: &str = "lock";

impl Folder {
    /// Makes the folder if it is not there, and locks it against other processes.
    pub fn lock(path: &Path) -> Result<Folder, OpenError> {
        let failed = |doing: &'static str| move |error| OpenError::Io { doing, error };
        create_durably(path).map_err(failed("create the folder"))?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(failed("write in the folder"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only to help a person; whoever holds the lock may not have written it yet.
                let _ = lock.read_to_string(&mut holder);
                return Err(OpenError::InUse { holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock the folder")(error)),
        }
        lock.set_len(0).map_err(failed("write in the folder"))?;
        write!(lock, "{}", std::process::id()).map_err(failed("write in the folder"))?;
        Ok(Folder { path: path.to_owned(), _lock: lock })
    }
}

/// Makes a folder and those above it that are missing, and makes their names durable.
fn create_durably(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(path)?;
    for folder in missing {
        let parent =
            folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Disk for Folder {
    type File = File;

    fn open(&self, name: &str) -> io::Result<Option<File>> {
        match OpenOptions::new().read(true).write(true).open(self.path.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl LogFile for File {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
