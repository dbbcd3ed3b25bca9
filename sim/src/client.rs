//! The clients of a world: workers that write, subscribers that watch, and a closer that ends it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use turmoil::net::TcpStream;

use crate::random::Random;
use crate::trace::{Recorder, What};

/// The server's host name.
pub(crate) const SERVER: &str = "server";
/// Its ports.
pub(crate) const WORKER_PORT: u16 = 49_134;
pub(crate) const STREAM_PORT: u16 = 3_112;
/// The one stream of a world.
pub(crate) const STREAM: &str = "world";
/// The type of the event after which nothing comes.
pub(crate) const END: &str = "end";

/// A client takes a connection for dead after this long without a frame; the server pings far more often.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How long a client waits before it connects again.
const AGAIN: Duration = Duration::from_millis(40);

/// How far the world is; clients know it from one another, past the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Rc<RefCell<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    workers: usize,
    subscribers: usize,
}

/// A connection that writes down what goes over it.
struct Connection {
    who: String,
    socket: WebSocketStream<TcpStream>,
    recorder: Recorder,
}

impl Connection {
    /// Connects, again and again until it works.
    async fn open(who: &str, port: u16, path: &str, recorder: &Recorder) -> Connection {
        loop {
            let connect = async {
                let stream = TcpStream::connect((SERVER, port)).await.ok()?;
                let request = format!("ws://{SERVER}:{port}{path}");
                tokio_tungstenite::client_async(request, stream).await.ok()
            };
            if let Ok(Some((socket, _))) = timeout(SILENCE, connect).await {
                recorder.note(who, What::Connected);
                return Connection { who: who.to_owned(), socket, recorder: recorder.clone() };
            }
            sleep(AGAIN).await;
        }
    }

    /// Sends a message. One that does not leave is as good as one that does not arrive: the next read tells.
    async fn send(&mut self, message: Value) {
        let text = message.to_string();
        self.recorder.note(&self.who, What::Sent(message));
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// The next message; `None` if the connection is lost.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match timeout(SILENCE, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    let message: Value = serde_json::from_str(&text).expect("the server sends JSON");
                    self.recorder.note(&self.who, What::Got(message.clone()));
                    return Some(message);
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) | Err(_) => {
                    self.recorder.note(&self.who, What::Lost);
                    return None;
                }
            }
        }
    }

    async fn call(&mut self, id: &str, function: &str, data: Value) {
        let message =
            json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": data});
        self.send(message).await;
    }

    /// The next answer to a call; `None` if the connection is lost.
    async fn answer(&mut self) -> Option<Value> {
        loop {
            let message = self.next().await?;
            if message["type"] == "invocationresult" {
                return Some(message);
            }
        }
    }
}

/// A worker that sets, deletes and sends for a while, several calls in flight, in items of its own.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    /// How many items it has in each group.
    pub(crate) items: u64,
    /// How many calls it has in flight at most.
    pub(crate) window: usize,
    /// When it stops, in simulated time.
    pub(crate) until: Duration,
    pub(crate) random: Random,
    pub(crate) recorder: Recorder,
    pub(crate) progress: Progress,
}

impl Worker {
    pub(crate) async fn run(mut self) {
        let mut calls = 0;
        while !self.works(&mut calls).await {}
        self.progress.0.borrow_mut().workers += 1;
    }

    /// Works on one connection; says whether its work is done.
    async fn works(&mut self, calls: &mut u64) -> bool {
        let mut connection = Connection::open(&self.name, WORKER_PORT, "/", &self.recorder).await;
        let mut in_flight = 0;
        // What is there after a crash, before anything new.
        for group in &self.groups {
            *calls += 1;
            let data = json!({"stream_name": STREAM, "group_id": group});
            connection.call(&format!("{}:{calls}", self.name), "stream::list", data).await;
            in_flight += 1;
        }
        loop {
            let working = turmoil::sim_elapsed().unwrap_or_default() < self.until;
            if working && in_flight < self.window {
                *calls += 1;
                let (function, data) = self.draw(*calls);
                connection.call(&format!("{}:{calls}", self.name), function, data).await;
                in_flight += 1;
                sleep(self.random.millis(0..8)).await;
            } else if in_flight == 0 {
                return true;
            } else if connection.answer().await.is_some() {
                in_flight -= 1;
            } else {
                return false;
            }
        }
    }

