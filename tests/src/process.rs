use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use crate::{DEADLINE, within};

/// A child process whose lines can be waited for. What it wrote is shown when the test fails, and it is killed
/// when it is dropped.
pub struct Process {
    name: String,
    child: Child,
    stdout: UnboundedReceiver<String>,
    printed: Vec<String>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it with all three standard streams piped. `name` is what failures call it.
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name} could not be started: {e} ({command:?})"));

        let (lines, stdout) = unbounded_channel();
        let out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });

        let stderr = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&stderr);
        let mut err = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let stderr_reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while matches!(err.by_ref().read_until(b'\n', &mut line), Ok(n) if n > 0) {
                log.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });

        let name = name.to_owned();
        Process { name, child, stdout, printed: Vec::new(), stderr, stderr_reader: Some(stderr_reader) }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on its stdout, or `None` when it closed it.
    pub async fn next_line(&mut self, limit: Duration, what: &str) -> Option<String> {
        let line = within(limit, &format!("{what} from {}", self.name), self.stdout.recv()).await?;
        self.printed.push(line.clone());
        Some(line)
    }

    /// Waits for one line on stdout that starts with `prefix` and gives what follows it.
    pub async fn wait_for(&mut self, prefix: &str, limit: Duration) -> String {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.next_line(left, &format!("a line {prefix:?}")).await {
                Some(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return rest.trim().to_owned();
                    }
                }
                None => panic!("{} ended before it printed {prefix:?}", self.name),
            }
        }
    }

    /// Writes one line to its stdin.
    pub fn send_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).unwrap_or_else(|e| {
            panic!("{} does not read its stdin any more: {e}", self.name);
        });
    }

    /// Closes its stdin.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it has ended.
    pub async fn exited(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        while self.next_line(end.saturating_duration_since(Instant::now()), "the end").await.is_some() {}
        // Its stdout is closed, so it is on its way out.
        let status = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if Instant::now() < end => tokio::task::yield_now().await,
                None => panic!("{} closed its stdout but did not end within {limit:?}", self.name),
            }
        };
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().expect("reading stderr does not panic");
        }
        status
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().unwrap_or_else(|e| panic!("{} could not be killed: {e}", self.name));
        self.exited(DEADLINE).await;
    }

    /// The lines it has printed so far, as far as they were read.
    pub fn printed(&self) -> &[String] {
        &self.printed
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already: then there is nothing to kill, and the wait only collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            while let Ok(line) = self.stdout.try_recv() {
                self.printed.push(line);
            }
            eprintln!("--- {}: stdout\n{}", self.name, self.printed.join("\n"));
            eprintln!("--- {}: stderr\n{}", self.name, self.stderr());
        }
    }
}
