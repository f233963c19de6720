//! Sentences of what failed in init's lane: what was tried, the kernel's own words, a hint, and last what engines match.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;

use crate::explain;
use crate::op::{EnterRoot, InitOp};
use crate::sys::{Call, Fault, errno_text};

fn text(s: &CStr) -> String {
    s.to_string_lossy().into_owned()
}

/// The sentence of a failure in init's lane. `said` is the kernel's own word on it, where it had one.
pub fn init(op: &InitOp, fault: Fault, said: &str) -> String {
    let reason = errno_text(fault.errno);
    let call = fault.call.name();
    match (op, fault.errno) {
        (InitOp::FindProgram(candidates), errno) => return program_failure(candidates, errno, &reason),
        (InitOp::Exec { args, .. }, _) => {
            return format!("exec {}: {reason}", args.first().map(|a| text(a)).unwrap_or_default());
        }
        (InitOp::Ambient(_), libc::EPERM) => return format!("can't raise ambient capability: {reason}"),
        (InitOp::ReadBack(_), _) => return format!("init is not what the config asks for ({call} says otherwise)"),
        _ => {}
    }
    let mut line = explain::init(op);
    let log = said.split_once(' ').map_or(said, |(_, log)| log).trim();
    if !log.is_empty() {
        let _ = write!(line, ": {log}");
    }
    if let Some(hint) = hint(op, fault) {
        let _ = write!(line, " (hint: {hint})");
    }
    let _ = write!(line, ": {call}: {reason}");
    line
}

fn program_failure(candidates: &[CString], errno: i32, reason: &str) -> String {
    match candidates {
        [path] => format!("exec {}: {reason}", text(path)),
        many => {
            let name = many.first().map(|c| text(c).rsplit('/').next().unwrap_or_default().to_owned());
            let reason = if errno == libc::ENOENT { "executable file not found in $PATH" } else { reason };
            format!("exec: {:?}: {reason}", name.unwrap_or_default())
        }
    }
}

fn is_apparmor(path: &CStr) -> bool {
    path.to_bytes().ends_with(b"attr/apparmor/exec")
}

/// What is known to be behind an errno.
fn hint(op: &InitOp, fault: Fault) -> Option<&'static str> {
    Some(match (op, fault.call, fault.errno) {
        (InitOp::Mount(_), Call::fsopen, libc::ENODEV) => {
            "/proc/filesystems lists the filesystems that this kernel has"
        }
        (InitOp::Mount(_), Call::open_tree, libc::ENOENT) => "the source of a bind mount must exist",
        (InitOp::Mount(_), Call::openat2, libc::ENOTDIR) => "a directory must be mounted on ordinary directory",
        (InitOp::Mount(_), Call::move_mount, libc::ENOTDIR | libc::EINVAL) => {
            "a directory must be mounted on ordinary directory, a file on a file"
        }
        (InitOp::Mount(_), Call::openat2, libc::EROFS) => "the root filesystem is read-only and lacks the mount point",
        (InitOp::Mount(_), Call::mount_setattr, libc::EPERM) => {
            "in a user namespace, flags that the host set on the source cannot be cleared"
        }
        (InitOp::OpenRoot { .. }, Call::openat2, libc::ENOTDIR | libc::ELOOP) => {
            "root.path must be a directory and no link"
        }
        (InitOp::EnterRoot(EnterRoot::Pivot), Call::pivot_root, libc::EINVAL) => {
            "an initramfs cannot be pivoted: --no-pivot helps there"
        }
        (InitOp::Device(_), Call::mknodat, libc::EEXIST) => "something else stands at that path in the root filesystem",
        (InitOp::WriteProc { path, .. }, Call::write, libc::ENOENT) if is_apparmor(path) => {
            "the profile is not loaded: apparmor_parser(8) does that"
        }
        (InitOp::WriteProc { path, .. }, Call::write, libc::EACCES) if is_apparmor(path) => {
            "the runtime's own profile does not allow the change to this one"
        }
        (InitOp::WriteProc { .. }, Call::openat2, libc::ENOENT) => "this kernel has no such file",
        (InitOp::WriteProc { path, .. }, Call::write, libc::ENOENT) if path.to_bytes().ends_with(b"apparmor/exec") => {
            "no AppArmor profile of that name is loaded"
        }
        (InitOp::Attach(_), Call::write, libc::ENOSPC) => "the cpuset has no cpus or no memory nodes",
        (InitOp::Terminal { .. }, Call::openat2, libc::ENOENT | libc::ENODEV) => {
            "a terminal needs a mount of type devpts at /dev/pts"
        }
        _ => return None,
    })
}
