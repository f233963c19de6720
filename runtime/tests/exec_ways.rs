//! `exec` on its less trodden ways, and what it must never do: land in another cgroup, bring descriptors or rights along.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Case, Output, case, ready, slowness};

fn sleeper() -> Case {
    case().args(&["sleep", "1000"])
}

/// Created and started.
fn up(case: Case) -> Case {
    case.create().ok();
    case.on("start").ok();
    case
}

fn exec(case: &Case, options: &[&str], args: &[&str]) -> Output {
    let all: Vec<&str> =
        ["exec"].iter().chain(options).copied().chain([&*case.id]).chain(args.iter().copied()).collect();
    case.tare(&all)
}

/// One command line of several parts.
fn join<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

/// The command could not be run.
#[track_caller]
fn not_run(output: &Output, said: &str) {
    assert_eq!(output.code, 255, "{output:?}");
    assert!(output.err.contains("exec failed: ") && output.err.contains(said), "no {said:?} in {output:?}");
    assert_eq!(output.err.lines().count(), 1, "{output:?}");
}

/// Behind a shell that prepares something first.
fn behind(case: &Case, prepare: &str, args: &[&str]) -> Output {
    let tare = case.command(args);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("{prepare}\nexec \"$@\"")).arg("sh").arg(tare.get_program()).args(tare.get_args());
    support::run(shell.current_dir(&case.dir))
}

/// A socket, and the descriptor that the first caller sends.
fn receiver(path: &Path) -> std::thread::JoinHandle<OwnedFd> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        tare::sys::socket::receive_fd(stream.as_fd()).unwrap().unwrap()
    })
}

/// What a terminal says until its other end is closed.
fn all_of(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut file = std::fs::File::from(master);
    // EIO: the other end is closed.
    let _ = std::io::Read::read_to_end(&mut file, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_terminal_goes_to_one_socket_and_the_pidfd_to_another() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let at = |name: &str| case.dir.join(name).to_str().unwrap().to_owned();
    for file in [false, true] {
        let (console, pidfd) = (receiver(Path::new(&at("console"))), receiver(Path::new(&at("pidfd"))));
        let script = "tty; stty size; read x; echo got $x; sleep 0.2";
        let process = json!({"args": ["sh", "-c", script], "cwd": "/", "terminal": true, "env": ["PATH=/bin"],
            "consoleSize": {"height": 33, "width": 99}});
        std::fs::write(at("p.json"), process.to_string()).unwrap();
        let (pid_file, process) = (at("pid"), at("p.json"));
        let (console_socket, pidfd_socket) = (at("console"), at("pidfd"));
        let sockets = ["--console-socket", &console_socket, "--pidfd-socket", &pidfd_socket, "--pid-file", &pid_file];
        let said = if file {
            exec(&case, &join(&[&sockets, &["-d", "--process", &process]]), &[])
        } else {
            exec(&case, &join(&[&sockets, &["--detach", "--tty"]]), &["sh", "-c", script])
        };
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
        let (master, pidfd) = (console.join().unwrap(), pidfd.join().unwrap());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
        let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap().trim().to_owned();
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), pid);
        std::io::Write::write_all(&mut std::fs::File::from(master.try_clone().unwrap()), b"word\n").unwrap();
        let text = all_of(master);
        assert!(text.contains("/dev/pts/") && text.contains("got word"), "{text:?}");
        assert_eq!(text.contains("33 99"), file, "{text:?}");
        for name in ["console", "pidfd"] {
            std::fs::remove_file(at(name)).unwrap();
        }
    }
    // In the foreground a socket takes the terminal as well, and the exit code is the command's.
    let console = receiver(Path::new(&at("console")));
    let said = exec(&case, &["-t", "--console-socket", &at("console")], &["sh", "-c", "tty; exit 4"]);
    assert!(all_of(console.join().unwrap()).contains("/dev/pts/"), "{said:?}");
    assert_eq!(said.code, 4, "{said:?}");
}

#[test]
fn a_container_without_a_pivoted_root_is_entered_where_its_root_is() {
    if !ready() {
        return;
    }
    let chrooted = sleeper()
        .without_namespace("mount")
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/mounts", json!([]));
    std::fs::write(chrooted.rootfs().join("etc/whose"), "the container's").unwrap();
    let chrooted = up(chrooted);
    let moved = sleeper();
    std::fs::write(moved.rootfs().join("etc/whose"), "the container's").unwrap();
    moved.write();
    moved.tare(&["create", "--no-pivot", &moved.id]).ok();
    moved.on("start").ok();
    for case in [&chrooted, &moved] {
        assert_eq!(exec(case, &[], &["cat", "/etc/whose"]).ok(), "the container's");
        assert_eq!(exec(case, &[], &["cat", "/../../etc/whose"]).ok(), "the container's");
        assert_eq!(exec(case, &["--cwd", "/etc"], &["sh", "-c", "pwd; cat whose"]).ok(), "/etc\nthe container's");
        not_run(&exec(case, &[], &["/etc/debian_version"]), "exec /etc/debian_version: no such file or directory");
    }
}

