//! The published Rust SDK in the roles that the end-to-end tests give it: `headwater-rust-sdk ROLE [ARGUMENT...]`.
//! It takes the address of a running server from `HEADWATER_WORKERS`, and exits with 0 when everything that it
//! looked at was as it should be.

mod client;
mod compare_and_set;
mod custom_stream;
mod discovery;
mod functions;
mod limits;
mod typed;

use std::time::Duration;

/// How long a role may take.
const DEADLINE: Duration = Duration::from_secs(80);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let role = async {
        match arguments[..] {
            ["functions"] => functions::run(None).await,
            ["functions", namespace] => functions::run(Some(namespace)).await,
            ["limits"] => limits::run().await,
            ["custom_stream"] => custom_stream::run().await,
            ["discovery"] => discovery::run().await,
            ["typed"] => typed::run().await,
            ["compare_and_set", times] => compare_and_set::run(times.parse().expect("a number")).await,
            _ => panic!("no role {arguments:?}"),
        }
    };
    tokio::time::timeout(DEADLINE, role).await.expect("the role is done in time");
    // Beside the SDK's threads, which would not end the process either.
    std::process::exit(0);
}
