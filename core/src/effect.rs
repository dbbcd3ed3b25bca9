//! What the core wants done.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::call::{Caller, Outcome};
#[cfg(doc)]
use crate::config::AuthFailure;
use crate::error::CallError;
use crate::key::{ChannelKey, SessionKey, WorkerKey};
use crate::log::{Revision, SegmentNumber, Write};
use crate::name::{FunctionId, GroupPath, SubscriptionId, Target};
use crate::store::{Joined, Load, Save};
use crate::time::WallMs;
use crate::wire::stream::{StreamError, SyncFrame, ToSubscriber};
use crate::wire::worker::ToWorker;

/// Something for the runtime to do.
///
/// Effects are executed in the order in which they are returned, and those of one call of
/// [`crate::Core::handle`] before those of the next. What goes to one connection arrives there in that order.
/// In particular: a session gets the frames of a channel from its `Attach` on, and none after its `Detach`; a
/// `Sync` holds exactly what was broadcast before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write this to the log and, if it says so, make it durable; then tell [`crate::Input::Persisted`], or
    /// [`crate::Input::PersistFailed`]. There is never a second one before the answer to the first.
    Persist(Write),
    /// Make this part of a checkpoint durable, all or nothing; then tell [`crate::Input::Saved`], or
    /// [`crate::Input::SaveFailed`]. There is never a second one before the answer to the first.
    Save(Save),
    /// These files of the log are not needed any more. They go after all [`Effect::Persist`] before this.
    Discard(Vec<SegmentNumber>),
    /// Read this from the checkpoint, as the last [`Effect::Save`] that was answered has left it, or a later one; then
    /// tell [`crate::Input::Loaded`].
    Load(Load),
    /// Answer a call. Without an `invocation_id` the caller wants no answer.
    Reply {
        /// Who called.
        worker: WorkerKey,
        /// The caller's id of the call.
        invocation_id: Option<String>,
        /// What was called.
        function_id: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// Send a frame to a worker.
    ToWorker {
        /// To whom.
        worker: WorkerKey,
        /// What.
        frame: ToWorker,
    },
    /// Close a worker's connection: it was replaced by a newer one.
    CloseWorker {
        /// Whose.
        worker: WorkerKey,
    },
    /// The session gets what is broadcast to the channel from now on.
    Attach {
        /// Who.
        session: SessionKey,
        /// To what.
        channel: ChannelKey,
    },
    /// The session gets no more of what is broadcast to the channel.
    Detach {
        /// Who.
        session: SessionKey,
        /// From what.
        channel: ChannelKey,
    },
    /// The session's outbox, which had overflowed and is empty now, takes frames again.
    Resume {
        /// Whose.
        session: SessionKey,
        /// What it follows; see [`Outbox::resume`](crate::hub::Outbox::resume).
        follows: BTreeSet<Target>,
    },
    /// Send the state of a subscription's target; an older one of the same subscription that still waits in the
    /// outbox is dropped.
    Sync {
        /// To whom.
        session: SessionKey,
        /// For which of its subscriptions.
        subscription: SubscriptionId,
        /// The state.
        frame: SyncFrame,
        /// How many sent events of the target have not even come to the outbox, since the session was told last.
        missed: u64,
    },
    /// Tell a subscriber that it did something wrong.
    Refuse {
        /// Whom.
        session: SessionKey,
        /// What.
        error: StreamError,
    },
    /// Answer the session's handshake, which waits for this with [`AuthFailure::Http401`]; with
    /// [`AuthFailure::Close`] it never comes.
    Admit {
        /// Whose.
        session: SessionKey,
    },
    /// Tell a subscriber that a join is refused.
    Unauthorized {
        /// Whom.
        session: SessionKey,
        /// The join of what.
        target: Target,
        /// When.
        at: WallMs,
    },
    /// Close a session that nobody vouched for, once it was sent what is queued. A handshake that waits is answered
    /// with HTTP 401.
    CloseSession {
        /// Whose.
        session: SessionKey,
    },
    /// Send a frame to all sessions of a channel.
    Broadcast {
        /// To whom.
        channel: ChannelKey,
        /// What; encoded once, however many they are.
        frame: Arc<ToSubscriber>,
    },
    /// For the operator's log.
    Note(Notice),
    /// After [`crate::Input::Stop`]: nothing is left to wait for. Send what is queued and close everything.
    Stopped,
}

impl Effect {
    pub(crate) fn reply(caller: Caller, outcome: Outcome) -> Effect {
        let Caller { worker, invocation_id, function_id } = caller;
        Effect::Reply { worker, invocation_id, function_id: function_id.to_string(), outcome }
    }
}

/// Something that an operator wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The handler of a `stream` trigger, or its condition, has failed. The event is not handled again.
    HandlerFailed {
        /// Which function.
        function: FunctionId,
        /// The event's group.
        group: GroupPath,
        /// The event's revision.
        revision: Revision,
        /// How.
        error: CallError,
    },
    /// The handler of a `stream` trigger is slower than its events come: the oldest that wait are dropped.
    HandlerTooSlow {
        /// Which function.
        function: FunctionId,
    },
    /// So many events were dropped: from then on until it had caught up, or with those that waited for it when its
    /// trigger was gone.
    EventsDropped {
        /// Of which function.
        function: FunctionId,
        /// How many.
        count: u64,
    },
    /// A gate, or its condition, has failed.
    GateFailed {
        /// Which function.
        function: FunctionId,
        /// The join that it was asked about.
        join: Joined,
        /// How.
        error: CallError,
    },
    /// A handler of leaves, or its condition, has failed. The leave is not told again.
    LeaveFailed {
        /// Which function.
        function: FunctionId,
        /// The join whose leave it was.
        join: Joined,
        /// How.
        error: CallError,
    },
    /// The `auth_function` has failed, so a session is not served.
    AuthFailed {
        /// Which session.
        session: SessionKey,
        /// Which function.
        function: FunctionId,
        /// How.
        error: CallError,
    },
    /// A worker registered more functions than it may; this one can't be called.
    TooManyFunctions {
        /// Who.
        worker: WorkerKey,
        /// Which function.
        function: FunctionId,
    },
    /// A worker registered a function that another connected worker has: it is refused, and not tried again.
    FunctionTaken {
        /// Who.
        worker: WorkerKey,
        /// Which function.
        function: FunctionId,
        /// Who has it.
        owner: WorkerKey,
    },
    /// A worker registered a function that the server has itself; calls go there.
    ReservedFunction {
        /// Who.
        worker: WorkerKey,
        /// Which function.
        function: FunctionId,
    },
    /// A worker sent a frame that can't be used and that has no answer.
    BadWorkerFrame {
        /// Who.
        worker: WorkerKey,
        /// What is wrong with it.
        error: CallError,
    },
}
