//! The published Node SDK as a caller of the built-in functions. As a worker it is in `sdks`.

use headwater_tests::{Script, Server};

#[tokio::test]
async fn the_node_sdk_gets_the_exact_results_of_all_functions() {
    let server = Server::start().await;
    Script::node(&server, "functions.mjs", &[]).succeeds().await;
}
