//! Every flag of every command, run for real: what it changes is looked at. `src/cli/FLAGS.md` says which test covers
//! which flag, and a test of the command line's table holds it to that.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Case, case, ready, slowness};

fn sleeper() -> Case {
    case().args(&["sleep", "1000"])
}

fn up(case: Case) -> Case {
    case.create().ok();
    case.on("start").ok();
    case
}

fn at(case: &Case, name: &str) -> String {
    case.dir.join(name).to_str().unwrap().to_owned()
}

/// One command line of several parts.
fn join<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

/// What the first caller sends over a socket, from a thread.
fn receiver(path: &str) -> std::thread::JoinHandle<std::os::fd::OwnedFd> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        tare::sys::socket::receive_fd(stream.as_fd()).unwrap().unwrap()
    })
}

/// Whether a terminal says this before its other end is closed.
fn says(master: std::os::fd::OwnedFd, wanted: &str) -> bool {
    let (mut file, mut text, mut part) = (std::fs::File::from(master), String::new(), [0; 256]);
    // EIO: the other end is closed.
    while let Ok(n @ 1..) = std::io::Read::read(&mut file, &mut part) {
        text.push_str(&String::from_utf8_lossy(&part[..n]));
        if text.contains(wanted) {
            return true;
        }
    }
    false
}

/// What a command says that has a session of its own: keyrings of one test are not those of another.
fn keyrings(case: &Case, verb: &[&str]) -> bool {
    let said = case.tree_says(verb);
    said.contains(&format!("_ses.{}", case.id))
}

/// A case whose program lists the keys that it has.
fn with_keys() -> Case {
    case().args(&["cat", "/proc/keys"]).set("/linux/maskedPaths", json!([]))
}

impl Case {
    /// Writes the config and runs a command, which must succeed.
    fn tree_says(&self, verb: &[&str]) -> String {
        self.write();
        self.tare(&join(&[verb, &[&self.id]])).ok()
    }
}

#[test]
fn help_of_every_command() {
    let commands = [
        "create",
        "start",
        "run",
        "state",
        "kill",
        "delete",
        "exec",
        "list",
        "ps",
        "pause",
        "resume",
        "update",
        "events",
        "checkpoint",
        "restore",
        "mounts",
        "spec",
        "features",
        "explain",
        "diff",
        "trace",
        "doctor",
        "top",
        "gc",
        "completion",
        "man",
        "help",
    ];
    let tare = |args: &[&str]| support::run(Command::new(support::TARE).args(args));
    for command in commands {
        let long = tare(&[command, "--help"]).ok();
        assert!(
            long.starts_with("NAME:\n   tare ") && long.contains("USAGE:") && long.contains("--help, -h"),
            "{long}"
        );
        assert!(long.lines().all(|l| l.chars().count() <= 140), "{long}");
        assert_eq!(tare(&[command, "-h"]).ok(), long);
        assert_eq!(tare(&["help", command]).ok(), long);
        assert!(tare(&["man", command]).ok().starts_with(".TH "), "{command}");
    }
    let all = tare(&["--help"]).ok();
    assert!(commands.iter().all(|c| *c == "man" || all.contains(&format!("\n   {c} "))), "{all}");
    assert_eq!(tare(&["-h"]).ok(), all);
    assert_eq!(tare(&[]).ok(), all);
    let version = tare(&["--version"]).ok();
    assert!(version.starts_with("tare version ") && version.lines().count() == 3, "{version}");
    assert_eq!(tare(&["-v"]).ok(), version);
}

#[test]
fn global_log_flags() {
    let case = case();
    let (log, list) = (at(&case, "log"), ["--log-format", "json"]);
    let missing = ["--root", "/no/such/root", "list"];
    let said = case.tare(&join(&[&["--log", &log], &list[..], &missing]));
    said.refused(&["open /no/such/root: no such file or directory"]);
    let line: Value = serde_json::from_str(std::fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!(line["level"], "error");
    std::fs::remove_file(&log).unwrap();
    case.tare(&join(&[&["--log", &log, "--log-format=text"], &missing[..]])).refused(&["no such file"]);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("time=\"") && text.contains("level=error msg=\""), "{text}");
    let unusable = case.tare(&join(&[&["--log", "/no/dir/log"], &missing[..]]));
    assert!(unusable.code == 1 && unusable.err.contains("/no/dir/log"), "{unusable:?}");
    // A warning is told unless only errors are wanted.
    if !ready() {
        return;
    }
    let odd = case.set("/hostnam", json!("x")).set("/process/capabilities/bounding/-", json!("CAP_FLY"));
    odd.write();
    let told = |global: &[&str]| odd.tare(&join(&[global, &["explain", "--bundle", &at(&odd, "")]])).err;
    assert!(told(&["--log-level", "warning"]).contains("CAP_FLY"));
    assert!(told(&["--debug"]).contains("CAP_FLY"));
    assert_eq!(told(&["--log-level=error"]), "");
}

