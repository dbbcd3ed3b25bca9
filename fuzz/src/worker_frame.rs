//! Frames of the worker port.

use headwater_core::config::CoreConfig;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::name::{SubscriptionId, Target};
use headwater_core::store::Command;
use headwater_core::wire::stream::{FromSubscriber, Handshake};
use headwater_core::wire::worker::{self, BadFrame, BadFrameAnswer, FromWorker, Invoke, InvokeTarget};
use headwater_core::{Core, Effect, Input};
use serde_json::value::RawValue;

use crate::effects::{at, seen, sent};

/// Hands frames, one a line, to a core with a store in memory, as a worker's socket would.
///
/// # Panics
///
/// If the core does, or if it answers with what is no JSON, tells a subscriber what has not exactly the protocol's form,
/// or does not answer a call of a built-in function once.
pub fn worker_frame(data: &[u8]) {
    // A text frame that is not UTF-8 never gets past the socket.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let config = CoreConfig::default();
    let mut server = Server {
        core: Core::new(config.clone(), [7; 32], at(0)),
        subscriptions: 0,
        effects: Vec::new(),
        clock: 0,
    };
    server.handle(Input::WorkerConnected { worker: WORKER });
    server.handle(Input::SessionConnected { session: SESSION, handshake: Handshake::default(), join: None });
    for line in text.split('\n').take(MOST_FRAMES) {
        server.frame(worker::parse(line, &config.limits));
    }
    server.handle(Input::WorkerDisconnected { worker: WORKER });
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
    subscriptions: u32,
    effects: Vec<Effect>,
    clock: u64,
}

impl Server {
    fn frame(&mut self, frame: Result<FromWorker, BadFrame>) {
        if let Ok(FromWorker::Invoke(Invoke { target: InvokeTarget::Builtin(Ok(command)), .. })) = &frame {
            self.watch(command);
        }
        let must_answer = match &frame {
            Ok(FromWorker::Invoke(Invoke {
                invocation_id: Some(id),
                target: InvokeTarget::Builtin(_) | InvokeTarget::Refused(_),
                ..
            })) => Some(id.clone()),
            Err(BadFrame { answer: BadFrameAnswer::Call { invocation_id, .. }, .. }) => {
                Some(invocation_id.clone())
            }
            Ok(_) | Err(_) => None,
        };
        self.handle(Input::WorkerFrame { worker: WORKER, frame });
        if let Some(id) = must_answer {
            let answers = self.effects.iter().filter(
                |effect| matches!(effect, Effect::Reply { invocation_id: Some(answered), .. } if *answered == id),
            );
            assert_eq!(answers.count(), 1, "a call has one answer");
        }
    }

    /// Subscribes to whatever a command is about, so that there is somebody to tell.
    fn watch(&mut self, command: &Command) {
        let (group, item) = match command {
            Command::Set { item, .. }
            | Command::Update { item, .. }
            | Command::Delete { item, .. }
            | Command::Get { item, .. } => (&item.group, Some(&item.id)),
            Command::Send { group, item, .. } => (group, item.as_ref()),
            Command::List { group, .. } => (group, None),
            Command::ListGroups { .. } | Command::ListAll => return,
        };
        self.subscriptions += 1;
        // Of the group and of the item in turn.
        let item = item.filter(|_| self.subscriptions.is_multiple_of(2)).cloned();
        let subscription = SubscriptionId::trusted(&self.subscriptions.to_string());
        let target = Target { group: group.clone(), item };
        let frame = Ok(FromSubscriber::Join { subscription, target });
        self.handle(Input::SessionFrame { session: SESSION, frame });
    }

    fn handle(&mut self, input: Input) {
        self.clock += 1;
        self.effects.clear();
        self.core.handle(at(self.clock), input, &mut self.effects);
        for frame in self.effects.iter().filter_map(sent) {
            assert!(frame.starts_with('{'), "a frame is an object: {frame}");
            if let Err(error) = serde_json::from_str::<&RawValue>(&frame) {
                panic!("a frame is JSON: {error}: {frame}");
            }
        }
        // What is told to subscribers is read, to be checked.
        seen(&self.effects).for_each(drop);
    }
}
