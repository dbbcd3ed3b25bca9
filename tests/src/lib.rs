//! The harness of Headwater's end-to-end tests: it starts the real binary on free ports with a temporary
//! folder, speaks both wire protocols to the letter, and runs the published clients beside it.
//!
//! Nothing here waits for time. Every wait is for something to happen, has a deadline, and fails with what was
//! waited for and what came instead.

mod bystander;
mod plain;
mod process;
mod puppet;
mod script;
mod server;
mod socket;
mod subscriber;
mod tmpfs;
mod worker;

pub use bystander::{Bystander, still_joins, still_works};
pub use plain::{say, to_the_end};
pub use process::Process;
pub use puppet::{Heard, Puppet, PuppetCall, Sdk};
pub use script::Script;
pub use server::{Server, Setup, run_to_exit, run_with_env, spawn_with_env};
pub use socket::{Incoming, Socket};
pub use subscriber::{Frame, Subscriber};
pub use tmpfs::Tmpfs;
pub use worker::{CallId, Invocation, Outcome, Refusal, Worker, item, stored};

use std::time::Duration;

/// How long anything may take that should take milliseconds: long enough for a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long a script of a published client may run.
pub const SCRIPT_DEADLINE: Duration = Duration::from_secs(90);

/// The future's output, or a panic that says what did not happen in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}
