//! The names in the folder of a simulated disk. Changes of them reach the disk in order, as in a journal.

use std::collections::BTreeMap;

use crate::random::Random;

/// Names of files, by number.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What names mean to the running process.
    pub(super) now: BTreeMap<String, usize>,
    /// What they mean after a crash.
    synced: BTreeMap<String, usize>,
    /// The changes between the two.
    unsynced: Vec<NameChange>,
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Create { name: String, file: usize },
    Rename { from: String, to: String },
    Remove { name: String },
}

impl Names {
    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.synced.clone_from(&self.now);
        self.unsynced.clear();
    }

    /// What a power loss leaves: the changes up to any of them.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.unsynced);
        let kept = random.index(changes.len() + 1);
        for change in &changes[..kept] {
            change.apply(&mut self.synced);
        }
        self.now.clone_from(&self.synced);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Create { name, file } => {
                names.insert(name.clone(), *file);
            }
            NameChange::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
    }
}
