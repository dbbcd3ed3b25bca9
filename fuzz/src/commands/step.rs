//! What may happen.

use headwater_model::json::{Value, spell};
use headwater_model::store::{Asks, Command, Expect, GroupName, Store};

use crate::input::Input;

pub(super) const SESSIONS: usize = 3;

const STREAMS: [&str; 2] = ["s", "t/ü"];
const GROUPS: [&str; 4] = ["g", "G", "é", "\"h\n"];
const ITEMS: [&str; 4] = ["a", "b", "c\\", "😀"];
/// How often each of them is meant: mostly the first, so that much happens in one place.
const MOSTLY: [usize; 8] = [0, 0, 0, 0, 0, 1, 2, 3];
const SUBSCRIPTIONS: [&str; 3] = ["1", "2", "3"];

pub(super) enum Step {
    /// A worker calls a function.
    Call(Call),
    /// The write under way becomes durable.
    Persist,
    /// It fails, and if it is so meant the new start after it, too; `kept` says whether the disk has them nevertheless.
    Fail {
        twice: bool,
        kept: bool,
    },
    /// A second passes.
    Wait,
    Join {
        session: usize,
        subscription: &'static str,
        group: GroupName,
        item: Option<String>,
    },
    Leave {
        session: usize,
        subscription: &'static str,
    },
    /// The session's outbox is full, and what comes is dropped until it is drained.
    Overflow {
        session: usize,
    },
    Drain {
        session: usize,
    },
    /// The session hangs up and connects again.
    Reconnect {
        session: usize,
    },
}

/// A call as it stands in a frame, and what it means.
pub(super) struct Call {
    pub(super) function: &'static str,
    pub(super) data: String,
    pub(super) command: Command,
    pub(super) wants_answer: bool,
}

/// The next step, of a story that has come as far as `store`.
pub(super) fn step(input: &mut Input<'_>, store: &Store) -> Step {
    let session = input.below(SESSIONS);
    match input.below(24) {
        0..14 => Step::Call(call(input, store)),
        14..17 => Step::Persist,
        17 => match input.below(8) {
            0..3 => Step::Persist,
            3..7 => Step::Fail { twice: input.once_in(2), kept: input.once_in(2) },
            _ => Step::Wait,
        },
        18..21 => Step::Join {
            session,
            subscription: input.pick(&SUBSCRIPTIONS),
            group: group(input),
            item: (!input.once_in(3)).then(|| ITEMS[input.pick(&MOSTLY)].to_owned()),
        },
        21 => Step::Leave { session, subscription: input.pick(&SUBSCRIPTIONS) },
        22 => Step::Reconnect { session },
        _ => match input.once_in(2) {
            false => Step::Overflow { session },
            true => Step::Drain { session },
        },
    }
}

