//! The log's folder on the real disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_core::log::SegmentNumber;

use super::checkpoint::CHECKPOINT_FILE;
use super::{Disk, DiskFile, OpenError};

/// A folder that this process alone uses, for as long as this value or one of its clones lives.
#[derive(Clone, Debug)]
pub struct Folder(Arc<Locked>);

#[derive(Debug)]
struct Locked {
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
        Ok(Folder(Arc::new(Locked { path: path.to_owned(), _lock: lock })))
    }

    /// Locks a folder that is there and holds something of a store; `None` of any other, which is left as it is.
    pub fn lock_store(path: &Path) -> Result<Option<Folder>, OpenError> {
        match holds_store(path) {
            Ok(true) => Folder::lock(path).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(OpenError::Io { doing: "read the folder", error }),
        }
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }
}

fn holds_store(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let is_log = |name: &str| SegmentNumber::of_file(name).is_some();
        if name == CHECKPOINT_FILE || name.to_str().is_some_and(is_log) {
            return Ok(true);
        }
    }
    Ok(false)
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

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0.path)? {
            let entry = entry?;
            // A name of other bytes is none that this program gave.
            if let Ok(name) = entry.file_name().into_string()
                && name != LOCK_FILE
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Option<File>> {
        match OpenOptions::new().read(true).write(true).open(self.path_of(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(self.path_of(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path_of(from), self.path_of(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path_of(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stays_locked_for_as_long_as_any_clone_lives() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::lock(place.path()).expect("nobody has it");
        let clone = folder.clone();
        drop(folder);
        assert!(matches!(Folder::lock(place.path()), Err(OpenError::InUse { .. })));
        drop(clone);
        Folder::lock(place.path()).expect("nobody has it any more");
    }

    #[test]
    fn a_folder_lists_its_files_and_no_more() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::lock(place.path()).expect("nobody has it");
        fs::create_dir(place.path().join("folder")).expect("another folder");
        for name in ["b", "c", "a"] {
            let file = folder.create(name).expect("a file");
            DiskFile::write_at(&file, 2, b"x").expect("there is room");
        }
        folder.rename("c", "d").expect("it is there");
        folder.remove("b").expect("it is there");
        assert!(folder.remove("b").is_err());
        assert_eq!(folder.list().expect("it can be read"), ["a", "d"]);
        let file = folder.open("d").expect("it can be read").expect("it is there");
        assert_eq!(DiskFile::len(&file).expect("it has a length"), 3);
    }
}
