//! The server: everything put together, from the open store to the last goodbye.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_core::Core;
use headwater_core::key::{SessionKey, WorkerKey};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};

use crate::backup::Exports;
use crate::config::{Config, Listen, Origins, StoreConfig};
use crate::connection::{Shared, refuse, serve_session, serve_worker};
use crate::delivery::Shard;
use crate::engine::{Channels, Engine, Scans, StoreChannels};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::platform::{Listener, Platform};
use crate::socket::Timing;
use crate::store::{self, OpenError, Opened};

/// Why the server can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store can't be opened.
    #[error("the store in {} can't be opened: {error}{}", folder.display(), error.hint(folder))]
    Store {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// A port can't be listened on.
    #[error("can't listen on {host}:{port} for {who}: {error}{hint}", hint = hint(error))]
    Listen {
        /// Workers or subscribers.
        who: &'static str,
        /// The host in the configuration.
        host: String,
        /// The port in the configuration.
        port: u16,
        /// What the system said.
        error: io::Error,
    },
    /// Other machines could reach the worker port, and it wants no token.
    #[error(
        "the worker port would listen on {0}, where other machines may reach it, and wants no token: set \
         `worker_token`, listen on a loopback address, or write `insecure: true` if something else keeps others away"
    )]
    Unprotected(SocketAddr),
    /// The system refuses a thread or a signal handler.
    #[error("can't start: {0}")]
    System(#[from] io::Error),
    /// A part of the server ended that never should.
    #[error("the {0} ended unexpectedly, which is a bug; nothing that was acknowledged is lost")]
    Ended(&'static str),
}

/// What listens, and what was found in the store.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where workers connect.
    pub workers: SocketAddr,
    /// Where subscribers connect.
    pub streams: SocketAddr,
    /// What was recovered; `None` for a store in memory.
    pub recovery: Option<Recovery>,
}

/// What was found in the store.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Items in it.
    pub items: u64,
    /// Groups that hold them.
    pub groups: u64,
    /// Bytes cut off at the end of the log: writes that a crash interrupted and nobody was told of.
    pub torn: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Reads of the checkpoint that may wait: more than the core asks for at the same time.
const LOADS: usize = 128;
/// Bytes of frames that may wait for the core.
const INBOX_BYTES: usize = 64 << 20;
/// Deliveries that may wait for the shard.
const DELIVERY_QUEUE: usize = 8_192;
/// How long connections may take to send what is queued and say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Connections that are told at the same time that there is no place for them.
const MOST_REFUSALS: usize = 64;
/// How often the operator is told of them.
const WARN_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait before accepting again when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is told to stop, then stops in good order: takes no more connections and calls, answers what is
/// under way, sends what is queued, closes every socket. `disk` is `None` for a store in memory. `on_start` is called
/// once both ports listen; the server stops when the future that it returns resolves.
pub async fn serve<P: Platform, S: Future<Output = ()>>(
    platform: P,
    config: Config,
    disk: Option<P::Disk>,
    on_start: impl FnOnce(&Started) -> io::Result<S>,
) -> Result<(), ServeError> {
    // Ports first: recovery can take a while, and is in vain when a port is taken.
    let workers = bind(&platform, "workers", &config.workers).await?;
    let streams = bind(&platform, "subscribers", &config.streams).await?;
    let address = |listener: &P::Listener, who, listen: &Listen| {
        listener.local_addr().map_err(|error| listen_error(who, listen, error))
    };
    let workers_at = address(&workers, "workers", &config.workers)?;
    let streams_at = address(&streams, "subscribers", &config.streams)?;
    check_access(&config, workers_at)?;
    let vital = Vital::default();
    let (core, store, recovery) = match disk {
        None => (Core::new(config.core.clone(), platform.entropy(), platform.now()), None, None),
        Some(disk) => {
            let before = platform.now();
            let opened =
                store::open(&disk, platform.entropy()).map_err(|error| store_error(&config, error))?;
            let recovery = Recovery {
                items: opened.recovered.items,
                groups: opened.recovered.groups,
                torn: opened.recovered.torn,
                ms: platform.now().mono.0 - before.mono.0,
            };
            let Opened { log, checkpoint, recovered } = opened;
            let store = spawn_store(&platform, &vital, log, checkpoint, &config)?;
            let core = Core::recovered(config.core.clone(), platform.entropy(), platform.now(), recovered);
            (core, Some(store), Some(recovery))
        }
    };
    let started = Started { workers: workers_at, streams: streams_at, recovery };

    let (inbox, messages) = Inbox::new(config.net.inbox, INBOX_BYTES.max(config.net.worker_frame_bytes));
    let (delivery, deliveries) = mpsc::channel(DELIVERY_QUEUE);
    let (ask_to_stop, stop) = oneshot::channel();
    let (stopped, all_answered) = oneshot::channel();
    // It goes on to the next socket where tokio's budget would have it stop within a batch; it yields after each.
    let metrics = Arc::new(Metrics::default());
    let delivering = unconstrained(Shard::new(Arc::clone(&metrics)).run(deliveries));
    platform.spawn(vital.guard("delivery", delivering));
    let channels = Channels { inbox: messages, store, delivery, stop, stopped };
    let backlog = config.net.commit_backlog_bytes;
    let engine = Engine::new(platform.clone(), core, channels, backlog, Arc::clone(&metrics));
    platform.spawn_thread("core", vital.guard("core", engine.run()))?;

    let stop_deadline = Duration::from_millis(config.core.timeouts.stop_ms) + GOODBYE;
    let (stopping, stopping_seen) = watch::channel(false);
    let (closing, closing_seen) = watch::channel(false);
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let (most_workers, most_sessions) = (config.net.worker_connections, config.net.stream_connections);
    // The engine runs for as long as somebody can tell it something: to the end of this function, also when nobody is
    // connected and the ports are closed already.
    let _inbox = inbox.clone();
    let shared = Shared {
        inbox,
        timing: Timing::new(&config.net),
        config,
        closing: closing_seen,
        exports: Exports::default(),
        metrics,
    };
    let shared = Arc::new(shared);
    let port =
        Port { platform: platform.clone(), shared, stopping: stopping_seen, open, keys: Arc::default() };
    let stop = on_start(&started)?;
    platform.spawn(port.clone().accept(workers, most_workers, "workers", |stream, peer, key, shared| {
        serve_worker(stream, peer, WorkerKey(key), shared)
    }));
    platform.spawn(port.accept(streams, most_sessions, "subscribers", |stream, peer, key, shared| {
        serve_session(stream, peer, SessionKey(key), shared)
    }));

    tokio::select! {
        biased;
        name = vital.ended() => return Err(ServeError::Ended(name)),
        () = stop => {}
    }
    // Whoever is to hear these may be gone already.
    let _ = stopping.send(true);
    let _ = ask_to_stop.send(());
    match timeout(stop_deadline, all_answered).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(ServeError::Ended("core")),
        Err(_) => tracing::warn!("some calls were not answered in time"),
    }
    let _ = closing.send(true);
    if timeout(GOODBYE, all_closed.recv()).await.is_err() {
        tracing::warn!("some connections did not close in time");
    }
    Ok(())
}

