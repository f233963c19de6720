//! Moving one stream: container's pipe or terminal to the engine's fifo or file, or back.
//!
//! Between pipes the kernel moves the pages (`splice`); the bytes never enter this process. Memory is bounded by construction:
//! a pump holds at most one buffer, and only while its sink refuses it.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};

use crate::executor::{self, Notify, READ, Source, WRITE};
use crate::policy::{Relief, Taken};
use crate::{log, sys};

/// A descriptor that can be waited for; a terminal's is shared by both directions.
pub type Shared = Rc<Source<OwnedFd>>;

/// What the pipes of a busy stream hold, and what one splice moves at most.
const PIPE: usize = 256 << 10;
/// A move of so much means that the writer may be held up: no time to wait for more.
const FULL: usize = PIPE / 4 * 3;
/// So many small moves in quick succession make a busy stream.
const BUSY: usize = 8;
/// How long a busy stream gathers. Each wake-up costs more than a page that it moves; a line that comes alone never waits.
const GATHER: Duration = Duration::from_millis(1);
/// One read; also the most that a pump holds.
const CHUNK: usize = 8 << 10;
/// Moves in a row before other stories get their turn.
const TURNS: usize = 32;

/// Where a stream goes.
pub enum Sink {
    /// A pipe or fifo, into which the kernel can splice.
    Pipe(Shared),
    /// A terminal.
    Terminal(Shared),
    /// A regular file, opened to append; always ready.
    File(File),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    Drain,
    Abort,
}

enum Step {
    Moved(usize),
    Blocked,
    End,
}

/// The handle of a running copy.
pub struct Pump {
    wish: Cell<Wish>,
    close_input: Cell<bool>,
    done: Cell<bool>,
    bell: Notify,
}

impl Pump {
    /// Starts to copy `from` into `to`. `splices` says that both are pipes; then `relief` says what happens to what the sink
    /// does not take, and without one the writer waits.
    #[must_use]
    pub fn start(from: Shared, to: Sink, splices: bool, relief: Option<Relief>) -> Rc<Pump> {
        let pump = Rc::new(Pump {
            wish: Cell::new(Wish::Run),
            close_input: Cell::new(false),
            done: Cell::new(false),
            bell: Notify::default(),
        });
        let me = pump.clone();
        executor::spawn(async move {
            me.run(Copy {
                from,
                to,
                splices,
                held: RefCell::default(),
                lost: Cell::new(false),
                wide: Cell::new(false),
                relief: relief.filter(|r| !r.only_waits()),
                ended: Cell::new(false),
            })
            .await;
            me.done.set(true);
            me.bell.notify();
        });
        pump
    }

    /// Ends the copy as soon as nothing more can be read at once: a process that holds the other end and says nothing
    /// delays nobody.
    pub fn drain(&self) {
        self.wish(Wish::Drain);
    }

    /// Ends the copy now.
    pub fn abort(&self) {
        self.wish(Wish::Abort);
    }

    /// Gives up the shim's own writing end of an engine's input fifo, so that its end can be seen.
    pub fn close_input(&self) {
        self.close_input.set(true);
        self.bell.notify();
    }

    /// Waits until the descriptors are closed.
    pub async fn done(&self) {
        self.bell.until(|| self.done.get().then_some(())).await;
    }

    fn wish(&self, wish: Wish) {
        self.wish.set(wish);
        self.bell.notify();
    }

    async fn run(&self, mut copy: Copy) {
        let mut turns = 0;
        let mut pace = Pace::default();
        loop {
            if self.close_input.take() {
                match read_end_only(&copy.from) {
                    Ok(from) => copy.from = from,
                    Err(error) => return log::warn(&format!("close of an input: {error}")),
                }
            }
            match self.wish.get() {
                Wish::Abort => return,
                Wish::Drain if copy.is_dry() => return,
                _ => {}
            }
            match copy.step() {
                Step::End => return,
                Step::Moved(count) => {
                    turns += 1;
                    if copy.splices && self.wish.get() == Wish::Run && pace.is_busy_after(count) {
                        copy.widen();
                        copy.from.listen(false);
                        executor::sleep(GATHER).await;
                        copy.from.listen(true);
                    } else if turns % TURNS == 0 {
                        executor::step_aside().await;
                    }
                }
                Step::Blocked => self.edge(&copy).await,
            }
        }
    }

