//! A machine's power: with it off, its disk does nothing and its tasks stand still. A process that is killed looks the
//! same from inside; what differs is what the disk keeps.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// The power of one machine. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Power(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    off: bool,
    /// How many operations of the disk are left until it goes off.
    left: Option<u64>,
}

impl Power {
    /// Cuts it right after so many operations of the disk from now (at least one): between a write and its sync,
    /// or between a sync and anybody's knowing of it, where no clock could be hit.
    pub fn cut_after(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    /// Cuts it now.
    pub fn cut(&self) {
        *self.state() = State { off: true, left: None };
    }

    /// Switches it on; what was to cut it is forgotten.
    pub fn restore(&self) {
        *self.state() = State::default();
    }

    /// Whether it is cut.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// Does one operation of the disk.
    pub(crate) fn draw<T>(&self, operation: impl FnOnce() -> T) -> io::Result<T> {
        if self.is_off() {
            return Err(io::Error::other("the power is off"));
        }
        let done = operation();
        let mut state = self.state();
        if let Some(left) = &mut state.left {
            *left -= 1;
            state.off = *left == 0;
        }
        Ok(done)
    }

    /// Runs a task for as long as there is power, then never again: what it finds out at the moment of the cut
    /// leads to nothing.
    pub(crate) fn run<F: Future>(&self, task: F) -> Powered<F> {
        Powered { power: self.clone(), task: Box::pin(task) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task of a machine.
pub(crate) struct Powered<F> {
    power: Power,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Powered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.power.is_off() {
            return Poll::Pending;
        }
        let polled = self.task.as_mut().poll(context);
        if self.power.is_off() { Poll::Pending } else { polled }
    }
}
