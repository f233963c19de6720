//! What the serving side gives up once it serves.
//!
//! The runtime that the shim starts needs everything that root has, and an exec by root gets its capabilities back from the
//! bounding set. So the shim itself can be without them. `DESIGN.md` says why `no_new_privs`, seccomp and Landlock cannot be
//! used here: all three would pass to the containers.

use std::io;

use crate::sys;

const CAP_CHOWN: u64 = 1 << 0;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_KILL: u64 = 1 << 5;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Owner of the container's pipes; fifos and logs of other users; signals to containers of other users; the maps of a user
/// namespace for id-mapped layers; rootfs mounts.
const KEPT: u64 = CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_KILL | CAP_SETGID | CAP_SETUID | CAP_SYS_ADMIN;

/// Drops every capability but six, unless an exec would not bring them back to the runtime; and with them the right to make
/// written memory executable.
///
/// # Errors
/// `capset`'s.
pub fn confine() -> io::Result<()> {
    if sys::own_uid() == 0 && !sys::capability::root_is_ordinary() {
        sys::capability::limit(KEPT)?;
    }
    // A kernel before 6.6 has no way to keep this to ourselves, and the programs that we start may need what it forbids.
    let _ = sys::deny_new_code();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{KEPT, confine};
    use crate::sys;

    /// `tests/direct.rs` sees the capabilities of a serving shim, which only `confine` drops; what it cannot see from outside is here.
    #[test]
    fn confined_means_few_capabilities_and_no_new_code() {
        assert_ne!(sys::can_make_code(), Some(false), "before");
        // Capabilities are a thread's own.
        std::thread::spawn(|| {
            confine().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
            let held = u64::from_str_radix(line.trim(), 16).unwrap();
            assert_eq!(held & !KEPT, 0);
        })
        .join()
        .unwrap();
        assert_ne!(sys::can_make_code(), Some(true), "after");
        // What is started may do what it needs.
        let output = std::process::Command::new("/bin/true").output().unwrap();
        assert!(output.status.success());
    }
}
