//! What the operator's log says of what the core notices, and of calls of which nobody else is told.
//!
//! What may come with every event or frame is paced, for each function or worker by itself: a handler that always fails
//! neither floods the log nor hides another's only failure. The rest is logged as it comes.

use std::collections::BTreeMap;

use headwater_core::Notice;
use headwater_core::error::CallError;
use headwater_core::key::WorkerKey;
use headwater_core::name::FunctionId;
use headwater_core::time::Mono;

/// How many notes about one topic are logged within a second.
const MOST: u64 = 10;
/// How many topics are told apart within a second: there are as many names as anybody likes to make up.
const TOPICS: usize = 1_000;

/// The operator's log.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    second: u64,
    /// How many notes came in it.
    came: BTreeMap<Topic, u64>,
    /// Not all of them were logged.
    holds_back: bool,
}

/// What a paced note is about: of what kind it is, and whose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Function(&'static str, FunctionId),
    Worker(&'static str, WorkerKey),
    /// All that are not told apart.
    Others,
}

impl Notes {
    pub(crate) fn take(&mut self, now: Mono, notice: Notice) {
        if topic(&notice).is_none_or(|topic| self.may_log(now, topic)) {
            log(notice);
        }
    }

    /// A call has failed whose caller wants no answer.
    pub(crate) fn call_failed(&mut self, now: Mono, worker: WorkerKey, function: &str, error: CallError) {
        let topic = Topic::Function("failed calls that want no answer", FunctionId::trusted(function));
        if self.may_log(now, topic) {
            let (code, message) = (error.code, error.message);
            tracing::warn!(
                worker = worker.0,
                function_id = ?function,
                ?code,
                ?message,
                "a call that wants no answer failed"
            );
        }
    }

    /// A worker has no room for a call whose caller wants no answer.
    pub(crate) fn call_dropped(&mut self, now: Mono, worker: WorkerKey) {
        if self.may_log(now, Topic::Worker("dropped calls", worker)) {
            tracing::warn!(worker = worker.0, "a call that wants no answer is dropped: too much waits");
        }
    }

    /// When [`Notes::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.holds_back.then(|| Mono((self.second + 1) * 1_000))
    }

    /// Says what was not logged in a second that is over.
    pub(crate) fn expire(&mut self, now: Mono) {
        for (topic, held_back) in self.held_back(now) {
            match topic {
                Topic::Function(what, function) => tracing::warn!(
                    function_id = ?function,
                    held_back,
                    "more {what} than are logged within a second"
                ),
                Topic::Worker(what, worker) => tracing::warn!(
                    worker = worker.0,
                    held_back,
                    "more {what} than are logged within a second"
                ),
                Topic::Others => tracing::warn!(
                    held_back,
                    "more about other functions and workers than is logged within a second"
                ),
            }
        }
    }

    /// How many notes were not logged in a second that is over. Begins with the one that it is now.
    fn held_back(&mut self, now: Mono) -> Vec<(Topic, u64)> {
        let second = now.0 / 1_000;
        if second == self.second {
            return Vec::new();
        }
        let Notes { came, .. } = std::mem::replace(self, Notes { second, ..Notes::default() });
        came.into_iter().filter(|(_, came)| *came > MOST).map(|(topic, came)| (topic, came - MOST)).collect()
    }

    /// Whether a note is logged.
    fn may_log(&mut self, now: Mono, topic: Topic) -> bool {
        self.expire(now);
        let known = self.came.len() < TOPICS || self.came.contains_key(&topic);
        let came = self.came.entry(if known { topic } else { Topic::Others }).or_default();
        *came += 1;
        self.holds_back |= *came > MOST;
        *came <= MOST
    }
}

/// What a notice is about. `None` for one that comes at most with what a worker registers, or when a handler begins to be
/// too slow.
fn topic(notice: &Notice) -> Option<Topic> {
    match notice {
        Notice::HandlerFailed { function, .. } => {
            Some(Topic::Function("failures of a handler", function.clone()))
        }
        Notice::EventsDropped { function, .. } => {
            Some(Topic::Function("bursts of dropped events", function.clone()))
        }
        Notice::GateFailed { function, .. } => Some(Topic::Function("failures of a gate", function.clone())),
        Notice::LeaveFailed { function, .. } => Some(Topic::Function("untold leaves", function.clone())),
        Notice::AuthFailed { function, .. } => {
            Some(Topic::Function("failures of the `auth_function`", function.clone()))
        }
        Notice::BadWorkerFrame { worker, .. } => Some(Topic::Worker("bad frames", *worker)),
        Notice::HandlerTooSlow { .. }
        | Notice::FunctionTaken { .. }
        | Notice::TooManyFunctions { .. }
        | Notice::ReservedFunction { .. } => None,
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

    fn failures_of(function: &str) -> Topic {
        Topic::Function("failures", FunctionId::trusted(function))
    }

    #[test]
    fn a_flood_is_logged_in_part_and_once_its_second_is_over_it_is_said_how_much_was_not() {
        let mut notes = Notes::default();
        for _ in 0..MOST {
            assert!(notes.may_log(Mono(5_000), failures_of("f")));
        }
        assert_eq!(notes.next_deadline(), None);
        for _ in 0..3 {
            assert!(!notes.may_log(Mono(5_999), failures_of("f")));
        }
        assert_eq!(notes.held_back(Mono(5_999)), []);
        assert_eq!(notes.next_deadline(), Some(Mono(6_000)));
        assert_eq!(notes.held_back(Mono(6_000)), [(failures_of("f"), 3)]);
        assert_eq!(notes.next_deadline(), None);
        assert!(notes.may_log(Mono(6_000), failures_of("f")));
        assert_eq!(notes.held_back(Mono(9_000)), [], "once");
    }

    #[test]
    fn a_flood_hides_nothing_of_another_function_or_worker_or_of_another_kind() {
        let mut notes = Notes::default();
        while notes.may_log(Mono(0), failures_of("f")) {}
        let of_worker = |worker| Topic::Worker("failures", WorkerKey(worker));
        let of_another_kind = Topic::Function("drops", FunctionId::trusted("f"));
        for other in [failures_of("g"), of_another_kind, of_worker(1), of_worker(2)] {
            assert!(notes.may_log(Mono(0), other));
        }
    }

    #[test]
    fn so_many_functions_are_told_apart_within_a_second_and_all_others_are_one() {
        let mut notes = Notes::default();
        let most = TOPICS as u64;
        let logged = |notes: &mut Notes, ms: u64, functions: std::ops::Range<u64>| {
            functions.filter(|n| notes.may_log(Mono(ms), failures_of(&n.to_string()))).count() as u64
        };
        assert_eq!(logged(&mut notes, 0, 0..most), most);
        assert_eq!(logged(&mut notes, 0, most..3 * most), MOST);
        assert_eq!(logged(&mut notes, 0, 0..most), most, "these are known");
        assert_eq!(notes.held_back(Mono(1_000)), [(Topic::Others, 2 * most - MOST)]);
        assert_eq!(logged(&mut notes, 1_000, most..2 * most), most, "a new second");
    }

    #[test]
    fn every_function_that_a_worker_may_not_register_is_named() {
        let (worker, owner) = (WorkerKey(1), WorkerKey(2));
        let function = FunctionId::trusted("f");
        for notice in [
            Notice::FunctionTaken { worker, function: function.clone(), owner },
            Notice::TooManyFunctions { worker, function: function.clone() },
            Notice::ReservedFunction { worker, function },
        ] {
            assert_eq!(topic(&notice), None);
        }
    }
}
