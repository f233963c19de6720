//! Commands where something is missing: streams, descriptors, half of a file, a peer, the container itself. One clear error
//! with the right exit code, and nothing left.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::{Case, Output, case, ready};

fn sleeper() -> Case {
    case().args(&["sleep", "1000"])
}

fn up(case: Case) -> Case {
    case.create().ok();
    case.on("start").ok();
    case
}

/// A command behind a shell that prepares something first.
fn behind(case: &Case, prepare: &str, args: &[&str]) -> Output {
    let tare = case.command(args);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("{prepare}\nexec \"$@\"")).arg("sh").arg(tare.get_program()).args(tare.get_args());
    support::run(shell.current_dir(&case.dir))
}

/// One line, of an error.
#[track_caller]
fn one_error(output: &Output, code: i32, what: &str) {
    assert_eq!(output.code, code, "{what}: {output:?}");
    assert_eq!(output.err.lines().count(), 1, "{what}: {output:?}");
    assert!(output.err.contains("level=error msg="), "{what}: {output:?}");
}

/// How many processes the container has.
fn processes(case: &Case) -> usize {
    let text = case.tare(&["ps", "-f", "json", &case.id]).ok();
    serde_json::from_str::<Vec<i32>>(&text).unwrap().len()
}

#[test]
fn nobody_of_that_id() {
    if !ready() {
        return;
    }
    let case = case();
    std::fs::create_dir(case.dir.join("state")).unwrap();
    let file = case.dir.join("file");
    std::fs::write(&file, "[]").unwrap();
    let file = file.to_str().unwrap();
    let commands: [&[&str]; 14] = [
        &["start", "nobody"],
        &["state", "nobody"],
        &["kill", "nobody"],
        &["kill", "-a", "nobody", "KILL"],
        &["delete", "nobody"],
        &["ps", "nobody"],
        &["pause", "nobody"],
        &["resume", "nobody"],
        &["update", "--pids-limit", "5", "nobody"],
        &["events", "--stats", "nobody"],
        &["diff", "nobody"],
        &["top", "nobody"],
        &["mounts", "add", "nobody", file],
        &["mounts", "remove", "nobody", file],
    ];
    for command in commands {
        let said = case.tare(command);
        one_error(&said, 1, command[0]);
        assert!(said.err.contains("container does not exist"), "{said:?}");
    }
    let said = case.tare(&["exec", "nobody", "true"]);
    one_error(&said, 255, "exec");
    assert!(said.err.contains("container does not exist"), "{said:?}");
    assert_eq!(case.tare(&["delete", "--force", "nobody"]).ok(), "");
    for command in [
        "create",
        "run",
        "start",
        "state",
        "kill",
        "delete",
        "ps",
        "pause",
        "resume",
        "update",
        "events",
        "checkpoint",
        "restore",
        "diff",
        "trace",
        "top",
        "explain",
    ] {
        for id in ["..", "a/../b", "a\u{e9}"] {
            let said = case.tare(&[command, id]);
            one_error(&said, 1, command);
            assert!(said.err.contains("invalid container ID format"), "{said:?}");
        }
    }
    assert_eq!(std::fs::read_dir(case.dir.join("state")).unwrap().count(), 0);
}

