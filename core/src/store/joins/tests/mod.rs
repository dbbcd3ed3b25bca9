//! The laws of remembered joins, on a disk that keeps what was synced and of the rest whatever it likes.

mod any_story;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::call::Caller;
use crate::config::CoreConfig;
use crate::key::WorkerKey;
use crate::log::{BatchBytes, BatchNumber, Epoch, SegmentHeader, SegmentNumber, Write};
use crate::name::{FunctionId, GroupName, GroupPath, StreamName};
use crate::rng::Rng;
use crate::store::{Command, Damage, ItemPath, Recovered, Replay, State};
use crate::time::{Mono, Now, WallMs};

/// A disk that loses something loses pieces of so many bytes: smaller than a record.
const PIECE: usize = 16;

/// A file of the log.
#[derive(Clone)]
struct File {
    header: SegmentHeader,
    /// What stands behind the header; the first `synced` bytes of it are safe.
    bytes: Vec<u8>,
    synced: usize,
}

/// A store and its disk.
struct World {
    store: Store,
    config: CoreConfig,
    now: Now,
    files: Vec<File>,
    in_flight: Option<Write>,
    /// A write has failed, and so the file that it went into is never touched again.
    broken: bool,
    syncs: usize,
    /// What came out since this was looked at: leaves and the ids of answers, with a `!` behind those that say that
    /// nothing was written, and a `?` behind those that do not know.
    told: Vec<String>,
}

fn replay(files: &[File]) -> Result<Recovered, Damage> {
    let mut replay = Replay::new(None, files.iter().map(|file| file.header).collect())?;
    while let Some(part) = replay.next_part() {
        let file =
            files.iter().find(|file| file.header.number == part.segment).expect("a file that is there");
        let at = |offset: u64| usize::try_from(offset).expect("a small log") - SegmentHeader::LEN;
        let until = part.until.map_or(file.bytes.len(), at).min(file.bytes.len());
        replay
            .push(file.bytes.get(at(part.from)..until).unwrap_or_default(), &mut ())
            .expect("no checkpoint");
    }
    replay.finish()
}

fn recovered(files: &[File]) -> Store {
    let recovered = replay(files).unwrap_or_else(|damage| panic!("{damage}"));
    // Every start draws other salts.
    let seed = [u8::try_from(files.len() % 256).expect("below 256"); 32];
    Store::recovered(recovered, Rng::of_log(seed), WallMs(1), &CoreConfig::default().storage)
}

/// What a log remembers.
fn remembered(files: &[File]) -> Vec<(JoinKey, Joined)> {
    recovered(files).remembered_joins()
}

/// How many bytes of records there are.
fn len(files: &[File]) -> usize {
    files.iter().map(|file| file.bytes.len()).sum()
}

