//! Functions that workers call.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use headwater_tests::{Puppet, Sdk, Server, Setup, Socket, Worker};
use serde_json::{Value, json};

#[tokio::test]
async fn functions_of_all_languages_call_each_other() {
    let server = Server::start().await;
    let mut puppets: Vec<Puppet> = Sdk::ALL.iter().map(|sdk| Puppet::start(&server, *sdk)).collect();
    let names = Sdk::ALL.map(Sdk::name);
    for (n, puppet) in puppets.iter_mut().enumerate() {
        let name = names[n];
        let next = names[(n + 1) % names.len()];
        // Each calls the next, and the last ones call the first, which is still waiting itself.
        let last = n + 1 == names.len();
        let ring = if last { "::echo" } else { "::ring" };
        let broken = if last { "::throws" } else { "::broken ring" };
        let void = if last { "::echo" } else { "::void ring" };
        for (function, does) in [
            ("echo", json!({ "kind": "echo" })),
            ("throws", json!({ "kind": "throws", "message": format!("no luck in {name}") })),
            ("ring", json!({ "kind": "calls", "function": format!("{next}{ring}") })),
            ("broken ring", json!({ "kind": "calls", "function": format!("{next}{broken}") })),
            ("void ring", json!({ "kind": "voids", "function": format!("{next}{void}") })),
        ] {
            puppet.registers(&format!("{name}::{function}"), does).await;
        }
    }
    for puppet in &mut puppets {
        puppet.is_ready().await;
    }

    let input = json!({ "deep": [{ "value": null }], "text": "😀", "n": -1.5 });
    let echo = json!({ "echo": input });
    let around = names.iter().rev().fold(echo.clone(), |got, by| json!({ "by": by, "got": got }));
    for caller in &mut puppets {
        for name in names {
            assert_eq!(caller.result_of(&format!("{name}::echo"), input.clone()).await, Some(echo.clone()));
        }
        assert_eq!(caller.result_of("node::ring", input.clone()).await, Some(around.clone()));
        let refusal = caller.refusal_of("node::broken ring", json!(1)).await;
        assert_eq!(refusal.code, "invocation_failed");
        assert!(refusal.message.contains("no luck in node"), "{refusal:?}");
        caller.call_void("node::void ring", json!("void")).await;
    }

    // Every call reached its function, once: the rings end where they began.
    let times = names.len();
    for (puppet, name) in puppets.iter_mut().zip(names) {
        let mut expected = BTreeMap::from(["echo", "ring", "broken ring", "void ring"].map(|f| (f, times)));
        if name == names[0] {
            expected.insert("echo", 3 * times);
            expected.insert("throws", times);
        }
        let mut heard = BTreeMap::new();
        for _ in 0..expected.values().sum() {
            *heard.entry(puppet.heard().await.function).or_insert(0) += 1;
        }
        let expected = expected.into_iter().map(|(f, times)| (format!("{name}::{f}"), times)).collect();
        assert_eq!(heard, expected);
    }
    for puppet in puppets {
        puppet.finishes().await;
    }
}

#[tokio::test]
async fn metadata_of_a_call_goes_with_it_in_all_languages() {
    let server = Server::start().await;
    let mut puppets: Vec<Puppet> = Sdk::ALL.iter().map(|sdk| Puppet::start(&server, *sdk)).collect();
    for (puppet, sdk) in puppets.iter_mut().zip(Sdk::ALL) {
        puppet.registers(&format!("{}::echo", sdk.name()), json!({ "kind": "echo" })).await;
        puppet.is_ready().await;
    }
    for caller in 0..puppets.len() {
        for (callee, sdk) in Sdk::ALL.into_iter().enumerate() {
            let function = format!("{}::echo", sdk.name());
            let metadata = json!({ "tenant": "t1", "from": caller, "deep": { "list": [1, null] } });
            puppets[caller].result_with(&function, json!({ "n": 1 }), metadata.clone()).await;
            let heard = puppets[callee].heard().await;
            assert_eq!((heard.data, heard.metadata), (json!({ "n": 1 }), Some(metadata)));
            // None where there was none.
            puppets[caller].result_of(&function, json!({ "n": 2 })).await;
            assert_eq!(puppets[callee].heard().await.metadata, None);
        }
    }
}

pub(crate) async fn a_handler_that_throws_gives_its_caller_a_code_and_its_message(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "throws", "message": "no such luck" })).await;
    puppet.registers("g", json!({ "kind": "echo" })).await;
    puppet.is_ready().await;

    let mut caller = Worker::connect(server.workers()).await;
    let refusal = caller.refusal_of("f", json!(1)).await;
    assert_eq!(refusal.code, "invocation_failed");
    assert!(refusal.message.contains("no such luck"), "{refusal:?}");
    // Nothing is broken.
    assert_eq!(caller.result_of("g", json!(1)).await, Some(json!({ "echo": 1 })));
    puppet.finishes().await;
}

