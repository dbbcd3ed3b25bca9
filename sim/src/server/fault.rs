//! What goes wrong around the server, and when.

use std::time::Duration;

use crate::disk::FaultKind;
use crate::random::Random;

/// Something that goes wrong at some time.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// When.
    pub(super) at: Duration,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// The server stops dead, and is started again.
    Crash(Crash),
    /// Somebody stops the server in good order, and starts it again after so long.
    Stop { down: Duration },
    /// The way to one client is bad for so long.
    Link { client: usize, how: Bad, lasts: Duration },
    /// After so many operations of the disk, so many of this kind fail.
    Disk { kind: FaultKind, after: u64, failing: u64 },
    /// Somebody sets the server's clock forward by so many milliseconds, or back.
    Clock(i64),
}

#[derive(Clone, Debug)]
pub(super) struct Crash {
    /// So many operations of the disk later; `None` is at once.
    pub(super) operations: Option<u64>,
    pub(super) loss: Loss,
    /// How long it takes until the server is started again.
    pub(super) down: Duration,
    /// The same again so many operations of the disk after that: while it recovers, or soon after.
    pub(super) again: Option<(u64, Loss)>,
}

/// What goes with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The process alone: the system closes its sockets, and the disk will get what it wrote.
    Process,
    /// The machine's power: what was not synced may be lost. Its peers are told.
    Power,
    /// The power, and no peer is told.
    PowerAndCable,
}

/// How a way is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// What is sent is lost, and nobody is told.
    Cut,
    /// What is sent arrives when it is good again.
    Held,
    /// Everything takes so long.
    Slow(Duration),
}

/// Kinds of faults that may happen in a world. Each world has a few: one that has all of them never gets to what
/// happens after some.
#[derive(Clone, Debug)]
pub(super) struct Kinds {
    pub(super) losses: Vec<Loss>,
    pub(super) stops: bool,
    pub(super) links: Vec<Bad>,
    pub(super) disk: Option<FaultKind>,
    pub(super) clock: bool,
}

impl Kinds {
    pub(super) fn draw(random: &mut Random) -> Kinds {
        let all = [Loss::Process, Loss::Power, Loss::PowerAndCable];
        let ways = [Bad::Cut, Bad::Held, Bad::Slow(random.millis(40..250))];
        Kinds {
            losses: all.into_iter().filter(|_| random.chance(45)).collect(),
            stops: random.chance(25),
            links: ways.into_iter().filter(|_| random.chance(35)).collect(),
            disk: random
                .chance(30)
                .then(|| [FaultKind::Full, FaultKind::Write, FaultKind::Sync][random.index(3)]),
            clock: random.chance(30),
        }
    }

    /// The faults of a world with so many clients, in the order of their times.
    pub(super) fn faults(&self, random: &mut Random, clients: usize) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add = |random: &mut Random, most: u64, draw: &dyn Fn(&mut Random) -> What| {
            for _ in 0..random.within(1..most + 1) {
                let what = draw(random);
                // Some right at the first start.
                let at = if random.chance(10) { Duration::ZERO } else { random.millis(1..2_300) };
                faults.push(Fault { at, what });
            }
        };
        if !self.losses.is_empty() {
            add(random, 4, &|random| What::Crash(Crash::draw(random, &self.losses)));
        }
        if self.stops {
            add(random, 2, &|random| What::Stop { down: random.millis(1..300) });
        }
        if !self.links.is_empty() {
            add(random, 4, &|random| What::Link {
                client: random.index(clients),
                how: self.links[random.index(self.links.len())],
                // Shorter and longer than anybody waits for a sign of life.
                lasts: if random.chance(60) { random.millis(20..600) } else { random.millis(600..2_600) },
            });
        }
        if let Some(kind) = self.disk {
            add(random, 3, &|random| What::Disk {
                kind,
                after: random.within(0..20),
                failing: if random.chance(50) { random.within(1..3) } else { random.within(3..25) },
            });
        }
        if self.clock {
            add(random, 3, &|random| {
                let by = if random.chance(50) { random.within(1..500) } else { random.within(500..100_000) };
                let by = by.cast_signed();
                What::Clock(if random.chance(50) { by } else { -by })
            });
        }
        faults.sort_by_key(|fault| fault.at);
        faults
    }
}

impl Fault {
    /// What it is called: it is the one of this number in its world.
    pub(super) fn name(&self, number: usize) -> String {
        let kind = match &self.what {
            What::Crash(_) => "crash",
            What::Stop { .. } => "stop",
            What::Link { .. } => "way",
            What::Disk { .. } => "disk",
            What::Clock(_) => "clock",
        };
        format!("{kind}-{number}")
    }
}

impl Crash {
    fn draw(random: &mut Random, losses: &[Loss]) -> Crash {
        let loss = |random: &mut Random| losses[random.index(losses.len())];
        Crash {
            operations: random.chance(60).then(|| random.within(1..20)),
            loss: loss(random),
            down: random.millis(1..300),
            again: random.chance(50).then(|| (random.within(1..5), loss(random))),
        }
    }
}
