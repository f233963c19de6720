//! What the tests share: a ttrpc client, an events server, bundles, and a shim that cleans up after itself.

// Each test binary uses its own part of this; helpers outside of a #[test] are test code as well, where an unwrap is an assertion.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stdout)]

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use containerd_shim_tare::api::{
    Any, BootstrapParams, BootstrapResult, CreateRequest, ExecRequest, Extension, ForwardRequest, IdRequest,
    KillRequest, PidResponse, ProcessRequest, RuncOptions, RuntimeOptions, StateResponse, WaitResponse,
};
use containerd_shim_tare::ttrpc::{Parsed, REQUEST, RESPONSE, Request, Response, frame, parse};
use containerd_shim_tare::wire::{Bytes, Message};
use serde_json::{Value, json};

/// The binary under test: the one of this build, or `SHIM_TEST_BINARY` where the tests were carried to another machine.
pub fn shim_binary() -> PathBuf {
    std::env::var_os("SHIM_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_containerd-shim-tare-v2").into(), PathBuf::from)
}

/// The runtime below it: `SHIM_TEST_RUNTIME`, a name or a path.
pub fn runtime() -> String {
    std::env::var("SHIM_TEST_RUNTIME").unwrap_or_else(|_| "runc".into())
}

/// How long anything may take: 20 s, or `SHIM_TEST_PATIENCE` seconds where everything is slow.
pub fn long() -> Duration {
    Duration::from_secs(
        std::env::var("SHIM_TEST_PATIENCE").map_or(20, |s| s.parse().expect("SHIM_TEST_PATIENCE: seconds")),
    )
}

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// True when everything that is named is here; else the test is skipped, or fails where CI says that it must run.
pub fn have(tools: &[&str]) -> bool {
    let runtime = runtime();
    let needed = tools.iter().copied().chain([runtime.as_str()]);
    let mut missing: Vec<String> = needed.filter(|t| which(t).is_none()).map(str::to_owned).collect();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing: {missing:?}");
    println!("SKIPPED: missing {missing:?}");
    false
}

pub fn which(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join(name)).find(|p| p.is_file())
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + long();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process has ended, reaped or not.
pub fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "))
}

/// A directory of our own under /run, gone with the test.
pub struct Home(pub PathBuf);

impl Home {
    pub fn new() -> Home {
        static DEAD: std::sync::Once = std::sync::Once::new();
        DEAD.call_once(sweep_the_dead);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/run/shim-test-{}-{serial}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Home(path)
    }

    pub fn name(&self) -> String {
        self.0.file_name().unwrap().to_string_lossy().into_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A runtime without a journal, killed between a group and the note of it, leaves that group: not the shim's to answer for.
        if std::thread::panicking() || !runtime().contains("tare") {
            sweep(&self.0);
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What tests left that were killed: their own clean-up never ran.
fn sweep_the_dead() {
    for entry in fs::read_dir("/run").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("shim-test-").and_then(|rest| rest.split('-').next());
        if owner.and_then(|pid| pid.parse().ok()).is_some_and(has_ended) {
            sweep(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Ends and removes whatever bears the name of a test's home. For tests that have failed: one that passes has left nothing, and
/// what it does leave must be seen.
pub fn sweep(home: &Path) {
    let (mark, name) = (format!("{}/", home.display()), home.file_name().unwrap().to_owned());
    let groups = || {
        let found = cgroups_with(&name.to_string_lossy());
        found.into_iter().filter(|dir| dir.components().any(|part| part.as_os_str() == name)).collect::<Vec<_>>()
    };
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        processes_with(&mark).into_iter().for_each(|pid| signal(pid, "-KILL"));
        let mut left = groups();
        for dir in &left {
            let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            listed.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid != 0).for_each(|pid| signal(pid, "-KILL"));
        }
        // The deepest first.
        left.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
        left.retain(|dir| fs::remove_dir(dir).is_err());
        if (left.is_empty() && processes_with(&mark).is_empty()) || Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for target in mounts.lines().rev().filter_map(|l| l.split(' ').nth(1)).filter(|t| t.starts_with(&mark)) {
        let _ = Command::new("umount").args(["-l", target]).stderr(Stdio::null()).status();
    }
}

/// A root file system of busybox.
pub fn make_rootfs(dir: &Path) {
    for sub in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    fs::copy(which("busybox").unwrap(), dir.join("bin/busybox")).unwrap();
    for applet in ["sh", "sleep", "true", "cat", "echo", "dd", "stty", "seq", "head", "tail", "yes", "id"] {
        std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet)).unwrap();
    }
}

/// A configuration that runs `args`.
pub fn config(rootfs: &Path, cgroup: &str, args: &[&str], terminal: bool) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
            "env": ["PATH=/bin", "TERM=xterm"], "noNewPrivileges": true,
        },
        "root": {"path": rootfs, "readonly": false},
        "hostname": "shim-test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
        },
    })
}

