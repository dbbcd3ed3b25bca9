//! Reading a checkpoint that is damaged, as far as it can be read.

use std::ops::Bound;
use std::sync::Arc;

use headwater_core::log::Revision;
use headwater_core::name::{GroupName, GroupPath, StreamName};
use headwater_core::store::saved::{GroupHead, SavedGroup};
use headwater_core::store::{Item, Snapshot};
use redb::{Database, ReadableDatabase};

use super::tables::{self, GROUPS, ITEMS};
use super::{Checkpoint, CheckpointError, guarded};
use crate::store::Disk;

/// A group of a checkpoint.
pub(in crate::store) struct Inspected {
    /// Its name, if that can be trusted.
    pub(in crate::store) path: GroupPath,
    /// What can be read of it; `None` is nothing.
    pub(in crate::store) group: Option<SavedGroup>,
    /// What can't.
    pub(in crate::store) lost: Lost,
}

/// What can't be read of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Lost {
    Nothing,
    /// So many items.
    Items(u64),
    All,
}

impl<D: Disk> Checkpoint<D> {
    /// Hands every group to `each` that can be read, and those whose name alone can. An error says that there may be
    /// others.
    pub(in crate::store) fn inspect(
        &self,
        mut each: impl FnMut(Inspected) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut between = (None, None);
        let broken = loop {
            let (read, more) = self.inspect_some(&mut between, Direction::Up, &mut each)?;
            match read {
                Ok(()) if more => {}
                Ok(()) => return Ok(()),
                Err(error) => break error,
            }
        };
        // From the other end, up to where it is broken.
        while let (Ok(()), true) = self.inspect_some(&mut between, Direction::Down, &mut each)? {}
        Err(broken)
    }

    /// Whether the database can use all of its file: also what it keeps there for itself, which reading groups never
    /// meets, and saving them does.
    pub(in crate::store) fn check(&self) -> Result<(), CheckpointError> {
        // The check wants a database that nobody else uses.
        self.place().database = None;
        let opened = self.database()?;
        self.place().database = None;
        let Some(mut opened) = opened.and_then(Arc::into_inner) else { return Ok(()) };
        let check = |database: &mut Database| guarded(|| Ok(database.check_integrity()?));
        let checked = opened.database.as_mut().map(check);
        checked.transpose().map(drop).inspect_err(|_| opened.retired.set())
    }

    /// What can be read of a group.
    pub(in crate::store) fn rest_of_group(&self, path: &GroupPath) -> Option<SavedGroup> {
        let read = |database: &Database| {
            let groups = database.begin_read()?.open_table(GROUPS)?;
            let (stream, group) = (path.stream.as_str(), path.group.as_str());
            let Some(head) = groups.get((stream, group))? else { return Ok(None) };
            tables::decode_head(stream, group, head.value()).map(Some)
        };
        let head = self.read(read).ok().flatten().flatten()?;
        Some(self.rest_of(head).0)
    }

    /// Some more groups between two: how reading them went, and whether there are more.
    fn inspect_some(
        &self,
        between: &mut (Option<GroupPath>, Option<GroupPath>),
        direction: Direction,
        each: &mut impl FnMut(Inspected) -> Result<(), CheckpointError>,
    ) -> Result<(Result<(), CheckpointError>, bool), CheckpointError> {
        let mut heads = Vec::new();
        let read = self.read(|database| read_heads(database, between, direction, &mut heads)).map(drop);
        let more = heads.len() == MOST_HEADS;
        if let Some((path, _)) = heads.last() {
            match direction {
                Direction::Up => between.0 = Some(path.clone()),
                Direction::Down => between.1 = Some(path.clone()),
            }
        }
        for (path, head) in heads {
            let Some(head) = head else {
                each(Inspected { path, group: None, lost: Lost::All })?;
                continue;
            };
            let (rest, lost) = self.rest_of(head);
            let lost = if lost == 0 { Lost::Nothing } else { Lost::Items(lost) };
            each(Inspected { path, group: Some(rest), lost })?;
        }
        Ok((read, more))
    }

    /// The items of a group that can be read, and how many can't.
    fn rest_of(&self, head: GroupHead) -> (SavedGroup, u64) {
        let mut items = Vec::new();
        let read = self.read(|database| read_items(database, head, 0, Direction::Up, &mut items));
        if read.is_err() {
            let behind = items.last().map_or(0, |(created, _): &(Revision, Item)| created.0 + 1);
            let mut others = Vec::new();
            // Up to where it is broken, too.
            let _ = self.read(|database| read_items(database, head, behind, Direction::Down, &mut others));
            items.extend(others.into_iter().rev());
        }
        let lost = head.items.saturating_sub(items.len() as u64);
        let head = GroupHead { items: items.len() as u64, ..head };
        (SavedGroup { head, snapshot: Snapshot::of(items) }, lost)
    }
}

/// In which order to read: what is broken somewhere can be read up to there from both ends.
#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

/// How many heads are read at once.
const MOST_HEADS: usize = 1_000;

/// The heads of groups between two, without them; `None` for one that can't be read.
fn read_heads(
    database: &Database,
    (after, before): &(Option<GroupPath>, Option<GroupPath>),
    direction: Direction,
    heads: &mut Vec<(GroupPath, Option<GroupHead>)>,
) -> Result<(), CheckpointError> {
    let from = after.as_ref().map(names).map_or(Bound::Unbounded, Bound::Excluded);
    let until = before.as_ref().map(names).map_or(Bound::Unbounded, Bound::Excluded);
    let groups = database.begin_read()?.open_table(GROUPS)?;
    let mut range = groups.range::<(&str, &str)>((from, until))?;
    while heads.len() < MOST_HEADS {
        let next = match direction {
            Direction::Up => range.next(),
            Direction::Down => range.next_back(),
        };
        let Some(entry) = next else { break };
        let (key, head) = entry?;
        let (stream, group) = key.value();
        let path = GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
        heads.push((path, GroupHead::decode(stream, group, head.value()).ok()));
    }
    Ok(())
}

fn names(path: &GroupPath) -> (&str, &str) {
    (path.stream.as_str(), path.group.as_str())
}

/// The items of a group that some revision or a later one created, as far as they can be read.
fn read_items(
    database: &Database,
    head: GroupHead,
    from: u64,
    direction: Direction,
    items: &mut Vec<(Revision, Item)>,
) -> Result<(), CheckpointError> {
    let number = head.number;
    let table = database.begin_read()?.open_table(ITEMS)?;
    let mut range = table.range((number.0, from)..=(number.0, u64::MAX))?;
    loop {
        let next = match direction {
            Direction::Up => range.next(),
            Direction::Down => range.next_back(),
        };
        let Some(entry) = next else { return Ok(()) };
        let (key, bytes) = entry?;
        let created = Revision(key.value().1);
        if let Ok(item) = Item::decode(number, created, bytes.value()) {
            items.push((created, item));
        }
    }
}
