//! `linux.cgroupsPath` and `linux.resources`: each limit, read where the kernel keeps it.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use serde_json::{Value, json};
use support::{Case, case, ready};

/// Whether one of these files is in the root of a hierarchy, so that the limit can be had on this host.
fn host_has(controller: &str) -> Option<u8> {
    if std::path::Path::new("/sys/fs/cgroup").join(controller).join("tasks").exists() {
        return Some(1);
    }
    let v2 = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"];
    let list = v2.iter().find_map(|f| std::fs::read_to_string(f).ok())?;
    list.split_whitespace().any(|c| c == controller).then_some(2)
}

/// A created container with these resources, for a look at its cgroups.
fn limited(key: &str, value: Value) -> Case {
    let case = case().set(&format!("/linux/resources/{key}"), value);
    case.create().ok();
    case
}

/// One limit: what is asked for, and what the file of version 1 or 2 then says.
fn holds(controller: &str, key: &str, value: Value, v1: (&str, &str), v2: (&str, &str)) {
    match host_has(controller) {
        Some(version) => {
            let (file, is) = if version == 1 { v1 } else { v2 };
            assert_eq!(limited(key, value).limit(file), is, "{key}");
        }
        None => case().set(&format!("/linux/resources/{key}"), value).refused(&["linux.resources"]),
    }
}

#[test]
fn cpu() {
    if !ready() {
        return;
    }
    holds("cpu", "cpu/shares", json!(512), ("cpu.shares", "512"), ("cpu.weight", "59"));
    let quota = json!({"quota": 50000, "period": 100_000});
    holds("cpu", "cpu", quota.clone(), ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    holds("cpu", "cpu", quota, ("cpu.cfs_period_us", "100000"), ("cpu.max", "50000 100000"));
    let burst = json!({"quota": 50000, "period": 100_000, "burst": 10000});
    holds("cpu", "cpu", burst, ("cpu.cfs_burst_us", "10000"), ("cpu.max.burst", "10000"));
    holds("cpu", "cpu/idle", json!(1), ("cpu.idle", "1"), ("cpu.idle", "1"));
}

#[test]
fn cpuset() {
    if !ready() {
        return;
    }
    holds("cpuset", "cpu", json!({"cpus": "0", "mems": "0"}), ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    case().set("/linux/resources/cpu", json!({"cpus": "4000"})).refused(&["linux.resources.cpu.cpus"]);
}

#[test]
fn memory() {
    if !ready() {
        return;
    }
    let mib64 = json!(67_108_864);
    holds("memory", "memory/limit", mib64.clone(), ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    holds(
        "memory",
        "memory/reservation",
        mib64,
        ("memory.soft_limit_in_bytes", "67108864"),
        ("memory.low", "67108864"),
    );
    if host_has("memory") == Some(1) {
        holds("memory", "memory/swappiness", json!(10), ("memory.swappiness", "10"), ("", ""));
        let case = limited("memory/disableOOMKiller", json!(true));
        assert!(case.limit("memory.oom_control").contains("oom_kill_disable 1"));
    }
    case().set("/linux/resources/memory/limit", json!(-7)).refused(&["linux.resources.memory.limit"]);
}

#[test]
fn memory_is_really_limited() {
    if !ready() || host_has("memory").is_none() {
        return;
    }
    let case = case().set("/linux/resources/memory/limit", json!(8_388_608));
    let out = case.script("dd if=/dev/zero of=/dev/null bs=64M count=1 && echo enough").run();
    assert!(!out.out.contains("enough"), "{} {}", out.out, out.err);
}

#[test]
fn pids() {
    if !ready() {
        return;
    }
    holds("pids", "pids/limit", json!(77), ("pids.max", "77"), ("pids.max", "77"));
    holds("pids", "pids/limit", json!(-1), ("pids.max", "max"), ("pids.max", "max"));
    if host_has("pids").is_some() {
        let case = case().set("/linux/resources/pids/limit", json!(4));
        let out = case.script("for i in 1 2 3 4 5 6; do sleep 1 & done; echo all").run();
        assert!(out.err.contains("fork") && !out.out.contains("all"), "{} {}", out.out, out.err);
    }
}

#[test]
fn the_cgroup_is_where_it_was_asked_for() {
    if !ready() {
        return;
    }
    let case = case();
    let path = format!("/{}/deep/er", case.id);
    let case = case.set("/linux/cgroupsPath", json!(path)).script("cut -d: -f3 /proc/self/cgroup | sort | uniq");
    let says = case.says();
    assert!(says.lines().any(|l| l == path), "{says}");
    assert_eq!(case.left(), Vec::<String>::new(), "the parents that were made go too");
}

#[test]
fn a_cgroup_that_was_there_before_stays() {
    if !ready() || host_has("pids") != Some(1) {
        return;
    }
    let case = case();
    let parent = std::path::Path::new("/sys/fs/cgroup/pids").join(&case.id);
    std::fs::create_dir(&parent).unwrap();
    let case = case.script("true");
    let path = format!("/{}/mine", case.id);
    let case = case.set("/linux/cgroupsPath", json!(path));
    case.run().ok();
    let stays = parent.exists() && !parent.join("mine").exists();
    std::fs::remove_dir(&parent).unwrap();
    assert!(stays);
}

#[test]
fn a_cgroup_with_somebody_elses_processes_is_refused() {
    if !ready() {
        return;
    }
    let first = case().args(&["sleep", "100"]);
    first.create().ok();
    let second = case().set("/linux/cgroupsPath", json!(format!("/{}", first.id)));
    second.run().refused(&["linux.cgroupsPath", "container's cgroup is not empty"]);
    assert!(!first.cgroups().is_empty() && first.status() == "created");
}

#[test]
fn what_this_host_lacks_is_refused_by_name() {
    if !ready() {
        return;
    }
    for (controller, key, value) in [
        ("rdma", "rdma", json!({"mlx5": {"hcaHandles": 3}})),
        ("net_cls", "network/classID", json!(5)),
        ("net_prio", "network/priorities", json!([{"name": "lo", "priority": 3}])),
    ] {
        if host_has(controller).is_none() {
            case().set(&format!("/linux/resources/{key}"), value).refused(&["linux.resources"]);
        }
    }
    case()
        .set("/linux/resources/hugepageLimits", json!([{"pageSize": "3KB", "limit": 1}]))
        .refused(&["linux.resources.hugepageLimits"]);
    case().set("/linux/resources/unified", json!({"no.such": "1"})).refused(&["linux.resources.unified"]);
    case().set("/linux/resources/unified", json!({"../x": "1"})).refused(&["linux.resources.unified"]);
}

#[test]
fn hugepages() {
    if !ready()
        || host_has("hugetlb").is_none()
        || !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists()
    {
        return;
    }
    let limit = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    holds(
        "hugetlb",
        "hugepageLimits",
        limit,
        ("hugetlb.2MB.limit_in_bytes", "4194304"),
        ("hugetlb.2MB.max", "4194304"),
    );
}

#[test]
fn a_path_cannot_leave_the_hierarchy() {
    if !ready() {
        return;
    }
    let case = case();
    let path = format!("/../../{}", case.id);
    let case = case.set("/linux/cgroupsPath", json!(path)).script("cut -d: -f3 /proc/self/cgroup | sort | uniq");
    let says = case.says();
    assert!(says.lines().any(|l| l == format!("/{}", case.id)), "{says}");
}
