//! What is the same for all kinds of worlds: they are drawn from a seed, run, judged and counted, in great numbers, and
//! those that fail are made smaller.

mod counts;
mod fleet;
mod kinds;
mod minimise;
mod part;
mod registry;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

pub use counts::Counts;
pub use fleet::{Fleet, Ran, Run, Stuck, in_order};
pub use minimise::{Minimised, minimise};
pub use part::Part;
pub use registry::{Known, registry};

use crate::hash::Hash;
use crate::trace::Trace;

/// A kind of worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The core and its store, see [`crate::world`].
    Core,
    /// The whole server, see [`crate::server`].
    Server,
    /// The store alone, see [`crate::storage`].
    Storage,
}

/// A world before it runs.
pub trait World: Send + Sync {
    /// Runs it to its end, or to where it breaks something.
    fn run(&self) -> Shown;

    /// How many steps it has that can be left out one by one.
    fn steps(&self) -> usize {
        0
    }

    /// What may go wrong in it and can be left out, by name.
    fn faults(&self) -> Vec<String> {
        Vec::new()
    }

    /// The same world with a part of its steps and faults.
    fn part(&self, part: &Part) -> Box<dyn World>;

    /// What was drawn, for people; each step on a line of its own.
    fn words(&self) -> Vec<String>;
}

/// What a world has shown.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// What happened; nothing in worlds without clients.
    pub trace: Trace,
    /// What is broken.
    pub failure: Option<Failure>,
    /// How much happened and was checked.
    pub counts: Counts,
}

/// A world has broken something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which law.
    pub law: String,
    /// How.
    pub how: String,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Core, Kind::Server, Kind::Storage];

    /// The world of a seed.
    pub fn draw(self, seed: u64) -> Box<dyn World> {
        match self {
            Kind::Core => Box::new(kinds::CoreWorld::draw(seed)),
            Kind::Server => Box::new(kinds::ServerWorld::draw(seed)),
            Kind::Storage => Box::new(kinds::StorageWorld::draw(seed)),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Core => "core",
            Kind::Server => "server",
            Kind::Storage => "storage",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| format!("there are worlds of the kinds core, server and storage, not `{name}`"))
    }
}

/// Runs a world to its end. If it panics, that is its failure.
pub fn run(world: &dyn World) -> Shown {
    let mut shown = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let how = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Shown { failure: Some(Failure { law: "NeverPanics".to_owned(), how }), ..Shown::default() }
    });
    shown.counts.worlds = 1;
    shown
}

impl Shown {
    /// All that is to be the same whenever the world is run: what happened, in words, and what was made of it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for entry in &self.trace {
            text += &format!("{entry}\n");
        }
        text + &format!("{:?}\n{:?}\n", self.failure, self.counts)
    }
}

/// A number that two different texts hardly ever share, the same on every machine.
pub fn digest(text: &str) -> u64 {
    let mut hash = Hash::NOTHING;
    hash.add(text.as_bytes());
    hash.0
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.how)
    }
}
