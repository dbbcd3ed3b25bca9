//! What a checkpoint holds, as values and as bytes.
//!
//! A checkpoint is made group by group, while changes go on: each group is saved as it is durable at that moment. What
//! the log holds of a group that the checkpoint holds already is known by its revisions, so groups may be of different
//! moments. Every entry carries a checksum of what it is and where it belongs.

use im::OrdMap;

use super::joins::Joined;
use super::root::{Item, Snapshot};
use crate::json::Json;
use crate::key::JoinKey;
use crate::log::fields::{Fields, put_number, put_texts};
use crate::log::{BatchNumber, Epoch, Record, Revision};
use crate::name::{GroupPath, ItemId, StreamName};
use crate::time::Stamp;

/// A part of a checkpoint: to be written all or none, and durable before [`crate::Input::Saved`].
#[derive(Clone, Debug, PartialEq)]
pub struct Save {
    /// The groups in it.
    pub groups: Vec<SaveGroup>,
    /// No group of a higher number was ever saved: to be kept, too.
    pub next_group: GroupNumber,
    /// With the last part: what the checkpoint is as a whole.
    pub finish: Option<CheckpointState>,
}

/// The number of a group in the checkpoint; never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupNumber(pub u64);

/// A group that is to be saved: what has changed since it was saved last.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveGroup {
    /// Its name.
    pub path: GroupPath,
    /// Everything but its items.
    pub head: GroupHead,
    /// Its items.
    pub snapshot: Snapshot,
    /// Those that have changed, by the revision that created them: those that are in the snapshot, and those that were
    /// removed.
    pub changed: Vec<Revision>,
}

impl SaveGroup {
    /// About how many bytes are to be written.
    pub(super) fn size(&self) -> usize {
        self.changed.iter().map(|created| saved_size(self.snapshot.created(*created))).sum()
    }
}

/// About how many bytes are written to save an item, or that it is there no more.
pub(super) fn saved_size(item: Option<&Item>) -> usize {
    40 + item.map_or(0, |item| item.id.as_str().len() + item.value.as_str().len())
}

/// Everything of a saved group but its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHead {
    /// Where its items are.
    pub number: GroupNumber,
    /// Its last change.
    pub revision: Revision,
    /// The stamp of its last event, as far as the log knows.
    pub stamp: Stamp,
    /// Stamps up to this one may have been given to events that the log does not know.
    pub reserved: Stamp,
    /// How many items it has.
    pub items: u64,
}

/// A group as it was saved.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedGroup {
    /// Everything but its items.
    pub head: GroupHead,
    /// Its items.
    pub snapshot: Snapshot,
}

/// A finished checkpoint: with the log from its position on, it is all that is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointState {
    /// Where in the log to go on.
    pub position: u64,
    /// The batch that is there.
    pub(super) batch: BatchNumber,
    pub(super) epoch: Epoch,
    /// Stamps up to this one may have been given to events of groups that never had a change.
    pub(super) reserved: Stamp,
    /// The highest key of a join.
    pub(super) last_join: JoinKey,
    pub(super) joins: OrdMap<JoinKey, Joined>,
    pub(super) custom: Vec<StreamName>,
}

/// What was found of a checkpoint at a start.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The last one that was finished.
    pub state: CheckpointState,
    /// What the last [`Save`] said.
    pub next_group: GroupNumber,
    /// How many items there are in it.
    pub items: u64,
    /// How many groups hold them.
    pub groups: u64,
}

/// An entry that can't be read: it is damaged, or of another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the checkpoint is damaged")]
pub struct BadEntry;

/// The version of the checkpoint's entries.
const VERSION: u64 = 1;

impl GroupHead {
    /// Above it every event is stamped after the group is read.
    pub(super) fn stamp_of_restored(&self) -> Stamp {
        self.stamp.max(self.reserved)
    }

    /// The head as bytes, for the entry of the group `path`.
    pub fn encode(&self, path: &GroupPath) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        for number in [self.number.0, self.revision.0, self.stamp.0, self.reserved.0, self.items] {
            put_number(&mut out, number);
        }
        sealed(out, group_seed(path.stream.as_str(), path.group.as_str()))
    }

    /// Reads a head back, from the entry of this group.
    pub fn decode(stream: &str, group: &str, bytes: &[u8]) -> Result<GroupHead, BadEntry> {
        let mut fields = Fields::of(opened(bytes, group_seed(stream, group))?);
        let mut number = || fields.number().ok_or(BadEntry);
        let head = GroupHead {
            number: GroupNumber(number()?),
            revision: Revision(number()?),
            stamp: Stamp(number()?),
            reserved: Stamp(number()?),
            items: number()?,
        };
        fields.end().then_some(head).ok_or(BadEntry)
    }
}

