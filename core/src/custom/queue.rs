//! The requests of one line, in order, and the one whose turn it is.

use std::collections::VecDeque;

use super::input;
use crate::call::{Answer, Caller};
use crate::json::Json;
use crate::key::SessionKey;
use crate::name::{GroupPath, SubscriptionId, Target};
use crate::store::{Builtin, Command};
use crate::time::Mono;

/// Something that a worker is to be asked for.
#[derive(Debug)]
pub(super) enum Request {
    /// What another worker called.
    Call { caller: Caller, command: Command },
    /// What a subscription starts from.
    Load { session: SessionKey, subscription: SubscriptionId, target: Target },
    /// A group as it is now, after a change that can't be told otherwise.
    Refresh { group: GroupPath },
}

/// How far a request is.
#[derive(Debug)]
pub(super) enum Step {
    /// It takes one call.
    Only,
    /// An update by a worker that has no function for updates: the value is read,
    GetToUpdate,
    /// then the new one is stored.
    SetUpdated {
        /// What the caller is told then.
        answer: Box<Answer>,
        new: Json,
    },
}

/// A request whose turn it is.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) request: Request,
    pub(super) step: Step,
    pub(super) deadline: Mono,
}

impl Running {
    /// The function to call, and its input.
    pub(super) fn next_call(&self) -> (Builtin, Json) {
        match (&self.request, &self.step) {
            (Request::Call { command, .. }, Step::GetToUpdate) => {
                (Builtin::Get, input::of_item(command, None))
            }
            (Request::Call { command, .. }, Step::SetUpdated { new, .. }) => {
                (Builtin::Set, input::of_item(command, Some(new)))
            }
            (Request::Call { command, .. }, Step::Only) => (command.builtin(), input::of(command)),
            (Request::Load { target, .. }, _) => match &target.item {
                Some(_) => (Builtin::Get, input::of_target(target)),
                None => (Builtin::List, input::of_target(target)),
            },
            (Request::Refresh { group }, _) => {
                let target = Target { group: group.clone(), item: None };
                (Builtin::List, input::of_target(&target))
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each with the moment until which it is worth to be begun.
    waiting: VecDeque<(Request, Mono)>,
    running: Option<Running>,
}

impl Queue {
    pub(super) fn push(&mut self, request: Request, deadline: Mono) {
        self.waiting.push_back((request, deadline));
    }

    /// Puts a request before all that wait.
    pub(super) fn push_front(&mut self, request: Request, deadline: Mono) {
        self.waiting.push_front((request, deadline));
    }

    pub(super) fn pop(&mut self) -> Option<(Request, Mono)> {
        self.waiting.pop_front()
    }

    pub(super) fn run(&mut self, running: Running) {
        self.running = Some(running);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn take_running(&mut self) -> Option<Running> {
        self.running.take()
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