pub(crate) async fn a_handler_over_its_deadline_times_out_and_its_late_answer_is_dropped(sdk: Sdk) {
    let server = Setup::new().timeouts(json!({ "call_ms": 500 })).start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "holds", "value": "late" })).await;
    puppet.registers("g", json!({ "kind": "echo" })).await;
    puppet.is_ready().await;

    let mut caller = Worker::connect(server.workers()).await;
    let held = caller.start("f", json!(1)).await;
    puppet.heard_of("f").await;
    // Its worker goes on meanwhile.
    assert_eq!(caller.result_of("g", json!(1)).await, Some(json!({ "echo": 1 })));
    let refusal = caller.finish(&held).await.expect_err("nobody released it");
    assert_eq!(refusal.code, "TIMEOUT", "{refusal:?}");

    puppet.releases("f").await;
    // Its answer to this call comes after its late one, to which nobody listens any more.
    assert_eq!(caller.result_of("f", json!(2)).await, Some(json!("late")));
    assert_eq!(caller.result_of("g", json!(2)).await, Some(json!({ "echo": 2 })));
    puppet.finishes().await;
}

pub(crate) async fn a_call_ends_at_once_when_its_worker_is_killed(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "holds" })).await;
    puppet.is_ready().await;

    let mut caller = Worker::connect(server.workers()).await;
    let held = caller.start("f", json!(1)).await;
    puppet.heard_of("f").await;
    puppet.kill().await;
    let killed = Instant::now();
    let refusal = caller.finish(&held).await.expect_err("who ran it is dead");
    assert_eq!(refusal.code, "invocation_stopped");
    // The deadline of the call is 30 s.
    assert!(killed.elapsed() < Duration::from_secs(10), "it took {:?}", killed.elapsed());
    assert_eq!(caller.refusal_of("f", json!(2)).await.code, "function_not_found");
}

pub(crate) async fn functions_go_when_they_are_taken_back_and_with_their_worker(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "nothing" })).await;
    puppet.is_ready().await;
    let mut caller = Worker::connect(server.workers()).await;
    // Languages without `undefined` may send a null.
    assert!(matches!(caller.result_of("f", json!(1)).await, None | Some(Value::Null)));
    puppet.forgets("f").await;
    puppet.is_ready().await;
    assert_eq!(caller.refusal_of("f", json!(1)).await.code, "function_not_found");

    // A worker that leaves in good order takes all of its functions with it.
    puppet.registers("g", json!({ "kind": "echo" })).await;
    puppet.is_ready().await;
    assert_eq!(caller.result_of("g", json!(1)).await, Some(json!({ "echo": 1 })));
    puppet.finishes().await;
    assert_eq!(caller.refusal_of("g", json!(1)).await.code, "function_not_found");
}

pub(crate) async fn workers_find_each_other_and_what_they_offer(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "echo" })).await;
    let config = json!({ "stream_name": "s", "group_id": "g" });
    puppet.binds("f", "stream", config.clone()).await;
    puppet.is_ready().await;

    let mut answer = async |function: &str, member: &str| {
        let answer = puppet.result_of(function, json!({})).await.unwrap_or_default();
        let list = answer[member].as_array().unwrap_or_else(|| panic!("{member} in {answer}"));
        list.clone()
    };
    let functions = answer("engine::functions::list", "functions").await;
    assert!(functions.iter().any(|function| function["function_id"] == "f"), "{functions:?}");
    let workers = answer("engine::workers::list", "workers").await;
    let [worker] = &workers[..] else { panic!("there is one worker: {workers:?}") };
    assert_eq!((&worker["name"], &worker["runtime"]), (&json!(sdk.name()), &json!(sdk.name())));
    assert_eq!(worker["functions"], json!(["f"]));
    let triggers = answer("engine::triggers::list", "triggers").await;
    let [trigger] = &triggers[..] else { panic!("there is one trigger: {triggers:?}") };
    assert_eq!((&trigger["trigger_type"], &trigger["function_id"]), (&json!("stream"), &json!("f")));
    assert_eq!(trigger["config"], config);
    puppet.finishes().await;
}

pub(crate) async fn a_worker_with_the_token_of_the_port_gets_in(sdk: Sdk) {
    const TOKEN: &str = "the-token-of-workers";
    let server = Setup::new().own(json!({ "worker_token": TOKEN })).start().await;
    let without = Socket::connect_with(server.workers(), &[]).await;
    assert!(without.is_err_and(|(status, _)| status == 401));
    let mut puppet = Puppet::with_token(&server, sdk, sdk.name(), TOKEN);
    puppet.is_ready().await;
    puppet.finishes().await;
}
