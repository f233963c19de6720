//! Being told when the OOM killer was at work in a container.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::fs::Dir;
use super::{Error, Result};
use crate::compile::cgroup::{Group, Version};

/// What happened in a watched cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing that counts.
    Nothing,
    /// The OOM killer ran.
    Oom,
    /// The cgroup was removed; nothing more will come.
    Removed,
}

/// A watch on the memory cgroup of a container: poll its descriptor for reading, then call [`Watch::news`].
#[derive(Debug)]
pub struct Watch {
    dir: Dir,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// An eventfd that the kernel counts up, and the file that it is about.
    V1(EventFd, #[allow(dead_code, reason = "the kernel's registration lives as long as this descriptor")] File),
    /// A watch on `memory.events`, and the kills seen so far.
    V2(Inotify, u64),
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::V1(eventfd, _) => eventfd.as_fd(),
            Kind::V2(inotify, _) => inotify.as_fd(),
        }
    }
}

/// Starts a watch.
///
/// # Errors
/// No memory controller, or what the kernel says.
pub fn watch(groups: &[Group]) -> Result<Watch> {
    let Some(group) = groups.iter().find(|g| g.controllers.iter().any(|c| c == "memory")) else {
        return Err(Error::refused("this container has no memory cgroup to watch"));
    };
    let dir = Dir::open(&group.dir())?;
    let kind = match group.version {
        Version::V1 => watch_v1(&dir)?,
        Version::V2 => watch_v2(&dir)?,
    };
    Ok(Watch { dir, kind })
}

fn watch_v1(dir: &Dir) -> Result<Kind> {
    let failed = |what: &str| {
        let what = format!("{what} for {}", dir.path());
        move |e| Error::call(what, e)
    };
    let eventfd =
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(failed("make an eventfd"))?;
    let control = dir.file("memory.oom_control", false).map(File::from).map_err(failed("open memory.oom_control"))?;
    dir.put("cgroup.event_control", &format!("{} {}", eventfd.as_fd().as_raw_fd(), control.as_raw_fd()))?;
    Ok(Kind::V1(eventfd, control))
}

fn watch_v2(dir: &Dir) -> Result<Kind> {
    let path = format!("{}/memory.events", dir.path());
    let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
    let inotify = Inotify::init(flags).map_err(|e| Error::call("make an inotify", e))?;
    inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).map_err(|e| Error::call(format!("watch {path}"), e))?;
    let seen = kills(dir)?;
    Ok(Kind::V2(inotify, seen))
}

fn kills(dir: &Dir) -> Result<u64> {
    let text = dir.read("memory.events")?;
    Ok(text.lines().find_map(|l| l.strip_prefix("oom_kill ")).and_then(|n| n.parse().ok()).unwrap_or(0))
}

impl Watch {
    /// What has happened since the last call; never blocks.
    ///
    /// # Errors
    /// What the reading says.
    pub fn news(&mut self) -> Result<News> {
        let removed = !Path::new(self.dir.path()).exists();
        let oom = match &mut self.kind {
            // The kernel counts the eventfd up once more when the cgroup goes.
            Kind::V1(eventfd, _) => match eventfd.read() {
                Ok(_) => !removed,
                Err(Errno::EAGAIN) => false,
                Err(e) => return Err(Error::call(format!("read the eventfd of {}", self.dir.path()), e)),
            },
            Kind::V2(inotify, seen) => {
                let _ = inotify.read_events();
                match kills(&self.dir) {
                    Ok(now) => std::mem::replace(seen, now) < now,
                    Err(e) if e.is_missing() => return Ok(News::Removed),
                    Err(e) => return Err(e),
                }
            }
        };
        Ok(if oom {
            News::Oom
        } else if removed {
            News::Removed
        } else {
            News::Nothing
        })
    }
}
