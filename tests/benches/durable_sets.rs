//! How fast acknowledged, synced sets are, beside what the machine's own `write` + `fdatasync` takes in the same run.
//!
//! `cargo build --release && cargo bench -p headwater-tests --bench durable_sets`
//!
//! Three rounds; each measures the floor, then the server; the medians are the result. Sets go to one group of 1,000
//! items, values are 64 bytes. The clients run on the same machine and take their share of it; the processor time is
//! the server's own.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use headwater_tests::{Server, Setup, Worker, stored};

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 4;
const WINDOW: usize = 64;
const LOAD: Duration = Duration::from_secs(5);
const SAMPLES: usize = 2_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("tokio starts");
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (floor_50, floor_99) = floor();
        let (set_50, set_99) = runtime.block_on(latency());
        let (rate, cpu) = runtime.block_on(throughput());
        let batch = runtime.block_on(sets_of_a_sync());
        rounds.push([floor_50, floor_99, set_50, set_99, set_50 / floor_50, rate, cpu, batch]);
    }
    let titles = [
        "write + fdatasync of 4 KiB, p50 (us)",
        "write + fdatasync of 4 KiB, p99 (us)",
        "one caller, synced set, p50 (us)",
        "one caller, synced set, p99 (us)",
        "one caller, p50 / floor's p50",
        "4 connections x 64 in flight (sets/s)",
        "server's processor time (us/set)",
        "sets to a sync (under strace)",
    ];
    println!("{:<40} {:>10} {:>10} {:>10}", "", "min", "median", "max");
    for (at, title) in titles.iter().enumerate() {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[at]).collect();
        values.sort_by(f64::total_cmp);
        println!("{title:<40} {:>10.1} {:>10.1} {:>10.1}", values[0], values[ROUNDS / 2], values[ROUNDS - 1]);
    }
}

/// p50 and p99 of appending 4 KiB and syncing, in microseconds.
fn floor() -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut file = File::create(folder.path().join("floor")).expect("a file can be made");
    let block = [7; 4096];
    percentiles((0..SAMPLES).map(|_| {
        let start = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).expect("the disk takes 4 KiB");
        start.elapsed()
    }))
}

/// p50 and p99 of one set after the other, in microseconds.
async fn latency() -> (f64, f64) {
    let server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let mut samples = Vec::new();
    for n in 0..SAMPLES {
        let start = Instant::now();
        worker.call("stream::set", set(n)).await.expect("a set succeeds");
        samples.push(start.elapsed());
    }
    percentiles(samples.into_iter())
}

/// How many sets share a sync, in a server that is slowed down by being watched.
async fn sets_of_a_sync() -> f64 {
    let server = Setup::new().count_syncs().start().await;
    let before = server.syncs();
    let sets = load(&server, LOAD / 5).await;
    sets as f64 / (server.syncs() - before) as f64
}

/// Acknowledged sets a second, and the server's processor time for each, in microseconds.
async fn throughput() -> (f64, f64) {
    let server = Server::start().await;
    let cpu_before = cpu_time(server.pid());
    let start = Instant::now();
    let sets = load(&server, LOAD).await;
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = cpu_time(server.pid()) - cpu_before;
    (sets as f64 / elapsed, cpu.as_micros() as f64 / sets as f64)
}

/// Sets from several connections, each with a window of its own. Returns how many were acknowledged.
async fn load(server: &Server, time: Duration) -> usize {
    let mut workers = Vec::new();
    for _ in 0..CONNECTIONS {
        workers.push(Worker::connect(server.workers()).await);
    }
    let start = Instant::now();
    let running: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            tokio::spawn(async move {
                let sets = (0..).take_while(|n| n % WINDOW != 0 || start.elapsed() < time).map(set);
                worker.pipeline("stream::set", WINDOW, sets).await
            })
        })
        .collect();
    let mut sets = 0;
    for worker in running {
        sets += worker.await.expect("a worker does not fail");
    }
    sets
}

fn set(n: usize) -> String {
    let value = format!(r#"{{"id":"i{:03}","n":{n:>10},"text":"{:-<29}"}}"#, n % 1_000, "");
    stored("bench", "g", &format!("i{:03}", n % 1_000), value)
}

/// User and system time of a process so far. Fields 14 and 15 of its stat line, in hundredths of a second.
fn cpu_time(pid: u32) -> Duration {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the system tells a process's time");
    let (_, fields) = stat.rsplit_once(')').expect("the name ends with a bracket");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}

fn percentiles(samples: impl Iterator<Item = Duration>) -> (f64, f64) {
    let mut micros: Vec<f64> = samples.map(|sample| sample.as_secs_f64() * 1e6).collect();
    micros.sort_by(f64::total_cmp);
    (micros[micros.len() / 2], micros[micros.len() * 99 / 100])
}
