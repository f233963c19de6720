//! Bad days: what hangs, what is killed, who does not read, and an engine that is away.

// Helpers outside of a #[test] are test code as well, where an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{
    Client, Events, Shim, action, cgroups_with, exec_request, fifo, have, process, processes_with, read_to_end,
    runtime, script, signal, start_action, toml_options, wait_for, write_bundle,
};
use containerd_shim_tare::api::Any;
use containerd_shim_tare::api::{
    CheckpointOptions, CheckpointRequest, CreateRequest, DeleteResponse, Empty, IdRequest, KillRequest, Mount,
    PidResponse, ShutdownRequest, TaskExit, WaitResponse,
};
use serde_json::json;

const NEEDS: &[&str] = &["busybox"];
const INVALID_ARGUMENT: i32 = 3;

fn id(id: &str) -> IdRequest {
    IdRequest { id: id.into() }
}

#[test]
fn a_runtime_that_hangs_is_ended_with_its_children() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("hang", &["/bin/true"]);
    // Its delete, which cleans up after the failure, hangs as well.
    let hook = shim.home.0.join("hook").to_string_lossy().into_owned();
    script(&PathBuf::from(&hook), "#!/bin/sh\nsleep 1000\n");
    let fake = script(&shim.home.0.join("hangs"), &format!("#!/bin/sh\n{hook} &\nwait\n"));
    let request = CreateRequest {
        options: Some(toml_options(&shim.home, &fake, "RuntimeTimeout = 1")),
        ..shim.create_request("hang")
    };
    let begun = Instant::now();
    let (_, text) = shim.client.call::<Empty>("Create", &request).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(text.contains("create: no end within 1 s, killed"), "{text}");
    wait_for("the hook's end", || processes_with(&hook).is_empty().then_some(()));
    // The shim goes on.
    shim.run("hang");
    assert_eq!(shim.wait("hang", ""), 0);
}

#[test]
fn a_stopped_shim_holds_nobody_up() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("stop", &["/bin/sleep", "100"]);
    shim.run("stop");
    write_bundle(&shim.home, "late", &["/bin/true"], false, |config| {
        config["annotations"] = json!({"io.kubernetes.cri.sandbox-id": "stop"});
    });
    signal(shim.pid, "-STOP");
    // More than the queue of its socket takes.
    let mut waiting: Vec<UnixStream> = Vec::new();
    while let Ok(stream) = containerd_shim_tare::sys::connect(&shim.socket) {
        waiting.push(stream);
        assert!(waiting.len() < 100_000);
    }
    let begun = Instant::now();
    let started = start_action(&shim.home, "late", &runtime(), true);
    assert!(started.status.success(), "{started:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "start: {:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(action(&shim.home, "stop", "delete").output().unwrap().status.success());
    assert!(begun.elapsed() < Duration::from_secs(5), "delete: {:?}", begun.elapsed());
    signal(shim.pid, "-CONT");
    drop(waiting);
    assert_eq!(shim.wait("stop", ""), 137, "the delete action killed the container");
}

/// What is to be known of a process that should not be there.
fn describe(pid: &str) -> String {
    let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = of("status");
    let lines: Vec<&str> =
        status.lines().filter(|l| ["State", "PPid", "NSpid"].iter().any(|k| l.starts_with(k))).collect();
    format!("{pid} {:?} {lines:?} {} {}", of("cmdline"), of("wchan"), of("stack"))
}

/// What a killed shim leaves, after its `delete`.
fn assert_nothing_left(shim: &Shim, name: &str, moment: &str) {
    let output = action(&shim.home, name, "delete").output().unwrap();
    let mark = format!("{}/{name}", shim.home.name());
    let mut seen = Vec::new();
    if !output.stderr.is_empty() {
        for group in cgroups_with(&mark) {
            let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            seen.extend(listed.lines().map(|pid| format!("{}: {}", group.display(), describe(pid))));
        }
    }
    assert!(output.status.success() && output.stderr.is_empty(), "{moment}: {output:?} {seen:#?}");
    let home = shim.home.0.to_string_lossy().into_owned();
    let left = || processes_with(&format!("{home}/state/{name}"));
    let until = Instant::now() + Duration::from_secs(5);
    while !left().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let seen: Vec<String> = left().iter().map(|pid| describe(&pid.to_string())).collect();
    assert!(seen.is_empty(), "{moment}: {seen:#?}");
    wait_for(&format!("{moment}: the groups' end"), || cgroups_with(&mark).is_empty().then_some(()));
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&*shim.bundle(name).to_string_lossy()), "{moment}: {mounts}");
    assert!(!shim.home.0.join("runtime/test").join(name).exists(), "{moment}: the runtime's state");
    assert!(!shim.socket.exists(), "{moment}: the socket");
}

