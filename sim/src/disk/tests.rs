//! The laws of the simulated disk.

use super::*;

fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(name).unwrap()?;
    let mut bytes = vec![0; 1 << 16];
    let len = file.read_at(0, &mut bytes).unwrap();
    bytes.truncate(len);
    Some(bytes)
}

/// What is left of a file of which `synced` was synced and `unsynced` written behind it.
fn after_crash(seed: u64, syncing: Syncing, unsynced: &[u8]) -> Option<Vec<u8>> {
    let disk = SimDisk::new(Power::default(), syncing);
    let file = disk.create("log").unwrap();
    file.write_at(0, b"synced").unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    file.write_at(6, unsynced).unwrap();
    assert_eq!(read(&disk, "log").unwrap(), [b"synced", unsynced].concat());
    disk.crash(&mut Random::new(seed));
    read(&disk, "log")
}

#[test]
fn what_was_synced_survives_every_crash_and_the_rest_survives_some() {
    let unsynced = vec![b'x'; 2_000];
    let left: Vec<_> = (0..200).map(|seed| after_crash(seed, Syncing::Honest, &unsynced).unwrap()).collect();
    assert!(left.iter().all(|left| left.starts_with(b"synced")));
    assert!(left.iter().any(|left| left.len() == 6), "all of it is lost");
    assert!(left.iter().any(|left| left.len() == 2_006), "nothing is lost");
    assert!(left.iter().any(|left| (7..2_006).contains(&left.len())), "the last write is torn");
    assert!(left.iter().any(|left| left[6..].contains(&0)), "a sector is lost before one that is not");
}

#[test]
fn a_sync_saves_every_write_before_it_and_none_after() {
    let left = |seed| {
        let disk = SimDisk::new(Power::default(), Syncing::Honest);
        let file = disk.create("log").unwrap();
        disk.sync_names().unwrap();
        for (at, byte) in [b"a", b"b", b"c"].into_iter().enumerate() {
            file.write_at(at as u64, byte).unwrap();
        }
        file.sync().unwrap();
        file.write_at(3, b"d").unwrap();
        file.write_at(4, b"e").unwrap();
        disk.crash(&mut Random::new(seed));
        read(&disk, "log").unwrap()
    };
    let left: Vec<_> = (0..200).map(left).collect();
    assert!(left.iter().all(|left| left.starts_with(b"abc")));
    for some in [&b"abc"[..], b"abcd", b"abcde", b"abc\0e"] {
        assert!(left.iter().any(|left| left == some), "{some:?} is never left");
    }
}

#[test]
fn a_sync_that_does_nothing_saves_nothing() {
    let left: Vec<_> = (0..50).map(|seed| after_crash(seed, Syncing::Lying, b"x")).collect();
    assert!(left.contains(&None), "the name is lost");
    assert!(left.contains(&Some(Vec::new())), "the contents are lost");
}

#[test]
fn a_name_that_was_not_synced_may_be_lost() {
    let names_after = |seed| {
        let disk = SimDisk::new(Power::default(), Syncing::Honest);
        disk.create("new").unwrap().sync().unwrap();
        disk.sync_names().unwrap();
        disk.rename("new", "log").unwrap();
        disk.crash(&mut Random::new(seed));
        ["new", "log"].map(|name| disk.open(name).unwrap().is_some())
    };
    let seen: Vec<_> = (0..50).map(names_after).collect();
    assert!(seen.contains(&[true, false]) && seen.contains(&[false, true]));
    assert!(!seen.contains(&[true, true]) && !seen.contains(&[false, false]));
}

#[test]
fn without_power_nothing_is_written() {
    let power = Power::default();
    let disk = SimDisk::new(power.clone(), Syncing::Honest);
    let file = disk.create("log").unwrap();
    power.cut_after(2);
    file.write_at(0, b"a").unwrap();
    file.write_at(1, b"b").unwrap();
    assert!(power.is_off());
    assert!(file.write_at(2, b"c").is_err());
    assert!(file.sync().is_err());
    assert_eq!(read(&disk, "log").unwrap(), b"ab");
}

/// A fault that begins at once.
fn now(kind: FaultKind, failing: u64, seed: u64) -> Fault {
    Fault { kind, after: 0, failing, random: Random::new(seed) }
}

