//! All that a checkpoint holds, in order, for what reads it as a whole.

use std::ops::Bound;
use std::sync::Arc;

use headwater_core::name::{GroupName, GroupPath, StreamName};
use headwater_core::store::saved::SavedGroup;
use redb::{OwnedRange, ReadOnlyTable, ReadableDatabase};

use super::tables::{self, GROUPS, ITEMS};
use super::{CheckpointError, OpenDatabase, guarded};

/// The groups of a checkpoint by stream and group, in byte order, as they were saved when the scan began. What is saved
/// meanwhile goes into new pages of the file, so it should not take for ever.
pub struct Scan {
    /// Before the database: it must be gone when that is closed.
    tables: Option<Tables>,
    /// Kept open for as long as it is read.
    _database: Option<Arc<OpenDatabase>>,
}

struct Tables {
    groups: OwnedRange<(&'static str, &'static str), &'static [u8]>,
    items: ReadOnlyTable<(u64, u64), &'static [u8]>,
}

impl Scan {
    pub(super) fn new(
        database: Arc<OpenDatabase>,
        from: (&str, &str),
        until: Option<(&str, &str)>,
    ) -> Result<Scan, CheckpointError> {
        let tables = database.run(|database| {
            let transaction = database.begin_read()?;
            let range = (Bound::Included(from), until.map_or(Bound::Unbounded, Bound::Excluded));
            Ok(Tables {
                groups: transaction.open_table(GROUPS)?.range_owned::<(&str, &str)>(range)?,
                items: transaction.open_table(ITEMS)?,
            })
        })?;
        Ok(Scan { tables: Some(tables), _database: Some(database) })
    }

    /// Of no checkpoint.
    pub fn empty() -> Scan {
        Scan { tables: None, _database: None }
    }

    /// The next group that is wanted; the items of others are not read.
    pub fn next_where(
        &mut self,
        wants: impl Fn(&GroupPath) -> bool,
    ) -> Option<Result<(GroupPath, SavedGroup), CheckpointError>> {
        let Tables { groups, items } = self.tables.as_mut()?;
        let next = guarded(|| {
            for entry in groups {
                let (key, head) = entry?;
                let (stream, group) = key.value();
                let path =
                    GroupPath { stream: StreamName::trusted(stream), group: GroupName::trusted(group) };
                if wants(&path) {
                    let head = tables::decode_head(stream, group, head.value())?;
                    return Ok(Some((path, tables::items_of(items, head, stream, group)?)));
                }
            }
            Ok(None)
        });
        // After an error of its file the database gives no more, and says so again for ever.
        if next.as_ref().is_err_and(CheckpointError::is_final) {
            self.tables = None;
        }
        next.transpose()
    }
}

impl Iterator for Scan {
    type Item = Result<(GroupPath, SavedGroup), CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_where(|_| true)
    }
}
