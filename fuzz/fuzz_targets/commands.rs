//! The fuzzing engine's side of [`headwater_fuzz::commands`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::commands(data));
