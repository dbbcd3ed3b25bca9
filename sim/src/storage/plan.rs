//! What is decided about a world before it runs.

use headwater_core::config::{CoreConfig, Durability, Storage};

use crate::disk::{Fault, FaultKind, Syncing};
use crate::random::Random;

/// Everything about a world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is drawn from.
    pub seed: u64,
    /// When a change is acknowledged.
    pub durability: Durability,
    /// How large a segment becomes.
    pub segment_bytes: usize,
    /// How much log there is before a checkpoint is made.
    pub checkpoint_log_bytes: usize,
    /// How much memory groups may take.
    pub cache_bytes: usize,
    /// By how much the log's files grow.
    pub growth: u64,
    /// How many groups there are.
    pub groups: u64,
    /// How many items a group may have.
    pub items: u64,
    /// How much happens.
    pub steps: usize,
    /// How long a step may take, in milliseconds.
    pub pace: u64,
    /// In how many of a thousand steps the process dies.
    pub deaths: u64,
    /// In how many of a hundred starts it dies while it starts, or soon after.
    pub again: u64,
    /// The process dies right after so many operations of the disk; with or without the machine's power.
    pub cut: Option<(u64, Loss)>,
    /// What goes wrong: what, after how many operations of the disk, and how often.
    pub faults: Vec<(FaultKind, u64, u64)>,
    /// What a sync does.
    pub syncing: Syncing,
    /// A checkpoint counts as durable before it is written.
    pub hasty: bool,
    /// It prints what happens.
    pub tells: bool,
}

/// What goes with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The disk gets what it wrote.
    Process,
    /// What was not synced may be lost.
    Power,
}

/// More than any world writes.
const NEVER: usize = 1 << 40;

impl Plan {
    /// The world of a seed, on an honest disk.
    pub fn draw(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let interval = Durability::Interval([5, 50, 500][random.index(3)]);
        let kinds = [FaultKind::Full, FaultKind::Write, FaultKind::Sync];
        let fault = |random: &mut Random| {
            let failing = [1, random.within(2..8), random.within(8..60)][random.index(3)];
            (kinds[random.index(3)], random.within(0..250), failing)
        };
        Plan {
            seed,
            durability: if random.chance(70) { Durability::Sync } else { interval },
            segment_bytes: [200, 1_000, 5_000, 1 << 20][random.index(4)],
            checkpoint_log_bytes: [500, 2_000, 10_000, NEVER][random.index(4)],
            cache_bytes: [1, 2_000, 1 << 20][random.index(3)],
            growth: [1, 512, 4_096][random.index(3)],
            groups: random.within(1..5),
            items: random.within(1..7),
            steps: random.index(300) + 20,
            pace: [2, 30][random.index(2)],
            deaths: [0, 5, 20][random.index(3)],
            again: [0, 30, 60][random.index(3)],
            cut: None,
            faults: (0..[0, 0, 1, 2, 4][random.index(5)]).map(|_| fault(&mut random)).collect(),
            syncing: Syncing::Honest,
            hasty: false,
            tells: false,
        }
    }

    /// The world of a seed in which nothing goes wrong.
    pub fn calm(seed: u64) -> Plan {
        Plan { deaths: 0, again: 0, faults: Vec::new(), ..Plan::draw(seed) }
    }

    pub(super) fn config(&self) -> CoreConfig {
        let storage = Storage {
            durability: self.durability,
            segment_bytes: self.segment_bytes,
            checkpoint_log_bytes: self.checkpoint_log_bytes,
            cache_bytes: self.cache_bytes,
            ..Storage::default()
        };
        CoreConfig { storage, ..CoreConfig::default() }
    }

    /// The faults, as the disk wants them.
    pub(super) fn faults(&self) -> impl Iterator<Item = Fault> {
        let mut random = Random::new(self.seed.wrapping_add(1));
        let faults = self.faults.clone().into_iter();
        faults.map(move |(kind, after, failing)| Fault { kind, after, failing, random: random.fork() })
    }
}