#[test]
fn global_root_manager_and_rootless() {
    if !ready() {
        return;
    }
    let mut case = sleeper();
    let other = at(&case, "other");
    case.tare(&["--root", &other, "list"]).refused(&["no such file or directory"]);
    assert!(!Path::new(&other).exists(), "list makes no root");
    case.write();
    case.tare(&["--root", &other, "create", &case.id]).ok();
    assert_eq!(case.tare(&["--root", &other, "list", "-q"]).ok(), case.id);
    assert_eq!(case.cgroups().iter().filter(|g| g.ends_with(&case.id)).count(), case.cgroups().len());
    case.on("state").refused(&["container does not exist"]);
    case.tare(&["--root", &other, "delete", &case.id]).ok();
    for (flag, made) in [("disabled", false), ("cgroupfs", true)] {
        case.tare(&["--cgroup-manager", flag, "create", &case.id]).ok();
        assert_eq!(case.cgroups().is_empty(), !made, "{flag}");
        case.on("delete").ok();
    }
    for how in ["auto", "true", "false"] {
        case.tare(&["--rootless", how, "--systemd-cgroup=false", "create", &case.id]).ok();
        case.on("delete").ok();
    }
    // The program that saves and restores is looked for where it is said to be.
    case.global.extend(["--criu".to_owned(), "/no/such/criu".to_owned()]);
    assert_eq!(case.tare(&["checkpoint", &case.id]).code, 1);
}

#[test]
fn bundle_pid_file_and_strict() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    let elsewhere = case.dir.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for (verb, flags) in [("create", ["-b", "--pid-file"]), ("run", ["--bundle", "-pid-file"])] {
        let mut command = case.command(&[verb, flags[0], "..", flags[1], "pid"]);
        if verb == "run" {
            command.arg("-d");
        }
        support::run(command.arg(&case.id).current_dir(&elsewhere)).ok();
        let pid = std::fs::read_to_string(elsewhere.join("pid")).unwrap();
        assert_eq!(pid, case.pid().to_string(), "{verb}: digits alone, where the caller stands");
        assert_eq!(case.state()["bundle"], case.dir.to_str().unwrap());
        case.tare(&["delete", "-f", &case.id]).ok();
    }
    let odd = case.set("/hostnam", json!("x"));
    odd.write();
    for verb in [&["create", "--strict"][..], &["run", "-strict"], &["explain", "--strict"], &["trace", "--strict"]] {
        let said = odd.tare(&join(&[verb, &[&odd.id]]));
        if verb[0] == "explain" {
            assert!(said.code == 1 && said.err.contains("hostnam: "), "{said:?}");
        } else {
            said.refused(&["hostnam: is no property", "did you mean `hostname`?"]);
        }
    }
}

#[test]
fn sockets_of_create_and_run() {
    if !ready() {
        return;
    }
    for verb in [&["create"][..], &["run", "-d"], &["trace", "--detach"]] {
        let case = case().args(&["sh", "-c", "tty; sleep 1000"]).set("/process/terminal", json!(true));
        case.write();
        let (console, pidfd) = (at(&case, "console"), at(&case, "pidfd"));
        let (tty, process) = (receiver(&console), receiver(&pidfd));
        case.tare(&join(&[verb, &["--console-socket", &console, "--pidfd-socket", &pidfd, &case.id]])).ok();
        let fd = process.join().unwrap();
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        assert!(info.contains(&format!("Pid:\t{}\n", case.pid())), "{info}");
        if verb[0] == "create" {
            case.on("start").ok();
        }
        assert!(says(tty.join().unwrap(), "/dev/pts/0"));
    }
}

#[test]
fn a_root_that_is_not_pivoted() {
    if !ready() {
        return;
    }
    let script = "ls /; cat /etc/debian_version /../etc/debian_version";
    for verb in [&["run", "--no-pivot"][..], &["trace", "-no-pivot"]] {
        let case = case().script(&format!("{script}; true"));
        let said = case.tree_says(verb);
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["bin", "dev", "etc", "proc", "sys", "tmp"]);
    }
    let case = sleeper();
    case.write();
    case.tare(&["create", "--no-pivot", &case.id]).ok();
    case.on("start").ok();
    assert_eq!(case.tare(&["exec", &case.id, "ls", "/proc/1/root/etc"]).ok(), "");
    let plan = |flag: &[&str]| case.tare(&join(&[&["explain"], flag])).ok();
    assert!(plan(&["--no-pivot"]).contains("move root over /") && !plan(&[]).contains("move root over /"));
}

