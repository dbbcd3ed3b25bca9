//! What a handler must have got when the world is at rest: everything that happened while it certainly was there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Frame, Group, Place, Triggers};
use crate::oracle::frame::text;
use crate::oracle::workers::{Binding, Edge, Moment, Workers};
use crate::oracle::{CLOSER, Law, Rules, Violation};
use crate::trace::{Entry, What, Who};

/// What there was to be handled, and how far the end of the world is.
#[derive(Debug)]
pub(super) struct Ending {
    rules: Rules,
    groups: BTreeMap<Group, Events>,
    commands: Vec<Command>,
    /// Those without an answer.
    open: BTreeMap<(Who, String), usize>,
    healed: bool,
    /// Where the trace has it that the world is at rest.
    rest: Option<usize>,
    judged: bool,
}

/// What is known of a group's events.
#[derive(Debug, Default)]
struct Events {
    by_stamp: BTreeMap<u64, Known>,
    /// The stamps of the changes, by revision.
    stamps: BTreeMap<u64, u64>,
    /// The changes that answers tell of, by revision: the command.
    answered: BTreeMap<u64, usize>,
}

/// An event.
#[derive(Debug)]
struct Known {
    revision: u64,
    item: Option<String>,
    event: Value,
    /// Where a subscriber saw it first, and a time before that.
    seen: Option<(usize, u64)>,
}

/// Something that may make an event.
#[derive(Debug)]
struct Command {
    group: Group,
    item: Option<String>,
    process: u64,
    taken: usize,
    at: u64,
    answered: Option<usize>,
}

/// An event that is asked for: the revision of a change, or the stamp of something that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Change(u64),
    Sent(u64),
}

impl Ending {
    pub(super) fn new(rules: Rules) -> Ending {
        Ending {
            rules,
            groups: BTreeMap::new(),
            commands: Vec::new(),
            open: BTreeMap::new(),
            healed: false,
            rest: None,
            judged: false,
        }
    }

    /// Whether the world has come to its end with this: the server dies after it was at rest.
    pub(super) fn is_here(&self, entry: &Entry) -> bool {
        self.is_open() && matches!(entry.what, What::Crashed(_) | What::Stopped)
    }

    /// Whether the world has been at rest and nobody has judged that yet.
    pub(super) fn is_open(&self) -> bool {
        self.rest.is_some() && !self.judged
    }

