//! `linux.cgroupsPath`, `linux.resources` and mounts of type cgroup: from the limits of [`super::cgroup`] to steps.

use std::rc::Rc;

use super::cgroup::{self, Group, OnErr as WriteErr, Version, When};
use super::mounts::{mount_op, new_filesystem};
use super::options::Options;
use super::{Chapter, cstring};
use crate::abi::{attr, clone};
use crate::facts::Cgroups;
use crate::field::Field;
use crate::op::{InitOp, Kind, MountSource, ParentOp, Slot, Tasks};
use crate::plan::{Act, Mark, Step, Undo};
use crate::spec::Resources;

/// EPERM and EBUSY: a cgroup filesystem is refused in a user namespace that does not own its cgroup namespace.
const REFUSED: &[i32] = &[1, 16];

/// The container's cgroups, and how init gets into them.
pub(super) struct Placed {
    groups: Vec<Group>,
    /// The cgroup v2 that init is cloned into.
    pub(super) start_in: Option<Slot>,
    tasks: Vec<(usize, Option<Slot>)>,
}

impl Placed {
    /// No cgroups.
    pub(super) fn nowhere() -> Self {
        Placed { groups: Vec::new(), start_in: None, tasks: Vec::new() }
    }
}

/// Nobody makes cgroups: a limit is refused, for it could not hold. Device rules are, as for an unprivileged user, not.
fn none(ch: &mut Chapter<'_>, resources: &Resources<'_>) -> Placed {
    let path = ch.linux.cgroups_path.as_deref();
    cgroup::compile(path, &ch.request.id, resources, &Cgroups::default(), true, ch.problems);
    Placed::nowhere()
}

/// Makes the cgroups and sets their limits.
pub(super) fn make(ch: &mut Chapter<'_>) -> Placed {
    let none = Resources::default();
    let resources = ch.linux.resources.as_ref().unwrap_or(&none);
    let path = ch.linux.cgroups_path.as_deref();
    let rootless = ch.facts.rootless();
    if ch.request.no_cgroups {
        return self::none(ch, resources);
    }
    let mut compiled = cgroup::compile(path, &ch.request.id, resources, &ch.facts.cgroups, rootless, ch.problems);
    for (i, group) in compiled.groups.iter_mut().enumerate() {
        match ch.request.rootless {
            Some(true) => group.optional |= !compiled.writes.iter().any(|w| w.group == i),
            Some(false) => group.optional = false,
            None => {}
        }
    }
    let mut placed = Placed { groups: compiled.groups, start_in: None, tasks: Vec::new() };
    for (i, group) in placed.groups.iter().enumerate() {
        let undo = Undo::Cgroup {
            mount: group.mount.clone(),
            path: group.path.clone(),
            controllers: group.controllers.clone(),
            unified: group.version == Version::V2,
            made: Vec::new(),
        };
        let make = Step::parent(ParentOp::MakeCgroup(group.clone()), Field::new("linux.cgroupsPath")).undo(undo);
        if group.version == Version::V2 || ch.namespaces.user || ch.namespaces.joins(Kind::Mount) {
            // Version 2 is entered by the clone itself; and what a container's root may not open, or would not find in the
            // mount namespace that it joins, it must be handed.
            let slot = ch.lanes.slot("cgroup");
            let open = ParentOp::OpenCgroup { group: group.clone(), slot };
            ch.lanes.before.push(make);
            ch.lanes.before.push(Step::parent(open, Field::new("linux.cgroupsPath")));
            match group.version {
                Version::V2 => placed.start_in = Some(slot),
                Version::V1 => placed.tasks.push((i, Some(slot))),
            }
        } else {
            ch.lanes.parent.push(make);
            placed.tasks.push((i, None));
        }
    }
    super::mark_last(&mut ch.lanes.parent, Mark::CgroupsMade);
    write_limits(ch, &placed.groups, compiled.writes);
    if let (Some(program), Some(i)) = (compiled.devices, compiled.devices_group) {
        let op = ParentOp::AttachDevices { group: Box::new(placed.groups[i].clone()), program };
        ch.lanes.parent.push(Step::parent(op, Field::new("linux.resources.devices")));
    }
    placed
}

fn write_limits(ch: &mut Chapter<'_>, groups: &[Group], writes: Vec<cgroup::Write>) {
    // Those of `AfterAttach` come last anyway; that init is attached by then is not needed for any of them to hold.
    let (before, after): (Vec<_>, Vec<_>) = writes.into_iter().partition(|w| w.when == When::BeforeAttach);
    // A dozen rules of devices share one cgroup.
    let groups: Vec<Rc<Group>> = groups.iter().cloned().map(Rc::new).collect();
    for write in before.into_iter().chain(after) {
        let group = Rc::clone(&groups[write.group]);
        let from = write.from.clone();
        let on_err = write.on_err.clone();
        let op = ParentOp::WriteCgroup { group: Rc::clone(&group), write: Box::new(write.clone()) };
        let step = Step::parent(op, from);
        ch.lanes.parent.push(match on_err {
            WriteErr::Fail => step,
            WriteErr::Ignore(errnos) => step.skip(errnos),
            WriteErr::Else(errnos, file, value) => {
                let write = Box::new(cgroup::Write { file, value, on_err: WriteErr::Fail, ..write });
                step.or_else(errnos, Act::Parent(ParentOp::WriteCgroup { group, write }))
            }
        });
    }
}

