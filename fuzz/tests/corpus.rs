//! Replays the committed corpora without a fuzzing engine, and changes their inputs blindly.
//!
//! libFuzzer itself can't do that in a plain build: without coverage instrumentation no input of a corpus counts as
//! interesting, and it mutates none.

use std::fs;
use std::path::Path;

/// Replays a target's corpus, then as many inputs that a fixed seed made of it.
fn run(name: &str, target: fn(&[u8]), mutants: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("the corpus can be read").path())
        .collect();
    paths.sort();
    let mut seeds = Vec::new();
    for path in paths {
        println!("{}", path.display());
        let seed = fs::read(&path).expect("the corpus can be read");
        target(&seed);
        seeds.push(seed);
    }
    assert!(seeds.len() >= 20, "the corpus is there");
    let mut random = Random(1);
    for _ in 0..mutants {
        let mutant = random.mutant(&seeds);
        let _shown = Shown(&mutant);
        target(&mutant);
    }
}

#[test]
fn commands() {
    run("commands", headwater_fuzz::commands, 2_000);
}

#[test]
fn stream_frame() {
    run("stream_frame", headwater_fuzz::stream_frame, 20_000);
}

#[test]
fn update_ops() {
    run("update_ops", headwater_fuzz::update_ops, 2_500);
}

#[test]
fn worker_frame() {
    run("worker_frame", headwater_fuzz::worker_frame, 20_000);
}

/// Prints an input if a panic drops it.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the input that failed: \"{}\"", self.0.escape_ascii());
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a usize")
    }

    /// A part of some bytes, up to 32 of them.
    fn part(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len());
        start..bytes.len().min(start + self.below(32))
    }

    /// An input with up to eight changes: bytes replaced, taken out, put in, repeated, or taken from another input.
    fn mutant(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            let part = self.part(&bytes);
            let at = part.start;
            match self.below(6) {
                0 => bytes.splice(part, []).for_each(drop),
                1 => {
                    let repeated = bytes[part].to_vec();
                    bytes.splice(at..at, repeated).for_each(drop);
                }
                2 => {
                    let other = &seeds[self.below(seeds.len())];
                    let taken = other[self.part(other)].to_vec();
                    bytes.splice(at..at, taken).for_each(drop);
                }
                3 => bytes.insert(at, self.next().to_le_bytes()[0]),
                _ if bytes.is_empty() => {}
                4 => bytes[at] ^= 1 << self.below(8),
                _ => bytes[at] = self.next().to_le_bytes()[0],
            }
        }
        bytes
    }
}