/// A ttrpc client with blocking calls; answers may come in any order.
pub struct Client {
    socket: UnixStream,
    next: u32,
    received: Vec<u8>,
    answers: HashMap<u32, Response>,
    pub service: &'static str,
}

pub type Reply<T> = Result<T, (i32, String)>;

impl Client {
    pub fn connect(path: &Path) -> Client {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(long())).unwrap();
        let service = "containerd.task.v2.Task";
        Client { socket, next: 1, received: Vec::new(), answers: HashMap::new(), service }
    }

    pub fn send(&mut self, method: &str, request: &impl Message) -> u32 {
        self.send_raw(method, request.encode(), 0)
    }

    pub fn send_raw(&mut self, method: &str, payload: Vec<u8>, timeout_nano: i64) -> u32 {
        let stream = self.next;
        self.next += 2;
        let request =
            Request { service: self.service.into(), method: method.into(), payload: Bytes(payload), timeout_nano };
        self.socket.write_all(&frame(stream, REQUEST, &request.encode())).unwrap();
        stream
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// The answer of a call, whatever else comes first; `None` when the connection ends.
    pub fn receive<T: Message>(&mut self, stream: u32) -> Option<Reply<T>> {
        loop {
            if let Some(response) = self.answers.remove(&stream) {
                return Some(match response.status {
                    Some(status) if status.code != 0 => Err((status.code, status.message)),
                    _ => Ok(T::decode(&response.payload.0).unwrap()),
                });
            }
            while let Parsed::Frame(stream, kind, payload, taken) = parse(&self.received) {
                assert_eq!(kind, RESPONSE);
                self.received.drain(..taken);
                self.answers.insert(stream, Response::decode(&payload).unwrap());
            }
            if self.answers.contains_key(&stream) {
                continue;
            }
            let mut chunk = [0u8; 65536];
            let count = self.socket.read(&mut chunk).expect("an answer in time");
            if count == 0 {
                return None;
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    /// Whether an answer comes within a short time.
    pub fn is_answered(&mut self, stream: u32) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let mut chunk = [0u8; 65536];
        if let Ok(count) = self.socket.read(&mut chunk) {
            self.received.extend_from_slice(&chunk[..count]);
        }
        self.socket.set_read_timeout(Some(long())).unwrap();
        matches!(parse(&self.received), Parsed::Frame(s, ..) if s == stream) || self.answers.contains_key(&stream)
    }

    pub fn call<T: Message>(&mut self, method: &str, request: &impl Message) -> Reply<T> {
        let stream = self.send(method, request);
        self.receive(stream).expect("the connection stays open")
    }
}

/// An events service that remembers.
#[derive(Clone, Default)]
pub struct Events {
    list: Arc<Mutex<Vec<(String, Any)>>>,
}

impl Events {
    pub fn serve(path: &Path) -> Events {
        let events = Events::default();
        let listener = UnixListener::bind(path).unwrap();
        let shared = events.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.converse(stream));
            }
        });
        events
    }

    fn converse(&self, mut stream: UnixStream) {
        let mut received = Vec::new();
        let mut chunk = [0u8; 65536];
        while let Ok(count) = stream.read(&mut chunk) {
            if count == 0 {
                return;
            }
            received.extend_from_slice(&chunk[..count]);
            while let Parsed::Frame(id, _, payload, taken) = parse(&received) {
                received.drain(..taken);
                let request = Request::decode(&payload).unwrap();
                let envelope = ForwardRequest::decode(&request.payload.0).unwrap().envelope.unwrap();
                self.list.lock().unwrap().push((envelope.topic, envelope.event.unwrap()));
                if stream.write_all(&frame(id, RESPONSE, &Response::default().encode())).is_err() {
                    return;
                }
            }
        }
    }

    pub fn topics(&self) -> Vec<String> {
        self.list.lock().unwrap().iter().map(|(t, _)| t.trim_start_matches("/tasks/").to_owned()).collect()
    }

    pub fn wait(&self, topic: &str, count: usize) {
        let seen = || self.topics().iter().filter(|t| *t == topic).count();
        wait_for(&format!("{count} × {topic}, have {:?}", self.topics()), || (seen() >= count).then_some(()));
    }

    pub fn all<T: Message>(&self, topic: &str) -> Vec<T> {
        let list = self.list.lock().unwrap();
        list.iter().filter(|(t, _)| t.ends_with(topic)).map(|(_, e)| T::decode(&e.value.0).unwrap()).collect()
    }
}

