//! `process`: who the program is, what it may do, how it is found and executed.

use std::ffi::CString;

use super::mounts::inside;
use super::{Chapter, cstring, seccomp};
use crate::abi::{CAP_SYS_ADMIN, CAPABILITIES, RLIMITS};
use crate::field::Field;
use crate::op::{CapSets, InitOp, JoinerOp, Kind, ParentOp, ReadBack, Rlimit, Scheduler};
use crate::plan::{Act, Mark, Step};
use crate::spec::{Process, Str};

/// Where a program is looked for when the config's environment names no PATH (confstr(3), _CS_PATH).
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// The architecture that this runtime was built for, which is the kernel's.
const NATIVE: seccomp::Arch = if cfg!(target_arch = "aarch64") {
    seccomp::Arch::Aarch64
} else if cfg!(target_arch = "riscv64") {
    seccomp::Arch::Riscv64
} else {
    seccomp::Arch::X86_64
};
/// The whole set of an unset label.
const NONE: &[&str] = &["", "unconfined"];

/// EACCES: lower than the caller's own it takes CAP_SYS_RESOURCE of the host, which engines ask of a plain user all the same.
const NOT_LOWERED: &[i32] = &[13];

/// `process.oomScoreAdj`.
pub(super) fn oom_score_adj(ch: &mut Chapter<'_>) {
    if let Some(score) = ch.spec.process.as_ref().and_then(|p| p.oom_score_adj) {
        let step = Step::parent(ParentOp::OomScoreAdj(score), Field::new("process.oomScoreAdj"));
        match (ch.facts.rootless(), ch.target) {
            // By the joiner, see `own_oom_score_adj`.
            (true, Some(_)) => {}
            (true, None) => ch.lanes.parent.push(step.skip(NOT_LOWERED)),
            (false, _) => ch.lanes.parent.push(step),
        }
    }
}

/// The same for a process that is put into a container: what the host's root alone may write of it once it is not dumpable,
/// the joiner writes of itself before.
pub(super) fn own_oom_score_adj(ch: &mut Chapter<'_>) {
    let score = ch.spec.process.as_ref().and_then(|p| p.oom_score_adj).filter(|_| ch.facts.rootless());
    if let Some(score) = score {
        let field = Field::new("process.oomScoreAdj");
        let text = cstring(&score.to_string(), &field, ch.problems);
        ch.lanes.joiner.push(Step::joiner(JoinerOp::OomScoreAdj(text), field).skip(NOT_LOWERED));
    }
}

/// What init is from the beginning.
pub(super) fn session(ch: &mut Chapter<'_>) {
    ch.lanes.init.push(Step::init(InitOp::Undumpable, Field::new("process")));
    ch.lanes.init.push(Step::init(InitOp::Session, Field::new("process")));
}

/// `process.cwd` is made where it is missing, as engines expect; where it cannot be, chdir says so.
pub(super) fn working_directory(ch: &mut Chapter<'_>) {
    let Some(process) = ch.spec.process.as_ref().filter(|_| ch.spec.root.is_some()) else { return };
    let cwd = inside(&process.cwd);
    if cwd != "/" {
        let field = Field::new("process.cwd");
        let path = cstring(&cwd, &field, ch.problems);
        const UNMADE: &[i32] = &[
            1,  /* EPERM */
            13, /* EACCES */
            17, /* EEXIST */
            20, /* ENOTDIR */
            30, /* EROFS */
            40, /* ELOOP */
        ];
        ch.lanes.init.push(Step::init(InitOp::Directory(path), field).skip(UNMADE));
    }
}

/// `process.terminal` and `consoleSize`.
pub(super) fn terminal(ch: &mut Chapter<'_>) {
    let Some(process) = ch.spec.process.as_ref().filter(|p| p.terminal) else { return };
    let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = process.console_size.map(|s| (cells(s.width), cells(s.height)));
    // The container's /dev/console stays that of its own process.
    let op = InitOp::Terminal { size, console: ch.spec.root.is_some() && ch.target.is_none() };
    ch.lanes.init.push(Step::init(op, Field::new("process.terminal")));
}