#[test]
fn closed_streams_of_every_command() {
    if !ready() {
        return;
    }
    for closed in ["exec <&-", "exec >&-", "exec 2>&-", "exec <&- >&- 2>&-"] {
        let case = sleeper();
        case.write();
        let ok = |args: &[&str]| {
            let said = behind(&case, closed, args);
            assert_eq!(said.code, 0, "{closed} {args:?}: {said:?}");
            said.out
        };
        ok(&["create", &case.id]);
        ok(&["start", &case.id]);
        for command in ["state", "ps", "pause", "resume", "diff"] {
            ok(&[command, &case.id]);
        }
        for command in [&["list"][..], &["features"], &["doctor"], &["gc"], &["top", "--once"], &["explain"]] {
            ok(command);
        }
        ok(&["events", "--stats", &case.id]);
        ok(&["update", "--pids-limit", "70", &case.id]);
        ok(&["exec", &case.id, "sh", "-c", "for f in 0 1 2; do readlink /proc/$$/fd/$f; done > /tmp/streams"]);
        let streams = std::fs::read_to_string(case.rootfs().join("tmp/streams")).unwrap();
        for stream in streams.lines() {
            assert!(
                stream == "/dev/null" || stream == "/tmp/streams" || stream.starts_with("pipe:"),
                "{closed}: {streams}"
            );
        }
        // The standard input that `--resources -` would read is not there, and is no other file by chance.
        let said = behind(&case, closed, &["update", "--resources", "-", &case.id]);
        assert_eq!(said.code, 1, "{closed}: {said:?}");
        assert_eq!(behind(&case, closed, &["exec", &case.id, "/no/such"]).code, 255);
        ok(&["kill", &case.id, "KILL"]);
        case.until("stopped", || case.status() == "stopped");
        ok(&["delete", &case.id]);
        assert_eq!(case.left(), Vec::<String>::new());
    }
}

#[test]
fn want_of_descriptors_in_exec_run_and_update() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let (mut ran, mut refused) = (0, 0);
    for limit in (4..=24).chain([32, 48, 64]) {
        let ulimit = format!("ulimit -S -n {limit}");
        let said = behind(&case, &ulimit, &["exec", &case.id, "true"]);
        if said.code == 0 {
            ran += 1;
        } else {
            one_error(&said, 255, &ulimit);
            assert!(said.err.contains("too many open files"), "{limit}: {said:?}");
            refused += 1;
        }
        let said = behind(&case, &ulimit, &["update", "--pids-limit", "80", &case.id]);
        assert!(said.code == 0 || (said.code == 1 && said.err.contains("too many open files")), "{limit}: {said:?}");
        case.until("no process is left", || processes(&case) == 1);
        assert_eq!(case.status(), "running", "{limit}");
    }
    assert!(ran > 0 && refused > 0, "{ran} {refused}");
    case.tare(&["delete", "-f", &case.id]).ok();
    let case = self::case();
    case.write();
    for limit in [5, 6, 8, 10, 12, 16, 20, 32, 64] {
        let said = behind(&case, &format!("ulimit -S -n {limit}"), &["run", &case.id]);
        if said.code != 0 {
            one_error(&said, 1, "run");
            assert!(said.err.contains("too many open files"), "{limit}: {said:?}");
        }
        case.tare(&["delete", "--force", &case.id]).ok();
        assert_eq!(case.left(), Vec::<String>::new(), "{limit}");
    }
}

