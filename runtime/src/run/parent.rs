//! The parent's lane: what happens in the runtime's own process and namespaces.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::wire::Word;
use super::{cgroup, hook, net_device, proc, systemd};
use crate::compile::cgroup::{Group, Version};
use crate::op::{HookOp, Kind, ParentOp, Slot};
use crate::plan::{Act, Plan};
use crate::sys::process::{self, Cloned, Ended};
use crate::sys::{Call, Fault, errno_text, fs, io_text, mount, socket};

/// Why a step of the parent's failed.
#[derive(Debug)]
pub struct Failed {
    /// The sentence, without the field.
    pub text: String,
    /// The errno, where a call failed.
    pub errno: Option<i32>,
    /// The field behind it, where that is not the step's own.
    pub about: Option<&'static str>,
    whole: bool,
}

impl Failed {
    /// A failure that no call explains.
    pub fn text(text: impl Into<String>) -> Self {
        Failed { text: text.into(), errno: None, about: None, whole: false }
    }

    /// Adds what is known to be behind it.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.text = format!("(hint: {hint}) {}", self.text);
        self
    }

    /// Names another field than the step's own.
    #[must_use]
    pub fn about(mut self, field: &'static str) -> Self {
        self.about = Some(field);
        self
    }

    /// The text says everything already.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Says what was tried, where that is not said yet.
    #[must_use]
    pub fn of_step(mut self, step: usize, plan: &Plan) -> Self {
        if !self.whole {
            self.text = format!("{}: {}", crate::explain::act(&plan.steps[step].act), self.text);
        }
        self
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Failed { text: fault.to_string(), errno: Some(fault.errno), about: None, whole: false }
    }
}

impl From<cgroup::Error> for Failed {
    fn from(error: cgroup::Error) -> Self {
        Failed { errno: error.errno.map(|e| e as i32), text: error.to_string(), about: None, whole: true }
    }
}

impl From<systemd::Error> for Failed {
    fn from(error: systemd::Error) -> Self {
        Failed { errno: None, text: error.to_string(), about: None, whole: true }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        let errno = error.raw_os_error();
        Failed { text: errno.map_or_else(|| error.to_string(), errno_text), errno, about: None, whole: false }
    }
}

/// What the lane gathers on its way, beside the slots.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What the last awaited step of init gave.
    pub yielded: i32,
    /// The cgroup files that are open.
    pub writer: cgroup::Writer,
    /// The network devices that were moved.
    pub moved: Vec<net_device::Moved>,
}

