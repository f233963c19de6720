//! Cgroups on a real kernel: made, limited, watched, frozen, emptied and removed.
//!
//! Nothing here writes a pid to `cgroup.procs`: that waits for a grace period of the kernel, milliseconds long. A process
//! starts inside its version 2 cgroup (`CLONE_INTO_CGROUP`, see [`fs::open`]) and enters those of version 1 by writing `0`
//! to `tasks` itself.

pub mod devices;
mod events;
pub mod freeze;
pub mod fs;
pub mod kill;
pub mod make;
pub mod oom;
pub mod probe;
pub mod stats;
mod stats_v1;
mod stats_v2;
pub mod update;

use std::fmt;

use nix::errno::Errno;

pub use fs::{Dir, Writer, check, delegate, open, write};
pub use kill::{all_procs, is_empty, kill_all, procs, remove, signal_all};
pub use make::{Made, adopt, enter_hint, make, missing};
pub use probe::probe;

/// What went wrong with a cgroup: `write "7" to /sys/fs/cgroup/pids/x/pids.max: invalid argument`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What was tried, or what was found to be wrong.
    pub what: String,
    /// Why it failed, where the kernel said so.
    pub errno: Option<Errno>,
    /// What that means here, where it is known.
    pub hint: Option<String>,
}

/// The result of an operation on a cgroup.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn refused(what: impl Into<String>) -> Self {
        Error { what: what.into(), errno: None, hint: None }
    }

    fn call(what: impl Into<String>, errno: Errno) -> Self {
        Error { what: what.into(), errno: Some(errno), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether this says that the file or cgroup does not exist (any more).
    pub fn is_missing(&self) -> bool {
        matches!(self.errno, Some(Errno::ENOENT | Errno::ENODEV))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            let mut text = errno.desc().chars();
            let first = text.next().map(|c| c.to_ascii_lowercase()).into_iter();
            write!(f, ": {}{}", first.collect::<String>(), text.as_str())?;
        }
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
