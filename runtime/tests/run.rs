//! `run`, `create`, `state`: the whole way, and what `root`, names and annotations do.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use serde_json::json;
use support::{case, ready};

#[test]
fn a_program_runs_and_says_something() {
    if !ready() {
        return;
    }
    case().args(&["echo", "hello"]).yields("hello");
}

#[test]
fn the_root_is_the_bundles_and_can_be_read_only() {
    if !ready() {
        return;
    }
    let touch = "touch /new 2>/dev/null && echo writable || echo read-only";
    let case_rw = case().script(touch);
    case_rw.yields("writable");
    assert!(case_rw.rootfs().join("new").exists());
    case().script(touch).set("/root/readonly", json!(true)).yields("read-only");
    let absolute = case().script("ls /bin/busybox");
    let path = absolute.rootfs().display().to_string();
    absolute.set("/root/path", json!(path)).yields("/bin/busybox");
    case().set("/root/path", json!("nowhere")).refused(&["root.path", "no such file or directory"]);
    case().set("/root/path", json!("config.json")).refused(&["root.path"]);
}

#[test]
fn host_name_and_domain_name() {
    if !ready() {
        return;
    }
    case()
        .script("hostname; cat /proc/sys/kernel/domainname")
        .set("/hostname", json!("box"))
        .set("/domainname", json!("example.org"))
        .yields("box\nexample.org");
    case().without_namespace("uts").refused(&["hostname", "uts"]);
    case()
        .without("", "hostname")
        .set("/domainname", json!("x"))
        .without_namespace("uts")
        .refused(&["domainname", "uts"]);
    case().set("/hostname", json!("x".repeat(65))).refused(&["hostname"]);
}

#[test]
fn annotations_are_in_the_state() {
    if !ready() {
        return;
    }
    let case = case().set("/annotations", json!({"a.b": "c"})).args(&["sleep", "100"]);
    case.create().ok();
    assert_eq!(case.state()["annotations"], json!({"a.b": "c"}));
    drop(case);
    support::case().set("/annotations", json!({"": "c"})).refused(&["annotations"]);
}

#[test]
fn the_state_is_that_of_the_specification() {
    if !ready() {
        return;
    }
    let case = case().args(&["sleep", "100"]);
    assert_eq!(case.create().ok(), "", "create prints nothing");
    let state = case.state();
    let text = case.on("state").ok();
    assert!(text.starts_with("{\n  \"ociVersion\": \"1."), "{text}");
    assert_eq!(state["id"], json!(case.id));
    assert_eq!(state["status"], json!("created"));
    assert_eq!(state["bundle"], json!(case.dir.display().to_string()));
    assert_eq!(state["rootfs"], json!(case.rootfs().display().to_string()));
    assert_eq!(state["owner"], json!("root"));
    assert!(state["created"].as_str().unwrap().ends_with('Z') && case.pid() > 1);
    case.on("start").ok();
    assert_eq!(case.status(), "running");
    case.tare(&["kill", &case.id, "KILL"]).ok();
    case.until("stopped", || case.status() == "stopped");
    assert_eq!(case.state()["pid"], json!(0));
    case.on("delete").ok();
    case.on("state").refused(&["container does not exist"]);
}

#[test]
fn the_pid_file_holds_digits_only() {
    if !ready() {
        return;
    }
    let case = case().args(&["sleep", "100"]);
    case.write();
    case.tare(&["create", "--pid-file", "pid", &case.id]).ok();
    assert_eq!(std::fs::read_to_string(case.dir.join("pid")).unwrap(), case.pid().to_string());
    drop(case);
    let case = support::case();
    case.write();
    case.tare(&["create", "--pid-file", "/no/where", &case.id]).refused(&["--pid-file"]);
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn ids_are_checked_in_every_command() {
    if !ready() {
        return;
    }
    let case = case();
    case.write();
    for id in ["", ".", "..", "a/b", "../x", "a b", "ü"] {
        for verb in ["create", "run", "start", "state", "kill", "delete"] {
            let out = case.tare(&[verb, id]);
            assert_eq!(out.code, 1, "{verb} {id:?}: {}", out.err);
        }
        let out = case.tare(&["delete", "--force", id]);
        assert_eq!(out.code, 1, "delete --force {id:?}: {}", out.err);
    }
}

#[test]
fn doubtful_configs_are_refused() {
    if !ready() {
        return;
    }
    case().set("/ociVersion", json!("2.0.0")).refused(&["ociVersion"]);
    case().set("/ociVersion", json!("one")).refused(&["ociVersion"]);
    case().without("", "process").refused(&["process"]);
    let case = case();
    for (text, part) in [
        ("{", "config.json"),
        ("{\"ociVersion\":\"1.0.0\",\"ociVersion\":\"1.0.0\"}", "ociVersion"),
        ("{\"ociVersion\":\"1.0.0\",\"OciVersion\":\"1.0.0\"}", "OciVersion"),
        ("{\"ociVersion\":\"1.0.0\",\"process\":{\"args\":\"sh\"}}", "process.args"),
    ] {
        std::fs::write(case.dir.join("config.json"), text).unwrap();
        case.on("run").refused(&[part]);
    }
}

#[test]
fn an_unknown_property_is_lived_with_unless_strict() {
    if !ready() {
        return;
    }
    let case = case().set("/process/capabilitis", json!({}));
    case.run().ok();
    case.tare(&["run", "--strict", &case.id]).refused(&["process.capabilitis", "capabilities"]);
}

#[test]
fn a_caller_in_the_foreground_passes_signals_on() {
    if !ready() {
        return;
    }
    let case = case().script("trap 'echo got; exit 3' TERM; echo up; while true; do sleep 0.05; done");
    case.write();
    let mut child = case.command(&["run", &case.id]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    case.until("running", || case.on("state").out.contains("running"));
    std::thread::sleep(std::time::Duration::from_millis(100));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn keep_leaves_a_stopped_container() {
    if !ready() {
        return;
    }
    let case = case();
    case.write();
    case.tare(&["run", "--keep", &case.id]).ok();
    assert_eq!(case.status(), "stopped");
    assert!(!case.cgroups().is_empty());
    case.on("delete").ok();
}

#[test]
fn detached_it_goes_on() {
    if !ready() {
        return;
    }
    let case = case().args(&["sleep", "100"]);
    case.write();
    case.tare(&["run", "-d", &case.id]).ok();
    assert_eq!(case.status(), "running");
    case.tare(&["delete", "-f", &case.id]).ok();
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn nothing_reaches_the_caller_of_create() {
    if !ready() {
        return;
    }
    let case = case().args(&["echo", "late"]);
    assert_eq!(case.create().ok(), "");
    case.on("start").ok();
}
