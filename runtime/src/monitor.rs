//! A container in the foreground: its exit is never missed, signals reach it, its terminal is relayed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::notify::Notify;
use crate::sys::signal::{SignalFd, block_all};
use crate::sys::terminal::{self, Modes};
use crate::sys::{Fault, fs, process};

/// Signals of the terminal and of faults, and what children raise: those are not passed on.
const KEPT: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
];

/// Signals held back from before the container exists, so that none is lost between the clone and the wait.
pub struct Monitor {
    signals: SignalFd,
    /// Relays the container's readiness meanwhile.
    pub notify: Option<Notify>,
}

impl Monitor {
    /// Blocks all signals and holds them.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub fn begin() -> Result<Self, Fault> {
        Ok(Monitor { signals: block_all()?, notify: None })
    }

    /// Waits for a process, passing signals on; with a terminal's master, relays that, too. Answers how it ended.
    ///
    /// # Errors
    /// What a system call says that cannot fail in this place.
    pub fn wait(&self, pidfd: BorrowedFd<'_>, master: Option<OwnedFd>) -> Result<process::Ended, Fault> {
        let relay = master.map(Relay::begin);
        let stdin = relay.as_ref().and_then(|_| fs::standard_stream(0).ok());
        let mut stdin_open = stdin.is_some();
        let mut notify = self.notify.as_ref();
        loop {
            let master = relay.as_ref().map(|r| r.master.as_fd());
            let idle = self.signals.as_fd();
            let watch = |fd: Option<BorrowedFd<'_>>, on: bool| if on && fd.is_some() { libc::POLLIN } else { 0 };
            let [ended, signal, output, input, said] = fs::poll(
                [
                    (pidfd, libc::POLLIN),
                    (self.signals.as_fd(), libc::POLLIN),
                    (master.unwrap_or(idle), watch(master, true)),
                    (stdin.unwrap_or(idle), watch(master.and(stdin), stdin_open)),
                    (notify.map_or(idle, AsFd::as_fd), watch(notify.map(AsFd::as_fd), true)),
                ],
                -1,
            )?;
            if said != 0 && notify.is_some_and(|notify| notify.hear(None).unwrap_or(true)) {
                // Said once, or to nobody: the service manager is gone.
                notify = None;
            }
            if signal != 0 {
                self.pass_on(pidfd, relay.as_ref())?;
            }
            if let Some(relay) = &relay {
                if output & libc::POLLIN != 0 {
                    relay.output();
                }
                if input != 0 && stdin_open {
                    stdin_open = relay.input(stdin);
                }
            }
            if ended != 0 {
                if let Some(relay) = &relay {
                    relay.drain();
                }
                return Ok(process::wait(pidfd, true)?.unwrap_or(process::Ended::Exited(255)));
            }
        }
    }

    fn pass_on(&self, pidfd: BorrowedFd<'_>, relay: Option<&Relay>) -> Result<(), Fault> {
        let Some(signal) = self.signals.next()? else { return Ok(()) };
        if signal == libc::SIGWINCH {
            if let Some(relay) = relay {
                relay.resize();
            }
            return Ok(());
        }
        if !KEPT.contains(&signal) {
            // It may have gone just now; its end is what comes next.
            let _ = process::pidfd_kill(pidfd, signal);
        }
        Ok(())
    }
}

/// The caller's terminal on one side, the container's on the other.
struct Relay {
    master: OwnedFd,
    before: Option<Modes>,
}

impl Relay {
    fn begin(master: OwnedFd) -> Self {
        let before = fs::standard_stream(0).ok().and_then(|stdin| terminal::make_raw(stdin).ok());
        let relay = Relay { master, before };
        relay.resize();
        relay
    }

    /// The container's terminal gets the size of the caller's.
    fn resize(&self) {
        let size = fs::standard_stream(0).and_then(terminal::size);
        if let Ok((columns, rows)) = size {
            let _ = terminal::set_size(self.master.as_fd(), columns, rows);
        }
    }

    // Not inlined, as the next: what waits without a terminal needs no such buffers.
    #[inline(never)]
    fn output(&self) -> bool {
        let mut buf = [0u8; 4096];
        // EIO: nobody has the other end open any more.
        match fs::read(self.master.as_fd(), &mut buf) {
            Ok(0) | Err(_) => false,
            Ok(n) => write_all(1, &buf[..n]).is_ok(),
        }
    }

    #[inline(never)]
    fn input(&self, stdin: Option<BorrowedFd<'_>>) -> bool {
        let mut buf = [0u8; 4096];
        let Some(stdin) = stdin else { return false };
        match fs::read(stdin, &mut buf) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                let mut rest = &buf[..n];
                while !rest.is_empty() {
                    let Ok(n) = fs::write(self.master.as_fd(), rest) else { return false };
                    rest = &rest[n..];
                }
                true
            }
        }
    }

    /// What was written before the end is shown after it.
    fn drain(&self) {
        while fs::poll([(self.master.as_fd(), libc::POLLIN)], 0).is_ok_and(|[r]| r & libc::POLLIN != 0) {
            if !self.output() {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let (Some(before), Ok(stdin)) = (&self.before, fs::standard_stream(0)) {
            let _ = terminal::restore(stdin, before);
        }
    }
}

fn write_all(stream: i32, mut bytes: &[u8]) -> io::Result<()> {
    let stream = fs::standard_stream(stream)?;
    while !bytes.is_empty() {
        bytes = &bytes[fs::write(stream, bytes)?..];
    }
    Ok(())
}
