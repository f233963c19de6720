//! The shim alone: started by hand, spoken to over ttrpc, with a real runtime below it (`SHIM_TEST_RUNTIME`, default runc).

// Helpers outside of a #[test] are test code as well, where an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    Client, Events, Home, Shim, action, exec_request, fifo, have, make_rootfs, process, read_to_end, start_action,
    wait_for, write_bundle,
};
use containerd_shim_tare::api::{
    Any, BootstrapResult, CloseIoRequest, ConnectResponse, CreateRequest, DeleteResponse, Empty, IdRequest,
    KillRequest, Mount, PidResponse, PidsResponse, ProcessDetails, ResizeRequest, RuncOptions, RuntimeInfo,
    ShutdownRequest, StatsResponse, TaskExec, TaskExit, UpdateRequest, WaitResponse, status,
};
use containerd_shim_tare::ttrpc::{REQUEST, frame};
use containerd_shim_tare::wire::{Bytes, Message};
use serde_json::json;

const NEEDS: &[&str] = &["busybox"];
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;

fn id(id: &str) -> IdRequest {
    IdRequest { id: id.into() }
}

#[test]
fn a_whole_life_is_told_in_order_and_leaves_nothing() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("life", &["/bin/sh", "-c", "exit 7"]);
    let pid = shim.create("life");
    assert_eq!(shim.state("life", "").unwrap().status, status::CREATED);
    let waiting = shim.client.send("Wait", &process("life", ""));
    assert!(!shim.client.is_answered(waiting), "Wait before Start blocks");
    assert_eq!(shim.client.call::<PidResponse>("Start", &process("life", "")).unwrap().pid, pid);
    assert_eq!(shim.client.receive::<WaitResponse>(waiting).unwrap().unwrap().exit_status, 7);
    let state = shim.state("life", "").unwrap();
    assert_eq!((state.status, state.exit_status, state.pid), (status::STOPPED, 7, pid));
    assert_eq!(shim.wait("life", ""), 7, "Wait after the end answers at once");
    // A daemon that comes back takes a task without pids for a leak, deletes it, and its exit is lost.
    let pids: PidsResponse = shim.client.call("Pids", &id("life")).unwrap();
    assert_eq!(pids.processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [pid], "an ended task is still there");
    let deleted: DeleteResponse = shim.client.call("Delete", &process("life", "")).unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
    assert!(deleted.exited_at.is_some());
    assert_eq!(shim.client.call::<Empty>("Delete", &process("life", "")).unwrap_err().0, NOT_FOUND);
    assert_eq!(shim.state("life", "").unwrap_err().0, NOT_FOUND);
    shim.events.wait("delete", 1);
    assert_eq!(shim.events.topics(), ["create", "start", "exit", "delete"]);
    let exit = &shim.events.all::<TaskExit>("exit")[0];
    assert_eq!((exit.id.as_str(), exit.pid, exit.exit_status), ("life", pid, 7));

    let stream = shim.client.send("Shutdown", &ShutdownRequest { id: "life".into(), now: false });
    assert!(matches!(shim.client.receive::<Empty>(stream), Some(Ok(_))), "the answer comes before the end");
    wait_for("the shim's end", || (!shim.is_alive()).then_some(()));
    assert!(!shim.socket.exists());
    // The fast path: nothing is left, so no runtime is started, which a runtime that cannot be found proves.
    let begun = Instant::now();
    let output = action(&shim.home, "life", "delete").env("PATH", "/nowhere").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(DeleteResponse::decode(&output.stdout).unwrap().exit_status, 137);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn starting_twice_and_wrong_moments_are_refused() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("wrong", &["/bin/sleep", "100"]);
    shim.run("wrong");
    let again = shim.create_request("wrong");
    assert_eq!(shim.client.call::<Empty>("Create", &again).unwrap_err().0, ALREADY_EXISTS);
    let start = shim.client.call::<Empty>("Start", &process("wrong", "")).unwrap_err();
    assert_eq!(start, (FAILED_PRECONDITION, "cannot start a running process".into()));
    let delete = shim.client.call::<Empty>("Delete", &process("wrong", "")).unwrap_err();
    assert_eq!(delete, (FAILED_PRECONDITION, "cannot delete a running process".into()));
    assert_eq!(shim.state("wrong", "e").unwrap_err(), (NOT_FOUND, "process does not exist e".into()));
    assert_eq!(shim.client.call::<Empty>("Nonsense", &id("wrong")).unwrap_err().0, UNIMPLEMENTED);
    shim.client.service = "some.other.Service";
    assert_eq!(shim.client.call::<Empty>("State", &id("wrong")).unwrap_err().0, UNIMPLEMENTED);
    shim.client.service = "containerd.task.v3.Task";
    assert_eq!(shim.state("wrong", "").unwrap().status, status::RUNNING, "v3 is served, too");
    // Shutdown with a container does nothing.
    shim.client.call::<Empty>("Shutdown", &ShutdownRequest::default()).unwrap();
    assert!(shim.is_alive());
    shim.kill("wrong", "", 9).unwrap();
    assert_eq!(shim.wait("wrong", ""), 137);
    assert_eq!(shim.kill("wrong", "", 9).unwrap_err(), (NOT_FOUND, "process already finished".into()));
}

