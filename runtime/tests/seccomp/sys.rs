//! Installs a filter in a child for real.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use tare::compile::seccomp::Filter;

#[repr(C)]
struct Program {
    len: u16,
    insns: *const tare::compile::seccomp::Insn,
}

fn install(filter: &Filter) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_long = 1;
    let len = u16::try_from(filter.program.len()).map_err(io::Error::other)?;
    let program = Program { len, insns: filter.program.as_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::c_long::from(filter.flags);
    // SAFETY: `program` has the layout of struct sock_fprog and outlives the call, as do the instructions it points at;
    // the kernel copies them.
    if unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Starts `command` under `filter`.
pub(crate) fn spawn(filter: Filter, mut command: Command) -> io::Result<Child> {
    let before_exec = move || install(&filter);
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(before_exec) };
    command.spawn()
}

/// Makes one system call under `filter`, in a child that then ends: its errno, or, where the child dies of the call,
/// the signal that killed it. A call that succeeds is an error 0.
pub(crate) fn call(filter: Filter, number: libc::c_long, args: [libc::c_long; 3]) -> Result<i32, i32> {
    use std::os::unix::process::ExitStatusExt;
    let mut command = Command::new("/bin/true");
    let before_exec = move || {
        install(&filter)?;
        let [a, b, c] = args;
        // SAFETY: the callers' calls take numbers and null pointers only.
        let result = unsafe { libc::syscall(number, a, b, c) };
        Err(if result == -1 { io::Error::last_os_error() } else { io::Error::from_raw_os_error(0) })
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(before_exec) };
    match command.spawn() {
        Err(error) => Ok(error.raw_os_error().unwrap_or(-1)),
        Ok(mut child) => {
            let status = child.wait().unwrap();
            Err(status.signal().unwrap_or(-1))
        }
    }
}
