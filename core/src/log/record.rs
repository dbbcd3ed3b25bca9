//! One change as bytes: a tag, then the fields in order; texts and numbers have a LEB128 length or value.

use super::Revision;
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
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const RESERVE: u8 = 3;
const RESERVE_SHARED: u8 = 4;

impl<'a> Record<'a> {
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
        ) {
            let [stream, group, item, value] = texts.each_ref().map(String::as_str);
            let (revision, stamp) = (Revision(revision), Stamp(stamp));
            for record in [
                Record::Put { stream, group, item, revision, stamp, value },
                Record::Delete { stream, group, item, revision, stamp },
                Record::Reserve { stream, group, stamp },
                Record::ReserveShared { stamp },
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
