//! What the two ports do with a connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_core::Input;
use headwater_core::config::{Access, AuthFailure, Limits};
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::wire::{stream, worker};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::access::{self, Role};
use crate::backup::{self, Exports};
use crate::config::Config;
use crate::handshake::Upgrade;
use crate::http::{Asked, Refusal};
use crate::inbox::{Gone, Inbox, Message};
use crate::mailbox::{Mailbox, Queue, SessionQueue, WorkerQueue};
use crate::metrics::{self, Metrics};
use crate::socket::{self, Handed, Opened, Receive, STOPPING, Timing};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) config: Config,
    pub(crate) timing: Timing,
    /// Turns true when a stop has nothing left to wait for: connections that the engine does not know of end then.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) exports: Exports,
    pub(crate) metrics: Arc<Metrics>,
}

impl Shared {
    /// A handshake, unless the server stops before it is through.
    async fn unless_closing<T>(&self, handshake: impl Future<Output = Option<T>>) -> Option<T> {
        let mut closing = self.closing.clone();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            done = handshake => done,
        }
    }
}

/// Workers send large frames and many of them; subscribers send small ones, and are many.
const WORKER_READ_BUFFER: usize = 64 << 10;
const SESSION_READ_BUFFER: usize = 1 << 10;

/// What a port says to those who don't ask for a WebSocket.
const WORKER_PORT: &str = "This is the worker port of Headwater. It speaks WebSocket: workers connect here. GET /export is \
                           all that is stored, and GET /metrics what is counted.";
const STREAM_PORT: &str =
    "This is the stream port of Headwater. It speaks WebSocket: subscribers connect here.";

/// How long the engine and delivery may take to close a connection that they know of, once everything is answered.
const CLOSING_GRACE: Duration = Duration::from_secs(1);

/// How long the core's answer about a handshake may be on its way, beside the time that it may take to have one.
const AUTH_GRACE: Duration = Duration::from_secs(5);

/// Runs a connection to its end. `grace` after `closing` its mailbox is closed, if nobody has done that before.
async fn until_closed<Q: Queue>(
    connection: impl Future<Output = ()>,
    mailbox: &Mailbox<Q>,
    shared: &Shared,
    grace: Duration,
) {
    let closed = async {
        let mut closing = shared.closing.clone();
        // An error is the end of the server, too.
        let _ = closing.wait_for(|closing| *closing).await;
        tokio::time::sleep(grace).await;
        mailbox.close(STOPPING.0, STOPPING.1);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = connection => {}
        () = closed => {}
    }
}

/// Runs a connection, and beside it what it has to tell the engine. Without the engine it goes on until it is closed.
async fn with_reports(
    connection: impl Future<Output = ()>,
    reports: impl Future<Output = Result<Infallible, Gone>>,
) {
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        () = &mut connection => return,
        Err(Gone) = reports => {}
    }
    connection.await;
}

/// Tells who comes when there are as many connections as there may be.
pub(crate) async fn refuse<S>(stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if let Some(asked) = Asked::read(stream, socket::CLOSE_TIMEOUT).await {
        let sentence = "The server has as many connections as it may: try again later.";
        asked.refuse(&Refusal::unavailable(sentence)).await;
    }
}

