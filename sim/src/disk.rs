//! A disk that forgets what was not synced when its machine loses power.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater::store::{Disk, LogFile};

use crate::power::Power;
use crate::random::Random;

/// A disk. Clones are the same disk: it outlives the processes that use it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    power: Power,
    syncing: Syncing,
}

/// What a sync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncing {
    /// It makes what was written durable.
    Honest,
    /// It says so and does nothing: what leaving out the `fdatasync` amounts to.
    Lying,
}

#[derive(Debug, Default)]
struct State {
    /// By number, as names come and go.
    files: Vec<Contents>,
    /// What names mean to the running process, and what they mean after a crash.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// The changes of names between the two.
    unsynced_names: Vec<NameChange>,
}

#[derive(Debug, Default)]
struct Contents {
    /// What the running process reads.
    now: Vec<u8>,
    /// What is safe.
    synced: Vec<u8>,
    /// The changes between the two.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

#[derive(Clone, Debug)]
enum NameChange {
    Create { name: String, file: usize },
    Rename { from: String, to: String },
}

/// A disk writes whole sectors, in any order it likes.
const SECTOR: usize = 512;

impl SimDisk {
    /// An empty disk, which stops working when its machine's power is off.
    pub fn new(power: Power, syncing: Syncing) -> SimDisk {
        SimDisk { state: Arc::default(), power, syncing }
    }

