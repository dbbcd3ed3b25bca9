//! What this SDK can't read, and what that costs.

use iii_sdk::protocol::RegisterTriggerInput;
use iii_sdk::{Error, IIIClient, RegisterFunction};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use crate::client::{WAIT, call, end, gives, send, settled, worker};

/// How deep this SDK reads a frame: one level less than serde_json's limit.
const DEEPEST: usize = 127;

/// How deep a value is within the frame of a result, and within that of an event.
const IN_RESULT: usize = 1;
const IN_EVENT: usize = 3;

/// The group `odd` of the stream `odd` has an item `huge`, a number that is no double.
pub(crate) async fn run() {
    let worker = worker("limits");
    results(&worker).await;
    events(&worker).await;
    end(worker).await;
}

/// An answer that it can't read is dropped: the call ends with its own timeout, and all others as ever.
async fn results(worker: &IIIClient) {
    set(worker, "deep", nested(DEEPEST - IN_RESULT)).await;
    set(worker, "deeper", nested(DEEPEST - IN_RESULT + 1)).await;
    gives(worker, "stream::get", item("deep"), nested(DEEPEST - IN_RESULT)).await;
    // Answers come in the order of the calls: these would be there before the last one's.
    tokio::select! {
        biased;
        end = call(worker, "stream::get", item("huge")) => panic!("this SDK has learned to read 1e400: {end:?}"),
        end = call(worker, "stream::get", item("deeper")) => panic!("this SDK has learned to read deeper: {end:?}"),
        () = gives(worker, "stream::get", item("missing"), Value::Null) => {}
    }
}

/// An event that it can't read is dropped: its handler's deadline passes, and the next event comes.
async fn events(worker: &IIIClient) {
    let (heard, mut hearing) = unbounded_channel();
    let hear = move |event: Value| {
        heard.send(event["event"]["data"].clone()).map_err(|e| Error::Handler(e.to_string()))
    };
    worker.register_function("limits::hear", RegisterFunction::new(hear));
    let config = json!({ "stream_name": "odd", "item_id": "event" });
    #[allow(deprecated)]
    worker
        .register_trigger(RegisterTriggerInput::new("stream", "limits::hear", config))
        .expect("a trigger is registered");
    settled(worker).await;

    let deep = nested(DEEPEST - IN_EVENT);
    for value in [&deep, &nested(DEEPEST - IN_EVENT + 1), &json!("next")] {
        set(worker, "event", value.clone()).await;
    }
    for expected in [deep, json!("next")] {
        let value = tokio::time::timeout(WAIT, hearing.recv()).await.expect("the event comes");
        assert_eq!(value, Some(expected));
    }
}

fn item(id: &str) -> Value {
    json!({ "stream_name": "odd", "group_id": "odd", "item_id": id })
}

/// Nobody waits for the answer, which holds the value deeper than that of a `get`.
async fn set(worker: &IIIClient, id: &str, value: Value) {
    let mut set = item(id);
    set["data"] = value;
    send(worker, "stream::set", set).await;
}

/// Arrays within arrays.
fn nested(depth: usize) -> Value {
    (1..depth).fold(json!([]), |value, _| json!([value]))
}
