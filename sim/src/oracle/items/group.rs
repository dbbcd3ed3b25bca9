//! A group: the histories of its items, and what revisions tell of all of them together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::call::{Call, Expect, Given, Kind};
use super::model::{self, Answer, Change, Item, Known, Op, Seen};
use super::{Fate, Impossible};
use crate::oracle::linear::History;
use crate::oracle::{Law, Violation};
use crate::trace::Who;

/// How much of an item's history is shown when it can't have been so.
const SHOWN: usize = 12;

#[derive(Debug)]
pub(super) struct Group {
    items: BTreeMap<String, ItemHistory>,
    /// How many calls may be answered yet.
    pub(super) open: usize,
    /// The newest revision that anybody was told.
    pub(super) newest: u64,
    /// What was told of revisions: the item that changed, and what it was then.
    told: BTreeMap<u64, (String, Option<Known>)>,
    /// Lists with revisions.
    lists: Vec<BTreeMap<String, u64>>,
    /// Whether the values of items have their ids, or none: then a list tells which item a value is of.
    is_named: bool,
}

#[derive(Debug)]
pub(super) struct ItemHistory {
    history: History<model::Items>,
    /// When each operation was called, in milliseconds, and by whom.
    callers: Vec<(u64, Who)>,
    /// The operations that may happen yet, and some that have.
    live: Vec<usize>,
}

/// An item's history can't have been so.
#[derive(Debug)]
pub(super) struct Found {
    law: Law,
    how: String,
}

impl Found {
    pub(super) fn of(self, group: &str) -> Violation {
        self.law.broken(format!("{group} {}", self.how))
    }
}

impl Default for Group {
    fn default() -> Group {
        Group {
            items: BTreeMap::new(),
            open: 0,
            newest: 0,
            told: BTreeMap::new(),
            lists: Vec::new(),
            is_named: true,
        }
    }
}

impl Group {
    pub(super) fn item(&mut self, item: &str) -> &mut ItemHistory {
        if !self.items.contains_key(item) {
            self.items.insert(item.to_owned(), ItemHistory::new());
        }
        self.items.get_mut(item).expect("it is there now")
    }

    /// Looks whether a call may give a value the id of another item.
    pub(super) fn name(&mut self, item: &str, call: &Call) {
        let is_its = |value: &Value| value.get("id").is_none_or(|id| id == item);
        self.is_named &= match &call.kind {
            Kind::Set(value) => is_its(value),
            Kind::Update(changes) => changes.iter().all(|change| match change {
                Change::Set(path, value) => path != "id" && (!path.is_empty() || is_its(value)),
                Change::Add(path, _) => path != "id",
                Change::Other => false,
            }),
            Kind::Delete | Kind::Get => true,
        };
    }

