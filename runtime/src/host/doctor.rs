//! What `doctor` finds: what this host has, what it lacks, and what that means.

use std::path::Path;

use serde::Serialize;

use super::facts;
use crate::facts::Facts;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Some configurations need it.
    Absent,
    /// No container can be made without it.
    Missing,
}

impl Verdict {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Absent => "absent",
            Verdict::Missing => "MISSING",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub is: String,
    /// How much that matters.
    pub verdict: Verdict,
    /// What it means, where it is not as it should be.
    pub hint: &'static str,
}

/// Looks at everything that containers need of a host.
pub fn examine() -> Vec<Finding> {
    let mut all = vec![kernel()];
    match facts(None) {
        Err(e) => all.push(finding("facts", &e.to_string(), Verdict::Missing, "is /proc mounted?")),
        Ok(facts) => {
            rights(&facts, &mut all);
            cgroups(&facts, &mut all);
            all.push(systemd());
            security(&facts, &mut all);
        }
    }
    namespaces(&mut all);
    filesystems(&mut all);
    programs(&mut all);
    all
}

fn finding(what: &'static str, is: &str, verdict: Verdict, hint: &'static str) -> Finding {
    let hint = if verdict == Verdict::Ok { "" } else { hint };
    Finding { what, is: is.to_owned(), verdict, hint }
}

fn or_absent(good: bool) -> Verdict {
    if good { Verdict::Ok } else { Verdict::Absent }
}

/// mount_setattr(2) is the newest call without which nothing works (5.12).
fn kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let verdict = if version >= (5, 12) { Verdict::Ok } else { Verdict::Missing };
    finding("kernel", release.trim(), verdict, "5.12 or newer is needed: mount_setattr(2)")
}

fn rights(facts: &Facts, all: &mut Vec<Finding>) {
    let who = match (facts.uid, facts.in_user_namespace) {
        (uid, false) => format!("uid {uid}"),
        (uid, true) => format!("uid {uid} in a user namespace"),
    };
    let hint = "containers need a user namespace: `spec --rootless`";
    all.push(finding("user", &who, or_absent(!facts.rootless()), hint));
    let every = (1u64 << (u32::from(facts.last_cap) + 1)) - 1;
    let lacks = every & !facts.bounding;
    let names: Vec<_> = (0..=facts.last_cap)
        .filter(|n| lacks & (1 << n) != 0)
        .filter_map(|n| crate::abi::CAPABILITIES.get(usize::from(n)).copied())
        .collect();
    let is = if names.is_empty() { "all".to_owned() } else { format!("all but {}", names.join(" ")) };
    all.push(finding(
        "capabilities",
        &is,
        or_absent(names.is_empty()),
        "a container cannot be given what is lacking here",
    ));
}

fn cgroups(facts: &Facts, all: &mut Vec<Finding>) {
    let mode = match (facts.cgroups.v1.is_empty(), &facts.cgroups.v2) {
        (true, Some(_)) => "version 2",
        (false, None) => "version 1",
        (false, Some(_)) => "version 1 and 2",
        (true, None) => "none",
    };
    let hint = "only --cgroup-manager disabled works";
    all.push(finding("cgroups", mode, or_absent(mode != "none"), hint));
    let v2 = facts.cgroups.v2.iter().flat_map(|u| &u.controllers);
    let has: Vec<&str> = facts.cgroups.v1.iter().flat_map(|h| &h.controllers).chain(v2).map(String::as_str).collect();
    // Version 2 freezes and restricts devices without a controller.
    let needed: &[&str] = match facts.cgroups.v1.is_empty() {
        true => &["cpu", "cpuset", "io", "memory", "pids"],
        false => &["cpu", "cpuset", "blkio", "memory", "pids", "devices", "freezer"],
    };
    let lacks: Vec<_> = needed.iter().filter(|c| !has.contains(c)).copied().collect();
    let is = if lacks.is_empty() { has.join(" ") } else { format!("{}; not {}", has.join(" "), lacks.join(" ")) };
    all.push(finding("cgroup controllers", &is, or_absent(lacks.is_empty()), "limits of what is lacking are refused"));
}

