//! A disk that is really full, or takes nothing for another reason: writers are told, nobody sees what was not
//! acknowledged, reads go on, and when there is room again, writes are taken again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_tests::{
    CallId, DEADLINE, Outcome, Refusal, Server, Setup, Subscriber, Tmpfs, Worker, item, stored, within,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const WRITERS: usize = 4;
const WINDOW: usize = 16;
/// How many sets are acknowledged before the disk is full, under load.
const BEFORE: usize = 100;
/// More sets than fit into what the store has made room for in advance.
const MOST: usize = 4_000;
/// How often the disk gets full.
const TIMES: usize = 3;

/// A small file system is filled up.
#[tokio::test]
async fn a_full_disk_refuses_writes_with_its_reason_and_nobody_sees_what_was_not_acknowledged() {
    if let Some(disk) = Disk::small() {
        refused_and_not_seen(disk).await;
    }
}

/// A limit on what the process may write, where nothing can be mounted.
#[tokio::test]
async fn a_limit_on_files_refuses_writes_with_its_reason_and_nobody_sees_what_was_not_acknowledged() {
    refused_and_not_seen(Disk::Limited).await;
}

#[tokio::test]
async fn writes_are_taken_again_without_a_restart_once_a_full_disk_has_room() {
    if let Some(disk) = Disk::small() {
        taken_again(disk).await;
    }
}

#[tokio::test]
async fn writes_are_taken_again_without_a_restart_once_a_limit_on_files_is_lifted() {
    taken_again(Disk::Limited).await;
}

#[tokio::test]
async fn a_start_in_a_folder_that_can_only_be_read_is_one_line_and_exit_code_1() {
    let Some(Disk::Small(tmpfs)) = Disk::small() else { return };
    let data = tmpfs.path().join("data");
    let mut server = Setup::new().data(&data).start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", "i", json!("kept")).await;
    assert_eq!(server.terminate().await, Some(0));

    tmpfs.make_read_only(true);
    for data in [data.clone(), tmpfs.path().join("new")] {
        let (status, stderr) = Setup::new().data(&data).start_and_fail().await;
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "one clear line, not {stderr:?}");
        assert!(stderr.contains(&*data.to_string_lossy()) && stderr.contains("Read-only"), "{stderr:?}");
    }

    tmpfs.make_read_only(false);
    let server = server.restart().await;
    let mut worker = Worker::connect(server.workers()).await;
    assert_eq!(worker.list("s", "g").await, [json!("kept")]);
}

/// What the store is on.
enum Disk {
    /// A small file system.
    Small(Tmpfs),
    /// Any, with a limit on the length of files.
    Limited,
}

impl Disk {
    fn small() -> Option<Disk> {
        match Tmpfs::mount() {
            Ok(tmpfs) => Some(Disk::Small(tmpfs)),
            Err(why) => {
                println!("skipped, as no file system can be mounted here: {why}");
                None
            }
        }
    }

    async fn start(&self) -> Server {
        // A subscriber is never so slow that it gets a fresh sync.
        let setup = Setup::new().limits(json!({ "outbox_bytes": 1_u64 << 30 }));
        match self {
            Disk::Small(tmpfs) => setup.data(&tmpfs.path().join("data")),
            Disk::Limited => setup.outlive_file_limit(),
        }
        .start()
        .await
    }

    fn fill(&self, server: &Server) {
        match self {
            Disk::Small(tmpfs) => tmpfs.fill(),
            Disk::Limited => server.limit_files(Some(1)),
        }
    }

    fn make_room(&self, server: &Server) {
        match self {
            Disk::Small(tmpfs) => tmpfs.make_room(),
            Disk::Limited => server.limit_files(None),
        }
    }

    /// What the system says when it takes no more.
    fn reason(&self) -> &'static str {
        match self {
            Disk::Small(_) => "No space left on device",
            Disk::Limited => "File too large",
        }
    }
}

