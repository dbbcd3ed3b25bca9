//! What a file of a simulated disk holds: to those who read it now, and after a power loss.

use crate::random::Random;

/// The contents of one file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// What the running process reads.
    pub(super) now: Vec<u8>,
    /// What is safe.
    synced: Vec<u8>,
    /// The changes that the next sync makes safe.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen { len: usize },
}

/// A disk writes whole sectors, in any order it likes.
const SECTOR: usize = 512;

impl Contents {
    /// A file whose contents are all safe.
    pub(super) fn safe(bytes: Vec<u8>) -> Contents {
        Contents { now: bytes.clone(), synced: bytes, unsynced: Vec::new() }
    }

    /// Whether the next sync makes the start of a segment of the log safe.
    pub(super) fn begins_segment(&self) -> bool {
        self.unsynced.iter().any(
            |change| matches!(change, Change::Write { offset: 0, bytes } if bytes.starts_with(b"HEADWATR")),
        )
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    /// What a sync that fails does on Linux: some of what was to be written may be on the disk, the rest is not and no
    /// later sync writes it, but it is still read. A length is in the file system's journal, which is no part of that.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let percent = [0, 50][random.index(2)];
        for part in self.unsynced.drain(..).flat_map(Change::into_sectors) {
            if matches!(part, Change::SetLen { .. }) || random.chance(percent) {
                part.apply(&mut self.synced);
            }
        }
    }

    /// What a power loss leaves: all that was synced, and of the rest whatever `random` draws.
    pub(super) fn crash(&mut self, random: &mut Random) {
        for change in surviving(std::mem::take(&mut self.unsynced), random) {
            change.apply(&mut self.synced);
        }
        self.now.clone_from(&self.synced);
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
            Change::SetLen { len } => contents.resize(*len, 0),
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
