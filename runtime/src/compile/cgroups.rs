//! `linux.cgroupsPath`, `linux.resources` and mounts of type cgroup: from the limits of [`super::cgroup`] to steps.

use std::rc::Rc;

use super::cgroup::{self, Group, Groups, OnErr as WriteErr, Version, When, unit};
use super::mounts::{inside, mount_op, new_filesystem};
use super::namespaces::host_id;
use super::options::Options;
use super::{Chapter, cstring};
use crate::abi::{attr, clone};
use crate::facts::Cgroups;
use crate::field::Field;
use crate::op::unit::Unit;
use crate::op::{InitOp, Kind, MountOp, MountSource, ParentOp, Slot, Tasks};
use crate::plan::{Act, Mark, Step, Undo};
use crate::spec::Resources;

/// EPERM and EBUSY: a cgroup filesystem is refused in a user namespace that does not own its cgroup namespace.
const REFUSED: &[i32] = &[1, 16];
/// ENOENT and EACCES: a cgroup that need not be was not made, or is another's.
const DENIED: &[i32] = &[2, 13];
/// EBADF: such a cgroup was not opened, and is not entered.
const NOT_OPEN: &[i32] = &[9];
/// ENOENT: such a cgroup cannot be shown.
const MISSING: &[i32] = &[2];

/// The container's cgroups, and how init gets into them.
pub(super) struct Placed {
    groups: Vec<Group>,
    /// The cgroup v2 that init is cloned into.
    pub(super) start_in: Option<Slot>,
    tasks: Vec<(usize, Option<Slot>)>,
    /// What systemd makes when init is there, and the limits that wait for it.
    unit: Option<(Unit, Groups)>,
}

