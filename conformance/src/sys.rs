//! The only unsafe code of the package: system calls that neither std nor nix wraps, each with numbers in and numbers out.

use std::io;
use std::mem::{MaybeUninit, size_of};

/// One raw system call with up to six register arguments.
///
/// Returns the call's value, or the error that the kernel gave. The arguments are passed as they are: a caller that wants
/// the kernel to fault uses 0 for pointers.
///
/// # Safety
/// Arguments that the call takes for pointers must be null or point to memory that the call may use as `syscall(2)` says.
pub unsafe fn syscall(number: i64, args: [u64; 6]) -> io::Result<i64> {
    // SAFETY: the caller vouches for pointers; every other argument is a plain number.
    let value = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// A system call whose arguments are numbers or null pointers, never addresses of ours: what seccomp cases call.
///
/// Addresses other than null would be a mistake of the case, not memory of this process: the kernel checks them.
pub fn numbers(number: i64, args: [u64; 6]) -> io::Result<i64> {
    // SAFETY: cases give small numbers; as addresses these lie in the never-mapped first pages, so the kernel answers EFAULT.
    unsafe { syscall(number, args.map(|a| a & 0xffff)) }
}

/// `sched_attr` of sched_setattr(2), first version (48 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    /// Size of the structure in bytes.
    pub size: u32,
    /// SCHED_* policy number.
    pub policy: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// Nice value of SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// Static priority of SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// SCHED_DEADLINE: nanoseconds of run time a period.
    pub runtime: u64,
    /// SCHED_DEADLINE: nanoseconds.
    pub deadline: u64,
    /// SCHED_DEADLINE: nanoseconds.
    pub period: u64,
}

/// The scheduling attributes of the calling thread: sched_getattr(2).
pub fn sched_attr() -> io::Result<SchedAttr> {
    let mut attr = SchedAttr::default();
    let size = size_of::<SchedAttr>() as u64;
    // SAFETY: `attr` is a live, writable structure of exactly `size` bytes.
    unsafe { syscall(libc::SYS_sched_getattr, [0, (&raw mut attr) as u64, size, 0, 0, 0]) }?;
    Ok(attr)
}

/// I/O class and level of the calling thread: ioprio_get(2). Class 0 is none, 1 RT, 2 BE, 3 IDLE.
pub fn io_priority() -> io::Result<(i64, i64)> {
    let value = numbers(libc::SYS_ioprio_get, [1, 0, 0, 0, 0, 0])?;
    Ok((value >> 13, value & 0x1fff))
}

/// Memory policy of the calling thread, mode with flags in its upper bits, and the node mask: get_mempolicy(2).
pub fn memory_policy() -> io::Result<(i32, u64)> {
    let mut mode: i32 = 0;
    let mut nodes = [0u64; 64];
    let args = [(&raw mut mode) as u64, nodes.as_mut_ptr() as u64, 64 * 64, 0, 0, 0];
    // SAFETY: `mode` and `nodes` are live and writable; 64 * 64 is the number of bits in `nodes`.
    unsafe { syscall(libc::SYS_get_mempolicy, args) }?;
    Ok((mode, nodes[0]))
}

/// Execution domain of the calling process: personality(2) with the query value.
pub fn personality() -> io::Result<i64> {
    // SAFETY: the argument is the documented query value; no memory is touched.
    unsafe { syscall(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]) }
}

/// Soft and hard limit of one resource, `u64::MAX` for none: getrlimit(2).
pub fn rlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` is writable memory of the right type.
    let rc = unsafe { libc::getrlimit(resource, limit.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getrlimit answered 0, so it has filled the structure.
    let limit = unsafe { limit.assume_init() };
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Columns and rows of the terminal behind a descriptor: TIOCGWINSZ.
pub fn window(fd: i32) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the live structure given.
    let rc = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    if rc == 0 { Ok((size.ws_col, size.ws_row)) } else { Err(io::Error::last_os_error()) }
}

/// Whether no_new_privs is set for the calling thread: PR_GET_NO_NEW_PRIVS.
pub fn no_new_privs() -> io::Result<bool> {
    // SAFETY: PR_GET_NO_NEW_PRIVS takes no memory.
    let rc = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc == 1) }
}

/// Asks the kernel to kill the calling process when its parent ends, so that nothing outlives the suite: PR_SET_PDEATHSIG.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and no memory.
    let rc = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes ownership of a descriptor that recvmsg(2) has just handed over.
pub(crate) fn own(fd: std::os::fd::RawFd) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd as _;
    // SAFETY: the kernel made this descriptor for this process a moment ago (SCM_RIGHTS); nobody else has its number.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }
}