#[test]
fn a_created_container_is_entered_with_all_flags() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.create().ok();
    let place = |pid: &str| exec(&case, &[], &["cat", &format!("/proc/{pid}/cgroup")]).ok();
    assert_eq!(place("self"), place("1"));
    assert_eq!(exec(&case, &["-u", "7:8", "--env", "A=b"], &["sh", "-c", "id -u; id -g; echo $A"]).ok(), "7\n8\nb");
    let pid_file = case.dir.join("pid");
    exec(&case, &["-d", "--pid-file", pid_file.to_str().unwrap()], &["sleep", "1000"]).ok();
    assert_eq!(case.status(), "created");
    case.on("start").ok();
    assert_eq!(case.status(), "running");
    let pid = std::fs::read_to_string(pid_file).unwrap();
    assert!(Path::new("/proc").join(pid).exists());
}

#[test]
fn what_cannot_be_meant_is_exit_code_255() {
    if !ready() {
        return;
    }
    let case = case();
    for id in ["../x", "a/b", ".", "a b"] {
        not_run(&case.tare(&["exec", id, "true"]), "invalid container ID format");
    }
    not_run(&case.tare(&["exec", "nobody-of-that-id", "true"]), "container does not exist");
    not_run(&case.tare(&["exec", "-u", "root", "nobody-of-that-id", "true"]), "parsing root as int for uid failed");
    not_run(&case.tare(&["exec", "--cgroup", "cpu:", "nobody-of-that-id", "true"]), "invalid --cgroup argument");
    not_run(&case.tare(&["exec", "nobody-of-that-id"]), "process args cannot be empty");
}

/// A way to another cgroup than the one that was meant: the kernel's word on where the process is counts.
#[test]
fn a_process_in_the_wrong_cgroup_is_never_run() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let Some(own) = case.cgroups().into_iter().find(|p| p.join("tasks").exists() && p.join("pids.max").exists()) else {
        return;
    };
    let other = own.with_file_name(format!("{}-other", case.id));
    std::fs::create_dir(&other).unwrap();
    let mark = case.rootfs().join("tmp/ran");
    let tare = case.command(&["exec", &case.id, "touch", "/tmp/ran"]);
    let words: Vec<_> = tare.get_args().map(|a| a.to_string_lossy()).collect();
    let script =
        format!("mount --bind {} {} && exec {} {}", other.display(), own.display(), support::TARE, words.join(" "));
    let said = support::run(Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(&case.dir));
    let procs = std::fs::read_to_string(other.join("cgroup.procs")).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5) * slowness();
    while std::fs::remove_dir(&other).is_err() && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    not_run(&said, &format!("it is in /{0}-other instead of /{0}", case.id));
    assert_eq!(procs, "", "a process was left behind");
    assert!(!mark.exists());
    exec(&case, &[], &["touch", "/tmp/ran"]).ok();
    assert!(mark.exists());
}

#[test]
fn a_cgroup_below_the_containers_is_entered_in_all_hierarchies_or_in_one() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let groups = case.cgroups();
    if !groups.iter().any(|g| g.join("tasks").exists()) {
        return;
    }
    for group in &groups {
        let sub = group.join("sub");
        std::fs::create_dir_all(&sub).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(text) = std::fs::read_to_string(group.join(file)) {
                std::fs::write(sub.join(file), text).unwrap();
            }
        }
    }
    let places = |options: &[&str]| -> Vec<String> {
        let text = exec(&case, options, &["cat", "/proc/self/cgroup"]).ok();
        text.lines().filter(|l| l.contains(&*case.id)).map(str::to_owned).collect()
    };
    let below = format!("/{}/sub", case.id);
    let all = places(&["--cgroup", "sub"]);
    assert!(!all.is_empty() && all.iter().all(|l| l.ends_with(&below)), "{all:?}");
    let some = places(&["--cgroup", "pids:sub", "--cgroup=memory:/sub"]);
    for line in &some {
        let named = line.contains(":pids:") || line.contains(":memory:");
        assert_eq!(line.ends_with(&below), named, "{line}");
    }
    let both = places(&["--cgroup", "pids,memory:sub"]);
    assert_eq!(both, some);
    not_run(&exec(&case, &["--cgroup", "pids:sub", "--cgroup", "pids:sub"], &["true"]), "more than once");
    not_run(&exec(&case, &["--cgroup", "nosuch:sub"], &["true"]), "unknown controller nosuch");
    not_run(&exec(&case, &["--cgroup", "pids:../up"], &["true"]), "bad sub cgroup path: ../up");
    not_run(&exec(&case, &["--cgroup", "none"], &["true"]), "no such file or directory");
}

