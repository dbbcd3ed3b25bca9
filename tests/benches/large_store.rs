//! What a store of many items takes: the time to start, and memory.
//!
//! `cargo build --release && cargo bench -p headwater-tests --bench large_store [-- PART...]`
//!
//! | part | what it measures |
//! |---|---|
//! | `recovery` | log records a second when a server starts after `kill -9`, with nothing in a checkpoint |
//! | `start-1000`, `start-16`, `start-1` | the start after `kill -9` with 10 million items, in groups of so many |
//! | `memory` | the memory of a server with 4 GB of data and a cache of 256 MiB, while items are written and read |
//! | `rewrites` | bytes that go to the disk when the same items change again and again, as a multiple of the log's |
//!
//! Without a name it is all of them; that takes about a quarter of an hour and 12 GB of disk.

use std::time::{Duration, Instant};

use headwater_tests::{Server, Setup, Worker, item, stored};
use serde_json::json;

const CONNECTIONS: usize = 4;
const WINDOW: usize = 256;
const MIB: f64 = (1 << 20) as f64;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("tokio starts");
    // Cargo adds `--bench`.
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("recovery") {
        runtime.block_on(recovery());
    }
    for (part, group) in [("start-1000", 1_000), ("start-16", 16), ("start-1", 1)] {
        if wanted(part) {
            runtime.block_on(start(10_000_000, group));
        }
    }
    if wanted("memory") {
        runtime.block_on(memory());
    }
    if wanted("rewrites") {
        runtime.block_on(rewrites());
    }
}

/// The time of a start after `kill -9`, and what the server says of it.
async fn restart(mut server: Server) -> (Server, Duration, String) {
    server.kill9().await;
    let begun = Instant::now();
    let server = server.restart().await;
    let took = begun.elapsed();
    let line = server.report().iter().find(|line| line.contains("store")).cloned().unwrap_or_default();
    (server, took, line.split("data: ").last().unwrap_or_default().to_owned())
}

async fn recovery() {
    const ITEMS: usize = 2_000_000;
    // No checkpoint.
    let limits = json!({ "checkpoint_log_bytes": 1_u64 << 40, "cache_bytes": 16_u64 << 30 });
    let server = Setup::new().limits(limits).start().await;
    fill(&server, ITEMS, 1_000, 64).await;
    let mut server = server;
    for _ in 0..3 {
        let (restarted, took, said) = restart(server).await;
        server = restarted;
        let rate = ITEMS as f64 / took.as_secs_f64();
        println!("recovery: {ITEMS} records in {:.2} s: {rate:.0} a second ({said})", took.as_secs_f64());
    }
}

async fn start(items: usize, group: usize) {
    let server = Setup::new().limits(json!({ "cache_bytes": 1_u64 << 30 })).start().await;
    let begun = Instant::now();
    fill(&server, items, group, 64).await;
    let filled = begun.elapsed().as_secs_f64();
    println!(
        "start: {items} items, {group} a group, set in {filled:.0} s; memory {:.0} MiB",
        memory_of(&server)
    );
    let mut server = server;
    for _ in 0..3 {
        let (restarted, took, said) = restart(server).await;
        server = restarted;
        let memory = memory_of(&server);
        println!("start: {group} a group: {:.2} s, memory {memory:.0} MiB ({said})", took.as_secs_f64());
    }
}

async fn memory() {
    const ITEMS: usize = 4_000_000;
    const BYTES: usize = 1_000;
    let server = Setup::new().limits(json!({ "cache_bytes": 256 << 20 })).start().await;
    let begun = Instant::now();
    fill(&server, ITEMS, 100, BYTES).await;
    println!(
        "memory: {ITEMS} items of {BYTES} bytes, 100 a group, set in {:.0} s: {:.0} MiB, at most {:.0} MiB",
        begun.elapsed().as_secs_f64(),
        memory_of(&server),
        most_memory_of(&server),
    );
    let mut worker = Worker::connect(server.workers()).await;
    let begun = Instant::now();
    let gets = (0..200_000).map(|n| {
        let n = n * 7_919 % ITEMS;
        item("bench", &format!("g{}", n / 100), &format!("i{n}"))
    });
    let read = worker.pipeline("stream::get", WINDOW, gets).await;
    println!(
        "memory: {read} random reads in {:.1} s: {:.0} MiB, at most {:.0} MiB",
        begun.elapsed().as_secs_f64(),
        memory_of(&server),
        most_memory_of(&server),
    );
}

async fn rewrites() {
    let server = Setup::new().start().await;
    for (items, sets) in [(1_000, 3_000_000), (100_000, 5_000_000)] {
        let before = written_by(&server);
        let mut worker = Worker::connect(server.workers()).await;
        let calls = (0..sets).map(|n| {
            let n = n % items;
            stored("again", &format!("g{}", n / 1_000), &format!("i{n}"), value(n, 64))
        });
        worker.pipeline("stream::set", 1_024, calls).await;
        // Header, tag, names, numbers and the value, as in `core::log`.
        let record = 24 + 1 + 6 + 3 + 6 + 3 + 7 + 65;
        let log = (sets * record) as f64;
        let written = (written_by(&server) - before) as f64;
        println!(
            "rewrites: {items} items, {sets} sets: {:.0} MiB of log, {:.0} MiB written: {:.2} times",
            log / MIB,
            written / MIB,
            written / log
        );
    }
}

/// Sets items, from several connections.
async fn fill(server: &Server, items: usize, group: usize, bytes: usize) {
    let mut running = Vec::new();
    for connection in 0..CONNECTIONS {
        let mut worker = Worker::connect(server.workers()).await;
        running.push(tokio::spawn(async move {
            let share = items / CONNECTIONS;
            let sets = (connection * share..(connection + 1) * share)
                .map(move |n| stored("bench", &format!("g{}", n / group), &format!("i{n}"), value(n, bytes)));
            worker.pipeline("stream::set", WINDOW, sets).await
        }));
    }
    for worker in running {
        worker.await.expect("a worker does not fail");
    }
}

/// A value of so many bytes.
fn value(n: usize, bytes: usize) -> String {
    format!(r#"{{"n":{n:>10},"text":"{:-<1$}"}}"#, "", bytes - 26)
}

fn memory_of(server: &Server) -> f64 {
    status(server, "VmRSS:")
}

fn most_memory_of(server: &Server) -> f64 {
    status(server, "VmHWM:")
}

/// A line of what the system says of a process, in MiB.
fn status(server: &Server, key: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}

/// How many bytes a process has written to files.
fn written_by(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", server.pid())).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a line");
    line.parse().expect("a number")
}