    pub(super) fn see(&mut self, entry: &Entry, workers: &Workers) -> Result<(), Violation> {
        self.healed |= entry.what == What::Healed;
        match Edge::of(&entry.what, self.rules.tells_server) {
            Some(Edge::Says(message)) if message["type"] == "invokefunction" => {
                if self.healed && *entry.who.client == *CLOSER && message["function_id"] == "stream::list" {
                    self.rest.get_or_insert(workers.index);
                }
                self.commanded(&entry.who, message, workers);
                Ok(())
            }
            Some(Edge::Hears(message)) if message["type"] == "invocationresult" => {
                self.answered(&entry.who, message, workers);
                Ok(())
            }
            Some(Edge::Hears(message)) => {
                let Some(frame) = Frame::read(message) else { return Ok(()) };
                self.agrees(&frame)?;
                let known = self.groups.get_mut(&frame.group);
                if let Some(known) = known.and_then(|events| events.by_stamp.get_mut(&frame.stamp)) {
                    known.seen.get_or_insert((workers.index, workers.earlier()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn commanded(&mut self, who: &Who, message: &Value, workers: &Workers) {
        let makes_event = ["stream::set", "stream::update", "stream::delete", "stream::send"];
        if !makes_event.contains(&text(&message["function_id"])) {
            return;
        }
        let data = &message["data"];
        if let Some(id) = message["invocation_id"].as_str() {
            self.open.insert((who.clone(), id.to_owned()), self.commands.len());
        }
        self.commands.push(Command {
            group: (text(&data["stream_name"]).to_owned(), text(&data["group_id"]).to_owned()),
            item: data["item_id"].as_str().or(data["id"].as_str()).map(str::to_owned),
            process: workers.process,
            taken: workers.index,
            at: workers.earlier(),
            answered: None,
        });
    }

    fn answered(&mut self, who: &Who, message: &Value, workers: &Workers) {
        let place = (who.clone(), text(&message["invocation_id"]).to_owned());
        let Some(index) = self.open.remove(&place) else { return };
        let command = &mut self.commands[index];
        command.answered = Some(workers.index);
        // What is not there can be deleted: nothing has happened then, and the revision is 0.
        if let Some(revision) = message["result"]["revision"].as_u64().filter(|revision| *revision > 0) {
            let events = self.groups.entry(command.group.clone()).or_default();
            events.answered.entry(revision).or_insert(index);
        }
    }

    /// All that is told of a revision or a stamp is the same: nothing is handled that a crash takes back.
    pub(super) fn agrees(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let Some(revision) = frame.revision else { return Ok(()) };
        let events = self.groups.entry(frame.group.clone()).or_default();
        let known = events.by_stamp.entry(frame.stamp).or_insert_with(|| Known {
            revision,
            item: frame.item.map(str::to_owned),
            event: frame.event.clone(),
            seen: None,
        });
        let same =
            known.revision == revision && known.item.as_deref() == frame.item && known.event == *frame.event;
        Law::SeenIsDurable.require(same, || format!("what has this stamp was told as {known:?}"))?;
        if frame.is_change() {
            let stamp = *events.stamps.entry(revision).or_insert(frame.stamp);
            let how = || format!("the change with this revision was told with the stamp {stamp}");
            Law::SeenIsDurable.require(stamp == frame.stamp, how)?;
        }
        Ok(())
    }

    /// When an event happened: subscribers see it at that moment, and a command is answered when it has.
    pub(super) fn moment(&self, frame: &Frame<'_>) -> Option<Moment> {
        let events = self.groups.get(&frame.group)?;
        let seen = events.by_stamp.get(&frame.stamp).and_then(|known| known.seen);
        let seen = seen.map(|(index, at)| Moment { at, until: index });
        let answered = || {
            let revision = frame.revision.filter(|_| frame.is_change())?;
            let command = &self.commands[*events.answered.get(&revision)?];
            Some(Moment { at: command.at, until: command.answered? })
        };
        seen.or_else(answered)
    }

    /// How many events there may have been for a binding: those of commands that were not answered before it was there.
    pub(super) fn commands_for(&self, binding: &Binding) -> u64 {
        let may_be = |command: &&Command| {
            let Command { group: (stream, group), item, .. } = command;
            let in_time = command.answered.is_none_or(|answered| answered > binding.registered);
            in_time
                && command.process == binding.process
                && binding.wanted.covers(stream, group, item.as_deref())
        };
        self.commands.iter().filter(may_be).count() as u64
    }

    /// The events of a group, until the world was at rest, that came after `since` for sure, with where the trace has
    /// them at the latest.
    fn certain(
        &self,
        events: &Events,
        binding: &Binding,
        group: &Group,
        since: usize,
    ) -> BTreeMap<Event, usize> {
        let rest = self.rest.unwrap_or_default();
        let covers = |item: Option<&str>| binding.wanted.covers(&group.0, &group.1, item);
        let answered = events.answered.iter().filter_map(|(revision, command)| {
            let command = &self.commands[*command];
            let asked_for = command.taken > since && command.answered? <= rest;
            asked_for.then_some((*revision, command))
        });
        let answered: Vec<(u64, &Command)> = answered.collect();
        // Whoever sees it at the client's edge may see it late; what follows on a change that came after is after.
        let first = answered.iter().map(|(revision, _)| *revision).min();
        let seen = events.by_stamp.iter().filter_map(|(stamp, known)| {
            let seen = known.seen.map(|(index, _)| index).filter(|index| *index <= rest)?;
            let after = match self.rules.tells_server {
                true => seen > since,
                false => first.is_some_and(|first| known.revision >= first),
            };
            let is_sent = known.event["type"] == "event";
            let event = if is_sent { Event::Sent(*stamp) } else { Event::Change(known.revision) };
            (after && covers(known.item.as_deref())).then_some((event, seen))
        });
        let mut certain: BTreeMap<Event, usize> = seen.collect();
        for (revision, command) in answered.iter().filter(|(_, command)| covers(command.item.as_deref())) {
            let seen = command.answered.unwrap_or(rest);
            certain.entry(Event::Change(*revision)).or_insert(seen);
        }
        certain
    }
}

impl Triggers {
    /// Judges who has got everything. A handler's failure or slowness stops nothing.
    pub(super) fn judge(&mut self) -> Result<(), Violation> {
        self.ending.judged = true;
        for (number, since, binding) in self.workers.certain() {
            let is_busy =
                |function: &str| self.workers.holder(function).is_some_and(|who| self.workers.is_busy(who));
            // Who is still at something has not come to what waits.
            if !binding.wanted.functions().any(is_busy) {
                self.got_all(number, since, binding)?;
                self.got_what_passed(number, since, binding)?;
            }
        }
        Ok(())
    }

    fn got_all(&self, number: u64, since: usize, binding: &Binding) -> Result<(), Violation> {
        let groups: Vec<(&Group, &Events)> = self.ending.groups.iter().collect();
        // What is dropped while an event of each group is being handled is told with the next one, if there is any.
        let may_drop_last = self.ending.rules.limits.trigger_events <= groups.len();
        let skips = self.skips.get(&number);
        let (told, seen) = skips.map_or((0, 0), |skips| (skips.told, skips.seen));
        Law::HandledInOrder.require(seen <= told, || {
            let function = &binding.wanted.function;
            format!("{seen} changes were left out for `{function}`, and it was told of {told}")
        })?;
        let settled = skips.map_or(0, |skips| skips.settled);
        if may_drop_last && !self.ending.rules.tells_server {
            return Ok(());
        }
        let mut missing = Vec::new();
        for (group, events) in groups {
            let place = Place::at(binding, binding.wanted.first(), group);
            let lane = self.lanes.get(&place);
            let has = |event: &Event| {
                lane.is_some_and(|lane| match event {
                    Event::Change(revision) => lane.has_change(*revision),
                    Event::Sent(stamp) => lane.has(*stamp),
                })
            };
            let certain = self.ending.certain(events, binding, group, since);
            let lost =
                certain.iter().filter(|(event, seen)| !(has(event) || may_drop_last && **seen >= settled));
            missing.extend(lost.map(|(event, _)| format!("{event:?} of {}", group.1)));
        }
        Law::HandledInOrder.require(missing.len() as u64 <= told, || {
            let function = &binding.wanted.function;
            format!("`{function}` was there, did not get {missing:?}, and was told that it missed {told}")
        })
    }

    /// What a condition has let pass was handled.
    fn got_what_passed(&self, number: u64, since: usize, binding: &Binding) -> Result<(), Violation> {
        let Some(condition) = binding.wanted.condition.as_ref().filter(|_| self.rules.tells_server) else {
            return Ok(());
        };
        let of_condition = self.passed.iter().filter(|((function, _), _)| function == condition);
        for ((_, group), passed) in of_condition {
            let handler = self.lanes.get(&Place::at(binding, &binding.wanted.function, group));
            let handled = |stamp: &u64| handler.is_some_and(|lane| lane.has(*stamp));
            let mut missing = passed
                .iter()
                .filter(|(stamp, passed)| {
                    passed.binding == Some(number) && passed.index > since && !handled(stamp)
                })
                .map(|(stamp, _)| stamp);
            let missing = missing.next();
            Law::HandledInOrder.require(missing.is_none(), || {
                let (name, group) = (&binding.wanted.function, &group.1);
                format!("`{condition}` let {missing:?} of {group} pass, and `{name}` did not get it")
            })?;
        }
        Ok(())
    }
}