#[test]
fn half_of_a_process_file() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let file = case.dir.join("p.json");
    let whole = json!({"args": ["true"], "cwd": "/", "env": ["PATH=/bin", "A=\u{e9}"], "user": {"uid": 5, "gid": 6}})
        .to_string();
    let exec = || case.tare(&["exec", "--process", file.to_str().unwrap(), &case.id]);
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(exec().code, 0);
    for cut in (0..whole.len()).step_by(3).chain([whole.len() - 1]) {
        std::fs::write(&file, &whole.as_bytes()[..cut]).unwrap();
        one_error(&exec(), 255, &whole[..whole.floor_char_boundary(cut)]);
    }
    for (text, field) in [
        (
            r#"{"args": 5, "cwd": 7, "user": {"uid": "x"}}"#,
            &["process.args: ", "process.cwd: ", "process.user.uid: "][..],
        ),
        (r#"{"args": ["true"], "cwd": "rel"}"#, &["process.cwd"]),
        (r#"{"args": [], "cwd": "/"}"#, &["process.args"]),
        ("null", &["process"]),
        ("[]", &["process"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = exec();
        one_error(&said, 255, text);
        assert!(field.iter().all(|f| said.err.contains(f)), "{said:?}");
    }
    std::fs::remove_file(&file).unwrap();
    one_error(&exec(), 255, "no file");
    std::fs::create_dir(&file).unwrap();
    one_error(&exec(), 255, "a directory");
    assert_eq!(processes(&case), 1);
}

#[test]
fn half_of_a_config() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    let at = case.dir.join("config.json");
    let whole = std::fs::read(&at).unwrap();
    let step = whole.len() / 40 + 1;
    for cut in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
        std::fs::write(&at, &whole[..cut]).unwrap();
        one_error(&case.on("create"), 1, "create");
    }
    std::fs::write(&at, br#"{"ociVersion": 5, "process": {"args": {}}, "mounts": 3, "root": {"path": []}}"#).unwrap();
    let said = case.on("run");
    one_error(&said, 1, "all at once");
    for field in ["ociVersion: ", "process.args: ", "mounts: ", "root.path: "] {
        assert!(said.err.contains(field), "{field} {said:?}");
    }
    assert_eq!(case.left(), Vec::<String>::new());
    // The runtime's own copy: what needs it says so, what does not goes on, and the container can be deleted.
    std::fs::write(&at, &whole).unwrap();
    case.on("create").ok();
    case.on("start").ok();
    let copy = case.state_dir().join("config.json");
    std::fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    one_error(&case.tare(&["exec", &case.id, "true"]), 255, "exec");
    one_error(&case.on("diff"), 1, "diff");
    one_error(&case.tare(&["update", "--pids-limit", "9", &case.id]), 1, "update");
    assert_eq!(case.status(), "running");
    assert_eq!(processes(&case), 1);
    case.tare(&["kill", &case.id, "KILL"]).ok();
    case.until("stopped", || case.status() == "stopped");
    case.on("delete").ok();
    assert_eq!(case.left(), Vec::<String>::new());
}

/// Whatever the name of a file leads to that is read: one clear error, in time, and nothing is left.
#[test]
fn what_is_read_is_no_file() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let (other, thing) = (sleeper(), case.dir.join("thing"));
    other.write();
    let (config, thing_at) = (other.dir.join("config.json"), thing.to_str().unwrap().to_owned());
    let whole = std::fs::read_to_string(&config).unwrap();
    let fifo = |path: &std::path::Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    type Make<'a> = &'a dyn Fn(&std::path::Path);
    let link = |target: &'static str| move |path: &std::path::Path| std::os::unix::fs::symlink(target, path).unwrap();
    let (zero, nowhere, tty) = (link("/dev/zero"), link("/no/where"), link("/dev/null"));
    let kinds: [(&str, Make<'_>, &str); 6] = [
        ("a directory", &|path| std::fs::create_dir(path).unwrap(), "is a directory"),
        ("a device without an end", &zero, "is the limit"),
        ("a link to nowhere", &nowhere, "no such file or directory"),
        ("a device without a beginning", &tty, "is empty"),
        ("a socket", &|path| drop(UnixListener::bind(path).unwrap()), "no such device or address"),
        ("a pipe that nobody writes to", &|path| fifo(path), "nobody has written to it"),
    ];
    for (name, make, wanted) in kinds {
        let _ = std::fs::remove_file(&config);
        let _ = std::fs::remove_file(&thing).or_else(|_| std::fs::remove_dir(&thing));
        make(&config);
        make(&thing);
        let began = std::time::Instant::now();
        // The pipe's bound is long: what reads is the same for all of them.
        let pipe = name.starts_with("a pipe");
        let verbs: &[&str] = if pipe { &["create"] } else { &["create", "run", "explain"] };
        for verb in verbs {
            let said = other.on(verb);
            one_error(&said, 1, &format!("{verb} of {name}"));
            assert!(said.err.contains(wanted) && said.err.contains("config.json"), "{verb} of {name}: {said:?}");
        }
        let exec: &[&str] = &["exec", "--process", &thing_at, &case.id];
        let update: &[&str] = &["update", "--resources", &thing_at, &case.id];
        for (line, code) in [(exec, 255), (update, 1)].into_iter().take(if pipe { 1 } else { 2 }) {
            let said = case.tare(line);
            one_error(&said, code, &format!("{line:?} of {name}"));
            assert!(said.err.contains(wanted), "{line:?} of {name}: {said:?}");
        }
        let bound = if pipe { 40 } else { 5 };
        assert!(began.elapsed() < Duration::from_secs(bound), "{name}: {:?}", began.elapsed());
        assert_eq!(other.left(), Vec::<String>::new(), "{name}");
        let _ = std::fs::remove_file(&config).or_else(|_| std::fs::remove_dir(&config));
    }
    // A pipe with somebody at its other end is as good as a file, however slow he is.
    fifo(&config);
    let writer = std::thread::spawn(move || {
        let mut pipe = std::fs::File::options().write(true).open(&config).unwrap();
        for part in whole.as_bytes().chunks(whole.len() / 3 + 1) {
            std::thread::sleep(Duration::from_millis(50));
            std::io::Write::write_all(&mut pipe, part).unwrap();
        }
    });
    other.on("create").ok();
    writer.join().unwrap();
    other.on("delete").ok();
}

/// Root may read everything; a plain user is told what he may not.
#[test]
fn a_config_that_may_not_be_read() {
    if !ready() {
        return;
    }
    use std::os::unix::process::CommandExt as _;
    let case = sleeper();
    case.write();
    let config = case.dir.join("config.json");
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut create = case.command(&["create", &case.id]);
    create.uid(61_237).gid(61_237).env("XDG_RUNTIME_DIR", "/no/where");
    let said = support::run(&mut create);
    one_error(&said, 1, "create");
    assert!(said.err.contains("config.json: permission denied"), "{said:?}");
}

#[test]
fn sockets_without_a_peer() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let path = case.dir.join("socket");
    let at = path.to_str().unwrap();
    let exec = |flag: &str| case.tare(&["exec", "-d", "-t", "--console-socket", at, flag, at, &case.id, "sleep", "9"]);
    one_error(&exec("--console-socket"), 255, "no socket");
    std::fs::write(&path, "").unwrap();
    one_error(&exec("--console-socket"), 255, "a file");
    std::fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    one_error(&exec("--console-socket"), 255, "nobody listens");
    one_error(&case.tare(&["exec", "--pidfd-socket", at, &case.id, "true"]), 255, "nobody listens");
    one_error(&case.tare(&["exec", "-d", "--console-socket", at, &case.id, "true"]), 255, "no terminal");
    case.until("no process is left", || processes(&case) == 1);
    // A peer that accepts and goes: whether it was faster or not, the container is whole.
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let peer = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let said = case.tare(&["exec", "-d", "--pidfd-socket", at, &case.id, "true"]);
    peer.join().unwrap();
    assert!(matches!(said.code, 0 | 255), "{said:?}");
    case.until("no process is left", || processes(&case) == 1);
    for verb in [&["run", "-d"][..], &["create"]] {
        let case = sleeper().set("/process/terminal", json!(true));
        case.write();
        let mut line = verb.to_vec();
        line.extend(["--console-socket", at, &case.id]);
        one_error(&case.tare(&line), 1, "nobody listens any more");
        assert_eq!(case.left(), Vec::<String>::new());
    }
}

#[test]
fn signals_that_are_none() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    for signal in ["NOSUCH", "SIG", "65", "999999999999", "9x", "RTMIN+99", "SIGRTMAX-99"] {
        let said = case.tare(&["kill", &case.id, signal]);
        one_error(&said, 1, signal);
        assert!(said.err.contains("unknown signal"), "{said:?}");
    }
    assert_eq!(case.status(), "running");
}

#[test]
fn a_pid_file_in_no_directory() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    for verb in [&["create"][..], &["run", "-d"], &["run"], &["trace", "-o", "/dev/null"]] {
        let mut line = verb.to_vec();
        line.extend(["--pid-file", "/no/such/dir/pid", &case.id]);
        let said = case.tare(&line);
        one_error(&said, 1, verb[0]);
        assert!(said.err.contains("--pid-file /no/such/dir/pid: no such file or directory"), "{said:?}");
        assert_eq!(case.left(), Vec::<String>::new());
    }
    let case = up(case);
    let said = case.tare(&["exec", "-d", "--pid-file", "/no/such/dir/pid", &case.id, "sleep", "9"]);
    one_error(&said, 255, "exec");
    case.until("no process is left", || processes(&case) == 1);
}