/// Keyring, personality, umask, labels, ids, capabilities: all that can be done before `start`.
pub(super) fn identity(ch: &mut Chapter<'_>) {
    let Some(process) = &ch.spec.process else { return };
    let push = |ch: &mut Chapter<'_>, op, field| ch.lanes.init.push(Step::init(op, Field::new(field)));
    if !ch.request.no_new_keyring {
        let name = cstring(&format!("_ses.{}", ch.request.id), &Field::new("id"), ch.problems);
        // ENOSYS: a kernel without keyrings has none to leak.
        const NO_KEYRINGS: &[i32] = &[38];
        ch.lanes.init.push(Step::init(InitOp::Keyring(name), Field::new("--no-new-keyring")).skip(NO_KEYRINGS));
    }
    if let Some(personality) = &ch.linux.personality {
        const PER_LINUX32: u64 = 8;
        let domain = if &*personality.domain == "LINUX32" { PER_LINUX32 } else { 0 };
        push(ch, InitOp::Personality(domain), "linux.personality.domain");
    }
    if let Some(policy) = &ch.linux.memory_policy
        // What cannot be read was refused by `validate`.
        && let Ok((mode, nodes)) = crate::validate::memory_policy(policy)
    {
        push(ch, InitOp::MemoryPolicy { mode, nodes: Box::new(nodes) }, "linux.memoryPolicy");
    }
    if let Some(umask) = process.user.umask {
        push(ch, InitOp::Umask(umask), "process.user.umask");
    }
    labels(ch, process);
    if process.no_new_privileges {
        push(ch, InitOp::NoNewPrivileges, "process.noNewPrivileges");
    }
    credentials(ch, process);
}

/// AppArmor's and SELinux's labels take effect at the next execve.
fn labels(ch: &mut Chapter<'_>, process: &Process<'_>) {
    let apparmor = process.apparmor_profile.as_deref().filter(|p| !NONE.contains(p));
    let selinux = process.selinux_label.as_deref().filter(|l| !l.is_empty());
    let wanted = [
        (
            "process.apparmorProfile",
            apparmor.map(|p| format!("exec {p}")),
            ch.facts.apparmor,
            "apparmor/exec",
            "AppArmor",
        ),
        ("process.selinuxLabel", selinux.map(str::to_owned), ch.facts.selinux, "exec", "SELinux"),
    ];
    for (field, value, available, file, name) in wanted {
        let Some(value) = value else { continue };
        let field = Field::new(field);
        if !available {
            ch.problems.error(field, format!("is set, but {name} is not enabled on this host"));
            continue;
        }
        let proc = ch.procfs(&field);
        let path = cstring(&format!("thread-self/attr/{file}"), &field, ch.problems);
        let value = cstring(&value, &field, ch.problems);
        ch.lanes.init.push(Step::init(InitOp::WriteProc { proc, path, value }, field));
    }
}

fn credentials(ch: &mut Chapter<'_>, process: &Process<'_>) {
    let user = &process.user;
    if limits_itself(ch) {
        ch.lanes.init.extend(rlimits(process).map(|(rlimit, field)| Step::init(InitOp::Rlimit(rlimit), field)));
    }
    let caps = capabilities(ch, process);
    let sets = staged(ch, process, caps.sets);
    let push = |ch: &mut Chapter<'_>, op, field| ch.lanes.init.push(Step::init(op, Field::new(field)));
    // In a user namespace of its own init begins with all of them.
    let there = if ch.namespaces.user { (2 << ch.facts.last_cap) - 1 } else { ch.facts.bounding };
    let bounding = InitOp::Bounding { keep: caps.bounding, drop: there & !caps.bounding };
    push(ch, bounding, "process.capabilities.bounding");
    // Tried with root's rights first, then with the user's: either may be the one who can enter it.
    let cwd = cstring(&process.cwd, &Field::new("process.cwd"), ch.problems);
    const DENIED: &[i32] = &[1 /* EPERM */, 13 /* EACCES */];
    ch.lanes.init.push(Step::init(InitOp::Chdir(cwd.clone()), Field::new("process.cwd")).skip(DENIED));
    if !groups_denied(ch) {
        let field = Field::new("process.user.additionalGids");
        let step = Step::init(InitOp::Groups(user.additional_gids.clone()), field);
        // EPERM: a user namespace that is joined may deny it, and then the groups are what they were in it.
        let unasked = user.additional_gids.is_empty() && ch.namespaces.joins(Kind::User);
        ch.lanes.init.push(if unasked { step.skip(&[1]) } else { step });
    } else if !user.additional_gids.is_empty() {
        ch.problems.error_hint(
            Field::new("process.user.additionalGids"),
            "cannot be set where an unprivileged user maps one group",
            "newgidmap(1) and a range in /etc/subgid allow more",
        );
    }
    push(ch, InitOp::Gid(user.gid), "process.user.gid");
    push(ch, InitOp::Uid(user.uid), "process.user.uid");
    push(ch, InitOp::Chdir(cwd), "process.cwd");
    push(ch, InitOp::Capabilities(sets), "process.capabilities");
    if sets == caps.sets && caps.ambient != 0 {
        push(ch, InitOp::Ambient(caps.ambient), "process.capabilities.ambient");
    }
    let read_back =
        ReadBack { uid: user.uid, gid: user.gid, caps: Some(sets), no_new_privileges: process.no_new_privileges };
    push(ch, InitOp::ReadBack(read_back), "process");
}