#[test]
fn no_descriptor_of_the_caller_comes_along() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    let list = [
        "exec",
        &case.id,
        "sh",
        "-c",
        "for f in /proc/self/fd/*; do readlink $f; done; cat /proc/self/fd/7/etc/hostname",
    ];
    // A directory of the host, a file and a socket's like: all inheritable.
    let said = behind(&case, "exec 5</etc/hostname 6<>/dev/null 7</", &list);
    let links: Vec<_> = said.out.lines().filter(|l| !l.starts_with("pipe:") && !l.starts_with("/proc")).collect();
    assert!(links.iter().all(|l| *l == "/dev/null"), "{said:?}");
    assert!(said.err.contains("can't open"), "{said:?}");
    let fds =
        behind(&case, "exec 3</etc/hostname 7</", &["exec", "--preserve-fds", "1", &case.id, "ls", "/proc/self/fd"]);
    // The last is that of the listing itself.
    assert_eq!(fds.ok().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn no_right_of_the_caller_comes_along() {
    if !ready() || !Path::new("/usr/bin/setpriv").exists() {
        return;
    }
    let case = up(sleeper());
    let status = |options: &[&str]| {
        let tare = case.command(&join(&[&["exec"], options, &[&case.id, "cat", "/proc/self/status"]]));
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--inh-caps", "+net_raw,+chown", "--ambient-caps", "+net_raw", "--groups", "4,5", "--"]);
        support::run(command.arg(tare.get_program()).args(tare.get_args()).current_dir(&case.dir)).ok()
    };
    for options in [&[][..], &["--cap", "CAP_CHOWN"], &["-u", "1000"]] {
        let text = status(options);
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!((field("CapInh:"), field("CapAmb:")), ("0".repeat(16), "0".repeat(16)), "{options:?}");
        assert_eq!(field("Groups:"), "", "{options:?}");
    }
}

#[test]
fn cpus_before_and_after_the_cgroups_are_entered() {
    let two = std::thread::available_parallelism().is_ok_and(|n| n.get() >= 2);
    if !ready() || !two {
        return;
    }
    let cpus = |case: &Case, options: &[&str], args: &[&str]| {
        let text = exec(case, options, args).ok();
        text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    };
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    for (affinity, wanted) in [
        (json!({"final": "1"}), "1"),
        (json!({"initial": "0", "final": "1"}), "1"),
        (json!({"initial": "1", "final": "0-1"}), "0-1"),
    ] {
        let case = up(sleeper().set("/process/execCPUAffinity", affinity.clone()));
        assert_eq!(cpus(&case, &[], &["cat", "/proc/self/status"]), wanted, "{affinity}");
        // It is exec's alone: the container's own process has all.
        let own = std::fs::read_to_string(format!("/proc/{}/status", case.pid())).unwrap();
        assert!(own.contains(&format!("Cpus_allowed_list:\t{all}\n")), "{affinity}");
    }
    let case = up(sleeper().set("/process/execCPUAffinity", json!({"final": "0"})));
    let file = case.dir.join("p.json");
    let process = json!({"args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
        "execCPUAffinity": {"initial": "0", "final": "1"}});
    std::fs::write(&file, process.to_string()).unwrap();
    assert_eq!(cpus(&case, &["--process", file.to_str().unwrap()], &[]), "1", "that of the file counts");
    let bad = json!({"args": ["true"], "cwd": "/", "execCPUAffinity": {"initial": "0-x"}});
    std::fs::write(&file, bad.to_string()).unwrap();
    not_run(&exec(&case, &["-p", file.to_str().unwrap()], &[]), "process.execCPUAffinity.initial");
    let absent = json!({"args": ["true"], "cwd": "/", "execCPUAffinity": {"final": "4000"}});
    std::fs::write(&file, absent.to_string()).unwrap();
    not_run(&exec(&case, &["-p", file.to_str().unwrap()], &[]), "process.execCPUAffinity.final");
}

/// What it costs to be careful: `exec` asks the host only what its process depends on.
#[test]
fn only_what_is_needed_is_asked_of_the_host() {
    if !ready() || !Path::new("/usr/bin/strace").exists() {
        return;
    }
    let case = up(sleeper());
    let calls = |options: &[&str]| -> String {
        let log: PathBuf = case.dir.join("strace");
        let tare = case.command(&join(&[&["exec"], options, &[&case.id, "true"]]));
        let mut strace = Command::new("/usr/bin/strace");
        strace.args(["-o", log.to_str().unwrap(), "-e", "trace=seccomp,openat,openat2,open"]);
        let said = strace.arg(tare.get_program()).args(tare.get_args()).current_dir(&case.dir).stdin(Stdio::null());
        support::run(said);
        std::fs::read_to_string(log).unwrap()
    };
    let plain = calls(&[]);
    assert!(plain.contains("/proc/thread-self/status"), "{plain}");
    for asked in ["mountinfo", "apparmor", "selinux", "SECCOMP_"] {
        assert!(!plain.contains(asked), "{asked}: {plain}");
    }
    assert!(calls(&["--apparmor", "x"]).contains("apparmor"));
}
