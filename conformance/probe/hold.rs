//! Namespaces that a container can be told to join: a process that sits in new ones.

use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};

/// Enters new namespaces of the named types and stays; prints the pid that sits in all of them, then a newline.
pub(crate) fn run(list: &str) -> ExitCode {
    let mut flags = CloneFlags::empty();
    for name in list.split(',') {
        flags |= match name {
            "user" => CloneFlags::CLONE_NEWUSER,
            "mount" => CloneFlags::CLONE_NEWNS,
            "pid" => CloneFlags::CLONE_NEWPID,
            "network" => CloneFlags::CLONE_NEWNET,
            "ipc" => CloneFlags::CLONE_NEWIPC,
            "uts" => CloneFlags::CLONE_NEWUTS,
            "cgroup" => CloneFlags::CLONE_NEWCGROUP,
            "time" => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
            _ => return ExitCode::FAILURE,
        };
    }
    if unshare(flags).is_err() {
        return ExitCode::FAILURE;
    }
    if list.contains("uts") && nix::unistd::sethostname("held").is_err() {
        return ExitCode::FAILURE;
    }
    // A pid or time namespace is entered by children only: the leaf sits in it.
    match Command::new("/proc/self/exe").arg("leaf").stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
        Ok(leaf) => {
            let mut out = io::stdout().lock();
            let _gone = writeln!(out, "{}", leaf.id()).and_then(|()| out.flush());
            stay()
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// The child that sits in the namespaces: it must not outlive the holder.
pub(crate) fn leaf() -> ExitCode {
    if conformance::sys::die_with_parent().is_err() {
        return ExitCode::FAILURE;
    }
    stay()
}

/// Waits for the end that another process brings.
pub(crate) fn stay() -> ExitCode {
    loop {
        nix::unistd::pause();
    }
}
