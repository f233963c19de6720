//! Descriptors that init needs for the length of a step.
//!
//! Closing each of them is a fifth of all system calls of a container's start. Where there is room for all of them, they
//! stay open until exec closes them in one go; where the limit of descriptors is low, each is closed at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A container needs about a hundred; its config may name many more mounts than usual.
const PER_STEP: u64 = 4;
/// Descriptors that init was given, and those of its own.
const SPARE: u64 = 64;

static KEEP: AtomicBool = AtomicBool::new(false);

/// Decides once, in init, for a plan of so many steps.
pub(super) fn decide(steps: usize) {
    let room = crate::sys::process::descriptor_limit();
    KEEP.store(steps as u64 * PER_STEP + SPARE < room, Ordering::Relaxed);
}

/// A descriptor that is closed now or at exec.
#[derive(Debug)]
pub struct Handle(Option<OwnedFd>);

impl From<OwnedFd> for Handle {
    fn from(fd: OwnedFd) -> Self {
        Handle(Some(fd))
    }
}

impl Handle {
    /// Keeps the descriptor for longer than the step.
    pub fn into_fd(mut self) -> Option<OwnedFd> {
        self.0.take()
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // It is taken out only by what consumes the handle.
        match &self.0 {
            Some(fd) => fd.as_fd(),
            None => crate::sys::fs::cwd(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if KEEP.load(Ordering::Relaxed) {
            std::mem::forget(self.0.take());
        }
    }
}
