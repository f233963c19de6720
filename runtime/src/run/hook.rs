//! One hook: its state on stdin, its time bounded, its output kept for the error. Used by the parent and by init, so it
//! allocates nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::op::HookOp;
use crate::sys::fs;
use crate::sys::process::{self, Cloned, Ended, Pointers};
use crate::sys::{Call, Fault, Result};

/// A hook laid out for execve(2), made before init is cloned.
pub struct Ready<'p> {
    args: Pointers<'p>,
    env: Pointers<'p>,
}

impl<'p> Ready<'p> {
    /// Lays a hook out.
    pub fn new(hook: &'p HookOp) -> Self {
        Ready {
            args: Pointers::new(hook.args.iter().map(|s| s.as_c_str()), 0),
            env: Pointers::new(hook.env.iter().map(|s| s.as_c_str()), 0),
        }
    }
}

/// How a hook failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It could not be run.
    Call(Fault),
    /// It ended otherwise than with status 0.
    Ended(Ended),
    /// Its time was over.
    TimedOut,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Failed::Call(fault)
    }
}

/// Output of a hook beyond this is refused to it.
const MAX_OUTPUT: i64 = 1 << 20;

/// Runs a hook to its end. `pid` is the container's as the hook sees it; what the hook wrote comes back in `output`.
pub fn run(hook: &HookOp, ready: &Ready<'_>, pid: i32, output: &mut [u8]) -> std::result::Result<(), (Failed, usize)> {
    let sink = fs::bounded_memfd(c"hook", MAX_OUTPUT).map_err(|f| (f.into(), 0))?;
    let answer = run_into(hook, ready, pid, sink.as_fd());
    answer.map_err(|failed| (failed, fs::written(sink.as_fd(), output)))
}

fn run_into(hook: &HookOp, ready: &Ready<'_>, pid: i32, sink: BorrowedFd<'_>) -> std::result::Result<(), Failed> {
    let (stdin_read, stdin) = fs::pipe()?;
    let (told_read, told) = fs::pipe()?;
    let (child, pidfd) = match process::clone3(0, None)? {
        Cloned::Child => become_hook(hook, ready, stdin_read, sink, &told),
        Cloned::Parent(child, pidfd) => (child, pidfd),
    };
    drop((stdin_read, told));
    let mut errno = [0u8; 4];
    if fs::read(told_read.as_fd(), &mut errno)? == 4 {
        process::wait(pidfd.as_fd(), true)?;
        return Err(Failed::Call(Fault::new(Call::execve, i32::from_ne_bytes(errno))));
    }
    let end = hook.timeout.map(|s| Instant::now() + Duration::from_secs(s.into()));
    feed(hook, pid, stdin, pidfd.as_fd(), end)?;
    let ready = fs::poll([(pidfd.as_fd(), libc::POLLIN)], left(end))?;
    if ready[0] == 0 {
        // The whole group: a grandchild must not outlive the time that its hook was given.
        let _ = process::kill(-child, libc::SIGKILL);
        let _ = process::pidfd_kill(pidfd.as_fd(), libc::SIGKILL);
        process::wait(pidfd.as_fd(), true)?;
        return Err(Failed::TimedOut);
    }
    match process::wait(pidfd.as_fd(), true)? {
        Some(Ended::Exited(0)) | None => Ok(()),
        Some(ended) => Err(Failed::Ended(ended)),
    }
}

