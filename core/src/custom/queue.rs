//! The requests of one line, in order, and the one whose turn it is.

use std::collections::VecDeque;

use super::input;
use crate::call::{Answer, Caller};
use crate::json::Json;
use crate::name::Target;
use crate::store::{Builtin, Command};
use crate::time::Mono;

/// Something that a worker is to be asked for.
#[derive(Debug)]
pub(super) enum Request {
    /// What another worker called.
    Call { caller: Caller, command: Command },
    /// What subscriptions start from.
    Load { target: Target },
    /// What there is now, after a change that was told only in part.
    Refresh { target: Target },
}

impl Request {
    fn is_call(&self) -> bool {
        matches!(self, Request::Call { .. })
    }
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
            (Request::Load { target } | Request::Refresh { target }, _) => {
                (reads(target), input::of_target(target))
            }
        }
    }
}

/// The function that tells the state of a target.
pub(super) fn reads(target: &Target) -> Builtin {
    match target.item {
        Some(_) => Builtin::Get,
        None => Builtin::List,
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each with the moment until which it is worth to be begun.
    waiting: VecDeque<(Request, Mono)>,
    running: Option<Running>,
    /// How many of those that wait are calls of workers.
    calls: usize,
}

impl Queue {
    pub(super) fn push(&mut self, request: Request, deadline: Mono) {
        self.calls += usize::from(request.is_call());
        self.waiting.push_back((request, deadline));
    }

    /// Puts a refresh before all that wait.
    pub(super) fn refresh(&mut self, target: Target, deadline: Mono) {
        self.waiting.push_front((Request::Refresh { target }, deadline));
    }

    pub(super) fn pop(&mut self) -> Option<(Request, Mono)> {
        let next = self.waiting.pop_front()?;
        self.calls -= usize::from(next.0.is_call());
        Some(next)
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

    /// How many calls of workers wait.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }
}
