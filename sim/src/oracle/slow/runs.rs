//! Sent events between a sync and what was got last: who was not told of one that anybody got was told how many it has
//! missed. Changes have revisions, so that nobody has to ask others what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use crate::oracle::frame::{Frame, STREAM, Told, text};
use crate::oracle::subscriptions::Connections;
use crate::oracle::{Checked, Law, Rules, Violation};
use crate::trace::{Entry, What, Who};

/// A group, and possibly an item.
type Followed = (Arc<str>, Option<Arc<str>>);

/// Stamps, with the items that they are of.
type Stamps = BTreeMap<u64, Option<Arc<str>>>;

/// What clients got between one sync and the next.
#[derive(Debug)]
pub(super) struct Runs {
    /// As clients know them.
    connections: Connections,
    /// How often the server has ended. The wall clock may have been set back meanwhile.
    term: u64,
    /// By term and group: the stamps of all sent events that anybody got, with their items.
    sent: BTreeMap<(u64, Arc<str>), Stamps>,
    /// The term in which each connection was made.
    terms: BTreeMap<Who, u64>,
    open: BTreeMap<Who, BTreeMap<Followed, Run>>,
    over: Vec<(Who, Followed, Run)>,
    /// By group: how many events clients have asked for, and how many of those calls were answered.
    asked: BTreeMap<Arc<str>, Asked>,
    /// The groups of the calls that were not answered.
    calls: BTreeMap<String, Arc<str>>,
    /// How many calls were answered when a connection was made: those sent nothing that it could have got.
    before: BTreeMap<Who, BTreeMap<Arc<str>, u64>>,
}

/// What a connection got of a group or an item.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    term: u64,
    /// The stamp of the sync.
    from: u64,
    /// That of what came last.
    to: u64,
    /// How many sent events were among that, or were said to be missed.
    sent: u64,
    /// The same of all runs before.
    earlier: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    calls: u64,
    answered: u64,
}

impl Runs {
    pub(super) fn new(rules: Rules) -> Runs {
        Runs {
            connections: Connections::new(Rules { tells_server: false, ..rules }),
            term: 0,
            sent: BTreeMap::new(),
            terms: BTreeMap::new(),
            open: BTreeMap::new(),
            over: Vec::new(),
            asked: BTreeMap::new(),
            calls: BTreeMap::new(),
            before: BTreeMap::new(),
        }
    }

