//! Processes: clone3(2), pidfds, namespaces, identity, limits, execve(2).

use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Call, Result, check};
use crate::abi::{CapSets, Insn, NodeMask, Scheduler, clone};

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a clone one is on.
pub enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the child's pid and a pidfd of it.
    Parent(i32, OwnedFd),
}

/// clone3(2) without a shared memory: both sides return, the child on a copy of the stack.
///
/// With `CLONE_PARENT` no exit signal may be named: the child inherits that of its maker.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs { flags: flags | clone::PIDFD, ..CloneArgs::default() };
    args.pidfd = &raw mut pidfd as u64;
    if flags & clone::PARENT == 0 {
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    if let Some(fd) = cgroup {
        args.flags |= clone::INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child has a copy of everything; the process has one thread, so no lock can be held
    // by another. `args` and `pidfd` are valid for the call.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match check(Call::clone3, answer)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(i32::try_from(pid).unwrap_or(-1), pidfd))
        }
    }
}

/// _exit(2): nothing is flushed or freed.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers.
    let fd = check(Call::pidfd_open, unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// What tells the process of a pidfd from every other of this boot, those that had or will have its pid too: the inode of its
/// pidfds (pidfs, Linux 6.9). `None` where all pidfds have the same.
pub fn pidfd_identity(pidfd: BorrowedFd<'_>) -> Result<Option<u64>> {
    const PID_FS_MAGIC: i64 = 0x5049_4446;
    if super::fs::filesystem(pidfd)? != PID_FS_MAGIC {
        return Ok(None);
    }
    Ok(Some(super::fs::fstat(pidfd)?.ino))
}

/// pidfd_send_signal(2).
pub fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let info = std::ptr::null::<u8>();
    // SAFETY: a null siginfo makes the kernel fill one as kill(2) does.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    check(Call::pidfd_send_signal, answer).map(drop)
}

/// pidfd_getfd(2): a duplicate of another process's descriptor.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: i32) -> Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes integers.
    let fd = check(Call::pidfd_getfd, unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Ended {
    /// The status as a shell reports it: 128 and the number of the signal.
    pub fn status(self) -> i32 {
        match self {
            Ended::Exited(status) => status,
            Ended::Killed(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exited(status) => write!(f, "exit status {status}"),
            Ended::Killed(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// waitid(2) for a child by its pidfd, which is reaped. Without `block`, `None` means that it still runs.
pub fn wait(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<Ended>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = pidfd.as_raw_fd().cast_unsigned();
    let flags = libc::WEXITED | libc::__WALL | if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: `info` is writable and of the right size.
        match check(Call::waitid, unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), flags) }) {
            Err(f) if f.errno == libc::EINTR => {}
            Err(f) => return Err(f),
            Ok(_) => break,
        }
    }
    // SAFETY: it was zeroed, and waitid filled it or left it so.
    let info = unsafe { info.assume_init() };
    // SAFETY: for WEXITED the kernel fills the SIGCHLD member; zeroed, it reads as pid 0.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok((pid != 0).then_some(if info.si_code == libc::CLD_EXITED {
        Ended::Exited(status)
    } else {
        Ended::Killed(status)
    }))
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes integers.
    check(Call::kill, unsafe { libc::kill(pid, signal) }).map(drop)
}

/// setns(2).
pub fn setns(fd: BorrowedFd<'_>, kind: u64) -> Result<()> {
    let kind = i32::try_from(kind).unwrap_or(0);
    // SAFETY: setns takes integers.
    check(Call::setns, unsafe { libc::setns(fd.as_raw_fd(), kind) }).map(drop)
}

/// ioctl_ns(2), NS_GET_NSTYPE: the CLONE_NEW… flag of a namespace's kind.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Result<u64> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument.
    let kind = check(Call::ioctl, unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) })?;
    Ok(u64::from(kind.cast_unsigned()))
}

/// unshare(2).
pub fn unshare(flags: u64) -> Result<()> {
    let flags = i32::try_from(flags).unwrap_or(0);
    // SAFETY: unshare takes an integer, and the process has one thread.
    check(Call::unshare, unsafe { libc::unshare(flags) }).map(drop)
}

