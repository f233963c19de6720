//! `linux.cgroupsPath` and `linux.resources`: which cgroups a container gets, and what is written in them.
//!
//! A limit goes to the controller that the kernel has, wherever that is mounted: on a hybrid host a container has
//! cgroups of both versions at once. A limit without a controller is an error, never a warning.

mod annotations;
pub mod devices;
pub mod ebpf;
pub mod properties;
pub mod unit;
mod v1;
mod v2;

use std::borrow::Cow;

use crate::error::Problems;
use crate::facts::{Cgroups, Systemd};
use crate::field::Field;
use crate::spec::{Cpu, Map, Memory, Pids, Resources, Str};

pub use crate::op::cgroup::{DeviceProgram, Group, OnErr, Version, When, Write};

/// Numbers of errors that a plan names; the same on every architecture (asm-generic/errno-base.h).
pub mod errno {
    /// No such file.
    pub const ENOENT: i32 = 2;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// Operation not supported.
    pub const EOPNOTSUPP: i32 = 95;
}

/// A limit that is refused while more than it is in use (`memory.checkBeforeUpdate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Index in [`Groups::groups`].
    pub group: usize,
    /// File with the current usage in bytes.
    pub file: &'static str,
    /// The usage must be below this many bytes.
    pub limit: u64,
    /// What the limit is called: `memory`, `memory+swap`.
    pub name: &'static str,
    /// Field of the configuration that asks for it.
    pub from: Field,
}

/// The container's cgroups and all that is written in them, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// One for each hierarchy.
    pub groups: Vec<Group>,
    /// To be made before the writes.
    pub checks: Vec<Check>,
    /// Limits.
    pub writes: Vec<Write>,
    /// Version 2: the program that decides about devices; none where every device is allowed.
    pub devices: Option<DeviceProgram>,
    /// Index of the group that `devices` is attached to.
    pub devices_group: Option<usize>,
}

/// Whether limits are set on a new cgroup or changed on one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
}

/// Compiles the cgroups of a new container.
///
/// `cgroups_path` is `linux.cgroupsPath`, `id` the container's id. What is wrong is added to `problems`; the result is
/// of use only if no error was.
pub fn compile(
    cgroups_path: Option<&str>,
    id: &str,
    resources: &Resources<'_>,
    facts: &Cgroups,
    rootless: bool,
    problems: &mut Problems,
) -> Groups {
    create(lay_out(cgroups_path, id, facts, rootless, problems), resources, rootless, problems)
}

/// The same for a container whose cgroups systemd makes, with the name of its unit.
pub fn compile_unit(
    cgroups_path: Option<&str>,
    id: &str,
    resources: &Resources<'_>,
    (facts, systemd): (&Cgroups, &Systemd),
    rootless: bool,
    problems: &mut Problems,
) -> Option<(Groups, unit::Name)> {
    let name = unit::parse(cgroups_path, id, systemd.manager.user, problems)?;
    Some((create(unit::lay_out(&name, facts, systemd), resources, rootless, problems), name))
}

fn create(groups: Vec<Group>, resources: &Resources<'_>, rootless: bool, problems: &mut Problems) -> Groups {
    let mut out = Groups { groups, ..Groups::default() };
    if !rootless {
        // Without privilege neither device nodes can be made nor device rules be set.
        devices(resources, &mut out, problems);
    }
    limits(resources, Mode::Create, &mut out, problems);
    out
}

/// Compiles the change of a running container's limits.
///
/// `groups` are those that it was created with, `new` what is to be changed, `current` the limits it has: a limit that
/// the kernel takes together with another (quota and period, memory and swap, shares and idleness) is completed from there. Device rules
/// are not changed.
pub fn update(groups: Vec<Group>, new: &Resources<'_>, current: &Resources<'_>, problems: &mut Problems) -> Groups {
    let mut out = Groups { groups, ..Groups::default() };
    limits(&complete(new, current), Mode::Update, &mut out, problems);
    for write in &mut out.writes {
        write.when = When::AfterAttach;
    }
    out
}