    pub(super) fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        let who = &entry.who;
        match &entry.what {
            What::Crashed(_) | What::Stopped => self.term += 1,
            What::Connected(_) => {
                self.terms.insert(who.clone(), self.term);
                let answered = self.asked.iter().map(|(group, asked)| (group.clone(), asked.answered));
                self.before.insert(who.clone(), answered.collect());
            }
            What::Sent(message) if message["function_id"] == "stream::send" => {
                let group: Arc<str> = text(&message["data"]["group_id"]).into();
                self.asked.entry(group.clone()).or_default().calls += 1;
                // One that wants no answer may be carried out at any time.
                if let Some(call) = message["invocation_id"].as_str() {
                    self.calls.insert(call.to_owned(), group);
                }
            }
            What::Got(message) => match Frame::read(message) {
                Some(frame) if frame.stream == STREAM => {
                    checked.skipped += frame.skipped;
                    self.got(who, &frame)?;
                }
                Some(_) => {}
                None => self.answered(message),
            },
            What::Lost => self.lost(who),
            _ => {}
        }
        self.connections.see(entry);
        Ok(())
    }

    fn answered(&mut self, message: &Value) {
        if let Some(group) = self.calls.remove(text(&message["invocation_id"])) {
            self.asked.entry(group).or_default().answered += 1;
        }
    }

    fn got(&mut self, who: &Who, frame: &Frame<'_>) -> Result<(), Violation> {
        let connection = self.connections.all.get(who);
        let Some(joined) = connection.and_then(|connection| connection.group(frame.stream, frame.group))
        else {
            return Ok(());
        };
        let group: Arc<str> = frame.group.into();
        let item: Option<Arc<str>> = frame.item.map(Into::into);
        let term = self.terms.get(who).copied().unwrap_or(self.term);
        if matches!(frame.told, Told::Sent(_)) {
            self.sent.entry((term, group.clone())).or_default().insert(frame.stamp, item.clone());
        }
        let open = self.open.entry(who.clone()).or_default();
        if joined.whole.is_covered() {
            // What was missed of an item, the state of its group may have told.
            open.retain(|(of, item), _| *of != group || item.is_none());
        }
        if let (Some(_), Some(of_group)) = (&item, open.get_mut(&(group.clone(), None))) {
            // Or the other way round.
            of_group.sent += frame.skipped;
        }
        let one = item.as_ref().and_then(|item| joined.items.get(item));
        match frame.told {
            Told::Sync { .. } => {
                let target = if item.is_some() { one } else { Some(&joined.whole) };
                let surely = target.is_some_and(|target| target.surely);
                let key = (group, item);
                let mut next = Run { term, from: frame.stamp, to: frame.stamp, ..Run::default() };
                if let Some(mut old) = open.remove(&key) {
                    if surely {
                        (old.to, old.sent) = (frame.stamp, old.sent + frame.skipped);
                    }
                    next.earlier = old.earlier + old.sent;
                    self.over.push((who.clone(), key.clone(), old));
                    self.check_asked(who, &key.0, next.earlier)?;
                }
                if key.1.is_none() || !joined.whole.is_covered() {
                    // It may be of a subscription that was left: those whose channel is in doubt are not looked at.
                    self.open.entry(who.clone()).or_default().insert(key, next);
                }
            }
            Told::Change { .. } | Told::Sent(_) => {
                let sent = u64::from(matches!(frame.told, Told::Sent(_)));
                for (item, target) in [(None, Some(&joined.whole)), (item, one)] {
                    let Some(target) = target else { continue };
                    let key = (group.clone(), item);
                    match open.get_mut(&key) {
                        Some(run) if target.surely => (run.to, run.sent) = (frame.stamp, run.sent + sent),
                        Some(_) => drop(open.remove(&key)),
                        None => {}
                    }
                }
            }
            Told::Unauthorized | Told::Error { .. } => {}
        }
        Ok(())
    }

    /// No more was got and missed than was sent since the connection was made.
    fn check_asked(&self, who: &Who, group: &str, told: u64) -> Result<(), Violation> {
        let before = self.before.get(who).and_then(|before| before.get(group)).copied().unwrap_or(0);
        let asked = self.asked.get(group).copied().unwrap_or_default().calls - before;
        Law::SlowIsResynced.require(told <= asked, || {
            format!("{who} got or missed {told} events that were sent to {group}, where {asked} were")
        })
    }

    fn lost(&mut self, who: &Who) {
        let open = self.open.remove(who).unwrap_or_default();
        self.over.extend(open.into_iter().map(|(of, run)| (who.clone(), of, run)));
        self.before.remove(who);
        self.terms.remove(who);
    }

    pub(super) fn end(&mut self) -> Result<(), Violation> {
        let all: BTreeSet<Who> = self.open.keys().cloned().collect();
        all.iter().for_each(|who| self.lost(who));
        for (who, (group, item), Run { term, from, to, sent, .. }) in &self.over {
            let known = self.sent.get(&(*term, group.clone())).into_iter();
            let known = known.flat_map(|known| known.range((Bound::Excluded(from), Bound::Included(to))));
            let known = known.filter(|(_, of)| item.is_none() || *of == item).count() as u64;
            Law::SlowIsResynced.require(known <= *sent, || {
                let of = item.as_ref().map_or(group.to_string(), |item| format!("{group}/{item}"));
                format!("{who} was told of {sent} of the {known} events sent to {of} from {from} to {to}")
            })?;
        }
        Ok(())
    }
}
