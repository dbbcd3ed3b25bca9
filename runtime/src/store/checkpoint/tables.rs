//! The tables of a checkpoint: what is where, and transactions on them.

use headwater_core::log::Revision;
use headwater_core::name::{GroupName, GroupPath, StreamName};
use headwater_core::store::saved::{
    Checkpoint as Found, CheckpointState, GroupHead, GroupNumber, Save, SaveGroup, SavedGroup,
};
use headwater_core::store::{Item, Snapshot};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
};

use super::pages::PAGE;
use super::{CACHE_BYTES, CheckpointError, VERSION};

/// The head of each group, by stream and group.
pub(super) const GROUPS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("groups");
/// The items, by their group's number and the revision that created them.
pub(super) const ITEMS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("items");
/// What is there once.
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

const VERSION_KEY: &str = "version";
const CHECKPOINT_KEY: &str = "checkpoint";
const COUNTS_KEY: &str = "counts";

/// What is counted on the way.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    next_group: u64,
    /// How many items there are.
    items: u64,
    /// How many groups hold them.
    groups: u64,
}

impl Counts {
    fn encode(self) -> Vec<u8> {
        let mut bytes = [self.next_group, self.items, self.groups].map(u64::to_le_bytes).concat();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Counts> {
        let (bytes, crc) = bytes.split_last_chunk()?;
        let (&[next_group, items, groups], []) = bytes.as_chunks::<8>() else { return None };
        let [next_group, items, groups] = [next_group, items, groups].map(u64::from_le_bytes);
        (crc32c::crc32c(bytes) == u32::from_le_bytes(*crc)).then_some(Counts { next_group, items, groups })
    }

    /// Counts a group that had `before` items and has `after` now.
    fn replace(&mut self, before: u64, after: u64) {
        self.items = self.items.saturating_sub(before) + after;
        self.groups = self.groups.saturating_sub(u64::from(before > 0)) + u64::from(after > 0);
    }
}

/// Makes the tables in a new database.
pub(super) fn create(database: &Database) -> Result<(), CheckpointError> {
    write(database, |tables| {
        tables.state.insert(VERSION_KEY, &VERSION.to_le_bytes()[..])?;
        tables.state.insert(COUNTS_KEY, &Counts::default().encode()[..])?;
        Ok(())
    })
}

/// Refuses what a newer program has written.
pub(super) fn check_version(database: &Database) -> Result<(), CheckpointError> {
    let state = database.begin_read()?.open_table(STATE)?;
    let version = entry(&state, VERSION_KEY)?;
    match version.value().try_into().map(u64::from_le_bytes) {
        Ok(VERSION) => Ok(()),
        Ok(newer) if newer > VERSION => Err(CheckpointError::Newer(newer)),
        _ => Err(missing(VERSION_KEY)),
    }
}

/// As if a newer program had written it.
#[cfg(test)]
pub(super) fn set_version(database: &Database, version: u64) -> Result<(), CheckpointError> {
    write(database, |tables| {
        tables.state.insert(VERSION_KEY, &version.to_le_bytes()[..])?;
        Ok(())
    })
}

/// Writes a part of a checkpoint, in one or several transactions.
pub(super) fn save(database: &Database, save: &Save) -> Result<(), CheckpointError> {
    // Neighbours go into the same pages.
    let mut groups: Vec<&SaveGroup> = save.groups.iter().collect();
    groups.sort_unstable_by_key(|group| group.head.number);
    let mut groups = groups.into_iter().peekable();
    loop {
        write(database, |tables| {
            let mut counts = counts(&tables.state)?;
            let mut pages = 0;
            while let Some(group) =
                groups.next_if(|group| pages == 0 || pages + pages_of(group) <= MOST_PAGES)
            {
                pages += pages_of(group);
                tables.save_group(group, &mut counts)?;
            }
            counts.next_group = save.next_group.0;
            tables.state.insert(COUNTS_KEY, &counts.encode()[..])?;
            if let Some(state) = save.finish.as_ref().filter(|_| groups.peek().is_none()) {
                tables.state.insert(CHECKPOINT_KEY, &state.encode()[..])?;
            }
            Ok(())
        })?;
        if groups.peek().is_none() {
            return Ok(());
        }
    }
}

/// Most pages of a transaction. It keeps what it changes in half of the database's memory; what finds no room there is
/// written and, as its checksums are made at the end, read and written once more.
const MOST_PAGES: usize = CACHE_BYTES / 2 / PAGE * 3 / 4;

/// About how many pages change when a group is saved, at most.
fn pages_of(group: &SaveGroup) -> usize {
    let SaveGroup { snapshot, changed, .. } = group;
    let len = |item: &Item| item.id.as_str().len() + item.value.as_str().len();
    let bytes: usize = changed.iter().filter_map(|created| snapshot.created(*created)).map(len).sum();
    // The group is in so many pages if they are half full.
    let all = snapshot.bytes() / (PAGE / 2) + 1;
    1 + (bytes / PAGE).max(changed.len().min(all))
}

struct Tables<'t> {
    groups: Table<'t, (&'static str, &'static str), &'static [u8]>,
    items: Table<'t, (u64, u64), &'static [u8]>,
    state: Table<'t, &'static str, &'static [u8]>,
}

