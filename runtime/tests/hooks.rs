//! `hooks`: the six kinds, where and when they run, what they are told, what becomes of a failure.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Case, case, ready, slowness};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs a script: on the host by its shell, inside the container by busybox's.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

/// A container whose hooks each append a line to a log that the container sees as well, at `/log`.
fn logging() -> Case {
    let mut case = case();
    std::fs::create_dir(case.dir.join("log")).unwrap();
    case = case.mount("/log", "bind", "log", &["bind"]);
    for kind in KINDS {
        let log = if kind == "startContainer" { "/log".to_owned() } else { case.dir.join("log").display().to_string() };
        let script = format!(
            "echo {kind} >>{log}/order; cat >{log}/{kind}; env | sort >{log}/env-{kind}; readlink /proc/self/ns/mnt >{log}/ns-{kind} || true"
        );
        let mut entry = hook(&script);
        entry["env"] = json!(["PATH=/bin:/usr/bin", format!("KIND={kind}")]);
        case = case.set(&format!("/hooks/{kind}/-"), entry);
    }
    case
}

fn log(case: &Case, name: &str) -> String {
    std::fs::read_to_string(case.dir.join("log").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn all_kinds_in_their_order_with_the_state_of_the_moment() {
    if !ready() {
        return;
    }
    let case = logging().script("echo program >>/log/order; sleep 100").set("/annotations", json!({"k": "v \"q\""}));
    case.create().ok();
    assert_eq!(log(&case, "order"), "prestart\ncreateRuntime\ncreateContainer\n");
    let pid = case.pid();
    case.on("start").ok();
    case.until("program", || log(&case, "order").contains("program"));
    case.tare(&["delete", "-f", &case.id]).ok();
    let order = log(&case, "order");
    let (before, after) = order.split_once("startContainer\n").unwrap();
    assert_eq!(before, "prestart\ncreateRuntime\ncreateContainer\n");
    // The program and the poststart hook run side by side.
    assert!(after.ends_with("poststop\n") && after.contains("poststart\n") && after.contains("program\n"), "{order}");
    for (kind, status) in KINDS.into_iter().zip(["creating", "creating", "creating", "created", "running", "stopped"]) {
        let state: Value = serde_json::from_str(&log(&case, kind)).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["id"], json!(case.id), "{kind}");
        assert_eq!(state["bundle"], json!(case.dir.display().to_string()), "{kind}");
        assert_eq!(state["annotations"], json!({"k": "v \"q\""}), "{kind}");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{kind}");
        match kind {
            "poststop" => assert!(state["pid"].as_i64().is_none_or(|p| p == 0), "{state}"),
            "createContainer" | "startContainer" => {}
            _ => assert_eq!(state["pid"], json!(pid), "{kind}"),
        }
        let env = log(&case, &format!("env-{kind}"));
        assert!(env.contains(&format!("KIND={kind}\n")) && !env.contains("CARGO"), "{kind}: {env}");
    }
    let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(log(&case, &format!("ns-{kind}")).trim(), ours, "{kind} runs in the runtime's namespaces");
    }
    for kind in ["createContainer", "startContainer"] {
        assert_ne!(log(&case, &format!("ns-{kind}")).trim(), ours, "{kind} runs in the container's namespaces");
    }
}

#[test]
fn several_of_a_kind_run_as_listed() {
    if !ready() {
        return;
    }
    let mut case = case();
    let file = case.dir.join("order").display().to_string();
    for n in 0..4 {
        case = case.set("/hooks/createRuntime/-", hook(&format!("echo {n} >>{file}")));
    }
    case.run().ok();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "0\n1\n2\n3\n");
}

#[test]
fn a_hook_that_fails_before_start_fails_the_creation() {
    if !ready() {
        return;
    }
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let case = case().set(&format!("/hooks/{kind}/-"), hook("echo no luck >&2; exit 3"));
        case.create().refused(&[&format!("hooks.{kind}[0]"), "error running", &format!("{kind} hook #0"), "no luck"]);
        assert_eq!(case.left(), Vec::<String>::new());
    }
}

