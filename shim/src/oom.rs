//! Out-of-memory notifications: an eventfd on v1, inotify on v2; both end with the watch.
//!
//! Engines want the oom event before the exit that it caused. The kernel's notification and the death race, so the exit's
//! story asks once more: [`Watch::last_look`].

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cgroup::Cgroup;
use crate::executor::{self, READ, Source};

/// Watches one container.
pub struct Watch {
    source: RefCell<Option<Rc<Source<OwnedFd>>>>,
    counter: PathBuf,
    told: Cell<u64>,
    counts: bool,
    tell: Box<dyn Fn()>,
}

impl Watch {
    /// Watches `cgroup`; `tell` runs once per out-of-memory.
    ///
    /// # Errors
    /// When the group has no memory controller or is gone.
    pub fn start(cgroup: &Cgroup, tell: impl Fn() + 'static) -> io::Result<Rc<Watch>> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let (fd, counter, counts) = match cgroup {
            Cgroup::V2(dir) => {
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
                inotify.add_watch(&dir.join("memory.events"), AddWatchFlags::IN_MODIFY)?;
                (inotify.as_fd().try_clone_to_owned()?, dir.join("memory.events"), true)
            }
            Cgroup::V1(_) => {
                let control = cgroup.file("memory", "memory.oom_control").ok_or_else(absent)?;
                let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
                let watched = fs::File::open(&control)?;
                let line = format!("{} {}", event.as_fd().as_raw_fd(), watched.as_raw_fd());
                fs::write(control.with_file_name("cgroup.event_control"), line)?;
                (event.as_fd().try_clone_to_owned()?, control, false)
            }
        };
        let before = if counts { kills(&counter) } else { 0 };
        let watch = Rc::new(Watch {
            source: RefCell::new(Some(Rc::new(Source::new(fd, READ)?))),
            counter,
            told: Cell::new(before),
            counts,
            tell: Box::new(tell),
        });
        executor::spawn(watch.clone().run());
        Ok(watch)
    }

    async fn run(self: Rc<Self>) {
        loop {
            let Some(source) = self.source.borrow().clone() else { return };
            source.clear(READ);
            source.ready(READ).await;
            drop(source);
            if self.source.borrow().is_none() || !self.counter.exists() {
                // The group is gone: both kinds notify of that, too.
                self.stop();
                return;
            }
            self.look();
        }
    }

    /// Tells of what happened since the last look.
    fn look(&self) {
        let Some(source) = self.source.borrow().clone() else { return };
        let ticks = drain(source.get().as_fd());
        let happened = if self.counts {
            // v2: the file changes for lesser reasons, too; its counter says.
            kills(&self.counter) > self.told.get()
        } else {
            // v1: the kernel ticks before it kills, so the counter would still be old.
            ticks > 0
        };
        if happened {
            self.told.set(if self.counts { kills(&self.counter) } else { self.told.get() + 1 });
            (self.tell)();
        }
    }

    /// Looks once more, by counter on both versions, then stops watching.
    pub fn last_look(&self) {
        self.look();
        if kills(&self.counter) > self.told.get() {
            (self.tell)();
        }
        self.stop();
    }

    /// Stops watching.
    pub fn stop(&self) {
        self.source.take();
    }
}

fn drain(fd: BorrowedFd<'_>) -> usize {
    let mut buffer = [0u8; 1024];
    let mut reads = 0;
    while nix::unistd::read(fd, &mut buffer).is_ok_and(|count| count > 0) {
        reads += 1;
    }
    reads
}

/// The `oom_kill` counter of either version's file.
fn kills(path: &PathBuf) -> u64 {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|mut f| f.read_to_string(&mut text));
    if read.is_err() {
        return 0;
    }
    text.lines().filter_map(|l| l.strip_prefix("oom_kill ")).find_map(|n| n.trim().parse().ok()).unwrap_or(0)
}
