//! What a log gives back: a prefix of history that holds all that was acknowledged, or a refusal.

mod driver;

use driver::{START, Seen, World, empty_log, replay, replay_in_pieces};
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;
use headwater_core::log::{FileHeader, HeaderError, Salt};
use headwater_core::rng::Uuid;
use headwater_core::store::Replay;
use serde_json::json;

/// Each makes one record; the number of commands in each batch.
const BATCHES: [usize; 5] = [1, 4, 2, 1, 3];

/// A change that makes the `n`th record of the story.
fn change(world: &mut World, worker: WorkerKey, n: usize) {
    match n {
        3 => world.delete(worker, "c", "g", "i0"),
        // Ahead of the wall clock: the stamp of an event that is not stored is reserved.
        4 => world.send(worker, "c", "g", "", "hello"),
        6 => world.send(worker, "c", "never stored", "", "hello"),
        _ => world.set(worker, "c", ["g", "h"][n % 2], &format!("i{}", n % 4), &format!("[{n}]")),
    }
}

/// A log of several batches, and for each record where it ends.
fn story() -> (Vec<u8>, Vec<usize>) {
    let mut world = World::durable();
    let worker = world.worker();
    let mut n = 0;
    for size in BATCHES {
        // While this is written, the batch gathers.
        world.set(worker, "w", "filler", "x", &n.to_string());
        for _ in 0..size {
            change(&mut world, worker, n);
            n += 1;
        }
        world.settle();
    }
    let mut ends = Vec::new();
    let mut at = FileHeader::LEN;
    while at < world.synced.len() {
        let length = u32::from_le_bytes(world.synced[at..at + 4].try_into().expect("4 bytes")) & !(1 << 31);
        at += 24 + length as usize;
        ends.push(at);
    }
    assert_eq!(ends.len(), BATCHES.len() + n);
    (world.synced, ends)
}

/// Everything that a log holds, as its users see it.
fn contents(log: &[u8]) -> Vec<String> {
    let mut world = World::on_log(CoreConfig::default(), START, log.to_vec());
    let worker = world.worker();
    let session = world.session();
    let mut seen = vec![world.ask(worker, "stream::list_all", "{}")];
    for group in ["g", "h", "filler", "never stored"] {
        world.join(session, group, group, "");
        let sync = Seen::read(&world.frames(session)[0]);
        seen.push(format!("{group} #{:?} {}", sync.revision, sync.data));
    }
    seen
}

/// What the log holds after each record: from nothing to everything.
fn history(log: &[u8], ends: &[usize]) -> Vec<Vec<String>> {
    std::iter::once(&FileHeader::LEN).chain(ends).map(|end| contents(&log[..*end])).collect()
}

/// Where the last batch begins, and how many records come before it.
fn last_batch(ends: &[usize]) -> (usize, usize) {
    let before = ends.len() - BATCHES[BATCHES.len() - 1];
    (ends[before - 1], before)
}