/// What callers were told of their sets. Every set is of an item of its own.
#[derive(Default)]
struct Known {
    acknowledged: BTreeSet<String>,
    /// Whether nothing was written for sure, of those that were refused.
    refused: BTreeMap<String, bool>,
}

impl Known {
    fn answered(&mut self, disk: &Disk, id: String, outcome: Outcome) {
        match outcome {
            Ok(_) => drop(self.acknowledged.insert(id)),
            Err(refusal) => drop(self.refused.insert(id, checked(disk, "STREAM_SET_ERROR", &refusal))),
        }
    }
}

/// The refusal is as it must be. Whether it says that nothing was written.
#[track_caller]
fn checked(disk: &Disk, code: &str, refusal: &Refusal) -> bool {
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(refusal.message.contains(disk.reason()), "{:?} is not in {refusal:?}", disk.reason());
    !refusal.message.contains("outcome_unknown")
}

fn value(id: &str) -> Value {
    json!({ "id": id, "text": "x".repeat(4_000) })
}

fn ids(values: &[Value]) -> BTreeSet<String> {
    let ids: Vec<&str> =
        values.iter().map(|value| value["id"].as_str().expect("every value has one")).collect();
    for (id, value) in ids.iter().zip(values) {
        assert_eq!(*value, self::value(id));
    }
    let set: BTreeSet<String> = ids.iter().map(|&id| id.to_owned()).collect();
    assert_eq!(set.len(), ids.len(), "nothing is there twice");
    set
}

/// Writes at full speed while the disk gets full, until every writer has been refused something.
async fn fill_up(disk: &Disk, server: &Server, known: &mut Known) {
    let acknowledged = Arc::new(Semaphore::new(0));
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let worker = Worker::connect(server.workers()).await;
        writers.push(tokio::spawn(write_until_refused(worker, Arc::clone(&acknowledged))));
    }
    let enough = u32::try_from(BEFORE).expect("a few");
    drop(within(DEADLINE, "sets before the disk is full", acknowledged.acquire_many(enough)).await);
    disk.fill(server);
    for writer in writers {
        for (id, outcome) in writer.await.expect("a writer does not panic") {
            known.answered(disk, id, outcome);
        }
    }
    assert!(!known.refused.is_empty());
}

async fn write_until_refused(mut worker: Worker, acknowledged: Arc<Semaphore>) -> Vec<(String, Outcome)> {
    let mut unanswered: BTreeMap<CallId, String> = BTreeMap::new();
    let (mut made, mut refused) = (0, false);
    let mut outcomes = Vec::new();
    loop {
        while !refused && unanswered.len() < WINDOW {
            // The worker's id makes it one that nobody else has.
            let id = format!("{}-{made}", worker.id());
            let call = worker.start("stream::set", stored("s", "g", &id, value(&id))).await;
            unanswered.insert(call, id);
            made += 1;
            assert!(made < MOST, "the disk is full, but {made} sets were taken");
        }
        if unanswered.is_empty() {
            return outcomes;
        }
        let (call, outcome) = worker.next_outcome().await.expect("the server is alive");
        let id = unanswered.remove(&call).expect("each call is answered once");
        refused |= outcome.is_err();
        acknowledged.add_permits(usize::from(outcome.is_ok()));
        outcomes.push((id, outcome));
    }
}

