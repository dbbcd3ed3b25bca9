//! What a start makes of files that are not as the store left them: the torn end of the last write is cut off and
//! reported, and anything else is refused, without a change to any file.
//!
//! Where things stand in a file is found out by the texts of values: nothing here knows the format, but for the
//! version in the header.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use headwater_tests::{Server, Setup, Worker};
use serde_json::{Value, json};

/// Each is set after the one before was acknowledged, so each is in a batch of its own.
const ITEMS: usize = 100;

// Damage.

#[tokio::test]
async fn damage_before_the_end_is_refused_by_file_and_offset_and_nothing_is_changed() {
    let data = Data::written().await;
    let place = data.place_of(ITEMS / 3);
    // In the value, in what stands before it, and wherever else that is; always far from the end.
    for offset in (place.at - 60..place.at + 60).step_by(9) {
        let before = data.files();
        place.change(offset, |byte| byte ^ 0x10);
        let refusal = data.is_refused(1).await;
        assert!(refusal.contains(&place.name()), "the file is named: {refusal}");
        // Where the record starts that holds it.
        let named = numbers(&refusal).into_iter().any(|named| named <= offset && offset - named < 200);
        assert!(named, "byte {offset} was changed: {refusal}");
        place.change(offset, |byte| byte ^ 0x10);
        assert!(data.files() == before, "a refusal changes nothing");
    }
    data.starts_with(ITEMS).await;
}

#[tokio::test]
async fn the_refusal_of_damage_offers_repair() {
    let data = Data::written().await;
    let place = data.place_of(ITEMS / 3);
    place.change(place.at, |byte| byte ^ 0x10);
    let refusal = data.is_refused(1).await;
    let repair = format!("headwater repair --data {}", data.folder.display());
    assert!(refusal.contains(&repair), "{repair:?} is not in {refusal:?}");
}

/// Zeros are also what stands behind the last record of a file that has room ahead.
#[tokio::test]
async fn records_that_became_zeros_are_not_taken_for_the_end_of_the_log() {
    let data = Data::written().await;
    let (place, until) = (data.place_of(ITEMS / 3), data.place_of(ITEMS / 2));
    let whole = fs::read(&place.file).expect("the file can be read");
    // From within a record, and from where one starts, or nearly so: into the text before it and behind it.
    for from in [place.at, place.at - 60, place.at - 120] {
        let mut zeroed = whole.clone();
        zeroed[from..until.at].fill(0);
        fs::write(&place.file, &zeroed).expect("the file can be written");
        assert!(data.is_refused(1).await.contains(&place.name()));
        assert!(fs::read(&place.file).expect("the file can be read") == zeroed, "nothing is changed");
    }
    fs::write(&place.file, &whole).expect("the file can be written");
    data.starts_with(ITEMS).await;
}

#[tokio::test]
async fn a_log_of_a_newer_format_is_refused_by_its_version() {
    let data = Data::written().await;
    let place = data.place_of(0);
    let whole = fs::read(&place.file).expect("the file can be read");
    let mut newer = whole.clone();
    assert_eq!(&newer[..8], b"HEADWATR", "a log starts with its name, and then comes the format's version");
    newer[8..12].copy_from_slice(&4_711_u32.to_le_bytes());
    // It has its own idea of what comes then.
    newer[12..64].fill(7);
    fs::write(&place.file, &newer).expect("the file can be written");
    let refusal = data.is_refused(1).await;
    assert!(refusal.contains(&place.name()), "{refusal}");
    assert!(refusal.contains("version 4711") && refusal.contains("newer"), "{refusal}");
    assert!(fs::read(&place.file).expect("the file can be read") == newer, "nothing is changed");
    fs::write(&place.file, &whole).expect("the file can be written");
    data.starts_with(ITEMS).await;
}

#[tokio::test]
async fn a_log_whose_header_is_damaged_is_refused_and_not_taken_for_an_empty_one() {
    let data = Data::written().await;
    let place = data.place_of(0);
    // In the name, in the version, and in what only the checksum tells of.
    for offset in [0, 8, 20] {
        place.change(offset, |byte| byte ^ 0x03);
        let before = data.files();
        let refusal = data.is_refused(1).await;
        assert!(refusal.contains(&place.name()), "{refusal}");
        assert!(data.files() == before, "nothing is changed");
        place.change(offset, |byte| byte ^ 0x03);
    }
    data.starts_with(ITEMS).await;
}

// Torn ends, and what is not the store's.

