//! Headwater's tests.
