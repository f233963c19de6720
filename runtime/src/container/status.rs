//! What a container is doing, by the kernel's own word: nothing that a command could forget to write down.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::run::cgroup;
use crate::run::proc;
use crate::state::{self, Dir, Record};
use crate::sys::{fs, process};
use crate::undo;

/// The states of runtime.md, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Init waits behind its gate.
    Created,
    /// The program was executed.
    Running,
    /// It is frozen.
    Paused,
    /// Init is gone.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// What a container is, and what it is doing. Without a record it is being created, or its creation was killed.
pub fn status(dir: &Dir) -> (Option<Record>, Status) {
    let Some(record) = dir.record() else {
        return (None, if dir.is_locked() { Status::Creating } else { Status::Stopped });
    };
    let now = if !is_alive(&record) {
        Status::Stopped
    } else if is_paused(&record) {
        // Before the gate: who is frozen behind it would not answer a start.
        Status::Paused
    } else {
        // Who stands behind the gate is created: init's end of it closes at exec, not before and not later.
        match dir.open_gate() {
            Ok(Some(_)) => Status::Created,
            _ => Status::Running,
        }
    };
    (Some(record), now)
}

/// Whether the container is frozen, or about to be.
pub(super) fn is_paused(record: &Record) -> bool {
    let frozen = cgroup::freeze::state(&undo::groups(&record.undo));
    frozen.is_ok_and(|state| state != cgroup::freeze::State::Thawed)
}

/// Whether init lives: the process of that pid, that identity or time of start, in this boot, and no zombie. What cannot be
/// found out for want of descriptors or memory lives: taken for dead, it could be deleted while it runs.
pub fn is_alive(record: &Record) -> bool {
    if record.pid <= 0 {
        return false;
    }
    match process::pidfd_open(record.pid) {
        Ok(pidfd) => is_init(record, pidfd.as_fd()),
        // Nobody's, or a thread's of somebody else.
        Err(f) => !matches!(f.errno, libc::ESRCH | libc::EINVAL | libc::ENOENT),
    }
}

/// A pidfd of init, if it lives.
pub fn init(record: &Record) -> Option<OwnedFd> {
    process::pidfd_open(record.pid).ok().filter(|pidfd| is_init(record, pidfd.as_fd()))
}

/// Whether a pidfd of init's number is init's, and init lives.
fn is_init(record: &Record, pidfd: BorrowedFd<'_>) -> bool {
    if state::is_another_boot(&record.boot_id) || fs::poll([(pidfd, libc::POLLIN)], 0).is_ok_and(|[gone]| gone != 0) {
        return false;
    }
    if let Some(known) = record.identity {
        return fs::fstat(pidfd).is_ok_and(|found| found.ino == known);
    }
    // Looked at after the opening: the pid cannot have become another's since.
    match proc::stat(record.pid) {
        Ok(Some((state, start))) => start == record.start_time && !matches!(state, b'Z' | b'X'),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22).
pub fn start_time(pid: i32) -> Option<u64> {
    proc::stat(pid).ok().flatten().map(|(_, start)| start)
}
