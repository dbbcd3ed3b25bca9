//! What a finished world has left on its disk, to be damaged and opened again.

use std::collections::BTreeMap;

use headwater_core::log::SegmentNumber;

use super::oracle::Oracle;
use super::{Broken, Plan, World, Written};
use crate::disk::SimDisk;
use crate::power::Power;
use crate::process::Process;

/// The files of a finished world, and what they hold.
#[derive(Debug)]
pub struct Image {
    plan: Plan,
    /// The files, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    written: Vec<Written>,
    oracle: Oracle,
}

/// What a start makes of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It refuses them.
    Refused(String),
    /// How many changes of each group there are.
    Revisions(BTreeMap<String, u64>),
}

impl World {
    /// Runs it until all is done, and takes a picture of its disk.
    pub fn into_image(mut self) -> Result<Image, Broken> {
        self.start()?;
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.settle()?;
        let files = self.disk.files();
        let mut oracle = self.oracle;
        oracle.damaged = true;
        oracle.died(true);
        Ok(Image { plan: self.plan, files, written: self.written, oracle })
    }
}

impl Image {
    /// All that it holds.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.before(usize::MAX)
    }

    /// How many writes of the log there were.
    pub fn writes(&self) -> usize {
        self.written.len()
    }

    /// What was written in the first so many writes.
    pub fn before(&self, writes: usize) -> BTreeMap<String, u64> {
        let none = || self.oracle.revisions().into_keys().map(|name| (name, 0)).collect();
        match writes.min(self.written.len()).checked_sub(1) {
            Some(last) => self.written[last].revisions.clone(),
            None => none(),
        }
    }

    /// The segments, each with where the last write in it starts and ends.
    pub fn segments(&self) -> BTreeMap<SegmentNumber, (u64, u64)> {
        let places = self.written.iter().map(|written| {
            let (from, len) = (written.write.offset, written.write.bytes.len() as u64);
            (written.write.segment, (from, from + len))
        });
        places.filter(|(number, _)| self.files.contains_key(&number.file_name())).collect()
    }

    /// How many writes are whole if this segment is cut off at `len`, and those behind it are gone.
    pub fn whole_writes(&self, segment: SegmentNumber, len: u64) -> usize {
        let whole = |written: &&Written| {
            let end = written.write.offset + written.write.bytes.len() as u64;
            written.write.segment < segment || (written.write.segment == segment && end <= len)
        };
        self.written.iter().take_while(whole).count()
    }

    /// Starts on these files instead. What is found must be a first part of the history that holds at least this.
    pub fn open(
        &self,
        files: &BTreeMap<String, Vec<u8>>,
        at_least: &BTreeMap<String, u64>,
    ) -> Result<Found, Broken> {
        let disk = SimDisk::holding(files);
        let mut world = World::on(self.plan.clone(), Power::default(), disk);
        world.oracle = self.oracle.clone();
        world.oracle.expect_at_least(at_least);
        world.now.wall.0 += 1 << 30;
        match Process::open(&world.disk, world.plan.config(), [7; 32], world.now) {
            Err(error) => Ok(Found::Refused(error.to_string())),
            Ok(process) => {
                world.process = Some(process);
                world.greet()?;
                while let Some(task) = world.process.as_ref().and_then(Process::next_task) {
                    world.work(task)?;
                }
                Ok(Found::Revisions(world.oracle.revisions()))
            }
        }
    }
}
