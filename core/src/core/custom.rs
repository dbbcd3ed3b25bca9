//! What comes of the calls for streams that workers keep.

use super::Rooms;
use crate::custom::Done;
use crate::effect::Effect;
use crate::name::Target;
use crate::store::{Change, Durable, EventKind};
use crate::turn::Turn;
use crate::wire::stream::{StreamError, code};

impl Rooms {
    pub(super) fn custom_done(&mut self, turn: &mut Turn<'_>, done: Done) {
        match done {
            Done::Reply { caller, outcome } => turn.effects.push(Effect::reply(caller, outcome)),
            Done::Changed { group, item, change, value } => {
                let kind = match change {
                    _ if value.is_null() => EventKind::Replaced { change, value, group: None },
                    Change::Created => EventKind::Created(value),
                    Change::Updated => EventKind::Updated(value),
                    Change::Deleted => EventKind::Deleted(value),
                };
                self.store.publish(turn.now.wall, &group, Some(item), kind, &mut self.outputs);
            }
            Done::Sent { group, item, kind, data } => {
                let kind = EventKind::Sent { kind, data };
                self.store.publish(turn.now.wall, &group, item, kind, &mut self.outputs);
            }
            Done::Loaded { session, subscription, target, state } => {
                if self.hub.loaded(turn, session, &subscription, &target) {
                    let state = Durable { state, ..self.store.durable(&target) };
                    self.sync(turn, session, subscription, target, state);
                }
            }
            Done::NotLoaded { session, target, error } => {
                let message = format!(
                    "the stream's worker gave nothing to start from; it is asked again when it registers: {}",
                    error.message
                );
                let error = StreamError::about(code::STREAM_UNAVAILABLE, message, &target);
                turn.effects.push(Effect::Refuse { session, error });
            }
            Done::Refreshed { group, state } => {
                let target = Target { group, item: None };
                let state = Durable { state, ..self.store.durable(&target) };
                self.hub.refresh(turn, target, state, self.epoch);
            }
        }
    }
}
