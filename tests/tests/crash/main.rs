//! Writers at full speed and `kill -9` at random moments, again and again, on one folder.
//!
//! Eight connections keep 64 changes each unanswered, two subscribers record what they are told, and the server is
//! killed 20 to 400 ms later; every third time also while it starts again. Then `oracle.rs` says whether what the
//! store holds can be: everything acknowledged and everything seen is there, nothing else than what was sent is there,
//! and revisions and timestamps go on without a gap or a repeat.
//!
//! `HEADWATER_CRASH_ROUNDS` says how many rounds there are (10 if it is not set; 200 for the longer mode), and
//! `HEADWATER_CRASH_SEED` repeats the changes and moments of a run, whose seed is in its output:
//!
//! ```sh
//! HEADWATER_CRASH_ROUNDS=200 cargo test -p headwater-tests --test crash -- --nocapture
//! ```

mod oracle;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use headwater_tests::{CallId, Frame, Server, Setup, Subscriber, Worker, item, stored};
use oracle::{Change, Checked, Content, Oracle, Shown, Ticket, Told, Watcher};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const STREAM: &str = "s";
const WRITERS: u32 = 8;
const WINDOW: usize = 64;
const SUBSCRIBERS: usize = 2;
const ROUNDS: u64 = 10;

#[tokio::test]
async fn what_was_acknowledged_or_seen_survives_kill_9_at_any_moment() {
    survive(Load { groups: 4, watched: 4, items: 4 }, json!({})).await;
}

#[tokio::test]
async fn so_it_is_while_checkpoints_are_made_all_the_time() {
    let limits = json!({ "segment_bytes": 65_536, "checkpoint_log_bytes": 65_536 });
    survive(Load { groups: 4, watched: 4, items: 4 }, limits).await;
}

#[tokio::test]
async fn so_it_is_when_little_of_it_fits_into_memory() {
    let limits = json!({ "segment_bytes": 262_144, "checkpoint_log_bytes": 262_144, "cache_bytes": 100_000 });
    survive(Load { groups: 300, watched: 8, items: 4 }, limits).await;
}

/// What is written to.
#[derive(Clone, Copy)]
struct Load {
    groups: u64,
    /// The first so many of them have subscribers.
    watched: u64,
    /// The items that each writer has in each group. The first is only counted up.
    items: u64,
}

/// Runs all rounds, on a server with these limits.
async fn survive(load: Load, mut limits: Value) {
    // No subscriber is so slow that it gets a fresh sync: each is to see every change.
    limits["outbox_bytes"] = json!(1_u64 << 30);
    let rounds = from_environment("HEADWATER_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let seed = from_environment("HEADWATER_CRASH_SEED").unwrap_or(now.subsec_nanos().into());
    println!("HEADWATER_CRASH_SEED={seed}, {limits}");

    let mut rng = Rng(seed);
    let oracle = Arc::new(Shared::default());
    let mut server = Setup::new().limits(limits).start().await;
    let mut epoch = None;
    let (mut all_sent, mut all_owed, mut all_found) = (0, 0, 0);
    for round in 0..rounds {
        let mut readers = Vec::new();
        for _ in 0..SUBSCRIBERS {
            let (subscriber, watchers) = watch(&server, &oracle, load.watched, &mut epoch).await;
            readers.push(tokio::spawn(record(subscriber, watchers, Arc::clone(&oracle))));
        }
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let worker = Worker::connect(server.workers()).await;
            let rng = Rng(rng.next());
            let writer = Writer { number, round, load, rng, oracle: Arc::clone(&oracle), made: 0 };
            writers.push(tokio::spawn(writer.write(worker)));
        }
        let moment = Duration::from_micros(20_000 + rng.below(380_000));
        tokio::time::sleep(moment).await;
        server.kill9().await;
        finished(writers).await;
        finished(readers).await;
        let (sent, owed) = oracle.lock().counts();

        if round % 3 == 2 {
            server.setup().start_and_kill9(Duration::from_micros(rng.below(60_000))).await;
        }
        server = server.restart().await;
        let found = check(&server, &oracle, load).await;
        println!(
            "round {round}: {moment:?}, {sent} sent, {owed} acknowledged or seen, {found} more are there"
        );
        (all_sent, all_owed, all_found) = (all_sent + sent, all_owed + owed, all_found + found);
    }
    assert!(all_owed > 0 && all_owed < all_sent, "no crash came between a change and its answer");

    // A stop in good order keeps as much.
    assert_eq!(server.terminate().await, Some(0));
    let server = server.restart().await;
    assert_eq!(check(&server, &oracle, load).await, 0, "there is more than before the stop");
    println!("{all_sent} sent, {all_owed} acknowledged or seen, {all_found} kept beyond");
}