#[test]
fn every_prefix_gives_all_records_that_it_holds_whole() {
    let (log, ends) = story();
    let history = history(&log, &ends);
    for cut in FileHeader::LEN..=log.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let end = ends[..whole].last().copied().unwrap_or(FileHeader::LEN);
        let recovered = replay(&log[..cut]).unwrap_or_else(|damage| panic!("cut at {cut}: {damage}"));
        assert_eq!(recovered.records, whole as u64, "cut at {cut}");
        assert_eq!((recovered.end, recovered.torn), (end as u64, (cut - end) as u64), "cut at {cut}");
        assert_eq!(contents(&log[..cut]), history[whole], "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_is_refused_or_costs_the_last_batch_at_most() {
    let (log, ends) = story();
    let history = history(&log, &ends);
    let (last, before_last) = last_batch(&ends);
    for bit in FileHeader::LEN * 8..log.len() * 8 {
        let mut damaged = log.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match replay(&damaged) {
            Err(damage) => {
                assert!(bit / 8 < last, "bit {bit} of the last batch can't be told from a torn write");
                assert!(damage.at <= bit as u64 / 8 && damage.later > bit as u64 / 8, "bit {bit}: {damage}");
            }
            Ok(recovered) => {
                assert!(bit / 8 >= last, "bit {bit} of a synced batch went unnoticed");
                let records = usize::try_from(recovered.records).unwrap();
                assert!(records >= before_last);
                assert_eq!(contents(&damaged), history[records], "bit {bit}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_the_header_is_refused() {
    let header: [u8; FileHeader::LEN] = empty_log().try_into().unwrap();
    for bit in 0..FileHeader::LEN * 8 {
        let mut damaged = header;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Replay::open(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn a_newer_log_and_what_is_no_log_are_told_apart() {
    let mut newer: [u8; FileHeader::LEN] = empty_log().try_into().unwrap();
    newer[8] = 2;
    assert_eq!(Replay::open(&newer).unwrap_err(), HeaderError::Newer(2));
    assert_eq!(Replay::open(&[0; FileHeader::LEN]).unwrap_err(), HeaderError::NotALog);
    assert_eq!(
        Replay::open(b"{\"this\": \"is some other file, longer!!\"}").unwrap_err(),
        HeaderError::NotALog
    );
}

#[test]
fn garbage_after_the_end_is_cut_off() {
    let (log, ends) = story();
    let (last, _) = last_batch(&ends);
    let all = contents(&log);
    for garbage in [&[0; 5_000][..], &[0xff; 100], &log, &log[last..], &log[FileHeader::LEN..], b"x"] {
        let with_garbage = [&log, garbage].concat();
        let recovered = replay(&with_garbage).unwrap();
        assert_eq!((recovered.end, recovered.torn), (log.len() as u64, garbage.len() as u64));
        assert_eq!(contents(&with_garbage), all);
    }
}

#[test]
fn a_record_of_an_older_batch_is_no_part_of_the_log() {
    let write = |batches: [&[&str]; 2]| {
        let mut world = World::durable();
        let worker = world.worker();
        world.set(worker, "c", "g", "first", "0");
        for items in batches {
            for item in items {
                world.set(worker, "c", "g", item, "0");
            }
            world.persist();
        }
        world.settle();
        world.synced
    };
    // Batches of one record each, and a file that an older batch of two records was in.
    let (log, older) = (write([&[], &["a"]]), write([&["a", "b"], &[]]));
    assert_eq!(log.len() + (log.len() - FileHeader::LEN - 4) / 2, older.len());
    let recovered = replay(&[&log[..], &older[log.len()..]].concat()).unwrap();
    assert_eq!((recovered.records, recovered.end), (2, log.len() as u64));
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let (log, ends) = story();
    let torn = log[..log.len() - 3].to_vec();
    let mut damaged = log.clone();
    damaged[ends[2] + 30] ^= 1;
    // The length of a record says that it goes on beyond the end of the file.
    let mut endless = log.clone();
    endless[ends[2] + 2] ^= 0x40;
    let garbage = [&log[..], &log[..]].concat();
    for log in [&log, &torn, &damaged, &endless, &garbage] {
        let told = |piece| {
            replay_in_pieces(log, piece).map(|recovered| (recovered.records, recovered.end, recovered.torn))
        };
        let whole = told(usize::MAX);
        for piece in (1..100).chain([500, 4_096]) {
            assert_eq!(told(piece), whole, "in pieces of {piece}");
        }
    }
    assert!(replay(&damaged).is_err() && replay(&endless).is_err());
}

/// An item's name that, as the first of a log, reads as a record of a later batch where it stands: if the log's
/// salt is this one.
fn name_like_a_record(salt: Salt) -> String {
    // In front of it stand the headers of file and record, the tag, the names `s` and `g`, its own length.
    let position = (FileHeader::LEN + 24 + 1 + 2 + 2 + 1) as u64;
    let record = |batch: u64, stamp: u8| {
        let length = 2_u32.to_le_bytes();
        // Number 4 is a change of the stamp that all groups without changes share.
        let rest = [&batch.to_le_bytes()[..], &position.to_le_bytes(), &[4, stamp]].concat();
        let crc = crc32c::crc32c(&[&salt.0[..], &length, &rest].concat());
        [&length[..], &crc.to_le_bytes(), &rest].concat()
    };
    // Not every checksum is text.
    let tries = (2..128).flat_map(|batch| (1..128).map(move |stamp| record(batch, stamp)));
    tries.into_iter().find_map(|record| String::from_utf8(record).ok()).expect("one in many is UTF-8")
}

#[test]
fn a_name_is_taken_for_a_record_only_by_who_knows_the_salt() {
    let known = Salt([0; 8]);
    let name = name_like_a_record(known);
    for (salt, is_taken) in [(known, true), (Salt([7; 8]), false)] {
        let log = FileHeader { epoch: Uuid::from_random(7), salt }.encode().to_vec();
        let mut world = World::on_log(CoreConfig::default(), START, log);
        let worker = world.worker();
        let data = json!({ "stream_name": "s", "group_id": "g", "item_id": name, "data": "x".repeat(5_000) });
        world.call(worker, "1", "stream::set", &data.to_string());
        let torn = [&world.synced[..], &world.unsynced()[..4_096]].concat();
        match replay(&torn) {
            Ok(recovered) => assert!(!is_taken && recovered.torn == 4_096, "{salt:?}: {recovered:?}"),
            Err(damage) => assert!(is_taken, "a torn write is refused for what a client named: {damage}"),
        }
    }
}

/// What is left of the unsynced bytes of a write after a crash: any prefix, or a page in front that never got there.
fn torn_ways(bytes: &[u8]) -> Vec<Vec<u8>> {
    let cuts = (0..=bytes.len()).map(|cut| bytes[..cut].to_vec());
    let holes = (1..bytes.len()).step_by(7).map(|hole| {
        let mut bytes = bytes.to_vec();
        bytes[..hole].fill(0);
        bytes
    });
    cuts.chain(holes).collect()
}

/// A core on a log, with three changes in one write that is under way and two that gather.
fn writing(log: &[u8]) -> World {
    let mut world = World::on_log(CoreConfig::default(), START, log.to_vec());
    let worker = world.worker();
    world.set(worker, "1", "g", "first", "1");
    for item in ["x", "y", "z"] {
        world.set(worker, "2", "g", item, "2");
    }
    world.persist();
    world.set(worker, "3", "g", "gathered", "3");
    world
}

#[test]
fn a_torn_tail_is_continued_and_a_second_one_is_not_taken_for_damage() {
    let base = writing(&empty_log());
    for first in torn_ways(&base.unsynced()) {
        let log = [&base.synced[..], &first].concat();
        let mut world = writing(&log);
        let lists = contents(&world.synced);
        for second in torn_ways(&world.unsynced()).iter().step_by(5) {
            let log = [&world.synced[..], second].concat();
            let recovered =
                replay(&log).unwrap_or_else(|damage| panic!("{first:?}, then {second:?}: {damage}"));
            assert!(recovered.end >= world.synced.len() as u64, "acknowledged changes are lost");
        }
        world.settle();
        assert!(contents(&world.synced).len() == lists.len());
        assert_eq!(replay(&world.synced).unwrap().torn, 0);
    }
}

#[test]
fn damage_before_a_continued_tail_is_refused() {
    let base = writing(&empty_log());
    for first in torn_ways(&base.unsynced()).iter().step_by(3) {
        let mut world = writing(&[&base.synced[..], first].concat());
        world.settle();
        for byte in FileHeader::LEN..base.synced.len() {
            let mut damaged = world.synced.clone();
            damaged[byte] ^= 0x10;
            assert!(replay(&damaged).is_err(), "byte {byte}");
        }
    }
}

#[test]
fn revisions_and_creation_order_go_on_after_a_restart() {
    let mut world = World::durable();
    let worker = world.worker();
    for (n, item) in ["b", "a", "c", "b"].into_iter().enumerate() {
        world.set(worker, "c", "g", item, &n.to_string());
    }
    world.settle();
    world.crash(0);
    let worker = world.worker();
    assert_eq!(world.ask(worker, "stream::list", r#"{"stream_name":"s","group_id":"g"}"#), "[3,1,2]");
    for item in ["a", "b", "c"] {
        world.delete(worker, "d", "g", item);
    }
    world.settle();
    world.crash(0);
    let (worker, session) = (world.worker(), world.session());
    assert_eq!(world.ask(worker, "stream::list_groups", r#"{"stream_name":"s"}"#), "[]");
    world.join(session, "sub", "g", "");
    world.set(worker, "c", "g", "b", "9");
    world.set(worker, "c", "g", "a", "9");
    world.settle();
    let revisions: Vec<_> =
        world.frames(session).iter().map(|frame| Seen::read(frame).revision.unwrap()).collect();
    assert_eq!(revisions, [7, 8, 9]);
}

/// The highest stamp that a new subscriber and those before it were ever told.
fn told(world: &mut World, sessions: &[headwater_core::key::SessionKey]) -> u64 {
    sessions
        .iter()
        .flat_map(|session| world.frames(*session))
        .map(|frame| Seen::read(&frame).stamp)
        .max()
        .unwrap_or_default()
}

/// Crashes and checks that the group's next event is above everything that was told of it, and its next sync not
/// below.
#[track_caller]
fn crash_and_go_on(world: &mut World, group: &str, told: u64, keep: usize) {
    world.crash(keep);
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", group, "");
    world.send(worker, "send", group, "", "after");
    world.set(worker, "set", group, "after", "1");
    world.settle();
    let stamps: Vec<_> = world.frames(session).iter().map(|frame| Seen::read(frame).stamp).collect();
    assert!(stamps[0] >= told && stamps[1] > told, "{stamps:?} after {told}");
    assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
}

#[test]
fn stamps_are_above_all_that_were_told_before_a_crash() {
    for stored in [false, true] {
        for events in [0, 1, 2, 3, 600] {
            for wall in [START, START + 1, START + 700] {
                let mut world = World::durable();
                let (worker, session) = (world.worker(), world.session());
                if stored {
                    world.set(worker, "c", "g", "a", "1");
                    world.settle();
                }
                world.join(session, "1", "g", "");
                world.set_wall(wall);
                for n in 0..events {
                    world.send(worker, "e", "g", "", "event");
                    if n % 100 == 0 {
                        world.settle();
                    }
                }
                world.settle();
                let late = world.session();
                world.join(late, "2", "g", "");
                let told = told(&mut world, &[session, late]);
                crash_and_go_on(&mut world, "g", told, 0);
            }
        }
    }
}

#[test]
fn a_sync_tells_no_stamp_that_a_crash_could_take_back() {
    for stored in [false, true] {
        let mut world = World::durable();
        let (worker, session) = (world.worker(), world.session());
        if stored {
            world.set(worker, "c", "g", "a", "1");
            world.settle();
        }
        for _ in 0..10 {
            world.send(worker, "e", "g", "", "event");
        }
        for (n, group) in ["g", "other"].into_iter().enumerate() {
            world.join(session, &n.to_string(), group, "");
        }
        let told = told(&mut world, &[session]);
        crash_and_go_on(&mut world, "g", told, 0);
    }
}

#[test]
fn stamps_stay_above_through_many_crashes() {
    let mut world = World::durable();
    for round in 0..20 {
        let (worker, session) = (world.worker(), world.session());
        world.join(session, "1", "g", "");
        for _ in 0..round {
            world.send(worker, "e", "g", "", "event");
            world.send(worker, "e", "other", "", "event");
        }
        if round % 3 == 0 {
            world.settle();
        }
        world.join(session, "2", "g", "");
        let told = told(&mut world, &[session]);
        let keep = world.unsynced().len() * (round % 4) / 3;
        crash_and_go_on(&mut world, "g", told, keep);
    }
}
