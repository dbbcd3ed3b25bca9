//! What the server needs from the outside: sockets, clocks, tasks, a disk and randomness.
//!
//! The server is generic over it, so that a simulation runs the same code on a simulated network, clock and disk.
//! Waiting is tokio's own timers in both: a simulation drives them.

mod system;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use headwater_core::time::Now;
use tokio::io::{AsyncRead, AsyncWrite};

pub use system::System;

use crate::store::Disk;

/// A machine to run on.
pub trait Platform: Clone + Send + Sync + 'static {
    /// Accepts connections.
    type Listener: Listener;
    /// Keeps the log.
    type Disk: Disk;

    /// The two clocks.
    fn now(&self) -> Now;

    /// Thirty-two random bytes.
    fn entropy(&self) -> [u8; 32];

    /// Listens on `host:port`; port 0 is any free one.
    fn bind(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Runs a task beside the others.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Runs a task that may block, on a thread of its own where there are threads.
    fn spawn_thread(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()>;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
