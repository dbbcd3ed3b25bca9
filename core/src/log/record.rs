//! One change as bytes: a tag, then the fields in order; texts and numbers have a LEB128 length or value.

use super::Revision;
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
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const RESERVE: u8 = 3;
const RESERVE_SHARED: u8 = 4;
const JOINED: u8 = 5;
const LEFT: u8 = 6;
const CUSTOM: u8 = 7;
const ORDINARY: u8 = 8;

impl<'a> Record<'a> {
    /// Whether somebody waits until it is durable. A join that a crash takes back has cost nobody anything but a
    /// leave, of which there is at most one anyway.
    pub(crate) fn is_waited_for(&self) -> bool {
        !matches!(self, Record::Joined { .. })
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
        }
    }

    /// Reads a payload back; `None` if it is not one.
    pub(crate) fn decode(payload: &'a [u8]) -> Option<Record<'a>> {
        let mut fields = Fields(payload);
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
            _ => return None,
        };
        fields.0.is_empty().then_some(record)
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn put_texts(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        put_number(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

/// A byte that says whether a text follows.
fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    put_texts(out, text.as_slice());
}

/// What is left to read of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn optional_text(&mut self) -> Option<Option<&'a str>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.text().map(Some),
            _ => None,
        }
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
