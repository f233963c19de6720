//! The host's cgroup hierarchies, found by fixed names: on a host with a thousand mounts, mountinfo takes longer to read
//! than a container to start.

use std::ffi::CString;

use super::{Error, Result};
use crate::facts::{Cgroups, Hierarchy, Unified};
use crate::sys::fs;

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h)
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// `TMPFS_MAGIC` (linux/magic.h)
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// Where every distribution mounts them.
const ROOT: &str = "/sys/fs/cgroup";
/// `CGROUP_SUPER_MAGIC` (linux/magic.h)
const CGROUP_SUPER_MAGIC: i64 = 0x0027_e0eb;

/// Probes /sys/fs/cgroup and /proc/self/cgroup.
///
/// # Errors
/// An unreadable /proc/self/cgroup, or no cgroup filesystem at /sys/fs/cgroup.
pub fn probe() -> Result<Cgroups> {
    let own = read("/proc/self/cgroup")
        .map_err(|e| Error::call("read /proc/self/cgroup", nix::errno::Errno::from_raw(e.errno)))?;
    let facts = match magic(ROOT) {
        Some(CGROUP2_SUPER_MAGIC) => Cgroups { v1: Vec::new(), v2: unified(ROOT, &own)? },
        Some(TMPFS_MAGIC) => {
            // Of the filesystems there, only one of version 2 has that file.
            let unified = unified(&format!("{ROOT}/unified"), &own)?;
            Cgroups { v1: own.lines().filter_map(hierarchy).collect(), v2: unified }
        }
        _ => Cgroups::default(),
    };
    if facts == Cgroups::default() {
        return Err(Error::refused(format!("no cgroup filesystem is mounted at {ROOT}")));
    }
    Ok(facts)
}

fn magic(path: &str) -> Option<i64> {
    fs::filesystem_at(&CString::new(path).ok()?)
}

fn read(path: &str) -> crate::sys::Result<String> {
    let text = fs::read_whole_small(&CString::new(path).unwrap_or_default(), 8192)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A hierarchy that cannot be read for want of something is not one that is missing: the container would not be in it.
fn unified(mount: &str, own: &str) -> Result<Option<Unified>> {
    let Some(own) = own.lines().find_map(|l| l.strip_prefix("0::")) else { return Ok(None) };
    let file = format!("{mount}/cgroup.controllers");
    let controllers = match read(&file) {
        Err(f) if matches!(f.errno, libc::ENOENT | libc::ENOTDIR) => return Ok(None),
        text => text.map_err(|f| Error::call(format!("read {file}"), nix::errno::Errno::from_raw(f.errno)))?,
    };
    let controllers = controllers.split_whitespace().map(str::to_owned).collect();
    Ok(Some(Unified { mount: mount.to_owned(), controllers, own: own.to_owned() }))
}

/// A line of /proc/self/cgroup, `4:cpu,cpuacct:/path`, and the directory of that name; the names of a hierarchy can stand
/// there in another order, or as symbolic links to it.
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let mut parts = line.splitn(3, ':');
    let (_, names, own) = (parts.next()?, parts.next()?, parts.next()?);
    let controllers: Vec<String> = names.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
    let first = controllers.first()?;
    let swapped = controllers.iter().rev().cloned().collect::<Vec<_>>().join(",");
    let mut candidates =
        [names, &swapped, first].map(|name| format!("{ROOT}/{}", name.trim_start_matches("name="))).to_vec();
    candidates.dedup();
    let mount = candidates.into_iter().find(|dir| magic(dir) == Some(CGROUP_SUPER_MAGIC))?;
    Some(Hierarchy { mount, controllers, own: own.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_probed_is_what_the_kernel_mounted() {
        let facts = probe().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for mount in facts.v1.iter().map(|h| &h.mount).chain(facts.v2.iter().map(|u| &u.mount)) {
            assert!(mounts.lines().any(|l| l.split(' ').nth(4) == Some(mount)), "{mount}");
        }
        assert_eq!(hierarchy("3:nonesuch:/"), None);
        assert_eq!(hierarchy("0::/"), None);
    }
}
