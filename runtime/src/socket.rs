//! One WebSocket connection's life: frames in and out, signs of life, the end.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, ReadHalf};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::config::NetConfig;
use crate::inbox::Gone;
use crate::mailbox::{Attached, Mailbox, Queue, SendingEnded};

/// How long connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) handshake: Duration,
    ping: Duration,
    pub(crate) idle: Duration,
    slow: Duration,
}

impl Timing {
    pub(crate) fn new(config: &NetConfig) -> Timing {
        Timing {
            handshake: Duration::from_millis(config.handshake_timeout_ms),
            ping: Duration::from_millis(config.ping_interval_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
            slow: Duration::from_millis(config.slow_timeout_ms),
        }
    }
}

/// How long a peer may take to hear that the connection ends.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How connections are closed when the server stops.
pub(crate) const STOPPING: (CloseCode, &str) = (CloseCode::Away, "the server is stopping");

/// The server's side of the WebSocket protocol, for messages of at most `max_message` bytes.
pub(crate) fn websocket_config(max_message: usize, read_buffer: usize) -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = read_buffer;
    // Whatever the library writes goes on its way at once, and whole.
    config.write_buffer_size = 0;
    // What finds no room on the way of a peer that takes nothing: then its pings are answered by the newest answer.
    config.max_write_buffer_size = 4 << 10;
    config.max_message_size = Some(max_message);
    config.max_frame_size = Some(max_message);
    config
}

/// A connection whose handshake was answered.
pub(crate) struct Opened<S> {
    pub(crate) stream: S,
    /// What the peer sent right behind its handshake.
    pub(crate) rest: Vec<u8>,
    pub(crate) config: WebSocketConfig,
}

/// What the WebSocket library reads from and writes to: the socket's one half, and the mailbox, where what it writes
/// (answers to pings, the goodbye) gets in line with the frames that are sent without it.
#[derive(Debug)]
struct Port<S, Q> {
    reads: ReadHalf<S>,
    mailbox: Arc<Mailbox<Q>>,
}

impl<S: AsyncRead, Q: Queue> AsyncRead for Port<S, Q> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.reads).poll_read(cx, buffer);
        if polled.is_ready() {
            self.mailbox.has_read();
        }
        polled
    }
}

impl<S, Q: Queue> AsyncWrite for Port<S, Q> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.mailbox.poll_push(cx, bytes).map_ok(|()| bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket is let go of with the mailbox's half of it.
        Poll::Ready(Ok(()))
    }
}

type Socket<S, Q> = WebSocketStream<Port<S, Q>>;

/// What is done with the frames of a peer.
pub(crate) trait Receive {
    /// Hands in a text frame, or a binary one that is UTF-8. Gives back what could not be handed in at once.
    fn frame(&mut self, text: &Utf8Bytes) -> Result<Handed, Gone>;
}

/// Whether a frame was handed in.
pub(crate) enum Handed {
    Yes,
    /// It waits for room. Waiting here stops reading from the socket. Rare, so it is kept apart from what each
    /// connection takes.
    Waits(Pin<Box<dyn Future<Output = Result<(), Gone>> + Send>>),
}