#[test]
fn a_created_container_can_be_killed_or_deleted() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("created", &["/bin/sleep", "100"]);
    shim.create("created");
    shim.kill("created", "", 9).unwrap();
    assert_eq!(shim.wait("created", ""), 137);
    shim.events.wait("exit", 1);
    shim.client.call::<DeleteResponse>("Delete", &process("created", "")).unwrap();
    write_bundle(&shim.home, "second", &["/bin/sleep", "100"], false, |_| {});
    let pid = shim.create("second");
    assert_eq!(shim.client.call::<DeleteResponse>("Delete", &process("second", "")).unwrap().exit_status, 137);
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
    shim.events.wait("delete", 2);
    assert_eq!(shim.events.topics(), ["create", "exit", "delete", "create", "exit", "delete"]);
}

#[test]
fn a_real_time_signal_is_an_end_like_any_other() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("rt", &["/bin/sleep", "100"]);
    shim.run("rt");
    // SIGRTMIN+3, with which engines ask a container's systemd to end. The init of a pid namespace ignores what it does not
    // handle, so it is an exec that dies of it.
    shim.add_exec("rt", "e", &["/bin/sleep", "50"]).unwrap();
    shim.client.call::<PidResponse>("Start", &process("rt", "e")).unwrap();
    shim.kill("rt", "e", 37).unwrap();
    assert_eq!(shim.wait("rt", "e"), 128 + 37);
    shim.kill("rt", "", 9).unwrap();
    assert_eq!(shim.wait("rt", ""), 137, "nor does it hide the ends that come after it");
}

#[test]
fn a_failed_create_says_why_and_leaves_nothing() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("fail", &["/no/such/program"]);
    let mut request = shim.create_request("fail");
    request.rootfs = vec![Mount {
        kind: "bind".into(),
        source: shim.home.0.join("root").to_string_lossy().into_owned(),
        options: vec!["rbind".into()],
        ..Mount::default()
    }];
    let (_, text) = shim.client.call::<Empty>("Create", &request).unwrap_err();
    assert!(text.starts_with("OCI runtime create failed: ") && text.contains("no such file or directory"), "{text}");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&*shim.bundle("fail").to_string_lossy()), "the root is unmounted");
    request.options = Some(common::runc_options(&shim.home, "no-such-runtime"));
    let (_, text) = shim.client.call::<Empty>("Create", &request).unwrap_err();
    assert!(text.contains("\"no-such-runtime\": executable file not found in $PATH"), "{text}");
    let mut odd = request.clone();
    odd.id = "../x".into();
    assert_eq!(shim.client.call::<Empty>("Create", &odd).unwrap_err().0, 3);
    shim.client.call::<Empty>("Shutdown", &ShutdownRequest::default()).unwrap();
    wait_for("the shim's end", || (!shim.is_alive()).then_some(()));
    assert_eq!(shim.events.topics(), Vec::<String>::new());
}

#[test]
fn execs_end_before_the_init_and_clean_up() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("ex", &["/bin/sleep", "100"]);
    shim.run("ex");
    shim.add_exec("ex", "e1", &["/bin/sh", "-c", "exit 3"]).unwrap();
    assert_eq!(shim.add_exec("ex", "e1", &["/bin/true"]).unwrap_err().0, ALREADY_EXISTS);
    assert_eq!(shim.state("ex", "e1").unwrap().status, status::CREATED);
    assert_eq!(shim.kill("ex", "e1", 9).unwrap_err(), (FAILED_PRECONDITION, "process not created".into()));
    shim.client.call::<PidResponse>("Start", &process("ex", "e1")).unwrap();
    assert_eq!(shim.wait("ex", "e1"), 3);
    assert_eq!(shim.client.call::<DeleteResponse>("Delete", &process("ex", "e1")).unwrap().exit_status, 3);
    assert!(!shim.bundle("ex").join("exec-e1.pid").exists());

    // A name must not touch another file of the bundle, such as init.pid.
    shim.add_exec("ex", "init", &["/bin/true"]).unwrap();
    let init_pid = fs::read(shim.bundle("ex").join("init.pid")).unwrap();
    shim.client.call::<PidResponse>("Start", &process("ex", "init")).unwrap();
    shim.wait("ex", "init");
    shim.client.call::<DeleteResponse>("Delete", &process("ex", "init")).unwrap();
    assert_eq!(fs::read(shim.bundle("ex").join("init.pid")).unwrap(), init_pid);

    shim.add_exec("ex", "bad", &["/no/such"]).unwrap();
    let (_, text) = shim.client.call::<Empty>("Start", &process("ex", "bad")).unwrap_err();
    assert!(text.starts_with("OCI runtime exec failed: "), "{text}");
    assert_eq!(shim.state("ex", "bad").unwrap().status, status::STOPPED);
    shim.wait("ex", "bad");
    shim.client.call::<DeleteResponse>("Delete", &process("ex", "bad")).unwrap();

    shim.add_exec("ex", "long", &["/bin/sleep", "50"]).unwrap();
    let pid = shim.client.call::<PidResponse>("Start", &process("ex", "long")).unwrap().pid;
    let pids: PidsResponse = shim.client.call("Pids", &id("ex")).unwrap();
    let info = pids.processes.iter().find(|p| p.pid == pid).unwrap().info.clone().unwrap();
    assert_eq!(ProcessDetails::decode(&info.value.0).unwrap().exec_id, "long");
    assert_eq!(pids.processes.len(), 2);
    shim.kill("ex", "", 9).unwrap();
    assert_eq!(shim.wait("ex", ""), 137);
    assert_eq!(shim.wait("ex", "long"), 137);
    shim.events.wait("exit", 4);
    let exits: Vec<String> = shim.events.all::<TaskExit>("exit").into_iter().map(|e| e.id).collect();
    assert_eq!(exits, ["e1", "init", "long", "ex"], "the init's exit is the last one");
    shim.add_exec("ex", "late", &["/bin/true"]).unwrap_err();
    shim.client.call::<DeleteResponse>("Delete", &process("ex", "long")).unwrap();
    let added: Vec<String> = shim.events.all::<TaskExec>("exec-added").into_iter().map(|e| e.exec_id).collect();
    assert_eq!(added, ["e1", "init", "bad", "long"]);
}

