//! The one clock that writers and subscribers share.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, in nanoseconds since this process first asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    pub(super) fn now() -> Moment {
        Moment(u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long it took from `earlier` to here.
    pub(super) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How long things took, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Times(Histogram<u32>);

/// Nothing is waited for longer than this, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;
/// What is shorter counts as this, in nanoseconds: no call and no delivery is.
const SHORTEST: u64 = 1_000;

impl Times {
    pub(super) fn new() -> Times {
        Times(Histogram::new_with_bounds(SHORTEST, LONGEST, 3).expect("these bounds are in order"))
    }

    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this many percent did not take longer than, in microseconds.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }
}
