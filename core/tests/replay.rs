//! What a log gives back: a prefix of history that holds all that was acknowledged, or a refusal.

mod driver;

use driver::{Disk, START, Seen, World};
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;
use headwater_core::log::{BatchNumber, Epoch, HeaderError, Salt, SegmentHeader, SegmentNumber};
use headwater_core::store::{Damage, Place};
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
fn story(config: CoreConfig) -> (Disk, Vec<usize>) {
    let mut world = World::with_config(config);
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
    let mut at = 0;
    let records: Vec<u8> = world.disk.segments.iter().flat_map(|(_, records)| records.clone()).collect();
    while at < records.len() {
        let length = u32::from_le_bytes(records[at..at + 4].try_into().expect("4 bytes")) & !(1 << 31);
        at += 24 + length as usize;
        ends.push(at);
    }
    assert_eq!(ends.len(), BATCHES.len() + n);
    (world.disk, ends)
}

/// The same in one file.
fn one_file() -> (Disk, Vec<u8>, Vec<usize>) {
    let (disk, ends) = story(CoreConfig::default());
    let records = disk.records().to_vec();
    (disk, records, ends)
}

/// The same in a file for each batch.
fn many_files() -> Disk {
    let mut config = CoreConfig::default();
    config.storage.segment_bytes = 1;
    let (disk, _) = story(config);
    assert!(disk.segments.len() >= 2 * BATCHES.len(), "{} files", disk.segments.len());
    disk
}

