//! `diff`: a running container against its plan. What differs is drift: the program's own doing, or somebody else's.

use std::path::Path;

use serde::Serialize;

use super::{Error, Result, Status, compile, status, update};
use crate::compile::cgroup::{self, Group, Version};
use crate::compile::namespaces::host_id;
use crate::error::Problems;
use crate::op::{InitOp, JoinerOp, Kind, ParentOp};
use crate::plan::{Act, Plan};
use crate::run::cgroup::Dir as CgroupDir;
use crate::spec::{IdMapping, Resources, Spec};
use crate::{parse, state, undo};

/// One thing that is not as it was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// What: `uid`, `CapEff`, `namespace net`, `pids.max`.
    pub what: String,
    /// As it was planned.
    pub planned: String,
    /// As it is.
    pub is: String,
}

/// Compares ids, capabilities, no_new_privs, the seccomp mode, namespaces, cgroups and limits.
///
/// # Errors
/// `container not running`, or its plan cannot be made again.
pub fn diff(root: &Path, id: &str) -> Result<Vec<Drift>> {
    let dir = state::open(root, id)?;
    let (Some(record), Status::Running | Status::Paused) = status(&dir) else {
        return Err(Error::new(format!("{id}: container not running")));
    };
    let text = dir.read("config.json").map_err(|e| Error::new(format!("{id}: {e}")))?;
    let (spec, _) = parse::config(&text)?;
    let plan = compile(&spec, &record.request)?.plan;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", record.pid)).unwrap_or_default();
    let mut found = Finder { drift: Vec::new() };
    found.process(&plan, &spec, &read("status"));
    found.namespaces(&plan, record.pid);
    let groups = undo::groups(&record.undo);
    found.places(&groups, &read("cgroup"));
    let resources = update::current(&dir)?;
    let (resources, _) = parse::resources(&resources)?;
    found.limits(groups, &resources);
    Ok(found.drift)
}

struct Finder {
    drift: Vec<Drift>,
}

impl Finder {
    fn compare(&mut self, what: impl Into<String>, planned: impl Into<String>, is: impl Into<String>) {
        let (what, planned, is) = (what.into(), planned.into(), is.into());
        if planned != is {
            self.drift.push(Drift { what, planned, is });
        }
    }

    /// Against `/proc/PID/status` (proc_pid_status(5)), whose ids are those of the reader's user namespace.
    fn process(&mut self, plan: &Plan, spec: &Spec<'_>, status: &str) {
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let none = crate::spec::Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let outside = |id: u32, map: &[IdMapping]| if map.is_empty() { id } else { host_id(map, id).unwrap_or(id) };
        let four = |id: u32| format!("{id} {id} {id} {id}");
        let hex = |set: u64| format!("{set:016x}");
        let (mut nnp, mut seccomp, mut ambient, mut caps) = (0, 0, 0, None);
        for step in &plan.steps {
            let Act::Init(op) = &step.act else { continue };
            match op {
                InitOp::Uid(uid) => self.compare("uid", four(outside(*uid, &linux.uid_mappings)), field("Uid")),
                InitOp::Gid(gid) => self.compare("gid", four(outside(*gid, &linux.gid_mappings)), field("Gid")),
                InitOp::Groups(groups) => {
                    let mut groups: Vec<_> = groups.iter().map(|g| outside(*g, &linux.gid_mappings)).collect();
                    groups.sort_unstable();
                    let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
                    self.compare("additionalGids", groups.join(" "), field("Groups"));
                }
                InitOp::Bounding { keep, .. } => self.compare("CapBnd", hex(*keep), field("CapBnd")),
                InitOp::Capabilities(sets) => caps = Some(*sets),
                InitOp::Ambient(set) => ambient = *set,
                InitOp::NoNewPrivileges => nnp = 1,
                InitOp::Seccomp(_) => seccomp = 2,
                _ => {}
            }
        }
        if let Some(sets) = caps {
            // At exec, a program of root's gains what its bounding set allows; without that, what is ambient.
            if spec.process.as_ref().is_some_and(|p| p.user.uid != 0) {
                self.compare("CapEff", hex(ambient), field("CapEff"));
            }
            self.compare("CapInh", hex(sets.inheritable), field("CapInh"));
        }
        self.compare("CapAmb", hex(ambient), field("CapAmb"));
        self.compare("noNewPrivileges", nnp.to_string(), field("NoNewPrivs"));
        self.compare("seccomp mode", seccomp.to_string(), field("Seccomp"));
    }

