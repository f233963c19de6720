//! Whole-command tests: a bundle with busybox, a patch of the default config, one command, what it said.
//!
//! A [`Case`] leaves nothing: when it goes, its container is deleted, and a cgroup, a mount or a state entry that is left
//! fails the test. Two more stand beside it, for tests that are about other things than a config: a [`bed::Bed`] is a bundle
//! and a state root with commands written as they are typed (`ID`, `BUNDLE`), and a [`sleeper::Sleeper`] a container that is
//! there to be entered. All are made of the same root filesystem.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each test file uses a part of it; a test that fails is to panic; a skipped one says why"
)]

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

pub mod bed;
pub mod sleeper;

/// The binary under test.
pub const TARE: &str = env!("CARGO_BIN_EXE_tare");
const BUSYBOX: &str = "/bin/busybox";
/// No command of these tests takes long; a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// The text of `state.json` or `journal.json` as one of another boot: that of this one says nothing of boots where it lies in
/// memory.
pub fn of_another_boot(text: &str) -> String {
    let mut kept: Value = serde_json::from_str(text).unwrap();
    let key = if kept.get("bootId").is_some() { "bootId" } else { "boot_id" };
    assert!(kept[key].is_string(), "{text}");
    kept[key] = json!("00000000-0000-0000-0000-000000000000");
    kept.to_string()
}

/// How often as long as on an ordinary machine something may take here: `TARE_TEST_SLOWNESS`, which the emulated one sets.
pub fn slowness() -> u32 {
    std::env::var("TARE_TEST_SLOWNESS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// What no command and no event of these tests takes.
pub fn patience() -> Duration {
    PATIENCE * slowness()
}

/// Whether these tests can run here. Without that they fail where CI asks for them, else they say that they are skipped.
pub fn ready() -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        "root"
    } else if !Path::new(BUSYBOX).exists() {
        "/bin/busybox (package busybox-static)"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "these tests need {missing}");
    println!("SKIP: needs {missing}");
    false
}

/// What a command said.
#[derive(Debug)]
pub struct Output {
    /// Exit code, or 1000 and the signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Output {
    /// Its output without the space at the end; it must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out.trim_end().to_owned()
    }

    /// It must have failed, and its message must hold each of the parts.
    #[track_caller]
    pub fn refused(self, parts: &[&str]) -> String {
        assert_eq!(self.code, 1, "stdout: {}\nstderr: {}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in: {}", self.err);
        }
        self.err
    }
}

/// Runs a command with an end.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = loop {
        match command.spawn() {
            // A program that was just copied: what another thread is about to execute has the copy open for writing still.
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(2))
            }
            child => break child.unwrap(),
        }
    };
    let mut pipes = [Pipe::of(child.stdout.take().unwrap()), Pipe::of(child.stderr.take().unwrap())];
    let end = Instant::now() + patience();
    let status = loop {
        let ended = child.try_wait().unwrap();
        // A created container keeps the pipes open: what was written by now is all there is to be.
        pipes.iter_mut().for_each(Pipe::drain);
        if let Some(status) = ended {
            break status;
        }
        if Instant::now() > end {
            let group = nix::unistd::Pid::from_raw(-i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
            panic!("still not done after {:?}: {command:?}", patience());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let code = status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0));
    let [out, err] = pipes.map(|p| String::from_utf8_lossy(&p.all).into_owned());
    Output { code, out, err }
}

/// What a command writes, read without waiting for more.
struct Pipe {
    from: std::fs::File,
    all: Vec<u8>,
}

impl Pipe {
    fn of(from: impl Into<std::os::fd::OwnedFd>) -> Self {
        let from = std::fs::File::from(from.into());
        tare::sys::fs::set_nonblocking(std::os::fd::AsFd::as_fd(&from), true).unwrap();
        Pipe { from, all: Vec::new() }
    }

