//! `linux.namespaces`, id maps, time offsets, sysctl, personality: new, joined, refused.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use serde_json::json;
use support::{Case, case, ready};

/// Types of the specification, and their names in /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("time", "time"),
    ("user", "user"),
];

fn link(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn a_new_namespace_is_not_ours() {
    if !ready() {
        return;
    }
    for (kind, name) in KINDS {
        let case = case().script(&format!("readlink /proc/self/ns/{name}"));
        let case = if kind == "user" { case.user_namespace(65536) } else { case.namespace(kind, None) };
        assert_ne!(case.says(), link(name), "{kind}");
    }
}

#[test]
fn what_is_not_listed_is_shared_with_the_runtime() {
    if !ready() {
        return;
    }
    for (kind, name) in KINDS.into_iter().filter(|(k, _)| !matches!(*k, "mount" | "user")) {
        let case = case().script(&format!("readlink /proc/self/ns/{name}")).without_namespace(kind);
        let case = if kind == "uts" { case.without("", "hostname") } else { case };
        case.yields(&link(name));
    }
}

#[test]
fn every_kind_can_be_joined() {
    if !ready() {
        return;
    }
    let first = case().args(&["sleep", "100"]).namespace("cgroup", None).namespace("time", None);
    first.create().ok();
    let pid = first.pid();
    for (kind, name) in KINDS.into_iter().filter(|(k, _)| !matches!(*k, "mount" | "user")) {
        let path = format!("/proc/{pid}/ns/{name}");
        let second = case().script(&format!("readlink /proc/self/ns/{name}")).namespace(kind, Some(&path));
        second.yields(&std::fs::read_link(&path).unwrap().display().to_string());
    }
}

#[test]
fn a_user_namespace_is_joined_with_those_it_owns() {
    if !ready() {
        return;
    }
    let first = case().args(&["sleep", "100"]).user_namespace(65536);
    first.create().ok();
    let pid = first.pid();
    let mut second =
        case().script("readlink /proc/self/ns/user; id -u").namespace("user", Some(&format!("/proc/{pid}/ns/user")));
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        second = second.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
    }
    nix::unistd::chown(&second.rootfs(), Some(100_000.into()), Some(100_000.into())).unwrap();
    let user = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap().display().to_string();
    second.yields(&format!("{user}\n0"));
}

#[test]
fn a_mount_namespace_is_joined() {
    if !ready() {
        return;
    }
    let first = case().args(&["sleep", "100"]);
    first.create().ok();
    let path = format!("/proc/{}/ns/mnt", first.pid());
    // In there the first container's root is `/`: the second's bundle is not to be seen.
    let second = case().script("readlink /proc/self/ns/mnt").namespace("mount", Some(&path));
    let out = second.run();
    assert_ne!(out.code, 0, "{}", out.out);
    assert!(out.err.contains("root.path"), "{}", out.err);
    assert_eq!(second.left(), Vec::<String>::new());
}

#[test]
fn the_root_is_that_of_the_mount_namespace_that_is_joined() {
    if !ready() {
        return;
    }
    // Who joins a mount namespace has prepared it: a root filesystem that is mounted in there alone is the one that is meant
    // (the specification does not say; other runtimes look there, too). Sources of mounts are the runtime's.
    let case = case().script("cat /where /data").mount("/data", "bind", "data", &["bind"]);
    std::fs::write(case.dir.join("data"), "of the runtime\n").unwrap();
    std::fs::write(case.rootfs().join("where"), "outside\n").unwrap();
    let (dir, rootfs) = (case.dir.display(), case.rootfs().display().to_string());
    let prepare = format!(
        "cp -a {rootfs} {dir}/copy && mount --bind {dir}/copy {rootfs} && echo inside >{rootfs}/where && \
         echo of the namespace >{dir}/other && mount --bind {dir}/other {dir}/data && touch {dir}/ready && exec sleep 1000"
    );
    let mut holder = std::process::Command::new("unshare").args(["-m", "sh", "-c", &prepare]).spawn().unwrap();
    case.until("the namespace is prepared", || case.dir.join("ready").exists());
    let path = format!("/proc/{}/ns/mnt", holder.id());
    let case = case.namespace("mount", Some(&path));
    let said = case.run();
    // What the runtime mounted over it in there is gone, and what was there before is not.
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", holder.id())).unwrap();
    let at_root = mounts.lines().filter(|l| l.split(' ').nth(4).is_some_and(|at| at.starts_with(&rootfs))).count();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(said.ok(), "inside\nof the runtime");
    assert_eq!(at_root, 1, "{mounts}");
}

#[test]
fn a_path_of_another_type_is_refused_before_anything_is_made() {
    if !ready() {
        return;
    }
    case().namespace("network", Some("/proc/self/ns/uts")).refused(&["linux.namespaces[", "].path"]);
    for (kind, path) in [("mount", "/proc/self/ns/net"), ("network", "/proc/self/ns/mnt")] {
        let case = case().namespace(kind, Some(path));
        case.create().refused(&["linux.namespaces[", "].path", &format!("is no {kind} namespace")]);
        assert_eq!(case.left(), Vec::<String>::new());
        case.on("state").refused(&["does not exist"]);
    }
    case().namespace("ipc", Some("/etc/passwd")).refused(&["linux.namespaces[", "].path"]);
    case().namespace("ipc", Some("/no/where")).refused(&["linux.namespaces[", "].path", "no such file or directory"]);
    case().namespace("ipc", Some("relative")).refused(&["linux.namespaces[", "].path"]);
    case().set("/linux/namespaces/-", json!({"type": "ipc"})).refused(&["linux.namespaces[", "].type"]);
    case().set("/linux/namespaces/-", json!({"type": "net"})).refused(&["linux.namespaces[", "].type", "network"]);
}

