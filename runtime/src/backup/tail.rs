//! Whether an export is whole: its last line says so.

use super::lines::Line;

/// Looks at the bytes of an export as they go by.
#[derive(Debug, Default)]
pub struct Tail {
    /// The last line, as far as it came, if it is short; longer ones are items.
    line: Vec<u8>,
    /// Line breaks that came.
    lines: u64,
    /// Whether the last byte was one.
    at_start: bool,
}

/// Why an export is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// It ends before its end.
    #[error("it was cut off after {0} items")]
    CutOff(u64),
    /// It says itself that it is not whole.
    #[error("it could not go on after {items} items: {reason}")]
    Broken {
        /// How many there are.
        items: u64,
        /// Why it could not.
        reason: String,
    },
    /// Something is missing, or was put into it.
    #[error("it says that it has {said} items, and has {there}")]
    Miscounted {
        /// How many its end says.
        said: u64,
        /// How many there are.
        there: u64,
    },
}

/// No last line is longer.
const LONGEST: usize = 4 << 10;

impl Tail {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if std::mem::take(&mut self.at_start) {
                self.line.clear();
            }
            let room = (LONGEST + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.lines += 1;
                self.at_start = true;
            }
        }
    }

    /// There are no more: how many items there were, if they are all.
    pub fn finish(self) -> Result<u64, TailError> {
        let there = self.lines.saturating_sub(1);
        let last = Line::parse(&self.line).ok().filter(|_| self.at_start && self.line.len() <= LONGEST);
        match last {
            Some(Line::End { items }) if items == there => Ok(items),
            Some(Line::End { items }) => Err(TailError::Miscounted { said: items, there }),
            Some(Line::Broken { reason }) => Err(TailError::Broken { items: there, reason }),
            _ => Err(TailError::CutOff(self.lines)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_whole_with_its_last_line_and_with_nothing_less() {
        let long = format!("{{\"value\":\"{}\"}}\n", "x".repeat(10_000));
        let whole = format!("{{}}\n{long}{{\"end\":{{\"items\":2}}}}\n");
        let of = |bytes: &[u8], piece: usize| {
            let mut tail = Tail::default();
            bytes.chunks(piece).for_each(|bytes| tail.push(bytes));
            tail.finish()
        };
        for piece in [1, 2, 7, 100_000] {
            assert_eq!(of(whole.as_bytes(), piece), Ok(2));
        }
        for cut in 0..whole.len() {
            let lines = whole[..cut].matches('\n').count() as u64;
            assert_eq!(of(&whole.as_bytes()[..cut], 4_000), Err(TailError::CutOff(lines)), "{cut}");
        }
        let less = whole.replacen("{}\n", "", 1);
        assert_eq!(of(less.as_bytes(), 100), Err(TailError::Miscounted { said: 2, there: 1 }));
        let broken = "{}\n{\"error\":{\"message\":\"no\"}}\n";
        assert_eq!(of(broken.as_bytes(), 5), Err(TailError::Broken { items: 1, reason: "no".to_owned() }));
    }
}
