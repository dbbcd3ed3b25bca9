//! What a world has shown: how long it was, what went wrong in it, and what the core was told and wanted done.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use headwater_core::wire::stream::{FromSubscriber, ToSubscriber};
use headwater_core::wire::worker::{FromWorker, InvokeTarget, ToWorker};
use headwater_core::{Effect, Input, Notice};

use crate::process::Work;

/// How often something occurred, by its name.
pub type Counts = BTreeMap<&'static str, u64>;

/// What a world has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many steps there were.
    pub steps: u64,
    /// How long it was.
    pub simulated_ms: u64,
    /// What really went wrong.
    pub faults: Counts,
    /// What the core was told.
    pub inputs: Counts,
    /// What the core wanted done.
    pub effects: Counts,
    /// What the store's threads have done.
    pub work: Work,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        let add = |to: &mut Counts, from: Counts| {
            from.into_iter().for_each(|(name, count)| *to.entry(name).or_default() += count);
        };
        self.steps += other.steps;
        self.simulated_ms += other.simulated_ms;
        add(&mut self.faults, other.faults);
        add(&mut self.inputs, other.inputs);
        add(&mut self.effects, other.effects);
        self.work += other.work;
    }
}

impl Report {
    pub(super) fn input(&mut self, input: &Input) {
        *self.inputs.entry(input_name(input)).or_default() += 1;
    }

    pub(super) fn effect(&mut self, effect: &Effect) {
        *self.effects.entry(effect_name(effect)).or_default() += 1;
    }

    pub(super) fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// What never occurred: a hole in the workload.
    pub fn holes(&self) -> Vec<&'static str> {
        let missing = |names: &[&'static str], counts: &Counts| {
            names.iter().copied().filter(|name| !counts.contains_key(name)).collect::<Vec<_>>()
        };
        let faults = super::plan::Fault::ALL.map(super::plan::Fault::name);
        [missing(&INPUTS, &self.inputs), missing(&EFFECTS, &self.effects), missing(&faults, &self.faults)]
            .concat()
    }
}