#[test]
fn streams_reach_the_engine_and_end() {
    if !have(NEEDS) {
        return;
    }
    let script = "cat; echo to-stderr >&2; seq 1 50000; exit 0";
    let mut shim = Shim::start("io", &["/bin/sh", "-c", script]);
    let path = |name: &str| shim.home.0.join(name);
    let (mut out, mut err) = (fifo(&path("out")), fifo(&path("err")));
    drop(fifo(&path("in")));
    let mut request = shim.create_request("io");
    request.stdin = path("in").to_string_lossy().into_owned();
    request.stdout = path("out").to_string_lossy().into_owned();
    request.stderr = format!("fifo://{}", path("err").display());
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    let mut input = fs::OpenOptions::new().write(true).open(shim.home.0.join("in")).unwrap();
    shim.client.call::<PidResponse>("Start", &process("io", "")).unwrap();
    input.write_all(b"through stdin\n").unwrap();
    drop(input);
    let waiting = shim.client.send("Wait", &process("io", ""));
    assert!(!shim.client.is_answered(waiting), "an engine that goes away does not end the input");
    let close = CloseIoRequest { id: "io".into(), stdin: true, ..CloseIoRequest::default() };
    shim.client.call::<Empty>("CloseIO", &close).unwrap();
    let all = String::from_utf8(read_to_end(&mut out)).unwrap();
    let expected: String =
        std::iter::once("through stdin\n".to_owned()).chain((1..=50000).map(|n| format!("{n}\n"))).collect();
    assert_eq!(all, expected);
    assert_eq!(read_to_end(&mut err), b"to-stderr\n");
    assert_eq!(shim.client.receive::<WaitResponse>(waiting).unwrap().unwrap().exit_status, 0);
    shim.client.call::<DeleteResponse>("Delete", &process("io", "")).unwrap();
}

#[test]
fn a_file_and_a_logger_get_the_output() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("log", &["/bin/sh", "-c", "echo one; echo two >&2"]);
    let file = shim.home.0.join("deep/er/log file");
    let mut request = shim.create_request("log");
    request.stdout = format!("file://{}", file.display()).replace(' ', "%20");
    request.stderr.clone_from(&request.stdout);
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("log", "")).unwrap();
    shim.wait("log", "");
    shim.client.call::<DeleteResponse>("Delete", &process("log", "")).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n", "one pipe keeps the order");

    let logger = shim.home.0.join("logger");
    let target = shim.home.0.join("logged");
    // Announces itself by closing descriptor 5, then drains 3; env and arguments are part of the contract.
    let script = format!(
        "#!/bin/sh\nexec 5>&-\necho \"$CONTAINER_ID $CONTAINER_NAMESPACE $*\" > {0}\ncat <&3 >> {0}\n",
        target.display()
    );
    fs::write(&logger, script).unwrap();
    Command::new("chmod").arg("755").arg(&logger).status().unwrap();
    write_bundle(&shim.home, "bin", &["/bin/sh", "-c", "echo straight"], false, |_| {});
    let mut request = shim.create_request("bin");
    request.stdout = format!("binary://{}?key=value", logger.display());
    request.stderr.clone_from(&request.stdout);
    let (_, text) = shim.client.call::<Empty>("Create", &request).unwrap_err();
    assert!(text.contains("permission denied") && text.contains("/loggers"), "who is not listed is not run: {text}");
    assert!(!target.exists());
    fs::write(shim.home.0.join("loggers"), format!("{} key\n", logger.display())).unwrap();
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("bin", "")).unwrap();
    shim.wait("bin", "");
    shim.client.call::<DeleteResponse>("Delete", &process("bin", "")).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "bin test key value\nstraight\n");

    Command::new("chmod").arg("777").arg(&logger).status().unwrap();
    write_bundle(&shim.home, "evil", &["/bin/true"], false, |_| {});
    let evil = CreateRequest { id: "evil".into(), bundle: shim.bundle("evil").to_string_lossy().into(), ..request };
    let (_, text) = shim.client.call::<Empty>("Create", &evil).unwrap_err();
    assert!(text.contains("only root can write"), "{text}");
    let label = CreateRequest { stdout: "binary:///bin/sh?-c=id".into(), ..evil.clone() };
    assert!(shim.client.call::<Empty>("Create", &label).unwrap_err().1.contains("permission denied"));
    let evil = CreateRequest { stdout: "ttrpc+unix:///x".into(), stderr: String::new(), ..evil };
    assert!(shim.client.call::<Empty>("Create", &evil).unwrap_err().1.contains("unknown scheme"));
}