/// Everything that a log holds, as its users see it.
fn contents(disk: &Disk) -> Vec<String> {
    let mut world = World::on_disk(CoreConfig::default(), START, disk.clone());
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
fn history(disk: &Disk, ends: &[usize]) -> Vec<Vec<String>> {
    let records = disk.records();
    std::iter::once(&0).chain(ends).map(|end| contents(&disk.with_records(&records[..*end]))).collect()
}

/// Where the last batch begins, and how many records come before it.
fn last_batch(ends: &[usize]) -> (usize, usize) {
    let before = ends.len() - BATCHES[BATCHES.len() - 1];
    (ends[before - 1], before)
}

#[test]
fn every_prefix_gives_all_records_that_it_holds_whole() {
    let (disk, log, ends) = one_file();
    let history = history(&disk, &ends);
    for cut in 0..=log.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let end = ends[..whole].last().copied().unwrap_or(0);
        let disk = disk.with_records(&log[..cut]);
        let recovered = disk.replay().unwrap_or_else(|damage| panic!("cut at {cut}: {damage}"));
        assert_eq!(recovered.records, whole as u64, "cut at {cut}");
        assert_eq!((recovered.end, recovered.torn), (end as u64, (cut - end) as u64), "cut at {cut}");
        assert_eq!(contents(&disk), history[whole], "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_is_refused_or_costs_the_last_batch_at_most() {
    let (disk, log, ends) = one_file();
    let history = history(&disk, &ends);
    let (last, before_last) = last_batch(&ends);
    for bit in 0..log.len() * 8 {
        let mut damaged = log.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let byte = (SegmentHeader::LEN + bit / 8) as u64;
        let damaged = disk.with_records(&damaged);
        match damaged.replay() {
            Err(Damage::Record { at, later }) => {
                assert!(bit / 8 < last, "bit {bit} of the last batch can't be told from a torn write");
                assert!(at.offset <= byte && later.offset > byte, "bit {bit}: {at:?}, {later:?}");
            }
            Err(damage) => panic!("bit {bit}: {damage}"),
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
fn a_log_of_many_files_is_one_log() {
    let (disk, _, _) = one_file();
    assert_eq!(contents(&many_files()), contents(&disk));
}

#[test]
fn every_flipped_bit_before_the_last_file_is_refused() {
    let disk = many_files();
    let last = disk.segments.len() - 1;
    for (file, (header, records)) in disk.segments.iter().enumerate() {
        for bit in 0..records.len() * 8 {
            let mut damaged = disk.clone();
            damaged.segments[file].1[bit / 8] ^= 1 << (bit % 8);
            match damaged.replay() {
                Err(Damage::Record { at, later }) => {
                    let byte = (SegmentHeader::LEN + bit / 8) as u64;
                    assert!(at.segment == header.number && at.offset <= byte, "{file}, bit {bit}: {at:?}");
                    assert!(later > Place { segment: header.number, offset: byte }, "{later:?}");
                }
                Err(damage) => panic!("file {file}, bit {bit}: {damage}"),
                Ok(_) => assert_eq!(file, last, "bit {bit} went unnoticed"),
            }
        }
    }
}

#[test]
fn a_file_that_is_missing_or_cut_short_is_noticed() {
    let disk = many_files();
    for file in 0..disk.segments.len() - 1 {
        let mut missing = disk.clone();
        missing.segments.remove(file);
        assert!(missing.replay().is_err(), "file {file} is missing");
        let mut short = disk.clone();
        short.segments[file].1.pop();
        assert!(short.replay().is_err(), "file {file} is cut short");
    }
}

#[test]
fn what_an_older_file_holds_behind_the_start_of_the_next_does_not_count() {
    let (disk, log, ends) = one_file();
    let (last, _) = last_batch(&ends);
    let (header, _) = disk.segments[0];
    let fence = SegmentHeader {
        number: SegmentNumber(header.number.0 + 1),
        start: last as u64,
        salt: Salt([9; 8]),
        ..header
    };
    let mut fenced = disk.clone();
    fenced.segments.push((fence, Vec::new()));
    assert_eq!(contents(&fenced), contents(&disk.with_records(&log[..last])));
    for cut in 0..last {
        fenced.segments[0].1 = log[..cut].to_vec();
        assert!(fenced.replay().is_err(), "what is before the fence must be there: {cut}");
    }
}

fn a_header() -> SegmentHeader {
    SegmentHeader {
        number: SegmentNumber(3),
        start: 1_000_000,
        batch: BatchNumber(77),
        epoch: Epoch::from_random(7),
        salt: Salt([7; 8]),
        relaxed: true,
    }
}

#[test]
fn every_flipped_bit_of_the_header_is_refused() {
    let header = a_header().encode();
    assert_eq!(SegmentHeader::decode(&header), Ok(a_header()));
    for bit in 0..SegmentHeader::LEN * 8 {
        let mut damaged = header;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::decode(&damaged), Err(HeaderError::NotALog), "bit {bit}");
    }
}

#[test]
fn a_newer_log_an_older_one_and_what_is_no_log_are_told_apart() {
    for (version, error) in [(1, HeaderError::Older(1)), (3, HeaderError::Newer(3))] {
        let mut other = a_header().encode();
        other[8] = version;
        let crc = crc32c::crc32c(&other[..60]);
        other[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&other), Err(error.clone()));
        // Nor need it have its checksum where this version has it.
        other[60..].fill(0);
        assert_eq!(SegmentHeader::decode(&other), Err(error));
    }
    assert_eq!(SegmentHeader::decode(&[0; SegmentHeader::LEN]), Err(HeaderError::NotALog));
    let mut text = [b' '; SegmentHeader::LEN];
    text[..29].copy_from_slice(b"{\"this\": \"is some other file\"");
    assert_eq!(SegmentHeader::decode(&text), Err(HeaderError::NotALog));
}

#[test]
fn what_is_no_record_behind_the_end_is_no_part_of_the_log() {
    let (disk, log, ends) = one_file();
    let (last, _) = last_batch(&ends);
    let all = contents(&disk);
    for garbage in [&[0; 5_000][..], &[0xff; 100], &log, &log[last..], b"x"] {
        let with_garbage = disk.with_records(&[&log, garbage].concat());
        assert_eq!(with_garbage.replay().unwrap().end, log.len() as u64);
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
        world.disk
    };
    // Batches of one record each, and a file that an older batch of two records was in.
    let (log, older) = (write([&[], &["a"]]), write([&["a", "b"], &[]]));
    let (records, old_records) = (log.records(), older.records());
    assert_eq!(records.len() + (records.len() - 4) / 2, old_records.len());
    let mixed = [records, &old_records[records.len()..]].concat();
    let recovered = log.with_records(&mixed).replay().unwrap();
    assert_eq!((recovered.records, recovered.end), (2, records.len() as u64));
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let (disk, log, ends) = one_file();
    let torn = log[..log.len() - 3].to_vec();
    let mut damaged = log.clone();
    damaged[ends[2] + 30] ^= 1;
    // The length of a record says that it goes on beyond the end of the file.
    let mut endless = log.clone();
    endless[ends[2] + 2] ^= 0x40;
    let garbage = [&log[..], &log[..]].concat();
    let one_file = [&log, &torn, &damaged, &endless, &garbage].map(|records| disk.with_records(records));
    for disk in one_file.iter().chain([&many_files()]) {
        let told = |piece| disk.replay_in_pieces(piece).map(|found| (found.records, found.end));
        let whole = told(usize::MAX);
        for piece in (1..100).chain([500, 4_096]) {
            assert_eq!(told(piece), whole, "in pieces of {piece}");
        }
    }
    let [.., damaged, endless, _] = one_file;
    assert!(damaged.replay().is_err() && endless.replay().is_err());
}

/// An item's name that, as the first of a file, reads as a record of a later batch where it stands: if the file's
/// salt is this one.
fn name_like_a_record(salt: Salt) -> String {
    // In front of it stand the header of the record, the tag, the names `s` and `g`, its own length.
    let position = (24 + 1 + 2 + 2 + 1) as u64;
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
    let salt = {
        let mut world = World::durable();
        let worker = world.worker();
        world.set(worker, "1", "g", "a", "1");
        world.in_flight.unwrap().begins.unwrap().salt
    };
    for (known, is_taken) in [(salt, true), (Salt([0; 8]), false)] {
        let mut world = World::durable();
        let worker = world.worker();
        let name = name_like_a_record(known);
        let data = json!({ "stream_name": "s", "group_id": "g", "item_id": name, "data": "x".repeat(5_000) });
        world.call(worker, "1", "stream::set", &data.to_string());
        match world.torn(4_096).replay() {
            Ok(recovered) => assert!(!is_taken && recovered.torn == 4_096, "{known:?}: {recovered:?}"),
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

/// The same of what a world is writing.
fn torn_disks(world: &World) -> Vec<Disk> {
    let unsynced = world.unsynced();
    let whole = world.torn(unsynced.len());
    let torn = |left: Vec<u8>| {
        let mut disk = whole.clone();
        let synced = disk.last().len() - unsynced.len();
        disk.last().truncate(synced);
        disk.last().extend(left);
        disk
    };
    torn_ways(&unsynced).into_iter().map(torn).collect()
}

/// A core on a log, with three changes in one write that is under way and two that gather.
fn writing(disk: &Disk) -> World {
    let mut world = World::on_disk(CoreConfig::default(), START, disk.clone());
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
    let base = writing(&Disk::default());
    for first in torn_disks(&base) {
        let mut world = writing(&first);
        let acknowledged = world.disk.replay().unwrap().end;
        for second in torn_disks(&world).iter().step_by(5) {
            let recovered =
                second.replay().unwrap_or_else(|damage| panic!("{first:?}, then {second:?}: {damage}"));
            assert!(recovered.end >= acknowledged, "acknowledged changes are lost");
        }
        world.settle();
        assert_eq!(world.disk.replay().unwrap().torn, 0);
    }
}

#[test]
fn damage_before_a_continued_tail_is_refused() {
    let base = writing(&Disk::default());
    let synced = base.disk.records().len();
    for first in torn_disks(&base).iter().step_by(3) {
        let mut world = writing(first);
        world.settle();
        for byte in 0..synced {
            let mut damaged = world.disk.clone();
            damaged.segments[0].1[byte] ^= 0x10;
            assert!(damaged.replay().is_err(), "byte {byte}");
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