impl Item {
    /// The item as bytes, for the entry of the item of a group that `created` created.
    pub fn encode(&self, group: GroupNumber, created: Revision) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.id.as_str().len() + self.value.as_str().len() + 20);
        put_number(&mut out, self.revision.0);
        put_texts(&mut out, &[self.id.as_str(), self.value.as_str()]);
        sealed(out, item_seed(group, created))
    }

    /// Reads an item back, from that entry.
    pub fn decode(group: GroupNumber, created: Revision, bytes: &[u8]) -> Result<Item, BadEntry> {
        let mut fields = Fields::of(opened(bytes, item_seed(group, created))?);
        let mut read = || {
            let revision = Revision(fields.number()?);
            let (id, value) = (ItemId::trusted(fields.text()?), Json::trusted(fields.text()?));
            fields.end().then_some(Item { id, value, revision })
        };
        read().ok_or(BadEntry)
    }
}

impl CheckpointState {
    /// That of a store without joins and custom streams, at this place of its log.
    pub fn at(position: u64, batch: BatchNumber, epoch: Epoch) -> CheckpointState {
        CheckpointState {
            position,
            batch,
            epoch,
            reserved: Stamp::default(),
            last_join: JoinKey::default(),
            joins: OrdMap::new(),
            custom: Vec::new(),
        }
    }

    /// The state as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, VERSION);
        out.extend_from_slice(&self.epoch.to_bytes());
        for number in [self.position, self.batch.0, self.reserved.0, self.last_join.0] {
            put_number(&mut out, number);
        }
        put_number(&mut out, self.joins.len() as u64);
        let mut record = Vec::new();
        for (key, join) in &self.joins {
            record.clear();
            join.record(*key).encode(&mut record);
            put_number(&mut out, record.len() as u64);
            out.extend_from_slice(&record);
        }
        put_number(&mut out, self.custom.len() as u64);
        for stream in &self.custom {
            put_texts(&mut out, &[stream.as_str()]);
        }
        sealed(out, STATE_SEED)
    }

    /// Reads a state back.
    pub fn decode(bytes: &[u8]) -> Result<CheckpointState, StateError> {
        let bytes = opened(bytes, STATE_SEED).map_err(|BadEntry| StateError::Damaged)?;
        let mut fields = Fields::of(bytes);
        match fields.number() {
            Some(VERSION) => CheckpointState::read(&mut fields).ok_or(StateError::Damaged),
            Some(newer) => Err(StateError::Newer(newer)),
            None => Err(StateError::Damaged),
        }
    }

    fn read(fields: &mut Fields<'_>) -> Option<CheckpointState> {
        let epoch = Epoch::from_bytes(fields.bytes(16)?.try_into().ok()?);
        let (position, batch) = (fields.number()?, BatchNumber(fields.number()?));
        let (reserved, last_join) = (Stamp(fields.number()?), JoinKey(fields.number()?));
        let mut joins = OrdMap::new();
        for _ in 0..fields.number()? {
            let len = usize::try_from(fields.number()?).ok()?;
            let Record::Joined { key, subscription, stream, group, item, context } =
                Record::decode(fields.bytes(len)?)?
            else {
                return None;
            };
            joins.insert(key, Joined::of_record(subscription, stream, group, item, context));
        }
        let mut custom = Vec::new();
        for _ in 0..fields.number()? {
            custom.push(StreamName::trusted(fields.text()?));
        }
        fields.end().then_some(CheckpointState { position, batch, epoch, reserved, last_join, joins, custom })
    }
}

/// Why a checkpoint's state can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It is damaged.
    #[error("the state of the checkpoint is damaged")]
    Damaged,
    /// Written by a newer Headwater.
    #[error(
        "the checkpoint has format version {0}, this program reads version {VERSION}: use a newer Headwater"
    )]
    Newer(u64),
}

const STATE_SEED: u32 = 0x5354_4154;

fn group_seed(stream: &str, group: &str) -> u32 {
    let seed = crc32c::crc32c_append(1, &(stream.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, stream.as_bytes()), group.as_bytes())
}

fn item_seed(group: GroupNumber, created: Revision) -> u32 {
    let seed = crc32c::crc32c_append(2, &group.0.to_le_bytes());
    crc32c::crc32c_append(seed, &created.0.to_le_bytes())
}

/// The bytes, and behind them their checksum with where they belong.
fn sealed(mut bytes: Vec<u8>, seed: u32) -> Vec<u8> {
    let crc = crc32c::crc32c_append(seed, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The bytes without the checksum, which must be right.
fn opened(bytes: &[u8], seed: u32) -> Result<&[u8], BadEntry> {
    let (bytes, crc) = bytes.split_last_chunk().ok_or(BadEntry)?;
    (crc32c::crc32c_append(seed, bytes) == u32::from_le_bytes(*crc)).then_some(bytes).ok_or(BadEntry)
}
