//! What /proc tells of another process. Whoever needs the answer to be that process's holds a pidfd of it.

use crate::compile::namespaces::proc_name;
use std::ffi::CString;

use crate::op::Kind;
use crate::sys::{fs, process};

/// State letter and start time, in clock ticks since boot (proc_pid_stat(5), fields 3 and 22); `None` where there is no such
/// process.
///
/// # Errors
/// What the system says otherwise: for want of descriptors nobody is dead.
pub fn stat(pid: i32) -> std::io::Result<Option<(u8, u64)>> {
    let mut buf = [0; 1024];
    let path = CString::new(format!("/proc/{pid}/stat")).unwrap_or_default();
    match fs::read_small(&path, &mut buf) {
        Ok(n) => Ok(fields(&buf[..n])),
        Err(f) if matches!(f.errno, libc::ENOENT | libc::ESRCH) => Ok(None),
        Err(f) => Err(f.into()),
    }
}

fn fields(text: &[u8]) -> Option<(u8, u64)> {
    // The name of the program is in parentheses and may hold any character.
    let after = &text[text.iter().rposition(|b| *b == b')')? + 1..];
    let fields = std::str::from_utf8(after).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// CLONE_NEW… flags of the namespaces that a process does not share with the caller.
///
/// # Errors
/// The process is gone, or hides them from the caller.
pub fn other_namespaces(pid: i32) -> std::io::Result<u64> {
    let kinds = [Kind::User, Kind::Pid, Kind::Network, Kind::Mount, Kind::Ipc, Kind::Uts, Kind::Cgroup, Kind::Time];
    let mut others = 0;
    for kind in kinds {
        // A kernel without this kind has no such link.
        let Ok(ours) = std::fs::read_link(format!("/proc/self/ns/{}", proc_name(kind))) else { continue };
        if std::fs::read_link(format!("/proc/{pid}/ns/{}", proc_name(kind)))? != ours {
            others |= kind.flag();
        }
    }
    Ok(others)
}

/// Every process that shares the pid namespace of one, that one among them, as pids of the caller's namespace, ascending:
/// what can be known of a container without a cgroup. Nobody where that namespace is the caller's own.
pub fn in_pid_namespace_of(pid: i32) -> Vec<i32> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(theirs) = namespace(&pid.to_string()).filter(|ns| namespace("self").as_ref() != Some(ns)) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut pids: Vec<i32> =
        names.filter(|name| namespace(name).as_ref() == Some(&theirs)).filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// Whether setgroups(2) is denied in the user namespace of a process: a pid, or `self`.
pub fn denies_setgroups(pid: impl std::fmt::Display) -> bool {
    std::fs::read(format!("/proc/{pid}/setgroups")).is_ok_and(|text| text.starts_with(b"deny"))
}

/// The cgroup v2 that a process is in, without the leading slash.
pub fn unified_cgroup(pid: i32) -> Option<String> {
    let path = CString::new(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let text = String::from_utf8(fs::read_whole_small(&path, 64 << 10).ok()?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned)
}

/// Whether this process is in a user namespace other than the host's own, which has a fixed inode number (PROC_USER_INIT_INO,
/// linux/proc_ns.h).
pub fn in_user_namespace() -> bool {
    fs::inode(c"/proc/self/ns/user").is_ok_and(|inode| inode != 0xEFFF_FFFD)
}

/// The effective user id as the user namespace above numbers it: that of the user who started a namespace of his own.
pub fn outer_uid() -> u32 {
    let (uid, _) = process::effective_ids();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outer(&map, uid).unwrap_or(uid)
}

/// By user_namespaces(7): first id inside, first id outside, how many.
fn outer(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
        let (inside, outside, many) = (numbers.next()??, numbers.next()??, numbers.next()??);
        outside.checked_add(uid.checked_sub(inside).filter(|n| *n < many)?)
    })
}

#[cfg(test)]
mod tests {
    use super::outer;

    #[test]
    fn ids_are_followed_outwards() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!((outer(map, 0), outer(map, 5), outer(map, 70000)), (Some(1000), Some(100_004), None));
        assert_eq!(outer("0 0 4294967295\n", 7), Some(7));
    }
}
