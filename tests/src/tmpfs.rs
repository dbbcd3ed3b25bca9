use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of its own, in memory, so small that it can be filled. It is gone when this is dropped.
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one of 24 MiB, or says why this machine does not let it: that takes root.
    pub fn mount() -> Result<Tmpfs, String> {
        let folder = TempDir::with_prefix("headwater-tmpfs-").expect("a temporary folder can be made");
        let tmpfs = Tmpfs { folder };
        tmpfs.run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "headwater-test"]))?;
        Ok(tmpfs)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file can be made");
        for block in [1 << 16, 1 << 12, 1] {
            let block = vec![0xff; block];
            loop {
                match file.write(&block) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{} can't be filled: {error}", self.path().display()),
                }
            }
        }
    }

    /// Gives back the room that was taken.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    /// Makes it one that can only be read, or one that can be written.
    pub fn make_read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        let done = self.run(Command::new("mount").args(["-o", options]));
        done.unwrap_or_else(|e| panic!("{} can't be mounted again: {e}", self.path().display()));
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn run(&self, command: &mut Command) -> Result<(), String> {
        let output = command.arg(self.path()).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server that a failed test leaves may still be on its way out. Where nothing was mounted, there is
        // nothing to unmount.
        let _ = self.run(Command::new("umount").arg("--lazy"));
    }
}