    /// A new namespace is not the runtime's; a kind that is not named is.
    fn namespaces(&mut self, plan: &Plan, pid: i32) {
        let mut new = 0;
        let mut joined = Vec::new();
        for step in &plan.steps {
            match &step.act {
                Act::Parent(ParentOp::Clone { flags, .. }) | Act::Joiner(JoinerOp::Clone { flags }) => new |= flags,
                Act::Init(InitOp::Unshare(flags)) => new |= flags,
                Act::Joiner(JoinerOp::Join { kind, .. }) => joined.push(*kind),
                Act::Joiner(JoinerOp::UnshareTime) => new |= Kind::Time.flag(),
                _ => {}
            }
        }
        let kinds = [
            (Kind::User, "user"),
            (Kind::Pid, "pid"),
            (Kind::Network, "net"),
            (Kind::Mount, "mnt"),
            (Kind::Ipc, "ipc"),
            (Kind::Uts, "uts"),
            (Kind::Cgroup, "cgroup"),
        ];
        let link = |pid: &str, file| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap_or_default();
        for (kind, file) in kinds.into_iter().filter(|(kind, _)| !joined.contains(kind)) {
            let own = link("self", file) != link(&pid.to_string(), file);
            let word = |own| if own { "its own" } else { "the runtime's" };
            self.compare(format!("namespace {file}"), word(new & kind.flag() != 0), word(own));
        }
    }

    fn places(&mut self, groups: &[Group], table: &str) {
        for group in groups {
            let line = table.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                let ours = match group.version {
                    Version::V2 => controllers.is_empty(),
                    Version::V1 => group.controllers.iter().any(|c| controllers.split(',').any(|k| k == c)),
                };
                ours.then_some(path)
            });
            // A container may have made cgroups of its own below.
            let planned = format!("/{}", group.path);
            let is = line.unwrap_or("nowhere");
            if !is.strip_prefix(&planned).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                self.compare(format!("cgroup {}", group.mount), planned, is);
            }
        }
    }

    fn limits(&mut self, groups: Vec<Group>, resources: &Resources<'_>) {
        let change = cgroup::update(groups, resources, &Resources::default(), &mut Problems::default());
        let idle = resources.cpu.as_ref().is_some_and(|cpu| cpu.idle == Some(1));
        for write in &change.writes {
            // Of who is SCHED_IDLE the kernel tells the weight that it has given him.
            if idle && matches!(&*write.file, "cpu.shares" | "cpu.weight") {
                continue;
            }
            let Ok(dir) = CgroupDir::open(&change.groups[write.group].dir()) else { continue };
            let Ok(is) = dir.read(&write.file) else { continue };
            if !same_limit(&write.value, &is) {
                self.compare(write.file.clone(), write.value.clone(), is);
            }
        }
    }
}

/// Whether a line says what was planned: of a device, a line of its own has every limit, `8:0 rbps=5 wbps=max`.
fn holds(line: &str, planned: &str) -> bool {
    let mut words = line.split(' ');
    let mut wanted = planned.split(' ');
    wanted.next() == words.next() && wanted.all(|word| words.clone().any(|w| w == word))
}

/// The kernel rounds to pages, says "no limit" in its own way, and lists what belongs to all devices.
fn same_limit(planned: &str, is: &str) -> bool {
    const PAGE: i64 = 4096;
    const UNLIMITED: i64 = i64::MAX - (1 << 20);
    if planned == is || is.lines().any(|line| holds(line, planned)) {
        return true;
    }
    match (planned.parse::<i64>(), is.parse::<i64>()) {
        (Ok(-1), Ok(is)) => is == -1 || is >= UNLIMITED,
        (Ok(planned), Ok(is)) => planned / PAGE * PAGE == is,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::same_limit;

    #[test]
    fn limits_are_compared_as_the_kernel_tells_them() {
        let io = "8:16 rbps=1 wbps=max riops=max wiops=max\n8:0 rbps=5 wbps=max riops=max wiops=77";
        let same = [
            ("100", "100"),
            ("-1", "9223372036854771712"),
            ("5000", "4096"),
            ("8:0 5", "8:16 1\n8:0 5"),
            ("8:0 wiops=77", io),
            ("8:0 rbps=5", io),
        ];
        for (planned, is) in same {
            assert!(same_limit(planned, is), "{planned} {is}");
        }
        for (planned, is) in [("100", "max"), ("8192", "4096"), ("-1", "100"), ("8:0 5", "8:0 6"), ("8:0 wiops=7", io)]
        {
            assert!(!same_limit(planned, is), "{planned} {is}");
        }
    }
}