/// What was written first, so many bytes of it.
fn cut(files: &[File], at: usize) -> Vec<File> {
    let mut left = at;
    let mut files = files.to_vec();
    files.retain_mut(|file| {
        let is_there = file.header.start <= at as u64;
        file.bytes.truncate(left);
        left -= file.bytes.len();
        is_there
    });
    files
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
        World::on(Vec::new())
    }

    /// With so much in each file.
    fn of_segments(bytes: usize) -> World {
        let mut world = World::new();
        world.config.storage.segment_bytes = bytes;
        world
    }

    /// A start on what is there; what was not synced of the last batch is written again first.
    fn on(mut files: Vec<File>) -> World {
        let store = recovered(&files);
        files.iter_mut().for_each(|file| file.synced = file.bytes.len());
        World {
            store,
            config: CoreConfig::default(),
            now: Now { mono: Mono(0), wall: WallMs(1) },
            files,
            in_flight: None,
            broken: false,
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
        self.store.run(self.now, caller, command, &self.config, &mut out);
        self.put_out(out);
    }

    /// The ids of the items.
    fn items(&self) -> BTreeSet<String> {
        let State::Group(items) = self.store.durable(&Target { group: group(), item: None }).state else {
            panic!("it is a group's")
        };
        items.iter().map(|item| item.id.as_str().to_owned()).collect()
    }

    /// What is there once of the write under way the first `keep` parts are done: the file that it begins, its bytes.
    fn with_part(&self, keep: usize) -> Vec<File> {
        let mut files = self.files.clone();
        let Some(write) = &self.in_flight else { return files };
        let mut keep = keep;
        if let Some(header) = write.begins {
            if keep == 0 {
                return files;
            }
            keep -= 1;
            if let Some(last) = files.last_mut().filter(|_| !self.broken) {
                last.synced = last.bytes.len();
            }
            files.push(File { header, bytes: Vec::new(), synced: 0 });
        }
        files.last_mut().expect("a file").bytes.extend_from_slice(&write.bytes[..keep]);
        files
    }

    /// Of how many parts the write under way is.
    fn parts(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |write| write.bytes.len() + usize::from(write.begins.is_some()))
    }

    /// The write under way is done.
    fn written(&mut self) {
        self.files = self.with_part(self.parts());
        let write = self.in_flight.take().expect("a write is under way");
        self.broken = false;
        let last = self.files.last_mut().expect("a file");
        if write.sync {
            last.synced = last.bytes.len();
            self.syncs += 1;
        }
        let mut out = Vec::new();
        self.store.persisted(write.number, &mut out);
        self.put_out(out);
    }

    fn settle(&mut self) {
        while self.in_flight.is_some() {
            self.written();
        }
    }

    /// The write under way fails, before anything of it is done.
    fn fail(&mut self) {
        self.fail_after(0);
    }

    /// The write under way fails when so many parts of it are done.
    fn fail_after(&mut self, parts: usize) {
        self.files = self.with_part(parts);
        self.in_flight = None;
        self.broken = true;
        let mut out = Vec::new();
        self.store.persist_failed(self.now, "disk full", &self.config, &mut out);
        self.put_out(out);
    }

    /// A second passes.
    fn wait(&mut self) {
        self.now.mono = self.now.mono.after(1_000);
        self.put_out(Vec::new());
    }

    /// Whether what is being written is a new start after a failure.
    fn is_fence(&self) -> bool {
        self.broken && self.in_flight.is_some()
    }

    fn put_out(&mut self, mut out: Vec<Output>) {
        self.store.flush(self.now, &self.config.storage, &mut out);
        for output in out {
            match output {
                Output::Persist(write) => {
                    assert!(!write.bytes.is_empty() || write.begins.is_some(), "a write does something");
                    match (write.begins, self.files.last()) {
                        (Some(header), last) => {
                            assert!(last.is_none_or(|last| last.header.number < header.number));
                            assert!(last.is_none_or(|last| last.header.salt != header.salt));
                            assert_eq!(
                                write.offset,
                                SegmentHeader::LEN as u64,
                                "a file is written from its start"
                            );
                        }
                        (None, last) => {
                            let end =
                                last.map(|last| (last.header.number, SegmentHeader::LEN + last.bytes.len()));
                            let at = usize::try_from(write.offset).expect("a small log");
                            assert_eq!(Some((write.segment, at)), end, "a write goes to the end of the log");
                            assert!(!self.broken, "a file is written again whose write has failed");
                        }
                    }
                    assert!(self.in_flight.replace(write).is_none(), "one write at a time");
                }
                Output::Reply { caller, outcome } => {
                    let id = caller.invocation_id.expect("every call has one");
                    self.told.push(match outcome {
                        Ok(_) => id,
                        Err(error) if error.message.contains("nothing was written") => id + "!",
                        Err(error) if error.message.contains("outcome_unknown") => id + "?",
                        Err(error) => panic!("{error:?}"),
                    });
                }
                Output::Release(_) | Output::Show { .. } => {}
                Output::Left(JoinKey(key)) => self.told.push(format!("left {key}")),
                output => panic!("nothing led to {output:?}"),
            }
        }
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// What the disk was ever given.
    fn given(&self) -> Vec<File> {
        self.with_part(self.parts())
    }

    /// What is on the disk whatever happens.
    fn safe(&self) -> Vec<File> {
        let mut files = self.files.clone();
        files.iter_mut().for_each(|file| file.bytes.truncate(file.synced));
        files
    }

    /// What a power loss may leave: of what is not synced, those pieces of which `keeps` says so.
    fn left_by_power_loss(&self, mut keeps: impl FnMut(usize) -> bool) -> Vec<File> {
        let begins = self.in_flight.as_ref().is_some_and(|write| write.begins.is_some());
        let mut files = if begins && !keeps(0) { self.files.clone() } else { self.given() };
        let mut n = usize::from(begins);
        for file in &mut files {
            let mut end = file.synced;
            for at in (file.synced..file.bytes.len()).step_by(PIECE) {
                let to = file.bytes.len().min(at + PIECE);
                match keeps(n) {
                    true => end = to,
                    false => file.bytes[at..to].fill(0),
                }
                n += 1;
            }
            file.bytes.truncate(end);
        }
        files
    }
}

#[test]
fn joins_without_a_leave_are_remembered_once_and_in_order() {
    let mut world = World::new();
    let keys: Vec<_> = (0..7).map(|n| world.joined(n)).collect();
    world.settle();
    let world = World::on(world.files);
    let joins: Vec<_> = keys.into_iter().zip(joins(0..7)).collect();
    assert_eq!(world.store.remembered_joins(), joins);
    assert_eq!(remembered(&world.files), joins, "the log remembers them until they are left");
}

