//! What the core is told.

use crate::key::{SessionKey, WorkerKey};
use crate::log::BatchNumber;
use crate::name::Target;
use crate::rng::Uuid;
use crate::wire::stream::{FromSubscriber, Handshake, StreamError};
use crate::wire::worker::{BadFrame, FromWorker};

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A worker connected.
    WorkerConnected {
        /// Who.
        worker: WorkerKey,
    },
    /// It sent a frame, see [`crate::wire::worker::parse`].
    WorkerFrame {
        /// Who.
        worker: WorkerKey,
        /// What.
        frame: Result<FromWorker, BadFrame>,
    },
    /// It is gone.
    WorkerDisconnected {
        /// Who.
        worker: WorkerKey,
    },
    /// A call of [`crate::wire::worker::ToWorker::Invoke`] was not sent: too much waits for the worker already.
    CallNotDelivered {
        /// Who was to run it.
        worker: WorkerKey,
        /// The call.
        invocation_id: Uuid,
    },
    /// A subscriber connected.
    SessionConnected {
        /// Who.
        session: SessionKey,
        /// How it asked to be connected.
        handshake: Handshake,
        /// What its path joins, see [`crate::wire::stream::parse_path`].
        join: Option<Result<Target, StreamError>>,
    },
    /// It sent a frame, see [`crate::wire::stream::parse`].
    SessionFrame {
        /// Who.
        session: SessionKey,
        /// What.
        frame: Result<FromSubscriber, StreamError>,
    },
    /// It is gone.
    SessionDisconnected {
        /// Who.
        session: SessionKey,
    },
    /// Its outbox was full and has dropped what waited there.
    SessionOverflowed {
        /// Whose.
        session: SessionKey,
    },
    /// After that: its outbox is empty.
    SessionDrained {
        /// Whose.
        session: SessionKey,
    },
    /// The batch of [`crate::Effect::Persist`] is durable, and all before it.
    Persisted {
        /// Its number.
        through: BatchNumber,
    },
    /// The batch of [`crate::Effect::Persist`] could not be made durable; what is on the disk is not known.
    PersistFailed {
        /// What the system said, and what the operator can do.
        reason: String,
    },
    /// Time has passed, at least up to [`crate::Core::next_deadline`].
    Tick,
    /// The server is to stop: take no more calls, answer those under way, then [`crate::Effect::Stopped`].
    Stop,
}
