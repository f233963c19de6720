//! `cgroup.events` of version 2: what changes in a cgroup, waited for without asking again and again.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::fs::Dir;
use super::{Error, Result};

/// The file, open: a poll of it waits for a change since the last reading of the same descriptor.
pub(super) struct Events {
    file: File,
    path: String,
}

impl Events {
    /// Opens the file of a cgroup.
    ///
    /// # Errors
    /// What open(2) says.
    pub(super) fn of(dir: &Dir) -> Result<Events> {
        let path = format!("{}/cgroup.events", dir.path());
        match dir.file("cgroup.events", false) {
            Ok(file) => Ok(Events { file: file.into(), path }),
            Err(e) => Err(Error::call(format!("open {path}"), e)),
        }
    }

    /// Whether this line stands there now.
    fn say(&self, line: &str) -> Result<bool> {
        let mut text = [0; 256];
        let n = self
            .file
            .read_at(&mut text, 0)
            .map_err(|e| Error::call(format!("read {}", self.path), Errno::from_raw(e.raw_os_error().unwrap_or(0))))?;
        Ok(text[..n].split(|b| *b == b'\n').any(|l| l == line.as_bytes()))
    }

    /// Waits until a line stands there, and answers whether it does.
    ///
    /// # Errors
    /// What read(2) says: the cgroup is gone.
    pub(super) fn wait_for(&self, line: &str, patience: Duration) -> Result<bool> {
        let start = Instant::now();
        while !self.say(line)? {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let slice = u8::try_from(left.as_millis()).unwrap_or(100).clamp(1, 100);
            // The event is "of high priority", not data (cgroup-v2.rst).
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
            let _ = poll(&mut fds, PollTimeout::from(slice));
        }
        Ok(true)
    }
}
