//! G9: a handler gets the events of a group in order, one at a time, each at most once ever, and only what its trigger
//! asks for; what it does not get although its worker was there all the time, it is told the number of.
//!
//! Calls do not say which trigger they are for. Where two triggers may call the same function for the same event (a worker
//! came back while the server still had its old connection, for one), all that is asked for is that there are not more
//! calls than triggers.

mod ending;
mod lane;

use std::collections::BTreeMap;

use serde_json::Value;

use super::frame::{STREAM, text};
use super::workers::{Binding, Call, Happened, Workers};
use super::{Checked, Law, Oracle, Rules, Violation};
use crate::trace::Entry;
use ending::Ending;
use lane::Lane;

/// No world has so many events that this limit is reached.
const MANY: usize = 10_000;

/// A stream and a group.
type Group = (String, String);

/// Everything about the handlers of events.
#[derive(Debug)]
pub(super) struct Triggers {
    rules: Rules,
    workers: Workers,
    lanes: BTreeMap<Place, Lane>,
    /// How many events each binding got, and how many it did not.
    skips: BTreeMap<u64, Skips>,
    /// By condition and group, the stamps of the events that it lets pass, and where the trace has that.
    passed: BTreeMap<(String, Group), BTreeMap<u64, Passed>>,
    ending: Ending,
}

/// What is called for the events of one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    function: String,
    metadata: String,
    group: Group,
}

#[derive(Debug, Default)]
struct Skips {
    /// How many it was told that it missed: with each call, and with those of the handler alone.
    told: u64,
    told_handler: u64,
    /// Changes that are missing between two events.
    seen: u64,
    /// How many it got.
    given: u64,
    /// What was dropped before this place of the trace was told by now: a call came after the answer to one from here.
    settled: usize,
}

#[derive(Debug)]
struct Passed {
    index: usize,
    /// The binding that asked, if that is known.
    binding: Option<u64>,
}

/// An event as it is told.
struct Frame<'a> {
    group: Group,
    item: Option<&'a str>,
    stamp: u64,
    /// What a worker keeps has none.
    revision: Option<u64>,
    event: &'a Value,
    skipped: u64,
}

impl Oracle for Triggers {
    fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        if self.ending.is_here(entry) {
            self.judge()?;
        }
        let happened = self.workers.take(entry);
        self.ending.see(entry, &self.workers)?;
        match happened {
            Happened::Called(id) => self.called(&id, checked),
            Happened::Answered(call, result) => {
                self.answered(&call, result.as_ref());
                Ok(())
            }
            Happened::Nothing => Ok(()),
        }
    }

    fn end(&mut self, _: &mut Checked) -> Result<(), Violation> {
        if self.ending.is_open() { self.judge() } else { Ok(()) }
    }
}

impl Triggers {
    pub(super) fn new(rules: Rules) -> Triggers {
        Triggers {
            rules,
            workers: Workers::new(rules),
            lanes: BTreeMap::new(),
            skips: BTreeMap::new(),
            passed: BTreeMap::new(),
            ending: Ending::new(rules),
        }
    }

    /// A worker is called. Only calls for events matter here.
    fn called(&mut self, id: &str, checked: &mut Checked) -> Result<(), Violation> {
        let Some(call) = self.workers.call(id).cloned() else { return Ok(()) };
        let Some(frame) = Frame::read(&call.data) else { return Ok(()) };
        let users = self.users(&call, &frame);
        Law::HandledInOrder.require(!users.is_empty(), || {
            format!("`{}` is called for an event that no trigger of it asks for", call.function)
        })?;
        let most = match self.workers.is_contended(&call.function) {
            true => usize::MAX,
            false => users.iter().map(|(_, binding)| binding.wanted.calls(&call)).sum(),
        };
        let place = Place::of(&call, &frame);
        let lane = self.lanes.entry(place.clone()).or_default();
        lane.enter(&self.workers);
        lane.at_most(most, &frame)?;
        for (number, _) in users.iter().filter(|(_, binding)| binding.wanted.first() == call.function) {
            let skips = self.skips.entry(*number).or_default();
            skips.told += frame.skipped;
            let before = lane.last_of(*number).map_or(0, |last| last.index);
            skips.settled = skips.settled.max(before);
        }
        if let ([(number, binding)], 1) = (&users[..], most) {
            lane.in_order(self.workers.is_exact(), *number, &call.who, &frame)?;
            self.is_next(&place, &call, *number, binding)?;
            self.counts_skipped(&place, *number, &call, binding, &frame)?;
            if let Some(lane) = self.lanes.get_mut(&place) {
                lane.runs(&self.workers, *number, &call, binding);
            }
        }
        if users.iter().all(|(_, binding)| binding.wanted.function == call.function) {
            checked.handled += 1;
            let passes = |(_, binding): &(u64, Binding)| self.passes(binding, &frame);
            Law::HandledInOrder.require(users.iter().any(passes), || {
                format!("`{}` is called for an event that its condition does not let pass", call.function)
            })?;
        }
        let numbers: Vec<u64> = users.iter().map(|(number, _)| *number).collect();
        if let Some(lane) = self.lanes.get_mut(&place) {
            lane.got(self.workers.index, &numbers, &call, &frame);
        }
        self.ending.agrees(&frame)
    }

