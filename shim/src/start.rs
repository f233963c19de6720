//! The `start` action: find the group's shim or become it. One exec by the engine, one fork here, no second exec.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setpgid};

use crate::bootstrap::{self, Bootstrap};
use crate::cli::Arguments;
use crate::options::Options;
use crate::serve::{self, Place};
use crate::{bundle, sha256, socket, sys};

/// Where sockets go when the engine does not say.
pub const SOCKET_DIR: &str = "/run/containerd/s";
/// More than any options need; an engine that writes more is broken.
const INPUT: u64 = 4 << 20;

/// What is to be printed, and whoever must know that it was.
#[derive(Debug)]
pub struct Answer {
    /// The words for the engine.
    pub text: Vec<u8>,
    shim: Option<fs::File>,
}

impl Answer {
    /// The engine has the answer. A shim that never hears of this ends: it has an address that nobody knows.
    pub fn delivered(self) {
        if let Some(mut shim) = self.shim {
            // One that is gone already needs no word.
            let _ = shim.write_all(b".");
        }
    }
}

/// Runs the action. In the child that has become the shim it serves and does not return.
///
/// # Errors
/// A sentence; nothing is left behind then.
pub fn start(arguments: &Arguments) -> Result<Answer, String> {
    for (name, value) in [("id", &arguments.id), ("namespace", &arguments.namespace)] {
        if value.is_empty() {
            return Err(format!("-{name} is missing"));
        }
    }
    sys::close_inherited();
    let mut input = Vec::new();
    io::stdin().take(INPUT).read_to_end(&mut input).map_err(|e| format!("standard input: {e}"))?;
    let said =
        bootstrap::read(&input, &arguments.id, &arguments.namespace).map_err(|e| format!("standard input: {e}"))?;
    let group = group()?;
    let grpc = if arguments.address.is_empty() { &said.grpc_address } else { &arguments.address };
    let place = place(&said, grpc, &arguments.namespace, group.as_deref().unwrap_or(&arguments.id));
    let address = format!("unix://{}", place.display());
    let listener = socket::listen(&place).map_err(|e| format!("socket {}: {e}", place.display()))?;
    let shim = listener.map(|l| become_shim(arguments, &said, l, &place)).transpose().inspect_err(|_| {
        // Nobody will ever answer there.
        let _ = fs::remove_file(&place);
    })?;
    fs::write("address", &address).map_err(|e| format!("address: {e}"))?;
    Ok(Answer { text: bootstrap::answer(said.modern, &address), shim })
}

/// The group that the bundle's container shares a shim with. The bundle of a sandbox has no container.
fn group() -> Result<Option<String>, String> {
    match fs::read("config.json") {
        Ok(config) => Ok(bundle::parse(Path::new("config.json"), &config)?.group),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("config.json: {e}")),
    }
}

/// The socket's path: the same for every member of a group, and for nobody else.
fn place(said: &Bootstrap, grpc: &str, namespace: &str, group: &str) -> PathBuf {
    let dir = if said.socket_dir.is_empty() { SOCKET_DIR } else { &said.socket_dir };
    Path::new(dir).join(sha256::hex(joined(&[grpc, namespace, group]).as_bytes()))
}

/// Go's `filepath.Join`, which containerd names the socket with: cleaned, so that `//` and `.` do not make another name.
fn joined(parts: &[&str]) -> String {
    let whole = parts.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join("/");
    let rooted = whole.starts_with('/');
    let mut clean: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if clean.last().is_some_and(|last| *last != "..") => {
                clean.pop();
            }
            ".." if rooted => {}
            other => clean.push(other),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, clean.join("/"))
}

/// Forks. The parent returns when the child has said that it serves, with the pipe on which that one waits for the word that its
/// address was printed; the child never returns.
fn become_shim(
    arguments: &Arguments,
    said: &Bootstrap,
    listener: UnixListener,
    place: &Path,
) -> Result<fs::File, String> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("pipe: {e}"));
    let ((heard, tell), (awaited, deliver)) = (pipe()?, pipe()?);
    let options = Options::from_any(said.options.as_ref()).map_err(|e| format!("options: {e}"))?;
    match sys::fork().map_err(|e| format!("fork: {e}"))? {
        None => {
            drop((heard, deliver));
            let owned = || socket::own(&listener).map_err(|e| format!("listen: {e}"));
            let code = match detach(&options).and_then(|()| owned()) {
                Ok(()) => serve_for_ever(arguments, said, options, (listener, place), (tell, awaited)),
                Err(text) => complain(tell, &text),
            };
            sys::exit_now(code)
        }
        Some(_) => {
            drop((tell, awaited, listener));
            let mut text = String::new();
            fs::File::from(heard).read_to_string(&mut text).map_err(|e| format!("the shim's first word: {e}"))?;
            if text.is_empty() { Ok(deliver.into()) } else { Err(text) }
        }
    }
}

