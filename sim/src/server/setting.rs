//! What a world is like, apart from what goes wrong in it.

use std::time::Duration;

use headwater::config::{Config, Listen};
use headwater_core::config::{Access, AuthFailure, Durability, JoinGate, Limits, Storage, Timeouts};
use headwater_core::name::FunctionId;

use super::client::{Duty, Habits, Manners, Mix, STREAM_PORT, WORKER_PORT, Watched};
use crate::random::Random;

/// How the server is configured, and who its clients are.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The longest way of a message.
    pub(super) latency: Duration,
    /// How many writes wait in the network before a peer that does not read is noticed.
    pub(super) tcp_capacity: usize,
    /// How long the server's threads take to wake up, at most, in milliseconds.
    pub(super) wake_up: u64,
    /// How many milliseconds make one of the server's wall clock.
    pub(super) slowness: u64,
    storage: Storage,
    access: Access,
    timeouts: Timeouts,
    pub(super) outbox_bytes: usize,
    worker_outbox_bytes: usize,
    inbox: usize,
    commit_backlog_bytes: usize,
    limits: Limits,
    pub(super) mix: Mix,
    /// All that there is to watch.
    pub(super) watched: Vec<Watched>,
    pub(super) workers: Vec<WorkerSetting>,
    pub(super) subscribers: Vec<SubscriberSetting>,
    /// Whether somebody connects who makes no sense.
    pub(super) has_stranger: bool,
}

#[derive(Clone, Debug)]
pub(super) struct WorkerSetting {
    pub(super) duties: Vec<Duty>,
    pub(super) manners: Manners,
    /// How many calls it has in flight.
    pub(super) window: usize,
    /// When it makes no more of its own.
    pub(super) until: Duration,
    /// Whether it pauses, and takes back what it has registered.
    pub(super) acts: bool,
}

#[derive(Clone, Debug)]
pub(super) struct SubscriberSetting {
    pub(super) by_path: Option<Watched>,
    pub(super) by_frames: Vec<Watched>,
    pub(super) habits: Habits,
    /// In percent: how many of its joins are such as a gate refuses.
    pub(super) denied: u64,
}

impl Setting {
    /// In a world in which all is `well`, clients do nothing that could make a call fail.
    pub(super) fn draw(random: &mut Random, well: bool) -> Setting {
        let groups: Vec<_> = (0..random.within(1..4)).map(|number| format!("g{number}")).collect();
        let items = random.within(1..7);
        let is_tight = random.chance(50);
        let timeouts = timeouts(random);
        let call = Duration::from_millis(timeouts.call_ms);
        let workers = workers(random, &groups, well, call);
        let has = |wanted: &Duty| workers.iter().any(|worker| worker.duties.contains(wanted));
        let access = Access {
            auth_function: has(&Duty::Auth).then(|| FunctionId::trusted("auth")),
            auth_failure: if random.chance(50) { AuthFailure::Close } else { AuthFailure::Http401 },
            join_gate: match has(&Duty::Gate) && random.chance(40) {
                true => JoinGate::FailClosed,
                false => JoinGate::FailOpen,
            },
        };
        let mut watched = all_watched(&groups, items);
        if has(&Duty::Keeper) {
            watched.push(Watched { is_kept: true, group: groups[0].clone(), item: None });
            watched.push(Watched { is_kept: true, group: groups[0].clone(), item: Some("i0".to_owned()) });
        }
        let denied = if has(&Duty::Gate) { 25 } else { 0 };
        Setting {
            latency: random.millis(2..20),
            tcp_capacity: if is_tight { 20 } else { 4_096 },
            wake_up: random.within(1..6),
            slowness: if random.chance(30) { 20 } else { 1 },
            storage: storage(random),
            access,
            timeouts,
            outbox_bytes: if is_tight { 1_000 + random.index(5_000) } else { 1 << 20 },
            // Where there is less, a call may be refused.
            worker_outbox_bytes: if is_tight && !well { 4_000 + random.index(40_000) } else { 1 << 28 },
            inbox: if random.chance(40) { 1 + random.index(10) } else { 4_096 },
            commit_backlog_bytes: if random.chance(40) { 1 + random.index(2_000) } else { 32 << 20 },
            limits: limits(random, well),
            mix: Mix::draw(random, &groups, items, !well),
            workers,
            subscribers: (0..random.within(2..5))
                .map(|_| {
                    let mut subscriber = subscriber(random, &watched, denied);
                    // So that too much waits for it.
                    subscriber.habits.pauses += if is_tight { 8 } else { 0 };
                    subscriber
                })
                .collect(),
            watched,
            has_stranger: random.chance(30),
        }
    }

    /// The same with what is stored synced some time after it is acknowledged.
    pub(super) fn with_interval(mut self, ms: u64) -> Setting {
        self.storage.durability = Durability::Interval(ms);
        self
    }

