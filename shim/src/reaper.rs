//! The one place that waits for children.
//!
//! As the subreaper, the shim inherits every process whose parent dies in its tree. One `waitpid(-1)` loop takes them all, so
//! nobody's child is stolen. An exit can arrive before its owner knows the pid (a container that ends while the runtime's
//! `create` is still writing the pid file): such exits are kept as long as somebody holds a [`Claim`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::executor::Notify;
use crate::sys;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, or 128 + the signal that killed it.
    pub code: u32,
    /// When it was reaped.
    pub at: SystemTime,
}

/// A process that somebody waits for.
#[derive(Default)]
pub struct Watch {
    exit: Cell<Option<Exit>>,
    bell: Notify,
}

impl Watch {
    /// Waits for its end.
    pub async fn exit(&self) -> Exit {
        self.bell.until(|| self.exit.get()).await
    }

    /// Its end, if it has come.
    pub fn ended(&self) -> Option<Exit> {
        self.exit.get()
    }

    fn end(&self, exit: Exit) {
        self.exit.set(Some(exit));
        self.bell.notify();
    }
}

/// Everybody's children.
#[derive(Default)]
pub struct Reaper {
    watched: RefCell<BTreeMap<u32, Rc<Watch>>>,
    unclaimed: RefCell<BTreeMap<u32, Exit>>,
    claims: Cell<usize>,
}

/// While it lives, exits of unknown processes are kept. There are at most as many as the kernel has pids.
pub struct Claim(Rc<Reaper>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claims.set(self.0.claims.get() - 1);
        if self.0.claims.get() == 0 {
            self.0.unclaimed.take();
        }
    }
}

impl Reaper {
    /// Announces that a process will appear whose pid is not known yet.
    pub fn claim(self: &Rc<Self>) -> Claim {
        self.claims.set(self.claims.get() + 1);
        Claim(self.clone())
    }

    /// Watches a child. If it ended under a claim, the watch has ended already.
    pub fn watch(&self, pid: u32) -> Rc<Watch> {
        let watch = Rc::new(Watch::default());
        let kept = self.unclaimed.borrow_mut().remove(&pid);
        match kept {
            // A recycled number: the kept exit is that of an earlier process, this one is still to be waited for.
            Some(_) if is_child(pid) => {}
            Some(exit) => {
                watch.end(exit);
                return watch;
            }
            None => {}
        }
        self.watched.borrow_mut().insert(pid, watch.clone());
        watch
    }

    /// Takes every child that has ended. Call it at each SIGCHLD.
    pub fn reap(&self) {
        loop {
            let (pid, code) = match sys::reap() {
                Ok(Some(ended)) => ended,
                Err(Errno::EINTR) => continue,
                Ok(None) | Err(_) => return,
            };
            let exit = Exit { code, at: SystemTime::now() };
            if let Some(watch) = self.watched.borrow_mut().remove(&pid) {
                watch.end(exit);
            } else if self.claims.get() > 0 {
                self.unclaimed.borrow_mut().insert(pid, exit);
            }
        }
    }
}

/// Whether `pid` names a child of ours that has not been reaped.
fn is_child(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(pid)), flags).is_ok()
}
