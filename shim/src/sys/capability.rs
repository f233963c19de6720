//! The process's own capability sets (capget(2), capset(2), capabilities(7)).

use std::io;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;

fn halves(set: u64) -> (u32, u32) {
    // Both halves of 64 bits fit 32 bits.
    (u32::try_from(set & 0xffff_ffff).unwrap_or(0), u32::try_from(set >> 32).unwrap_or(0))
}

/// Cuts the permitted and effective sets down to `keep` (one bit per capability number); the inheritable set is emptied.
/// The bounding set stays: a program that root starts gets its capabilities back from it.
///
/// # Errors
/// `capget`'s and `capset`'s.
pub fn limit(keep: u64) -> io::Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: capget fills two `Sets` for this version; both structures outlive the call and have the kernel's layout.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let (low, high) = halves(keep);
    for (set, keep) in sets.iter_mut().zip([low, high]) {
        set.permitted &= keep;
        set.effective = set.permitted;
        set.inheritable = 0;
    }
    // SAFETY: capset reads the same two structures.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether an exec by root brings no capabilities (`SECBIT_NOROOT`, capabilities(7)).
#[must_use]
pub fn root_is_ordinary() -> bool {
    const SECBIT_NOROOT: i32 = 1;
    // SAFETY: this prctl takes numbers only.
    unsafe { libc::prctl(libc::PR_GET_SECUREBITS) & SECBIT_NOROOT != 0 }
}