#[test]
fn a_terminal_works_and_is_resized() {
    if !have(NEEDS) {
        return;
    }
    let script = "stty size; read line; echo \"got $line\"; stty size";
    let mut shim = Shim::start_with("tty", &["/bin/sh", "-c", script], true, &common::runtime());
    let path = |name: &str| shim.home.0.join(name);
    let mut out = fifo(&path("out"));
    drop(fifo(&path("in")));
    let mut request = shim.create_request("tty");
    request.terminal = true;
    request.stdin = path("in").to_string_lossy().into_owned();
    request.stdout = path("out").to_string_lossy().into_owned();
    let input_path = path("in");
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    let resize = |width, height| ResizeRequest { id: "tty".into(), width, height, ..ResizeRequest::default() };
    shim.client.call::<Empty>("ResizePty", &resize(101, 31)).unwrap();
    shim.client.call::<PidResponse>("Start", &process("tty", "")).unwrap();
    let mut text = String::new();
    let mut read_until = |out: &mut fs::File, wanted: &str| {
        let seen = |t: &mut String| {
            let mut chunk = [0u8; 512];
            if let Ok(count) = std::io::Read::read(out, &mut chunk) {
                t.push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
            t.contains(wanted).then_some(())
        };
        let mut seen = seen;
        wait_for(wanted, || seen(&mut text));
    };
    read_until(&mut out, "31 101");
    shim.client.call::<Empty>("ResizePty", &resize(80, 24)).unwrap();
    fs::OpenOptions::new().write(true).open(input_path).unwrap().write_all(b"word\n").unwrap();
    read_until(&mut out, "got word");
    read_until(&mut out, "24 80");
    assert_eq!(shim.wait("tty", ""), 0);
    shim.client.call::<DeleteResponse>("Delete", &process("tty", "")).unwrap();
    let console = format!("c{}-", shim.pid);
    let mut names = fs::read_dir(&shim.home.0).unwrap().flatten().map(|entry| entry.file_name());
    assert!(!names.any(|name| name.to_string_lossy().starts_with(&console)), "the terminal's socket is gone");
}

#[test]
fn pause_update_stats_and_kill_all() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("ctl", &["/bin/sh", "-c", "sleep 100 & sleep 100"]);
    shim.run("ctl");
    shim.client.call::<Empty>("Pause", &id("ctl")).unwrap();
    assert_eq!(shim.state("ctl", "").unwrap().status, status::PAUSED);
    assert_eq!(shim.add_exec("ctl", "e", &["/bin/true"]).unwrap_err().0, FAILED_PRECONDITION);
    shim.client.call::<Empty>("Resume", &id("ctl")).unwrap();
    assert_eq!(shim.state("ctl", "").unwrap().status, status::RUNNING);
    let resources = json!({"memory": {"limit": 64 << 20}}).to_string().into_bytes();
    let any = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: Bytes(resources),
    };
    shim.client
        .call::<Empty>("Update", &UpdateRequest { id: "ctl".into(), resources: Some(any), ..UpdateRequest::default() })
        .unwrap();
    let stats = shim.client.call::<StatsResponse>("Stats", &id("ctl")).unwrap().stats.unwrap();
    let limit = match stats.type_url.as_str() {
        "io.containerd.cgroups.v1.Metrics" => {
            let metrics = containerd_shim_tare::stats::v1::Metrics::decode(&stats.value.0).unwrap();
            assert!(metrics.cpu.unwrap().usage.unwrap().total > 0 && metrics.pids.unwrap().current >= 2);
            metrics.memory.unwrap().usage.unwrap().limit
        }
        "io.containerd.cgroups.v2.Metrics" => {
            let metrics = containerd_shim_tare::stats::v2::Metrics::decode(&stats.value.0).unwrap();
            assert!(metrics.cpu.unwrap().usage_usec > 0);
            metrics.memory.unwrap().usage_limit
        }
        other => panic!("{other}"),
    };
    assert_eq!(limit, 64 << 20);
    shim.client.call::<Empty>("Pause", &id("ctl")).unwrap();
    let all = KillRequest { id: "ctl".into(), signal: 9, all: true, ..KillRequest::default() };
    shim.client.call::<Empty>("Kill", &all).unwrap();
    shim.client.call::<Empty>("Resume", &id("ctl")).ok();
    assert_eq!(shim.wait("ctl", ""), 137);
    let pids: PidsResponse = shim.client.call("Pids", &id("ctl")).unwrap();
    assert_eq!(pids.processes.len(), 1, "an undeleted container is no leak");
    shim.client.call::<DeleteResponse>("Delete", &process("ctl", "")).unwrap();
    assert_eq!(shim.client.call::<Empty>("Stats", &id("ctl")).unwrap_err().0, NOT_FOUND);
}

#[test]
fn out_of_memory_is_told_before_the_exit() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("oom", &["/bin/true"]);
    let eater = ["/bin/sh", "-c", "x=a; while true; do x=$x$x; done"];
    write_bundle(&shim.home, "oom", &eater, false, |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20}});
    });
    shim.run("oom");
    assert_eq!(shim.wait("oom", ""), 137);
    shim.events.wait("exit", 1);
    let topics = shim.events.topics();
    let place = |topic: &str| topics.iter().position(|t| t == topic);
    assert!(place("oom").is_some() && place("oom") < place("exit"), "{topics:?}");
}

