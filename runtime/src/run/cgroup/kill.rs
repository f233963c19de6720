//! Who is in a cgroup, signals to them, and the end of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::events::Events;
use super::freeze::{self, State};
use super::fs::Dir;
use super::{Error, Result};
use crate::compile::cgroup::{Group, Version};
use crate::sys::process;

/// How long killed processes may take to leave, and a cgroup to become removable.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory and all below it, parents first; empty where there is none.
fn tree(path: &str) -> Result<Vec<String>> {
    let mut all = vec![path.to_owned()];
    let mut next = 0;
    while let Some(dir) = all.get(next).cloned() {
        next += 1;
        match std::fs::read_dir(&dir) {
            Ok(entries) => {
                let dirs = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
                all.extend(dirs.filter_map(|e| Some(format!("{dir}/{}", e.file_name().to_str()?))));
            }
            // Removed meanwhile, by the container itself perhaps.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {}
            Err(e) => {
                return Err(Error::call(format!("list {dir}"), Errno::from_raw(e.raw_os_error().unwrap_or(0))));
            }
        }
    }
    Ok(all)
}

/// The processes of one cgroup, and with `recursive` of all below it, as pids of the caller's namespace. A cgroup that does
/// not exist has none.
///
/// # Errors
/// What the reading says.
pub fn procs(group: &Group, recursive: bool) -> Result<Vec<i32>> {
    let dir = group.dir();
    let dirs = if recursive { tree(&dir)? } else { vec![dir] };
    let mut pids = BTreeSet::new();
    for dir in dirs {
        pids.extend(procs_of(&dir)?);
    }
    Ok(pids.into_iter().collect())
}

