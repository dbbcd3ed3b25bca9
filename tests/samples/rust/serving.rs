//! What surrounds every sample that serves: a worker that registers functions, and stays while it is needed.

use iii_sdk::protocol::TriggerRequest;
use iii_sdk::{Error, IIIClient, InitOptions, register_worker};
use serde_json::json;

/// A worker at the address that `HEADWATER_WORKERS` says.
pub(crate) fn worker() -> IIIClient {
    let address = std::env::var("HEADWATER_WORKERS").expect("HEADWATER_WORKERS is set");
    register_worker(&address, InitOptions::default())
}

/// Says that everything is registered, and returns when stdin is closed.
pub(crate) async fn serve(iii: IIIClient) -> Result<(), Error> {
    // A worker's frames are handled in their order: what was registered before this call is known after it.
    iii.trigger(TriggerRequest::new("stream::list_all", json!({}))).await?;
    println!("ready");
    std::io::read_to_string(std::io::stdin()).map_err(|e| Error::Runtime(e.to_string()))?;
    iii.shutdown();
    Ok(())
}
