//! The disk of a world: the files of a log, and a checkpoint as a plain map.

use std::collections::BTreeMap;

use headwater_core::log::{Revision, SegmentHeader, SegmentNumber};
use headwater_core::name::{GroupName, GroupPath, StreamName};
use headwater_core::store::saved::{Checkpoint, CheckpointState, GroupHead, GroupNumber, SavedGroup};
use headwater_core::store::{
    Base, Damage, Item, Load, Loaded, Recovered, Replay, Save, Snapshot, Unreadable,
};

/// What survives everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// Each file's header, and what stands behind it.
    pub(crate) segments: Vec<(SegmentHeader, Vec<u8>)>,
    pub(crate) checkpoint: Saved,
    /// The files that were discarded last.
    discarded: Vec<(SegmentHeader, Vec<u8>)>,
}

/// A checkpoint: what was saved, and what the last one that was finished says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    groups: BTreeMap<GroupPath, (GroupHead, BTreeMap<Revision, Item>)>,
    next_group: GroupNumber,
    pub(crate) state: Option<CheckpointState>,
}

impl Disk {
    /// The file that is written last.
    pub(crate) fn last(&mut self) -> &mut Vec<u8> {
        &mut self.segments.last_mut().expect("a file").1
    }

    /// How many bytes of records there are.
    pub(crate) fn log_len(&self) -> usize {
        self.segments.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// The same, with this instead of the only file's records.
    pub(crate) fn with_records(&self, records: &[u8]) -> Disk {
        let [(header, _)] = &self.segments[..] else { panic!("one file") };
        Disk { segments: vec![(*header, records.to_vec())], ..self.clone() }
    }

    /// The records of its only file.
    pub(crate) fn records(&self) -> &[u8] {
        let [(_, records)] = &self.segments[..] else { panic!("one file") };
        records
    }

    pub(crate) fn discard(&mut self, segments: &[SegmentNumber]) {
        self.discarded =
            self.segments.extract_if(.., |(header, _)| segments.contains(&header.number)).collect();
    }

    /// Of the files that were discarded last, so many of the newest are there again.
    pub(crate) fn bring_back(&mut self, files: usize) {
        let from = self.discarded.len().saturating_sub(files);
        self.segments.splice(..0, self.discarded.drain(..).skip(from));
    }

    /// A checkpoint that was not finished when the process ended is nothing.
    pub(crate) fn start(&mut self) {
        if self.checkpoint.state.is_none() {
            self.checkpoint = Saved::default();
        }
        self.discarded.clear();
    }

    pub(crate) fn replay(&self) -> Result<Recovered, Damage> {
        self.replay_in_pieces(usize::MAX)
    }

    /// Reads it back in pieces of `piece` bytes.
    pub(crate) fn replay_in_pieces(&self, piece: usize) -> Result<Recovered, Damage> {
        let headers = self.segments.iter().map(|(header, _)| *header).collect();
        let mut base = self.checkpoint.clone();
        let mut replay = Replay::new(self.checkpoint.found(), headers)?;
        while let Some(part) = replay.next_part() {
            let (_, bytes) = self
                .segments
                .iter()
                .find(|(header, _)| header.number == part.segment)
                .expect("a file that is there");
            let offset = |offset: u64| usize::try_from(offset).expect("small") - SegmentHeader::LEN;
            let until = part.until.map_or(bytes.len(), offset).min(bytes.len());
            let part = bytes.get(offset(part.from)..until).unwrap_or_default();
            for bytes in part.chunks(piece.max(1)) {
                replay.push(bytes, &mut base).expect("a map can be read");
            }
        }
        replay.finish()
    }
}

impl Saved {
    /// As it is found at a start; one that was never finished is nothing.
    fn found(&self) -> Option<Checkpoint> {
        let items = self.groups.values().map(|(_, items)| items.len() as u64);
        Some(Checkpoint {
            state: self.state.clone()?,
            next_group: self.next_group,
            items: items.clone().sum(),
            groups: items.filter(|items| *items > 0).count() as u64,
        })
    }

    pub(crate) fn apply(&mut self, save: Save) {
        for group in save.groups {
            let own = |(path, (head, _)): (&GroupPath, &(GroupHead, _))| {
                (head.number == group.head.number) == (*path == group.path)
            };
            assert!(self.groups.iter().all(own), "a number is given once: {:?}", group.path);
            let (head, items) =
                self.groups.entry(group.path.clone()).or_insert_with(|| (group.head, BTreeMap::new()));
            assert_eq!(head.number, group.head.number, "a group keeps its number");
            assert!(head.revision <= group.head.revision, "a group goes back");
            // Through bytes and back, as on the real disk.
            let bytes = group.head.encode(&group.path);
            let (stream, name) = (group.path.stream.as_str(), group.path.group.as_str());
            *head = GroupHead::decode(stream, name, &bytes).expect("it was just written");
            for created in group.changed {
                match group.snapshot.created(created) {
                    Some(item) => {
                        let bytes = item.encode(head.number, created);
                        let item = Item::decode(head.number, created, &bytes).expect("it was just written");
                        items.insert(created, item);
                    }
                    None => drop(items.remove(&created)),
                }
            }
            assert_eq!(items.len() as u64, head.items, "every change is saved: {:?}", group.path);
        }
        self.next_group = save.next_group;
        if let Some(state) = save.finish {
            self.state = Some(CheckpointState::decode(&state.encode()).expect("it was just written"));
        }
    }

    pub(crate) fn load(&self, load: &Load) -> Loaded {
        match load {
            Load::Group(path) => Loaded::Group(self.saved_group(path)),
            Load::Names(stream) => {
                let mut names: BTreeMap<StreamName, Vec<GroupName>> = BTreeMap::new();
                for (path, (_, items)) in &self.groups {
                    let asked_for = stream.as_ref().is_none_or(|stream| *stream == path.stream);
                    if asked_for && !items.is_empty() {
                        names.entry(path.stream.clone()).or_default().push(path.group.clone());
                    }
                }
                Loaded::Names(names.into_iter().collect())
            }
        }
    }

    fn saved_group(&self, path: &GroupPath) -> Option<SavedGroup> {
        let (head, items) = self.groups.get(path)?;
        Some(SavedGroup {
            head: *head,
            snapshot: Snapshot::of(items.iter().map(|(created, item)| (*created, item.clone())).collect()),
        })
    }
}

impl Base for Saved {
    fn group(&mut self, path: &GroupPath) -> Result<Option<SavedGroup>, Unreadable> {
        Ok(self.saved_group(path))
    }
}
