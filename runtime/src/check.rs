//! What must be true of every plan: no step waits in vain or in a circle, slots are written once and before they are read,
//! and the order of what the kernel ties together is kept.
//!
//! [`ORDER`] is that order, and its documentation.

use crate::op::{EnterRoot, InitOp, JoinerOp, MountSource, ParentOp, Slot, Tasks};
use crate::plan::{Act, Lane, Plan};

type Is = fn(&Act) -> bool;

macro_rules! is {
    ($pattern:pat) => {
        |act| matches!(act, $pattern)
    };
}

/// "A before B because C": every A of a plan stands before every B of it.
pub const ORDER: &[(&str, Is, &str, Is, &str)] = &[
    (
        "setgroups denied",
        is!(Act::Parent(ParentOp::DenySetgroups)),
        "gid_map written",
        is!(Act::Parent(ParentOp::WriteMap { file: "gid_map", .. })),
        "an unprivileged gid map is refused otherwise (CVE-2014-8989)",
    ),
    (
        "container's init identified",
        is!(Act::Parent(ParentOp::OpenProcess { .. })),
        "container's namespaces joined",
        is!(Act::Joiner(JoinerOp::JoinProcess { .. })),
        "the pid may have become another's since the state was written",
    ),
    (
        "cgroup entered by the joiner",
        is!(Act::Joiner(JoinerOp::Attach(_))),
        "container's namespaces joined",
        is!(Act::Joiner(JoinerOp::JoinProcess { .. })),
        "what the container sees must be bound by its limits already",
    ),
    (
        "cgroup entered",
        is!(Act::Init(InitOp::Attach(_))),
        "cgroup namespace made",
        is!(Act::Init(InitOp::Unshare(0x0200_0000))),
        "the namespace's root is the cgroup that its maker is in",
    ),
    (
        "device rule of cgroup version 1 written",
        |act| matches!(act, Act::Parent(ParentOp::WriteCgroup { write, .. }) if write.file.starts_with("devices.")),
        "device made",
        is!(Act::Init(InitOp::Device(_))),
        "everything is denied while they are written, making a node, too",
    ),
    (
        "cgroup limited",
        is!(Act::Parent(ParentOp::MakeCgroup(_) | ParentOp::WriteCgroup { .. } | ParentOp::AttachDevices { .. })),
        "cgroup given away",
        is!(Act::Parent(ParentOp::Delegate { .. })),
        "who has given it away may have no right to it any more",
    ),
    (
        "init cloned",
        is!(Act::Parent(ParentOp::Clone { .. } | ParentOp::MeetInit)),
        "unit started with init",
        |act| matches!(act, Act::Parent(ParentOp::StartUnit(unit)) if unit.attach),
        "systemd makes no scope without a process, and init's pid is what it is given",
    ),
    (
        "unit started",
        is!(Act::Parent(ParentOp::StartUnit(_))),
        "limit set",
        is!(Act::Parent(ParentOp::WriteCgroup { .. } | ParentOp::AttachDevices { .. })),
        "systemd writes what it knows of when it starts the unit, and would undo what it does not",
    ),
    (
        "unit started",
        is!(Act::Parent(ParentOp::StartUnit(_))),
        "cgroup namespace made",
        is!(Act::Init(InitOp::Unshare(0x0200_0000))),
        "the namespace's root is the cgroup that its maker is in",
    ),
    (
        "propagation changed",
        is!(Act::Init(InitOp::Propagation { recursive: true, .. })),
        "root opened",
        is!(Act::Init(InitOp::OpenRoot { .. })),
        "mounts made before would be seen by the host",
    ),
    (
        "root opened",
        is!(Act::Init(InitOp::OpenRoot { .. })),
        "something mounted",
        is!(Act::Init(
            InitOp::Mount(_)
                | InitOp::Attributes { .. }
                | InitOp::Device(_)
                | InitOp::Symlink { .. }
                | InitOp::Directory(_)
        )),
        "paths are resolved from the root's handle alone (R1)",
    ),
    (
        "something mounted",
        is!(Act::Init(InitOp::Mount(_))),
        "path covered",
        is!(Act::Init(InitOp::Cover { .. })),
        "a later mount would lie over the cover",
    ),
    (
        "sysctl or label written",
        is!(Act::Init(InitOp::SetName { .. })),
        "path covered",
        is!(Act::Init(InitOp::Cover { .. })),
        "a cover over /proc/sys would keep the runtime out, too",
    ),
    (
        "path covered",
        is!(Act::Init(InitOp::Cover { .. })),
        "root entered",
        is!(Act::Init(InitOp::EnterRoot(_))),
        "the handle of the root goes with the entering",
    ),
    (
        "device made",
        is!(Act::Init(InitOp::Device(_) | InitOp::Symlink { .. } | InitOp::Directory(_))),
        "root read-only",
        is!(Act::Init(InitOp::ReadonlyRoot)),
        "nothing can be made on it afterwards",
    ),
    (
        "root entered",
        is!(Act::Init(InitOp::EnterRoot(EnterRoot::Pivot | EnterRoot::Move | EnterRoot::Chroot))),
        "user changed",
        is!(Act::Init(InitOp::Uid(_))),
        "the user has no right to enter it",
    ),
    (
        "resource limit set",
        is!(Act::Init(InitOp::Rlimit(_))),
        "user changed",
        is!(Act::Init(InitOp::Uid(_))),
        "raising it takes CAP_SYS_RESOURCE, which goes with the user",
    ),
    (
        "bounding set dropped",
        is!(Act::Init(InitOp::Bounding { .. })),
        "user changed",
        is!(Act::Init(InitOp::Uid(_))),
        "CAP_SETPCAP goes with the user",
    ),
    (
        "groups set",
        is!(Act::Init(InitOp::Groups(_) | InitOp::Gid(_))),
        "user changed",
        is!(Act::Init(InitOp::Uid(_))),
        "CAP_SETGID goes with the user",
    ),
    (
        "user changed",
        is!(Act::Init(InitOp::Uid(_))),
        "capabilities set",
        is!(Act::Init(InitOp::Capabilities(_))),
        "a change of the user clears the effective set",
    ),
    (
        "capabilities set",
        is!(Act::Init(InitOp::Capabilities(_))),
        "ambient raised",
        is!(Act::Init(InitOp::Ambient(_))),
        "an ambient capability must be permitted and inheritable",
    ),
    (
        "read back",
        is!(Act::Init(InitOp::ReadBack(_))),
        "filter loaded",
        is!(Act::Init(InitOp::Seccomp(_))),
        "the filter may forbid the reading",
    ),
    (
        "network device moved",
        is!(Act::Parent(ParentOp::MoveNetDevice { .. })),
        "runtime hook run",
        is!(Act::Parent(ParentOp::Hook(_))),
        "hooks find the environment as the container will",
    ),
    (
        "network namespace made",
        is!(Act::Init(InitOp::Unshare(0x4000_0000))),
        "network device moved",
        is!(Act::Parent(ParentOp::MoveNetDevice { .. })),
        "it would be moved to where it is",
    ),
    (
        "network device moved",
        is!(Act::Parent(ParentOp::MoveNetDevice { .. })),
        "start awaited",
        is!(Act::Init(InitOp::AwaitStart)),
        "nobody is there to move it afterwards",
    ),
    (
        "program found",
        is!(Act::Init(InitOp::FindProgram(_))),
        "start awaited",
        is!(Act::Init(InitOp::AwaitStart)),
        "engines expect create to say that there is no such program",
    ),
    (
        "start awaited",
        is!(Act::Init(InitOp::AwaitStart)),
        "program executed",
        is!(Act::Init(InitOp::Exec { .. })),
        "create must not run the program",
    ),
];

