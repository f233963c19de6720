//! What a host must have for a case to mean anything. Each need is one word, `kind:detail`.
//!
//! | need | holds when |
//! | --- | --- |
//! | `cap:NAME` | this process has the capability |
//! | `no-cap:NAME`, `no-lsm:NAME` | it has not; the security module is not active |
//! | `cgroup1:CONTROLLER` | the controller is mounted as cgroup v1 |
//! | `cgroup2:CONTROLLER` | it is available in a mounted cgroup v2 hierarchy |
//! | `cgroup-file:CONTROLLER/FILE` | the file is in the hierarchy's root or any first-level group |
//! | `no-cgroup-file:CONTROLLER/FILE` | it is not |
//! | `no-cgroup1:…`, `no-cgroup2:…` | the hierarchy lacks the controller |
//! | `block-device` | the host has a disk; `${BLOCK:major}` and `${BLOCK:minor}` name it |
//! | `host-or-image:PATH` | a path of /proc or /sys exists here; other paths are the image's own |
//! | `ns:TYPE` | the kernel has namespaces of the type |
//! | `file:PATH`, `no-file:PATH` | the path exists, or not |
//! | `fs:TYPE` | /proc/filesystems lists it |
//! | `lsm:NAME` | the security module is active |
//! | `verb:NAME` | the runtime has the command, beyond those of the specification |
//! | `tool:NAME` | the program is in PATH |
//! | `cpus:N` | the host has at least N CPUs |
//! | `numa` | the kernel has memory policies |
//! | `kernel:X.Y` | the kernel is at least this old |
//! | `says:WORDS` | the runtime's features structure has this pointer |
//! | `claims:WORDS` | the same, the pointer written as words |

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::kernel;

/// Whether every need is met.
///
/// # Errors
/// The first need that is not, in words for a report.
pub(crate) fn all(needs: &[String], runtime: &[String]) -> Result<(), String> {
    needs.iter().try_for_each(|need| one(need, runtime))
}

fn one(need: &str, runtime: &[String]) -> Result<(), String> {
    let (kind, detail) = need.split_once(':').unwrap_or((need, ""));
    let (met, lacking) = match kind {
        "cap" => (capability(detail), format!("the suite runs without {detail}")),
        "no-cap" => (!capability(detail), format!("the suite runs with {detail}")),
        "no-lsm" => (!lsm(detail), format!("{detail} is active")),
        "cgroup1" => (
            kernel::cgroup_mounts().get(detail).is_some_and(|m| !v2(m)),
            format!("no cgroup v1 controller {detail} here"),
        ),
        "no-cgroup1" => (
            kernel::cgroup_mounts().get(detail).is_none_or(|m| v2(m)),
            format!("cgroup v1 has the controller {detail}"),
        ),
        "no-cgroup2" => (!controller_v2(detail), format!("cgroup v2 has the controller {detail}")),
        "cgroup2" => (controller_v2(detail), format!("no cgroup v2 controller {detail} here")),
        "cgroup-file" => (cgroup_file(detail), format!("this kernel has no {detail}")),
        "no-cgroup-file" => (!cgroup_file(detail), format!("this kernel has {detail}")),
        "ns" => (Path::new("/proc/self/ns").join(detail).exists(), format!("no {detail} namespaces in this kernel")),
        "block-device" => (block_device().is_some(), "no block device in /sys/block".to_owned()),
        "host-or-image" => (
            !(detail.starts_with("/proc") || detail.starts_with("/sys")) || Path::new(detail).exists(),
            format!("this kernel has no {detail}"),
        ),
        "file" => (Path::new(detail).exists(), format!("no {detail} here")),
        "no-file" => (!Path::new(detail).exists(), format!("{detail} is here")),
        "fs" => (lists("/proc/filesystems", detail), format!("no filesystem {detail} in this kernel")),
        "lsm" => (lsm(detail), format!("{detail} is not active")),
        "verb" => (verb(runtime, detail), format!("the runtime has no command {detail}")),
        "tool" => (tool(detail), format!("no program {detail}")),
        "cpus" => (
            std::thread::available_parallelism().is_ok_and(|n| detail.parse().is_ok_and(|d: usize| n.get() >= d)),
            format!("fewer than {detail} CPUs"),
        ),
        "numa" => (crate::sys::memory_policy().is_ok(), "no memory policies in this kernel".to_owned()),
        "kernel" => (kernel_at_least(detail), format!("the kernel is older than {detail}")),
        "claims" => {
            (says(runtime, &format!("/{}", detail.replace(' ', "/"))), format!("the runtime does not claim {detail}"))
        }
        "says" => (says(runtime, detail), format!("the runtime does not claim {detail}")),
        _ => (false, format!("unknown need {need}")),
    };
    if met { Ok(()) } else { Err(lacking) }
}

