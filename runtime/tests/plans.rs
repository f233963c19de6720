//! Plans of made-up configs: whatever is compiled is sound, and every rule of the order can be broken.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use tare::check::{ORDER, check};
use tare::compile::cgroup::{Group, Version};
use tare::compile::exec::{Ask, Flags, Target};
use tare::error::Problems;
use tare::facts::{Cgroups, Facts, Hierarchy, Systemd};
use tare::plan::{Act, Lane, Plan};
use tare::request::Request;
use tare::{compile, explain, parse};

/// The plan of a config, or `None` where the config is refused.
fn plan(config: &Value, facts: &Facts, request: &Request) -> Option<Plan> {
    compiled(config, facts, request).ok()
}

fn compiled(config: &Value, facts: &Facts, request: &Request) -> Result<Plan, Problems> {
    let text = serde_json::to_vec(config).unwrap();
    let (spec, _) = parse::config(&text)?;
    Ok(compile::compile(&spec, facts, request)?.plan)
}

fn request() -> Request {
    Request { id: "box".into(), bundle: "/bundle".into(), gated: true, ..Request::default() }
}

fn fixture(name: &str) -> Value {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/configs");
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

/// A host of version 1.
fn old() -> Facts {
    let names = ["cpu", "memory", "pids", "devices", "freezer", "cpuset", "blkio"];
    let v1 =
        names.map(|n| Hierarchy { mount: format!("/sys/fs/cgroup/{n}"), controllers: vec![n.into()], own: "/".into() });
    Facts { cgroups: Cgroups { v1: v1.into(), v2: None }, permitted: 0xffff, ..Facts::ordinary() }
}

/// The same host, with a systemd that makes cgroups.
fn with_systemd(facts: Facts) -> Facts {
    Facts { systemd: Some(Systemd { version: 257, cgroup: "/".into(), ..Systemd::default() }), ..facts }
}

/// Plans that between them hold an example of every rule's two sides.
fn examples() -> Vec<(&'static str, Plan)> {
    let names = [
        "case-everything-else.json",
        "case-user-namespace.json",
        "docker-default.json",
        "case-time-namespace.json",
        "case-cgroup-delegation.json",
    ];
    let mut plans: Vec<_> = names.map(|n| (n, compiled(&fixture(n), &Facts::ordinary(), &request()).unwrap())).into();
    let mut config = fixture("spec-default.json");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL"]);
    config["linux"]["rootfsPropagation"] = json!("private");
    config["mounts"].as_array_mut().unwrap().truncate(6);
    config["linux"]["netDevices"] = json!({"eth1": {"name": "port%d"}});
    config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    plans.push(("version 1", compiled(&config, &old(), &request()).unwrap()));
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let mut config: Value = fixture("spec-default.json");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    config["linux"]["resources"] = json!({});
    config["mounts"][2]["options"].as_array_mut().unwrap().retain(|o| o != "gid=5");
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["mounts"].as_array_mut().unwrap().truncate(6);
    let facts = Facts { uid: 1000, gid: 1000, permitted: 0, cgroups: Cgroups::default(), ..Facts::ordinary() };
    plans.push(("rootless", compiled(&config, &facts, &request()).unwrap()));
    let mut config = fixture("case-joined-pid-and-network.json");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    config["linux"]["cgroupsPath"] = json!("a-b.slice:p:n");
    let request = Request { systemd: true, ..request() };
    plans.push(("systemd", compiled(&config, &with_systemd(Facts::ordinary()), &request).unwrap()));
    plans
}

/// A process in a container that has every kind of thing to enter.
fn exec() -> Plan {
    let group = |mount: &str, version| Group {
        mount: mount.into(),
        path: "c".into(),
        controllers: vec!["pids".into()],
        version,
        enable: Vec::new(),
        need: Vec::new(),
        optional: false,
    };
    let target = Target {
        pid: 42,
        start_time: 7,
        kinds: 0x2000_0000 | 0x2_0000,
        groups: vec![group("/sys/fs/cgroup/pids", Version::V1), group("/sys/fs/cgroup/unified", Version::V2)],
        ..Target::default()
    };
    let text = serde_json::to_vec(&fixture("spec-default.json")).unwrap();
    let (spec, _) = parse::config(&text).unwrap();
    let flags = Flags { args: vec!["true".into()], ..Flags::default() };
    let ask = Ask { flags, ..Ask::default() };
    compile::exec::compile(&spec, &ask, &target, &Facts::ordinary(), &request()).unwrap().plan
}

#[test]
fn examples_are_sound() {
    for (name, plan) in examples() {
        assert_eq!(check(&plan), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_the_order_is_broken_by_a_swap() {
    for (first, is_first, second, is_second, why) in ORDER {
        let mut seen = false;
        for (_, mut plan) in examples().into_iter().chain([("exec", exec())]) {
            let last = plan.steps.iter().rposition(|s| is_first(&s.act));
            let next = plan.steps.iter().position(|s| is_second(&s.act));
            let (Some(last), Some(next)) = (last, next) else { continue };
            plan.steps.swap(last, next);
            let broken = check(&plan).unwrap_err();
            assert!(
                broken.iter().any(|b| b.starts_with(first) && b.contains(second) && b.ends_with(why)),
                "{broken:?}"
            );
            seen = true;
        }
        assert!(seen, "no example has {first:?} and {second:?}");
    }
}

/// Breaks a sound plan, and sees that the check says so.
#[track_caller]
fn broken(change: impl Fn(&mut Plan), says: &str) {
    let mut some = false;
    for (name, mut plan) in examples() {
        let before = format!("{:?}", plan.steps);
        change(&mut plan);
        if format!("{:?}", plan.steps) == before {
            continue;
        }
        let told = check(&plan).expect_err(name);
        assert!(told.iter().any(|t| t.contains(says)), "{name}: {told:?}");
        some = true;
    }
    assert!(some, "no example was changed");
}

#[test]
fn without_a_process_a_plan_ends_at_its_gate() {
    use tare::op::InitOp;
    let mut config = fixture("spec-default.json");
    config.as_object_mut().unwrap().remove("process");
    let plan = compiled(&config, &Facts::ordinary(), &request()).unwrap();
    check(&plan).unwrap();
    let last = plan.steps.iter().rfind(|s| s.act.lane() == Lane::Init).unwrap();
    assert!(matches!(last.act, Act::Init(InitOp::AwaitStart)), "{last:?}");
    let ungated = Request { gated: false, ..request() };
    let told = compiled(&config, &Facts::ordinary(), &ungated).unwrap_err().to_string();
    assert!(told.contains("process: is missing: there is nothing to start"), "{told}");
    let mut longer = plan;
    longer.steps.push(tare::plan::Step::init(InitOp::Umask(0), tare::field::Field::new("process")));
    assert!(check(&longer).unwrap_err().iter().any(|t| t.contains("after the gate without a program")));
}

#[test]
fn edges_and_slots_and_the_shape_are_checked() {
    use tare::op::{InitOp, JoinerOp, ParentOp};
    let take = |plan: &mut Plan, is: fn(&Act) -> bool| plan.steps.retain(|s| !is(&s.act));
    broken(|p| take(p, |a| matches!(a, Act::Parent(ParentOp::Clone { .. }))), "0 instead of 1 clone");
    broken(|p| take(p, |a| matches!(a, Act::Init(InitOp::AwaitStart))), "0 instead of 1 await of start");
    broken(|p| take(p, |a| matches!(a, Act::Init(InitOp::Exec { .. }))), "0 instead of 1 execve");
    broken(|p| take(p, |a| matches!(a, Act::Joiner(JoinerOp::Clone { .. }))), "joiner's clone");
    broken(|p| take(p, |a| matches!(a, Act::Parent(ParentOp::OpenCgroup { .. }))), "reads an empty slot");
    broken(|p| take(p, |a| matches!(a, Act::Parent(ParentOp::OpenTree { .. }))), "reads an empty slot");
    broken(|p| p.steps.iter_mut().for_each(|s| s.reaches = None), "which nothing reaches");
    let (_, mut plan) = examples().remove(0);
    plan.slots.clear();
    assert!(check(&plan).unwrap_err().iter().any(|t| t.contains("fills a slot that is none")));
    let last_first = |p: &mut Plan| {
        let last = p.steps.pop().unwrap();
        p.steps.insert(p.steps.iter().position(|s| s.act.lane() == Lane::Init).unwrap(), last);
    };
    broken(last_first, "init does something after execve");
    let wait = |p: &mut Plan| p.steps.last_mut().unwrap().waits = Some(tare::plan::Mark::CgroupsMade);
    broken(wait, "waits");
    let late = |p: &mut Plan| {
        let at = |is: fn(&Act) -> bool| p.steps.iter().position(|s| is(&s.act));
        if let (Some(tree), Some(_)) = (
            at(|a| matches!(a, Act::Parent(ParentOp::OpenTree { .. }))),
            at(|a| matches!(a, Act::Parent(ParentOp::Clone { .. }))),
        ) {
            let step = p.steps.remove(tree);
            let clone = p.steps.iter().position(|s| matches!(s.act, Act::Parent(ParentOp::Clone { .. }))).unwrap();
            p.steps.insert(clone + 1, step);
        }
    };
    broken(late, "opened after the clone");
}

fn names(all: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(all, 0..=all.len())
}

fn mounts() -> impl Strategy<Value = Vec<Value>> {
    let options = names(&[
        "ro",
        "rw",
        "nosuid",
        "rro",
        "rbind",
        "bind",
        "shared",
        "rslave",
        "idmap",
        "ridmap",
        "tmpcopyup",
        "size=1m",
        "remount",
        "copy-symlink",
        "silent",
    ]);
    let kinds = select(&["", "tmpfs", "bind", "proc", "sysfs", "cgroup", "cgroup2", "mqueue", "overlay"][..]);
    let places = select(&["/proc", "/dev", "/a/b", "/sys/fs/cgroup", "relative", "/../x", "/"][..]);
    let mount = (places, kinds, options).prop_map(|(destination, kind, options)| {
        json!({"destination": destination, "type": kind, "source": "/srv", "options": options})
    });
    proptest::collection::vec(mount, 0..6)
}

fn namespaces() -> impl Strategy<Value = Vec<Value>> {
    let kinds = subsequence(&["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"][..], 0..=8);
    (kinds, any::<u8>()).prop_map(|(kinds, joined)| {
        let one = |(i, kind): (usize, &str)| match joined & (1 << i) {
            0 => json!({"type": kind}),
            _ => json!({"type": kind, "path": format!("/proc/7/ns/{kind}")}),
        };
        kinds.into_iter().enumerate().map(one).collect()
    })
}

/// A config that is almost always accepted, with one from each list of doubtful things.
fn config() -> impl Strategy<Value = Value> {
    let caps = || names(&["CAP_KILL", "CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_NO_SUCH"]);
    let hooks = names(&["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]);
    let flags = proptest::array::uniform8(any::<bool>());
    (mounts(), namespaces(), caps(), caps(), hooks, flags, 0u32..3).prop_map(|(mounts, namespaces, some, more, hooks, flags, uid)| {
        let mut c = json!({"ociVersion": "1.3.0", "root": {"path": "rootfs", "readonly": flags[0]}, "mounts": mounts,
            "process": {"args": ["sh"], "cwd": "/w", "user": {"uid": uid, "gid": 1}, "noNewPrivileges": flags[1], "terminal": flags[2],
                "capabilities": {"bounding": some, "permitted": some, "effective": some, "inheritable": more, "ambient": more},
                "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 2}]},
            "linux": {"namespaces": namespaces, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]}});
        let has = |kind: &str| namespaces.iter().any(|n| n["type"] == kind);
        if has("uts") { c["hostname"] = json!("h"); }
        if has("user") {
            let map = json!([{"containerID": 0, "hostID": 1000, "size": 3}]);
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map;
        }
        if has("ipc") && flags[3] { c["linux"]["sysctl"] = json!({"kernel.shmmni": "5"}); }
        for kind in hooks { c["hooks"][kind] = json!([{"path": "/bin/hook"}]); }
        if flags[4] {
            let action = if flags[5] { "SCMP_ACT_NOTIFY" } else { "SCMP_ACT_ERRNO" };
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": action}]});
            if flags[5] { c["linux"]["seccomp"]["listenerPath"] = json!("/run/agent"); }
        }
        if flags[6] { c["linux"]["resources"] = json!({"memory": {"limit": 1 << 24}, "pids": {"limit": 9}, "devices": [{"allow": false, "access": "rwm"}]}); }
        if flags[7] { c["linux"]["rootfsPropagation"] = json!("shared"); }
        c
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_compiles_is_sound(config in config(), v1: bool, no_pivot: bool, gated: bool, systemd: bool) {
        let facts = if v1 { old() } else { Facts::ordinary() };
        let facts = if systemd { with_systemd(facts) } else { facts };
        let request = Request { no_pivot, gated, systemd, ..request() };
        if let Some(plan) = plan(&config, &facts, &request) {
            prop_assert_eq!(check(&plan), Ok(()), "{}", explain::plan(&plan));
            prop_assert_eq!(explain::plan(&plan).lines().filter(|l| l.contains("init  ") || l.contains("parent  ") || l.contains("joiner  ")).count(), plan.steps.len());
        }
    }

    #[test]
    fn compiling_is_a_function(config in config()) {
        let one = plan(&config, &Facts::ordinary(), &request()).map(|p| explain::plan(&p));
        let other = plan(&config, &Facts::ordinary(), &request()).map(|p| explain::plan(&p));
        prop_assert_eq!(one, other);
    }
}

#[test]
fn most_made_up_configs_compile() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let compiled = (0..200)
        .filter(|_| plan(&config().new_tree(&mut runner).unwrap().current(), &Facts::ordinary(), &request()).is_some())
        .count();
    assert!(compiled > 10, "only {compiled} of 200: the test would test nothing");
}
