//! When a checkpoint is made, and what goes into it next.
//!
//! A checkpoint is a series of saves, one after the other, each with some groups as they are durable then. It covers the
//! log up to where that was durable when the series began: what is younger in it, the log tells again, and that is known
//! by its revision.

use std::collections::BTreeSet;

use super::contents::GroupKey;
use super::saved::{CheckpointState, Save};
use super::{Output, Store};
use crate::config::{Durability, Storage};
use crate::log::{BatchNumber, Revision};
use crate::time::Mono;

/// Most groups of a save.
const MOST_GROUPS: usize = 4_096;
/// Most bytes of items in it, beside those of one group.
const MOST_BYTES: usize = 16 << 20;
/// How many files of the log there may be before a checkpoint is made in any case: every start begins one.
const MOST_SEGMENTS: usize = 128;
/// How long to wait before a save that has failed is tried again.
const RETRY_MS: u64 = 5_000;

/// How far checkpoints are.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Where the last one goes up to.
    position: u64,
    series: Option<Series>,
    /// What the save under way holds.
    saving: Option<Vec<(GroupKey, Vec<Revision>)>>,
    /// Why the last save failed.
    failure: Option<String>,
    /// When the next is tried, until then.
    retry_at: Option<Mono>,
}

/// A checkpoint that is being made.
#[derive(Debug)]
struct Series {
    position: u64,
    batch: BatchNumber,
    todo: BTreeSet<GroupKey>,
    /// Whether the last save is under way.
    finishing: bool,
}

impl Checkpoints {
    pub(super) fn new(position: u64) -> Checkpoints {
        Checkpoints { position, ..Checkpoints::default() }
    }

    /// Whether a save is under way: it comes to an end.
    pub(super) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Why none can be made, if the last save has failed.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.retry_at
    }
}

impl Store {
    /// The next save, if it is time for one and none is under way.
    pub(super) fn save(&mut self, now: Mono, storage: &Storage, out: &mut Vec<Output>) {
        let failing = self.checkpoints.retry_at.is_some_and(|retry_at| now < retry_at);
        if self.checkpoints.saving.is_some() || failing {
            return;
        }
        self.checkpoints.retry_at = None;
        // The next start reads that the log was ended: that must not be in the checkpoint's part.
        if self.commits.is_volatile() || self.commits.is_closed() {
            return;
        }
        if self.checkpoints.series.is_none() && !self.is_checkpoint_due(storage) {
            self.checkpoints.failure = None;
            return;
        }
        // What a power cut may take back must not be in the checkpoint.
        if matches!(storage.durability, Durability::Interval(_)) && !self.commits.is_synced() {
            return self.commits.sync_soon();
        }
        let series = self.checkpoints.series.get_or_insert_with(|| {
            let (position, batch) = self.commits.durable();
            Series { position, batch, todo: self.contents.unsaved.clone(), finishing: false }
        });
        let (mut groups, mut saving, mut bytes) = (Vec::new(), Vec::new(), 0);
        while groups.len() < MOST_GROUPS
            && bytes < MOST_BYTES
            && let Some(key) = series.todo.pop_first()
        {
            let Some(group) = self.contents.take_unsaved(key) else { continue };
            bytes += group.size();
            saving.push((key, group.changed.clone()));
            groups.push(group);
        }
        series.finishing = series.todo.is_empty();
        let Series { position, batch, finishing, .. } = *series;
        let finish = finishing.then(|| {
            let (last_join, joins) = self.contents.joins.saved();
            CheckpointState {
                position,
                batch,
                epoch: self.commits.epoch(),
                reserved: self.reserved,
                last_join,
                joins,
                custom: self.contents.custom.iter().cloned().collect(),
            }
        });
        self.checkpoints.saving = Some(saving);
        out.push(Output::Save(Save { groups, next_group: self.contents.next_number, finish }));
    }

    /// Whether enough has changed, or memory is needed, for another checkpoint.
    fn is_checkpoint_due(&self, storage: &Storage) -> bool {
        let (durable, _) = self.commits.durable();
        let log = durable.saturating_sub(self.checkpoints.position);
        // At least twice what is to be saved, so that not much more is written than the log itself.
        let unsaved = 2 * self.contents.unsaved_bytes;
        let enough = storage.checkpoint_log_bytes.max(unsaved.min(8 * storage.checkpoint_log_bytes)) as u64;
        let crowded = !self.contents.unsaved.is_empty()
            && (self.nothing_to_let_go.is_some() || self.contents.unsaved_memory > storage.cache_bytes / 2);
        log >= enough || crowded || (log > 0 && self.commits.segments() > MOST_SEGMENTS)
    }

    /// The save under way is durable.
    pub(crate) fn saved(&mut self, out: &mut Vec<Output>) {
        let Some(saving) = self.checkpoints.saving.take() else { return };
        self.checkpoints.failure = None;
        for (key, _) in saving {
            self.contents.saved(key, None);
        }
        self.nothing_to_let_go = None;
        if let Some(series) = self.checkpoints.series.take_if(|series| series.finishing) {
            self.checkpoints.position = series.position;
            let over = self.commits.discard(series.position);
            if !over.is_empty() {
                out.push(Output::Discard(over));
            }
        }
    }

    /// The save under way has failed: some of its groups may be in the checkpoint all the same, each as a whole.
    pub(crate) fn save_failed(&mut self, now: Mono, reason: String) {
        let Some(saving) = self.checkpoints.saving.take() else { return };
        for (key, changed) in saving {
            self.contents.saved(key, Some(changed));
        }
        self.checkpoints.series = None;
        self.checkpoints.failure = Some(reason);
        self.checkpoints.retry_at = Some(now.after(RETRY_MS));
    }
}
