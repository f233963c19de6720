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
