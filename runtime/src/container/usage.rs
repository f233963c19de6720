//! What containers use at a moment, for `top`.

use std::path::Path;
use std::time::Instant;

use super::{Error, Result, Status, status};
use crate::run::cgroup::stats::{BlkioEntry, stats};
use crate::{state, undo};

/// What one container used when it was looked at.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The container.
    pub id: String,
    /// What it is doing.
    pub status: Status,
    /// Its init.
    pub pid: i32,
    /// When it was looked at.
    pub when: Instant,
    /// What it used; none of a container without cgroups.
    pub used: Option<Used>,
}

/// What its cgroups count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Nanoseconds of CPU time, so far.
    pub cpu: u64,
    /// Bytes of memory, now.
    pub memory: u64,
    /// The most that it may use, where there is such a limit.
    pub memory_limit: Option<u64>,
    /// Tasks, now.
    pub pids: u64,
    /// The most that it may have, where there is such a limit.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices, so far.
    pub read: u64,
    /// Bytes written to them, so far.
    pub written: u64,
}

/// Version 1 writes "no limit" as the largest number of pages that fits.
const UNLIMITED: u64 = 1 << 60;

/// Looks at a container; `None` for one that has stopped or is only being created.
///
/// # Errors
/// `container does not exist`
pub fn sample(root: &Path, id: &str) -> Result<Option<Sample>> {
    let dir = state::open(root, id)?;
    let (Some(record), status @ (Status::Created | Status::Running | Status::Paused)) = status(&dir) else {
        return Ok(None);
    };
    let groups = undo::groups(&record.undo);
    // One that goes meanwhile has used nothing that could still be told.
    let used = if groups.is_empty() { None } else { stats(&groups).ok() };
    let used = used.map(|s| Used {
        cpu: s.cpu.usage.total,
        memory: s.memory.usage.usage,
        memory_limit: Some(s.memory.usage.limit).filter(|l| (1..UNLIMITED).contains(l)),
        pids: s.pids.current,
        pids_limit: Some(s.pids.limit).filter(|l| *l != 0),
        read: sum(&s.blkio.io_service_bytes_recursive, "Read"),
        written: sum(&s.blkio.io_service_bytes_recursive, "Write"),
    });
    Ok(Some(Sample { id: id.to_owned(), status, pid: record.pid, when: Instant::now(), used }))
}

fn sum(entries: &[BlkioEntry], op: &str) -> u64 {
    entries.iter().filter(|e| e.op == op).map(|e| e.value).sum()
}

/// Looks at all containers of a root, in the order of their ids.
///
/// # Errors
/// The root cannot be read; one that does not exist holds nothing.
pub fn sample_all(root: &Path) -> Result<Vec<Sample>> {
    let mut ids = match state::ids(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        ids => ids.map_err(|e| Error::new(format!("open {}: {}", root.display(), crate::sys::io_text(&e))))?,
    };
    ids.sort();
    // One that goes meanwhile is not shown.
    Ok(ids.iter().filter_map(|id| sample(root, id).ok().flatten()).collect())
}
