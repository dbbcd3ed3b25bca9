//! A disk that forgets what was not synced when its machine loses power, and that fails when it is told to.

mod contents;
mod fault;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater::store::{Disk, DiskFile};

use crate::power::Power;
use crate::random::Random;

use contents::{Change, Contents};
use fault::{Failure, Faults, Operation};
pub use fault::{Fault, FaultKind};
use names::{NameChange, Names};

/// A disk. Clones are the same disk: it outlives the processes that use it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    power: Power,
    syncing: Syncing,
    growth: u64,
}

/// What a sync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncing {
    /// It makes what was written durable.
    Honest,
    /// It says so and does nothing, be it a file or the names: what leaving out every sync amounts to.
    Lying,
    /// That of a file does nothing: what leaving out the `fdatasync` amounts to.
    NotFiles,
    /// That of the names does nothing: what leaving out the sync of the folder amounts to.
    NotNames,
    /// That of a new segment of the log does nothing if something has failed before: a fence that may not be there.
    NotFences,
    /// One that fails is simply tried again: what writing on in a segment that has failed amounts to.
    Again,
}

#[derive(Debug, Default)]
struct State {
    /// By number, as names come and go.
    files: Vec<Contents>,
    names: Names,
    faults: Faults,
    /// Something has failed since the last segment of the log was begun.
    fence_is_due: bool,
}

impl SimDisk {
    /// An empty disk, which stops working when its machine's power is off.
    pub fn new(power: Power, syncing: Syncing) -> SimDisk {
        SimDisk { state: Arc::default(), power, syncing, growth: 4_096 }
    }

    /// The same disk, on which files of the log grow by so many bytes at once.
    pub fn growing_by(self, growth: u64) -> SimDisk {
        SimDisk { growth, ..self }
    }

    /// What a power loss leaves: all that was synced, and of the rest whatever `random` draws: nothing, the first
    /// part with its last write torn, or any of the sectors. Changes of names survive in order, as in a journal.
    pub fn crash(&self, random: &mut Random) {
        let state = &mut *self.state();
        for file in &mut state.files {
            file.crash(random);
        }
        state.names.crash(random);
        // Nobody has a file open any more, so one without a name is gone.
        let mut named = vec![false; state.files.len()];
        state.names.now.values().for_each(|file| named[*file] = true);
        for (file, _) in state.files.iter_mut().zip(named).filter(|(_, named)| !named) {
            *file = Contents::default();
        }
    }

    /// Lets something go wrong, beside what goes wrong already.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Ends whatever goes wrong.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How many operations have failed so far, for want of anything but power.
    pub fn failed(&self) -> u64 {
        self.state().faults.failed
    }

    /// How many operations it was asked for so far while there was power; reading is none.
    pub fn operations(&self) -> u64 {
        self.state().faults.operations
    }

    /// What a process reads that starts now, by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = &*self.state();
        state.names.now.iter().map(|(name, file)| (name.clone(), state.files[*file].now.clone())).collect()
    }

    /// A disk that holds these files, and all of it is safe.
    pub fn holding(files: &BTreeMap<String, Vec<u8>>) -> SimDisk {
        let disk = SimDisk::new(Power::default(), Syncing::Honest);
        for (name, bytes) in files {
            let state = &mut *disk.state();
            state.names.change(NameChange::Create { name: name.clone(), file: state.files.len() });
            state.files.push(Contents::safe(bytes.clone()));
            state.names.sync();
        }
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does an operation, or `otherwise` if it fails: what of it is done all the same.
    fn operate<T>(
        &self,
        operation: Operation,
        done: impl FnOnce(&mut State) -> T,
        otherwise: impl FnOnce(&mut State, Random),
    ) -> io::Result<T> {
        self.power.draw(|| {
            let state = &mut *self.state();
            match state.faults.meet(operation) {
                None => Ok(done(state)),
                Some(Failure { error, random }) => {
                    state.fence_is_due = true;
                    otherwise(state, random);
                    Err(error)
                }
            }
        })?
    }

    fn change_names(&self, change: NameChange) -> io::Result<()> {
        self.operate(Operation::Change, |state| state.names.change(change), |_, _| ())
    }

    fn must_be_there(&self, name: &str) -> io::Result<()> {
        match self.state().names.now.contains_key(name) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.now.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Option<SimFile>> {
        let file = self.state().names.now.get(name).copied();
        Ok(file.map(|file| SimFile { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let create = |state: &mut State| {
            let file = state.files.len();
            state.files.push(Contents::default());
            state.names.change(NameChange::Create { name: name.to_owned(), file });
            SimFile { disk: self.clone(), file }
        };
        self.operate(Operation::Fill, create, |_, _| ())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.must_be_there(from)?;
        self.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.must_be_there(name)?;
        self.change_names(NameChange::Remove { name: name.to_owned() })
    }

    fn sync_names(&self) -> io::Result<()> {
        let sync = |state: &mut State| {
            if !matches!(self.syncing, Syncing::Lying | Syncing::NotNames) {
                state.names.sync();
            }
        };
        self.operate(Operation::Sync, sync, |_, _| ())
    }

    fn growth(&self) -> u64 {
        self.growth
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let rest = state.files[self.file].now.get(in_memory(offset)..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let write = |bytes: &[u8]| Change::Write { offset: in_memory(offset), bytes: bytes.to_vec() };
        self.disk.operate(
            Operation::Fill,
            |state| state.files[self.file].change(write(bytes)),
            |state, mut random| {
                if random.chance(50) && !bytes.is_empty() {
                    state.files[self.file].change(write(&bytes[..random.index(bytes.len())]));
                }
            },
        )
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = in_memory(len);
        let set = |state: &mut State| state.files[self.file].change(Change::SetLen { len });
        // A file grows by a hole, which takes no room.
        self.disk.operate(Operation::Change, set, |_, _| ())
    }

    fn sync(&self) -> io::Result<()> {
        let sync = |state: &mut State| {
            let file = &mut state.files[self.file];
            match self.disk.syncing {
                Syncing::Lying | Syncing::NotFiles => {}
                Syncing::NotFences if state.fence_is_due && file.begins_segment() => {
                    state.fence_is_due = false;
                }
                _ => file.sync(),
            }
        };
        let fail = |state: &mut State, mut random| state.files[self.file].fail_sync(&mut random);
        match self.disk.operate(Operation::Sync, sync, fail) {
            Err(_) if self.disk.syncing == Syncing::Again => self.disk.operate(Operation::Sync, sync, fail),
            done => done,
        }
    }
}

fn in_memory(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits into memory")
}
