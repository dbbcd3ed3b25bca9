//! Time as the core knows it: two numbers that come in with every input.

use std::fmt;

/// The moment of an input, as the runtime's clocks tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For deadlines: never goes back, unmoved by changes of the wall clock.
    pub mono: Mono,
    /// For the timestamps of events.
    pub wall: WallMs,
}

/// Milliseconds since a start that the runtime chose; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// This moment and `ms` milliseconds.
    pub fn after(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms))
    }
}

/// Milliseconds since 1970-01-01 UTC. May jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallMs(pub u64);

/// The timestamp of an event: milliseconds since 1970-01-01 UTC, moved ahead of the wall clock
/// where that is needed to increase strictly within a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The stamp of the event after one stamped `self`. The number between the two belongs to the
    /// snapshots taken between the two events, see [`Stamp::of_sync`]: it stays free even when the
    /// later event is committed before a snapshot of the earlier state is asked for.
    pub fn next(self, wall: WallMs) -> Stamp {
        Stamp(wall.0.max(self.0.saturating_add(2)))
    }

    /// The stamp of a snapshot whose last event is stamped `self`: above it and below the next.
    pub fn of_sync(self) -> Stamp {
        Stamp(self.0.saturating_add(1))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
