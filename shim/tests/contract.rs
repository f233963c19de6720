//! What engines rely on and the other chapters do not reach: who may speak, what is answered while the runtime is slow, wrong
//! moments, owners of pipes, loggers of the second kind, and actions in another member's bundle.

// Helpers outside of a #[test] are test code as well, where an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Client, Shim, has_ended, have, process, script, wait_for, which, write_bundle};
use containerd_shim_tare::api::{
    Any, CloseIoRequest, ConnectResponse, CreateRequest, DeleteResponse, Empty, ExecRequest, IdRequest, PidResponse,
    ProcessRequest, ResizeRequest, RuncOptions, ShutdownRequest, StatsResponse, TaskOnly, UpdateRequest, WaitResponse,
    status,
};
use containerd_shim_tare::wire::{Bytes, Message};
use serde_json::json;

const NEEDS: &[&str] = &["busybox"];
/// One that every user may execute, whatever PATH leads to.
const PYTHON: &str = "/usr/bin/python3";
const FAILED_PRECONDITION: i32 = 9;

fn id(id: &str) -> IdRequest {
    IdRequest { id: id.into() }
}

#[test]
fn another_user_is_not_heard() {
    if !have(&["busybox", "python3", "setpriv"]) || !Path::new(PYTHON).exists() {
        return;
    }
    let shim = Shim::start("peer", &["/bin/true"]);
    assert_eq!(
        fs::metadata(shim.socket.parent().unwrap()).unwrap().mode() & 0o022,
        0,
        "nobody else can put a socket there"
    );
    // What guards the socket besides the answer: taken away, so that the answer is seen.
    fs::set_permissions(&shim.socket, fs::Permissions::from_mode(0o666)).unwrap();
    let speak = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.settimeout(0.5)\n\
                 try: print('closed' if s.recv(1) == b'' else 'spoken to')\n\
                 except ConnectionResetError: print('closed')\nexcept TimeoutError: print('open')";
    let as_user = |user: &str| {
        let words = ["--reuid", user, "--clear-groups", PYTHON, "-c", speak];
        let output = Command::new("setpriv").args(words).arg(&shim.socket).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(as_user("65534"), "closed");
    assert_eq!(as_user("0"), "open");
}

#[test]
fn a_signal_ends_the_shim_and_delete_the_container() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("term", &["/bin/sleep", "100"]);
    let pid = shim.run("term");
    common::signal(shim.pid, "-TERM");
    wait_for("the shim's end", || (!shim.is_alive()).then_some(()));
    assert!(!shim.socket.exists(), "a start that comes now makes a shim of its own");
    assert!(!has_ended(pid), "the container is the engine's to end");
    let output = common::action(&shim.home, "term", "delete").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(DeleteResponse::decode(&output.stdout).unwrap().pid, pid);
    wait_for("the container's end", || has_ended(pid).then_some(()));
}

/// A runtime that waits in `verb` for as long as the file `hold` is there, and says so by the file `held`.
fn slow_runtime(shim: &Shim, verb: &str) -> (CreateRequest, PathBuf, PathBuf) {
    let (hold, held) = (shim.home.0.join("hold"), shim.home.0.join("held"));
    fs::write(&hold, "").unwrap();
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" {verb} \"*) : >{}; while [ -e {} ]; do sleep 0.02; done;; esac\nexec {} \"$@\"\n",
        held.display(),
        hold.display(),
        which(&common::runtime()).unwrap().display()
    );
    let slow = script(&shim.home.0.join(format!("slow-{verb}")), &text);
    let options = Some(common::runc_options(&shim.home, &slow));
    (CreateRequest { options, ..shim.create_request("slow") }, hold, held)
}

#[test]
fn a_state_is_told_while_the_runtime_is_slow() {
    if !have(NEEDS) {
        return;
    }
    for (verb, call, told) in [
        ("start", "Start", status::CREATED),
        ("pause", "Pause", status::PAUSING),
        ("delete", "Delete", status::STOPPED),
    ] {
        let mut shim = Shim::start("slow", &["/bin/sleep", "100"]);
        let (request, hold, held) = slow_runtime(&shim, verb);
        shim.client.call::<PidResponse>("Create", &request).unwrap();
        if verb != "start" {
            shim.client.call::<PidResponse>("Start", &process("slow", "")).unwrap();
        }
        if verb == "delete" {
            shim.kill("slow", "", 9).unwrap();
            shim.wait("slow", "");
        }
        let stream = shim.client.send(call, &process("slow", ""));
        wait_for("the runtime", || held.exists().then_some(()));
        assert_eq!(shim.state("slow", "").unwrap().status, told, "{call}");
        let mut other = Client::connect(&shim.socket);
        let connected: ConnectResponse = other.call("Connect", &id("slow")).unwrap();
        assert_eq!(connected.shim_pid, shim.pid, "nor is another connection held up");
        fs::remove_file(hold).unwrap();
        shim.client.receive::<Empty>(stream).unwrap().unwrap();
    }
}

