//! Headwater's whole behaviour as one pure, deterministic state machine.
#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod json;
pub mod name;
pub mod ops;
pub mod time;
