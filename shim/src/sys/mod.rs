//! The only unsafe code of the shim: system calls that neither std nor nix wraps. No policy here.

#![allow(unsafe_code)]

pub mod capability;
pub mod idmap;
pub mod spawn;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, recvmsg, socket,
    sockopt::PeerCredentials,
};
use nix::unistd::{ForkResult, Pid};

/// The effective user of this process.
#[must_use]
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user at the other end of a connected socket (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// `getsockopt`'s.
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

/// The process at the other end of a connected socket: for a listener's, who called `listen` last (`SO_PEERCRED`, unix(7)). 0 when
/// it is in another pid namespace.
///
/// # Errors
/// `getsockopt`'s.
pub fn peer_pid(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.pid().unsigned_abs())
}

/// Connects to a unix socket without ever waiting: a listener that is stopped or swamped must not hold us up. The stream does
/// not block.
///
/// # Errors
/// `socket`'s or `connect`'s: `ConnectionRefused` when nobody listens, `WouldBlock` when the listener's queue is full.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd.into())
}

/// Closes the standard streams 0 and 1, so that the next two descriptors get their numbers; 2 stays for a panic's words.
pub fn give_up_streams() {
    for fd in 0..2 {
        // SAFETY: nothing in this process owns the two numbers: std's handles to them own nothing and write nothing any more.
        unsafe { libc::close(fd) };
    }
}

/// Forbids this process to make writable memory executable, and not the programs that it starts (`PR_SET_MDWE`, Linux 6.6).
///
/// # Errors
/// `EINVAL` before Linux 6.6.
pub fn deny_new_code() -> io::Result<()> {
    const PR_SET_MDWE: libc::c_int = 65;
    const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    const NO_INHERIT: libc::c_ulong = 2;
    let (flags, none) = (REFUSE_EXEC_GAIN | NO_INHERIT, 0 as libc::c_ulong);
    // SAFETY: this prctl takes numbers only.
    let done = unsafe { libc::prctl(PR_SET_MDWE, flags, none, none, none) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Forks this process. `None` in the child, the child's pid in the parent.
///
/// # Errors
/// `fork`'s.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread wherever this is called (`start`, the mounts' helpers), so that no lock can be held by
    // a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Some(child)),
    }
}

/// Forks this process into new namespaces (`CLONE_NEW…` flags of clone(2)). `None` in the child, the child's pid in the parent.
///
/// # Errors
/// `clone`'s: `EPERM` without CAP_SYS_ADMIN.
pub fn fork_into(namespaces: libc::c_int) -> io::Result<Option<u32>> {
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    let none = 0 as libc::c_long;
    // SAFETY: without a stack and without CLONE_VM this is fork(2): the child has its own copy of everything. A serving shim has
    // one thread, so that no lock of the C library can be held by a thread that the child lacks.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })?;
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// Closes every descriptor of a forked child that needs none from here on, and owns none that a destructor would close again.
pub fn close_all() {
    // SAFETY: the caller is a child's last loop, which uses no descriptor; a kernel before 5.9 refuses the call, and they stay open.
    unsafe { libc::syscall(libc::SYS_close_range, 0 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint) };
}

/// Ends a forked child at once, without the parent's exit handlers and buffers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// How many bytes can be read from a pipe, fifo or terminal now (`FIONREAD`, ioctl_tty(2)).
///
/// # Errors
/// `ENOTTY` for a descriptor that has no such notion.
pub fn waiting(fd: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer, which outlives the call; the descriptor is borrowed.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}

/// Sets the size of a terminal (`TIOCSWINSZ`, ioctl_tty(2)).
///
/// # Errors
/// `EIO` or `ENOTTY` when the terminal is gone or none.
pub fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize through the pointer, which outlives the call; the descriptor is borrowed.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one descriptor that the peer passes (`SCM_RIGHTS`, unix(7)); it is close-on-exec.
///
/// # Errors
/// `recvmsg`'s, `WouldBlock` included; `UnexpectedEof` when the peer closed or passed none.
pub fn receive_fd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8; 512];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
            received.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    received.into_iter().next().ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no descriptor was passed"))
}

/// Closes everything but the standard streams: what an engine leaked must not stay in the shim, nor leak on into runtimes and
/// loggers. To be called before this process has opened anything.
pub fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet, so nobody can miss what is closed. A kernel before 5.9
    // refuses the call; then the engine's own care must do.
    unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint) };
}

/// kill(2) with any number: engines send real-time signals, too, which nix has no names for.
///
/// # Errors
/// `EINVAL`, `EPERM`, `ESRCH`.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes numbers only.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Takes any child that has ended (waitpid(2), threads' children included): its pid and its exit code, or 128 + the signal that
/// killed it. `None` while none has. By hand, because nix answers `EINVAL` for a child that a real-time signal killed, after
/// the kernel has forgotten it.
///
/// # Errors
/// `ECHILD` without children, `EINTR`.
pub fn reap() -> Result<Option<(u32, u32)>, Errno> {
    let mut status: libc::c_int = 0;
    // SAFETY: waitpid writes one int through the pointer, which outlives the call.
    let pid = Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) })?;
    let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    Ok((pid > 0).then(|| (pid.unsigned_abs(), code.unsigned_abs())))
}

/// A descriptor of a process (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// `ESRCH` when there is none of that number.
pub fn pidfd_open(pid: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes numbers only.
    let made = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0 as libc::c_uint) })?;
    let number = RawFd::try_from(made).map_err(|_| Errno::EMFILE)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sends a signal to the process of a descriptor (pidfd_send_signal(2)); 0 asks whether it is there.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub fn pidfd_kill(process: &OwnedFd, signal: i32) -> Result<(), Errno> {
    let info = std::ptr::null::<libc::siginfo_t>();
    let (fd, flags) = (process.as_raw_fd(), 0 as libc::c_uint);
    // SAFETY: a null siginfo means that of kill(2); the descriptor is borrowed.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, flags) }).map(drop)
}

/// Keeps the heap small: freed memory goes back to the kernel.
pub fn trim_memory() {
    // SAFETY: malloc_trim may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Makes a core-scheduling group of this process group (`PR_SCHED_CORE`, kernel admin-guide hw-vuln/core-scheduling).
///
/// # Errors
/// `EINVAL` or `ENODEV` where the kernel or the processor has none.
pub fn core_sched_group() -> io::Result<()> {
    const PR_SCHED_CORE: libc::c_int = 62;
    const CREATE: libc::c_ulong = 1;
    const PROCESS_GROUP: libc::c_ulong = 2;
    // SAFETY: this prctl takes numbers only.
    let done = unsafe { libc::prctl(PR_SCHED_CORE, CREATE, 0 as libc::c_ulong, PROCESS_GROUP, 0 as libc::c_ulong) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this process may still make memory executable that it has written: `None` where the kernel has no such rule.
#[cfg(test)]
pub fn can_make_code() -> Option<bool> {
    const PR_GET_MDWE: libc::c_int = 66;
    let none = 0 as libc::c_ulong;
    // SAFETY: this prctl takes numbers only.
    if unsafe { libc::prctl(PR_GET_MDWE, none, none, none, none) } < 0 {
        return None;
    }
    let (length, private) = (4096, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place of the kernel's choice.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, private, -1, 0) };
    // SAFETY: the page is the one made above, and nobody has a reference into it.
    let made = unsafe { libc::mprotect(page, length, libc::PROT_READ | libc::PROT_EXEC) } == 0;
    // SAFETY: as above; it is not used any more.
    unsafe { libc::munmap(page, length) };
    Some(made)
}
