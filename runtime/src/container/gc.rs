//! `gc`: removes what is left of containers that nobody can delete any more, or need not.

use std::path::Path;

use super::{Result, destroy};
use crate::state::{self, Dir};

/// What was found, and what became of it.
#[derive(Debug)]
pub struct Found {
    /// The container.
    pub id: String,
    /// Why it is garbage.
    pub why: &'static str,
    /// What could not be removed of it.
    pub left: Option<String>,
}

/// Removes state directories whose containers were never wholly created, and those of another boot. A dry run removes
/// nothing. Containers that are being created, run, or have stopped in this boot are somebody's.
///
/// # Errors
/// The root cannot be read; one that does not exist holds nothing.
pub fn gc(root: &Path, dry_run: bool) -> Result<Vec<Found>> {
    let ids = match state::ids(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        ids => ids.map_err(|e| super::Error::new(format!("open {}: {}", root.display(), crate::sys::io_text(&e))))?,
    };
    let mut found = Vec::new();
    for id in ids {
        // One that goes meanwhile is no garbage any more, and a locked one is at work.
        let Ok(dir) = state::open(root, &id) else { continue };
        if dir.is_locked() {
            continue;
        }
        let Some(why) = garbage(&dir) else { continue };
        let left = if dry_run { None } else { sweep(&dir) };
        found.push(Found { id, why, left });
    }
    Ok(found)
}

fn garbage(dir: &Dir) -> Option<&'static str> {
    match dir.record() {
        None => Some("was never wholly created"),
        Some(record) if state::is_another_boot(&record.boot_id) => Some("is of another boot"),
        Some(_) => None,
    }
}

/// Looked at once more under the lock: it may have been finished meanwhile.
fn sweep(dir: &Dir) -> Option<String> {
    let swept = dir.lock().map_err(super::Error::from).and_then(|()| match garbage(dir) {
        Some(_) => destroy(dir, None, false),
        None => Ok(()),
    });
    swept.err().filter(|e| !e.missing).map(|e| e.message)
}
