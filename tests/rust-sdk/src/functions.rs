//! All eight stream functions through the published SDK, with their exact results; errors; functions of workers.

use iii_sdk::{Error, IIIClient, RegisterFunction};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use crate::client::{WAIT, call, end, gives, refusal, result, send, settled, with, worker_in};

/// On a server that holds nothing yet.
pub(crate) async fn run(namespace: Option<&str>) {
    let (a, b) = (worker_in(namespace, "a"), worker_in(namespace, "b"));
    results(&a).await;
    values(&a).await;
    earlier_spellings(&a).await;
    errors(&a).await;
    functions_of_workers(&a, &b).await;
    void_calls(&a, &b).await;
    end(a).await;
    end(b).await;
}

async fn results(a: &IIIClient) {
    let group = json!({ "stream_name": "chat", "group_id": "room-1" });
    let item = with(&group, json!({ "item_id": "m1" }));
    let first = json!({ "id": "m1", "text": "hello", "n": 1 });
    let second = json!({ "id": "m1", "text": "hello again", "n": 2 });

    gives(a, "stream::list_all", json!({}), json!({ "stream": [], "count": 0 })).await;
    gives(a, "stream::list", group.clone(), json!([])).await;
    gives(a, "stream::list_groups", json!({ "stream_name": "chat" }), json!([])).await;
    // This SDK has null for an answer without a result.
    gives(a, "stream::get", item.clone(), Value::Null).await;
    gives(a, "stream::delete", item.clone(), json!({ "old_value": null })).await;

    let set = with(&item, json!({ "data": first }));
    gives(a, "stream::set", set, json!({ "old_value": null, "new_value": first })).await;
    let set = with(&item, json!({ "data": second }));
    gives(a, "stream::set", set, json!({ "old_value": first, "new_value": second })).await;
    gives(a, "stream::get", item.clone(), second.clone()).await;

    let ops = json!([
        { "type": "increment", "path": "n", "by": 40 },
        { "type": "set", "path": "text", "value": "bye" },
    ]);
    let third = json!({ "id": "m1", "text": "bye", "n": 42 });
    let update = with(&item, json!({ "ops": ops }));
    gives(a, "stream::update", update, json!({ "old_value": second, "new_value": third })).await;
    let ops =
        json!([{ "type": "merge", "value": { "id": "m0" } }, { "type": "append", "path": "id", "value": 1 }]);
    let updated = result(a, "stream::update", with(&group, json!({ "item_id": "m0", "ops": ops }))).await;
    assert_eq!((&updated["old_value"], &updated["new_value"]), (&Value::Null, &json!({ "id": "m0" })));
    let error = (&updated["errors"][0]["op_index"], &updated["errors"][0]["code"]);
    assert_eq!(error, (&json!(1), &json!("append.type_mismatch")), "{updated}");

    // In the order of creation, not of names.
    gives(a, "stream::list", group.clone(), json!([third, { "id": "m0" }])).await;
    gives(a, "stream::send", with(&group, json!({ "type": "typing", "data": { "who": "a" } })), Value::Null)
        .await;
    let event = json!({ "id": "m1", "type": "typing", "data": null });
    gives(a, "stream::send", with(&group, event), Value::Null).await;

    // Groups in the order of their bytes, however they came about.
    let one = json!({ "old_value": null, "new_value": 1 });
    for group_id in ["b", "a", "Z", "é"] {
        let set = json!({ "stream_name": "chat", "group_id": group_id, "item_id": "x", "data": 1 });
        gives(a, "stream::set", set, one.clone()).await;
    }
    let other = json!({ "stream_name": "a-stream", "group_id": "g", "item_id": "x" });
    gives(a, "stream::set", with(&other, json!({ "data": 1 })), one).await;
    let groups = json!(["Z", "a", "b", "room-1", "é"]);
    gives(a, "stream::list_groups", json!({ "stream_name": "chat" }), groups.clone()).await;
    let streams = json!([{ "id": "a-stream", "groups": ["g"] }, { "id": "chat", "groups": groups }]);
    gives(a, "stream::list_all", json!({}), json!({ "stream": streams, "count": 2 })).await;

    gives(a, "stream::delete", item.clone(), json!({ "old_value": third })).await;
    gives(a, "stream::get", item, Value::Null).await;
    gives(a, "stream::list", group, json!([{ "id": "m0" }])).await;
    // An emptied group is no longer listed.
    gives(a, "stream::delete", other, json!({ "old_value": 1 })).await;
    gives(a, "stream::list_groups", json!({ "stream_name": "a-stream" }), json!([])).await;
}

