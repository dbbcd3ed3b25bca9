//! A folder as it is, to be looked at: what is written stays in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{Disk, DiskFile};

/// A folder that is not changed. The checkpoint's database writes into its file to read it.
#[derive(Clone, Debug)]
pub(super) struct Looking<D>(pub(super) D);

/// A file of it.
#[derive(Debug)]
pub(super) struct Looked<F> {
    file: F,
    written: Mutex<Written>,
}

/// What would have been written.
#[derive(Debug)]
struct Written {
    len: u64,
    /// Up to where the file itself still counts.
    kept: u64,
    /// By number.
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

const PAGE: usize = 4_096;

impl<D: Disk> Disk for Looking<D> {
    type File = Looked<D::File>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Option<Looked<D::File>>> {
        let Some(file) = self.0.open(name)? else { return Ok(None) };
        let len = file.len()?;
        Ok(Some(Looked { file, written: Mutex::new(Written { len, kept: len, pages: BTreeMap::new() }) }))
    }

    fn create(&self, _name: &str) -> io::Result<Looked<D::File>> {
        Err(changes_nothing())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(changes_nothing())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(changes_nothing())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

fn changes_nothing() -> io::Error {
    io::Error::other("the folder is only looked at")
}

impl<F: DiskFile> Looked<F> {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: DiskFile> DiskFile for Looked<F> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let written = self.written();
        // A piece of one page at a time: whoever reads asks for the rest.
        let (page, within) = place(offset);
        let left = usize::try_from(written.len.saturating_sub(offset)).unwrap_or(PAGE);
        if let Some(page) = written.pages.get(&page) {
            let len = (PAGE - within).min(left).min(buffer.len());
            buffer[..len].copy_from_slice(&page[within..within + len]);
            return Ok(len);
        }
        let next = written.pages.range(page..).next().map_or(u64::MAX, |(next, _)| next * PAGE as u64);
        let most = usize::try_from(next - offset).unwrap_or(usize::MAX).min(left).min(buffer.len());
        if offset >= written.kept {
            buffer[..most].fill(0);
            return Ok(most);
        }
        let kept = usize::try_from(written.kept - offset).unwrap_or(usize::MAX).min(most);
        self.file.read_at(offset, &mut buffer[..kept])
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut offset, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let (page, within) = place(offset);
            let len = (PAGE - within).min(bytes.len());
            let mut whole = Box::new([0; PAGE]);
            let start = page * PAGE as u64;
            let mut filled = 0;
            while filled < PAGE {
                match self.read_at(start + filled as u64, &mut whole[filled..])? {
                    0 => break,
                    len => filled += len,
                }
            }
            whole[within..within + len].copy_from_slice(&bytes[..len]);
            let mut written = self.written();
            written.pages.insert(page, whole);
            (offset, bytes) = (offset + len as u64, &bytes[len..]);
            written.len = written.len.max(offset);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.kept = written.kept.min(len);
        let (page, within) = place(len);
        drop(written.pages.split_off(&(page + u64::from(within > 0))));
        if let Some(last) = written.pages.get_mut(&page) {
            last[within..].fill(0);
        }
        written.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The page that an offset is in, and where.
fn place(offset: u64) -> (u64, usize) {
    let page = PAGE as u64;
    (offset / page, usize::try_from(offset % page).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::tempdir;

    use super::*;
    use crate::store::Folder;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Cut(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0..20_000_u64, prop::collection::vec(any::<u8>(), 0..9_000));
        let step = prop_oneof![
            write.prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
            (0..25_000_u64).prop_map(Step::Cut),
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_file_that_is_looked_at_reads_as_if_it_was_written_and_was_not(
            before in prop::collection::vec(any::<u8>(), 0..20_000),
            steps in steps(),
        ) {
            let place = tempdir().expect("a folder");
            let folder = Folder::lock(place.path()).expect("nobody has it");
            folder.create("f").and_then(|file| DiskFile::write_at(&file, 0, &before)).expect("there is room");
            let looked = Looking(folder).open("f").expect("it can be read").expect("it is there");
            let mut expected = before.clone();
            for step in steps {
                match step {
                    Step::Write(offset, bytes) => {
                        looked.write_at(offset, &bytes).expect("memory takes it");
                        let from = usize::try_from(offset).expect("a small one");
                        // A file is zero where nothing was written.
                        expected.resize(expected.len().max(if bytes.is_empty() { 0 } else { from + bytes.len() }), 0);
                        if !bytes.is_empty() {
                            expected[from..from + bytes.len()].copy_from_slice(&bytes);
                        }
                    }
                    Step::Cut(len) => {
                        looked.set_len(len).expect("memory takes it");
                        expected.resize(usize::try_from(len).expect("a small one"), 0);
                    }
                }
                prop_assert_eq!(looked.len().expect("it has one"), expected.len() as u64);
                let mut all = vec![1; expected.len() + 1];
                let mut read = 0;
                while let Ok(len @ 1..) = looked.read_at(read as u64, &mut all[read..]) {
                    read += len;
                }
                prop_assert_eq!(&all[..read], &expected[..]);
            }
            prop_assert_eq!(std::fs::read(place.path().join("f")).expect("it is there"), before);
        }
    }
}