    /// What a power loss leaves: all that was synced, and of the rest whatever `random` draws: nothing, the first
    /// part with its last write torn, or any of the sectors. Changes of names survive in order, as in a journal.
    pub fn crash(&self, random: &mut Random) {
        let state = &mut *self.state();
        for file in &mut state.files {
            for change in surviving(std::mem::take(&mut file.unsynced), random) {
                change.apply(&mut file.synced);
            }
            file.now.clone_from(&file.synced);
        }
        let changes = std::mem::take(&mut state.unsynced_names);
        let kept = random.index(changes.len() + 1);
        for change in &changes[..kept] {
            change.apply(&mut state.synced_names);
        }
        state.names.clone_from(&state.synced_names);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rename_names(&self, change: NameChange) {
        let mut state = self.state();
        change.apply(&mut state.names);
        state.unsynced_names.push(change);
    }
}

/// The part of some unsynced changes that made it to the disk.
fn surviving(changes: Vec<Change>, random: &mut Random) -> Vec<Change> {
    match random.within(0..3) {
        0 => Vec::new(),
        1 => {
            let mut kept = changes[..random.index(changes.len() + 1)].to_vec();
            if let Some(Change::Write { bytes, .. }) = kept.last_mut() {
                bytes.truncate(random.index(bytes.len() + 1));
            }
            kept
        }
        _ => {
            let sectors = changes.into_iter().flat_map(Change::into_sectors);
            sectors.filter(|_| random.chance(50)).collect()
        }
    }
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[*offset..end].copy_from_slice(bytes);
            }
            Change::Truncate { len } => contents.resize(*len, 0),
        }
    }

    fn into_sectors(self) -> Vec<Change> {
        let Change::Write { mut offset, bytes } = self else { return vec![self] };
        let mut rest = &bytes[..];
        let mut sectors = Vec::new();
        while !rest.is_empty() {
            let (sector, after) = rest.split_at(rest.len().min(SECTOR - offset % SECTOR));
            sectors.push(Change::Write { offset, bytes: sector.to_vec() });
            offset += sector.len();
            rest = after;
        }
        sectors
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Create { name, file } => {
                names.insert(name.clone(), *file);
            }
            NameChange::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, name: &str) -> io::Result<Option<SimFile>> {
        let file = self.state().names.get(name).copied();
        Ok(file.map(|file| SimFile { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        self.power.draw(|| {
            let file = {
                let mut state = self.state();
                state.files.push(Contents::default());
                state.files.len() - 1
            };
            self.rename_names(NameChange::Create { name: name.to_owned(), file });
            SimFile { disk: self.clone(), file }
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.power.draw(|| {
            self.rename_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.power.draw(|| {
            if self.syncing == Syncing::Honest {
                let state = &mut *self.state();
                state.synced_names.clone_from(&state.names);
                state.unsynced_names.clear();
            }
        })
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl SimFile {
    fn change(&mut self, change: Change) -> io::Result<()> {
        self.disk.power.draw(|| {
            let contents = &mut self.disk.state().files[self.file];
            change.apply(&mut contents.now);
            contents.unsynced.push(change);
        })
    }
}

impl LogFile for SimFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let rest = state.files[self.file].now.get(in_memory(offset)..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write { offset: in_memory(offset), bytes: bytes.to_vec() })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(Change::Truncate { len: in_memory(len) })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.power.draw(|| {
            if self.disk.syncing == Syncing::Honest {
                let contents = &mut self.disk.state().files[self.file];
                contents.synced.clone_from(&contents.now);
                contents.unsynced.clear();
            }
        })
    }
}

fn in_memory(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
        let mut file = disk.open(name).unwrap()?;
        let mut bytes = vec![0; 1 << 16];
        let len = file.read_at(0, &mut bytes).unwrap();
        bytes.truncate(len);
        Some(bytes)
    }

    /// What is left of a file of which `synced` was synced and `unsynced` written behind it.
    fn after_crash(seed: u64, syncing: Syncing, unsynced: &[u8]) -> Option<Vec<u8>> {
        let disk = SimDisk::new(Power::default(), syncing);
        let mut file = disk.create("log").unwrap();
        file.write_at(0, b"synced").unwrap();
        file.sync().unwrap();
        disk.sync_names().unwrap();
        file.write_at(6, unsynced).unwrap();
        assert_eq!(read(&disk, "log").unwrap(), [b"synced", unsynced].concat());
        disk.crash(&mut Random::new(seed));
        read(&disk, "log")
    }

    #[test]
    fn what_was_synced_survives_every_crash_and_the_rest_survives_some() {
        let unsynced = vec![b'x'; 2_000];
        let left: Vec<_> =
            (0..200).map(|seed| after_crash(seed, Syncing::Honest, &unsynced).unwrap()).collect();
        assert!(left.iter().all(|left| left.starts_with(b"synced")));
        assert!(left.iter().any(|left| left.len() == 6), "all of it is lost");
        assert!(left.iter().any(|left| left.len() == 2_006), "nothing is lost");
        assert!(left.iter().any(|left| (7..2_006).contains(&left.len())), "the last write is torn");
        assert!(left.iter().any(|left| left[6..].contains(&0)), "a sector is lost before one that is not");
    }

    #[test]
    fn a_sync_saves_every_write_before_it_and_none_after() {
        let left = |seed| {
            let disk = SimDisk::new(Power::default(), Syncing::Honest);
            let mut file = disk.create("log").unwrap();
            disk.sync_names().unwrap();
            for (at, byte) in [b"a", b"b", b"c"].into_iter().enumerate() {
                file.write_at(at as u64, byte).unwrap();
            }
            file.sync().unwrap();
            file.write_at(3, b"d").unwrap();
            file.write_at(4, b"e").unwrap();
            disk.crash(&mut Random::new(seed));
            read(&disk, "log").unwrap()
        };
        let left: Vec<_> = (0..200).map(left).collect();
        assert!(left.iter().all(|left| left.starts_with(b"abc")));
        for some in [&b"abc"[..], b"abcd", b"abcde", b"abc\0e"] {
            assert!(left.iter().any(|left| left == some), "{some:?} is never left");
        }
    }

    #[test]
    fn a_sync_that_does_nothing_saves_nothing() {
        let left: Vec<_> = (0..50).map(|seed| after_crash(seed, Syncing::Lying, b"x")).collect();
        assert!(left.contains(&None), "the name is lost");
        assert!(left.contains(&Some(Vec::new())), "the contents are lost");
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_lost() {
        let names_after = |seed| {
            let disk = SimDisk::new(Power::default(), Syncing::Honest);
            disk.create("new").unwrap().sync().unwrap();
            disk.sync_names().unwrap();
            disk.rename("new", "log").unwrap();
            disk.crash(&mut Random::new(seed));
            ["new", "log"].map(|name| disk.open(name).unwrap().is_some())
        };
        let seen: Vec<_> = (0..50).map(names_after).collect();
        assert!(seen.contains(&[true, false]) && seen.contains(&[false, true]));
        assert!(!seen.contains(&[true, true]) && !seen.contains(&[false, false]));
    }

    #[test]
    fn without_power_nothing_is_written() {
        let power = Power::default();
        let disk = SimDisk::new(power.clone(), Syncing::Honest);
        let mut file = disk.create("log").unwrap();
        power.cut_after(2);
        file.write_at(0, b"a").unwrap();
        file.write_at(1, b"b").unwrap();
        assert!(power.is_off());
        assert!(file.write_at(2, b"c").is_err());
        assert!(file.sync().is_err());
        assert_eq!(read(&disk, "log").unwrap(), b"ab");
    }
}
