//! What an increment of a counter costs: 1,000 of them, one call each, in an item of 10 KiB, or in one of the small
//! items of a group.
//!
//! `cargo bench -p headwater-core`. The columns are for 1,000 increments, the rows of throughput for one.

use divan::Bencher;
use divan::counter::ItemsCount;
use headwater_core::config::{CoreConfig, Limits};
use headwater_core::json::Json;
use headwater_core::key::WorkerKey;
use headwater_core::log::WriteNumber;
use headwater_core::ops::{self, Document, UpdateOp};
use headwater_core::store::Recovered;
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::worker::{self, FromWorker};
use headwater_core::{Core, Effect, Input};
use serde_json::value::RawValue;

const CALLS: usize = 1_000;
const WORKER: WorkerKey = WorkerKey(1);

fn main() {
    divan::main();
}

/// Some 240 members of different kinds, the counter in the middle: 10 KiB.
fn item() -> String {
    let mut members = Vec::new();
    let mut len = 0;
    while len < 10 << 10 {
        let i = members.len();
        let member = match i % 3 {
            0 => format!(r#""field_{i}":"a value of some length, {i}""#),
            1 => format!(r#""field_{i}":[{i},{{"x":1.5,"y":-2}},true]"#),
            _ => format!(r#""field_{i}":{{"id":"{i}","at":1700000000000,"who":null}}"#),
        };
        len += member.len() + 1;
        members.push(member);
    }
    members.insert(members.len() / 2, r#""count":0"#.into());
    format!("{{{}}}", members.join(","))
}

fn increment() -> Vec<UpdateOp> {
    let ops = r#"[{"type":"increment","path":"count","by":1}]"#;
    let ops: &RawValue = serde_json::from_str(ops).expect("JSON");
    ops::parse(ops, &Limits::default()).expect("operations")
}

/// The floor: what making the item's text once costs, for a tree that nobody has to read or print.
#[divan::bench]
fn copy_of_the_text(bencher: Bencher<'_, '_>) {
    let value = item();
    bencher.counter(ItemsCount::new(CALLS)).bench_local(|| {
        for _ in 0..CALLS {
            divan::black_box(Json::trusted(divan::black_box(value.as_str())));
        }
    });
}

#[divan::bench]
fn from_scratch(bencher: Bencher<'_, '_>) {
    let (value, ops) = (Json::trusted(item()), increment());
    bencher.counter(ItemsCount::new(CALLS)).bench_local(|| {
        let mut value = value.clone();
        for _ in 0..CALLS {
            value = ops::apply(Some(&value), &ops).after;
        }
        value
    });
}

#[divan::bench]
fn kept_document(bencher: Bencher<'_, '_>) {
    let (value, ops) = (Json::trusted(item()), increment());
    bencher.counter(ItemsCount::new(CALLS)).bench_local(|| {
        let mut document = Document::new(Some(&value));
        for _ in 1..CALLS {
            document.apply(&ops);
        }
        document.apply(&ops)
    });
}

/// Calls as they come from a worker's socket, parsed there; their records go into batches for the log, and the
/// answers come out when `BATCH` of them are durable.
#[divan::bench]
fn whole_core(bencher: Bencher<'_, '_>) {
    const BATCH: usize = 64;
    let limits = Limits::default();
    let parse = |frame: &str| worker::parse(frame, &limits).expect("a frame");
    let set = format!(
        r#"{{"type":"invokefunction","invocation_id":"0","function_id":"stream::set","data":{{"stream_name":"s","group_id":"g","item_id":"i","data":{}}}}}"#,
        item()
    );
    let update = parse(
        r#"{"type":"invokefunction","invocation_id":"1","function_id":"stream::update","data":{"stream_name":"s","group_id":"g","item_id":"i","ops":[{"type":"increment","path":"count","by":1}]}}"#,
    );
    let mut server = Server::start();
    server.call(parse(&set));
    server.persist();
    bencher.counter(ItemsCount::new(CALLS)).bench_local(|| {
        for call in 1..=CALLS {
            server.call(update.clone());
            if call % BATCH == 0 {
                server.persist();
            }
        }
        server.persist();
    });
}

/// The items of a group in turn, each change in a batch of its own: every time the group's state is copied where it
/// changes.
#[divan::bench(args = [1, 2, 16, 32, 1_000, 100_000])]
fn in_a_group_of(bencher: Bencher<'_, '_>, items: usize) {
    let limits = Limits::default();
    let parse = |frame: &str| worker::parse(frame, &limits).expect("a frame");
    let mut server = Server::start();
    for i in 0..items {
        server.call(parse(&format!(
            r#"{{"type":"invokefunction","function_id":"stream::set","data":{{"stream_name":"s","group_id":"g","item_id":"item-{i:06}","data":{{"count":0,"text":"0123456789012345678901234567890123456789"}}}}}}"#,
        )));
    }
    server.persist();
    let updates: Vec<FromWorker> = (0..items.min(CALLS))
        .map(|i| i * 7_919 % items)
        .map(|i| parse(&format!(
            r#"{{"type":"invokefunction","function_id":"stream::update","data":{{"stream_name":"s","group_id":"g","item_id":"item-{i:06}","ops":[{{"type":"increment","path":"count","by":1}}]}}}}"#,
        )))
        .collect();
    bencher.counter(ItemsCount::new(CALLS)).bench_local(|| {
        for update in updates.iter().cycle().take(CALLS) {
            server.call(update.clone());
            server.persist();
        }
    });
}

/// New groups are filled, one after the other.
#[divan::bench(args = [1, 16])]
fn created_in_groups_of(bencher: Bencher<'_, '_>, items: usize) {
    let limits = Limits::default();
    let sets: Vec<FromWorker> = (0..CALLS)
        .map(|i| {
            let (group, item) = (i / items, i % items);
            let frame = format!(
                r#"{{"type":"invokefunction","function_id":"stream::set","data":{{"stream_name":"s","group_id":"{group}","item_id":"{item}","data":0}}}}"#,
            );
            worker::parse(&frame, &limits).expect("a frame")
        })
        .collect();
    bencher.counter(ItemsCount::new(CALLS)).with_inputs(Server::start).bench_local_values(|mut server| {
        for set in &sets {
            server.call(set.clone());
        }
        server.persist();
        server
    });
}

struct Server {
    core: Core,
    effects: Vec<Effect>,
    clock: u64,
}

impl Server {
    fn start() -> Server {
        // No checkpoint comes between: what it costs is not measured here.
        let mut config = CoreConfig::default();
        (config.storage.checkpoint_log_bytes, config.storage.cache_bytes) = (1 << 40, 1 << 40);
        let mut core = Core::recovered(config, [7; 32], at(0), Recovered::empty());
        let mut effects = Vec::new();
        core.handle(at(0), Input::WorkerConnected { worker: WORKER }, &mut effects);
        Server { core, effects, clock: 0 }
    }

    fn call(&mut self, frame: FromWorker) {
        self.handle(Input::WorkerFrame { worker: WORKER, frame: Ok(frame) });
    }

    /// What is being written becomes durable, and then what gathered meanwhile.
    fn persist(&mut self) {
        while let Some(through) = self.written() {
            self.handle(Input::Persisted { through });
        }
    }

    /// What is being written, if anything. All other effects are carried out.
    fn written(&mut self) -> Option<WriteNumber> {
        self.effects.drain(..).fold(None, |written, effect| match effect {
            Effect::Persist(write) => Some(write.number),
            effect => {
                assert!(!matches!(effect, Effect::Save(_) | Effect::Load(_)), "there is no checkpoint");
                written
            }
        })
    }

    fn handle(&mut self, input: Input) {
        self.clock += 1;
        self.core.handle(at(self.clock), input, &mut self.effects);
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: WallMs(1_700_000_000_000 + ms) }
}
