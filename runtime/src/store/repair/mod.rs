//! A store that can't be opened becomes one that can: with all that can still be read, or nearly so.
//!
//! [`look`] says what is wrong and what would be lost, and changes nothing. [`Findings::repair`] first keeps a copy of
//! every file that it changes or makes superfluous, then makes a fence: a file of the log that begins where the damage is,
//! so that what older files hold there and behind does not count any more. Where the checkpoint is damaged, a new one is
//! made of what can be read of it and of the log. At every moment between, a start of the server does what it did before, or
//! finds the repaired store.

mod looking;
mod report;

use std::io;

use headwater_core::log::{BatchNumber, Epoch, HeaderError, SegmentHeader, SegmentNumber};
use headwater_core::name::GroupPath;
use headwater_core::store::repair::{Found, Salvage, Salvaged, Search};
use headwater_core::store::saved::{
    Checkpoint as Saved, CheckpointState, GroupNumber, Save, SaveGroup, SavedGroup,
};
use headwater_core::store::{Base, Damage, Part, Unreadable};

use super::checkpoint::{CHECKPOINT_FILE, Checkpoint, CheckpointError, Inspected, Lost, NEW_FILE};
use super::log::Log;
use super::open::{FromCheckpoint, OpenError, open, read_header, read_part};
use super::{Disk, DiskFile, read_some};
use looking::Looking;

/// What was found in a folder.
pub struct Findings<D: Disk> {
    disk: D,
    /// The log's files whose start can be read, and those whose can't.
    headers: Vec<SegmentHeader>,
    bad_files: Vec<SegmentNumber>,
    checkpoint: Checkpoint<Looking<D>>,
    /// What is wrong with that, if anything is.
    ruin: Option<Ruin>,
    salvaged: Salvaged,
    /// Of the log.
    damage: Option<Damage>,
    /// What could still be read behind the damage.
    behind: Found,
}

/// What is left of a checkpoint.
#[derive(Debug, Default)]
struct Ruin {
    /// Its size in bytes; `None` if it is gone.
    bytes: Option<u64>,
    /// Why nothing of it can be read from some place on.
    unreadable: Option<String>,
    /// Why nothing can be saved to it any more, though all of it can be read.
    unwritable: Option<String>,
    /// What it is as a whole can't be read.
    no_state: bool,
    /// Groups of which something can't be read: the first of them, and how many there are.
    lost: Vec<(GroupPath, Lost)>,
    lost_groups: u64,
    lost_items: u64,
    /// What can be read.
    items: u64,
    groups: u64,
    highest: u64,
}

/// What became of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The files that were kept as they were.
    pub kept: Vec<String>,
    /// How many items there are.
    pub items: u64,
    /// How many groups hold them.
    pub groups: u64,
}

/// How many names are shown.
const SHOWN: usize = 20;

/// Looks at a folder, and changes nothing.
pub fn look<D: Disk>(disk: &D) -> Result<Findings<D>, OpenError> {
    let looking = Looking(disk.clone());
    let files = looking.list().map_err(|error| OpenError::Io { doing: "read the folder", error })?;
    let (mut headers, mut bad_files) = (Vec::new(), Vec::new());
    for number in files.iter().filter_map(|name| SegmentNumber::of_file(name)) {
        match read_header(&looking, number) {
            Ok(header) => headers.push(header),
            Err(OpenError::Header { error: HeaderError::NotALog, .. }) => bad_files.push(number),
            Err(error) => return Err(error),
        }
    }
    let checkpoint = Checkpoint::at(looking.clone())?;
    let (saved, ruin) = look_at_checkpoint(&looking, &checkpoint, &headers)?;
    let (salvaged, damage) = match &ruin {
        None => {
            let salvage = Salvage::of_log(saved, headers.clone());
            replay(&looking, salvage, &mut FromCheckpoint(&checkpoint))?
        }
        Some(ruin) => {
            let salvage = Salvage::of_all(ruin.as_checkpoint(saved, &headers), headers.clone());
            replay(&looking, salvage, &mut RestOf(&checkpoint))?
        }
    };
    let behind = match &damage {
        Some(damage) => search(&looking, &headers, damage)?,
        None => Found::default(),
    };
    Ok(Findings { disk: disk.clone(), headers, bad_files, checkpoint, ruin, salvaged, damage, behind })
}

