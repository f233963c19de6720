//! Making a cgroup, with every parent that is missing.

use std::ffi::CString;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use super::fs::Dir;
use super::kill::is_empty;
use super::{Error, Result};
use crate::compile::cgroup::{Group, Version};
use crate::sys::fs::{exists, read_whole_small};

/// What [`make`] has made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Directories that did not exist before, parents first.
    pub dirs: Vec<String>,
    /// The cgroup could not be made and need not be ([`Group::optional`]): nothing is to be written or entered there.
    pub skipped: bool,
}

/// The directories that [`make`] would make now, parents first: what the journal holds before the first of them is made.
pub fn missing(group: &Group) -> Vec<String> {
    let mut path = group.mount.clone();
    let mut dirs = Vec::new();
    for name in group.path.split('/') {
        path = format!("{path}/{name}");
        if !dirs.is_empty() || !exists(&CString::new(&*path).unwrap_or_default()) {
            dirs.push(path.clone());
        }
    }
    dirs
}

/// Makes a cgroup and readies it for processes: version 2 controllers enabled in every parent, version 1 cpus and memory
/// nodes taken over from the parent.
///
/// # Errors
/// `container's cgroup is not empty` and `container's cgroup unexpectedly frozen` for one that exists and is unfit; a
/// controller that a limit needs and that cannot be enabled; what mkdir(2) says. What was made until then is removed.
pub fn make(group: &Group) -> Result<Made> {
    // The ordinary case, in one call: where nothing is to be enabled on the way, what was just made is empty and fit.
    let cpuset = group.version == Version::V1 && group.controllers.iter().any(|c| c == "cpuset");
    if group.enable.is_empty() && group.need.is_empty() && (!cpuset || !group.path.contains('/')) {
        let dir = group.dir();
        if nix::unistd::mkdir(dir.as_str(), Mode::from_bits_truncate(0o755)).is_ok() {
            let made = Made { dirs: vec![dir], skipped: false };
            if cpuset && let Err(error) = hand_down(group) {
                let _ = std::fs::remove_dir(group.dir());
                return Err(error);
            }
            return Ok(made);
        }
    }
    if group.optional && is_foreign(group) {
        return Ok(Made { dirs: Vec::new(), skipped: true });
    }
    let mut made = Made::default();
    let done = descend(group, &mut made).and_then(|(dir, existed)| fit(group, &dir, existed));
    let Err(error) = done else { return Ok(made) };
    for dir in made.dirs.drain(..).rev() {
        // The error that is being reported matters more than one of its undoing.
        let _ = std::fs::remove_dir(dir);
    }
    let denied = matches!(error.errno, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ENOENT));
    if group.optional && denied {
        return Ok(Made { dirs: Vec::new(), skipped: true });
    }
    Err(error)
}

/// Whether the cgroup is there and not the caller's to put processes in.
fn is_foreign(group: &Group) -> bool {
    Dir::open(&group.dir()).is_ok_and(|dir| !dir.is_mine())
}

/// Readies a cgroup that systemd has made, with init in it: controllers that systemd does not know of are enabled on the way.
///
/// # Errors
/// A controller that a limit needs and that cannot be enabled.
pub fn adopt(group: &Group) -> Result<()> {
    descend(group, &mut Made::default()).map(drop)
}

/// Goes down to the cgroup, making and enabling what is missing; answers whether it was there.
fn descend(group: &Group, made: &mut Made) -> Result<(Dir, bool)> {
    let mut dir = Dir::open(&group.mount)?;
    let mut existed = true;
    let mut can = group.enable.clone();
    for name in group.path.split('/') {
        if group.version == Version::V2 {
            enable(&dir, group, &mut can)?;
        }
        existed = match mkdirat(&dir, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => false,
            Err(Errno::EEXIST) => true,
            Err(e) => return Err(explain(Error::call(format!("make cgroup {}/{name}", dir.path()), e))),
        };
        if !existed {
            made.dirs.push(format!("{}/{name}", dir.path()));
        }
        let child = dir.child(name)?;
        if group.controllers.iter().any(|c| c == "cpuset") && group.version == Version::V1 {
            inherit(&dir, &child)?;
        }
        dir = child;
    }
    Ok((dir, existed))
}

/// What is known to be behind an errno of a process that was to start in a version 2 cgroup (clone3(2), `CLONE_INTO_CGROUP`).
pub fn enter_hint(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EBUSY => {
            "its cgroup passes controllers on (cgroup.subtree_control), and such a one can hold no processes"
        }
        libc::EOPNOTSUPP => {
            "its cgroup is threaded or below one that is (cgroup.type), and such a one can hold no processes"
        }
        libc::EACCES => "that cgroup, or the nearest above both it and the runtime's own, is not delegated to you",
        libc::ENODEV => "its cgroup was removed meanwhile",
        libc::EAGAIN => "a limit of the number of tasks is reached (pids.max of its cgroup or of one above)",
        _ => return None,
    })
}

