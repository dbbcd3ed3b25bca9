//! `headwater repair` with the real binary: what it says, what it keeps, and that the server then starts with all that can
//! be kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use headwater_tests::{Server, Setup, Subscriber, Worker, run_to_exit, stored};
use serde_json::{Value, json};

const ITEMS: usize = 200;

// What there is to say.

#[tokio::test]
async fn where_nothing_is_damaged_nothing_is_changed() {
    for limits in [json!({}), small()] {
        let data = Data::written(limits).await;
        let before = data.files();
        let (code, stdout, stderr) = data.repair(&[]).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(stdout.contains("nothing is damaged"), "{stdout}");
        assert!(data.files() == before, "nothing is changed");
        assert_eq!(data.epoch, data.starts_with(|_| true).await, "the same history");
    }
}

#[tokio::test]
async fn what_is_in_use_newer_or_no_store_is_refused_and_not_repaired() {
    let data = Data::written(json!({})).await;
    let server = data.setup.clone().start().await;
    let (code, _, stderr) = data.repair(&["--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("in use"), "{stderr}");
    drop(server);

    let log = data.logs().pop().expect("there is a log");
    data.change(&log, |bytes| {
        bytes[8..12].copy_from_slice(&4_711_u32.to_le_bytes());
        // It has its own idea of what comes then.
        bytes[12..64].fill(7);
    });
    let before = data.files();
    let (code, _, stderr) = data.repair(&["--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("version 4711") && stderr.contains("newer"), "{stderr}");
    assert!(data.files() == before, "nothing is changed");

    let empty = data.setup.folder().join("nothing");
    let (status, _, stderr) = run_to_exit(&["repair", "--data", &empty.display().to_string()]).await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("there is no store"), "{stderr}");
    assert!(!empty.exists());
}

// The log.

#[tokio::test]
async fn a_damaged_record_costs_it_and_what_is_behind_and_everything_is_kept_beside() {
    let data = Data::written(json!({})).await;
    let logs = data.logs();
    let log = logs.last().expect("there is a log");
    let name = log.file_name().and_then(|name| name.to_str()).expect("a name");
    let whole = fs::read(log).expect("the file can be read");
    let at = place_of(&whole, &needle(ITEMS / 2))[0];
    data.change(log, |bytes| bytes[at] ^= 0x10);
    let before = data.files();

    // Without a terminal, and without a yes.
    let (code, stdout, stderr) = data.repair(&[]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--yes"), "{stderr}");
    assert!(stdout.contains(name) && stdout.contains("at byte "), "{stdout}");
    let lost = ITEMS - ITEMS / 2 - 1;
    assert!(stdout.contains(&format!("{lost} changes of 10 groups")), "{stdout}");
    assert!(stdout.contains("  s > g3: 10\n"), "{stdout}");
    assert!(stdout.contains(&format!("What is left: {} items in 10 groups", ITEMS / 2)), "{stdout}");
    assert!(data.files() == before, "nothing is changed");

    let (code, stdout, stderr) = data.repair(&["--yes"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.contains(&format!("is whole again, and holds {} items in 10 groups", ITEMS / 2)),
        "{stdout}"
    );
    assert!(data.kept(name, 1) == before[log], "kept as it was");
    let (code, stdout, _) = data.repair(&[]).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("nothing is damaged"), "{stdout}");
    assert_ne!(data.epoch, data.starts_with(|n| n < ITEMS / 2).await, "another history");
}

#[tokio::test]
async fn what_follows_a_file_that_is_missing_is_lost_and_what_comes_before_is_not() {
    for lost in ["removed", "header"] {
        let data = Data::written(json!({ "segment_bytes": 8_192 })).await;
        let logs = data.logs();
        assert!(logs.len() > 4, "{logs:?}");
        let first =
            (0..ITEMS).find(|n| contains(&data.files()[&logs[2]], &needle(*n))).expect("it holds items");
        match lost {
            "removed" => fs::remove_file(&logs[2]).expect("it is there"),
            _ => data.change(&logs[2], |bytes| bytes[20] ^= 1),
        }
        let before = data.files();
        let (code, stdout, _) = data.repair(&["--yes"]).await;
        assert_eq!(code, Some(0), "{stdout}");
        if lost == "header" {
            let name = logs[2].file_name().and_then(|name| name.to_str()).expect("a name");
            assert!(stdout.contains(&format!("The start of {name} is damaged")), "{stdout}");
        }
        for log in &logs[3..] {
            let name = log.file_name().and_then(|name| name.to_str()).expect("a name");
            assert!(data.kept(name, 1) == before[log], "{name} is kept as it was");
        }
        assert_ne!(data.epoch, data.starts_with(|n| n < first).await, "another history");
    }
}

#[tokio::test]
async fn a_damaged_start_of_the_newest_file_costs_what_it_held() {
    let data = Data::written(json!({ "segment_bytes": 8_192 })).await;
    let last = data.logs().pop().expect("there are files");
    let first = (0..ITEMS).find(|n| contains(&data.files()[&last], &needle(*n))).expect("it holds items");
    data.change(&last, |bytes| bytes[..64].fill(7));
    let (code, stdout, _) = data.repair(&["--yes"]).await;
    assert_eq!(code, Some(0), "{stdout}");
    data.starts_with(|n| n < first).await;
}

/// At whatever place of the log a byte is wrong, what is left starts, and is what came before.
#[tokio::test]
async fn wherever_the_log_is_damaged_what_is_left_is_a_beginning() {
    let data = Data::written(json!({ "segment_bytes": 8_192 })).await;
    let whole = data.files();
    for (n, log) in data.logs().iter().enumerate() {
        for at in [0, 30, 64, 80, 100, 3_000, 7_000] {
            data.restore(&whole);
            // Without its beginning, there is another story to tell.
            if whole[log].len() <= at || (n <= 1 && at < 64) {
                continue;
            }
            data.change(log, |bytes| bytes[at] ^= 0x40);
            let (code, stdout, stderr) = data.repair(&["--yes"]).await;
            assert_eq!(code, Some(0), "byte {at} of {}: {stdout}{stderr}", log.display());
            let server = data.setup.clone().start().await;
            let found = found(&server).await;
            let count = found.values().map(Vec::len).sum::<usize>();
            assert_eq!(found, expected(|n| n < count), "byte {at} of {}", log.display());
            assert!(n <= 1 || count > 0);
        }
    }
}

#[tokio::test]
async fn a_log_whose_first_file_is_lost_keeps_what_the_others_have() {
    for lost in ["removed", "header"] {
        let data = Data::written(json!({ "segment_bytes": 8_192 })).await;
        let logs = data.logs();
        let of = |log: &PathBuf| (0..ITEMS).find(|n| contains(&data.files()[log], &needle(*n)));
        // Those before it have nothing to tell but that there is a store.
        let at = logs.iter().position(|log| of(log) == Some(0)).expect("it is somewhere");
        let first = of(&logs[at + 1]).expect("the next holds items");
        for log in &logs[..=at] {
            match lost {
                "removed" => fs::remove_file(log).expect("it is there"),
                _ => data.change(log, |bytes| bytes[20] ^= 1),
            }
        }
        let (code, stdout, _) = data.repair(&["--yes"]).await;
        assert_eq!(code, Some(0), "{stdout}");
        assert!(stdout.contains("the beginning of the log is missing"), "{stdout}");
        assert_ne!(data.epoch, data.starts_with(|n| n >= first).await, "another history");
    }
}

// The checkpoint.

#[tokio::test]
async fn a_damaged_page_of_the_checkpoint_costs_the_items_that_are_on_it_and_no_others() {
    let data = Data::written(small()).await;
    let whole = fs::read(data.checkpoint()).expect("there is a checkpoint");
    let logs: Vec<u8> = data.logs().iter().flat_map(|log| fs::read(log).expect("it can be read")).collect();
    // One that is nowhere else.
    let n = (0..ITEMS).find(|n| contains(&whole, &needle(*n)) && !contains(&logs, &needle(*n)));
    let n = n.expect("the checkpoint holds items");
    data.change(&data.checkpoint(), |bytes| {
        // What it wrote once may be there still, where it does not look.
        for at in place_of(&whole, &needle(n)) {
            bytes[at] ^= 1;
        }
    });
    let damaged = data.files();
    let (code, stdout, _) = data.repair(&[]).await;
    assert_eq!(code, Some(1));
    assert!(stdout.contains(&format!("  s > g{}: ", n % 10)), "{stdout}");
    assert!(data.files() == damaged, "nothing is changed");
    let (code, stdout, stderr) = data.repair(&["--yes"]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(data.kept("checkpoint.redb", 1) == damaged[&data.checkpoint()], "kept as it was");
    let server = data.setup.clone().start().await;
    let found = found(&server).await;
    let is_there =
        |n: usize| found.get(&format!("g{}", n % 10)).is_some_and(|items| items.contains(&value(n)));
    drop(server);
    // Those that are in the same page of the file are lost with it.
    let lost = (0..ITEMS).filter(|n| !is_there(*n)).count();
    assert!(!is_there(n) && lost < ITEMS / 4, "{lost} are lost");
    assert_ne!(data.epoch, data.starts_with(is_there).await, "another history");
}

/// Whichever page of the checkpoint is nothing but zeros or ones, what is left starts, and is what was stored.
#[tokio::test]
async fn wherever_the_checkpoint_is_damaged_what_is_left_is_true() {
    let data = Data::written(small()).await;
    let whole = data.files();
    let pages = whole[&data.checkpoint()].len() / 4_096;
    let (all, mut lost) = (expected(|_| true), 0);
    for page in 0..pages {
        let before = &whole[&data.checkpoint()][page * 4_096..][..4_096];
        if before.iter().all(|byte| *byte == 0) {
            continue;
        }
        data.restore(&whole);
        let byte = if page % 2 == 0 { 0 } else { 0xff };
        data.change(&data.checkpoint(), |bytes| bytes[page * 4_096..][..4_096].fill(byte));
        let (code, stdout, stderr) = data.repair(&["--yes"]).await;
        assert_eq!(code, Some(0), "page {page}: {stdout}{stderr}");
        let server = data.setup.clone().start().await;
        let found = found(&server).await;
        assert!(data.saves(&server).await, "page {page}: nothing can be saved any more: {stdout}");
        if stdout.contains("nothing is damaged") {
            assert!(found == all, "page {page}: something is damaged");
            continue;
        }
        lost += 1;
        for (group, items) in found {
            assert!(items.iter().all(|item| all[&group].contains(item)), "page {page}, {group}: {items:?}");
        }
    }
    assert!(lost > 3, "some pages counted: {lost} of {pages}");
}

#[tokio::test]
async fn without_its_checkpoint_a_store_keeps_what_the_log_has() {
    for how in ["garbage", "removed", "empty"] {
        let data = Data::written(small()).await;
        let logs: Vec<u8> =
            data.logs().iter().flat_map(|log| fs::read(log).expect("it can be read")).collect();
        let in_log: Vec<usize> = (0..ITEMS).filter(|n| contains(&logs, &needle(*n))).collect();
        assert!(in_log.len() < ITEMS && !in_log.is_empty(), "{in_log:?}");
        match how {
            "garbage" => data.change(&data.checkpoint(), |bytes| bytes.fill(0x5a)),
            "empty" => fs::write(data.checkpoint(), "").expect("it can be written"),
            _ => fs::remove_file(data.checkpoint()).expect("it is there"),
        }
        let before = data.files();
        let (code, stdout, stderr) = data.repair(&["--yes"]).await;
        assert_eq!(code, Some(0), "{how}: {stdout}{stderr}");
        let said = if how == "removed" { "is missing" } else { "can't be read" };
        assert!(stdout.contains(said) && stdout.contains("lost"), "{stdout}");
        for log in before.keys().filter(|file| file.extension().is_some_and(|kind| kind == "log")) {
            let name = log.file_name().and_then(|name| name.to_str()).expect("a name");
            if !name.starts_with("spare") {
                assert!(data.kept(name, 1) == before[log], "{name} is kept as it was");
            }
        }
        // A file that is written over may hold older items that don't count.
        let server = data.setup.clone().start().await;
        let found = found(&server).await;
        let kept: usize = found.values().map(Vec::len).sum();
        assert!(kept > 0 && kept <= in_log.len(), "{kept} of {}", in_log.len());
        let newest = expected(|n| n >= ITEMS - kept);
        assert_eq!(found, newest, "{how}");
        drop(server);
        data.writes_on().await;
    }
}

#[tokio::test]
async fn damage_of_both_costs_both() {
    let data = Data::written(small()).await;
    data.change(&data.checkpoint(), |bytes| bytes.fill(0x5a));
    let log = data.logs().pop().expect("there are files");
    let whole = fs::read(&log).expect("it can be read");
    let last = (0..ITEMS).rev().find(|n| contains(&whole, &needle(*n)));
    if let Some(at) = last.and_then(|last| place_of(&whole, &needle(last)).pop()) {
        data.change(&log, |bytes| bytes[at] ^= 1);
    }
    let (code, stdout, stderr) = data.repair(&["--yes"]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    data.writes_on().await;
    let (code, stdout, _) = data.repair(&[]).await;
    assert_eq!((code, stdout.contains("nothing is damaged")), (Some(0), true), "{stdout}");
}

// The folder.

/// Limits with which checkpoints are made all the time.
fn small() -> Value {
    json!({ "cache_bytes": 65_536, "checkpoint_log_bytes": 16_384, "segment_bytes": 8_192 })
}

/// The folder of a server that was killed after it had acknowledged `ITEMS` items in ten groups.
struct Data {
    setup: Setup,
    folder: PathBuf,
    epoch: String,
}

fn needle(n: usize) -> String {
    format!("needle-{n:04}")
}

fn value(n: usize) -> Value {
    json!({ "needle": needle(n), "text": "some text, as values have it".repeat(6) })
}

fn expected(is_there: impl Fn(usize) -> bool) -> BTreeMap<String, Vec<Value>> {
    let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for n in (0..ITEMS).filter(|n| is_there(*n)) {
        expected.entry(format!("g{}", n % 10)).or_default().push(value(n));
    }
    expected
}

async fn found(server: &Server) -> BTreeMap<String, Vec<Value>> {
    let mut worker = Worker::connect(server.workers()).await;
    let mut found = BTreeMap::new();
    for group in 0..10 {
        let group = format!("g{group}");
        let list = worker.list("s", &group).await;
        if !list.is_empty() {
            found.insert(group, list);
        }
    }
    found
}

/// The name of the store's history.
async fn epoch(server: &Server) -> String {
    let (_, sync) = Subscriber::of_group(server.streams(), "s", "g0").await;
    sync.epoch.expect("a sync has an epoch")
}

fn place_of(bytes: &[u8], text: &str) -> Vec<usize> {
    let windows = bytes.windows(text.len()).enumerate();
    windows.filter(|(_, window)| *window == text.as_bytes()).map(|(at, _)| at).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    !place_of(bytes, text).is_empty()
}

impl Data {
    async fn written(limits: Value) -> Data {
        let setup = Setup::new().limits(limits);
        let folder = setup.folder().join("data");
        let mut server = setup.clone().start().await;
        let mut worker = Worker::connect(server.workers()).await;
        for n in 0..ITEMS {
            let call = stored("s", &format!("g{}", n % 10), &format!("i{n}"), value(n));
            worker.call("stream::set", call).await.expect("it can be stored");
        }
        let epoch = epoch(&server).await;
        server.kill9().await;
        Data { setup, folder, epoch }
    }

    /// All files but the lock.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(&self.folder).expect("the folder is there");
        let files = files.map(|file| file.expect("the folder can be read").path());
        let files = files.filter(|file| file.file_name() != Some("lock".as_ref()));
        files.map(|file| (file.clone(), fs::read(&file).expect("the file can be read"))).collect()
    }

    /// The files of the log, in order.
    fn logs(&self) -> Vec<PathBuf> {
        let is_log = |file: &PathBuf| {
            let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
            name.ends_with(".log") && name.starts_with('0')
        };
        self.files().into_keys().filter(is_log).collect()
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.redb")
    }

    fn kept(&self, name: &str, number: u32) -> Vec<u8> {
        let file = self.folder.join(format!("{name}.damaged-{number}"));
        fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    }

    fn change(&self, file: &PathBuf, change: impl Fn(&mut [u8])) {
        let mut bytes = fs::read(file).expect("the file can be read");
        change(&mut bytes);
        fs::write(file, bytes).expect("the file can be written");
    }

    /// Puts these files there and removes all others.
    fn restore(&self, files: &BTreeMap<PathBuf, Vec<u8>>) {
        for file in self.files().keys() {
            fs::remove_file(file).expect("it is there");
        }
        for (file, bytes) in files {
            fs::write(file, bytes).expect("it can be written");
        }
    }

    async fn repair(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let folder = self.folder.display().to_string();
        let (status, stdout, stderr) =
            run_to_exit(&[&["repair", "--data", &folder], arguments].concat()).await;
        (status.code(), stdout, stderr)
    }

    /// Starts with exactly these items, and goes on from there. Gives the epoch.
    async fn starts_with(&self, is_there: impl Fn(usize) -> bool) -> String {
        let server = self.setup.clone().start().await;
        assert_eq!(found(&server).await, expected(is_there));
        let epoch = epoch(&server).await;
        drop(server);
        self.writes_on().await;
        epoch
    }

    /// Whether a checkpoint can be made: it makes the oldest file of the log superfluous.
    async fn saves(&self, server: &Server) -> bool {
        let oldest = self.logs().remove(0);
        let mut worker = Worker::connect(server.workers()).await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while oldest.exists() && Instant::now() < deadline {
            worker.set("s", "g0", "again", json!("and again")).await;
        }
        !oldest.exists()
    }

    /// What is written to the store is there when it starts again.
    async fn writes_on(&self) {
        let mut before = BTreeMap::new();
        for round in 0..3 {
            let mut server = self.setup.clone().start().await;
            let now = found(&server).await;
            assert!(round == 0 || now == before, "round {round}");
            let mut worker = Worker::connect(server.workers()).await;
            for group in 0..10 {
                worker.set("s", &format!("g{group}"), &format!("round {round}"), json!(round)).await;
            }
            before = found(&server).await;
            server.kill9().await;
        }
    }
}
