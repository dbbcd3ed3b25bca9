//! The laws of remembered joins, on a disk that keeps what was synced and of the rest whatever it likes.

mod any_story;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::call::Caller;
use crate::config::Limits;
use crate::key::WorkerKey;
use crate::log::{Batch, BatchBytes, BatchNumber, FileHeader, Salt};
use crate::name::{FunctionId, GroupName, GroupPath, StreamName};
use crate::rng::Uuid;
use crate::store::{Command, Damage, ItemPath, Recovered, Replay, State};
use crate::time::WallMs;

/// A disk that loses something loses pieces of so many bytes: smaller than a record.
const PIECE: usize = 16;

/// A store and its disk.
struct World {
    store: Store,
    /// What was written; the first `synced` bytes of it are safe.
    log: Vec<u8>,
    synced: usize,
    in_flight: Option<Batch>,
    /// A write that failed: any of it may be on the disk.
    failed: Vec<u8>,
    syncs: usize,
    /// What came out since this was looked at: ids of answers, `!` after those of errors, and leaves.
    told: Vec<String>,
}

fn header() -> FileHeader {
    FileHeader { epoch: Uuid::from_random(7), salt: Salt([7; 8]) }
}

fn replay(log: &[u8]) -> Result<Recovered, Damage> {
    let (header, records) = log.split_first_chunk().expect("a log starts with a header");
    let mut replay = Replay::open(header).expect("the header is whole");
    replay.push(records);
    replay.finish()
}

/// What a log remembers.
fn remembered(log: &[u8]) -> Vec<(JoinKey, Joined)> {
    let recovered = replay(log).unwrap_or_else(|damage| panic!("{damage}"));
    Store::recovered(recovered, WallMs(1)).take_remembered_joins()
}

fn group() -> GroupPath {
    GroupPath { stream: StreamName::trusted("s"), group: GroupName::trusted("g") }
}

/// Joins differ in everything.
fn join(n: usize) -> Joined {
    Joined {
        subscription: SubscriptionId::trusted(&format!("subscription {n}")),
        target: Target { group: group(), item: (n % 2 == 1).then(|| ItemId::trusted(&n.to_string())) },
        context: (!n.is_multiple_of(3)).then(|| Json::trusted(format!("{{\"n\": {n}}}"))),
    }
}

fn joins(numbers: impl IntoIterator<Item = usize>) -> Vec<Joined> {
    numbers.into_iter().map(join).collect()
}

fn without_keys(joins: Vec<(JoinKey, Joined)>) -> Vec<Joined> {
    joins.into_iter().map(|(_, joined)| joined).collect()
}

impl World {
    fn new() -> World {
        World::on(header().encode().to_vec())
    }

    fn on(mut log: Vec<u8>) -> World {
        let recovered = replay(&log).unwrap_or_else(|damage| panic!("{damage}"));
        log.truncate(usize::try_from(recovered.end).expect("a small log"));
        World {
            store: Store::recovered(recovered, WallMs(1)),
            synced: log.len(),
            log,
            in_flight: None,
            failed: Vec::new(),
            syncs: 0,
            told: Vec::new(),
        }
    }

    fn join(&mut self, n: usize) -> Option<JoinKey> {
        let key = self.store.joined(&join(n));
        self.put_out(Vec::new());
        key
    }

    /// A join of a store that remembers.
    fn joined(&mut self, n: usize) -> JoinKey {
        self.join(n).expect("the store remembers")
    }

    fn leave(&mut self, key: JoinKey) {
        let mut out = Vec::new();
        self.store.left(key, &mut out);
        self.put_out(out);
    }

    fn set(&mut self, id: &str) {
        let item = ItemPath { group: group(), id: ItemId::trusted(id) };
        self.run(id, Command::Set { item, data: Json::null(), expect: None, revision: false });
    }

    fn run(&mut self, id: &str, command: Command) {
        let function_id = FunctionId::trusted("f");
        let caller = Caller { worker: WorkerKey(1), invocation_id: Some(id.to_owned()), function_id };
        let mut out = Vec::new();
        self.store.run(WallMs(1), caller, command, &Limits::default(), &mut out);
        self.put_out(out);
    }

    /// The write under way is done.
    fn written(&mut self) {
        let batch = self.in_flight.take().expect("a write is under way");
        self.log.extend_from_slice(&batch.bytes);
        if batch.sync {
            self.synced = self.log.len();
            self.syncs += 1;
        }
        let mut out = Vec::new();
        self.store.persisted(batch.number, &mut out);
        self.put_out(out);
    }

