//! One call of the runtime under test: bounded in time, its output in files so that nobody can hang on a pipe.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A runtime and where this case lets it work.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// Binary and the arguments that always stand first.
    pub(crate) command: Vec<String>,
    /// Directory of the case: state, bundle, output.
    pub(crate) dir: PathBuf,
    /// Longest time that one call may take.
    pub(crate) limit: Duration,
    /// Exit codes (128 + signal) of processes that this process inherited and reaped, by pid.
    pub(crate) exits: BTreeMap<i32, i32>,
    calls: u32,
}

/// Where standard output goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Output {
    /// To the file `out` of the case, which the container inherits.
    Container,
    /// To a file of the call.
    Own,
}

impl Runtime {
    /// A runtime that keeps its state below `dir`.
    pub(crate) fn new(command: Vec<String>, dir: &Path, limit: Duration) -> Self {
        Self { command, dir: dir.to_owned(), limit, exits: BTreeMap::new(), calls: 0 }
    }

    /// Calls it with `--root` and the arguments; answers exit code, output and times.
    ///
    /// `rc` is null when the call took longer than the limit and was killed, and 128 + n when signal n ended it.
    ///
    /// # Errors
    /// The binary cannot be started, or the files for its output cannot be made.
    pub(crate) fn call(&mut self, args: &[String], output: Output) -> Result<Value, String> {
        self.calls += 1;
        let own = self.dir.join(format!("stdout.{}", self.calls));
        let errors = self.dir.join(format!("stderr.{}", self.calls));
        let stdout = match output {
            Output::Container => append(&self.dir.join("out")),
            Output::Own => append(&own),
        };
        let stderr = append(&errors);
        let (Some((program, first)), Ok(stdout), Ok(stderr)) = (self.command.split_first(), stdout, stderr) else {
            return Err("no place for the runtime's output".into());
        };
        let begin = now();
        let mut command = Command::new(program);
        command.args(first).arg("--root").arg(self.dir.join("state")).args(args);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).current_dir(&self.dir);
        let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
        let rc = self.wait(&mut child);
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let stdout = text(&own);
        Ok(json!({
            "rc": rc, "json": serde_json::from_str::<Value>(&stdout).unwrap_or(Value::Null), "stdout": stdout,
            "stderr": text(&errors), "begin": begin, "end": now(), "args": args,
        }))
    }

    /// Waits for a call, reaping what else ends meanwhile; kills it at the limit.
    fn wait(&mut self, child: &mut Child) -> Option<i32> {
        let begin = Instant::now();
        let mut pause = Duration::from_micros(500);
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return status.code().or_else(|| status.signal().map(|s| 128 + s));
            }
            if begin.elapsed() > self.limit {
                let _already_gone = child.kill().and_then(|()| child.wait());
                return None;
            }
            self.reap(i32::try_from(child.id()).ok());
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        }
    }

    /// Reaps every ended child but `own`, and notes how it ended: this process is the init of its pid namespace.
    pub(crate) fn reap(&mut self, own: Option<i32>) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, flags) {
            let (pid, code) = match status {
                WaitStatus::Exited(pid, code) => (pid.as_raw(), code),
                WaitStatus::Signaled(pid, signal, _) => (pid.as_raw(), 128 + signal as i32),
                _ => return,
            };
            if Some(pid) == own || waitpid(Pid::from_raw(pid), None).is_err() {
                return;
            }
            self.exits.insert(pid, code);
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Nanoseconds of the realtime clock.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
