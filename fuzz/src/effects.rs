//! What effects send, and when.

use headwater_core::Effect;
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::stream::ToSubscriber;
use headwater_core::wire::worker::ToWorker;

use crate::seen::Seen;

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

/// What effects tell subscribers, in their order; all of it must have exactly the protocol's form.
pub(crate) fn seen(effects: &[Effect]) -> impl Iterator<Item = Seen> {
    let to_subscriber = |effect: &&Effect| {
        matches!(effect, Effect::Sync { .. } | Effect::Refuse { .. } | Effect::Broadcast { .. })
    };
    effects.iter().filter(to_subscriber).filter_map(sent).map(|frame| Seen::read(&frame))
}

/// A moment of a run.
pub(crate) fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: WallMs(1_700_000_000_000 + ms) }
}