/// Serves a connection of the worker port.
pub(crate) async fn serve_worker<S>(stream: S, peer: SocketAddr, key: WorkerKey, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = worker_handshake(stream, peer, key, &shared);
    // Boxed, as what follows takes the room for as long as the connection lives.
    let Some((opened, role)) = Box::pin(shared.unless_closing(handshake)).await else { return };
    let Shared { inbox, config, timing, metrics, .. } = &*shared;
    let mailbox =
        Arc::new(Mailbox::new(WorkerQueue::new(config.net.worker_outbox_bytes), Arc::clone(metrics)));
    if role != Role::Worker {
        let mut discard = Discard;
        let connection = socket::run(opened, &mailbox, timing, peer, &mut discard);
        return until_closed(connection, &mailbox, &shared, Duration::ZERO).await;
    }
    let connected = Message::WorkerConnected { worker: key, mailbox: Arc::clone(&mailbox) };
    if Box::pin(inbox.send(connected)).await.is_err() {
        return;
    }
    let mut receive = FromWorker { key, inbox, limits: &config.core.limits };
    let connection = Box::pin(socket::run(opened, &mailbox, timing, peer, &mut receive));
    let connection = until_closed(connection, &mailbox, &shared, CLOSING_GRACE);
    with_reports(connection, report_room(key, inbox, &mailbox)).await;
    tracing::debug!(worker = key.0, "disconnected");
    // The engine may be gone before its connections.
    let _ = Box::pin(inbox.input(Input::WorkerDisconnected { worker: key })).await;
}

/// A worker's socket. Who wants something else of the worker port has had it when this ends.
async fn worker_handshake<S>(
    stream: S,
    peer: SocketAddr,
    key: WorkerKey,
    shared: &Shared,
) -> Option<(Opened<S>, Role)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Shared { inbox, config, timing, exports, metrics, .. } = shared;
    let asked = Asked::read(stream, timing.handshake).await?;
    let (export, counted) = (backup::is_export(asked.request()), metrics::are_asked_for(asked.request()));
    if export || counted {
        match access::to_operators(&config.access, asked.request()) {
            Ok(()) if export => {
                tracing::info!(%peer, "an export is asked for");
                backup::serve(asked, exports, inbox, timing.idle).await;
            }
            Ok(()) => metrics::serve(asked, metrics, timing.handshake).await,
            Err(refusal) => {
                let path = asked.request().uri().path();
                tracing::warn!(%peer, path, reason = refusal.sentence(), "a request is refused");
                asked.refuse(&refusal).await;
            }
        }
        return None;
    }
    let upgrade = Upgrade::of(asked, timing.handshake, WORKER_PORT).await?;
    let role = match access::to_workers(&config.access, upgrade.request()) {
        Ok(role) => role,
        Err(refusal) => {
            tracing::warn!(%peer, reason = refusal.sentence(), "a worker is refused");
            upgrade.refuse(&refusal).await;
            return None;
        }
    };
    let path = upgrade.request().uri().path();
    tracing::debug!(worker = key.0, %peer, path, "connected");
    let most = match role {
        Role::Worker | Role::Telemetry => config.net.worker_frame_bytes,
        Role::TelemetryOfStrangers => config.net.stream_frame_bytes.min(config.net.worker_frame_bytes),
    };
    let socket = upgrade.accept(socket::websocket_config(most, WORKER_READ_BUFFER)).await?;
    Some((socket, role))
}

/// Telemetry is taken and dropped, because a refusal makes SDKs try for ever.
struct Discard;

impl Receive for Discard {
    fn frame(&mut self, _text: &Utf8Bytes) -> Result<Handed, Gone> {
        Ok(Handed::Yes)
    }
}

/// Tells the engine when it can go on with what the worker sent.
async fn report_room(
    worker: WorkerKey,
    inbox: &Inbox,
    mailbox: &Mailbox<WorkerQueue>,
) -> Result<Infallible, Gone> {
    loop {
        mailbox.unparked().await;
        Box::pin(inbox.send(Message::WorkerUncrowded { worker })).await?;
    }
}

struct FromWorker<'a> {
    key: WorkerKey,
    inbox: &'a Inbox,
    limits: &'a Limits,
}

impl Receive for FromWorker<'_> {
    fn frame(&mut self, text: &Utf8Bytes) -> Result<Handed, Gone> {
        let frame = worker::parse(text, self.limits);
        if frame == Ok(worker::FromWorker::Ignored) {
            return Ok(Handed::Yes);
        }
        self.inbox.frame(text.len(), Input::WorkerFrame { worker: self.key, frame })
    }
}

