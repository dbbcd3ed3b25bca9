//! The `headwater` binary: the command line, the logs, the signals and the exit codes.

mod commands;
mod memory;

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use headwater::config::{Config, ConfigError, StoreConfig};
use headwater::files;
use headwater::platform::System;
use headwater::store::Folder;
use headwater::store::checkpoint::expects_panic;
use headwater::{Recovery, ServeError, Started, serve};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A durable real-time streams server.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ConfigFile,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server (the default).
    Serve(ConfigFile),
    /// Say whether a configuration file is right, and what is wrong if it is not.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Write all that is stored to standard output, as lines of JSON: of a running server, or of a stopped one's folder.
    Export(commands::Export),
    /// Set every item of an export in a running server.
    Import(commands::Import),
    /// Make a damaged store one that can be opened: says what would be lost, asks, and keeps what it changes.
    Repair(commands::Repair),
    /// Measure a running server under load, and check what it delivers.
    Bench(commands::Bench),
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file; without one, the defaults of the README apply.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The exit code for a configuration that is wrong; the command line's own errors have the same.
const BAD_CONFIG: u8 = 2;
/// The exit code for a server that can't start, or was made to exit at once.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !expects_panic() {
            print(panic);
        }
    }));
    match Cli::parse() {
        Cli { command: Some(Command::Check { config }), .. } => match read_config(Some(config)) {
            Ok(_) => {
                say("ok\n");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error.to_string(), BAD_CONFIG),
        },
        Cli { command: Some(Command::Export(export)), .. } => done(commands::export(&export)),
        Cli { command: Some(Command::Import(import)), .. } => done(commands::import(&import)),
        Cli { command: Some(Command::Repair(repair)), .. } => match commands::repair(&repair) {
            Ok(told) => {
                say(&format!("{told}\n"));
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error, FAILED),
        },
        Cli { command: Some(Command::Bench(bench)), .. } => match commands::bench(&bench) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => fail("not everything was delivered once, in order, and answered", FAILED),
            Err(error) => fail(&error, FAILED),
        },
        Cli { command: Some(Command::Serve(file)), .. } | Cli { command: None, serve: file } => {
            match read_config(file.config) {
                Ok(config) => run(config),
                Err(error) => fail(&error.to_string(), BAD_CONFIG),
            }
        }
    }
}

fn read_config(file: Option<PathBuf>) -> Result<Config, ConfigError> {
    let env = |name: &str| std::env::var(name).ok();
    file.map_or_else(|| Ok(Config::default()), |path| Config::from_file(&path, &env))
}

fn run(config: Config) -> ExitCode {
    let filter =
        match std::env::var("HEADWATER_LOG").unwrap_or_else(|_| "info".to_owned()).parse::<EnvFilter>() {
            Ok(filter) => filter,
            Err(error) => {
                let message =
                    format!("HEADWATER_LOG: expected a level such as `info` or `headwater=debug`: {error}");
                return fail(&message, BAD_CONFIG);
            }
        };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&ServeError::from(error).to_string(), FAILED),
    };
    let served = runtime.block_on(start(config));
    // Whatever still runs had its time.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), FAILED),
    }
}

async fn start(mut config: Config) -> Result<(), ServeError> {
    let files = files::raise();
    files::fit(&mut config.net, files);
    let connections = (config.net.worker_connections, config.net.stream_connections);
    if let Some(cache_bytes) = config.cache_bytes.or_else(|| Some(memory::bytes()? / 4)) {
        config.core.storage.cache_bytes = cache_bytes;
    }
    let (disk, store) = match &config.store {
        StoreConfig::InMemory => (None, "in_memory".to_owned()),
        StoreConfig::FileBased { path } => {
            let disk =
                Folder::lock(path).map_err(|error| ServeError::Store { folder: path.clone(), error })?;
            (Some(disk), format!("file_based {}", path.display()))
        }
    };
    serve(System::new(), config, disk, |started| {
        // Only now: a signal during recovery ends the process at once, which harms nothing.
        let stop = stop_signal()?;
        say(&report(started, &store, files, connections));
        Ok(stop)
    })
    .await
}

/// Resolves with the first SIGTERM or Ctrl-C; the second ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    Ok(async move {
        signals.next().await;
        tracing::info!("stopping; a second signal stops at once");
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(i32::from(FAILED));
        });
    })
}

/// The signals that ask for a stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a person wants to know first. The last line says that both ports listen.
fn report(
    started: &Started,
    store: &str,
    files: u64,
    (most_workers, most_subscribers): (usize, usize),
) -> String {
    let store = match &started.recovery {
        None => format!("{store}: empty, and gone when the server stops"),
        Some(Recovery { items, groups, torn, ms }) => {
            let torn = match torn {
                0 => String::new(),
                torn => format!("; {torn} bytes of an unfinished write were cut off"),
            };
            let (items, groups) = (counted(*items, "item"), counted(*groups, "group"));
            format!("{store}: {items} in {groups}, recovered in {ms} ms{torn}")
        }
    };
    let files = if files == u64::MAX { "any number".to_owned() } else { files.to_string() };
    format!(
        "headwater {}\n  workers  ws://{}\n  streams  ws://{}\n  store    {store}\n  files    {files} may be open: \
         {} and {}\nready\n",
        env!("CARGO_PKG_VERSION"),
        started.workers,
        started.streams,
        counted(most_workers as u64, "worker"),
        counted(most_subscribers as u64, "subscriber"),
    )
}

fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// To standard output; a reader that has gone away is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Tells how a command ended, in both cases not where its output goes.
fn done(ended: Result<String, String>) -> ExitCode {
    match ended {
        Ok(told) => {
            eprintln!("headwater: {told}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, FAILED),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("headwater: {message}");
    ExitCode::from(code)
}
