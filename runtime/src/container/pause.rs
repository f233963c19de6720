//! `pause` and `resume`: all of a container's tasks stand still, and go on.

use std::path::Path;

use super::{Error, Result, Status, status};
use crate::run::cgroup::freeze;
use crate::{state, undo};

/// Stops every task of a container. A pause that is killed half-way leaves a paused container, which can be resumed.
///
/// # Errors
/// `container not running`; a container without a cgroup that freezes; a task that does not stop.
#[inline(never)]
pub fn pause(root: &Path, id: &str) -> Result<()> {
    let dir = state::open(root, id)?;
    dir.lock()?;
    match status(&dir) {
        (Some(record), Status::Created | Status::Running) => Ok(freeze::freeze(&undo::groups(&record.undo))?),
        (_, Status::Paused) => Err(Error::new(format!("{id}: is paused already: container not running"))),
        _ => Err(Error::new(format!("{id}: container not running"))),
    }
}

/// Lets every task of a paused container go on.
///
/// # Errors
/// `container not paused`.
#[inline(never)]
pub fn resume(root: &Path, id: &str) -> Result<()> {
    let dir = state::open(root, id)?;
    dir.lock()?;
    match status(&dir) {
        (Some(record), Status::Paused) => Ok(freeze::thaw(&undo::groups(&record.undo))?),
        (_, now) => Err(Error::new(format!("{id}: is {now}: container not paused"))),
    }
}
