//! What `events` and `ps` tell of a container: its statistics, its processes, and what happens to it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Error, Result, Status, status};
use crate::compile::cgroup::Group;
use crate::run::cgroup::oom::{self, News, Watch};
use crate::run::cgroup::stats::Stats;
use crate::run::cgroup::{all_procs, stats};
use crate::run::proc;
use crate::state::{self, Record};
use crate::sys::fs;
use crate::undo;

/// The container's processes in the caller's pid namespace; none of a stopped one whose cgroups are gone.
///
/// # Errors
/// There is no such container, or its cgroups cannot be read.
pub fn processes(root: &Path, id: &str) -> Result<Vec<i32>> {
    let dir = state::open(root, id)?;
    let (record, now) = status(&dir);
    let Some(record) = record else { return Ok(Vec::new()) };
    let groups = undo::groups(&record.undo);
    if groups.is_empty() && now != Status::Stopped {
        return Ok(without_cgroup(&record));
    }
    Ok(all_procs(&groups)?)
}

/// The processes of a container without a cgroup: all of its pid namespace, or as many as are known, which is init.
pub(super) fn without_cgroup(record: &Record) -> Vec<i32> {
    let mut pids = if record.own_pid_namespace { proc::in_pid_namespace_of(record.pid) } else { Vec::new() };
    if pids.is_empty() {
        pids.push(record.pid);
    }
    pids
}

/// What happened.
pub enum Event {
    /// It is time for statistics.
    Stats(Box<Stats>),
    /// The OOM killer was at work.
    Oom,
    /// The container has ended.
    End,
}

/// A running container that is watched.
pub struct Events {
    groups: Vec<Group>,
    pidfd: OwnedFd,
    oom: Option<Watch>,
    interval: Duration,
    due: Instant,
}

/// Begins to watch a container, for statistics at this interval.
///
/// # Errors
/// `container not running`
pub fn events(root: &Path, id: &str, interval: Duration) -> Result<Events> {
    let dir = state::open(root, id)?;
    let gone = || Error::new(format!("{id}: container not running"));
    let record = status(&dir).0.ok_or_else(gone)?;
    let pidfd = status::init(&record).ok_or_else(gone)?;
    let groups = undo::groups(&record.undo);
    // A container without a memory cgroup has statistics, too.
    let oom = oom::watch(&groups).ok();
    Ok(Events { groups, pidfd, oom, interval, due: Instant::now() + interval })
}

impl Events {
    /// The statistics now.
    ///
    /// # Errors
    /// The cgroups are gone.
    pub fn stats(&self) -> Result<Box<Stats>> {
        Ok(Box::new(stats::stats(&self.groups)?))
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// What poll(2) says, or the statistics.
    pub fn wait(&mut self) -> Result<Event> {
        loop {
            let left = self.due.saturating_duration_since(Instant::now());
            // Rounded up, or the last millisecond would be spent turning.
            let left = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            let pidfd = self.pidfd.as_fd();
            let oom = self.oom.as_ref().map_or(pidfd, AsFd::as_fd);
            let [ended, _] = fs::poll([(pidfd, libc::POLLIN), (oom, libc::POLLIN)], left)?;
            match self.oom.as_mut().map(Watch::news).transpose()? {
                Some(News::Oom) => return Ok(Event::Oom),
                Some(News::Removed) => return Ok(Event::End),
                _ if ended != 0 => return Ok(Event::End),
                _ => {}
            }
            if self.due <= Instant::now() {
                self.due = Instant::now() + self.interval;
                return Ok(Event::Stats(self.stats()?));
            }
        }
    }
}