/// What the tasks of a test tell the oracle.
#[derive(Default)]
struct Shared(Mutex<Oracle>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Oracle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[track_caller]
fn right<T>(checked: Checked<T>) -> T {
    checked.unwrap_or_else(|wrong| panic!("{wrong}"))
}

async fn finished(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

fn name_of(group: u64) -> String {
    format!("g{group}")
}

// Writing.

struct Writer {
    number: u32,
    round: u64,
    load: Load,
    rng: Rng,
    oracle: Arc<Shared>,
    made: u64,
}

/// The result of a change.
#[derive(Deserialize)]
struct Changed {
    old_value: Option<Content>,
    new_value: Option<Content>,
    revision: u64,
}

impl Writer {
    /// Makes changes until the server is gone, and takes the answers that were sent before that.
    async fn write(mut self, mut worker: Worker) {
        let mut unanswered: BTreeMap<CallId, Ticket> = BTreeMap::new();
        let mut gone = false;
        loop {
            while !gone && unanswered.len() < WINDOW {
                let (function, data, ticket) = self.change();
                match worker.try_start(function, data).await {
                    Some(call) => drop(unanswered.insert(call, ticket)),
                    None => gone = true,
                }
            }
            let Some((call, outcome)) = worker.next_outcome().await else { return };
            let ticket = unanswered.remove(&call).expect("each call is answered once");
            let result = match outcome {
                Ok(result) => result.expect("a change has a result"),
                Err(refusal) => panic!("{ticket:?} was refused: {refusal:?}"),
            };
            let changed: Changed =
                serde_json::from_str(&result).unwrap_or_else(|e| panic!("{e} in the answer {result}"));
            let (old, new) = (changed.old_value.as_ref(), changed.new_value.as_ref());
            right(self.oracle.lock().acknowledged(&ticket, old, new, changed.revision));
        }
    }

    /// A change of an item, as it is called, and as the oracle knows it.
    fn change(&mut self) -> (&'static str, String, Ticket) {
        let group = name_of(self.rng.below(self.load.groups));
        let number = self.rng.below(self.load.items);
        let id = format!("{}-{number}", self.number);
        let seq = (self.round + 1) * 1_000_000 + self.made;
        self.made += 1;

        let mut oracle = self.oracle.lock();
        let is_there = oracle.ahead(&group, self.number, &id).is_some();
        let dice = self.rng.below(100);
        let change = match (number, dice) {
            (0, _) | (_, 70..85) => Change::Count { seq },
            (_, 85..) if is_there => Change::Delete,
            _ => Change::Set { seq, text: (0..self.rng.below(200)).map(|_| 'x').collect() },
        };
        let ticket = oracle.sends(&group, self.number, &id, change.clone());
        let mut input = item(STREAM, &group, &id);
        let (function, input) = match change {
            Change::Set { .. } => {
                let content = json!(oracle.ahead(&group, self.number, &id));
                let mut input = stored(STREAM, &group, &id, content);
                input.insert_str(1, r#""revision":true,"#);
                ("stream::set", input)
            }
            Change::Count { seq } => {
                input["revision"] = true.into();
                input["ops"] = json!([
                    { "type": "increment", "path": "n", "by": 1 },
                    { "type": "merge", "path": "", "value": { "id": id, "writer": self.number, "seq": seq } },
                ]);
                ("stream::update", input.to_string())
            }
            Change::Delete => {
                input["revision"] = true.into();
                ("stream::delete", input.to_string())
            }
        };
        (function, input, ticket)
    }
}

// Seeing.

/// Subscribes to the first groups: their syncs must be of what the oracle knows to be there.
async fn watch(
    server: &Server,
    oracle: &Shared,
    groups: u64,
    epoch: &mut Option<String>,
) -> (Subscriber, BTreeMap<String, Watcher>) {
    let mut subscriber = Subscriber::connect(server.streams()).await;
    let mut watchers = BTreeMap::new();
    for group in (0..groups).map(name_of) {
        let sync = subscriber.join(&group, STREAM, &group, None).await;
        let (revision, items) = synced(&sync);
        assert_eq!(
            *epoch.get_or_insert_with(|| sync.epoch.clone().expect("a sync has an epoch")),
            sync.epoch.clone().unwrap_or_default(),
            "nothing of the history is lost"
        );
        let watcher = right(oracle.lock().watch(&group, revision, sync.timestamp, &items));
        watchers.insert(group, watcher);
    }
    (subscriber, watchers)
}

/// Tells the oracle of every frame until the server is gone.
async fn record(mut subscriber: Subscriber, mut watchers: BTreeMap<String, Watcher>, oracle: Arc<Shared>) {
    while let Some(frame) = subscriber.next_or_end().await {
        let watcher = watchers.get_mut(&frame.group_id).expect("only what was joined is told of");
        right(oracle.lock().told(watcher, &told(&frame)));
    }
}

fn told(frame: &Frame) -> Told {
    let content = match &*frame.event.kind {
        "create" | "update" => Some(content_of(frame.data_text())),
        "delete" => None,
        other => panic!("an event {other:?} where every change was to be told: {frame:?}"),
    };
    Told {
        id: frame.id.clone().expect("a change is of an item"),
        content,
        created: frame.event.kind == "create",
        revision: frame.revision.expect("a change has a revision"),
        stamp: frame.timestamp,
    }
}

fn synced(sync: &Frame) -> (u64, Vec<Content>) {
    (sync.revision.expect("a sync has a revision"), content_of(sync.data_text()))
}

fn content_of<T: for<'de> Deserialize<'de>>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("nobody sent this: {e} in {text}"))
}

// After a crash.

/// Reads everything back. Gives how many changes are there that nobody had been told of.
async fn check(server: &Server, oracle: &Shared, load: Load) -> u64 {
    let mut worker = Worker::connect(server.workers()).await;
    let mut holding = Vec::new();
    let mut found = 0;
    for group in (0..load.groups).map(name_of) {
        let input = json!({ "stream_name": STREAM, "group_id": group, "revision": true });
        let list = worker.call("stream::list", input).await;
        let list = list.ok().flatten().expect("a group can be listed");
        let shown: Vec<Listed> = content_of(&list);
        let shown: Vec<Shown> = shown.into_iter().map(Listed::shown).collect();
        let (_, sync) = Subscriber::of_group(server.streams(), STREAM, &group).await;
        let (revision, items) = synced(&sync);
        found += right(oracle.lock().restarted(&group, revision, &shown));
        right(oracle.lock().watch(&group, revision, sync.timestamp, &items));
        if !shown.is_empty() {
            holding.push(group);
        }
    }
    let groups = worker.result_of("stream::list_groups", json!({ "stream_name": STREAM })).await;
    let mut groups: Vec<String> = serde_json::from_value(groups.unwrap_or_default()).expect("names");
    groups.sort();
    holding.sort();
    assert_eq!(groups, holding, "the groups that hold something, and no others");
    found
}

/// An item of a list with revisions.
#[derive(Deserialize)]
struct Listed {
    id: String,
    value: Content,
    revision: u64,
}

impl Listed {
    fn shown(self) -> Shown {
        Shown { id: self.id, content: self.value, revision: self.revision }
    }
}

// Chance.

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, unlike {text:?}")))
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
