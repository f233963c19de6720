//! The shim itself: sets up its one thread and serves until it is told to end.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::container::World;
use crate::events::Publisher;
use crate::executor::{self, READ, Source};
use crate::options::Options;
use crate::reaper::Reaper;
use crate::task::Shim;
use crate::ttrpc::{self, Pending};
use crate::{confine, log, sys};

/// How long an ending shim waits for its last answers, and then for its last events.
const LAST: Duration = Duration::from_millis(1200);

/// What distinguishes this shim from others.
#[derive(Debug, Clone)]
pub struct Place {
    /// The engine's namespace.
    pub namespace: String,
    /// Our socket.
    pub socket: PathBuf,
    /// The engine's events socket.
    pub events: Option<PathBuf>,
    /// What the engine said about the runtime.
    pub options: Options,
    /// Whether to log in detail.
    pub debug: bool,
}

/// Serves until Shutdown or a signal. The starter is told by the end of the first pipe that serving has begun, and answers by a
/// byte in the second one when the engine knows the address.
///
/// # Errors
/// A sentence, and the first pipe if serving had not begun.
pub fn serve(
    listener: UnixListener,
    place: Place,
    (tell, awaited): (OwnedFd, OwnedFd),
) -> Result<(), (String, Option<OwnedFd>)> {
    let signals = match prepare(&place) {
        Ok(signals) => signals,
        Err(text) => return Err((text, Some(tell))),
    };
    let socket_dir = place.socket.parent().map_or_else(PathBuf::new, PathBuf::from);
    let world = Rc::new(World {
        publisher: Publisher::new(place.events.clone(), place.namespace.clone()),
        namespace: place.namespace,
        socket_dir,
        options: place.options,
        reaper: Rc::default(),
    });
    let socket = place.socket;
    // A start that comes from now on must find no socket, and make its own shim.
    let shim = Shim::new(world.clone(), move || drop(std::fs::remove_file(&socket)));
    sys::trim_memory();
    drop(tell);
    executor::run(live(listener, signals, world, shim, awaited)).map_err(|e| (e.to_string(), None))
}

fn prepare(place: &Place) -> Result<SignalFd, String> {
    let bundle = std::env::current_dir().map_err(|e| format!("the bundle: {e}"))?;
    log::to(bundle.join("log"), place.debug);
    set_child_subreaper(true).map_err(|e| format!("subreaper: {e}"))?;
    let mut mask = SigSet::empty();
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().for_each(|s| mask.add(s));
    mask.thread_block().map_err(|e| format!("signal mask: {e}"))?;
    sys::give_up_streams();
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| format!("signalfd: {e}"))?;
    executor::install().map_err(|e| format!("epoll: {e}"))?;
    confine::confine().map_err(|e| format!("capabilities: {e}"))?;
    Ok(signals)
}

async fn live(listener: UnixListener, signals: SignalFd, world: Rc<World>, shim: Rc<Shim>, awaited: OwnedFd) {
    let pending = Rc::new(Pending::default());
    executor::spawn(end_unless_known(awaited, shim.clone()));
    executor::spawn(world.publisher.clone().run());
    let (engine, service, unwritten) = (world.publisher.clone(), shim.clone(), pending.clone());
    executor::spawn(async move {
        if let Err(error) = ttrpc::serve(listener, service.clone(), unwritten, move || engine.nudge()).await {
            log::warn(&format!("socket: {error}"));
            service.finish();
        }
    });
    executor::spawn(watch_signals(signals, world.reaper.clone(), shim.clone()));
    shim.ended().await;
    // The answer to Shutdown goes first: the engine may close everything as soon as it has it.
    executor::timeout(LAST, pending.flushed()).await;
    if shim.is_sandbox() {
        // containerd takes the end of the connection for a failure of ShutdownSandbox, and then keeps the pod.
        executor::timeout(LAST, pending.deserted()).await;
    }
    executor::timeout(LAST, world.publisher.flushed()).await;
}

/// Ends the shim when its starter died before the engine had the address: an engine that gives up kills it.
async fn end_unless_known(awaited: OwnedFd, shim: Rc<Shim>) {
    let read = |fd: &OwnedFd| Ok(nix::unistd::read(fd, &mut [0u8; 1])?);
    let known = match set_nonblocking(&awaited).and_then(|()| Source::new(awaited, READ)) {
        Ok(source) => source.attempt(READ, read).await,
        Err(error) => Err(error),
    };
    if !matches!(known, Ok(1)) {
        log::warn("the start action ended before it had answered; nobody knows this shim");
        shim.finish();
    }
}

fn set_nonblocking(fd: &OwnedFd) -> std::io::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}

async fn watch_signals(signals: SignalFd, reaper: Rc<Reaper>, shim: Rc<Shim>) {
    let source = match Source::new(signals, READ) {
        Ok(source) => source,
        Err(error) => {
            log::warn(&format!("signals: {error}"));
            return shim.finish();
        }
    };
    // Children may have ended before the first edge.
    reaper.reap();
    let asked = Cell::new(false);
    loop {
        let read = source.attempt(READ, read_signal).await;
        match read {
            Ok(libc::SIGCHLD) => reaper.reap(),
            Ok(_) if !asked.replace(true) => shim.finish(),
            Ok(_) => {}
            Err(error) => {
                log::warn(&format!("signals: {error}"));
                return shim.finish();
            }
        }
    }
}

fn read_signal(fd: &SignalFd) -> std::io::Result<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    nix::unistd::read(fd.as_fd(), &mut info)?;
    // The number is the structure's first field (signalfd(2)).
    Ok(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))
}
