//! `exec`: a process for a container that is there. Its own plan: the parent finds the container's init, a joiner enters
//! init's cgroups and namespaces, and what it clones becomes the process, by the same steps as the container's first one.

use std::ffi::CString;

use super::namespaces::Namespaces;
use super::{Chapter, Compiled, cgroup, process};
use crate::abi::clone;
use crate::compile::cgroup::{Group, Version};
use crate::error::Problems;
use crate::facts::Facts;
use crate::field::Field;
use crate::op::{InitOp, JoinerOp, Kind, ParentOp, Slot, Tasks};
use crate::plan::{Act, Lanes, Step};
use crate::request::Request;
use crate::spec::{Capabilities, Linux, Process, Spec, Str};
use crate::validate;

/// The container as it is now.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Init's pid in the runtime's pid namespace.
    pub pid: i32,
    /// When init started, in clock ticks since boot.
    pub start_time: u64,
    /// CLONE_NEW… flags of the namespaces in which init is and the runtime is not.
    pub kinds: u64,
    /// Whether setgroups(2) is denied in init's user namespace.
    pub setgroups_denied: bool,
    /// The container's cgroups, one for each hierarchy.
    pub groups: Vec<Group>,
    /// The cgroup v2 that init has moved itself to, where that is not the container's own (without a leading slash).
    pub moved_to: Option<String>,
}

/// What the command line asks to change of the container's own process.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// More environment.
    pub env: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Sets no_new_privs.
    pub no_new_privs: bool,
    /// More capabilities.
    pub caps: Vec<String>,
}

/// A cgroup below the container's own.
#[derive(Debug, Clone, Default)]
pub struct SubCgroup {
    /// For these controllers of version 1; empty for all hierarchies.
    pub controllers: Vec<String>,
    /// Path below the container's cgroup.
    pub path: String,
}

/// What is to be executed.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// A process of the caller's, complete but for what it leaves to the container's.
    pub process: Option<Process<'a>>,
    /// Else the container's own process with these changes.
    pub flags: Flags,
    /// Where in the container's cgroups.
    pub cgroups: Vec<SubCgroup>,
}

/// Compiles the plan of a process in a container that exists.
///
/// `spec` is the configuration that the container was created with.
///
/// # Errors
/// Every problem of the process at once, each with its field.
pub fn compile(
    spec: &Spec<'_>,
    ask: &Ask<'_>,
    target: &Target,
    facts: &Facts,
    request: &Request,
) -> Result<Compiled, Problems> {
    let mut problems = Problems::default();
    let none = Linux::default();
    let mut spec = spec.clone();
    spec.process = Some(merge(spec.process.as_ref(), ask));
    let linux = spec.linux.as_ref().unwrap_or(&none);
    if let Some(process) = &spec.process {
        validate::process(process, Some(linux), &mut problems);
    }
    let mut lanes = Lanes::default();
    let mut chapter = Chapter {
        spec: &spec,
        linux,
        facts,
        request,
        namespaces: Namespaces { new: target.kinds, joined: Vec::new(), user: target.kinds & clone::NEWUSER != 0 },
        lanes: &mut lanes,
        problems: &mut problems,
        procfs: None,
        target: Some(target),
    };
    write_chapters(&mut chapter, target, &ask.cgroups);
    if !problems.errors.is_empty() {
        return Err(problems);
    }
    Ok(Compiled { plan: lanes.weave(), warnings: problems.warnings })
}

fn write_chapters(ch: &mut Chapter<'_>, target: &Target, sub: &[SubCgroup]) {
    let own = Namespaces::of(ch.linux);
    let from = || Field::new("exec");
    let slot = ch.lanes.slot("the container's init");
    ch.lanes.before.push(Step::parent(identify(target, slot), from()));
    // A mount namespace whose root is not the container's leads elsewhere: there, init's own root is what counts.
    let chrooted = !own.is_new(Kind::Mount) || ch.request.no_pivot;
    let root = chrooted.then(|| open_directory(ch, &format!("/proc/{}/root", target.pid), "init's root"));
    labels(ch);
    affinity(ch, false);
    process::own_oom_score_adj(ch);
    ch.lanes.joiner.push(Step::joiner(JoinerOp::Undumpable, from()));
    let groups = groups(ch, target, sub);
    let entered = clone_joiner(ch, target, &groups);
    affinity(ch, true);
    join(ch, target, slot);
    check_groups(ch, entered);
    process::oom_score_adj(ch);
    process::session(ch);
    if ch.namespaces.user {
        // EINVAL: a map without root, in which the process can become who it is meant to be all the same.
        ch.lanes.init.push(Step::init(InitOp::BecomeRoot, from()).skip(&[22]));
    }
    let terminal = ch.spec.process.as_ref().is_some_and(|p| p.terminal);
    if chrooted || terminal {
        ch.lanes.init.push(Step::init(InitOp::OwnRoot(root), from()));
    }
    process::terminal(ch);
    process::identity(ch);
    process::limits(ch);
    process::run(ch);
}