    /// Waits for an edge of either side or for another wish.
    async fn edge(&self, copy: &Copy) {
        let wish = self.wish.get();
        let told = self.bell.until(|| (self.wish.get() != wish || self.close_input.get()).then_some(()));
        let sides = executor::either(copy.from.ready(READ), async {
            match &copy.to {
                Sink::Pipe(to) | Sink::Terminal(to) => to.ready(WRITE).await,
                Sink::File(_) => std::future::pending().await,
            }
        });
        // Which of them it was does not matter: the next step finds out.
        let _ = executor::either(told, sides).await;
    }
}

/// How quickly small pieces follow one another.
#[derive(Default)]
struct Pace {
    small: usize,
    last: Option<Instant>,
}

impl Pace {
    fn is_busy_after(&mut self, count: usize) -> bool {
        let now = Instant::now();
        let quick = self.last.replace(now).is_some_and(|last| now - last < 3 * GATHER);
        self.small = if quick && count < FULL { (self.small + 1).min(BUSY) } else { 0 };
        self.small == BUSY
    }
}

struct Copy {
    from: Shared,
    to: Sink,
    splices: bool,
    held: RefCell<Vec<u8>>,
    lost: Cell<bool>,
    wide: Cell<bool>,
    relief: Option<Relief>,
    /// The source has nothing more; what was kept for the sink may still be there.
    ended: Cell<bool>,
}

impl Copy {
    fn is_dry(&self) -> bool {
        let kept = !self.held.borrow().is_empty() || self.relief.as_ref().is_some_and(Relief::holds);
        !kept && sys::waiting(self.from.get()).unwrap_or(0) == 0
    }

    /// Lets both pipes hold what gathers. Where the kernel refuses, smaller pieces must do.
    fn widen(&self) {
        if let (false, Sink::Pipe(to)) = (self.wide.replace(true), &self.to) {
            let size = i32::try_from(PIPE).unwrap_or(i32::MAX);
            let _ = fcntl(self.from.get(), FcntlArg::F_SETPIPE_SZ(size));
            let _ = fcntl(to.get(), FcntlArg::F_SETPIPE_SZ(size));
        }
    }

    fn step(&self) -> Step {
        match &self.to {
            Sink::Pipe(to) if self.splices => match &self.relief {
                Some(relief) => self.splice_with(relief, to),
                None => self.splice(to),
            },
            _ => self.copy(),
        }
    }

    /// `EAGAIN` does not say which side it is about, so both are forgotten and either one's next edge is a new try.
    fn splice(&self, to: &Shared) -> Step {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        match splice(self.from.get(), None, to.get(), None, PIPE, flags) {
            Ok(0) => Step::End,
            Ok(count) => Step::Moved(count),
            Err(Errno::EINTR) => Step::Moved(0),
            Err(Errno::EAGAIN) => {
                self.from.clear(READ);
                to.clear(WRITE);
                Step::Blocked
            }
            Err(_) => Step::End,
        }
    }