    pub(super) fn has_tokens(&self) -> bool {
        self.access.auth_function.is_some()
    }

    /// The configuration: with signs of life often enough for short worlds.
    pub(super) fn config(&self) -> Config {
        let listen = |port| Listen { host: "0.0.0.0".to_owned(), port };
        let mut config =
            Config { workers: listen(WORKER_PORT), streams: listen(STREAM_PORT), ..Config::default() };
        config.core.storage = self.storage.clone();
        config.core.access = self.access.clone();
        config.core.timeouts = self.timeouts.clone();
        // Its network is all there is.
        config.access.insecure = true;
        config.core.limits = self.limits.clone();
        config.net.outbox_bytes = self.outbox_bytes;
        config.net.worker_outbox_bytes = self.worker_outbox_bytes;
        config.net.inbox = self.inbox;
        config.net.commit_backlog_bytes = self.commit_backlog_bytes;
        config.net.ping_interval_ms = 500;
        config.net.idle_timeout_ms = 2_000;
        config.net.slow_timeout_ms = 2_000;
        config.net.handshake_timeout_ms = 1_000;
        config
    }
}

/// Each of them is there for something else, or for nothing.
fn workers(random: &mut Random, groups: &[String], well: bool, call: Duration) -> Vec<WorkerSetting> {
    let mut workers: Vec<_> = (0..random.within(1..4)).map(|_| worker(random, groups, well, call)).collect();
    // Of these there is one.
    for (duty, percent) in [(Duty::Echo, 50), (Duty::Auth, 30), (Duty::Keeper, if well { 0 } else { 25 })] {
        let at = random.index(workers.len());
        if random.chance(percent) {
            workers[at].duties.push(duty);
        }
    }
    workers
}

fn worker(random: &mut Random, groups: &[String], well: bool, call: Duration) -> WorkerSetting {
    let mut duties = Vec::new();
    if random.chance(40) {
        duties.push(Duty::Handler {
            group: random.chance(40).then(|| groups[random.index(groups.len())].clone()),
            item: random.chance(25).then(|| "i0".to_owned()),
            condition: random.chance(30),
        });
    }
    for duty in [Duty::Gate, Duty::Leaves] {
        if random.chance(30) {
            duties.push(duty);
        }
    }
    let mut often = |percent: u64| if random.chance(percent) { random.within(2..30) } else { 0 };
    let slow = often(50);
    // A call that ends so would not be well.
    let [failing, silent, dying] = if well { [0; 3] } else { [often(35), often(25), often(20) / 3] };
    WorkerSetting {
        duties,
        manners: Manners { slow, failing, silent, dying, call },
        window: random.index(10) + 2,
        until: random.millis(1_500..2_700),
        acts: !well && random.chance(30),
    }
}

fn timeouts(random: &mut Random) -> Timeouts {
    Timeouts {
        call_ms: random.within(500..1_200),
        stop_ms: random.within(200..1_000),
        auth_ms: random.within(400..1_200),
        gate_grace_ms: if random.chance(80) { random.within(100..2_000) } else { 0 },
    }
}

/// Where all is well, nothing may be refused.
fn limits(random: &mut Random, well: bool) -> Limits {
    // More would not be handled before the world ends.
    let mut limits = Limits { trigger_events: 150, ..Limits::default() };
    if !well && random.chance(30) {
        limits.calls_in_flight = 1 + random.index(4);
    }
    if random.chance(25) {
        limits.trigger_events = 1 + random.index(20);
    }
    limits
}

fn storage(random: &mut Random) -> Storage {
    match random.chance(50) {
        true => Storage {
            segment_bytes: 4_000,
            checkpoint_log_bytes: 8_000,
            cache_bytes: 2_000,
            ..Storage::default()
        },
        false => Storage::default(),
    }
}

fn subscriber(random: &mut Random, watched: &[Watched], denied: u64) -> SubscriberSetting {
    let one = |random: &mut Random| watched[random.index(watched.len())].clone();
    let by_path = random.chance(40).then(|| one(random));
    let by_frames = match by_path.is_some() && random.chance(60) {
        true => Vec::new(),
        false => (0..random.within(1..4)).map(|_| one(random)).collect(),
    };
    let mut often = || if random.chance(40) { random.within(1..10) } else { 0 };
    let habits = Habits {
        pauses: often(),
        vanishes: often(),
        leaves: often(),
        joins: often(),
        repeats: often(),
        errs: often(),
    };
    SubscriberSetting { by_path, by_frames, habits, denied }
}

/// All that there is to watch; groups are watched more often than each of their items.
fn all_watched(groups: &[String], items: u64) -> Vec<Watched> {
    let of_group = |group: &String| {
        let watched = |item| Watched { is_kept: false, group: group.clone(), item };
        let items = (0..items.min(2)).map(|number| Some(format!("i{number}")));
        [None, None].into_iter().chain(items).map(watched).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}