/// Serves a connection of the stream port.
pub(crate) async fn serve_session<S>(stream: S, peer: SocketAddr, key: SessionKey, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = session_handshake(stream, peer, key, &shared.config, &shared.timing);
    let Some((entrance, handshake)) = Box::pin(shared.unless_closing(handshake)).await else { return };
    let Shared { inbox, config, timing, metrics, .. } = &*shared;
    let limits = &config.core.limits;
    let mailbox = Arc::new(Mailbox::new(SessionQueue::new(config.net.outbox_bytes), Arc::clone(metrics)));
    let join = stream::parse_path(&handshake.path, limits);
    let connected =
        Message::SessionConnected { session: key, mailbox: Arc::clone(&mailbox), handshake, join };
    if Box::pin(inbox.send(connected)).await.is_err() {
        return;
    }
    let mut receive = FromSubscriber { key, inbox, limits };
    // A future that is handed on takes its room twice: this one is handed on as a pointer.
    let connection = Box::pin(async {
        let opened = match entrance {
            Entrance::Open(opened) => opened,
            Entrance::Asked(upgrade) => match Box::pin(admitted(*upgrade, &mailbox, config)).await {
                Some(opened) => opened,
                None => return,
            },
        };
        socket::run(opened, &mailbox, timing, peer, &mut receive).await;
    });
    let connection = until_closed(connection, &mailbox, &shared, CLOSING_GRACE);
    with_reports(connection, report_overflows(key, inbox, &mailbox)).await;
    tracing::debug!(session = key.0, "disconnected");
    let _ = Box::pin(inbox.input(Input::SessionDisconnected { session: key })).await;
}

/// How far the handshake of a subscriber is when the core is told of it.
enum Entrance<S> {
    Open(Opened<S>),
    /// It waits for the core's answer.
    Asked(Box<Upgrade<S>>),
}

async fn session_handshake<S>(
    stream: S,
    peer: SocketAddr,
    key: SessionKey,
    config: &Config,
    timing: &Timing,
) -> Option<(Entrance<S>, stream::Handshake)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let upgrade = Upgrade::read(stream, timing.handshake, STREAM_PORT).await?;
    if let Err(refusal) = access::to_streams(&config.access, upgrade.request()) {
        tracing::debug!(%peer, reason = refusal.sentence(), "a subscriber is refused");
        upgrade.refuse(&refusal).await;
        return None;
    }
    let handshake = told(upgrade.request(), peer);
    tracing::debug!(session = key.0, %peer, path = handshake.path, "connected");
    let Access { auth_function, auth_failure, .. } = &config.core.access;
    let entrance = match auth_failure {
        AuthFailure::Http401 if auth_function.is_some() => Entrance::Asked(Box::new(upgrade)),
        _ => Entrance::Open(upgrade.accept(session_frames(config)).await?),
    };
    Some((entrance, handshake))
}

/// What the core is told of a handshake.
fn told(request: &Request, peer: SocketAddr) -> stream::Handshake {
    let headers = request.headers().iter();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    stream::Handshake {
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        addr: SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
    }
}

fn session_frames(config: &Config) -> WebSocketConfig {
    socket::websocket_config(config.net.stream_frame_bytes, SESSION_READ_BUFFER)
}

/// Answers a handshake as the core wants it to be. `None` if nothing more is to be done.
async fn admitted<S>(
    mut upgrade: Upgrade<S>,
    mailbox: &Mailbox<SessionQueue>,
    config: &Config,
) -> Option<Opened<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let patience = Duration::from_millis(config.core.timeouts.auth_ms) + AUTH_GRACE;
    let admission = tokio::select! {
        biased;
        admission = timeout(patience, mailbox.admission()) => admission,
        () = upgrade.abandoned() => return None,
    };
    let refusal = match admission {
        Ok(Ok(())) => return upgrade.accept(session_frames(config)).await,
        Ok(Err(CloseCode::Policy)) => Refusal::unauthorized("You may not subscribe here."),
        Ok(Err(_)) => Refusal::unavailable("The server is stopping."),
        Err(_) => Refusal::unavailable("Nobody could say in time whether you may subscribe here."),
    };
    upgrade.refuse(&refusal).await;
    None
}