/// Init enters the hierarchies of version 1, then the cgroup namespace is made: its root is where init is.
pub(super) fn enter(ch: &mut Chapter<'_>, placed: &Placed) {
    let mut wait = ch.lanes.parent.iter().any(|s| s.reaches == Some(Mark::CgroupsMade)).then_some(Mark::CgroupsMade);
    for (i, slot) in &placed.tasks {
        let group = &placed.groups[*i];
        let field = Field::new("linux.cgroupsPath");
        let tasks = match slot {
            Some(slot) => Tasks::Slot(*slot),
            None => Tasks::Path(cstring(&format!("{}/tasks", group.dir()), &field, ch.problems)),
        };
        let mut step = Step::init(InitOp::Attach(tasks), field);
        step.waits = wait.take();
        ch.lanes.init.push(step);
    }
    if ch.namespaces.is_new(Kind::Cgroup) {
        ch.lanes.init.push(Step::init(InitOp::Unshare(clone::NEWCGROUP), Field::new("linux.namespaces")));
    }
}

/// Reads back that init is where it was planned to be (CVE-2025-47291).
pub(super) fn verify(ch: &mut Chapter<'_>, placed: &Placed) {
    if placed.groups.is_empty() {
        return;
    }
    let step = Step::parent(ParentOp::CheckCgroups(placed.groups.clone()), Field::new("linux.cgroupsPath"));
    let ready = ch.lanes.parent.iter().any(|s| s.waits == Some(Mark::Ready));
    ch.lanes.parent.push(if ready { step } else { step.after(Mark::Ready) });
}

/// A mount of type cgroup shows the container its own cgroups.
pub(super) fn mount(ch: &mut Chapter<'_>, placed: &Placed, i: usize, at: &str, options: &Options<'_>, kind: &str) {
    let field = Field::at("mounts[]", &[i]);
    if ch.request.no_cgroups {
        ch.problems.warn(field, "is left out: the container has no cgroups");
        return;
    }
    let v1 = placed.groups.iter().any(|g| g.version == Version::V1);
    if kind == "cgroup2" || !v1 {
        match placed.groups.iter().find(|g| g.version == Version::V2) {
            Some(group) => hierarchy(ch, group, at, options, false, &field),
            None => ch.problems.error(Field::at("mounts[].type", &[i]), "this host has no cgroup v2"),
        }
        return;
    }
    // Version 1 is a tmpfs with a mount for each hierarchy.
    let mut shell = options.clone();
    shell.attr.set = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    shell.data = vec!["mode=755"];
    shell.sb = Vec::new();
    let source = new_filesystem(ch, "tmpfs", "tmpfs", &shell, &field);
    let op = mount_op(ch, at, source, &shell, &field);
    ch.lanes.init.push(Step::init(InitOp::Mount(Box::new(op)), field.clone()));
    // Attributes come once, for the whole: nobody but init sees the mounts before.
    let bare = Options { attr: crate::op::Attr::default(), sb: Vec::new(), ..options.clone() };
    for group in &placed.groups {
        let name = group.mount.rsplit('/').next().unwrap_or_default().to_owned();
        hierarchy(ch, group, &format!("{at}/{name}"), &bare, true, &field);
        for controller in group.controllers.iter().filter(|c| **c != name && name.contains(',')) {
            let [target, path] = [name.clone(), format!("{at}/{controller}")].map(|s| cstring(&s, &field, ch.problems));
            let op = InitOp::Symlink { target, path, only_if: None, replace: false };
            ch.lanes.init.push(Step::init(op, field.clone()));
        }
    }
    if options.attr.set != 0 {
        let path = cstring(at, &field, ch.problems);
        // Access times of what the host has mounted are the host's to choose.
        let set = options.attr.set & !attr::ATIME;
        ch.lanes.init.push(Step::init(InitOp::Attributes { path, set }, field));
    }
}

/// One hierarchy: itself, where a cgroup namespace makes the container's cgroup its root; else the cgroup alone, bound.
fn hierarchy(ch: &mut Chapter<'_>, group: &Group, at: &str, options: &Options<'_>, fresh: bool, field: &Field) {
    let bind = MountSource::Bind {
        source: cstring(&group.dir(), field, ch.problems),
        recursive: true,
        nofollow: false,
        copy_symlink: false,
        fresh,
    };
    let bound = mount_op(ch, at, bind, options, field);
    if !ch.namespaces.has(Kind::Cgroup) {
        ch.lanes.init.push(Step::init(InitOp::Mount(Box::new(bound)), field.clone()));
        return;
    }
    let mut native = options.clone();
    // A superblock of version 1 exists already and is shared: only the mount can be read-only.
    native.sb = Vec::new();
    let kind = match group.version {
        Version::V1 => {
            native.data = group.controllers.iter().map(String::as_str).collect();
            if native.data.iter().any(|c| c.starts_with("name=")) {
                native.data.push("none");
            }
            "cgroup"
        }
        Version::V2 => "cgroup2",
    };
    let source = new_filesystem(ch, kind, "cgroup", &native, field);
    let op = mount_op(ch, at, source, &native, field);
    let step = Step::init(InitOp::Mount(Box::new(op)), field.clone());
    ch.lanes.init.push(step.or_else(REFUSED, Act::Init(InitOp::Mount(Box::new(bound)))));
}