    /// As [`Self::splice`], but a sink that takes nothing holds nobody up.
    fn splice_with(&self, relief: &Relief, to: &Shared) -> Step {
        if relief.is_behind() && to.is_ready(WRITE) {
            return match relief.catch_up(to) {
                Ok(count) => Step::Moved(count),
                Err(Errno::EINTR) => Step::Moved(0),
                Err(Errno::EAGAIN) => {
                    to.clear(WRITE);
                    Step::Moved(0)
                }
                Err(_) => Step::End,
            };
        }
        if self.ended.get() {
            // The source has nothing more to say; its end would be an edge that never goes away.
            self.from.clear(READ);
            return if relief.is_behind() { Step::Blocked } else { Step::End };
        }
        if !relief.is_behind() {
            // Asked before the try: only then does its EAGAIN mean that the sink is full, and an edge of the sink will come.
            let has_more = sys::waiting(self.from.get()).unwrap_or(0) > 0;
            match self.splice(to) {
                Step::Blocked if has_more => {}
                other => return other,
            }
        }
        match relief.take(&self.from) {
            Ok(Taken::Bytes(count)) => Step::Moved(count),
            Ok(Taken::Nothing) => {
                self.from.clear(READ);
                Step::Blocked
            }
            Ok(Taken::End) => {
                self.ended.set(true);
                Step::Moved(0)
            }
            Err(_) => Step::End,
        }
    }

    fn copy(&self) -> Step {
        if self.held.borrow().is_empty() {
            let mut chunk = [0u8; CHUNK];
            match nix::unistd::read(self.from.get(), &mut chunk) {
                // EIO is how a terminal's master says that nobody holds the other side.
                Ok(0) | Err(Errno::EIO) => return Step::End,
                Ok(count) => self.held.borrow_mut().extend_from_slice(&chunk[..count]),
                Err(Errno::EINTR) => return Step::Moved(0),
                Err(Errno::EAGAIN) => {
                    self.from.clear(READ);
                    // Only the source can help now; a stale edge of the sink would make this a busy loop.
                    self.forget_sink();
                    return Step::Blocked;
                }
                Err(_) => return Step::End,
            }
        }
        self.flush()
    }

    fn forget_sink(&self) {
        if let Sink::Pipe(to) | Sink::Terminal(to) = &self.to {
            to.clear(WRITE);
        }
    }

    fn flush(&self) -> Step {
        let mut held = self.held.borrow_mut();
        let written = match &self.to {
            Sink::Pipe(to) | Sink::Terminal(to) => nix::unistd::write(to.get(), &held).map_err(io::Error::from),
            Sink::File(file) => (&*file).write(&held),
        };
        match written {
            Ok(count) => {
                held.drain(..count);
            }
            Err(error) => match (error.kind(), &self.to) {
                (ErrorKind::Interrupted, _) => {}
                (ErrorKind::WouldBlock, Sink::Pipe(to) | Sink::Terminal(to)) => {
                    to.clear(WRITE);
                    self.from.clear(READ);
                    return Step::Blocked;
                }
                (_, Sink::File(_)) => {
                    // A full disk must neither stop nor kill the container: what does not fit is lost, and said so once.
                    if !self.lost.replace(true) {
                        log::warn(&format!("log file: {error}; output is being lost"));
                    }
                    held.clear();
                }
                _ => return Step::End,
            },
        }
        if held.is_empty() {
            *held = Vec::new();
        }
        Step::Moved(0)
    }
}

/// The same fifo, open for reading alone.
fn read_end_only(from: &Shared) -> io::Result<Shared> {
    let path = format!("/proc/self/fd/{}", from.get().as_raw_fd());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    Ok(Rc::new(Source::new(file.into(), READ)?))
}

#[cfg(test)]
mod tests {
    use super::{BUSY, FULL, GATHER, Pace};
    use std::time::Instant;

    #[test]
    fn only_many_small_pieces_in_a_row_make_a_stream_busy() {
        let mut pace = Pace::default();
        assert!(!pace.is_busy_after(1), "a line that comes alone");
        assert!((1..BUSY).all(|_| !pace.is_busy_after(1)));
        assert!(pace.is_busy_after(1));
        assert!(!pace.is_busy_after(FULL), "a writer that may be held up");
        for _ in 0..=BUSY {
            pace.is_busy_after(1);
        }
        pace.last = Some(Instant::now() - 4 * GATHER);
        assert!(!pace.is_busy_after(1), "a pause");
    }
}
