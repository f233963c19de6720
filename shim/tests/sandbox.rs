//! The shim as a pod's sandbox, as containerd's CRI service uses it with `sandboxer = "shim"`: started by hand, spoken to over ttrpc.

// Helpers outside of a #[test] are test code as well, where an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Client, Events, Home, has_ended, have, make_rootfs, process, start_action, wait_for, write_bundle};
use containerd_shim_tare::api::{
    Any, ConnectResponse, CreateRequest, CreateSandboxRequest, DeleteResponse, Empty, IdRequest, KillRequest,
    NamespaceModes, Pair, PidResponse, PlatformResponse, PodConfig, PodLinux, PodSecurity, RuncOptions,
    SandboxStatusResponse, ShutdownRequest, StartSandboxResponse, UserNamespace, WaitResponse,
};
use serde_json::json;

const NEEDS: &[&str] = &["busybox", "unshare", "nsenter"];
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const FAILED_PRECONDITION: i32 = 9;
const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";
const TASK: &str = "containerd.task.v2.Task";

/// A shim that was started for a sandbox: its bundle has no config.json, because the engine has no container for it.
struct Pod {
    home: Home,
    client: Client,
    shim: u32,
    network: PathBuf,
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The holder dies with the shim.
        common::signal(self.shim, "-KILL");
        let _ = Command::new("umount").arg(&self.network).status();
    }
}

impl Pod {
    fn new() -> Pod {
        let home = Home::new();
        let _events = Events::serve(&home.0.join("events"));
        make_rootfs(&home.0.join("root"));
        fs::create_dir_all(home.0.join("state/sb/rootfs")).unwrap();
        let answer = start_action(&home, "sb", &common::runtime(), false);
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        let address = String::from_utf8(answer.stdout).unwrap();
        let mut client = Client::connect(Path::new(address.strip_prefix("unix://").unwrap()));
        let shim = client.call::<ConnectResponse>("Connect", &id("sb")).unwrap().shim_pid;
        client.service = SANDBOX;
        // As engines make one: a name for it, nobody in it.
        let network = home.0.join("netns");
        fs::write(&network, "").unwrap();
        let made = Command::new("unshare").arg(format!("--net={}", network.display())).arg("true").status().unwrap();
        assert!(made.success());
        Pod { home, client, shim, network }
    }

    fn request(&self, modes: NamespaceModes, sysctls: &[(&str, &str)]) -> CreateSandboxRequest {
        let sysctls = sysctls.iter().map(|(k, v)| Pair { key: (*k).into(), value: (*v).into() }).collect();
        let linux = PodLinux { security: Some(PodSecurity { namespaces: Some(modes) }), sysctls };
        let config = PodConfig { hostname: "pod-name".into(), linux: Some(linux) };
        CreateSandboxRequest {
            sandbox_id: "sb".into(),
            bundle_path: self.home.0.join("state/sb").to_string_lossy().into_owned(),
            options: Some(Any::of("runtime.v1.PodSandboxConfig", &config)),
            netns_path: self.network.to_string_lossy().into_owned(),
        }
    }

    fn run(&mut self, request: &CreateSandboxRequest) -> u32 {
        self.client.call::<Empty>("CreateSandbox", request).unwrap();
        let started: StartSandboxResponse = self.client.call("StartSandbox", &id("sb")).unwrap();
        assert!(started.created_at.is_some(), "an engine reads it as 1970 otherwise");
        started.pid
    }

    fn status(&mut self) -> SandboxStatusResponse {
        self.client.call("SandboxStatus", &id("sb")).unwrap()
    }

    fn task<T: containerd_shim_tare::wire::Message>(
        &mut self,
        method: &str,
        request: &impl containerd_shim_tare::wire::Message,
    ) -> common::Reply<T> {
        self.client.service = TASK;
        let answer = self.client.call(method, request);
        self.client.service = SANDBOX;
        answer
    }
}

fn id(id: &str) -> IdRequest {
    IdRequest { id: id.into() }
}