fn systemd() -> Finding {
    let (is, found) = match super::systemd(None) {
        Ok(systemd) if systemd.manager.user => (format!("{}, the user's", systemd.version), true),
        Ok(systemd) => (systemd.version.to_string(), true),
        Err(_) => ("not running".to_owned(), false),
    };
    finding("systemd", &is, or_absent(found), "--systemd-cgroup is refused: let the engine use cgroupfs")
}

fn security(facts: &Facts, all: &mut Vec<Finding>) {
    let word = |yes: bool| if yes { "enabled" } else { "not enabled" };
    let filter = std::fs::read_to_string("/proc/self/status").is_ok_and(|s| s.contains("\nSeccomp:"));
    all.push(finding("seccomp", word(filter), or_absent(filter), "a config with linux.seccomp is refused"));
    let hint = "a config with process.apparmorProfile is refused";
    all.push(finding("AppArmor", word(facts.apparmor), or_absent(facts.apparmor), hint));
    let hint = "a config with process.selinuxLabel is refused";
    all.push(finding("SELinux", word(facts.selinux), or_absent(facts.selinux), hint));
}

fn namespaces(all: &mut Vec<Finding>) {
    let kinds = ["user", "pid", "net", "mnt", "ipc", "uts", "cgroup", "time"];
    let has = |kind: &&&str| Path::new(&format!("/proc/self/ns/{kind}")).exists();
    let lacks: Vec<_> = kinds.iter().filter(|kind| !has(kind)).copied().collect();
    let verdict = match (lacks.contains(&"mnt"), lacks.is_empty()) {
        (true, _) => Verdict::Missing,
        (_, empty) => or_absent(empty),
    };
    let is = if lacks.is_empty() { "all eight".to_owned() } else { format!("not {}", lacks.join(" ")) };
    all.push(finding("namespaces", &is, verdict, "this kernel was built without them"));
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let allowed = most.trim() != "0";
    all.push(finding(
        "user namespaces",
        &format!("at most {}", most.trim()),
        or_absent(allowed),
        "user.max_user_namespaces forbids them",
    ));
}

fn filesystems(all: &mut Vec<Finding>) {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = |name: &str| known.lines().any(|line| line.split_whitespace().last() == Some(name));
    for (name, verdict) in [
        ("proc", Verdict::Missing),
        ("tmpfs", Verdict::Missing),
        ("devpts", Verdict::Absent),
        ("mqueue", Verdict::Absent),
        ("overlay", Verdict::Absent),
    ] {
        let (verdict, is) =
            if has(name) { (Verdict::Ok, "known to this kernel") } else { (verdict, "unknown to this kernel") };
        all.push(finding(name, is, verdict, "it may be a module that is not loaded"));
    }
}

fn programs(all: &mut Vec<Finding>) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    for (name, hint) in [
        ("ps", "`ps` works with --format json alone"),
        ("newuidmap", "an unprivileged user can map himself alone"),
        ("newgidmap", "an unprivileged user can map his group alone"),
        ("criu", "no checkpoint and restore"),
    ] {
        let found = find(name);
        let is = found.as_ref().map_or("not in PATH".to_owned(), |file| file.display().to_string());
        all.push(finding(name, &is, or_absent(found.is_some()), hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_runs_tests_is_well_enough() {
        let found = examine();
        assert!(found.iter().all(|f| f.verdict != Verdict::Missing), "{found:?}");
        assert!(found.iter().all(|f| (f.verdict == Verdict::Ok) == f.hint.is_empty()), "{found:?}");
        assert!(found.iter().any(|f| f.what == "kernel" && f.is.contains('.')));
    }
}
