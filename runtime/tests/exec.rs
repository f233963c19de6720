//! `exec` as a whole command, in containers of busybox.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::sleeper::{Answer, Sleeper};

fn ok(answer: &Answer) -> &str {
    assert_eq!((answer.code, &*answer.err), (0, ""), "{answer:?}");
    answer.out.trim_end()
}

/// The command could not be run: exit code 255, one line, ending with what engines match.
fn refused(answer: &Answer, tail: &str) {
    assert_eq!(answer.code, 255, "{answer:?}");
    assert_eq!(answer.err.lines().count(), 1, "{answer:?}");
    assert!(
        answer.err.contains("exec failed: ") && answer.err.trim_end().ends_with(&format!("{tail}\"")),
        "{answer:?}"
    );
}

const EMPTY: &str = "0000000000000000";

fn status<'a>(text: &'a str, field: &str) -> &'a str {
    text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(":\t")).unwrap_or_default()
}

#[test]
fn the_process_is_the_containers_own_with_its_flags() {
    let Some(c) = Sleeper::start("flags", |_| {}) else { return };
    assert_eq!(ok(&c.exec(&[], &["id"])), "uid=0(root) gid=0");
    let options = ["-u", "5:6", "-g", "7", "-e", "A=b", "--cwd", "/etc"];
    let script = ["sh", "-c", "id; echo $A $HOME; readlink /proc/self/cwd"];
    assert_eq!(ok(&c.exec(&options, &script)), "uid=5 gid=6 groups=7\nb /\n/etc");
    assert_eq!(ok(&c.exec(&["-u", "1000"], &["sh", "-c", "echo $HOME"])), "/tmp");
    assert_eq!(
        ok(&c.exec(&["--no-new-privs"], &["sh", "-c", "exec grep NoNewPrivs /proc/self/status"])),
        "NoNewPrivs:\t1"
    );
    // Options behind the id are the command's.
    assert_eq!(ok(&c.exec(&[], &["echo", "-u", "5"])), "-u 5");
}

#[test]
fn a_process_file_says_it_all_and_the_container_the_rest() {
    let Some(c) = Sleeper::start("file", |config| config["process"]["noNewPrivileges"] = json!(true)) else { return };
    let file = json!({
        "args": ["sh", "-c", "id; echo $FOO; readlink /proc/self/cwd; umask; ulimit -n; cat /proc/self/status"],
        "cwd": "/tmp", "env": ["PATH=/bin", "FOO=1"],
        "user": {"uid": 1000, "gid": 1001, "umask": 63, "additionalGids": [5, 6]},
        "capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}],
    });
    std::fs::write(c.path("p.json"), file.to_string()).expect("file");
    let answer = c.exec(&["--process", c.path("p.json")], &[]);
    let text = ok(&answer);
    assert!(text.starts_with("uid=1000(u) gid=1001 groups=5,6\n1\n/tmp\n0077\n77\n"), "{text}");
    assert_eq!((status(text, "CapBnd"), status(text, "CapInh")), ("0000000000000001", EMPTY));
    assert_eq!(status(text, "NoNewPrivs"), "0", "the file decides");

    std::fs::write(c.path("bad.json"), "{\"args\": [\"true\"], \"cwd\": \"rel\", \"user\": {\"uid\": -1}}")
        .expect("file");
    let answer = c.exec(&["--process", c.path("bad.json")], &[]);
    assert!(answer.code == 255 && answer.err.contains("process.user.uid"), "{answer:?}");
    std::fs::write(c.path("torn.json"), "{\"args\": [").expect("file");
    assert_eq!(c.exec(&["--process", c.path("torn.json")], &[]).code, 255);
    refused(&c.exec(&["--process", "/no/such"], &[]), "no such file or directory");
}

#[test]
fn it_gains_nothing_that_was_not_given() {
    let Some(c) = Sleeper::start("caps", |_| {}) else { return };
    let text = c.exec(&["--cap", "CAP_NET_RAW"], &["cat", "/proc/self/status"]);
    let text = ok(&text);
    assert_eq!((status(text, "CapInh"), status(text, "CapAmb")), (EMPTY, EMPTY));
    let raw = 1u64 << 13;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let bits = u64::from_str_radix(status(text, set), 16).expect("hex");
        assert_eq!(bits, 0x2000_0420 | raw, "{set}");
    }
    // Standard streams, and the directory that ls itself has open.
    let fds = c.exec(&[], &["ls", "/proc/self/fd"]);
    assert_eq!(fds.out, "0\n1\n2\n3\n", "{fds:?}");
    let with_more = "exec 3</dev/null 4</dev/null 9</etc/passwd; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    let tare = c.command(&["exec", "--preserve-fds", "2", &c.id, "ls", "/proc/self/fd"]);
    command.args(["-c", with_more, "sh"]).arg(tare.get_program()).args(tare.get_args());
    let answer = Answer::from(command.output().expect("sh"));
    assert_eq!((answer.code, &*answer.out), (0, "0\n1\n2\n3\n4\n5\n"), "{answer:?}");
    let answer = c.exec(&["--preserve-fds", "2"], &["true"]);
    assert!(answer.code == 255 && answer.err.contains("descriptor 3 is not open"), "{answer:?}");
}

