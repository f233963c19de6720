//! The state of containers on disk: one directory each, below the root that all commands share.
//!
//! ```text
//! ROOT/ID/journal.json   what must be undone; written before the first side effect, never changed
//! ROOT/ID/state.json     what the container is; written once, when init is ready
//! ROOT/ID/config.json    the configuration as it was at create
//! ROOT/ID/resources.json the limits in force, where `update` changed them
//! ROOT/ID/go, answer     the gate between create and start (named pipes)
//! ```
//!
//! The directory's own lock (flock(2)) keeps commands that change a container from meeting.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::abi::file;
use crate::plan::Undo;
use crate::request::Request;
use crate::run::init::Gate;
use crate::sys::{fs, io_text};

/// Of a filesystem in memory, as `TMPFS_MAGIC` is (linux/magic.h).
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// The largest file that is read back (rule R11).
const MAX_FILE: u64 = 16 << 20;

/// How long a command waits for another that changes the same container.
const PATIENCE: Duration = Duration::from_secs(15);

/// What we write in every container's directory, beside the gate; the journal goes last.
const USUAL: [&CStr; 3] = [c"state.json", c"config.json", c"journal.json"];
/// What may be there, too.
const RARE: [&CStr; 4] = [c"go", c"answer", c"resources.json", c"resources.json.new"];

/// An error of the state directory.
#[derive(Debug)]
pub struct StateError {
    /// The sentence.
    pub message: String,
    /// Whether it says that there is no such container.
    pub missing: bool,
}

impl StateError {
    fn new(message: impl Into<String>) -> Self {
        StateError { message: message.into(), missing: false }
    }
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StateError {}

type Result<T> = std::result::Result<T, StateError>;

/// What is undone when the container goes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Journal {
    /// The boot in which the steps were made, where that can matter ([`Dir::boot_id`]).
    pub boot_id: String,
    /// The undo list, in the order of the steps.
    pub undo: Vec<Undo>,
}

/// What a container is, from its creation on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Version of the specification.
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// Init's pid in the runtime's pid namespace.
    pub pid: i32,
    /// When init started, in clock ticks since boot: with the pid it names one process.
    pub start_time: u64,
    /// What tells init from others that had or will have its pid ([`process::pidfd_identity`]); where the kernel has that, it is
    /// quicker found out than the time.
    ///
    /// [`process::pidfd_identity`]: crate::sys::process::pidfd_identity
    pub identity: Option<u64>,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root filesystem.
    pub rootfs: String,
    /// RFC 3339.
    pub created: String,
    /// User id of the creator.
    pub owner: u32,
    /// The config's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The boot in which it was created, where that can matter ([`Dir::boot_id`]).
    pub boot_id: String,
    /// What the plan was compiled for.
    pub request: Request,
    /// The undo list.
    pub undo: Vec<Undo>,
    /// Whether init has a pid namespace of its own: then its end is the end of all.
    pub own_pid_namespace: bool,
    /// Whether the config has hooks that run after create.
    pub late_hooks: bool,
    /// Whether the config has no process, so that nothing can be started.
    pub no_process: bool,
}

/// The directory of one container.
pub struct Dir {
    path: PathBuf,
    fd: OwnedFd,
    /// `state.json`, where it was there when the directory was opened: what is written once does not go stale.
    state: Cell<Option<OwnedFd>>,
    /// Whether we have the lock.
    held: Cell<bool>,
    /// The id.
    pub id: String,
}