#[test]
fn a_shim_killed_at_any_moment_leaves_nothing_after_delete() {
    if !have(NEEDS) {
        return;
    }
    // Runtimes that keep no journal can be killed between a group and the note of it; ours cannot. So theirs end first.
    let exact = runtime().contains("tare");
    let step = if std::env::var_os("SHIM_TEST_LONG").is_some() { 1 } else { 4 };
    let delays: Vec<u64> = if exact { (0..30).step_by(step).collect() } else { vec![0, 60] };
    for call in ["Create", "Start", "Exec", "StartExec", "Kill", "Pause", "Delete"] {
        for &delay in &delays {
            let moment = format!("{call} + {delay} ms");
            let mut shim = Shim::start("x", &["/bin/sleep", "100"]);
            let mut request = shim.create_request("x");
            request.rootfs = vec![Mount {
                kind: "bind".into(),
                source: shim.home.0.join("root").to_string_lossy().into_owned(),
                options: vec!["rbind".into()],
                ..Mount::default()
            }];
            prepare(&mut shim, call, &request);
            let stream = match call {
                "Create" => shim.client.send("Create", &request),
                "Start" | "Delete" => shim.client.send(call, &process("x", "")),
                "Exec" => shim.client.send("Exec", &exec_request("x", "e", &["/bin/sleep", "100"])),
                "StartExec" => shim.client.send("Start", &process("x", "e")),
                "Kill" => shim
                    .client
                    .send("Kill", &KillRequest { id: "x".into(), signal: 9, all: true, ..KillRequest::default() }),
                _ => shim.client.send("Pause", &id("x")),
            };
            if !exact {
                // Whatever the answer is.
                let _ = shim.client.receive::<PidResponse>(stream);
            }
            std::thread::sleep(Duration::from_millis(delay));
            signal(shim.pid, "-KILL");
            wait_for("the shim's end", || (!shim.is_alive()).then_some(()));
            assert_nothing_left(&shim, "x", &moment);
        }
    }
}

/// Everything that comes before `call`.
fn prepare(shim: &mut Shim, call: &str, request: &CreateRequest) {
    if call == "Create" {
        return;
    }
    shim.client.call::<PidResponse>("Create", request).unwrap();
    if call == "Start" || call == "Delete" {
        return;
    }
    shim.client.call::<PidResponse>("Start", &process("x", "")).unwrap();
    if call == "StartExec" {
        shim.add_exec("x", "e", &["/bin/sleep", "100"]).unwrap();
    }
}

#[test]
fn an_engine_that_is_away_for_long_hears_everything_in_order() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("long", &["/bin/sleep", "1000"]);
    let address = shim.home.0.join("events");
    shim.run("long");
    shim.events.wait("start", 1);
    fs::remove_file(&address).unwrap();
    // The connection that is open ends with the engine.
    std::thread::sleep(Duration::from_millis(2500));
    let begun = Instant::now();
    for n in 0..40 {
        let name = format!("e{n}");
        shim.add_exec("long", &name, &["/bin/sh", "-c", &format!("exit {n}")]).unwrap();
        shim.client.call::<PidResponse>("Start", &process("long", &name)).unwrap();
        assert_eq!(shim.wait("long", &name), n);
        shim.client.call::<DeleteResponse>("Delete", &process("long", &name)).unwrap();
    }
    shim.kill("long", "", 9).unwrap();
    assert_eq!(shim.wait("long", ""), 137);
    std::thread::sleep(Duration::from_secs(30).saturating_sub(begun.elapsed()));
    let events = Events::serve(&address);
    // No sign of life: the shim's own tries must do.
    events.wait("exit", 41);
    let exits: Vec<u32> = events.all::<TaskExit>("exit").iter().map(|e| e.exit_status).collect();
    assert_eq!(exits, (0..40).chain([137]).collect::<Vec<u32>>());
    let round = ["exec-added", "exec-started", "exit"];
    let expected: Vec<&str> = round.iter().copied().cycle().take(120).chain(["exit"]).collect();
    assert_eq!(events.topics(), expected);
}

