//! What is left of a world when it is made smaller, and how that is said on the command line.

use std::collections::BTreeSet;
use std::fmt;

use super::World;

/// How it is said that no step is left: shells lose an empty word.
const NO_STEPS: &str = "none";

/// A part of a world's steps and faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The numbers of the steps that are left, in their order; `None` is all of them.
    pub keep: Option<Vec<usize>>,
    /// The faults that are left out.
    pub without: BTreeSet<String>,
    /// Whether a world that has no trace prints what happens in it.
    pub tells: bool,
}

impl Part {
    /// How a fault is called on the command line: `FailedSync` is `failed-sync`.
    pub fn fault_name(fault: &impl fmt::Debug) -> String {
        let mut name = String::new();
        for letter in format!("{fault:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }

    /// Reads numbers of steps: `3,7,9-20`, or `none`.
    pub fn parse_keep(text: &str) -> Result<Vec<usize>, String> {
        if text.trim() == NO_STEPS {
            return Ok(Vec::new());
        }
        let number = |text: &str| {
            text.trim().parse().map_err(|_| format!("`{text}` is not the number of a step, as in 3,7,9-20"))
        };
        let mut keep = BTreeSet::new();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            match range.split_once('-') {
                Some((first, last)) => keep.extend(number(first)?..=number(last)?),
                None => {
                    keep.insert(number(range)?);
                }
            }
        }
        Ok(keep.into_iter().collect())
    }

    /// Whether a world has all that it names.
    pub fn is_of(&self, world: &dyn World) -> Result<(), String> {
        let (steps, faults) = (world.steps(), world.faults());
        if self.keep.is_some() && steps == 0 {
            return Err("it has no steps to choose from".to_owned());
        }
        if let Some(step) = self.keep.iter().flatten().find(|step| **step >= steps) {
            return Err(format!("it has no step {step}, but those from 0 to {}", steps - 1));
        }
        match self.without.iter().find(|name| !faults.contains(name)) {
            Some(name) if faults.is_empty() => Err(format!("it has no fault `{name}`, and none at all")),
            Some(name) => Err(format!("it has no fault `{name}`, but {}", faults.join(", "))),
            None => Ok(()),
        }
    }
}

/// The options that ask for it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(keep) = &self.keep {
            let mut ranges: Vec<(usize, usize)> = Vec::new();
            for at in keep {
                match ranges.last_mut() {
                    Some((_, last)) if *last + 1 == *at => *last = *at,
                    _ => ranges.push((*at, *at)),
                }
            }
            let ranges = ranges.iter().map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            });
            let ranges = ranges.collect::<Vec<_>>().join(",");
            write!(f, " --keep {}", if ranges.is_empty() { NO_STEPS } else { &ranges })?;
        }
        match self.without.is_empty() {
            true => Ok(()),
            false => write!(f, " --without {}", self.without.iter().cloned().collect::<Vec<_>>().join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn the_numbers_of_steps_are_read_as_they_are_written() {
        let part = Part { keep: Some(vec![3, 7, 9, 10, 11, 20, 21]), ..Part::default() };
        assert_eq!(part.to_string(), " --keep 3,7,9-11,20-21");
        assert_eq!(Part::parse_keep("7,3,9-11,20-21"), Ok(part.keep.expect("some")));
        assert!(Part::parse_keep("3,x").is_err());
        let nothing = Part { keep: Some(Vec::new()), ..Part::default() };
        assert_eq!(nothing.to_string(), " --keep none");
        assert_eq!(Part::parse_keep("none"), Ok(Vec::new()));
    }

    #[test]
    fn a_part_names_what_its_world_has() {
        let core = Kind::Core.draw(1234);
        let fault = core.faults().swap_remove(0);
        let without = |name: &str| Part { without: BTreeSet::from([name.to_owned()]), ..Part::default() };
        let keeping = |step| Part { keep: Some(vec![step]), ..Part::default() };
        assert_eq!(without(&fault).is_of(&*core), Ok(()));
        let wrong = without("full-disk").is_of(&*core).expect_err("there is none");
        assert!(wrong.contains("`full-disk`") && wrong.contains(&fault), "{wrong}");
        assert_eq!(keeping(core.steps() - 1).is_of(&*core), Ok(()));
        assert!(keeping(core.steps()).is_of(&*core).is_err());
        assert!(keeping(0).is_of(&*Kind::Server.draw(1)).is_err());
    }

    #[test]
    fn faults_are_named_as_on_a_command_line() {
        #[derive(Debug)]
        struct FailedSync;
        assert_eq!(Part::fault_name(&FailedSync), "failed-sync");
    }
}