fn identify(target: &Target, slot: Slot) -> ParentOp {
    ParentOp::OpenProcess { pid: target.pid, start_time: target.start_time, slot }
}

fn open_directory(ch: &mut Chapter<'_>, path: &str, what: &'static str) -> Slot {
    let slot = ch.lanes.slot(what);
    let path = CString::new(path).unwrap_or_default();
    ch.lanes.before.push(Step::parent(ParentOp::OpenDirectory { path, slot }, Field::new("exec")));
    slot
}

/// A label is written to the runtime's own /proc: the container's may be anything (CVE-2019-16884), and another cannot be
/// mounted beside one that is masked.
fn labels(ch: &mut Chapter<'_>) {
    let labelled = ch.spec.process.as_ref().is_some_and(|p| p.apparmor_profile.is_some() || p.selinux_label.is_some());
    if labelled {
        ch.procfs = Some(open_directory(ch, "/proc", "the runtime's proc"));
    }
}

/// `execCPUAffinity`: `initial` is that of the runtime before the cgroups are entered, `final` what is set after it.
fn affinity(ch: &mut Chapter<'_>, last: bool) {
    let Some(wanted) = ch.spec.process.as_ref().and_then(|p| p.exec_cpu_affinity.as_ref()) else { return };
    let list = if last { &wanted.last } else { &wanted.initial };
    // A list that is none was reported by `validate`.
    let ranges = validate::cpu_list(list.as_deref().unwrap_or_default()).unwrap_or_default();
    let Some(highest) = ranges.iter().map(|(_, last)| *last).max() else { return };
    let mut mask = vec![0u8; (highest as usize / 64 + 1) * 8];
    for cpu in ranges.iter().flat_map(|(first, last)| *first..=*last) {
        mask[cpu as usize / 8] |= 1 << (cpu % 8);
    }
    let mask = mask.into_boxed_slice();
    if last {
        let field = Field::new("process.execCPUAffinity.final");
        ch.lanes.joiner.push(Step::joiner(JoinerOp::Affinity(mask), field));
    } else {
        let field = Field::new("process.execCPUAffinity.initial");
        ch.lanes.before.push(Step::parent(ParentOp::Affinity(mask), field));
    }
}

/// The cgroups that are entered: the container's, or those below them that are asked for.
fn groups(ch: &mut Chapter<'_>, target: &Target, sub: &[SubCgroup]) -> Vec<Group> {
    let field = || Field::new("--cgroup");
    let mut groups = target.groups.clone();
    let mut placed: Vec<&str> = Vec::new();
    for ask in sub {
        if cgroup::below("x", &ask.path).is_none() {
            ch.problems.error(field(), format!("bad sub cgroup path: {}", ask.path));
            continue;
        }
        let wanted: Vec<&str> = match ask.controllers.as_slice() {
            [] => vec![""],
            list => list.iter().map(String::as_str).collect(),
        };
        for controller in wanted {
            if placed.contains(&controller) {
                ch.problems.error(field(), format!("names controller {controller:?} more than once"));
            }
            placed.push(controller);
            let is_meant = |g: &Group| controller.is_empty() || g.controllers.iter().any(|c| same(c, controller));
            let mut known = false;
            for (group, own) in groups.iter_mut().zip(&target.groups).filter(|(_, own)| is_meant(own)) {
                known = true;
                group.path = cgroup::below(&own.path, &ask.path).unwrap_or_default();
            }
            if target.groups.is_empty() {
                ch.problems.error(field(), "the container has no cgroup");
            } else if !known {
                ch.problems.error(field(), format!("unknown controller {controller}"));
            }
        }
    }
    groups
}

/// A named hierarchy is known with its prefix and without.
fn same(controller: &str, asked: &str) -> bool {
    controller == asked || controller.strip_prefix("name=") == Some(asked)
}

/// The kernel's word that the process is where the plan says, before it may run: one in another cgroup would have neither
/// the container's limits nor its device rules, and would outlive it.
fn check_groups(ch: &mut Chapter<'_>, mut entered: Vec<Group>) {
    if entered.is_empty() {
        return;
    }
    // An unprivileged runtime may have been unable to make some of them.
    let rootless = ch.facts.rootless();
    entered.iter_mut().for_each(|group| group.optional |= rootless);
    ch.lanes.parent.push(Step::parent(ParentOp::CheckCgroups(entered), Field::new("linux.cgroupsPath")));
}