/// What the checkpoint says of itself, and what is wrong with it, if anything is.
fn look_at_checkpoint<D: Disk>(
    disk: &Looking<D>,
    checkpoint: &Checkpoint<Looking<D>>,
    headers: &[SegmentHeader],
) -> Result<(Option<Saved>, Option<Ruin>), OpenError> {
    let file = disk.open(CHECKPOINT_FILE).map_err(CheckpointError::from)?;
    let Some(file) = file else {
        // Without one, the log begins at the beginning.
        let gone = headers.iter().map(|header| header.start).min().is_some_and(|start| start > 0);
        return Ok((None, gone.then(|| Ruin { no_state: true, ..Ruin::default() })));
    };
    let mut ruin = Ruin { bytes: Some(file.len().map_err(CheckpointError::from)?), ..Ruin::default() };
    let saved = match checkpoint.contents() {
        Ok(saved) => saved,
        Err(CheckpointError::Damaged(_) | CheckpointError::Entry { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    ruin.no_state = saved.is_none();
    let counted = checkpoint.inspect(|inspected| {
        ruin.count(inspected);
        Ok(())
    });
    match counted {
        Ok(()) => {}
        Err(error @ (CheckpointError::Damaged(_) | CheckpointError::Entry { .. })) => {
            ruin.unreadable = Some(error.to_string());
        }
        Err(error) => return Err(error.into()),
    }
    if ruin.unreadable.is_none() && !ruin.no_state && ruin.lost_groups == 0 {
        ruin.unwritable = match checkpoint.check() {
            Ok(()) => return Ok((saved, None)),
            Err(error @ (CheckpointError::Damaged(_) | CheckpointError::Entry { .. })) => {
                Some(error.to_string())
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok((saved, Some(ruin)))
}

impl Ruin {
    fn count(&mut self, inspected: Inspected) {
        let Inspected { path, group, lost } = inspected;
        if let Some(SavedGroup { head, .. }) = &group {
            self.items += head.items;
            self.groups += u64::from(head.items > 0);
            self.highest = self.highest.max(head.number.0);
        }
        match lost {
            Lost::Nothing => return,
            Lost::Items(items) => self.lost_items += items,
            Lost::All => {}
        }
        self.lost_groups += 1;
        if self.lost.len() < SHOWN {
            self.lost.push((path, lost));
        }
    }

    /// What is left, as if it had been saved like this.
    fn as_checkpoint(&self, saved: Option<Saved>, headers: &[SegmentHeader]) -> Saved {
        let (items, groups) = (self.items, self.groups);
        let (state, next_group) = match saved {
            Some(Saved { state, next_group, .. }) => (state, next_group),
            None => {
                let first = headers.iter().min_by_key(|header| header.number);
                let state = match first {
                    Some(first) => CheckpointState::at(first.start, first.batch, first.epoch),
                    None => CheckpointState::at(0, BatchNumber(1), Epoch::from_bytes([0; 16])),
                };
                (state, GroupNumber(0))
            }
        };
        let next_group = next_group.max(GroupNumber(self.highest));
        Saved { state, next_group, items, groups }
    }
}

/// What can be read of the groups of a damaged checkpoint.
struct RestOf<'a, D: Disk>(&'a Checkpoint<D>);

impl<D: Disk> Base for RestOf<'_, D> {
    fn group(&mut self, path: &GroupPath) -> Result<Option<SavedGroup>, Unreadable> {
        Ok(self.0.rest_of_group(path))
    }
}

fn replay<D: Disk>(
    disk: &D,
    mut salvage: Salvage,
    base: &mut impl Base,
) -> Result<(Salvaged, Option<Damage>), OpenError> {
    while let Some(part) = salvage.next_part() {
        read_part(disk, part, |bytes| Ok(salvage.push(bytes, base)?))?;
    }
    Ok(salvage.finish())
}

/// What can still be read where the log is damaged, and behind.
fn search<D: Disk>(disk: &D, headers: &[SegmentHeader], damage: &Damage) -> Result<Found, OpenError> {
    let mut found = Found::default();
    for header in headers {
        let from = match damage {
            Damage::Record { at, .. } if header.number < at.segment => continue,
            Damage::Record { at, .. } if header.number == at.segment => at.offset,
            _ => SegmentHeader::LEN as u64,
        };
        let mut search = Search::new(header, from);
        let part = Part { segment: header.number, from, until: None };
        read_part(disk, part, |bytes| {
            search.push(bytes, &mut found);
            Ok(())
        })?;
        search.finish(&mut found);
    }
    Ok(found)
}

impl<D: Disk> Findings<D> {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.damage.is_none() && self.ruin.is_none() && self.bad_files.is_empty()
    }

    /// Repairs the store, and opens it to see that it is whole.
    pub fn repair(mut self, seed: [u8; 32]) -> Result<Repaired, OpenError> {
        let kept = self.keep().map_err(io_error("keep the damaged files"))?;
        let newest =
            self.headers.iter().map(|header| header.number).chain(self.bad_files.iter().copied()).max();
        let fence = self.salvaged.fence(newest, seed);
        if self.ruin.is_some() {
            self.save(fence.epoch)?;
        }
        self.make(&fence).map_err(io_error("write the log"))?;
        if self.ruin.is_some() {
            self.disk.rename(REPAIRED_FILE, CHECKPOINT_FILE).map_err(io_error("write the checkpoint"))?;
            self.disk.sync_names().map_err(io_error("sync the folder"))?;
        }
        for number in self.given_up() {
            self.disk
                .remove(&number.file_name())
                .map_err(io_error("remove what was kept under another name"))?;
        }
        self.disk.sync_names().map_err(io_error("sync the folder"))?;
        let opened = open(&self.disk, seed)?;
        opened.checkpoint.inspect(|inspected| match inspected.lost {
            Lost::Nothing => Ok(()),
            _ => Err(CheckpointError::Entry { what: format!("{:?}", inspected.path) }),
        })?;
        Ok(Repaired { kept, items: opened.recovered.items, groups: opened.recovered.groups })
    }

    /// The files of the log of which nothing counts any more once there is a fence.
    fn given_up(&self) -> Vec<SegmentNumber> {
        let behind = |header: &SegmentHeader| match &self.damage {
            _ if self.ruin.is_some() => true,
            Some(Damage::Record { at, .. }) => header.number > at.segment,
            Some(Damage::Missing(_)) => true,
            None => false,
        };
        let numbers = self.headers.iter().filter(|header| behind(header)).map(|header| header.number);
        numbers.chain(self.bad_files.iter().copied()).collect()
    }

    /// The files that are kept as they are before anything is changed.
    fn affected(&self) -> Vec<String> {
        let mut numbers = self.given_up();
        if let Some(Damage::Record { at, .. }) = &self.damage {
            numbers.push(at.segment);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut files: Vec<String> = numbers.into_iter().map(SegmentNumber::file_name).collect();
        files.extend(self.ruin.as_ref().and_then(|ruin| ruin.bytes).map(|_| CHECKPOINT_FILE.to_owned()));
        files
    }

    /// Copies them.
    fn keep(&self) -> io::Result<Vec<String>> {
        let files = self.disk.list()?;
        let numbers = files.iter().filter_map(|name| name.rsplit_once(MARK)?.1.parse::<u32>().ok());
        let number = numbers.max().unwrap_or(0) + 1;
        let mut kept = Vec::new();
        for name in self.affected() {
            let copy = format!("{name}{MARK}{number}");
            copy_file(&self.disk, &name, &copy)?;
            kept.push(copy);
        }
        self.disk.sync_names()?;
        Ok(kept)
    }

    /// Makes the fence.
    fn make(&self, fence: &SegmentHeader) -> io::Result<()> {
        Log::new(self.disk.clone(), &[]).begin(fence, &[])
    }

    /// Makes a checkpoint of what can be read, beside the damaged one.
    fn save(&mut self, epoch: Epoch) -> Result<(), OpenError> {
        let aside = Aside(self.disk.clone());
        for left_over in [CHECKPOINT_FILE, NEW_FILE] {
            if aside.open(left_over).map_err(CheckpointError::from)?.is_some() {
                aside.remove(left_over).map_err(CheckpointError::from)?;
            }
        }
        let new = Checkpoint::at(aside)?;
        let (mut groups, mut bytes, mut highest) = (Vec::new(), 0, GroupNumber(0));
        let copied = self.checkpoint.inspect(|inspected| {
            let Inspected { path, group: Some(SavedGroup { head, snapshot }), .. } = inspected else {
                return Ok(());
            };
            highest = highest.max(head.number);
            bytes += snapshot.bytes();
            let changed = snapshot.iter_created().map(|(created, _)| created).collect();
            groups.push(SaveGroup { path, head, snapshot, changed });
            if bytes >= SAVE_BYTES || groups.len() >= SAVE_GROUPS {
                bytes = 0;
                let groups = std::mem::take(&mut groups);
                return new
                    .save(&Save { groups, next_group: highest, finish: None })
                    .map_err(|error| output(&error));
            }
            Ok(())
        });
        match copied {
            // What can't be read was known before.
            Ok(()) | Err(CheckpointError::Damaged(_) | CheckpointError::Entry { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        new.save(&Save { groups, next_group: highest, finish: None })?;
        loop {
            let save = self.salvaged.next_save(epoch);
            new.save(&save)?;
            if save.finish.is_some() {
                return Ok(());
            }
        }
    }
}

/// An error of the new checkpoint, not to be taken for one of the damaged.
fn output(error: &CheckpointError) -> CheckpointError {
    CheckpointError::Io(io::Error::other(error.to_string()))
}

/// What the name of a file that was kept has behind its own, before a number.
const MARK: &str = ".damaged-";
/// How much is saved at once.
const SAVE_BYTES: usize = 16 << 20;
const SAVE_GROUPS: usize = 4_096;

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |error| OpenError::Io { doing, error }
}

/// Copies a file, durably but for its name.
fn copy_file<D: Disk>(disk: &D, from: &str, to: &str) -> io::Result<()> {
    let from = disk.open(from)?.ok_or(io::ErrorKind::NotFound)?;
    let to = disk.create(to)?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        match read_some(&from, offset, &mut buffer)? {
            0 => return to.sync(),
            len => {
                to.write_at(offset, &buffer[..len])?;
                offset += len as u64;
            }
        }
    }
}

/// Where the new checkpoint is made.
const REPAIRED_FILE: &str = "repaired.redb";

/// The same folder, where a checkpoint has other names.
#[derive(Clone, Debug)]
struct Aside<D>(D);

fn aside(name: &str) -> &str {
    match name {
        CHECKPOINT_FILE => REPAIRED_FILE,
        NEW_FILE => "repaired.new",
        other => other,
    }
}

impl<D: Disk> Disk for Aside<D> {
    type File = D::File;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Option<D::File>> {
        self.0.open(aside(name))
    }

    fn create(&self, name: &str) -> io::Result<D::File> {
        self.0.create(aside(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(aside(from), aside(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(aside(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }
}
