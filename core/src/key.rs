//! Handles for what has no name of its own.

/// Declares a handle that is never used twice in a run.
macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    };
}

key_type!(
    /// The runtime's handle for a worker's connection.
    WorkerKey
);
key_type!(
    /// The runtime's handle for a subscriber's connection.
    SessionKey
);
key_type!(
    /// The hub's handle for a channel.
    ChannelKey
);
key_type!(
    /// The store's handle for an allowed join that is remembered. Never used twice in a log: one that is given out
    /// after a restart is above all that the log holds.
    JoinKey
);
key_type!(
    /// The handle of a trigger that a worker has bound to a function.
    BindingKey
);
key_type!(
    /// The handle of a join that waits for its gate.
    GateKey
);
key_type!(
    /// The handle of a leave on its way to one handler.
    LeaveKey
);