#[test]
fn an_exec_shows_that_its_container_is_paused() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("frozen", &["/bin/sleep", "100"]);
    shim.run("frozen");
    shim.add_exec("frozen", "e", &["/bin/sleep", "100"]).unwrap();
    shim.client.call::<PidResponse>("Start", &process("frozen", "e")).unwrap();
    shim.client.call::<Empty>("Pause", &id("frozen")).unwrap();
    assert_eq!(shim.state("frozen", "e").unwrap().status, status::PAUSED);
    let resources = json!({"memory": {"limit": 48 << 20}}).to_string().into_bytes();
    let any = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: Bytes(resources),
    };
    let update = UpdateRequest { id: "frozen".into(), resources: Some(any), ..UpdateRequest::default() };
    shim.client.call::<Empty>("Update", &update).unwrap();
    assert!(shim.client.call::<StatsResponse>("Stats", &id("frozen")).unwrap().stats.is_some());
    assert_eq!(shim.state("frozen", "").unwrap().status, status::PAUSED, "an update thaws nothing");
    shim.client.call::<Empty>("Resume", &id("frozen")).unwrap();
    assert_eq!(shim.state("frozen", "e").unwrap().status, status::RUNNING);
    shim.events.wait("resumed", 1);
    for topic in ["paused", "resumed"] {
        assert_eq!(shim.events.all::<TaskOnly>(topic)[0].container_id, "frozen", "{topic}");
    }
    shim.kill("frozen", "", 9).unwrap();
    shim.wait("frozen", "");
    for method in ["Pause", "Resume"] {
        assert_eq!(shim.client.call::<Empty>(method, &id("frozen")).unwrap_err().0, FAILED_PRECONDITION, "{method}");
    }
    assert_eq!(shim.client.call::<Empty>("Update", &update).unwrap_err().0, FAILED_PRECONDITION);
}

#[test]
fn an_exec_that_comes_after_the_init_is_refused_and_can_be_deleted() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("over", &["/bin/sleep", "100"]);
    shim.run("over");
    shim.add_exec("over", "late", &["/bin/true"]).unwrap();
    shim.kill("over", "", 9).unwrap();
    shim.wait("over", "");
    let refused = shim.client.call::<PidResponse>("Start", &process("over", "late")).unwrap_err();
    assert_eq!(refused, (FAILED_PRECONDITION, "container over init process is not running".into()));
    shim.client.call::<DeleteResponse>("Delete", &process("over", "late")).unwrap();
    // The init of another container of this name begins anew.
    shim.client.call::<DeleteResponse>("Delete", &process("over", "")).unwrap();
    shim.run("over");
    shim.add_exec("over", "late", &["/bin/true"]).unwrap();
    shim.client.call::<PidResponse>("Start", &process("over", "late")).unwrap();
    assert_eq!(shim.wait("over", "late"), 0);
}

/// A runtime that first does `look`, shell code, at each of its commands.
fn looking_runtime(shim: &Shim, look: &str) -> Any {
    let real = which(&common::runtime()).unwrap();
    let text = format!("#!/bin/sh\n{look}\nexec {} \"$@\"\n", real.display());
    common::runc_options(&shim.home, &script(&shim.home.0.join("looks"), &text))
}

