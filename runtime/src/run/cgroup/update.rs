//! Changing limits that are in force: all of them, or none.

use std::borrow::Cow;

use super::fs::{self, Dir};
use super::{Error, Result};
use crate::compile::cgroup::{Groups, OnErr, Write};

/// What a file held before it was written to, as it is written back.
struct Before {
    dir: String,
    file: String,
    value: String,
}

/// Makes the checks, then the writes, in their order.
///
/// # Errors
/// `rejecting memory limit …`, before anything was written; else what the write that failed says. What was written before
/// is put back then; what cannot be, is named.
pub fn apply(change: &Groups) -> Result<Applied> {
    for check in &change.checks {
        fs::check(&change.groups[check.group], check)?;
    }
    let mut done = Vec::new();
    for write in &change.writes {
        let dir = Dir::open(&change.groups[write.group].dir())?;
        let before = files(write).filter_map(|(file, value)| before(&dir, file, value));
        done.extend(before);
        if let Err(error) = dir.write(write) {
            return Err(put_back(&done, error));
        }
    }
    Ok(Applied(done))
}

/// A change that was made, and can be taken back.
pub struct Applied(Vec<Before>);

impl Applied {
    /// Takes the change back, for a reason of the caller's, which is answered; what cannot be put back is named with it.
    pub fn revert(self, why: impl Into<String>) -> Error {
        put_back(&self.0, Error::refused(why))
    }
}

/// The file that is written, and the one that takes its place where that is missing.
fn files(write: &Write) -> impl Iterator<Item = (&str, &str)> {
    let other = match &write.on_err {
        OnErr::Else(_, file, value) => Some((&**file, value.as_str())),
        _ => None,
    };
    std::iter::once((&*write.file, write.value.as_str())).chain(other)
}

/// Files with a line for each device or interface take one line at a time; the part after the key that means no limit.
fn no_limit(file: &str, value: &str) -> Option<&'static str> {
    match file {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        "net_prio.ifpriomap" => Some("0"),
        "io.weight" | "io.bfq.weight" if value.contains(':') => Some("default"),
        _ if file.starts_with("blkio.throttle.") || file.ends_with("_device") => Some("0"),
        _ => None,
    }
}

/// `None` for a file that cannot be read: there is nothing to put back.
fn before(dir: &Dir, file: &str, value: &str) -> Option<Before> {
    let text = dir.read(file).ok()?;
    let value = match no_limit(file, value) {
        None if text.is_empty() => Cow::Borrowed("\n"),
        None => Cow::Owned(text),
        Some(no_limit) => {
            let key = value.split_whitespace().next()?;
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
            Cow::Owned(line.map_or_else(|| format!("{key} {no_limit}"), str::to_owned))
        }
    };
    Some(Before { dir: dir.path().to_owned(), file: file.to_owned(), value: value.into_owned() })
}

/// Backwards. What one file could not take because of another may be taken once that is back, so it is tried twice.
fn put_back(done: &[Before], error: Error) -> Error {
    let again = |b: &Before| Dir::open(&b.dir).and_then(|dir| dir.put(&b.file, &b.value));
    for before in done.iter().rev() {
        let _ = again(before);
    }
    let lost: Vec<_> = done.iter().rev().filter(|b| again(b).is_err()).map(|b| b.file.as_str()).collect();
    if lost.is_empty() { error } else { error.hint(format!("and could not put back: {}", lost.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str, files: &[(&str, &str)]) -> (std::path::PathBuf, Dir) {
        let path = std::env::temp_dir().join(format!("tare-update-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        let dir = Dir::open(path.to_str().unwrap()).unwrap();
        (path, dir)
    }

    #[test]
    fn what_was_is_written_as_the_file_takes_it() {
        let held = [
            ("cpu.max", "100 1000\n"),
            ("cpuset.cpus", "\n"),
            ("io.max", "8:0 rbps=1 wbps=max riops=max wiops=max\n"),
            ("blkio.throttle.read_bps_device", "8:0 5\n8:16 7\n"),
        ];
        let (path, dir) = dir("was", &held);
        let was = |file, value| before(&dir, file, value).map(|b| b.value);
        assert_eq!(was("cpu.max", "5 5").unwrap(), "100 1000");
        assert_eq!(was("cpuset.cpus", "0").unwrap(), "\n");
        assert_eq!(was("io.max", "8:0 rbps=9").unwrap(), "8:0 rbps=1 wbps=max riops=max wiops=max");
        assert_eq!(was("io.max", "8:1 rbps=9").unwrap(), "8:1 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(was("blkio.throttle.read_bps_device", "8:16 9").unwrap(), "8:16 7");
        assert_eq!(was("blkio.throttle.read_bps_device", "8:32 9").unwrap(), "8:32 0");
        assert!(was("memory.reclaim", "1").is_none());
        std::fs::remove_dir_all(path).unwrap();
    }
}