/// Carries an op out. `child` is init, or the joiner.
pub fn act(
    op: &ParentOp,
    child: Option<(i32, BorrowedFd<'_>)>,
    slots: &mut [Option<OwnedFd>],
    gathered: &mut Gathered,
) -> Result<(), Failed> {
    match op {
        ParentOp::OpenNamespace { .. }
        | ParentOp::OpenTree { .. }
        | ParentOp::MakeMapping { .. }
        | ParentOp::OpenCgroup { .. }
        | ParentOp::OpenProcess { .. }
        | ParentOp::OpenDirectory { .. } => return open(op, slots),
        ParentOp::Affinity(mask) => return Ok(process::sched_setaffinity(mask)?),
        ParentOp::MapTree { tree, mapping, recursive } => return map_tree(*tree, *mapping, *recursive, child, slots),
        ParentOp::MakeCgroup(group) => {
            cgroup::make(group)?;
            return Ok(());
        }
        ParentOp::AdoptCgroup(group) => return Ok(cgroup::adopt(group)?),
        ParentOp::StartUnit(unit) if !unit.attach => return Ok(systemd::start(unit, None)?),
        ParentOp::WriteCgroup { group, write } => return Ok(gathered.writer.write(group, write)?),
        ParentOp::Delegate { group, uid } => return Ok(cgroup::delegate(group, *uid)?),
        ParentOp::AttachDevices { group, program } => return Ok(cgroup::devices::attach(group, program)?),
        _ => {}
    }
    let (pid, pidfd) = child.ok_or_else(|| Failed::text("there is no process yet"))?;
    match op {
        ParentOp::StartUnit(unit) => Ok(systemd::start(unit, Some(pid))?),
        ParentOp::DenySetgroups => proc_write(pid, "setgroups", "deny"),
        ParentOp::WriteMap { file, text, helper: false } => proc_write(pid, file, text),
        ParentOp::WriteMap { file, text, helper: true } => map_by_helper(pid, file, text),
        ParentOp::Rlimit(l) => Ok(process::prlimit(pid, l.resource, l.soft, l.hard)?),
        ParentOp::OomScoreAdj(score) => proc_write(pid, "oom_score_adj", &score.to_string()),
        ParentOp::Scheduler { scheduler, confined } => match process::sched_setattr(pid, scheduler) {
            // The kernel admits a deadline only to who may run on all CPUs that the deadline was admitted for.
            Err(fault) if *confined && fault.errno == libc::EPERM => {
                let text = format!("{fault}: process scheduler can't be used together with AllowedCPUs");
                Err(Failed { text, ..fault.into() })
            }
            done => Ok(done?),
        },
        ParentOp::IoPriority(value) => Ok(process::ioprio_set(pid, *value)?),
        ParentOp::MoveNetDevice { name, inside } => net_device::enter(name, inside, pid, &mut gathered.moved),
        ParentOp::Hook(op) => run_hook(op, pid),
        ParentOp::CheckCgroups(groups) => check_cgroups(groups, pid),
        ParentOp::SendListener { path, message } => {
            let listener = process::pidfd_getfd(pidfd, gathered.yielded)?;
            send_listener(path, message, pid, &listener)
        }
        _ => Ok(()),
    }
}

fn open(op: &ParentOp, slots: &mut [Option<OwnedFd>]) -> Result<(), Failed> {
    let (slot, fd) = match op {
        ParentOp::OpenNamespace { kind, path, slot } => (slot, open_namespace(*kind, path)?),
        ParentOp::OpenTree { source, recursive, nofollow, slot } => {
            let tree = mount::open_tree(fs::cwd(), source, *recursive, *nofollow)?;
            super::late_mount::enslave(tree.as_fd())?;
            (slot, tree)
        }
        ParentOp::MakeMapping { uid, gid, slot } => (slot, make_mapping(uid, gid)?),
        ParentOp::OpenCgroup { group, slot } => (slot, cgroup::open(group)?),
        ParentOp::OpenProcess { pid, start_time, slot } => (slot, open_process(*pid, *start_time)?),
        ParentOp::OpenDirectory { path, slot } => (slot, fs::open(path, libc::O_PATH | libc::O_DIRECTORY)?),
        _ => return Ok(()),
    };
    slots[usize::from(slot.0)] = Some(fd);
    Ok(())
}

fn open_namespace(kind: Kind, path: &CStr) -> Result<OwnedFd, Failed> {
    let fd = fs::open(path, libc::O_RDONLY)?;
    if process::namespace_kind(fd.as_fd()) != Ok(kind.flag()) {
        return Err(Failed::text(format!("is no {} namespace", kind.name())));
    }
    Ok(fd)
}

/// Whether the namespaces that a plan joins are there and of their types, and the cgroup of its unit nobody's, before anything
/// is made for it.
///
/// # Errors
/// The first that is not, as the sentence that walking would end with.
pub fn foresee(plan: &Plan) -> Result<(), String> {
    for (n, step) in plan.steps.iter().enumerate() {
        if let Act::Parent(ParentOp::AdoptCgroup(group)) = &step.act
            && !cgroup::is_empty(&group.dir()).map_err(|e| format!("{}: {e}", step.from))?
        {
            return Err(format!("{}: container's cgroup is not empty: {} holds processes", step.from, group.dir()));
        }
        if let Act::Parent(ParentOp::OpenNamespace { kind, path, .. }) = &step.act {
            let opened = open_namespace(*kind, path).map_err(|failed| failed.of_step(n, plan));
            opened.map_err(|failed| format!("{}: {}", step.from, failed.text))?;
        }
    }
    Ok(())
}

/// The number may have become another's since it was written down: what was opened is looked at, not what is believed.
fn open_process(pid: i32, start_time: u64) -> Result<OwnedFd, Failed> {
    let gone =
        || Failed { text: "container not running".to_owned(), errno: Some(libc::ESRCH), about: None, whole: true };
    let pidfd = match process::pidfd_open(pid) {
        // What cannot be opened for want of descriptors is not gone.
        Err(fault) if fault.errno != libc::ESRCH => return Err(fault.into()),
        opened => opened.map_err(|_| gone())?,
    };
    match proc::stat(pid) {
        Ok(Some((state, start))) if start == start_time && !matches!(state, b'Z' | b'X') => Ok(pidfd),
        Ok(_) => Err(gone()),
        Err(e) => Err(e.into()),
    }
}

fn proc_write(pid: i32, file: &str, text: &str) -> Result<(), Failed> {
    std::fs::write(format!("/proc/{pid}/{file}"), text)?;
    Ok(())
}

/// newuidmap(1) and newgidmap(1) take the extents as arguments.
fn map_by_helper(pid: i32, file: &str, text: &str) -> Result<(), Failed> {
    let program = if file == "uid_map" { "newuidmap" } else { "newgidmap" };
    let mut command = std::process::Command::new(program);
    command.arg(pid.to_string()).args(text.split_whitespace());
    let output = command.output().map_err(|e| {
        let hint = "more than one's own id takes newuidmap(1) and newgidmap(1), often the package uidmap";
        Failed::text(format!("{program} (hint: {hint}): {}", io_text(&e)))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failed::text(format!("{program}: {}: {}", output.status, said.trim())))
}

/// A user namespace that only serves as a mapping is held by its descriptor; the process that made it goes at once.
fn make_mapping(uid: &str, gid: &str) -> Result<OwnedFd, Failed> {
    let (rx, tx) = fs::pipe()?;
    let (pid, pidfd) = match process::clone3(crate::abi::clone::NEWUSER, None)? {
        Cloned::Child => {
            drop(tx);
            // Until the parent has what it needs, or is dead.
            let _ = fs::read(rx.as_fd(), &mut [0]);
            process::exit(0)
        }
        Cloned::Parent(pid, pidfd) => (pid, pidfd),
    };
    let made = proc_write(pid, "uid_map", uid)
        .and_then(|()| proc_write(pid, "gid_map", gid))
        .and_then(|()| Ok(std::fs::File::open(format!("/proc/{pid}/ns/user"))?));
    drop(tx);
    process::wait(pidfd.as_fd(), true)?;
    Ok(made?.into())
}

fn map_tree(
    tree: Slot,
    mapping: Option<Slot>,
    recursive: bool,
    child: Option<(i32, BorrowedFd<'_>)>,
    slots: &[Option<OwnedFd>],
) -> Result<(), Failed> {
    let missing = || Failed::text("the tree is not open");
    let tree = slots[usize::from(tree.0)].as_ref().ok_or_else(missing)?;
    let own;
    let mapping = match mapping {
        Some(slot) => slots[usize::from(slot.0)].as_ref().ok_or_else(missing)?.as_fd(),
        None => {
            let (pid, _) = child.ok_or_else(missing)?;
            own = std::fs::File::open(format!("/proc/{pid}/ns/user"))?;
            own.as_fd()
        }
    };
    Ok(mount::setattr(tree.as_fd(), c"", recursive, (crate::abi::attr::IDMAP, 0), 0, Some(mapping))?)
}

fn run_hook(op: &HookOp, pid: i32) -> Result<(), Failed> {
    let mut output = [0u8; 1024];
    hook::run(op, &hook::Ready::new(op), pid, &mut output).map_err(|(failed, len)| {
        let said = String::from_utf8_lossy(&output[..len]);
        let (word, value, call) = match failed {
            hook::Failed::Call(fault) => (Word::Failed, fault.errno, fault.call),
            hook::Failed::TimedOut => (Word::HookTimedOut, 0, Call::poll),
            hook::Failed::Ended(Ended::Exited(status)) => (Word::HookEnded, status, Call::waitid),
            hook::Failed::Ended(Ended::Killed(signal)) => (Word::HookEnded, -signal, Call::waitid),
        };
        Failed::text(hook_text(op, word, value, call, said.trim())).whole()
    })
}

/// Runs a hook outside of a plan: `poststart` and `poststop`.
///
/// # Errors
/// The sentence that says how the hook failed.
pub fn run_late_hook(op: &HookOp, pid: i32) -> Result<(), String> {
    run_hook(op, pid).map_err(|failed| failed.text)
}

/// The sentence of a hook that failed, in the words that engines look for.
pub fn hook_text(op: &HookOp, word: Word, value: i32, call: Call, said: &str) -> String {
    let mut text = format!("error running {} hook #{}: {}: ", op.kind, op.index, op.path.to_string_lossy());
    let _ = match word {
        Word::HookTimedOut => write!(text, "timed out after {} s and was killed", op.timeout.unwrap_or(0)),
        Word::HookEnded if value < 0 => write!(text, "killed by signal {}", -value),
        Word::HookEnded => write!(text, "exit status {value}"),
        _ => write!(text, "{}: {}", call.name(), errno_text(value)),
    };
    if !said.is_empty() {
        let _ = write!(text, ", it said: {said}");
    }
    text
}

/// The kernel's word on where init is: `/proc/PID/cgroup`.
fn check_cgroups(groups: &[Group], pid: i32) -> Result<(), Failed> {
    let path = CString::new(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let is = fs::read_whole_small(&path, 8192)?;
    let is = String::from_utf8_lossy(&is);
    let checked = groups.iter().try_for_each(|group| {
        // Of several in one hierarchy it is in one.
        let mut beside = groups.iter().filter(|other| other.mount == group.mount);
        if beside.any(|other| check_cgroup(other, &is).is_ok()) { Ok(()) } else { check_cgroup(group, &is) }
    });
    // Whoever dies leaves his cgroups before his death can be seen.
    const DEATH_MS: i32 = 100;
    let dies = || {
        let ended = |pidfd: OwnedFd| fs::poll([(pidfd.as_fd(), libc::POLLIN)], DEATH_MS).is_ok_and(|[gone]| gone != 0);
        process::pidfd_open(pid).ok().is_none_or(ended)
    };
    checked.map_err(|wrong| if dies() { Failed::text("init died on the way").whole() } else { wrong })
}

fn check_cgroup(group: &Group, is: &str) -> Result<(), Failed> {
    let wanted = format!("/{}", group.path);
    let is_ours = |controllers: &str| match group.version {
        Version::V2 => controllers.is_empty(),
        Version::V1 => group.controllers.iter().all(|c| controllers.split(',').any(|k| k == c)),
    };
    let line = is.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is_ours(controllers).then_some(path)
    });
    match line {
        Some(path) if path == wanted => Ok(()),
        _ if group.optional && cgroup::open(group).is_err() => Ok(()),
        Some(path) => Err(Failed::text(format!("it is in {path} instead of {wanted}"))),
        None => Err(Failed::text(format!("it is in no cgroup of {}", group.mount))),
    }
}

/// Hands the notification descriptor to the agent (config-linux.md, The Container Process State).
fn send_listener(path: &CStr, parts: &[String; 3], pid: i32, listener: &OwnedFd) -> Result<(), Failed> {
    let agent = socket::connect(path).map_err(|f| Failed {
        text: format!("failed to connect with seccomp agent: {f}"),
        errno: Some(f.errno),
        about: None,
        whole: true,
    })?;
    let [head, middle, tail] = parts;
    let message = format!("{head}{pid}{middle}{pid}{tail}");
    let sent = socket::send_fd(agent.as_fd(), message.as_bytes(), listener.as_fd())?;
    let mut rest = &message.as_bytes()[sent..];
    while !rest.is_empty() {
        rest = &rest[fs::write(agent.as_fd(), rest)?..];
    }
    Ok(())
}
