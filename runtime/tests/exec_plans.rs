//! The plans of `exec` as they read, without a container: four kinds of container, one golden each.

use tare::compile::cgroup::{Group, Version};
use tare::compile::exec::{Ask, Flags, SubCgroup, Target, compile};
use tare::facts::Facts;
use tare::request::Request;
use tare::{check, explain, parse};

const ORDINARY: &str = r#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"},
    "process": {"args": ["sleep"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        "noNewPrivileges": true, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}]},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]}}"#;
const PID_MOUNT_NET: u64 = 0x2000_0000 | 0x2_0000 | 0x4000_0000;
const USER: u64 = 0x1000_0000;

fn group(mount: &str, controller: &str, version: Version) -> Group {
    Group {
        mount: mount.into(),
        path: "c".into(),
        controllers: vec![controller.into()],
        version,
        enable: Vec::new(),
        need: Vec::new(),
        optional: false,
    }
}

fn plan(config: &str, ask: &Ask<'_>, target: &Target) -> String {
    let (spec, _) = parse::config(config.as_bytes()).expect("config");
    let request = Request { id: "c".into(), bundle: "/b".into(), ..Request::default() };
    let compiled = compile(&spec, ask, target, &Facts::ordinary(), &request).expect("plan");
    check::check(&compiled.plan).expect("sound");
    explain::plan(&compiled.plan)
}

fn v2() -> Target {
    let groups = vec![group("/sys/fs/cgroup", "pids", Version::V2)];
    Target { pid: 42, start_time: 7, kinds: PID_MOUNT_NET, groups, ..Target::default() }
}

fn flags(args: &[&str]) -> Flags {
    Flags { args: args.iter().map(|a| (*a).to_owned()).collect(), ..Flags::default() }
}

#[track_caller]
fn golden(name: &str, is: &str) {
    let at = format!("{}/tests/fixtures/exec/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&at).parent().expect("directory")).expect("directory");
        std::fs::write(&at, is).expect("golden");
    }
    let should = std::fs::read_to_string(&at).expect("golden (BLESS=1 writes it)");
    assert!(is == should, "{name} reads now:\n{is}");
}

#[test]
fn an_ordinary_container() {
    golden("ordinary", &plan(ORDINARY, &Ask { flags: flags(&["/bin/true"]), ..Ask::default() }, &v2()));
}

#[test]
fn a_hybrid_host_and_a_sub_cgroup() {
    let target = Target {
        groups: vec![
            group("/sys/fs/cgroup/pids", "pids", Version::V1),
            group("/sys/fs/cgroup/memory", "memory", Version::V1),
            group("/sys/fs/cgroup/unified", "hugetlb", Version::V2),
        ],
        ..v2()
    };
    let cgroups = vec![SubCgroup { controllers: vec!["pids".into()], path: "sub".into() }];
    golden("hybrid", &plan(ORDINARY, &Ask { flags: flags(&["true"]), cgroups, ..Ask::default() }, &target));
}

#[test]
fn a_user_namespace_with_a_terminal_and_a_managing_init() {
    let target = Target { kinds: PID_MOUNT_NET | USER, moved_to: Some("c/init.scope".into()), ..v2() };
    let flags = Flags { tty: true, uid: Some(1000), gid: Some(1000), ..flags(&["sh"]) };
    golden("user-namespace", &plan(ORDINARY, &Ask { flags, ..Ask::default() }, &target));
}

#[test]
fn a_chroot_and_a_process_of_the_callers() {
    let config = ORDINARY.replace(r#"{"type": "mount"}, "#, "");
    let process = br#"{"args": ["./run"], "cwd": "/srv", "env": ["HOME=/"], "user": {"uid": 5, "gid": 5},
        "execCPUAffinity": {"initial": "0-1", "final": "3"}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4}}"#;
    let (process, _) = parse::process(process).expect("process");
    let target = Target { kinds: 0x2000_0000, ..v2() };
    golden("chroot", &plan(&config, &Ask { process: Some(process), ..Ask::default() }, &target));
}
