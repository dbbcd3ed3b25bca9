//! The laws of a checkpoint, on a real disk.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_core::json::Json;
use headwater_core::log::{BatchNumber, Epoch, Revision};
use headwater_core::name::ItemId;
use headwater_core::store::saved::{CheckpointState, GroupHead, GroupNumber, SaveGroup};
use headwater_core::store::{Item, Snapshot};
use headwater_core::time::Stamp;
use tempfile::TempDir;

use super::*;
use crate::store::Folder;

fn path(stream: &str, group: &str) -> GroupPath {
    GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) }
}

/// An item and the revision that created it.
fn item(created: u64, value: &str) -> (Revision, Item) {
    let item = Item {
        id: ItemId::trusted(&format!("item-{created}")),
        value: Json::trusted(value),
        revision: Revision(created),
    };
    (Revision(created), item)
}

/// A group of these items, all of which are new or have changed.
fn group(path: &GroupPath, number: u64, items: Vec<(Revision, Item)>) -> SaveGroup {
    let changed = items.iter().map(|(created, _)| *created).collect();
    let head = GroupHead {
        number: GroupNumber(number),
        revision: Revision(900 + number),
        stamp: Stamp(5),
        reserved: Stamp(7),
        items: items.len() as u64,
    };
    SaveGroup { path: path.clone(), head, snapshot: Snapshot::of(items), changed }
}

fn part(groups: Vec<SaveGroup>) -> Save {
    Save { groups, next_group: GroupNumber(100), finish: None }
}

fn last_part(groups: Vec<SaveGroup>) -> Save {
    Save { finish: Some(state()), ..part(groups) }
}

fn state() -> CheckpointState {
    CheckpointState::at(1_000, BatchNumber(5), Epoch::from_random(7))
}

fn folder() -> (TempDir, Folder) {
    let place = tempfile::tempdir().expect("a folder");
    let folder = Folder::lock(place.path()).expect("nobody has it");
    (place, folder)
}

/// The items of a group, each with the revision that created it.
fn values(group: Option<SavedGroup>) -> Option<Vec<(u64, String)>> {
    let snapshot = group?.snapshot;
    Some(snapshot.iter_created().map(|(created, item)| (created.0, item.value.as_str().to_owned())).collect())
}

/// A checkpoint of three groups: one of two items, one of none, one of one in another stream.
fn three_groups(folder: &Folder) -> Checkpoint<Folder> {
    let (checkpoint, contents) = Checkpoint::open(folder.clone()).expect("it can be opened");
    assert_eq!(contents, None);
    let groups = vec![
        group(&path("b", "2"), 7, vec![item(1, "1"), item(4, "\"four\"")]),
        group(&path("b", "10"), 8, Vec::new()),
        group(&path("a", "2"), 9, vec![item(3, "3")]),
    ];
    checkpoint.save(&last_part(groups)).expect("there is room");
    checkpoint
}

#[test]
fn what_was_saved_last_is_what_is_read_also_by_the_next_process() {
    let (_place, folder) = folder();
    let checkpoint = three_groups(&folder);
    let mut changed = group(&path("b", "2"), 7, vec![item(4, "4"), item(5, "5"), item(6, "6")]);
    changed.changed.push(Revision(1));
    checkpoint.save(&part(vec![changed])).expect("there is room");
    let check = |checkpoint: &Checkpoint<Folder>| {
        let load = |group: &GroupPath| values(checkpoint.load_group(group).expect("it can be read"));
        let expected = [(4, "4"), (5, "5"), (6, "6")].map(|(created, value)| (created, value.to_owned()));
        assert_eq!(load(&path("b", "2")), Some(expected.to_vec()));
        assert_eq!(load(&path("b", "10")), Some(Vec::new()));
        assert_eq!(load(&path("b", "1")), None);
        assert_eq!(load(&path("c", "2")), None);
    };
    check(&checkpoint);
    drop(checkpoint);
    let (checkpoint, contents) = Checkpoint::open(folder).expect("it can be opened");
    check(&checkpoint);
    let expected = Found { state: state(), next_group: GroupNumber(100), items: 4, groups: 2 };
    assert_eq!(contents, Some(expected));
}

#[test]
fn a_first_checkpoint_that_was_not_finished_is_not_there_after_a_start() {
    let (place, folder) = folder();
    let (checkpoint, _) = Checkpoint::open(folder.clone()).expect("it can be opened");
    let only = path("s", "g");
    checkpoint.save(&part(vec![group(&only, 0, vec![item(1, "1")])])).expect("there is room");
    let loaded = checkpoint.load_group(&only).expect("it can be read");
    assert!(loaded.is_some(), "until then it can be read");
    assert!(place.path().join(NEW_FILE).exists());
    drop(checkpoint);
    let (checkpoint, contents) = Checkpoint::open(folder.clone()).expect("it can be opened");
    assert_eq!(contents, None);
    assert_eq!(checkpoint.load_group(&only).expect("there is nothing to read"), None);
    assert_eq!(folder.list().expect("it can be read"), [""; 0]);
}

