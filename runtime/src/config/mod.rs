//! What an operator can set: one YAML file, its spellings, its defaults and its errors.
//!
//! [`Config::parse`] goes through four steps, each in its file: the YAML becomes plain values (`yaml`), typed
//! access to them knows the path of every key (`reader`) and fills in environment variables (`env`), and the
//! shapes that a file may have (`file`) end up as one [`Config`], Headwater's own settings included
//! (`settings`, `storage`, `access`). A variable is filled in after the YAML was read: its text never changes the file's structure.

mod access;
mod env;
mod file;
mod reader;
mod settings;
mod storage;
#[cfg(test)]
mod tests;
mod yaml;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use headwater_core::config::CoreConfig;

pub use access::{Origins, PortAccess, Token};
use reader::{Origin, Place};

/// Everything an operator can set, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where subscribers connect. Default `0.0.0.0:3112`, and port 31112 for the entry
    /// `modules::streams::StreamModule`.
    pub streams: Listen,
    /// Where workers connect. Default `127.0.0.1:49134`.
    pub workers: Listen,
    /// Who may use the two ports.
    pub access: PortAccess,
    /// Where items are kept.
    pub store: StoreConfig,
    /// How much memory the items may take, in bytes; instead of what the core's configuration says. `None` is a quarter
    /// of the machine's.
    pub cache_bytes: Option<usize>,
    /// What changes behaviour: limits and timeouts of the core.
    pub core: CoreConfig,
    /// Limits and timeouts of connections and queues.
    pub net: NetConfig,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// A host name or an IP address. Never empty.
    pub host: String,
    /// A TCP port; 0 takes any free one.
    pub port: u16,
}

/// Where items are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In memory: gone when the server stops.
    InMemory,
    /// In a folder on disk, and by default safe there before anything is acknowledged. The default, in `./data`.
    FileBased {
        /// The folder, relative to the working directory. Created at the start when missing.
        path: PathBuf,
    },
}

/// Bounds of connections and of the queues between them, the core and the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// Largest message from a worker, in bytes. Default 64 MiB.
    pub worker_frame_bytes: usize,
    /// Largest message from a subscriber, in bytes. Default 1 MiB.
    pub stream_frame_bytes: usize,
    /// Most open connections of workers. Default 10,000.
    pub worker_connections: usize,
    /// Most open connections of subscribers. Default 100,000.
    pub stream_connections: usize,
    /// What may wait to be sent to one subscriber, in bytes. Default 1 MiB.
    pub outbox_bytes: usize,
    /// What may wait to be sent to one worker, in bytes, half of it for calls that others make. Default 256 MiB.
    pub worker_outbox_bytes: usize,
    /// How many inputs may wait for the core. Default 4,096.
    pub inbox: usize,
    /// What may wait for the disk, in bytes. Default 32 MiB.
    pub commit_backlog_bytes: usize,
    /// How often a connection is pinged, in milliseconds; less than `idle_timeout_ms`. Default 20 s.
    pub ping_interval_ms: u64,
    /// After how long without a sign of life a connection is closed, in milliseconds. Default 60 s.
    pub idle_timeout_ms: u64,
    /// After how long a connection is closed that takes nothing of what waits for it, in milliseconds. Default 60 s.
    pub slow_timeout_ms: u64,
    /// How long a new connection may take for its WebSocket handshake, in milliseconds. Default 10 s.
    pub handshake_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            streams: Listen { host: "0.0.0.0".into(), port: 3112 },
            workers: Listen { host: "127.0.0.1".into(), port: 49134 },
            access: PortAccess::default(),
            store: StoreConfig::default(),
            cache_bytes: None,
            core: CoreConfig::default(),
            net: NetConfig::default(),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig::FileBased { path: "./data".into() }
    }
}

impl Default for NetConfig {
    fn default() -> NetConfig {
        NetConfig {
            worker_frame_bytes: 64 << 20,
            stream_frame_bytes: 1 << 20,
            worker_connections: 10_000,
            stream_connections: 100_000,
            outbox_bytes: 1 << 20,
            worker_outbox_bytes: 256 << 20,
            inbox: 4_096,
            commit_backlog_bytes: 32 << 20,
            ping_interval_ms: 20_000,
            idle_timeout_ms: 60_000,
            slow_timeout_ms: 60_000,
            handshake_timeout_ms: 10_000,
        }
    }
}

/// Largest configuration file, in bytes: a wrong path such as a device or a disk image fails at once.
const FILE_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads a configuration file. `env` looks up environment variables.
    pub fn from_file(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|e| ConfigError::file(&name, format!("can't be read: {e}")))?;
        if bytes.len() as u64 > FILE_BYTES {
            let problem = format!("expected a configuration file of at most {FILE_BYTES} bytes, found more");
            return Err(ConfigError::file(&name, problem));
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            ConfigError::file(&name, format!("expected UTF-8 text, found {}", e.utf8_error()))
        })?;
        Config::parse(&name, &text, env)
    }

    /// Reads the text of a configuration file. `file_name` is for errors; `env` looks up environment
    /// variables.
    pub fn parse(
        file_name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let root = yaml::parse(file_name, text)?;
        file::read(&Place::root(&root, &Origin { file: file_name, env }))
    }
}

/// What is wrong with a configuration file: which file, which key or line, what was expected and what was
/// found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    place: Option<String>,
    problem: String,
}

impl ConfigError {
    /// Something about the file as a whole.
    fn file(file: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { file: file.into(), place: None, problem: problem.into() }
    }

    /// Something at a place in the file: the path of a key, or a line.
    fn at(file: &str, place: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError { file: file.into(), place: Some(place.into()), problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{}: {place}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for ConfigError {}
