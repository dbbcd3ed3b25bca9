//! "Usage Example: Conditional Join", as it is printed in the stream module's documentation, with what the published
//! SDK needs:
//!
//! - There is no `RegisterFunctionMessage::with_id` with a handler beside it: `register_function` takes the id and a
//!   `RegisterFunction`.
//! - `RegisterTriggerInput` has more fields: `RegisterTriggerInput::new` takes the three that are printed.
//!   `register_trigger` is deprecated in this version.
//! - A `)` too many after `is_some()` and after `let user_id = …`, and one missing at the end of each function.
//! - `stream::auth` of the sample before, so that there is a context.
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
        "stream::auth",
        RegisterFunction::new_async(|input: Value| async move {
            let headers = input.get("headers").and_then(|h| h.as_object());
            let token = headers
                .and_then(|h| h.get("authorization"))
                .and_then(|v| v.as_str())
                .and_then(|s| s.strip_prefix("Bearer "));
            match token {
                Some(_) => Ok(json!({ "context": { "userId": "user-from-token" } })),
                None => Ok(json!({ "context": null })),
            }
        }),
    );

    iii.register_function(
        "conditions::requireContext",
        RegisterFunction::new_async(|input: Value| async move {
            let has_user = input.get("context").and_then(|c| c.get("userId")).is_some();
            Ok(json!(has_user))
        }),
    );
    iii.register_function(
        "onJoin",
        RegisterFunction::new_async(|input: Value| async move {
            let user_id =
                input.get("context").and_then(|c| c.get("userId")).and_then(|u| u.as_str()).unwrap_or("");
            let stream = input["stream_name"].as_str().unwrap_or("");
            println!("User joined: {} {}", user_id, stream);
            Ok(json!({}))
        }),
    );

    iii.register_trigger(RegisterTriggerInput::new(
        "stream:join",
        "onJoin",
        json!({
            "condition_function_id": "conditions::requireContext"
        }),
    ))?;

    serving::serve(iii).await
}
