//! Headwater, the server around `headwater-core`.

pub mod config;
