//! Every key of `linux.resources`: written by `create`, changed by `update`, and read back from the kernel both times.
//!
//! What is read is printed as a row of a table; `hack/cgroup-table` makes `runtime/CGROUPS.md` of the rows of several hosts.
//! A key that a host lacks is refused by name, and only if the kernel refuses a plain write as well.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails is to panic; a table is to be printed")]

mod support;

use std::fs::read_to_string;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Case, case, ready};
use tare::run::cgroup::probe;
use tare::sys::bpf;

/// Where a version of cgroups keeps a key.
enum Kept {
    /// In the first of these files of a controller that the kernel has: after `create`, after `update`. Of a file with a line
    /// for each device, the line.
    In(&'static str, &'static [(&'static str, [&'static str; 2])]),
    /// Nowhere: the key is refused, and this is in the message.
    Refused(&'static str),
}

use Kept::{In, Refused};

/// A key, two values of it as resources objects, and where each version keeps them. `DISK` stands for a block device.
struct Key {
    name: &'static str,
    create: &'static str,
    update: &'static str,
    v1: Kept,
    v2: Kept,
    /// Whether there are kernels without it.
    rare: bool,
}

const fn key(name: &'static str, values: [&'static str; 2], v1: Kept, v2: Kept) -> Key {
    let [create, update] = values;
    Key { name, create, update, v1, v2, rare: false }
}

const fn rare(name: &'static str, values: [&'static str; 2], v1: Kept, v2: Kept) -> Key {
    Key { rare: true, ..key(name, values, v1, v2) }
}