    fn drain(&mut self) {
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = self.from.read(&mut part) {
            self.all.extend_from_slice(&part[..n]);
        }
    }
}

/// One bundle, one id, one directory of states.
pub struct Case {
    /// Directory of all that the test makes.
    pub dir: PathBuf,
    /// The container's id, unique on this machine.
    pub id: String,
    /// The configuration.
    pub config: Value,
    /// Options before the command.
    pub global: Vec<String>,
}

/// A bundle with busybox and the default config: no terminal, a writable root, `true` as the program.
pub fn case() -> Case {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("tare-t{}-{}", unique(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(&id);
    busybox(&dir.join("rootfs"));
    let mut config = plain_config();
    config["process"]["args"] = json!(["true"]);
    Case { dir, id, config, global: Vec::new() }
}

/// A word that no other test process has or had: process ids come again, and a run that was killed leaves its folders.
pub fn unique() -> &'static str {
    static WORD: OnceLock<String> = OnceLock::new();
    WORD.get_or_init(|| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() / 1_000;
        format!("{}-{:x}", std::process::id(), since % (1 << 40))
    })
}

/// Makes a root filesystem of busybox.
pub fn busybox(rootfs: &Path) {
    for sub in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
        std::fs::create_dir_all(rootfs.join(sub)).unwrap();
    }
    std::fs::copy(BUSYBOX, rootfs.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
}

/// The default config without a terminal, and with a root that can be written to.
pub fn plain_config() -> Value {
    let mut config: Value = serde_json::from_str(&tare::default_spec::default_config(None, false)).unwrap();
    config["process"]["terminal"] = json!(false);
    config["root"]["readonly"] = json!(false);
    config
}

/// The cgroups of that name that exist, in all hierarchies.
pub fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
    let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    all.map(|mount| mount.join(id)).filter(|group| group.is_dir()).collect()
}

const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "stat", "mount", "umount", "id", "grep", "true", "false", "sleep", "echo", "touch", "mkdir",
    "readlink", "hostname", "uname", "test", "[", "head", "kill", "ps", "wc", "tr", "cut", "sed", "awk", "mknod",
    "chmod", "chown", "ln", "rm", "dd", "ip", "env", "pwd", "find", "sort", "sysctl", "setsid", "nice", "renice",
    "ionice", "chrt", "tail", "mv", "cp", "date", "tty", "stty", "dmesg", "chroot", "expr", "seq", "printf", "xargs",
    "uniq", "nc",
];

