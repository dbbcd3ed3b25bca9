//! Functions that say who may join, and hear who joined and left.

use headwater_tests::{Puppet, Sdk, Server, Setup, Subscriber, Worker};
use serde_json::{Value, json};

/// The functions that every server of these tests is set up for.
const GATE: &str = "gate";
const LEFT: &str = "left";
const AUTH: &str = "authenticate";

fn setup() -> Setup {
    Setup::new().streams(json!({ "auth_function": AUTH }))
}

/// Authenticates two users, one of whom may join.
async fn authenticates(puppet: &mut Puppet) {
    let tokens = json!({
        "token-of-alice": { "user": "alice", "roles": ["reader", null] },
        "token-of-bob": { "user": "bob", "roles": [] },
    });
    puppet.registers(AUTH, json!({ "kind": "authenticates", "tokens": tokens })).await;
}

/// Gates all joins: only alice may. Hears of the leaves, too.
async fn gates(puppet: &mut Puppet) {
    let gate = json!({
        "kind": "if", "path": ["context", "user"], "is": "alice",
        "then": {}, "else": { "unauthorized": true },
    });
    puppet.registers(GATE, gate).await;
    puppet.binds(GATE, "stream:join", json!({})).await;
    puppet.registers(LEFT, json!({ "kind": "nothing" })).await;
    puppet.binds(LEFT, "stream:leave", json!({})).await;
}

async fn connect_as(server: &Server, user: &str) -> Subscriber {
    let bearer = format!("Bearer token-of-{user}");
    Subscriber::connect_with(server.streams(), &[("authorization", &bearer)]).await
}

fn of_alice() -> Value {
    json!({ "user": "alice", "roles": ["reader", null] })
}

fn joined(subscription: &str, id: Option<&str>, context: &Value) -> Value {
    json!({
        "subscription_id": subscription, "stream_name": "s", "group_id": "g", "id": id, "context": context,
    })
}

pub(crate) async fn a_gate_refuses_one_user_and_lets_another_in_by_the_context(sdk: Sdk) {
    let server = setup().start().await;
    let mut puppet = Puppet::start(&server, sdk);
    authenticates(&mut puppet).await;
    gates(&mut puppet).await;
    puppet.is_ready().await;
    let mut writer = Worker::connect(server.workers()).await;
    writer.set("s", "g", "i", json!(1)).await;

    let mut alice = connect_as(&server, "alice").await;
    let sync = alice.join("of alice", "s", "g", None).await;
    assert_eq!(sync.data(), json!([1]));
    assert_eq!(puppet.heard_of(GATE).await, joined("of alice", None, &of_alice()));

    let mut bob = connect_as(&server, "bob").await;
    bob.send_join("of bob", "s", "g", Some("i")).await;
    let refused = bob.next_of("unauthorized").await;
    assert_eq!((refused.stream_name.as_str(), refused.group_id.as_str()), ("s", "g"));
    assert_eq!(refused.id.as_deref(), Some("i"));
    let of_bob = json!({ "user": "bob", "roles": [] });
    assert_eq!(puppet.heard_of(GATE).await, joined("of bob", Some("i"), &of_bob));

    // What happens in the group reaches who is in it, and nobody else.
    writer.set("s", "g", "i", json!(2)).await;
    assert_eq!(alice.next_of("update").await.data(), json!(2));
    bob.send_join("of bob again", "s", "g", None).await;
    bob.next_of("unauthorized").await;
    assert_eq!(puppet.heard_of(GATE).await, joined("of bob again", None, &of_bob));

    // Bob was never in, so he never leaves. Alice vanishes without a word.
    drop(bob);
    drop(alice);
    assert_eq!(puppet.heard_of(LEFT).await, joined("of alice", None, &of_alice()));

    // Who leaves in good order leaves once.
    let mut alice = connect_as(&server, "alice").await;
    alice.join("again", "s", "g", Some("i")).await;
    alice.leave("again", "s", "g", Some("i")).await;
    assert_eq!(puppet.heard_of(LEFT).await, joined("again", Some("i"), &of_alice()));
    alice.join("last", "s", "g", None).await;
    drop(alice);
    assert_eq!(puppet.heard_of(LEFT).await, joined("last", None, &of_alice()));
    for subscription in ["again", "last"] {
        assert_eq!(puppet.heard_of(GATE).await["subscription_id"], subscription);
    }
    puppet.finishes().await;
}

