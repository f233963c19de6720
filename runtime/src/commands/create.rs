//! `create` and `run`.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use super::{Context, Failure, Outcome};
use crate::cli::{self, CgroupManager, Rootless};
use crate::container::trace::{Trace, phase};
use crate::container::{self, Bundle, Config, Created};
use crate::monitor::Monitor;
use crate::notify;
use crate::request::Request;
use crate::sys::{fs, socket, terminal};

/// `create`.
#[inline(never)]
pub(super) fn create(cx: &Context, ask: cli::Create) -> Outcome {
    let bundle = load(&ask)?;
    let config = bundle.spec()?;
    let wants_terminal = wants_terminal(&config);
    let console = console(ask.console_socket.as_deref(), wants_terminal, true)?;
    let pidfd_socket = connect(ask.pidfd_socket.as_deref())?;
    let created = make(cx, (&bundle, &config), &ask, console, true, None)?;
    announce(pidfd_socket, created)?.release()?;
    Ok(0)
}

/// `run`.
#[inline(never)]
pub(super) fn run(cx: &Context, ask: cli::Run) -> Outcome {
    run_traced(cx, ask, None, &mut || {})
}

/// `run`, noting what takes how long; `running` is called when the program is executed.
pub(super) fn run_traced(cx: &Context, ask: cli::Run, trace: Option<Rc<Trace>>, running: &mut dyn FnMut()) -> Outcome {
    let bundle = load(&ask.create)?;
    phase(&trace, "read the bundle");
    let config = bundle.spec()?;
    phase(&trace, "parse the config");
    let wants_terminal = wants_terminal(&config);
    let mut ours = None;
    let console = if wants_terminal && !ask.detach && ask.create.console_socket.is_none() {
        let (one, other) = socket::pair().map_err(container::Error::from)?;
        ours = Some(one);
        Some(other)
    } else {
        console(ask.create.console_socket.as_deref(), wants_terminal, ask.detach)?
    };
    let pidfd_socket = connect(ask.create.pidfd_socket.as_deref())?;
    // Held back from here on, so that none is lost between the clone and the wait.
    let monitor = if ask.detach { None } else { Some(Monitor::begin().map_err(container::Error::from)?) };
    let created = make(cx, (&bundle, &config), &ask.create, console, false, trace)?;
    let created = announce(pidfd_socket, created)?;
    let relay = match created.notify() {
        Err(e) => return Err(created.abandon(e).into()),
        Ok(relay) => relay,
    };
    // Before the program can write its first line.
    let master = receive_master(ours);
    let started = created.release()?;
    started.until_running(&mut |text| cx.log.warn(&text))?;
    running();
    let Some(mut monitor) = monitor else {
        if let Some(relay) = relay {
            relay.relay(started.record.pid, started.pidfd().as_fd()).map_err(container::Error::new)?;
        }
        return Ok(0);
    };
    monitor.notify = relay;
    let ended = monitor.wait(started.pidfd().as_fd(), master?).map_err(container::Error::from)?;
    if !ask.keep {
        container::clean_up(&started, &mut |text| cx.log.warn(&text))?;
    }
    // The kernel closes and frees faster than we do.
    std::mem::forget((started, monitor));
    Ok(u8::try_from(ended.status() & 0xff).unwrap_or(255))
}

fn wants_terminal((spec, _): &Config<'_>) -> bool {
    spec.process.as_ref().is_some_and(|p| p.terminal)
}

fn load(ask: &cli::Create) -> Result<Bundle, Failure> {
    Ok(Bundle::load(ask.bundle.as_deref().unwrap_or(Path::new(".")))?)
}

fn make(
    cx: &Context,
    (bundle, config): (&Bundle, &Config<'_>),
    ask: &cli::Create,
    console: Option<OwnedFd>,
    gated: bool,
    trace: Option<Rc<Trace>>,
) -> Result<Created, Failure> {
    let create = container::Create {
        root: cx.root_to_make_in(),
        request: Request { gated, ..relayed(cx, ask, request(cx, ask, bundle)) },
        console,
        strict: ask.strict,
        pid_file: ask.pid_file.as_ref().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())),
        trace,
    };
    let created = container::create(bundle, config, create, &mut |text| cx.log.warn(&text))?;
    for warning in &created.warnings {
        cx.log.warn(&warning.to_string());
    }
    Ok(created)
}

