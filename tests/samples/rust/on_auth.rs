//! "Authentication", as it is printed in the stream module's documentation, with what the published SDK needs:
//!
//! - There is no `RegisterFunctionMessage::with_id` with a handler beside it: `register_function` takes the id and a
//!   `RegisterFunction`.
//! - A `)` was missing.
//! - A `main` around it.
mod serving;

use iii_sdk::{Error, RegisterFunction};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let iii = serving::worker();

    iii.register_function(
        "onAuth",
        RegisterFunction::new_async(|_input: Value| async move {
            Ok(json!({ "context": { "name": "John Doe" } }))
        }),
    );

    serving::serve(iii).await
}