#[test]
fn a_name_is_gone_once_its_removal_is_synced_and_before_only_perhaps() {
    let left = |seed, synced: bool| {
        let disk = SimDisk::new(Power::default(), Syncing::Honest);
        for name in ["a", "b"] {
            disk.create(name).unwrap();
        }
        disk.sync_names().unwrap();
        disk.remove("a").unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.remove("a").unwrap_err().kind(), io::ErrorKind::NotFound);
        if synced {
            disk.sync_names().unwrap();
        }
        disk.crash(&mut Random::new(seed));
        disk.list().unwrap()
    };
    assert!((0..20).all(|seed| left(seed, true) == ["b"]));
    let left: Vec<_> = (0..50).map(|seed| left(seed, false)).collect();
    assert!(left.iter().any(|left| left == &["b"]) && left.iter().any(|left| left == &["a", "b"]));
}

#[test]
fn an_open_file_is_there_without_a_name() {
    let disk = SimDisk::new(Power::default(), Syncing::Honest);
    let file = disk.create("a").unwrap();
    disk.remove("a").unwrap();
    file.write_at(0, b"x").unwrap();
    assert_eq!(file.len().unwrap(), 1);
    assert!(disk.open("a").unwrap().is_none());
}

#[test]
fn a_full_disk_writes_nothing_or_a_part_and_takes_all_again_when_there_is_room() {
    let left = |seed| {
        let disk = SimDisk::new(Power::default(), Syncing::Honest);
        let file = disk.create("log").unwrap();
        disk.fail(Fault { after: 1, ..now(FaultKind::Full, 2, seed) });
        file.write_at(0, b"one").unwrap();
        assert_eq!(file.write_at(3, b"two").unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.sync().expect("a sync needs no room");
        assert_eq!(disk.create("new").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.failed(), 2);
        let left = read(&disk, "log").unwrap();
        file.write_at(3, b"three").unwrap();
        assert_eq!(read(&disk, "log").unwrap(), b"onethree");
        left
    };
    let left: Vec<_> = (0..50).map(left).collect();
    assert!(left.iter().all(|left| left.starts_with(b"one") && left.len() < 6));
    assert!(left.iter().any(|left| left.len() == 3), "nothing is written");
    assert!(left.iter().any(|left| left == b"onetw"), "a part is written");
}

#[test]
fn what_a_failed_sync_lost_is_still_read_and_no_later_sync_saves_it() {
    let left = |seed| {
        let disk = SimDisk::new(Power::default(), Syncing::Honest);
        let file = disk.create("log").unwrap();
        disk.sync_names().unwrap();
        file.write_at(0, &[b'a'; 2 * 512]).unwrap();
        disk.fail(now(FaultKind::Sync, 1, seed));
        assert!(file.sync().is_err());
        file.write_at(2 * 512, b"b").unwrap();
        file.sync().unwrap();
        assert_eq!(read(&disk, "log").unwrap(), [&[b'a'; 2 * 512][..], b"b"].concat());
        disk.crash(&mut Random::new(seed));
        read(&disk, "log").unwrap()
    };
    let left: Vec<_> = (0..50).map(left).collect();
    assert!(left.iter().all(|left| left.len() == 2 * 512 + 1 && left.ends_with(b"b")));
    assert!(left.iter().any(|left| left[..2 * 512] == [0; 2 * 512]), "all of it is lost");
    assert!(left.iter().any(|left| left[0] != left[2 * 512 - 1]), "a part of it is lost");
}

#[test]
fn a_fault_ends_by_itself_or_when_it_is_healed() {
    let disk = SimDisk::new(Power::default(), Syncing::Honest);
    let file = disk.create("log").unwrap();
    disk.fail(now(FaultKind::Write, 2, 0));
    assert!(file.write_at(0, b"a").is_err());
    assert!(file.sync().is_ok());
    assert!(disk.remove("log").is_err());
    assert!(file.write_at(0, b"a").is_ok());
    disk.fail(now(FaultKind::Sync, u64::MAX, 0));
    assert!(disk.sync_names().is_err() && file.sync().is_err());
    disk.heal();
    assert!(disk.sync_names().is_ok() && file.sync().is_ok());
}