#[test]
fn a_join_that_was_left_is_not_remembered() {
    let mut world = World::new();
    let keys: Vec<_> = (0..4).map(|n| world.joined(n)).collect();
    for n in [2, 0] {
        world.leave(keys[n]);
    }
    world.settle();
    assert_eq!(without_keys(remembered(&world.files)), joins([1, 3]));
    let mut world = World::on(world.files);
    for (key, _) in world.store.remembered_joins() {
        world.leave(key);
    }
    world.settle();
    assert_eq!(world.told(), ["left 2", "left 4"]);
    assert_eq!(world.store.remembered_joins(), []);
    assert_eq!(remembered(&world.files), []);
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
    assert_eq!(without_keys(remembered(&world.files)), joins(0..6), "they are written nevertheless");
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
    assert_eq!(world.store.backlog_bytes(&world.config.storage), 0);
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
        while let Some(write) = &world.in_flight {
            let forgets = write.sync && remembered(&world.given()).iter().all(|(left, _)| *left != key);
            world.written();
            assert_eq!(world.told().contains(&"left 1".to_owned()), forgets);
        }
        assert!(remembered(&world.safe()).iter().all(|(left, _)| *left != key));
    }
}

#[test]
fn after_a_failed_write_joins_and_leaves_are_written_again() {
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
        assert!(world.told().is_empty() && world.is_fence());
        // The fence holds nothing of it; what comes now gathers behind it.
        world.joined(3);
        world.written();
        assert_eq!(world.told(), ["set!"]);
        world.settle();
        let leaves: &[String] = &[format!("left {}", key.0), format!("left {}", gathered.0)];
        assert_eq!(world.told(), &leaves[usize::from(!synced)..]);
        assert!(world.store.is_idle());
        let expected = if synced { joins([3]) } else { joins([0, 1, 3]) };
        assert_eq!(without_keys(remembered(&world.files)), expected);
        assert!(world.items().is_empty());
    }
}

#[test]
fn while_nothing_can_be_written_no_join_is_remembered_and_leaves_wait() {
    let mut world = World::new();
    let key = world.joined(0);
    world.settle();
    world.set("written");
    world.set("gathered");
    world.fail();
    world.leave(key);
    world.fail();
    assert_eq!(world.told(), ["written?", "gathered!"]);
    for _ in 0..3 {
        assert_eq!(world.join(1), None);
        world.set("refused");
        assert_eq!(world.told(), ["refused!"]);
        assert!(world.in_flight.is_none());
        world.wait();
        assert!(world.is_fence());
        world.fail();
        assert!(world.told().is_empty());
    }
    world.wait();
    world.written();
    assert!(world.told().is_empty(), "the leave is behind the fence");
    world.joined(2);
    world.written();
    assert_eq!(world.told(), ["left 1"]);
    world.settle();
    assert_eq!(without_keys(remembered(&world.files)), joins([2]));
    assert!(world.items().is_empty(), "also not what was unknown");
}

#[test]
fn what_was_written_without_a_sync_is_written_again_after_a_sync_failed() {
    let mut world = World::new();
    world.set("safe");
    world.settle();
    for n in 0..3 {
        world.joined(n);
        world.settle();
    }
    world.set("set");
    // The disk has all of it, but may lose what it has: a sync that failed is not made good by another.
    world.fail_after(world.parts());
    world.settle();
    world.told();
    assert_eq!(without_keys(remembered(&world.safe())), joins(0..3));
    assert_eq!(world.items(), BTreeSet::from(["safe".to_owned()]));
    let mut files = world.files;
    let synced = files[0].synced;
    files[0].bytes.truncate(synced);
    assert_eq!(World::on(files).items(), BTreeSet::from(["safe".to_owned()]));
}

#[test]
fn a_fence_may_begin_before_the_file_whose_write_failed() {
    let mut world = World::of_segments(1);
    world.joined(0);
    world.settle();
    world.joined(1);
    world.fail_after(world.parts());
    world.settle();
    world.set("after");
    world.settle();
    let starts: Vec<_> = world.files.iter().map(|file| file.header.start).collect();
    assert!(starts[2] < starts[1], "{starts:?}");
    let world = World::on(world.files);
    assert_eq!(without_keys(world.store.remembered_joins()), joins(0..2));
    assert_eq!(world.items(), BTreeSet::from(["after".to_owned()]));
}

#[test]
fn a_store_in_memory_remembers_nothing() {
    let mut rng = Rng::new([1; 32]);
    let mut store = Store::in_memory(rng.uuid(), rng, WallMs(1));
    assert_eq!(store.joined(&join(0)), None);
    assert_eq!(store.remembered_joins(), []);
    let mut out = Vec::new();
    let now = Now { mono: Mono(0), wall: WallMs(1) };
    store.flush(now, &CoreConfig::default().storage, &mut out);
    assert!(out.is_empty() && store.is_idle());
}

