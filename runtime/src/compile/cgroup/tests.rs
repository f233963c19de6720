use super::*;
use crate::facts::{Hierarchy, Unified};

fn words(s: &str) -> Vec<String> {
    s.split_whitespace().map(str::to_owned).collect()
}

fn v1() -> Cgroups {
    let all = "cpu,cpuacct cpuset memory devices pids blkio freezer hugetlb rdma net_cls,net_prio name=systemd";
    let hierarchy = |names: &str| Hierarchy {
        mount: format!("/sys/fs/cgroup/{}", names.trim_start_matches("name=")),
        controllers: names.split(',').map(str::to_owned).collect(),
        own: "/user".to_owned(),
    };
    Cgroups { v1: all.split(' ').map(hierarchy).collect(), v2: None }
}

fn v2() -> Cgroups {
    let controllers = words("cpuset cpu io memory hugetlb pids rdma misc");
    Cgroups {
        v1: Vec::new(),
        v2: Some(Unified { mount: "/sys/fs/cgroup".into(), controllers, own: "/user/me".into() }),
    }
}

fn hybrid() -> Cgroups {
    let mut facts = v1();
    facts.v1.retain(|h| h.controllers[0] != "hugetlb");
    facts.v2 = Some(Unified { mount: "/sys/fs/cgroup/unified".into(), controllers: words("hugetlb"), own: "/".into() });
    facts
}

fn show(groups: &Groups, problems: &Problems) -> String {
    let mut out = String::new();
    for c in &groups.checks {
        out += &format!("check {} {} < {}\n", c.name, c.file, c.limit);
    }
    for w in groups.writes.iter().filter(|w| !w.file.starts_with("devices.")) {
        let late = if w.when == When::AfterAttach { " (after)" } else { "" };
        let on_err = match &w.on_err {
            OnErr::Fail => String::new(),
            OnErr::Ignore(codes) => format!(" ignore {codes:?}"),
            OnErr::Else(codes, file, value) => format!(" on {codes:?} {file} = {value}"),
        };
        out += &format!("{} = {}{late}{on_err}\n", w.file, w.value);
    }
    for p in &problems.errors {
        out += &format!("! {p}\n");
    }
    out
}

fn run(resources: &str, facts: &Cgroups) -> String {
    let resources: Resources<'_> = serde_json::from_str(resources).unwrap();
    let mut problems = Problems::default();
    let groups = compile(Some("/t/c"), "c", &resources, facts, false, &mut problems);
    show(&groups, &problems)
}

fn run_update(new: &str, current: &str, facts: &Cgroups) -> String {
    let (new, current) = (serde_json::from_str(new).unwrap(), serde_json::from_str(current).unwrap());
    let mut problems = Problems::default();
    let groups = compile(Some("/t/c"), "c", &current, facts, false, &mut problems).groups;
    let groups = update(groups, &new, &current, &mut problems);
    show(&groups, &problems).replace(" (after)", "")
}

/// Compares line by line, so that a failure shows the resource it is about.
fn table(facts: &Cgroups, rows: &[(&str, &[&str])]) {
    for (resources, want) in rows {
        let got = run(resources, facts);
        assert_eq!(got.lines().collect::<Vec<_>>(), *want, "{resources}");
    }
}

const ALL_CPU: &str = r#"{"cpu":{"shares":1024,"quota":50000,"period":100000,"burst":10000,"cpus":"0-1","mems":"0"}}"#;

