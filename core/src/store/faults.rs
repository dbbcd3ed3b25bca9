//! What becomes of commands and events when the disk fails.

use super::commit::{Failed, Waiting};
use super::{Builtin, Event, EventKind, Output, Store};
use crate::call::{Answer, Outcome};
use crate::config::{CoreConfig, Storage};
use crate::error::CallError;
use crate::time::Now;

impl Store {
    /// Why nothing can be written now, if that is so.
    pub(crate) fn refusal(&self, storage: &Storage) -> Option<String> {
        if let Some(reason) = self.commits.refusal() {
            return Some(format!("nothing was written, and the store takes no writes for now: {reason}"));
        }
        let failure = self.checkpoints.failure().filter(|_| self.is_full(storage))?;
        Some(format!("nothing was written: memory is full, and no checkpoint can be made: {failure}"))
    }

    /// The write under way failed: nothing of it, and nothing applied since, was ever seen. Reads are done again;
    /// writers get an error once it is known that nothing of it comes back, and what the store itself has to write
    /// is written again.
    pub(crate) fn persist_failed(
        &mut self,
        now: Now,
        reason: &str,
        config: &CoreConfig,
        out: &mut Vec<Output>,
    ) {
        let Some(unwritten) = self.commits.failed(now.mono, reason) else { return };
        self.shared_head = None;
        // Nothing was seen of what was stamped since.
        (self.shared.stamp, self.shared.reserved) = (self.unchanged.stamp, self.unchanged.reserved);
        for (group, _) in unwritten.changes {
            self.contents.roll_back(group);
        }
        for records in &unwritten.records {
            self.commits.remember_again(records);
        }
        for failed in unwritten.failed {
            self.tell_failed(failed, out);
        }
        for (written, waiting) in [(true, unwritten.written), (false, unwritten.gathered)] {
            for waiting in waiting {
                self.undo(now, waiting, written, reason, config, out);
            }
        }
    }

    /// Something that has waited for a write that has failed.
    fn undo(
        &mut self,
        now: Now,
        waiting: Waiting,
        written: bool,
        reason: &str,
        config: &CoreConfig,
        out: &mut Vec<Output>,
    ) {
        match waiting {
            Waiting::Reply { caller, again: Some(again), .. } => self.run(now, caller, again, config, out),
            Waiting::Reply { caller, command, outcome, again: None } => {
                let written = written && !wrote_nothing(command, &outcome);
                let failed = Failed { caller, command, written, reason: reason.to_owned() };
                if let Some(failed) = self.commits.fail_later(failed) {
                    self.tell_failed(failed, out);
                }
            }
            // Their callers are told that they failed.
            Waiting::Event(_) | Waiting::Unstored(Event { kind: EventKind::Sent { .. }, .. }) => {}
            // What has happened at a worker, has happened.
            Waiting::Unstored(Event { group, item, kind, .. }) => {
                self.send(now.wall, &group, item, kind, out);
            }
            Waiting::Kept(kept, _) => self.show(now.wall, kept, out),
            Waiting::Left(key) => self.left(key, out),
        }
    }

    fn tell_failed(&mut self, failed: Failed, out: &mut Vec<Output>) {
        let Failed { caller, command, written, reason } = failed;
        let message = match written {
            true => format!(
                "outcome_unknown: the store failed to write, so the change may be there after a restart or not; \
                 read before you repeat it. {reason}"
            ),
            false => format!("nothing was written: {reason}"),
        };
        out.push(Output::Reply { caller, outcome: Err(CallError::new(command.error_code(), message)) });
    }
}

/// Whether a command stored nothing: a conflict, a value beyond a limit, the removal of what is not there, an event that
/// was sent.
fn wrote_nothing(command: Builtin, outcome: &Outcome) -> bool {
    command == Builtin::Send || matches!(outcome, Err(_) | Ok(Answer::Deleted { old: None, .. }))
}
