use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{DEADLINE, Process, say, to_the_end};

/// How a server is to be started: what goes into its configuration, and what it runs under.
#[derive(Clone)]
pub struct Setup {
    folder: Arc<TempDir>,
    worker_port: u16,
    stream_port: u16,
    data: PathBuf,
    streams: Value,
    store: Value,
    own: Value,
    limits: Value,
    timeouts: Value,
    log: Option<String>,
    count_syncs: bool,
    outlive_file_limit: bool,
    open_files: Option<u32>,
}

impl Setup {
    /// A new temporary folder, free ports, the file store, everything else as it is by default.
    pub fn new() -> Setup {
        let folder = TempDir::with_prefix("headwater-test-").expect("a temporary folder can be made");
        let data = folder.path().join("data");
        Setup {
            folder: Arc::new(folder),
            worker_port: 0,
            stream_port: 0,
            data,
            streams: json!({}),
            store: json!({}),
            own: json!({}),
            limits: json!({}),
            timeouts: json!({}),
            log: None,
            count_syncs: false,
            outlive_file_limit: false,
            open_files: None,
        }
    }

    /// Further settings of the streams, such as `{"auth_function": "auth"}`.
    pub fn streams(mut self, settings: Value) -> Setup {
        self.streams = settings;
        self
    }

    /// Further settings of the store, such as `{"durability": "interval"}`.
    pub fn store(mut self, settings: Value) -> Setup {
        self.store = settings;
        self
    }

    /// Further settings of Headwater's own, such as `{"worker_token": "secret"}`.
    pub fn own(mut self, settings: Value) -> Setup {
        self.own = settings;
        self
    }

    /// Time limits that differ from the defaults, such as `{"idle_timeout_ms": 500}`.
    pub fn timeouts(mut self, timeouts: Value) -> Setup {
        self.timeouts = timeouts;
        self
    }

    /// Limits that differ from the defaults, such as `{"subscriptions": 3}`.
    pub fn limits(mut self, limits: Value) -> Setup {
        self.limits = limits;
        self
    }

    /// Where the store keeps its files.
    pub fn data(mut self, data: &Path) -> Setup {
        self.data = data.to_owned();
        self
    }

    /// Ports that are not to be chosen by the system: the worker port and the stream port.
    pub fn ports(mut self, worker: u16, stream: u16) -> Setup {
        self.worker_port = worker;
        self.stream_port = stream;
        self
    }

    /// What it logs, as in `HEADWATER_LOG`.
    pub fn log(mut self, filter: &str) -> Setup {
        self.log = Some(filter.to_owned());
        self
    }

    /// Runs it under strace, which writes down every `fdatasync`.
    pub fn count_syncs(mut self) -> Setup {
        self.count_syncs = true;
        self
    }

    /// Runs it so that a write beyond the limit of [`Server::limit_files`] is an error, and not its end.
    pub fn outlive_file_limit(mut self) -> Setup {
        self.outlive_file_limit = true;
        self
    }

    /// How many files it may have open, and no more.
    pub fn open_files(mut self, most: u32) -> Setup {
        self.open_files = Some(most);
        self
    }

    /// The folder that everything of this server is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration and gives its path.
    pub fn write_config(&self) -> PathBuf {
        let store = json!({ "store_method": "file_based", "file_path": self.data });
        let streams = json!({
            "host": "127.0.0.1",
            "port": self.stream_port,
            "adapter": { "class": "modules::stream::adapters::KvStore", "config": merged(store, &self.store) },
        });
        let own = json!({
            "worker_host": "127.0.0.1",
            "worker_port": self.worker_port,
            "limits": self.limits,
            "timeouts": self.timeouts,
        });
        // JSON is YAML.
        let config = json!([
            { "class": "modules::stream::StreamModule", "config": merged(streams, &self.streams) },
            { "class": "headwater", "config": merged(own, &self.own) },
        ]);
        let path = self.folder().join("headwater.yaml");
        std::fs::write(&path, format!("{config:#}\n")).expect("the configuration can be written");
        path
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(self) -> Server {
        let mut process = Process::spawn("headwater", &mut self.command());
        let (workers, streams) = read_report(&mut process).await;
        let pid = match self.count_syncs {
            true => only_child_of(process.id()).expect("strace has one child"),
            false => process.id(),
        };
        let setup = self.ports(port_of(&workers), port_of(&streams));
        Server { process, pid, workers, streams, setup }
    }

    /// Starts the server with the expectation that it does not come up, and gives how it ended and what it
    /// said on stderr.
    pub async fn start_and_fail(&self) -> (ExitStatus, String) {
        let mut process = Process::spawn("headwater", &mut self.command());
        let status = process.exited(DEADLINE).await;
        (status, process.stderr())
    }

    /// Starts the server and kills it as a power cut would, so long after that, whatever it is doing then.
    pub async fn start_and_kill9(&self, after: Duration) {
        let mut process = Process::spawn("headwater", &mut self.command());
        tokio::time::sleep(after).await;
        process.kill().await;
    }

    fn command(&self) -> Command {
        let mut command = if self.count_syncs {
            let mut strace = strace();
            strace.args(["-f", "-e", "trace=fdatasync", "-o"]).arg(self.syncs_file()).arg(binary());
            strace
        } else if self.outlive_file_limit {
            // Signals that are ignored stay so in what the shell becomes.
            let mut shell = Command::new("sh");
            shell.args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#]).arg(binary());
            shell
        } else if let Some(most) = self.open_files {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", r#"ulimit -n "$1"; shift; exec "$0" "$@""#])
                .arg(binary())
                .arg(most.to_string());
            shell
        } else {
            Command::new(binary())
        };
        command.arg("--config").arg(self.write_config()).current_dir(self.folder());
        if let Some(filter) = &self.log {
            command.env("HEADWATER_LOG", filter);
        }
        command
    }

    fn syncs_file(&self) -> PathBuf {
        self.folder().join("syncs")
    }
}

impl Default for Setup {
    fn default() -> Setup {
        Setup::new()
    }
}

/// A running server: the real binary, on its own ports and in its own folder.
pub struct Server {
    process: Process,
    pid: u32,
    workers: String,
    streams: String,
    setup: Setup,
}

impl Server {
    /// Starts one with the defaults.
    pub async fn start() -> Server {
        Setup::new().start().await
    }

