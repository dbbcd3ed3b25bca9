//! Fuzz targets: what comes from outside never makes the core panic, and what it answers is always well formed.
//!
//! Each target's body is a function here, so that plain tests replay its corpus and only the fuzzing engine itself
//! needs more than `cargo`. See `README.md` for how to fuzz.

mod worker_frame;

pub use worker_frame::worker_frame;
