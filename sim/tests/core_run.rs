//! The pure core, driven by hand: first of all, one seed is one run.

use std::collections::VecDeque;

use headwater_core::config::CoreConfig;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::store::{Load, Loaded, Recovered};
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::{stream, worker};
use headwater_core::{Core, Effect, Input};
use headwater_sim::random::Random;

/// Hands a thousand drawn inputs to a core with a log, on a disk that fails at times, and returns all its effects.
fn run(seed: u64) -> Vec<Effect> {
    let mut random = Random::new(seed);
    let mut config = CoreConfig::default();
    (config.storage.segment_bytes, config.storage.checkpoint_log_bytes) = (2_000, 4_000);
    let mut now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
    let mut core = Core::recovered(config.clone(), random.bytes(), now, Recovered::empty());
    let mut effects = Vec::new();
    let mut seen = 0;
    let (mut writing, mut saving, mut loading) = (None, None, VecDeque::new());
    for _ in 0..1_000 {
        let step = random.within(0..5);
        now = Now { mono: now.mono.after(step), wall: WallMs(now.wall.0 + step) };
        let reason = || "disk full".to_owned();
        let input = if let Some(through) = writing.take_if(|_| random.chance(30)) {
            let failed = random.chance(5);
            if failed { Input::PersistFailed { reason: reason() } } else { Input::Persisted { through } }
        } else if saving.take_if(|()| random.chance(20)).is_some() {
            if random.chance(10) { Input::SaveFailed { reason: reason() } } else { Input::Saved }
        } else if let Some(load) = loading.pop_front_if(|_| random.chance(40)) {
            // Nothing is ever let go, so nothing is in the checkpoint alone.
            let result = match load {
                Load::Group(_) => Loaded::Group(None),
                Load::Names(_) => Loaded::Names(Vec::new()),
            };
            Input::Loaded { load, result: Ok(result) }
        } else {
            draw(&mut random, &config)
        };
        core.handle(now, input, &mut effects);
        for effect in &effects[seen..] {
            match effect {
                Effect::Persist(write) => {
                    assert_eq!(writing.replace(write.number), None, "one write at a time");
                }
                Effect::Save(_) => assert_eq!(saving.replace(()), None, "one save at a time"),
                Effect::Load(load) => loading.push_back(load.clone()),
                _ => {}
            }
        }
        seen = effects.len();
    }
    effects
}

const FUNCTIONS: [&str; 7] = ["set", "delete", "get", "list", "send", "update", "list_all"];

fn draw(random: &mut Random, config: &CoreConfig) -> Input {
    let worker = WorkerKey(random.within(0..4));
    let session = SessionKey(random.within(0..4));
    let (group, item, id) = (random.within(0..3), random.within(0..5), random.within(0..1 << 40));
    match random.within(0..20) {
        0 => Input::WorkerConnected { worker },
        1 => Input::WorkerDisconnected { worker },
        2 => Input::SessionConnected {
            session,
            handshake: stream::Handshake::default(),
            join: stream::parse_path(&format!("/stream/s/{group}"), &config.limits),
        },
        3 => Input::SessionDisconnected { session },
        4 | 5 => {
            let kind = if random.chance(70) { "join" } else { "leave" };
            let text = format!(
                r#"{{"type":"{kind}","data":{{"subscriptionId":"{item}","streamName":"s","groupId":"{group}"}}}}"#
            );
            Input::SessionFrame { session, frame: stream::parse(&text, &config.limits) }
        }
        6 => {
            let text = format!(r#"{{"type":"registerfunction","id":"f{item}"}}"#);
            Input::WorkerFrame { worker, frame: worker::parse(&text, &config.limits) }
        }
        7 => Input::Tick,
        _ => {
            // A number beyond them is a function that a worker may have registered.
            let function = FUNCTIONS
                .get(random.index(FUNCTIONS.len() + 3))
                .map_or_else(|| format!("f{item}"), |name| format!("stream::{name}"));
            let data = format!(
                r#"{{"stream_name":"s","group_id":"{group}","item_id":"{item}","data":{id},"type":"t",
                    "ops":[{{"type":"increment","path":"","by":1}}]}}"#
            );
            let text = format!(
                r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{function}","data":{data}}}"#
            );
            Input::WorkerFrame { worker, frame: worker::parse(&text, &config.limits) }
        }
    }
}

#[test]
fn one_seed_is_one_run_of_the_core() {
    for seed in 0..20 {
        let (one, other) = (run(seed), run(seed));
        for (at, (one, other)) in one.iter().zip(&other).enumerate() {
            assert_eq!(one, other, "seed {seed}, effect {at}");
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

#[test]
fn another_seed_is_another_run_of_the_core() {
    assert_ne!(run(1), run(2));
}