#[test]
fn it_lands_in_the_containers_cgroups_or_where_it_is_told() {
    let Some(c) = Sleeper::start("cgroup", |_| {}) else { return };
    assert_eq!(ok(&c.exec(&[], &["cat", "/proc/self/cgroup"])), ok(&c.exec(&[], &["cat", "/proc/1/cgroup"])));
    let pids = c.cgroups().into_iter().find(|p| p.join("pids.max").exists()).expect("a cgroup that counts tasks");
    let unified = !pids.join("tasks").exists();
    std::fs::create_dir(pids.join("sub")).expect("cgroup");
    let where_to = if unified { "sub" } else { "pids:sub" };
    let answer = c.exec(&["--cgroup", where_to], &["cat", "/proc/self/cgroup"]);
    let inside = ok(&answer);
    if unified {
        // The namespace's root is the container's own cgroup, where it has one.
        assert!(inside.starts_with("0::/") && inside.ends_with("/sub"), "{inside}");
    } else {
        assert!(inside.contains(&format!(":pids:/{}/sub\n", c.id)), "{inside}");
        assert!(inside.contains(&format!(":memory:/{}\n", c.id)), "{inside}");
    }
    refused(&c.exec(&["--cgroup", &where_to.replace("sub", "none")], &["true"]), "no such file or directory");
    refused(&c.exec(&["--cgroup", "nosuch:sub"], &["true"]), "unknown controller nosuch");
    refused(&c.exec(&["--cgroup", "../.."], &["true"]), "bad sub cgroup path: ../..");
    refused(&c.exec(&["--cgroup", "a/../../b"], &["true"]), "bad sub cgroup path: a/../../b");
    std::fs::remove_dir(pids.join("sub")).expect("empty again");
}

#[test]
fn the_exit_code_is_the_commands() {
    let Some(c) = Sleeper::start("codes", |_| {}) else { return };
    assert_eq!(c.exec(&[], &["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(c.exec(&[], &["sh", "-c", "kill -9 $$"]).code, 128 + 9);
    let foreground =
        c.command(&["exec", &c.id, "sh", "-c", "trap 'exit 3' TERM; echo up; while true; do sleep 0.1; done"]);
    // The signal goes to the command itself, not to the timeout before it.
    let mut args = foreground.get_args().skip(3);
    let mut child = std::process::Command::new(args.next().expect("tare"));
    let mut child = child.args(args).stdout(std::process::Stdio::piped()).spawn().expect("tare");
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().expect("pipe"), &mut up).expect("up");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    assert_eq!(child.wait().expect("wait").code(), Some(3));
}

#[test]
fn what_cannot_be_run_is_told_in_the_words_of_engines() {
    let Some(c) = Sleeper::start("errors", |_| {}) else { return };
    for (name, text) in [("crlf", "#!/bin/sh\r\n"), ("lost", "#!/no/py\n"), ("plain", "echo")] {
        let at = c.dir.join("rootfs").join(name);
        std::fs::write(&at, text).expect("file");
        std::fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    }
    let cases = [
        ("nosuch", "", "exec: \\\"nosuch\\\": executable file not found in $PATH"),
        ("/no/such", "", "exec /no/such: no such file or directory"),
        ("/etc/passwd", "no execute permission", "exec /etc/passwd: permission denied"),
        ("/etc", "is a directory", "exec /etc: permission denied"),
        ("/crlf", "carriage return", "exec /crlf: no such file or directory"),
        ("/lost", "names /no/py, which does not exist", "exec /lost: no such file or directory"),
        ("/plain", "neither a program nor a script", "exec /plain: exec format error"),
    ];
    for (program, hint, tail) in cases {
        let answer = c.exec(&["--pid-file", c.path("pid")], &[program]);
        refused(&answer, tail);
        assert!(answer.err.contains(hint), "{answer:?}");
        assert!(!Path::new(c.path("pid")).exists(), "{program} left a pid file");
    }
    refused(&c.exec(&["--cwd", "/no"], &["true"]), "no such file or directory");
    refused(&c.exec(&["--pid-file", "/no/dir/pid"], &["true"]), "no such file or directory");
    refused(&c.exec(&["-d", "-t"], &["true"]), "without setting console socket");
    refused(&c.exec(&["--console-socket", "/no/such"], &["true"]), "will not detach or allocate tty");
    refused(&c.exec(&["-d", "-t", "--console-socket", c.path("config.json")], &["true"]), "connection refused");
    refused(&c.exec(&["--pidfd-socket", "/no/such"], &["true"]), "no such file or directory");
    refused(&c.tare(&["exec", "nobody-of-that-id", "true"]), "container does not exist");
    let apparmor = Path::new("/sys/kernel/security/apparmor").exists();
    let said = if apparmor { "no such file or directory" } else { "not enabled on this host" };
    refused(&c.exec(&["--apparmor", "some"], &["true"]), said);
    assert_ne!(c.tare(&["exec", "../up", "true"]).code, 0);
    let left = std::fs::read_to_string(c.cgroups()[0].join("cgroup.procs")).expect("procs");
    assert_eq!(left.lines().count(), 1, "processes were left behind: {left}");
}

#[test]
fn a_created_container_can_be_entered_a_stopped_one_not() {
    let Some(c) = Sleeper::create("created", |_| {}) else { return };
    assert_eq!(ok(&c.exec(&[], &["readlink", "/proc/self/ns/pid"])), ns(c.pid(), "pid"));
    assert_eq!(c.tare(&["kill", &c.id, "KILL"]).code, 0);
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        c.tare(&["state", &c.id]).out.contains("\"stopped\"")
    });
    assert!(gone, "it does not stop");
    refused(&c.exec(&[], &["true"]), "container not running");
}

