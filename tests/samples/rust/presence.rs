//! "Usage Example: Real-Time Presence", as it is printed in the stream module's documentation, with what the
//! published SDK needs:
//!
//! - `TriggerRequest` is in `iii_sdk::protocol`.
//! - `TriggerRequest` has no method `action`: the action is a field.
//! - `TriggerAction::void()` is the variant `TriggerAction::Void`.
//! - The address comes from `HEADWATER_WORKERS`.
//! - A `main` around it, which prints what was read and ends with a call that is answered: the last one that is printed
//!   waits for nothing, and neither the end of the process nor `shutdown` waits until it was sent.
use iii_sdk::protocol::TriggerRequest;
use iii_sdk::{InitOptions, TriggerAction, register_worker};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), iii_sdk::Error> {
    let address = std::env::var("HEADWATER_WORKERS").expect("HEADWATER_WORKERS is set");
    let iii = register_worker(&address, InitOptions::default());

    let mut request = TriggerRequest::new(
        "stream::set",
        json!({
            "stream_name": "presence",
            "group_id": "room-1",
            "item_id": "user-123",
            "data": { "name": "Alice", "online": true }
        }),
    );
    request.action = Some(TriggerAction::Void);
    iii.trigger(request).await?;

    let user = iii
        .trigger(TriggerRequest::new(
            "stream::get",
            json!({
                "stream_name": "presence",
                "group_id": "room-1",
                "item_id": "user-123"
            }),
        ))
        .await?;

    let room_members = iii
        .trigger(TriggerRequest::new(
            "stream::list",
            json!({
                "stream_name": "presence",
                "group_id": "room-1"
            }),
        ))
        .await?;

    let mut request = TriggerRequest::new(
        "stream::delete",
        json!({
            "stream_name": "presence",
            "group_id": "room-1",
            "item_id": "user-123"
        }),
    );
    request.action = Some(TriggerAction::Void);
    iii.trigger(request).await?;

    println!("user {user}");
    println!("members {room_members}");
    iii.trigger(TriggerRequest::new("stream::list_all", json!({}))).await?;
    iii.shutdown();
    Ok(())
}
