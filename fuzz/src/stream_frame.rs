//! Frames and paths of the stream port.

use std::fmt::Write as _;

use headwater_core::config::{CoreConfig, Limits};
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::name::{SubscriptionId, Target};
use headwater_core::wire::stream::{self, FromSubscriber};
use headwater_core::wire::worker;
use headwater_core::{Core, Effect, Input};
use headwater_model::json::spell;

use crate::effects::{at, seen};
use crate::seen::Seen;

/// Connects with the path of the first line and hands the other lines, frames, to a core with a store in memory, as a
/// subscriber's socket would. What is joined is written to as well.
///
/// # Panics
///
/// If the core does; if it sends a frame that is not as the protocol has it; if a frame gets no answer or two; or if a
/// join that was read is not read the same when it is written again.
pub fn stream_frame(data: &[u8]) {
    // A text frame that is not UTF-8 never gets past the socket.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let config = CoreConfig::default();
    let core = Core::new(config.clone(), [7; 32], at(0));
    let mut server = Server { core, limits: config.limits, effects: Vec::new(), clock: 0 };
    server.handle(Input::WorkerConnected { worker: WORKER });
    let mut lines = text.split('\n');
    server.connect(lines.next().unwrap_or_default());
    for line in lines.take(MOST_FRAMES) {
        server.frame(line);
    }
    server.handle(Input::SessionDisconnected { session: SESSION });
    server.handle(Input::Stop);
    assert_eq!(server.effects.last(), Some(&Effect::Stopped), "nothing is left that a stop could wait for");
}

const WORKER: WorkerKey = WorkerKey(1);
const SESSION: SessionKey = SessionKey(2);
/// More frames than this only make a run slow.
const MOST_FRAMES: usize = 64;

struct Server {
    core: Core,
    limits: Limits,
    effects: Vec<Effect>,
    clock: u64,
}

impl Server {
    fn connect(&mut self, path: &str) {
        let join = stream::parse_path(path, &self.limits);
        if let Some(Ok(target)) = &join {
            let again = stream::parse_path(&path_of(target), &self.limits);
            assert_eq!(again.as_ref(), Some(&Ok(target.clone())), "{path}");
            self.write(target, "null");
        }
        let answers = usize::from(join.is_some());
        let target = join.as_ref().and_then(|join| join.as_ref().ok().cloned());
        let seen = self.handle(Input::SessionConnected {
            session: SESSION,
            handshake: stream::Handshake::default(),
            join,
        });
        assert_eq!(seen.len(), answers, "a join has one answer");
        if let Some(target) = target {
            self.write(&target, "1");
        }
    }

    fn frame(&mut self, line: &str) {
        let frame = stream::parse(line, &self.limits);
        let session_frame = Input::SessionFrame { session: SESSION, frame: frame.clone() };
        let seen = self.handle(session_frame);
        match frame {
            Ok(FromSubscriber::Join { subscription, target }) => {
                assert_eq!(seen.len(), 1, "a join has one answer: {line}");
                let again = stream::parse(&join_of(&subscription, &target), &self.limits);
                assert_eq!(again, Ok(FromSubscriber::Join { subscription, target: target.clone() }));
                let is_sync = seen[0].kind == "sync";
                let seen = self.write(&target, r#"{"n":[1.0]}"#);
                assert!(seen.len() == 1 || !is_sync && seen.is_empty(), "an event is told once: {seen:?}");
            }
            Ok(FromSubscriber::Leave { .. }) => {
                assert!(seen.len() <= 1 && seen.iter().all(|seen| seen.kind == "error"), "{seen:?}");
            }
            Err(error) => {
                assert!(seen.len() == 1 && seen[0].kind == "error", "{seen:?}");
                let names = [&error.names[0], &error.names[1]].map(|name| name.clone().unwrap_or_default());
                assert_eq!([&seen[0].stream, &seen[0].group], [&names[0], &names[1]]);
                assert_eq!(seen[0].item, error.names[2]);
            }
        }
    }

    /// A worker sends an event there, then changes an item, so that there is something to tell. Gives what was seen of
    /// the event.
    fn write(&mut self, target: &Target, value: &str) -> Vec<Seen> {
        let group = format!(
            r#""stream_name":"{}","group_id":"{}""#,
            spell(target.group.stream.as_str()),
            spell(target.group.group.as_str())
        );
        let item = target.item.as_ref().map_or("any", |item| item.as_str());
        let id = target.item.as_ref().map_or_else(String::new, |item| spell(item.as_str()));
        let seen = self.call("stream::send", &format!(r#"{group},"id":"{id}","type":"t","data":null"#));
        self.call("stream::set", &format!(r#"{group},"item_id":"{}","data":{value}"#, spell(item)));
        seen
    }

    fn call(&mut self, function: &str, fields: &str) -> Vec<Seen> {
        let frame = format!(r#"{{"type":"invokefunction","function_id":"{function}","data":{{{fields}}}}}"#);
        let frame = Ok(worker::parse(&frame, &self.limits).expect("a call that was written here"));
        self.handle(Input::WorkerFrame { worker: WORKER, frame })
    }

    /// Gives what the subscriber sees.
    fn handle(&mut self, input: Input) -> Vec<Seen> {
        self.clock += 1;
        self.effects.clear();
        self.core.handle(at(self.clock), input, &mut self.effects);
        seen(&self.effects).collect()
    }
}

/// A target as a path.
fn path_of(target: &Target) -> String {
    let names = [target.group.stream.as_str(), target.group.group.as_str()];
    let mut path = String::from("/stream");
    for name in names.into_iter().chain(target.item.as_ref().map(|item| item.as_str())) {
        path.push('/');
        for byte in name.bytes() {
            write!(path, "%{byte:02x}").expect("a String takes everything");
        }
    }
    path
}

/// A subscription as a join frame.
fn join_of(subscription: &SubscriptionId, target: &Target) -> String {
    let id = target.item.as_ref().map_or("null".into(), |item| format!("\"{}\"", spell(item.as_str())));
    format!(
        r#"{{"type":"join","data":{{"subscriptionId":"{}","streamName":"{}","groupId":"{}","id":{id}}}}}"#,
        spell(subscription.as_str()),
        spell(target.group.stream.as_str()),
        spell(target.group.group.as_str())
    )
}
