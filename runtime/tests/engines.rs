//! The command lines of real engines, run in their order from create to `delete --force`: go-runc's single dashes
//! (containerd, Docker), BuildKit, conmon with Podman, CRI-O.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Case, Output, case, ready};

fn sleeper() -> Case {
    case().args(&["sleep", "1000"])
}

/// An engine: how it calls the program, before the command.
struct Engine<'c> {
    case: &'c Case,
    global: Vec<String>,
}

impl Engine<'_> {
    /// `LOG`, `BUNDLE`, `ID` and the like stand for what is this test's.
    fn command(&self, line: &str) -> Command {
        let at = |name: &str| self.case.dir.join(name).to_str().unwrap().to_owned();
        let mut command = Command::new(support::TARE);
        command.args(&self.global).current_dir("/");
        for word in line.split(' ') {
            let word = word.replace("BUNDLE", self.case.dir.to_str().unwrap()).replace("ID", &self.case.id);
            let word = ["PROCESS", "CONSOLE", "RESOURCES"]
                .iter()
                .fold(word.replace("PFILE", &at("pid")), |w, name| w.replace(name, &at(&name.to_lowercase())));
            command.arg(word);
        }
        command
    }

    fn run(&self, line: &str) -> Output {
        support::run(&mut self.command(line))
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{line}: {said:?}");
        said.out
    }

    /// With this on standard input.
    #[track_caller]
    fn fed(&self, line: &str, text: &str) {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{line}");
    }
}

fn root(case: &Case) -> String {
    case.dir.join("state").to_str().unwrap().to_owned()
}

fn process(case: &Case, args: &[&str], terminal: bool) {
    let process =
        json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "terminal": terminal});
    std::fs::write(case.dir.join("process"), process.to_string()).unwrap();
}

fn receiver(case: &Case) -> std::thread::JoinHandle<std::os::fd::OwnedFd> {
    let path = case.dir.join("console");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        tare::sys::socket::receive_fd(stream.as_fd()).unwrap().unwrap()
    })
}