/// setgroups(2) is denied in a user namespace whose one group was mapped without privilege.
fn groups_denied(ch: &Chapter<'_>) -> bool {
    ch.facts.setgroups_denied
        || ch.target.is_some_and(|target| target.setgroups_denied)
        || ch.lanes.parent.iter().any(|s| matches!(s.act, Act::Parent(ParentOp::DenySetgroups)))
}

struct Caps {
    bounding: u64,
    ambient: u64,
    sets: CapSets,
}

/// The five sets as bits. Unknown names were warned of by `validate` and are dropped.
fn capabilities(ch: &mut Chapter<'_>, process: &Process<'_>) -> Caps {
    let none = crate::spec::Capabilities::default();
    let caps = process.capabilities.as_ref().unwrap_or(&none);
    let mut set = |names: &[Str<'_>], field: &'static str| {
        let mut bits = 0;
        for (i, name) in names.iter().enumerate() {
            let Some(number) = CAPABILITIES.iter().position(|c| c.eq_ignore_ascii_case(name)) else { continue };
            let bit = 1u64 << number;
            if number > usize::from(ch.facts.last_cap) {
                ch.problems.warn(Field::at(field, &[i]), format!("{name} is unknown to this kernel and ignored"));
            } else if !ch.namespaces.user && ch.facts.bounding & bit == 0 {
                ch.problems.error(
                    Field::at(field, &[i]),
                    format!("the runtime itself lacks {name} and cannot give it: operation not permitted"),
                );
            } else {
                bits |= bit;
            }
        }
        bits
    };
    let bounding = set(&caps.bounding, "process.capabilities.bounding[]");
    let effective = set(&caps.effective, "process.capabilities.effective[]");
    let permitted = set(&caps.permitted, "process.capabilities.permitted[]");
    let inheritable = set(&caps.inheritable, "process.capabilities.inheritable[]");
    // What cannot be raised was warned of by `validate`.
    let ambient = set(&caps.ambient, "process.capabilities.ambient[]") & permitted & inheritable;
    Caps { bounding, ambient, sets: CapSets { effective, permitted, inheritable } }
}

/// A filter without no_new_privs takes CAP_SYS_ADMIN to load: where the container has it not, init keeps it until then.
fn staged(ch: &Chapter<'_>, process: &Process<'_>, sets: CapSets) -> CapSets {
    if ch.linux.seccomp.is_none() || process.no_new_privileges || sets.effective & CAP_SYS_ADMIN != 0 {
        return sets;
    }
    CapSets { effective: sets.effective | CAP_SYS_ADMIN, permitted: sets.permitted | CAP_SYS_ADMIN, ..sets }
}

/// Limits and priorities, which the parent sets once init needs no more descriptors or memory than it has.
pub(super) fn limits(ch: &mut Chapter<'_>) {
    let Some(process) = &ch.spec.process else { return };
    let mut steps = Vec::new();
    if !limits_itself(ch) {
        steps.extend(rlimits(process).map(|(rlimit, field)| Step::parent(ParentOp::Rlimit(rlimit), field)));
    }
    if let Some(scheduler) = &process.scheduler {
        let cpu = ch.linux.resources.as_ref().and_then(|r| r.cpu.as_ref());
        let confined = cpu.is_some_and(|cpu| cpu.cpus.as_deref().is_some_and(|cpus| !cpus.is_empty()));
        let op = ParentOp::Scheduler { scheduler: scheduling(scheduler), confined };
        steps.push(Step::parent(op, Field::new("process.scheduler")));
    }
    if let Some(io) = &process.io_priority {
        let class = 1 + ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]
            .iter()
            .position(|c| *c == &*io.class)
            .unwrap_or(0);
        let value = i32::try_from((class << 13) | usize::try_from(io.priority).unwrap_or(0)).unwrap_or(0);
        steps.push(Step::parent(ParentOp::IoPriority(value), Field::new("process.ioPriority")));
    }
    if let Some(first) = steps.first_mut() {
        first.waits = Some(Mark::Ready);
    }
    ch.lanes.parent.extend(steps);
}