fn namespace(pid: u32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

fn inside(pid: u32, words: &[&str]) -> String {
    let output = Command::new("nsenter").args(["-t", &pid.to_string(), "-i", "-u", "-n"]).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_sandbox_holds_namespaces_and_nothing_of_the_hosts() {
    if !have(NEEDS) {
        return;
    }
    let mut pod = Pod::new();
    let request = pod.request(
        NamespaceModes::default(),
        &[("kernel.shmmax", "12345678"), ("net.ipv4.ip_unprivileged_port_start", "77")],
    );
    let pid = pod.run(&request);
    let own = std::process::id();
    for kind in ["ipc", "uts", "pid", "mnt", "net"] {
        assert_ne!(namespace(pid, kind), namespace(own, kind), "{kind}");
    }
    let given = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&pod.network).unwrap());
    assert_eq!(namespace(pid, "net"), PathBuf::from(format!("net:[{given}]")), "the engine's network");
    assert_eq!(inside(pid, &["hostname"]), "pod-name");
    assert_eq!(inside(pid, &["cat", "/proc/sys/kernel/shmmax"]), "12345678");
    assert_eq!(inside(pid, &["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]), "77");
    assert_ne!(fs::read_to_string("/proc/sys/kernel/shmmax").unwrap().trim(), "12345678");

    let proc = PathBuf::from(format!("/proc/{pid}"));
    assert_eq!(fs::read_dir(proc.join("root")).unwrap().count(), 0, "an empty root");
    assert_eq!(fs::read_to_string(proc.join("mountinfo")).unwrap().lines().count(), 1);
    assert_eq!(fs::read_dir(proc.join("fd")).unwrap().count(), 0, "no descriptor");
    let status = fs::read_to_string(proc.join("status")).unwrap();
    for line in [
        "Uid:\t65535\t65535\t65535\t65535",
        "Gid:\t65535\t65535\t65535\t65535",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("state/sb"), "the host sees no mount of it");
    assert_eq!((pod.status().pid, pod.status().state.as_str()), (pid, "SANDBOX_READY"));

    let rollup = fs::read_to_string(proc.join("smaps_rollup")).unwrap();
    let dirty = rollup.lines().find_map(|l| l.strip_prefix("Private_Dirty:")).unwrap();
    let dirty: u32 = dirty.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(dirty <= 128, "{dirty} kB of its own");

    // The shim's own death is the holder's.
    common::signal(pod.shim, "-KILL");
    wait_for("the holder's end", || has_ended(pid).then_some(()));
    let output = common::action(&pod.home, "sb", "delete").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_the_pod_shares_with_the_host_is_shared_and_what_cannot_be_had_is_refused() {
    if !have(NEEDS) {
        return;
    }
    let mut pod = Pod::new();
    let users = NamespaceModes { users: Some(UserNamespace { mode: 0 }), ..NamespaceModes::default() };
    for (request, field) in [
        (pod.request(users, &[]), "userns_options: "),
        (pod.request(NamespaceModes::default(), &[("vm.swappiness", "1")]), "sysctls: vm.swappiness "),
        (
            CreateSandboxRequest { netns_path: String::new(), ..pod.request(NamespaceModes::default(), &[]) },
            "netns_path: ",
        ),
    ] {
        let (code, text) = pod.client.call::<Empty>("CreateSandbox", &request).unwrap_err();
        assert!(code == INVALID_ARGUMENT && text.starts_with(field), "{code} {text}");
    }
    let host = NamespaceModes { network: 2, pid: 2, ipc: 2, users: None };
    let request = CreateSandboxRequest { netns_path: String::new(), ..pod.request(host, &[]) };
    let pid = pod.run(&request);
    for kind in ["ipc", "uts", "pid", "net"] {
        assert_eq!(namespace(pid, kind), namespace(std::process::id(), kind), "{kind}");
    }
    assert_ne!(namespace(pid, "mnt"), namespace(std::process::id(), "mnt"));
}

#[test]
fn a_step_that_fails_says_which_and_leaves_no_process() {
    if !have(NEEDS) {
        return;
    }
    let mut pod = Pod::new();
    let request = CreateSandboxRequest { netns_path: "/nowhere".into(), ..pod.request(NamespaceModes::default(), &[]) };
    pod.client.call::<Empty>("CreateSandbox", &request).unwrap();
    let (_, text) = pod.client.call::<StartSandboxResponse>("StartSandbox", &id("sb")).unwrap_err();
    assert!(text.contains("netns_path /nowhere: No such file"), "{text}");
    assert_eq!((pod.status().pid, pod.status().state.as_str()), (0, "SANDBOX_NOTREADY"));
    let children = format!("/proc/{0}/task/{0}/children", pod.shim);
    wait_for("no child", || fs::read_to_string(&children).unwrap().is_empty().then_some(()));
    // The engine gives the sandbox up then.
    pod.client.call::<Empty>("ShutdownSandbox", &id("sb")).unwrap();
    wait_for("the shim's end", || has_ended(pod.shim).then_some(()));
}

#[test]
fn the_service_answers_and_ends_the_shim() {
    if !have(NEEDS) {
        return;
    }
    let mut pod = Pod::new();
    assert_eq!(pod.client.call::<Empty>("PingSandbox", &id("sb")).unwrap_err().0, NOT_FOUND);
    let request = pod.request(NamespaceModes::default(), &[]);
    let pid = pod.run(&request);
    assert_eq!(pod.client.call::<Empty>("CreateSandbox", &request).unwrap_err().0, ALREADY_EXISTS);
    assert_eq!(pod.client.call::<Empty>("StartSandbox", &id("sb")).unwrap_err().0, FAILED_PRECONDITION);
    pod.client.call::<Empty>("PingSandbox", &id("sb")).unwrap();
    assert_eq!(pod.client.call::<Empty>("PingSandbox", &id("other")).unwrap_err().0, NOT_FOUND);
    let platform = pod.client.call::<PlatformResponse>("Platform", &id("sb")).unwrap().platform.unwrap();
    assert_eq!(platform.os, "linux");
    let waiting = pod.client.send("WaitSandbox", &id("sb"));
    assert!(!pod.client.is_answered(waiting));
    pod.client.call::<Empty>("StopSandbox", &id("sb")).unwrap();
    let exit = pod.client.receive::<WaitResponse>(waiting).unwrap().unwrap();
    assert!(exit.exit_status == 0 && exit.exited_at.is_some());
    assert!(has_ended(pid), "no process after the answer");
    let status = pod.status();
    assert!(status.state == "SANDBOX_NOTREADY" && status.exited_at.is_some());
    pod.client.call::<Empty>("StopSandbox", &id("sb")).unwrap();
    pod.client.call::<Empty>("ShutdownSandbox", &id("sb")).unwrap();
    let late = pod.client.send("PingSandbox", &id("sb"));
    assert!(pod.client.receive::<Empty>(late).is_some(), "the engine closes the connection, not the shim");
    wait_for("the shim's end", || has_ended(pod.shim).then_some(()));
}

#[test]
fn a_holder_that_is_killed_is_the_end_of_the_sandbox() {
    if !have(NEEDS) {
        return;
    }
    let mut pod = Pod::new();
    let request = pod.request(NamespaceModes::default(), &[]);
    let pid = pod.run(&request);
    let waiting = pod.client.send("WaitSandbox", &id("sb"));
    common::signal(pid, "-TERM");
    assert!(!pod.client.is_answered(waiting), "it has no ear for signals that can be ignored");
    common::signal(pid, "-KILL");
    assert_eq!(pod.client.receive::<WaitResponse>(waiting).unwrap().unwrap().exit_status, 137);
    assert_eq!(pod.status().state, "SANDBOX_NOTREADY");
}

/// containerd 2.1 with a shim of protocol 2: `start` for each member, options that name nothing but the sandbox's address, and a
/// Shutdown after each member's Delete.
#[test]
fn members_join_the_sandbox_and_do_not_end_it() {
    if !have(NEEDS) {
        return;
    }
    let mut pod = Pod::new();
    let request = pod.request(NamespaceModes::default(), &[]);
    let holder = pod.run(&request);
    write_bundle(&pod.home, "member", &["/bin/sh", "-c", "(sleep 2 &); sleep 100"], false, |config| {
        config["annotations"] = json!({"io.kubernetes.cri.sandbox-id": "sb"});
        config.as_object_mut().unwrap().remove("hostname");
        let joined = |kind: &str| json!({"type": kind, "path": format!("/proc/{holder}/ns/{kind}")});
        config["linux"]["namespaces"] = json!([joined("pid"), joined("ipc"), joined("uts"), {"type": "mount"}]);
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "network", "path": format!("/proc/{holder}/ns/net")}));
    });
    let address = |pod: &Pod, member: &str| fs::read_to_string(pod.home.0.join("state").join(member).join("address"));
    let answer = start_action(&pod.home, "member", &common::runtime(), false);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    assert_eq!(address(&pod, "member").unwrap(), address(&pod, "sb").unwrap());
    let endpoint =
        RuncOptions { task_api_address: "ttrpc+unix:///x".into(), task_api_version: 2, ..RuncOptions::default() };
    let create = CreateRequest {
        id: "member".into(),
        bundle: pod.home.0.join("state/member").to_string_lossy().into_owned(),
        options: Some(Any::of("containerd.runc.v1.Options", &endpoint)),
        ..CreateRequest::default()
    };
    let pid = pod.task::<PidResponse>("Create", &create).unwrap().pid;
    assert!(pod.home.0.join("runtime/test/member").is_dir(), "the options of the sandbox's start hold");
    pod.task::<PidResponse>("Start", &process("member", "")).unwrap();
    for kind in ["ipc", "uts", "pid", "net"] {
        assert_eq!(namespace(pid, kind), namespace(holder, kind), "{kind}");
    }
    // The orphan becomes the holder's child, and no zombie.
    let children = format!("/proc/{holder}/task/{holder}/children");
    wait_for("an orphan", || (!fs::read_to_string(&children).unwrap().is_empty()).then_some(()));
    wait_for("no zombie", || fs::read_to_string(&children).unwrap().is_empty().then_some(()));
    let kill = KillRequest { id: "member".into(), signal: 9, ..KillRequest::default() };
    pod.task::<Empty>("Kill", &kill).unwrap();
    assert_eq!(pod.task::<WaitResponse>("Wait", &process("member", "")).unwrap().exit_status, 137);
    pod.task::<DeleteResponse>("Delete", &process("member", "")).unwrap();
    pod.task::<Empty>("Shutdown", &ShutdownRequest { id: "member".into(), now: false }).unwrap();
    assert_eq!(pod.status().state, "SANDBOX_READY", "the pod outlives its last container");
    assert!(!has_ended(holder));
}