fn status(engine: &Engine<'_>) -> String {
    let state: Value = serde_json::from_str(&engine.ok("state ID")).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

/// containerd's shim and Docker's: go-runc, which writes long options with one dash where it feels like it.
#[test]
fn containerd_and_docker() {
    if !ready() {
        return;
    }
    for resources in ["update --resources=- ID", "update --resources - ID"] {
        let case = sleeper();
        case.write();
        let log = case.dir.join("log.json");
        let global = ["--root", &root(&case), "--log", log.to_str().unwrap(), "--log-format", "json"];
        let engine = Engine { case: &case, global: global.map(str::to_owned).to_vec() };
        assert!(engine.ok("--version").starts_with("tare version "));
        serde_json::from_str::<Value>(&engine.ok("features")).unwrap();
        assert_eq!(engine.ok("create --bundle BUNDLE --pid-file PFILE --no-pivot=false --no-new-keyring ID"), "");
        let pid = std::fs::read_to_string(case.dir.join("pid")).unwrap();
        assert_eq!(pid, case.pid().to_string());
        assert_eq!(engine.ok("start ID"), "");
        process(&case, &["sleep", "1000"], false);
        assert_eq!(engine.ok("exec --process PROCESS --detach --pid-file PFILE ID"), "");
        let second = std::fs::read_to_string(case.dir.join("pid")).unwrap();
        process(&case, &["sh", "-c", "sleep 1000"], true);
        let master = receiver(&case);
        engine.ok("exec --process PROCESS --console-socket CONSOLE -detach -pid-file PFILE ID");
        let master = master.join().unwrap();
        let pids: Vec<i32> = serde_json::from_str(&engine.ok("ps --format json ID")).unwrap();
        assert!(pids.len() >= 3 && pids.contains(&pid.parse().unwrap()) && pids.contains(&second.parse().unwrap()));
        engine.ok("pause ID");
        assert_eq!(status(&engine), "paused");
        engine.ok("resume ID");
        engine.fed(resources, r#"{"pids": {"limit": 123}}"#);
        assert_eq!(case.limit("pids.max"), "123");
        assert!(engine.ok("events --stats ID").starts_with("{\"type\":\"stats\""));
        engine.ok("kill ID 15");
        engine.ok("kill --all ID 9");
        drop(master);
        case.until("stopped", || status(&engine) == "stopped");
        engine.run("kill ID 9").refused(&["container not running"]);
        engine.ok("delete ID");
        assert_eq!(engine.ok("delete --force ID"), "", "and always once more");
        let said = engine.run("state ID");
        assert_eq!(said.code, 1);
        let text = std::fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(last["msg"].as_str().unwrap().ends_with("container does not exist"), "{last}");
        assert_eq!(case.left(), Vec::<String>::new());
    }
}

#[test]
fn containerd_hands_the_terminal_on() {
    if !ready() {
        return;
    }
    let case = case().args(&["sh", "-c", "tty; read x; exit 3"]).set("/process/terminal", json!(true));
    case.write();
    let engine = Engine { case: &case, global: vec!["--root".to_owned(), root(&case)] };
    let master = receiver(&case);
    engine.ok("create -bundle BUNDLE -console-socket CONSOLE -pid-file PFILE ID");
    engine.ok("start ID");
    let mut master = std::fs::File::from(master.join().unwrap());
    let mut text = [0; 64];
    let n = std::io::Read::read(&mut master, &mut text).unwrap();
    assert!(String::from_utf8_lossy(&text[..n]).starts_with("/dev/pts/0"));
    std::io::Write::write_all(&mut master, b"\n").unwrap();
    case.until("stopped", || status(&engine) == "stopped");
    engine.ok("delete ID");
    engine.ok("delete --force ID");
}

#[test]
fn buildkit() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    let log = case.dir.join("log.json");
    let global = ["--log", log.to_str().unwrap(), "--log-format", "json", "--root", &root(&case)];
    let engine = Engine { case: &case, global: global.map(str::to_owned).to_vec() };
    let refused = engine.run("state ID");
    assert!(refused.err.to_lowercase().contains("does not exist"), "{refused:?}");
    let mut child = engine.command("run --bundle BUNDLE --keep ID").stdin(Stdio::null()).spawn().unwrap();
    case.until("running", || {
        let said = engine.run("state ID");
        said.code == 0 && serde_json::from_str::<Value>(&said.out).unwrap()["status"] == "running"
    });
    process(&case, &["sh", "-c", "echo hi; exit 6"], false);
    let said = engine.run("exec --process PROCESS ID");
    assert_eq!((said.code, said.out.as_str()), (6, "hi\n"), "{said:?}");
    engine.ok("kill ID 9");
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(status(&engine), "stopped", "it is kept");
    engine.run("kill ID 9").refused(&["container not running"]);
    engine.ok("delete ID");
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn conmon_and_podman() {
    if !ready() {
        return;
    }
    let case = case().script("trap 'exit 0' TERM; while :; do sleep 0.05; done").set("/process/terminal", json!(true));
    case.write();
    let engine = Engine { case: &case, global: vec!["--root".to_owned(), root(&case)] };
    let master = receiver(&case);
    engine.ok("create --bundle BUNDLE --pid-file PFILE --console-socket CONSOLE ID");
    let _init = master.join().unwrap();
    assert_eq!(status(&engine), "created");
    engine.ok("start ID");
    process(&case, &["sleep", "1000"], true);
    let master = receiver(&case);
    engine.ok("exec --pid-file PFILE --process PROCESS --detach --tty --console-socket CONSOLE ID");
    let _exec = master.join().unwrap();
    process(&case, &["sleep", "1000"], false);
    engine.ok("exec --pid-file PFILE --process PROCESS --detach ID");
    assert!(engine.ok("checkpoint --help").contains("checkpoint"));
    engine.ok("pause ID");
    engine.ok("resume ID");
    std::fs::write(case.dir.join("resources"), r#"{"pids": {"limit": 321}}"#).unwrap();
    engine.ok("update --resources=RESOURCES ID");
    assert_eq!(case.limit("pids.max"), "321");
    engine.ok("kill ID 15");
    case.until("stopped", || status(&engine) == "stopped");
    engine.ok("kill --all ID 9");
    engine.ok("delete --force ID");
    engine.ok("delete --force ID");
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn cri_o() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    let engine = Engine { case: &case, global: vec![format!("--root={}", root(&case))] };
    engine.ok("create --bundle BUNDLE --pid-file PFILE ID");
    engine.ok("start ID");
    process(&case, &["sh", "-c", "echo out; echo err >&2; exit 2"], false);
    let said = engine.run("exec --process PROCESS ID");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (2, "out\n", "err\n"));
    engine.fed("update --resources - ID", r#"{"pids": {"limit": 99}}"#);
    assert_eq!(case.limit("pids.max"), "99");
    engine.ok("kill ID TERM");
    engine.ok("kill ID KILL");
    case.until("stopped", || status(&engine) == "stopped");
    engine.ok("kill -a ID KILL");
    engine.ok("delete ID");
    engine.ok("delete --force ID");
    assert_eq!(case.left(), Vec::<String>::new());
}

/// A link of that name is that runtime, in every message.
#[test]
fn a_link_named_runc_is_runc() {
    if !ready() {
        return;
    }
    let case = case();
    let link = case.dir.join("runc");
    std::os::unix::fs::symlink(support::TARE, &link).unwrap();
    let said = support::run(Command::new(&link).arg("--version"));
    assert!(said.out.starts_with("runc version "), "{said:?}");
    let said = support::run(Command::new(&link).arg("start"));
    assert!(said.err.contains("runc: \\\"start\\\" requires exactly 1 argument(s)"), "{said:?}");
    assert!(support::run(Command::new(&link).arg("--help")).out.starts_with("NAME:\n   runc - "));
}
