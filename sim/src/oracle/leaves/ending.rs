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
            let owed = self.owes(join, None).filter(|function| !self.was_told_as_another(join, function));
            Law::OneLeave.require(owed.is_none(), || {
                let (function, who, target) = (owed.unwrap_or_default(), &join.who, &join.target);
                format!("`{function}` was never told that {who} has left {target:?} ({:?})", join.id)
            })?;
        }
        Ok(())
    }

    /// Whether a leave was told while a join lived that was taken for another one's of the same name.
    fn was_told_as_another(&self, join: &Join, function: &str) -> bool {
        let named = join.id.as_ref().and_then(|id| self.by_id.get(id)).unwrap_or(&self.by_path);
        named.iter().map(|at| &self.joins[*at]).any(|other| {
            let told = other.told.get(function);
            other.target == join.target && told.is_some_and(|told| told.doubtful > join.taken)
        })
    }

    /// A function that must be told of the leave of a join, or whether this one must be.
    pub(super) fn owes(&self, join: &Join, only: Option<&str>) -> Option<&str> {
        if join.fate != Fate::Allowed || join.unsure || join.process != self.workers.process {
            return None;
        }
        let mut watching = self.workers.certain().filter(|(_, since, binding)| {
            let wanted = &binding.wanted;
            let watches = matches!(wanted.kind, Kind::Leave(_)) && wanted.is_about(&join.target.0);
            let function = wanted.function.as_str();
            let holder = self.workers.holder(function);
            let is_busy = only.is_none() && holder.is_some_and(|who| self.workers.is_busy(who));
            watches
                && wanted.condition.is_none()
                && *since < join.taken
                && !is_busy
                && only.is_none_or(|only| only == function)
                && join.told_of(function) == 0
        });
        watching.next().map(|(_, _, binding)| binding.wanted.function.as_str())
    }
}