#[test]
fn a_shared_pid_namespace_is_emptied_before_the_exit_is_told() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("shared", &["/bin/true"]);
    write_bundle(&shim.home, "shared", &["/bin/sh", "-c", "sleep 1000 & echo $!; exit 5"], false, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "pid");
    });
    let log = shim.home.0.join("pid");
    let mut request = shim.create_request("shared");
    request.stdout = format!("file://{}", log.display());
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("shared", "")).unwrap();
    assert_eq!(shim.wait("shared", ""), 5);
    let pid = wait_for("the pid", || fs::read_to_string(&log).ok().filter(|t| t.ends_with('\n')));
    wait_for("the grandchild's end", || (!PathBuf::from(format!("/proc/{}", pid.trim())).exists()).then_some(()));
    shim.client.call::<DeleteResponse>("Delete", &process("shared", "")).unwrap();
}

#[test]
fn the_inits_exit_is_told_after_that_of_an_exec_which_lives_on() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("last", &["/bin/true"]);
    write_bundle(&shim.home, "last", &["/bin/sleep", "100"], false, |config| {
        // Without a pid namespace of its own nothing dies with the init.
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    // A runtime that is slow to kill what is left.
    let real = common::which(&common::runtime()).unwrap();
    let text = format!(
        "#!/bin/sh\ncase $* in *kill*--all*) (sleep 0.5; exec {0} \"$@\") >/dev/null 2>&1 & exit 0;; esac\nexec {0} \"$@\"\n",
        real.display()
    );
    let slow = common::script(&shim.home.0.join("slow"), &text);
    let request =
        CreateRequest { options: Some(common::runc_options(&shim.home, &slow)), ..shim.create_request("last") };
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("last", "")).unwrap();
    shim.add_exec("last", "e", &["/bin/sleep", "100"]).unwrap();
    shim.client.call::<PidResponse>("Start", &process("last", "e")).unwrap();
    shim.kill("last", "", 9).unwrap();
    assert_eq!(shim.wait("last", ""), 137);
    shim.events.wait("exit", 2);
    let exits: Vec<String> = shim.events.all::<TaskExit>("exit").into_iter().map(|e| e.id).collect();
    assert_eq!(exits, ["e", "last"]);
}

#[test]
fn a_killed_shim_leaves_nothing_after_delete() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("dead", &["/bin/sleep", "100"]);
    let mut request = shim.create_request("dead");
    request.rootfs = vec![Mount {
        kind: "bind".into(),
        source: shim.home.0.join("root").to_string_lossy().into_owned(),
        options: vec!["rbind".into()],
        ..Mount::default()
    }];
    let pid = shim.client.call::<PidResponse>("Create", &request).unwrap().pid;
    shim.client.call::<PidResponse>("Start", &process("dead", "")).unwrap();
    Command::new("kill").args(["-KILL", &shim.pid.to_string()]).status().unwrap();
    wait_for("the shim's end", || (!shim.is_alive()).then_some(()));
    assert!(PathBuf::from(format!("/proc/{pid}")).exists(), "containers outlive their shim");
    let output = action(&shim.home, "dead", "delete").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(DeleteResponse::decode(&output.stdout).unwrap().pid, pid);
    wait_for("the container's end", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |s| s.contains(") Z ")).then_some(())
    });
    assert!(!shim.socket.exists());
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(&*shim.bundle("dead").to_string_lossy()));
    let state = shim.home.0.join("runtime/test/dead");
    assert!(!state.exists(), "the runtime's state is gone");
    assert!(action(&shim.home, "dead", "delete").output().unwrap().status.success(), "a second time is no error");
}

#[test]
fn a_shim_whose_starter_is_killed_before_its_answer_ends() {
    if !have(NEEDS) {
        return;
    }
    let home = Home::new();
    make_rootfs(&home.0.join("root"));
    write_bundle(&home, "early", &["/bin/true"], false, |_| {});
    // An output that takes nothing: the starter has made its shim and waits to print the address.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    fs::File::from(writer.try_clone().unwrap()).write_all(&[0; 1 << 16]).unwrap();
    let mut start = action(&home, "early", "start").stdout(std::process::Stdio::from(writer)).spawn().unwrap();
    drop(start.stdin.take());
    let address = home.0.join("state/early/address");
    let noted = wait_for("the address", || fs::read_to_string(&address).ok().filter(|text| !text.is_empty()));
    let socket = PathBuf::from(noted.strip_prefix("unix://").unwrap());
    Client::connect(&socket).call::<ConnectResponse>("Connect", &id("early")).unwrap();
    start.kill().unwrap();
    start.wait().unwrap();
    let mark = format!("{}/", home.0.display());
    wait_for("the shim's end", || common::processes_with(&mark).is_empty().then_some(()));
    assert!(!socket.exists());
    drop(reader);
}

