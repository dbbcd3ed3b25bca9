//! What effects send, and when.

use headwater_core::Effect;
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::stream::ToSubscriber;
use headwater_core::wire::worker::ToWorker;

/// What an effect sends, as the runtime encodes it.
pub(crate) fn sent(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Reply { invocation_id: Some(invocation_id), function_id, outcome, .. } => {
            let (invocation_id, function_id) = (invocation_id.clone(), function_id.clone());
            Some(ToWorker::Result { invocation_id, function_id, outcome: outcome.clone() }.encode())
        }
        Effect::ToWorker { frame, .. } => Some(frame.encode()),
        Effect::Sync { frame, .. } => Some(ToSubscriber::Sync(frame.clone()).encode()),
        Effect::Refuse { error, .. } => Some(ToSubscriber::Error(error.clone()).encode()),
        Effect::Broadcast { frame, .. } => Some(frame.encode()),
        _ => None,
    }
}

/// A moment of a run.
pub(crate) fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: WallMs(1_700_000_000_000 + ms) }
}
