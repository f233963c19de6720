//! Who init becomes: ids, capabilities, and the proof that it became that.

use std::os::fd::AsFd as _;

use crate::abi::{file, makedev};
use crate::op::{CapSets, ReadBack};
use crate::sys::fs::{self, Stat};
use crate::sys::process;
use crate::sys::{Call, Fault, Result};

const PR_CAPBSET_DROP: i32 = 24;

/// Root of the user namespace. Groups of the host's may be left only where the map allows setgroups(2).
pub(super) fn become_root() -> Result<()> {
    match process::setgroups(&[]) {
        Err(f) if f.errno != libc::EPERM => return Err(f),
        _ => {}
    }
    process::setgid(0)?;
    process::setuid(0)
}

/// prctl(2), PR_SET_DUMPABLE.
pub(super) fn undumpable() -> Result<()> {
    process::prctl(libc::PR_SET_DUMPABLE, 0).map(drop)
}

/// Drops each capability of a set from the bounding set.
pub(super) fn drop_bounding(set: u64) -> Result<()> {
    (0..64).filter(|c| set & (1 << c) != 0).try_for_each(|c| process::prctl(PR_CAPBSET_DROP, c).map(drop))
}

/// Changes the user and keeps the permitted set, from which the config's sets are then made. The standard streams become
/// the user's, so that it can open /dev/stdout, unless they are `/dev/null` or on something that cannot be given away.
pub(super) fn set_uid(uid: u32) -> Result<()> {
    for stream in 0..3 {
        let Ok((stream, stat)) = fs::standard_stream_stat(stream) else { continue };
        if stat.uid == uid || (stat.kind() == file::CHR && stat.rdev == makedev(1, 3)) {
            continue;
        }
        match fs::fchownat(stream, c"", uid, u32::MAX) {
            Err(f) if !matches!(f.errno, libc::EINVAL | libc::EPERM | libc::EROFS | libc::ENOENT) => return Err(f),
            _ => {}
        }
    }
    if uid != 0 {
        process::prctl(libc::PR_SET_KEEPCAPS, 1)?;
    }
    process::setuid(uid)?;
    // /proc/sys/fs/suid_dumpable may have made it dumpable again.
    undumpable()
}

/// Standard streams that are the host's `/dev/null` become the container's, where it has one: no file of a mount that is not
/// its own stays open, which CRIU could not save.
pub(super) fn own_null() {
    let is_null = |s: Stat| s.kind() == file::CHR && s.rdev == makedev(1, 3);
    let mut own = None;
    for number in 0..3 {
        if !fs::standard_stream_stat(number).is_ok_and(|(_, stat)| is_null(stat)) {
            continue;
        }
        let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK;
        // A pipe in its place must not block.
        let opened = own.take().or_else(|| fs::open(c"/dev/null", flags).ok());
        let Some(null) = opened.filter(|null| fs::fstat(null.as_fd()).is_ok_and(is_null)) else { return };
        let _ = fs::set_status_flags(null.as_fd(), libc::O_RDWR);
        let _ = fs::dup_onto(null.as_fd(), number);
        own = Some(null);
    }
}

/// Raises each ambient capability of a set.
pub(super) fn raise_ambient(set: u64) -> Result<()> {
    (0..64).filter(|c| set & (1 << c) != 0).try_for_each(process::raise_ambient)
}

/// Compares what init is with what it was to become (promise P3).
pub(super) fn read_back(expected: &ReadBack) -> Result<()> {
    let wrong = |call| Err(Fault::new(call, libc::EPERM));
    if process::ids() != (expected.uid, expected.gid) {
        return wrong(Call::getresuid);
    }
    let caps: CapSets = process::capget()?;
    if expected.caps.is_some_and(|e| e != caps) {
        return wrong(Call::capget);
    }
    if expected.no_new_privileges && process::prctl(libc::PR_GET_NO_NEW_PRIVS, 0)? != 1 {
        return wrong(Call::prctl);
    }
    Ok(())
}