/// Makes the directory of a new container, locked.
///
/// # Errors
/// `container with given ID already exists`, or what the system says.
pub fn create(root: &Path, id: &str) -> Result<Dir> {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    let path = root.join(id);
    let made = match builder.create(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            builder
                .recursive(true)
                .create(root)
                .map_err(|e| StateError::new(format!("make {}: {}", root.display(), io_text(&e))))?;
            builder.recursive(false).create(&path)
        }
        made => made,
    };
    match made {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(StateError::new(format!("{id}: container with given ID already exists")));
        }
        Err(e) => {
            return Err(StateError::new(format!("make {}: {}", path.display(), io_text(&e))));
        }
    }
    let dir = open_path(path.clone(), id).and_then(|dir| dir.lock().map(|()| dir));
    match dir {
        // A command that deletes by force may have been here before the lock was, and another that creates: what has the name by
        // then is that one's, unless it comes later to the lock than we.
        Ok(dir) if fs::exists_in(dir.fd.as_fd(), c"journal.json") => {
            dir.unlock();
            Err(StateError::new(format!("{id}: container with given ID already exists")))
        }
        Err(e) if !e.missing => {
            drop(std::fs::remove_dir(&path));
            Err(e)
        }
        dir => dir,
    }
}

/// Opens the directory of a container.
///
/// # Errors
/// `container does not exist`.
pub fn open(root: &Path, id: &str) -> Result<Dir> {
    let dir = open_path(root.join(id), id)?;
    match fs::openat2(dir.fd.as_fd(), c"state.json", libc::O_RDONLY, 0, 0) {
        Ok(state) => dir.state.set(Some(state)),
        // Nothing of what is in it could be read; that must not look as if nothing were there.
        Err(f) if matches!(f.errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM) => return Err(dir.error("open", &f)),
        Err(_) => {}
    }
    Ok(dir)
}

fn open_path(path: PathBuf, id: &str) -> Result<Dir> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| StateError::new("the path holds a NUL byte"))?;
    match fs::open(&text, libc::O_RDONLY | libc::O_DIRECTORY) {
        Ok(fd) => Ok(Dir { path, fd, state: Cell::new(None), held: Cell::new(false), id: id.to_owned() }),
        Err(f) if f.errno == libc::ENOENT => {
            Err(StateError { message: format!("{id}: container does not exist"), missing: true })
        }
        Err(f) => Err(StateError::new(format!("open {}: {f}", path.display()))),
    }
}

/// The ids of all containers below a root.
///
/// # Errors
/// The root cannot be read.
pub fn ids(root: &Path) -> std::io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if let (Ok(name), true) = (entry.file_name().into_string(), entry.file_type()?.is_dir()) {
            ids.push(name);
        }
    }
    ids.sort();
    Ok(ids)
}

/// The id of this boot; empty where it is not known.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let mut buf = [0; 64];
        let n = fs::read_small(c"/proc/sys/kernel/random/boot_id", &mut buf).unwrap_or(0);
        String::from_utf8_lossy(&buf[..n]).trim().to_owned()
    })
}

/// Whether a boot was another than this: its processes, cgroups and mounts are gone by themselves, and what has their names
/// now is somebody else's. An id that is not known, or that nobody needed to know ([`Dir::boot_id`]), says nothing.
pub fn is_another_boot(id: &str) -> bool {
    !id.is_empty() && !boot_id().is_empty() && id != boot_id()
}

/// A directory's handle, and its path without links or dots.
///
/// # Errors
/// What the system says.
pub fn resolve(path: &Path) -> std::io::Result<(OwnedFd, PathBuf)> {
    let handle = fs::open(&CString::new(path.as_os_str().as_bytes())?, libc::O_PATH)?;
    let absolute = std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
    Ok((handle, absolute))
}

/// Reads a file of a directory, and of it no more than `max` bytes.
///
/// # Errors
/// What the system says.
pub fn read_in(dir: BorrowedFd<'_>, name: &CStr, max: u64) -> std::io::Result<Vec<u8>> {
    Ok(read_whole(&fs::openat2(dir, name, libc::O_RDONLY, 0, 0)?, max)?)
}