/// Every kind of value is stored and comes back, those at the ends of the integers, too.
async fn values(a: &IIIClient) {
    let group = json!({ "stream_name": "values", "group_id": "g" });
    let nested = json!({ "a": { "b": [1, { "c": null }] } });
    let all = json!([
        null,
        true,
        0,
        -1.5,
        1.0,
        i64::MIN,
        u64::MAX,
        f64::MAX,
        "",
        "text",
        "😀\u{0}\n\"",
        [],
        {},
        [null],
        nested
    ]);
    for (n, data) in all.as_array().expect("an array").iter().enumerate() {
        let item = with(&group, json!({ "item_id": format!("v{n}") }));
        let set = with(&item, json!({ "data": data }));
        gives(a, "stream::set", set, json!({ "old_value": null, "new_value": data })).await;
        gives(a, "stream::get", item, data.clone()).await;
    }
    gives(a, "stream::list", group, all).await;
}

async fn earlier_spellings(a: &IIIClient) {
    let group = json!({ "stream_name": "earlier", "group_id": "g" });
    let item = with(&group, json!({ "item_id": "i" }));
    let (one, two) = (json!({ "n": 1 }), json!({ "n": 2 }));
    let set = with(&item, json!({ "data": one }));
    gives(a, "streams.set", set, json!({ "old_value": null, "new_value": one })).await;
    gives(a, "streams.get", item.clone(), one.clone()).await;
    let update = with(&item, json!({ "ops": [{ "type": "increment", "path": "n", "by": 1 }] }));
    gives(a, "streams.update", update, json!({ "old_value": one, "new_value": two })).await;
    gives(a, "streams.getGroup", group.clone(), json!([two])).await;
    gives(a, "streams.listGroups", json!({ "stream_name": "earlier" }), json!(["g"])).await;
    let all = result(a, "streams.listAll", json!({})).await;
    let listed = all["stream"].as_array().expect("an array").iter().find(|stream| stream["id"] == "earlier");
    assert_eq!(listed, Some(&json!({ "id": "earlier", "groups": ["g"] })));
    gives(a, "streams.send", with(&group, json!({ "type": "t", "data": 1 })), Value::Null).await;
    gives(a, "streams.delete", item, json!({ "old_value": two })).await;
}

async fn errors(a: &IIIClient) {
    let item = json!({ "stream_name": "s", "group_id": "g", "item_id": "i" });
    let divide = json!({ "ops": [{ "type": "divide", "path": "n", "by": 2 }] });
    let half = json!({ "ops": [{ "type": "increment", "path": "n", "by": 1.5 }] });
    let wrong = [
        ("stream::set", json!({})),
        ("stream::set", json!("text")),
        ("stream::set", with(&item, json!({ "stream_name": "", "data": 1 }))),
        ("stream::get", json!({ "stream_name": "s", "group_id": "g" })),
        ("stream::get", with(&item, json!({ "item_id": 7 }))),
        ("stream::update", with(&item, divide)),
        ("stream::update", with(&item, half)),
    ];
    for (function, payload) in wrong {
        let error = refusal(a, function, payload.clone()).await;
        assert_eq!(error.code, "deserialization_error", "{function} {payload}: {error}");
        assert!(!error.message.is_empty(), "{function} {payload} ends with a message");
        assert_eq!(error.stacktrace, None, "{function} {payload}");
    }
    for function in ["stream::nothing", "nobody::has-this"] {
        assert_eq!(refusal(a, function, item.clone()).await.code, "function_not_found");
    }
    gives(a, "stream::get", item, Value::Null).await;
}

