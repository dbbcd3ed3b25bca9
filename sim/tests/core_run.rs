//! The pure core, driven by hand: first of all, one seed is one run.

use headwater_core::config::CoreConfig;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::log::{FileHeader, Salt};
use headwater_core::rng::Uuid;
use headwater_core::store::Recovered;
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::{stream, worker};
use headwater_core::{Core, Effect, Input};
use headwater_sim::random::Random;

/// Hands a thousand drawn inputs to a core with a log, and returns all its effects.
fn run(seed: u64) -> Vec<Effect> {
    let mut random = Random::new(seed);
    let config = CoreConfig::default();
    let recovered =
        Recovered::empty(FileHeader { epoch: Uuid::from_random(u128::from(seed)), salt: Salt([0; 8]) });
    let mut now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
    let mut core = Core::recovered(config.clone(), random.bytes(), now, recovered);
    let mut effects = Vec::new();
    let mut seen = 0;
    let mut writing = None;
    for _ in 0..1_000 {
        let step = random.within(0..5);
        now = Now { mono: now.mono.after(step), wall: WallMs(now.wall.0 + step) };
        let input = match writing.take_if(|_| random.chance(30)) {
            Some(through) => Input::Persisted { through },
            None => draw(&mut random, &config),
        };
        core.handle(now, input, &mut effects);
        for effect in &effects[seen..] {
            if let Effect::Persist(batch) = effect {
                assert_eq!(writing.replace(batch.number), None, "one batch is written at a time");
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
