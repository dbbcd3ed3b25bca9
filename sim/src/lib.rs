//! Headwater's sim.