/// Reads a file that the caller names, and of it no more than `max` bytes. A pipe is read to its end; who opens it for writing
/// and says nothing is waited for as long as one may wait at all, and so is who does not come.
///
/// # Errors
/// What the system says, or that nobody has written.
pub fn read_given(dir: BorrowedFd<'_>, path: &CStr, max: u64) -> std::io::Result<Vec<u8>> {
    let file = fs::openat2(dir, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0, 0)?;
    if fs::fstat(file.as_fd())?.kind() == file::REG {
        return Ok(read_whole(&file, max)?);
    }
    let (end, mut bytes) = (Instant::now() + PATIENCE, Vec::new());
    loop {
        let left = i32::try_from(end.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(i32::MAX);
        if fs::poll([(file.as_fd(), libc::POLLIN)], left)? == [0] {
            let text = format!("nobody has written to it for {} s", PATIENCE.as_secs());
            return Err(std::io::Error::new(ErrorKind::TimedOut, text));
        }
        bytes.reserve(16 << 10);
        if fs::read_more(file.as_fd(), &mut bytes)? == 0 || bytes.len() as u64 >= max {
            break;
        }
    }
    bytes.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    Ok(bytes)
}

fn read_whole(file: &OwnedFd, max: u64) -> crate::sys::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(16 << 10);
        let room = bytes.capacity() - bytes.len();
        // A file gives all that there is, as far as there is room.
        if fs::read_more(file.as_fd(), &mut bytes)? < room || bytes.len() as u64 >= max {
            break;
        }
    }
    bytes.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    bytes.shrink_to_fit();
    Ok(bytes)
}

impl Dir {
    fn error(&self, what: &str, why: &dyn std::fmt::Display) -> StateError {
        StateError::new(format!("{what} {}: {why}", self.path.display()))
    }

    /// Locks the container against other commands that change it. Waits for them, but not for ever: a hook may hang.
    ///
    /// # Errors
    /// What flock(2) says, that another command is at it, or that the container went meanwhile.
    pub fn lock(&self) -> Result<()> {
        let (end, mut pause) = (Instant::now() + PATIENCE, Duration::from_micros(200));
        while let Err(fault) = fs::lock(self.fd.as_fd(), false) {
            if fault.errno != libc::EWOULDBLOCK {
                return Err(self.error("lock", &fault));
            }
            if Instant::now() > end {
                let text = format!("{}: another command has been at it for {} s", self.id, PATIENCE.as_secs());
                return Err(StateError::new(text));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        self.held.set(true);
        if self.is_there() {
            return Ok(());
        }
        Err(StateError { message: format!("{}: container does not exist", self.id), missing: true })
    }

    /// Whether the directory has not been removed.
    fn is_there(&self) -> bool {
        fs::fstat(self.fd.as_fd()).is_ok_and(|s| s.links > 0)
    }

    /// Gives the lock up. Closing would not do: init, which was forked with the directory open, shares it.
    pub fn unlock(&self) {
        let _ = fs::unlock(self.fd.as_fd());
        self.held.set(false);
    }

    /// The id of this boot, for what is kept here. Empty where that lies in memory, as it mostly does: it does not outlive the
    /// boot, and no command need read what boot this is.
    pub fn boot_id(&self) -> String {
        match fs::filesystem(self.fd.as_fd()) {
            Ok(libc::TMPFS_MAGIC | RAMFS_MAGIC) => String::new(),
            _ => boot_id().to_owned(),
        }
    }

    /// Whether another command holds the lock just now. Where we have it nobody else has; to try would be to give it up.
    pub fn is_locked(&self) -> bool {
        if self.held.get() {
            return false;
        }
        match fs::lock(self.fd.as_fd(), false) {
            Ok(()) => {
                self.unlock();
                false
            }
            Err(fault) => fault.errno == libc::EWOULDBLOCK,
        }
    }

    /// Where the file of that name is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that is never changed. By the handle, as all that changes the directory: its name may be another's by now.
    ///
    /// # Errors
    /// What the system says; that the directory is gone is `no such file or directory`.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_file(name, libc::O_EXCL, bytes).map_err(|e| self.not_written(name, &e))
    }

    fn write_file(&self, name: &str, flags: i32, bytes: &[u8]) -> std::io::Result<()> {
        let flags = libc::O_WRONLY | libc::O_CREAT | flags;
        let file = fs::openat2(self.fd.as_fd(), &CString::new(name)?, flags, 0o600, fs::resolve::BENEATH)?;
        std::fs::File::from(file).write_all(bytes)
    }

    fn not_written(&self, name: &str, why: &std::io::Error) -> StateError {
        StateError::new(format!("write {}: {}", self.file(name).display(), io_text(why)))
    }

    /// Replaces a file as a whole.
    ///
    /// # Errors
    /// What the system says; the old file stays.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let new = format!("{name}.new");
        let put =
            || fs::renameat(self.fd.as_fd(), &CString::new(new.as_str())?, &CString::new(name)?).map_err(Into::into);
        self.write_file(&new, libc::O_TRUNC, bytes).and_then(|()| put()).map_err(|e| {
            let _ = CString::new(new.as_str()).map(|new| fs::unlinkat(self.fd.as_fd(), &new, 0));
            self.not_written(name, &e)
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What the system says; a file of more than 16 MiB is not ours.
    pub fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        read_in(self.fd.as_fd(), &CString::new(name)?, MAX_FILE)
    }

    /// The journal; an unreadable one is empty, for there is nothing better.
    pub fn journal(&self) -> Journal {
        self.read("journal.json").ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }

    /// What the container is; `None` where that was not yet, or not wholly, written.
    pub fn record(&self) -> Option<Record> {
        let text = match self.state.take() {
            Some(file) => read_whole(&file, MAX_FILE).ok()?,
            None => self.read("state.json").ok()?,
        };
        serde_json::from_slice(&text).ok()
    }

    /// Writes the journal.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_journal(&self, journal: &Journal) -> Result<()> {
        let bytes = serde_json::to_vec(journal).map_err(|e| StateError::new(e.to_string()))?;
        self.write("journal.json", &bytes)
    }

    /// Writes what the container is, for the first time: a reader to whom half of it comes takes it for none, as it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|e| StateError::new(e.to_string()))?;
        self.write("state.json", &bytes)
    }

