//! Who must have been told of which leaves.

use super::Leaves;
use super::join::{Fate, Join};
use crate::oracle::workers::Kind;
use crate::oracle::{Law, Violation};

impl Leaves {
    /// The server dies. After the world was at rest all leaves were told.
    pub(super) fn dies(&mut self) -> Result<(), Violation> {
        if self.rules.tells_server { self.judge() } else { Ok(()) }
    }

    /// The server has stopped in good order. If that took less than it may, all leaves were told before.
    pub(super) fn stops(&mut self, now: u64) -> Result<(), Violation> {
        let stop_ms = self.rules.limits.stop_ms;
        let in_time = now.saturating_sub(self.lived) < stop_ms;
        if self.rules.tells_server && in_time { self.all_told(|_| true) } else { Ok(()) }
    }

    /// Judges the end of the world, once.
    pub(super) fn judge(&mut self) -> Result<(), Violation> {
        let (Some(rest), Some(healed), false) = (self.rest, self.healed, self.judged) else { return Ok(()) };
        self.judged = true;
        if self.rules.tells_server {
            return self.all_told(|join| join.ended.is_some());
        }
        // The server knows for sure of what was said on a connection that lived on.
        self.all_told(|join| {
            let gone = self.connections.get(&join.who).and_then(|connection| connection.gone);
            let lives_on = gone.is_none_or(|gone| gone > rest);
            join.ended.is_some_and(|ended| ended <= healed) && lives_on
        })
    }

    /// The leaves of these joins were told to all who were there from before the join.
    fn all_told(&self, has_ended: impl Fn(&Join) -> bool) -> Result<(), Violation> {
        for join in self.joins.iter().filter(|join| has_ended(join)) {
            let is_busy =
                |function: &str| self.workers.holder(function).is_some_and(|who| self.workers.is_busy(who));
            let untold = |function: &&str| join.told_of(function) == 0 && !is_busy(function);
            let owed =
                self.watchers(join).filter(untold).find(|function| self.lacks(join, function, &has_ended));
            Law::OneLeave.require(owed.is_none(), || {
                let (function, who, target) = (owed.unwrap_or_default(), &join.who, &join.target);
                format!("`{function}` was never told that {who} has left {target:?} ({:?})", join.id)
            })?;
        }
        Ok(())
    }

    /// Whether a function was told fewer leaves of a name than it had to be. A leave may have been taken for that of
    /// another join of the name; it can be that of any join before it, but of one only.
    fn lacks(&self, join: &Join, function: &str, has_ended: impl Fn(&Join) -> bool) -> bool {
        let named = join.id.as_ref().and_then(|id| self.by_id.get(id)).unwrap_or(&self.by_path);
        let alike = named.iter().map(|at| &self.joins[*at]).filter(|other| other.target == join.target);
        let (mut owed, mut told): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for other in alike {
            let calls = other.told.get(function);
            let was_owed = calls.is_some_and(|calls| calls.was_owed);
            if was_owed || has_ended(other) && self.watchers(other).any(|watcher| watcher == function) {
                owed.push(other.taken);
            }
            told.extend(calls.into_iter().flat_map(|calls| &calls.calls));
        }
        let owed_from = |taken: usize| owed.iter().filter(|other| **other >= taken).count();
        let told_after = |taken: usize| told.iter().filter(|call| **call > taken).count();
        owed.iter().any(|taken| owed_from(*taken) > told_after(*taken))
    }

    /// Whether this function must be told of the leave of a join, and was not.
    pub(super) fn owes(&self, join: &Join, function: &str) -> bool {
        join.told_of(function) == 0 && self.watchers(join).any(|watcher| watcher == function)
    }

    /// The functions that must be told of the leave of a join.
    fn watchers(&self, join: &Join) -> impl Iterator<Item = &str> {
        let is_sure = join.fate == Fate::Allowed && !join.unsure && join.process == self.workers.process;
        let certain = is_sure.then(|| self.workers.certain()).into_iter().flatten();
        let watching = certain.filter(|(_, since, binding)| {
            let wanted = &binding.wanted;
            let watches = matches!(wanted.kind, Kind::Leave(_)) && wanted.is_about(&join.target.0);
            watches && wanted.condition.is_none() && *since < join.taken
        });
        watching.map(|(_, _, binding)| binding.wanted.function.as_str())
    }
}
