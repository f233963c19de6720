//! Commands of the runtime that have outlived their shim.
//!
//! The parent-death signal covers a command up to its exec only: a program that gets capabilities by its exec, as root's do
//! when they are started by a confined shim, loses the signal (`commit_creds` of the kernel). So the `delete` action ends
//! what still works on the container. It is known by its command line: the log in it is the bundle's, and no other's.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys;

/// How long the killed are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Kills every process whose command line holds the argument `log`, with its process group, and waits for their end.
pub fn end(log: &Path) {
    let until = Instant::now() + PATIENCE;
    // One that was about to fork when it was killed is gone after a look or two.
    while !kill_once(log).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill_once(log: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != std::process::id() && kill(pid, log).is_some()).collect()
}

/// Kills the process if it is one of them. The descriptor is opened first, so the number cannot have become another's.
fn kill(pid: u32, log: &Path) -> Option<()> {
    let process: OwnedFd = sys::pidfd_open(pid).ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    if !line.split(|&byte| byte == 0).any(|word| word == log.as_os_str().as_bytes()) {
        return None;
    }
    sys::pidfd_kill(&process, 0).ok()?;
    // Its hooks are in the group that it leads. It leads none when it is a fork of such a command.
    let _ = sys::kill(-pid.cast_signed(), libc::SIGKILL);
    sys::pidfd_kill(&process, libc::SIGKILL).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    #[test]
    fn a_command_with_the_log_is_ended_with_its_group_and_others_are_not() {
        let log = PathBuf::from(format!("/run/stray-{}/log.json", std::process::id()));
        let start = |log: &PathBuf| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "sleep 100 & echo started; wait", "--log"]).arg(log).process_group(0);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut word = [0u8; 8];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
            child
        };
        let (mut ours, mut other) = (start(&log), start(&log.with_file_name("other.json")));
        super::end(&log);
        assert!(!ours.wait().unwrap().success());
        // The end of its output is the end of the sleep as well.
        std::io::Read::read_to_end(ours.stdout.as_mut().unwrap(), &mut Vec::new()).unwrap();
        assert!(other.try_wait().unwrap().is_none());
        super::end(&log.with_file_name("other.json"));
        other.wait().unwrap();
    }
}
