//! The clients of a world: workers that write and handle, subscribers that watch, and a closer that ends it.

mod closer;
mod handlers;
mod kept;
mod stranger;
mod subscriber;
mod work;
mod worker;

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use turmoil::net::TcpStream;

use super::report::Report;
use crate::trace::{Recorder, What, Who};

pub(super) use closer::Closer;
pub(super) use handlers::{Duty, Manners};
pub(super) use stranger::Stranger;
pub(super) use subscriber::{Habits, Subscriber, Watched};
pub(super) use work::Mix;
pub(super) use worker::Worker;

/// The server's host name.
pub(super) const SERVER: &str = "server";
/// Its ports.
pub(super) const WORKER_PORT: u16 = 49_134;
pub(super) const STREAM_PORT: u16 = 3_112;
/// The one stream of a world.
const STREAM: &str = "world";
/// The type of the event after which nothing comes.
const END: &str = "end";

/// A client takes a connection for dead after this long without a frame; the server pings far more often.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How long a client waits before it connects again.
const AGAIN: Duration = Duration::from_millis(40);
/// How often a client looks how far the world is.
const LOOK: Duration = Duration::from_millis(50);

/// How far the world is; clients know it from one another, past the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    /// When the faults ended, in simulated time.
    healed: Option<Duration>,
    /// The closer has listed everything.
    over: bool,
    /// The workers that have nothing more to do.
    resting: BTreeSet<String>,
    /// The subscribers that have seen the end of all that they watch.
    settled: BTreeSet<String>,
    /// Until when workers may be called for what has happened so far.
    busy_until: Duration,
    /// Functions that the server is known to have heard of.
    functions: BTreeSet<String>,
    /// What went wrong at clients.
    report: Report,
}

impl Progress {
    /// There are no faults from here on.
    pub(super) fn heal(&self, at: Duration) {
        self.state().healed = Some(at);
    }

    /// What went wrong at clients.
    pub(super) fn take_report(&self) -> Report {
        std::mem::take(&mut self.state().report)
    }

    fn is_healed(&self) -> bool {
        self.state().healed.is_some()
    }

    fn is_over(&self) -> bool {
        self.state().over
    }

    /// A worker may be called again within so long.
    fn is_busy(&self, lasts: Duration) {
        let until = turmoil::sim_elapsed().unwrap_or_default() + lasts;
        let mut state = self.state();
        state.busy_until = state.busy_until.max(until);
    }

    fn happened(&self, what: &'static str) {
        self.state().report.happened(what, 1);
    }

    fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }
}

/// What a client is beside its work: its name, and how it gets to the server.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) recorder: Recorder,
    pub(super) progress: Progress,
    /// How many connections it has had.
    pub(super) connections: u64,
}

impl Edge {
    /// Connects, again and again until it works or the world is over; `path` is drawn for the connection of this number.
    async fn connect(&mut self, mut path: impl FnMut(u64) -> String) -> Option<Connection> {
        while !self.progress.is_over() {
            if let Some(connection) = self.try_once(&mut path).await {
                return Some(connection);
            }
            sleep(AGAIN).await;
        }
        None
    }

    async fn try_once(&mut self, path: &mut impl FnMut(u64) -> String) -> Option<Connection> {
        let stream = timeout(SILENCE, TcpStream::connect((SERVER, self.port))).await.ok()?.ok()?;
        self.connections += 1;
        let path = path(self.connections);
        let request = self.handshake(&path);
        // The server may know of it, and of a join by its path, long before the handshake is through.
        let who = self.recorder.connected(&self.name, &path);
        match timeout(SILENCE, tokio_tungstenite::client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Some(Connection::new(who, socket, self.recorder.clone())),
            _ => {
                self.recorder.note(&who, What::Lost);
                None
            }
        }
    }