fn explain(error: Error) -> Error {
    match error.errno {
        Some(Errno::EAGAIN) => error.hint("a limit of the number of cgroups is reached (cgroup.max.descendants)"),
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => error.hint("the cgroup above it is not delegated to you"),
        _ => error,
    }
}

/// Whether a container may start in this cgroup.
fn fit(group: &Group, dir: &Dir, existed: bool) -> Result<()> {
    if existed && group.version == Version::V2 {
        let kind = dir.read("cgroup.type")?;
        if kind != "domain" {
            let error = Error::refused(format!("no container can start in {}: cgroup.type is \"{kind}\"", dir.path()));
            return Err(error
                .hint("a threaded cgroup, and one below or with threaded ones, is not made for processes of its own"));
        }
    }
    if existed && !is_empty(dir.path())? {
        return Err(Error::refused(format!("container's cgroup is not empty: {} holds processes", dir.path())));
    }
    let frozen = match group.version {
        Version::V2 => dir.read("cgroup.events")?.lines().any(|l| l == "frozen 1"),
        Version::V1 if group.controllers.iter().any(|c| c == "freezer") => dir.read("freezer.state")? != "THAWED",
        Version::V1 => false,
    };
    match frozen {
        true => Err(Error::refused(format!("container's cgroup unexpectedly frozen: {}", dir.path()))),
        false => Ok(()),
    }
}

/// [`inherit`], of a cpuset that was just made and is known to be empty.
fn hand_down(group: &Group) -> Result<()> {
    ["cpuset.cpus", "cpuset.mems"].into_iter().try_for_each(|file| {
        let [from, to] = [&group.mount, &group.dir()].map(|dir| format!("{dir}/{file}"));
        let value = read_whole_small(&CString::new(&*from).unwrap_or_default(), 4096);
        let value = value.map_err(|f| Error::call(format!("read {from}"), Errno::from_raw(f.errno)))?;
        let file = nix::fcntl::open(&*to, OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        let written = file.and_then(|file| nix::unistd::write(&file, &value));
        written.map(drop).map_err(|e| Error::call(format!("write to {to}"), e))
    })
}

/// A new version 1 cpuset is empty, and no task can enter an empty one.
fn inherit(parent: &Dir, child: &Dir) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if child.read(file)?.is_empty() {
            child.put(file, &parent.read(file)?)?;
        }
    }
    Ok(())
}

/// Enables the wanted controllers for the children of `dir`; those that fail without need are wanted no more further down.
fn enable(dir: &Dir, group: &Group, can: &mut Vec<String>) -> Result<()> {
    let active = dir.read("cgroup.subtree_control")?;
    let lacks = |list: &str, c: &str| !list.split_whitespace().any(|a| a == c);
    if !can.iter().any(|c| lacks(&active, c)) {
        return Ok(());
    }
    let available = dir.read("cgroup.controllers")?;
    if let Some(controller) = group.need.iter().find(|c| lacks(&available, c)) {
        return Err(unable(dir, controller, Errno::ENOENT));
    }
    can.retain(|c| !lacks(&available, c));
    let mut lacking: Vec<String> = can.iter().filter(|c| lacks(&active, c)).cloned().collect();
    let line = lacking.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ");
    let Err(all) = dir.put("cgroup.subtree_control", &line) else { return Ok(()) };
    // All or nothing: find out which of them it was. A cgroup with processes takes some controllers, but becomes a threaded
    // one by that, which would harm whom it belongs to; so none is tried there.
    let busy = all.errno == Some(Errno::EBUSY);
    lacking.sort_by_key(|c| !group.need.contains(c));
    for controller in lacking {
        let answer = if busy { Err(all.clone()) } else { dir.put("cgroup.subtree_control", &format!("+{controller}")) };
        let Err(error) = answer else { continue };
        if group.need.contains(&controller) {
            return Err(unable(dir, &controller, error.errno.unwrap_or(Errno::EIO)));
        }
        can.retain(|c| *c != controller);
    }
    Ok(())
}

fn unable(dir: &Dir, controller: &str, errno: Errno) -> Error {
    let error = Error::call(format!("enable controller {controller:?} below {}", dir.path()), errno);
    let hint = match error.errno {
        Some(Errno::EBUSY) => "that cgroup holds processes of its own; only one without can pass controllers on",
        Some(Errno::EOPNOTSUPP) => "that cgroup is threaded, where this controller cannot be",
        Some(Errno::ENOENT) => "the cgroup above does not pass that controller on",
        Some(Errno::EACCES | Errno::EPERM) => "that cgroup is not delegated to you",
        _ => return error,
    };
    error.hint(hint)
}