fn complain(tell: OwnedFd, text: &str) -> i32 {
    // The parent prints it; if it is gone there is nobody to tell.
    let _ = fs::File::from(tell).write_all(text.as_bytes());
    1
}

/// Leaves the engine's process group, streams, cgroup and place in the out-of-memory order.
fn detach(options: &Options) -> Result<(), String> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(|e| format!("setpgid: {e}"))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .map_err(|e| format!("dup2: {e}"))?;
    if std::env::var_os("SCHED_CORE").is_some_and(|v| !v.is_empty()) {
        sys::core_sched_group().map_err(|e| format!("core scheduling: {e}"))?;
    }
    if !options.shim_cgroup.is_empty() {
        enter_cgroup(&options.shim_cgroup).map_err(|e| format!("ShimCgroup {}: {e}", options.shim_cgroup))?;
    }
    yield_to_engine();
    Ok(())
}

/// The shim goes before the engine and after the containers when memory ends. Raising the score needs no privilege.
fn yield_to_engine() {
    let parent = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|t| t.trim().parse::<i32>().ok());
    if let Some(score) = parent {
        // Not being killed first is a courtesy of the engine's, not something to fail for.
        let _ = fs::write("/proc/self/oom_score_adj", (score + 1).min(1000).to_string());
    }
}

fn enter_cgroup(path: &str) -> io::Result<()> {
    let mount = Path::new("/sys/fs/cgroup");
    let path = path.trim_start_matches('/');
    if mount.join("cgroup.procs").exists() {
        return enter(&mount.join(path));
    }
    // A directory without this file is none of the kernel's: an unused place for a hierarchy.
    let is_hierarchy =
        |e: &fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir()) && e.path().join("cgroup.procs").exists();
    for entry in fs::read_dir(mount)?.flatten().filter(is_hierarchy) {
        enter(&entry.path().join(path))?;
    }
    Ok(())
}

fn enter(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let parent = dir.parent().unwrap_or(dir);
    for name in ["cpuset.cpus", "cpuset.mems"] {
        // A fresh v1 cpuset takes no process until it has processors and memory.
        if let (Ok(own), Ok(above)) = (fs::read_to_string(dir.join(name)), fs::read(parent.join(name)))
            && own.trim().is_empty()
        {
            fs::write(dir.join(name), above)?;
        }
    }
    fs::write(dir.join("cgroup.procs"), "0")
}

fn serve_for_ever(
    arguments: &Arguments,
    said: &Bootstrap,
    options: Options,
    (listener, place): (UnixListener, &Path),
    starter: (OwnedFd, OwnedFd),
) -> i32 {
    let events =
        std::env::var("TTRPC_ADDRESS").ok().filter(|a| !a.is_empty()).unwrap_or_else(|| said.ttrpc_address.clone());
    let place = Place {
        namespace: arguments.namespace.clone(),
        socket: place.to_owned(),
        events: Some(PathBuf::from(events)).filter(|p| !p.as_os_str().is_empty()),
        options,
        debug: arguments.debug || said.debug,
    };
    match serve::serve(listener, place, starter) {
        Ok(()) => 0,
        Err((text, Some(tell))) => complain(tell, &text),
        Err((_, None)) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::{joined, place};
    use crate::bootstrap::Bootstrap;

    #[test]
    fn paths_are_joined_as_containerd_joins_them() {
        assert_eq!(joined(&["/run//c.sock", "ns", "id"]), "/run/c.sock/ns/id");
        assert_eq!(joined(&["/a/../b/./c", "", "id"]), "/b/c/id");
        assert_eq!(joined(&["", "ns", "id"]), "ns/id");
        assert_eq!(joined(&["/..", "x"]), "/x");
    }

    #[test]
    fn a_group_has_one_socket_and_the_directory_can_be_chosen() {
        let said = Bootstrap { socket_dir: "/run/x".into(), ..Bootstrap::default() };
        let here = place(&said, "/c.sock", "ns", "pod");
        assert_eq!(here, place(&said, "/c.sock", "ns", "pod"));
        assert_ne!(here, place(&said, "/c.sock", "ns", "pod2"));
        assert!(here.starts_with("/run/x"));
        assert_eq!(here.file_name().unwrap().len(), 64);
        assert!(here.as_os_str().len() <= 106, "must fit a socket address");
    }
}
