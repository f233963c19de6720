//! Signals as a descriptor: sigprocmask(2), signalfd(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Call, Result, check};

/// All signals, blocked and readable.
pub struct SignalFd(OwnedFd);

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Blocks every signal that can be, and opens a descriptor for them.
pub fn block_all() -> Result<SignalFd> {
    // SAFETY: a zeroed sigset_t is valid.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: `set` is writable.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: `set` is readable; the old mask is not asked for.
    check(Call::sigaction, unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: `set` is readable.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    let fd = check(Call::sigaction, fd)?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Unblocks every signal: what the runtime holds back must not be held back in what it runs.
pub fn unblock_all() -> Result<()> {
    // SAFETY: a zeroed sigset_t is valid.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: `set` is writable.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: `set` is readable; the old mask is not asked for.
    check(Call::sigaction, unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) })
        .map(drop)
}

impl SignalFd {
    /// The next signal, if one is there.
    pub fn next(&self) -> Result<Option<i32>> {
        let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` is writable for its size.
        let n = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        match check(Call::read, i64::try_from(n).unwrap_or(-1)) {
            Err(f) if f.errno == libc::EAGAIN || f.errno == libc::EINTR => Ok(None),
            Err(f) => Err(f),
            // SAFETY: the kernel writes whole structures.
            Ok(_) => Ok(i32::try_from(unsafe { info.assume_init() }.ssi_signo).ok()),
        }
    }
}
