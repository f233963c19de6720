//! Pseudoterminals: pty(7), ioctl_tty(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Call, Result, check};

/// `_IO('T', 0x41)`: opens the other end of a pty by its master, with no path between (CVE-2016-2779's family).
const TIOCGPTPEER: libc::c_ulong = 0x5441;

/// Unlocks the other end and opens it.
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(Call::ioctl, unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as an integer.
    let fd = check(Call::ioctl, unsafe { libc::ioctl(master.as_raw_fd(), TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the size, in columns and rows.
pub fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(Call::ioctl, unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// The size, in columns and rows.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    check(Call::ioctl, unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok((size.ws_col, size.ws_row))
}

/// Makes a terminal the controlling one of the caller's session.
pub fn control(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(Call::ioctl, unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// What a terminal was set to, to be restored.
pub struct Modes(libc::termios);

fn modes(terminal: BorrowedFd<'_>) -> Result<libc::termios> {
    let mut modes = std::mem::MaybeUninit::<libc::termios>::uninit();
    // SAFETY: `modes` is writable and of the right size.
    check(Call::ioctl, unsafe { libc::tcgetattr(terminal.as_raw_fd(), modes.as_mut_ptr()) })?;
    // SAFETY: tcgetattr succeeded, so it filled the structure.
    Ok(unsafe { modes.assume_init() })
}

/// Switches a terminal to raw mode; answers what it was.
pub fn make_raw(terminal: BorrowedFd<'_>) -> Result<Modes> {
    let before = modes(terminal)?;
    let mut raw = before;
    // SAFETY: `raw` is a valid termios.
    unsafe { libc::cfmakeraw(&raw mut raw) };
    raw.c_oflag |= libc::OPOST;
    restore(terminal, &Modes(raw))?;
    Ok(Modes(before))
}

/// Sets a terminal to former modes.
pub fn restore(terminal: BorrowedFd<'_>, modes: &Modes) -> Result<()> {
    // SAFETY: the termios is valid.
    let answer = unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const modes.0) };
    check(Call::ioctl, answer).map(drop)
}

/// Leaves newlines of the container as they are: whoever relays the bytes has a terminal of his own that maps them.
pub fn plain_newlines(master: BorrowedFd<'_>) -> Result<()> {
    let mut now = modes(master)?;
    now.c_oflag &= !libc::ONLCR;
    restore(master, &Modes(now))
}