/// Nothing but what was acknowledged is read, in any way, and all of that.
async fn is_read(server: &Server, known: &Known) {
    let mut worker = Worker::connect(server.workers()).await;
    let list = worker.list("s", "g").await;
    assert_eq!(ids(&list), known.acknowledged);
    let (_, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
    assert_eq!(sync.data(), Value::Array(list));
    for id in known.refused.keys().take(WRITERS * WINDOW) {
        assert_eq!(worker.call("stream::get", item("s", "g", id)).await, Ok(None));
    }
    let first = known.acknowledged.first().expect("something was acknowledged");
    assert_eq!(worker.result_of("stream::get", item("s", "g", first)).await, Some(value(first)));
}

/// The subscriber, who was there all the time, is told of what was acknowledged, and of nothing else before it.
async fn are_told(subscriber: &mut Subscriber, seen: &mut BTreeSet<String>, known: &Known) {
    while seen.len() < known.acknowledged.len() {
        let created = subscriber.next_of("create").await;
        seen.insert(created.id.expect("a change is of an item"));
        assert_eq!(created.revision, Some(seen.len() as u64), "each change once, without a gap");
    }
    assert_eq!(*seen, known.acknowledged);
}

async fn refused_and_not_seen(disk: Disk) {
    let mut server = disk.start().await;
    let mut known = Known::default();
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("other", "g", "i", json!({ "n": 1 })).await;
    fill_up(&disk, &server, &mut known).await;

    is_read(&server, &known).await;
    let mut seen = BTreeSet::new();
    are_told(&mut subscriber, &mut seen, &known).await;

    // The other writes are told in their own words. They may be so small that there is room for them.
    let mut update = item("other", "g", "i");
    update["ops"] = json!([{ "type": "increment", "path": "n", "by": 1 }]);
    let updated = worker.call("stream::update", update).await;
    let deleted = worker.call("stream::delete", item("other", "g", "i")).await;
    for (code, outcome) in [("STREAM_UPDATE_ERROR", &updated), ("STREAM_DELETE_ERROR", &deleted)] {
        match outcome {
            Ok(_) => assert!(matches!(disk, Disk::Small(_)), "no write is small enough for this limit"),
            Err(refusal) => drop(checked(&disk, code, refusal)),
        }
    }
    let other = match (updated.is_ok(), deleted.is_ok()) {
        (_, true) => None,
        (updated, false) => Some(json!({ "n": if updated { 2 } else { 1 } })),
    };
    assert_eq!(worker.result_of("stream::get", item("other", "g", "i")).await, other);

    disk.make_room(&server);
    server.kill9().await;
    let more = subscriber.next_or_end().await;
    assert!(more.is_none(), "nothing else was acknowledged, but a subscriber was told {more:?}");
    let server = server.restart().await;
    let mut worker = Worker::connect(server.workers()).await;
    let there = ids(&worker.list("s", "g").await);
    let lost: Vec<_> = known.acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged, but lost: {lost:?}");
    for id in there.difference(&known.acknowledged) {
        assert_eq!(
            known.refused.get(id),
            Some(&false),
            "{id} is there, whose caller was told that it is not"
        );
    }
    worker.set("s", "g", "after", json!("taken")).await;
}

async fn taken_again(disk: Disk) {
    let mut server = disk.start().await;
    let mut known = Known::default();
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    let mut seen = BTreeSet::new();
    for time in 1..=TIMES {
        fill_up(&disk, &server, &mut known).await;
        is_read(&server, &known).await;
        disk.make_room(&server);

        let mut worker = Worker::connect(server.workers()).await;
        let asking = async {
            for asked in 0.. {
                let id = format!("again-{time}-{asked}");
                let outcome = worker.call("stream::set", stored("s", "g", &id, value(&id))).await;
                let taken = outcome.is_ok();
                known.answered(&disk, id, outcome);
                if taken {
                    return;
                }
            }
        };
        within(DEADLINE, "writes to be taken again", asking).await;
        for n in 0..100 {
            let id = format!("more-{time}-{n}");
            worker.set("s", "g", &id, value(&id)).await;
            known.acknowledged.insert(id);
        }
        is_read(&server, &known).await;
        are_told(&mut subscriber, &mut seen, &known).await;
    }

    server.kill9().await;
    let more = subscriber.next_or_end().await;
    assert!(more.is_none(), "nothing else was acknowledged, but a subscriber was told {more:?}");
    let server = server.restart().await;
    is_read(&server, &known).await;
}