/// What of the command line and the environment shapes the plan.
pub(super) fn request(cx: &Context, ask: &cli::Create, bundle: &Bundle) -> Request {
    let listen_fds = listen_fds();
    let manager = cx.global.cgroup_manager;
    Request {
        no_cgroups: manager == Some(CgroupManager::Disabled),
        systemd: manager.map_or(cx.global.systemd_cgroup, |m| m == CgroupManager::Systemd),
        rootless: match cx.global.rootless {
            Rootless::Auto => None,
            Rootless::True => Some(true),
            Rootless::False => Some(false),
        },
        id: ask.id.clone(),
        gated: true,
        bundle: bundle.path.clone(),
        no_pivot: ask.no_pivot,
        no_new_keyring: ask.no_new_keyring,
        preserve_fds: ask.preserve_fds.saturating_add(listen_fds),
        listen_fds,
        listen_fdnames: std::env::var("LISTEN_FDNAMES").ok(),
        ..Request::default()
    }
}

/// Where the caller has a service manager, the container gets a socket to tell of its readiness.
fn relayed(cx: &Context, ask: &cli::Create, request: Request) -> Request {
    if std::env::var_os("NOTIFY_SOCKET").is_none_or(|path| path.is_empty()) {
        return request;
    }
    let directory = cx.root().0.join(&ask.id).join(notify::DIRECTORY);
    Request {
        notify_socket: Some(notify::INSIDE.to_owned()),
        notify_directory: directory.into_os_string().into_string().ok(),
        ..request
    }
}

/// Descriptors of socket activation; those of another process are none of ours (sd_listen_fds(3)).
pub(super) fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    let ours = number("LISTEN_PID").is_some_and(|pid| pid == std::process::id());
    if ours { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
}

/// Whether what is to be passed on was passed to us. To be asked before anything is opened.
pub(super) fn inherited(preserve: u32) -> Result<(), Failure> {
    let (listen, first) = (listen_fds(), 3);
    let all = preserve.saturating_add(listen);
    let closed = (0..all).find(|i| i32::try_from(i + first).is_ok_and(|fd| !fs::is_open(fd)));
    match closed {
        None => Ok(()),
        Some(i) if i < listen => Err(usage(&format!("LISTEN_FDS={listen}: descriptor {} is not open", i + first))),
        Some(i) => {
            let (i, fd) = (i - listen, i + first);
            Err(usage(&format!("unable to stat preserved-fd {i} (of {preserve}): descriptor {fd} is not open")))
        }
    }
}

/// The rules of terminals: detached, one needs a console socket, and a console socket needs a terminal.
pub(super) fn console(socket: Option<&Path>, terminal: bool, detached: bool) -> Result<Option<OwnedFd>, Failure> {
    match (socket, terminal) {
        (None, true) if detached => {
            Err(usage("cannot allocate tty if runc will detach without setting console socket"))
        }
        (Some(_), false) => Err(usage("cannot use console socket if runc will not detach or allocate tty")),
        (path, _) => connect(path),
    }
}

fn usage(text: &str) -> Failure {
    Failure { message: text.to_owned(), code: 1 }
}

pub(super) fn connect(path: Option<&Path>) -> Result<Option<OwnedFd>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| usage("a path holds a NUL byte"))?;
    let socket = socket::connect(&text);
    socket.map(Some).map_err(|f| Failure { message: format!("socket {}: {f}", path.display()), code: 1 })
}

/// Before init is released: a peer that is gone leaves no container behind.
fn announce(socket: Option<OwnedFd>, created: Created) -> Result<Created, Failure> {
    match send_pidfd(socket, created.pidfd()) {
        Ok(()) => Ok(created),
        Err(error) => Err(created.abandon(error).into()),
    }
}

pub(super) fn send_pidfd(socket: Option<OwnedFd>, pidfd: &OwnedFd) -> container::Result<()> {
    let Some(socket) = socket else { return Ok(()) };
    let sent = socket::send_fd(socket.as_fd(), b"pidfd", pidfd.as_fd());
    sent.map(drop).map_err(|fault| container::Error::new(format!("--pidfd-socket: {fault}")))
}

pub(super) fn receive_master(socket: Option<OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
    let Some(socket) = socket else { return Ok(None) };
    let master = socket::receive_fd(socket.as_fd()).map_err(container::Error::from)?;
    if let Some(master) = &master {
        terminal::plain_newlines(master.as_fd()).map_err(container::Error::from)?;
    }
    Ok(master)
}
