//! Cgroups on this machine's kernel, as root: every test leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails is to panic; a skipped one says why")]

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tare::compile::cgroup::{Group, Groups, Version, When, compile, update};
use tare::error::Problems;
use tare::facts::Cgroups;
use tare::run::cgroup::freeze::{State, freeze, state, thaw};
use tare::run::cgroup::oom::{News, watch};
use tare::run::cgroup::{self, Made, devices, fs, kill_all, make, missing, procs, remove, signal_all, stats};
use tare::spec::Resources;
use tare::sys::bpf;

/// Host facts, or the reason why a test cannot run here.
fn host() -> Option<Cgroups> {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP: not root");
        return None;
    }
    match cgroup::probe() {
        Ok(facts) => Some(facts),
        Err(e) => {
            println!("SKIP: {e}");
            None
        }
    }
}

fn fresh(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("tare-test-{}-{}/{name}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn plan(path: &str, resources: &str, facts: &Cgroups) -> Groups {
    let resources: Resources<'_> = serde_json::from_str(resources).unwrap();
    let mut problems = Problems::default();
    let groups = compile(Some(&format!("/{path}")), "unused", &resources, facts, false, &mut problems);
    assert!(problems.errors.is_empty(), "{problems}");
    groups
}

/// The cgroups of one test, gone at its end even when it fails.
struct Container {
    plan: Groups,
    made: Vec<Made>,
    children: Vec<Child>,
}

impl Container {
    fn make(plan: Groups) -> Container {
        let mut made = Vec::new();
        for group in &plan.groups {
            let before = missing(group);
            made.push(make(group).unwrap());
            assert_eq!(made.last().unwrap().dirs, before, "the journal's list is what was made");
        }
        let container = Container { plan, made, children: Vec::new() };
        container.write(When::BeforeAttach);
        container
    }

    fn write(&self, when: When) {
        for write in self.plan.writes.iter().filter(|w| w.when == when) {
            fs::write(&self.plan.groups[write.group], write).unwrap();
        }
    }

    fn groups(&self) -> &[Group] {
        &self.plan.groups
    }

    /// A process that enters all cgroups by itself and then runs `script`.
    fn spawn(&mut self, script: &str) -> u32 {
        let enter: String = self
            .groups()
            .iter()
            .map(|g| match g.version {
                Version::V1 => format!("echo 0 > {} || exit 99\n", fs::tasks(g)),
                Version::V2 => format!("echo 0 > {}/cgroup.procs || exit 99\n", g.dir()),
            })
            .collect();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(enter + "echo in; exec 1>&2\n" + script).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        self.children.push(child);
        self.children.last().unwrap().id()
    }

    /// The exit status of a process that runs `script` inside; none for a death by signal.
    fn status(&mut self, script: &str) -> Option<i32> {
        self.spawn(script);
        self.children.pop().unwrap().wait().unwrap().code()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let group = self.groups().iter().find(|g| g.controllers.iter().any(|c| c == controller)).unwrap();
        std::fs::read_to_string(format!("{}/{file}", group.dir())).unwrap().trim().to_owned()
    }

    fn remove(&mut self) {
        kill_all(self.groups()).unwrap();
        for mut child in self.children.drain(..) {
            child.wait().unwrap();
        }
        for (group, made) in self.plan.groups.iter().zip(&self.made) {
            for _ in 0..2 {
                remove(&group.dir(), &made.dirs).unwrap();
            }
            assert!(made.dirs.iter().all(|dir| !Path::new(dir).exists()), "{made:?}");
        }
        self.made.clear();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.made.is_empty() {
            self.remove();
        }
    }
}

fn has(facts: &Cgroups, controller: &str) -> bool {
    let v1 = facts.v1.iter().any(|h| h.controllers.iter().any(|c| c == controller));
    v1 || facts.v2.as_ref().is_some_and(|u| u.controllers.iter().any(|c| c == controller))
}

/// Waits for something that the kernel does by itself.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const LIMITS: &str = r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"},
    "memory":{"limit":67108864,"reservation":33554432},"pids":{"limit":50}}"#;

