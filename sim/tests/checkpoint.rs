//! The checkpoint on a disk that fails and loses power: what was saved is there, whole, whatever comes between.

use std::collections::BTreeMap;

use headwater::store::checkpoint::Checkpoint;
use headwater_core::json::Json;
use headwater_core::log::{BatchNumber, Epoch, Revision};
use headwater_core::name::{GroupName, GroupPath, ItemId, StreamName};
use headwater_core::store::saved::{
    Checkpoint as Found, CheckpointState, GroupHead, GroupNumber, Save, SaveGroup, SavedGroup,
};
use headwater_core::store::{Item, Snapshot};
use headwater_core::time::Stamp;
use headwater_sim::disk::{Fault, FaultKind, SimDisk, Syncing};
use headwater_sim::power::Power;
use headwater_sim::random::Random;

/// What a checkpoint holds: all groups, and where its last finished state is in the log.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    groups: BTreeMap<u64, Group>,
    position: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Group {
    head: GroupHead,
    items: Vec<(Revision, Item)>,
}

impl Group {
    fn of(saved: &SavedGroup) -> Group {
        let items = saved.snapshot.iter_created().map(|(created, item)| (created, item.clone()));
        Group { head: saved.head, items: items.collect() }
    }
}

fn path(group: u64) -> GroupPath {
    GroupPath {
        stream: StreamName::trusted(["a", "b"][usize::from(group.is_multiple_of(2))]),
        group: GroupName::trusted(&format!("group-{group}")),
    }
}

impl Model {
    /// Draws changes of a few groups, and a save of all that is unsaved, which may be the last of a checkpoint. The model
    /// is then what the save says.
    fn change(&mut self, unsaved: &mut BTreeMap<u64, Vec<Revision>>, random: &mut Random) -> Save {
        for _ in 0..random.within(1..5) {
            let number = random.within(1..8);
            let group = self.groups.entry(number).or_insert_with(|| Group {
                head: GroupHead {
                    number: GroupNumber(number),
                    revision: Revision(0),
                    stamp: Stamp(0),
                    reserved: Stamp(0),
                    items: 0,
                },
                items: Vec::new(),
            });
            let changed = unsaved.entry(number).or_default();
            for _ in 0..random.within(1..20) {
                group.head.revision = Revision(group.head.revision.0 + 1);
                change_item(group, changed, random);
            }
            group.head.items = group.items.len() as u64;
        }
        self.position = random.chance(40).then(|| random.within(1..1_000_000));
        let state = |position| CheckpointState::at(position, BatchNumber(position), Epoch::from_random(1));
        let save_group = |(number, changed): (&u64, &Vec<Revision>)| {
            let Group { head, items } = self.groups[number].clone();
            let (snapshot, changed) = (Snapshot::of(items), changed.clone());
            SaveGroup { path: path(*number), head, snapshot, changed }
        };
        Save {
            groups: unsaved.iter().map(save_group).collect(),
            next_group: GroupNumber(8),
            finish: self.position.map(state),
        }
    }

    /// What is there if this save is written where `before` was.
    fn after(&self, before: &Model) -> Model {
        Model { groups: self.groups.clone(), position: self.position.or(before.position) }
    }

    /// What a start finds of it: nothing, if it was never finished.
    fn found(self) -> Model {
        if self.position.is_some() { self } else { Model::default() }
    }

    fn counts(&self) -> (u64, u64) {
        let lens = self.groups.values().map(|group| group.items.len() as u64);
        lens.fold((0, 0), |(items, groups), len| (items + len, groups + u64::from(len > 0)))
    }
}

/// Sets a new item, changes one, or removes one.
fn change_item(group: &mut Group, changed: &mut Vec<Revision>, random: &mut Random) {
    let revision = group.head.revision;
    let at = random.index(group.items.len() + 3);
    // Most are small; some need pages of their own.
    let len = if random.chance(5) { random.within(4_000..40_000) } else { random.within(0..200) };
    let value = Json::trusted(format!("\"{}\"", "x".repeat(usize::try_from(len).unwrap_or(0))));
    if at < group.items.len() && random.chance(40) {
        changed.push(group.items.remove(at).0);
    } else if let Some((created, item)) = group.items.get_mut(at) {
        (item.value, item.revision) = (value, revision);
        changed.push(*created);
    } else {
        let id = ItemId::trusted(&format!("item-{}", revision.0));
        group.items.push((revision, Item { id, value, revision }));
        changed.push(revision);
    }
}

