//! What the operator's log says of what the core notices.

use headwater_core::Notice;
use headwater_core::time::Mono;

/// How many notices of one kind are logged within a second. A handler that fails may do so for each event, and a log that
/// is flooded hides the rest; all of them are counted, see `metrics`.
const MOST: u32 = 20;

/// The operator's log, which says so much in a second and no more.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// By kind.
    paces: [Pace; KINDS],
}

/// What was logged of a kind in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    second: u64,
    logged: u32,
    /// How many were not logged, which the next that is will say.
    held_back: u64,
}

/// What is to be done with a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Log it, and that so many were not logged before it.
    Log {
        held_back: u64,
    },
    /// Log it, and that it is the last for now.
    Last,
    HoldBack,
}

impl Pace {
    fn take(&mut self, now: Mono) -> Turn {
        let second = now.0 / 1_000;
        if self.second != second {
            (self.second, self.logged) = (second, 0);
        }
        if self.logged == MOST {
            self.held_back += 1;
            return Turn::HoldBack;
        }
        self.logged += 1;
        match self.logged {
            MOST => Turn::Last,
            _ => Turn::Log { held_back: std::mem::take(&mut self.held_back) },
        }
    }
}

impl Notes {
    pub(crate) fn take(&mut self, now: Mono, notice: Notice) {
        match self.paces[kind(&notice)].take(now) {
            Turn::HoldBack => {}
            Turn::Last => {
                log(notice);
                tracing::warn!("more like this are not logged within this second");
            }
            Turn::Log { held_back } => {
                if held_back > 0 {
                    tracing::warn!(held_back, "so many like the next were not logged");
                }
                log(notice);
            }
        }
    }
}

const KINDS: usize = 10;

/// Which notices take each other's place in the log.
fn kind(notice: &Notice) -> usize {
    match notice {
        Notice::HandlerFailed { .. } => 0,
        Notice::HandlerTooSlow { .. } => 1,
        Notice::EventsDropped { .. } => 2,
        Notice::GateFailed { .. } => 3,
        Notice::LeaveFailed { .. } => 4,
        Notice::AuthFailed { .. } => 5,
        Notice::TooManyFunctions { .. } => 6,
        Notice::FunctionTaken { .. } => 7,
        Notice::ReservedFunction { .. } => 8,
        Notice::BadWorkerFrame { .. } => 9,
    }
}

/// Names come from outside: they are written as `Debug` does, so that none can look like a line of its own.
fn log(notice: Notice) {
    match notice {
        Notice::HandlerFailed { function, group, revision, error } => {
            let (code, message, revision) = (error.code, error.message, revision.0);
            tracing::warn!(
                function_id = ?function,
                ?group,
                revision,
                ?code,
                ?message,
                "the handler of a trigger, or its condition, failed; the event is not handled again"
            );
        }
        Notice::HandlerTooSlow { function } => tracing::warn!(
            function_id = ?function,
            "the handler of a trigger is slower than its events come: the oldest that wait are dropped"
        ),
        Notice::EventsDropped { function, count } => {
            tracing::warn!(function_id = ?function, count, "events were dropped that waited for a handler");
        }
        Notice::GateFailed { function, join, error } => {
            let (code, message) = (error.code, error.message);
            let (subscription, target) = (join.subscription, join.target);
            tracing::warn!(
                function_id = ?function,
                ?subscription,
                ?target,
                ?code,
                ?message,
                "a join's gate, or its condition, failed"
            );
        }
        Notice::LeaveFailed { function, join, error } => {
            let (code, message) = (error.code, error.message);
            let (subscription, target) = (join.subscription, join.target);
            tracing::warn!(
                function_id = ?function,
                ?subscription,
                ?target,
                ?code,
                ?message,
                "a handler was not told of a leave"
            );
        }
        // Without its message: the function was given tokens, and may speak of them.
        Notice::AuthFailed { session, function, error } => tracing::warn!(
            session = session.0,
            function_id = ?function,
            code = ?error.code,
            "a subscriber is not served: the `auth_function` failed or returned no object; its worker may know more"
        ),
        Notice::FunctionTaken { worker, function, owner } => tracing::warn!(
            worker = worker.0,
            function_id = ?function,
            owner = owner.0,
            "a worker registers a function that another connected worker has: it is refused"
        ),
        Notice::TooManyFunctions { worker, function } => tracing::warn!(
            worker = worker.0,
            function_id = ?function,
            "a worker registers too many functions: this one can't be called"
        ),
        Notice::ReservedFunction { worker, function } => tracing::warn!(
            worker = worker.0,
            function_id = ?function,
            "a worker registers a function that the server has itself: calls go to the server's"
        ),
        Notice::BadWorkerFrame { worker, error } => {
            let (code, message) = (error.code, error.message);
            tracing::warn!(worker = worker.0, ?code, ?message, "a worker sent a frame that can't be used");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_in_part_and_it_is_said_how_much_was_not() {
        let mut pace = Pace::default();
        for _ in 1..MOST {
            assert_eq!(pace.take(Mono(5_000)), Turn::Log { held_back: 0 });
        }
        assert_eq!(pace.take(Mono(5_500)), Turn::Last);
        assert_eq!([pace.take(Mono(5_600)), pace.take(Mono(5_999))], [Turn::HoldBack; 2]);
        assert_eq!(pace.take(Mono(6_000)), Turn::Log { held_back: 2 });
        assert_eq!(pace.take(Mono(9_000)), Turn::Log { held_back: 0 });
    }
}
