//! One bundle, one id, what a container of it looks like, and what is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::{Value, json};

/// What the program says of itself, and `exec` after it: all that a config decides and a process can see.
const REPORT: &str = "sed -n -e '/^Uid\\|^Gid\\|^Groups\\|^Cap\\|^NoNew\\|^Seccomp:\\|^Umask/p' /proc/self/status; \
    cut -d' ' -f4,5,6,8- /proc/self/mountinfo | sed -e 's/pts\\/[0-9]*//' -e '/ \\/dev\\/[a-z]* /d' | sort; cat /proc/self/limits /proc/self/cgroup \
    /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; hostname; pwd; \
    stat -c '%N %F %t:%T %a' /dev/*; ls /proc/self/fd | wc -l; env | sort; echo END";
/// How long what ends by itself may take to do so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a sweep happens.
pub(crate) struct Bed {
    pub(crate) runtime: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) id: String,
    mounts: BTreeSet<String>,
}

impl Bed {
    /// Makes the bundle: busybox, and the runtime's own default config with a bit of everything.
    ///
    /// # Errors
    /// What could not be made.
    pub(crate) fn new(runtime: &Path, name: &str) -> Result<Self, String> {
        let say = |e: std::io::Error| format!("bundle: {e}");
        let dir = PathBuf::from("/run").join(name);
        let root = dir.join("bundle/rootfs");
        for sub in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(root.join(sub)).map_err(say)?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).map_err(say)?;
        for applet in
            ["sh", "cat", "sed", "cut", "sort", "ls", "grep", "hostname", "env", "sleep", "pwd", "stat", "wc", "true"]
        {
            symlink("busybox", root.join("bin").join(applet)).map_err(say)?;
        }
        let mut bed = Bed { runtime: runtime.to_owned(), dir, id: name.to_owned(), mounts: BTreeSet::new() };
        let spec = Command::new(&bed.runtime).arg("spec").current_dir(bed.dir.join("bundle")).status().map_err(say)?;
        if !spec.success() {
            return Err(format!("{} spec: {spec}", bed.runtime.display()));
        }
        let path = bed.dir.join("bundle/config.json");
        let text = fs::read(&path).map_err(say)?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        bed.fill(&mut config);
        fs::write(&path, config.to_string()).map_err(say)?;
        bed.mounts = mounts();
        Ok(bed)
    }

    fn fill(&self, config: &mut Value) {
        let hook = json!([{"path": "/bin/busybox", "args": ["true"]}]);
        let inside = json!([{"path": "/bin/true", "args": ["true"]}]);
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", format!("({REPORT}) >/tmp/report; exec sleep 1000")]);
        config["process"]["oomScoreAdj"] = json!(77);
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 18});
        config["root"] = json!({"path": "rootfs", "readonly": false});
        config["linux"]["cgroupsPath"] = json!(format!("/{}", self.id));
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
        config["linux"]["resources"] = json!({"pids": {"limit": 100}, "memory": {"limit": 268_435_456},
            "cpu": {"shares": 512}});
        config["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "startContainer": inside,
            "poststart": hook, "poststop": hook});
    }

    fn root(&self) -> PathBuf {
        self.dir.join("bundle/rootfs")
    }

    /// The command line of a verb.
    pub(crate) fn args(&self, verb: &str) -> Vec<String> {
        let text = |path: PathBuf| path.display().to_string();
        let (state, bundle) = (text(self.dir.join("state")), text(self.dir.join("bundle")));
        // Of the verb that is looked at alone: what comes before it has none.
        let (pid, report) = (text(self.dir.join(format!("pid-of-{verb}"))), format!("({REPORT}) >/tmp/exec"));
        let words: Vec<&str> = match verb {
            "create" => vec!["create", "--bundle", &bundle, "--pid-file", &pid, &self.id],
            "exec" => vec!["exec", "--pid-file", &pid, &self.id, "sh", "-c", &report],
            "kill" => vec!["kill", &self.id, "KILL"],
            "delete" => vec!["delete", "--force", &self.id],
            "update" => vec!["update", "--pids-limit", "55", "--cpu-share", "256", &self.id],
            verb => vec![verb, &self.id],
        };
        ["--root", &state].into_iter().chain(words).map(str::to_owned).collect()
    }

    /// Runs a verb undisturbed: its status and what it said.
    pub(crate) fn call(&self, verb: &str) -> (Option<i32>, String) {
        let out = fs::File::create(self.dir.join("out")).and_then(|f| Ok((f.try_clone()?, f)));
        let Ok((out, err)) = out else { return (None, "no file for the output".to_owned()) };
        let mut command = Command::new(&self.runtime);
        let child = command.args(self.args(verb)).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let code = child.ok().and_then(|child| reap_until(i32::try_from(child.id()).ok()?));
        let said = fs::read_to_string(self.dir.join("out")).unwrap_or_default();
        (code, said.trim().to_owned())
    }

    /// What must be there before a verb, and nothing else.
    ///
    /// # Errors
    /// What a command said that failed.
    pub(crate) fn prepare(&self, verb: &str) -> Result<(), String> {
        let before: &[&str] = match verb {
            "create" => &[],
            "start" => &["create"],
            "resume" => &["create", "start", "pause"],
            _ => &["create", "start"],
        };
        for file in ["report", "exec"] {
            let _ = fs::remove_file(self.root().join("tmp").join(file));
        }
        // Half of one, too, as a command leaves it that was killed.
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains("pid-of-") {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::set_permissions(self.root().join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o777));
        for step in before {
            let (code, said) = self.call(step);
            if code != Some(0) {
                return Err(format!("{step} before {verb}: {code:?} {said}"));
            }
            // Before it is paused it is to have said all.
            if *step == "start" {
                self.report("report")?;
            }
        }
        Ok(())
    }

    /// What a program said of itself, as soon as it is whole.
    ///
    /// # Errors
    /// It does not come.
    pub(crate) fn report(&self, file: &str) -> Result<String, String> {
        let path = self.root().join("tmp").join(file);
        let end = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.ends_with("END\n") {
                return Ok(text);
            }
            if Instant::now() > end {
                return Err(format!("the program's report does not come: {text}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Values of the container's limits, and whether it is frozen, as the host sees them.
    pub(crate) fn limits(&self) -> Vec<String> {
        let files = [
            "pids.max",
            "memory.limit_in_bytes",
            "memory.max",
            "cpu.shares",
            "cpu.weight",
            "freezer.state",
            "cgroup.freeze",
        ];
        let mut seen = Vec::new();
        for group in self.groups() {
            for file in files {
                let text = fs::read_to_string(group.join(file)).unwrap_or_default();
                seen.extend((!text.is_empty()).then(|| format!("{file} {}", text.trim())));
            }
        }
        seen.sort();
        seen
    }

    fn groups(&self) -> Vec<PathBuf> {
        let tops = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
        tops.chain([PathBuf::from("/sys/fs/cgroup")]).map(|p| p.join(&self.id)).filter(|p| p.is_dir()).collect()
    }

    /// How many processes there are beside this one.
    pub(crate) fn processes() -> Vec<String> {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(s) if s != WaitStatus::StillAlive) {}
        let own = std::process::id().to_string();
        let all =
            fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().into_string().ok());
        let others = all.filter(|n| n.bytes().all(|b| b.is_ascii_digit()) && *n != own);
        let name = |pid: String| {
            let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some(format!("process {}", line.split(')').next()?))
        };
        others.filter_map(name).collect()
    }

    /// Everything that is left of the container.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Bed::processes();
        left.extend(self.groups().iter().map(|p| p.display().to_string()));
        left.extend(mounts().difference(&self.mounts).cloned());
        let states = fs::read_dir(self.dir.join("state")).into_iter().flatten().flatten();
        left.extend(states.map(|e| e.path().display().to_string()));
        left
    }

    /// Whether there is a pid file of this verb, or half of one.
    pub(crate) fn has_pid_file(&self, verb: &str) -> bool {
        let whole = format!("pid-of-{verb}");
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.file_name());
        files.map(|n| n.to_string_lossy().into_owned()).any(|n| n == whole || n.starts_with(&format!(".{whole}")))
    }

    /// The same, given a moment: who waits for a dead parent ends by himself.
    pub(crate) fn left_at_last(&self) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = self.left();
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Makes sure that the next point begins with nothing, whatever this one has left.
    pub(crate) fn clean(&self) {
        for process in Bed::processes() {
            let pid = process.split_whitespace().nth(1).and_then(|p| p.parse().ok());
            let _ = pid
                .map(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL));
        }
        for group in self.groups() {
            let _ = fs::write(group.join("freezer.state"), "THAWED");
            let _ = fs::write(group.join("cgroup.freeze"), "0");
        }
        std::thread::sleep(Duration::from_millis(50));
        let _ = Bed::processes();
        for group in self.groups() {
            let _ = fs::remove_dir(group);
        }
        let _ = fs::remove_dir_all(self.dir.join("state"));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.clean();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The status of a process, and everybody's who ends before it: this is the first process of its namespace, and a zombie that it
/// leaves would keep a container's init from ending.
fn reap_until(child: i32) -> Option<i32> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => return Some(code),
            Ok(WaitStatus::Signaled(pid, ..)) if pid.as_raw() == child => return None,
            Err(nix::errno::Errno::ECHILD) => return None,
            _ => {}
        }
    }
}

fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|l| l.split(' ').nth(4).map(|at| format!("mount {at}"))).collect()
}