/// setsid(2); being a session leader already is fine.
pub fn setsid() -> Result<()> {
    // SAFETY: setsid takes nothing.
    match check(Call::setsid, unsafe { libc::setsid() }) {
        Err(f) if f.errno == libc::EPERM => Ok(()),
        answer => answer.map(drop),
    }
}

/// setpgid(0, 0).
pub fn own_process_group() -> Result<()> {
    // SAFETY: setpgid takes integers.
    check(Call::setpgid, unsafe { libc::setpgid(0, 0) }).map(drop)
}

/// setgroups(2). libc's wrapper is for threads, of which there are none.
pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: the list is readable for its length.
    let answer = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    check(Call::setgroups, answer).map(drop)
}

/// setresgid(2).
pub fn setgid(gid: u32) -> Result<()> {
    // SAFETY: setresgid takes integers.
    check(Call::setresgid, unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// setresuid(2).
pub fn setuid(uid: u32) -> Result<()> {
    // SAFETY: setresuid takes integers.
    check(Call::setresuid, unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// getresuid(2) or getresgid(2), if all three ids agree; else `u32::MAX`, which nobody may be.
pub fn ids() -> (u32, u32) {
    let (mut r, mut e, mut s) = (0u32, 0u32, 0u32);
    // SAFETY: the three places are writable; the call cannot fail with them.
    unsafe { libc::getresuid(&raw mut r, &raw mut e, &raw mut s) };
    let uid = if r == e && e == s { r } else { u32::MAX };
    // SAFETY: as above.
    unsafe { libc::getresgid(&raw mut r, &raw mut e, &raw mut s) };
    (uid, if r == e && e == s { r } else { u32::MAX })
}

/// The effective ids as the program was executed with them (getauxval(3)): the runtime's own process never changes them.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: getauxval takes an integer.
    let value = |kind| u32::try_from(unsafe { libc::getauxval(kind) }).unwrap_or(u32::MAX);
    (value(libc::AT_EUID), value(libc::AT_EGID))
}

/// Nanoseconds since 1970 by the clock that is the same in every time namespace; 0 where it cannot be read.
pub fn wall_clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
}

/// getpid(2), as the caller's own pid namespace numbers it.
pub fn getpid() -> i32 {
    // SAFETY: getpid cannot fail.
    unsafe { libc::getpid() }
}

/// prctl(2) with one integer.
pub fn prctl(option: i32, argument: u64) -> Result<i32> {
    // SAFETY: only options that take integers are passed; the unused arguments must be zero.
    check(Call::prctl, unsafe { libc::prctl(option, argument, 0u64, 0u64, 0u64) })
}

/// prctl(2), PR_SET_NAME: what ps(1) calls the process.
pub fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: the kernel reads at most 16 bytes, up to the NUL that ends the name.
    check(Call::prctl, unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// prctl(2), PR_CAP_AMBIENT: raises one.
pub fn raise_ambient(capability: u64) -> Result<()> {
    const PR_CAP_AMBIENT: i32 = 47;
    const PR_CAP_AMBIENT_RAISE: u64 = 2;
    // SAFETY: this option takes integers.
    let answer = unsafe { libc::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0u64, 0u64) };
    check(Call::prctl, answer).map(drop)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// capset(2): the three sets at once, so that no moment has one without the others.
pub fn capset(sets: CapSets) -> Result<()> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |set: u64, shift: u32| u32::try_from((set >> shift) & 0xffff_ffff).unwrap_or(0);
    let data = [0, 32].map(|shift| CapData {
        effective: half(sets.effective, shift),
        permitted: half(sets.permitted, shift),
        inheritable: half(sets.inheritable, shift),
    });
    // SAFETY: header and data have the layout of version 3: two parts of 32 bits.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(Call::capset, answer).map(drop)
}

/// capget(2).
pub fn capget() -> Result<CapSets> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: header and data have the layout of version 3: two parts of 32 bits.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    check(Call::capget, answer)?;
    let whole = |f: fn(&CapData) -> u32| u64::from(f(&data[0])) | u64::from(f(&data[1])) << 32;
    Ok(CapSets {
        effective: whole(|d| d.effective),
        permitted: whole(|d| d.permitted),
        inheritable: whole(|d| d.inheritable),
    })
}

/// prlimit(2): sets a limit of a process; 0 is the caller.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is readable; no old limit is asked for.
    let answer = unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    };
    check(Call::prlimit, answer).map(drop)
}