    /// The usual one, but not with a random key: servers pass it on to whoever says who their clients are.
    fn handshake(&self, path: &str) -> Request {
        let headers = [
            ("Host", SERVER),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "c2VlZGVkLCBub3QgZHJhdw=="),
        ];
        let begun = Request::builder().uri(format!("ws://{SERVER}:{}{path}", self.port));
        let request = headers.into_iter().fold(begun, |request, (name, value)| request.header(name, value));
        request.body(()).expect("all of it is what a request may have")
    }
}

/// A connection that writes down what goes over it.
struct Connection {
    who: Who,
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    recorder: Recorder,
    /// What came while something was sent.
    early: VecDeque<Value>,
    /// When the last frame came, or it looked again.
    heard: Instant,
    /// When the last frame came, in simulated time.
    heard_at: Duration,
    is_gone: bool,
}

type Socket = WebSocketStream<TcpStream>;

/// What comes next on a connection.
enum Next {
    Message(Value),
    /// The time is up.
    Nothing,
    /// The connection is gone.
    Lost,
}

impl Connection {
    fn new(who: Who, socket: Socket, recorder: Recorder) -> Connection {
        let (sink, stream) = socket.split();
        let (heard, heard_at) = (Instant::now(), Duration::ZERO);
        Connection { who, sink, stream, recorder, early: VecDeque::new(), heard, heard_at, is_gone: false }
    }

    /// Sends a message. One that does not leave is as good as one that does not arrive: the next read tells.
    async fn send(&mut self, message: Value) {
        let frame = Message::text(message.to_string());
        self.send_as(message, frame).await;
    }

    /// Sends a message as this frame, and goes on reading: a server that is not read from may not read, either.
    async fn send_as(&mut self, message: Value, frame: Message) {
        self.recorder.note(&self.who, What::Sent(message));
        if self.is_gone {
            return;
        }
        let patience = Instant::now() + SILENCE;
        let mut sending = self.sink.send(frame);
        self.is_gone = loop {
            tokio::select! {
                biased;
                sent = &mut sending => break sent.is_err(),
                received = self.stream.next() => match received {
                    Some(Ok(frame)) => {
                        self.heard = Instant::now();
                        self.heard_at = turmoil::sim_elapsed().unwrap_or_default();
                        self.early.extend(read(&self.recorder, &self.who, frame));
                    }
                    Some(Err(_)) | None => break true,
                },
                () = sleep_until(patience) => break true,
            }
        };
    }

    /// The next message, if one comes until then.
    async fn next(&mut self, until: Instant) -> Next {
        loop {
            if let Some(message) = self.early.pop_front() {
                return Next::Message(message);
            }
            if self.is_gone {
                break;
            }
            let patience = self.heard + SILENCE;
            match timeout_at(until.min(patience), self.stream.next()).await {
                Ok(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    self.heard_at = turmoil::sim_elapsed().unwrap_or_default();
                    self.early.extend(read(&self.recorder, &self.who, frame));
                }
                Err(_) if until < patience => return Next::Nothing,
                Ok(Some(Err(_)) | None) | Err(_) => break,
            }
        }
        self.give_up();
        Next::Lost
    }

    /// Leaves the connection alone for a while: the peer's frames gather.
    async fn look_away(&mut self, pause: Duration) {
        sleep(pause).await;
        self.heard = Instant::now();
    }

    /// The client knows that it is gone, or is about to drop it.
    fn give_up(&mut self) {
        self.recorder.note(&self.who, What::Lost);
        self.is_gone = true;
    }

    async fn call(&mut self, id: &str, function: &str, data: &Value) {
        let message =
            json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": data});
        self.send(message).await;
    }
}

/// The message that a frame is, if it is one.
fn read(recorder: &Recorder, who: &Who, frame: Message) -> Option<Value> {
    let Message::Text(text) = frame else { return None };
    let message: Value = serde_json::from_str(&text).expect("the server sends JSON");
    recorder.note(who, What::Got(message.clone()));
    Some(message)
}

/// The text of a JSON string.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