fn ns(pid: i32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("namespace").to_string_lossy().into_owned()
}

#[test]
fn a_paused_container_waits_to_be_resumed() {
    let Some(c) = Sleeper::start("paused", |_| {}) else { return };
    let Some(freezer) = c.cgroups().into_iter().find(|p| p.join("freezer.state").exists()) else { return };
    std::fs::write(freezer.join("freezer.state"), "FROZEN").expect("frozen");
    refused(&c.exec(&[], &["true"]), "cannot exec in a paused container");
    let mut waiting = c.command(&["exec", "--ignore-paused", &c.id, "true"]).spawn().expect("tare");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(waiting.try_wait().expect("wait").is_none(), "it must be frozen, too");
    std::fs::write(freezer.join("freezer.state"), "THAWED").expect("thawed");
    assert!(waiting.wait().expect("wait").success());
}

#[test]
fn detached_it_leaves_its_pid_and_goes_on() {
    let Some(c) = Sleeper::start("detach", |_| {}) else { return };
    let answer = c.exec(&["-d", "--pid-file", c.path("pid")], &["sleep", "100"]);
    assert_eq!(ok(&answer), "");
    let pid = std::fs::read_to_string(c.path("pid")).expect("pid file");
    assert!(pid.bytes().all(|b| b.is_ascii_digit()), "{pid:?}");
    let pid: i32 = pid.parse().expect("number");
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user", "time"] {
        assert_eq!(ns(pid, kind), ns(c.pid(), kind), "{kind}");
    }
}

fn user_namespace(config: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("list");
    namespaces.retain(|n| n["type"] != "cgroup");
    namespaces.extend(["user", "cgroup"].map(|kind| json!({"type": kind})));
}

#[test]
fn a_user_namespace_is_entered_as_whom_the_process_names() {
    let Some(c) = Sleeper::create("userns", |config| {
        user_namespace(config);
        // A root that the mapped users can reach.
        config["root"]["readonly"] = json!(true);
    }) else {
        return;
    };
    assert_eq!(c.tare(&["start", &c.id]).code, 0);
    assert_eq!(ok(&c.exec(&["-u", "33:44"], &["id"])), "uid=33 gid=44");
    let answer = c.exec(&["-d", "-u", "33:44", "--pid-file", c.path("pid")], &["sleep", "100"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let pid: i32 = std::fs::read_to_string(c.path("pid")).expect("pid file").parse().expect("number");
    assert_eq!(ns(pid, "user"), ns(c.pid(), "user"));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("Uid:\t100033\t100033\t100033\t100033\n"), "{status}");
    assert!(ok(&c.exec(&[], &["cat", "/proc/self/cgroup"])).lines().any(|l| l.ends_with(":/")));
}

#[test]
fn a_terminal_is_relayed() {
    let Some(c) = Sleeper::start("tty", |_| {}) else { return };
    let inner = c.command(&["exec", "-t", &c.id, "sh", "-c", "tty; echo to-stdout; exit 5"]);
    let words: Vec<_> = inner.get_args().map(|a| format!("'{}'", a.to_string_lossy())).collect();
    let mut script = std::process::Command::new("script");
    script.args(["-eqc", &format!("timeout {}", words.join(" ")), "/dev/null"]).stdin(std::process::Stdio::null());
    let answer = Answer::from(script.output().expect("script"));
    assert_eq!(answer.code, 5, "{answer:?}");
    assert!(answer.out.contains("/dev/pts/0\r\nto-stdout\r\n"), "{answer:?}");
}

#[test]
fn the_affinity_of_exec_is_set() {
    let Some(c) =
        Sleeper::start("cpus", |config| config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"}))
    else {
        return;
    };
    let status_text = c.exec(&[], &["cat", "/proc/self/status"]);
    assert_eq!(status(ok(&status_text), "Cpus_allowed_list"), "0");
}
