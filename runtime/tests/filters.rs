//! `linux.seccomp` in a container: what a filter forbids, and what its agent is told.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{MsgFlags, recv};
use serde_json::{Value, json};
use support::{case, ready};

fn filter(action: &str, more: Value) -> Value {
    let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": action});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

#[test]
fn a_call_fails_with_the_errno_of_the_rule() {
    if !ready() {
        return;
    }
    let script = "mkdir /x 2>&1; grep -E '^(Seccomp|Seccomp_filters):' /proc/self/status | tr -d '\\t'";
    for nnp in [true, false] {
        let case = case().set("/linux/seccomp", filter("SCMP_ACT_ERRNO", json!({"errnoRet": 18}))).script(script);
        let case = case.set("/process/noNewPrivileges", json!(nnp));
        case.yields("mkdir: can't create directory '/x': Invalid cross-device link\nSeccomp:2\nSeccomp_filters:1");
    }
}

#[test]
fn a_filter_can_kill() {
    if !ready() {
        return;
    }
    let case = case().set("/linux/seccomp", filter("SCMP_ACT_KILL_PROCESS", json!({}))).args(&["mkdir", "/x"]);
    assert_eq!(case.run().code, 128 + 31);
}

#[test]
fn without_privileges_the_capabilities_are_those_of_the_config_all_the_same() {
    if !ready() {
        return;
    }
    case()
        .set("/linux/seccomp", filter("SCMP_ACT_ERRNO", json!({})))
        .set("/process/noNewPrivileges", json!(false))
        .set("/process/user/uid", json!(1000))
        .caps(&["CAP_KILL"])
        .script("grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f2 | tr '\\n' ' '")
        .yields("0000000000000000 0000000000000000 0000000000000020");
}

#[test]
fn what_is_wrong_with_a_filter_is_told_by_its_field() {
    if !ready() {
        return;
    }
    case().set("/linux/seccomp", filter("SCMP_ACT_NO", json!({}))).refused(&["linux.seccomp.syscalls[0].action"]);
    case().set("/linux/seccomp", filter("SCMP_ACT_NOTIFY", json!({}))).refused(&["linux.seccomp", "listenerPath"]);
    case()
        .set("/linux/seccomp", filter("SCMP_ACT_KILL", json!({"errnoRet": 3})))
        .refused(&["linux.seccomp.syscalls[0]"]);
    let absent = filter("SCMP_ACT_NOTIFY", json!({}));
    case()
        .set("/linux/seccomp", absent)
        .set("/linux/seccomp/listenerPath", json!("/no/agent"))
        .refused(&["linux.seccomp.listenerPath", "failed to connect with seccomp agent"]);
}

/// Receives what the runtime sends an agent: the text and the descriptor.
fn receive(listener: &UnixListener) -> (Value, Option<OwnedFd>) {
    let (stream, _) = listener.accept().unwrap();
    let mut bytes = vec![0u8; 65536];
    // Looked at first, for what comes with a descriptor may be read only together with it.
    for _ in 0..1000 {
        let len = recv(stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK).unwrap();
        if let Ok(said) = serde_json::from_slice(&bytes[..len]) {
            return (said, tare::sys::socket::receive_fd(stream.as_fd()).unwrap());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("no message: {}", String::from_utf8_lossy(&bytes));
}

#[test]
fn the_agent_gets_the_descriptor_and_the_state() {
    if !ready() {
        return;
    }
    let case = case().set("/linux/seccomp", filter("SCMP_ACT_NOTIFY", json!({}))).args(&["sleep", "100"]);
    let socket = case.dir.join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let case = case
        .set("/linux/seccomp/listenerPath", json!(socket.display().to_string()))
        .set("/linux/seccomp/listenerMetadata", json!("meta \"data\""))
        .set("/annotations", json!({"a": "b"}));
    let agent = std::thread::spawn(move || receive(&listener));
    case.create().ok();
    let (said, fd) = agent.join().unwrap();
    let fd = fd.expect("a descriptor");
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    assert_eq!(link.display().to_string(), "anon_inode:seccomp notify");
    assert_eq!(said["fds"], json!(["seccompFd"]));
    assert_eq!(said["metadata"], json!("meta \"data\""));
    assert_eq!(said["pid"], json!(case.pid()));
    assert_eq!(said["state"]["id"], json!(case.id));
    assert_eq!(said["state"]["status"], "creating");
    assert_eq!(said["state"]["pid"], json!(case.pid()));
    assert_eq!(said["state"]["annotations"], json!({"a": "b"}));
    case.on("start").ok();
}