struct FromSubscriber<'a> {
    key: SessionKey,
    inbox: &'a Inbox,
    limits: &'a Limits,
}

impl Receive for FromSubscriber<'_> {
    fn frame(&mut self, text: &Utf8Bytes) -> Result<Handed, Gone> {
        let frame = stream::parse(text, self.limits);
        self.inbox.frame(text.len(), Input::SessionFrame { session: self.key, frame })
    }
}

/// Tells the core when the session's outbox has overflowed, and when it is empty after that.
async fn report_overflows(
    session: SessionKey,
    inbox: &Inbox,
    mailbox: &Mailbox<SessionQueue>,
) -> Result<Infallible, Gone> {
    let mut known = 0;
    loop {
        known = mailbox.overflowed(known).await;
        tracing::debug!(
            session = session.0,
            "a subscriber is too slow: it gets fresh state once it has caught up"
        );
        // Boxed: it is rare, and each connection has room for it otherwise.
        Box::pin(inbox.input(Input::SessionOverflowed { session })).await?;
        mailbox.drained().await;
        Box::pin(inbox.input(Input::SessionDrained { session })).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use headwater_core::config::CoreConfig;
    use headwater_core::name::FunctionId;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_overflow_is_told_also_one_right_after_the_outbox_was_resumed() {
        let session = SessionKey(1);
        let (inbox, mut messages) = Inbox::new(8, 1_000);
        let mailbox = Mailbox::new(SessionQueue::new(10), Arc::default());
        let story = async {
            for _ in 0..3 {
                // As delivery does it: in one go, while nobody else runs.
                mailbox.resume(&BTreeSet::new());
                for _ in 0..2 {
                    let _ = mailbox.push_event("12345678".into(), None);
                }
                // The outbox has dropped both.
                for told in [Input::SessionOverflowed { session }, Input::SessionDrained { session }] {
                    assert_eq!(input(&mut messages).await, told);
                }
            }
        };
        tokio::select! {
            Err(Gone) = report_overflows(session, &inbox, &mailbox) => panic!("the engine is there"),
            () = story => {}
        }
    }

    async fn input(messages: &mut mpsc::Receiver<Message>) -> Input {
        match timeout(socket::CLOSE_TIMEOUT * 2, messages.recv()).await {
            Ok(Some(Message::Input { input, .. })) => input,
            other => panic!("an input, not {other:?}"),
        }
    }

    /// A subscriber whose handshake waits, as the engine sees it.
    struct Waiting {
        peer: DuplexStream,
        mailbox: Arc<Mailbox<SessionQueue>>,
        messages: mpsc::Receiver<Message>,
        closing: watch::Sender<bool>,
    }

    const PEER: &str = "192.0.2.1:7";
    const ASKS: &str = "GET /stream/s/g?token=a%2Bb HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Odd: \u{e9}\r\n\
                        Sec-WebSocket-Protocol: Authorization, secret\r\n\r\n";
    const SESSION: SessionKey = SessionKey(1);

    /// Futures grow unseen: one that is handed on takes its room twice, one that is awaited is a part of who awaits it.
    #[test]
    fn the_task_of_a_subscriber_is_small() {
        let config = Config::default();
        let (inbox, _messages) = Inbox::new(8, 1_000);
        let (_closing, closing) = watch::channel(false);
        let timing = Timing::new(&config.net);
        let exports = Exports::default();
        let shared = Arc::new(Shared { inbox, config, timing, closing, exports, metrics: Arc::default() });
        let (_peer, own) = duplex(1);
        let serving = serve_session(own, PEER.parse().expect("an address"), SESSION, shared);
        assert!(size_of_val(&serving) <= 1_536, "{} bytes", size_of_val(&serving));
    }

    impl Waiting {
        async fn new() -> Waiting {
            let access = Access {
                auth_function: Some(FunctionId::trusted("auth")),
                auth_failure: AuthFailure::Http401,
                ..Access::default()
            };
            let config = Config { core: CoreConfig { access, ..CoreConfig::default() }, ..Config::default() };
            let (inbox, mut messages) = Inbox::new(8, 1_000);
            let (closing, closing_seen) = watch::channel(false);
            let timing = Timing::new(&config.net);
            let shared = Shared {
                inbox,
                config,
                timing,
                closing: closing_seen,
                exports: Exports::default(),
                metrics: Arc::default(),
            };
            let (mut peer, own) = duplex(64 << 10);
            tokio::spawn(serve_session(own, PEER.parse().expect("an address"), SESSION, Arc::new(shared)));
            peer.write_all(ASKS.as_bytes()).await.expect("the server reads");
            let Some(Message::SessionConnected { session: SESSION, mailbox, handshake, join: Some(Ok(_)) }) =
                messages.recv().await
            else {
                panic!("the engine is told first")
            };
            let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            assert_eq!((&*handshake.path, &*handshake.query), ("/stream/s/g", "token=a%2Bb"));
            assert_eq!(handshake.addr, PEER);
            assert!(handshake.headers.contains(&header("sec-websocket-protocol", "Authorization, secret")));
            assert!(handshake.headers.contains(&header("x-odd", "\u{e9}")));
            Waiting { peer, mailbox, messages, closing }
        }

        /// Waits for what the peer gets, to its end.
        async fn answer(&mut self) -> String {
            let mut answer = String::new();
            self.peer.read_to_string(&mut answer).await.expect("the answer is text");
            answer
        }

        async fn ends(mut self) {
            assert_eq!(input(&mut self.messages).await, Input::SessionDisconnected { session: SESSION });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_waits_is_answered_when_the_core_admits_it_and_what_is_queued_follows() {
        let mut waiting = Waiting::new().await;
        let _ = waiting.mailbox.push_notice(crate::frame::text(|out| out.push_str("first")));
        let mut early = [0; 1];
        let reading = timeout(Duration::from_secs(9), waiting.peer.read_exact(&mut early));
        assert!(reading.await.is_err(), "it was answered before it was admitted");
        waiting.mailbox.admit();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\x81\x05first") {
            assert_ne!(waiting.peer.read_buf(&mut answer).await.expect("it is open"), 0, "{answer:?}");
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("sec-websocket-protocol: Authorization\r\n"), "{answer}");
        drop(waiting.peer);
        assert_eq!(input(&mut waiting.messages).await, Input::SessionDisconnected { session: SESSION });
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_the_core_refuses_is_answered_with_401() {
        let mut waiting = Waiting::new().await;
        waiting.mailbox.close(CloseCode::Policy, "unauthorized");
        let answer = waiting.answer().await;
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
        waiting.ends().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_waits_when_the_server_stops_is_answered_with_503() {
        let mut waiting = Waiting::new().await;
        waiting.mailbox.close(STOPPING.0, STOPPING.1);
        assert!(waiting.answer().await.starts_with("HTTP/1.1 503 "));
        waiting.ends().await;

        // Also without the engine.
        let mut waiting = Waiting::new().await;
        waiting.closing.send(true).expect("the connection listens");
        assert!(waiting.answer().await.starts_with("HTTP/1.1 503 "));
        waiting.ends().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_about_which_nothing_is_heard_ends_after_a_while() {
        let mut waiting = Waiting::new().await;
        assert!(waiting.answer().await.starts_with("HTTP/1.1 503 "));
        waiting.ends().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_hangs_up_while_its_handshake_waits_is_gone_at_once() {
        let Waiting { peer, mut messages, .. } = Waiting::new().await;
        drop(peer);
        assert_eq!(input(&mut messages).await, Input::SessionDisconnected { session: SESSION });
    }
}