impl Case {
    /// Sets what a JSON pointer names, making the objects on the way; `-` at the end appends to a list.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.config;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            if place.is_null() {
                *place = if part == "-" { json!([]) } else { Value::Object(Map::new()) };
            }
            place = if let Value::Array(list) = place {
                let i = if part == "-" { list.len() } else { part.parse().unwrap() };
                if i == list.len() {
                    list.push(Value::Null);
                }
                &mut list[i]
            } else {
                place.as_object_mut().unwrap().entry(part).or_insert(Value::Null)
            };
        }
        *place = value;
        self
    }

    /// Takes a property away.
    pub fn without(mut self, object: &str, key: &str) -> Self {
        self.config.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(key);
        self
    }

    /// Adds a mount.
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// Takes the mounts away.
    pub fn without_mount(mut self, destination: &str) -> Self {
        self.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != destination);
        self
    }

    /// Adds a namespace, or gives the one of that type a path.
    pub fn namespace(mut self, kind: &str, path: Option<&str>) -> Self {
        self = self.without_namespace(kind);
        let namespace = path.map_or_else(|| json!({"type": kind}), |path| json!({"type": kind, "path": path}));
        self.set("/linux/namespaces/-", namespace)
    }

    /// Takes a namespace away.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
        self
    }

    /// A new user namespace that maps `size` ids from 100000 on.
    pub fn user_namespace(self, size: u32) -> Self {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": size}]);
        let case = self.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        nix::unistd::chown(&case.rootfs(), Some(100_000.into()), Some(100_000.into())).unwrap();
        case
    }

    /// These capabilities in the bounding, effective and permitted sets.
    pub fn caps(self, names: &[&str]) -> Self {
        self.set("/process/capabilities", json!({"bounding": names, "effective": names, "permitted": names}))
    }

    /// The program.
    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// A shell script as the program.
    pub fn script(self, script: &str) -> Self {
        self.args(&["sh", "-c", script])
    }

    /// The root filesystem.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The state directory of the container.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state").join(&self.id)
    }

    /// Writes the config.
    pub fn write(&self) {
        std::fs::write(self.dir.join("config.json"), serde_json::to_vec(&self.config).unwrap()).unwrap();
    }

    /// A command of the binary.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TARE);
        command.arg("--root").arg(self.dir.join("state")).args(&self.global).args(args).current_dir(&self.dir);
        command
    }

    /// Runs a command.
    pub fn tare(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// Runs a command on this container.
    pub fn on(&self, verb: &str) -> Output {
        self.tare(&[verb, &self.id])
    }

    /// `run`.
    pub fn run(&self) -> Output {
        self.write();
        self.on("run")
    }

    /// `run`, and its output.
    #[track_caller]
    pub fn says(&self) -> String {
        self.run().ok()
    }

    /// `run`, its script answering with this.
    #[track_caller]
    pub fn yields(&self, expected: &str) {
        assert_eq!(self.says(), expected);
    }

    /// `run` must be refused with a message that holds these parts, and nothing may be left.
    #[track_caller]
    pub fn refused(&self, parts: &[&str]) {
        self.run().refused(parts);
        assert_eq!(self.left(), Vec::<String>::new(), "left behind");
    }

    /// `create`.
    pub fn create(&self) -> Output {
        self.write();
        self.on("create")
    }

    /// The state as `state` tells it.
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.on("state").ok()).unwrap()
    }

    /// `status` of the state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Init's pid.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap()
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn until(&self, what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + patience();
        while !so() {
            assert!(Instant::now() < end, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until nothing of the container is left, and says what is.
    #[track_caller]
    pub fn until_nothing_is_left(&self) {
        let end = Instant::now() + patience();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "still there: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The container's cgroups that exist, in all hierarchies.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups_of(&self.id)
    }

    /// The text of a cgroup's file, wherever it is.
    pub fn limit(&self, file: &str) -> String {
        let found = self.cgroups().into_iter().map(|g| g.join(file)).find(|f| f.exists());
        found.map_or_else(|| format!("no {file}"), |f| std::fs::read_to_string(f).unwrap().trim().to_owned())
    }

    /// Cgroups, mounts, processes and states that are still there.
    pub fn left(&self) -> Vec<String> {
        let mut left: Vec<_> = self.cgroups().iter().map(|p| p.display().to_string()).collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|l| l.contains(&format!("/{}/", self.id))).map(str::to_owned));
        left.extend(self.state_dir().exists().then(|| self.state_dir().display().to_string()));
        left.extend(self.processes().iter().map(|pid| format!("process {pid}")));
        left
    }

    /// Processes whose root is this case's root filesystem.
    fn processes(&self) -> Vec<String> {
        let rootfs = std::fs::metadata(self.rootfs()).map(|m| inode(&m));
        let of = |entry: std::fs::DirEntry| {
            let pid = entry.file_name().into_string().ok().filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
            let root = std::fs::metadata(entry.path().join("root")).ok()?;
            rootfs.as_ref().is_ok_and(|r| *r == inode(&root)).then_some(pid)
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
    }
}

fn inode(m: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (m.dev(), m.ino())
}

impl Drop for Case {
    fn drop(&mut self) {
        let deleted = self.tare(&["delete", "--force", &self.id]);
        let left = self.left();
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert_eq!((deleted.code, left), (0, Vec::new()), "delete --force: {}", deleted.err);
        }
    }
}