#[test]
fn two_deletes_at_once_do_not_disturb_each_other() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("two", &["/bin/sleep", "100"]);
    let (log, real) = (shim.home.0.join("lines"), common::which(&common::runtime()).unwrap());
    // Slow enough that the second one surely meets the first one's.
    let slow = format!(
        "#!/bin/sh\ncase $* in *delete*) echo \"$@\" >>{}; sleep 0.5;; esac\nexec {} \"$@\"\n",
        log.display(),
        real.display()
    );
    let slow = common::script(&shim.home.0.join("slow"), &slow);
    let request =
        CreateRequest { options: Some(common::runc_options(&shim.home, &slow)), ..shim.create_request("two") };
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("two", "")).unwrap();
    // What tells a socket that is served from one that somebody still holds open.
    let stream = std::os::unix::net::UnixStream::connect(&shim.socket).unwrap();
    assert_eq!(
        containerd_shim_tare::sys::peer_pid(&stream).unwrap(),
        shim.pid,
        "the socket is the shim's, not the starter's"
    );
    common::signal(shim.pid, "-KILL");
    wait_for("the shim's end", || (!shim.is_alive()).then_some(()));
    let deletes: Vec<_> = (0..3).map(|_| action(&shim.home, "two", "delete").spawn().unwrap()).collect();
    for delete in deletes {
        let output = delete.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 1, "the others find nothing left to do");
    assert!(!shim.home.0.join("runtime/test/two").exists());
}

#[test]
fn a_pod_shares_one_shim() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("pod", &["/bin/sleep", "100"]);
    write_bundle(&shim.home, "member", &["/bin/sleep", "100"], false, |config| {
        config["annotations"] = json!({"io.kubernetes.cri.sandbox-id": "pod"});
    });
    let answer = start_action(&shim.home, "member", &common::runtime(), true);
    let address = fs::read_to_string(shim.bundle("member").join("address")).unwrap();
    assert_eq!(address, format!("unix://{}", shim.socket.display()), "{answer:?}");
    shim.run("pod");
    shim.run("member");
    shim.kill("pod", "", 9).unwrap();
    shim.wait("pod", "");
    shim.client.call::<DeleteResponse>("Delete", &process("pod", "")).unwrap();
    shim.client.call::<Empty>("Shutdown", &ShutdownRequest::default()).unwrap();
    assert_eq!(shim.state("member", "").unwrap().status, status::RUNNING, "the pod lives as long as a member");
}

#[test]
fn old_engines_get_text_and_a_dead_socket_is_taken_over() {
    if !have(NEEDS) {
        return;
    }
    let home = Home::new();
    let _events = Events::serve(&home.0.join("events"));
    make_rootfs(&home.0.join("root"));
    write_bundle(&home, "old", &["/bin/sleep", "100"], false, |_| {});
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let answer = start_action(&home, "old", &common::runtime(), false);
        let address = String::from_utf8(answer.stdout).unwrap();
        assert!(address.starts_with("unix:///run/containerd/s/"), "{address:?} {:?}", answer.stderr);
        let socket = PathBuf::from(address.strip_prefix("unix://").unwrap());
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let pid = Client::connect(&socket)
            .call::<containerd_shim_tare::api::ConnectResponse>("Connect", &id("old"))
            .unwrap()
            .shim_pid;
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        wait_for("the end", || std::os::unix::net::UnixStream::connect(&socket).err());
        addresses.push(socket);
    }
    assert_eq!(addresses[0], addresses[1]);
    assert!(action(&home, "old", "delete").output().unwrap().status.success());
    assert!(!addresses[0].exists(), "delete removes a dead socket");
}

#[test]
fn broken_requests_do_not_break_the_shim() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("broken", &["/bin/sleep", "100"]);
    let mut other = Client::connect(&shim.socket);
    let stream = other.send_raw("Create", vec![0xff, 0xff, 0xff], 0);
    assert_eq!(other.receive::<Empty>(stream).unwrap().unwrap_err().0, 3);
    let mut head = frame(7, REQUEST, b"");
    head[..4].copy_from_slice(&(5u32 << 20).to_be_bytes());
    other.write(&head);
    other.write(&vec![0; 5 << 20]);
    assert_eq!(other.receive::<Empty>(7).unwrap().unwrap_err().0, 8, "too large a message is refused");
    assert_eq!(other.call::<Empty>("State", &id("x")).unwrap_err().0, NOT_FOUND, "and the connection goes on");
    other.write(&frame(2, REQUEST, b""));
    assert_eq!(other.receive::<Empty>(2).unwrap().unwrap_err().0, 3);
    shim.run("broken");
    let stream = shim.client.send_raw("Wait", process("broken", "").encode(), 50_000_000);
    assert_eq!(shim.client.receive::<Empty>(stream).unwrap().unwrap_err().0, 4, "a deadline is honoured");
}

#[test]
fn events_wait_for_an_engine_that_is_away() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("away", &["/bin/true"]);
    let address = shim.home.0.join("events");
    fs::remove_file(&address).unwrap();
    // Nobody listens any more; the old server thread keeps what it has accepted.
    shim.run("away");
    assert_eq!(shim.wait("away", ""), 0);
    // Long enough that the shim's own tries are seconds apart: the next one comes nine seconds after the first.
    std::thread::sleep(Duration::from_millis(6200));
    let events = Events::serve(&address);
    let begun = Instant::now();
    drop(Client::connect(&shim.socket));
    events.wait("exit", 1);
    assert!(begun.elapsed() < Duration::from_millis(1500), "a sign of life is a try at once: {:?}", begun.elapsed());
    assert_eq!(events.topics(), ["create", "start", "exit"]);
}