/// `new`, with what belongs together filled in from `current`.
fn complete<'a>(new: &Resources<'a>, current: &Resources<'a>) -> Resources<'a> {
    let mut all = new.clone();
    if let (Some(cpu), Some(old)) = (&mut all.cpu, &current.cpu)
        && (cpu.quota.is_some_and(|q| q != 0) || cpu.period.is_some_and(|p| p != 0))
    {
        cpu.quota = cpu.quota.filter(|q| *q != 0).or(old.quota);
        cpu.period = cpu.period.filter(|p| *p != 0).or(old.period);
    }
    if let (Some(cpu), Some(old)) = (&mut all.cpu, &current.cpu) {
        let named = cpu.shares.is_some_and(|s| s != 0);
        match cpu.idle {
            // Who is no longer SCHED_IDLE has the kernel's default weight.
            Some(0) if !named => cpu.shares = old.shares,
            // Shares of who is SCHED_IDLE are kept for when he is not.
            None if named => cpu.idle = old.idle.filter(|idle| *idle == 1),
            _ => {}
        }
    }
    if let (Some(memory), Some(old)) = (&mut all.memory, &current.memory) {
        let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
        if swap > 0 && limit == 0 {
            memory.limit = old.limit;
        }
        if limit > 0 && swap == 0 {
            memory.swap = old.swap;
        }
    }
    all
}

/// One cgroup in each hierarchy.
fn lay_out(path: Option<&str>, id: &str, facts: &Cgroups, rootless: bool, problems: &mut Problems) -> Vec<Group> {
    let place = Place::parse(path, id, rootless, problems);
    let group = |mount: &str, controllers: &[String], own: &str, version| Group {
        mount: mount.to_owned(),
        path: place.below(own, version),
        controllers: controllers.to_vec(),
        version,
        enable: if version == Version::V2 { controllers.to_vec() } else { Vec::new() },
        need: Vec::new(),
        // Asking for a certain cgroup is asking for that one.
        optional: rootless && path.is_none_or(str::is_empty),
    };
    let v1 = facts.v1.iter().map(|h| group(&h.mount, &h.controllers, &h.own, Version::V1));
    let v2 = facts.v2.iter().map(|u| group(&u.mount, &u.controllers, &u.own, Version::V2));
    v1.chain(v2).collect()
}

/// Where a container's cgroup is, in every hierarchy alike.
struct Place {
    /// Without `.`, `..` and a leading slash.
    clean: String,
    /// Whether that counts from the hierarchy's root instead of the runtime's own cgroup.
    absolute: bool,
}

impl Place {
    fn parse(path: Option<&str>, id: &str, rootless: bool, problems: &mut Problems) -> Self {
        let Some(path) = path.filter(|p| !p.is_empty()) else {
            return Place { clean: clean(id), absolute: !rootless };
        };
        let field = Field::new("linux.cgroupsPath");
        let place = Place { clean: clean(path), absolute: path.starts_with('/') };
        if path.contains(['\n', '\0']) {
            problems.error(field, format!("{path:?} holds a newline or NUL"));
        } else if !place.absolute && path.split(':').count() == 3 {
            problems.error_hint(
                field,
                format!("{path:?} is a systemd unit (slice:prefix:name), not a path"),
                "--systemd-cgroup has systemd make it; without, give a path such as /slice/name",
            );
        } else if place.clean.is_empty() {
            problems.error(field, format!("{path:?} is the root of the hierarchy"));
        }
        place
    }

    fn below(&self, own: &str, version: Version) -> String {
        let own = clean(own);
        let base = match version {
            _ if self.absolute => "",
            Version::V1 => own.as_str(),
            // The runtime's own cgroup holds processes, so no controller can be enabled below it: its parent's can.
            Version::V2 => own.rsplit_once('/').map_or("", |(parent, _)| parent),
        };
        if base.is_empty() { self.clean.clone() } else { format!("{base}/{}", self.clean) }
    }
}

/// `path` without empty parts, `.` and `..`, as if it began at a root that has no parent.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The path of a cgroup below another; `None` where it would lead out of it.
pub fn below(own: &str, path: &str) -> Option<String> {
    let mut depth = 0i32;
    for part in path.split('/') {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        if depth < 0 || part.contains(['\n', '\0']) {
            return None;
        }
    }
    Some(clean(&format!("{own}/{path}")))
}

/// What a chapter of limits writes to: one cgroup of one version.
struct Sink<'a> {
    group: usize,
    mode: Mode,
    writes: &'a mut Vec<Write>,
    checks: &'a mut Vec<Check>,
    problems: &'a mut Problems,
}

impl Sink<'_> {
    fn put(&mut self, from: Field, file: impl Into<Cow<'static, str>>, value: impl ToString) {
        self.put_or(from, file, value, OnErr::Fail);
    }

    fn put_or(&mut self, from: Field, file: impl Into<Cow<'static, str>>, value: impl ToString, on_err: OnErr) {
        let when = When::BeforeAttach;
        self.writes.push(Write { group: self.group, file: file.into(), value: value.to_string(), when, from, on_err });
    }

    fn unsupported(&mut self, from: Field, what: &str) {
        self.problems.error(from, format!("cgroup v2 has no {what}"));
    }
}

