//! The container's pseudoterminal: made in its own devpts, checked, handed out.

use std::os::fd::{AsFd, BorrowedFd};

use super::handle::Handle;
use super::path;
use crate::sys::fs::resolve;
use crate::sys::{Call, Fault, Result, fs, mount, process, socket, terminal};

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Makes the terminal, gives its master to `console`, and makes its other end the standard streams of the session.
pub(super) fn make(
    root: BorrowedFd<'_>,
    size: Option<(u16, u16)>,
    bind: bool,
    console: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let master = multiplexer(root)?;
    let peer = terminal::open_peer(master.as_fd())?;
    if let Some((columns, rows)) = size {
        terminal::set_size(peer.as_fd(), columns, rows)?;
    }
    if bind {
        let made = mount::open_tree(peer.as_fd(), c"", false, false)?;
        let onto = path::file(root, c"/dev/console", true)?;
        mount::move_mount(made.as_fd(), onto.as_fd())?;
    }
    if let Some(console) = console {
        socket::send_fd(console, b"/dev/ptmx", master.as_fd())?;
    }
    let _ = process::setsid();
    terminal::control(peer.as_fd())?;
    (0..3).try_for_each(|stream| fs::dup_onto(peer.as_fd(), stream))
}

/// What an image put at that path must not even be opened, unless it is the multiplexer of a devpts (rule R6): opening does
/// something to a device or a named pipe.
fn multiplexer(root: BorrowedFd<'_>) -> Result<Handle> {
    let dir = path::open(root, c"/dev/pts", libc::O_PATH | libc::O_DIRECTORY)?;
    if fs::filesystem(dir.as_fd())? != DEVPTS_SUPER_MAGIC {
        return Err(Fault::new(Call::openat2, libc::ENODEV));
    }
    let how = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_SYMLINKS;
    fs::openat2(dir.as_fd(), c"ptmx", libc::O_RDWR | libc::O_NOCTTY, 0, how).map(Handle::from)
}
