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

impl Counts {
    /// One world that the oracles have judged.
    pub(super) fn judged(report: Report, checked: &Checked) -> Counts {
        let checked = [
            ("answers", checked.answers),
            ("refused", checked.refused),
            ("events", checked.events),
            ("syncs", checked.syncs),
            ("histories", checked.histories),
            ("joins", checked.joins),
            ("unauthorized", checked.unauthorized),
            ("leaves", checked.leaves),
            ("handled", checked.handled),
            ("overflows", checked.overflows),
            ("crashes", checked.crashes),
        ];
        Counts { worlds: 1, report, checked: BTreeMap::from(checked) }
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
