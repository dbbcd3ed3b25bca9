//! What this SDK can't read, and what that costs.

use serde_json::{Value, json};

use crate::client::{call, end, gives, send, worker};

/// The deepest value that this SDK reads as a result: one level less than serde_json's limit.
const DEEPEST: usize = 126;

/// The group `odd` of the stream `odd` has an item `huge`, a number that is no double.
pub(crate) async fn run() {
    let worker = worker("limits");
    let item = |id: &str| json!({ "stream_name": "odd", "group_id": "odd", "item_id": id });
    for (id, depth) in [("deep", DEEPEST), ("deeper", DEEPEST + 1)] {
        let mut set = item(id);
        set["data"] = nested(depth);
        // Nobody waits for the answer, which holds the value a level deeper still.
        send(&worker, "stream::set", set).await;
    }
    gives(&worker, "stream::get", item("deep"), nested(DEEPEST)).await;

    // It drops an answer that it can't read, so that the call ends with its own timeout. Answers come in the order
    // of the calls: these would be there before the last one's.
    tokio::select! {
        biased;
        end = call(&worker, "stream::get", item("huge")) => panic!("this SDK has learned to read 1e400: {end:?}"),
        end = call(&worker, "stream::get", item("deeper")) => panic!("this SDK has learned to read deeper: {end:?}"),
        () = gives(&worker, "stream::get", item("missing"), Value::Null) => {}
    }
    end(worker).await;
}

/// Arrays within arrays.
fn nested(depth: usize) -> Value {
    (1..depth).fold(json!([]), |value, _| json!([value]))
}
