//! The name of a store's history.

use crate::oracle::{Law, Violation};

/// What each start of the server has called its history.
#[derive(Debug)]
pub(super) struct Epochs {
    /// Whether a crash makes another history, although nothing is lost.
    new_after_crash: bool,
    /// From one start to the next.
    terms: Vec<Term>,
}

#[derive(Debug, Default)]
struct Term {
    epoch: Option<String>,
    /// Something was written.
    wrote: bool,
    /// The disk has failed: who stops then may have to leave something undone.
    failed: bool,
    /// It was to stop: the log may have been closed in good order before it ended otherwise.
    stops: bool,
    /// How it ended.
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crashed,
    Stopped,
}

impl Epochs {
    pub(super) fn new(new_after_crash: bool) -> Epochs {
        Epochs { new_after_crash, terms: vec![Term::default()] }
    }

    /// The number of the start that is under way.
    pub(super) fn term(&self) -> usize {
        self.terms.len() - 1
    }

    pub(super) fn crashed(&mut self) {
        self.ended(End::Crashed);
    }

    pub(super) fn stopped(&mut self) {
        self.ended(End::Stopped);
    }

    pub(super) fn disk_failed(&mut self) {
        if let Some(term) = self.terms.last_mut() {
            term.failed = true;
        }
    }

    /// The server was told to stop.
    pub(super) fn stops(&mut self) {
        if let Some(term) = self.terms.last_mut() {
            term.stops = true;
        }
    }

    /// Power that goes after a stop in good order takes nothing with it.
    fn ended(&mut self, end: End) {
        if let Some(term) = self.terms.last_mut() {
            term.end.get_or_insert(end);
        }
    }

    pub(super) fn restarted(&mut self) {
        self.terms.push(Term::default());
    }

    /// A change was acknowledged or seen in a term.
    pub(super) fn wrote(&mut self, term: usize) {
        if let Some(term) = self.terms.get_mut(term) {
            term.wrote = true;
        }
    }

    /// Somebody is told the epoch; of which term, if that is known.
    pub(super) fn told(&mut self, term: Option<usize>, epoch: &str) -> Result<(), Violation> {
        Law::EpochNamesHistory.require(!epoch.is_empty(), || "a sync without an epoch".to_owned())?;
        let known = self.terms.iter().rev().find_map(|term| term.epoch.as_deref());
        if !self.new_after_crash {
            let how = || format!("the epoch was {known:?}, and nothing was lost");
            Law::EpochNamesHistory.require(known.is_none_or(|known| known == epoch), how)?;
        }
        let Some(index) = term else { return Ok(()) };
        let before = self.terms[..=index].iter().rposition(|term| term.epoch.is_some());
        if let Some(before) = before {
            let since = &self.terms[before..index];
            let known = self.terms[before].epoch.as_deref();
            let kept = since.iter().all(|term| term.end == Some(End::Stopped) && !term.failed);
            let how = || format!("the epoch was {known:?}, and the server has not crashed since");
            Law::EpochNamesHistory.require(!kept || known == Some(epoch), how)?;
            let mut older = self.terms[..before].iter().filter_map(|term| term.epoch.as_deref());
            let is_back = known != Some(epoch) && older.any(|older| older == epoch);
            Law::EpochNamesHistory.require(!is_back, || "the epoch of an older history".to_owned())?;
        }
        self.terms[index].epoch.get_or_insert_with(|| epoch.to_owned());
        Ok(())
    }

    /// A history that something was written to has another name after each crash. One that nothing was written to
    /// since the last name need not.
    pub(super) fn end(&self) -> Result<(), Violation> {
        if !self.new_after_crash {
            return Ok(());
        }
        let mut last: Option<(usize, &str)> = None;
        for (index, term) in self.terms.iter().enumerate() {
            let Some(epoch) = term.epoch.as_deref() else { continue };
            if let Some((from, before)) = last {
                let lost = |term: &Term| term.wrote && !term.stops && term.end == Some(End::Crashed);
                let renamed = !self.terms[from..index].iter().any(lost) || before != epoch;
                let how = || format!("after the crash of start {from} the epoch is {epoch} as before");
                Law::EpochNamesHistory.require(renamed, how)?;
            }
            last = Some((index, epoch));
        }
        Ok(())
    }
}