/// Whether init sets its resource limits, while it has the runtime's user and rights: prlimit(2) of another user's process
/// takes CAP_SYS_RESOURCE. In a user namespace of its own init has no right to raise any, so there the parent does it.
fn limits_itself(ch: &Chapter<'_>) -> bool {
    !ch.namespaces.user
}

/// `process.rlimits`. An unknown name was refused by `validate`.
fn rlimits<'p>(process: &'p Process<'_>) -> impl Iterator<Item = (Rlimit, Field)> + 'p {
    process.rlimits.iter().enumerate().filter_map(|(i, limit)| {
        let resource = RLIMITS.iter().position(|r| *r == &*limit.kind)?;
        let resource = u32::try_from(resource).ok()?;
        Some((Rlimit { resource, soft: limit.soft, hard: limit.hard }, Field::at("process.rlimits[]", &[i])))
    })
}

/// The numbers of `process.scheduler` (linux/sched.h).
pub(super) fn scheduling(scheduler: &crate::spec::Scheduler<'_>) -> Scheduler {
    let policies =
        ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
    let flags = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    let bit = |f: &Str<'_>| flags.iter().position(|k| *k == &**f).map_or(0, |i| 1u64 << i);
    Scheduler {
        policy: policies.iter().position(|p| *p == &*scheduler.policy).and_then(|p| u32::try_from(p).ok()).unwrap_or(0),
        flags: scheduler.flags.iter().map(bit).fold(0, |all, f| all | f),
        nice: scheduler.nice,
        priority: u32::try_from(scheduler.priority).unwrap_or(0),
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    }
}

/// From finding the program to executing it.
pub(super) fn run(ch: &mut Chapter<'_>) {
    let Some(process) = &ch.spec.process else { return without_program(ch) };
    let from = || Field::new("process.args");
    if !process.env.iter().any(|e| e.starts_with("HOME=")) {
        ch.lanes.init.push(Step::init(InitOp::Home(process.user.uid), Field::new("process.user")));
    }
    let candidates = candidates(ch, process);
    ch.lanes.init.push(Step::init(InitOp::FindProgram(candidates), Field::at("process.args[]", &[0])));
    let filter = filter(ch);
    let notify = filter.as_ref().is_some_and(|f| f.notify);
    let late = filter.and_then(|filter| {
        let step = Step::init(InitOp::Seccomp(filter), Field::new("linux.seccomp"));
        if !notify {
            return Some(step);
        }
        // The agent gets its descriptor from `create`, as there is nobody left to send it once that has gone.
        ch.lanes.init.push(step.reaches(Mark::FilterLoaded));
        None
    });
    if notify {
        send_listener(ch);
    }
    ch.lanes.init.push(Step::init(InitOp::CloseFds(3 + ch.request.preserve_fds), Field::new("--preserve-fds")));
    let ready = Step::init(InitOp::AwaitStart, from()).reaches(Mark::Ready);
    ch.lanes.init.push(if notify { ready.after(Mark::ListenerSent) } else { ready });
    if ch.target.is_none() {
        super::hooks::start_container(ch);
    }
    ch.lanes.init.extend(late);
    final_capabilities(ch, process);
    let args = strings(ch, &process.args, "process.args[]");
    let env = environment(ch, process);
    ch.lanes.init.push(Step::init(InitOp::Exec { args, env }, from()));
}

/// config.md lets `create` make a container without `process`; `start`, which runtime.md has fail then, never opens its gate.
fn without_program(ch: &mut Chapter<'_>) {
    let field = || Field::new("process");
    if !ch.request.gated {
        return ch.problems.error(field(), "is missing: there is nothing to start");
    }
    ch.lanes.init.push(Step::init(InitOp::CloseFds(3), field()));
    ch.lanes.init.push(Step::init(InitOp::AwaitStart, field()).reaches(Mark::Ready));
}