    fn settle(&mut self) {
        while self.in_flight.is_some() {
            self.written();
        }
    }

    /// The write under way fails.
    fn fail(&mut self) {
        self.failed = self.in_flight.take().expect("a write is under way").bytes.to_vec();
        let mut out = Vec::new();
        self.store.persist_failed("disk full", &mut out);
        self.put_out(out);
    }

    fn put_out(&mut self, mut out: Vec<Output>) {
        self.store.flush(&mut out);
        for output in out {
            match output {
                Output::Persist(batch) => {
                    assert_eq!(batch.position, self.log.len() as u64, "a write goes to the end of the log");
                    assert!(!batch.bytes.is_empty(), "a write holds something");
                    assert!(self.in_flight.replace(batch).is_none(), "one write at a time");
                }
                Output::Reply { caller, outcome } => {
                    let id = caller.invocation_id.expect("every call has one");
                    self.told.push(if outcome.is_ok() { id } else { id + "!" });
                }
                Output::Release(_) | Output::Show { .. } => {}
                Output::Left(JoinKey(key)) => self.told.push(format!("left {key}")),
            }
        }
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// What the disk was ever given.
    fn given(&self) -> Vec<u8> {
        let writing = self.in_flight.as_ref().map_or(&self.failed[..], |batch| &batch.bytes);
        [&self.log, writing].concat()
    }

    /// What a power loss may leave: of what is not synced, those pieces of which `keeps` says so.
    fn left_by_power_loss(&self, mut keeps: impl FnMut(usize) -> bool) -> Vec<u8> {
        let mut left = self.given();
        let mut end = self.synced;
        for (n, at) in (self.synced..left.len()).step_by(PIECE).enumerate() {
            let to = left.len().min(at + PIECE);
            match keeps(n) {
                true => end = to,
                false => left[at..to].fill(0),
            }
        }
        left.truncate(end);
        left
    }
}

#[test]
fn joins_without_a_leave_are_remembered_once_and_in_order() {
    let mut world = World::new();
    let keys: Vec<_> = (0..7).map(|n| world.joined(n)).collect();
    world.settle();
    let mut world = World::on(world.log);
    let remembered = world.store.take_remembered_joins();
    assert_eq!(remembered, keys.into_iter().zip(joins(0..7)).collect::<Vec<_>>());
    assert_eq!(world.store.take_remembered_joins(), []);
    assert_eq!(self::remembered(&world.log).len(), 7, "the log remembers them until they are left");
}

#[test]
fn a_join_that_was_left_is_not_remembered() {
    let mut world = World::new();
    let keys: Vec<_> = (0..4).map(|n| world.joined(n)).collect();
    for n in [2, 0] {
        world.leave(keys[n]);
    }
    world.settle();
    assert_eq!(without_keys(remembered(&world.log)), joins([1, 3]));
    let mut world = World::on(world.log);
    for (key, _) in world.store.take_remembered_joins() {
        world.leave(key);
    }
    world.settle();
    assert_eq!(world.told(), ["left 2", "left 4"]);
    assert_eq!(remembered(&world.log), []);
}

#[test]
fn an_allowed_join_makes_no_sync() {
    let mut world = World::new();
    for n in 0..5 {
        world.joined(n);
    }
    assert_eq!(world.in_flight.as_ref().map(|batch| batch.sync), Some(false));
    world.settle();
    assert_eq!(world.syncs, 0);
    world.set("set");
    world.joined(5);
    world.settle();
    assert_eq!(world.syncs, 1, "that of the item");
    assert_eq!(without_keys(remembered(&world.log)), joins(0..6), "they are written nevertheless");
}

#[test]
fn nobody_waits_for_an_allowed_join() {
    let mut world = World::new();
    world.joined(0);
    for under_way in [true, false] {
        assert_eq!(world.in_flight.is_some(), under_way);
        // Beside the one that is written, one gathers.
        world.joined(1);
        world.run("list", Command::List { group: group(), revision: false });
        world.run("all", Command::ListAll);
        world.run("groups", Command::ListGroups { stream: group().stream });
        assert_eq!(world.told(), ["list", "all", "groups"]);
        world.settle();
    }
}

#[test]
fn what_waits_for_a_sync_is_not_released_by_a_write_without_one() {
    let mut world = World::new();
    let key = world.joined(0);
    world.set("set");
    world.leave(key);
    world.run("all", Command::ListAll);
    world.written();
    assert!(world.told().is_empty(), "nothing is synced");
    // What gathers beside a synced write waits for its own.
    world.joined(1);
    world.set("next");
    world.written();
    assert_eq!(world.told(), ["set", "left 1", "all"]);
    world.written();
    assert_eq!((world.told(), world.syncs), (vec!["next".to_owned()], 2));
}

#[test]
fn a_read_of_everything_waits_for_the_changes_and_for_no_join_after_them() {
    let mut world = World::new();
    world.set("set");
    world.joined(0);
    world.run("all", Command::ListAll);
    world.written();
    assert_eq!(world.told(), ["set", "all"]);
    assert!(world.in_flight.is_some(), "the join");
}

#[test]
fn a_stamp_that_is_reserved_beside_a_join_waits_for_its_reservation() {
    let mut world = World::new();
    let send = |world: &mut World, id: &str| {
        let command = Command::Send { group: group(), item: None, kind: "k".to_owned(), data: Json::null() };
        world.run(id, command);
    };
    world.joined(0);
    // The clock stands still, so these are stamped ahead of it; the first one reserves for both.
    send(&mut world, "first");
    world.written();
    send(&mut world, "second");
    assert!(world.told().is_empty(), "a restart now could give out their stamps again");
    world.written();
    assert_eq!(world.told(), ["first", "second"]);
}

#[test]
fn a_store_is_idle_once_the_joins_are_written() {
    let mut world = World::new();
    world.joined(0);
    world.joined(1);
    world.written();
    assert!(!world.store.is_idle());
    world.written();
    assert!(world.store.is_idle());
    assert_eq!(world.store.backlog_bytes(), 0);
}

#[test]
fn a_leave_is_told_only_once_it_is_durable() {
    for gathers_behind in [None, Some(0), Some(1)] {
        let mut world = World::new();
        let key = world.joined(9);
        world.settle();
        match gathers_behind {
            Some(0) => world.set("set"),
            Some(n) => _ = world.join(n),
            None => {}
        }
        world.leave(key);
        while let Some(batch) = &world.in_flight {
            let forgets = batch.sync && remembered(&world.given()).iter().all(|(left, _)| *left != key);
            world.written();
            assert_eq!(world.told().contains(&"left 1".to_owned()), forgets);
        }
        assert!(remembered(&world.log[..world.synced]).iter().all(|(left, _)| *left != key));
    }
}

#[test]
fn after_a_failed_write_nothing_is_remembered_and_no_leave_is_told() {
    for synced in [true, false] {
        let mut world = World::new();
        let key = world.joined(0);
        world.settle();
        match synced {
            true => world.leave(key),
            false => _ = world.joined(1),
        }
        // These gather.
        let gathered = world.joined(2);
        world.leave(gathered);
        world.set("set");
        world.fail();
        assert_eq!(world.told(), ["set!"]);
        assert_eq!(world.join(3), None);
        world.leave(key);
        world.settle();
        assert!(world.told().is_empty() && world.in_flight.is_none());
        assert!(world.store.is_idle());
        assert_eq!(without_keys(remembered(&world.log)), joins([0]));
    }
}

#[test]
fn a_store_in_memory_remembers_nothing() {
    let mut store = Store::in_memory(WallMs(1));
    assert_eq!(store.joined(&join(0)), None);
    assert_eq!(store.take_remembered_joins(), []);
    let mut out = Vec::new();
    store.flush(&mut out);
    assert!(out.is_empty() && store.is_idle());
}

/// A log that ends with a write that is not synced and one under way; and the joins that were left, with how long the
/// log was when their leave was told.
fn story() -> (World, BTreeMap<JoinKey, Option<usize>>) {
    let mut world = World::new();
    let mut left = BTreeMap::new();
    let mut keys = Vec::new();
    for n in 0..28 {
        match n % 8 {
            3 | 6 => {
                left.insert(keys[n / 3], None);
                world.leave(keys[n / 3]);
            }
            4 => world.set(&n.to_string()),
            _ => keys.push(world.joined(n)),
        }
        if n % 5 > 1 && world.in_flight.is_some() {
            world.written();
        }
        for (key, told) in &mut left {
            if told.is_none() && world.told.contains(&format!("left {}", key.0)) {
                *told = Some(world.log.len());
            }
        }
    }
    assert!(left.values().flatten().count() > 3 && left.values().any(Option::is_none));
    assert!(world.synced < world.log.len() && world.in_flight.is_some());
    (world, left)
}

#[test]
fn every_prefix_remembers_a_prefix_of_the_joins_and_none_whose_leave_was_told() {
    let (world, left) = story();
    let log = world.given();
    let all: BTreeSet<JoinKey> =
        (FileHeader::LEN..=log.len()).flat_map(|cut| remembered(&log[..cut])).map(|(key, _)| key).collect();
    for cut in FileHeader::LEN..=log.len() {
        let remembered: BTreeSet<_> = remembered(&log[..cut]).into_iter().map(|(key, _)| key).collect();
        let last = remembered.last();
        let forgotten = all.iter().filter(|key| Some(*key) < last && !remembered.contains(key));
        for key in forgotten {
            assert!(left.contains_key(key), "cut at {cut}: {key:?} is missing");
        }
        for (key, told) in &left {
            let was_told = told.is_some_and(|len| cut >= len);
            assert!(!was_told || !remembered.contains(key), "cut at {cut}: the leave of {key:?} was told");
        }
    }
}

#[test]
fn a_new_key_is_above_all_that_the_log_holds() {
    let (world, left) = story();
    let log = world.given();
    for cut in FileHeader::LEN..=log.len() {
        let mut world = World::on(log[..cut].to_vec());
        let remembered = world.store.take_remembered_joins().into_iter().map(|(key, _)| key);
        let told = left.iter().filter(|(_, told)| told.is_some_and(|len| cut >= len)).map(|(key, _)| *key);
        let highest = remembered.chain(told).max();
        assert!(Some(world.joined(0)) > highest, "cut at {cut}");
    }
}

#[test]
fn a_power_loss_in_the_sync_of_what_follows_a_join_is_no_damage() {
    let mut world = World::new();
    world.set("safe");
    world.joined(0);
    world.settle();
    world.joined(1);
    world.settle();
    assert!(world.synced < world.log.len());
    world.set("writing");
    let pieces = (world.given().len() - world.synced).div_ceil(PIECE);
    assert!((8..16).contains(&pieces));
    for kept in 0..1_u32 << pieces {
        let mut left = World::on(world.left_by_power_loss(|n| kept & 1 << n != 0));
        let State::Group(items) = left.store.durable(&join(0).target).state else {
            panic!("it is a group's")
        };
        assert!(items.iter().any(|item| item.id.as_str() == "safe"));
        let count = left.store.take_remembered_joins().len();
        // And what goes on there is safe as well.
        left.set("after");
        left.settle();
        left.joined(2);
        left.settle();
        let recovered = replay(&left.log).unwrap_or_else(|damage| panic!("kept {kept:b}: {damage}"));
        assert_eq!(recovered.torn, 0);
        assert_eq!(remembered(&left.log).len(), count + 1);
    }
}

#[test]
fn all_that_was_written_without_a_sync_is_of_the_batch_that_a_start_writes_again() {
    let mut world = World::new();
    world.set("safe");
    world.settle();
    for n in 0..5 {
        world.joined(n);
        world.settle();
        assert_eq!(replay(&world.log).expect("no damage").last_batch, world.synced as u64);
    }
}

/// Whether all of these records, as one batch, are a log.
fn is_log(records: &[Record<'_>]) -> bool {
    let mut bytes = BatchBytes::new(header().salt);
    for record in records {
        bytes.append(BatchNumber(1), FileHeader::LEN as u64, record);
    }
    let log = [&header().encode()[..], &bytes.seal()].concat();
    replay(&log).expect("only one batch").records == records.len() as u64
}

#[test]
fn a_key_that_comes_twice_is_no_log_and_a_leave_of_an_unknown_join_is() {
    let joined = |key| Record::Joined {
        key: JoinKey(key),
        subscription: "sub",
        stream: "s",
        group: "g",
        item: None,
        context: None,
    };
    let left = |key| Record::Left { key: JoinKey(key) };
    assert!(is_log(&[joined(1), joined(2), left(1), joined(5), left(5), left(2)]));
    assert!(is_log(&[left(3), left(3), joined(4), left(1)]));
    assert!(!is_log(&[joined(1), joined(1)]));
    assert!(!is_log(&[joined(1), left(1), joined(1)]));
    assert!(!is_log(&[left(3), joined(3)]));
    assert!(!is_log(&[joined(2), joined(1)]));
}