/// Clones the joiner into the container's cgroup v2, and lets it enter those of version 1. Answers where it may be then.
fn clone_joiner(ch: &mut Chapter<'_>, target: &Target, groups: &[Group]) -> Vec<Group> {
    let mut entered = groups.to_vec();
    let field = || Field::new("linux.cgroupsPath");
    let rootless = ch.facts.rootless();
    let mut start_in = None;
    let mut other = None;
    for group in groups {
        let slot = open_group(ch, group.clone());
        if group.version == Version::V1 {
            // EBADF: an unprivileged runtime that could not make this cgroup had none to open.
            let attach = Step::joiner(JoinerOp::Attach(Tasks::Slot(slot)), field());
            ch.lanes.joiner.push(if rootless { attach.skip(&[9]) } else { attach });
            continue;
        }
        start_in = Some(slot);
        let own = target.groups.iter().find(|g| g.version == Version::V2);
        if let (Some(moved), true) = (&target.moved_to, own == Some(group)) {
            let group = Group { path: moved.clone(), ..group.clone() };
            other = Some(open_group(ch, group.clone()));
            entered.push(group);
        }
    }
    let clone = |cgroup| ParentOp::Clone { flags: 0, cgroup, joiner: true };
    let mut step = Step::parent(clone(start_in), Field::new("exec"));
    if other.is_some() {
        // EBUSY: a cgroup that passes controllers on holds no processes; those of the container are where its init is.
        step = step.or_else(&[16], Act::Parent(clone(other)));
    }
    ch.lanes.before.push(step);
    entered
}

fn open_group(ch: &mut Chapter<'_>, group: Group) -> Slot {
    let slot = ch.lanes.slot("cgroup");
    let step = Step::parent(ParentOp::OpenCgroup { group: Box::new(group), slot }, Field::new("linux.cgroupsPath"));
    ch.lanes.before.push(if ch.facts.rootless() { step.skip(&[2]) } else { step });
    slot
}

/// One setns(2) for all: either every namespace is joined or none, whatever they belong to.
fn join(ch: &mut Chapter<'_>, target: &Target, process: Slot) {
    let from = || Field::new("linux.namespaces");
    if target.kinds != 0 {
        let op = JoinerOp::JoinProcess { process, kinds: target.kinds };
        ch.lanes.joiner.push(Step::joiner(op, from()));
    }
    if ch.namespaces.user {
        // A change of credentials undoes it where /proc/sys/fs/suid_dumpable says so.
        ch.lanes.joiner.push(Step::joiner(JoinerOp::Undumpable, Field::new("exec")));
    }
    ch.lanes.joiner.push(Step::joiner(JoinerOp::Clone { flags: 0 }, Field::new("exec")));
    ch.lanes.parent.push(Step::parent(ParentOp::MeetInit, Field::new("exec")));
    if target.kinds == 0 {
        // Nothing that was joined has proved that the process was still there when its root was opened.
        let again = ch.lanes.slot("the container's init, again");
        ch.lanes.parent.push(Step::parent(identify(target, again), Field::new("exec")));
    }
}

/// The process that is asked for: the caller's, with what it leaves open taken from the container's, or the container's,
/// with what the flags change.
fn merge<'a>(base: Option<&Process<'a>>, ask: &Ask<'a>) -> Process<'a> {
    let base = base.cloned().unwrap_or_default();
    let Some(given) = &ask.process else { return change(base, &ask.flags) };
    let mut process = given.clone();
    process.terminal |= ask.flags.tty;
    process.capabilities = process.capabilities.or(base.capabilities);
    process.apparmor_profile = process.apparmor_profile.filter(|p| !p.is_empty()).or(base.apparmor_profile);
    process.selinux_label = process.selinux_label.filter(|l| !l.is_empty()).or(base.selinux_label);
    process.oom_score_adj = process.oom_score_adj.or(base.oom_score_adj);
    process.scheduler = process.scheduler.or(base.scheduler);
    process.io_priority = process.io_priority.or(base.io_priority);
    process.exec_cpu_affinity = process.exec_cpu_affinity.or(base.exec_cpu_affinity);
    process.user.umask = process.user.umask.or(base.user.umask);
    if process.rlimits.is_empty() {
        process.rlimits = base.rlimits;
    }
    if process.cwd.is_empty() {
        process.cwd = Str::from("/");
    }
    process
}

fn change<'a>(mut process: Process<'a>, flags: &Flags) -> Process<'a> {
    let strings = |list: &[String]| list.iter().map(|s| Str::from(s.clone())).collect::<Vec<_>>();
    process.args = strings(&flags.args);
    process.terminal = flags.tty;
    process.console_size = None;
    process.env.extend(strings(&flags.env));
    process.no_new_privileges |= flags.no_new_privs;
    process.user.uid = flags.uid.unwrap_or(process.user.uid);
    process.user.gid = flags.gid.unwrap_or(process.user.gid);
    process.user.additional_gids.extend(&flags.additional_gids);
    let text = |s: &Option<String>| s.clone().map(Str::from);
    process.cwd = text(&flags.cwd).unwrap_or(process.cwd);
    process.apparmor_profile = text(&flags.apparmor).or(process.apparmor_profile);
    process.selinux_label = text(&flags.process_label).or(process.selinux_label);
    if !flags.caps.is_empty() {
        // Never the inheritable set, from which a file of the image could take them (CVE-2022-29162).
        let caps = process.capabilities.get_or_insert_with(Capabilities::default);
        for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted] {
            set.extend(strings(&flags.caps));
        }
    }
    process
}
