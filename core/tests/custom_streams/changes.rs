//! What is told of changes in a stream that a worker keeps.

use super::*;

#[test]
fn what_a_worker_says_of_a_change_decides_what_is_told_of_it() {
    let cases = [
        ("set", r#"{"old_value":null,"new_value":2}"#),
        ("set", r#"{"old_value":null}"#),
        ("set", r#"{"old_value":1,"new_value":2}"#),
        ("set", r#"{"new_value":2}"#),
        ("set", r#"{"old_value":1,"new_value":null}"#),
        ("set", ""),
        ("set", "7"),
        ("update", r#"{"old_value":null,"new_value":2}"#),
        ("update", r#"{"old_value":1,"new_value":2,"errors":[]}"#),
        ("update", r#"{"new_value":2}"#),
        ("update", ""),
        ("delete", r#"{"old_value":1}"#),
        ("delete", r#"{"old_value":null}"#),
        ("delete", ""),
    ];
    let mut told = String::new();
    for (function, result) in cases {
        let (mut world, caller, keeper) = kept();
        let whole = subscriber(&mut world, keeper, "g", "", "[1]");
        let item = subscriber(&mut world, keeper, "g", "a", "1");
        let data = r#"{"stream_name":"s","group_id":"g","item_id":"a","data":3,"ops":[]}"#;
        world.call(caller, "c", &format!("stream::{function}"), data);
        answers(&mut world, keeper, function, result);
        told.push_str(&format!("{function} {result}\n"));
        for call in world.calls(keeper) {
            let is_list = call.function == "stream::list(s)";
            world.returns(keeper, &call, if is_list { "[4]" } else { "4" });
            told.push_str(&format!("  asks {}\n", call.function));
        }
        for call in world.calls(keeper) {
            world.returns(keeper, &call, "[4]");
            told.push_str(&format!("  asks {}\n", call.function));
        }
        assert_eq!(world.replies(caller).len(), 1);
        told.push_str(&format!("  group: {}\n", world.seen(whole).join(", ")));
        told.push_str(&format!("  item:  {}\n", world.seen(item).join(", ")));
    }
    insta::assert_snapshot!(told, @r#"
    set {"old_value":null,"new_value":2}
      group: g/a create 2 #0 @22
      item:  g/a create 2 #0 @22
    set {"old_value":null}
      group: g/a create 3 #0 @22
      item:  g/a create 3 #0 @22
    set {"old_value":1,"new_value":2}
      group: g/a update 2 #0 @22
      item:  g/a update 2 #0 @22
    set {"new_value":2}
      asks stream::list(s)
      group: g/a update 2 #0 @22, g sync [4] #0 @24
      item:  g/a update 2 #0 @22
    set {"old_value":1,"new_value":null}
      asks stream::list(s)
      group: g/a sync null #0 @22, g sync [4] #0 @24
      item:  g/a sync null #0 @22
    set 
      asks stream::list(s)
      group: g/a update 3 #0 @22, g sync [4] #0 @24
      item:  g/a update 3 #0 @22
    set 7
      asks stream::list(s)
      group: g/a update 3 #0 @22, g sync [4] #0 @24
      item:  g/a update 3 #0 @22
    update {"old_value":null,"new_value":2}
      group: g/a create 2 #0 @22
      item:  g/a create 2 #0 @22
    update {"old_value":1,"new_value":2,"errors":[]}
      group: g/a update 2 #0 @22
      item:  g/a update 2 #0 @22
    update {"new_value":2}
      asks stream::list(s)
      group: g/a update 2 #0 @22, g sync [4] #0 @24
      item:  g/a update 2 #0 @22
    update 
      asks stream::get(s)
      asks stream::list(s)
      group: g/a update 4 #0 @22, g sync [4] #0 @24
      item:  g/a update 4 #0 @22
    delete {"old_value":1}
      group: g/a delete 1 #0 @22
      item:  g/a delete 1 #0 @22
    delete {"old_value":null}
      group: 
      item:  
    delete 
      asks stream::list(s)
      group: g/a sync null #0 @22, g sync [4] #0 @24
      item:  g/a sync null #0 @22
    "#);
}

#[test]
fn the_list_after_a_change_that_was_told_only_in_part_comes_before_the_next_call() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[]");
    world.set(caller, "1", "g", "a", "1");
    world.set(caller, "2", "g", "b", "2");
    answers(&mut world, keeper, "set", "");
    answers(&mut world, keeper, "list", "[1]");
    answers(&mut world, keeper, "set", r#"{"old_value":null}"#);
    assert_eq!(world.seen(session), ["g/a update 1 #0 @12", "g sync [1] #0 @14", "g/b create 2 #0 @16"]);
}

#[test]
fn gates_leaves_and_triggers_work_as_for_any_other_stream() {
    let mut config = CoreConfig::default();
    config.access.join_gate = JoinGate::FailClosed;
    let (mut world, caller, keeper) = kept_in(World::with_config(config), &ALL);
    let watcher = world.worker();
    world.handles(watcher, "stream:join", "may", "{}");
    world.handles(watcher, "stream:leave", "bye", "{}");
    world.handles(watcher, "stream", "on", r#"{"stream_name":"s","group_id":"g"}"#);
    let [refused, allowed] = [(); 2].map(|()| world.session());
    for (session, id) in [(refused, "no"), (allowed, "yes")] {
        world.join(session, id, "g", "");
    }
    assert!(world.heard(keeper).is_empty(), "the worker is not asked before the gate has answered");
    for (call, answer) in world.calls(watcher).iter().zip([r#"{"unauthorized":true}"#, "null"]) {
        world.returns(watcher, call, answer);
    }
    assert_eq!(world.seen(refused), ["! unauthorized"]);
    answers(&mut world, keeper, "list", "[]");
    world.settle();
    assert_eq!(world.seen(allowed), ["g sync [] #0 @2"]);
    world.set(caller, "1", "g", "a", "1");
    answers(&mut world, keeper, "set", r#"{"old_value":null}"#);
    world.settle();
    assert_eq!(world.returns_to_all(watcher, "null"), ["on g/a create 1 #0 @4"]);
    world.send(caller, "2", "g", "", "sent");
    world.settle();
    assert_eq!(world.returns_to_all(watcher, "null"), [r#"on g sent {"k":1} #0 @6"#]);
    // One that is still loading was allowed as well.
    world.join(allowed, "loading", "g", "a");
    assert_eq!(world.returns_to_all(watcher, "null"), ["may loading"]);
    world.leave(allowed, "loading");
    world.leave(allowed, "yes");
    world.settle();
    assert_eq!(world.returns_to_all(watcher, "null"), ["bye loading", "bye yes"]);
}
