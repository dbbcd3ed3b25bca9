//! What a person is told before a store is repaired.

use std::fmt::Write as _;

use headwater_core::log::SegmentNumber;
use headwater_core::store::Damage;

use super::{Findings, Lost, Ruin, SHOWN};
use crate::store::Disk;
use crate::store::checkpoint::CHECKPOINT_FILE;

impl<D: Disk> Findings<D> {
    /// What is wrong, what would be lost, and what would be kept.
    pub fn report(&self) -> String {
        let mut out = String::new();
        if let Some(ruin) = &self.ruin {
            self.report_checkpoint(&mut out, ruin);
        }
        if !self.bad_files.is_empty() {
            let files: Vec<String> = self.bad_files.iter().copied().map(SegmentNumber::file_name).collect();
            line(
                &mut out,
                format!("The start of {} is damaged: whatever it held is lost.", files.join(", ")),
            );
        }
        if let Some(damage) = &self.damage {
            self.report_log(&mut out, damage);
        }
        let (items, groups) = (self.salvaged.items(), self.salvaged.groups());
        line(&mut out, format!("What is left: {} in {}.", counted(items, "item"), counted(groups, "group")));
        let affected = self.affected();
        if !affected.is_empty() {
            let kept = affected.join(", ");
            line(&mut out, format!("Copied before anything is changed, as `FILE.damaged-N`: {kept}."));
        }
        out
    }

    fn report_checkpoint(&self, out: &mut String, ruin: &Ruin) {
        match (ruin.bytes, &ruin.unreadable) {
            (None, _) => line(
                out,
                format!(
                    "{CHECKPOINT_FILE} or the beginning of the log is missing: all that it held is lost, and how much \
                     that was, nobody can say. What was changed after that has its new value in the log: it is kept, \
                     the rest of its group is not."
                ),
            ),
            (Some(bytes), Some(reason)) if ruin.groups == 0 => line(
                out,
                format!(
                    "{CHECKPOINT_FILE}, {bytes} bytes, can't be read ({reason}): all that it held is lost. Of what was \
                     changed after it was made, the log has the new values: they are kept, the rest of their groups is \
                     not."
                ),
            ),
            (Some(_), Some(reason)) => line(
                out,
                format!(
                    "Not all of {CHECKPOINT_FILE} can be read ({reason}): {} in {} can; other groups, of which not even the \
                     name can, are lost but for what the log has of them.",
                    counted(ruin.items, "item"),
                    counted(ruin.groups, "group")
                ),
            ),
            (Some(_), None) => {}
        }
        if let Some(reason) = &ruin.unwritable {
            line(
                out,
                format!(
                    "All groups of {CHECKPOINT_FILE} can be read, but nothing can be saved to it any more ({reason}): \
                     another is made of it."
                ),
            );
        }
        if ruin.no_state && ruin.bytes.is_some() && ruin.unreadable.is_none() {
            let text = "The checkpoint does not say what it goes up to, which subscriptions are owed a leave, and which \
                        streams workers keep: the leaves are lost; the workers say the rest again when they register.";
            line(out, format!("{text} All of the log is read again."));
        }
        if ruin.lost_groups > 0 {
            line(
                out,
                format!(
                    "In {CHECKPOINT_FILE}, something of {} can't be read:",
                    counted(ruin.lost_groups, "group")
                ),
            );
            for (path, lost) in &ruin.lost {
                let what = match lost {
                    Lost::Items(items) => counted(*items, "item"),
                    _ => "all but what the log has of it".to_owned(),
                };
                line(out, format!("  {}: {what}", shown(path.stream.as_str(), path.group.as_str())));
            }
            more(out, ruin.lost_groups.saturating_sub(ruin.lost.len() as u64));
        }
    }

    fn report_log(&self, out: &mut String, damage: &Damage) {
        match damage {
            Damage::Record { at, .. } => line(
                out,
                format!(
                    "The log is damaged at byte {} of {}: everything that was written there and behind is lost.",
                    at.offset,
                    at.segment.file_name()
                ),
            ),
            Damage::Missing(position) => line(
                out,
                format!(
                    "A part of the log is missing: nothing that is left begins at {position}, where the rest of it \
                     ends. Everything behind that is lost."
                ),
            ),
        }
        let changes: u64 = self.behind.groups.values().sum();
        if changes + self.behind.others == 0 {
            return line(out, "Nothing can be read behind that.");
        }
        line(
            out,
            format!(
                "Behind it, these changes can still be read, but not be kept, as what they follow is lost: {} of {}{}.",
                counted(changes, "change"),
                counted(self.behind.groups.len() as u64, "group"),
                match self.behind.others {
                    0 => String::new(),
                    others => format!(", and {}", counted(others, "other record")),
                }
            ),
        );
        for (path, changes) in self.behind.groups.iter().take(SHOWN) {
            line(out, format!("  {}: {changes}", shown(path.stream.as_str(), path.group.as_str())));
        }
        more(out, (self.behind.groups.len() as u64).saturating_sub(SHOWN as u64));
    }
}

fn more(out: &mut String, more: u64) {
    if more > 0 {
        line(out, format!("  and {more} more"));
    }
}

/// Names come from outside: none can look like a line of its own.
fn shown(stream: &str, group: &str) -> String {
    format!("{} > {}", stream.escape_debug(), group.escape_debug())
}

fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn line(out: &mut String, text: impl AsRef<str>) {
    // Into memory, which does not fail.
    let _ = writeln!(out, "{}", text.as_ref());
}