    /// A call with a value that no other has.
    fn draw(&mut self, number: u64) -> (&'static str, Value) {
        let group = &self.groups[self.random.index(self.groups.len())];
        let item = format!("{}-{}", self.name, self.random.within(0..self.items));
        match self.random.within(0..10) {
            0 => ("stream::delete", json!({"stream_name": STREAM, "group_id": group, "item_id": item})),
            1 => {
                let data = json!({"from": self.name, "n": number});
                (
                    "stream::send",
                    json!({"stream_name": STREAM, "group_id": group, "type": "note", "data": data}),
                )
            }
            _ => {
                let data = json!({"id": item, "n": number});
                (
                    "stream::set",
                    json!({"stream_name": STREAM, "group_id": group, "item_id": item, "data": data}),
                )
            }
        }
    }
}

/// A group, or an item of it.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) group: String,
    pub(crate) item: Option<String>,
}

/// A subscriber that comes back until it has seen the end of all that it watches.
pub(crate) struct Subscriber {
    pub(crate) name: String,
    /// Joined by the path if it is one group, else by join frames.
    pub(crate) watched: Vec<Watched>,
    pub(crate) recorder: Recorder,
    pub(crate) progress: Progress,
}

impl Subscriber {
    pub(crate) async fn run(self) {
        while !self.watches().await {
            sleep(AGAIN).await;
        }
        self.progress.0.borrow_mut().subscribers += 1;
    }

    /// Watches over one connection; says whether it saw the end.
    async fn watches(&self) -> bool {
        let (path, joins) = match &self.watched[..] {
            [Watched { group, item: None }] => (format!("/stream/{STREAM}/{group}"), &[][..]),
            watched => ("/".to_owned(), watched),
        };
        let mut connection = Connection::open(&self.name, STREAM_PORT, &path, &self.recorder).await;
        for (at, Watched { group, item }) in joins.iter().enumerate() {
            let subscription = format!("{}-{at}", self.name);
            let data =
                json!({"subscriptionId": subscription, "streamName": STREAM, "groupId": group, "id": item});
            connection.send(json!({"type": "join", "data": data})).await;
        }
        let mut open: BTreeSet<&str> = self.watched.iter().map(|watched| &*watched.group).collect();
        while let Some(message) = connection.next().await {
            if message["event"]["event"]["type"] == END {
                open.remove(message["groupId"].as_str().unwrap_or_default());
            }
            if open.is_empty() {
                return true;
            }
        }
        false
    }
}

/// Ends the world: once the workers are done, it tells every subscriber, and lists what is there.
pub(crate) struct Closer {
    pub(crate) workers: usize,
    pub(crate) subscribers: usize,
    /// The groups, each with the item that is watched alone.
    pub(crate) watched: Vec<Watched>,
    pub(crate) recorder: Recorder,
    pub(crate) progress: Progress,
}

/// The closer's name: what it lists is what there is at the end.
pub(crate) const CLOSER: &str = "closer";

impl Closer {
    pub(crate) async fn run(self) {
        while self.progress.0.borrow().workers < self.workers {
            sleep(AGAIN).await;
        }
        let mut connection = Connection::open(CLOSER, WORKER_PORT, "/", &self.recorder).await;
        let mut calls = 0;
        // Who connects again at the wrong moment misses the first.
        while self.progress.0.borrow().subscribers < self.subscribers {
            for Watched { group, item } in &self.watched {
                calls += 1;
                let data = json!({
                    "stream_name": STREAM, "group_id": group, "id": item, "type": END, "data": {"n": calls},
                });
                connection.call(&format!("{CLOSER}:{calls}"), "stream::send", data).await;
                connection.answer().await;
            }
            sleep(5 * AGAIN).await;
        }
        for Watched { group, .. } in &self.watched {
            calls += 1;
            let data = json!({"stream_name": STREAM, "group_id": group});
            connection.call(&format!("{CLOSER}:{calls}"), "stream::list", data).await;
            connection.answer().await;
        }
    }
}