/// The soft limit of open descriptors (getrlimit(2), RLIMIT_NOFILE); 0 where it cannot be read.
pub fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    unsafe { libc::getrlimit64(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
}

/// Ignores SIGPIPE: a reader that has gone is an errno, not a death.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid action, and the call cannot fail for this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// sched_setattr(2).
pub fn sched_setattr(pid: i32, s: &Scheduler) -> Result<()> {
    let attr = SchedAttr {
        size: u32::try_from(size_of::<SchedAttr>()).unwrap_or(0),
        policy: s.policy,
        flags: s.flags,
        nice: s.nice,
        priority: s.priority,
        runtime: s.runtime,
        deadline: s.deadline,
        period: s.period,
    };
    // SAFETY: `attr` is readable and knows its own size.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) };
    check(Call::sched_setattr, answer).map(drop)
}

/// sched_setaffinity(2) of the caller. The mask is padded to whole words, as the kernel wants it.
pub fn sched_setaffinity(mask: &[u8]) -> Result<()> {
    // SAFETY: the mask is readable for its length.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, mask.len(), mask.as_ptr()) };
    check(Call::sched_setaffinity, answer).map(drop)
}

/// ioprio_set(2) of one process.
pub fn ioprio_set(pid: i32, value: i32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: ioprio_set takes integers.
    let answer = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, value) };
    check(Call::ioprio_set, answer).map(drop)
}

/// keyctl(2), KEYCTL_JOIN_SESSION_KEYRING.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: `name` ends with NUL.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    check(Call::keyctl, answer).map(drop)
}

/// personality(2).
pub fn personality(domain: u64) -> Result<()> {
    // SAFETY: personality takes an integer.
    check(Call::personality, unsafe { libc::personality(domain) }).map(drop)
}

/// set_mempolicy(2) for the calling thread: `mode` is MPOL_… with flags or-ed in; nodes that are none are no mask at all.
pub fn set_mempolicy(mode: u32, nodes: &NodeMask) -> Result<()> {
    let none = nodes.iter().all(|word| *word == 0);
    let mask = if none { std::ptr::null() } else { nodes.as_ptr() };
    // The kernel takes one bit less than it is told of (mm/mempolicy.c, get_nodes).
    let bits = if none { 0 } else { size_of_val(nodes) * 8 + 1 };
    // SAFETY: the mask is null and of no bits, or readable for its bits.
    let answer = unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::c_ulong::from(mode), mask, bits) };
    check(Call::set_mempolicy, answer).map(drop)
}

