//! A client's connection: what is on its way in both directions. What is sent on one connection arrives in order; what
//! breaks is the connection as a whole, and its ends learn of that at different times.

use std::collections::VecDeque;

use headwater_core::key::{SessionKey, WorkerKey};
use serde_json::Value;

use crate::trace::Who;

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) who: Who,
    pub(super) end: End,
    /// To the server.
    pub(super) up: VecDeque<Up>,
    /// To the client.
    pub(super) down: VecDeque<Down>,
    /// Nothing moves before this, in milliseconds.
    pub(super) stalled_until: u64,
    /// The client does not read before this.
    pub(super) unread_until: u64,
    /// The client uses it.
    pub(super) client_has_it: bool,
    /// The server knows of it.
    pub(super) server_has_it: bool,
}

/// Who the server takes the client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Worker(WorkerKey),
    Session(SessionKey),
}

/// On its way to the server.
#[derive(Debug)]
pub(super) enum Up {
    /// The handshake, with its path and query.
    Open(String),
    Text(Value),
    Close,
}

/// On its way to the client.
#[derive(Debug)]
pub(super) enum Down {
    Text(Value),
    Close,
}

impl Link {
    pub(super) fn new(who: Who, end: End, path: String) -> Link {
        Link {
            who,
            end,
            up: VecDeque::from([Up::Open(path)]),
            down: VecDeque::new(),
            stalled_until: 0,
            unread_until: 0,
            client_has_it: true,
            server_has_it: false,
        }
    }

    /// Whether something could move up at this moment.
    pub(super) fn has_up(&self, now: u64) -> bool {
        !self.up.is_empty() && self.stalled_until <= now
    }

    /// Whether something could move down at this moment.
    pub(super) fn has_down(&self, now: u64) -> bool {
        !self.down.is_empty()
            && self.stalled_until <= now
            && (self.unread_until <= now || !self.client_has_it)
    }

    /// How many calls wait for a worker.
    pub(super) fn calls_waiting(&self) -> usize {
        let is_call = |down: &&Down| matches!(down, Down::Text(text) if text["type"] == "invokefunction");
        self.down.iter().filter(is_call).count()
    }
}
