//! The tracer: ptrace(2) on a command and everything that it makes, with one thing that goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls;

/// The first argument of this program as the process that is to be traced.
pub(crate) const STOPPED: &str = "--stopped";
/// A command that takes longer is killed, and has broken rule (f).
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The command's own process is killed.
    Leader,
    /// All of its processes are.
    All,
    /// The call fails with this errno and is not carried out.
    Errno(Errno),
}

impl Harm {
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        const KNOWN: [Errno; 8] = [
            Errno::EPERM,
            Errno::ENOSPC,
            Errno::ENOMEM,
            Errno::EIO,
            Errno::EMFILE,
            Errno::EINTR,
            Errno::EACCES,
            Errno::EAGAIN,
        ];
        match name {
            "leader" => Ok(Harm::Leader),
            "all" => Ok(Harm::All),
            _ => KNOWN
                .into_iter()
                .find(|e| format!("{e:?}") == name)
                .map(Harm::Errno)
                .ok_or(format!("unknown mode {name}")),
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Harm::Leader => "leader".to_owned(),
            Harm::All => "all".to_owned(),
            Harm::Errno(e) => format!("{e:?}"),
        }
    }
}

/// What became of a traced command.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Exit status; none for a death by signal.
    pub(crate) code: Option<i32>,
    /// Points that there were until its end.
    pub(crate) points: usize,
    /// The call at which it happened, if it came so far.
    pub(crate) call: Option<i64>,
    /// How long it took.
    pub(crate) took: Duration,
    /// What it said.
    pub(crate) said: String,
}

struct Tracer<'a> {
    runtime: &'a Path,
    leader: Pid,
    harm: Option<(Harm, usize)>,
    /// Every process that is traced, and whether it still runs the runtime's own code.
    known: BTreeMap<Pid, bool>,
    begun: bool,
    outcome: Outcome,
    /// The process whose call is to fail when it returns.
    failing: Option<Pid>,
}

/// Runs a command and lets it come to harm at a point, counted from 1.
///
/// # Errors
/// The tracing itself failed.
pub(crate) fn run(runtime: &Path, args: &[String], out: &Path, harm: Option<(Harm, usize)>) -> Result<Outcome, String> {
    let say = |e: &dyn std::fmt::Display| format!("trace: {e}");
    let file = File::create(out).map_err(|e| say(&e))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(STOPPED).arg(runtime).args(args).stdin(Stdio::null());
    command.stdout(file.try_clone().map_err(|e| say(&e))?).stderr(file);
    let child = command.spawn().map_err(|e| say(&e))?;
    let leader = Pid::from_raw(i32::try_from(child.id()).map_err(|e| say(&e))?);
    waitpid(leader, Some(WaitPidFlag::WUNTRACED)).map_err(|e| say(&e))?;
    let all = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    let options = all | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
    ptrace::seize(leader, options).map_err(|e| say(&e))?;
    kill(leader, Signal::SIGCONT).map_err(|e| say(&e))?;
    let (begin, (stop, stopped)) = (Instant::now(), mpsc::channel::<()>());
    let watchdog = std::thread::spawn(move || {
        if stopped.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(leader, Signal::SIGKILL);
        }
    });
    let known = BTreeMap::from([(leader, true)]);
    let mut tracer = Tracer { runtime, leader, harm, known, begun: false, outcome: Outcome::default(), failing: None };
    let traced = tracer.until_the_end();
    drop(stop);
    let _ = watchdog.join();
    traced.map_err(|e| say(&e))?;
    let said = std::fs::read(out).unwrap_or_default();
    Ok(Outcome { took: begin.elapsed(), said: String::from_utf8_lossy(&said).trim().to_owned(), ..tracer.outcome })
}

