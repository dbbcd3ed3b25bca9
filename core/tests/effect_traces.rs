//! What the core has done about each rule of triggers, gates and authentication, effect by effect.
//!
//! Their order is part of the contract. Worker 1 writes and handles, session 2 subscribes.

mod driver;

use driver::World;
use headwater_core::Input;
use headwater_core::config::{AuthFailure, CoreConfig};
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::name::FunctionId;

/// Worker 1 and session 2; what they are told at the start is not kept.
fn world(config: CoreConfig) -> (World, WorkerKey, SessionKey) {
    let mut world = World::with_config(config);
    let (worker, session) = (world.worker(), world.session());
    world.told();
    (world, worker, session)
}

fn with_auth(auth_failure: AuthFailure) -> (World, WorkerKey) {
    let mut config = CoreConfig::default();
    config.access.auth_function = FunctionId::new("auth", &config.limits).ok();
    config.access.auth_failure = auth_failure;
    let mut world = World::with_config(config);
    let worker = world.worker();
    world.registers(worker, "auth");
    world.told();
    (world, worker)
}

#[test]
fn subscribers_then_handlers_then_the_writer_and_only_once_it_is_durable() {
    let (mut world, worker, session) = world(CoreConfig::default());
    world.handles(worker, "stream", "f", r#"{"stream_name":"s"}"#);
    world.join(session, "sub", "g", "");
    world.set(worker, "w", "g", "a", "1");
    world.persist();
    let call = world.one_call_of(worker, "f");
    world.throws(worker, &call);
    insta::assert_snapshot!(world.told(), @r#"
    session 2: attach to 1
    session 2: g sync [] #0 @1
    persist
    broadcast to 1: g/a create 1 #1 @2
    worker 1: call f g/a create 1 #1 @2
    worker 1: reply w: {"new_value":1,"old_value":null}
    note: f failed at g #1: E
    "#);
}

#[test]
fn a_gate_then_channel_and_state_in_one_step() {
    let (mut world, worker, session) = world(CoreConfig::default());
    world.handles(worker, "stream:join", "may", "{}");
    world.join(session, "one", "g", "");
    world.join(session, "two", "h", "");
    let calls = world.calls(worker);
    world.returns(worker, &calls[0], "null");
    world.returns(worker, &calls[1], r#"{"unauthorized":true}"#);
    insta::assert_snapshot!(world.told(), @r#"
    worker 1: call may one
    worker 1: call may two
    session 2: attach to 1
    session 2: g sync [] #0 @1
    session 2: unauthorized h
    "#);
}

#[test]
fn a_join_is_written_down_without_a_sync_and_its_leave_told_after_one() {
    let (mut world, worker, session) = world(CoreConfig::default());
    world.handles(worker, "stream:leave", "bye", "{}");
    world.join(session, "sub", "g", "");
    world.persist();
    world.leave(session, "sub");
    world.persist();
    insta::assert_snapshot!(world.told(), @r#"
    session 2: attach to 1
    session 2: g sync [] #0 @1
    persist, without a sync
    session 2: detach from 1
    persist
    worker 1: call bye sub
    "#);
}

#[test]
fn leaves_that_a_crash_left_untold() {
    let (mut world, worker, session) = world(CoreConfig::default());
    world.handles(worker, "stream:leave", "bye", "{}");
    world.join(session, "sub", "g", "");
    let whole = world.unsynced().len();
    world.crash(whole);
    let worker = world.worker();
    world.handles(worker, "stream:leave", "bye", "{}");
    world.persist();
    insta::assert_snapshot!(world.told(), @r#"
    worker 1: greet
    persist
    worker 1: call bye sub
    "#);
}

#[test]
fn a_worker_that_vanishes_and_comes_back() {
    let (mut world, worker, session) = world(CoreConfig::default());
    world.handles(worker, "stream:join", "may", "{}");
    world.handles(worker, "stream", "f", r#"{"stream_name":"s"}"#);
    world.send(worker, "1", "g", "", "one");
    world.settle();
    world.join(session, "sub", "g", "");
    world.call(worker, "call", "f", "1");
    world.hangs_up(worker);
    let back = world.worker();
    world.send(back, "2", "g", "", "two");
    world.settle();
    world.registers(back, "f");
    world.registers(back, "may");
    let told = world.told().replace(": the worker that ran `f` disconnected before it answered", "");
    insta::assert_snapshot!(told, @r#"
    persist
    worker 1: call f g one {"k":1} #0 @2
    worker 1: reply 1: null
    worker 1: call may sub
    worker 1: call f 1
    worker 1: reply call! invocation_stopped
    note: f failed at g #0: invocation_stopped
    worker 3: greet
    worker 3: reply 2: null
    worker 3: call f g two {"k":1} #0 @4
    worker 3: call may sub
    "#);
}

#[test]
fn a_slow_handler() {
    let mut config = CoreConfig::default();
    config.limits.trigger_events = 2;
    let (mut world, worker, _) = world(config);
    world.handles(worker, "stream", "f", r#"{"stream_name":"s"}"#);
    for kind in ["1", "2", "3", "4"] {
        world.send(worker, kind, "g", "", kind);
        world.settle();
    }
    for _ in 0..2 {
        let call = world.one_call_of(worker, "f");
        world.returns(worker, &call, "null");
    }
    insta::assert_snapshot!(world.told(), @r#"
    persist
    worker 1: call f g 1 {"k":1} #0 @2
    worker 1: reply 1: null
    worker 1: reply 2: null
    note: f is too slow
    worker 1: reply 3: null
    worker 1: reply 4: null
    worker 1: call f g 4 {"k":1} #0 @8 skipped 2
    note: f lost 2
    "#);
}

#[test]
fn a_connection_that_is_vouched_for() {
    let (mut world, worker) = with_auth(AuthFailure::Http401);
    world.session_at("/stream/s/g");
    let call = world.one_call(worker);
    world.returns(worker, &call, "{}");
    let told = world.told();
    let start = told.find(r#"{"addr""#).expect("a handshake");
    let end = told.find('\n').expect("lines");
    insta::assert_snapshot!(told.replace(&told[start..end], "HANDSHAKE"), @r#"
    worker 1: call auth HANDSHAKE
    session 2: admit
    session 2: attach to 1
    session 2: g sync [] #0 @1
    "#);
}

#[test]
fn a_connection_that_nobody_vouches_for() {
    let (mut world, worker) = with_auth(AuthFailure::Close);
    let session = world.session_at("/stream/s/g");
    let call = world.one_call(worker);
    world.told();
    world.throws(worker, &call);
    world.join(session, "later", "h", "");
    world.pass(5_000);
    world.tick();
    insta::assert_snapshot!(world.told(), @r#"
    note: auth failed: E
    session 2: unauthorized g
    session 2: unauthorized h
    session 2: close
    "#);
}

#[test]
fn a_graceful_stop() {
    let (mut world, worker, session) = world(CoreConfig::default());
    world.handles(worker, "stream:leave", "bye", "{}");
    world.join(session, "sub", "g", "");
    world.settle();
    world.input(Input::Stop);
    world.settle();
    let call = world.one_call(worker);
    world.send(worker, "during", "g", "", "sent");
    world.settle();
    world.returns(worker, &call, "null");
    insta::assert_snapshot!(world.told(), @r#"
    session 2: attach to 1
    session 2: g sync [] #0 @1
    persist, without a sync
    persist
    worker 1: call bye sub
    persist
    broadcast to 1: g sent {"k":1} #0 @2
    worker 1: reply during: null
    stopped
    "#);
}

#[test]
fn a_stop_whose_time_is_over() {
    let (mut world, worker, session) = world(CoreConfig::default());
    world.handles(worker, "stream:leave", "bye", "{}");
    world.handles(worker, "stream", "f", r#"{"stream_name":"s"}"#);
    world.send(worker, "1", "g", "", "one");
    world.send(worker, "2", "g", "", "two");
    world.join(session, "sub", "g", "");
    world.settle();
    world.told();
    world.input(Input::Stop);
    world.settle();
    world.pass(10_000);
    world.tick();
    insta::assert_snapshot!(world.told(), @r#"
    persist
    worker 1: call bye sub
    note: f failed at g #0: invocation_stopped
    note: bye failed at the leave of sub: invocation_stopped
    stopped
    "#);
}