#[test]
fn an_exec_is_resized_before_it_starts_and_what_has_no_terminal_not_at_all() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("size", &["/bin/sleep", "100"]);
    let seen = shim.home.0.join("seen");
    let look = format!("for a; do [ \"$last\" != --process ] || cp \"$a\" {}; last=$a; done", seen.display());
    let create = CreateRequest { options: Some(looking_runtime(&shim, &look)), ..shim.create_request("size") };
    shim.client.call::<PidResponse>("Create", &create).unwrap();
    shim.client.call::<PidResponse>("Start", &process("size", "")).unwrap();
    let request = ExecRequest { terminal: true, ..common::exec_request("size", "e", &["/bin/true"]) };
    shim.client.call::<Empty>("Exec", &request).unwrap();
    let resize = |exec_id: &str| ResizeRequest { id: "size".into(), exec_id: exec_id.into(), width: 99, height: 33 };
    shim.client.call::<Empty>("ResizePty", &resize("e")).unwrap();
    shim.client.call::<Empty>("ResizePty", &resize("")).unwrap();
    shim.client.call::<PidResponse>("Start", &process("size", "e")).unwrap();
    assert_eq!(shim.wait("size", "e"), 0);
    let told: serde_json::Value = serde_json::from_slice(&fs::read(seen).unwrap()).unwrap();
    assert_eq!(told["consoleSize"], json!({"height": 33, "width": 99}), "the program finds it from its first look on");
}

/// A client whose input is short closes it while the exec's start is still under way.
#[test]
fn an_input_that_is_closed_before_the_start_ends() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("early", &["/bin/sleep", "100"]);
    shim.run("early");
    let (stdin, out) = (shim.home.0.join("in"), shim.home.0.join("out"));
    drop(common::fifo(&stdin));
    let request = ExecRequest {
        stdin: stdin.to_string_lossy().into_owned(),
        stdout: format!("file://{}", out.display()),
        ..common::exec_request("early", "e", &["/bin/cat"])
    };
    shim.client.call::<Empty>("Exec", &request).unwrap();
    let close = CloseIoRequest { id: "early".into(), exec_id: "e".into(), stdin: true };
    shim.client.call::<Empty>("CloseIO", &close).unwrap();
    shim.client.call::<PidResponse>("Start", &process("early", "e")).unwrap();
    assert_eq!(shim.wait("early", "e"), 0);
}

#[test]
fn pipes_belong_to_whom_the_options_name() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("owner", &["/bin/sleep", "100"]);
    // A runtime may give them to the container's user afterwards.
    let seen = shim.home.0.join("seen");
    let look = format!(
        "case \" $* \" in *\" create \"*) owner=$(stat -L -c '%u %g' /proc/$$/fd/1); echo \"$owner\" >{};; esac",
        seen.display()
    );
    let looks = RuncOptions::decode(&looking_runtime(&shim, &look).value.0).unwrap();
    let mut request = shim.create_request("owner");
    let options = RuncOptions { io_uid: 1234, io_gid: 1235, ..looks };
    request.options = Some(Any::of("containerd.runc.v1.Options", &options));
    request.stdout = shim.home.0.join("out").to_string_lossy().into_owned();
    let _reader = common::fifo(Path::new(&request.stdout));
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    assert_eq!(fs::read_to_string(seen).unwrap(), "1234 1235\n");
}

#[test]
fn a_logger_of_the_second_kind_is_ready_by_its_word() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("v2", &["/bin/echo", "straight"]);
    let target = shim.home.0.join("logged");
    let logger = |word: &str| format!("#!/bin/sh\n{word}\nexec 5>&-\ncat <&3 >>{}\n", target.display());
    let path = script(&shim.home.0.join("logger"), &logger(":"));
    fs::write(shim.home.0.join("loggers"), format!("{path}\n")).unwrap();
    let mut request = shim.create_request("v2");
    request.stdout = format!("binary-v2://{path}");
    let (_, text) = shim.client.call::<Empty>("Create", &request).unwrap_err();
    assert!(text.contains("closed descriptor 5 without a byte"), "an end without a word is no readiness: {text}");
    script(Path::new(&path), &logger("printf . >&5"));
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("v2", "")).unwrap();
    shim.wait("v2", "");
    shim.client.call::<DeleteResponse>("Delete", &process("v2", "")).unwrap();
    assert_eq!(fs::read_to_string(target).unwrap(), "straight\n");
}