#[test]
fn after_a_hook_that_failed_the_poststop_hooks_run() {
    if !ready() {
        return;
    }
    for kind in KINDS.into_iter().filter(|kind| *kind != "poststop") {
        let case = case().set(&format!("/hooks/{kind}/-"), hook("exit 3"));
        let (state, file) = (case.state_dir().display().to_string(), case.dir.join("stopped"));
        let last = hook(&format!("test ! -e {state} && cat >{}", file.display()));
        let case = case.set("/hooks/poststop/-", hook("exit 4")).set("/hooks/poststop/-", last);
        let before = matches!(kind, "prestart" | "createRuntime" | "createContainer");
        let out = if before { case.create() } else { case.run() };
        assert!(out.err.contains("level=warning") && out.err.contains("hooks.poststop[0]"), "{kind}: {}", out.err);
        out.refused(&[&format!("hooks.{kind}[0]")]);
        let told: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!((&told["id"], &told["status"]), (&json!(case.id), &json!("stopped")), "{kind}");
        assert_eq!(case.left(), Vec::<String>::new());
    }
}

#[test]
fn a_creation_that_fails_without_a_hook_runs_no_poststop_hook() {
    if !ready() {
        return;
    }
    let case = case();
    let file = case.dir.join("stopped");
    let case = case.set("/hooks/poststop/-", hook(&format!("touch {}", file.display())));
    case.args(&["/no/such/program"]).create().refused(&["process.args[0]"]);
    assert!(!file.exists());
}

#[test]
fn a_start_container_hook_that_fails_fails_the_start() {
    if !ready() {
        return;
    }
    let case = case().set("/hooks/startContainer/-", hook("exit 3"));
    case.create().ok();
    case.on("start").refused(&["hooks.startContainer[0]"]);
    case.until("stopped", || case.status() == "stopped");
    let case = support::case().set("/hooks/startContainer/-", hook("exit 3"));
    case.refused(&["hooks.startContainer[0]"]);
}

#[test]
fn a_poststart_hook_that_fails_stops_the_container() {
    if !ready() {
        return;
    }
    let case = case().args(&["sleep", "100"]).set("/hooks/poststart/-", hook("exit 3"));
    case.create().ok();
    case.on("start").refused(&["hooks.poststart[0]"]);
    case.until("stopped", || case.status() == "stopped");
}

#[test]
fn a_poststop_hook_that_fails_is_warned_of_and_the_rest_run() {
    if !ready() {
        return;
    }
    let case = case();
    let file = case.dir.join("ran");
    let case = case
        .set("/hooks/poststop/-", hook("exit 3"))
        .set("/hooks/poststop/-", hook(&format!("touch {}", file.display())));
    let out = case.run();
    assert_eq!(out.code, 0, "{}", out.err);
    assert!(out.err.contains("level=warning") && out.err.contains("hooks.poststop[0]"), "{}", out.err);
    assert!(file.exists());
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn time_ends_a_hook_with_its_grandchildren() {
    if !ready() {
        return;
    }
    for kind in ["createRuntime", "createContainer"] {
        let mut entry = hook("sleep 61 & sleep 61");
        entry["timeout"] = json!(1);
        let case = case().set(&format!("/hooks/{kind}/-"), entry);
        let began = Instant::now();
        case.create().refused(&[&format!("hooks.{kind}[0]")]);
        assert!(began.elapsed() < Duration::from_secs(5) * slowness(), "{:?}", began.elapsed());
        assert_eq!(case.left(), Vec::<String>::new());
    }
}

#[test]
fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
    if !ready() {
        return;
    }
    let case = case().set("/hooks/createRuntime/-", hook("sleep 3 & exit 0"));
    let began = Instant::now();
    case.create().ok();
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
}

#[test]
fn a_wrong_hook_is_refused() {
    if !ready() {
        return;
    }
    for kind in KINDS {
        let list = |value: Value| case().set(&format!("/hooks/{kind}/-"), value);
        list(json!({"path": "relative"})).refused(&[&format!("hooks.{kind}[0].path")]);
        list(json!({"path": "/bin/true", "timeout": 0})).refused(&[&format!("hooks.{kind}[0].timeout")]);
        list(json!({"path": "/bin/true", "timeout": -1})).refused(&[&format!("hooks.{kind}[0].timeout")]);
    }
    let case = case().set("/hooks/createRuntime/-", json!({"path": "/no/such/hook"}));
    case.refused(&["hooks.createRuntime[0]", "no such file or directory"]);
}
