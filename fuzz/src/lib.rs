//! Fuzz targets: what comes from outside never makes the core panic, and what it
//! answers is well formed and what the reference model says.
//!
//! Each target's body is a function here, so that plain tests replay its corpus and only the fuzzing engine itself
//! needs more than `cargo`. See `README.md` for how to fuzz.

mod commands;
mod effects;
mod input;
mod seen;
mod stream_frame;
mod update_ops;
mod worker_frame;

pub use commands::commands;
pub use stream_frame::stream_frame;
pub use update_ops::update_ops;
pub use worker_frame::worker_frame;
