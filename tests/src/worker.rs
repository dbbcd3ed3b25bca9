use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::{Incoming, Socket};

/// A worker that speaks the worker port's protocol itself, so that tests see every byte of an answer.
pub struct Worker {
    socket: Socket,
    id: String,
    calls: u64,
    outcomes: BTreeMap<CallId, Outcome>,
    invocations: VecDeque<Invocation>,
}

/// A call of this worker that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(String);

/// How a call ended: the result's exact JSON text, or `None` when the answer had no `result`; or an error.
pub type Outcome = Result<Option<String>, Refusal>;

/// The error that a call ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A call that this worker is to answer.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Absent when nobody waits for the answer.
    pub id: Option<String>,
    /// Which of the worker's functions is called.
    pub function: String,
    /// The input.
    pub data: Value,
}

/// A frame of the server, as far as the tests look into it.
#[derive(Deserialize)]
struct ServerFrame<'a> {
    #[serde(rename = "type")]
    kind: String,
    worker_id: Option<String>,
    invocation_id: Option<String>,
    function_id: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

/// Tells a `null` from a key that is not there.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Worker {
    /// Connects and waits for the server's greeting.
    pub async fn connect(address: &str) -> Worker {
        Worker::on(Socket::connect(address).await).await
    }

    /// Makes a connection a worker's and waits for the greeting.
    pub async fn on(mut socket: Socket) -> Worker {
        let greeting = socket.next_text("the greeting").await;
        let frame = parse(&greeting);
        assert_eq!(frame.kind, "workerregistered", "the first frame is the greeting, not {greeting}");
        let id = frame.worker_id.expect("the greeting names the worker");
        Worker { socket, id, calls: 0, outcomes: BTreeMap::new(), invocations: VecDeque::new() }
    }

    /// The id that the server gave it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The connection below, for input that no worker should send.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Gives up the worker and keeps the connection.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// Calls a function and waits for the answer. `data` is written out as it is displayed: a JSON value, or
    /// the exact JSON text.
    pub async fn call(&mut self, function: &str, data: impl Display) -> Outcome {
        let call = self.start(function, data).await;
        self.finish(&call).await
    }

    /// Calls a function that must succeed. `None` when the answer had no `result`.
    pub async fn result_of(&mut self, function: &str, data: impl Display) -> Option<Value> {
        match self.call(function, data).await {
            Ok(result) => result.map(|text| serde_json::from_str(&text).expect("a result is JSON")),
            Err(refusal) => panic!("{function} was refused: {refusal:?}"),
        }
    }

    /// Calls a function that must be refused.
    pub async fn refusal_of(&mut self, function: &str, data: impl Display) -> Refusal {
        match self.call(function, data).await {
            Ok(result) => {
                let shown = result.map(|text| text.chars().take(200).collect::<String>());
                panic!("{function} was to be refused, but gave {shown:?}")
            }
            Err(refusal) => refusal,
        }
    }

    /// Stores a value.
    pub async fn set(&mut self, stream: &str, group: &str, id: &str, data: impl Display) {
        // The answer repeats the value: it may be nested deeper than the parser here goes.
        if let Err(refusal) = self.call("stream::set", stored(stream, group, id, data)).await {
            panic!("stream::set was refused: {refusal:?}");
        }
    }

    /// The values of a group in creation order.
    pub async fn list(&mut self, stream: &str, group: &str) -> Vec<Value> {
        let list = self.result_of("stream::list", json!({ "stream_name": stream, "group_id": group })).await;
        match list {
            Some(Value::Array(values)) => values,
            other => panic!("stream::list gives an array, not {other:?}"),
        }
    }

    /// Sends a call and does not wait for its answer.
    pub async fn start(&mut self, function: &str, data: impl Display) -> CallId {
        let (id, frame) = self.next_call(function, data);
        self.socket.send(frame).await;
        id
    }

    /// Sends a call to a server that may be gone: `None` if it did not take it, or not all of it.
    pub async fn try_start(&mut self, function: &str, data: impl Display) -> Option<CallId> {
        let (id, frame) = self.next_call(function, data);
        self.socket.try_send(frame).await.then_some(id)
    }

    /// Calls a function and wants no answer.
    pub async fn call_void(&mut self, function: &str, data: Value) {
        let action = json!({ "type": "void" });
        let frame =
            json!({ "type": "invokefunction", "function_id": function, "data": data, "action": action });
        self.socket.send(frame.to_string()).await;
    }

    /// Waits for the answer to a call.
    pub async fn finish(&mut self, call: &CallId) -> Outcome {
        loop {
            if let Some(outcome) = self.outcomes.remove(call) {
                return outcome;
            }
            let text = self.socket.next_text("the answer to a call").await;
            self.take(&text);
        }
    }

    /// Waits for the answer to any call. `None` when the connection ended instead.
    pub async fn next_outcome(&mut self) -> Option<(CallId, Outcome)> {
        loop {
            if let Some(answered) = self.outcomes.pop_first() {
                return Some(answered);
            }
            match self.socket.next("the answer to a call").await {
                Incoming::Text(text) => self.take(&text),
                Incoming::Closed(_) => return None,
            }
        }
    }

    /// Makes the calls with at most `window` of them unanswered. All must succeed; gives how many there were.
    pub async fn pipeline<I>(&mut self, function: &str, window: usize, calls: I) -> usize
    where
        I: IntoIterator<Item: Display>,
    {
        let (mut sent, mut answered) = (0, 0);
        for data in calls {
            if sent - answered == window {
                self.next_success(function).await;
                answered += 1;
            }
            self.start(function, data).await;
            sent += 1;
        }
        while answered < sent {
            self.next_success(function).await;
            answered += 1;
        }
        sent
    }

    /// Offers a function. When this returns, others can call it.
    pub async fn register(&mut self, function: &str) {
        self.socket.send(json!({ "type": "registerfunction", "id": function }).to_string()).await;
        // Frames of one worker are handled in their order, so this answer comes after the registration.
        self.result_of("stream::list_all", json!({})).await;
    }

    /// Waits for somebody to call one of this worker's functions.
    pub async fn next_invocation(&mut self) -> Invocation {
        loop {
            if let Some(invocation) = self.invocations.pop_front() {
                return invocation;
            }
            let text = self.socket.next_text("a call of this worker's function").await;
            self.take(&text);
        }
    }

    /// Answers a call with a result.
    pub async fn answer(&mut self, invocation: &Invocation, result: Value) {
        let frame = json!({
            "type": "invocationresult",
            "invocation_id": invocation.id,
            "function_id": invocation.function,
            "result": result,
        });
        self.socket.send(frame.to_string()).await;
    }

    /// Answers a call with an error.
    pub async fn refuse(&mut self, invocation: &Invocation, code: &str, message: &str) {
        let frame = json!({
            "type": "invocationresult",
            "invocation_id": invocation.id,
            "function_id": invocation.function,
            "error": { "code": code, "message": message },
        });
        self.socket.send(frame.to_string()).await;
    }

    /// The frame of a call.
    fn next_call(&mut self, function: &str, data: impl Display) -> (CallId, String) {
        self.calls += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", self.calls);
        let function = Value::from(function);
        let frame = format!(
            r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":{function},"data":{data}}}"#
        );
        (CallId(id), frame)
    }

    async fn next_success(&mut self, function: &str) {
        match self.next_outcome().await {
            Some((_, Ok(_))) => {}
            Some((call, Err(refusal))) => panic!("{function} ({call:?}) was refused: {refusal:?}"),
            None => panic!("the connection ended with calls of {function} unanswered"),
        }
    }

    /// Puts a frame where it is waited for.
    fn take(&mut self, text: &str) {
        let frame = parse(text);
        match frame.kind.as_str() {
            "invocationresult" => {
                let id = frame.invocation_id.expect("an answer names its call");
                let outcome = match frame.error {
                    Some(error) => Err(refusal(&error)),
                    None => Ok(frame.result.map(|raw| raw.get().to_owned())),
                };
                self.outcomes.insert(CallId(id), outcome);
            }
            "invokefunction" => self.invocations.push_back(Invocation {
                id: frame.invocation_id,
                function: frame.function_id.expect("a call names its function"),
                data: serde_json::from_str(frame.data.expect("a call has data").get())
                    .expect("the data of a call is JSON"),
            }),
            "pong" => {}
            other => panic!("no test expects a frame {other:?}: {text}"),
        }
    }
}

/// The input of a call that names an item.
pub fn item(stream: &str, group: &str, id: &str) -> Value {
    json!({ "stream_name": stream, "group_id": group, "item_id": id })
}

/// The input of a call that stores a value, given as a JSON value or as the exact text of one.
pub fn stored(stream: &str, group: &str, id: &str, data: impl Display) -> String {
    let (stream, group, id) = (Value::from(stream), Value::from(group), Value::from(id));
    format!(r#"{{"stream_name":{stream},"group_id":{group},"item_id":{id},"data":{data}}}"#)
}

fn parse(text: &str) -> ServerFrame<'_> {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("no frame of the worker port: {e}: {text}"))
}

/// An error as the clients need it: a code and a message, and no stacktrace unless there is one.
fn refusal(error: &Value) -> Refusal {
    let text = |key: &str| match &error[key] {
        Value::String(text) => text.clone(),
        _ => panic!("an error has a {key}, unlike {error}"),
    };
    assert!(error.get("stacktrace") != Some(&Value::Null), "`stacktrace: null` confuses clients: {error}");
    Refusal { code: text("code"), message: text("message") }
}