fn procs_of(dir: &str) -> Result<Vec<i32>> {
    match members(dir) {
        // Processes outside of the reader's pid namespace are listed as 0, and kill(0) would be the caller's own group.
        Ok(text) => Ok(text.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0).collect()),
        Err(e) if e.is_missing() => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// The text of `cgroup.procs`; of a threaded cgroup, which cannot be asked for its processes, of `cgroup.threads`.
fn members(dir: &str) -> Result<String> {
    Dir::open(dir).and_then(|d| match d.read("cgroup.procs") {
        Err(e) if e.errno == Some(Errno::EOPNOTSUPP) => d.read("cgroup.threads"),
        text => text,
    })
}

/// Whether no process is in the cgroup or below it; true where there is none.
///
/// # Errors
/// What the reading says.
pub fn is_empty(path: &str) -> Result<bool> {
    for dir in tree(path)? {
        match members(&dir) {
            Ok(text) if text.is_empty() => {}
            Ok(_) => return Ok(false),
            Err(e) if e.is_missing() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn everyone(groups: &[Group]) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for group in groups {
        pids.extend(procs(group, true)?);
    }
    Ok(pids)
}

/// Every process in the cgroups and below them, in the caller's pid namespace, ascending.
///
/// # Errors
/// What the reading says.
pub fn all_procs(groups: &[Group]) -> Result<Vec<i32>> {
    Ok(everyone(groups)?.into_iter().collect())
}

fn send(pid: i32, signal: i32) -> Result<()> {
    match process::kill(pid, signal) {
        Err(f) if f.errno != libc::ESRCH => {
            Err(Error::call(format!("send signal {signal} to process {pid}"), Errno::from_raw(f.errno)))
        }
        _ => Ok(()),
    }
}

/// Sends a signal, by its number (realtime ones have no name), to every process in the cgroups and below them; answers to
/// how many.
///
/// They stand still meanwhile, so that none can fork away from it; processes that were frozen before remain so.
///
/// # Errors
/// What kill(2) says, other than that the process is gone.
pub fn signal_all(groups: &[Group], signal: i32) -> Result<usize> {
    if everyone(groups)?.is_empty() {
        return Ok(0);
    }
    let was = freeze::state(groups).unwrap_or(State::Thawed);
    // A cgroup that cannot be frozen (rootless, no freezer) is signalled as it runs.
    let frozen = was == State::Thawed && freeze::freeze(groups).is_ok();
    let sent =
        everyone(groups).and_then(|pids| pids.iter().try_for_each(|pid| send(*pid, signal)).map(|()| pids.len()));
    if frozen {
        freeze::thaw(groups)?;
    }
    sent
}

/// Kills every process in the cgroups and below them, and waits until they are gone from there.
///
/// Frozen cgroups are thawed, without which version 1 would keep the dead.
///
/// # Errors
/// Processes that are still there after ten seconds.
pub fn kill_all(groups: &[Group]) -> Result<()> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        let left = everyone(groups)?;
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::refused(format!("processes {left:?} did not die within {} s", PATIENCE.as_secs())));
        }
        kill_now(groups)?;
        await_empty(groups, pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits for the dead to leave: until version 2 tells that they have, or else for a moment.
fn await_empty(groups: &[Group], pause: Duration) {
    const SLICE: Duration = Duration::from_secs(1);
    match groups {
        [group] if group.version == Version::V2 => {
            // Whatever cannot be waited for is looked at again by the caller.
            let _ = Dir::open(&group.dir()).and_then(|d| Events::of(&d)?.wait_for("populated 0", SLICE));
        }
        _ => std::thread::sleep(pause),
    }
}

fn kill_now(groups: &[Group]) -> Result<()> {
    let mut killed = true;
    for group in groups {
        // Since kernel 5.14, frozen or not, and nobody can fork away from it.
        killed &=
            group.version == Version::V2 && Dir::open(&group.dir()).and_then(|d| d.put("cgroup.kill", "1")).is_ok();
    }
    if !killed && !everyone(groups)?.is_empty() {
        signal_all(groups, libc::SIGKILL)?;
    }
    if freeze::state(groups).is_ok_and(|s| s != State::Thawed) {
        freeze::thaw(groups)?;
    }
    thaw_below(groups)
}

/// Thaws what a container froze below its own cgroup: of version 1, a frozen process does not die, and the init of a pid
/// namespace does not end before all in it have.
///
/// # Errors
/// What the writing says, other than that the cgroup is gone.
pub fn thaw_below(groups: &[Group]) -> Result<()> {
    let v1 = groups.iter().filter(|g| g.version == Version::V1 && g.controllers.iter().any(|c| c == "freezer"));
    for group in v1 {
        for dir in tree(&group.dir())?.iter().skip(1) {
            let thawed = Dir::open(dir).and_then(|d| match d.read("freezer.state")?.as_str() {
                "THAWED" => Ok(()),
                _ => d.put("freezer.state", "THAWED"),
            });
            match thawed {
                Err(e) if !e.is_missing() => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes the cgroup at `path` with all below it, and then those of `made` (what [`super::make`] made, parents first) that
/// nobody else has come to use. Removing what is gone already succeeds.
///
/// # Errors
/// A cgroup that still holds processes after ten seconds: kill them first ([`kill_all`]).
pub fn remove(path: &str, made: &[String]) -> Result<()> {
    let mut start = None;
    let mut pause = Duration::from_micros(100);
    while let Err(error) = remove_tree(path) {
        let start = start.get_or_insert_with(Instant::now);
        // A process that was just reaped keeps its cgroup for a moment; one that runs keeps it for good.
        let busy = error.errno == Some(Errno::EBUSY);
        if !busy || start.elapsed() > PATIENCE || (start.elapsed() > Duration::from_millis(100) && !is_empty(path)?) {
            return Err(if busy { error.hint("it still holds processes") } else { error });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    for parent in made.iter().rev().filter(|dir| Path::new(path).starts_with(dir) && dir.as_str() != path) {
        match rmdir(parent) {
            Err(e) if e.errno == Some(Errno::EBUSY) => break,
            answer => answer?,
        }
    }
    Ok(())
}

fn remove_tree(path: &str) -> Result<()> {
    match rmdir(path) {
        Err(e) if e.errno == Some(Errno::EBUSY) => tree(path)?.iter().rev().try_for_each(|dir| rmdir(dir)),
        answer => answer,
    }
}

fn rmdir(path: &str) -> Result<()> {
    match std::fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(e) => match Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
            Errno::ENOENT => Ok(()),
            Errno::ENOTEMPTY => Err(Error::call(format!("remove cgroup {path}"), Errno::EBUSY)),
            errno => Err(Error::call(format!("remove cgroup {path}"), errno)),
        },
    }
}