#[test]
fn an_idle_shim_stays_small_and_asleep() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("idle", &["/bin/sleep", "1000"]);
    shim.run("idle");
    let exec = |shim: &mut Shim, n: usize| {
        let name = format!("e{n}");
        let request = exec_request("idle", &name, &["/bin/true"]);
        shim.client.call::<Empty>("Exec", &request).unwrap();
        shim.client.call::<PidResponse>("Start", &process("idle", &name)).unwrap();
        shim.wait("idle", &name);
        shim.client.call::<DeleteResponse>("Delete", &process("idle", &name)).unwrap();
    };
    // The allocator keeps up to seven freed blocks of each size at hand: the first execs fill that, later ones add nothing.
    (0..60).for_each(|n| exec(&mut shim, n));
    std::thread::sleep(Duration::from_millis(2500));
    let (descriptors, memory) = (shim.descriptors(), shim.field("RssAnon"));
    (60..120).for_each(|n| exec(&mut shim, n));
    // The events connection is closed two seconds after the last event.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(shim.field("Threads"), 1);
    assert_eq!(shim.descriptors(), descriptors, "no descriptor is left behind by 100 execs");
    // Six more would come with three fifos.
    assert!(descriptors <= 6, "{descriptors} descriptors");
    assert!(
        shim.field("RssAnon") <= memory + 16 && shim.field("RssAnon") < 350,
        "{} kB after {memory} kB",
        shim.field("RssAnon")
    );
    let before = shim.switches();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(shim.switches(), before, "an idle shim sleeps");
}

#[test]
fn engines_that_come_and_go_leave_nothing() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("gone", &["/bin/sleep", "1000"]);
    shim.run("gone");
    let visit = |shim: &Shim| {
        let mut client = Client::connect(&shim.socket);
        (0..200).for_each(|_| {
            client.send("Wait", &process("gone", ""));
        });
        client.call::<Empty>("State", &process("gone", "")).unwrap();
    };
    (0..5).for_each(|_| visit(&shim));
    let (memory, descriptors) = (shim.field("RssAnon"), shim.descriptors());
    (0..50).for_each(|_| visit(&shim));
    wait_for("the connections' end", || (shim.descriptors() <= descriptors).then_some(()));
    assert!(shim.field("RssAnon") <= memory + 60, "{} kB after {memory} kB", shim.field("RssAnon"));
    shim.kill("gone", "", 9).unwrap();
    assert_eq!(shim.wait("gone", ""), 137);
}

#[test]
fn id_mapped_layers_belong_to_the_containers_users() {
    use std::os::unix::fs::MetadataExt;
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("map", &["/bin/sleep", "100"]);
    write_bundle(&shim.home, "map", &["/bin/sleep", "100"], false, |config| {
        config["root"]["path"] = json!("rootfs");
    });
    let path = |name: &str| shim.home.0.join(name).to_string_lossy().into_owned();
    for name in ["upper", "work"] {
        fs::create_dir(path(name)).unwrap();
    }
    let maps = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
    let layers = [
        format!("lowerdir={}", path("root")),
        format!("upperdir={}", path("upper")),
        format!("workdir={}", path("work")),
    ];
    let overlay = maps.iter().map(|o| (*o).to_owned()).chain(layers).collect();
    let bind = maps.iter().map(|o| (*o).to_owned()).chain(["rbind".to_owned(), "ro".to_owned()]).collect();
    for (kind, options) in [("overlay", overlay), ("bind", bind)] {
        let mut request = shim.create_request("map");
        request.rootfs = vec![Mount { kind: kind.into(), source: path("root"), options, ..Mount::default() }];
        shim.client.call::<PidResponse>("Create", &request).unwrap();
        let owner = fs::metadata(shim.bundle("map").join("rootfs/bin/busybox")).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (100_000, 200_000), "{kind}");
        assert!(!shim.bundle("map").join("lower-0").exists());
        shim.client.call::<DeleteResponse>("Delete", &process("map", "")).unwrap();
    }
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(&*shim.bundle("map").to_string_lossy()));
}

#[test]
fn a_serving_shim_is_confined_and_its_runtime_is_not() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("caps", &["/bin/true"]);
    let number = |status: &str, name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let (own, outside) = (status(&shim.pid.to_string()), status("self"));
    // DESIGN.md says why each of the six is kept.
    let kept = [0, 1, 5, 6, 7, 21].iter().fold(0u64, |all, bit| all | 1 << bit);
    assert_eq!(number(&own, "CapPrm"), kept & number(&outside, "CapPrm"));
    assert_eq!(number(&own, "CapEff"), number(&own, "CapPrm"));
    for empty in ["CapInh", "CapAmb"] {
        assert_eq!(number(&own, empty), 0, "{empty}");
    }
    // What would pass to the runtime and to every container is left as it was.
    let stays = ["CapBnd", "NoNewPrivs", "Seccomp"];
    for same in stays {
        assert_eq!(number(&own, same), number(&outside, same), "{same}");
    }
    assert_eq!(number(&own, "Threads"), 1);
    let target = |n: &str| fs::read_link(format!("/proc/{}/fd/{n}", shim.pid)).unwrap_or_default();
    let open: Vec<PathBuf> = (0..20).map(|n| target(&n.to_string())).collect();
    let engines = open.iter().filter(|path| path.to_string_lossy().starts_with("pipe:")).count();
    assert_eq!(engines, 0, "no pipe of the engine's is held: {open:?}");

    let (seen, real) = (shim.home.0.join("seen"), common::which(&common::runtime()).unwrap());
    let text = format!("#!/bin/sh\ncat /proc/self/status >{}\nexec {} \"$@\"\n", seen.display(), real.display());
    let looks = common::script(&shim.home.0.join("looks"), &text);
    let request =
        CreateRequest { options: Some(common::runc_options(&shim.home, &looks)), ..shim.create_request("caps") };
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    let runtime = fs::read_to_string(seen).unwrap();
    for same in ["CapPrm", "CapEff"].iter().chain(&stays) {
        assert_eq!(number(&runtime, same), number(&outside, same), "{same} of the runtime");
    }
}

