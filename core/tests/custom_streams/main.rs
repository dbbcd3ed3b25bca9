//! Streams that a worker keeps itself: what it is asked, in which order, and what others see of its answers.

#[path = "../driver/mod.rs"]
mod driver;

mod calls;
mod changes;
mod endings;
mod subscribers;

use driver::{Call, Seen, World};
use headwater_core::Input;
use headwater_core::config::{CoreConfig, JoinGate};
use headwater_core::key::{SessionKey, WorkerKey};

const ALL: [&str; 6] = ["set", "get", "delete", "update", "list", "list_groups"];

/// A worker that keeps stream `s` with these functions.
fn keeper(world: &mut World, functions: &[&str]) -> WorkerKey {
    let worker = world.worker();
    serves(world, worker, functions);
    worker
}

fn serves(world: &mut World, worker: WorkerKey, functions: &[&str]) {
    for function in functions {
        world.registers(worker, &format!("stream::{function}(s)"));
    }
}

fn withdraws(world: &mut World, worker: WorkerKey, functions: &[&str]) {
    for function in functions {
        world.says(worker, &format!(r#"{{"type":"unregisterfunction","id":"stream::{function}(s)"}}"#));
    }
}

/// A world with a caller and a worker that keeps stream `s`.
fn kept() -> (World, WorkerKey, WorkerKey) {
    kept_in(World::in_memory(), &ALL)
}

fn kept_in(mut world: World, functions: &[&str]) -> (World, WorkerKey, WorkerKey) {
    let caller = world.worker();
    let keeper = keeper(&mut world, functions);
    // The log knows that the stream is a worker's.
    world.settle();
    (world, caller, keeper)
}

fn limited(calls_in_flight: usize) -> World {
    let mut config = CoreConfig::default();
    config.limits.calls_in_flight = calls_in_flight;
    World::with_config(config)
}

/// The keeper answers its only call.
#[track_caller]
fn answers(world: &mut World, keeper: WorkerKey, function: &str, result: &str) -> Call {
    let call = world.one_call(keeper);
    assert_eq!(call.function, format!("stream::{function}(s)"));
    world.returns(keeper, &call, result);
    call
}

/// A session that has joined a group, or with a non-empty `item` an item, and knows what it starts from.
#[track_caller]
fn subscriber(world: &mut World, keeper: WorkerKey, group: &str, item: &str, state: &str) -> SessionKey {
    let session = world.session();
    // So that its stamp is not ahead of the wall clock, and waits for nothing.
    world.pass(10);
    world.join(session, "sub", group, item);
    answers(world, keeper, if item.is_empty() { "list" } else { "get" }, state);
    assert_eq!(world.seen(session).len(), 1);
    session
}

fn update(world: &mut World, caller: WorkerKey, id: &str, ops: &str) {
    let data = format!(r#"{{"stream_name":"s","group_id":"g","item_id":"a","ops":{ops}}}"#);
    world.call(caller, id, "stream::update", &data);
}
