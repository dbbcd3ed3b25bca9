//! What is decided about a world before it runs. A seed draws which faults there are at all and what mix of work, so that
//! each world is rough in another way; then its steps, each with a seed of its own, so that any of them can be left out.

use std::collections::BTreeSet;

use headwater_core::config::{
    Access, AuthFailure, CoreConfig, Durability, JoinGate, Limits, Storage, Timeouts,
};
use headwater_core::name::FunctionId;

use crate::random::Random;

/// Everything about a world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is drawn from.
    pub seed: u64,
    /// Who is there, and how the server is set up.
    pub setup: Setup,
    /// What may go wrong. What is left out here does not happen, though a step says so.
    pub faults: BTreeSet<Fault>,
    /// Whether it was drawn without faults: then it is set up so that nothing fails. One whose faults were left out
    /// is not.
    pub is_healthy: bool,
    /// What happens, one after the other.
    pub steps: Vec<Step>,
}

/// Who is there, and how the server is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many groups there are.
    pub groups: u64,
    /// How many items of each kind a group may have.
    pub items: u64,
    /// What each worker does beside calling.
    pub workers: Vec<Vec<Role>>,
    /// How many subscribers there are.
    pub subscribers: u64,
    /// How many calls of a worker may be on the way.
    pub window: usize,
    /// How many messages fit between the server and a client who does not read.
    pub pipe: usize,
    /// How many calls may wait for a worker.
    pub mailbox: usize,
    /// How much may wait for the disk before no more is taken from clients, in bytes.
    pub backlog_bytes: usize,
    /// How much may wait for a subscriber, in bytes.
    pub outbox_bytes: usize,
    /// How long a step may take, in milliseconds.
    pub pace: u64,
    /// By how much the log's files grow.
    pub growth: u64,
    /// How the core is set up.
    pub config: CoreConfig,
}

/// What a worker registers functions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To be called by others.
    Echo,
    /// To hear of all events of the stream.
    Events,
    /// To hear of those of one group.
    EventsOfGroup,
    /// To hear of those that its condition lets pass.
    Conditional,
    /// To decide about joins.
    Gate,
    /// To hear of leaves.
    Leave,
    /// To vouch for connections.
    Auth,
    /// To keep a stream itself.
    Keeper,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The server's process dies, at some operation of the disk or between two.
    Kill,
    /// Its machine loses power.
    PowerCut,
    /// It dies while it starts.
    CrashAtStart,
    /// The server is stopped in good order, and started again.
    Stop,
    /// The disk is full for a while.
    DiskFull,
    /// Writes of the disk fail for a while.
    WriteFails,
    /// Syncs of the disk fail for a while.
    SyncFails,
    /// A worker's connection breaks.
    WorkerLost,
    /// A subscriber's connection breaks.
    SubscriberLost,
    /// Nothing gets through on a connection for a while; a client may give it up and come back on another.
    Partition,
    /// A connection is slow for a moment, so that others overtake it.
    Late,
    /// A worker makes a call again of which it knows no answer.
    Retry,
    /// The wall clock jumps ahead.
    ClockAhead,
    /// The wall clock jumps back.
    ClockBack,
    /// A subscriber does not read for a while.
    SlowSubscriber,
    /// A worker does not read for a while.
    SlowWorker,
    /// A handler takes its time.
    SlowHandler,
    /// A handler fails.
    FailingHandler,
    /// A handler never answers.
    SilentHandler,
    /// A worker dies while it handles something.
    DyingHandler,
    /// A worker takes a function or a trigger back, and registers it again.
    Churn,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 21] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::CrashAtStart,
        Fault::Stop,
        Fault::DiskFull,
        Fault::WriteFails,
        Fault::SyncFails,
        Fault::WorkerLost,
        Fault::SubscriberLost,
        Fault::Partition,
        Fault::Late,
        Fault::Retry,
        Fault::ClockAhead,
        Fault::ClockBack,
        Fault::SlowSubscriber,
        Fault::SlowWorker,
        Fault::SlowHandler,
        Fault::FailingHandler,
        Fault::SilentHandler,
        Fault::DyingHandler,
        Fault::Churn,
    ];

    /// Its name, in the words of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::PowerCut => "power-cut",
            Fault::CrashAtStart => "crash-at-start",
            Fault::Stop => "stop",
            Fault::DiskFull => "disk-full",
            Fault::WriteFails => "write-fails",
            Fault::SyncFails => "sync-fails",
            Fault::WorkerLost => "worker-lost",
            Fault::SubscriberLost => "subscriber-lost",
            Fault::Partition => "partition",
            Fault::Late => "late",
            Fault::Retry => "retry",
            Fault::ClockAhead => "clock-ahead",
            Fault::ClockBack => "clock-back",
            Fault::SlowSubscriber => "slow-subscriber",
            Fault::SlowWorker => "slow-worker",
            Fault::SlowHandler => "slow-handler",
            Fault::FailingHandler => "failing-handler",
            Fault::SilentHandler => "silent-handler",
            Fault::DyingHandler => "dying-handler",
            Fault::Churn => "churn",
        }
    }
}