/// Runs a connection to its end: hands frames to `receive`, sends what `mailbox` gives.
pub(crate) async fn run<S, Q>(
    opened: Opened<S>,
    mailbox: &Arc<Mailbox<Q>>,
    timing: &Timing,
    receive: &mut impl Receive,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Q: Queue,
{
    let (mut socket, _attached) = open(opened, mailbox).await;
    let ended = {
        let sending = poll_fn(|cx| mailbox.poll_send(cx));
        let reading = read(&mut socket, mailbox, receive);
        let watching = watch(mailbox, timing);
        tokio::select! {
            biased;
            ended = sending => match ended {
                SendingEnded::Gone => Ended::Gone,
                SendingEnded::Closing(close) => Ended::Closing(close),
            },
            ended = reading => ended,
            ended = watching => ended,
        }
    };
    if let Ended::Closing(close) = ended {
        mailbox.shut();
        // A peer that does not answer in time is left alone.
        let _ = timeout(CLOSE_TIMEOUT, Box::pin(finish(socket, mailbox, close))).await;
    }
}

/// The socket's two ways.
async fn open<S, Q>(opened: Opened<S>, mailbox: &Arc<Mailbox<Q>>) -> (Box<Socket<S, Q>>, Attached<'_, Q>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Q: Queue,
{
    let Opened { stream, rest, config } = opened;
    let (reads, writes) = tokio::io::split(stream);
    let attached = mailbox.attach(writes);
    let port = Port { reads, mailbox: Arc::clone(mailbox) };
    (Box::new(WebSocketStream::from_partially_read(port, rest, Role::Server, Some(config)).await), attached)
}

/// How a connection ends.
enum Ended {
    /// The peer is gone, or closed it.
    Gone,
    /// The server closes it.
    Closing(CloseFrame),
}

async fn read<S, Q>(socket: &mut Socket<S, Q>, mailbox: &Mailbox<Q>, receive: &mut impl Receive) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    loop {
        mailbox.uncrowded().await;
        let Some(message) = socket.next().await else { return Ended::Gone };
        let text = match message {
            Ok(Message::Text(text)) => text,
            // Binary JSON is taken like text; anything else in a binary frame is no frame at all.
            Ok(Message::Binary(bytes)) => match Utf8Bytes::try_from(bytes) {
                Ok(text) => text,
                Err(_) => continue,
            },
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            // The library answers a close frame on the next read, which then ends.
            Ok(Message::Close(_)) => continue,
            Err(error) => return ended_by(&error),
        };
        let handed = match receive.frame(&text) {
            Ok(Handed::Yes) => Ok(()),
            Ok(Handed::Waits(waits)) => waits.await,
            Err(Gone) => Err(Gone),
        };
        if handed.is_err() {
            return closing(STOPPING.0, STOPPING.1);
        }
    }
}

/// Looks for signs of life, and asks for them. Ends when there was none for too long.
async fn watch<Q: Queue>(mailbox: &Mailbox<Q>, timing: &Timing) -> Ended {
    let mut ping_at = Instant::now() + timing.ping;
    loop {
        let idle_at = mailbox.read_at() + timing.idle;
        let stuck_since = mailbox.stuck_since();
        let slow_at = stuck_since.unwrap_or_else(Instant::now) + timing.slow;
        let now = Instant::now();
        if idle_at <= now {
            return closing(CloseCode::Policy, "no sign of life for too long");
        }
        if slow_at <= now {
            tracing::warn!("a peer is disconnected: it has read nothing for too long");
            mailbox.cut();
            return closing(CloseCode::Again, "nothing was read for too long");
        }
        if ping_at <= now {
            ping_at = now + timing.ping;
            mailbox.ping();
        }
        sleep_until(ping_at.min(idle_at).min(slow_at)).await;
    }
}

fn closing(code: CloseCode, reason: impl Into<Utf8Bytes>) -> Ended {
    Ended::Closing(CloseFrame { code, reason: reason.into() })
}

fn ended_by(error: &Error) -> Ended {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            tracing::warn!(
                size,
                limit = max_size,
                "a peer is disconnected: its message is larger than the limit"
            );
            closing(CloseCode::Size, format!("a message of {size} bytes; the limit is {max_size}"))
        }
        Error::Utf8(_) => closing(CloseCode::Invalid, "a text message must be UTF-8"),
        // Most clients end this way.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ended::Gone,
        Error::Protocol(violation) => {
            tracing::debug!(%violation, "a peer broke the WebSocket protocol");
            closing(CloseCode::Protocol, "this is not how WebSocket works")
        }
        _ => Ended::Gone,
    }
}

/// Says goodbye and waits for the peer to do the same. What it still sends is read and dropped: else the system would
/// answer it with a reset that can overtake the goodbye.
async fn finish<S, Q>(mut socket: Box<Socket<S, Q>>, mailbox: &Mailbox<Q>, close: CloseFrame)
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    if socket.send(Message::Close(Some(close))).await.is_err() {
        return;
    }
    let answered = async {
        let mut answered = false;
        while let Some(message) = socket.next().await {
            answered |= matches!(message, Ok(Message::Close(_)));
        }
        if !answered {
            // After a violation the library reads no more, so there is no telling where the peer's goodbye is.
            drop_rest(&mut socket.get_mut().reads).await;
        }
    };
    tokio::join!(poll_fn(|cx| mailbox.poll_drain(cx)), answered);
}

/// Reads and drops what a peer sends, until it has no more to send.
pub(crate) async fn drop_rest<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut dropped = vec![0; 16 << 10];
    while let Ok(1..) = stream.read(&mut dropped).await {}
}
