//! "Worked example" of the triggers' documentation, which prints the binding alone and says what can be done with it:
//! a projection into another stream, here counts of what happened.
//!
//! `register_trigger` is deprecated in this version of the SDK.
mod serving;

use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::{Error, RegisterFunction};
use serde_json::{Value, json};

#[tokio::main]
#[allow(deprecated)]
async fn main() -> Result<(), Error> {
    let iii = serving::worker();

    let caller = iii.clone();
    iii.register_function(
        "presence::on-change",
        RegisterFunction::new_async(move |event: Value| {
            let iii = caller.clone();
            async move {
                let counts = json!({
                    "stream_name": "presence-stats",
                    "group_id": "room-1",
                    "item_id": "counts",
                    "ops": [{ "type": "increment", "path": event["event"]["type"], "by": 1 }]
                });
                iii.trigger(TriggerRequest::new("stream::update", counts)).await
            }
        }),
    );

    iii.register_trigger(RegisterTriggerInput::new(
        "stream",
        "presence::on-change",
        json!({ "stream_name": "presence", "group_id": "room-1" }),
    ))?;

    serving::serve(iii).await
}
