//! System calls: the only floor with unsafe code, one file for each area of the kernel. No policy lives here.
//!
//! Every wrapper answers with a [`Fault`] that knows which call failed. None allocates, so init may use them all.

pub mod alloc;
pub mod bpf;
pub mod fs;
// Not in unit tests, whose `main` rustc makes: it takes this one's declaration for a second, where both are in one piece.
#[cfg(all(own_libc_start, not(test)))]
mod libc_start;
pub mod memory;
pub mod mount;
pub mod process;
pub mod signal;
pub mod socket;
pub mod start;
pub mod terminal;

use std::fmt;

macro_rules! calls {
    ($($name:ident),* $(,)?) => {
        /// A system call, by the name of its manual page.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, non_camel_case_types)]
        pub enum Call { $($name),* }

        impl Call {
            const ALL: &'static [(Call, &'static str)] = &[$((Call::$name, stringify!($name))),*];
        }
    };
}

calls! {
    accept, bind, capget, capset, chdir, chroot, clone3, close_range, connect, copy_file_range, dup3, execve, execveat,
    faccessat2, fchdir, fchmodat, fchownat, fcntl, flock, fsconfig, fsmount, fsopen, fstat, fstatfs, ftruncate, getcwd,
    getdents64, getresgid, getresuid, ioctl, ioprio_set, keyctl, kill, link, listen, madvise, memfd_create, mkdirat,
    mkfifo, mknodat, mmap, mount, mount_setattr, move_mount, open_tree, openat2, personality, pidfd_getfd, pidfd_open,
    pidfd_send_signal, pipe2, pivot_root, poll, prctl, prlimit, read, readlinkat, recvmsg, renameat, sched_setattr,
    sched_setaffinity, seccomp, sendmsg, setdomainname, setgroups, sethostname, setns, setpgid, setresgid, setresuid,
    set_mempolicy, setsid, setsockopt, sigaction, socket, socketpair, statfs, statx, symlinkat, umount2, unlinkat, unshare, waitid, write,
}

impl Call {
    /// Its name.
    pub fn name(self) -> &'static str {
        Call::ALL[self as usize].1
    }

    /// From its number, as a message carries it.
    pub fn from_number(n: u8) -> Option<Call> {
        Call::ALL.get(usize::from(n)).map(|(call, _)| *call)
    }
}

/// A system call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub call: Call,
    /// Why.
    pub errno: i32,
}

impl Fault {
    /// The fault of a call whose errno is known.
    pub fn new(call: Call, errno: i32) -> Self {
        Fault { call, errno }
    }
}

/// The text of an errno, in the lower case in which engines look for it: `no such file or directory`.
pub fn errno_text(errno: i32) -> String {
    let text = nix::errno::Errno::from_raw(errno).desc();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text.starts_with("RPC") => first.to_ascii_lowercase().to_string() + chars.as_str(),
        _ => text.to_owned(),
    }
}

/// The reason of an error of the standard library's, in the same words as [`errno_text`].
pub fn io_text(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_text)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call.name(), errno_text(self.errno))
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        std::io::Error::from_raw_os_error(fault.errno)
    }
}

/// What a system call answers.
pub type Result<T> = std::result::Result<T, Fault>;

fn last_errno() -> i32 {
    // SAFETY: the call takes nothing.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: errno's location is the calling thread's own and always valid.
    unsafe { *location }
}

/// Turns the answer of a call of libc's into a result.
fn check<T: Into<i64> + Copy>(call: Call, answer: T) -> Result<T> {
    if answer.into() < 0 { Err(Fault { call, errno: last_errno() }) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_engines_match_them() {
        assert_eq!(Fault::new(Call::execve, libc::ENOENT).to_string(), "execve: no such file or directory");
        assert_eq!(errno_text(libc::EACCES), "permission denied");
        assert_eq!(errno_text(libc::EPERM), "operation not permitted");
    }

    #[test]
    fn a_call_survives_its_number() {
        for (call, _) in Call::ALL {
            assert_eq!(Call::from_number(*call as u8), Some(*call));
        }
        assert_eq!(Call::from_number(255), None);
    }
}
