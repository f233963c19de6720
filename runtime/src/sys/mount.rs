//! Mounts, by handles: fsopen(2), open_tree(2), mount_setattr(2), move_mount(2), pivot_root(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Call, Result, check};

const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const OPEN_TREE_CLONE: i32 = 1;
const AT_RECURSIVE: i32 = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

fn owned(call: Call, answer: i64) -> Result<OwnedFd> {
    let fd = check(call, answer)?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// fsopen(2): a filesystem that is being configured.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    // SAFETY: `fstype` ends with NUL.
    let fd = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) };
    owned(Call::fsopen, fd)
}

/// fsconfig(2): one option, with a value or without.
pub fn fsconfig(fs: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> Result<()> {
    let (command, value) = match value {
        Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
        None => (FSCONFIG_SET_FLAG, std::ptr::null()),
    };
    // SAFETY: `key` ends with NUL, and so does `value` unless it is null, as a flag wants it.
    let answer = unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key.as_ptr(), value, 0) };
    check(Call::fsconfig, answer).map(drop)
}

/// fsconfig(2), FSCONFIG_CMD_CREATE, and fsmount(2): the detached mount of what was configured.
pub fn fsmount(fs: BorrowedFd<'_>, attr: u64) -> Result<OwnedFd> {
    let null = std::ptr::null::<u8>();
    // SAFETY: this command takes neither key nor value.
    let answer = unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0) };
    check(Call::fsconfig, answer)?;
    // SAFETY: fsmount takes integers.
    let fd = unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), FSMOUNT_CLOEXEC, attr) };
    owned(Call::fsmount, fd)
}

/// open_tree(2): a detached clone of a mount, close-on-exec. An empty path clones what `dir` itself refers to.
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, nofollow: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
    flags |= if recursive { AT_RECURSIVE } else { 0 };
    flags |= if nofollow { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
    flags |= if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: `path` ends with NUL.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) };
    owned(Call::open_tree, fd)
}

/// A detached clone with these attributes set: open_tree_attr(2) of Linux 6.15 or, where that is not known, two calls.
pub fn open_tree_with(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, set: u64) -> Result<OwnedFd> {
    const SYS_OPEN_TREE_ATTR: i64 = 467;
    static UNKNOWN: AtomicBool = AtomicBool::new(false);
    if !UNKNOWN.load(Ordering::Relaxed) {
        let attr = MountAttr { set, clear: 0, propagation: 0, userns: 0 };
        let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
        flags |= if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
        // SAFETY: `path` ends with NUL and `attr` is valid for its size; the kernel keeps neither.
        let fd = unsafe {
            libc::syscall(
                SYS_OPEN_TREE_ATTR,
                dir.as_raw_fd(),
                path.as_ptr(),
                flags,
                &raw const attr,
                size_of::<MountAttr>(),
            )
        };
        match owned(Call::open_tree, fd) {
            // Filters of system calls answer with either for what they do not know.
            Err(f) if matches!(f.errno, libc::ENOSYS | libc::EPERM) => UNKNOWN.store(true, Ordering::Relaxed),
            answer => return answer,
        }
    }
    let tree = open_tree(dir, path, recursive, false)?;
    setattr(tree.as_fd(), c"", recursive, (set, 0), 0, None)?;
    Ok(tree)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// mount_setattr(2) on the mount that a descriptor refers to, or, by `path`, on one that a path leads to.
pub fn setattr(
    mount: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    (set, clear): (u64, u64),
    propagation: u64,
    userns: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let userns = userns.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned()));
    let attr = MountAttr { set, clear, propagation, userns };
    let flags = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 } | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `path` ends with NUL and `attr` is valid for its size; the kernel keeps neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(Call::mount_setattr, answer).map(drop)
}

/// move_mount(2) from handle to handle: no path is involved.
pub fn move_mount(mount: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty strings.
    let answer = unsafe {
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), onto.as_raw_fd(), c"".as_ptr(), flags)
    };
    check(Call::move_mount, answer).map(drop)
}

/// move_mount(2) onto a name in a directory, which is not followed if it is a link.
pub fn move_mount_to(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: both paths end with NUL.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir.as_raw_fd(),
            name.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(Call::move_mount, answer).map(drop)
}

/// move_mount(2) of a mount over `/`.
pub fn move_mount_onto_root(mount: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: both paths are constant strings.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            c"/".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(Call::move_mount, answer).map(drop)
}

/// mount(2), for what the newer calls cannot express. The target is the working directory where it is `.`.
pub fn mount(source: &CStr, target: &CStr, fstype: &CStr, flags: u64, data: &CStr) -> Result<()> {
    // SAFETY: all strings end with NUL.
    let answer = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr().cast()) };
    check(Call::mount, answer).map(drop)
}

/// mount(2), MS_BIND, onto a name in the working directory.
pub fn bind(source: &CStr, name: &CStr, recursive: bool) -> Result<()> {
    let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
    mount(source, name, c"", flags, c"")
}

/// umount2(2), MNT_DETACH.
pub fn detach(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends with NUL.
    check(Call::umount2, unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}

/// pivot_root(".", "."): the working directory becomes the root, the old root lies over it.
pub fn pivot_root() -> Result<()> {
    // SAFETY: both paths are constant strings.
    let answer = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    check(Call::pivot_root, answer).map(drop)
}

/// chroot(2).
pub fn chroot(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends with NUL.
    check(Call::chroot, unsafe { libc::chroot(path.as_ptr()) }).map(drop)
}
