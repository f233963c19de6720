//! `linux.sysctl`: only what a namespace of the container's own keeps from the host.

use super::{namespaces, no_nul};
use crate::error::Problems;
use crate::field::Field;
use crate::spec::Linux;

/// What an IPC namespace has of its own in `kernel`: ipc_namespaces(7).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// The file below `/proc/sys` of a parameter, by the rule of sysctl(8): the separator that comes first is the
/// separator, and the other one is part of a name.
///
/// ```
/// use tare::validate::sysctl::path;
/// assert_eq!(path("net.ipv4.ip_forward").as_deref(), Ok("net/ipv4/ip_forward"));
/// assert_eq!(path("net.ipv4.conf.eth0/100.forwarding").as_deref(), Ok("net/ipv4/conf/eth0.100/forwarding"));
/// assert_eq!(path("net/ipv4/conf/eth0.100/forwarding").as_deref(), Ok("net/ipv4/conf/eth0.100/forwarding"));
/// assert!(path("net/../kernel/core_pattern").is_err());
/// ```
///
/// # Errors
///
/// Why it is no name, as the text of a problem.
pub fn path(name: &str) -> Result<String, &'static str> {
    let dotted = name.find(['.', '/']).is_some_and(|i| name.as_bytes().get(i) == Some(&b'.'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = if dotted { name.chars().map(swap).collect() } else { name.to_owned() };
    if path.split('/').count() < 2 {
        return Err("is no name of a kernel parameter: it has one part only");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("is no name of a kernel parameter: it has an empty part, `.` or `..`");
    }
    if path.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("is no name of a kernel parameter: it holds a blank or a control character");
    }
    Ok(path)
}

/// The namespace type that a parameter belongs to.
fn namespace(path: &str) -> Option<&'static str> {
    match path {
        "kernel/domainname" => Some("uts"),
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Some("ipc"),
        _ if path.starts_with("net/") => Some("network"),
        // Bounds on how many namespaces and the like may be made below a user namespace: namespaces(7).
        _ if path.starts_with("user/max_") => Some("user"),
        _ => None,
    }
}

pub(super) fn check(linux: &Linux<'_>, problems: &mut Problems) {
    let field = |name: &str| Field::new("linux.sysctl").key(name);
    let mut seen: Vec<(String, &str)> = Vec::new();
    for (name, value) in &linux.sysctl {
        no_nul(value, || field(name), problems);
        let path = match path(name) {
            Ok(path) => path,
            Err(text) => {
                problems.error(field(name), text);
                continue;
            }
        };
        match namespace(&path) {
            _ if path == "kernel/hostname" => {
                problems.error_hint(field(name), "is set by the property `hostname`", "use that");
            }
            None => problems.error(field(name), "belongs to no namespace: it would change the host"),
            Some(kind) if namespaces::of(linux, kind).is_none() => {
                problems.error(field(name), namespaces::lacking(kind));
            }
            Some(_) => {}
        }
        match seen.binary_search_by(|(other, _)| other.cmp(&path)) {
            Ok(i) => problems.error(field(name), format!("is the same parameter as {:?}", seen[i].1)),
            Err(i) => seen.insert(i, (path, &**name)),
        }
    }
}
