//! A container of busybox for the tests of `exec`: made for one test, gone with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A container that sleeps, with its bundle and the root of its state.
pub(crate) struct Sleeper {
    /// Directory of everything.
    pub(crate) dir: PathBuf,
    /// The id.
    pub(crate) id: String,
}

const APPLETS: [&str; 12] = ["sh", "ls", "cat", "sleep", "id", "grep", "echo", "true", "ps", "tty", "kill", "readlink"];

impl Sleeper {
    /// Makes a bundle whose config `change` may alter, and creates its container. `None` for anybody but root, or
    /// without busybox: there is nothing to be tested with.
    pub(crate) fn create(name: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let busybox = Path::new("/bin/busybox");
        let root = std::fs::read_to_string("/proc/self/status").expect("/proc").contains("\nUid:\t0\t0");
        if !root || !busybox.exists() {
            return None;
        }
        let id = format!("exec-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(format!("tare-{id}"));
        for sub in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            std::fs::create_dir_all(dir.join("rootfs").join(sub)).expect("directories");
        }
        std::fs::copy(busybox, dir.join("rootfs/bin/busybox")).expect("busybox");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", dir.join("rootfs/bin").join(applet)).expect("link");
        }
        std::fs::write(dir.join("rootfs/etc/passwd"), "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/tmp:/bin/sh\n")
            .expect("passwd");
        let sleeper = Sleeper { dir, id };
        let spec = Command::new(env!("CARGO_BIN_EXE_tare")).arg("spec").current_dir(&sleeper.dir).status();
        assert!(spec.expect("tare spec").success());
        let at = sleeper.dir.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&at).expect("config")).expect("JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "600"]);
        config["root"]["readonly"] = json!(false);
        config["process"]["rlimits"] = json!([]);
        change(&mut config);
        std::fs::write(&at, config.to_string()).expect("config");
        let created = sleeper.tare(&["create", "--bundle", sleeper.path(""), &sleeper.id]);
        assert_eq!(created.code, 0, "{created:?}");
        Some(sleeper)
    }

    /// The same, started.
    pub(crate) fn start(name: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let sleeper = Self::create(name, change)?;
        let started = sleeper.tare(&["start", &sleeper.id]);
        assert_eq!(started.code, 0, "{started:?}");
        Some(sleeper)
    }

    /// A path below the directory. Leaks, which a test may.
    pub(crate) fn path(&self, name: &str) -> &'static str {
        self.dir.join(name).into_os_string().into_string().expect("UTF-8").leak()
    }

    /// The command, bounded in time, with this state's root.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "20", env!("CARGO_BIN_EXE_tare"), "--root", self.path("state")]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn tare(&self, args: &[&str]) -> Answer {
        // Not through pipes: what a detached process inherits would keep them open.
        let (out, err) = (self.dir.join("out"), self.dir.join("err"));
        let file = |path: &Path| std::fs::File::create(path).expect("file");
        let status = self.command(args).stdout(file(&out)).stderr(file(&err)).status().expect("timeout");
        let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("file")).into_owned();
        Answer { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    /// `exec` with these options and this command.
    pub(crate) fn exec(&self, options: &[&str], args: &[&str]) -> Answer {
        let all: Vec<&str> =
            ["exec"].iter().chain(options).copied().chain([&*self.id]).chain(args.iter().copied()).collect();
        self.tare(&all)
    }

    /// Init's pid.
    pub(crate) fn pid(&self) -> i32 {
        let state: Value = serde_json::from_str(&self.tare(&["state", &self.id]).out).expect("state");
        i32::try_from(state["pid"].as_i64().expect("pid")).expect("pid")
    }

    /// The container's cgroups of version 1 and 2.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path().join(&self.id));
        all.chain([Path::new("/sys/fs/cgroup").join(&self.id)]).filter(|p| p.is_dir()).collect()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let deleted = self.tare(&["delete", "--force", &self.id]);
        let left = self.cgroups();
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert_eq!(deleted.code, 0, "{deleted:?}");
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