#[tokio::test]
async fn what_a_file_held_before_it_was_a_part_of_the_log_is_no_part_of_it() {
    let data = Data::written().await;
    let place = data.place_of(ITEMS - 1);
    let mut bytes = fs::read(&place.file).expect("the file can be read");
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("there are records") + 1;
    let garbage = (0..300_u32).map(|n| u8::try_from(n * 37 % 255 + 1).expect("a byte"));
    bytes.resize(bytes.len().max(end + garbage.len()), 0);
    bytes.splice(end..end + garbage.len(), garbage);
    fs::write(&place.file, &bytes).expect("the file can be written");

    let mut server = data.starts_with(ITEMS).await;
    assert!(!store_line(&server).contains("cut off"), "{:?}", server.report());
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", &id(ITEMS), value(ITEMS)).await;
    server.kill9().await;
    data.starts_with(ITEMS + 1).await;
}

#[tokio::test]
async fn the_torn_half_of_the_last_record_is_cut_off_and_reported() {
    let data = Data::written().await;
    let place = data.place_of(ITEMS - 1);
    let mut bytes = fs::read(&place.file).expect("the file can be read");
    // The rest of its sectors was never written.
    bytes[place.at + 3..].fill(0);
    fs::write(&place.file, &bytes).expect("the file can be written");
    let mut server = data.starts_with(ITEMS - 1).await;
    assert!(store_line(&server).contains("cut off"), "{:?}", server.report());

    // The same place is written once more.
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", &id(ITEMS - 1), value(ITEMS - 1)).await;
    server.kill9().await;
    data.starts_with(ITEMS).await;
}

#[tokio::test]
async fn what_a_crash_left_half_made_and_what_is_not_the_store_s_is_in_nobodys_way() {
    let data = Data::written().await;
    let foreign = data.folder.join("notes.txt");
    fs::write(&foreign, "not the store's").expect("a file can be made");
    for half_made in ["new.log", "checkpoint.new"] {
        fs::write(data.folder.join(half_made), "HEADW").expect("a file can be made");
    }
    let mut server = data.starts_with(ITEMS).await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", &id(ITEMS), value(ITEMS)).await;
    server.kill9().await;
    data.starts_with(ITEMS + 1).await;
    assert_eq!(fs::read_to_string(&foreign).ok().as_deref(), Some("not the store's"));
}

// The files.

/// The folder of a server that was killed.
struct Data {
    setup: Setup,
    folder: PathBuf,
}

/// Where a value stands.
struct Place {
    file: PathBuf,
    at: usize,
}

fn id(n: usize) -> String {
    format!("i{n:04}")
}

fn value(n: usize) -> Value {
    json!({ "needle": format!("needle-{n:04}"), "text": "some text, as values have it" })
}

impl Data {
    async fn written() -> Data {
        let setup = Setup::new();
        let folder = setup.folder().join("data");
        let mut server = setup.clone().start().await;
        let mut worker = Worker::connect(server.workers()).await;
        for n in 0..ITEMS {
            worker.set("s", "g", &id(n), value(n)).await;
        }
        server.kill9().await;
        Data { setup, folder }
    }

    /// All files that hold something of the store; what is in the lock is for people.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(&self.folder).expect("the folder is there");
        let files = files.map(|file| file.expect("the folder can be read").path());
        let files = files.filter(|file| file.file_name() != Some("lock".as_ref()));
        files.map(|file| (file.clone(), fs::read(&file).expect("the file can be read"))).collect()
    }

    /// Where the value of an item stands: in one place.
    fn place_of(&self, n: usize) -> Place {
        let needle = format!("needle-{n:04}");
        let files = self.files();
        let places = files.iter().flat_map(|(file, bytes)| {
            let windows = bytes.windows(needle.len()).enumerate();
            windows.filter(|(_, window)| *window == needle.as_bytes()).map(move |(at, _)| (file, at))
        });
        match places.collect::<Vec<_>>()[..] {
            [(file, at)] => Place { file: file.clone(), at },
            ref places => panic!("{needle} is in one place, not in {places:?}"),
        }
    }

    /// Starts with the first so many items, and no others.
    async fn starts_with(&self, items: usize) -> Server {
        let server = self.setup.clone().start().await;
        let mut worker = Worker::connect(server.workers()).await;
        let expected: Vec<Value> = (0..items).map(value).collect();
        assert_eq!(worker.list("s", "g").await, expected);
        server
    }

    /// The start ends with this code and one line, which is given.
    async fn is_refused(&self, code: i32) -> String {
        let (status, stderr) = self.setup.start_and_fail().await;
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "one clear line, not {stderr:?}");
        stderr
    }
}

impl Place {
    fn name(&self) -> String {
        let name = self.file.file_name().map(Path::new).expect("a file has a name");
        name.display().to_string()
    }

    fn change(&self, offset: usize, change: impl Fn(u8) -> u8) {
        let mut bytes = fs::read(&self.file).expect("the file can be read");
        bytes[offset] = change(bytes[offset]);
        fs::write(&self.file, bytes).expect("the file can be written");
    }
}

/// The line of the report that says what is stored.
fn store_line(server: &Server) -> &str {
    let line = server.report().iter().find(|line| line.trim_start().starts_with("store"));
    line.expect("the report names the store")
}

fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