#[test]
fn a_shim_goes_where_it_is_told() {
    if !have(NEEDS) {
        return;
    }
    let home = Home::new();
    make_rootfs(&home.0.join("root"));
    write_bundle(&home, "cg", &["/bin/true"], false, |_| {});
    let group = format!("/{}", home.name());
    let options = RuncOptions { shim_cgroup: group.clone(), binary_name: common::runtime(), ..RuncOptions::default() };
    let answer = common::start_with_options(&home, "cg", Any::of("containerd.runc.v1.Options", &options), true);
    let result = BootstrapResult::decode(&answer.stdout).unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let mut client = Client::connect(&PathBuf::from(result.address.strip_prefix("unix://").unwrap()));
    let pid = client.call::<ConnectResponse>("Connect", &id("cg")).unwrap().shim_pid;
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let cgroups = read("cgroup");
    assert!(cgroups.lines().filter(|l| l.ends_with(&group)).count() >= 1, "{cgroups}");
    let engine: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    assert_eq!(read("oom_score_adj").trim(), (engine + 1).min(1000).to_string());
    let stat = read("stat");
    let group_leader = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group_leader, pid.to_string(), "a process group of its own");
    client.call::<Empty>("Shutdown", &ShutdownRequest::default()).unwrap();
    wait_for("the end", || (!PathBuf::from(format!("/proc/{pid}")).exists()).then_some(()));
    common::remove_cgroups(&home.name());
}

#[test]
fn short_processes_are_never_lost() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("race", &["/bin/sleep", "1000"]);
    shim.run("race");
    for n in 0..40 {
        shim.add_exec("race", &format!("e{n}"), &["/bin/sh", "-c", &format!("exit {n}")]).unwrap();
    }
    let streams: Vec<u32> = (0..40).map(|n| shim.client.send("Start", &process("race", &format!("e{n}")))).collect();
    for stream in streams {
        shim.client.receive::<PidResponse>(stream).unwrap().unwrap();
    }
    for n in 0..40 {
        assert_eq!(shim.wait("race", &format!("e{n}")), n);
    }
    shim.events.wait("exit", 40);
    let exits = shim.events.all::<TaskExit>("exit");
    let mut codes: Vec<u32> = exits.iter().map(|e| e.exit_status).collect();
    codes.sort_unstable();
    assert_eq!(codes, (0..40).collect::<Vec<u32>>());
    // Each exit comes after its own start, and only once.
    let topics = shim.events.topics();
    assert_eq!(topics.iter().filter(|t| *t == "exec-started").count(), 40);
}

#[test]
fn a_background_child_with_the_pipe_does_not_delay_delete() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("bg", &["/bin/sleep", "1000"]);
    shim.run("bg");
    let mut out = fifo(&shim.home.0.join("out"));
    let mut request = exec_request("bg", "e", &["/bin/sh", "-c", "echo said; sleep 900 &"]);
    request.stdout = shim.home.0.join("out").to_string_lossy().into_owned();
    shim.client.call::<Empty>("Exec", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("bg", "e")).unwrap();
    shim.wait("bg", "e");
    let begun = Instant::now();
    shim.client.call::<DeleteResponse>("Delete", &process("bg", "e")).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(read_to_end(&mut out), b"said\n");
}

#[test]
fn info_describes_the_runtime() {
    if !have(NEEDS) {
        return;
    }
    let home = Home::new();
    let options = common::runc_options(&home, &common::runtime());
    let mut child = Command::new(common::shim_binary())
        .arg("-info")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&options.encode()).unwrap();
    let output = child.wait_with_output().unwrap();
    let info = RuntimeInfo::decode(&output.stdout).unwrap();
    assert_eq!((info.name.as_str(), info.options), ("io.containerd.tare.v2", Some(options)));
    // crun before 1.9 has no such command, which is no error.
    let asked = Command::new(common::runtime()).arg("features").output().unwrap();
    assert_eq!(info.features.is_some(), asked.status.success());
    if let Some(features) = info.features {
        assert!(features.type_url.ends_with("/Features"));
        assert!(serde_json::from_slice::<serde_json::Value>(&features.value.0).unwrap().is_object());
    }
    let absent = Command::new(common::shim_binary()).arg("-info").env("PATH", "/nowhere").output().unwrap();
    assert!(String::from_utf8_lossy(&absent.stderr).contains("\"tare\": executable file not found"));
}
