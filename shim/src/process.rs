//! One process of a container, the init or an exec, and what can be said of it at any moment.
//!
//! ```text
//! Created ──Start──▶ Running ──exit──▶ Stopped          an exec is Created before it has a process at all
//!    └───────────────exit────────────────┘
//! ```

use std::cell::{Cell, RefCell};

use nix::errno::Errno;

use crate::api::{StateResponse, status};
use crate::executor::Notify;
use crate::io::{Io, Streams};
use crate::reaper::Exit;
use crate::sys;
use crate::ttrpc::{Code, Status};

/// Where in its life a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made, not started.
    Created,
    /// Started.
    Running,
    /// Ended, or its start failed.
    Stopped,
}

/// A process.
pub struct Process {
    /// Empty for the container's init.
    pub exec_id: String,
    /// What the engine asked for.
    pub streams: Streams,
    /// An exec's process in JSON.
    pub spec: Vec<u8>,
    /// 0 until it is known.
    pub pid: Cell<u32>,
    /// Where in its life it is.
    pub phase: Cell<Phase>,
    /// How it ended.
    pub exit: Cell<Option<Exit>>,
    /// It has been reaped, although its end may not have been told yet.
    pub reaped: Cell<bool>,
    /// Its create or start has not been told yet: its exit must wait.
    pub announcing: Cell<bool>,
    /// Its streams, until Delete.
    pub io: RefCell<Option<Io>>,
    /// A size that came before the terminal.
    pub size: Cell<Option<(u16, u16)>>,
    /// Whether its input is to end; that may be said before there are streams.
    pub input_ended: Cell<bool>,
    /// Rings at every change.
    pub changed: Notify,
}

impl Process {
    /// A process that has not been started.
    #[must_use]
    pub fn new(exec_id: String, streams: Streams, spec: Vec<u8>) -> Process {
        Process {
            exec_id,
            streams,
            spec,
            pid: Cell::new(0),
            phase: Cell::new(Phase::Created),
            exit: Cell::new(None),
            reaped: Cell::new(false),
            announcing: Cell::new(false),
            io: RefCell::new(None),
            size: Cell::new(None),
            input_ended: Cell::new(false),
            changed: Notify::default(),
        }
    }

    /// Whether this is the container's init.
    #[must_use]
    pub fn is_init(&self) -> bool {
        self.exec_id.is_empty()
    }

    /// Moves on.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.changed.notify();
    }

    /// Marks the end.
    pub fn end(&self, exit: Exit) {
        self.exit.set(Some(exit));
        self.enter(Phase::Stopped);
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Exit {
        self.changed.until(|| self.exit.get()).await
    }

    /// Lets an exit that waited be told.
    pub fn announced(&self) {
        self.announcing.set(false);
        self.changed.notify();
    }

    /// Sends a signal. It cannot hit a stranger: the process is our child, and its number stays its own until we reap it.
    ///
    /// # Errors
    /// `FailedPrecondition` before there is a process, `NotFound` after its end.
    pub fn signal(&self, number: u32) -> Result<(), Status> {
        let finished = || Status::new(Code::NotFound, "process already finished");
        if self.reaped.get() || self.phase.get() == Phase::Stopped {
            return Err(finished());
        }
        let pid = i32::try_from(self.pid.get()).unwrap_or(0);
        if pid <= 0 {
            return Err(Status::new(Code::FailedPrecondition, "process not created"));
        }
        let signal = i32::try_from(number).unwrap_or(i32::MAX);
        match sys::kill(pid, signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(finished()),
            Err(errno) => Err(Status::unknown(format!("kill {pid} with signal {number}: {errno}"))),
        }
    }

    /// Ends the input, now or as soon as there is one: a client whose input is short says so while the start is still under way.
    pub fn close_input(&self) {
        self.input_ended.set(true);
        if let Some(io) = self.io.borrow().as_ref() {
            io.close_input();
        }
    }

    /// Sets the terminal's size, now or as soon as there is one.
    ///
    /// # Errors
    /// The terminal's.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), Status> {
        self.size.set(Some((columns, rows)));
        let io = self.io.borrow();
        io.as_ref()
            .map_or(Ok(()), |io| io.resize(columns, rows))
            .map_err(|e| Status::unknown(format!("resize of the terminal: {e}")))
    }

    /// What State answers, but for the container's own part.
    #[must_use]
    pub fn state(&self, paused: Option<u32>) -> StateResponse {
        let exit = self.exit.get();
        StateResponse {
            pid: self.pid.get(),
            status: match self.phase.get() {
                Phase::Stopped => status::STOPPED,
                Phase::Created if paused != Some(status::PAUSED) => status::CREATED,
                phase => paused.unwrap_or(if phase == Phase::Created { status::CREATED } else { status::RUNNING }),
            },
            stdin: self.streams.stdin.clone(),
            stdout: self.streams.stdout.clone(),
            stderr: self.streams.stderr.clone(),
            terminal: self.streams.terminal,
            exit_status: exit.map_or(0, |e| e.code),
            exited_at: exit.map(|e| e.at.into()),
            exec_id: self.exec_id.clone(),
            ..StateResponse::default()
        }
    }
}
