//! Mounts for a container that runs already: made in the runtime's view, placed and taken away in the container's.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::mount::{self, Reason};
use super::path;
use crate::abi::{file, propagation};
use crate::op::{MountOp, MountSource};
use crate::sys::{Call, Fault, Result, fs, mount as sys_mount};

/// Makes a mount that is attached nowhere, with its attributes. What the kernel said of a failure comes with it.
///
/// # Errors
/// The call that failed.
pub fn detached(op: &MountOp, slots: &mut [Option<OwnedFd>]) -> std::result::Result<OwnedFd, (Fault, String)> {
    let mut reason = Reason::new();
    let made = match &op.source {
        MountSource::Tree(slot) => {
            let tree = slots[usize::from(slot.0)].take().ok_or(Fault::new(Call::open_tree, libc::EBADF));
            tree.and_then(|tree| mount::attributes(tree.as_fd(), &op.attr).map(|()| tree))
        }
        MountSource::Filesystem { fstype, options, source, .. } => sys_mount::fsopen(fstype)
            .and_then(|fs| mount::configure(fs.as_fd(), source, options, None, op.attr.set, &mut reason)),
        MountSource::Bind { .. } => Err(Fault::new(Call::open_tree, libc::EINVAL)),
    };
    made.map_err(|fault| {
        let said = String::from_utf8_lossy(reason.bytes()).trim().to_owned();
        (fault, if said.is_empty() { said } else { said + ": " })
    })
}

/// Moves a mount to its destination below the root, making what is missing of that.
///
/// # Errors
/// The call that failed.
pub fn place(root: BorrowedFd<'_>, op: &MountOp, made: BorrowedFd<'_>) -> Result<()> {
    let nofollow = if op.dest_nofollow { libc::O_NOFOLLOW } else { 0 };
    let onto = if fs::fstat(made)?.kind() != file::DIR {
        path::file(root, &op.destination, op.dest_nofollow)?
    } else if nofollow == 0 {
        path::directory(root, &op.destination)?
    } else {
        drop(path::directory(root, &op.destination));
        path::open(root, &op.destination, libc::O_PATH | nofollow)?
    };
    sys_mount::move_mount(made, onto.as_fd())?;
    mount::propagate(made, &op.attr)
}

/// Detaches what is mounted at a path below the root. A directory is detached by its own handle, anything else by its
/// name in the handle of its directory; neither can be led astray by a link that is put there meanwhile.
///
/// # Errors
/// `EINVAL` where nothing is mounted, or the call that failed.
pub fn take_away(root: BorrowedFd<'_>, at: &CStr) -> Result<()> {
    let there = path::open(root, at, libc::O_PATH)?;
    if fs::fstat(there.as_fd())?.kind() == file::DIR {
        fs::fchdir(there.as_fd())?;
        return sys_mount::detach(c".");
    }
    let (dir, name) = path::parent(root, at)?;
    fs::fchdir(dir.as_fd())?;
    sys_mount::detach(name)
}

/// What the runtime opened by its own view is the host's mount: nothing that happens to the copy may reach the original.
///
/// # Errors
/// The call that failed.
pub fn enslave(tree: BorrowedFd<'_>) -> Result<()> {
    sys_mount::setattr(tree, c"", true, (0, 0), propagation::SLAVE, None)
}