#[test]
fn the_first_checkpoint_has_its_name_when_its_last_part_is_saved() {
    let (_place, folder) = folder();
    let _checkpoint = three_groups(&folder);
    assert_eq!(folder.list().expect("it can be read"), [CHECKPOINT_FILE]);
}

#[test]
fn names_are_those_of_groups_with_items_in_the_order_of_their_bytes_and_bounded() {
    let (_place, folder) = folder();
    let checkpoint = three_groups(&folder);
    checkpoint.save(&part(vec![group(&path("b", "01"), 10, vec![item(1, "1")])])).expect("there is room");
    let names = |stream: Option<&str>, max_bytes| {
        let names = checkpoint.load_names(stream.map(StreamName::trusted).as_ref(), max_bytes)?;
        let names = names.iter().map(|(stream, groups)| format!("{stream}: {groups:?}"));
        Ok::<_, CheckpointError>(names.collect::<Vec<_>>())
    };
    assert_eq!(names(None, 6).expect("they are few"), [r#"a: ["2"]"#, r#"b: ["01", "2"]"#]);
    assert!(matches!(names(None, 5), Err(CheckpointError::TooManyNames(5))));
    assert_eq!(names(Some("b"), 4).expect("they are few"), [r#"b: ["01", "2"]"#]);
    assert_eq!(names(Some("aa"), 4).expect("there are none"), [""; 0]);
}

#[test]
fn a_scan_gives_all_groups_in_the_order_of_their_bytes_as_they_were_when_it_began() {
    let (_place, folder) = folder();
    let checkpoint = three_groups(&folder);
    let scan = checkpoint.scan().expect("it can be read");
    let mut changed = group(&path("b", "2"), 7, vec![item(5, "5")]);
    changed.changed.extend([Revision(1), Revision(4)]);
    checkpoint.save(&part(vec![changed])).expect("there is room");
    drop(checkpoint);
    let seen: Vec<_> = scan
        .map(|group| group.expect("it can be read"))
        .map(|(path, group)| format!("{path:?}: {}", group.snapshot.len()))
        .collect();
    assert_eq!(seen, ["a > 2: 1", "b > 10: 0", "b > 2: 2"]);
}

#[test]
fn what_a_newer_program_has_written_is_refused() {
    let (place, folder) = folder();
    drop(three_groups(&folder));
    let newer = OpenDatabase::open(
        folder.open(CHECKPOINT_FILE).expect("it can be opened").expect("it is there"),
        |database| tables::set_version(database, VERSION + 1),
    );
    drop(newer.expect("it can be written"));
    let before = fs::read(place.path().join(CHECKPOINT_FILE)).expect("it can be read");
    let refused = Checkpoint::open(folder);
    assert!(matches!(refused, Err(CheckpointError::Newer(newer)) if newer == VERSION + 1), "{refused:?}");
    assert!(fs::read(place.path().join(CHECKPOINT_FILE)).expect("it can be read").len() == before.len());
}

/// A folder that counts what is read and written.
#[derive(Clone, Debug)]
struct Counting {
    folder: Folder,
    counts: Arc<IoCounts>,
}

#[derive(Debug)]
struct CountingFile {
    file: fs::File,
    counts: Arc<IoCounts>,
}

/// In bytes.
#[derive(Debug, Default)]
struct IoCounts {
    read: AtomicU64,
    written: AtomicU64,
}

impl Counting {
    fn new(folder: Folder) -> Counting {
        Counting { folder, counts: Arc::default() }
    }

    fn counted(&self, file: fs::File) -> CountingFile {
        CountingFile { file, counts: self.counts.clone() }
    }
}

impl Disk for Counting {
    type File = CountingFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }

    fn open(&self, name: &str) -> io::Result<Option<CountingFile>> {
        Ok(self.folder.open(name)?.map(|file| self.counted(file)))
    }

    fn create(&self, name: &str) -> io::Result<CountingFile> {
        Ok(self.counted(self.folder.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.folder.sync_names()
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let len = DiskFile::read_at(&self.file, offset, buffer)?;
        self.counts.read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.counts.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        DiskFile::write_at(&self.file, offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.file)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        DiskFile::set_len(&self.file, len)
    }

    fn sync(&self) -> io::Result<()> {
        DiskFile::sync(&self.file)
    }
}

/// What a crash leaves of a folder, in another one.
fn after_crash(place: &Path) -> (TempDir, Folder) {
    let (copy, folder) = folder();
    fs::copy(place.join(CHECKPOINT_FILE), copy.path().join(CHECKPOINT_FILE)).expect("there is room");
    (copy, folder)
}

/// A value of a few bytes.
const VALUE: &str = "\"some value of a few more bytes\"";

/// A checkpoint of groups of a thousand items each.
fn large(disk: &Counting, groups: u64) -> Checkpoint<Counting> {
    let (checkpoint, _) = Checkpoint::open(disk.clone()).expect("it can be opened");
    let group = |number: u64| {
        let items = (1..=1_000).map(|created| item(created, VALUE)).collect();
        group(&path("s", &number.to_string()), number, items)
    };
    checkpoint.save(&last_part((0..groups).map(group).collect())).expect("there is room");
    checkpoint
}

#[test]
fn after_a_crash_it_is_open_without_reading_what_is_in_it() {
    let (place, real) = folder();
    let _checkpoint = large(&Counting::new(real), 300);
    let (_copy, left) = after_crash(place.path());
    let disk = Counting::new(left);
    let (checkpoint, found) = Checkpoint::open(disk.clone()).expect("it can be opened");
    let found = found.expect("it was finished");
    assert_eq!((found.items, found.groups), (300_000, 300));
    let read = disk.counts.read.load(Ordering::Relaxed);
    let len = fs::metadata(place.path().join(CHECKPOINT_FILE)).expect("it is there").len();
    assert!(len > 20_000_000, "{len}");
    assert!(read < 500_000, "{read} of {len} bytes were read");
    let last = checkpoint.load_group(&path("s", "299")).expect("it can be read");
    assert_eq!(last.map(|group| group.snapshot.len()), Some(1_000));
}

#[test]
fn a_save_writes_a_page_for_an_item_at_most_however_they_are_spread() {
    let (_place, real) = folder();
    let disk = Counting::new(real);
    let checkpoint = large(&disk, 300);
    let before = disk.counts.written.load(Ordering::Relaxed);
    let every_fortieth = |number: u64| {
        let items = (1..=1_000).map(|created| item(created, VALUE)).collect();
        let group = group(&path("s", &number.to_string()), number, items);
        SaveGroup { changed: (0..25).map(|at| Revision(1 + at * 40)).collect(), ..group }
    };
    checkpoint.save(&part((0..300).map(every_fortieth).collect())).expect("there is room");
    let written = disk.counts.written.load(Ordering::Relaxed) - before;
    // And those above them, and what is free, and checksums.
    assert!(written < 300 * 25 * 4_096 * 5 / 4, "{written}");
}

/// Flips a bit of the byte at each of these places, and says what then comes of reading all groups: those that can be
/// read are as they were.
fn flip(places: impl Fn(&[u8]) -> Vec<usize>) -> Vec<String> {
    let (place, folder) = folder();
    let groups: Vec<_> = three_groups(&folder)
        .scan()
        .expect("it can be read")
        .map(|group| group.expect("it is whole"))
        .collect();
    let file = place.path().join(CHECKPOINT_FILE);
    let whole = fs::read(&file).expect("it can be read");
    let read = |at: usize| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&file, damaged).expect("there is room");
        let (checkpoint, _) = Checkpoint::open(folder.clone())?;
        for (path, group) in &groups {
            assert_eq!(checkpoint.load_group(path)?.as_ref(), Some(group), "at {at}");
        }
        Ok(())
    };
    let errors = places(&whole).into_iter().filter_map(|at| read(at).err());
    errors.map(|error: CheckpointError| error.to_string()).collect()
}

#[test]
fn a_page_that_is_not_what_was_written_is_never_used() {
    // Behind the checksums and the header.
    let used = |file: &[u8]| (2 * 4_096..file.len()).filter(|at| file[*at] != 0).step_by(17).collect();
    let errors = flip(used);
    assert!(errors.len() > 20, "{}", errors.len());
    for error in errors {
        let expected = error.starts_with("the checkpoint is damaged: the page at byte ")
            && error.ends_with(" is not what was written there");
        assert!(expected, "{error}");
    }
}

#[test]
fn a_damaged_header_or_checksum_is_damage_where_it_matters() {
    let used = |file: &[u8]| (0..2 * 4_096).filter(|at| file[*at] != 0).step_by(3).collect();
    let errors = flip(used);
    assert!(errors.iter().all(|error| error.starts_with("the checkpoint is damaged: ")), "{errors:?}");
    assert!(errors.len() > 20, "{}", errors.len());
}
