//! When each step of a plan was reached, began and ended, for `trace`: written by whichever lane walks it.
//!
//! The marks lie in memory that all lanes share, so that init neither allocates nor sends more than it would. Without a
//! trace there is no such memory, and nobody asks for the time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sys::{Result, memory, process};

/// Four marks for each step; none where nothing is traced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stopwatch(Option<&'static [AtomicU64]>);

const CELLS: usize = 4;
const REACHED: usize = 0;
const BEGAN: usize = 1;
const ENDED: usize = 2;
const OUTCOME: usize = 3;
/// Above the errno: that the step failed of it.
const FAILED: u64 = 1 << 32;

/// What is known of one step. Times are nanoseconds since 1970, 0 for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lap {
    /// When its lane came to it.
    pub reached: u64,
    /// When it began: later, if it waited for another lane.
    pub began: u64,
    /// When it was done.
    pub ended: u64,
    /// The errno that it met, or 0.
    pub errno: i32,
    /// Whether it failed, of that errno or of something else.
    pub failed: bool,
}

impl Stopwatch {
    /// One for a plan of so many steps.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn of(steps: usize) -> Result<Self> {
        memory::shared(steps * CELLS).map(|cells| Stopwatch(Some(cells)))
    }

    fn cell(self, step: usize, which: usize) -> Option<&'static AtomicU64> {
        self.0?.get(step * CELLS + which)
    }

    fn now(self, step: usize, which: usize) {
        if let Some(cell) = self.cell(step, which) {
            cell.store(process::wall_clock(), Relaxed);
        }
    }

    /// The lane has come to this step.
    pub fn reaches(self, step: usize) {
        self.now(step, REACHED);
    }

    /// What it waited for is there.
    pub fn begins(self, step: usize) {
        self.now(step, BEGAN);
    }

    /// It met an error that it lives with.
    pub fn meets(self, step: usize, errno: i32) {
        if let Some(cell) = self.cell(step, OUTCOME) {
            cell.store(u64::from(errno.unsigned_abs()), Relaxed);
        }
    }

    /// It is done.
    pub fn ends(self, step: usize) {
        self.now(step, ENDED);
    }

    /// It failed; an errno of 0 says that it was no system call that failed.
    pub fn fails(self, step: usize, errno: i32) {
        if let Some(cell) = self.cell(step, OUTCOME) {
            cell.store(FAILED | u64::from(errno.unsigned_abs()), Relaxed);
        }
        self.ends(step);
    }

    /// What is known of a step by now.
    pub fn lap(self, step: usize) -> Lap {
        let read = |which| self.cell(step, which).map_or(0, |cell| cell.load(Relaxed));
        let outcome = read(OUTCOME);
        Lap {
            reached: read(REACHED),
            began: read(BEGAN),
            ended: read(ENDED),
            errno: i32::try_from(outcome & (FAILED - 1)).unwrap_or(0),
            failed: outcome & FAILED != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_by_step() {
        let watch = Stopwatch::of(2).unwrap();
        watch.reaches(1);
        watch.begins(1);
        watch.meets(1, libc::EEXIST);
        watch.ends(1);
        let lap = watch.lap(1);
        assert!(lap.reached > 0 && lap.reached <= lap.began && lap.began <= lap.ended);
        assert_eq!((lap.errno, lap.failed), (libc::EEXIST, false));
        watch.fails(0, 0);
        assert!(watch.lap(0).failed && watch.lap(0).errno == 0 && watch.lap(0).began == 0);
        watch.ends(2);
        assert_eq!(watch.lap(2), Lap::default());
        Stopwatch::default().ends(0);
        assert_eq!(Stopwatch::default().lap(0), Lap::default());
    }
}
