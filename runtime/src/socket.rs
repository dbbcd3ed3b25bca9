//! One WebSocket connection's life: frames in and out, signs of life, the end.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use crate::config::NetConfig;
use crate::inbox::Gone;
use crate::mailbox::{Mailbox, Next, Queue};
use crate::progress::{Counted, Moved};

/// How long connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) handshake: Duration,
    ping: Duration,
    pub(crate) idle: Duration,
}

impl Timing {
    pub(crate) fn new(config: &NetConfig) -> Timing {
        Timing {
            handshake: Duration::from_millis(config.handshake_timeout_ms),
            ping: Duration::from_millis(config.ping_interval_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
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
    config.write_buffer_size = 16 << 10;
    config.max_message_size = Some(max_message);
    config.max_frame_size = Some(max_message);
    config
}

/// A WebSocket that tells whether bytes move on it.
pub(crate) type Socket<S> = WebSocketStream<Counted<S>>;

/// What is done with the frames of a peer. Waiting here stops reading from its socket.
pub(crate) trait Receive {
    /// A text frame, or a binary one that is UTF-8.
    async fn frame(&mut self, text: Utf8Bytes) -> Result<(), Gone>;
}

/// Runs a connection to its end: hands frames to `receive`, sends what `mailbox` gives.
pub(crate) async fn run<S, Q>(
    socket: Socket<S>,
    mailbox: &Mailbox<Q>,
    timing: &Timing,
    receive: &mut impl Receive,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    let (read_bytes, written_bytes) = (socket.get_ref().read.clone(), socket.get_ref().written.clone());
    let (mut sink, mut stream) = socket.split();
    let ended = {
        let reading = read(&mut stream, &read_bytes, mailbox, timing, receive);
        let writing = write(&mut sink, &written_bytes, mailbox, timing);
        tokio::select! {
            biased;
            ended = writing => ended,
            ended = reading => ended,
        }
    };
    if let Ended::Closing(close) = ended {
        // A peer that does not answer in time is left alone.
        let _ = timeout(CLOSE_TIMEOUT, finish(sink, stream, close)).await;
    }
}

/// How a connection ends.
enum Ended {
    /// The peer is gone, or closed it.
    Gone,
    /// The server closes it.
    Closing(CloseFrame),
}

async fn read<S, Q>(
    stream: &mut SplitStream<Socket<S>>,
    moved: &Moved,
    mailbox: &Mailbox<Q>,
    timing: &Timing,
    receive: &mut impl Receive,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    loop {
        mailbox.uncrowded().await;
        let message = match moved.or_stalled(timing.idle, stream.next()).await {
            Some(Some(message)) => message,
            Some(None) => return Ended::Gone,
            None => return closing(CloseCode::Policy, "no sign of life for too long"),
        };
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
        if receive.frame(text).await.is_err() {
            return closing(STOPPING.0, STOPPING.1);
        }
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

async fn write<S, Q>(
    sink: &mut SplitSink<Socket<S>, Message>,
    moved: &Moved,
    mailbox: &Mailbox<Q>,
    timing: &Timing,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    let mut ping_at = Instant::now() + timing.ping;
    loop {
        let ping = Instant::now() >= ping_at;
        if ping {
            ping_at = Instant::now() + timing.ping;
        }
        // A peer that takes nothing for as long as it may be silent is as good as gone.
        let sent = if ping {
            moved.or_stalled(timing.idle, sink.feed(Message::Ping(Bytes::new()))).await
        } else {
            match mailbox.next() {
                Next::Send(frame) => {
                    moved.or_stalled(timing.idle, sink.feed(Message::Text(frame.into()))).await
                }
                Next::Close(close) => return Ended::Closing(close),
                Next::Flush => {
                    let flushed = moved.or_stalled(timing.idle, sink.flush()).await;
                    mailbox.flushed();
                    if matches!(flushed, Some(Ok(()))) {
                        // Either way there is something to do now.
                        let _ = timeout_at(ping_at, mailbox.filled()).await;
                    }
                    flushed
                }
            }
        };
        match sent {
            Some(Ok(())) => {}
            Some(Err(_)) => return Ended::Gone,
            None => {
                tracing::warn!("a peer is disconnected: it has read nothing for too long");
                return Ended::Gone;
            }
        }
    }
}

/// Says goodbye and waits for the peer to do the same. What it still sends is read and dropped: else the system would
/// answer it with a reset that can overtake the goodbye.
async fn finish<S>(
    mut sink: SplitSink<Socket<S>, Message>,
    mut stream: SplitStream<Socket<S>>,
    close: CloseFrame,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if sink.send(Message::Close(Some(close))).await.is_err() {
        return;
    }
    let mut answered = false;
    while let Some(message) = stream.next().await {
        answered |= matches!(message, Ok(Message::Close(_)));
    }
    if answered {
        return;
    }
    // After a violation the library reads no more, so there is no telling where the peer's goodbye is.
    if let Ok(mut socket) = sink.reunite(stream) {
        drop_rest(socket.get_mut()).await;
    }
}

/// Reads and drops what a peer sends, until it has no more to send.
pub(crate) async fn drop_rest<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut dropped = vec![0; 16 << 10];
    while let Ok(1..) = stream.read(&mut dropped).await {}
}
