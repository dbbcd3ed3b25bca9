//! Deterministic simulations of Headwater, with faults drawn from a seed, and oracles that judge what its clients saw.
//!
//! There are three kinds of worlds. [`world`] is the core with its store, its clients and a network of queues, one step
//! after the other: the fastest and the roughest. [`server`] is the real server on a simulated network, clock and disk.
//! [`storage`] is the store alone. Each is drawn from its seed, and the same seed gives the same run.
#![forbid(unsafe_code)]

pub mod disk;
mod hash;
pub mod many;
pub mod oracle;
pub mod power;
mod process;
pub mod random;
pub mod server;
pub mod storage;
pub mod trace;
pub mod world;
