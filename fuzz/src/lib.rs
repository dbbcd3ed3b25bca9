//! Headwater's fuzz.