/// Runs one chapter of limits for the controller that it needs: the version 1 conversion where that is a version 1
/// hierarchy, the version 2 conversion where it is version 2, and errors for all that it wants where it is neither.
struct Router<'a> {
    out: &'a mut Groups,
    problems: &'a mut Problems,
    mode: Mode,
}

impl Router<'_> {
    fn find(&self, controller: &str) -> Option<usize> {
        self.out.groups.iter().position(|g| g.controllers.iter().any(|c| c == controller))
    }

    fn chapter(&mut self, controller: &str, v1: impl FnOnce(&mut Sink<'_>), v2: impl FnOnce(&mut Sink<'_>)) {
        let found = self.find(controller);
        let first = self.out.writes.len();
        let mut sink = Sink {
            group: found.unwrap_or(0),
            mode: self.mode,
            writes: &mut self.out.writes,
            checks: &mut self.out.checks,
            problems: self.problems,
        };
        match found.map(|g| self.out.groups[g].version) {
            Some(Version::V2) => v2(&mut sink),
            _ => v1(&mut sink),
        }
        match found {
            // A cgroup of one's own that is new has no limit.
            Some(g) if self.out.groups[g].optional && self.out.writes[first..].iter().all(is_unlimited) => {
                self.out.writes.truncate(first);
            }
            Some(g) if self.out.writes.len() > first => self.need(g, controller),
            Some(_) => {}
            None => self.refuse(first, controller),
        }
    }

    fn need(&mut self, group: usize, controller: &str) {
        let group = &mut self.out.groups[group];
        group.optional = false;
        if group.version == Version::V2 && !group.need.iter().any(|c| c == controller) {
            group.need.push(controller.to_owned());
        }
    }

    /// Turns the writes from `first` on into errors, each field once; asking for no limit is fulfilled already.
    fn refuse(&mut self, first: usize, controller: &str) {
        let mut last = None;
        for write in self.out.writes.drain(first..) {
            if !is_unlimited(&write) && last.as_ref() != Some(&write.from) {
                let text = format!("this host has no cgroup controller {controller:?}");
                self.problems.error(write.from.clone(), text);
                last = Some(write.from);
            }
        }
    }
}

fn is_unlimited(write: &Write) -> bool {
    matches!(write.value.as_str(), "max" | "-1")
}

/// Every limit but the device rules.
fn limits(r: &Resources<'_>, mode: Mode, out: &mut Groups, problems: &mut Problems) {
    let mut router = Router { out, problems, mode };
    if let Some(cpu) = &r.cpu {
        check_cpu(cpu, router.problems);
        router.chapter("cpuset", |s| v1::cpuset(s, cpu), |s| v2::cpuset(s, cpu));
        router.chapter("cpu", |s| v1::cpu(s, cpu), |s| v2::cpu(s, cpu));
    }
    if let Some(memory) = &r.memory {
        check_memory(memory, router.problems);
        router.chapter("memory", |s| v1::memory(s, memory), |s| v2::memory(s, memory));
    }
    if let Some(io) = &r.block_io {
        let controller = if router.find("blkio").is_some() { "blkio" } else { "io" };
        router.chapter(controller, |s| v1::block_io(s, io), |s| v2::block_io(s, io));
    }
    if !r.hugepage_limits.is_empty() {
        let limits = &r.hugepage_limits;
        router.chapter("hugetlb", |s| v1::hugetlb(s, limits), |s| v2::hugetlb(s, limits));
    }
    if !r.rdma.is_empty() {
        router.chapter("rdma", |s| v1::rdma(s, &r.rdma), |s| v1::rdma(s, &r.rdma));
    }
    if let Some(network) = &r.network {
        router.chapter("net_cls", |s| v1::net_cls(s, network), |_| {});
        router.chapter("net_prio", |s| v1::net_prio(s, network), |_| {});
    }
    if let Some(limit) = r.pids.as_ref().and_then(|Pids { limit }| *limit) {
        router.chapter("pids", |s| pids(s, limit), |s| pids(s, limit));
    }
    unified(&r.unified, &mut router);
}

/// `pids.limit`: −1 is unlimited and 0 is 0, as the specification says since 1.3.
fn pids(sink: &mut Sink<'_>, limit: i64) {
    let from = Field::new("linux.resources.pids.limit");
    match limit {
        -1 => sink.put(from, "pids.max", "max"),
        0.. => sink.put(from, "pids.max", limit),
        _ => return sink.problems.error(from, format!("{limit} is negative, and only -1 means unlimited")),
    }
    if let Some(write) = sink.writes.last_mut() {
        write.when = When::AfterAttach;
    }
}