/// Worker A calls functions that worker B registered.
async fn functions_of_workers(a: &IIIClient, b: &IIIClient) {
    let echo = |input: Value| async move { Ok::<_, Error>(json!({ "echo": input })) };
    b.register_function("rust::echo", RegisterFunction::new_async(echo));
    let with_metadata = |_: Value, metadata: Option<Value>| Ok::<_, Error>(json!({ "metadata": metadata }));
    b.register_function("rust::metadata", RegisterFunction::new(with_metadata));
    b.register_function("rust::nothing", RegisterFunction::new(|_: Value| Ok::<_, Error>(())));
    let fails = |_: Value| Err::<Value, _>(Error::Handler("no such luck".to_owned()));
    b.register_function("rust::fails", RegisterFunction::new(fails));
    b.register_function(
        "rust::panics",
        RegisterFunction::new(|_: Value| -> Result<Value, _> { panic!("ouch") }),
    );
    let refuses = |_: Value| {
        let (code, message) = ("TOO_LATE".to_owned(), "the train has left".to_owned());
        Err::<Value, _>(Error::Remote { code, message, stacktrace: None })
    };
    b.register_function("rust::refuses", RegisterFunction::new(refuses));
    settled(b).await;

    let input = json!({ "deep": [{ "value": null }], "text": "😀", "big": u64::MAX });
    gives(a, "rust::echo", input.clone(), json!({ "echo": input })).await;
    // Also its own.
    gives(b, "rust::echo", json!(1), json!({ "echo": 1 })).await;
    gives(a, "rust::nothing", json!({}), Value::Null).await;
    gives(a, "rust::metadata", json!({}), json!({ "metadata": null })).await;
    let request = iii_sdk::protocol::TriggerRequest::new("rust::metadata", json!({}));
    let answer = a.trigger(request.metadata(json!({ "tenant": 7 }))).await.expect("it answers");
    assert_eq!(answer, json!({ "metadata": { "tenant": 7 } }));

    let error = refusal(a, "rust::fails", json!({})).await;
    assert_eq!(error.code, "invocation_failed");
    assert!(error.message.contains("no such luck"), "{error}");
    assert!(error.stacktrace.is_some(), "the handler's stack comes with it");
    let error = refusal(a, "rust::panics", json!({})).await;
    assert_eq!(error.code, "invocation_failed");
    assert!(error.message.contains("ouch"), "{error}");
    let error = refusal(a, "rust::refuses", json!({})).await;
    let parts = (error.code.as_str(), error.message.as_str(), error.stacktrace);
    assert_eq!(parts, ("TOO_LATE", "the train has left", None));

    let calls: Vec<_> = (0..100)
        .map(|n| {
            let a = a.clone();
            tokio::spawn(async move { call(&a, "rust::echo", json!(n)).await })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.expect("no panic").expect("an echo"), json!({ "echo": n }));
    }
}

/// Calls that nobody waits for are made, also when they fail.
async fn void_calls(a: &IIIClient, b: &IIIClient) {
    let (heard, mut hearing) = unbounded_channel();
    let hear = move |input: Value| heard.send(input).map_err(|e| Error::Handler(e.to_string()));
    b.register_function("rust::hear", RegisterFunction::new(hear));
    settled(b).await;

    send(a, "nobody::has-this", json!({})).await;
    send(a, "stream::set", json!({})).await;
    let item = json!({ "stream_name": "void", "group_id": "g", "item_id": "i" });
    send(a, "stream::set", with(&item, json!({ "data": "kept" }))).await;
    gives(a, "stream::get", item, json!("kept")).await;
    send(a, "rust::hear", json!({ "n": 1 })).await;
    let input = tokio::time::timeout(WAIT, hearing.recv()).await.expect("the void call is made");
    assert_eq!(input, Some(json!({ "n": 1 })));
}