/// One thing that happens. What exactly is drawn from its own seed and from what there is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its place in the world as it was drawn: what it is called, also where others are left out.
    pub number: usize,
    /// What.
    pub kind: Kind,
    /// What the rest is drawn from.
    pub salt: u64,
}

/// What can happen in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A worker calls.
    Call,
    /// A subscriber joins, leaves, hangs up or comes back.
    Subscribe,
    /// Messages move on one connection.
    Move,
    /// One of the store's threads does something.
    Store,
    /// A handler answers.
    Handle,
    /// Something goes wrong.
    Fault(Fault),
}

/// More than any world writes.
const NEVER: usize = 1 << 40;

impl Plan {
    /// The world of a seed.
    pub fn draw(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let (healthy, all) = (random.chance(8), random.chance(5));
        let likely = [15, 35, 60][random.index(3)];
        let faults: BTreeSet<Fault> =
            Fault::ALL.into_iter().filter(|_| !healthy && (all || random.chance(likely))).collect();
        let setup = Setup::draw(&mut random, &faults);
        let steps = draw_steps(&mut random, &faults);
        Plan { seed, setup, is_healthy: faults.is_empty(), faults, steps }
    }
}

fn draw_steps(random: &mut Random, faults: &BTreeSet<Fault>) -> Vec<Step> {
    let count = [100, 500, 1_500][random.index(3)] + random.index(100);
    // How likely each kind is, against all others.
    let mut weights = vec![
        (Kind::Call, 1_000 + random.within(0..3_000)),
        (Kind::Subscribe, 100 + random.within(0..700)),
        (Kind::Move, 4_000 + random.within(0..4_000)),
        (Kind::Store, 1_000 + random.within(0..3_000)),
        (Kind::Handle, 1_000 + random.within(0..2_000)),
    ];
    // Each fault a few times in a world, however long it is: what follows from one must have time to show.
    let often = [1, 3, 8][random.index(3)];
    let rare = 8_000 * often / count as u64 + 1;
    weights.extend(faults.iter().map(|fault| (Kind::Fault(*fault), rare)));
    let total = weights.iter().map(|(_, weight)| weight).sum();
    let mut draw = |number| {
        let mut at = random.within(0..total);
        let kind = weights.iter().find_map(|(kind, weight)| {
            let found = (at < *weight).then_some(*kind);
            at = at.saturating_sub(*weight);
            found
        });
        Step { number, kind: kind.unwrap_or(Kind::Move), salt: random.salt() }
    };
    (0..count).map(&mut draw).collect()
}