const CPU: &[Key] = &[
    key(
        "cpu.shares",
        [r#"{"cpu":{"shares":512}}"#, r#"{"cpu":{"shares":1024}}"#],
        In("cpu", &[("cpu.shares", ["512", "1024"])]),
        In("cpu", &[("cpu.weight", ["59", "100"])]),
    ),
    key(
        "cpu.quota",
        [r#"{"cpu":{"quota":50000,"period":200000}}"#, r#"{"cpu":{"quota":20000}}"#],
        In("cpu", &[("cpu.cfs_quota_us", ["50000", "20000"])]),
        In("cpu", &[("cpu.max", ["50000 200000", "20000 200000"])]),
    ),
    key(
        "cpu.quota, taken away",
        [r#"{"cpu":{"quota":50000}}"#, r#"{"cpu":{"quota":-1}}"#],
        In("cpu", &[("cpu.cfs_quota_us", ["50000", "-1"])]),
        In("cpu", &[("cpu.max", ["50000 100000", "max 100000"])]),
    ),
    key(
        "cpu.period",
        [r#"{"cpu":{"quota":50000,"period":200000}}"#, r#"{"cpu":{"period":80000}}"#],
        In("cpu", &[("cpu.cfs_period_us", ["200000", "80000"])]),
        In("cpu", &[("cpu.max", ["50000 200000", "50000 80000"])]),
    ),
    key(
        "cpu.burst",
        [r#"{"cpu":{"quota":50000,"burst":10000}}"#, r#"{"cpu":{"quota":30000,"burst":20000}}"#],
        In("cpu", &[("cpu.cfs_burst_us", ["10000", "20000"])]),
        In("cpu", &[("cpu.max.burst", ["10000", "20000"])]),
    ),
    rare(
        "cpu.realtimeRuntime",
        [r#"{"cpu":{"realtimeRuntime":1000,"realtimePeriod":1000000}}"#, r#"{"cpu":{"realtimeRuntime":2000}}"#],
        In("cpu", &[("cpu.rt_runtime_us", ["1000", "2000"])]),
        Refused("cgroup v2 has no limits for realtime tasks"),
    ),
    rare(
        "cpu.realtimePeriod",
        [r#"{"cpu":{"realtimePeriod":500000}}"#, r#"{"cpu":{"realtimePeriod":900000}}"#],
        In("cpu", &[("cpu.rt_period_us", ["500000", "900000"])]),
        Refused("cgroup v2 has no limits for realtime tasks"),
    ),
    key(
        "cpu.idle",
        [r#"{"cpu":{"idle":1}}"#, r#"{"cpu":{"idle":0}}"#],
        In("cpu", &[("cpu.idle", ["1", "0"])]),
        In("cpu", &[("cpu.idle", ["1", "0"])]),
    ),
    key(
        "cpu.cpus",
        [r#"{"cpu":{"cpus":"0"}}"#, r#"{"cpu":{"cpus":"0-1"}}"#],
        In("cpuset", &[("cpuset.cpus", ["0", "0-1"])]),
        In("cpuset", &[("cpuset.cpus", ["0", "0-1"])]),
    ),
    key(
        "cpu.mems",
        [r#"{"cpu":{"mems":"0"}}"#, r#"{"cpu":{"mems":"0","cpus":"1"}}"#],
        In("cpuset", &[("cpuset.mems", ["0", "0"])]),
        In("cpuset", &[("cpuset.mems", ["0", "0"])]),
    ),
];

const MEMORY: &[Key] = &[
    key(
        "memory.limit",
        [r#"{"memory":{"limit":67108864}}"#, r#"{"memory":{"limit":33554432}}"#],
        In("memory", &[("memory.limit_in_bytes", ["67108864", "33554432"])]),
        In("memory", &[("memory.max", ["67108864", "33554432"])]),
    ),
    key(
        "memory.limit, taken away",
        [r#"{"memory":{"limit":67108864}}"#, r#"{"memory":{"limit":-1}}"#],
        In("memory", &[("memory.limit_in_bytes", ["67108864", "9223372036854771712"])]),
        In("memory", &[("memory.max", ["67108864", "max"])]),
    ),
    key(
        "memory.reservation",
        [r#"{"memory":{"reservation":33554432}}"#, r#"{"memory":{"reservation":16777216}}"#],
        In("memory", &[("memory.soft_limit_in_bytes", ["33554432", "16777216"])]),
        In("memory", &[("memory.low", ["33554432", "16777216"])]),
    ),
    rare(
        "memory.swap, raised",
        [r#"{"memory":{"limit":33554432,"swap":67108864}}"#, r#"{"memory":{"limit":134217728,"swap":201326592}}"#],
        In("memory", &[("memory.memsw.limit_in_bytes", ["67108864", "201326592"])]),
        In("memory", &[("memory.swap.max", ["33554432", "67108864"])]),
    ),
    rare(
        "memory.swap, lowered",
        [r#"{"memory":{"limit":134217728,"swap":201326592}}"#, r#"{"memory":{"limit":33554432,"swap":33554432}}"#],
        In("memory", &[("memory.memsw.limit_in_bytes", ["201326592", "33554432"])]),
        In("memory", &[("memory.swap.max", ["67108864", "0"])]),
    ),
    rare(
        "memory.swap, the limit kept",
        [r#"{"memory":{"limit":33554432,"swap":67108864}}"#, r#"{"memory":{"swap":100663296}}"#],
        In("memory", &[("memory.memsw.limit_in_bytes", ["67108864", "100663296"])]),
        In("memory", &[("memory.swap.max", ["33554432", "67108864"])]),
    ),
    rare(
        "memory.swap, taken away",
        [r#"{"memory":{"limit":33554432,"swap":67108864}}"#, r#"{"memory":{"swap":-1}}"#],
        In("memory", &[("memory.memsw.limit_in_bytes", ["67108864", "9223372036854771712"])]),
        In("memory", &[("memory.swap.max", ["33554432", "max"])]),
    ),
    // The kernel accepts it, warns, and has no such limit since 5.16.
    rare(
        "memory.kernel",
        [r#"{"memory":{"kernel":67108864}}"#, r#"{"memory":{"kernel":-1}}"#],
        In("memory", &[("memory.kmem.limit_in_bytes", ["9223372036854771712", "9223372036854771712"])]),
        Refused("cgroup v2 has no limit of kernel memory"),
    ),
    rare(
        "memory.kernelTCP",
        [r#"{"memory":{"kernelTCP":8388608}}"#, r#"{"memory":{"kernelTCP":4194304}}"#],
        In("memory", &[("memory.kmem.tcp.limit_in_bytes", ["8388608", "4194304"])]),
        Refused("cgroup v2 has no limit of TCP buffers"),
    ),
    key(
        "memory.swappiness",
        [r#"{"memory":{"swappiness":10}}"#, r#"{"memory":{"swappiness":0}}"#],
        In("memory", &[("memory.swappiness", ["10", "0"])]),
        Refused("cgroup v2 has no swappiness of a cgroup"),
    ),
    key(
        "memory.disableOOMKiller",
        [r#"{"memory":{"disableOOMKiller":true}}"#, r#"{"memory":{"disableOOMKiller":false}}"#],
        In("memory", &[("memory.oom_control", ["oom_kill_disable 1", "oom_kill_disable 0"])]),
        Refused("cgroup v2 has no switch for the OOM killer"),
    ),
    key(
        "memory.useHierarchy",
        [r#"{"memory":{"useHierarchy":true}}"#, r#"{"memory":{"useHierarchy":true}}"#],
        In("memory", &[("memory.use_hierarchy", ["1", "1"])]),
        // Version 2 knows nothing else.
        In("memory", &[("memory.max", ["max", "max"])]),
    ),
];

const PIDS: &[Key] = &[
    key(
        "pids.limit",
        [r#"{"pids":{"limit":77}}"#, r#"{"pids":{"limit":88}}"#],
        In("pids", &[("pids.max", ["77", "88"])]),
        In("pids", &[("pids.max", ["77", "88"])]),
    ),
    key(
        "pids.limit, taken away",
        [r#"{"pids":{"limit":77}}"#, r#"{"pids":{"limit":-1}}"#],
        In("pids", &[("pids.max", ["77", "max"])]),
        In("pids", &[("pids.max", ["77", "max"])]),
    ),
    key(
        "pids.limit 0",
        [r#"{"pids":{"limit":77}}"#, r#"{"pids":{"limit":0}}"#],
        In("pids", &[("pids.max", ["77", "0"])]),
        In("pids", &[("pids.max", ["77", "0"])]),
    ),
];

const BLOCK_IO: &[Key] = &[
    rare(
        "blockIO.weight",
        [r#"{"blockIO":{"weight":500}}"#, r#"{"blockIO":{"weight":300}}"#],
        In("blkio", &[("blkio.weight", ["500", "300"]), ("blkio.bfq.weight", ["500", "300"])]),
        In("io", &[("io.bfq.weight", ["default 500", "default 300"]), ("io.weight", ["default 4950", "default 2930"])]),
    ),
    rare(
        "blockIO.leafWeight",
        [r#"{"blockIO":{"leafWeight":500}}"#, r#"{"blockIO":{"leafWeight":300}}"#],
        In("blkio", &[("blkio.leaf_weight", ["500", "300"])]),
        Refused("cgroup v2 has no leaf weight"),
    ),
    rare(
        "blockIO.weightDevice[].weight",
        [
            r#"{"blockIO":{"weightDevice":[{DISK,"weight":500}]}}"#,
            r#"{"blockIO":{"weightDevice":[{DISK,"weight":300}]}}"#,
        ],
        In(
            "blkio",
            &[("blkio.weight_device", ["DISK 500", "DISK 300"]), ("blkio.bfq.weight_device", ["DISK 500", "DISK 300"])],
        ),
        In("io", &[("io.bfq.weight", ["DISK 500", "DISK 300"]), ("io.weight", ["DISK 4950", "DISK 2930"])]),
    ),
    rare(
        "blockIO.weightDevice[].leafWeight",
        [
            r#"{"blockIO":{"weightDevice":[{DISK,"leafWeight":500}]}}"#,
            r#"{"blockIO":{"weightDevice":[{DISK,"leafWeight":300}]}}"#,
        ],
        In("blkio", &[("blkio.leaf_weight_device", ["DISK 500", "DISK 300"])]),
        Refused("cgroup v2 has no leaf weight"),
    ),
    key(
        "blockIO.throttleReadBpsDevice",
        [
            r#"{"blockIO":{"throttleReadBpsDevice":[{DISK,"rate":1048576}]}}"#,
            r#"{"blockIO":{"throttleReadBpsDevice":[{DISK,"rate":2097152}]}}"#,
        ],
        In("blkio", &[("blkio.throttle.read_bps_device", ["DISK 1048576", "DISK 2097152"])]),
        In(
            "io",
            &[(
                "io.max",
                ["DISK rbps=1048576 wbps=max riops=max wiops=max", "DISK rbps=2097152 wbps=max riops=max wiops=max"],
            )],
        ),
    ),
    key(
        "blockIO.throttleWriteBpsDevice",
        [
            r#"{"blockIO":{"throttleWriteBpsDevice":[{DISK,"rate":1048576}]}}"#,
            r#"{"blockIO":{"throttleWriteBpsDevice":[{DISK,"rate":2097152}]}}"#,
        ],
        In("blkio", &[("blkio.throttle.write_bps_device", ["DISK 1048576", "DISK 2097152"])]),
        In(
            "io",
            &[(
                "io.max",
                ["DISK rbps=max wbps=1048576 riops=max wiops=max", "DISK rbps=max wbps=2097152 riops=max wiops=max"],
            )],
        ),
    ),
    key(
        "blockIO.throttleReadIOPSDevice",
        [
            r#"{"blockIO":{"throttleReadIOPSDevice":[{DISK,"rate":500}]}}"#,
            r#"{"blockIO":{"throttleReadIOPSDevice":[{DISK,"rate":600}]}}"#,
        ],
        In("blkio", &[("blkio.throttle.read_iops_device", ["DISK 500", "DISK 600"])]),
        In(
            "io",
            &[("io.max", ["DISK rbps=max wbps=max riops=500 wiops=max", "DISK rbps=max wbps=max riops=600 wiops=max"])],
        ),
    ),
    key(
        "blockIO.throttleWriteIOPSDevice",
        [
            r#"{"blockIO":{"throttleWriteIOPSDevice":[{DISK,"rate":500}]}}"#,
            r#"{"blockIO":{"throttleWriteIOPSDevice":[{DISK,"rate":600}]}}"#,
        ],
        In("blkio", &[("blkio.throttle.write_iops_device", ["DISK 500", "DISK 600"])]),
        In(
            "io",
            &[("io.max", ["DISK rbps=max wbps=max riops=max wiops=500", "DISK rbps=max wbps=max riops=max wiops=600"])],
        ),
    ),
    key(
        "blockIO.throttleReadBpsDevice, taken away",
        [
            r#"{"blockIO":{"throttleReadBpsDevice":[{DISK,"rate":1048576}],"throttleReadIOPSDevice":[{DISK,"rate":500}]}}"#,
            r#"{"blockIO":{"throttleReadBpsDevice":[{DISK,"rate":0}]}}"#,
        ],
        In("blkio", &[("blkio.throttle.read_bps_device", ["DISK 1048576", ""])]),
        In(
            "io",
            &[(
                "io.max",
                ["DISK rbps=1048576 wbps=max riops=500 wiops=max", "DISK rbps=max wbps=max riops=500 wiops=max"],
            )],
        ),
    ),
];

const OTHERS: &[Key] = &[
    rare(
        "hugepageLimits",
        [
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":8388608}]}"#,
        ],
        In("hugetlb", &[("hugetlb.2MB.limit_in_bytes", ["4194304", "8388608"])]),
        In("hugetlb", &[("hugetlb.2MB.max", ["4194304", "8388608"])]),
    ),
    rare(
        "hugepageLimits, reservations",
        [
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":8388608}]}"#,
        ],
        In("hugetlb", &[("hugetlb.2MB.rsvd.limit_in_bytes", ["4194304", "8388608"])]),
        In("hugetlb", &[("hugetlb.2MB.rsvd.max", ["4194304", "8388608"])]),
    ),
    rare(
        "network.classID",
        [r#"{"network":{"classID":1048577}}"#, r#"{"network":{"classID":1048578}}"#],
        In("net_cls", &[("net_cls.classid", ["1048577", "1048578"])]),
        Refused("no cgroup controller \"net_cls\""),
    ),
    rare(
        "network.priorities",
        [
            r#"{"network":{"priorities":[{"name":"lo","priority":3}]}}"#,
            r#"{"network":{"priorities":[{"name":"lo","priority":4}]}}"#,
        ],
        In("net_prio", &[("net_prio.ifpriomap", ["lo 3", "lo 4"])]),
        Refused("no cgroup controller \"net_prio\""),
    ),
    rare(
        "rdma",
        [r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":50}}}"#, r#"{"rdma":{"mlx5_1":{"hcaHandles":4}}}"#],
        In("rdma", &[("rdma.max", ["mlx5_1 hca_handle=3 hca_object=50", "mlx5_1 hca_handle=4 hca_object=50"])]),
        In("rdma", &[("rdma.max", ["mlx5_1 hca_handle=3 hca_object=50", "mlx5_1 hca_handle=4 hca_object=50"])]),
    ),
    key(
        "unified",
        [r#"{"unified":{"cgroup.max.depth":"7"}}"#, r#"{"unified":{"cgroup.max.depth":"9"}}"#],
        In("cgroup", &[("cgroup.max.depth", ["7", "9"])]),
        In("cgroup", &[("cgroup.max.depth", ["7", "9"])]),
    ),
    rare(
        "unified, over the key that it stands for",
        [
            r#"{"unified":{"memory.max":"33554432"},"memory":{"limit":67108864}}"#,
            r#"{"unified":{"memory.max":"50331648"},"memory":{"limit":83886080}}"#,
        ],
        Refused("cgroup v2 of this host has no controller \"memory\""),
        In("memory", &[("memory.max", ["33554432", "50331648"])]),
    ),
];

/// A block device that can have limits, one with the scheduler that knows weights where there is one: its number.
fn disk() -> (String, String) {
    let mut disks = Vec::new();
    for entry in std::fs::read_dir("/sys/block").unwrap().flatten() {
        let read = |file: &str| read_to_string(entry.path().join(file)).unwrap_or_default().trim().to_owned();
        if read("size") != "0" {
            disks.push((!read("queue/scheduler").contains("[bfq]"), entry.path().join("device").exists(), read("dev")));
        }
    }
    disks.sort_by_key(|(other, real, dev)| (*other, !real, dev.clone()));
    let (major, minor) =
        disks.first().expect("no block device").2.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    (major, minor)
}

fn fill(text: &str, (major, minor): &(String, String)) -> String {
    let member = format!("\"major\":{major},\"minor\":{minor}");
    text.replace("{DISK", &format!("{{{member}")).replace("DISK", &format!("{major}:{minor}"))
}

/// A controller's hierarchy: where it is mounted and whether it is version 2. `cgroup` is version 2 itself.
fn hierarchy(controller: &str) -> Option<(String, bool)> {
    let facts = probe().unwrap();
    let v1 = facts.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller)).map(|h| (h.mount.clone(), false));
    let has = |list: &[String]| controller == "cgroup" || list.iter().any(|c| c == controller);
    v1.or_else(|| facts.v2.filter(|u| has(&u.controllers)).map(|u| (u.mount, true)))
}

/// The cgroup of a process in a controller's hierarchy.
fn cgroup_of(pid: i32, controller: &str) -> PathBuf {
    let (mount, unified) = hierarchy(controller).unwrap();
    let lines = read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = lines.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        let is = if unified { names.is_empty() } else { names.split(',').any(|n| n == controller) };
        is.then_some(path)
    });
    Path::new(&mount).join(path.unwrap().trim_start_matches('/'))
}

/// What a file says; of one with a line for each device, that line.
fn said(dir: &Path, file: &str, wanted: &str) -> String {
    let text = read_to_string(dir.join(file)).unwrap_or_else(|e| format!("{file}: {e}"));
    let key = wanted.split(' ').next().filter(|k| wanted.contains(' ') && !k.bytes().all(|b| b.is_ascii_digit()));
    match key.filter(|k| *k != "max") {
        Some(key) => text.lines().find(|l| l.split(' ').next() == Some(key)).unwrap_or(&text).trim().to_owned(),
        None => text.trim().to_owned(),
    }
}

/// Whether the kernel takes a value that is written as plainly as can be, to a cgroup that has nothing to do with tare.
fn kernel_takes(controller: &str, file: &str, value: &str) -> Result<(), String> {
    let (mount, unified) = hierarchy(controller).ok_or_else(|| format!("no controller {controller}"))?;
    if unified && controller != "cgroup" {
        let _ = std::fs::write(format!("{mount}/cgroup.subtree_control"), format!("+{controller}"));
    }
    let dir = PathBuf::from(format!("{mount}/tare-limits-{}-{file}", support::unique()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join(file);
    let answer = match path.exists() {
        true => std::fs::write(&path, value).map_err(|e| format!("{file}: {e}")),
        false => Err(format!("no {file}")),
    };
    std::fs::remove_dir(&dir).unwrap();
    answer
}

fn code(text: &str) -> String {
    if text.is_empty() { "—".to_owned() } else { format!("`{text}`") }
}

fn row(name: &str, file: &str, cells: [&str; 4], test: &str) {
    let [asked, got, then, changed] = cells.map(code);
    // Of one that systemd was told of, there is more to say: `Held::reloaded`.
    let more = if by_systemd() { " — | — |" } else { "" };
    println!("| {name} | {} | {asked} | {got} | {then} | {changed} |{more} `limits::{test}` |", code(file));
}

/// Whatever systemd does not know of, or knows otherwise, it sets back now.
fn daemon_reload() {
    assert!(std::process::Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
}

/// The key's value in a resources object, as short as it can be told.
fn leaf(resources: &str) -> String {
    let mut value: Value = serde_json::from_str(resources).unwrap();
    while let Some(only) = value.as_object().filter(|o| o.len() == 1).and_then(|o| o.values().next()).cloned() {
        value = only;
    }
    value.to_string().replace("\"major\":", "").replace(",\"minor\":", ":")
}

/// Whether units of systemd are to be made, as `TARE_LIMITS_DRIVER=systemd` asks.
fn by_systemd() -> bool {
    std::env::var("TARE_LIMITS_DRIVER").is_ok_and(|driver| driver == "systemd")
}

fn driven(case: Case) -> Case {
    if !by_systemd() {
        return case;
    }
    let path = format!("system.slice:tare:{}", case.id);
    let mut case = case.set("/linux/cgroupsPath", json!(path));
    case.global.push("--systemd-cgroup".to_owned());
    case
}

/// What systemd knows of a limit, which is what it writes again when it is told to reload.
fn known_to_systemd(case: &Case, file: &str) -> String {
    let property = match file {
        "cpu.weight" | "cpu.idle" => "CPUWeight",
        "cpu.max" => "CPUQuotaPerSecUSec",
        "cpuset.cpus" => "AllowedCPUs",
        "cpuset.mems" => "AllowedMemoryNodes",
        "memory.max" => "MemoryMax",
        "memory.low" => "MemoryLow",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "io.weight" | "io.bfq.weight" => "IOWeight",
        _ => return String::new(),
    };
    let unit = format!("tare-{}.scope", case.id);
    let said = std::process::Command::new("systemctl").args(["show", "-p", property, &unit]).output().unwrap();
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

fn with(resources: &str) -> Case {
    let resources: Value = serde_json::from_str(resources).unwrap();
    let mut case = driven(case()).args(&["sleep", "1000"]);
    for (chapter, value) in resources.as_object().unwrap() {
        case = case.set(&format!("/linux/resources/{chapter}"), value.clone());
    }
    case
}

fn update(case: &Case, resources: &str) -> support::Output {
    let file = case.dir.join("update.json");
    std::fs::write(&file, resources).unwrap();
    case.tare(&["update", "--resources", file.to_str().unwrap(), &case.id])
}

/// The last line of a message without its time, id and paths of this run.
fn message(err: &str, case: &Case) -> String {
    let text = err.trim().rsplit("msg=").next().unwrap_or_default();
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).replace("\\\"", "\"");
    let dir = case.dir.display().to_string();
    text.replace(&dir, "…").replace(&case.id, "ID").replace('|', "\\|").trim().to_owned()
}

/// A container with a key that holds: where it is kept, and what is said there.
struct Held {
    name: &'static str,
    case: Case,
    dir: PathBuf,
    file: &'static str,
    said: String,
    /// What the row has to say before the reload.
    cells: [String; 3],
    known: String,
}

impl Held {
    /// What the file says after a reload, which is the same but for three things that systemd can only say in its own way.
    fn reloaded(self, test: &str) {
        let now = said(&self.dir, self.file, &self.said);
        match self.name {
            // It counts quotas in hundredths of a second, and rounds them up.
            "cpu.period" => assert!(quota(&now) >= quota(&self.said), "{now}"),
            // No tasks at all it cannot say. Neither number lets init make another.
            "pids.limit 0" => assert_eq!(now, "1"),
            // It has its own scale of BFQ's weights.
            "blockIO.weight" | "blockIO.weightDevice[].weight" if self.file == "io.bfq.weight" => {
                assert!(weight(&now) >= weight(&self.said), "{}: {now}", self.name);
            }
            _ => assert_eq!(now, self.said, "{}: {} after daemon-reload; {}", self.name, self.file, self.case.id),
        }
        let [asked, got, then] = self.cells.map(|cell| code(&cell));
        let (name, file, said, known, now) = (self.name, self.file, self.said, code(&self.known), code(&now));
        println!("| {name} | `{file}` | {asked} | {got} | {then} | `{said}` | {known} | {now} | `limits::{test}` |");
    }
}

/// The share of a processor that a line of `cpu.max` gives.
fn quota(line: &str) -> f64 {
    let words: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap_or(f64::INFINITY)).collect();
    words[0] / words[1]
}

fn weight(line: &str) -> u32 {
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn hold(key: &'static Key, disk: &(String, String), test: &str) -> Option<Held> {
    let [create, change] = [key.create, key.update].map(|text| fill(text, disk));
    let case = with(&create);
    let asked = [leaf(&create), leaf(&change)];
    let kept = |kept: &Kept| match kept {
        In(controller, files) => hierarchy(controller).map(|(_, unified)| (*controller, *files, unified)),
        Refused(_) => None,
    };
    let place = kept(&key.v2).filter(|p| p.2).or_else(|| kept(&key.v1).filter(|p| !p.2));
    let created = case.create();
    let Some((controller, files, _)) = place else {
        let said = created.refused(&["linux.resources"]);
        // Who has a version 1 hierarchy of some other controller is not told that version 2 lacks it, but that the host does.
        let words = [&key.v1, &key.v2].map(|k| if let Refused(words) = k { words } else { "this host has no" });
        assert!(words.iter().any(|w| said.contains(w)), "{}: {said}", key.name);
        row(key.name, "", [&asked[0], &message(&said, &case), "", ""], test);
        return None;
    };
    if created.code != 0 {
        let said = created.refused(&["linux.resources"]);
        assert!(key.rare, "{}: {said}", key.name);
        for (file, [value, _]) in files {
            let taken = kernel_takes(controller, file, &fill(value, disk));
            assert!(taken.is_err(), "{}: the kernel takes it: {said}", key.name);
        }
        row(key.name, files[files.len() - 1].0, [&asked[0], &message(&said, &case), "", ""], test);
        return None;
    }
    let dir = cgroup_of(case.pid(), controller);
    let &(file, values) = files.iter().find(|(file, _)| dir.join(file).exists()).unwrap_or(&files[0]);
    let [first, second] = values.map(|v| fill(v, disk));
    let before = said(&dir, file, &first);
    assert_eq!(before, first, "{}: {file} after create", key.name);
    update(&case, &change).ok();
    let after = said(&dir, file, if second.is_empty() { &first } else { &second });
    assert_eq!(after, second, "{}: {file} after update", key.name);
    let known = if by_systemd() { known_to_systemd(&case, file) } else { String::new() };
    if !by_systemd() {
        row(key.name, file, [&asked[0], &before, &asked[1], &after], test);
    }
    let [create, change] = asked;
    Some(Held { name: key.name, dir, file, said: after, case, cells: [create, before, change], known })
}

fn table(keys: &'static [Key], test: &str) {
    if !ready() {
        return;
    }
    let disk = disk();
    let held: Vec<Held> = keys.iter().filter_map(|key| hold(key, &disk, test)).collect();
    if by_systemd() {
        daemon_reload();
        held.into_iter().for_each(|held| held.reloaded(test));
    }
}

#[test]
fn cpu() {
    table(CPU, "cpu");
}

#[test]
fn memory() {
    table(MEMORY, "memory");
}

#[test]
fn pids() {
    table(PIDS, "pids");
}

#[test]
fn block_io() {
    table(BLOCK_IO, "block_io");
}

#[test]
fn others() {
    table(OTHERS, "others");
}

/// `memory.checkBeforeUpdate`: a limit below the usage is refused, by the kernel itself in version 1.
#[test]
fn check_before_update() {
    if !ready() {
        return;
    }
    let Some((_, unified)) = hierarchy("memory") else { return };
    let case = with(r#"{"memory":{"limit":67108864}}"#);
    case.create().ok();
    let low = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#;
    let said = update(&case, low).refused(&[match unified {
        true => "rejecting memory limit 4096 <= usage",
        false => "bytes are in use and cannot be reclaimed",
    }]);
    let file = if unified { "memory.max" } else { "memory.limit_in_bytes" };
    let is = read_to_string(cgroup_of(case.pid(), "memory").join(file)).unwrap();
    assert_eq!(is.trim(), "67108864");
    let words = message(&said, &case).replace(|c: char| c.is_ascii_digit(), "0");
    assert!(!words.is_empty());
    let told = if unified { "rejecting memory limit 4096 <= usage" } else { "device or resource busy" };
    row("memory.checkBeforeUpdate", file, ["67108864", is.trim(), "4096", told], "check_before_update");
}

/// Device rules: read back where version 1 lists them; with version 2 they are a program, so they are tried. `update` leaves
/// them alone.
#[test]
fn devices() {
    if !ready() {
        return;
    }
    let rules = r#"{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
    let case = with(rules).caps(&["CAP_SYSLOG", "CAP_MKNOD"]);
    case.create().ok();
    case.on("start").ok();
    case.tare(&["exec", &case.id, "mknod", "/kmsg", "c", "1", "11"]).ok();
    let tries = || {
        let opens = |mode: &str| case.tare(&["exec", &case.id, "sh", "-c", &format!("exec 3{mode}/kmsg")]).code == 0;
        format!("read {}, write {}", opens("<"), opens(">"))
    };
    let list = || match hierarchy("devices") {
        Some(_) => {
            let text = read_to_string(cgroup_of(case.pid(), "devices").join("devices.list")).unwrap();
            text.lines().find(|l| l.starts_with("c 1:11 ")).unwrap_or_default().to_owned()
        }
        None => {
            let dir = std::fs::File::open(cgroup_of(case.pid(), "cgroup")).unwrap();
            format!("{} program", bpf::device_programs(dir.as_fd()).unwrap().len())
        }
    };
    let (file, listed) = match hierarchy("devices") {
        Some(_) => ("devices.list", "c 1:11 r"),
        None => ("BPF_CGROUP_DEVICE", "1 program"),
    };
    let before = (list(), tries());
    assert_eq!(before, (listed.to_owned(), "read true, write false".to_owned()));
    update(&case, r#"{"devices":[{"allow":true}],"pids":{"limit":50}}"#).ok();
    assert_eq!((list(), tries()), before);
    if by_systemd() {
        daemon_reload();
        assert_eq!((list(), tries()), before, "after daemon-reload");
    }
    let told = format!("{}: {}", before.0, before.1);
    row("devices", file, ["c 1:11 r", &told, "all (update leaves devices alone)", &told], "devices");
    let free = with(r#"{"devices":[{"allow":true}]}"#);
    free.create().ok();
    let told = match hierarchy("devices") {
        Some(_) => read_to_string(cgroup_of(free.pid(), "devices").join("devices.list")).unwrap().trim().to_owned(),
        None => {
            let dir = std::fs::File::open(cgroup_of(free.pid(), "cgroup")).unwrap();
            format!("{} programs", bpf::device_programs(dir.as_fd()).unwrap().len())
        }
    };
    assert!(matches!(told.as_str(), "a *:* rwm" | "0 programs"), "{told}");
    row("devices, all allowed", file, ["all", &told, "", ""], "devices");
}