    /// A call about an item was answered at `at`, made when `newest` was the newest known revision; whether it was a change.
    pub(super) fn answered(
        &mut self,
        item: &str,
        number: usize,
        at: u64,
        call: &Call,
        given: &Given,
        newest: u64,
    ) -> Result<bool, String> {
        let Some(history) = self.items.get_mut(item) else { return Ok(false) };
        let answer = history.answered(number, at, given);
        match answer {
            Answer::Changed { old, new, revision } => {
                let is_change = !(matches!(call.kind, Kind::Delete) && old == Seen::Null);
                if let Some(revision) = revision.filter(|revision| *revision > 0) {
                    if revision <= newest {
                        return Err(format!(
                            "{item} changed at revision {revision}, but {newest} was told before"
                        ));
                    }
                    self.tell(revision, item, new)?;
                }
                Ok(is_change)
            }
            Answer::Found { value: Seen::Value(value), revision: Some(revision) }
            | Answer::Conflict { value: Seen::Value(value), revision } => {
                self.tell(revision, item, Some(value))?;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// A revision is one change of one item.
    fn tell(&mut self, revision: u64, item: &str, value: Option<Known>) -> Result<(), String> {
        self.newest = self.newest.max(revision);
        let told = self.told.entry(revision).or_insert_with(|| (item.to_owned(), value));
        if told.0 == item && told.1 == value {
            return Ok(());
        }
        let (was, before) = told.clone();
        if was != item {
            return Err(format!("revision {revision} was told of {was}, and now of {item}"));
        }
        let model = &self.items[item].history.model;
        let text =
            |value: Option<Known>| value.map_or("gone".to_owned(), |value| model.value(value).to_string());
        Err(format!("{item} at revision {revision} was {}, and now {}", text(before), text(value)))
    }

    /// The group was listed: each item was read, some time between these.
    pub(super) fn listed(
        &mut self,
        (from, to): (u64, u64),
        (at, who): (u64, &Who),
        listed: &[Value],
        revisions: bool,
    ) -> Result<(), String> {
        if !revisions && !self.is_named {
            return Ok(());
        }
        let mut by_id = BTreeMap::new();
        let mut nameless = Vec::new();
        for entry in listed {
            match entry["id"].as_str() {
                Some(id) if !self.items.contains_key(id) => {
                    return Err(format!("the list has {entry}, which nobody wrote"));
                }
                Some(id) => {
                    if by_id.insert(id, entry).is_some() {
                        return Err(format!("the list has {id} twice"));
                    }
                }
                None => nameless.push(entry),
            }
        }
        let mut list = BTreeMap::new();
        for (id, item) in &mut self.items {
            let model = &mut item.history.model;
            let answer = match by_id.get(id.as_str()) {
                Some(entry) if revisions => {
                    let revision = entry["revision"].as_u64().unwrap_or_default();
                    list.insert(id.clone(), revision);
                    Answer::Found {
                        value: model.seen_at(&entry["value"], revision),
                        revision: Some(revision),
                    }
                }
                Some(entry) => Answer::Found { value: Seen::Value(model.number(entry)), revision: None },
                None if nameless.is_empty() => Answer::Found { value: Seen::Missing, revision: None },
                None => Answer::Among(nameless.iter().map(|value| model.number(value)).collect()),
            };
            item.callers.push((at, who.clone()));
            let op = Op { kind: model::Kind::Read, expect: None, answer };
            let number = item.history.called(from, op.clone());
            item.history.answered(to, number, op);
        }
        if revisions {
            for (id, revision) in &list {
                let value = self
                    .items
                    .get_mut(id)
                    .map(|item| item.history.model.number(&by_id[id.as_str()]["value"]));
                self.tell(*revision, id, value)?;
            }
            self.lists.push(list);
        }
        Ok(())
    }

    /// A list that shows a change shows all changes before it.
    pub(super) fn lists_are_of_one_moment(&self) -> Result<(), String> {
        let mut by_item: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (revision, (item, _)) in &self.told {
            by_item.entry(item).or_default().push(*revision);
        }
        for list in &self.lists {
            let newest = list.values().max().copied().unwrap_or_default();
            for (item, revision) in list {
                let of_item = by_item.get(item.as_str()).map_or(&[][..], Vec::as_slice);
                let until = of_item.partition_point(|revision| *revision <= newest);
                if let Some(last) = of_item[..until].last().filter(|last| *last > revision) {
                    return Err(format!(
                        "a list shows revision {newest}, and {item} at {revision}, although it changed at {last}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What has not happened by now, never will.
    pub(super) fn end_all(&mut self, now: u64) {
        for item in self.items.values_mut() {
            for number in std::mem::take(&mut item.live) {
                if matches!(item.history.operation(number).fate, Fate::Open | Fate::Maybe) {
                    item.history.end(now, number);
                }
            }
        }
    }

    pub(super) fn settle(&mut self, crashes: &[u64]) -> Result<(), Found> {
        for (id, item) in &mut self.items {
            if let Err(Impossible(number)) = item.history.settle() {
                return Err(Found { law: item.law(number, crashes), how: item.how(id, number) });
            }
        }
        Ok(())
    }

    /// How many histories were found to be possible, and of how many that could not be said.
    pub(super) fn decided(&self) -> (u64, u64) {
        let is_answered =
            |item: &&ItemHistory| item.history.operations().any(|operation| operation.fate == Fate::Answered);
        let decided = |decided| {
            let items = self.items.values().filter(is_answered);
            items.filter(|item| item.history.is_decided() == decided).count() as u64
        };
        (decided(true), decided(false))
    }
}

impl ItemHistory {
    fn new() -> ItemHistory {
        let history = History::new(model::Items::default(), Item::MISSING);
        ItemHistory { history, callers: Vec::new(), live: Vec::new() }
    }

    pub(super) fn called(&mut self, called: u64, at: u64, who: &Who, call: &Call) -> usize {
        let model = &mut self.history.model;
        let kind = match &call.kind {
            Kind::Set(value) => model::Kind::Set(model.number(value)),
            Kind::Update(changes) => model::Kind::Update(changes.clone()),
            Kind::Delete => model::Kind::Delete,
            Kind::Get => model::Kind::Read,
        };
        let expect = call.expect.as_ref().map(|expect| match expect {
            Expect::Revision(revision) => model::Expect::Revision(*revision),
            Expect::Value(value) => model::Expect::Value(model.number(value)),
        });
        let number = self.history.called(called, Op { kind, expect, answer: Answer::Nothing });
        self.callers.push((at, who.clone()));
        self.live.push(number);
        number
    }

    fn answered(&mut self, number: usize, at: u64, given: &Given) -> Answer {
        let model = &mut self.history.model;
        let answer = match given {
            Given::Changed { old, new, revision } => Answer::Changed {
                old: model.seen(old),
                new: new.as_ref().map(|new| model.number(new)),
                revision: *revision,
            },
            Given::Found { value, revision } => {
                let value = match (value, revision) {
                    (None, _) => Seen::Missing,
                    (Some(value), Some(revision)) => model.seen_at(value, *revision),
                    (Some(value), None) => Seen::Value(model.number(value)),
                };
                Answer::Found { value, revision: *revision }
            }
            Given::Conflict { value, revision } => {
                Answer::Conflict { value: model.seen_at(value, *revision), revision: *revision }
            }
        };
        let op = Op { answer: answer.clone(), ..self.history.operation(number).op.clone() };
        self.history.answered(at, number, op);
        answer
    }

    /// It won't be answered.
    pub(super) fn may_be(&mut self, number: usize, call: &Call) {
        match call.kind {
            // It does not matter when it has read what.
            Kind::Get => self.history.never(number),
            _ => self.history.may_be(number),
        }
    }

    /// It has not happened.
    pub(super) fn never(&mut self, number: usize) -> (Op, (u64, Who)) {
        self.history.never(number);
        (self.history.operation(number).op.clone(), self.callers[number].clone())
    }

    /// It happens at this moment or not at all.
    pub(super) fn happens_only(&mut self, now: u64, (op, caller): (Op, (u64, Who))) {
        let number = self.history.called(now, Op { answer: Answer::Unknown, ..op });
        self.callers.push(caller);
        self.history.may_be(number);
        self.history.end(now, number);
    }

    /// If a crash came since something was known for sure, that is what is to blame.
    fn law(&self, number: usize, crashes: &[u64]) -> Law {
        let failing = self.history.operation(number).ended;
        let answered = self.history.operations().filter(|operation| operation.fate == Fate::Answered);
        let known =
            answered.filter_map(|operation| operation.ended).filter(|ended| Some(*ended) < failing).max();
        let between = |crash: &u64| known.is_some_and(|known| known < *crash) && Some(*crash) < failing;
        if crashes.iter().any(between) { Law::AcknowledgedSurvives } else { Law::Linearizable }
    }

    fn how(&self, id: &str, number: usize) -> String {
        let failing = self.history.operation(number);
        let mut before: Vec<_> = (0..self.callers.len())
            .filter(|other| *other != number)
            .map(|other| (self.history.operation(other), other))
            .filter(|(other, _)| other.fate != Fate::Never && Some(other.called) < failing.ended)
            .collect();
        before.sort_by_key(|(operation, _)| operation.called);
        let hidden = before.len().saturating_sub(SHOWN);
        let states: Vec<_> = self.history.states().map(|state| self.state(state)).collect();
        let mut how = format!("{id} may have been {}, but then:{}", states.join(" or "), self.line(number));
        let _ = write!(how, "\n  It follows");
        if hidden > 0 {
            let _ = write!(how, ", after {hidden} more");
        }
        for (_, other) in &before[hidden..] {
            how.push_str(&self.line(*other));
        }
        how
    }

    fn state(&self, item: &Item) -> String {
        let least = if item.told { "" } else { "at least " };
        match item.value {
            Some(value) => format!("{} at {least}{}", self.history.model.value(value), item.revision),
            None => "missing".to_owned(),
        }
    }

    fn line(&self, number: usize) -> String {
        let operation = self.history.operation(number);
        let (at, who) = &self.callers[number];
        let text = self.history.model.words(&operation.op);
        format!("\n  {at:>6} ms  {:<14} {text}", who.to_string())
    }
}
