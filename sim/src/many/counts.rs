//! How much many worlds have shown together.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use crate::oracle::Checked;
use crate::world::Report;

/// Sums over worlds of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many worlds there were.
    pub worlds: u64,
    /// What happened in them.
    pub report: Report,
    /// What was checked.
    pub checked: BTreeMap<&'static str, u64>,
}

/// What is counted among what was checked, and was not.
const UNDECIDED: &str = "undecided histories";

impl Counts {
    /// One world that the oracles have judged.
    pub(super) fn judged(report: Report, checked: &Checked) -> Counts {
        let checked = [
            ("answers", checked.answers),
            ("refused", checked.refused),
            ("events", checked.events),
            ("syncs", checked.syncs),
            ("histories", checked.histories),
            (UNDECIDED, checked.undecided),
            ("joins", checked.joins),
            ("unauthorized", checked.unauthorized),
            ("leaves", checked.leaves),
            ("handled", checked.handled),
            ("names", checked.names),
            ("overflows", checked.overflows),
            ("skipped", checked.skipped),
            ("crashes", checked.crashes),
        ];
        Counts { worlds: 1, report, checked: BTreeMap::from(checked) }
    }

    /// What never occurred in worlds of the core, and what was never checked in any: a hole in the workload.
    pub fn holes(&self) -> Vec<String> {
        let unchecked = self.checked.iter().filter(|(name, count)| **name != UNDECIDED && **count == 0);
        let unchecked = unchecked.map(|(name, _)| format!("checks of {name}"));
        self.report.holes().into_iter().map(str::to_owned).chain(unchecked).collect()
    }

    /// Whether hardly any history was left undecided: less than one of a hundred.
    pub fn is_decided(&self) -> bool {
        let count = |name| self.checked.get(name).copied().unwrap_or(0);
        count(UNDECIDED) * 100 < count("histories")
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.worlds += other.worlds;
        self.report += other.report.clone();
        for (name, count) in &other.checked {
            *self.checked.entry(name).or_default() += count;
        }
    }
}

/// The summary of a run.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { steps, simulated_ms, faults, inputs, effects, work } = &self.report;
        let work = BTreeMap::from([
            ("segments", work.segments),
            ("discarded", work.discarded),
            ("failed writes", work.failed_writes),
            ("saves", work.saves),
            ("failed saves", work.failed_saves),
            ("loads", work.loads),
        ]);
        let hours = *simulated_ms as f64 / 3_600_000.0;
        write!(f, "{} worlds, {steps} steps, {hours:.1} simulated hours", self.worlds)?;
        let tallies = [
            ("faults", faults),
            ("work", &work),
            ("checked", &self.checked),
            ("inputs", inputs),
            ("effects", effects),
        ];
        for (title, tally) in tallies.into_iter().filter(|(_, tally)| tally.values().any(|n| *n > 0)) {
            let counts: Vec<String> = tally.iter().map(|(name, count)| format!("{name} {count}")).collect();
            write!(f, "\n  {title:<8} {}", counts.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_never_ran_is_a_hole() {
        let counts = |leaves, undecided| {
            let checked = Checked { histories: 1_000, leaves, undecided, ..Checked::default() };
            Counts::judged(Report::default(), &checked)
        };
        let is_hole = |counts: &Counts, name| counts.holes().contains(&format!("checks of {name}"));
        assert!(is_hole(&counts(0, 5), "leaves") && !is_hole(&counts(1, 5), "leaves"));
        assert!(!is_hole(&counts(1, 0), UNDECIDED));
        assert!(counts(0, 9).is_decided() && !counts(0, 10).is_decided());
    }
}
