//! What the two ports do with a connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_core::Input;
use headwater_core::config::Limits;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::wire::{stream, worker};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::config::Config;
use crate::inbox::{Gone, Inbox, Message};
use crate::mailbox::{Mailbox, Queue, SessionQueue, WorkerQueue};
use crate::socket::{self, Receive, STOPPING, Socket, Timing};

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) config: Arc<Config>,
    pub(crate) timing: Timing,
    /// Turns true when a stop has nothing left to wait for: connections that the engine does not know of end then.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Shared {
    /// Takes a handshake, unless it takes too long or the server stops.
    async fn accept<S>(&mut self, stream: S, config: WebSocketConfig) -> Option<(Socket<S>, String)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => None,
            accepted = socket::accept(stream, config, &self.timing) => accepted,
        }
    }
}

/// Workers send large frames and many of them; subscribers send small ones, and are many.
const WORKER_READ_BUFFER: usize = 64 << 10;
const SESSION_READ_BUFFER: usize = 4 << 10;

/// How long the engine and delivery may take to close a connection that they know of, once everything is answered.
const CLOSING_GRACE: Duration = Duration::from_secs(1);

/// Runs a connection to its end, which comes `grace` after `closing` at the latest.
async fn run<S, Q>(
    socket: Socket<S>,
    mailbox: &Mailbox<Q>,
    timing: &Timing,
    receive: &mut impl Receive,
    mut closing: watch::Receiver<bool>,
    grace: Duration,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    let closed = async {
        // An error is the end of the server, too.
        let _ = closing.wait_for(|closing| *closing).await;
        tokio::time::sleep(grace).await;
        mailbox.close(STOPPING.0, STOPPING.1);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = socket::run(socket, mailbox, timing, receive) => {}
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

/// Serves a connection of the worker port.
pub(crate) async fn serve_worker<S>(stream: S, key: WorkerKey, mut shared: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frames = socket::websocket_config(shared.config.net.worker_frame_bytes, WORKER_READ_BUFFER);
    let Some((socket, path)) = shared.accept(stream, frames).await else { return };
    tracing::debug!(worker = key.0, path, "connected");
    let Shared { inbox, config, timing, closing } = shared;
    let mailbox = Arc::new(Mailbox::new(WorkerQueue::new(config.net.worker_outbox_bytes)));
    if path.trim_end_matches('/') == TELEMETRY_PATH {
        return run(socket, &mailbox, &timing, &mut Discard, closing, Duration::ZERO).await;
    }
    let connected = Message::WorkerConnected { worker: key, mailbox: Arc::clone(&mailbox) };
    if inbox.send(connected).await.is_err() {
        return;
    }
    let mut receive = FromWorker { key, inbox: &inbox, limits: &config.core.limits };
    let connection = run(socket, &mailbox, &timing, &mut receive, closing, CLOSING_GRACE);
    with_reports(connection, report_room(key, &inbox, &mailbox)).await;
    tracing::debug!(worker = key.0, "disconnected");
    // The engine may be gone before its connections.
    let _ = inbox.input(Input::WorkerDisconnected { worker: key }).await;
}

/// Where SDKs send their telemetry: taken and dropped, because a refusal makes them try for ever.
const TELEMETRY_PATH: &str = "/otel";

struct Discard;

impl Receive for Discard {
    async fn frame(&mut self, _text: Utf8Bytes) -> Result<(), Gone> {
        Ok(())
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
        inbox.send(Message::WorkerUncrowded { worker }).await?;
    }
}

struct FromWorker<'a> {
    key: WorkerKey,
    inbox: &'a Inbox,
    limits: &'a Limits,
}

impl Receive for FromWorker<'_> {
    async fn frame(&mut self, text: Utf8Bytes) -> Result<(), Gone> {
        let frame = worker::parse(&text, self.limits);
        if frame == Ok(worker::FromWorker::Ignored) {
            return Ok(());
        }
        self.inbox.frame(text.len(), Input::WorkerFrame { worker: self.key, frame }).await
    }
}

/// Serves a connection of the stream port.
pub(crate) async fn serve_session<S>(stream: S, key: SessionKey, mut shared: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frames = socket::websocket_config(shared.config.net.stream_frame_bytes, SESSION_READ_BUFFER);
    let Some((socket, path)) = shared.accept(stream, frames).await else { return };
    tracing::debug!(session = key.0, path, "connected");
    let Shared { inbox, config, timing, closing } = shared;
    let limits = &config.core.limits;
    let mailbox = Arc::new(Mailbox::new(SessionQueue::new(config.net.outbox_bytes)));
    let join = stream::parse_path(&path, limits);
    let handshake = stream::Handshake { path, ..stream::Handshake::default() };
    let connected =
        Message::SessionConnected { session: key, mailbox: Arc::clone(&mailbox), handshake, join };
    if inbox.send(connected).await.is_err() {
        return;
    }
    let mut receive = FromSubscriber { key, inbox: &inbox, limits };
    let connection = run(socket, &mailbox, &timing, &mut receive, closing, CLOSING_GRACE);
    with_reports(connection, report_overflows(key, &inbox, &mailbox)).await;
    tracing::debug!(session = key.0, "disconnected");
    let _ = inbox.input(Input::SessionDisconnected { session: key }).await;
}

struct FromSubscriber<'a> {
    key: SessionKey,
    inbox: &'a Inbox,
    limits: &'a Limits,
}

impl Receive for FromSubscriber<'_> {
    async fn frame(&mut self, text: Utf8Bytes) -> Result<(), Gone> {
        let frame = stream::parse(&text, self.limits);
        self.inbox.frame(text.len(), Input::SessionFrame { session: self.key, frame }).await
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
        inbox.input(Input::SessionOverflowed { session }).await?;
        mailbox.drained().await;
        inbox.input(Input::SessionDrained { session }).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_overflow_is_told_also_one_right_after_the_outbox_was_resumed() {
        let session = SessionKey(1);
        let (inbox, mut messages) = Inbox::new(8, 1_000);
        let mailbox = Mailbox::new(SessionQueue::new(10));
        let story = async {
            for _ in 0..3 {
                // As delivery does it: in one go, while nobody else runs.
                mailbox.resume();
                mailbox.push_event("12345678".into());
                mailbox.push_event("12345678".into());
                for told in [Input::SessionOverflowed { session }, Input::SessionDrained { session }] {
                    let message = timeout(Duration::from_secs(1), messages.recv()).await;
                    let Ok(Some(Message::Input { input, .. })) = message else { panic!("no {told:?}") };
                    assert_eq!(input, told);
                }
            }
        };
        tokio::select! {
            Err(Gone) = report_overflows(session, &inbox, &mailbox) => panic!("the engine is there"),
            () = story => {}
        }
    }
}
