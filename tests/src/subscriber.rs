use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::{Incoming, Socket};

/// A subscriber that speaks the stream port's protocol itself, so that tests see every frame.
pub struct Subscriber {
    socket: Socket,
}

/// A frame of the stream port.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// Always `stream`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version that clients compare; 0 in an error.
    pub timestamp: u64,
    /// The stream.
    pub stream_name: String,
    /// The group.
    pub group_id: String,
    /// The item, if the frame is about one.
    pub id: Option<String>,
    /// The group's revision; errors have none.
    pub revision: Option<u64>,
    /// The name of the store's history, in a sync.
    pub epoch: Option<String>,
    /// How many sent events the subscriber has missed of what this is the state of, if it was too slow for them.
    #[serde(default)]
    pub skipped: u64,
    /// What happened.
    pub event: Happened,
}

/// The event of a frame.
#[derive(Clone, Debug, Deserialize)]
pub struct Happened {
    /// `sync`, `create`, `update`, `delete`, `event`, `unauthorized` or `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The exact JSON text that came with it.
    pub data: Option<Box<RawValue>>,
    /// A custom event, if it is one.
    pub event: Option<Value>,
    /// The error, if it is one.
    pub error: Option<Value>,
}

impl Frame {
    /// The data as a JSON value; null when there is none.
    pub fn data(&self) -> Value {
        self.event.data.as_ref().map_or(Value::Null, |raw| {
            serde_json::from_str(raw.get()).unwrap_or_else(|e| panic!("{e} in {self:?}"))
        })
    }

    /// The exact text of the data. A null reads like no data.
    pub fn data_text(&self) -> &str {
        self.event.data.as_ref().map_or("null", |raw| raw.get())
    }

    /// The code of an error; fails on anything else.
    pub fn error_code(&self) -> &str {
        match &self.event.error {
            Some(error) if self.event.kind == "error" && self.timestamp == 0 => {
                assert!(error["message"].is_string(), "an error has a message: {self:?}");
                error["code"].as_str().unwrap_or_else(|| panic!("an error has a code: {self:?}"))
            }
            _ => panic!("waited for an error, but got {self:?}"),
        }
    }
}

impl Subscriber {
    /// Connects. A path `/stream/{stream}/{group}` joins at once.
    pub async fn connect(address: &str) -> Subscriber {
        Subscriber { socket: Socket::connect(address).await }
    }

    /// Connects with further headers in the handshake, such as a token or subprotocols.
    pub async fn connect_with(address: &str, headers: &[(&str, &str)]) -> Subscriber {
        match Socket::connect_with(address, headers).await {
            Ok(socket) => Subscriber::on(socket),
            Err(answer) => panic!("no connection to {address} with {headers:?}: {answer:?}"),
        }
    }

    /// Makes a connection a subscriber's.
    pub fn on(socket: Socket) -> Subscriber {
        Subscriber { socket }
    }

    /// Connects and joins a whole group: the subscriber and the frame of its sync.
    pub async fn of_group(address: &str, stream: &str, group: &str) -> (Subscriber, Frame) {
        let mut subscriber = Subscriber::connect(address).await;
        let sync = subscriber.join("group", stream, group, None).await;
        (subscriber, sync)
    }

    /// Joins and waits for the sync, which must be the next frame.
    pub async fn join(&mut self, subscription: &str, stream: &str, group: &str, id: Option<&str>) -> Frame {
        self.send_join(subscription, stream, group, id).await;
        self.next_of("sync").await
    }

    /// Asks to join and waits for nothing.
    pub async fn send_join(&mut self, subscription: &str, stream: &str, group: &str, id: Option<&str>) {
        self.send_subscription("join", subscription, stream, group, id).await;
    }

    /// Leaves. The server does not answer.
    pub async fn leave(&mut self, subscription: &str, stream: &str, group: &str, id: Option<&str>) {
        self.send_subscription("leave", subscription, stream, group, id).await;
    }

    /// The next frame.
    pub async fn next(&mut self) -> Frame {
        parse(&self.socket.next_text("a frame").await)
    }

    /// The next frame, or `None` when the connection ended.
    pub async fn next_or_end(&mut self) -> Option<Frame> {
        match self.socket.next("a frame or the end").await {
            Incoming::Text(text) => Some(parse(&text)),
            Incoming::Closed(_) => None,
        }
    }

    /// The next frame, whose event must be of this kind.
    pub async fn next_of(&mut self, kind: &str) -> Frame {
        let frame = self.next().await;
        assert_eq!(frame.event.kind, kind, "waited for `{kind}`, but got {frame:?}");
        frame
    }

    /// The next frame, which must be an error: its code.
    pub async fn next_error(&mut self) -> String {
        self.next().await.error_code().to_owned()
    }

    /// The connection below, for input that no subscriber should send.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Gives up the subscriber and keeps the connection.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    async fn send_subscription(
        &mut self,
        kind: &str,
        subscription: &str,
        stream: &str,
        group: &str,
        id: Option<&str>,
    ) {
        let data =
            json!({ "subscriptionId": subscription, "streamName": stream, "groupId": group, "id": id });
        self.socket.send(json!({ "type": kind, "data": data }).to_string()).await;
    }
}

fn parse(text: &str) -> Frame {
    let frame: Frame =
        serde_json::from_str(text).unwrap_or_else(|e| panic!("no frame of the stream port: {e}: {text}"));
    assert_eq!(frame.kind, "stream", "every frame of the stream port is of type `stream`: {text}");
    frame
}
