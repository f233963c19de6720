//! The kernel's names and the text files of /proc, read the same way inside a container (probe) and outside (runner).
//!
//! The runtime in this repository has lists of the same names. They are written down twice on purpose: the suite takes nothing
//! from any runtime, or a slip in a shared list would be right on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;
use std::{fs, io};

use serde_json::{Map, Value, json};

/// Capability names in the order of their numbers: capabilities(7).
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Resource names and numbers of getrlimit(2).
pub const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
];

/// System calls that seccomp cases name: harmless with small numbers for arguments.
const SYSCALLS: [(&str, i64); 19] = [
    ("getcwd", libc::SYS_getcwd),
    ("getpid", libc::SYS_getpid),
    ("getppid", libc::SYS_getppid),
    ("getuid", libc::SYS_getuid),
    ("geteuid", libc::SYS_geteuid),
    ("getgid", libc::SYS_getgid),
    ("getegid", libc::SYS_getegid),
    ("gettid", libc::SYS_gettid),
    ("getpgid", libc::SYS_getpgid),
    ("getsid", libc::SYS_getsid),
    ("getpriority", libc::SYS_getpriority),
    ("setpriority", libc::SYS_setpriority),
    ("personality", libc::SYS_personality),
    ("umask", libc::SYS_umask),
    ("sync", libc::SYS_sync),
    ("sched_yield", libc::SYS_sched_yield),
    ("unshare", libc::SYS_unshare),
    ("socket", libc::SYS_socket),
    ("keyctl", libc::SYS_keyctl),
];

/// The number of a system call that [`SYSCALLS`] names.
pub fn syscall_number(name: &str) -> Option<i64> {
    SYSCALLS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
}

/// `ENOENT` and the like for an error of the kernel, or the error's own words.
pub fn errno_name(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |n| format!("{:?}", nix::errno::Errno::from_raw(n)))
}

/// The namespaces of a process (`self` or a pid) as `{"pid": "pid:[…]"}`; `network` and `mount` carry the specification's names.
pub fn namespaces(pid: &str) -> Value {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let read = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let entries = names.iter().filter_map(|n| {
        let spec = match *n {
            "mnt" => "mount",
            "net" => "network",
            other => other,
        };
        Some((spec.to_owned(), json!(read(n)?)))
    });
    Value::Object(entries.collect())
}

/// The mounts of a process by mount point; of several on one point, the topmost. See proc_pid_mountinfo(5).
pub fn mounts(pid: &str) -> Value {
    Value::Object(mount_rows(pid).into_iter().collect::<Map<_, _>>())
}

/// Mount points in the order in which they were made, as mountinfo lists them.
pub fn mount_order(pid: &str) -> Vec<String> {
    mount_rows(pid).into_iter().map(|(path, _)| path).collect()
}

fn mount_rows(pid: &str) -> Vec<(String, Value)> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(mount_row).collect()
}

fn mount_row(line: &str) -> Option<(String, Value)> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let options: Vec<&str> = left.get(5)?.split(',').collect();
    let tags: Vec<&str> = left.get(6..)?.iter().filter_map(|t| t.split(':').next()).filter(|t| !t.is_empty()).collect();
    let mut map = Map::new();
    map.insert("id".into(), json!(left[0]));
    map.insert("root".into(), json!(unescape(left.get(3)?)));
    map.insert("options".into(), json!(options));
    map.insert("propagation".into(), json!(tags));
    map.insert("type".into(), json!(right.first()?));
    map.insert("source".into(), json!(right.get(1).map(|s| unescape(s))));
    map.insert("super".into(), json!(right.get(2).map(|s| s.split(',').collect::<Vec<_>>())));
    Some((unescape(left.get(4)?), Value::Object(map)))
}

/// Undoes the octal escapes of mountinfo: `\040` is a blank.
fn unescape(word: &str) -> String {
    let mut out = word.to_owned();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, plain);
    }
    out
}

/// The cgroup of a process in each hierarchy: controller (or `name=…`, or `unified` for cgroup v2) → path.
pub fn cgroups(pid: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut map = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            map.insert("unified".to_owned(), path.to_owned());
        }
        for controller in controllers.split(',').filter(|c| !c.is_empty()) {
            map.insert(controller.to_owned(), path.to_owned());
        }
    }
    map
}

/// Where each cgroup hierarchy is mounted here: controller (or `unified`) → directory.
pub fn cgroup_mounts() -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    let known = cgroups("self");
    for (path, row) in mount_rows("self") {
        match row["type"].as_str() {
            Some("cgroup2") => drop(map.insert("unified".to_owned(), path)),
            Some("cgroup") => {
                for option in row["super"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if known.contains_key(option) {
                        map.insert(option.to_owned(), path.clone());
                    }
                }
            }
            _ => {}
        }
    }
    map
}

/// All processes of the pid namespace whose /proc this is.
pub fn processes() -> BTreeSet<u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// `c`, `b`, `p`, `f`, `d`, `l` or `s` for the type bits of a mode.
pub fn file_type(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFCHR => "c",
        libc::S_IFBLK => "b",
        libc::S_IFIFO => "p",
        libc::S_IFDIR => "d",
        libc::S_IFLNK => "l",
        libc::S_IFSOCK => "s",
        _ => "f",
    }
}

/// What lies directly in a directory, each entry with type, mode, owner, device number and link target.
pub fn listing(dir: &str) -> Value {
    let Ok(entries) = fs::read_dir(dir) else { return Value::Null };
    let one = |path: &Path| {
        let m = fs::symlink_metadata(path).ok()?;
        Some(json!({
            "type": file_type(m.st_mode()), "mode": format!("{:04o}", m.st_mode() & 0o7777), "uid": m.st_uid(), "gid": m.st_gid(),
            "major": nix::sys::stat::major(m.st_rdev()), "minor": nix::sys::stat::minor(m.st_rdev()),
            "link": fs::read_link(path).ok(),
        }))
    };
    let rows = entries.flatten().filter_map(|e| Some((e.path().to_string_lossy().into_owned(), one(&e.path())?)));
    Value::Object(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_gives_flags_and_propagation() {
        let line = r"36 35 98:0 /a\040b /mnt rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue";
        let (path, row) = mount_row(line).unwrap();
        assert_eq!(path, "/mnt");
        assert_eq!(row["root"], "/a b");
        assert_eq!(row["options"], json!(["rw", "noatime"]));
        assert_eq!(row["propagation"], json!(["shared", "master"]));
        assert_eq!(row["super"], json!(["rw", "errors=continue"]));
    }

    #[test]
    fn errors_carry_the_kernels_names() {
        assert_eq!(errno_name(&io::Error::from_raw_os_error(libc::EPERM)), "EPERM");
    }
}