#[test]
fn a_whole_life_twice() {
    let Some(facts) = host() else { return };
    let path = fresh("life");
    for _ in 0..2 {
        let mut c = Container::make(plan(&path, LIMITS, &facts));
        let pid = i32::try_from(c.spawn("sleep 100 & exec sleep 100")).unwrap();
        c.write(When::AfterAttach);
        assert_eq!(c.read("pids", "pids.max"), "50");
        assert_eq!(c.read("cpuset", "cpuset.cpus"), "0");
        if facts.v1.is_empty() {
            assert_eq!(c.read("cpu", "cpu.max"), "50000 100000");
            assert_eq!(c.read("memory", "memory.max"), "67108864");
            assert_eq!(c.read("cpu", "cpu.weight"), "59");
        } else {
            assert_eq!(c.read("cpu", "cpu.cfs_quota_us"), "50000");
            assert_eq!(c.read("memory", "memory.limit_in_bytes"), "67108864");
            assert_eq!(c.read("cpu", "cpu.shares"), "512");
        }
        for group in c.groups() {
            eventually("two processes", || procs(group, true).unwrap().len() == 2);
            assert!(procs(group, false).unwrap().contains(&pid));
            let again = make(group).unwrap_err().to_string();
            assert!(again.starts_with("container's cgroup is not empty"), "{again}");
        }
        freeze(c.groups()).unwrap();
        assert_eq!(state(c.groups()), Ok(State::Frozen));
        thaw(c.groups()).unwrap();
        assert_eq!(state(c.groups()), Ok(State::Thawed));
        let seen = serde_json::to_value(stats::stats(c.groups()).unwrap()).unwrap();
        assert_eq!(seen["pids"]["current"], 2);
        assert_eq!(seen["pids"]["limit"], 50);
        assert_eq!(seen["memory"]["usage"]["limit"], 67_108_864);
        assert!(seen["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
        assert!(seen["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
        assert_eq!(signal_all(c.groups(), libc::SIGTERM), Ok(2));
        eventually("SIGTERM to reach all", || procs(&c.groups()[0], true).unwrap().is_empty());
        c.remove();
    }
}

#[test]
fn update_changes_a_container_in_use_up_and_down() {
    let Some(facts) = host() else { return };
    let (big, small) = (
        r#"{"cpu":{"quota":400000,"period":1000000},"memory":{"limit":134217728}}"#,
        r#"{"cpu":{"quota":2000,"period":5000},"memory":{"limit":33554432}}"#,
    );
    let mut c = Container::make(plan(&fresh("update"), small, &facts));
    c.spawn("sleep 100");
    for new in [big, small, big] {
        let resources: Resources<'_> = serde_json::from_str(new).unwrap();
        let mut problems = Problems::default();
        let change = update(c.groups().to_vec(), &resources, &resources, &mut problems);
        for write in &change.writes {
            fs::write(&change.groups[write.group], write).unwrap();
        }
        let file = if facts.v1.is_empty() { "memory.max" } else { "memory.limit_in_bytes" };
        assert_eq!(c.read("memory", file), resources.memory.unwrap().limit.unwrap().to_string());
    }
    c.remove();
}

#[test]
fn memory_and_swap_are_raised_and_lowered_together() {
    let Some(facts) = host() else { return };
    let swap = |limit: u64| format!(r#"{{"memory":{{"limit":{limit},"swap":{}}}}}"#, limit * 2);
    let mut c = Container::make(plan(&fresh("swap"), &swap(64 << 20), &facts));
    let file = if facts.v1.is_empty() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    let group = c.groups().iter().find(|g| g.controllers.iter().any(|n| n == "memory")).unwrap();
    if !Path::new(&format!("{}/{file}", group.dir())).exists() {
        println!("SKIP: this kernel does not account swap");
        return c.remove();
    }
    for limit in [512 << 20, 32 << 20, 256 << 20] {
        let json = swap(limit);
        let resources: Resources<'_> = serde_json::from_str(&json).unwrap();
        let change = update(c.groups().to_vec(), &resources, &resources, &mut Problems::default());
        change.writes.iter().for_each(|w| fs::write(&change.groups[w.group], w).unwrap());
        let want = if facts.v1.is_empty() { limit } else { limit * 2 };
        assert_eq!(c.read("memory", file), want.to_string());
    }
    c.remove();
}

#[test]
fn a_frozen_cgroup_is_unfit_and_its_processes_can_be_killed() {
    let Some(facts) = host() else { return };
    let mut c = Container::make(plan(&fresh("frozen"), "{}", &facts));
    freeze(c.groups()).unwrap();
    let errors: Vec<String> = c.groups().iter().filter_map(|g| make(g).err()).map(|e| e.to_string()).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("container's cgroup unexpectedly frozen"), "{errors:?}");
    thaw(c.groups()).unwrap();
    c.spawn("sleep 100");
    freeze(c.groups()).unwrap();
    kill_all(c.groups()).unwrap();
    assert!(procs(&c.groups()[0], true).unwrap().is_empty());
    c.remove();
}

#[test]
fn nested_cgroups_go_and_the_neighbours_stay() {
    let Some(facts) = host() else { return };
    let path = fresh("nested");
    let mut neighbour = Container::make(plan(&format!("{path}-too"), "{}", &facts));
    neighbour.spawn("exec sleep 100");
    let mut c = Container::make(plan(&path, "{}", &facts));
    for group in c.groups() {
        std::fs::create_dir_all(format!("{}/a/b", group.dir())).unwrap();
        std::fs::create_dir(format!("{}/c", group.dir())).unwrap();
    }
    c.spawn("sleep 100");
    let group = c.groups()[0].clone();
    let error = remove(&group.dir(), &[]).unwrap_err().to_string();
    assert!(error.contains("still holds processes"), "{error}");
    c.remove();
    for group in neighbour.groups() {
        assert_eq!(procs(group, true).unwrap().len(), 1, "{}", group.dir());
    }
    neighbour.remove();
}

#[test]
fn a_value_that_the_kernel_refuses_is_explained() {
    let Some(facts) = host() else { return };
    let bad = plan(&fresh("bad"), r#"{"cpu":{"cpus":"4000"}}"#, &facts);
    let write = bad.writes.iter().find(|w| w.file == "cpuset.cpus").unwrap().clone();
    let mut c = Container::make(plan(&bad.groups[0].path, "{}", &facts));
    let error = fs::write(&c.groups()[write.group], &write).unwrap_err().to_string();
    assert!(error.starts_with("write \"4000\" to /sys/fs/cgroup/"), "{error}");
    assert!(error.contains("does not have all of them"), "{error}");
    let mut absent = write.clone();
    absent.file = "cpuset.nonesuch".into();
    let error = fs::write(&c.groups()[write.group], &absent).unwrap_err().to_string();
    assert!(error.contains("this kernel does not have that limit"), "{error}");
    c.remove();
    let gone = fs::write(&c.groups()[write.group], &write).unwrap_err();
    assert!(gone.is_missing(), "{gone}");
}

#[test]
fn devices_are_denied_but_the_default_ones() {
    let Some(facts) = host() else { return };
    if !Path::new("/dev/kmsg").exists() {
        return println!("SKIP: no /dev/kmsg to be denied");
    }
    let rules = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    let mut c = Container::make(plan(&fresh("devices"), rules, &facts));
    if let (Some(group), Some(program)) = (c.plan.devices_group, &c.plan.devices) {
        devices::attach(&c.groups()[group], program).unwrap();
    } else {
        let list = c.read("devices", "devices.list");
        assert!(list.starts_with("b *:* m\nc *:* m\nc 1:3 rwm") || list.contains("c 1:3 rwm"), "{list}");
        assert!(!list.contains("a *:*"), "{list}");
    }
    assert_eq!(c.status("head -c 1 /dev/zero"), Some(0));
    assert_ne!(c.status("exec 3</dev/kmsg"), Some(0));
    c.remove();
    let mut privileged = Container::make(plan(&fresh("privileged"), r#"{"devices":[{"allow":true}]}"#, &facts));
    assert_eq!(privileged.plan.devices, None);
    assert_eq!(privileged.status("exec 3</dev/kmsg"), Some(0));
    privileged.remove();
}

#[test]
fn a_device_program_decides_and_a_second_replaces_it() {
    let Some(facts) = host() else { return };
    let Some(unified) = facts.v2.clone() else { return println!("SKIP: no cgroup v2") };
    if !Path::new("/dev/kmsg").exists() {
        return println!("SKIP: no /dev/kmsg to be denied");
    }
    let v2 = Cgroups { v1: Vec::new(), v2: Some(unified) };
    let path = fresh("program");
    let mut c = Container::make(plan(&path, r#"{"devices":[{"allow":false}]}"#, &v2));
    let attached = |c: &Container| {
        let dir = std::fs::File::open(c.groups()[0].dir()).unwrap();
        bpf::device_programs(dir.as_fd()).unwrap()
    };
    let strict = c.plan.devices.clone().unwrap();
    devices::attach(&c.groups()[0], &strict).unwrap();
    assert_eq!(attached(&c).len(), 1);
    let (zero, kmsg, write) = ("exec 3</dev/zero", "exec 3</dev/kmsg", "exec 3>/dev/kmsg");
    assert_eq!(c.status(zero), Some(0));
    assert_ne!(c.status(kmsg), Some(0));
    let rules = r#"{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":11,"access":"rw"},
        {"allow":false,"type":"c","major":1,"minor":11,"access":"w"}]}"#;
    let reading = plan(&path, rules, &v2).devices.unwrap();
    let before = attached(&c);
    devices::attach(&c.groups()[0], &reading).unwrap();
    assert_eq!(attached(&c).len(), 1);
    assert_ne!(attached(&c), before);
    assert_eq!(c.status(kmsg), Some(0));
    assert_ne!(c.status(write), Some(0));
    c.remove();
}

#[test]
fn the_oom_killer_is_told_of() {
    let Some(facts) = host() else { return };
    if !has(&facts, "memory") {
        return println!("SKIP: no memory controller");
    }
    let limit = r#"{"memory":{"limit":8388608,"swap":8388608}}"#;
    let mut c = Container::make(plan(&fresh("oom"), limit, &facts));
    let mut watch = watch(c.groups()).unwrap();
    assert_eq!(watch.news(), Ok(News::Nothing));
    assert_ne!(c.status("exec tail /dev/zero"), Some(0));
    eventually("the OOM kill", || watch.news() == Ok(News::Oom));
    c.remove();
    eventually("the removal", || watch.news() == Ok(News::Removed));
}

#[test]
fn a_limit_below_the_usage_is_rejected_where_asked() {
    let Some(facts) = host() else { return };
    if !facts.v1.is_empty() || !has(&facts, "memory") {
        return println!("SKIP: cgroup v2 has no memory controller here");
    }
    let mut c = Container::make(plan(&fresh("check"), "{}", &facts));
    c.spawn("sleep 100");
    let low: Resources<'_> = serde_json::from_str(r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap();
    let change = update(c.groups().to_vec(), &low, &Resources::default(), &mut Problems::default());
    let error = fs::check(&change.groups[0], &change.checks[0]).unwrap_err().to_string();
    assert!(error.starts_with("rejecting memory limit 4096 <= usage"), "{error}");
    c.remove();
}

#[test]
fn a_version_2_cgroup_is_given_to_its_user() {
    let Some(facts) = host() else { return };
    let Some(unified) = facts.v2.clone() else { return println!("SKIP: no cgroup v2") };
    let mut c = Container::make(plan(&fresh("own"), "{}", &Cgroups { v1: Vec::new(), v2: Some(unified) }));
    fs::delegate(&c.groups()[0], 1234).unwrap();
    let owner = |file: &str| {
        let path = format!("{}/{file}", c.groups()[0].dir());
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap())
    };
    assert_eq!([".", "cgroup.procs", "cgroup.subtree_control", "cgroup.freeze"].map(owner), [1234, 1234, 1234, 0]);
    c.remove();
}

#[test]
fn a_threaded_cgroup_is_unfit() {
    let Some(facts) = host() else { return };
    let Some(mut unified) = facts.v2.clone() else { return println!("SKIP: no cgroup v2") };
    // Below a parent that passes on memory, say, no cgroup can become threaded.
    unified.controllers.clear();
    let mut c = Container::make(plan(&fresh("threaded"), "{}", &Cgroups { v1: Vec::new(), v2: Some(unified) }));
    std::fs::write(format!("{}/cgroup.type", c.groups()[0].dir()), "threaded").unwrap();
    let error = make(&c.groups()[0]).unwrap_err().to_string();
    assert!(error.contains("threaded"), "{error}");
    c.remove();
}

#[test]
fn controllers_cannot_pass_a_parent_with_processes() {
    let Some(facts) = host() else { return };
    let Some(controller) =
        facts.v2.as_ref().and_then(|u| u.controllers.iter().find(|c| *c == "pids" || *c == "memory"))
    else {
        return println!("SKIP: cgroup v2 has neither pids nor memory here");
    };
    let v2 = Cgroups { v1: Vec::new(), v2: facts.v2.clone() };
    let path = fresh("busy");
    let mut parent = Container::make(plan(&path, "{}", &v2));
    parent.spawn("sleep 100");
    let limit = if controller == "pids" { r#"{"pids":{"limit":5}}"# } else { r#"{"memory":{"limit":5000000}}"# };
    let error = make(&plan(&format!("{path}/child"), limit, &v2).groups[0]).unwrap_err().to_string();
    assert!(error.contains("holds processes of its own"), "{error}");
    // A container whose limits need no controller there is made, and its parent stays what it is.
    let mut child = Container::make(plan(&format!("{path}/child"), "{}", &v2));
    let kind = std::fs::read_to_string(format!("{}/cgroup.type", parent.groups()[0].dir())).unwrap();
    assert_eq!(kind.trim(), "domain");
    child.remove();
    parent.remove();
}
