//! What comes of the calls for streams that workers keep.

use super::Rooms;
use crate::custom::Done;
use crate::effect::Effect;
use crate::name::Target;
use crate::store::{Audience, Change, Durable, EventKind};
use crate::turn::Turn;
use crate::wire::stream::{StreamError, code};

impl Rooms {
    pub(super) fn custom_done(&mut self, turn: &mut Turn<'_>, done: Done) {
        match done {
            Done::Reply { caller, outcome } => turn.effects.push(Effect::reply(caller, outcome)),
            Done::Send { caller, command } => {
                self.store.run(turn.now, caller, command, turn.config, &mut self.outputs);
            }
            Done::Changed { group, item, change, value } => {
                let kind = match change {
                    _ if value.is_null() => EventKind::Replaced { change, value, group: None },
                    Change::Created => EventKind::Created(value),
                    Change::Updated => EventKind::Updated(value),
                    Change::Deleted => EventKind::Deleted(value),
                };
                self.store.publish(turn.now.wall, &group, item, kind, &mut self.outputs);
            }
            Done::Told(kept) => self.store.show(turn.now.wall, kept, &mut self.outputs),
            Done::NotLoaded { subscribers, target, error } => {
                let message = format!(
                    "the stream's worker gave nothing to start from; it is asked again when it registers: {}",
                    error.message
                );
                let error = StreamError::about(code::STREAM_UNAVAILABLE, message, &target);
                for (session, _) in subscribers {
                    turn.effects.push(Effect::Refuse { session, error: error.clone() });
                }
            }
        }
    }

    /// Subscribers are sent the state of something that a worker keeps.
    pub(super) fn show(&mut self, turn: &mut Turn<'_>, target: Target, state: Durable, audience: Audience) {
        if !self.custom.keeps(&target.group.stream) {
            // It is the server's own by now, and its subscribers have started afresh.
            return;
        }
        match audience {
            Audience::All => self.hub.refresh(turn, target, state, self.epoch),
            Audience::Starting(subscribers) => {
                for (session, subscription) in subscribers {
                    if self.hub.loaded(turn, session, &subscription, &target) {
                        self.sync(turn, session, subscription, target.clone(), state.clone());
                    }
                }
            }
        }
    }
}
