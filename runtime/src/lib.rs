//! Headwater, the server around `headwater-core`.
