//! Id-mapped clones of mounts (mount_setattr(2), open_tree(2), move_mount(2)).

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// `struct mount_attr` of the kernel.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A user namespace with these maps (lines of `inside outside count`, user_namespaces(7)). Nobody lives in it.
///
/// # Errors
/// `fork`'s, `unshare`'s, or `EINVAL`/`EPERM` for the maps.
pub fn user_namespace(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (made, tell_made) = pipe2(OFlag::O_CLOEXEC)?;
    let (hold, release) = pipe2(OFlag::O_CLOEXEC)?;
    let Some(child) = super::fork()? else {
        drop((made, release));
        // SAFETY: unshare takes a number only.
        let done = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
        drop(tell_made);
        // The end of this pipe is the parent's word that the namespace is held by a descriptor.
        let _ = File::from(hold).read(&mut [0]);
        super::exit_now(done.abs())
    };
    drop((tell_made, hold));
    // The end of this pipe is the child's word that the namespace is there, or that it will not come.
    let _ = File::from(made).read(&mut [0]);
    let proc = format!("/proc/{child}");
    let namespace = fs::write(format!("{proc}/uid_map"), uids)
        .and_then(|()| fs::write(format!("{proc}/gid_map"), gids))
        .and_then(|()| File::open(format!("{proc}/ns/user")));
    drop(release);
    while waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
    Ok(namespace?.into())
}

/// A detached clone of the mount at `path` in which ids are mapped by `namespace`.
///
/// # Errors
/// `open_tree`'s, or `mount_setattr`'s `EINVAL` where the file system cannot be mapped.
pub fn mapped_clone(path: &Path, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: the path is NUL-terminated and outlives the call.
    let number = checked(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let tree = unsafe { OwnedFd::from_raw_fd(number) };
    let attributes = Attributes {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        userns: u64::from(namespace.as_raw_fd().unsigned_abs()),
    };
    // SAFETY: the structure has the kernel's layout for the size that is passed, and outlives the call; so does the path.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    })?;
    Ok(tree)
}

/// Attaches a detached mount at `target`.
///
/// # Errors
/// `move_mount`'s.
pub fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: both paths are NUL-terminated and outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}