impl Setup {
    fn draw(random: &mut Random, faults: &BTreeSet<Fault>) -> Setup {
        let mut workers: Vec<Vec<Role>> = (0..random.within(1..4))
            .map(|_| {
                let roles = [Role::Echo, Role::Events, Role::EventsOfGroup, Role::Conditional];
                roles.into_iter().chain([Role::Gate, Role::Leave]).filter(|_| random.chance(30)).collect()
            })
            .collect();
        let mut one_has = |random: &mut Random, role, likely| {
            let has = random.chance(likely);
            if has {
                let at = random.index(workers.len());
                workers[at].push(role);
            }
            has
        };
        let auth = one_has(random, Role::Auth, 25);
        one_has(random, Role::Keeper, 20);
        Setup {
            groups: random.within(1..4),
            // A group has another form in memory from the second item on, and from the seventeenth.
            items: [1, 2, 4, 14][random.index(4)],
            workers,
            subscribers: random.within(1..5),
            window: [1, 4, 12][random.index(3)],
            pipe: [1, 4, 64][random.index(3)],
            mailbox: if faults.contains(&Fault::SlowWorker) { [1, 3, 50][random.index(3)] } else { 1_000 },
            backlog_bytes: [1_000, 1 << 20][random.index(2)],
            outbox_bytes: if faults.contains(&Fault::SlowSubscriber) {
                [200, 600, 3_000][random.index(3)]
            } else {
                1 << 20
            },
            pace: [1, 4, 40][random.index(3)],
            growth: [1, 512, 4_096][random.index(3)],
            config: config(random, faults, auth),
        }
    }

    /// Whether the store's epoch is another one after each crash.
    pub fn new_epochs(&self) -> bool {
        matches!(self.config.storage.durability, Durability::Interval(_))
    }
}

fn config(random: &mut Random, faults: &BTreeSet<Fault>, auth: bool) -> CoreConfig {
    // With `interval`, power cuts lose what was acknowledged: the worlds of the store look at that.
    let interval = random.chance(20) && !faults.contains(&Fault::PowerCut);
    let short = !faults.is_empty() && random.chance(50);
    CoreConfig {
        limits: Limits {
            subscriptions: if faults.is_empty() { 1_000 } else { [3, 1_000][random.index(2)] },
            trigger_events: if faults.contains(&Fault::SlowHandler) {
                [2, 10, 100_000][random.index(3)]
            } else {
                100_000
            },
            registrations: if !auth && faults.contains(&Fault::Churn) && random.chance(15) {
                3
            } else {
                10_000
            },
            calls_in_flight: if faults.contains(&Fault::SlowWorker) {
                [2, 1_024][random.index(2)]
            } else {
                1_024
            },
            ..Limits::default()
        },
        timeouts: match short {
            true => Timeouts { call_ms: 400, stop_ms: 300, auth_ms: 200, gate_grace_ms: 500 },
            // Where nothing goes wrong, nothing takes too long.
            false if faults.is_empty() => {
                Timeouts { call_ms: 600_000, auth_ms: 600_000, ..Timeouts::default() }
            }
            false => Timeouts::default(),
        },
        access: Access {
            auth_function: auth.then(|| FunctionId::new("auth", &Limits::default()).expect("a name")),
            auth_failure: [AuthFailure::Close, AuthFailure::Http401][random.index(2)],
            join_gate: if random.chance(10) { JoinGate::FailClosed } else { JoinGate::FailOpen },
        },
        storage: Storage {
            durability: if interval {
                Durability::Interval([5, 50][random.index(2)])
            } else {
                Durability::Sync
            },
            segment_bytes: [300, 3_000, 1 << 20][random.index(3)],
            checkpoint_log_bytes: [1_000, 10_000, NEVER][random.index(3)],
            cache_bytes: [1, 3_000, 1 << 20][random.index(3)],
            load_ms: if faults.is_empty() { 600_000 } else { [1_000, 30_000][random.index(2)] },
        },
    }
}