#[test]
fn a_keyring_of_its_own_or_the_callers() {
    if !ready() || !Path::new("/proc/keys").exists() {
        return;
    }
    for verb in ["run", "trace"] {
        assert!(keyrings(&with_keys(), &[verb]), "{verb}");
        assert!(!keyrings(&with_keys(), &[verb, "--no-new-keyring"]), "{verb}");
    }
    let case = with_keys();
    case.write();
    case.tare(&["create", "--no-new-keyring", &case.id]).ok();
    let plan = |flag: &[&str]| case.tare(&join(&[&["explain"], flag])).ok();
    assert!(plan(&[]).contains("join session keyring") && !plan(&["--no-new-keyring"]).contains("keyring"));
}

#[test]
fn descriptors_that_are_preserved() {
    if !ready() {
        return;
    }
    let open = "exec 3</etc/hostname 4</dev/null 5</dev/zero; exec \"$@\"";
    let behind = |case: &Case, args: &[&str]| {
        let tare = case.command(args);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", open, "sh"]).arg(tare.get_program()).args(tare.get_args()).current_dir(&case.dir);
        support::run(&mut shell)
    };
    for verb in ["run", "trace"] {
        let case = case().args(&["ls", "/proc/self/fd"]);
        case.write();
        let said = behind(&case, &[verb, "--preserve-fds", "2", &case.id]).ok();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"], "{verb}");
    }
    let case = sleeper();
    case.write();
    behind(&case, &["create", "--preserve-fds=1", &case.id]).ok();
    case.on("start").ok();
    let fd = |n: u32| std::fs::read_link(format!("/proc/{}/fd/{n}", case.pid()));
    assert_eq!(fd(3).unwrap(), Path::new("/etc/hostname"));
    assert!(fd(4).is_err() && fd(5).is_err());
    let said = behind(&case, &["exec", "--preserve-fds", "2", &case.id, "ls", "/proc/self/fd"]).ok();
    assert_eq!(said.split_whitespace().count(), 6, "{said}");
    assert!(case.tare(&["explain", "--preserve-fds", "7"]).ok().contains("descriptors from 10 on"));
}

#[test]
fn detached_kept_and_in_the_foreground() {
    if !ready() {
        return;
    }
    for verb in ["run", "trace"] {
        for flag in ["-d", "--detach"] {
            let case = sleeper();
            case.tree_says(&[verb, flag]);
            assert_eq!(case.status(), "running");
        }
        let case = case().args(&["sh", "-c", "exit 7"]);
        case.write();
        assert_eq!(case.tare(&[verb, "--keep", "--no-subreaper", &case.id]).code, 7);
        assert_eq!(case.status(), "stopped");
        assert!(!case.cgroups().is_empty(), "{verb} --keep keeps the cgroup");
        case.on("delete").ok();
        assert_eq!(case.tare(&[verb, &case.id]).code, 7);
        case.on("state").refused(&["container does not exist"]);
    }
}

#[test]
fn kill_all_and_delete_force() {
    if !ready() {
        return;
    }
    for (all, force) in [("-a", "-f"), ("--all", "--force")] {
        let case = up(case().script("sleep 1000 & exec sleep 1000"));
        case.until("two", || case.tare(&["ps", "-f", "json", &case.id]).out.contains(','));
        case.on("delete").refused(&["cannot delete container that is not stopped"]);
        case.tare(&["kill", all, &case.id, "KILL"]).ok();
        case.until("stopped", || case.status() == "stopped");
        case.tare(&["kill", all, &case.id, "KILL"]).ok();
        case.tare(&["kill", &case.id, "0"]).refused(&["container not running"]);
        case.tare(&["delete", force, &case.id]).ok();
        case.tare(&["delete", force, &case.id]).ok();
        case.on("delete").refused(&["container does not exist"]);
    }
}