/// Runs a program that writes `lines` numbered lines, nobody reads meanwhile; gives whether it ended by itself within
/// `patience`, and all that can be read then.
fn unread(shim: &mut Shim, name: &str, policy: Option<&str>, lines: usize, patience: Duration) -> (bool, String) {
    write_bundle(&shim.home, name, &["/bin/seq", "-w", "1", &lines.to_string()], false, |config| {
        if let Some(policy) = policy {
            config["annotations"] = json!({"io.containerd.tare.v2.log-policy": policy});
        }
    });
    let path = shim.home.0.join(format!("out-{name}"));
    let mut out = fifo(&path);
    let mut request = shim.create_request(name);
    request.stdout = path.to_string_lossy().into_owned();
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process(name, "")).unwrap();
    let stream = shim.client.send("Wait", &process(name, ""));
    let until = Instant::now() + patience;
    let mut ended = false;
    while !ended && Instant::now() < until {
        ended = shim.client.is_answered(stream);
    }
    let text = read_to_end(&mut out);
    shim.client.receive::<WaitResponse>(stream).unwrap().unwrap();
    shim.client.call::<DeleteResponse>("Delete", &process(name, "")).unwrap();
    (ended, String::from_utf8(text).unwrap())
}

#[test]
fn output_that_nobody_takes_follows_its_policy() {
    if !have(NEEDS) {
        return;
    }
    const LINES: usize = 200_000;
    let (short, long) = (Duration::from_secs(1), common::long());
    let mut shim = Shim::start("keep", &["/bin/sleep", "1000"]);
    shim.run("keep");
    let all: String = (1..=LINES).map(|n| format!("{n:06}\n")).collect();

    let (ended, text) = unread(&mut shim, "block", None, LINES, short);
    assert!(!ended, "by default the writer waits");
    assert!(text == all, "and everything arrives: {} of {}", text.len(), all.len());

    let (ended, text) = unread(&mut shim, "spill", Some("spill=4MiB"), LINES, long);
    assert!(ended, "a spill takes what nobody reads");
    assert!(text == all, "and gives it back in order: {} of {}", text.len(), all.len());

    let (ended, text) = unread(&mut shim, "small", Some("spill=64KiB"), LINES, short);
    assert!(!ended, "a full spill lets the writer wait");
    assert!(text == all, "and nothing is lost: {} of {}", text.len(), all.len());

    let (ended, text) = unread(&mut shim, "drop", Some("drop"), LINES, long);
    assert!(ended, "nobody waits for a reader");
    // One note, or more when the reader comes while the shim still has something to move.
    let said = text.split("[containerd-shim-tare-v2: ").skip(1).map(|note| note.split(' ').next().unwrap());
    let lost: usize = said.map(|count| count.parse::<usize>().unwrap()).sum();
    assert!(lost > 0, "a note of what is missing");
    let notes: usize = text.lines().filter(|l| l.starts_with('[')).map(|l| l.len() + 2).sum();
    assert!(all.starts_with(text.split("\n[").next().unwrap()), "what came first is whole");
    assert_eq!(text.len() - notes + lost, all.len(), "every byte was taken or counted");

    write_bundle(&shim.home, "odd", &["/bin/true"], false, |config| {
        config["annotations"] = json!({"io.containerd.tare.v2.log-policy": "lose"});
    });
    let odd = shim.create_request("odd");
    let (code, text) = shim.client.call::<Empty>("Create", &odd).unwrap_err();
    assert!(code == INVALID_ARGUMENT && text.contains("log-policy") && text.contains("\"lose\""), "{text}");
    let options = toml_options(&shim.home, &runtime(), "LogPolicy = \"lost\"");
    let odd =
        CreateRequest { options: Some(options), id: "odd2".into(), bundle: odd.bundle.replace("odd", "keep"), ..odd };
    let (code, text) = shim.client.call::<Empty>("Create", &odd).unwrap_err();
    assert!(code == INVALID_ARGUMENT && text.contains("option LogPolicy"), "{text}");
}

