//! The checkpoint: all groups as they were saved last, in one file, beside the log of what came after.
//!
//! It is a `redb` database. Each of its transactions is committed in two steps (all but the header, and then the header),
//! with the free space written down: so what a crash leaves can be opened at once, and a sync that fails loses nothing that
//! was there before it.

mod backend;
mod error;
mod inspect;
mod pages;
mod scan;
mod tables;
#[cfg(test)]
mod tests;
mod threads;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_core::name::{GroupName, GroupPath, StreamName};
use headwater_core::store::saved::{Checkpoint as Found, Save, SavedGroup};
use redb::{Database, ReadableDatabase};

use backend::{Backend, Retired};
pub use error::CheckpointError;
pub(super) use inspect::{Inspected, Lost};
use pages::Pages;
pub use scan::Scan;
pub(crate) use threads::{run_loader, run_saver};

use super::{Disk, DiskFile};

/// The checkpoint's file.
pub const CHECKPOINT_FILE: &str = "checkpoint.redb";
/// Where the first checkpoint is made, until it is finished.
pub(super) const NEW_FILE: &str = "checkpoint.new";
/// The version of the tables. That of their entries is the core's.
const VERSION: u64 = 1;
/// How much of its file the database keeps in memory. What is read often is in the core's cache.
const CACHE_BYTES: usize = 32 << 20;

/// The checkpoint of a folder. Clones are the same; it may be read while it is written.
#[derive(Debug)]
pub struct Checkpoint<D>(Arc<Shared<D>>);