#[test]
fn exec_changes_the_process() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let exec = |options: &[&str], args: &[&str]| case.tare(&join(&[&["exec"], options, &[&case.id], args])).ok();
    let script = ["sh", "-c", "pwd; echo $A$B; id -u; id -g; id -G"];
    let options = ["--cwd", "/etc", "-e", "A=1", "--env", "B=2", "-u", "5:6", "-g", "7", "--additional-gids", "8"];
    assert_eq!(exec(&options, &script), "/etc\n12\n5\n6\n6 7 8");
    assert_eq!(exec(&["--user", "9"], &["id", "-u"]), "9");
    let status = |options: &[&str], field: &str| {
        let text = exec(options, &["cat", "/proc/self/status"]);
        text.lines().find_map(|l| l.strip_prefix(field)).unwrap().trim_start_matches(':').trim().to_owned()
    };
    for flag in ["--cap", "-c"] {
        let with = u64::from_str_radix(&status(&[flag, "CAP_NET_RAW"], "CapBnd"), 16).unwrap();
        assert_eq!(with & 1 << 13, 1 << 13, "{flag}");
    }
    assert_eq!(u64::from_str_radix(&status(&[], "CapBnd"), 16).unwrap() & 1 << 13, 0);
    assert_eq!(status(&["--no-new-privs"], "NoNewPrivs"), "1");
    let file = at(&case, "p.json");
    std::fs::write(
        &file,
        json!({"args": ["id", "-u"], "cwd": "/", "user": {"uid": 3, "gid": 4}, "env": ["PATH=/bin"]}).to_string(),
    )
    .unwrap();
    assert_eq!((exec(&["-p", &file], &[]), exec(&["--process", &file], &[])), ("3".into(), "3".into()));
    // Asked for and not to be had is an error, never a process without.
    for (flag, value) in [("--process-label", "a:b:c:d"), ("--apparmor", "no-such-profile")] {
        let said = case.tare(&["exec", flag, value, &case.id, "true"]);
        assert_eq!(said.code, 255, "{flag}: {said:?}");
    }
}

#[test]
fn exec_detaches_and_says_where_it_is() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    for flag in ["-d", "--detach"] {
        let pid_file = at(&case, "exec.pid");
        // Accepted for old callers, and without a meaning.
        case.tare(&["exec", flag, "--pid-file", &pid_file, "--no-subreaper", &case.id, "sleep", "1000"]).ok();
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let all = case.tare(&["ps", "--format", "json", &case.id]).ok();
        assert!(all.trim_matches(['[', ']']).split(',').any(|p| p == pid), "{pid} {all}");
    }
    for flag in ["-t", "--tty"] {
        let (console, pidfd) = (at(&case, "console"), at(&case, "pidfd"));
        let (tty, process) = (receiver(&console), receiver(&pidfd));
        let sockets = ["--console-socket", &console, "--pidfd-socket", &pidfd];
        case.tare(&join(&[&["exec", flag, "-d"], &sockets[..], &[&case.id, "tty"]])).ok();
        assert!(says(tty.join().unwrap(), "/dev/pts/"), "{flag}");
        drop(process.join().unwrap());
        std::fs::remove_file(&console).unwrap();
        std::fs::remove_file(&pidfd).unwrap();
    }
    let missing = case.tare(&["exec", "--cgroup", "nosuch:x", &case.id, "true"]);
    assert!(missing.code == 255 && missing.err.contains("unknown controller"), "{missing:?}");
    case.on("pause").ok();
    let mut frozen = case.command(&["exec", "--ignore-paused", &case.id, "true"]).stdin(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(frozen.try_wait().unwrap().is_none(), "it is frozen, too");
    case.on("resume").ok();
    assert!(frozen.wait().unwrap().success());
}

#[test]
fn list_and_ps_formats() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let second = format!("{}-2", case.id);
    case.tare(&["create", &second]).ok();
    let table = case.tare(&["list"]).ok();
    assert!(table.starts_with("ID ") && table.lines().next().unwrap().ends_with("OWNER"), "{table}");
    assert_eq!(case.tare(&["list", "--format", "table"]).ok(), table);
    for flag in ["-q", "--quiet"] {
        assert_eq!(case.tare(&["list", flag]).ok(), format!("{}\n{second}", case.id));
    }
    let json = case.tare(&["list", "-f", "json"]).ok();
    assert!(!json.contains(": ") && !json.contains('\n'), "compact: {json}");
    let list: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(list.iter().map(|c| c["id"].as_str().unwrap()).collect::<Vec<_>>(), [&case.id, &second]);
    let state = case.on("state").ok();
    assert!(state.contains("\n  \"id\": \""), "indented: {state}");
    for flag in ["-f", "--format"] {
        let pids: Vec<i32> = serde_json::from_str(&case.tare(&["ps", flag, "json", &case.id]).ok()).unwrap();
        assert_eq!(pids, [case.pid()]);
    }
    case.tare(&["delete", &second]).ok();
}