/// A running shim and everything around it.
pub struct Shim {
    pub home: Home,
    pub socket: PathBuf,
    pub pid: u32,
    pub events: Events,
    pub runtime: String,
    pub client: Client,
}

impl Shim {
    /// Starts a shim for container `id`, which runs `args`.
    pub fn start(id: &str, args: &[&str]) -> Shim {
        Self::start_with(id, args, false, &runtime())
    }

    pub fn start_with(id: &str, args: &[&str], terminal: bool, runtime: &str) -> Shim {
        let home = Home::new();
        let events = Events::serve(&home.0.join("events"));
        make_rootfs(&home.0.join("root"));
        write_bundle(&home, id, args, terminal, |_| {});
        let answer = start_action(&home, id, runtime, true);
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        let result = BootstrapResult::decode(&answer.stdout).unwrap();
        let socket = PathBuf::from(result.address.strip_prefix("unix://").unwrap());
        let mut client = Client::connect(&socket);
        let connected: containerd_shim_tare::api::ConnectResponse =
            client.call("Connect", &IdRequest { id: id.into() }).unwrap();
        Shim { home, socket, pid: connected.shim_pid, events, runtime: runtime.into(), client }
    }

    pub fn bundle(&self, id: &str) -> PathBuf {
        self.home.0.join("state").join(id)
    }

    pub fn options(&self) -> Any {
        runc_options(&self.home, &self.runtime)
    }

    pub fn create_request(&self, id: &str) -> CreateRequest {
        CreateRequest {
            id: id.into(),
            bundle: self.bundle(id).to_string_lossy().into_owned(),
            options: Some(self.options()),
            ..CreateRequest::default()
        }
    }

    pub fn create(&mut self, id: &str) -> u32 {
        let request = self.create_request(id);
        self.client.call::<PidResponse>("Create", &request).unwrap().pid
    }

    pub fn run(&mut self, id: &str) -> u32 {
        let created = self.create(id);
        let started = self.client.call::<PidResponse>("Start", &process(id, "")).unwrap().pid;
        assert_eq!(created, started);
        started
    }

    pub fn add_exec(&mut self, id: &str, exec_id: &str, args: &[&str]) -> Reply<PidResponse> {
        self.client.call("Exec", &exec_request(id, exec_id, args))
    }

    pub fn kill(&mut self, id: &str, exec_id: &str, signal: u32) -> Reply<PidResponse> {
        let request = KillRequest { id: id.into(), exec_id: exec_id.into(), signal, all: false };
        self.client.call("Kill", &request)
    }

    pub fn state(&mut self, id: &str, exec_id: &str) -> Reply<StateResponse> {
        self.client.call("State", &process(id, exec_id))
    }

    pub fn wait(&mut self, id: &str, exec_id: &str) -> u32 {
        self.client.call::<WaitResponse>("Wait", &process(id, exec_id)).unwrap().exit_status
    }

    /// How often this shim has been switched to, by its own will or not.
    pub fn switches(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        status
            .lines()
            .filter_map(|l| l.split_once("ctxt_switches:"))
            .map(|(_, n)| n.trim().parse::<u64>().unwrap())
            .sum()
    }

    pub fn field(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    pub fn is_alive(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|s| !s.contains(") Z "))
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        signal(self.pid, "-KILL");
        for entry in fs::read_dir(self.home.0.join("state")).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let _ = action(&self.home, &id, "delete").output();
        }
        let _ = fs::remove_file(&self.socket);
        remove_cgroups(&self.home.name());
    }
}