/// Without `-bundle`, the one that is meant lies beside the one that the engine stands in.
#[test]
fn delete_in_another_members_bundle_ends_the_one_that_is_named() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("one", &["/bin/sleep", "100"]);
    write_bundle(&shim.home, "two", &["/bin/sleep", "100"], false, |_| {});
    let (one, two) = (shim.run("one"), shim.run("two"));
    common::signal(shim.pid, "-KILL");
    wait_for("the shim's end", || (!shim.is_alive()).then_some(()));
    let output = common::action(&shim.home, "two", "delete").current_dir(shim.bundle("one")).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(DeleteResponse::decode(&output.stdout).unwrap().pid, two);
    wait_for("its end", || has_ended(two).then_some(()));
    assert!(!has_ended(one));
    let bundle = shim.bundle("one");
    let mut with_bundle = common::action(&shim.home, "one", "delete");
    // A clean second argument list: the flags come before the verb.
    with_bundle.args(["-bundle", &bundle.to_string_lossy()]).current_dir("/");
    let output = with_bundle.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    wait_for("its end, too", || has_ended(one).then_some(()));
}

#[test]
fn many_wait_and_a_later_connection_learns_the_same() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("many", &["/bin/sh", "-c", "sleep 0.3; exit 9"]);
    let request = ProcessRequest { id: "many".into(), exec_id: String::new() };
    shim.create("many");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&shim.socket)).collect();
    let streams: Vec<u32> = clients.iter_mut().map(|c| c.send("Wait", &request)).collect();
    shim.client.call::<PidResponse>("Start", &request).unwrap();
    let mut told = Vec::new();
    for (client, stream) in clients.iter_mut().zip(streams) {
        let exit = client.receive::<WaitResponse>(stream).unwrap().unwrap();
        told.push((exit.exit_status, exit.exited_at.map(|at| (at.seconds, at.nanos))));
    }
    drop(clients);
    let later: WaitResponse = Client::connect(&shim.socket).call("Wait", &request).unwrap();
    told.push((later.exit_status, later.exited_at.map(|at| (at.seconds, at.nanos))));
    assert_eq!(told[0].0, 9);
    assert!(told.iter().all(|t| *t == told[0]), "{told:?}");
    // An engine that comes back asks whether the shim lives by a name that it may never have had.
    let connected: ConnectResponse = shim.client.call("Connect", &id("unknown")).unwrap();
    assert_eq!((connected.shim_pid, connected.task_pid), (shim.pid, 0));
}

#[test]
fn words_for_the_operator_reach_the_fifo_and_hold_nobody_up() {
    if !have(NEEDS) {
        return;
    }
    let home = common::Home::new();
    common::make_rootfs(&home.0.join("root"));
    write_bundle(&home, "talk", &["/bin/true"], false, |_| {});
    let mut log = common::fifo(&home.0.join("state/talk/log"));
    let answer = common::start_action(&home, "talk", &common::runtime(), true);
    assert!(answer.status.success() && answer.stderr.is_empty(), "{answer:?}");
    let socket = fs::read_to_string(home.0.join("state/talk/address")).unwrap();
    let mut client = Client::connect(Path::new(socket.strip_prefix("unix://").unwrap()));
    let pid = client.call::<ConnectResponse>("Connect", &id("talk")).unwrap().shim_pid;
    // A runtime whose delete fails once is worth a warning.
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" delete \"*--force*) ;; *\" delete \"*) exit 1;; esac\nexec {} \"$@\"\n",
        which(&common::runtime()).unwrap().display()
    );
    let sulky = script(&home.0.join("sulky"), &text);
    let request = CreateRequest {
        id: "talk".into(),
        bundle: home.0.join("state/talk").to_string_lossy().into_owned(),
        options: Some(common::runc_options(&home, &sulky)),
        ..CreateRequest::default()
    };
    client.call::<PidResponse>("Create", &request).unwrap();
    client.call::<DeleteResponse>("Delete", &process("talk", "")).unwrap();
    let mut said = String::new();
    wait_for("a line", || {
        let mut chunk = [0u8; 4096];
        let count = std::io::Read::read(&mut log, &mut chunk).unwrap_or(0);
        said.push_str(&String::from_utf8_lossy(&chunk[..count]));
        said.ends_with('\n').then_some(())
    });
    assert!(said.starts_with("time=\"") && said.contains("level=warning msg=\"talk: delete: "), "{said}");
    // Nobody reads any more.
    drop(log);
    client.call::<PidResponse>("Create", &request).unwrap();
    client.call::<DeleteResponse>("Delete", &process("talk", "")).unwrap();
    client.call::<Empty>("Shutdown", &ShutdownRequest::default()).unwrap();
    wait_for("the shim's end", || has_ended(pid).then_some(()));
    common::remove_cgroups(&home.name());
}
