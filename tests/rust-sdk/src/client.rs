//! What the roles share: workers, calls and what they must end with.

use std::time::Duration;

use iii_sdk::errors::InvocationError;
use iii_sdk::protocol::TriggerRequest;
use iii_sdk::runtime::WorkerMetadata;
use iii_sdk::{Error, IIIClient, InitOptions, TriggerAction, register_worker};
use serde_json::Value;
use tokio::io::AsyncReadExt;

/// How long a call or anything else that is waited for may take.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// A worker of the published SDK. Names differ, as two workers must not share one.
pub(crate) fn worker(name: &str) -> IIIClient {
    worker_in(None, name)
}

/// A worker that names a namespace in all that it sends.
pub(crate) fn worker_in(namespace: Option<&str>, name: &str) -> IIIClient {
    let address = std::env::var("HEADWATER_WORKERS").expect("HEADWATER_WORKERS is set");
    let metadata = WorkerMetadata { name: full_name(name), ..WorkerMetadata::default() };
    let namespace = namespace.map(str::to_owned);
    register_worker(&address, InitOptions { metadata: Some(metadata), namespace, ..InitOptions::default() })
}

/// What the worker of this name tells the server.
pub(crate) fn full_name(name: &str) -> String {
    format!("rust-{}-{name}", std::process::id())
}

/// Calls a function and gives how it ended.
pub(crate) async fn call(worker: &IIIClient, function: &str, payload: Value) -> Result<Value, Error> {
    let timeout_ms = Some(WAIT.as_millis().try_into().expect("a short time"));
    let function_id = function.to_owned();
    worker.trigger(TriggerRequest { function_id, payload, action: None, timeout_ms }).await
}

/// Calls a function that must succeed.
pub(crate) async fn result(worker: &IIIClient, function: &str, payload: Value) -> Value {
    match call(worker, function, payload.clone()).await {
        Ok(result) => result,
        Err(error) => panic!("{function} {payload}: {error}"),
    }
}

/// Calls a function that must give this.
pub(crate) async fn gives(worker: &IIIClient, function: &str, payload: Value, expected: Value) {
    let result = result(worker, function, payload.clone()).await;
    assert_eq!(result, expected, "{function} {payload}");
}

/// Calls a function that must end with an error of the other side.
pub(crate) async fn refusal(worker: &IIIClient, function: &str, payload: Value) -> InvocationError {
    match call(worker, function, payload.clone()).await {
        Ok(result) => panic!("{function} {payload} was to be refused, but gave {result}"),
        Err(error) => error.invocation_error().unwrap_or_else(|| {
            panic!("{function} {payload} was to be refused by the other side, not: {error}")
        }),
    }
}

/// Calls a function and waits for nothing.
pub(crate) async fn send(worker: &IIIClient, function: &str, payload: Value) {
    let request = TriggerRequest {
        function_id: function.to_owned(),
        payload,
        action: Some(TriggerAction::Void),
        timeout_ms: None,
    };
    assert_eq!(worker.trigger(request).await.expect("a void call is sent"), Value::Null);
}

/// Waits until what was registered is known: a worker's frames are handled in their order.
pub(crate) async fn settled(worker: &IIIClient) {
    result(worker, "stream::list_all", serde_json::json!({})).await;
}

/// Says that what was registered is known, and ends the worker when stdin is closed.
pub(crate) async fn serve(worker: IIIClient) {
    settled(&worker).await;
    println!("ready");
    let mut rest = String::new();
    tokio::io::stdin().read_to_string(&mut rest).await.expect("stdin is text");
    end(worker).await;
}

/// Ends a worker, and its thread with it.
pub(crate) async fn end(worker: IIIClient) {
    tokio::task::spawn_blocking(move || worker.shutdown()).await.expect("a shutdown does not panic");
}

/// The object with the members of both.
pub(crate) fn with(object: &Value, more: Value) -> Value {
    let (Value::Object(mut all), Value::Object(more)) = (object.clone(), more) else {
        panic!("two objects");
    };
    all.extend(more);
    Value::Object(all)
}
