//! A stream that a worker keeps stays the worker's across a restart of the server.

mod driver;

use driver::World;

fn set(world: &mut World, worker: headwater_core::key::WorkerKey) -> String {
    let data = r#"{"stream_name":"todo","group_id":"g","item_id":"a","data":1}"#;
    world.ask(worker, "stream::set", data)
}

#[test]
fn a_stream_that_a_worker_keeps_is_not_the_servers_after_a_crash() {
    let mut world = World::durable();
    let keeper = world.worker();
    world.registers(keeper, "stream::set(todo)");
    world.settle();
    world.crash(0);
    let caller = world.worker();
    assert!(set(&mut world, caller).starts_with("! function_not_found"), "its worker is not there yet");
    assert_eq!(world.ask(caller, "stream::list_all", "{}"), r#"{"count":0,"stream":[]}"#);
}

#[test]
fn a_stream_whose_functions_were_taken_back_is_the_servers_also_after_a_crash() {
    let mut world = World::durable();
    let keeper = world.worker();
    for function in ["stream::set(todo)", "stream::get(todo)"] {
        world.registers(keeper, function);
    }
    world.says(keeper, r#"{"type":"unregisterfunction","id":"stream::set(todo)"}"#);
    assert!(set(&mut world, keeper).starts_with("! function_not_found"), "one of its functions is left");
    world.says(keeper, r#"{"type":"unregisterfunction","id":"stream::get(todo)"}"#);
    let stored = r#"{"new_value":1,"old_value":null}"#;
    assert_eq!(set(&mut world, keeper), stored);
    world.crash(0);
    let caller = world.worker();
    assert_eq!(set(&mut world, caller), r#"{"new_value":1,"old_value":1}"#);
}
