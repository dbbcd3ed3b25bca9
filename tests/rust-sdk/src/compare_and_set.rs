//! Preconditions through the published SDK: what a conflict looks like, and a counter that many callers share.

use iii_sdk::IIIClient;
use serde_json::{Value, json};

use crate::client::{call, end, gives, refusal, result, with, worker};

/// Two callers count `times` times each.
pub(crate) async fn run(times: u64) {
    let (a, b) = (worker("a"), worker("b"));
    conflicts(&a, &b).await;
    tokio::join!(count(&a, times), count(&b, times));
    end(a).await;
    end(b).await;
}

/// Two callers saw the same: the first of them may change it.
async fn conflicts(a: &IIIClient, b: &IIIClient) {
    let group = json!({ "stream_name": "expect", "group_id": "rust" });
    let item = with(&group, json!({ "item_id": "i" }));
    for caller in [a, b] {
        let get = with(&item, json!({ "revision": true }));
        gives(caller, "stream::get", get, json!({ "value": null, "revision": 0 })).await;
    }

    let set = with(&item, json!({ "data": { "n": 1 }, "expect": { "revision": 0 } }));
    let first = json!({ "old_value": null, "new_value": { "n": 1 }, "revision": 1 });
    gives(a, "stream::set", set.clone(), first).await;
    conflict(b, "stream::set", set, "at revision 1, expected revision 0").await;
    let delete = with(&item, json!({ "expect": { "value": { "n": 2 } } }));
    conflict(b, "stream::delete", delete, "at revision 1, expected another value").await;
    let ops = json!([{ "type": "increment", "path": "n", "by": 1 }]);
    let update = with(&item, json!({ "ops": ops, "expect": { "revision": 7 } }));
    conflict(b, "stream::update", update, "at revision 1, expected revision 7").await;

    let update = with(&item, json!({ "ops": ops, "expect": { "value": { "n": 1.0 } } }));
    let second = json!({ "old_value": { "n": 1 }, "new_value": { "n": 2 }, "revision": 2 });
    gives(b, "stream::update", update, second).await;
    let list = json!([{ "id": "i", "value": { "n": 2 }, "revision": 2 }]);
    gives(a, "stream::list", with(&group, json!({ "revision": true })), list).await;
    let delete = with(&item, json!({ "expect": { "revision": 2 } }));
    gives(a, "stream::delete", delete, json!({ "old_value": { "n": 2 }, "revision": 3 })).await;
}

async fn conflict(caller: &IIIClient, function: &str, payload: Value, message: &str) {
    let error = refusal(caller, function, payload).await;
    assert_eq!(error.code, "STREAM_CONFLICT", "{error}");
    assert!(error.message.contains(message), "{error}");
}

/// Reads and sets again until nobody came between, each time.
async fn count(caller: &IIIClient, times: u64) {
    let counter = json!({ "stream_name": "expect", "group_id": "shared", "item_id": "counter" });
    let mut done = 0;
    while done < times {
        let found = result(caller, "stream::get", with(&counter, json!({ "revision": true }))).await;
        let next = found["value"].as_u64().unwrap_or(0) + 1;
        let set = with(&counter, json!({ "data": next, "expect": { "revision": found["revision"] } }));
        match call(caller, "stream::set", set).await {
            Ok(_) => done += 1,
            Err(error) => {
                let code = error.invocation_error().map(|error| error.code);
                assert_eq!(code.as_deref(), Some("STREAM_CONFLICT"), "{error}");
            }
        }
    }
}
