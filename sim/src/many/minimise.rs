//! Makes a world that fails smaller: fewer faults and fewer steps, the same law broken.

use std::time::{Duration, Instant};

use super::{Part, Shown, World, run};

/// What is left of a world.
#[derive(Debug)]
pub struct Minimised {
    /// Which part of it.
    pub part: Part,
    /// What that shows.
    pub shown: Shown,
    /// How many worlds were run to find it.
    pub tried: u64,
}

struct Search<'a> {
    world: &'a dyn World,
    law: String,
    until: Instant,
    best: Minimised,
}

/// Looks for a small part of a world that breaks the same law, for as long as `longest`. `None` if the world breaks none.
pub fn minimise(world: &dyn World, longest: Duration) -> Option<Minimised> {
    let shown = run(world);
    let law = shown.failure.as_ref()?.law.clone();
    let steps = world.steps();
    let part = Part { keep: (steps > 0).then(|| (0..steps).collect()), ..Part::default() };
    let best = Minimised { part, shown, tried: 1 };
    let mut search = Search { world, law, until: Instant::now() + longest, best };
    search.leave_out_faults();
    search.leave_out_steps();
    // With fewer steps, more faults may not matter.
    search.leave_out_faults();
    Some(search.best)
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Whether this part breaks the same law: then it is what is left.
    fn tries(&mut self, part: Part) -> bool {
        let shown = run(&*self.world.part(&part));
        self.best.tried += 1;
        let same = shown.failure.as_ref().is_some_and(|failure| failure.law == self.law);
        if same {
            (self.best.part, self.best.shown) = (part, shown);
        }
        same
    }

    fn leave_out_faults(&mut self) {
        for fault in self.world.faults() {
            if !self.is_over() && !self.best.part.without.contains(&fault) {
                let mut part = self.best.part.clone();
                part.without.insert(fault);
                self.tries(part);
            }
        }
    }

    /// Leaves out runs of steps, from the last to the first: halves, then quarters, down to single ones, until no single
    /// one can be left out.
    fn leave_out_steps(&mut self) {
        let mut size = self.kept().len().div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut left_out = false;
            let mut end = self.kept().len();
            while end > 0 && !self.is_over() {
                let start = end.saturating_sub(size);
                let mut keep = self.kept().to_vec();
                keep.drain(start..end.min(keep.len()));
                let part = Part { keep: Some(keep), ..self.best.part.clone() };
                left_out |= self.tries(part);
                end = start;
            }
            if size > 1 || !left_out {
                size /= 2;
            }
        }
    }

    fn kept(&self) -> &[usize] {
        self.best.part.keep.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Failure;
    use super::*;

    /// Fails if these steps are in it and the fault is.
    struct Fails {
        steps: usize,
        part: Part,
        needs: BTreeSet<usize>,
    }

    impl World for Fails {
        fn run(&self) -> Shown {
            let keep: BTreeSet<usize> = self.part.keep.iter().flatten().copied().collect();
            let all = self.part.keep.is_none() || keep.is_superset(&self.needs);
            let fails = all && !self.part.without.contains("kill");
            let failure = fails.then(|| Failure { law: "Law".to_owned(), how: String::new() });
            Shown { failure, ..Shown::default() }
        }

        fn steps(&self) -> usize {
            self.steps
        }

        fn faults(&self) -> Vec<String> {
            vec!["kill".to_owned(), "disk-full".to_owned()]
        }

        fn part(&self, part: &Part) -> Box<dyn World> {
            Box::new(Fails { part: part.clone(), needs: self.needs.clone(), ..*self })
        }

        fn words(&self) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn only_the_steps_and_faults_that_it_takes_are_left() {
        let needs = BTreeSet::from([3, 500, 501, 999]);
        let world = Fails { steps: 1_000, part: Part::default(), needs };
        let found = minimise(&world, Duration::from_secs(60)).expect("it fails");
        assert_eq!(found.part.keep, Some(vec![3, 500, 501, 999]));
        assert_eq!(found.part.without, BTreeSet::from(["disk-full".to_owned()]));
        assert!(found.tried < 300, "{} worlds", found.tried);
    }

    #[test]
    fn where_there_are_no_steps_none_are_named() {
        let world = Fails { steps: 0, part: Part::default(), needs: BTreeSet::new() };
        let found = minimise(&world, Duration::from_secs(60)).expect("it fails");
        assert_eq!(found.part.to_string(), " --without disk-full");
        let world = Fails { steps: 8, ..world };
        let found = minimise(&world, Duration::from_secs(60)).expect("it fails");
        assert_eq!(found.part.to_string(), " --keep none --without disk-full");
    }

    #[test]
    fn a_world_that_holds_is_not_made_smaller() {
        let part = Part { without: BTreeSet::from(["kill".to_owned()]), ..Part::default() };
        let world = Fails { steps: 1_000, part, needs: BTreeSet::new() };
        assert!(minimise(&world, Duration::from_secs(1)).is_none());
    }
}