impl Tables<'_> {
    fn save_group(&mut self, group: &SaveGroup, counts: &mut Counts) -> Result<(), CheckpointError> {
        let SaveGroup { path, head, snapshot, changed } = group;
        let number = head.number;
        for created in changed {
            let key = (number.0, created.0);
            match snapshot.created(*created) {
                Some(item) => drop(self.items.insert(key, &item.encode(number, *created)[..])?),
                None => drop(self.items.remove(key)?),
            }
        }
        let (stream, group) = (path.stream.as_str(), path.group.as_str());
        let before = self.groups.insert((stream, group), &head.encode(path)[..])?;
        let before = before.map(|before| decode_head(stream, group, before.value())).transpose()?;
        counts.replace(before.map_or(0, |before| before.items), head.items);
        Ok(())
    }
}

/// A transaction of the kind that leaves a file that can be opened at once, and whose parts are durable one by one: the
/// header after all that it leads to.
fn write(
    database: &Database,
    work: impl FnOnce(&mut Tables<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut tables = Tables {
        groups: transaction.open_table(GROUPS)?,
        items: transaction.open_table(ITEMS)?,
        state: transaction.open_table(STATE)?,
    };
    work(&mut tables)?;
    drop(tables);
    Ok(transaction.commit()?)
}

/// What a checkpoint is as a whole, at a start: then it is a finished one.
pub(super) fn contents(transaction: &ReadTransaction) -> Result<Found, CheckpointError> {
    let state = transaction.open_table(STATE)?;
    let Counts { next_group, items, groups } = counts(&state)?;
    let finished = CheckpointState::decode(entry(&state, CHECKPOINT_KEY)?.value())?;
    Ok(Found { state: finished, next_group: GroupNumber(next_group), items, groups })
}

/// A group with its items.
pub(super) fn group(
    transaction: &ReadTransaction,
    path: &GroupPath,
) -> Result<Option<SavedGroup>, CheckpointError> {
    let groups = transaction.open_table(GROUPS)?;
    let (stream, group) = (path.stream.as_str(), path.group.as_str());
    let Some(head) = groups.get((stream, group))? else { return Ok(None) };
    let head = decode_head(stream, group, head.value())?;
    Ok(Some(items_of(&transaction.open_table(ITEMS)?, head, stream, group)?))
}

/// The group of this head, with its items.
pub(super) fn items_of(
    table: &ReadOnlyTable<(u64, u64), &'static [u8]>,
    head: GroupHead,
    stream: &str,
    group: &str,
) -> Result<SavedGroup, CheckpointError> {
    let number = head.number;
    let mut items = Vec::new();
    for entry in table.range((number.0, 0)..=(number.0, u64::MAX))? {
        let (key, bytes) = entry?;
        let created = Revision(key.value().1);
        let what = || format!("an item of {stream} > {group}");
        let item = Item::decode(number, created, bytes.value())
            .map_err(|error| CheckpointError::entry(what())(error))?;
        items.push((created, item));
    }
    match items.len() as u64 == head.items {
        true => Ok(SavedGroup { head, snapshot: Snapshot::of(items) }),
        false => Err(CheckpointError::Entry {
            what: format!("{stream} > {group}, which has {} items of {},", items.len(), head.items),
        }),
    }
}

/// The names of groups that hold an item.
pub(super) fn names(
    transaction: &ReadTransaction,
    stream: Option<&StreamName>,
    max_bytes: usize,
) -> Result<Vec<(StreamName, Vec<GroupName>)>, CheckpointError> {
    let groups = transaction.open_table(GROUPS)?;
    let mut names: Vec<(StreamName, Vec<GroupName>)> = Vec::new();
    let mut bytes = 0;
    for entry in groups.range((stream.map_or("", StreamName::as_str), "")..)? {
        let (key, head) = entry?;
        let (in_stream, group) = key.value();
        if stream.is_some_and(|stream| stream.as_str() != in_stream) {
            break;
        }
        if decode_head(in_stream, group, head.value())?.items == 0 {
            continue;
        }
        match names.last_mut().filter(|(stream, _)| stream.as_str() == in_stream) {
            Some((_, groups)) => groups.push(GroupName::trusted(group)),
            None => {
                bytes += in_stream.len();
                names.push((StreamName::trusted(in_stream), vec![GroupName::trusted(group)]));
            }
        }
        bytes += group.len();
        if bytes > max_bytes {
            return Err(CheckpointError::TooManyNames(max_bytes));
        }
    }
    Ok(names)
}

pub(super) fn decode_head(stream: &str, group: &str, bytes: &[u8]) -> Result<GroupHead, CheckpointError> {
    GroupHead::decode(stream, group, bytes)
        .map_err(|error| CheckpointError::entry(format!("{stream} > {group}"))(error))
}

fn counts(state: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Counts, CheckpointError> {
    Counts::decode(entry(state, COUNTS_KEY)?.value()).ok_or_else(|| missing(COUNTS_KEY))
}

/// What every checkpoint has.
fn entry<'t>(
    state: &'t impl ReadableTable<&'static str, &'static [u8]>,
    key: &'static str,
) -> Result<redb::AccessGuard<'t, &'static [u8]>, CheckpointError> {
    state.get(key)?.ok_or_else(|| missing(key))
}

fn missing(key: &str) -> CheckpointError {
    CheckpointError::Entry { what: format!("its {key}") }
}