#[test]
fn version_1() {
    table(
        &v1(),
        &[
            (
                ALL_CPU,
                &[
                    "cpuset.cpus = 0-1",
                    "cpuset.mems = 0",
                    "cpu.shares = 1024",
                    "cpu.cfs_period_us = 100000",
                    "cpu.cfs_burst_us = 10000",
                    "cpu.cfs_quota_us = 50000",
                ],
            ),
            (r#"{"cpu":{"idle":1}}"#, &["cpu.idle = 1"]),
            (r#"{"cpu":{"shares":2,"idle":1}}"#, &["cpu.shares = 2 ignore [22]", "cpu.idle = 1"]),
            (r#"{"cpu":{"shares":512,"idle":0}}"#, &["cpu.idle = 0", "cpu.shares = 512"]),
            (
                r#"{"cpu":{"realtimeRuntime":950000,"realtimePeriod":1000000}}"#,
                &["cpu.rt_period_us = 1000000", "cpu.rt_runtime_us = 950000"],
            ),
            (r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#, &[]),
            (r#"{"cpu":{"shares":1}}"#, &["! linux.resources.cpu.shares: 1 is not between 2 and 262144"]),
            (
                r#"{"memory":{"limit":64,"swap":128,"reservation":32,"swappiness":0,"disableOOMKiller":true}}"#,
                &[
                    "memory.limit_in_bytes = 64",
                    "memory.memsw.limit_in_bytes = 128",
                    "memory.soft_limit_in_bytes = 32",
                    "memory.oom_control = 1",
                    "memory.swappiness = 0",
                ],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                &["memory.limit_in_bytes = -1", "memory.memsw.limit_in_bytes = -1 ignore [2]"],
            ),
            (
                r#"{"memory":{"kernel":5,"kernelTCP":6,"useHierarchy":true}}"#,
                &["memory.kmem.limit_in_bytes = 5", "memory.kmem.tcp.limit_in_bytes = 6", "memory.use_hierarchy = 1"],
            ),
            (r#"{"memory":{"limit":0,"swap":0,"disableOOMKiller":false}}"#, &[]),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max = max (after)"]),
            (r#"{"pids":{"limit":0}}"#, &["pids.max = 0 (after)"]),
            (r#"{"pids":{}}"#, &[]),
            (
                r#"{"blockIO":{"weight":10,"leafWeight":20,"weightDevice":[{"major":8,"minor":0,"weight":500,"leafWeight":300}],
                   "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],"throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":300}]}}"#,
                &[
                    "blkio.weight = 10 on [2] blkio.bfq.weight = 10",
                    "blkio.leaf_weight = 20",
                    "blkio.weight_device = 8:0 500 on [2] blkio.bfq.weight_device = 8:0 500",
                    "blkio.leaf_weight_device = 8:0 300",
                    "blkio.throttle.read_bps_device = 8:0 600",
                    "blkio.throttle.write_iops_device = 8:16 300",
                ],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#,
                &["hugetlb.2MB.limit_in_bytes = 4096", "hugetlb.2MB.rsvd.limit_in_bytes = 4096 ignore [2]"],
            ),
            (
                r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"x":{}}}"#,
                &[
                    "rdma.max = mlx5_1 hca_handle=3 hca_object=10000",
                    "! linux.resources.rdma[\"x\"]: has neither hcaHandles nor hcaObjects",
                ],
            ),
            (
                r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":500}]}}"#,
                &["net_cls.classid = 1048577", "net_prio.ifpriomap = eth0 500"],
            ),
            (
                r#"{"unified":{"memory.max":"1"}}"#,
                &["! linux.resources.unified[\"memory.max\"]: this host has no cgroup v2"],
            ),
        ],
    );
}

#[test]
fn version_2() {
    table(
        &v2(),
        &[
            (
                ALL_CPU,
                &[
                    "cpuset.cpus = 0-1",
                    "cpuset.mems = 0",
                    "cpu.weight = 100",
                    "cpu.max = 50000 100000",
                    "cpu.max.burst = 10000",
                ],
            ),
            (r#"{"cpu":{"quota":-1}}"#, &["cpu.max = max 100000"]),
            (r#"{"cpu":{"period":5000}}"#, &["cpu.max = max 5000"]),
            (r#"{"cpu":{"shares":2,"idle":1}}"#, &["cpu.weight = 1 ignore [22]", "cpu.idle = 1"]),
            (r#"{"cpu":{"shares":512,"idle":0}}"#, &["cpu.idle = 0", "cpu.weight = 59"]),
            (
                r#"{"cpu":{"realtimePeriod":1}}"#,
                &["! linux.resources.cpu.realtimePeriod: cgroup v2 has no limits for realtime tasks"],
            ),
            (
                r#"{"memory":{"limit":64,"swap":128,"reservation":32,"checkBeforeUpdate":true}}"#,
                &[
                    "check memory+swap memory.current < 128",
                    "check memory memory.current < 64",
                    "memory.swap.max = 64",
                    "memory.max = 64",
                    "memory.low = 32",
                ],
            ),
            (r#"{"memory":{"limit":64,"swap":64}}"#, &["memory.swap.max = 0 ignore [2]", "memory.max = 64"]),
            (r#"{"memory":{"limit":64,"swap":-1}}"#, &["memory.swap.max = max ignore [2]", "memory.max = 64"]),
            (r#"{"memory":{"limit":-1}}"#, &["memory.swap.max = max ignore [2]", "memory.max = max"]),
            (
                r#"{"memory":{"swap":64}}"#,
                &["! linux.resources.memory.swap: needs linux.resources.memory.limit to be set as well"],
            ),
            (
                r#"{"memory":{"limit":65,"swap":64}}"#,
                &[
                    "memory.swap.max = 0 ignore [2]",
                    "memory.max = 65",
                    "! linux.resources.memory.swap: 64 limits memory and swap together, so it cannot be less than memory.limit, 65",
                ],
            ),
            (
                r#"{"memory":{"kernel":-1,"kernelTCP":6,"swappiness":0,"disableOOMKiller":true}}"#,
                &[
                    "! linux.resources.memory.kernelTCP: cgroup v2 has no limit of TCP buffers",
                    "! linux.resources.memory.swappiness: cgroup v2 has no swappiness of a cgroup",
                    "! linux.resources.memory.disableOOMKiller: cgroup v2 has no switch for the OOM killer",
                ],
            ),
            (r#"{"pids":{"limit":5}}"#, &["pids.max = 5 (after)"]),
            (
                r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":1000}],"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}],"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
                &[
                    "io.bfq.weight = 500 on [2] io.weight = 4950",
                    "io.bfq.weight = 8:0 1000 on [2, 95] io.weight = 8:0 10000",
                    "io.max = 8:0 wbps=max",
                    "io.max = 8:0 riops=9",
                ],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"1GB","limit":0},{"pageSize":"2M/../x","limit":1}]}"#,
                &[
                    "hugetlb.1GB.max = 0",
                    "hugetlb.1GB.rsvd.max = 0 ignore [2]",
                    "! linux.resources.hugepageLimits[1].pageSize: \"2M/../x\" is no size such as 64KB, 2MB or 1GB",
                ],
            ),
            (
                r#"{"network":{"classID":1}}"#,
                &["! linux.resources.network.classID: this host has no cgroup controller \"net_cls\""],
            ),
            (r#"{"network":{"classID":0}}"#, &[]),
            (
                r#"{"memory":{"limit":5},"unified":{"io.max":"8:0 rbps=1\n8:1 rbps=2","memory.max":"7","../x.y":"1","plain":"1","perf_event.x":"1","cgroup.procs":"1"}}"#,
                &[
                    "memory.max = 5",
                    "io.max = 8:0 rbps=1",
                    "io.max = 8:1 rbps=2",
                    "memory.max = 7",
                    "! linux.resources.unified[\"../x.y\"]: \"../x.y\" is no file of a cgroup",
                    "! linux.resources.unified[\"cgroup.procs\"]: would move processes between containers",
                    "! linux.resources.unified[\"perf_event.x\"]: cgroup v2 of this host has no controller \"perf_event\"",
                    "! linux.resources.unified[\"plain\"]: \"plain\" is not of the form CONTROLLER.PARAMETER",
                ],
            ),
        ],
    );
}

#[test]
fn a_limit_goes_where_its_controller_is() {
    let resources: Resources<'_> = serde_json::from_str(
        r#"{"memory":{"limit":5},"hugepageLimits":[{"pageSize":"2MB","limit":1}],"unified":{"hugetlb.2MB.max":"2"}}"#,
    )
    .unwrap();
    let mut problems = Problems::default();
    let groups = compile(Some("/t/c"), "c", &resources, &hybrid(), false, &mut problems);
    assert_eq!(problems.errors, []);
    let target = |file: &str| {
        let write = groups.writes.iter().find(|w| w.file == file).unwrap();
        groups.groups[write.group].dir()
    };
    assert_eq!(target("memory.limit_in_bytes"), "/sys/fs/cgroup/memory/t/c");
    assert_eq!(target("hugetlb.2MB.max"), "/sys/fs/cgroup/unified/t/c");
    assert_eq!(target("devices.deny"), "/sys/fs/cgroup/devices/t/c");
    assert_eq!(groups.devices, None);
    let unified = groups.groups.iter().find(|g| g.version == Version::V2).unwrap();
    assert_eq!(unified.need, ["hugetlb"]);
    assert_eq!(run(r#"{"unified":{"memory.max":"1"}}"#, &hybrid()).lines().count(), 1);
}

#[test]
fn a_missing_controller_is_an_error_that_names_it() {
    let none =
        Cgroups { v1: Vec::new(), v2: Some(Unified { mount: "/c".into(), controllers: vec![], own: "/".into() }) };
    let got = run(r#"{"cpu":{"quota":5,"period":6},"pids":{"limit":-1},"memory":{"limit":9}}"#, &none);
    let no = |field: &str, controller: &str| {
        format!("! linux.resources.{field}: this host has no cgroup controller \"{controller}\"")
    };
    let want = [no("cpu.period", "cpu"), no("cpu.quota", "cpu"), no("memory.limit", "memory")];
    assert_eq!(got.lines().collect::<Vec<_>>(), want);
}

#[test]
fn update_completes_pairs_and_orders_them_both_ways() {
    let old = r#"{"cpu":{"quota":50000,"period":100000},"memory":{"limit":64,"swap":128}}"#;
    let rows: [(&str, &Cgroups, &[&str]); 6] = [
        (r#"{"cpu":{"quota":7000}}"#, &v2(), &["cpu.max = 7000 100000"]),
        (r#"{"cpu":{"period":7000}}"#, &v2(), &["cpu.max = 50000 7000"]),
        (
            r#"{"cpu":{"period":7000,"burst":1}}"#,
            &v1(),
            &[
                "cpu.cfs_period_us = 7000 ignore [22]",
                "cpu.cfs_burst_us = 1 ignore [22]",
                "cpu.cfs_quota_us = 50000",
                "cpu.cfs_period_us = 7000",
                "cpu.cfs_burst_us = 1",
            ],
        ),
        (
            r#"{"memory":{"limit":100}}"#,
            &v1(),
            &[
                "memory.memsw.limit_in_bytes = 128 ignore [22, 2]",
                "memory.limit_in_bytes = 100",
                "memory.memsw.limit_in_bytes = 128",
            ],
        ),
        (r#"{"memory":{"swap":256}}"#, &v2(), &["memory.swap.max = 192", "memory.max = 64"]),
        (r#"{"pids":{"limit":3}}"#, &v2(), &["pids.max = 3"]),
    ];
    for (new, facts, want) in rows {
        assert_eq!(run_update(new, old, facts).lines().collect::<Vec<_>>(), want, "{new}");
    }
}

#[test]
fn places() {
    let paths = |path: Option<&str>, rootless| {
        let mut problems = Problems::default();
        let mut facts = hybrid();
        facts.v1.truncate(1);
        facts.v2 = v2().v2;
        let groups = compile(path, "id", &Resources::default(), &facts, rootless, &mut problems);
        let errors: Vec<_> = problems.errors.iter().map(|p| p.text.clone()).collect();
        (groups.groups.iter().map(|g| g.path.clone()).collect::<Vec<_>>().join(" "), errors.join("; "))
    };
    let ok = |s: &str| (s.to_owned(), String::new());
    assert_eq!(paths(None, false), ok("id id"));
    assert_eq!(paths(Some("/a/../../b/./c/"), false), ok("b/c b/c"));
    assert_eq!(paths(Some("rel"), false), ok("user/rel user/rel"));
    assert_eq!(paths(Some("../../x"), false), ok("user/x user/x"));
    assert_eq!(paths(None, true), ok("user/id user/id"));
    assert_eq!(paths(Some("/a\nb"), false).1, "\"/a\\nb\" holds a newline or NUL");
    assert_eq!(
        paths(Some("system.slice:p:n"), false).1,
        "\"system.slice:p:n\" is a systemd unit (slice:prefix:name), not a path"
    );
    assert_eq!(paths(Some("/a:b:c"), false), ok("a:b:c a:b:c"));
    assert_eq!(paths(Some("/.."), false).1, "\"/..\" is the root of the hierarchy");
}

#[test]
fn rootless_does_without_a_cgroup_unless_a_limit_needs_it() {
    let resources = serde_json::from_str(r#"{"pids":{"limit":5},"devices":[{"allow":false}]}"#).unwrap();
    let mut problems = Problems::default();
    let groups = compile(None, "c", &resources, &v1(), true, &mut problems);
    let needed: Vec<_> = groups.groups.iter().filter(|g| !g.optional).map(|g| &*g.controllers[0]).collect();
    assert_eq!(needed, ["pids"]);
    assert!(groups.writes.iter().all(|w| w.file == "pids.max"));
    let groups = compile(None, "c", &resources, &v1(), false, &mut problems);
    assert!(groups.groups.iter().all(|g| !g.optional));
}

#[test]
fn shares_become_weights() {
    let pairs =
        [(2, 1), (3, 2), (10, 4), (100, 17), (512, 59), (1024, 100), (2048, 174), (102_400, 4429), (262_144, 10_000)];
    for (shares, weight) in pairs {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares}");
    }
    assert_eq!((v2::weight_of_shares(1), v2::weight_of_shares(u64::MAX)), (1, 10_000));
    assert!((2..5000).all(|s| v2::weight_of_shares(s) <= v2::weight_of_shares(s + 1)));
    assert_eq!([10, 500, 1000].map(v2::io_weight), [1, 4950, 10_000]);
}
