//! The standard streams of a process: from the engine's URIs to descriptors, pumps and terminals.
//!
//! | URI | the container gets | the shim |
//! | --- | --- | --- |
//! | empty | `/dev/null` | nothing |
//! | path or `fifo://` | a pipe | splices between pipe and fifo |
//! | `file://` | a pipe | appends to the file |
//! | `binary://` | the logger's own pipe | copies nothing |
//! | any, with a terminal | the terminal | copies between its master and the sink |
//!
//! What happens while nobody reads a fifo is the container's choice ([`crate::policy`]).
//!
//! A fifo is opened for reading *and* writing. That never waits for the engine, and it holds both ends with one descriptor:
//! a vanished reader causes no SIGPIPE, and what was written waits for the next one (fifo(7), Linux).

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, pipe2};

use crate::copy::{Pump, Shared, Sink};
use crate::executor::{self, READ, Source, WRITE};
use crate::logger::{self, Logger, Subject};
use crate::policy::{Policy, Relief};
use crate::reaper::Reaper;
use crate::sys;

/// How long Delete waits for output that nobody takes.
const DRAIN: Duration = Duration::from_secs(10);

/// What the engine asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streams {
    /// URI or path, empty for none.
    pub stdin: String,
    /// URI or path, empty for none.
    pub stdout: String,
    /// URI or path, empty for none.
    pub stderr: String,
    /// Whether all three are one terminal.
    pub terminal: bool,
}

/// What is needed besides the streams' names.
pub struct Context<'a> {
    /// Whose output it is, for a logger.
    pub who: Subject<'a>,
    /// Owner and group of the pipes.
    pub owner: (u32, u32),
    /// Waits for a logger.
    pub reaper: &'a Rc<Reaper>,
    /// What happens to output that nobody takes.
    pub policy: Policy,
    /// Where it may be kept meanwhile.
    pub dir: &'a Path,
}

/// The streams of a living process.
#[derive(Default)]
pub struct Io {
    input: Option<Rc<Pump>>,
    outputs: Vec<Rc<Pump>>,
    console: Rc<RefCell<Option<Shared>>>,
    logger: Option<Logger>,
    /// Sinks that wait for the terminal.
    waiting: Option<(Option<Shared>, Sink)>,
}

/// The container's ends. Dropped as soon as the runtime has them.
pub struct Ends([OwnedFd; 3]);

impl Ends {
    /// As descriptors 0, 1, 2.
    #[must_use]
    pub fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.0[0].as_fd(), self.0[1].as_fd(), self.0[2].as_fd()]
    }
}

enum Opened {
    Null,
    Sink(Sink, bool),
    Logger(Logger, [OwnedFd; 2]),
}

impl Io {
    /// Opens everything that `streams` names.
    ///
    /// # Errors
    /// A sentence that names the stream and the system call.
    pub async fn open(streams: &Streams, context: &Context<'_>) -> Result<(Io, Ends), String> {
        let mut io = Io::default();
        let null = || null().map_err(|e| format!("/dev/null: {e}"));
        if streams.terminal {
            let input = input(&streams.stdin)?;
            let output = match output("stdout", &streams.stdout, context).await? {
                // Somebody must read a terminal, or whoever writes to it waits for ever.
                Opened::Null => Sink::File(null()?.into()),
                Opened::Sink(sink, _) => sink,
                Opened::Logger(logger, [out, _]) => {
                    io.logger = Some(logger);
                    Sink::Pipe(nonblocking(out, WRITE).map_err(|e| format!("stdout: {e}"))?)
                }
            };
            io.waiting = Some((input, output));
            return Ok((io, Ends([null()?, null()?, null()?])));
        }
        let stdin = match input(&streams.stdin)? {
            None => null()?,
            Some(from) => {
                let (end, ours) = pipe(context.owner, true).map_err(|e| format!("stdin: {e}"))?;
                io.input = Some(Pump::start(from, Sink::Pipe(ours), true, None));
                end
            }
        };
        let (stdout, stderr) = match io.output("stdout", &streams.stdout, context).await? {
            Output::Both(out, err) => (out, err),
            // One pipe for both keeps their order.
            Output::One(end) if streams.stderr == streams.stdout => {
                (end.try_clone().map_err(|e| format!("stderr: {e}"))?, end)
            }
            Output::One(end) => (end, io.output("stderr", &streams.stderr, context).await?.into_first()),
        };
        Ok((io, Ends([stdin, stdout, stderr])))
    }

    async fn output(&mut self, name: &str, uri: &str, context: &Context<'_>) -> Result<Output, String> {
        match output(name, uri, context).await? {
            Opened::Null => null().map(Output::One).map_err(|e| format!("/dev/null: {e}")),
            Opened::Sink(sink, splices) => {
                let (end, ours) = pipe(context.owner, false).map_err(|e| format!("{name}: {e}"))?;
                let relief = Relief::new(context.policy, format!("{} {name}", context.who.id), context.dir);
                self.outputs.push(Pump::start(ours, sink, splices, Some(relief)));
                Ok(Output::One(end))
            }
            Opened::Logger(logger, [out, err]) => {
                self.logger = Some(logger);
                Ok(Output::Both(out, err))
            }
        }
    }

