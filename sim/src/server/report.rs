//! What happened in worlds, as far as it can be counted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// Counts over one world, or the sum over many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many worlds ran.
    pub worlds: u64,
    /// How many entries their traces have.
    pub entries: u64,
    /// How long they took, in simulated milliseconds.
    pub simulated_ms: u64,
    /// What went wrong in them, and how often: only what really happened.
    pub faults: BTreeMap<&'static str, u64>,
}

/// All that can go wrong.
const FAULTS: [&str; 25] = [
    "calls made again",
    "clock set back",
    "clock set forward",
    "connections of strangers",
    "handlers that died",
    "handlers that failed",
    "handlers that were silent",
    "handlers that were slow",
    "kills",
    "operations of a full disk that failed",
    "power cuts",
    "power cuts that nobody is told of",
    "starts that failed",
    "stops",
    "subscribers that paused",
    "subscribers that vanished",
    "subscribers with a bad token",
    "syncs of subscribers that were too slow",
    "syncs that failed",
    "triggers taken back",
    "ways that were cut",
    "ways that were held up",
    "ways that were slow",
    "workers that paused",
    "writes that failed",
];

impl Report {
    /// What can go wrong and never did.
    pub fn holes(&self) -> Vec<&'static str> {
        FAULTS.into_iter().filter(|fault| !self.faults.contains_key(fault)).collect()
    }

    /// Something went wrong so many times.
    pub(super) fn happened(&mut self, what: &'static str, times: u64) {
        debug_assert!(FAULTS.contains(&what), "{what} is not among all that can go wrong");
        if times > 0 {
            *self.faults.entry(what).or_default() += times;
        }
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.worlds += other.worlds;
        self.entries += other.entries;
        self.simulated_ms += other.simulated_ms;
        for (what, times) in other.faults {
            self.happened(what, times);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { worlds, entries, simulated_ms, faults } = self;
        writeln!(f, "{worlds} worlds, {entries} entries, {} simulated seconds", simulated_ms / 1_000)?;
        faults.iter().try_for_each(|(what, times)| writeln!(f, "{times:>8} {what}"))
    }
}