fn filter(ch: &mut Chapter<'_>) -> Option<seccomp::Filter> {
    let seccomp = ch.linux.seccomp.as_ref()?;
    seccomp::compile(seccomp, NATIVE, ch.facts.seccomp_flags, ch.problems)
}

fn send_listener(ch: &mut Chapter<'_>) {
    let Some(seccomp) = &ch.linux.seccomp else { return };
    let field = Field::new("linux.seccomp.listenerPath");
    let path = cstring(seccomp.listener_path.as_deref().unwrap_or_default(), &field, ch.problems);
    let metadata = match seccomp.listener_metadata.as_deref() {
        Some(text) => format!(",\"metadata\":{}", serde_json::Value::from(text)),
        None => String::new(),
    };
    let status = if ch.target.is_some() { "running" } else { "creating" };
    let [head, tail] = super::hooks::state(ch.spec, &ch.request.id, &ch.request.bundle, status);
    let message = Box::new([
        format!("{{\"ociVersion\":\"{}\",\"fds\":[\"seccompFd\"],\"pid\":", super::hooks::OCI_VERSION),
        format!("{metadata},\"state\":{head}"),
        format!("{tail}}}"),
    ]);
    let step = Step::parent(ParentOp::SendListener { path, message }, field);
    // Init is ready only after this: what the parent does to a ready init comes behind it.
    let at = ch.lanes.parent.iter().position(|s| s.waits == Some(Mark::Ready)).unwrap_or(ch.lanes.parent.len());
    ch.lanes.parent.insert(at, step.after(Mark::FilterLoaded).reaches(Mark::ListenerSent));
}

/// What `staged` kept for the filter goes again.
fn final_capabilities(ch: &mut Chapter<'_>, process: &Process<'_>) {
    let before = ch.problems.clone();
    let caps = capabilities(ch, process);
    *ch.problems = before;
    if staged(ch, process, caps.sets) == caps.sets {
        return;
    }
    let field = || Field::new("process.capabilities");
    ch.lanes.init.push(Step::init(InitOp::Capabilities(caps.sets), field()));
    if caps.ambient != 0 {
        ch.lanes.init.push(Step::init(InitOp::Ambient(caps.ambient), field()));
    }
}

/// Where the program may be: the one path, or one for each directory of PATH.
fn candidates(ch: &mut Chapter<'_>, process: &Process<'_>) -> Vec<CString> {
    let Some(program) = process.args.first() else { return Vec::new() };
    let field = Field::at("process.args[]", &[0]);
    if program.contains('/') {
        return vec![cstring(program, &field, ch.problems)];
    }
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    dirs.map(|dir| cstring(&format!("{dir}/{}", &**program), &field, ch.problems)).collect()
}

pub(super) fn strings(ch: &mut Chapter<'_>, list: &[Str<'_>], field: &'static str) -> Vec<CString> {
    list.iter().enumerate().map(|(i, s)| cstring(s, &Field::at(field, &[i]), ch.problems)).collect()
}

/// The environment: the config's, the later of two equal names alone, and that of socket activation.
fn environment(ch: &mut Chapter<'_>, process: &Process<'_>) -> Vec<CString> {
    let name = |e: &str| e.split('=').next().unwrap_or_default().to_owned();
    let mut env = Vec::new();
    for (i, entry) in process.env.iter().enumerate() {
        if !process.env[i + 1..].iter().any(|later| name(later) == name(entry)) {
            env.push(cstring(entry, &Field::at("process.env[]", &[i]), ch.problems));
        }
    }
    let request = ch.request;
    let mut add = |text: String| env.push(cstring(&text, &Field::new("(socket activation)"), ch.problems));
    if request.listen_fds > 0 {
        add(format!("LISTEN_FDS={}", request.listen_fds));
        add("LISTEN_PID=1".to_owned());
        if let Some(names) = &request.listen_fdnames {
            add(format!("LISTEN_FDNAMES={names}"));
        }
    }
    if let Some(socket) = &request.notify_socket {
        add(format!("NOTIFY_SOCKET={socket}"));
    }
    env
}
