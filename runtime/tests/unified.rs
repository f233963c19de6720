//! What only cgroup version 2 has, on a host that has it alone (hack/tests/vm). Elsewhere each test says that it is skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails is to panic; a skipped one says why")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Case, ready};

const ROOT: &str = "/sys/fs/cgroup";

fn alone() -> bool {
    let alone = Path::new(ROOT).join("cgroup.controllers").exists();
    if !alone {
        println!("SKIP: cgroup version 2 is not alone here");
    }
    ready() && alone
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

fn words(path: impl AsRef<Path>) -> Vec<String> {
    read(path).split_whitespace().map(str::to_owned).collect()
}

/// A cgroup of the test's own, gone at its end.
struct Own(PathBuf);

impl Own {
    fn new(name: &str) -> Own {
        let path = Path::new(ROOT).join(format!("tare-unified-{}-{name}", support::unique()));
        std::fs::create_dir(&path).unwrap();
        Own(path)
    }

    /// As `linux.cgroupsPath` of a cgroup below it.
    fn below(&self, name: &str) -> Value {
        json!(format!("/{}/{name}", self.0.strip_prefix(ROOT).unwrap().display()))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A bundle whose container has a cgroup namespace of its own.
fn case() -> Case {
    support::case().namespace("cgroup", None)
}

/// A container that may write to its own cgroups.
fn writable(script: &str) -> Case {
    case()
        .without_mount("/sys/fs/cgroup")
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
        .set("/process/capabilities/bounding", json!(["CAP_KILL"]))
        .script(script)
}

fn cgroup(case: &Case) -> PathBuf {
    Path::new(ROOT).join(&case.id)
}

fn started(case: &Case) {
    case.create().ok();
    case.on("start").ok();
}

#[test]
fn the_containers_cgroup_is_the_root_of_what_it_sees() {
    if !alone() {
        return;
    }
    let script = "cat /proc/self/cgroup; ls -d /sys/fs/cgroup/cgroup.type; cat /sys/fs/cgroup/cgroup.procs | wc -l; \
        mkdir /sys/fs/cgroup/mine 2>&1";
    let said = case().script(&format!("{script}; true")).says();
    assert!(said.starts_with("0::/\n/sys/fs/cgroup/cgroup.type\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    let writable =
        writable(&format!("{script} && cd /sys/fs/cgroup && echo 0 > mine/cgroup.procs && cat /proc/self/cgroup"));
    let said = writable.says();
    assert!(said.ends_with("0::/mine"), "{said}");
    assert_eq!(writable.left(), Vec::<String>::new(), "what the container has made goes with it");
}

#[test]
fn without_a_cgroup_namespace_the_whole_path_is_seen() {
    if !alone() {
        return;
    }
    let case =
        support::case().without_namespace("cgroup").script("cat /proc/self/cgroup; ls -d /sys/fs/cgroup/cgroup.type");
    let said = case.says();
    assert_eq!(said, format!("0::/{}\n/sys/fs/cgroup/cgroup.type", case.id));
}

#[test]
fn controllers_are_enabled_on_the_way_down() {
    if !alone() {
        return;
    }
    let case = case();
    let path = format!("/{}/a/b", case.id);
    let case = case.set("/linux/cgroupsPath", json!(path)).set("/linux/resources/memory", json!({"limit": 1 << 26}));
    case.create().ok();
    let top = cgroup(&case);
    for dir in [Path::new(ROOT).to_path_buf(), top.clone(), top.join("a")] {
        let passed = words(dir.join("cgroup.subtree_control"));
        assert!(
            ["memory", "pids", "cpu"].iter().all(|c| passed.iter().any(|p| p == c)),
            "{}: {passed:?}",
            dir.display()
        );
    }
    assert_eq!(read(top.join("a/b/memory.max")), "67108864");
    assert_eq!(words(top.join("a/b/cgroup.subtree_control")), Vec::<String>::new());
    assert_eq!(words(top.join("a/b/cgroup.procs")), [case.pid().to_string()]);
    case.tare(&["delete", "--force", &case.id]).ok();
    assert!(!top.exists(), "the parents that were made go, too");
}

#[test]
fn a_parent_with_processes_passes_no_controllers_on() {
    if !alone() {
        return;
    }
    let own = Own::new("busy");
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(own.0.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let limited =
        case().set("/linux/resources/memory", json!({"limit": 1 << 26})).set("/linux/cgroupsPath", own.below("x"));
    limited.refused(&["linux.cgroupsPath", "enable controller", "holds processes of its own"]);
    // Without a limit, a container can be there.
    case().set("/linux/cgroupsPath", own.below("y")).script("cat /proc/self/cgroup").yields("0::/");
    assert_eq!(read(own.0.join("cgroup.type")), "domain");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn what_can_hold_no_processes_is_refused() {
    if !alone() {
        return;
    }
    // One that passes controllers on.
    let own = Own::new("passing");
    std::fs::create_dir(own.0.join("x")).unwrap();
    std::fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+memory").unwrap();
    std::fs::write(own.0.join("cgroup.subtree_control"), "+memory").unwrap();
    std::fs::write(own.0.join("x/cgroup.subtree_control"), "+memory").unwrap();
    let said = case().set("/linux/cgroupsPath", own.below("x")).run().refused(&["passes controllers on"]);
    assert!(said.contains("device or resource busy"), "{said}");
    std::fs::remove_dir(own.0.join("x")).unwrap();
    // One below a threaded one.
    let own = Own::new("threaded");
    std::fs::create_dir(own.0.join("t")).unwrap();
    std::fs::write(own.0.join("t/cgroup.type"), "threaded").unwrap();
    for name in ["t", "new", "t/new"] {
        let said = case().set("/linux/cgroupsPath", own.below(name)).run().refused(&["linux.cgroupsPath", "threaded"]);
        assert!(said.contains("cgroup.type"), "{name}: {said}");
        assert_eq!(own.0.join(name).exists(), name == "t", "{name} is as it was");
    }
    std::fs::remove_dir(own.0.join("t")).unwrap();
}

/// Nested cgroups with processes in them, in a pid namespace and without one.
#[test]
fn delete_takes_nested_cgroups_and_all_who_live_there() {
    if !alone() {
        return;
    }
    let script = "cd /sys/fs/cgroup && mkdir -p a/b c/d/e; \
        for at in a/b c/d c/d/e; do sh -c \"echo 0 > $at/cgroup.procs; while :; do sleep 0.1; done\" & done; \
        sleep 0.2; touch /up; while :; do sleep 1; done";
    for private in [true, false] {
        let case = writable(script);
        let case = if private { case } else { case.without_namespace("pid") };
        started(&case);
        case.until("all have moved", || case.rootfs().join("up").exists());
        let inner = cgroup(&case).join("c/d/e/cgroup.procs");
        case.until("one lives in the last", || !read(&inner).is_empty());
        let ps: Vec<i32> = serde_json::from_str(&case.tare(&["ps", "-f", "json", &case.id]).ok()).unwrap();
        assert!(ps.len() >= 4, "{ps:?}");
        case.tare(&["delete", "--force", &case.id]).ok();
        assert_eq!(case.left(), Vec::<String>::new(), "private pid namespace: {private}");
    }
}

/// Whoever forks without end cannot fork away from `cgroup.kill`.
#[test]
fn delete_ends_those_who_fork_without_end() {
    if !alone() {
        return;
    }
    let case = case()
        .without_namespace("pid")
        .set("/linux/resources/pids", json!({"limit": 60}))
        .script("f() { while :; do sleep 0.01 & done 2>/dev/null; }; f & f & f & f");
    started(&case);
    let count = || std::fs::read_to_string(cgroup(&case).join("pids.current")).map_or(0, |n| n.trim().parse().unwrap());
    case.until("they are many", || count() > 20);
    case.tare(&["delete", "--force", &case.id]).ok();
    assert_eq!(case.left(), Vec::<String>::new());
}

/// An init that manages services moves itself below, and passes controllers on: `exec` follows it.
#[test]
fn exec_finds_an_init_that_has_moved() {
    if !alone() {
        return;
    }
    let script = "cd /sys/fs/cgroup && mkdir init && echo 0 > init/cgroup.procs && echo +memory > cgroup.subtree_control; \
        touch /up; while :; do sleep 1; done";
    let case = writable(script);
    started(&case);
    case.until("init has moved", || case.rootfs().join("up").exists());
    assert_eq!(words(cgroup(&case).join("cgroup.subtree_control")), ["memory"]);
    let exec = |args: &[&str]| case.tare(&[&["exec"], args].concat());
    assert_eq!(exec(&[&case.id, "cat", "/proc/self/cgroup"]).ok(), "0::/init");
    assert_eq!(exec(&["--cgroup", "/init", &case.id, "cat", "/proc/self/cgroup"]).ok(), "0::/init");
    case.tare(&["pause", &case.id]).ok();
    assert_eq!(case.status(), "paused");
    let said = exec(&[&case.id, "true"]);
    assert!(said.code == 255 && said.err.contains("cannot exec in a paused container"), "{}", said.err);
    case.tare(&["resume", &case.id]).ok();
    exec(&[&case.id, "true"]).ok();
}

#[test]
fn exec_goes_where_it_is_told() {
    if !alone() {
        return;
    }
    let case = writable("while :; do sleep 1; done");
    started(&case);
    let exec = |args: &[&str]| case.tare(&[&["exec"], args].concat());
    std::fs::create_dir_all(cgroup(&case).join("a/b")).unwrap();
    assert_eq!(exec(&["--cgroup", "a/b", &case.id, "cat", "/proc/self/cgroup"]).ok(), "0::/a/b");
    for (path, said) in [("none", "no such file or directory"), ("../x", "bad sub cgroup path: ../x"), ("pids:a", "")] {
        let answer = exec(&["--cgroup", path, &case.id, "true"]);
        assert!(answer.code == 255 || said.is_empty(), "{path}: {}", answer.err);
        assert!(answer.err.contains(said), "{path}: {}", answer.err);
    }
    // A threaded one of the container's own domain may be entered by a whole process (cgroups(7)).
    std::fs::write(cgroup(&case).join("a/cgroup.subtree_control"), "").unwrap();
    std::fs::write(cgroup(&case).join("a/b/cgroup.type"), "threaded").unwrap();
    let answer = exec(&["--cgroup", "a/b", &case.id, "true"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
}

#[test]
fn all_are_signalled_wherever_they_are() {
    if !alone() {
        return;
    }
    let script = "cd /sys/fs/cgroup && mkdir -p a/b; trap 'echo init >> /got' USR1; \
        sh -c 'echo 0 > a/b/cgroup.procs; trap \"echo nested >> /got\" USR1; touch /up; while :; do sleep 0.1; done' & \
        while :; do sleep 0.1; done";
    let case = writable(script).without_namespace("pid");
    started(&case);
    case.until("the nested one is there", || case.rootfs().join("up").exists());
    case.tare(&["kill", "--all", &case.id, "USR1"]).ok();
    let got = || std::fs::read_to_string(case.rootfs().join("got")).unwrap_or_default();
    for who in ["init", "nested"] {
        case.until(&format!("{who} was told"), || got().contains(who));
    }
    case.tare(&["pause", &case.id]).ok();
    case.tare(&["kill", "-a", &case.id, "KILL"]).ok();
    case.until("it has stopped", || case.status() == "stopped");
    case.until("all have died", || read(cgroup(&case).join("cgroup.events")).contains("populated 0"));
}

#[test]
fn statistics_tell_of_pressure_and_limits() {
    if !alone() {
        return;
    }
    let resources =
        json!({"memory": {"limit": 1 << 26, "swap": 3 << 25}, "pids": {"limit": 9}, "cpu": {"quota": 50000}});
    let case =
        case().set("/linux/resources", resources).script("dd if=/dev/zero of=/f bs=1M count=4; sync; sleep 1000");
    started(&case);
    case.until("it has written", || case.rootfs().join("f").metadata().is_ok_and(|m| m.len() == 4 << 20));
    let line: Value = serde_json::from_str(&case.tare(&["events", "--stats", &case.id]).ok()).unwrap();
    let data = &line["data"];
    for chapter in ["cpu", "memory", "blkio"] {
        assert!(data[chapter]["psi"]["some"]["avg10"].is_number(), "{chapter}: {data}");
    }
    assert!(data["memory"]["psi"]["full"]["total"].is_u64(), "{data}");
    assert_eq!(
        (&data["memory"]["usage"]["limit"], &data["memory"]["swap"]["limit"]),
        (&json!(1 << 26), &json!(3 << 25))
    );
    assert_eq!(data["pids"]["limit"], 9);
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    assert!(data["memory"]["raw"]["anon"].is_u64() && data["memory"]["usage"]["max"].as_u64().unwrap() > 0, "{data}");
}

/// The last word: `unified` is written after all else, and what is no file of a controller is refused by name.
#[test]
fn unified_is_checked_and_written_last() {
    if !alone() {
        return;
    }
    let with = |unified: Value| case().set("/linux/resources/unified", unified);
    let field = |key: &str| format!("linux.resources.unified[\"{key}\"]");
    for (key, value, said) in [
        ("nosuch.max", "1", "has no controller"),
        ("memory.nosuch", "1", "this kernel does not have that limit"),
        ("memory.max", "lots", "invalid argument"),
        ("memory", "1", "not of the form CONTROLLER.PARAMETER"),
        ("../memory.max", "1", "no file of a cgroup"),
        ("memory/max.x", "1", "no file of a cgroup"),
        ("cgroup.procs", "1", "would move processes"),
    ] {
        let refused = with(json!({key: value}));
        refused.refused(&[said]);
        let said = refused.run().err.replace("\\\"", "\"");
        assert!(said.contains(&field(key)) || said.contains("linux.resources.unified"), "{key}: {said}");
    }
    let case = with(json!({"memory.max": "33554432", "memory.high": "16777216", "pids.max": "33", "cpu.weight": "7"}))
        .set("/linux/resources/memory", json!({"limit": 67_108_864}))
        .set("/linux/resources/cpu", json!({"shares": 1024}))
        .set("/linux/resources/pids", json!({"limit": 5}));
    case.create().ok();
    let is = ["memory.max", "memory.high", "pids.max", "cpu.weight"].map(|f| read(cgroup(&case).join(f)));
    assert_eq!(is, ["33554432", "16777216", "33", "7"]);
    let file = case.dir.join("update.json");
    std::fs::write(&file, r#"{"unified":{"memory.high":"max","memory.oom.group":"1"},"memory":{"limit":50331648}}"#)
        .unwrap();
    case.tare(&["update", "-r", file.to_str().unwrap(), &case.id]).ok();
    let is = ["memory.max", "memory.high", "memory.oom.group"].map(|f| read(cgroup(&case).join(f)));
    assert_eq!(is, ["50331648", "max", "1"]);
}

/// Swap is limited with memory in the specification, and alone in the kernel.
#[test]
fn swap_needs_its_limit() {
    if !alone() {
        return;
    }
    let with = |memory: Value| case().set("/linux/resources/memory", memory);
    with(json!({"swap": 1 << 26})).refused(&["linux.resources.memory.swap", "needs linux.resources.memory.limit"]);
    with(json!({"limit": 1 << 26, "swap": 1 << 25})).refused(&["linux.resources.memory.swap", "cannot be less"]);
    let swap = |memory: Value| {
        let case = with(memory);
        case.create().ok();
        read(cgroup(&case).join("memory.swap.max"))
    };
    assert_eq!(swap(json!({"limit": 1 << 26, "swap": 1 << 26})), "0");
    assert_eq!(swap(json!({"limit": 1 << 26, "swap": -1})), "max");
    assert_eq!(swap(json!({"swap": -1})), "max");
    assert_eq!(swap(json!({"limit": -1})), "max");
    assert_eq!(swap(json!({"limit": 1 << 26})), "max");
}

/// A cgroup that was there before and has a device program already: it is replaced, at one stroke.
#[test]
fn a_device_program_of_before_is_replaced() {
    use std::os::fd::AsFd as _;
    if !alone() {
        return;
    }
    let own = Own::new("devices");
    std::fs::create_dir(own.0.join("x")).unwrap();
    let programs = || tare::sys::bpf::device_programs(std::fs::File::open(own.0.join("x")).unwrap().as_fd()).unwrap();
    let with = |rules: Value, script: &str| {
        case()
            .caps(&["CAP_MKNOD", "CAP_SYSLOG"])
            .set("/linux/cgroupsPath", own.below("x"))
            .set("/linux/resources/devices", rules)
            .script(&format!("mknod /k c 1 11; {script}"))
    };
    let kmsg = "(exec 3</k) 2>/dev/null && echo open || echo denied";
    with(json!([{"allow": false}]), kmsg).yields("denied");
    let first = programs();
    assert_eq!(first.len(), 1);
    with(json!([{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]), kmsg)
        .yields("open");
    let second = programs();
    assert!(second.len() == 1 && second != first, "{second:?}");
    std::fs::remove_dir(own.0.join("x")).unwrap();
}

/// `freeze` waits until all stand still, and `delete` of a container whose cgroup is frozen by its parent does not hang.
#[test]
fn a_frozen_parent_is_told() {
    if !alone() {
        return;
    }
    let own = Own::new("frozen");
    let case = case().set("/linux/cgroupsPath", own.below("x")).args(&["sleep", "1000"]);
    started(&case);
    std::fs::write(own.0.join("cgroup.freeze"), "1").unwrap();
    case.until("it is paused", || case.status() == "paused");
    let said = case.on("resume");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(case.status(), "paused", "{}", said.err);
    case.tare(&["delete", "--force", &case.id]).ok();
    assert!(!own.0.join("x").exists());
    std::fs::write(own.0.join("cgroup.freeze"), "0").unwrap();
}