/// All commands that read something of what a story may have changed.
pub(super) fn reads() -> Vec<Call> {
    let mut reads = vec![read("stream::list_all", "{}".into(), Command::ListAll)];
    for stream in STREAMS {
        let data = format!(r#"{{"stream_name":"{stream}"}}"#);
        reads.push(read("stream::list_groups", data, Command::ListGroups { stream: stream.into() }));
    }
    for group in groups() {
        let data = format!(r#"{{{},"revision":true}}"#, group_fields(&group));
        reads.push(read("stream::list", data, Command::List { group, revision: true }));
    }
    reads
}

pub(super) fn groups() -> impl Iterator<Item = GroupName> {
    let named = |stream: &'static str| {
        GROUPS.map(|group| GroupName { stream: stream.to_owned(), group: group.to_owned() })
    };
    STREAMS.into_iter().flat_map(named)
}

fn read(function: &'static str, data: String, command: Command) -> Call {
    Call { function, data, command, wants_answer: true }
}

fn group(input: &mut Input<'_>) -> GroupName {
    let (group, stream) =
        (GROUPS[input.pick(&MOSTLY)].to_owned(), STREAMS[input.pick(&MOSTLY) / 2].to_owned());
    GroupName { stream, group }
}

fn group_fields(group: &GroupName) -> String {
    format!(r#""stream_name":"{}","group_id":"{}""#, spell(&group.stream), spell(&group.group))
}

fn call(input: &mut Input<'_>, store: &Store) -> Call {
    let group = group(input);
    let item = ITEMS[input.pick(&MOSTLY)].to_owned();
    let group_fields = group_fields(&group);
    let item_fields = format!(r#"{group_fields},"item_id":"{}""#, spell(&item));
    let (function, fields, command) = match input.below(16) {
        0..4 => {
            let data = if input.once_in(5) { "null".to_owned() } else { input.value() };
            let (asks, asked) = asks(input, store, &group, &item);
            let fields = format!(r#"{item_fields},"data":{data}{asked}"#);
            (
                ["stream::set", "streams.set"],
                fields,
                Command::Set { group, item, data: read_back(&data), asks },
            )
        }
        4..8 => {
            let ops = input.ops(4);
            let (ops, (asks, asked)) = (format!("[{}]", ops.join(",")), asks(input, store, &group, &item));
            let fields = format!(r#"{item_fields},"ops":{ops}{asked}"#);
            let command = Command::Update { group, item, ops: read_back(&ops), asks };
            (["stream::update", "streams.update"], fields, command)
        }
        8..10 => {
            let (asks, asked) = asks(input, store, &group, &item);
            let fields = format!("{item_fields}{asked}");
            (["stream::delete", "streams.delete"], fields, Command::Delete { group, item, asks })
        }
        10 => {
            let (revision, asked) = asks_revision(input);
            let fields = format!("{item_fields}{asked}");
            (["stream::get", "streams.get"], fields, Command::Get { group, item, revision })
        }
        11 => {
            let (revision, asked) = asks_revision(input);
            let fields = format!("{group_fields}{asked}");
            (["stream::list", "streams.getGroup"], fields, Command::List { group, revision })
        }
        12 => (
            ["stream::list_groups", "streams.listGroups"],
            group_fields,
            Command::ListGroups { stream: group.stream },
        ),
        13 => (["stream::list_all", "streams.listAll"], String::new(), Command::ListAll),
        _ => {
            let (data, to_item) = (input.value(), input.once_in(2));
            let id = if to_item { spell(&item) } else { String::new() };
            let fields = format!(r#"{group_fields},"id":"{id}","type":"own\ttype","data":{data}"#);
            let (item, data) = (to_item.then_some(item), read_back(&data));
            let command = Command::Send { group, item, kind: "own\ttype".into(), data };
            (["stream::send", "streams.send"], fields, command)
        }
    };
    let wants_answer = !input.once_in(8);
    Call { function: input.pick(&function), data: format!("{{{fields}}}"), command, wants_answer }
}

/// What a caller asks for beside a change, and how it says so.
fn asks(input: &mut Input<'_>, store: &Store, group: &GroupName, item: &str) -> (Asks, String) {
    let (revision, mut asked) = asks_revision(input);
    if !input.once_in(3) {
        return (Asks { expect: None, revision }, asked);
    }
    let there = store.item(group, item);
    let expect = match input.below(4) {
        0 => Expect::Revision(there.map_or(0, |(_, revision)| revision)),
        1 => Expect::Revision(input.below(6) as u64),
        2 => Expect::Value(there.map_or(Value::Null, |(value, _)| read_back(&value.to_string()))),
        _ => Expect::Value(read_back(&input.value())),
    };
    asked.push_str(&match &expect {
        Expect::Revision(revision) => format!(r#","expect":{{"revision":{revision}}}"#),
        Expect::Value(value) => format!(r#","expect":{{"value":{value}}}"#),
    });
    (Asks { expect: Some(expect), revision }, asked)
}

fn asks_revision(input: &mut Input<'_>) -> (bool, String) {
    let revision = input.once_in(2);
    (revision, if revision { r#","revision":true"#.to_owned() } else { String::new() })
}

fn read_back(text: &str) -> Value {
    Value::parse(text).expect("a generated value is JSON")
}