/// Names of variants, and which variant has which: the compiler says if one is forgotten.
macro_rules! names {
    ($(#[$doc:meta])* $all:ident: $len:literal, $function:ident($of:ty) { $($pattern:pat $(if $guard:expr)? => $name:literal,)* }) => {
        $(#[$doc])*
        const $all: [&str; $len] = [$($name),*];

        fn $function(of: &$of) -> &'static str {
            match of {
                $($pattern $(if $guard)? => $name,)*
            }
        }
    };
}

names! {
    /// Everything that a core can be told.
    INPUTS: 33, input_name(Input) {
        Input::WorkerConnected { .. } => "worker connected",
        Input::WorkerFrame { frame: Ok(FromWorker::RegisterFunction { .. }), .. } => "registers a function",
        Input::WorkerFrame { frame: Ok(FromWorker::UnregisterFunction { .. }), .. } => "takes a function back",
        Input::WorkerFrame { frame: Ok(FromWorker::RegisterTrigger(_)), .. } => "registers a trigger",
        Input::WorkerFrame { frame: Ok(FromWorker::UnregisterTrigger { .. }), .. } => "takes a trigger back",
        Input::WorkerFrame { frame: Ok(FromWorker::Invoke(invoke)), .. }
            if matches!(invoke.target, InvokeTarget::Builtin(Ok(_))) => "calls the store",
        Input::WorkerFrame { frame: Ok(FromWorker::Invoke(invoke)), .. }
            if matches!(invoke.target, InvokeTarget::Function(_)) => "calls a function",
        Input::WorkerFrame { frame: Ok(FromWorker::Invoke(_)), .. } => "calls wrongly",
        Input::WorkerFrame { frame: Ok(FromWorker::Result { outcome: Ok(_), .. }), .. } => "returns",
        Input::WorkerFrame { frame: Ok(FromWorker::Result { outcome: Err(_), .. }), .. } => "fails",
        Input::WorkerFrame { frame: Ok(FromWorker::Reattach { .. }), .. } => "reattaches",
        Input::WorkerFrame { frame: Ok(FromWorker::Ping), .. } => "pings",
        Input::WorkerFrame { frame: Ok(FromWorker::Ignored), .. } => "sends what is ignored",
        Input::WorkerFrame { frame: Err(_), .. } => "sends a bad frame",
        Input::WorkerDisconnected { .. } => "worker disconnected",
        Input::CallNotDelivered { .. } => "call not delivered",
        Input::SessionConnected { join: None, .. } => "session connected",
        Input::SessionConnected { join: Some(_), .. } => "session connected with a join",
        Input::SessionFrame { frame: Ok(FromSubscriber::Join { .. }), .. } => "joins",
        Input::SessionFrame { frame: Ok(FromSubscriber::Leave { .. }), .. } => "leaves",
        Input::SessionFrame { frame: Err(_), .. } => "session sends a bad frame",
        Input::SessionDisconnected { .. } => "session disconnected",
        Input::SessionOverflowed { .. } => "session overflowed",
        Input::SessionDrained { .. } => "session drained",
        Input::Persisted { .. } => "persisted",
        Input::PersistFailed { .. } => "persist failed",
        Input::Saved => "saved",
        Input::SaveFailed { .. } => "save failed",
        Input::Loaded { result: Ok(headwater_core::store::Loaded::Group(_)), .. } => "group loaded",
        Input::Loaded { result: Ok(headwater_core::store::Loaded::Names(_)), .. } => "names loaded",
        Input::Loaded { result: Err(_), .. } => "load failed",
        Input::Tick => "tick",
        Input::Stop => "stop",
    }
}

names! {
    /// Everything that a core can want done.
    EFFECTS: 36, effect_name(Effect) {
        Effect::Persist(write) if write.begins.is_some() => "begin a segment",
        Effect::Persist(write) if write.sync => "write and sync",
        Effect::Persist(_) => "write",
        Effect::Save(_) => "save",
        Effect::Discard(_) => "discard",
        Effect::Load(_) => "load",
        Effect::Reply { outcome: Ok(_), .. } => "answer",
        Effect::Reply { outcome: Err(error), .. } if error.conflict.is_some() => "answer with a conflict",
        Effect::Reply { outcome: Err(_), .. } => "answer with an error",
        Effect::ToWorker { frame: ToWorker::Registered { .. }, .. } => "greet a worker",
        Effect::ToWorker { frame: ToWorker::Invoke { .. }, .. } => "call a function",
        Effect::ToWorker { frame: ToWorker::TriggerRefused { .. }, .. } => "refuse a trigger",
        Effect::ToWorker { frame: ToWorker::FunctionRefused { .. }, .. } => "refuse a function",
        Effect::ToWorker { frame: ToWorker::Pong | ToWorker::Result { .. }, .. } => "pong",
        Effect::CloseWorker { .. } => "close a worker",
        Effect::Attach { .. } => "attach",
        Effect::Detach { .. } => "detach",
        Effect::Resume { .. } => "resume",
        Effect::Sync { .. } => "sync",
        Effect::Refuse { .. } => "refuse",
        Effect::Admit { .. } => "admit",
        Effect::Unauthorized { .. } => "unauthorized",
        Effect::CloseSession { .. } => "close a session",
        Effect::Broadcast { frame, .. } if matches!(**frame, ToSubscriber::Event(_)) => "broadcast an event",
        Effect::Broadcast { .. } => "broadcast a state",
        Effect::Note(Notice::HandlerFailed { .. }) => "note that a handler failed",
        Effect::Note(Notice::HandlerTooSlow { .. }) => "note that a handler is too slow",
        Effect::Note(Notice::EventsDropped { .. }) => "note that events were dropped",
        Effect::Note(Notice::GateFailed { .. }) => "note that a gate failed",
        Effect::Note(Notice::LeaveFailed { .. }) => "note that a leave failed",
        Effect::Note(Notice::AuthFailed { .. }) => "note that auth failed",
        Effect::Note(Notice::TooManyFunctions { .. }) => "note that there are too many functions",
        Effect::Note(Notice::FunctionTaken { .. }) => "note that a function is taken",
        Effect::Note(Notice::ReservedFunction { .. }) => "note that a function is reserved",
        Effect::Note(Notice::BadWorkerFrame { .. }) => "note a bad frame",
        Effect::Stopped => "stopped",
    }
}