    /// Connects the terminal that the runtime made.
    ///
    /// # Errors
    /// When the master cannot be watched.
    pub fn attach(&mut self, master: OwnedFd) -> io::Result<()> {
        let Some((input, output)) = self.waiting.take() else { return Ok(()) };
        let console = nonblocking(master, READ | WRITE)?;
        self.outputs.push(Pump::start(console.clone(), output, false, None));
        if let Some(from) = input {
            let pump = Pump::start(from, Sink::Terminal(console.clone()), false, None);
            executor::spawn(hang_up(pump.clone(), self.outputs.clone(), Rc::downgrade(&self.console)));
            self.input = Some(pump);
        }
        *self.console.borrow_mut() = Some(console);
        Ok(())
    }

    /// Sets the terminal's size; nothing without one.
    ///
    /// # Errors
    /// `TIOCSWINSZ`'s.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        self.console.borrow().as_ref().map_or(Ok(()), |console| sys::resize(console.get(), columns, rows))
    }

    /// Lets the process see the end of its input once the engine's end is closed too.
    pub fn close_input(&self) {
        if let Some(pump) = &self.input {
            pump.close_input();
        }
    }

    /// Ends everything, after what was written has been taken or [`DRAIN`] has passed.
    pub async fn finish(mut self) {
        self.outputs.iter().for_each(|pump| pump.drain());
        for pump in &self.outputs {
            if executor::timeout(DRAIN, pump.done()).await.is_none() {
                self.outputs.iter().for_each(|pump| pump.abort());
            }
        }
        if let Some(logger) = self.logger.take() {
            logger.finish().await;
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.input.iter().chain(&self.outputs).for_each(|pump| pump.abort());
    }
}

/// The end of a terminal's input is the end of the terminal, as when a modem hangs up.
async fn hang_up(input: Rc<Pump>, outputs: Vec<Rc<Pump>>, console: Weak<RefCell<Option<Shared>>>) {
    input.done().await;
    outputs.iter().for_each(|pump| pump.drain());
    for pump in outputs {
        pump.done().await;
    }
    if let Some(console) = console.upgrade() {
        console.take();
    }
}

enum Output {
    One(OwnedFd),
    Both(OwnedFd, OwnedFd),
}

impl Output {
    fn into_first(self) -> OwnedFd {
        match self {
            Output::One(end) | Output::Both(end, _) => end,
        }
    }
}

fn input(uri: &str) -> Result<Option<Shared>, String> {
    if uri.is_empty() {
        return Ok(None);
    }
    let path = uri.strip_prefix("fifo://").unwrap_or(uri);
    let read = || {
        let meta = fs::metadata(path)?;
        let mut open = OpenOptions::new();
        open.read(true).write(meta.file_type().is_fifo()).custom_flags(libc::O_NONBLOCK);
        Source::new(OwnedFd::from(open.open(path)?), READ)
    };
    read().map(|source| Some(Rc::new(source))).map_err(|e| format!("stdin {uri}: {e}"))
}

async fn output(name: &str, uri: &str, context: &Context<'_>) -> Result<Opened, String> {
    if uri.is_empty() {
        return Ok(Opened::Null);
    }
    let failed = |e: io::Error| format!("{name} {uri}: {e}");
    match uri.split_once("://") {
        None => fifo_or_file(uri).map_err(failed),
        Some(("fifo", path)) => fifo_or_file(path).map_err(failed),
        Some(("file", path)) => {
            append_to(&logger::unescape(path, false)).map(|f| Opened::Sink(Sink::File(f), false)).map_err(failed)
        }
        Some((scheme @ ("binary" | "binary-v2"), rest)) => {
            let address = logger::Address { speaks: scheme == "binary-v2", ..logger::address(rest) };
            let (logger, ends) = Logger::start(&address, &context.who, context.reaper).await?;
            Ok(Opened::Logger(logger, ends))
        }
        Some((scheme, _)) => Err(format!("{name} {uri}: unknown scheme {scheme:?} (known: fifo, file, binary)")),
    }
}

fn fifo_or_file(path: &str) -> io::Result<Opened> {
    if !fs::metadata(path)?.file_type().is_fifo() {
        let file = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        return Ok(Opened::Sink(Sink::File(file), false));
    }
    let fifo = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    Ok(Opened::Sink(Sink::Pipe(Rc::new(Source::new(fifo.into(), WRITE)?)), true))
}

fn append_to(path: &str) -> io::Result<File> {
    if let Some(parent) = Path::new(path).parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

fn nonblocking(fd: OwnedFd, interest: u8) -> io::Result<Shared> {
    let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(Rc::new(Source::new(fd, interest)?))
}

/// A pipe: the container's end, which blocks, and ours, which does not.
fn pipe(owner: (u32, u32), container_reads: bool) -> io::Result<(OwnedFd, Shared)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    if owner != (0, 0) {
        fchown(&read, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    }
    if container_reads { Ok((read, nonblocking(write, WRITE)?)) } else { Ok((write, nonblocking(read, READ)?)) }
}

/// The socket on which a runtime hands over a terminal.
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Makes the socket in `dir`, which only our user can enter; bundle paths are too long for a socket's name.
    ///
    /// # Errors
    /// `bind`'s.
    pub fn new(dir: &Path) -> io::Result<ConsoleSocket> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("c{}-{serial}", std::process::id()));
        let listener = UnixListener::bind(&path)?;
        let socket = ConsoleSocket { listener, path };
        socket.listener.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Its path for `--console-socket`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The master that the runtime sent before it ended: it already lies in the socket.
    ///
    /// # Errors
    /// `WouldBlock` when the runtime sent none.
    pub fn master(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        sys::receive_fd(&stream)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // If somebody else removed it, it is gone as well.
        let _ = fs::remove_file(&self.path);
    }
}
