//! What one subscriber got of what was written: in which order, how often, with which revisions.

use std::collections::BTreeSet;

/// What went wrong. Of a server that keeps its word, nothing did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Deliveries that never came.
    pub(super) lost: u64,
    /// Deliveries that came once more.
    pub(super) repeated: u64,
    /// Deliveries that came after later ones.
    pub(super) out_of_order: u64,
    /// Calls without an answer.
    pub(super) unanswered: u64,
    /// Answers and frames that are errors, or say something else than they have to.
    pub(super) wrong: u64,
    /// Connections that the server ended.
    pub(super) disconnected: u64,
    /// A sentence about the first of them that has more to say than its number.
    pub(super) example: Option<String>,
}

impl Faults {
    pub(super) fn any(&self) -> bool {
        self.counts().iter().any(|(_, count)| *count > 0)
    }

    pub(super) fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("lost", self.lost),
            ("repeated", self.repeated),
            ("out_of_order", self.out_of_order),
            ("unanswered", self.unanswered),
            ("wrong", self.wrong),
            ("disconnected", self.disconnected),
        ]
    }

    pub(super) fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.out_of_order += other.out_of_order;
        self.unanswered += other.unanswered;
        self.wrong += other.wrong;
        self.disconnected += other.disconnected;
        if self.example.is_none() {
            self.example.clone_from(&other.example);
        }
    }

    /// Counts something that says something else than it has to.
    pub(super) fn wrong(&mut self, sentence: impl FnOnce() -> String) {
        self.wrong += 1;
        self.example.get_or_insert_with(sentence);
    }
}

/// The numbers that should come one after the other, and how they do.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    next: u64,
    /// Below `next`, and not seen.
    missing: BTreeSet<u64>,
    repeated: u64,
    out_of_order: u64,
    /// By how much a revision is ahead of its number, once it is known.
    ahead: Option<u64>,
}

impl Sequence {
    /// A sequence whose first number is this.
    pub(super) fn from(first: u64) -> Sequence {
        Sequence { next: first, ..Sequence::default() }
    }

    /// The number that should come now.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Takes the number that came, and says whether it is new.
    pub(super) fn see(&mut self, number: u64) -> bool {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
            true
        } else if self.missing.remove(&number) {
            self.out_of_order += 1;
            true
        } else {
            self.repeated += 1;
            false
        }
    }

    /// A snapshot that holds everything before the next number has this revision.
    pub(super) fn starts_at(&mut self, revision: u64) {
        self.ahead = (revision + 1).checked_sub(self.next);
    }

    /// Whether this is the revision that the change with this number has, as each number is one change.
    pub(super) fn fits(&mut self, number: u64, revision: u64) -> bool {
        match self.ahead {
            Some(ahead) => revision == number + ahead,
            None => {
                self.ahead = revision.checked_sub(number);
                self.ahead.is_some()
            }
        }
    }

    /// What went wrong, when all numbers below `end` should have come.
    pub(super) fn faults(&self, end: u64) -> Faults {
        let lost = self.missing.len() as u64 + end.saturating_sub(self.next);
        Faults { lost, repeated: self.repeated, out_of_order: self.out_of_order, ..Faults::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u64], end: u64) -> (u64, u64, u64) {
        let mut sequence = Sequence::from(3);
        for number in numbers {
            sequence.see(*number);
        }
        let Faults { lost, repeated, out_of_order, .. } = sequence.faults(end);
        (lost, repeated, out_of_order)
    }

    #[test]
    fn what_is_lost_repeated_and_out_of_order_is_counted_once_each() {
        assert_eq!(faults(&[3, 4, 5], 6), (0, 0, 0));
        assert_eq!(faults(&[], 6), (3, 0, 0), "nothing came");
        assert_eq!(faults(&[3, 5], 6), (1, 0, 0), "one is missing in between");
        assert_eq!(faults(&[3, 4], 6), (1, 0, 0), "one is missing at the end");
        assert_eq!(faults(&[4, 5], 6), (1, 0, 0), "one is missing at the start");
        assert_eq!(faults(&[3, 4, 4, 5, 3], 6), (0, 2, 0));
        assert_eq!(faults(&[3, 5, 4], 6), (0, 0, 1), "it came late, so it is not lost");
        assert_eq!(faults(&[5, 4, 3, 3], 6), (0, 1, 2));
    }

    #[test]
    fn revisions_go_up_with_the_numbers() {
        let mut sequence = Sequence::from(3);
        assert!(sequence.fits(3, 10) && sequence.fits(4, 11), "the first one says how far they are apart");
        assert!(!sequence.fits(5, 11) && !sequence.fits(6, 14));
        sequence.starts_at(7);
        assert!(sequence.fits(3, 8) && !sequence.fits(3, 7));
    }
}