    /// The bindings that a call may be for.
    fn users(&self, call: &Call, frame: &Frame<'_>) -> Vec<(u64, Binding)> {
        let covers = |binding: &Binding| binding.wanted.covers(&frame.group.0, &frame.group.1, frame.item);
        let bindings = self.workers.bindings(&call.who, self.ending.moment(frame));
        bindings
            .filter(|(_, binding)| binding.wanted.calls(call) > 0 && covers(binding))
            .map(|(number, binding)| (number, binding.clone()))
            .collect()
    }

    /// The condition and the handler are called one after the other, and then for the next event.
    fn is_next(
        &mut self,
        place: &Place,
        call: &Call,
        number: u64,
        binding: &Binding,
    ) -> Result<(), Violation> {
        for function in binding.wanted.functions() {
            let place = Place { function: function.to_owned(), ..place.clone() };
            if let Some(lane) = self.lanes.get_mut(&place) {
                lane.is_free(&self.workers, &call.who, number, self.rules.limits.call_ms)?;
            }
        }
        Ok(())
    }

    /// The revisions of a group have no gaps: what is missing between two events was dropped, and that is told.
    fn counts_skipped(
        &mut self,
        place: &Place,
        number: u64,
        call: &Call,
        binding: &Binding,
        frame: &Frame<'_>,
    ) -> Result<(), Violation> {
        let skips = self.skips.entry(number).or_default();
        let handles = binding.wanted.function == call.function;
        skips.told_handler += if handles { frame.skipped } else { 0 };
        if binding.wanted.first() != call.function {
            return Ok(());
        }
        skips.given += 1;
        if frame.skipped > 0 && self.rules.tells_server {
            let (missed, given) = (skips.told_handler, skips.given);
            let most = self.ending.commands_for(binding);
            Law::HandledInOrder.require(missed + given <= most, || {
                format!("told of {missed} events that it missed, and got {given}; there were at most {most}")
            })?;
        }
        let last = self.lanes.get(place).and_then(|lane| lane.last_of(number));
        let since = self.workers.certain_since(binding);
        if let (Some(last), Some(since)) = (last, since)
            && let (Some(before), Some(revision)) = (last.revision, frame.revision)
            && last.index >= since
            && binding.wanted.is_for_all_items()
        {
            let next = before + u64::from(frame.is_change());
            skips.seen += revision.saturating_sub(next);
            Law::HandledInOrder.require(revision >= next, || format!("after revision {before}"))?;
            // A call that tells may have waited for its worker longer than this one: see the judgement in the end.
            let is_told = self.rules.limits.trigger_events < MANY || skips.seen <= skips.told;
            Law::HandledInOrder.require(is_told, || {
                format!("after revision {before}: {} changes were left out", skips.seen)
            })?;
        }
        Ok(())
    }

    /// Whether the condition of a binding, if there is one, lets an event pass.
    fn passes(&self, binding: &Binding, frame: &Frame<'_>) -> bool {
        let Some(condition) = binding.wanted.condition.clone() else { return true };
        let passed = self.passed.get(&(condition, frame.group.clone()));
        passed.is_some_and(|passed| passed.contains_key(&frame.stamp))
    }

    /// A handler or a condition has answered.
    fn answered(&mut self, call: &Call, result: Option<&Value>) {
        let Some(frame) = Frame::read(&call.data) else { return };
        let lane = self.lanes.get_mut(&Place::of(call, &frame));
        let binding = lane.and_then(|lane| lane.answered(self.workers.now, &call.id));
        if result.is_some_and(|result| *result != false) {
            let passed = self.passed.entry((call.function.clone(), frame.group)).or_default();
            passed.insert(frame.stamp, Passed { index: self.workers.index, binding });
        }
    }
}

impl Place {
    fn of(call: &Call, frame: &Frame<'_>) -> Place {
        let (function, metadata) = (call.function.clone(), call.metadata.to_string());
        Place { function, metadata, group: frame.group.clone() }
    }

    /// Where a function of a binding is called.
    fn at(binding: &Binding, function: &str, group: &Group) -> Place {
        let metadata = binding.wanted.metadata.to_string();
        Place { function: function.to_owned(), metadata, group: group.clone() }
    }
}

impl Frame<'_> {
    /// Reads an event; nothing if it is something else.
    fn read(message: &Value) -> Option<Frame<'_>> {
        let event = message.get("event").filter(|_| message["type"] == "stream")?;
        if !matches!(text(&event["type"]), "create" | "update" | "delete" | "event") {
            return None;
        }
        let stream = text(&message["streamName"]);
        Some(Frame {
            group: (stream.to_owned(), text(&message["groupId"]).to_owned()),
            item: message["id"].as_str(),
            stamp: message["timestamp"].as_u64()?,
            revision: message["revision"].as_u64().filter(|_| stream == STREAM),
            event,
            skipped: message["skipped"].as_u64().unwrap_or_default(),
        })
    }

    fn is_change(&self) -> bool {
        self.event["type"] != "event"
    }
}

#[cfg(test)]
mod tests;