impl Tracer<'_> {
    /// Follows everybody until the command's own process is gone, then lets the others go.
    fn until_the_end(&mut self) -> nix::Result<()> {
        loop {
            let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
            // Whoever is new counts if its maker does, which is known before either goes on.
            if let Some(pid) = status.pid().filter(|pid| !self.known.contains_key(pid)) {
                self.known.insert(pid, parent_of(pid).and_then(|parent| self.known.get(&parent)) != Some(&false));
            }
            match status {
                WaitStatus::Exited(pid, code) if pid == self.leader => {
                    self.outcome.code = Some(code);
                    break;
                }
                WaitStatus::Signaled(pid, ..) if pid == self.leader => break,
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.known.remove(&pid);
                }
                WaitStatus::PtraceSyscall(pid) => self.at_call(pid)?,
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => {
                    self.executed(pid);
                    go_on(pid, None)?;
                }
                WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None)?,
                WaitStatus::Stopped(pid, signal) => {
                    go_on(pid, (signal != Signal::SIGTRAP).then_some(signal))?;
                }
                _ => {}
            }
        }
        // By the kernel's own word: one may have been made that was not heard of yet.
        let_all_go();
        Ok(())
    }

    /// What is executed and is not the runtime does not count: hooks, the container's program.
    fn executed(&mut self, pid: Pid) {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let ours = exe == self.runtime || exe.as_os_str() == "/" || exe.starts_with("/memfd:");
        self.begun |= ours;
        self.known.insert(pid, ours);
    }

    fn at_call(&mut self, pid: Pid) -> nix::Result<()> {
        if self.failing == Some(pid) {
            self.failing = None;
            if let Some((Harm::Errno(errno), _)) = self.harm {
                fail(pid, errno, true)?;
            }
            return go_on(pid, None);
        }
        let info = ptrace::syscall_info(pid)?;
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY || !self.begun || self.known.get(&pid) != Some(&true) {
            return go_on(pid, None);
        }
        // The number comes first in what the kernel says of an entry; nix has no safe way to the union.
        let Some(number) = number_of(pid) else { return go_on(pid, None) };
        let interrupted = matches!(self.harm, Some((Harm::Errno(Errno::EINTR), _)));
        if !calls::is_point(number, interrupted) {
            return go_on(pid, None);
        }
        self.outcome.points += 1;
        match self.harm {
            Some((harm, point)) if point == self.outcome.points => {
                self.outcome.call = Some(number);
                self.come_to_harm(pid, harm)
            }
            _ => go_on(pid, None),
        }
    }

    fn come_to_harm(&mut self, pid: Pid, harm: Harm) -> nix::Result<()> {
        match harm {
            Harm::Leader => {
                kill(self.leader, Signal::SIGKILL)?;
                if pid == self.leader { Ok(()) } else { go_on(pid, None) }
            }
            Harm::All => self.known.keys().try_for_each(|pid| match kill(*pid, Signal::SIGKILL) {
                Err(Errno::ESRCH) => Ok(()),
                killed => killed,
            }),
            Harm::Errno(errno) => {
                self.failing = Some(pid);
                fail(pid, errno, false)?;
                go_on(pid, None)
            }
        }
    }
}

/// The call that a process is about to make, from `/proc/PID/syscall` (proc_pid_syscall(5)).
fn number_of(pid: Pid) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("PPid:")?.trim().parse().ok()).map(Pid::from_raw)
}

/// Lets a process run to its next call. One that was killed meanwhile is heard of by its end.
fn go_on(pid: Pid, signal: Option<Signal>) -> nix::Result<()> {
    match ptrace::syscall(pid, signal) {
        Err(Errno::ESRCH) => Ok(()),
        done => done,
    }
}

/// Every process that this one traces.
fn traced() -> Vec<Pid> {
    let own = format!("TracerPid:\t{}\n", std::process::id());
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let ours = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|s| s.contains(&own));
    pids.filter(ours).map(Pid::from_raw).collect()
}

/// Stops tracing: whoever is traced goes on. Whoever comes first is waited for, for the first process of a pid namespace cannot
/// end before its dead are buried, and a traced one's is to be buried here.
fn let_all_go() {
    let mut asked = BTreeSet::new();
    loop {
        let there = traced();
        for pid in there.iter().filter(|pid| asked.insert(**pid)) {
            let _ = ptrace::interrupt(*pid);
        }
        if there.is_empty() {
            return;
        }
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Stopped(pid, signal)) if signal != Signal::SIGTRAP => drop(ptrace::detach(pid, signal)),
            Ok(status) => {
                let _ = status.pid().map_or(Ok(()), |pid| ptrace::detach(pid, None));
            }
            Err(_) => return,
        }
    }
}

/// Before the call: makes it one that the kernel does not have. After it: makes it have failed.
#[cfg(target_arch = "x86_64")]
fn fail(pid: Pid, errno: Errno, after: bool) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    if after {
        registers.rax = (-i64::from(errno as i32)).cast_unsigned();
    } else {
        registers.orig_rax = u64::MAX;
    }
    ptrace::setregs(pid, registers)
}

#[cfg(not(target_arch = "x86_64"))]
fn fail(_: Pid, _: Errno, _: bool) -> nix::Result<()> {
    Err(Errno::ENOTSUP)
}