impl<D> Clone for Checkpoint<D> {
    fn clone(&self) -> Checkpoint<D> {
        Checkpoint(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<D> {
    disk: D,
    place: Mutex<Place>,
}

/// The file, and the database in it.
#[derive(Debug)]
struct Place {
    file: CurrentFile,
    /// `None` until it is used the first time, and after an error.
    database: Option<Arc<OpenDatabase>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CurrentFile {
    /// Nothing was saved yet.
    None,
    /// The first checkpoint is being made.
    New,
    /// It has its name, which may not be durable.
    Renamed,
    /// It has its name for good.
    Named,
}

impl<D: Disk> Checkpoint<D> {
    /// Opens the checkpoint of a folder, and says what it holds; `None` if none was finished yet. What is left of a first
    /// one that was not finished is removed.
    pub fn open(disk: D) -> Result<(Checkpoint<D>, Option<Found>), CheckpointError> {
        if disk.list()?.iter().any(|name| name == NEW_FILE) {
            disk.remove(NEW_FILE)?;
        }
        let checkpoint = Checkpoint::at(disk)?;
        let contents = checkpoint.contents()?;
        Ok((checkpoint, contents))
    }

    /// The checkpoint of a folder, whatever may be wrong with it.
    pub(super) fn at(disk: D) -> Result<Checkpoint<D>, CheckpointError> {
        let found = disk.open(CHECKPOINT_FILE)?.is_some();
        let file = if found { CurrentFile::Named } else { CurrentFile::None };
        let place = Mutex::new(Place { file, database: None });
        Ok(Checkpoint(Arc::new(Shared { disk, place })))
    }

    /// What it is as a whole; `None` if there is none.
    pub(super) fn contents(&self) -> Result<Option<Found>, CheckpointError> {
        self.read(|database| tables::contents(&database.begin_read()?))
    }

    /// Writes a part of a checkpoint. It is durable when this returns; if it fails, some of its groups or all may be
    /// there, each as a whole, and may be written once more. The first checkpoint is there after a crash once its last part was written.
    pub fn save(&self, save: &Save) -> Result<(), CheckpointError> {
        let database = match self.database()? {
            Some(database) => database,
            None => self.create()?,
        };
        self.run(&database, |database| tables::save(database, save))?;
        if save.finish.is_some() { self.name() } else { Ok(()) }
    }

    /// Reads a group; `None` if it was never saved.
    pub fn load_group(&self, path: &GroupPath) -> Result<Option<SavedGroup>, CheckpointError> {
        Ok(self.read_again(|database| tables::group(&database.begin_read()?, path))?.flatten())
    }

    /// The names of all groups of a stream, or of all streams, that hold an item: in byte order, and of `max_bytes` at
    /// most.
    pub fn load_names(
        &self,
        stream: Option<&StreamName>,
        max_bytes: usize,
    ) -> Result<Vec<(StreamName, Vec<GroupName>)>, CheckpointError> {
        let names = |database: &Database| tables::names(&database.begin_read()?, stream, max_bytes);
        Ok(self.read_again(names)?.unwrap_or_default())
    }

    /// All groups with their items, as they are saved at this moment.
    pub fn scan(&self) -> Result<Scan, CheckpointError> {
        self.scan_range(("", ""), None)
    }

    /// The same for those from a stream and group on, up to others, in byte order.
    pub fn scan_range(
        &self,
        from: (&str, &str),
        until: Option<(&str, &str)>,
    ) -> Result<Scan, CheckpointError> {
        match self.database()? {
            Some(database) => self.run(&database, |_| Scan::new(database.clone(), from, until)),
            None => Ok(Scan::empty()),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, CheckpointError>,
    ) -> Result<Option<T>, CheckpointError> {
        self.database()?.map(|database| self.run(&database, read)).transpose()
    }

    /// Reads once more if the database was given up meanwhile, for a save that failed: another one can be read.
    fn read_again<T>(
        &self,
        read: impl Fn(&Database) -> Result<T, CheckpointError>,
    ) -> Result<Option<T>, CheckpointError> {
        self.read(&read).or_else(|error| if error.is_final() { self.read(&read) } else { Err(error) })
    }

    /// Uses the database, and gives it up if it is of no more use: the next use opens it again.
    fn run<T>(
        &self,
        database: &Arc<OpenDatabase>,
        work: impl FnOnce(&Database) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        let result = database.run(work);
        if result.as_ref().is_err_and(CheckpointError::is_final) {
            database.retired.set();
            let place = &mut self.place();
            if place.database.as_ref().is_some_and(|current| Arc::ptr_eq(current, database)) {
                place.database = None;
            }
        }
        result
    }

    /// The database; `None` if there is none yet.
    fn database(&self) -> Result<Option<Arc<OpenDatabase>>, CheckpointError> {
        let place = &mut *self.place();
        if place.database.is_none() {
            let name = match place.file {
                CurrentFile::None => return Ok(None),
                CurrentFile::New => NEW_FILE,
                CurrentFile::Renamed | CurrentFile::Named => CHECKPOINT_FILE,
            };
            let file = self.0.disk.open(name)?;
            let file = file.ok_or_else(|| CheckpointError::Damaged(format!("{name} was removed")))?;
            if file.is_empty()? {
                return Err(CheckpointError::Damaged("it is empty".to_owned()));
            }
            place.database = Some(OpenDatabase::open(file, tables::check_version)?);
        }
        Ok(place.database.clone())
    }

    fn create(&self) -> Result<Arc<OpenDatabase>, CheckpointError> {
        let file = self.0.disk.create(NEW_FILE)?;
        let database = OpenDatabase::open(file, tables::create)?;
        let place = &mut *self.place();
        place.file = CurrentFile::New;
        place.database = Some(database.clone());
        Ok(database)
    }

    /// Gives the first checkpoint its name.
    fn name(&self) -> Result<(), CheckpointError> {
        let disk = &self.0.disk;
        if self.place().file == CurrentFile::New {
            disk.rename(NEW_FILE, CHECKPOINT_FILE)?;
            self.place().file = CurrentFile::Renamed;
        }
        if self.place().file == CurrentFile::Renamed {
            disk.sync_names()?;
            self.place().file = CurrentFile::Named;
        }
        Ok(())
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A database in use.
#[derive(Debug)]
struct OpenDatabase {
    /// There until it is dropped.
    database: Option<Database>,
    retired: Retired,
}

impl OpenDatabase {
    fn open<F: DiskFile>(
        file: F,
        check: impl FnOnce(&Database) -> Result<(), CheckpointError>,
    ) -> Result<Arc<OpenDatabase>, CheckpointError> {
        let retired = Retired::default();
        let backend = Backend { pages: Pages::new(file), retired: retired.clone() };
        let open = || {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES).set_repair_callback(|repair| {
                let percent = repair.progress() * 100.0;
                tracing::warn!("the checkpoint was not closed well: all of it is read ({percent:.0} %)");
            });
            Ok(builder.create_with_backend(backend)?)
        };
        let database = Some(guarded(open)?);
        let opened = OpenDatabase { database, retired };
        opened.run(check).inspect_err(|_| opened.retired.set())?;
        Ok(Arc::new(opened))
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        match &self.database {
            Some(database) => guarded(|| work(database)),
            None => Err(CheckpointError::Damaged("it is closed".to_owned())),
        }
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        let database = self.database.take();
        if let Err(error) = guarded(|| {
            drop(database);
            Ok(())
        }) {
            tracing::warn!(%error, "the checkpoint could not be closed well");
        }
    }
}

/// Does something with a database. It trusts its own file, and what it then finds in one that is damaged may surprise it:
/// a panic there is an error like others.
fn guarded<T>(work: impl FnOnce() -> Result<T, CheckpointError>) -> Result<T, CheckpointError> {
    let outer = EXPECTS_PANIC.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    EXPECTS_PANIC.set(outer);
    done.unwrap_or_else(|panic| Err(CheckpointError::of_panic(&*panic)))
}

thread_local! {
    /// Whether a panic of this thread is an error of the checkpoint's.
    static EXPECTS_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread becomes an error that is told: whoever prints panics can leave it out.
pub fn expects_panic() -> bool {
    EXPECTS_PANIC.get()
}