impl Placed {
    /// No cgroups.
    pub(super) fn nowhere() -> Self {
        Placed { groups: Vec::new(), start_in: None, tasks: Vec::new(), unit: None }
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
    if ch.request.systemd {
        return by_systemd(ch, resources);
    }
    let mut compiled = cgroup::compile(path, &ch.request.id, resources, &ch.facts.cgroups, rootless, ch.problems);
    for (i, group) in compiled.groups.iter_mut().enumerate() {
        match ch.request.rootless {
            Some(true) => {
                let asked = path.is_some_and(|p| !p.is_empty()) || compiled.writes.iter().any(|w| w.group == i);
                group.optional |= !asked;
            }
            Some(false) => group.optional = false,
            None => {}
        }
    }
    let placed = make_groups(ch, &compiled.groups, |_| true);
    limit(ch, &placed, compiled);
    placed
}

/// How a cgroup is undone.
fn undo(group: &Group) -> Undo {
    Undo::Cgroup {
        mount: group.mount.clone(),
        path: group.path.clone(),
        controllers: group.controllers.clone(),
        unified: group.version == Version::V2,
        made: Vec::new(),
    }
}

/// Makes those cgroups that init enters by itself.
fn make_groups(ch: &mut Chapter<'_>, groups: &[Group], ours: fn(&Group) -> bool) -> Placed {
    let mut placed = Placed { groups: groups.to_vec(), ..Placed::nowhere() };
    for (i, group) in groups.iter().enumerate().filter(|(_, group)| ours(group)) {
        let make = ParentOp::MakeCgroup(Box::new(group.clone()));
        let make = Step::parent(make, Field::new("linux.cgroupsPath")).undo(undo(group));
        let handed = ch.namespaces.user || ch.namespaces.joins(Kind::Mount) || group.optional;
        if group.version == Version::V2 || handed {
            // Version 2 is entered by the clone itself; and what a container's root may not open, or would not find in the
            // mount namespace that it joins, it must be handed; and what is not there it must not be.
            let slot = ch.lanes.slot("cgroup");
            let open = Step::parent(
                ParentOp::OpenCgroup { group: Box::new(group.clone()), slot },
                Field::new("linux.cgroupsPath"),
            );
            ch.lanes.before.push(make);
            ch.lanes.before.push(if group.optional { open.skip(DENIED) } else { open });
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
    placed
}

/// Sets what the cgroups are to be limited to.
fn limit(ch: &mut Chapter<'_>, placed: &Placed, compiled: Groups) {
    write_limits(ch, &placed.groups, compiled.writes);
    if let (Some(program), Some(i)) = (compiled.devices, compiled.devices_group) {
        let op = ParentOp::AttachDevices { group: Box::new(placed.groups[i].clone()), program };
        ch.lanes.parent.push(Step::parent(op, Field::new("linux.resources.devices")));
    }
    delegate(ch, &placed.groups);
}

/// Cgroups that systemd makes for a unit. A slice begins empty, and is entered as any other cgroup; a scope begins with init
/// in it, so it is made when init is there.
fn by_systemd(ch: &mut Chapter<'_>, resources: &Resources<'_>) -> Placed {
    // Who asks for systemd has found it, or said why not.
    let Some(systemd) = &ch.facts.systemd else { return Placed::nowhere() };
    let (path, id) = (ch.linux.cgroups_path.as_deref(), ch.request.id.as_str());
    let found = (&ch.facts.cgroups, systemd);
    let rootless = ch.facts.rootless() || systemd.manager.user;
    let Some((compiled, name)) = cgroup::compile_unit(path, id, resources, found, rootless, ch.problems) else {
        return Placed::nowhere();
    };
    let whose = (id, ch.request.bundle.as_str());
    let unit = unit::unit(&name, whose, systemd, &compiled.writes, &ch.spec.annotations, ch.problems);
    if !unit.attach {
        ch.lanes.before.push(start(unit));
        let placed = make_groups(ch, &compiled.groups, |_| true);
        limit(ch, &placed, compiled);
        return placed;
    }
    let placed = make_groups(ch, &compiled.groups, |group| !is_systemds(group));
    Placed { unit: Some((unit, compiled)), ..placed }
}

/// The hierarchies that systemd puts the processes of all units into: the unified one, and the one that is called by its name.
fn is_systemds(group: &Group) -> bool {
    group.version == Version::V2 || group.controllers.iter().any(|c| c == "name=systemd")
}

fn start(unit: Unit) -> Step {
    let (manager, name) = (unit.manager.clone(), unit.name.clone());
    let undo = Undo::Unit { manager, name, description: unit.description().to_owned() };
    Step::parent(ParentOp::StartUnit(Box::new(unit)), Field::new("linux.cgroupsPath")).undo(undo)
}

/// The scope is made with init in it; what systemd has set in the cgroups is then completed, file by file.
fn start_unit(ch: &mut Chapter<'_>, placed: &mut Placed) -> bool {
    let Some((unit, compiled)) = placed.unit.take() else { return false };
    ch.lanes.parent.push(start(unit));
    for group in placed.groups.iter().filter(|group| is_systemds(group)) {
        let adopt = ParentOp::AdoptCgroup(Box::new(group.clone()));
        ch.lanes.parent.push(Step::parent(adopt, Field::new("linux.cgroupsPath")).undo(undo(group)));
    }
    super::mark_last(&mut ch.lanes.parent, Mark::Attached);
    limit(ch, placed, compiled);
    true
}

/// The container's user owns its cgroup v2 if the container has a cgroup namespace and sees that cgroup writable
/// (config-linux.md, "Cgroup ownership").
fn delegate(ch: &mut Chapter<'_>, groups: &[Group]) {
    let spec = ch.spec;
    let writable = spec.mounts.iter().any(|m| {
        m.source.as_deref() == Some("cgroup")
            && inside(&m.destination) == "/sys/fs/cgroup"
            && !m.options.iter().any(|o| &**o == "ro")
    });
    let only = groups.iter().all(|g| g.version == Version::V2);
    let user = spec.process.as_ref().map_or(0, |p| p.user.uid);
    let uid = if ch.linux.uid_mappings.is_empty() { Some(user) } else { host_id(&ch.linux.uid_mappings, user) };
    let (Some(group), Some(uid)) = (groups.first(), uid) else { return };
    if !writable || !only || !ch.namespaces.is_new(Kind::Cgroup) || uid == ch.facts.uid {
        return;
    }
    let step =
        Step::parent(ParentOp::Delegate { group: Box::new(group.clone()), uid }, Field::new("linux.cgroupsPath"));
    // EPERM: a plain user cannot give away, nor need be able to (the rules are of what may be done). ENOENT: not made.
    ch.lanes.parent.push(if ch.facts.rootless() { step.skip(&[1, 2]) } else { step });
}

fn write_limits(ch: &mut Chapter<'_>, groups: &[Group], writes: Vec<cgroup::Write>) {
    // Those of `AfterAttach` come last anyway; that init is attached by then is not needed for any of them to hold.
    let (before, after): (Vec<_>, Vec<_>) = writes.into_iter().partition(|w| w.when == When::BeforeAttach);
    // A dozen rules of devices share one cgroup.
    let groups: Vec<Rc<Group>> = groups.iter().cloned().map(Rc::new).collect();
    let mut last_rule = None;
    for write in before.into_iter().chain(after) {
        let group = Rc::clone(&groups[write.group]);
        let from = write.from.clone();
        let on_err = write.on_err.clone();
        if write.file.starts_with("devices.") {
            last_rule = Some(ch.lanes.parent.len());
        }
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
    if let Some(step) = last_rule.and_then(|i| ch.lanes.parent.get_mut(i)) {
        step.reaches = Some(Mark::DevicesRuled);
    }
}

/// Init enters the hierarchies of version 1, then the cgroup namespace is made: its root is where init is.
pub(super) fn enter(ch: &mut Chapter<'_>, placed: &mut Placed) {
    let held = start_unit(ch, placed);
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
        ch.lanes.init.push(if group.optional { step.skip(NOT_OPEN) } else { step });
    }
    if held {
        ch.lanes.hold_init(Mark::Attached);
    }
    if ch.namespaces.is_new(Kind::Cgroup) {
        ch.lanes.init.push(Step::init(InitOp::Unshare(clone::NEWCGROUP), Field::new("linux.namespaces")));
    }
    // Between "a" in devices.deny and the rule that allows nodes to be made, init could make none: it would bind the host's,
    // which need not be there.
    if ch.lanes.parent.iter().any(|s| s.reaches == Some(Mark::DevicesRuled)) {
        ch.lanes.hold_init(Mark::DevicesRuled);
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
    if ch.request.systemd && placed.groups.is_empty() {
        // Said already, of linux.cgroupsPath.
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

/// An empty directory in the place of a cgroup that was not made.
fn nothing(ch: &mut Chapter<'_>, at: &str, field: &Field) -> MountOp {
    let mut options = Options { data: vec!["mode=755"], ..Options::default() };
    options.attr.set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let source = new_filesystem(ch, "tmpfs", "tmpfs", &options, field);
    mount_op(ch, at, source, &options, field)
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
        let step = Step::init(InitOp::Mount(Box::new(bound)), field.clone());
        let step = match (group.optional, group.version) {
            (false, _) => step,
            (true, Version::V1) => step.skip(MISSING),
            // What a bound /sys shows there must not be open to the container (CVE-2023-25809).
            (true, Version::V2) => step.or_else(MISSING, Act::Init(InitOp::Mount(Box::new(nothing(ch, at, field))))),
        };
        ch.lanes.init.push(step);
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