/// Major and minor number of some whole disk of this host that the block layer knows.
pub(crate) fn block_device() -> Option<(u64, u64)> {
    let mut disks: Vec<_> = fs::read_dir("/sys/block").ok()?.flatten().collect();
    disks.sort_by_key(std::fs::DirEntry::file_name);
    let numbers = |e: &fs::DirEntry| {
        let text = fs::read_to_string(e.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    disks.iter().filter(|e| !e.file_name().to_string_lossy().starts_with("ram")).find_map(numbers)
}

/// Whether the runtime can explain a command.
fn verb(runtime: &[String], name: &str) -> bool {
    let Some((program, first)) = runtime.split_first() else { return false };
    let out = Command::new(program).args(first).args([name, "--help"]).output();
    out.is_ok_and(|out| out.status.success())
}

fn v2(mount: &str) -> bool {
    Path::new(mount).join("cgroup.controllers").exists() || Path::new(mount).join("cgroup.subtree_control").exists()
}

fn controller_v2(name: &str) -> bool {
    kernel::cgroup_mounts().get("unified").is_some_and(|m| {
        name == "core"
            || fs::read_to_string(Path::new(m).join("cgroup.controllers"))
                .is_ok_and(|t| t.split_whitespace().any(|w| w == name))
    })
}

fn cgroup_file(detail: &str) -> bool {
    let Some((controller, file)) = detail.split_once('/') else { return false };
    kernel::cgroup_mounts().get(controller).is_some_and(|mount| {
        Path::new(mount).join(file).exists()
            || fs::read_dir(mount).is_ok_and(|mut d| d.any(|e| e.is_ok_and(|e| e.path().join(file).exists())))
    })
}

fn capability(name: &str) -> bool {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or_default();
    let bits = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
    kernel::CAPABILITIES.iter().position(|c| *c == name).is_some_and(|i| bits >> i & 1 == 1)
}

fn lists(path: &str, word: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|t| t.split_whitespace().any(|w| w == word))
}

fn lsm(name: &str) -> bool {
    let list = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    list.split(',').any(|l| l.trim() == name) || (name == "selinux" && Path::new("/sys/fs/selinux/enforce").exists())
}

fn tool(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(name).exists()))
}

fn kernel_at_least(version: &str) -> bool {
    let Ok(uname) = nix::sys::utsname::uname() else { return false };
    numbers(&uname.release().to_string_lossy()) >= numbers(version)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).take(2).filter_map(|n| n.parse().ok()).collect()
}

fn says(runtime: &[String], pointer: &str) -> bool {
    let Some((program, first)) = runtime.split_first() else { return false };
    let Ok(out) = Command::new(program).args(first).arg("features").output() else { return false };
    let features: Value = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
    features.pointer(pointer).is_some_and(|v| !v.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unmet_or_unknown_need_is_a_reason() {
        assert_eq!(all(&["file:/no/such".into()], &[]), Err("no /no/such here".into()));
        assert_eq!(all(&["nonsense".into()], &[]), Err("unknown need nonsense".into()));
        assert_eq!(all(&["file:/".into(), "kernel:2.6".into()], &[]), Ok(()));
    }
}
