//! Headwater, the server around [`headwater_core`].
//!
//! It decides nothing: the core does. Connections parse frames and put them into one bounded inbox;
//! the engine, the one task that owns the core, takes them out, carries out the core's effects, and puts frames into
//! the mailboxes that connections send from; the log writer makes batches durable; delivery knows who is in which
//! channel. `ARCHITECTURE.md` has the picture, and who may wait for whom.
#![forbid(unsafe_code)]

mod access;
pub mod backup;
pub mod bench;
pub mod config;
mod connection;
mod delivery;
mod engine;
pub mod files;
mod frame;
mod handshake;
mod http;
mod inbox;
mod mailbox;
mod metrics;
mod notes;
pub mod platform;
mod progress;
mod server;
mod socket;
pub mod store;
mod wire;

pub use server::{Recovery, ServeError, Started, serve};
