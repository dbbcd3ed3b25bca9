//! Handlers that take and give the SDK's own types: what the server sends must read as these.
#![allow(deprecated)] // The SDK's types for streams are.

use iii_helpers::stream::{
    StreamAuthInput, StreamAuthResult, StreamChangeEvent, StreamJoinLeaveEvent, StreamJoinLeaveTriggerConfig,
    StreamJoinResult, StreamTriggerConfig,
};
use iii_sdk::RegisterFunction;
use iii_sdk::trigger::IIITrigger;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{serve, worker};

/// Knows the subscribers whose query has a `user`, lets them alone join the stream `typed`, and prints what it hears.
pub(crate) async fn run() {
    let iii = worker("typed");
    let auth = |input: Value| {
        let input: StreamAuthInput = serde_json::from_value(input)?;
        print("auth", &input);
        let user = input.query_params.get("user").and_then(|values| values.first());
        let context = user.map(|user| json!({ "user": user }));
        Ok(json!(StreamAuthResult { context }))
    };
    iii.register_function("typed::auth", RegisterFunction::new(auth));
    let join = |event: StreamJoinLeaveEvent| {
        print("join", &event);
        Ok(json!(StreamJoinResult { unauthorized: event.context.is_none() }))
    };
    iii.register_function("typed::join", RegisterFunction::new(join));
    let leave = |event: StreamJoinLeaveEvent| {
        print("leave", &event);
        Ok(())
    };
    iii.register_function("typed::leave", RegisterFunction::new(leave));
    let change = |event: StreamChangeEvent| {
        print("change", &event);
        Ok(())
    };
    iii.register_function("typed::change", RegisterFunction::new(change));

    let sessions = StreamJoinLeaveTriggerConfig::new().stream_name("typed");
    let triggers = [
        IIITrigger::StreamJoin(sessions.clone()).for_function("typed::join"),
        IIITrigger::StreamLeave(sessions).for_function("typed::leave"),
        IIITrigger::Stream(StreamTriggerConfig::new().stream_name("typed").group_id("g"))
            .for_function("typed::change"),
    ];
    for trigger in triggers {
        iii.register_trigger(trigger).expect("a trigger is registered");
    }
    serve(iii).await;
}

/// What was read is what is written again.
fn print(what: &str, read: &impl Serialize) {
    println!("{what} {}", serde_json::to_string(read).expect("what was read can be written"));
}
