//! The handlers of `stream:join`: who is let in, and what everybody sees until that is decided.

mod driver;

use driver::{Call, World};
use headwater_core::Input;
use headwater_core::config::{CoreConfig, JoinGate};
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::rng::Uuid;

/// A worker with a gate `may` for every stream, and group `g` with an item.
fn gated(config: CoreConfig) -> (World, WorkerKey) {
    let mut world = World::with_config(config);
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    world.settle();
    world.heard(worker);
    world.handles(worker, "stream:join", "may", "{}");
    (world, worker)
}

fn fail_closed() -> CoreConfig {
    let mut config = CoreConfig::default();
    config.access.join_gate = JoinGate::FailClosed;
    config
}

/// What a session saw, as far as that tells whether it was let in.
#[track_caller]
fn fate(world: &mut World, session: SessionKey) -> &'static str {
    let in_channels = world.channels(session);
    match &world.seen(session)[..] {
        [] if in_channels == 0 => "waits",
        [] => "in as before",
        [only] if only.starts_with("g sync") && in_channels == 1 => "in",
        [only] if only == "! unauthorized" && in_channels == 0 => "refused",
        other => panic!("in {in_channels} channels, saw {other:?}"),
    }
}

#[test]
fn a_gate_is_told_the_subscription_its_target_and_the_context() {
    let (mut world, worker) = gated(CoreConfig::default());
    let session = world.session();
    world.join(session, r#"sub \"1\""#, "g", "");
    world.join(session, "sub 2", "ü", "a");
    let by_path = world.session_at("/stream/s/g/");
    let calls = world.calls(worker);
    let mut told = String::new();
    for call in &calls {
        told.push_str(&format!("{} {}\n", call.function, call.data));
    }
    let drawn = calls[2].subscription().to_owned();
    assert_eq!(drawn.len(), 36, "a path's subscription has an id of the server's");
    insta::assert_snapshot!(told.replace(&drawn, "UUID"), @r#"
    may {"context":null,"group_id":"g","id":null,"stream_name":"s","subscription_id":"sub \"1\""}
    may {"context":null,"group_id":"ü","id":"a","stream_name":"s","subscription_id":"sub 2"}
    may {"context":null,"group_id":"g","id":null,"stream_name":"s","subscription_id":"UUID"}
    "#);
    world.returns(worker, &calls[2], "null");
    assert_eq!(fate(&mut world, by_path), "in");
}

#[test]
fn nothing_of_a_group_is_sent_before_all_its_gates_have_answered() {
    let (mut world, worker) = gated(CoreConfig::default());
    let (writer, other, session) = (world.worker(), world.worker(), world.session());
    world.handles(other, "streams:join", "may too", r#"{"stream_name":"s"}"#);
    world.join(session, "sub", "g", "");
    world.set(writer, "2", "g", "a", "2");
    world.send(writer, "3", "g", "", "event");
    world.settle();
    let [first, second] = [worker, other].map(|gate| world.one_call(gate));
    world.returns(other, &second, "null");
    world.join(session, "sub", "g", "");
    assert_eq!(fate(&mut world, session), "waits");
    assert!(world.heard(worker).is_empty(), "a join that waits is not asked about again");
    world.set(writer, "4", "g", "a", "4");
    world.returns(worker, &first, "null");
    assert_eq!(world.seen(session), ["g sync [2] #2 @7"], "the durable state of the moment");
    world.settle();
    assert_eq!(world.seen(session), ["g/a update 4 #3 @8"]);
}

#[test]
fn exactly_unauthorized_true_refuses_and_all_else_allows() {
    let answers = [
        r#"{"unauthorized":true}"#,
        r#"{"more":[1],"unauthorized":true,"why":{}}"#,
        r#"{ "unauthorized" : true }"#,
        r#"{"unauthorized":"true"}"#,
        r#"{"unauthorized":1}"#,
        r#"{"unauthorized":false}"#,
        r#"{"Unauthorized":true}"#,
        r#"{"result":{"unauthorized":true}}"#,
        r#"[{"unauthorized":true}]"#,
        "false",
        "null",
        "",
        "throws",
    ];
    let mut told = String::new();
    for answer in answers {
        let fates = [CoreConfig::default(), fail_closed()].map(|config| {
            let (mut world, worker) = gated(config);
            let session = world.session();
            world.join(session, "sub", "g", "");
            let call = world.one_call(worker);
            match answer {
                "throws" => world.throws(worker, &call),
                answer => world.returns(worker, &call, answer),
            }
            let note = world.noted().join("");
            format!("{} {note}", fate(&mut world, session))
        });
        told.push_str(&format!("{answer} -> {}| closed: {}\n", fates[0], fates[1]));
    }
    insta::assert_snapshot!(told, @r#"
    {"unauthorized":true} -> refused | closed: refused 
    {"more":[1],"unauthorized":true,"why":{}} -> refused | closed: refused 
    { "unauthorized" : true } -> refused | closed: refused 
    {"unauthorized":"true"} -> in | closed: in 
    {"unauthorized":1} -> in | closed: in 
    {"unauthorized":false} -> in | closed: in 
    {"Unauthorized":true} -> in | closed: in 
    {"result":{"unauthorized":true}} -> in | closed: in 
    [{"unauthorized":true}] -> in | closed: in 
    false -> in | closed: in 
    null -> in | closed: in 
     -> in | closed: in 
    throws -> in gate may failed for sub: E| closed: refused gate may failed for sub: E
    "#);
}

#[test]
fn one_that_refuses_is_enough_and_nobody_waits_for_the_others() {
    let (mut world, worker) = gated(CoreConfig::default());
    let session = world.session();
    world.handles(worker, "stream:join", "may too", "{}");
    world.join(session, "sub", "g", "");
    let calls = world.calls(worker);
    world.returns(worker, &calls[1], r#"{"unauthorized":true}"#);
    assert_eq!(fate(&mut world, session), "refused");
    world.returns(worker, &calls[0], "null");
    assert_eq!(fate(&mut world, session), "waits", "a late answer changes nothing");
    world.leave(session, "sub");
    assert_eq!(world.seen(session), ["! unknown_subscription"]);
    world.join(session, "sub", "g", "");
    assert_eq!(world.asked(worker), ["may sub", "may too sub"], "a new join is asked about");
}

#[test]
fn a_gate_that_does_not_answer_in_time_has_failed() {
    for (config, then) in [(CoreConfig::default(), "in"), (fail_closed(), "refused")] {
        let (mut world, worker) = gated(config);
        let session = world.session();
        world.join(session, "sub", "g", "");
        let call = world.one_call(worker);
        world.pass(29_999);
        world.tick();
        assert_eq!(fate(&mut world, session), "waits");
        world.pass(1);
        world.tick();
        assert_eq!(world.noted(), ["gate may failed for sub: TIMEOUT"]);
        assert_eq!(fate(&mut world, session), then);
        world.returns(worker, &call, r#"{"unauthorized":true}"#);
        let as_before = if then == "in" { "in as before" } else { "waits" };
        assert_eq!(fate(&mut world, session), as_before, "a late answer changes nothing");
        assert_eq!(world.core.next_deadline(), None);
    }
}

#[test]
fn a_gate_is_for_the_stream_that_it_names() {
    let (mut world, worker) = gated(CoreConfig::default());
    world.unbinds(worker, "may");
    world.binds(worker, "t", "stream:join", "may", r#"{"stream_name":"t"}"#);
    let session = world.session();
    world.join(session, "sub", "g", "");
    assert_eq!(fate(&mut world, session), "in");
    assert!(world.heard(worker).is_empty());
    world.binds(worker, "t", "stream:join", "may", r#"{"stream_name":""}"#);
    world.join(session, "other", "h", "");
    assert_eq!(world.asked(worker), ["may other"]);
}

#[test]
fn a_gate_that_its_condition_skips_does_not_gate() {
    let mut told = String::new();
    for answer in ["true", "false", "null", "throws"] {
        let fates = [CoreConfig::default(), fail_closed()].map(|config| {
            let (mut world, worker) = gated(config);
            let session = world.session();
            world.registers(worker, "if");
            world.binds(worker, "may", "stream:join", "may", r#"{"condition_function_id":"if"}"#);
            world.join(session, "sub", "g", "");
            let asked = world.one_call(worker);
            assert_eq!((&asked.function[..], asked.subscription()), ("if", "sub"));
            match answer {
                "throws" => world.throws(worker, &asked),
                answer => world.returns(worker, &asked, answer),
            }
            let then = world.calls(worker);
            assert!(then.iter().all(|call| call.function == "may" && call.data == asked.data));
            then.iter().for_each(|call| world.returns(worker, call, "null"));
            let note = world.noted().join("");
            format!("asked {}, {} {note}", then.len(), fate(&mut world, session))
        });
        told.push_str(&format!("{answer}: {}| closed: {}\n", fates[0], fates[1]));
    }
    insta::assert_snapshot!(told, @r#"
    true: asked 1, in | closed: asked 1, in 
    false: asked 0, in | closed: asked 0, refused 
    null: asked 1, in | closed: asked 1, in 
    throws: asked 0, in gate if failed for sub: E| closed: asked 0, refused gate if failed for sub: E
    "#);
}

#[test]
fn fail_closed_refuses_where_no_gate_is() {
    let mut world = World::with_config(fail_closed());
    let session = world.session();
    world.join(session, "sub", "g", "");
    assert_eq!(fate(&mut world, session), "refused");
    let worker = world.worker();
    world.handles(worker, "stream:join", "may", r#"{"stream_name":"other"}"#);
    world.join(session, "sub", "g", "");
    assert_eq!(fate(&mut world, session), "refused");
    world.handles(worker, "stream:join", "may too", "{}");
    world.join(session, "sub", "g", "");
    let call = world.one_call(worker);
    world.returns(worker, &call, "{}");
    assert_eq!(fate(&mut world, session), "in");
}

#[test]
fn a_gate_whose_function_nobody_has_is_one_that_failed() {
    for (config, then) in [(CoreConfig::default(), "in"), (fail_closed(), "refused")] {
        let (mut world, worker) = gated(config);
        let session = world.session();
        world.says(worker, r#"{"type":"unregisterfunction","id":"may"}"#);
        world.join(session, "sub", "g", "");
        assert_eq!(fate(&mut world, session), then);
        assert_eq!(world.noted(), ["gate may failed for sub: function_not_found"]);
    }
}

#[test]
fn a_gate_whose_worker_vanishes_is_asked_again_when_it_is_back() {
    let (mut world, worker) = gated(CoreConfig::default());
    let [before, meanwhile] = [world.session(), world.session()];
    world.join(before, "before", "g", "");
    world.hangs_up(worker);
    world.join(meanwhile, "meanwhile", "g", "");
    world.pass(29_999);
    world.tick();
    for session in [before, meanwhile] {
        assert_eq!(fate(&mut world, session), "waits");
    }
    let back = world.worker();
    world.registers(back, "may");
    let calls = world.calls(back);
    assert_eq!(calls.iter().map(Call::to_string).collect::<Vec<_>>(), ["may before", "may meanwhile"]);
    world.returns(back, &calls[0], r#"{"unauthorized":true}"#);
    world.returns(back, &calls[1], "null");
    assert_eq!(fate(&mut world, before), "refused");
    assert_eq!(fate(&mut world, meanwhile), "in");
    assert!(world.notes.is_empty());
}

#[test]
fn a_worker_that_is_away_for_too_long_is_a_gate_that_failed_and_then_none() {
    for (config, then) in [(CoreConfig::default(), "in"), (fail_closed(), "refused")] {
        let (mut world, worker) = gated(config);
        let [before, meanwhile, after] = [(); 3].map(|()| world.session());
        world.join(before, "before", "g", "");
        world.hangs_up(worker);
        world.pass(20_000);
        world.join(meanwhile, "meanwhile", "g", "");
        world.pass(9_999);
        world.tick();
        assert_eq!(fate(&mut world, before), "waits");
        world.pass(1);
        world.tick();
        assert_eq!(fate(&mut world, before), then);
        assert_eq!(fate(&mut world, meanwhile), then);
        let mut noted = world.noted();
        noted.sort();
        assert_eq!(
            noted,
            ["before", "meanwhile"].map(|sub| format!("gate may failed for {sub}: function_not_found"))
        );
        world.join(after, "after", "g", "");
        assert_eq!(fate(&mut world, after), then, "decided at once");
        assert!(world.notes.is_empty());
        assert_eq!(world.core.next_deadline(), None);
    }
}

#[test]
fn a_gate_whose_worker_comes_and_goes_is_not_waited_for_without_end() {
    let (mut world, mut worker) = gated(CoreConfig::default());
    let session = world.session();
    world.join(session, "sub", "g", "");
    for _ in 0..2 {
        world.pass(29_000);
        world.tick();
        assert_eq!(world.asked(worker), ["may sub"]);
        world.hangs_up(worker);
        worker = world.worker();
        world.registers(worker, "may");
    }
    world.pass(1_999);
    world.tick();
    assert_eq!(fate(&mut world, session), "waits");
    world.pass(1);
    world.tick();
    assert_eq!(world.noted(), ["gate may failed for sub: TIMEOUT"]);
    assert_eq!(fate(&mut world, session), "in");
}

#[test]
fn a_gate_that_was_unregistered_gates_no_more_but_decides_what_it_was_asked() {
    let (mut world, worker) = gated(CoreConfig::default());
    let [before, after] = [world.session(), world.session()];
    world.join(before, "before", "g", "");
    world.unbinds(worker, "may");
    world.join(after, "after", "g", "");
    assert_eq!((fate(&mut world, before), fate(&mut world, after)), ("waits", "in"));
    let call = world.one_call(worker);
    world.returns(worker, &call, r#"{"unauthorized":true}"#);
    assert_eq!(fate(&mut world, before), "refused");
}

#[test]
fn a_gates_answer_decides_the_join_that_it_was_asked_about_and_no_later_one_of_the_same_id() {
    let (mut world, worker) = gated(CoreConfig::default());
    let session = world.session();
    world.join(session, "sub", "g", "");
    let first = world.one_call(worker);
    world.leave(session, "sub");
    world.join(session, "sub", "g", "a");
    let second = world.one_call(worker);
    world.returns(worker, &first, "null");
    assert_eq!(fate(&mut world, session), "waits", "that was the join of the group");
    world.returns(worker, &second, r#"{"unauthorized":true}"#);
    assert_eq!(fate(&mut world, session), "refused");

    world.join(session, "sub", "g", "");
    let first = world.one_call(worker);
    world.leave(session, "sub");
    world.join(session, "sub", "g", "");
    let second = world.one_call(worker);
    world.returns(worker, &first, r#"{"unauthorized":true}"#);
    assert_eq!(fate(&mut world, session), "waits");
    world.returns(worker, &second, "null");
    assert_eq!(fate(&mut world, session), "in");
}

#[test]
fn two_connections_with_one_subscription_id_are_decided_each_for_itself() {
    let (mut world, worker) = gated(CoreConfig::default());
    let sessions = [world.session(), world.session()];
    for session in sessions {
        world.join(session, "sub", "g", "");
    }
    let calls = world.calls(worker);
    world.returns(worker, &calls[0], r#"{"unauthorized":true}"#);
    world.returns(worker, &calls[1], "null");
    assert_eq!(sessions.map(|session| fate(&mut world, session)), ["refused", "in"]);
}

#[test]
fn an_open_subscription_that_is_joined_again_gets_its_state_and_no_gate_is_asked() {
    let (mut world, worker) = gated(CoreConfig::default());
    let session = world.session();
    world.join(session, "sub", "g", "");
    let call = world.one_call(worker);
    world.returns(worker, &call, "null");
    assert_eq!(fate(&mut world, session), "in");
    world.join(session, "sub", "g", "");
    assert_eq!(fate(&mut world, session), "in");
    assert!(world.heard(worker).is_empty());
    world.join(session, "sub", "h", "");
    assert_eq!(world.seen(session), ["! duplicate_subscription"]);
}

#[test]
fn a_session_that_is_behind_when_its_gate_opens_gets_its_state_with_the_others() {
    let (mut world, worker) = gated(CoreConfig::default());
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.overflow(session);
    world.drained(session);
    world.overflow(session);
    let call = world.one_call(worker);
    world.returns(worker, &call, "null");
    assert_eq!(fate(&mut world, session), "waits");
    world.drained(session);
    assert_eq!(fate(&mut world, session), "in");
}

#[test]
fn a_join_waits_for_a_gate_whose_worker_is_busy_and_has_failed_when_that_takes_too_long() {
    let mut config = fail_closed();
    config.limits.calls_in_flight = 1;
    let (mut world, worker) = gated(config);
    let caller = world.worker();
    world.registers(worker, "slow");
    world.call(caller, "1", "slow", "1");
    let slow = world.one_call(worker);
    let [one, two] = [world.session(), world.session()];
    world.join(one, "one", "g", "");
    world.join(two, "two", "g", "");
    assert_eq!(fate(&mut world, one), "waits");
    assert!(world.heard(worker).is_empty());
    world.call(caller, "2", "slow", "2");
    assert_eq!(world.replies(caller).len(), 1, "a call of a worker does not wait");
    world.returns(worker, &slow, "null");
    let call = world.one_call(worker);
    assert_eq!(call.to_string(), "may one");
    world.pass(30_000);
    world.tick();
    assert_eq!(fate(&mut world, one), "refused");
    assert_eq!(fate(&mut world, two), "refused");
    assert!(world.heard(worker).is_empty(), "nobody is asked when no time is left");
    let mut noted = world.noted();
    noted.sort();
    assert_eq!(noted, ["gate may failed for one: TIMEOUT", "gate may failed for two: overloaded"]);
}

#[test]
fn a_gate_whose_worker_had_no_room_for_the_call_opens_no_hole() {
    let (mut world, worker) = gated(CoreConfig::default());
    let session = world.session();
    world.join(session, "sub", "g", "");
    let call = world.one_call(worker);
    let invocation_id = call.id.as_deref().and_then(Uuid::parse).expect("the server's ids are UUIDs");
    world.input(Input::CallNotDelivered { worker, invocation_id });
    assert_eq!(fate(&mut world, session), "waits");
}
