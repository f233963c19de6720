//! Stopping all tasks of a container, and letting them go on.

use std::time::{Duration, Instant};

use super::events::Events;
use super::fs::Dir;
use super::{Error, Result};
use crate::compile::cgroup::{Group, Version};

/// Whether a container's tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They run.
    Thawed,
    /// Some have stopped already.
    Freezing,
    /// All have stopped.
    Frozen,
}

/// How long tasks may take to stop: one in an uninterruptible sleep never does.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cgroup that freezes: version 1's freezer, or else version 2.
fn freezer(groups: &[Group]) -> Result<(Version, Dir)> {
    let v1 = groups.iter().find(|g| g.version == Version::V1 && g.controllers.iter().any(|c| c == "freezer"));
    match v1.or_else(|| groups.iter().find(|g| g.version == Version::V2)) {
        Some(group) => Ok((group.version, Dir::open(&group.dir())?)),
        None => Err(Error::refused("this container has no cgroup that can freeze it")),
    }
}

/// Whether the container is frozen.
///
/// # Errors
/// No freezer, or what the reading says.
pub fn state(groups: &[Group]) -> Result<State> {
    let (version, dir) = freezer(groups)?;
    match version {
        Version::V1 => match dir.read("freezer.state")?.as_str() {
            "THAWED" => Ok(State::Thawed),
            "FREEZING" => Ok(State::Freezing),
            _ => Ok(State::Frozen),
        },
        Version::V2 => match (is_frozen(&dir)?, dir.read("cgroup.freeze")?.as_str()) {
            (true, _) => Ok(State::Frozen),
            (false, "1") => Ok(State::Freezing),
            (false, _) => Ok(State::Thawed),
        },
    }
}

/// Stops all tasks and waits until they have. If they do not, all run again.
///
/// # Errors
/// `unable to freeze` after five seconds.
pub fn freeze(groups: &[Group]) -> Result<()> {
    let (version, dir) = freezer(groups)?;
    let frozen = match version {
        Version::V1 => freeze_v1(&dir),
        Version::V2 => freeze_v2(&dir),
    };
    if frozen.as_ref().is_ok_and(|f| *f) {
        return Ok(());
    }
    release(version, &dir)?;
    frozen?;
    Err(Error::refused(format!("unable to freeze {}", dir.path())).hint("a task does not react to signals"))
}

/// Lets all tasks go on.
///
/// # Errors
/// What the writing says.
pub fn thaw(groups: &[Group]) -> Result<()> {
    let (version, dir) = freezer(groups)?;
    release(version, &dir)
}

fn release(version: Version, dir: &Dir) -> Result<()> {
    match version {
        Version::V1 => dir.put("freezer.state", "THAWED"),
        Version::V2 => dir.put("cgroup.freeze", "0"),
    }
}

/// Version 1 can stay in FREEZING for ever when tasks fork meanwhile; writing the state again looks once more, and now and
/// then a short thaw lets a task that waits for a frozen one get past it.
fn freeze_v1(dir: &Dir) -> Result<bool> {
    let start = Instant::now();
    for round in 1u32.. {
        dir.put("freezer.state", "FROZEN")?;
        if dir.read("freezer.state")? == "FROZEN" {
            return Ok(true);
        }
        if start.elapsed() > PATIENCE {
            break;
        }
        if round % 50 == 0 {
            dir.put("freezer.state", "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        } else {
            std::thread::sleep(Duration::from_micros(if round < 10 { 20 } else { 500 }));
        }
    }
    Ok(false)
}

fn is_frozen(dir: &Dir) -> Result<bool> {
    Ok(dir.read("cgroup.events")?.lines().any(|l| l == "frozen 1"))
}

fn freeze_v2(dir: &Dir) -> Result<bool> {
    let events = Events::of(dir)?;
    dir.put("cgroup.freeze", "1")?;
    events.wait_for("frozen 1", PATIENCE)
}