#[test]
fn a_checkpoint_and_a_restore_pass_through() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("cp", &["/bin/sleep", "1000"]);
    let log = shim.home.0.join("lines");
    let real = common::which(&runtime()).unwrap();
    // A runtime that notes its words, does nothing for a checkpoint, and restores by running the container anew.
    let fake = script(
        &shim.home.0.join("notes"),
        &format!(
            "#!/bin/sh\necho \"$@\" >>{0}\nroot=$2 id=\nfor last; do id=$last; done\nfor word; do case $word in\n\
             checkpoint) [ ! -e {1} ] || {{ echo '{{\"level\":\"error\",\"msg\":\"criu failed\"}}' >>\"$4\"; \
             mkdir -p {3}; echo why >{3}/dump.log; exit 1; }}; exit 0;;\n\
             restore) shift 7; pid=; while [ $# -gt 0 ]; do case $1 in --pid-file) pid=$2;; --bundle) b=$2;; esac; shift; done\n\
             {2} --root \"$root\" run --detach --bundle \"$b\" --pid-file \"$pid\" \"$id\"; exit;;\nesac; done\nexec {2} \"$@\"\n",
            log.display(),
            shim.home.0.join("fail").display(),
            real.display(),
            shim.home.0.join("criu").display(),
        ),
    );
    let options = toml_options(&shim.home, &fake, "");
    let request = CreateRequest { options: Some(options), ..shim.create_request("cp") };
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("cp", "")).unwrap();

    let options = CheckpointOptions { open_tcp: true, ..CheckpointOptions::default() };
    let mut checkpoint = CheckpointRequest {
        id: "cp".into(),
        path: "/images".into(),
        options: Some(Any::of("containerd.runc.v1.CheckpointOptions", &options)),
    };
    shim.client.call::<Empty>("Checkpoint", &checkpoint).unwrap();
    let work = shim.bundle("cp").join("work");
    let lines = fs::read_to_string(&log).unwrap();
    let expected =
        format!("checkpoint --image-path /images --work-path {} --leave-running --tcp-established cp", work.display());
    assert!(lines.lines().any(|l| l.ends_with(&expected)), "{lines}");
    shim.events.wait("checkpointed", 1);

    fs::write(shim.home.0.join("fail"), "").unwrap();
    let criu = shim.home.0.join("criu").to_string_lossy().into_owned();
    let options = CheckpointOptions { work_path: criu, exit: true, ..CheckpointOptions::default() };
    checkpoint.options = Some(Any::of("containerd.runc.v1.CheckpointOptions", &options));
    let (_, text) = shim.client.call::<Empty>("Checkpoint", &checkpoint).unwrap_err();
    let kept = shim.bundle("cp").join("criu-dump.log");
    assert_eq!(text, format!("criu failed path= {}", kept.display()));
    assert_eq!(fs::read_to_string(&kept).unwrap(), "why\n");

    write_bundle(&shim.home, "back", &["/bin/sh", "-c", "exit 9"], false, |_| {});
    let request = CreateRequest {
        id: "back".into(),
        bundle: shim.bundle("back").to_string_lossy().into_owned(),
        checkpoint: "/images".into(),
        ..request
    };
    assert_eq!(shim.client.call::<PidResponse>("Create", &request).unwrap().pid, 0, "nothing runs before the start");
    let pid = shim.client.call::<PidResponse>("Start", &process("back", "")).unwrap().pid;
    assert!(pid > 0);
    assert_eq!(shim.wait("back", ""), 9);
    let lines = fs::read_to_string(&log).unwrap();
    let line = lines.lines().find(|l| l.contains(" restore ")).unwrap();
    assert!(
        line.contains(" restore --bundle ") && line.contains(" --detach --image-path /images --work-path "),
        "{line}"
    );
    shim.client.call::<DeleteResponse>("Delete", &process("back", "")).unwrap();
}

#[test]
fn a_reader_that_vanishes_and_comes_back_misses_nothing() {
    if !have(NEEDS) {
        return;
    }
    let mut shim = Shim::start("back", &["/bin/sh", "-c", "for n in 1 2 3 4; do echo $n; sleep 0.3; done"]);
    let path = shim.home.0.join("out");
    let mut first = fifo(&path);
    let mut request = shim.create_request("back");
    request.stdout = path.to_string_lossy().into_owned();
    shim.client.call::<PidResponse>("Create", &request).unwrap();
    shim.client.call::<PidResponse>("Start", &process("back", "")).unwrap();
    let mut chunk = [0u8; 64];
    let count = wait_for("the first line", || first.read(&mut chunk).ok().filter(|&n| n > 0));
    let mut text = chunk[..count].to_vec();
    drop(first);
    std::thread::sleep(Duration::from_millis(700));
    let mut client = Client::connect(&shim.socket);
    client.call::<Empty>("Shutdown", &ShutdownRequest::default()).unwrap();
    use std::os::unix::fs::OpenOptionsExt;
    let mut again = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    text.extend(read_to_end(&mut again));
    assert_eq!(String::from_utf8(text).unwrap(), "1\n2\n3\n4\n");
    assert_eq!(shim.wait("back", ""), 0);
}
