//! What is in memory of what is stored: groups are read when somebody needs them, and let go when they are too many.
//!
//! A group can go if the checkpoint has it as it is, nothing of it is on its way, and nobody has used it since it was
//! looked at last: those that can go wait in a line, and one that was used goes to its end once more. The stamp of its last event may have no place in the
//! checkpoint, if that was sent and not stored: those that are not in memory share the clock of the groups that never had
//! a change, which never falls behind such a stamp. That clock must not be ahead of the wall without a reservation. So a
//! group whose stamp is far ahead, as the wall clock was set back, is saved first, with its stamp.

use super::saved::SavedGroup;
use super::{Output, Store};
use crate::config::Storage;
use crate::name::GroupPath;
use crate::time::Now;

/// What there may be beyond the cache's size while a checkpoint is being made, as a part of it.
const SLACK: usize = 4;
/// When to look again for groups that can go, after none could: in milliseconds.
const LOOK_AGAIN_MS: u64 = 100;
/// Most milliseconds that are waited for the wall clock to reach a group's stamp.
const NEAR: u64 = 1_000;

impl Store {
    /// Takes a group into memory that was read.
    pub(super) fn restore(&mut self, path: &GroupPath, saved: Option<SavedGroup>) {
        // Not the shared clock's own: that may be ahead of what is reserved.
        let shared = self.unchanged.stamp;
        let stamp = saved.as_ref().map_or(shared, |saved| saved.head.stamp_of_restored().max(shared));
        self.contents.restore(path, saved, stamp);
    }

    /// Whether another group may be read.
    pub(super) fn has_room(&self, storage: &Storage) -> bool {
        self.contents.bytes <= storage.cache_bytes || self.contents.is_empty()
    }

    /// Whether so much is in memory that nothing must be added before some of it is in the checkpoint.
    pub(super) fn is_full(&self, storage: &Storage) -> bool {
        self.contents.bytes > storage.cache_bytes + storage.cache_bytes / SLACK
    }

    /// Lets go of groups until they fit.
    pub(super) fn trim(&mut self, now: Now, storage: &Storage) {
        if self.contents.bytes <= storage.cache_bytes {
            self.nothing_to_let_go = None;
            return;
        }
        // While events of groups without a change wait for the disk, their clock is not where it seems.
        let busy = self.loads.reads_names() || self.shared_head.is_some();
        match &mut self.nothing_to_let_go {
            Some(again) if now.mono < *again => return,
            again if busy => {
                *again = again.map(|_| now.mono.after(LOOK_AGAIN_MS));
                return;
            }
            _ => {}
        }
        // Some more at once, or each new group would be looked for one to go.
        let enough = storage.cache_bytes - storage.cache_bytes / 16;
        // Twice through: the first time takes back that they were used.
        for _ in 0..2 * self.contents.clean.len() {
            if self.contents.bytes <= enough {
                break;
            }
            let Some(key) = self.contents.clean.pop_front() else { break };
            let Some(group) = self.contents.by_key_mut(key) else { continue };
            group.queued = false;
            if !group.is_clean() {
                continue;
            }
            if std::mem::take(&mut group.touched) {
                self.contents.note_clean(key);
                continue;
            }
            let stamp = group.durable().stamp;
            if stamp > group.saved_stamp.max(self.shared.stamp) {
                match stamp.of_sync().0 {
                    reached if reached <= now.wall.0 => self.shared.stamp = stamp,
                    near if near <= now.wall.0.saturating_add(NEAR) => {
                        self.contents.note_clean(key);
                        continue;
                    }
                    _ => {
                        self.contents.note_unsaved(key, None);
                        continue;
                    }
                }
            }
            if stamp <= self.shared.stamp {
                self.unchanged.stamp = self.unchanged.stamp.max(stamp);
            }
            self.contents.forget(key);
        }
        let too_many = self.contents.bytes > storage.cache_bytes;
        self.nothing_to_let_go = too_many.then(|| now.mono.after(LOOK_AGAIN_MS));
    }

    /// Asks for what is to be read, as far as there is room.
    pub(super) fn ask_loads(&mut self, storage: &Storage, out: &mut Vec<Output>) {
        let room = self.has_room(storage);
        self.loads.ask(room, out);
    }
}
