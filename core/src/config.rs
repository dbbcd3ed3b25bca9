//! What an operator can set, as far as it changes behaviour.

use crate::name::FunctionId;

/// The core's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreConfig {
    /// Bounds on what clients may send and hold.
    pub limits: Limits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Who may subscribe.
    pub access: Access,
    /// How what is stored is kept.
    pub storage: Storage,
}

/// How what is stored is kept in a log, a checkpoint and memory. A store without a log needs none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// When a change is acknowledged.
    pub durability: Durability,
    /// How much of the log goes into one file. Default 16 MiB; one write more at the most.
    pub segment_bytes: usize,
    /// How much of the log there is, at the least, before a checkpoint makes it superfluous. Default 64 MiB.
    pub checkpoint_log_bytes: usize,
    /// How much memory groups may take; those that are too many are read again when they are needed. Default 256 MiB.
    pub cache_bytes: usize,
    /// How long a command may wait until its group is read. Default 30 s.
    pub load_ms: u64,
}

impl Default for Storage {
    fn default() -> Storage {
        Storage {
            durability: Durability::Sync,
            segment_bytes: 16 << 20,
            checkpoint_log_bytes: 64 << 20,
            cache_bytes: 256 << 20,
            load_ms: 30_000,
        }
    }
}

/// When a change is acknowledged, and seen by anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once it is synced: no crash takes it back, no power cut either.
    #[default]
    Sync,
    /// Once it is written. What is written is synced after so many milliseconds at the latest: up to that much is lost
    /// with the machine's power, but nothing with the process.
    Interval(u64),
}

/// Who decides which subscribers are served, and what becomes of those that nobody could decide about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The function that is asked about every new connection of a subscriber. Without one, nobody is asked.
    pub auth_function: Option<FunctionId>,
    /// How a connection that it does not vouch for ends.
    pub auth_failure: AuthFailure,
    /// What a join is that no gate vouches for.
    pub join_gate: JoinGate,
}

/// How a connection ends that the `auth_function` does not vouch for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthFailure {
    /// Its joins are answered with `unauthorized`, and it is closed a few seconds later: there are clients that die
    /// of a handshake that is refused.
    #[default]
    Close,
    /// Its handshake waits for the function, and is answered with HTTP 401.
    Http401,
}

/// What becomes of a join when a gate fails, or when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JoinGate {
    /// It is allowed, unless a gate answers that it is not.
    #[default]
    FailOpen,
    /// It is refused, unless at least one gate allows it and none fails.
    FailClosed,
}

/// Bounds with stated defaults. What goes beyond one is refused with an error that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest name of a stream, group, item, subscription, function or trigger. Default 512 bytes.
    pub name_bytes: usize,
    /// Largest value of an item or payload of an event. Default 8 MiB.
    pub value_bytes: usize,
    /// Largest group: its items as a list with ids and revisions. Default 64 MiB, so that a list fits a frame.
    pub group_bytes: usize,
    /// Most operations of one update. Default 10,000.
    pub update_ops: usize,
    /// Deepest nesting of a JSON value; `[]` and `{}` count 1. Default 128.
    pub json_depth: usize,
    /// Most subscriptions of one connection. Default 1,000.
    pub subscriptions: usize,
    /// Most functions, and most triggers, of one worker. Default 10,000 each.
    pub registrations: usize,
    /// Most calls that one worker may be running for others. Default 1,024.
    pub calls_in_flight: usize,
    /// Most events that may wait for the handler of one trigger. Default 100,000.
    pub trigger_events: usize,
    /// Most bytes of events that may wait for the handler of one trigger. Default 64 MiB.
    pub trigger_bytes: usize,
}

impl Limits {
    /// The most that [`Limits::name_bytes`] may be. With [`Limits::MAX_VALUE_BYTES`] it keeps a change within
    /// one record of the log.
    pub const MAX_NAME_BYTES: usize = 64 << 10;
    /// The most that [`Limits::value_bytes`] may be.
    pub const MAX_VALUE_BYTES: usize = 128 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            name_bytes: 512,
            value_bytes: 8 << 20,
            group_bytes: 64 << 20,
            update_ops: 10_000,
            json_depth: 128,
            subscriptions: 1_000,
            registrations: 10_000,
            calls_in_flight: 1_024,
            trigger_events: 100_000,
            trigger_bytes: 64 << 20,
        }
    }
}

/// Time limits with stated defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a function of a worker may take to answer. Default 30 s.
    pub call_ms: u64,
    /// How long a stop waits for calls that workers are running. Default 10 s.
    pub stop_ms: u64,
    /// How long the `auth_function` may take to vouch for a connection, the time until it is registered included:
    /// after a restart, clients come back before workers. Default 10 s.
    pub auth_ms: u64,
    /// For how long the functions and triggers of a worker that vanished are waited for. Default 30 s.
    pub gate_grace_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { call_ms: 30_000, stop_ms: 10_000, auth_ms: 10_000, gate_grace_ms: 30_000 }
    }
}
