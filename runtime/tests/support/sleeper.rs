//! A container of busybox for the tests of `exec`: made for one test, gone with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{TARE, busybox, cgroups_of, plain_config, ready};

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
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
pub struct Sleeper {
    /// Directory of everything.
    pub dir: PathBuf,
    /// The id.
    pub id: String,
}

impl Sleeper {
    /// Makes a bundle whose config `change` may alter, and creates its container. `None` for anybody but root, or
    /// without busybox: there is nothing to be tested with.
    pub fn create(name: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        if !ready() {
            return None;
        }
        let id = format!("exec-{name}-{}", super::unique());
        let dir = std::env::temp_dir().join(format!("tare-{id}"));
        busybox(&dir.join("rootfs"));
        std::fs::write(dir.join("rootfs/etc/passwd"), "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/tmp:/bin/sh\n")
            .expect("passwd");
        let sleeper = Sleeper { dir, id };
        let mut config = plain_config();
        config["process"]["args"] = json!(["sleep", "600"]);
        config["process"]["rlimits"] = json!([]);
        change(&mut config);
        std::fs::write(sleeper.dir.join("config.json"), config.to_string()).expect("config");
        let created = sleeper.tare(&["create", "--bundle", sleeper.path(""), &sleeper.id]);
        assert_eq!(created.code, 0, "{created:?}");
        Some(sleeper)
    }

    /// The same, started.
    pub fn start(name: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let sleeper = Self::create(name, change)?;
        let started = sleeper.tare(&["start", &sleeper.id]);
        assert_eq!(started.code, 0, "{started:?}");
        Some(sleeper)
    }

    /// A path below the directory. Leaks, which a test may.
    pub fn path(&self, name: &str) -> &'static str {
        self.dir.join(name).into_os_string().into_string().expect("UTF-8").leak()
    }

    /// The command, bounded in time, with this state's root.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "20", TARE, "--root", self.path("state")]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn tare(&self, args: &[&str]) -> Answer {
        // Not through pipes: what a detached process inherits would keep them open.
        let (out, err) = (self.dir.join("out"), self.dir.join("err"));
        let file = |path: &Path| std::fs::File::create(path).expect("file");
        let status = self.command(args).stdout(file(&out)).stderr(file(&err)).status().expect("timeout");
        let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("file")).into_owned();
        Answer { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    /// `exec` with these options and this command.
    pub fn exec(&self, options: &[&str], args: &[&str]) -> Answer {
        let all: Vec<&str> =
            ["exec"].iter().chain(options).copied().chain([&*self.id]).chain(args.iter().copied()).collect();
        self.tare(&all)
    }

    /// Init's pid.
    pub fn pid(&self) -> i32 {
        let state: Value = serde_json::from_str(&self.tare(&["state", &self.id]).out).expect("state");
        i32::try_from(state["pid"].as_i64().expect("pid")).expect("pid")
    }

    /// The container's cgroups of version 1 and 2.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups_of(&self.id)
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