/// sethostname(2).
pub fn sethostname(name: &CStr) -> Result<()> {
    // SAFETY: the name is readable for its length.
    check(Call::sethostname, unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

/// setdomainname(2).
pub fn setdomainname(name: &CStr) -> Result<()> {
    // SAFETY: the name is readable for its length.
    check(Call::setdomainname, unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

/// seccomp(2), SECCOMP_SET_MODE_FILTER. Answers the listener's descriptor number where the flags ask for one, else 0.
pub fn seccomp(program: &[Insn], flags: u32) -> Result<i32> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Insn,
    }
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    let filter = Program { len: u16::try_from(program.len()).unwrap_or(0), filter: program.as_ptr() };
    // SAFETY: Insn has the layout of sock_filter and the program is readable for its length.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    check(Call::seccomp, answer).map(|fd| i32::try_from(fd).unwrap_or(-1))
}

/// Whether the kernel knows a flag of seccomp(2): it faults on the missing program before it refuses anything else.
pub fn seccomp_knows(flag: u32) -> bool {
    // SAFETY: a null program is what is asked about: the kernel answers EFAULT, or EINVAL for an unknown flag.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, 1, flag, std::ptr::null::<u8>()) };
    answer < 0 && super::last_errno() == libc::EFAULT
}

/// Strings in the form that execve(2) takes: pointers, the last one null. They borrow from what they were made of.
pub struct Pointers<'a> {
    list: Vec<*const c_char>,
    marker: std::marker::PhantomData<&'a CStr>,
}

impl<'a> Pointers<'a> {
    /// Lays out a list, with room for `spare` more.
    pub fn new(strings: impl Iterator<Item = &'a CStr>, spare: usize) -> Self {
        let mut list: Vec<_> = strings.map(CStr::as_ptr).collect();
        list.resize(list.len() + spare + 1, std::ptr::null());
        Pointers { list, marker: std::marker::PhantomData }
    }
}

/// execve(2) with one more string at the end of the environment, in the room that was spared for it; without room it is
/// left out. Returns only on failure.
pub fn execve_with(path: &CStr, args: &Pointers<'_>, env: &mut Pointers<'_>, last: &CStr) -> super::Fault {
    let used = env.list.iter().take_while(|p| !p.is_null()).count();
    let room = used + 1 < env.list.len();
    if room {
        env.list[used] = last.as_ptr();
    }
    let fault = execve(path, args, env);
    if room {
        env.list[used] = std::ptr::null();
    }
    fault
}

/// execve(2). Returns only on failure.
pub fn execve(path: &CStr, args: &Pointers<'_>, env: &Pointers<'_>) -> super::Fault {
    // SAFETY: both lists end with null and their strings are borrowed for as long as the lists live.
    unsafe { libc::execve(path.as_ptr(), args.list.as_ptr(), env.list.as_ptr()) };
    super::Fault { call: Call::execve, errno: super::last_errno() }
}

/// execveat(2) of an open file, with the caller's own arguments and environment. Returns only on failure.
pub fn exec_self(file: BorrowedFd<'_>) -> super::Fault {
    use std::os::unix::ffi::OsStringExt;
    let strings = |list: Vec<std::ffi::OsString>| -> Vec<std::ffi::CString> {
        list.into_iter().filter_map(|s| std::ffi::CString::new(s.into_vec()).ok()).collect()
    };
    let args = strings(std::env::args_os().collect());
    let env = strings(
        std::env::vars_os()
            .map(|(mut k, v)| {
                k.push("=");
                k.push(v);
                k
            })
            .collect(),
    );
    let args = Pointers::new(args.iter().map(|s| s.as_c_str()), 0);
    let env = Pointers::new(env.iter().map(|s| s.as_c_str()), 0);
    let empty = c"";
    // SAFETY: both lists end with null, and all strings live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            empty.as_ptr(),
            args.list.as_ptr(),
            env.list.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    super::Fault { call: Call::execveat, errno: super::last_errno() }
}

/// Gives a signal its default action: what the runtime ignores, a container's process must not inherit.
pub fn default_signal(signal: i32) -> Result<()> {
    // SAFETY: a zeroed sigaction is SIG_DFL with an empty mask.
    let action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // SAFETY: `action` is valid; the old one is not asked for.
    check(Call::sigaction, unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_clone_ends_as_it_said() {
        let Cloned::Parent(_, pidfd) = clone3(0, None).unwrap() else { exit(7) };
        assert_eq!(wait(pidfd.as_fd(), true).unwrap(), Some(Ended::Exited(7)));
        let Cloned::Parent(_, pidfd) = clone3(0, None).unwrap() else {
            let _ = kill(getpid(), libc::SIGKILL);
            exit(0)
        };
        assert_eq!(wait(pidfd.as_fd(), true).unwrap(), Some(Ended::Killed(libc::SIGKILL)));
    }

    #[test]
    fn the_last_string_finds_its_room_and_leaves_it() {
        let list = Pointers::new([c"a"].into_iter(), 0);
        let mut env = Pointers::new([c"a"].into_iter(), 1);
        assert_eq!(execve_with(c"/no/such", &list, &mut env, c"b").errno, libc::ENOENT);
        assert!(env.list.len() == 3 && env.list[1].is_null() && env.list[2].is_null());
    }
}