/// A log that ends with a write that is not synced and one under way; and the joins that were left, with how long the
/// log was when their leave was told.
fn story(segment_bytes: usize) -> (World, BTreeMap<JoinKey, Option<usize>>) {
    let mut world = World::of_segments(segment_bytes);
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
                *told = Some(len(&world.files));
            }
        }
    }
    assert!(left.values().flatten().count() > 3 && left.values().any(Option::is_none));
    let last = world.files.last().expect("a file");
    assert!(last.synced < last.bytes.len() && world.in_flight.is_some());
    (world, left)
}

/// How much goes into a file: everything, a few writes, one write.
const SEGMENTS: [usize; 3] = [1 << 20, 400, 1];

#[test]
fn every_prefix_remembers_a_prefix_of_the_joins_and_none_whose_leave_was_told() {
    for (world, left) in SEGMENTS.map(story) {
        let log = world.given();
        let all: BTreeSet<JoinKey> =
            (0..=len(&log)).flat_map(|at| remembered(&cut(&log, at))).map(|(key, _)| key).collect();
        for at in 0..=len(&log) {
            let remembered: BTreeSet<_> =
                remembered(&cut(&log, at)).into_iter().map(|(key, _)| key).collect();
            let last = remembered.last();
            let forgotten = all.iter().filter(|key| Some(*key) < last && !remembered.contains(key));
            for key in forgotten {
                assert!(left.contains_key(key), "cut at {at}: {key:?} is missing");
            }
            for (key, told) in &left {
                let was_told = told.is_some_and(|len| at >= len);
                assert!(!was_told || !remembered.contains(key), "cut at {at}: the leave of {key:?} was told");
            }
        }
    }
}

#[test]
fn a_new_key_is_above_all_that_the_log_holds() {
    for (world, left) in SEGMENTS.map(story) {
        let log = world.given();
        for at in 0..=len(&log) {
            let mut world = World::on(cut(&log, at));
            let remembered = world.store.remembered_joins().into_iter().map(|(key, _)| key);
            let told = left.iter().filter(|(_, told)| told.is_some_and(|len| at >= len)).map(|(key, _)| *key);
            let highest = remembered.chain(told).max();
            assert!(Some(world.joined(0)) > highest, "cut at {at}");
        }
    }
}

#[test]
fn a_power_loss_in_the_sync_of_what_follows_a_join_is_no_damage() {
    for (joined, after_a_fence) in [(true, false), (true, true), (false, true)] {
        let mut world = World::new();
        world.set("safe");
        if joined {
            world.joined(0);
        }
        world.settle();
        if after_a_fence {
            world.set("failed");
            world.fail();
            world.settle();
        }
        world.joined(1);
        world.settle();
        let last = world.files.last().expect("a file").clone();
        assert!(last.synced < last.bytes.len());
        world.set("writing");
        let tail = world.given().last().expect("a file").bytes.len() - last.synced;
        let pieces = tail.div_ceil(PIECE);
        assert!((7..16).contains(&pieces), "{pieces}");
        for kept in 0..1_u32 << pieces {
            let mut left = World::on(world.left_by_power_loss(|n| kept & 1 << n != 0));
            assert!(left.items().contains("safe") && !left.items().contains("failed"));
            let count = left.store.remembered_joins().len();
            // And what goes on there is safe as well.
            left.set("after");
            left.settle();
            left.joined(2);
            left.settle();
            let recovered = replay(&left.files).unwrap_or_else(|damage| panic!("kept {kept:b}: {damage}"));
            assert_eq!(recovered.torn, 0);
            assert_eq!(remembered(&left.files).len(), count + 1);
        }
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
        let last = replay(&world.files).expect("no damage").last_batch.expect("a batch");
        let end = SegmentHeader::LEN + world.files[0].bytes.len();
        let unsynced = SegmentHeader::LEN + world.files[0].synced;
        assert_eq!(
            (last.segment, last.from, last.until),
            (SegmentNumber(1), unsynced as u64, Some(end as u64))
        );
    }
}

/// Whether all of these records, as one batch, are a log.
fn is_log(records: &[Record<'_>]) -> bool {
    let header = SegmentHeader {
        number: SegmentNumber(1),
        start: 0,
        batch: BatchNumber(1),
        epoch: Epoch::from_random(7),
        salt: Rng::new([7; 32]).salt(),
        relaxed: false,
    };
    let mut bytes = BatchBytes::new(header.salt);
    for record in records {
        bytes.append(BatchNumber(1), 0, record);
    }
    let file = File { header, bytes: bytes.seal().to_vec(), synced: 0 };
    replay(&[file]).expect("only one batch").records == records.len() as u64
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