/// Refuses a worker port that anybody in the network could use, whatever its host is called, and says what else is
/// more open than an operator may think.
fn check_access(config: &Config, workers: SocketAddr) -> Result<(), ServeError> {
    let reachable = !workers.ip().to_canonical().is_loopback();
    if reachable && !config.access.may_be_reached() {
        return Err(ServeError::Unprotected(workers));
    }
    if reachable && config.access.worker_token.is_none() {
        tracing::warn!(%workers, "whoever reaches the worker port may read, write and call everything");
    }
    if config.core.access.auth_function.is_some() && config.access.stream_origins == Origins::Any {
        tracing::warn!(
            "web pages of every origin may connect to the stream port; `allowed_origins` says which should"
        );
    }
    Ok(())
}

/// The tasks that the server can't do without.
#[derive(Clone, Debug)]
struct Vital {
    /// The name of the first that ended.
    ended: watch::Sender<Option<&'static str>>,
}

impl Default for Vital {
    fn default() -> Vital {
        Vital { ended: watch::Sender::new(None) }
    }
}

impl Vital {
    /// The task; its end is noticed, also if it is a panic.
    fn guard<F: Future<Output = ()>>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = ()> + use<F> {
        let ended = EndedGuard { vital: self.clone(), name };
        async move {
            task.await;
            drop(ended);
        }
    }

    /// Waits until one of the tasks has ended.
    async fn ended(&self) -> &'static str {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => name,
            _ => std::future::pending().await,
        }
    }
}

/// Says that a task has ended when it is dropped.
struct EndedGuard {
    vital: Vital,
    name: &'static str,
}

impl Drop for EndedGuard {
    fn drop(&mut self) {
        self.vital.ended.send_if_modified(|ended| ended.replace(self.name).is_none());
    }
}

