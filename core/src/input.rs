//! What the core is told.

use crate::key::{SessionKey, WorkerKey};
use crate::log::WriteNumber;
use crate::name::Target;
use crate::rng::Uuid;
use crate::store::{Load, Loaded};
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
    /// What [`crate::Effect::Persist`] asked for is done.
    Persisted {
        /// Its number.
        through: WriteNumber,
    },
    /// What [`crate::Effect::Persist`] asked for could not be done; what is on the disk is not known. The file is never
    /// written again.
    PersistFailed {
        /// What the system said.
        reason: String,
    },
    /// The part of a checkpoint of [`crate::Effect::Save`] is durable.
    Saved,
    /// Some of its groups may be there all the same, each as a whole.
    SaveFailed {
        /// What the system said.
        reason: String,
    },
    /// Something was read from the checkpoint.
    Loaded {
        /// What [`crate::Effect::Load`] asked for.
        load: Load,
        /// What was found, or why nothing can be read.
        result: Result<Loaded, String>,
    },
    /// Time has passed, at least up to [`crate::Core::next_deadline`].
    Tick,
    /// The server is to stop: take no more calls, answer those under way, then [`crate::Effect::Stopped`].
    Stop,
}
