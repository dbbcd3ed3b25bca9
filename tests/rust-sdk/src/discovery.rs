//! What workers can ask about each other reads as the SDK's own types.

use iii_sdk::RegisterFunction;
use iii_sdk::protocol::RegisterTriggerInput;
use iii_sdk::runtime::{FunctionInfo, TriggerInfo, WorkerInfo};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::{end, full_name, result, settled, worker};

pub(crate) async fn run() {
    let (a, b) = (worker("a"), worker("b"));
    let greet = RegisterFunction::new(|name: String| Ok(format!("Hello, {name}!")));
    let about = json!({ "team": "greeters" });
    b.register_function("b::greet", greet.description("Greets somebody.").metadata(about.clone()));
    let config = json!({ "stream_name": "people", "group_id": "" });
    let mut input = RegisterTriggerInput::new("stream", "b::greet", config.clone());
    input.metadata = Some(json!(7));
    #[allow(deprecated)]
    b.register_trigger(input).expect("a trigger is registered");
    settled(&b).await;

    let ask = async |function: &str| result(&a, function, json!({})).await;
    let functions: Vec<FunctionInfo> = read(&ask("engine::functions::list").await, "functions");
    let greet = functions.iter().find(|function| function.function_id == "b::greet").expect("it is listed");
    assert_eq!((greet.description.as_deref(), &greet.metadata), (Some("Greets somebody."), &Some(about)));
    let formats =
        [&greet.request_format, &greet.response_format].map(|format| format.as_ref().map(|f| &f["type"]));
    assert_eq!(formats, [Some(&json!("string")); 2]);

    let workers: Vec<WorkerInfo> = read(&ask("engine::workers::list").await, "workers");
    let listed = |name: &str| workers.iter().find(|worker| worker.name == Some(full_name(name)));
    let (Some(_), Some(info)) = (listed("a"), listed("b")) else { panic!("both are listed: {workers:?}") };
    assert_eq!((info.function_count, &info.functions[..]), (1, &["b::greet".to_owned()][..]));
    assert_eq!((info.runtime.as_deref(), info.active_invocations), (Some("rust"), 0));
    assert!(info.connected_at_ms > 0);

    let triggers: Vec<TriggerInfo> = read(&ask("engine::triggers::list").await, "triggers");
    let [trigger] = &triggers[..] else { panic!("one trigger: {triggers:?}") };
    assert_eq!((trigger.trigger_type.as_str(), trigger.function_id.as_str()), ("stream", "b::greet"));
    assert_eq!((&trigger.config, &trigger.metadata), (&config, &Some(json!(7))));
    end(a).await;
    end(b).await;
}

/// The member of this name, a list.
fn read<T: DeserializeOwned>(answer: &Value, member: &str) -> Vec<T> {
    let list = answer[member].as_array().unwrap_or_else(|| panic!("{member} in {answer}"));
    list.iter()
        .map(|entry| serde_json::from_value(entry.clone()).unwrap_or_else(|e| panic!("{e}: {entry}")))
        .collect()
}