/// Checks a plan.
///
/// # Errors
/// Every rule that the plan breaks, each as a sentence.
pub fn check(plan: &Plan) -> Result<(), Vec<String>> {
    let mut broken = Vec::new();
    edges(plan, &mut broken);
    slots(plan, &mut broken);
    order(plan, &mut broken);
    shape(plan, &mut broken);
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

/// A woven plan lists what is waited for before who waits: then following the list is a schedule, and no circle can be.
fn edges(plan: &Plan, broken: &mut Vec<String>) {
    for (n, step) in plan.steps.iter().enumerate() {
        let Some(mark) = step.waits else { continue };
        match plan.reached_by(mark) {
            None => broken.push(format!("step {} waits for {mark:?}, which nothing reaches", n + 1)),
            Some(by) if by >= n => broken.push(format!("step {} waits for step {}, which comes later", n + 1, by + 1)),
            Some(by) if plan.steps[by].act.lane() == step.act.lane() => {
                broken.push(format!("step {} waits for its own lane", n + 1));
            }
            Some(_) => {}
        }
    }
}

fn reads(act: &Act) -> Vec<Slot> {
    match act {
        Act::Parent(ParentOp::MapTree { tree, mapping, .. }) => [Some(*tree), *mapping].into_iter().flatten().collect(),
        Act::Parent(ParentOp::Clone { cgroup, .. }) => cgroup.iter().copied().collect(),
        Act::Joiner(JoinerOp::Join { slot, .. }) => vec![*slot],
        Act::Joiner(JoinerOp::JoinProcess { process, .. }) => vec![*process],
        Act::Joiner(JoinerOp::Attach(Tasks::Slot(slot))) | Act::Init(InitOp::Attach(Tasks::Slot(slot))) => vec![*slot],
        Act::Init(InitOp::OwnRoot(slot)) => slot.iter().copied().collect(),
        Act::Init(InitOp::WriteProc { proc, .. }) => vec![*proc],
        Act::Init(InitOp::Mount(op)) => match op.source {
            MountSource::Tree(slot) => vec![slot],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn writes(act: &Act) -> Option<Slot> {
    match act {
        Act::Parent(
            ParentOp::OpenNamespace { slot, .. }
            | ParentOp::OpenTree { slot, .. }
            | ParentOp::MakeMapping { slot, .. }
            | ParentOp::OpenCgroup { slot, .. }
            | ParentOp::OpenProcess { slot, .. }
            | ParentOp::OpenDirectory { slot, .. },
        ) => Some(*slot),
        Act::Init(InitOp::Procfs(slot)) => Some(*slot),
        Act::Init(InitOp::Mount(op)) => op.keep,
        _ => None,
    }
}

/// A slot is filled once, before it is read, by the same lane or by the parent before the clone: no descriptor crosses later.
fn slots(plan: &Plan, broken: &mut Vec<String>) {
    let cloned = plan.steps.iter().position(|s| matches!(s.act, Act::Parent(ParentOp::Clone { .. })));
    let mut filled: Vec<Option<(usize, Lane)>> = vec![None; plan.slots.len()];
    for (n, step) in plan.steps.iter().enumerate() {
        for slot in reads(&step.act) {
            match filled.get(usize::from(slot.0)).copied().flatten() {
                None => broken.push(format!("step {} reads an empty slot", n + 1)),
                Some((by, lane)) if lane != step.act.lane() && cloned.is_some_and(|c| by > c) => {
                    broken.push(format!("step {} reads what step {} opened after the clone", n + 1, by + 1));
                }
                Some(_) => {}
            }
        }
        if let Some(slot) = writes(&step.act) {
            match filled.get_mut(usize::from(slot.0)) {
                None => broken.push(format!("step {} fills a slot that is none", n + 1)),
                Some(Some(_)) => broken.push(format!("step {} fills a slot again", n + 1)),
                Some(place) => *place = Some((n, step.act.lane())),
            }
        }
    }
}

fn order(plan: &Plan, broken: &mut Vec<String>) {
    for (first, is_first, second, is_second, why) in ORDER {
        let last = plan.steps.iter().rposition(|s| is_first(&s.act));
        let next = plan.steps.iter().position(|s| is_second(&s.act));
        if let (Some(last), Some(next)) = (last, next)
            && last > next
        {
            broken.push(format!("{first} (step {}) after {second} (step {}): {why}", last + 1, next + 1));
        }
    }
}

/// One clone, one gate, one execve where there is a program, each at its place.
fn shape(plan: &Plan, broken: &mut Vec<String>) {
    let count = |is: Is| plan.steps.iter().filter(|s| is(&s.act)).count();
    let joiner = usize::from(plan.has_joiner());
    let program = count(is!(Act::Init(InitOp::FindProgram(_)))).min(1);
    let counts: [(&str, usize, usize); 4] = [
        ("clone", count(is!(Act::Parent(ParentOp::Clone { .. }))), 1),
        ("joiner's clone", count(is!(Act::Joiner(JoinerOp::Clone { .. }))), joiner),
        ("await of start", count(is!(Act::Init(InitOp::AwaitStart))), 1),
        ("execve", count(is!(Act::Init(InitOp::Exec { .. }))), program),
    ];
    for (what, is, should) in counts {
        if is != should {
            broken.push(format!("{is} instead of {should} {what}"));
        }
    }
    let gate = plan.steps.iter().position(|s| matches!(s.act, Act::Init(InitOp::AwaitStart)));
    let init_last = plan.steps.iter().rposition(|s| s.act.lane() == Lane::Init);
    let ends = |act: &Act| match act {
        Act::Init(InitOp::Exec { .. }) => true,
        Act::Init(InitOp::AwaitStart) => program == 0,
        _ => false,
    };
    if init_last.is_some_and(|n| !ends(&plan.steps[n].act)) {
        broken.push("init does something after execve, or after the gate without a program".to_owned());
    }
    // A joiner that enters a container must not be open to it (CVE-2016-9962).
    let joined = plan.steps.iter().position(|s| matches!(s.act, Act::Joiner(JoinerOp::JoinProcess { .. })));
    let closed = plan.steps.iter().position(|s| matches!(s.act, Act::Joiner(JoinerOp::Undumpable)));
    if joined.is_some_and(|joined| closed.is_none_or(|closed| closed > joined)) {
        broken.push("the joiner enters the container while it can be ptraced".to_owned());
    }
    // What stands behind the gate happens in another process's time: the parent may be gone.
    let waits_behind = plan
        .steps
        .iter()
        .enumerate()
        .any(|(n, s)| s.act.lane() == Lane::Init && gate.is_some_and(|g| n > g) && s.waits.is_some());
    if waits_behind {
        broken.push("init waits for the parent after start".to_owned());
    }
}
