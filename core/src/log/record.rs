//! One change as bytes: a tag, then the fields in order; texts and numbers have a LEB128 length or value.

use super::Revision;
use super::fields::{Fields, put_number, put_optional_text, put_texts};
use crate::key::JoinKey;
use crate::time::Stamp;

/// What the log remembers. Borrowed from the state on the way out and from the file on the way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// An item was created or got a new value.
    Put { stream: &'a str, group: &'a str, item: &'a str, revision: Revision, stamp: Stamp, value: &'a str },
    /// An item was removed.
    Delete { stream: &'a str, group: &'a str, item: &'a str, revision: Revision, stamp: Stamp },
    /// Stamps up to this one may have been given to events of the group that are not in the log.
    Reserve { stream: &'a str, group: &'a str, stamp: Stamp },
    /// The same for all groups that never had a change: they share one clock.
    ReserveShared { stamp: Stamp },
    /// A subscription was allowed to join, and its leave is to be told.
    Joined {
        key: JoinKey,
        subscription: &'a str,
        stream: &'a str,
        group: &'a str,
        item: Option<&'a str>,
        context: Option<&'a str>,
    },
    /// That leave may have been told.
    Left { key: JoinKey },
    /// A worker keeps the stream itself.
    Custom { stream: &'a str },
    /// It does no more.
    Ordinary { stream: &'a str },
    /// All before it is synced with it: the end of a batch that has nothing else left to say.
    Synced,
    /// The same, and the process ended as it should: nothing that was acknowledged is missing behind it.
    Closed,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const RESERVE: u8 = 3;
const RESERVE_SHARED: u8 = 4;
const JOINED: u8 = 5;
const LEFT: u8 = 6;
const CUSTOM: u8 = 7;
const ORDINARY: u8 = 8;
const SYNCED: u8 = 9;
const CLOSED: u8 = 10;

impl<'a> Record<'a> {
    /// Whether somebody waits until it is durable. A join that a crash takes back has cost nobody anything but a
    /// leave, of which there is at most one anyway.
    pub(crate) fn is_waited_for(&self) -> bool {
        !matches!(self, Record::Joined { .. })
    }

    /// Whether the store has it written for itself, and nothing of it is taken back if that fails.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Record::Joined { .. } | Record::Custom { .. } | Record::Ordinary { .. })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Record::Put { stream, group, item, revision, stamp, value } => {
                out.push(PUT);
                put_texts(out, &[stream, group, item]);
                put_number(out, revision.0);
                put_number(out, stamp.0);
                put_texts(out, &[value]);
            }
            Record::Delete { stream, group, item, revision, stamp } => {
                out.push(DELETE);
                put_texts(out, &[stream, group, item]);
                put_number(out, revision.0);
                put_number(out, stamp.0);
            }
            Record::Reserve { stream, group, stamp } => {
                out.push(RESERVE);
                put_texts(out, &[stream, group]);
                put_number(out, stamp.0);
            }
            Record::ReserveShared { stamp } => {
                out.push(RESERVE_SHARED);
                put_number(out, stamp.0);
            }
            Record::Joined { key, subscription, stream, group, item, context } => {
                out.push(JOINED);
                put_number(out, key.0);
                put_texts(out, &[subscription, stream, group]);
                put_optional_text(out, item);
                put_optional_text(out, context);
            }
            Record::Left { key } => {
                out.push(LEFT);
                put_number(out, key.0);
            }
            Record::Custom { stream } => {
                out.push(CUSTOM);
                put_texts(out, &[stream]);
            }
            Record::Ordinary { stream } => {
                out.push(ORDINARY);
                put_texts(out, &[stream]);
            }
            Record::Synced => out.push(SYNCED),
            Record::Closed => out.push(CLOSED),
        }
    }

    /// Reads a payload back; `None` if it is not one.
    pub(crate) fn decode(payload: &'a [u8]) -> Option<Record<'a>> {
        let mut fields = Fields::of(payload);
        let record = match fields.byte()? {
            PUT => Record::Put {
                stream: fields.text()?,
                group: fields.text()?,
                item: fields.text()?,
                revision: Revision(fields.number()?),
                stamp: Stamp(fields.number()?),
                value: fields.text()?,
            },
            DELETE => Record::Delete {
                stream: fields.text()?,
                group: fields.text()?,
                item: fields.text()?,
                revision: Revision(fields.number()?),
                stamp: Stamp(fields.number()?),
            },
            RESERVE => Record::Reserve {
                stream: fields.text()?,
                group: fields.text()?,
                stamp: Stamp(fields.number()?),
            },
            RESERVE_SHARED => Record::ReserveShared { stamp: Stamp(fields.number()?) },
            JOINED => Record::Joined {
                key: JoinKey(fields.number()?),
                subscription: fields.text()?,
                stream: fields.text()?,
                group: fields.text()?,
                item: fields.optional_text()?,
                context: fields.optional_text()?,
            },
            LEFT => Record::Left { key: JoinKey(fields.number()?) },
            CUSTOM => Record::Custom { stream: fields.text()? },
            ORDINARY => Record::Ordinary { stream: fields.text()? },
            SYNCED => Record::Synced,
            CLOSED => Record::Closed,
            _ => return None,
        };
        fields.end().then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(
            texts in prop::array::uniform4(".{0,300}"),
            revision: u64,
            stamp: u64,
            key: u64,
            subscription in ".{0,300}",
            has_item: bool,
            has_context: bool,
        ) {
            let [stream, group, item, value] = texts.each_ref().map(String::as_str);
            let (revision, stamp) = (Revision(revision), Stamp(stamp));
            let (key, subscription) = (JoinKey(key), subscription.as_str());
            let (item_joined, context) = (has_item.then_some(item), has_context.then_some(value));
            for record in [
                Record::Put { stream, group, item, revision, stamp, value },
                Record::Delete { stream, group, item, revision, stamp },
                Record::Reserve { stream, group, stamp },
                Record::ReserveShared { stamp },
                Record::Joined { key, subscription, stream, group, item: item_joined, context },
                Record::Left { key },
                Record::Custom { stream },
                Record::Ordinary { stream },
                Record::Synced,
                Record::Closed,
            ] {
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                prop_assert_eq!(Record::decode(&bytes), Some(record));
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = Record::decode(&bytes) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert!(again.len() <= bytes.len(), "{record:?}");
            }
        }
    }
}
