//! Starting a program without copying the shim: `clone(CLONE_VM | CLONE_VFORK)`, as posix_spawn does, because posix_spawn
//! itself can set neither the parent-death signal nor more than it knows.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// Descriptors that a program can be given: 0, 1, 2 and a logger's 3, 4, 5.
pub const MOST_FDS: usize = 6;
const STACK: usize = 32 << 10;

/// A program to start.
pub struct Program<'a> {
    /// Its file.
    pub path: &'a CStr,
    /// Its arguments, the name first.
    pub args: &'a [CString],
    /// Its environment.
    pub env: &'a [CString],
    /// What becomes descriptor 0, 1, 2, …: at most [`MOST_FDS`].
    pub fds: &'a [BorrowedFd<'a>],
    /// Whether it is a runtime: it dies with the shim, and leads a process group, so that it can be ended with its hooks.
    pub is_runtime: bool,
}

struct Plan {
    path: *const c_char,
    args: *const *const c_char,
    env: *const *const c_char,
    fds: [RawFd; MOST_FDS],
    count: usize,
    is_runtime: bool,
    parent: libc::pid_t,
    errno: i32,
}

/// Starts `program` and gives its pid. The child belongs to whoever reaps children.
///
/// # Errors
/// `clone`'s, or that of the step that failed in the child (`execve`'s `ENOENT`, …).
pub fn spawn(program: &Program<'_>) -> io::Result<u32> {
    if program.fds.len() > MOST_FDS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let pointers =
        |list: &[CString]| -> Vec<*const c_char> { list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect() };
    let (args, env) = (pointers(program.args), pointers(program.env));
    let mut fds = [-1; MOST_FDS];
    for (slot, fd) in fds.iter_mut().zip(program.fds) {
        *slot = fd.as_raw_fd();
    }
    let mut plan = Plan {
        path: program.path.as_ptr(),
        args: args.as_ptr(),
        env: env.as_ptr(),
        fds,
        count: program.fds.len(),
        is_runtime: program.is_runtime,
        // SAFETY: getpid takes nothing and cannot fail.
        parent: unsafe { libc::getpid() },
        errno: 0,
    };
    let mut stack = vec![0u128; STACK / 16];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child runs `child` on its own stack, which is 16-byte aligned, large enough for plain system calls and, like
    // `plan`, alive until clone returns: CLONE_VFORK holds this thread, the only one, until the child has called execve or
    // ended. The child writes nothing of the parent's but `plan.errno` and its thread's errno.
    let pid = unsafe { libc::clone(child, top, flags, (&raw mut plan).cast()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if plan.errno != 0 {
        // The reaper will see its exit; nobody asks for it.
        return Err(io::Error::from_raw_os_error(plan.errno));
    }
    Ok(pid.unsigned_abs())
}

extern "C" fn child(argument: *mut c_void) -> libc::c_int {
    // SAFETY: the argument is the `plan` of the suspended parent, which nobody else touches meanwhile.
    let plan = unsafe { &mut *argument.cast::<Plan>() };
    if prepare(plan).is_none() {
        plan.errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return 127;
    }
    // SAFETY: path and both lists are NUL-terminated and belong to the suspended parent.
    unsafe { libc::execve(plan.path, plan.args, plan.env) };
    plan.errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    127
}

/// What must hold in the new program: no signal blocked or ignored, its descriptors, nothing else inherited.
/// Only system calls: no allocation, because the heap is the parent's.
fn prepare(plan: &Plan) -> Option<()> {
    let fine = |result: libc::c_int| (result >= 0).then_some(());
    if plan.is_runtime {
        // SAFETY: this prctl takes numbers only.
        fine(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) })?;
        // SAFETY: getppid takes nothing and cannot fail.
        if unsafe { libc::getppid() } != plan.parent {
            // The shim died before the line above, which is about later deaths only.
            return None;
        }
        // SAFETY: setpgid takes numbers only.
        fine(unsafe { libc::setpgid(0, 0) })?;
    }
    // SAFETY: without CLONE_SIGHAND the table of actions is the child's own.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: an all-zero sigset_t is the empty set of signals on Linux.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call, and the old one is not asked for.
    fine(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) })?;
    // Out of the way first: a source may be the number that another one is to become.
    let mut away = [-1; MOST_FDS];
    for (fd, source) in away.iter_mut().zip(plan.fds).take(plan.count) {
        // SAFETY: F_DUPFD_CLOEXEC takes numbers only; without CLONE_FILES the table of descriptors is the child's own.
        *fd = unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, 64) };
        fine(*fd)?;
    }
    let mut target = 0;
    for fd in away.iter().take(plan.count) {
        // SAFETY: dup2 takes numbers only.
        fine(unsafe { libc::dup2(*fd, target) })?;
        target += 1;
    }
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: close_range takes numbers only. A kernel before 5.11 refuses it; all our descriptors bear the flag anyway.
    unsafe { libc::syscall(libc::SYS_close_range, target, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    Some(())
}