pub(crate) async fn a_token_comes_as_header_as_query_parameter_or_as_subprotocol(sdk: Sdk) {
    let mut server = setup().log("trace").start().await;
    let streams = server.streams().to_owned();

    // A client that is there before the worker waits for it.
    let mut early = connect_as(&server, "alice").await;
    early.send_join("early", "s", "g", None).await;
    let mut puppet = Puppet::start(&server, sdk);
    gates(&mut puppet).await;
    authenticates(&mut puppet).await;
    early.next_of("sync").await;
    let asked = puppet.heard_of(AUTH).await;
    assert_eq!(asked["headers"]["authorization"], "Bearer token-of-alice");
    assert_eq!(puppet.heard_of(GATE).await, joined("early", None, &of_alice()));
    drop(early);
    assert_eq!(puppet.heard_of(LEFT).await, joined("early", None, &of_alice()));

    // In the query of a path that joins at once.
    let path = format!("{}/stream/s/g?token=token-of-alice&x=1&x=%C3%A9", streams.trim_end_matches('/'));
    let mut by_query = Subscriber::connect(&path).await;
    by_query.next_of("sync").await;
    let asked = puppet.heard_of(AUTH).await;
    assert_eq!(asked["path"], "/stream/s/g");
    assert_eq!(asked["query_params"], json!({ "token": ["token-of-alice"], "x": ["1", "é"] }));
    let addr = asked["addr"].as_str().expect("an address is text");
    assert!(addr.parse::<std::net::SocketAddr>().is_ok_and(|addr| addr.ip().is_loopback()), "{addr}");
    let mut keys: Vec<&String> = asked.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["addr", "headers", "path", "query_params"]);
    let path_join = puppet.heard_of(GATE).await;
    let subscription = path_join["subscription_id"].as_str().expect("the server names it").to_owned();
    assert_eq!(path_join, joined(&subscription, None, &of_alice()));
    drop(by_query);
    assert_eq!(puppet.heard_of(LEFT).await, joined(&subscription, None, &of_alice()));

    // As browsers do, which drop the connection unless the protocol is echoed.
    let protocols = [("sec-websocket-protocol", "Authorization, token-of-alice")];
    let mut by_protocol = Subscriber::connect_with(&streams, &protocols).await;
    by_protocol.join("by protocol", "s", "g", None).await;
    let asked = puppet.heard_of(AUTH).await;
    let protocols = asked["headers"]["sec-websocket-protocol"].as_str().expect("it got the header");
    assert_eq!(protocols.replace(", ", ","), "Authorization,token-of-alice");
    assert_eq!(puppet.heard_of(GATE).await, joined("by protocol", None, &of_alice()));

    // Once for all joins of a connection.
    by_protocol.join("more", "s", "g", Some("i")).await;
    assert_eq!(puppet.heard_of(GATE).await, joined("more", Some("i"), &of_alice()));

    // Without a token, or with an unknown one: refused, and no gate is asked.
    let unknown = [("authorization", "Bearer token-of-nobody")];
    for headers in [&[][..], &unknown[..]] {
        let mut nobody = Subscriber::connect_with(&streams, headers).await;
        nobody.send_join("of nobody", "s", "g", None).await;
        nobody.next_of("unauthorized").await;
        puppet.heard_of(AUTH).await;
    }
    assert!(puppet.rest().is_empty(), "{:?}", puppet.rest());

    puppet.finishes().await;
    server.kill9().await;
    let log = server.stderr();
    assert!(!log.contains("token-of-"), "no token is in the log: {log}");
}

pub(crate) async fn a_gate_that_throws_lets_in_unless_it_must_fail_closed(sdk: Sdk) {
    for (setting, answer) in [(json!({}), "sync"), (json!({ "join_gate": "fail_closed" }), "unauthorized")] {
        let server = Setup::new().streams(setting).start().await;
        let mut puppet = Puppet::start(&server, sdk);
        puppet.registers(GATE, json!({ "kind": "throws", "message": "no gate" })).await;
        puppet.binds(GATE, "stream:join", json!({})).await;
        puppet.is_ready().await;
        let mut subscriber = Subscriber::connect(server.streams()).await;
        subscriber.send_join("j", "s", "g", None).await;
        subscriber.next_of(answer).await;
        assert_eq!(puppet.heard_of(GATE).await, joined("j", None, &Value::Null));
        puppet.finishes().await;
    }
}

pub(crate) async fn a_condition_decides_which_joins_a_gate_is_asked_about(sdk: Sdk) {
    let server = setup().start().await;
    let mut puppet = Puppet::start(&server, sdk);
    authenticates(&mut puppet).await;
    let only_bob = json!({
        "kind": "if", "path": ["context", "user"], "is": "bob", "then": true, "else": false,
    });
    puppet.registers("is it bob", only_bob).await;
    puppet.registers(GATE, json!({ "kind": "gives", "value": { "unauthorized": true } })).await;
    puppet.binds(GATE, "stream:join", json!({ "condition_function_id": "is it bob" })).await;
    puppet.is_ready().await;

    let mut alice = connect_as(&server, "alice").await;
    alice.join("of alice", "s", "g", None).await;
    assert_eq!(puppet.heard_of("is it bob").await, joined("of alice", None, &of_alice()));
    let mut bob = connect_as(&server, "bob").await;
    bob.send_join("of bob", "s", "g", None).await;
    bob.next_of("unauthorized").await;
    assert_eq!(puppet.heard_of(GATE).await["subscription_id"], "of bob");
    puppet.finishes().await;
}

pub(crate) async fn a_gate_holds_while_its_worker_is_away_after_a_crash(sdk: Sdk) {
    let server = setup().start().await;
    let mut authentication = Puppet::named(&server, sdk, "authentication");
    authenticates(&mut authentication).await;
    authentication.is_ready().await;
    let mut puppet = Puppet::start(&server, sdk);
    gates(&mut puppet).await;
    puppet.is_ready().await;
    let mut alice = connect_as(&server, "alice").await;
    alice.join("before", "s", "g", None).await;
    puppet.kill().await;

    // Both ask while nobody gates; the answer is that of the gate, not of its absence.
    let mut bob = connect_as(&server, "bob").await;
    bob.send_join("of bob", "s", "g", None).await;
    alice.send_join("of alice", "s", "other", None).await;
    let mut puppet = Puppet::named(&server, sdk, "gate again");
    gates(&mut puppet).await;
    bob.next_of("unauthorized").await;
    assert_eq!(alice.next_of("sync").await.group_id, "other");
    puppet.finishes().await;
    authentication.finishes().await;
}
