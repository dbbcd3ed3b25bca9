//! Stopping in good order: leaves are told and their handlers may still write; then calls are refused, what is under
//! way is waited for, and the connections can be closed.

use super::Rooms;
use crate::effect::Effect;
use crate::time::Mono;
use crate::turn::Turn;

/// How far a stop is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stopping {
    /// Joins are decided and leaves told; until then at the latest.
    Leaving(Mono),
    /// Calls are refused and those under way waited for; until then at the latest.
    Until(Mono),
    Done,
}

impl Stopping {
    pub(super) fn deadline(self) -> Option<Mono> {
        match self {
            Stopping::Leaving(deadline) | Stopping::Until(deadline) => Some(deadline),
            Stopping::Done => None,
        }
    }
}

impl Rooms {
    pub(super) fn stop(&mut self, turn: &mut Turn<'_>) {
        if self.stopping.is_none() {
            let deadline = turn.now.mono.after(turn.config.timeouts.stop_ms);
            self.stopping = Some(Stopping::Leaving(deadline));
            self.functions.forget_auth();
            for ended in self.hub.end_all() {
                self.ended(turn, ended);
            }
        }
    }

    /// Whether workers may call no more.
    pub(super) fn refuses_calls(&self) -> bool {
        matches!(self.stopping, Some(Stopping::Until(_) | Stopping::Done))
    }

    /// Takes the next step of a stop, if it is time. Returns whether anything may have come of it.
    pub(super) fn go_on_stopping(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.stopping {
            Some(Stopping::Leaving(deadline)) if self.triggers.is_settled() || deadline <= turn.now.mono => {
                self.stopping = Some(Stopping::Until(deadline));
                true
            }
            Some(Stopping::Until(deadline)) if deadline <= turn.now.mono && !self.functions.is_idle() => {
                self.custom.stop_all();
                self.functions.stop_all(turn);
                true
            }
            Some(Stopping::Until(deadline)) if self.functions.is_idle() => {
                self.store.close();
                if !self.store.is_idle() && turn.now.mono < deadline {
                    return false;
                }
                self.stopping = Some(Stopping::Done);
                self.functions.stop_all(turn);
                turn.effects.push(Effect::Stopped);
                true
            }
            _ => false,
        }
    }
}
