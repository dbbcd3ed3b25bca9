//! First of all: one seed is one run, byte for byte, also in another process. Without this, no other test of the
//! simulation means anything.

use std::process::Command;

use headwater_sim::many::{Kind, run};

/// How many worlds of each kind are compared.
const COMPARED: [(Kind, u64); 3] = [(Kind::Core, 300), (Kind::Server, 10), (Kind::Storage, 300)];

#[test]
fn one_seed_is_one_run_twice_and_in_another_process() {
    for (kind, count) in COMPARED {
        let mut meta = Command::new(env!("CARGO_BIN_EXE_headwater-sim"));
        meta.args(["meta", "--worlds", kind.name(), "--seeds", &format!("0..{count}")]);
        let output = meta.output().expect("the simulation runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(&format!("{count} {kind} worlds")), "{said}");
    }
}

#[test]
fn another_seed_is_another_run() {
    for (kind, _) in COMPARED {
        let [one, other] = [1, 2].map(|seed| run(&*kind.draw(seed)).text());
        assert_ne!(one, other, "{kind} worlds");
    }
}
