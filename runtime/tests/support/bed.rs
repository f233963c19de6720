//! A bundle with busybox in it, and the binary run on it: every test cleans up after itself, even when it fails.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use super::TARE;
use super::{busybox, patience, plain_config};

/// What a command left behind.
#[derive(Debug)]
pub struct Said {
    /// Exit code; none for a death by signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Asserts success, answers standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Asserts that it failed with exit code 1 and one line that holds this text.
    #[track_caller]
    pub fn fails(self, text: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains(text), "no {text:?} in {self:?}");
        assert_eq!(self.err.lines().filter(|l| l.contains("level=error")).count(), 1, "{self:?}");
    }
}

/// A directory with a bundle and a state root, and the id of the one container that is made of them.
pub struct Bed {
    /// Where everything is.
    pub dir: PathBuf,
    /// The container's id.
    pub id: String,
}

#[allow(unused_imports, reason = "each test file uses a part of it")]
pub use super::ready as is_root;

impl Bed {
    /// A bundle whose program is this script.
    pub fn new(script: &str) -> Bed {
        Bed::with(script, |_| {})
    }

    /// The same with the configuration changed.
    pub fn with(script: &str, change: impl FnOnce(&mut Value)) -> Bed {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("verbs-{}-{}", super::unique(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&id);
        busybox(&dir.join("bundle/rootfs"));
        std::fs::create_dir(dir.join("bundle/rootfs/run")).unwrap();
        let mut config = plain_config();
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        change(&mut config);
        std::fs::write(dir.join("bundle/config.json"), config.to_string()).unwrap();
        Bed { dir, id }
    }

    /// A path below the state root.
    pub fn state(&self, name: &str) -> PathBuf {
        self.dir.join("state").join(&self.id).join(name)
    }

    /// The command, not yet run. The word `ID` stands for the id and `BUNDLE` for the bundle.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TARE);
        command.arg("--root").arg(self.dir.join("state"));
        for arg in args {
            match *arg {
                "ID" => command.arg(&self.id),
                "BUNDLE" => command.arg(self.dir.join("bundle")),
                arg => command.arg(arg),
            };
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command.
    #[track_caller]
    pub fn tare(&self, args: &[&str]) -> Said {
        run(&mut self.command(args))
    }

    /// Creates and starts the container.
    #[track_caller]
    pub fn started(&self) {
        self.tare(&["create", "-b", "BUNDLE", "ID"]).ok();
        self.tare(&["start", "ID"]).ok();
    }

    /// Its state.
    #[track_caller]
    pub fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.tare(&["state", "ID"]).ok()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// Its pid.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let state: Value = serde_json::from_str(&self.tare(&["state", "ID"]).ok()).unwrap();
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    }

    /// Waits for a status.
    #[track_caller]
    pub fn until(&self, wanted: &str) {
        eventually(|| self.status() == wanted);
    }

    /// The container's cgroup of a controller.
    #[track_caller]
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let facts = tare::run::cgroup::probe().unwrap();
        let v1 = facts.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller)).map(|h| h.mount.clone());
        Path::new(&v1.unwrap_or_else(|| facts.v2.unwrap().mount)).join(&self.id)
    }

    /// Asserts that nothing is left of the container: no state, no cgroup, no process.
    #[track_caller]
    pub fn nothing_left(&self) {
        assert!(!self.dir.join("state").join(&self.id).exists(), "the state directory is left");
        let facts = tare::run::cgroup::probe().unwrap();
        let mounts = facts.v1.iter().map(|h| &h.mount).chain(facts.v2.iter().map(|u| &u.mount));
        for mount in mounts {
            assert!(!Path::new(mount).join(&self.id).exists(), "a cgroup is left in {mount}");
        }
        let lines = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let at = self.dir.to_str().unwrap();
        assert!(!lines.lines().any(|l| l.split(' ').nth(4).is_some_and(|p| p.starts_with(&format!("{at}/bundle")))));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let mut command = self.command(&["delete", "--force", "ID"]);
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs a command; one that hangs is killed and is a failure. Output goes through files: a container that outlives its
/// command holds a pipe open.
#[track_caller]
pub fn run(command: &mut Command) -> Said {
    let [out, err] = [unnamed(), unnamed()];
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let code = end(&mut child).unwrap_or_else(|| panic!("{command:?} hangs; it said {:?}", text(&err)));
    Said { code: code.code(), out: text(&out), err: text(&err) }
}

/// How a process ended; one that does not end in time is killed.
pub fn end(child: &mut Child) -> Option<std::process::ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if start.elapsed() > patience() {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn unnamed() -> std::fs::File {
    let fd = nix::fcntl::open(
        &std::env::temp_dir(),
        nix::fcntl::OFlag::O_TMPFILE | nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    );
    fd.unwrap().into()
}

/// All that is in a file.
pub fn text(mut file: &std::fs::File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until something is true.
#[track_caller]
pub fn eventually(mut truth: impl FnMut() -> bool) {
    let start = Instant::now();
    while !truth() {
        assert!(start.elapsed() < patience(), "it does not come true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The output of a child that ended, as text.
pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
