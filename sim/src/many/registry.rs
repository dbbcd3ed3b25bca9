//! The seeds that have ever failed.

use super::Kind;

/// A world that has found something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of which kind.
    pub kind: Kind,
    /// Which.
    pub seed: u64,
    /// What.
    pub found: String,
}

/// All of them, as the file says.
pub fn registry() -> Result<Vec<Known>, String> {
    parse(include_str!("../../seeds.txt"))
}

fn parse(text: &str) -> Result<Vec<Known>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| known(line).map_err(|error| format!("line {}: {error}", at + 1))).collect()
}

fn known(line: &str) -> Result<Known, String> {
    let (world, found) = line.split_once('#').ok_or("it does not say what the seed has found")?;
    let (kind, seed) = world.trim().split_once(' ').ok_or("it is not a kind and a seed")?;
    let seed = seed.trim().parse().map_err(|_| format!("`{seed}` is not a seed"))?;
    Ok(Known { kind: kind.parse()?, seed, found: found.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_kind_a_seed_and_what_it_found() {
        let found = "a leave told twice".to_owned();
        let known = Known { kind: Kind::Core, seed: 12, found };
        assert_eq!(parse("# The registry.\n\ncore 12  # a leave told twice\n"), Ok(vec![known]));
        assert!(parse("core 12").is_err() && parse("core x # y").is_err() && parse("hub 1 # y").is_err());
    }

    #[test]
    fn the_registry_can_be_read() {
        assert!(registry().is_ok(), "{:?}", registry());
    }
}
