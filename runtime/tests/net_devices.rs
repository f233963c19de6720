//! `linux.netDevices` with real devices, each test in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails is to panic; a skipped one says why")]

mod support;

use std::process::{Child, Command, Stdio};

use serde_json::json;
use support::{Case, case, run};

/// Moves this test's thread, and what it starts, into a new network namespace. `false` where that cannot be done.
fn alone() -> bool {
    if !support::ready() {
        return false;
    }
    if run(Command::new("sh").args(["-c", "command -v ip"])).code != 0 {
        assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "these tests need ip(8)");
        println!("SKIP: needs ip(8) (package iproute2)");
        return false;
    }
    tare::sys::process::unshare(tare::abi::clone::NEWNET).unwrap();
    true
}

fn ip(line: &str) -> String {
    run(Command::new("ip").args(line.split(' '))).ok()
}

/// One end of a pair, with an address and set up.
fn device(name: &str) {
    ip(&format!("link add {name} mtu 1400 type veth peer name far-{name}"));
    ip(&format!("addr add 192.0.2.7/24 dev {name} label {name}:7"));
    ip(&format!("addr add 2001:db8::5/64 dev {name} nodad"));
    ip(&format!("addr add 192.0.2.9/32 dev {name} scope link"));
    ip(&format!("link set {name} up"));
}

fn with(devices: serde_json::Value) -> Case {
    case().set("/linux/netDevices", devices)
}

/// The field as it stands in a line of the log, where quotes are escaped.
fn field(name: &str) -> String {
    format!("linux.netDevices[\\\"{name}\\\"]")
}

#[test]
fn a_device_enters_with_all_that_lasts() {
    if !alone() {
        return;
    }
    device("dev0");
    let case = with(json!({"dev0": {"name": "in0"}})).script("ip addr show dev in0");
    let says = case.says();
    for part in ["mtu 1400", ",UP", "inet 192.0.2.7/24 scope global in0:7", "inet6 2001:db8::5/64 scope global"] {
        assert!(says.contains(part), "{part}: {says}");
    }
    assert!(!says.contains("192.0.2.9"), "{says}");
    assert!(!ip("link").contains(" dev0"));
}

#[test]
fn the_kernel_numbers_a_template() {
    if !alone() {
        return;
    }
    device("dev0");
    device("dev1");
    let case = with(json!({"dev0": {"name": "port%d"}, "dev1": {"name": "port%d"}, "far-dev1": {}}));
    let says = case.script("ls /sys/class/net | tr '\\n' ' '").says();
    assert_eq!(says, "far-dev1 lo port0 port1");
}

#[test]
fn a_failed_create_gives_devices_back_as_they_were() {
    if !alone() {
        return;
    }
    device("dev0");
    ip("link add dev1 type veth peer name far1");
    let state = || ["dev0", "dev1"].map(|name| ip(&format!("-o addr show dev {name}")));
    let before = state();
    with(json!({"dev0": {"name": "in0"}, "dev1": {}})).args(&["/no/such"]).refused(&["exec /no/such"]);
    assert_eq!(state().map(comparable), before.map(comparable));
    assert!(ip("link show dev dev0").contains(",UP"));
    assert!(!ip("link show dev dev1").contains(",UP"));
    // The second cannot be moved: the first must come back all the same.
    with(json!({"dev0": {}, "lo": {"name": "lo1"}})).refused(&[&field("lo")]);
    assert!(ip("addr show dev dev0").contains("192.0.2.7/24"));
}

/// The addresses that last: those of the link are the kernel's own to make, and it numbers and flags as it goes.
fn comparable(addresses: String) -> Vec<String> {
    let lines = addresses.lines().filter(|line| line.contains("scope global"));
    lines.map(|line| line.split_whitespace().skip(1).take(7).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_cannot_be_moved_is_named() {
    if !alone() {
        return;
    }
    device("dev0");
    with(json!({"no-such": {}})).refused(&[&field("no-such"), "no such device"]);
    with(json!({"dev0": {"name": "lo"}})).refused(&[&field("dev0"), "already"]);
    with(json!({"lo": {"name": "lo1"}})).refused(&[&field("lo"), "invalid argument"]);
    let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
    with(json!({"dev0": {}})).namespace("network", Some(&own)).refused(&[&field("dev0"), "own"]);
    with(json!({"dev0": {}})).without_namespace("network").refused(&[&field("dev0"), "namespace"]);
    assert!(ip("addr show dev dev0").contains("192.0.2.7/24"));
}

/// A network namespace that somebody else holds.
struct Held(Child);

impl Held {
    fn new() -> Self {
        let sleep = ["--net", "sh", "-c", "ip link add taken type veth peer name far; echo; exec sleep 60"];
        let mut child = Command::new("unshare").args(sleep).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Held(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn links(&self) -> String {
        let pid = self.0.id().to_string();
        run(Command::new("nsenter").args(["-t", &pid, "-n", "ip", "-o", "link"])).ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_joined_namespace_keeps_the_device_and_its_own_names() {
    if !alone() {
        return;
    }
    device("dev0");
    let held = Held::new();
    let joined = |devices| with(devices).namespace("network", Some(&held.path()));
    joined(json!({"dev0": {"name": "taken"}})).refused(&[&field("dev0"), "already"]);
    // What is there first keeps its number, too.
    joined(json!({"dev0": {"name": "in0"}})).script("ip -o link show dev in0 | grep -o 'mtu 1400'").yields("mtu 1400");
    assert!(held.links().contains(" in0"), "{}", held.links());
}

#[test]
fn a_user_namespace_of_its_own_is_no_hindrance() {
    if !alone() {
        return;
    }
    device("dev0");
    let case = with(json!({"dev0": {}})).user_namespace(65536).script("cat /sys/class/net/dev0/operstate; id -u");
    assert!(case.says().ends_with("\n0"));
}

#[test]
fn hooks_and_parameters_find_the_device() {
    if !alone() {
        return;
    }
    device("dev0");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c",
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip link show dev in0 >/dev/null"]});
    let case = with(json!({"dev0": {"name": "in0"}})).set("/hooks/createRuntime", json!([hook]));
    let case = case.set("/linux/sysctl", json!({"net.ipv4.conf.in0.rp_filter": "2"}));
    case.script("cat /proc/sys/net/ipv4/conf/in0/rp_filter").yields("2");
}
