//! A file in pages with checksums.
//!
//! The database trusts what it reads: a changed bit in one of its pages could make it give wrong answers, overwrite
//! pages that are in use, or panic. So no page comes back from the file that is not the one that was written there.
//! The checksums of a stretch of pages are in a page before it. Those that changed are written with the next sync, before
//! which nothing of what was written counts: the database never changes a page that does.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{DiskFile, read_some};

/// A page of the database.
pub(super) const PAGE: usize = 4_096;
const PAGE_BYTES: u64 = PAGE as u64;
/// A checksum.
const SUM: usize = size_of::<u32>();
/// How many pages there are to one page of checksums.
const STRETCH: usize = PAGE / SUM;
const STRETCH_PAGES: u64 = STRETCH as u64;
/// Where the first page is.
const FIRST_PAGE: u64 = PAGE_BYTES;
/// How many pages of checksums are kept in memory after a sync: those of 8 GiB.
const MOST_KEPT: usize = 2_048;

/// The file. Offsets are those in the pages, without the checksums.
#[derive(Debug)]
pub(super) struct Pages<F> {
    file: F,
    sums: Mutex<BTreeMap<u64, Sums>>,
}

/// The checksums of a stretch.
#[derive(Debug)]
struct Sums {
    page: Box<[u8; PAGE]>,
    /// They are not in the file.
    changed: bool,
}

impl<F: DiskFile> Pages<F> {
    pub(super) fn new(file: F) -> Pages<F> {
        Pages { file, sums: Mutex::default() }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        let pages = self.file.len()? / PAGE_BYTES;
        Ok((pages - pages.div_ceil(STRETCH_PAGES + 1)) * PAGE_BYTES)
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        let pages = len.div_ceil(PAGE_BYTES);
        let stretches = pages.div_ceil(STRETCH_PAGES);
        self.sums().split_off(&stretches);
        self.file.set_len((pages + stretches) * PAGE_BYTES)
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if is_header(offset, out.len()) {
            return self.read_exact(FIRST_PAGE, out);
        }
        for run in runs(offset, out.len())? {
            let bytes = &mut out[run.bytes()];
            self.read_exact(run.offset(), bytes)?;
            self.with_sums(run.stretch, |sums| run.check(bytes, &sums.page))??;
        }
        Ok(())
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if is_header(offset, bytes.len()) {
            return self.file.write_at(FIRST_PAGE, bytes);
        }
        for run in runs(offset, bytes.len())? {
            let bytes = &bytes[run.bytes()];
            self.with_sums(run.stretch, |sums| {
                sums.page[run.sums()].copy_from_slice(&run.sums_of(bytes));
                sums.changed = true;
            })?;
            self.file.write_at(run.offset(), bytes)?;
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let mut kept = self.sums();
        for (stretch, sums) in kept.iter_mut().filter(|(_, sums)| sums.changed) {
            self.file.write_at(sums_offset(*stretch), &*sums.page)?;
            sums.changed = false;
        }
        if kept.len() > MOST_KEPT {
            kept.clear();
        }
        drop(kept);
        self.file.sync()
    }

    fn with_sums<T>(&self, stretch: u64, work: impl FnOnce(&mut Sums) -> T) -> io::Result<T> {
        let mut kept = self.sums();
        let sums = match kept.entry(stretch) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut page = Box::new([0; PAGE]);
                self.read_exact(sums_offset(stretch), &mut *page)?;
                entry.insert(Sums { page, changed: false })
            }
        };
        Ok(work(sums))
    }

    fn read_exact(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match read_some(&self.file, offset, out)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => {
                    offset += len as u64;
                    out = &mut out[len..];
                }
            }
        }
        Ok(())
    }

    fn sums(&self) -> MutexGuard<'_, BTreeMap<u64, Sums>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pages one behind the other, in the file, too.
struct Run {
    stretch: u64,
    /// The first of them, in its stretch.
    first: usize,
    pages: usize,
    /// How many there are before it in what is read or written.
    before: usize,
}

impl Run {
    fn offset(&self) -> u64 {
        sums_offset(self.stretch) + (1 + self.first as u64) * PAGE_BYTES
    }

    fn bytes(&self) -> Range<usize> {
        self.before * PAGE..(self.before + self.pages) * PAGE
    }

    /// Where their checksums are.
    fn sums(&self) -> Range<usize> {
        self.first * SUM..(self.first + self.pages) * SUM
    }

    fn sums_of(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.chunks(PAGE).flat_map(|page| crc32c::crc32c(page).to_le_bytes()).collect()
    }

    fn check(&self, bytes: &[u8], sums: &[u8; PAGE]) -> io::Result<()> {
        let found = self.sums_of(bytes);
        let same =
            found.chunks(SUM).zip(sums[self.sums()].chunks(SUM)).take_while(|(found, sum)| found == sum);
        match same.count() {
            same if same == self.pages => Ok(()),
            bad => {
                let at = self.offset() + bad as u64 * PAGE_BYTES;
                let what = format!("the page at byte {at} is not what was written there");
                Err(io::Error::new(io::ErrorKind::InvalidData, what))
            }
        }
    }
}

/// The pages of some bytes, which are whole ones.
fn runs(offset: u64, len: usize) -> io::Result<impl Iterator<Item = Run>> {
    if !offset.is_multiple_of(PAGE_BYTES) || !len.is_multiple_of(PAGE) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (start, pages) = (offset / PAGE_BYTES, len / PAGE);
    let mut before = 0;
    Ok(std::iter::from_fn(move || {
        let number = start + before as u64;
        let first = usize::try_from(number % STRETCH_PAGES).ok()?;
        let run = Run {
            stretch: number / STRETCH_PAGES,
            first,
            pages: (pages - before).min(STRETCH - first),
            before,
        };
        before += run.pages;
        (run.pages > 0).then_some(run)
    }))
}

/// The database's header is overwritten where it is, and has checksums of its own.
fn is_header(offset: u64, len: usize) -> bool {
    offset == 0 && len < PAGE
}

fn sums_offset(stretch: u64) -> u64 {
    stretch * (STRETCH_PAGES + 1) * PAGE_BYTES
}
