//! The `auth_function`: it vouches for connections of subscribers, and nobody else is served.

mod driver;

use driver::World;
use headwater_core::Input;
use headwater_core::config::{AuthFailure, CoreConfig};
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::name::FunctionId;
use headwater_core::rng::Uuid;
use headwater_core::time::Mono;

fn config(auth_failure: AuthFailure) -> CoreConfig {
    let mut config = CoreConfig::default();
    config.access.auth_function = FunctionId::new("auth", &config.limits).ok();
    config.access.auth_failure = auth_failure;
    config
}

/// A worker that has the `auth_function`, and a handler of all joins and leaves.
fn with_worker(auth_failure: AuthFailure) -> (World, WorkerKey) {
    let mut world = World::with_config(config(auth_failure));
    let worker = world.worker();
    world.registers(worker, "auth");
    (world, worker)
}

/// What became of a session, as far as that can be told from outside.
fn fate(world: &mut World, session: SessionKey) -> String {
    let mut seen = world.seen(session);
    let closed = world.closed_sessions.contains(&session);
    if world.admitted.contains(&session) {
        seen.push("admitted".to_owned());
    }
    if closed {
        seen.push("closed".to_owned());
    }
    seen.join(", ")
}

#[test]
fn a_handshake_is_shown_to_the_function_once_and_with_all_that_it_may_need() {
    let (mut world, worker) = with_worker(AuthFailure::Close);
    let session = world.session_with_token("s3cret", "/stream/s/g");
    let call = world.one_call(worker);
    insta::assert_snapshot!(call.frame.replace(call.id.as_deref().unwrap(), "UUID"), @r#"{"type":"invokefunction","invocation_id":"UUID","function_id":"auth","data":{"headers":{"authorization":"Bearer s3cret"},"path":"/stream/s/g","query_params":{"q":["1"]},"addr":"127.0.0.1:9"}}"#);
    world.join(session, "more", "g", "");
    world.returns(worker, &call, r#"{"context":1}"#);
    world.join(session, "late", "h", "");
    assert!(world.heard(worker).is_empty(), "once");
    assert!(world.admitted.is_empty(), "its handshake did not wait");
    assert!(world.trace.iter().all(|effect| !effect.contains("s3cret") || effect.starts_with("ToWorker")));
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn joins_wait_until_somebody_vouches_for_their_connection() {
    let (mut world, worker) = with_worker(AuthFailure::Close);
    let session = world.session_with_token("t", "/stream/s/g/a");
    world.join(session, "1", "g", "");
    world.join(session, "given up", "h", "");
    world.leave(session, "given up");
    world.set(worker, "w", "g", "a", "1");
    world.settle();
    assert_eq!((fate(&mut world, session), world.channels(session)), (String::new(), 0));
    let frames = world.heard(worker);
    assert_eq!(frames.len(), 2, "the question and the answer to the write");
    let id: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
    world.says(
        worker,
        &format!(
            r#"{{"type":"invocationresult","invocation_id":{},"function_id":"auth","result":{{}}}}"#,
            id["invocation_id"]
        ),
    );
    let mut seen = world.seen(session);
    seen.sort();
    assert_eq!(seen, ["g sync [1] #1 @3", "g/a sync 1 #1 @3"]);
}

#[test]
fn the_context_goes_into_every_join_and_leave_of_the_connection() {
    let mut told = String::new();
    for result in
        [r#"{"context":{"user":"u", "n": 1.0}}"#, r#"{"context":null}"#, "{}", r#"{"context":[],"more":1}"#]
    {
        let (mut world, worker) = with_worker(AuthFailure::Close);
        world.handles(worker, "stream:join", "may", "{}");
        world.handles(worker, "stream:leave", "bye", "{}");
        let session = world.session();
        world.join(session, "1", "g", "");
        let auth = world.one_call(worker);
        world.returns(worker, &auth, result);
        let call = world.one_call(worker);
        world.returns(worker, &call, "null");
        world.join(session, "2", "g", "");
        let again = world.one_call(worker);
        world.returns(worker, &again, "null");
        world.leaves(session);
        world.settle();
        let contexts: Vec<_> = [call, again]
            .into_iter()
            .chain(world.calls(worker))
            .map(|call| call.data["context"].to_string())
            .collect();
        assert_eq!(contexts.len(), 4);
        assert!(contexts.iter().all(|context| *context == contexts[0]));
        told.push_str(&format!("{result} -> {}\n", contexts[0]));
    }
    insta::assert_snapshot!(told, @r#"
    {"context":{"user":"u", "n": 1.0}} -> {"n":1.0,"user":"u"}
    {"context":null} -> null
    {} -> null
    {"context":[],"more":1} -> []
    "#);
}

#[test]
fn who_is_not_vouched_for_gets_unauthorized_for_each_join_and_nothing_else_and_is_closed() {
    let answers = [
        r#"{"unauthorized":true}"#,
        r#"{"unauthorized":true,"context":1}"#,
        "null",
        "true",
        r#""text""#,
        "[]",
        "",
        "throws",
    ];
    let mut told = String::new();
    for answer in answers {
        let (mut world, worker) = with_worker(AuthFailure::Close);
        let session = world.session_with_token("t", "/stream/s/g");
        world.join(session, "held", "h", "");
        let call = world.one_call(worker);
        match answer {
            "throws" => world.throws(worker, &call),
            answer => world.returns(worker, &call, answer),
        }
        assert_eq!(fate(&mut world, session), "! unauthorized, ! unauthorized");
        world.join(session, "later", "g", "");
        world.join(session, "later", "h", "");
        assert_eq!(fate(&mut world, session), "! unauthorized, ! unauthorized");
        world.leave(session, "held");
        world.session_says(session, "no frame");
        world.set(worker, "w", "g", "a", "1");
        world.settle();
        world.overflow(session);
        world.drained(session);
        assert_eq!(fate(&mut world, session), "", "nothing else");
        assert_eq!(world.core.next_deadline(), Some(Mono(5_000)));
        world.pass(4_999);
        world.tick();
        assert!(world.closed_sessions.is_empty());
        world.pass(1);
        world.tick();
        assert_eq!(world.closed_sessions, [session]);
        world.pass(5_000);
        world.tick();
        world.leaves(session);
        assert_eq!(world.closed_sessions, [session], "once");
        assert_eq!(world.core.next_deadline(), None);
        told.push_str(&format!("{answer}: {:?}\n", world.noted()));
    }
    insta::assert_snapshot!(told, @r#"
    {"unauthorized":true}: []
    {"unauthorized":true,"context":1}: []
    null: ["auth failed: invocation_failed"]
    true: ["auth failed: invocation_failed"]
    "text": ["auth failed: invocation_failed"]
    []: ["auth failed: invocation_failed"]
    : ["auth failed: invocation_failed"]
    throws: ["auth failed: E"]
    "#);
}

#[test]
fn a_session_that_goes_before_it_is_closed_leaves_nothing_behind() {
    let (mut world, worker) = with_worker(AuthFailure::Close);
    let [denied, asked] = [world.session(), world.session()];
    let calls = world.calls(worker);
    world.returns(worker, &calls[0], "null");
    world.leaves(denied);
    world.leaves(asked);
    world.returns(worker, &calls[1], "{}");
    assert_eq!(world.core.next_deadline(), None);
    assert!(world.closed_sessions.is_empty());
}

#[test]
fn while_the_function_is_not_there_joins_wait_and_in_the_end_are_refused() {
    let mut world = World::with_config(config(AuthFailure::Close));
    let [early, late] = [world.session_at("/stream/s/g"), world.session_at("/stream/s/g")];
    world.pass(9_999);
    world.tick();
    assert_eq!(fate(&mut world, early), "");
    let third = world.session_at("/stream/s/g");
    world.pass(1);
    world.tick();
    assert_eq!([early, late].map(|session| fate(&mut world, session)), ["! unauthorized", "! unauthorized"]);
    assert_eq!(world.noted(), ["auth failed: function_not_found", "auth failed: function_not_found"]);
    let worker = world.worker();
    world.registers(worker, "auth");
    let call = world.one_call(worker);
    world.returns(worker, &call, "{}");
    assert_eq!(fate(&mut world, third), "g sync [] #0 @1", "who came later had more time");
}

#[test]
fn the_function_has_the_time_that_is_left_also_when_its_worker_vanishes() {
    let (mut world, worker) = with_worker(AuthFailure::Close);
    let session = world.session_at("/stream/s/g");
    assert_eq!(world.calls(worker).len(), 1);
    world.pass(4_000);
    world.hangs_up(worker);
    assert_eq!(fate(&mut world, session), "", "it is asked again");
    world.pass(4_000);
    let back = world.worker();
    world.registers(back, "auth");
    let call = world.one_call(back);
    world.pass(1_999);
    world.tick();
    assert_eq!(fate(&mut world, session), "");
    world.pass(1);
    world.tick();
    assert_eq!(fate(&mut world, session), "! unauthorized");
    assert_eq!(world.noted(), ["auth failed: TIMEOUT"]);
    world.returns(back, &call, "{}");
    assert_eq!(fate(&mut world, session), "", "too late");

    let (mut world, worker) = with_worker(AuthFailure::Close);
    let session = world.session_at("/stream/s/g");
    world.heard(worker);
    world.hangs_up(worker);
    let back = world.worker();
    world.registers(back, "auth");
    let call = world.one_call(back);
    world.returns(back, &call, "{}");
    assert_eq!(fate(&mut world, session), "g sync [] #0 @1");
}

#[test]
fn with_http_401_the_handshake_waits_for_the_function() {
    let (mut world, worker) = with_worker(AuthFailure::Http401);
    let [good, bad, slow] = [(); 3].map(|()| world.session_at("/stream/s/g"));
    let calls = world.calls(worker);
    assert_eq!(fate(&mut world, good), "");
    world.returns(worker, &calls[0], "{}");
    assert_eq!(fate(&mut world, good), "g sync [] #0 @1, admitted");
    let admitted = world.trace.iter().position(|effect| effect.starts_with("Admit")).unwrap();
    let synced = world.trace.iter().position(|effect| effect.starts_with("Sync")).unwrap();
    assert!(admitted < synced, "first the answer to the handshake");
    world.returns(worker, &calls[1], r#"{"unauthorized":true}"#);
    assert_eq!(fate(&mut world, bad), "! unauthorized, closed");
    world.pass(10_000);
    world.tick();
    assert_eq!(fate(&mut world, slow), "! unauthorized, closed");
    assert_eq!(world.admitted, [good]);
    world.pass(5_000);
    world.tick();
    assert_eq!(world.closed_sessions, [bad, slow]);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_context_that_is_too_large_to_keep_is_none_that_vouches() {
    for (more, expected) in [(0, "g sync [] #0 @1"), (1, "! unauthorized")] {
        let (mut world, worker) = with_worker(AuthFailure::Close);
        let session = world.session_at("/stream/s/g");
        let call = world.one_call(worker);
        let context = "x".repeat((64 << 10) - 2 + more);
        world.returns(worker, &call, &format!(r#"{{"context":"{context}"}}"#));
        assert_eq!(fate(&mut world, session), expected);
        assert_eq!(world.notes.len(), more);
    }
}

#[test]
fn held_joins_count_against_the_limit_and_are_asked_about_in_order_and_once() {
    let mut config = config(AuthFailure::Close);
    config.limits.subscriptions = 2;
    let mut world = World::with_config(config);
    let worker = world.worker();
    world.registers(worker, "auth");
    world.handles(worker, "stream:join", "may", "{}");
    let session = world.session();
    let auth = world.one_call(worker);
    for subscription in ["b", "a", "b", "c"] {
        world.join(session, subscription, "g", "");
    }
    assert_eq!(world.seen(session), ["! too_many_subscriptions"]);
    world.returns(worker, &auth, "{}");
    assert_eq!(world.asked(worker), ["may b", "may a"]);
}

#[test]
fn without_an_auth_function_nobody_is_asked() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.registers(worker, "auth");
    let session = world.session_with_token("t", "/stream/s/g");
    assert_eq!(fate(&mut world, session), "g sync [] #0 @1");
    assert!(world.heard(worker).is_empty());
}

#[test]
fn nobody_is_asked_about_a_connection_that_is_gone() {
    let mut world = World::with_config(config(AuthFailure::Close));
    for _ in 0..3 {
        let session = world.session();
        world.leaves(session);
    }
    assert_eq!(world.core.next_deadline(), None, "nothing is waited for");
    let worker = world.worker();
    world.registers(worker, "auth");
    assert_eq!(world.heard(worker).len(), 0, "questions about connections that are gone");
}

#[test]
fn nobody_is_asked_again_about_a_connection_that_is_gone() {
    let (mut world, worker) = with_worker(AuthFailure::Close);
    let session = world.session();
    let call = world.one_call(worker);
    world.leaves(session);
    let invocation_id = call.id.as_deref().and_then(Uuid::parse).expect("the server's ids are UUIDs");
    world.input(Input::CallNotDelivered { worker, invocation_id });
    world.pass(1_000);
    world.tick();
    assert!(world.heard(worker).is_empty());
    assert_eq!(world.core.next_deadline(), None);
}