    /// Makes a directory in it, if that is missing.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_directory(&self, name: &str) -> Result<()> {
        let made = CString::new(name).map(|name| fs::mkdirat(self.fd.as_fd(), &name, 0o777));
        match made {
            Ok(Err(f)) if f.errno != libc::EEXIST => Err(self.error("make a directory in", &f)),
            _ => Ok(()),
        }
    }

    /// Makes the gate and opens it as init holds it.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_gate(&self) -> Result<Gate> {
        let open = |name| {
            fs::mkfifo(self.fd.as_fd(), name)?;
            // For reading and writing: opening waits for nobody, and init's read meets no end while it waits.
            fs::openat2(self.fd.as_fd(), name, libc::O_RDWR, 0, fs::resolve::BENEATH)
        };
        let made = open(c"go").and_then(|go| Ok(Gate { go, answer: open(c"answer")? }));
        made.map_err(|f| self.error("make gate of", &f))
    }

    /// Opens the gate from outside: the end to write the word in. `None` where nobody stands behind it (fifo(7), ENXIO): the
    /// program was executed, or init is dead.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_gate(&self) -> Result<Option<OwnedFd>> {
        match self.open_pipe(c"go", libc::O_WRONLY) {
            Err(f) if f.errno == libc::ENXIO || f.errno == libc::ENOENT => Ok(None),
            go => go.map(Some).map_err(|f| self.error("open gate of", &f)),
        }
    }

    /// Takes the word back that was written in the gate, if nobody has taken it in yet: says whether that is so.
    ///
    /// # Errors
    /// What the system says.
    pub fn close_gate(&self) -> Result<bool> {
        let go = self.open_pipe(c"go", libc::O_RDONLY).map_err(|f| self.error("open gate of", &f))?;
        let mut word = Vec::with_capacity(1);
        match fs::read_more(go.as_fd(), &mut word) {
            Ok(read) => Ok(read > 0),
            Err(f) if f.errno == libc::EAGAIN => Ok(false),
            Err(f) => Err(self.error("read gate of", &f)),
        }
    }

    /// Opens the end of the gate to read the answer from. It does not block: to be read where poll(2) says so.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_answer(&self) -> Result<OwnedFd> {
        self.open_pipe(c"answer", libc::O_RDONLY).map_err(|f| self.error("open gate of", &f))
    }

    fn open_pipe(&self, name: &CStr, flags: i32) -> crate::sys::Result<OwnedFd> {
        fs::openat2(self.fd.as_fd(), name, flags | libc::O_NONBLOCK, 0, fs::resolve::BENEATH)
    }

    /// Removes the directory. What we write there goes by the handle that is open already, so that want of descriptors
    /// leaves nothing behind. Where no `gate` is to be expected, none is looked for unless the directory is not empty.
    ///
    /// # Errors
    /// What the system says; a directory that is gone is fine.
    pub fn remove(&self, gate: bool) -> Result<()> {
        let unlink = |name| fs::unlinkat(self.fd.as_fd(), name, 0);
        if gate && unlink(c"go").is_ok() {
            let _ = unlink(c"answer");
        }
        for name in USUAL {
            let _ = unlink(name);
        }
        let removed = std::fs::remove_dir(&self.path).or_else(|e| match e.kind() {
            ErrorKind::DirectoryNotEmpty => {
                for name in RARE {
                    let _ = unlink(name);
                }
                std::fs::remove_dir(&self.path)
            }
            _ => Err(e),
        });
        let removed = removed.or_else(|e| match e.kind() {
            ErrorKind::DirectoryNotEmpty if self.is_there() => std::fs::remove_dir_all(&self.path),
            // Another's, which has the name since.
            ErrorKind::DirectoryNotEmpty => Ok(()),
            _ => Err(e),
        });
        match removed {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.error("remove", &io_text(&e))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root for one test.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tare-state-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_another_made_under_the_same_name_is_not_touched() {
        let root = Root::new("name");
        let ours = create(&root.0, "one").unwrap();
        std::fs::remove_dir(&ours.path).unwrap();
        let theirs = create(&root.0, "one").unwrap();
        theirs.write("journal.json", b"{}").unwrap();

        for error in [ours.write("config.json", b""), ours.replace("config.json", b""), ours.make_directory("notify")] {
            assert!(error.unwrap_err().message.ends_with("no such file or directory"));
        }
        assert!(ours.make_gate().is_err());
        ours.remove(true).unwrap();
        let names: Vec<_> = std::fs::read_dir(&theirs.path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["journal.json"]);
    }

    #[test]
    fn whoever_asks_about_his_own_lock_keeps_it() {
        let root = Root::new("lock");
        let ours = create(&root.0, "one").unwrap();
        let theirs = open(&root.0, "one").unwrap();
        assert!(!ours.is_locked());
        assert!(theirs.is_locked());
        ours.unlock();
        assert!(!theirs.is_locked());
        ours.lock().unwrap();
        assert!(!ours.is_locked());
        assert!(theirs.is_locked());
    }

    #[test]
    fn a_name_that_is_taken_stays_as_it_is() {
        let root = Root::new("taken");
        create(&root.0, "one").unwrap().write("journal.json", b"{}").unwrap();
        assert!(create(&root.0, "one").is_err_and(|e| e.message.contains("already exists")));
        assert!(root.0.join("one/journal.json").exists());
    }

    #[test]
    fn a_file_is_written_once_and_replaced_whole() {
        let root = Root::new("file");
        let dir = create(&root.0, "one").unwrap();
        dir.write("resources.json", b"long").unwrap();
        assert!(dir.write("resources.json", b"").unwrap_err().message.ends_with("file exists"));
        dir.replace("resources.json", b"new").unwrap();
        assert_eq!(dir.read("resources.json").unwrap(), b"new");
        assert!(!dir.file("resources.json.new").exists());
        // A directory in its place cannot be replaced: nothing half-written stays beside it.
        dir.make_directory("notify").unwrap();
        dir.replace("notify", b"").unwrap_err();
        assert!(!dir.file("notify.new").exists());
    }
}