    /// The address of its worker port.
    pub fn workers(&self) -> &str {
        &self.workers
    }

    /// The address of its stream port.
    pub fn streams(&self) -> &str {
        &self.streams
    }

    /// Its worker port and its stream port.
    pub fn ports(&self) -> (u16, u16) {
        (port_of(&self.workers), port_of(&self.streams))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its setup, with the ports it has.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The lines of its start-up report.
    pub fn report(&self) -> &[String] {
        self.process.printed()
    }

    /// What it has written to stderr so far; everything once it has ended.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// What it counts: names, with their labels if they have some, and values.
    pub async fn metrics(&self) -> BTreeMap<String, u64> {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = to_the_end(say(&self.workers, request).await).await;
        let (_, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let of_line = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter(|line| !line.starts_with('#')).filter_map(of_line).collect()
    }

    /// The memory that it takes right now, in bytes.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("the system tells about a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        kib.unwrap_or_else(|| panic!("no memory in {status:?}")) << 10
    }

    /// Kills it as a power cut would: nothing gets a chance to finish.
    pub async fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.process.exited(DEADLINE).await;
    }

    /// Starts it again after it ended, on the same ports and the same data.
    pub async fn restart(self) -> Server {
        let setup = self.setup.clone();
        drop(self);
        setup.start().await
    }

    /// Asks it to stop, without waiting for it.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself and gives its exit code, if it has one.
    pub async fn exited(&mut self) -> Option<i32> {
        self.process.exited(DEADLINE).await.code()
    }

    /// Asks it to stop and waits until it has: its exit code, if it has one.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.ask_to_stop();
        self.exited().await
    }

    /// How often it has synced its files. Only after it ended, and only when its setup counts syncs.
    pub fn syncs(&self) -> usize {
        let trace = std::fs::read_to_string(self.setup.syncs_file()).expect("strace has written its file");
        // A call that another thread interrupts is written in two lines; its result is on the last.
        trace.lines().filter(|line| line.contains("fdatasync") && line.trim_end().ends_with("= 0")).count()
    }

    /// From now on it can write no file past this many bytes; without a limit, any file again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        let limited = prlimit(Some(self.process_id()), Resource::Fsize, limit);
        limited.unwrap_or_else(|e| panic!("headwater's files could not be limited: {e}"));
    }

    fn process_id(&self) -> Pid {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a process id")
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.process_id(), signal)
            .unwrap_or_else(|e| panic!("headwater could not get {signal:?}: {e}"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without strace, which is killed next, it would go on.
        if self.setup.count_syncs && only_child_of(self.process.id()) == Some(self.pid) {
            let _ = kill_process(self.process_id(), Signal::KILL);
        }
    }
}

/// Runs the binary with these arguments until it ends: how it ended, its stdout and its stderr.
pub async fn run_to_exit(arguments: &[&str]) -> (ExitStatus, String, String) {
    run_with_env(arguments, &[]).await
}

/// The same with these variables in its environment.
pub async fn run_with_env(arguments: &[&str], env: &[(&str, &str)]) -> (ExitStatus, String, String) {
    let mut process = spawn_with_env(arguments, env);
    process.close_stdin();
    let status = process.exited(DEADLINE).await;
    (status, process.printed().join("\n"), process.stderr())
}

/// Starts the binary with these arguments and these variables in its environment.
pub fn spawn_with_env(arguments: &[&str], env: &[(&str, &str)]) -> Process {
    Process::spawn("headwater", Command::new(binary()).args(arguments).envs(env.iter().copied()))
}

/// An object with the members of another one put into it.
fn merged(mut object: Value, members: &Value) -> Value {
    let members = members.as_object().expect("settings are an object");
    for (key, value) in members {
        object[key] = value.clone();
    }
    object
}

/// The binary that cargo built beside this test.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    let binary = folder.join("headwater");
    assert!(binary.exists(), "{} is missing: build it first with `cargo build`", binary.display());
    binary
}

fn strace() -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("strace").exists()));
    assert!(found, "strace is missing: `apt-get install strace`, or run tests/run, which does it");
    Command::new("strace")
}

/// strace runs the server as its only child, and takes no signals for it.
fn only_child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.trim().parse().ok()
}

/// Reads the start-up report up to `ready`: the addresses of the worker port and the stream port.
async fn read_report(process: &mut Process) -> (String, String) {
    let (mut workers, mut streams) = (None, None);
    while let Some(line) = process.next_line(DEADLINE, "the line `ready`").await {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("workers") => workers = words.next().map(str::to_owned),
            Some("streams") => streams = words.next().map(str::to_owned),
            Some("ready") => {
                let workers = workers.expect("the report names the worker port before `ready`");
                let streams = streams.expect("the report names the stream port before `ready`");
                return (workers, streams);
            }
            _ => {}
        }
    }
    let status = process.exited(DEADLINE).await;
    panic!("headwater ended before it was ready: {status}");
}

fn port_of(address: &str) -> u16 {
    let port = address.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("an address ends with its port, unlike {address:?}"))
}
