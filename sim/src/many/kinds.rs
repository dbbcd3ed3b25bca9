//! The three kinds of worlds, as worlds among many.

use std::collections::{BTreeMap, BTreeSet};

use super::{Counts, Failure, Part, Shown, World};
use crate::oracle::{Checked, Judge, Law, Violation};
use crate::trace::Trace;
use crate::world::Report;
use crate::{server, storage, world};

/// A world of the core.
pub(super) struct CoreWorld(world::Plan);

impl CoreWorld {
    pub(super) fn draw(seed: u64) -> CoreWorld {
        CoreWorld(world::Plan::draw(seed))
    }
}

impl World for CoreWorld {
    fn run(&self) -> Shown {
        let world::Outcome { trace, verdict, report } = world::run(&self.0);
        shown(trace, verdict, report)
    }

    fn steps(&self) -> usize {
        self.0.steps.len()
    }

    fn faults(&self) -> Vec<String> {
        self.0.faults.iter().map(|fault| fault.name().to_owned()).collect()
    }

    fn part(&self, part: &Part) -> Box<dyn World> {
        let mut plan = self.0.clone();
        plan.faults.retain(|fault| !part.without.contains(fault.name()));
        if let Some(keep) = &part.keep {
            plan.steps = keep.iter().filter_map(|at| self.0.steps.get(*at).copied()).collect();
        }
        Box::new(CoreWorld(plan))
    }

    fn words(&self) -> Vec<String> {
        let mut plan = self.0.clone();
        let steps = std::mem::take(&mut plan.steps);
        let steps =
            steps.iter().map(|step| format!("{:>5}  {:?}, salt {}", step.number, step.kind, step.salt));
        [format!("{plan:?}")].into_iter().chain(steps).collect()
    }
}

/// A world of the whole server. What clients do is drawn while it runs: what can be left out are its faults.
pub(super) struct ServerWorld {
    seed: u64,
    without: BTreeSet<String>,
}

impl ServerWorld {
    pub(super) fn draw(seed: u64) -> ServerWorld {
        ServerWorld { seed, without: BTreeSet::new() }
    }

    fn world(&self) -> server::World {
        server::World::draw(self.seed).without(&self.without)
    }
}

impl World for ServerWorld {
    fn run(&self) -> Shown {
        let world = self.world();
        let mut judge = Judge::new(world.rules());
        let (mut trace, ended) = match world.run() {
            Ok((trace, report)) => (trace, Ok(report)),
            Err(server::Stuck { why, trace }) => (trace, Err(why)),
        };
        let seen = trace.iter().enumerate().find_map(|(at, entry)| Some((at, judge.see(entry).err()?)));
        let (verdict, report) = match (seen, ended) {
            // What is broken first may well be why the world has no end.
            (Some((at, violation)), ended) => {
                trace.truncate(at + 1);
                (Err(violation), ended.unwrap_or_default())
            }
            (None, Ok(report)) => (judge.end(), report),
            (None, Err(why)) => (Err(Violation { law: Law::Converges, how: why }), server::Report::default()),
        };
        let server::Report { entries, simulated_ms, faults, .. } = report;
        shown(trace, verdict, Report { steps: entries, simulated_ms, faults, ..Report::default() })
    }

    fn faults(&self) -> Vec<String> {
        self.world().faults()
    }

    fn part(&self, part: &Part) -> Box<dyn World> {
        Box::new(ServerWorld { seed: self.seed, without: part.without.clone() })
    }

    fn words(&self) -> Vec<String> {
        vec![format!("{:?}", self.world())]
    }
}

/// A world of the store alone. Its steps are drawn while it runs: what can be left out is its end.
pub(super) struct StorageWorld(storage::Plan);

impl StorageWorld {
    pub(super) fn draw(seed: u64) -> StorageWorld {
        StorageWorld(storage::Plan::draw(seed))
    }
}

impl World for StorageWorld {
    fn run(&self) -> Shown {
        match storage::World::new(self.0.clone()).run() {
            Ok(report) => Shown { counts: counts_of(&report, self.0.steps as u64), ..Shown::default() },
            Err(storage::Broken { law, how }) => {
                let failure = Failure { law: format!("{law:?}"), how };
                Shown { failure: Some(failure), ..Shown::default() }
            }
        }
    }

    fn steps(&self) -> usize {
        self.0.steps
    }

    fn faults(&self) -> Vec<String> {
        let faults = self.0.faults.iter().enumerate();
        let faults = faults.map(|(at, (kind, ..))| format!("{}-{at}", Part::fault_name(kind)));
        let deaths = [("deaths", self.0.deaths), ("deaths-at-start", self.0.again)];
        faults
            .chain(deaths.into_iter().filter(|(_, often)| *often > 0).map(|(name, _)| name.to_owned()))
            .collect()
    }

    fn part(&self, part: &Part) -> Box<dyn World> {
        let mut plan = self.0.clone();
        let mut names = self.faults().into_iter();
        plan.faults.retain(|_| names.next().is_none_or(|name| !part.without.contains(&name)));
        if part.without.contains("deaths") {
            plan.deaths = 0;
        }
        if part.without.contains("deaths-at-start") {
            plan.again = 0;
        }
        if let Some(keep) = &part.keep {
            plan.steps = keep.len();
        }
        plan.tells = part.tells;
        Box::new(StorageWorld(plan))
    }

    fn words(&self) -> Vec<String> {
        vec![format!("{:?}", self.0)]
    }
}

fn shown(trace: Trace, verdict: Result<Checked, Violation>, report: Report) -> Shown {
    let (checked, failure) = match verdict {
        Ok(checked) => (checked, None),
        Err(Violation { law, how }) => (Checked::default(), Some(Failure { law: format!("{law:?}"), how })),
    };
    Shown { trace, failure, counts: Counts::judged(report, &checked) }
}

fn counts_of(report: &storage::Report, steps: u64) -> Counts {
    let storage::Report { seen, work, deaths, deaths_at_start, failed_starts, operations, failed_operations } =
        *report;
    let faults = [
        ("deaths", deaths),
        ("deaths at start", deaths_at_start),
        ("failed starts", failed_starts),
        ("failed operations", failed_operations),
    ];
    let checked = [
        ("changes", seen.changes),
        ("answers", seen.answers),
        ("refused", seen.refused),
        ("unknown", seen.unknown),
        ("found", seen.found),
        ("surfaced", seen.surfaced),
        ("lost", seen.lost),
        ("operations", operations),
    ];
    let report = Report { steps, faults: BTreeMap::from(faults), work, ..Report::default() };
    Counts { worlds: 1, report, checked: BTreeMap::from(checked) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_called_the_same_whatever_is_left_out() {
        let world = CoreWorld::draw(1);
        let words = world.part(&Part { keep: Some(vec![3, 50]), ..Part::default() }).words();
        assert_eq!(words[1..], [3, 50].map(|step| world.words()[step + 1].clone()));
    }

    /// Where something may go wrong, little time is given and little room: calls fail for that alone.
    #[test]
    fn a_world_whose_faults_are_left_out_is_not_one_in_which_every_call_succeeds() {
        for seed in 0..60 {
            let world = CoreWorld::draw(seed);
            let part = Part { without: world.faults().into_iter().collect(), ..Part::default() };
            let shown = world.part(&part).run();
            assert_eq!(shown.failure, None, "core world {seed}");
        }
    }
}