fn check_cpu(cpu: &Cpu<'_>, problems: &mut Problems) {
    if let (Some(burst), Some(quota @ 1..)) = (cpu.burst, cpu.quota)
        && burst > quota.unsigned_abs()
    {
        let text = format!("{burst} is larger than linux.resources.cpu.quota, {quota}");
        problems.error(Field::new("linux.resources.cpu.burst"), text);
    }
    if let Some(idle @ (..=-1 | 2..)) = cpu.idle {
        problems.error(Field::new("linux.resources.cpu.idle"), format!("{idle} is neither 0 nor 1"));
    }
    let lists = [("linux.resources.cpu.cpus", &cpu.cpus), ("linux.resources.cpu.mems", &cpu.mems)];
    for (field, list) in lists {
        if let Some(list) = list
            && list.contains(|c: char| !matches!(c, '0'..='9' | '-' | ',' | ':' | '/' | ' '))
        {
            problems.error(Field::new(field), format!("{list:?} is no list such as 0-3,7"));
        }
    }
}

fn check_memory(memory: &Memory, problems: &mut Problems) {
    let values = [
        ("linux.resources.memory.limit", memory.limit),
        ("linux.resources.memory.reservation", memory.reservation),
        ("linux.resources.memory.swap", memory.swap),
        ("linux.resources.memory.kernel", memory.kernel),
        ("linux.resources.memory.kernelTCP", memory.kernel_tcp),
    ];
    for (field, value) in values {
        if let Some(value @ ..=-2) = value {
            problems.error(Field::new(field), format!("{value} is negative, and only -1 means unlimited"));
        }
    }
    if let Some(swappiness @ 101..) = memory.swappiness {
        let text = format!("{swappiness} is more than 100");
        problems.error(Field::new("linux.resources.memory.swappiness"), text);
    }
    if let (Some(swap @ 1..), Some(limit @ 1..)) = (memory.swap, memory.limit)
        && swap < limit
    {
        let text = format!("{swap} limits memory and swap together, so it cannot be less than memory.limit, {limit}");
        problems.error(Field::new("linux.resources.memory.swap"), text);
    }
}

/// `unified`: files of version 2, last so that they win; a file of several lines takes one line at a time.
fn unified(map: &Map<'_, Str<'_>>, router: &mut Router<'_>) {
    for (key, value) in map {
        let from = Field::new("linux.resources.unified").key(key);
        let Some(group) = router.out.groups.iter().position(|g| g.version == Version::V2) else {
            router.problems.error(from, "this host has no cgroup v2");
            continue;
        };
        let Some((controller, parameter)) = key.split_once('.') else {
            router.problems.error(from, format!("{:?} is not of the form CONTROLLER.PARAMETER", &**key));
            continue;
        };
        if controller.is_empty() || parameter.is_empty() || key.contains(['/', '\n', '\0']) {
            router.problems.error(from, format!("{:?} is no file of a cgroup", &**key));
        } else if matches!(&**key, "cgroup.procs" | "cgroup.threads") {
            router.problems.error(from, "would move processes between containers");
        } else if controller != "cgroup" && !router.out.groups[group].controllers.iter().any(|c| c == controller) {
            router.problems.error(from, format!("cgroup v2 of this host has no controller {controller:?}"));
        } else {
            if controller != "cgroup" {
                router.need(group, controller);
            }
            router.out.groups[group].optional = false;
            for line in value.lines().filter(|l| !l.trim().is_empty()) {
                let (file, value) = (Cow::Owned(key.to_string()), line.to_owned());
                let when = if controller == "pids" { When::AfterAttach } else { When::BeforeAttach };
                let on_err = OnErr::Fail;
                let from = from.clone();
                router.out.writes.push(Write { group, file, value, when, from, on_err });
            }
        }
    }
}

/// The device rules: writes for the version 1 controller, a program for version 2.
fn devices(r: &Resources<'_>, out: &mut Groups, problems: &mut Problems) {
    let policy = devices::Policy::new(&r.devices, problems);
    let v1 = out.groups.iter().position(|g| g.controllers.iter().any(|c| c == "devices"));
    let v2 = out.groups.iter().position(|g| g.version == Version::V2);
    match (v1, v2) {
        (Some(group), _) => {
            let (checks, writes) = (&mut out.checks, &mut out.writes);
            let mut sink = Sink { group, mode: Mode::Create, writes, checks, problems };
            v1::devices(&mut sink, &policy);
            out.groups[group].optional = false;
        }
        (None, Some(group)) => {
            out.devices = ebpf::program(&policy);
            out.devices_group = out.devices.as_ref().map(|_| group);
        }
        (None, None) if !policy.allows_everything() => {
            problems.error(Field::new("linux.resources.devices"), "this host has no cgroup that can restrict devices");
        }
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_devices;
