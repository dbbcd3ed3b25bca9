use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Process, SCRIPT_DEADLINE, Sdk, Server};

/// A script around a published client, in `tests/node`, `tests/python` or `tests/rust-sdk`. It exits with 0 when
/// everything it looked at was as it should be.
pub struct Script {
    process: Process,
    /// Clients leave traces in the home folder; this one goes with the script.
    _home: TempDir,
}

impl Script {
    /// Starts a script of `tests/node`.
    pub fn node(server: &Server, script: &str, arguments: &[&str]) -> Script {
        Script::node_with(server, script, arguments, "")
    }

    /// The same with a token for the worker port; an empty one is none.
    pub fn node_with(server: &Server, script: &str, arguments: &[&str], token: &str) -> Script {
        Script::start(server, script, node().arg(script).args(arguments).env("III_TOKEN", token))
    }

    /// Starts a script of `tests/python`.
    pub fn python(server: &Server, script: &str, arguments: &[&str]) -> Script {
        Script::python_with(server, script, arguments, "")
    }

    /// The same with a token for the worker port; an empty one is none.
    pub fn python_with(server: &Server, script: &str, arguments: &[&str], token: &str) -> Script {
        Script::start(server, script, python().arg(script).args(arguments).env("III_TOKEN", token))
    }

    /// Starts the puppet of an SDK, with a token for the worker port; an empty one is none.
    pub(crate) fn puppet(server: &Server, sdk: Sdk, name: &str, token: &str) -> Script {
        let (mut command, script) = match sdk {
            Sdk::Node => (node(), Some("puppet.mjs")),
            Sdk::Python => (python(), Some("puppet.py")),
            Sdk::Rust => (Command::new(rust_binary("puppet")), None),
        };
        let title = format!("puppet {name} ({sdk:?})");
        Script::start(server, &title, command.args(script).arg(name).env("III_TOKEN", token))
    }

    /// Starts a role of `tests/rust-sdk`.
    pub fn rust(server: &Server, role: &str, arguments: &[&str]) -> Script {
        let mut command = Command::new(rust_binary("headwater-rust-sdk"));
        Script::start(server, role, command.arg(role).args(arguments))
    }

    /// Starts a sample of `tests/samples/rust`.
    pub fn rust_sample(server: &Server, name: &str) -> Script {
        Script::start(server, name, &mut Command::new(rust_binary(&format!("sample_{name}"))))
    }

    /// Starts a script that is not one of the tests' own, such as one of the README, in `folder`; the published
    /// npm packages are there for it.
    pub fn elsewhere(server: &Server, folder: &Path, script: &str) -> Script {
        let packages = self::folder("node").join("node_modules");
        let python = self::folder("python").join(".venv/bin/python");
        needs(&packages.join("iii-sdk"), "the npm packages of the tests are");
        needs(&python, "the Python environment of the tests is");
        let link = folder.join("node_modules");
        if !link.exists() {
            std::os::unix::fs::symlink(packages, link).expect("a link can be made");
        }
        let interpreter = if script.ends_with(".py") { python } else { "node".into() };
        Script::start(server, script, Command::new(interpreter).arg(script).current_dir(folder))
    }

    /// Waits for the script to end, which it must do with 0.
    pub async fn succeeds(mut self) {
        let status = self.process.exited(SCRIPT_DEADLINE).await;
        assert!(status.success(), "a script failed: {status}");
    }

    /// Sends the script a command and waits for the answer: the rest of the line that repeats its first word.
    pub async fn ask(&mut self, command: &str) -> String {
        self.process.send_line(command);
        let word = command.split_whitespace().next().unwrap_or_default();
        self.process.wait_for(word, SCRIPT_DEADLINE).await
    }

    /// Waits for a line that starts with `word`, and gives the rest of it.
    pub async fn wait_for(&mut self, word: &str) -> String {
        self.process.wait_for(word, SCRIPT_DEADLINE).await
    }

    /// Tells the script that there is no more to do, and waits for it to end with 0.
    pub async fn finish(mut self) {
        self.process.close_stdin();
        self.succeeds().await;
    }

    /// The process that it is.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn start(server: &Server, name: &str, command: &mut Command) -> Script {
        let home = TempDir::with_prefix("headwater-home-").expect("a temporary folder can be made");
        command
            .env("HOME", home.path())
            // What a script prints is to be seen when it prints it.
            .env("PYTHONUNBUFFERED", "1")
            .env("HEADWATER_WORKERS", server.workers())
            .env("HEADWATER_STREAMS", server.streams());
        Script { process: Process::spawn(name, command), _home: home }
    }
}

/// Node in the folder of its scripts.
fn node() -> Command {
    let folder = folder("node");
    needs(&folder.join("node_modules/iii-sdk"), "the npm packages of the tests are");
    let mut node = Command::new("node");
    node.args(["--no-warnings", "--experimental-websocket"]).current_dir(folder);
    node
}

/// Python in the folder of its scripts.
fn python() -> Command {
    let folder = folder("python");
    let python = folder.join(".venv/bin/python");
    needs(&python, "the Python environment of the tests is");
    let mut python = Command::new(python);
    python.current_dir(folder);
    python
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A binary of `tests/rust-sdk`, whose target folder is within the one of this test.
fn rust_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let target = test.ancestors().nth(3).expect("tests are in target/<profile>/deps");
    let binary = target.join("rust-sdk/debug").join(name);
    needs(&binary, "the Rust clients of the tests are");
    binary
}

fn needs(path: &Path, what: &str) {
    assert!(path.exists(), "{what} not there ({} is missing): run tests/run, which does it", path.display());
}
