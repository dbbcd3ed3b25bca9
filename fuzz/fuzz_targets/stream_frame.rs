//! The fuzzing engine's side of [`headwater_fuzz::stream_frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::stream_frame(data));