pub fn remove_cgroups(name: &str) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(name));
    }
}

pub fn write_bundle(home: &Home, id: &str, args: &[&str], terminal: bool, change: impl FnOnce(&mut Value)) {
    let bundle = home.0.join("state").join(id);
    fs::create_dir_all(&bundle).unwrap();
    let mut made = config(&home.0.join("root"), &format!("/{}/{id}", home.name()), args, terminal);
    change(&mut made);
    fs::write(bundle.join("config.json"), made.to_string()).unwrap();
}

pub fn runc_options(home: &Home, runtime: &str) -> Any {
    let root = home.0.join("runtime").to_string_lossy().into_owned();
    let options = RuncOptions { binary_name: runtime.into(), root, ..RuncOptions::default() };
    Any::of("containerd.runc.v1.Options", &options)
}

/// Options as a section of an engine's configuration brings them; `more` holds further lines.
pub fn toml_options(home: &Home, runtime: &str, more: &str) -> Any {
    let root = home.0.join("runtime");
    let body = format!("BinaryName = {runtime:?}\nRoot = {root:?}\n{more}\n");
    let options = RuntimeOptions { config_body: Bytes(body.into_bytes()), ..RuntimeOptions::default() };
    Any::of("runtimeoptions.v1.Options", &options)
}

/// A program of the test's own.
pub fn script(path: &Path, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_string_lossy().into_owned()
}

/// The processes whose command line holds `text`.
pub fn processes_with(text: &str) -> Vec<u32> {
    let holds = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text) && *pid != std::process::id()
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(holds).collect()
}

/// The cgroups whose path holds `name`.
pub fn cgroups_with(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.path().to_string_lossy().contains(name) {
                    found.push(entry.path());
                }
                todo.push(entry.path());
            }
        }
    }
    found
}

pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status();
}

pub fn action(home: &Home, id: &str, verb: &str) -> Command {
    let mut command = Command::new(shim_binary());
    command
        .args(["-namespace", "test", "-address", &home.0.join("engine").to_string_lossy()])
        .args(["-publish-binary", "/usr/bin/containerd", "-id", id, verb])
        .current_dir(home.0.join("state").join(id))
        .env("TTRPC_ADDRESS", home.0.join("events"))
        .env("TARE_SHIM_LOGGERS", home.0.join("loggers"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs `start` as containerd 2.3 does (`modern`) or as those before it.
pub fn start_action(home: &Home, id: &str, runtime: &str, modern: bool) -> Output {
    start_with_options(home, id, runc_options(home, runtime), modern)
}

pub fn start_with_options(home: &Home, id: &str, options: Any, modern: bool) -> Output {
    let input = if modern {
        let params = BootstrapParams {
            instance_id: id.into(),
            namespace: "test".into(),
            socket_dir: home.0.to_string_lossy().into_owned(),
            extensions: vec![Extension { value: Some(options) }],
            ..BootstrapParams::default()
        };
        params.encode()
    } else {
        options.encode()
    };
    let mut child = action(home, id, "start").spawn().unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    child.wait_with_output().unwrap()
}

pub fn process(id: &str, exec_id: &str) -> ProcessRequest {
    ProcessRequest { id: id.into(), exec_id: exec_id.into() }
}

pub fn exec_request(id: &str, exec_id: &str, args: &[&str]) -> ExecRequest {
    let spec = json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    let spec = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
        value: Bytes(spec.to_string().into_bytes()),
    };
    ExecRequest { id: id.into(), exec_id: exec_id.into(), spec: Some(spec), ..ExecRequest::default() }
}

/// Makes a fifo and opens it as engines do: without waiting for the other side.
pub fn fifo(path: &Path) -> fs::File {
    use std::os::unix::fs::OpenOptionsExt;
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
}

/// Reads a non-blocking fifo to its end.
pub fn read_to_end(file: &mut fs::File) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = vec![0u8; 1 << 16];
    wait_for("the end of a stream", || {
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return Some(()),
                Ok(count) => all.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return None,
                Err(e) => panic!("{e}"),
            }
        }
    });
    all
}