/// What is read of a checkpoint.
fn read(checkpoint: &Checkpoint<SimDisk>, found: Option<&Found>) -> Model {
    let mut groups = BTreeMap::new();
    for group in checkpoint.scan().expect("it can be read") {
        let (path, group) = group.expect("it is whole");
        let loaded = checkpoint.load_group(&path).expect("it can be read");
        assert_eq!(loaded.as_ref(), Some(&group));
        groups.insert(group.head.number.0, Group::of(&group));
    }
    Model { groups, position: found.map(|found| found.state.position) }
}

/// Saves again and again, on a disk that fails now and then, and whose machine loses its power now and then. Returns how
/// many saves failed.
fn live(seed: u64, syncing: Syncing) -> Result<u64, String> {
    let random = &mut Random::new(seed);
    let power = Power::default();
    let disk = SimDisk::new(power.clone(), syncing);
    let (mut saved, mut failed) = (Model::default(), 0);
    for _ in 0..4 {
        let (checkpoint, found) = Checkpoint::open(disk.clone()).map_err(|error| error.to_string())?;
        let found = read(&checkpoint, found.as_ref());
        if found != saved {
            return Err(format!("a start without a crash finds {found:#?} instead of {saved:#?}"));
        }
        // All that may be there: a save that failed may be, too.
        let (mut maybe, mut newest, mut unsaved) = (vec![saved.clone()], saved, BTreeMap::new());
        for _ in 0..random.within(1..12) {
            if random.chance(40) {
                disk.fail(fault(random));
            }
            if random.chance(10) {
                power.cut_after(random.within(1..30));
            }
            let save = newest.change(&mut unsaved, random);
            let after: Vec<Model> = maybe.iter().map(|before| newest.after(before)).collect();
            if checkpoint.save(&save).is_ok() {
                unsaved.clear();
                maybe.clear();
            } else {
                failed += 1;
            }
            maybe.extend(after);
            if power.is_off() {
                break;
            }
            if let Ok(read) = checkpoint.load_group(&path(1)) {
                let read = read.as_ref().map(Group::of);
                assert!(maybe.iter().any(|model| model.groups.get(&1) == read.as_ref()));
            }
        }
        if !power.is_off() && random.chance(50) {
            power.restore();
            disk.heal();
            let save = newest.change(&mut unsaved, random);
            checkpoint.save(&save).map_err(|error| format!("on a disk that works again, {error}"))?;
            maybe = maybe.iter().map(|before| newest.after(before)).collect();
        }
        power.cut();
        drop(checkpoint);
        disk.crash(random);
        power.restore();
        disk.heal();
        let (checkpoint, found) = Checkpoint::open(disk.clone()).map_err(|error| error.to_string())?;
        saved = read(&checkpoint, found.as_ref());
        if !maybe.into_iter().map(Model::found).any(|maybe| maybe == saved) {
            return Err(format!("after a crash, there is {saved:#?}"));
        }
        let counts = found.map(|found| (found.items, found.groups));
        assert_eq!(counts.unwrap_or_default(), saved.counts());
        // A process that is killed does not close it.
        if random.chance(50) {
            power.cut();
        }
        drop(checkpoint);
        power.restore();
    }
    Ok(failed)
}

fn fault(random: &mut Random) -> Fault {
    Fault {
        kind: [FaultKind::Full, FaultKind::Write, FaultKind::Sync][random.index(3)],
        after: random.within(0..30),
        failing: random.within(1..4),
        random: random.fork(),
    }
}

#[test]
fn what_was_saved_is_there_whatever_fails_and_whenever_the_power_does() {
    let mut failed = 0;
    for seed in 0..300 {
        failed += live(seed, Syncing::Honest).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
    assert!(failed > 300, "{failed}");
}

#[test]
fn without_a_sync_it_is_not_there() {
    assert!((0..20).any(|seed| live(seed, Syncing::Lying).is_err()));
}
