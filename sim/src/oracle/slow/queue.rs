//! What the server has queued for a client that did not get it yet.

use std::collections::VecDeque;
use std::io;

use serde_json::Value;

use crate::hash::Hash;
use crate::oracle::frame::{Frame, Told};
use crate::oracle::{Law, Rules, Violation};

/// Messages on their way to one subscriber, in order.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Waiting>);

#[derive(Debug)]
struct Waiting {
    text: Digest,
    kind: Kind,
    /// What it is about, for syncs.
    target: Hash,
    /// An overflow has dropped it, unless it had left before.
    dropped: bool,
    /// A newer state of the same target may have replaced it.
    replaced: bool,
    stamp: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Event,
    Sync,
    /// Never dropped.
    Notice,
}

/// A message's length as text, and a hash of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest {
    length: usize,
    hash: Hash,
}

impl Queue {
    pub(super) fn push(&mut self, message: &Value, frame: &Frame<'_>) {
        let kind = match frame.told {
            Told::Sync { .. } => Kind::Sync,
            Told::Change { .. } | Told::Sent(_) => Kind::Event,
            Told::Unauthorized | Told::Error { .. } => Kind::Notice,
        };
        let target = target(frame);
        let text = Digest::of(message);
        let mut replaced = false;
        if kind == Kind::Sync {
            let same = |waiting: &&mut Waiting| waiting.kind == Kind::Sync && waiting.target == target;
            for waiting in self.0.iter_mut().filter(same) {
                waiting.replaced = true;
                // Of two that say the same it can't be told which of them comes.
                replaced |= waiting.text == text;
            }
        }
        self.0.push_back(Waiting { text, kind, target, dropped: false, replaced, stamp: frame.stamp });
    }

    /// The client gets a message: the next that waits. What it says of events that were skipped is only known then.
    pub(super) fn pop(&mut self, message: &Value) -> Result<(), Violation> {
        let text = match message.get("skipped") {
            Some(_) => {
                let mut queued = message.clone();
                if let Some(members) = queued.as_object_mut() {
                    members.remove("skipped");
                }
                Digest::of(&queued)
            }
            None => Digest::of(message),
        };
        while let Some(next) = self.0.pop_front() {
            if next.text == text {
                return Ok(());
            }
            if next.dropped && !next.replaced {
                // What came after it was dropped with it.
                self.0.retain(|waiting| !waiting.dropped);
            } else if !next.dropped && !next.replaced {
                let how = format!("what is stamped {} was to come before", next.stamp);
                return Err(Law::SlowIsResynced.broken(how));
            }
        }
        Err(Law::SlowIsResynced.broken("it was not queued, or was dropped"))
    }

    /// Events and syncs are dropped, but for those that have left.
    pub(super) fn overflow(&mut self) {
        let droppable = self.0.iter_mut().filter(|waiting| waiting.kind != Kind::Notice);
        droppable.for_each(|waiting| waiting.dropped = true);
    }

    /// What had not left when it overflowed never comes.
    pub(super) fn resume(&mut self) {
        self.0.retain(|waiting| !waiting.dropped);
    }

    /// No more events wait than may.
    pub(super) fn check_bound(&self, rules: Rules) -> Result<(), Violation> {
        // Those that may not be there any more may have made room on the way for others.
        let there = || self.0.iter().filter(|waiting| !waiting.dropped && !waiting.replaced);
        let bytes = |waiting: &Waiting| if waiting.kind == Kind::Event { waiting.text.length } else { 0 };
        if there().map(bytes).sum::<usize>() <= rules.outbox_bytes {
            return Ok(());
        }
        let waiting = || there().skip(rules.pipe).filter(|waiting| waiting.kind == Kind::Event);
        let (count, sum) = (waiting().count(), waiting().map(bytes).sum::<usize>());
        Law::SlowIsResynced.require(count <= 1 || sum <= rules.outbox_bytes, || {
            format!("{count} events of {sum} bytes wait, where {} may", rules.outbox_bytes)
        })
    }

    /// The first message that surely waits.
    pub(super) fn first(&self) -> Option<String> {
        let waiting = self.0.iter().find(|waiting| !waiting.dropped && !waiting.replaced)?;
        Some(format!("what is stamped {}", waiting.stamp))
    }
}

fn target(frame: &Frame<'_>) -> Hash {
    let names = [frame.stream, frame.group, frame.item.unwrap_or("")];
    let mut hash = Hash::NOTHING;
    names.into_iter().flat_map(|name| [name, "\n"]).for_each(|text| hash.add(text.as_bytes()));
    hash
}

impl Digest {
    fn of(message: &Value) -> Digest {
        let mut digest = Digest { length: 0, hash: Hash::NOTHING };
        serde_json::to_writer(&mut digest, message).expect("nothing can fail");
        digest
    }
}

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len();
        self.hash.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