#[test]
fn id_maps_are_written_and_checked() {
    if !ready() {
        return;
    }
    case()
        .script("cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; id -u; cat /proc/self/setgroups")
        .user_namespace(65536)
        .yields(" 0 100000 65536\n 0 100000 65536\n0\nallow");
    case().namespace("user", None).refused(&["linux.uidMappings", "linux.gidMappings"]);
    let map = json!([{"containerID": 0, "hostID": 5, "size": 1}]);
    case().set("/linux/uidMappings", map).refused(&["linux.uidMappings", "user namespace"]);
    let twice = json!([{"containerID": 0, "hostID": 5, "size": 2}, {"containerID": 1, "hostID": 50, "size": 2}]);
    case().user_namespace(10).set("/linux/uidMappings", twice).refused(&["linux.uidMappings[1]"]);
    case().user_namespace(10).set("/process/user/uid", json!(10)).refused(&["process.user.uid"]);
}

#[test]
fn files_of_the_host_look_mapped() {
    if !ready() {
        return;
    }
    case()
        .script("touch /tmp/x; stat -c %u /tmp/x; stat -c %u /bin/busybox")
        .user_namespace(65536)
        .set("/mounts/-", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}))
        .yields("0\n65534");
}

#[test]
fn a_user_namespace_has_devices_terminal_and_sysfs() {
    if !ready() {
        return;
    }
    case()
        .script("echo x >/dev/null; head -c 2 /dev/zero | wc -c; ls /sys/class >/dev/null && echo sys")
        .user_namespace(65536)
        .yields("2\nsys");
    case()
        .script("ls /sys/class >/dev/null && echo sys")
        .user_namespace(65536)
        .without_namespace("network")
        .yields("sys");
}

#[test]
fn time_offsets() {
    if !ready() {
        return;
    }
    let up = |case: Case| case.script("cut -d. -f1 /proc/uptime").says().parse::<u64>().unwrap();
    let host: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    let offsets = json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}, "monotonic": {"secs": 7}});
    let there = up(case().namespace("time", None).set("/linux/timeOffsets", offsets.clone()));
    assert!((there as f64) >= host + 999_999.0, "{there} {host}");
    case().set("/linux/timeOffsets", offsets).refused(&["linux.timeOffsets", "time namespace"]);
    let wrong = json!({"realtime": {"secs": 1}});
    case().namespace("time", None).set("/linux/timeOffsets", wrong).refused(&["linux.timeOffsets"]);
}

#[test]
fn sysctl_is_set_inside_its_namespace_only() {
    if !ready() {
        return;
    }
    let before = std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    case()
        .script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni")
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234"}))
        .yields("1\n1234");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(), before);
    case()
        .set("/linux/sysctl", json!({"net/ipv4/conf/lo/forwarding": "1"}))
        .script("cat /proc/sys/net/ipv4/conf/lo/forwarding")
        .yields("1");
    case()
        .set("/linux/sysctl", json!({"net.x": "1"}))
        .without_namespace("network")
        .refused(&["linux.sysctl[", "net.x"]);
    case().set("/linux/sysctl", json!({"vm.swappiness": "1"})).refused(&["linux.sysctl[", "vm.swappiness"]);
    case().set("/linux/sysctl", json!({"kernel.shmmni": "1"})).without_namespace("ipc").refused(&["linux.sysctl"]);
    case().set("/linux/sysctl", json!({"net.no.such": "1"})).refused(&["linux.sysctl[", "net.no.such", "no such file"]);
}

#[test]
fn personality() {
    if !ready() {
        return;
    }
    case().script("uname -m").set("/linux/personality", json!({"domain": "LINUX32"})).yields("i686");
    case().set("/linux/personality", json!({"domain": "SOLARIS"})).refused(&["linux.personality.domain"]);
}

#[test]
fn no_namespaces_at_all() {
    if !ready() {
        return;
    }
    let case = case()
        .script("readlink /proc/self/ns/mnt; ls / | tr '\\n' ' '")
        .set("/linux/namespaces", json!([]))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/mounts", json!([{"destination": "/proc", "type": "proc", "source": "proc"}]))
        .without("", "hostname");
    let says = case.says();
    assert!(says.starts_with(&link("mnt")), "{says}");
    assert!(says.contains("bin dev"), "{says}");
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn the_cgroup_namespace_has_the_containers_cgroup_as_its_root() {
    if !ready() {
        return;
    }
    case().script("cut -d: -f3 /proc/self/cgroup | sort | uniq").namespace("cgroup", None).yields("/");
}

#[test]
fn what_this_version_cannot_do_is_refused() {
    if !ready() {
        return;
    }
    case().set("/linux/intelRdt", json!({"closID": "x"})).refused(&["linux.intelRdt"]);
}

#[test]
fn a_memory_policy_is_the_programs() {
    if !ready() || !std::path::Path::new("/proc/self/numa_maps").exists() {
        return;
    }
    let first = |case: Case| case.script("cut -d' ' -f2 /proc/self/numa_maps | sort -u");
    first(
        case().set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]})),
    )
    .yields("bind=static:0");
    first(case().set("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL"}))).yields("local");
    case()
        .set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}))
        .refused(&["linux.memoryPolicy", "invalid memory policy"]);
}