/// Starts the threads that write and read the store's files.
fn spawn_store<P: Platform>(
    platform: &P,
    vital: &Vital,
    log: store::Log<P::Disk>,
    checkpoint: store::checkpoint::Checkpoint<P::Disk>,
    config: &Config,
) -> io::Result<StoreChannels> {
    // Both are one at a time, and a file that is not needed any more may come between.
    let (log_tasks, tasks) = mpsc::channel(4);
    let (log_done, written) = mpsc::channel(1);
    let (saves, to_save) = mpsc::channel(1);
    let (loads, to_load) = mpsc::channel(LOADS);
    let (done, stored) = mpsc::channel(1);
    platform.spawn_thread("log", vital.guard("log writer", store::write_log(log, tasks, log_done)))?;
    let scanned = checkpoint.clone();
    let scans = Scans(Box::new(move |wanted| {
        let (from, until) = wanted.range();
        scanned.scan_range(from, until.as_ref().map(|(stream, group)| (&**stream, &**group)))
    }));
    let saver = store::checkpoint::run_saver(checkpoint.clone(), to_save, done.clone());
    platform.spawn_thread("save", vital.guard("checkpoint writer", saver))?;
    let loader = store::checkpoint::run_loader(checkpoint, config.core.limits.group_bytes, to_load, done);
    platform.spawn_thread("load", vital.guard("checkpoint reader", loader))?;
    Ok(StoreChannels { written, stored, log: log_tasks, saves, loads, scans })
}

fn store_error(config: &Config, error: OpenError) -> ServeError {
    let folder = match &config.store {
        StoreConfig::FileBased { path } => path.clone(),
        StoreConfig::InMemory => PathBuf::new(),
    };
    ServeError::Store { folder, error }
}

/// What to do about an address that can't be listened on, where the system does not say it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop the server that uses the port, or configure another one",
        _ => "; configure another host or port",
    }
}

async fn bind<P: Platform>(
    platform: &P,
    who: &'static str,
    listen: &Listen,
) -> Result<P::Listener, ServeError> {
    platform.bind(&listen.host, listen.port).await.map_err(|error| listen_error(who, listen, error))
}

fn listen_error(who: &'static str, listen: &Listen, error: io::Error) -> ServeError {
    ServeError::Listen { who, host: listen.host.clone(), port: listen.port, error }
}

/// What the accept loops share.
#[derive(Clone)]
struct Port<P> {
    platform: P,
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
    /// Held by every open connection: the channel closes with the last of them.
    open: mpsc::Sender<()>,
    keys: Arc<AtomicU64>,
}

impl<P: Platform> Port<P> {
    /// Accepts connections until the server stops.
    async fn accept<L, F>(
        mut self,
        mut listener: L,
        most: usize,
        who: &'static str,
        serve: impl Fn(L::Stream, SocketAddr, u64, Arc<Shared>) -> F + Send + Sync + 'static,
    ) where
        L: Listener,
        F: Future<Output = ()> + Send + 'static,
    {
        let (places, serve) = (Arc::new(Semaphore::new(most)), Arc::new(serve));
        let refusals = Arc::new(Semaphore::new(MOST_REFUSALS));
        let (mut refused, mut warned) = (0_u64, None::<Instant>);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.stopping.changed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                // The peer gave up while it waited to be accepted: that says nothing about the next one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::warn!(%error, who, "a connection can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                refused += 1;
                self.shared.metrics.refuses(who);
                if warned.is_none_or(|at| at.elapsed() >= WARN_PAUSE) {
                    warned = Some(Instant::now());
                    tracing::warn!(
                        most,
                        who,
                        refused,
                        "connections are refused: there are as many as there may be"
                    );
                }
                // Who finds no place here either is not told why.
                if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                    self.platform.spawn(async move {
                        refuse(stream).await;
                        drop(place);
                    });
                }
                continue;
            };
            let key = self.keys.fetch_add(1, Ordering::Relaxed);
            let (serve, shared, open) = (Arc::clone(&serve), Arc::clone(&self.shared), self.open.clone());
            let counted = shared.metrics.opened(who);
            // Made where it is awaited: handed on, it would take its room twice.
            self.platform.spawn(async move {
                serve(stream, peer, key, shared).await;
                drop((place, open, counted));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Token;

    #[test]
    fn a_worker_port_that_wants_nothing_stays_on_loopback_whatever_its_host_is_called() {
        let address = |text: &str| text.parse().expect("an address");
        let wants_nothing = Config::default();
        for loopback in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(check_access(&wants_nothing, address(loopback)).is_ok(), "{loopback}");
        }
        let mut wants_a_token = Config::default();
        wants_a_token.access.worker_token = Token::new("token");
        let mut insecure = Config::default();
        insecure.access.insecure = true;
        for reachable in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let refused = check_access(&wants_nothing, address(reachable));
            assert!(matches!(refused, Err(ServeError::Unprotected(_))), "{reachable}");
            assert!(check_access(&wants_a_token, address(reachable)).is_ok(), "{reachable}");
            assert!(check_access(&insecure, address(reachable)).is_ok(), "{reachable}");
        }
    }
}
