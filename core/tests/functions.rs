//! The server's own functions: what they answer, to the byte.

mod driver;

use driver::World;
use serde_json::Value;

#[test]
fn the_built_in_functions_answer_as_the_clients_expect() {
    let mut world = World::durable();
    let worker = world.worker();
    let item = r#"{"stream_name":"s","group_id":"g","item_id":"a"}"#;
    let with = |more: &str| item.replace('}', &format!(",{more}}}"));
    let calls = [
        ("stream::get", item.to_owned()),
        ("stream::set", with(r#""data":{ "v": 1.0 }"#)),
        ("stream::set", with(r#""data":null"#)),
        ("stream::get", item.to_owned()),
        ("stream::set", with(r#""data":12345678901234567890123"#)),
        ("stream::get", item.to_owned()),
        ("stream::list", r#"{"stream_name":"s","group_id":"g"}"#.to_owned()),
        ("stream::list", r#"{"stream_name":"s","group_id":"none"}"#.to_owned()),
        ("stream::list_groups", r#"{"stream_name":"s"}"#.to_owned()),
        ("stream::list_groups", r#"{"stream_name":"none"}"#.to_owned()),
        ("stream::list_all", "{}".to_owned()),
        ("stream::send", r#"{"stream_name":"s","group_id":"g","type":"t","data":1}"#.to_owned()),
        ("stream::send", r#"{"stream_name":"s","group_id":"g","type":"t","id":null}"#.to_owned()),
        ("stream::delete", item.to_owned()),
        ("stream::delete", item.to_owned()),
        ("stream::list_all", "null".to_owned()),
    ];
    let mut told = String::new();
    for (function, data) in calls {
        world.call(worker, "1", function, &data);
        world.settle();
        let frame = world.heard(worker).join(" and ");
        let start = format!(r#"{{"type":"invocationresult","invocation_id":"1","function_id":"{function}""#);
        told.push_str(&format!("{function} -> {}\n", frame.strip_prefix(&start).unwrap()));
    }
    insta::assert_snapshot!(told, @r#"
    stream::get -> }
    stream::set -> ,"result":{"old_value":null,"new_value":{ "v": 1.0 }}}
    stream::set -> ,"result":{"old_value":{ "v": 1.0 },"new_value":null}}
    stream::get -> ,"result":null}
    stream::set -> ,"result":{"old_value":null,"new_value":12345678901234567890123}}
    stream::get -> ,"result":12345678901234567890123}
    stream::list -> ,"result":[12345678901234567890123]}
    stream::list -> ,"result":[]}
    stream::list_groups -> ,"result":["g"]}
    stream::list_groups -> ,"result":[]}
    stream::list_all -> ,"result":{"stream":[{"id":"s","groups":["g"]}],"count":1}}
    stream::send -> ,"result":null}
    stream::send -> ,"result":null}
    stream::delete -> ,"result":{"old_value":12345678901234567890123}}
    stream::delete -> ,"result":{"old_value":null}}
    stream::list_all -> ,"result":{"stream":[],"count":0}}
    "#);
}

#[test]
fn earlier_spellings_mean_the_same_and_are_echoed() {
    let mut world = World::in_memory();
    let worker = world.worker();
    let mut told = String::new();
    for (function, data) in [
        ("streams.set", r#"{"stream_name":"s","group_id":"g","item_id":"a","data":1}"#),
        ("streams.get", r#"{"stream_name":"s","group_id":"g","item_id":"a"}"#),
        ("streams.getGroup", r#"{"stream_name":"s","group_id":"g"}"#),
        ("streams.listGroups", r#"{"stream_name":"s"}"#),
        ("streams.listAll", "{}"),
        ("streams.send", r#"{"stream_name":"s","group_id":"g","type":"t","data":1}"#),
        ("streams.delete", r#"{"stream_name":"s","group_id":"g","item_id":"a"}"#),
        ("streams.list", r#"{"stream_name":"s","group_id":"g"}"#),
    ] {
        world.says(
            worker,
            &format!(
                r#"{{"data":{data},"function_path":"{function}","invocation_id":"1","type":"invokefunction"}}"#
            ),
        );
        let frames = world.heard(worker);
        assert_eq!(frames.len(), 1, "{frames:?}");
        let frame: Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!(frame["function_id"], function);
        told.push_str(&format!("{function}: {} {}\n", frame["result"], frame["error"]["code"]));
    }
    insta::assert_snapshot!(told, @r#"
    streams.set: {"new_value":1,"old_value":null} null
    streams.get: 1 null
    streams.getGroup: [1] null
    streams.listGroups: ["g"] null
    streams.listAll: {"count":1,"stream":[{"groups":["g"],"id":"s"}]} null
    streams.send: null null
    streams.delete: {"old_value":1} null
    streams.list: null "function_not_found"
    "#);
}

#[test]
fn lists_are_in_creation_order_and_names_in_byte_order() {
    let mut world = World::in_memory();
    let worker = world.worker();
    for (n, group) in ["b", "ü", "a", "B", "empty"].into_iter().enumerate() {
        world.set(worker, "c", group, "z", &n.to_string());
        world.set(worker, "c", group, "a", "0");
        world.set(worker, "c", group, "z", &(n + 10).to_string());
    }
    world.delete(worker, "c", "empty", "z");
    world.delete(worker, "c", "empty", "a");
    world.heard(worker);
    world.list(worker, "list", "a");
    world.call(worker, "groups", "stream::list_groups", r#"{"stream_name":"s"}"#);
    assert_eq!(world.replies(worker), ["list: [12,0]", r#"groups: ["B","a","b","ü"]"#]);
}