/// One flag of `update`, and what it makes of a file of version 1 and of version 2.
fn updated(case: &Case, flag: &[&str], v1: (&str, &str), v2: (&str, &str)) {
    let (file, wanted) = if case.limit(v1.0).starts_with("no ") { v2 } else { v1 };
    if case.limit(file).starts_with("no ") {
        // Neither kind of this host has it: that it is refused is all that can be seen.
        let said = case.tare(&join(&[&["update"], flag, &[&case.id]]));
        assert!(said.code == 1, "{flag:?}: {said:?}");
        return;
    }
    case.tare(&join(&[&["update"], flag, &[&case.id]])).ok();
    // The default weight is one line of several.
    let is = case.limit(file);
    assert_eq!(is.strip_prefix("default ").unwrap_or(&is), wanted, "{flag:?}");
}

#[test]
fn update_by_flags() {
    if !ready() {
        return;
    }
    let case = up(sleeper().set("/linux/resources/pids", json!({"limit": -1})));
    assert_eq!(case.limit("pids.max"), "max", "-1 is no limit");
    assert!(
        case.cgroups().iter().all(|g| g.parent().unwrap().join(&case.id) == *g),
        "by default it is named as the container"
    );
    let u = |flag: &[&str], v1: (&str, &str), v2: (&str, &str)| updated(&case, flag, v1, v2);
    u(&["--pids-limit", "44"], ("pids.max", "44"), ("pids.max", "44"));
    u(&["--memory", "64M"], ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    u(&["--memory-reservation", "32M"], ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432"));
    let swap = [("memory.memsw.limit_in_bytes", "134217728"), ("memory.swap.max", "67108864")];
    u(&["--memory-swap", "128M"], swap[0], swap[1]);
    u(&["--cpu-period", "50000"], ("cpu.cfs_period_us", "50000"), ("cpu.max", "max 50000"));
    u(&["--cpu-quota", "20000"], ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000"));
    u(&["--cpu-burst", "10000"], ("cpu.cfs_burst_us", "10000"), ("cpu.max.burst", "10000"));
    u(&["--cpu-period", "40000"], ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 40000"));
    assert!(!case.limit("cpu.shares").starts_with("no ") || !case.limit("cpu.weight").starts_with("no "));
    u(&["--cpu-share", "1024"], ("cpu.shares", "1024"), ("cpu.weight", &case.limit_after_shares()));
    u(&["--cpuset-cpus", "0"], ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    u(&["--cpuset-mems", "0"], ("cpuset.mems", "0"), ("cpuset.mems", "0"));
    u(&["--cpu-idle", "1"], ("cpu.idle", "1"), ("cpu.idle", "1"));
    u(&["--blkio-weight", "500"], ("blkio.bfq.weight", "500"), ("io.bfq.weight", "500"));
    u(&["--cpu-rt-period", "1000000"], ("cpu.rt_period_us", "1000000"), ("no such file", ""));
    u(&["--cpu-rt-runtime", "1000"], ("cpu.rt_runtime_us", "1000"), ("no such file", ""));
    // None is what there is anyway, whatever the host has.
    case.tare(&["update", "--cpu-rt-runtime", "0", &case.id]).ok();
    for flag in ["--l3-cache-schema", "--mem-bw-schema"] {
        case.tare(&["update", flag, "x", &case.id]).refused(&[flag]);
    }
    for flag in ["--kernel-memory", "--kernel-memory-tcp"] {
        let said = case.tare(&["update", flag, "64M", &case.id]);
        assert!(said.code == 0 && said.err.contains("level=warning"), "{flag}: {said:?}");
    }
    let file = at(&case, "r.json");
    for flag in ["-r", "--resources"] {
        let limit = if flag == "-r" { 55 } else { 66 };
        std::fs::write(&file, json!({"pids": {"limit": limit}}).to_string()).unwrap();
        case.tare(&["update", flag, &file, &case.id]).ok();
        assert_eq!(case.limit("pids.max"), limit.to_string());
    }
}

impl Case {
    /// Version 2 has weights, and two ways of making one of shares: what it is now stands for what it will be.
    fn limit_after_shares(&self) -> String {
        self.tare(&["update", "--cpu-share", "1024", &self.id]).ok();
        self.limit("cpu.weight")
    }
}

#[test]
fn events_once_and_again() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let line: Value = serde_json::from_str(&case.tare(&["events", "--stats", &case.id]).ok()).unwrap();
    assert_eq!((line["type"].as_str(), line["id"].as_str()), (Some("stats"), Some(case.id.as_str())));
    let pressure = Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && Path::new("/proc/pressure").exists();
    assert_eq!(line["data"]["cpu"]["psi"].is_object(), pressure, "{line}");
    let mut child = case.command(&["events", "--interval", "200ms", &case.id]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    case.tare(&["delete", "-f", &case.id]).ok();
    let out = child.wait_with_output_in_time();
    assert!(out.lines().count() > 2, "{out}");
}

/// What a child says until it ends, which it must do soon.
trait InTime {
    fn wait_with_output_in_time(&mut self) -> String;
}

impl InTime for std::process::Child {
    fn wait_with_output_in_time(&mut self) -> String {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10) * slowness();
        while self.try_wait().unwrap().is_none() {
            if std::time::Instant::now() > end {
                let _ = self.kill();
                panic!("it does not end");
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(self.wait().unwrap().success());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.stdout.take().unwrap(), &mut text).unwrap();
        text
    }
}

#[test]
fn spec_where_and_for_whom() {
    let case = case();
    let tare = |dir: &Path, args: &[&str]| support::run(Command::new(support::TARE).args(args).current_dir(dir));
    for (flag, name) in [("-b", "one"), ("--bundle", "two")] {
        let dir = case.dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        tare(&case.dir, &["spec", flag, name]).ok();
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        assert!(text.contains("\n\t\"ociVersion\": "), "tabs: {text}");
        tare(&case.dir, &["spec", flag, name]).refused(&["exists. Remove it first"]);
        assert_eq!(std::fs::read_to_string(dir.join("config.json")).unwrap(), text);
    }
    let dir = case.dir.join("three");
    std::fs::create_dir(&dir).unwrap();
    tare(&dir, &["spec", "--rootless"]).ok();
    let config: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert!(config["linux"]["uidMappings"].is_array() && config["linux"]["resources"].is_null(), "{config}");
}

#[test]
fn explain_for_people_and_for_programs() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    let dir = at(&case, "");
    let text = case.tare(&["explain", "-b", &dir, &case.id]).ok();
    assert_eq!(case.tare(&["explain", "--bundle", &dir, &case.id]).ok(), text);
    let steps: Vec<Value> = serde_json::from_str(&case.tare(&["explain", "--json", &case.id]).ok()).unwrap();
    let lines = text.lines().filter(|l| l.trim_start().starts_with(|c: char| c.is_ascii_digit())).count();
    assert_eq!(steps.len(), lines);
    for (n, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], n + 1);
        assert!(["parent", "joiner", "init"].contains(&step["lane"].as_str().unwrap()), "{step}");
        assert!(!step["does"].as_str().unwrap().is_empty() && !step["from"].as_str().unwrap().is_empty(), "{step}");
    }
    assert!(steps.iter().any(|s| s["after"].is_number()) && steps.iter().any(|s| s["inCreate"] == false));
    // What does not shape the plan is taken all the same: the words of a create that failed can be used as they are.
    let more = ["--console-socket", "/x", "--pidfd-socket", "/y", "--pid-file", "/z"];
    assert_eq!(case.tare(&join(&[&["explain"], &more[..], &[&case.id]])).ok(), text);
    assert!(!case.state_dir().exists() && case.cgroups().is_empty(), "nothing is done");
}

#[test]
fn diff_and_doctor_as_json() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    assert_eq!(case.tare(&["diff", "--json", &case.id]).ok(), "[]");
    assert_eq!(case.tare(&["diff", &case.id]).ok(), "as planned");
    let doctor: Vec<Value> = serde_json::from_str(&case.tare(&["doctor", "--json"]).out).unwrap();
    assert!(doctor.iter().any(|f| f["what"] == "kernel"), "{doctor:?}");
}

#[test]
fn trace_tells_every_step() {
    if !ready() {
        return;
    }
    let case = case().args(&["echo", "hi"]);
    case.write();
    let file = at(&case, "trace");
    let steps: Vec<Value> = serde_json::from_str(&case.tare(&["explain", "--json", &case.id]).ok()).unwrap();
    for flag in ["-o", "--output"] {
        let pid_file = at(&case, "pid");
        let said =
            case.tare(&["trace", "--json", flag, &file, "--pid-file", &pid_file, "--bundle", &at(&case, ""), &case.id]);
        assert_eq!((said.code, said.out.trim(), said.err.as_str()), (0, "hi", ""));
        let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let told = report["steps"].as_array().unwrap();
        assert_eq!(told.len(), steps.len());
        let total = report["totalNs"].as_u64().unwrap();
        for (told, step) in told.iter().zip(&steps) {
            assert_eq!(
                (&told["step"], &told["lane"], &told["does"], &told["from"]),
                (&step["step"], &step["lane"], &step["does"], &step["from"])
            );
            assert!(
                ["done", "lived with an error", "done otherwise after an error"]
                    .contains(&told["outcome"].as_str().unwrap()),
                "{told}"
            );
            let end =
                told["atNs"].as_u64().unwrap() + told["waitedNs"].as_u64().unwrap() + told["tookNs"].as_u64().unwrap();
            assert!(end <= total, "{told}");
        }
        let phases = report["phases"].as_array().unwrap();
        let sum: u64 = phases.iter().map(|p| p["tookNs"].as_u64().unwrap()).sum();
        assert!(sum == total && phases.len() > 5, "{report}");
    }
    // A step of one lane that waits for another's ends after it.
    let text = case.tare(&["trace", "-b", &at(&case, ""), &case.id]);
    assert!(text.out == "hi\n" && text.err.contains("AT  WAITED    TOOK  LANE"), "{text:?}");
    assert!(text.err.contains("in all ") && text.err.contains(" %  step "), "{text:?}");
    case.tare(&["trace", "-o", "/no/dir/file", &case.id])
        .refused(&["--output /no/dir/file: no such file or directory"]);
}

#[test]
fn trace_tells_which_step_failed() {
    if !ready() {
        return;
    }
    let case = case().mount("/x", "ext9", "x", &[]);
    case.write();
    let said = case.tare(&["trace", &case.id]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("FAILED: ENODEV") && said.err.contains("steps were not reached"), "{}", said.err);
    assert!(said.err.lines().last().unwrap().contains("level=error"), "{}", said.err);
    assert_eq!(case.left(), Vec::<String>::new());
    // Behind the gate as well, and in the text of a config.
    let case = case.without_mount("/x").args(&["/etc/x"]);
    std::fs::write(case.rootfs().join("etc/x"), "#!/no/such\n").unwrap();
    std::fs::set_permissions(case.rootfs().join("etc/x"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    case.write();
    let said = case.tare(&["trace", &case.id]);
    assert!(said.code == 1 && said.err.contains("execute /etc/x  [process.args]  FAILED: ENOENT"), "{}", said.err);
    std::fs::write(case.dir.join("config.json"), "{").unwrap();
    let said = case.tare(&["trace", &case.id]);
    assert!(said.code == 1 && said.err.contains("in all "), "{said:?}");
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn top_shows_what_is_used() {
    if !ready() {
        return;
    }
    let case = up(case().script("while :; do :; done").set("/linux/resources/pids", json!({"limit": 77})));
    let rows = |args: &[&str]| -> Vec<Vec<Value>> {
        let out = case.tare(&join(&[&["top"], args])).ok();
        out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let tables = rows(&["-n", "3", "--interval", "100ms", "-f", "json"]);
    assert_eq!(tables.len(), 3);
    for table in &tables {
        let row = &table[0];
        assert_eq!((row["id"].as_str(), row["status"].as_str()), (Some(&*case.id), Some("running")));
        assert_eq!(row["pid"], case.pid());
        assert_eq!((&row["pids"], &row["pidsLimit"]), (&json!(1), &json!(77)));
        assert!(row["cpuPercent"].as_f64().unwrap() > 1.0 && row["memory"].as_u64().unwrap() > 0, "{row}");
    }
    assert!(tables[2][0]["cpuNs"].as_u64() > tables[0][0]["cpuNs"].as_u64());
    assert_eq!(rows(&["--iterations", "1", "--format", "json", &case.id]).len(), 1);
    let text = case.tare(&["top", "--once", &case.id]).ok();
    assert!(text.starts_with("ID ") && text.lines().count() == 2 && !text.contains('\x1b'), "{text}");
    let two = case.tare(&["top", "-n", "2", "--interval", "50ms"]).ok();
    assert_eq!(two.lines().filter(|l| l.starts_with("ID ")).count(), 2, "{two}");
    case.tare(&["top", "nobody-of-that-id"]).refused(&["container does not exist"]);
    case.tare(&["top", "--interval", "0", &case.id]).refused(&["interval"]);
    case.on("pause").ok();
    assert_eq!(rows(&["--once", "-f", "json"])[0][0]["status"], "paused");
    case.on("resume").ok();
    case.tare(&["kill", &case.id, "KILL"]).ok();
    case.until("stopped", || case.status() == "stopped");
    case.tare(&["top", &case.id]).refused(&["container not running"]);
    assert_eq!(rows(&["--once", "-f", "json"]), [Vec::<Value>::new()]);
}

#[test]
fn top_ends_when_it_should() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let top = |args: &[&str]| {
        case.command(&join(&[&["top", "--interval", "200ms"], args])).stdout(Stdio::piped()).spawn().unwrap()
    };
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        let mut child = top(&[]);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        assert!(child.wait_with_output_in_time().starts_with("ID "), "{signal}");
    }
    // Nobody reads any more: not only the next table finds that out.
    let mut child = case.command(&["top", "--interval", "1h"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    drop(child.stdout.take());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5) * slowness();
    while child.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < end, "it waits for an hour");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    let mut child = top(&[&case.id]);
    std::thread::sleep(std::time::Duration::from_millis(1000));
    case.tare(&["delete", "-f", &case.id]).ok();
    child.wait_with_output_in_time();
}

#[test]
fn gc_says_before_it_does() {
    if !ready() {
        return;
    }
    let case = case();
    let half = case.dir.join("state/half");
    std::fs::create_dir_all(&half).unwrap();
    for flag in ["-n", "--dry-run"] {
        assert_eq!(case.tare(&["gc", flag]).ok(), "would remove half: it was never wholly created");
        assert!(half.exists());
    }
    assert_eq!(case.tare(&["gc"]).ok(), "removed half: it was never wholly created");
    assert!(!half.exists());
}

/// Saving and restoring are told apart from a flag that does not exist, whatever else is missing here.
#[test]
fn checkpoint_and_restore_take_their_flags() {
    let case = case();
    let (images, work) = (at(&case, "images"), at(&case, "work"));
    let both = [
        "--image-path",
        &images,
        "--work-path",
        &work,
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--lazy-pages",
        "--file-locks",
        "--manage-cgroups-mode",
        "soft",
        "--empty-ns",
        "network",
        "--auto-dedup",
    ];
    let checkpoint =
        ["--parent-path", "x", "--leave-running", "--status-fd", "5", "--page-server", "host:77", "--pre-dump"];
    let restore = [
        "-b",
        "/x",
        "--bundle",
        "/no/such/bundle",
        "--console-socket",
        "/x",
        "--pidfd-socket",
        "/x",
        "--pid-file",
        "/x",
        "--no-pivot",
        "--no-new-keyring",
        "--preserve-fds",
        "0",
        "--strict",
        "-d",
        "--detach",
        "--no-subreaper",
        "--lsm-profile",
        "x:y",
        "--lsm-mount-context",
        "x",
    ];
    for line in [join(&[&["checkpoint"], &both, &checkpoint]), join(&[&["restore"], &both, &restore])] {
        let said = case.tare(&join(&[&line[..], &["nobody-of-that-id"]]));
        assert_eq!(said.code, 1, "{said:?}");
        for usage in ["flag provided but not defined", "invalid value", "flag needs an argument"] {
            assert!(!said.err.contains(usage), "{said:?}");
        }
    }
}

#[test]
fn completion_scripts_are_sound() {
    for shell in ["bash", "zsh", "fish"] {
        let script = support::run(Command::new(support::TARE).args(["completion", shell])).ok();
        assert!(script.contains("trace") && script.contains("console-socket"), "{shell}");
        let program =
            ["/bin/", "/usr/bin/"].map(|dir| format!("{dir}{shell}")).into_iter().find(|p| Path::new(p).exists());
        let Some(program) = program else { continue };
        let file = std::env::temp_dir().join(format!("tare-completion-{}-{shell}", std::process::id()));
        std::fs::write(&file, &script).unwrap();
        let said = support::run(Command::new(program).arg("-n").arg(&file));
        std::fs::remove_file(&file).unwrap();
        said.ok();
    }
    let ask = "eval \"$($0 completion bash)\"; COMP_WORDS=(tare run --de); COMP_CWORD=2; _tare; echo ${COMPREPLY[@]}";
    let said = support::run(Command::new("/bin/bash").args(["-c", ask, support::TARE]));
    assert_eq!(said.ok(), "--detach");
}

/// The terminal of the caller is the container's where nobody asked for a socket, and newlines pass as they are.
#[test]
fn a_terminal_in_the_foreground() {
    if !ready() {
        return;
    }
    let case = case().args(&["sh", "-c", "tty; echo a; echo b"]).set("/process/terminal", json!(true));
    let said = case.run();
    assert_eq!((said.code, said.out.as_str()), (0, "/dev/pts/0\na\nb\n"), "{said:?}");
}

#[test]
fn a_hook_in_the_container_has_the_processs_environment() {
    if !ready() {
        return;
    }
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "env > /tmp/env"]});
    let case = case().set("/hooks/startContainer/-", hook).set("/process/env/-", json!("MARK=of the process"));
    case.says();
    assert!(std::fs::read_to_string(case.rootfs().join("tmp/env")).unwrap().contains("MARK=of the process"));
}
