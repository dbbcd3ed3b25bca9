//! Deterministic simulations of Headwater: the real server on a simulated network, clock and disk, with faults drawn
//! from a seed, and oracles that judge what its clients saw.
//!
//! A [`World`] is drawn from its seed and run to a [`Trace`](trace::Trace): everything that its clients sent and got,
//! in order, as decoded messages with times. The same seed gives the same trace. [`oracle::check`] reads a trace and
//! says which guarantee it breaks, if any; it shares no code with the server.
#![forbid(unsafe_code)]

mod client;
pub mod disk;
pub mod oracle;
pub mod platform;
pub mod power;
pub mod random;
pub mod storage;
pub mod trace;
mod world;

pub use world::{Stuck, World};
