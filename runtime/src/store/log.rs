//! The files of the log: one is written at a time, and those that are not needed any more are written over.

use std::collections::BTreeSet;
use std::io;

use headwater_core::log::{SegmentHeader, SegmentNumber, Write};

use super::{Disk, DiskFile};

/// The log of a folder, as it is written. See `headwater_core::log` for what is in its files, and why a new one is begun.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    /// The file that is written; `None` until the first write of this process, and after one that has failed.
    current: Option<Segment<D::File>>,
    /// Files that were segments and can be written over, by name.
    spares: Vec<String>,
    /// The segments that a write or a sync has failed on: nothing is written there ever again.
    failed: BTreeSet<SegmentNumber>,
}

#[derive(Debug)]
struct Segment<F> {
    number: SegmentNumber,
    file: F,
    /// Up to where the file has its place on the disk.
    filled: u64,
    /// How much it gets at once.
    step: u64,
    /// Whether something was written that is not synced.
    unsynced: bool,
}

/// Where a new segment is made, until it is whole.
const NEW_FILE: &str = "new.log";
/// How many files are kept to be written over.
const MOST_SPARES: usize = 2;

/// Whether a file is what is left of a segment.
fn is_spare(name: &str) -> bool {
    name.starts_with("spare-") && name.ends_with(".log")
}

impl<D: Disk> Log<D> {
    /// Goes on in a new file. `files` are those of the folder.
    pub fn new(disk: D, files: &[String]) -> Log<D> {
        let spares = files.iter().filter(|name| is_spare(name)).cloned().collect();
        Log { disk, current: None, spares, failed: BTreeSet::new() }
    }

    /// Does what a write asks for. If it fails, its segment is never written again.
    pub fn write(&mut self, write: &Write) -> io::Result<()> {
        let written = self.try_write(write);
        if written.is_err() {
            self.failed.insert(write.segment);
            self.failed.extend(self.current.take().map(|segment| segment.number));
        }
        written
    }

    fn try_write(&mut self, write: &Write) -> io::Result<()> {
        if let Some(header) = &write.begins {
            return self.begin(header, &write.bytes);
        }
        let Some(segment) = self.current.as_mut().filter(|segment| segment.number == write.segment) else {
            return Err(io::Error::other("a write to a segment that is not open"));
        };
        segment.unsynced = true;
        segment.write_at(write.offset, &write.bytes)?;
        if write.sync {
            segment.file.sync()?;
            segment.unsynced = false;
        }
        Ok(())
    }

    /// What is written to a segment is durable before the next one says so.
    fn end_current(&mut self) -> io::Result<()> {
        match self.current.take() {
            Some(segment) if segment.unsynced => {
                self.failed.insert(segment.number);
                segment.file.sync()?;
                self.failed.remove(&segment.number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Goes on in a new segment, with its first records: all of it is durable before it has its name. So a fence is there
    /// with what it repeats, or not at all.
    pub fn begin(&mut self, header: &SegmentHeader, records: &[u8]) -> io::Result<()> {
        self.end_current()?;
        let (name, file) = match self.spare() {
            Some(spare) => spare,
            None => (NEW_FILE.to_owned(), self.disk.create(NEW_FILE)?),
        };
        let mut segment = Segment {
            number: header.number,
            filled: file.len()?,
            step: self.disk.growth(),
            file,
            unsynced: false,
        };
        segment.write_at(0, &[&header.encode(), records].concat())?;
        segment.file.sync()?;
        self.disk.rename(&name, &header.number.file_name())?;
        self.disk.sync_names()?;
        self.current = Some(segment);
        Ok(())
    }

    /// A file to write over, if there is one that can be opened.
    fn spare(&mut self) -> Option<(String, D::File)> {
        while let Some(name) = self.spares.pop() {
            if let Ok(Some(file)) = self.disk.open(&name) {
                return Some((name, file));
            }
        }
        None
    }

    /// Keeps some of these files to be written over, and removes the others.
    pub fn discard(&mut self, segments: &[SegmentNumber]) -> io::Result<()> {
        let mut spares = Vec::new();
        for number in segments {
            let name = number.file_name();
            if self.disk.open(&name)?.is_none() {
                // One that could not be made.
                continue;
            }
            match self.spares.len() + spares.len() < MOST_SPARES && !self.failed.contains(number) {
                true => {
                    let spare = format!("spare-{name}");
                    self.disk.rename(&name, &spare)?;
                    spares.push(spare);
                }
                false => self.disk.remove(&name)?,
            }
        }
        self.disk.sync_names()?;
        // Not before: a crash could give one that is written over its old name back.
        self.spares.append(&mut spares);
        Ok(())
    }
}

impl<F: DiskFile> Segment<F> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        self.make_room(end);
        self.file.write_at(offset, bytes)?;
        // Also where there was no room for zeros: later ones must not go over what is written.
        self.filled = self.filled.max(end);
        Ok(())
    }

    /// Has the file filled with zeros up to `end` and some more. If that fails, the write itself may still find room.
    fn make_room(&mut self, end: u64) {
        if end <= self.filled {
            return;
        }
        let filled = (end / self.step + 1) * self.step;
        let zeros = vec![0; usize::try_from(filled - self.filled).unwrap_or(0)];
        if self.file.write_at(self.filled, &zeros).is_ok() {
            self.filled = filled;
        }
    }
}
