//! The container's control group as a supervisor sees it: which processes, which counters, which notifications.
//!
//! Where the kernel mounts cgroup v2 at `/sys/fs/cgroup`, that is the one hierarchy; else every v1 controller has a directory
//! of its own name there (a hybrid host counts as v1).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

const MOUNT: &str = "/sys/fs/cgroup";
/// Nesting below a container's own group that is followed.
const DEPTH: usize = 16;

/// Where a container's processes are accounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// The directory in the one hierarchy.
    V2(PathBuf),
    /// Controller to directory.
    V1(BTreeMap<String, PathBuf>),
}

impl Cgroup {
    /// The group of a process.
    ///
    /// # Errors
    /// When the process is gone, or its group is the root, which is nobody's.
    pub fn of(pid: u32) -> io::Result<Cgroup> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let unified = statfs(MOUNT).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC);
        parse(&text, unified)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process is in no cgroup of its own"))
    }

    /// A file of a v1 controller, or the v2 directory's.
    #[must_use]
    pub fn file(&self, controller: &str, name: &str) -> Option<PathBuf> {
        match self {
            Cgroup::V2(dir) => Some(dir.join(name)),
            Cgroup::V1(dirs) => dirs.get(controller).map(|dir| dir.join(name)),
        }
    }

    /// All processes in the group and below it.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let dir = match self {
            Cgroup::V2(dir) => dir,
            Cgroup::V1(dirs) => {
                let known = ["pids", "memory", "devices", "cpu", "systemd"];
                let dir = known.iter().find_map(|c| dirs.get(*c)).or_else(|| dirs.values().next());
                dir.ok_or(io::ErrorKind::NotFound)?
            }
        };
        let mut pids = Vec::new();
        collect(dir, DEPTH, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}

fn collect(dir: &Path, depth: usize, pids: &mut Vec<u32>) -> io::Result<()> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
        // A threaded group refuses this file; its processes are listed above it.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(e) => return Err(e),
    }
    if depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // A group below may vanish at any moment; what it held is gone then.
            let _ = collect(&entry.path(), depth - 1, pids);
        }
    }
    Ok(())
}

/// Reads `/proc/PID/cgroup` (cgroups(7)).
fn parse(text: &str, unified: bool) -> Option<Cgroup> {
    let mut dirs = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let own = path != "/" && !path.ends_with(" (deleted)");
        if controllers.is_empty() {
            if unified && own {
                return Some(Cgroup::V2(Path::new(MOUNT).join(&path[1..])));
            }
            continue;
        }
        for controller in controllers.split(',').filter(|_| own && !unified) {
            let name = controller.strip_prefix("name=").unwrap_or(controller);
            dirs.insert(name.to_owned(), Path::new(MOUNT).join(name).join(&path[1..]));
        }
    }
    (!dirs.is_empty()).then_some(Cgroup::V1(dirs))
}

#[cfg(test)]
mod tests {
    use super::{Cgroup, parse};

    #[test]
    fn a_hybrid_host_is_v1() {
        let text = "5:cpu,cpuacct:/ctr/a\n3:name=systemd:/ctr/a\n2:memory:/\n0::/ctr/a\n";
        let Some(cgroup @ Cgroup::V1(_)) = parse(text, false) else { panic!("not v1") };
        assert_eq!(cgroup.file("cpuacct", "x").unwrap().to_str(), Some("/sys/fs/cgroup/cpuacct/ctr/a/x"));
        assert_eq!(cgroup.file("systemd", "x").unwrap().to_str(), Some("/sys/fs/cgroup/systemd/ctr/a/x"));
        assert_eq!(cgroup.file("memory", "x"), None, "the root group is not the container's");
    }

    #[test]
    fn a_unified_host_is_v2() {
        let cgroup = parse("0::/system.slice/a:b.scope\n", true).unwrap();
        assert_eq!(cgroup.file("any", "f").unwrap().to_str(), Some("/sys/fs/cgroup/system.slice/a:b.scope/f"));
        assert_eq!(parse("0::/\n", true), None);
        assert_eq!(parse("0::/gone (deleted)\n", true), None);
    }
}
