//! "stream:join and stream:leave", as it is printed in the stream module's documentation, with what the published SDK
//! needs:
//!
//! - There is no `RegisterFunctionMessage::with_id` with a handler beside it: `register_function` takes the id and a
//!   `RegisterFunction`.
//! - `RegisterTriggerInput` has more fields: `RegisterTriggerInput::new` takes the three that are printed.
//!   `register_trigger` is deprecated in this version.
//! - A `)` too many after `println!`, and one missing at the end.
//! - A `main` around it.
mod serving;

use iii_sdk::protocol::RegisterTriggerInput;
use iii_sdk::{Error, RegisterFunction};
use serde_json::{Value, json};

#[tokio::main]
#[allow(deprecated)]
async fn main() -> Result<(), Error> {
    let iii = serving::worker();

    iii.register_function(
        "onJoin",
        RegisterFunction::new_async(|input: Value| async move {
            println!("Joined stream: {:?}", input);
            Ok(json!({}))
        }),
    );

    iii.register_trigger(RegisterTriggerInput::new("stream:join", "onJoin", json!({})))?;

    serving::serve(iii).await
}
