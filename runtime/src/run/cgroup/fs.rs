//! Reading and writing the files of one cgroup, by a handle of its directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchownat};

use super::{Error, Result};
use crate::compile::cgroup::{Check, Group, OnErr, Version, Write};

/// A cgroup's directory, open.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: String,
}

/// Writes limits in a row: the rules of devices are a dozen writes to one file, which is opened once.
#[derive(Debug, Default)]
pub struct Writer {
    open: Option<(String, OwnedFd)>,
}

impl Writer {
    /// Carries out one write of a plan.
    ///
    /// # Errors
    /// Those of [`write()`].
    pub fn write(&mut self, group: &Group, write: &Write) -> Result<()> {
        let path = format!("{}/{}", group.dir(), write.file);
        if self.open.as_ref().is_none_or(|(open, _)| *open != path) {
            let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            self.open = nix::fcntl::open(path.as_str(), flags, Mode::empty()).ok().map(|fd| (path, fd));
        }
        match &self.open {
            Some((_, fd)) if nix::unistd::write(fd, write.value.as_bytes()).is_ok() => Ok(()),
            // Once more, slowly: with the retries, the alternatives and the sentences of a failure.
            _ => crate::run::cgroup::write(group, write),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// [`Error::is_missing`] where there is none.
    pub fn open(path: &str) -> Result<Dir> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::call(format!("open {path}"), e))?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// Opens a directory in this one.
    pub(super) fn child(&self, name: &str) -> Result<Dir> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let path = format!("{}/{name}", self.path);
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path }),
            Err(e) => Err(Error::call(format!("open {path}"), e)),
        }
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens a file for reading, or, if `writing`, for writing.
    pub(super) fn file(&self, name: &str, writing: bool) -> std::result::Result<OwnedFd, Errno> {
        let access = if writing { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
        openat(&self.fd, name, access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// Whether the caller may put processes in it.
    pub(super) fn is_mine(&self) -> bool {
        let effective = nix::fcntl::AtFlags::AT_EACCESS;
        nix::unistd::faccessat(&self.fd, "cgroup.procs", nix::unistd::AccessFlags::W_OK, effective).is_ok()
    }

    /// The whole text of a file, without white space at its ends.
    ///
    /// # Errors
    /// What open(2) and read(2) say, with the file's path.
    pub fn read(&self, name: &str) -> Result<String> {
        let text = || {
            let file = self.file(name, false)?;
            let (mut text, mut block) = (Vec::new(), [0; 4096]);
            loop {
                match nix::unistd::read(&file, &mut block) {
                    Ok(0) => return Ok(text),
                    Ok(n) => {
                        text.extend_from_slice(&block[..n]);
                        // The kernel gives all that there is at once, as far as there is room.
                        if n < block.len() {
                            return Ok(text);
                        }
                    }
                    Err(Errno::EINTR) => {}
                    Err(e) => return Err(e),
                }
            }
        };
        let text = text().map_err(|e| Error::call(format!("read {}/{name}", self.path), e))?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Writes a value, in one write(2) as the kernel wants it.
    ///
    /// # Errors
    /// What open(2) and write(2) say, with path and value.
    pub fn put(&self, name: &str, value: &str) -> Result<()> {
        let put = || {
            let file = self.file(name, true)?;
            loop {
                match nix::unistd::write(&file, value.as_bytes()) {
                    // Lowering a memory limit reclaims, and a signal interrupts that.
                    Err(Errno::EINTR) => {}
                    answer => return answer.map(drop),
                }
            }
        };
        put().map_err(|e| Error::call(format!("write {value:?} to {}/{name}", self.path), e))
    }

    /// Carries out one write of a plan, with its expected failures.
    ///
    /// # Errors
    /// Those of [`Dir::put`], with a hint where the errno has a known meaning.
    pub fn write(&self, write: &Write) -> Result<()> {
        let Err(error) = self.put(&write.file, &write.value) else { return Ok(()) };
        let errno = error.errno.map_or(0, |e| e as i32);
        match &write.on_err {
            OnErr::Ignore(codes) if codes.contains(&errno) => Ok(()),
            OnErr::Else(codes, file, value) if codes.contains(&errno) => {
                self.put(file, value).map_err(|e| self.explain(file, e))
            }
            _ => Err(self.explain(&write.file, error)),
        }
    }

    /// Says what an errno means for a certain file.
    fn explain(&self, file: &str, error: Error) -> Error {
        let usage = |file| self.read(file).unwrap_or_else(|_| "more".to_owned());
        let hint = match (file, error.errno) {
            ("memory.limit_in_bytes", Some(Errno::EBUSY)) => {
                format!("{} bytes are in use and cannot be reclaimed", usage("memory.usage_in_bytes"))
            }
            ("memory.memsw.limit_in_bytes", Some(Errno::EBUSY)) => {
                format!("{} bytes of memory and swap are in use", usage("memory.memsw.usage_in_bytes"))
            }
            ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Some(Errno::EINVAL)) => {
                "the limit of memory+swap cannot be less than that of memory; change both together".to_owned()
            }
            ("cpuset.cpus" | "cpuset.mems", Some(Errno::EINVAL | Errno::EACCES | Errno::ERANGE)) => {
                "the parent cgroup, or this machine, does not have all of them".to_owned()
            }
            ("cpuset.cpus" | "cpuset.mems", Some(Errno::ENOSPC)) => "tasks must have at least one".to_owned(),
            ("cpu.cfs_quota_us" | "cpu.cfs_period_us" | "cpu.max", Some(Errno::EINVAL)) => {
                "out of the kernel's range (period 1000 to 1000000 microseconds, quota at least 1000), less than the \
                 burst, or more than the parent cgroup has"
                    .to_owned()
            }
            ("cpu.rt_runtime_us" | "cpu.rt_period_us", Some(Errno::EINVAL | Errno::EBUSY)) => {
                "the parent cgroup has less realtime".to_owned()
            }
            ("devices.allow", Some(Errno::EPERM)) => "the parent cgroup does not allow this device".to_owned(),
            (_, Some(Errno::EOPNOTSUPP)) if file.contains("weight") => {
                "no scheduler that knows weights is at work on that device (/sys/block/NAME/queue/scheduler)".to_owned()
            }
            (_, Some(Errno::ENODEV | Errno::ENXIO)) if file.starts_with("io.") || file.starts_with("blkio.") => {
                "no such block device".to_owned()
            }
            (_, Some(Errno::ENOENT)) => {
                "this kernel does not have that limit, or the controller is not enabled".to_owned()
            }
            ("rdma.max", Some(Errno::EINVAL | Errno::ENODEV)) => "no such RDMA device, or no such limit".to_owned(),
            _ => return error,
        };
        error.hint(hint)
    }
}

/// Opens a cgroup for a process to start in or to enter.
///
/// Version 2: its directory, for `clone_args.cgroup`. Version 1: its `tasks`, to which the process writes `0`.
///
/// # Errors
/// What open(2) says.
pub fn open(group: &Group) -> Result<OwnedFd> {
    let dir = Dir::open(&group.dir())?;
    if group.optional && !dir.is_mine() {
        return Err(Error::call(format!("open {}", dir.path), Errno::EACCES));
    }
    match group.version {
        Version::V2 => Ok(dir.fd),
        Version::V1 => dir.file("tasks", true).map_err(|e| Error::call(format!("open {}", tasks(group)), e)),
    }
}

/// Path of a version 1 cgroup's `tasks`.
pub fn tasks(group: &Group) -> String {
    group.dir() + "/tasks"
}

/// Carries out one write of a plan in its cgroup; see [`Dir::write`].
///
/// # Errors
/// Those of [`Dir::open`] and [`Dir::write`].
pub fn write(group: &Group, write: &Write) -> Result<()> {
    Dir::open(&group.dir())?.write(write)
}

/// Refuses a limit that is below the usage (`memory.checkBeforeUpdate`). A usage that cannot be read refuses nothing: the
/// cgroup is new then.
///
/// # Errors
/// `rejecting memory limit 4096 <= usage 8192`
pub fn check(group: &Group, check: &Check) -> Result<()> {
    let usage = Dir::open(&group.dir()).and_then(|dir| dir.read(check.file)).ok().and_then(|text| text.parse().ok());
    match usage {
        Some(usage) if check.limit <= usage => {
            Err(Error::refused(format!("rejecting {} limit {} <= usage {usage}", check.name, check.limit)))
        }
        _ => Ok(()),
    }
}

/// Gives a version 2 cgroup to `uid`: the directory and the files that the kernel lists for that purpose, and no others
/// (config-linux.md, "Cgroup ownership").
///
/// # Errors
/// What chown(2) says; files that do not exist are passed over.
pub fn delegate(group: &Group, uid: u32) -> Result<()> {
    let dir = Dir::open(&group.dir())?;
    let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
    let names = listed.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for name in std::iter::once(".").chain(names.lines()) {
        match fchownat(&dir, name, Some(Uid::from_raw(uid)), None::<Gid>, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(Error::call(format!("give {}/{name} to user {uid}", dir.path), e)),
        }
    }
    Ok(())
}