fn left(end: Option<Instant>) -> i32 {
    end.map_or(-1, |end| i32::try_from(end.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(i32::MAX))
}

fn become_hook(hook: &HookOp, ready: &Ready<'_>, stdin: OwnedFd, sink: BorrowedFd<'_>, told: &OwnedFd) -> ! {
    let attempt = || -> Result<Fault> {
        process::own_process_group()?;
        fs::dup_onto(stdin.as_fd(), 0)?;
        fs::dup_onto(sink, 1)?;
        fs::dup_onto(sink, 2)?;
        fs::close_from_at_exec(3)?;
        process::default_signal(libc::SIGPIPE)?;
        Ok(process::execve(&hook.path, &ready.args, &ready.env))
    };
    let fault = attempt().unwrap_or_else(|fault| fault);
    let _ = fs::write(told.as_fd(), &fault.errno.to_ne_bytes());
    process::exit(127)
}

/// Writes the state, as long as the hook lives and its time lasts; a hook need not read it.
fn feed(hook: &HookOp, pid: i32, stdin: OwnedFd, pidfd: BorrowedFd<'_>, end: Option<Instant>) -> Result<()> {
    fs::set_nonblocking(stdin.as_fd(), true)?;
    let mut digits = [0u8; 12];
    let pid = decimal(pid, &mut digits);
    for part in [hook.state[0].as_bytes(), pid, hook.state[1].as_bytes()] {
        let mut rest = part;
        while !rest.is_empty() {
            match fs::write(stdin.as_fd(), rest) {
                Ok(n) => rest = &rest[n..],
                Err(f) if f.errno == libc::EAGAIN => {
                    let [_, gone] = fs::poll([(stdin.as_fd(), libc::POLLOUT), (pidfd, libc::POLLIN)], left(end))?;
                    if gone != 0 || left(end) == 0 {
                        return Ok(());
                    }
                }
                Err(f) if f.errno == libc::EPIPE => return Ok(()),
                Err(f) => return Err(f),
            }
        }
    }
    Ok(())
}

/// A number in decimal digits, in a buffer of the caller's.
pub fn decimal(number: i32, buf: &mut [u8; 12]) -> &[u8] {
    let (mut rest, mut at) = (number.unsigned_abs(), buf.len());
    loop {
        at -= 1;
        buf[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        buf[at] = b'-';
    }
    &buf[at..]
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    fn hook(script: &str, timeout: Option<u32>) -> HookOp {
        let text = |s: &str| CString::new(s).unwrap();
        HookOp {
            kind: "prestart",
            index: 0,
            path: text("/bin/sh"),
            args: vec![text("sh"), text("-c"), text(script)],
            env: vec![text("A=b")],
            timeout,
            state: ["{\"pid\":".to_owned(), "}".to_owned()],
        }
    }

    fn outcome(hook: &HookOp) -> (std::result::Result<(), Failed>, String) {
        let mut out = [0u8; 64];
        match run(hook, &Ready::new(hook), 42, &mut out) {
            Ok(()) => (Ok(()), String::new()),
            Err((failed, n)) => (Err(failed), String::from_utf8_lossy(&out[..n]).into_owned()),
        }
    }

    #[test]
    fn the_state_arrives_and_the_environment_is_exact() {
        let script = "read s; test \"$s\" = '{\"pid\":42}' || echo got \"$s\"; test $A = b && test -z \"$HOME\"; echo $s; exit 3";
        let (end, out) = outcome(&hook(script, None));
        assert_eq!(end, Err(Failed::Ended(Ended::Exited(3))));
        assert_eq!(out, "{\"pid\":42}\n");
    }

    #[test]
    fn a_hook_that_does_not_read_a_large_state_ends_all_the_same() {
        let mut large = hook("exit 0", Some(20));
        large.state[1] = "x".repeat(300_000);
        assert_eq!(outcome(&large).0, Ok(()));
    }

    #[test]
    fn time_ends_the_whole_group_and_waits_for_no_pipe() {
        let begin = Instant::now();
        let (end, _) = outcome(&hook("sleep 30 & sleep 30", Some(1)));
        assert_eq!(end, Err(Failed::TimedOut));
        assert!(begin.elapsed() < Duration::from_secs(10));
        let begin = Instant::now();
        assert_eq!(outcome(&hook("sleep 3 & exit 0", None)).0, Ok(()));
        assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_missing_program_is_told_by_its_errno() {
        let mut missing = hook("", None);
        missing.path = CString::new("/no/such").unwrap();
        assert_eq!(outcome(&missing).0, Err(Failed::Call(Fault::new(Call::execve, libc::ENOENT))));
    }

    #[test]
    fn numbers_become_digits() {
        for n in [0, 7, 10, 4_194_304, i32::MAX, -1, i32::MIN] {
            assert_eq!(decimal(n, &mut [0; 12]), n.to_string().as_bytes());
        }
    }
}
