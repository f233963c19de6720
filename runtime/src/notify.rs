//! `NOTIFY_SOCKET` (sd_notify(3)): a container cannot reach the service manager's socket, so readiness is relayed.
//!
//! ```text
//!   container ── READY=1 ──▶ ROOT/ID/notify/notify.sock ── READY=1, MAINPID=…, BARRIER=1 ──▶ service manager
//! ```

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use crate::state::{Dir, Record};
use crate::sys::{fs, io_text, socket};

/// The directory of the socket, in the container's state directory; it is what is mounted.
pub const DIRECTORY: &str = "notify";
/// The socket as the container sees it.
pub const INSIDE: &str = "/run/notify/notify.sock";
/// How long the service manager may take to have read what it was told.
const BARRIER_MS: i32 = 30_000;

/// The container's socket, and the service manager's.
#[derive(Debug)]
pub struct Notify {
    ours: UnixDatagram,
    manager: UnixDatagram,
}

impl Notify {
    /// Opens both sockets, where the container was made for it and the caller has a service manager.
    ///
    /// # Errors
    /// The sentence that says which socket cannot be opened.
    pub fn of(dir: &Dir, record: &Record) -> Result<Option<Notify>, String> {
        let manager = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let Some(manager) = manager.filter(|_| record.request.notify_socket.is_some()) else { return Ok(None) };
        let connected = connect(&manager);
        let manager = connected.map_err(|e| format!("NOTIFY_SOCKET {}: {}", manager.display(), io_text(&e)))?;
        let ours = listen(dir).map_err(|e| format!("the container's notify socket: {}", io_text(&e)))?;
        Ok(Some(Notify { ours, manager }))
    }

    /// Reads one message of the container. Once it is ready, the service manager is told so, and, for a container that is
    /// not our child for long, who the main process is. Says whether that is done.
    ///
    /// # Errors
    /// The sentence that says what the service manager could not be told.
    #[inline(never)]
    pub fn hear(&self, main: Option<i32>) -> Result<bool, String> {
        let mut message = [0; 4096];
        let Ok(len) = self.ours.recv(&mut message) else { return Ok(false) };
        let ready = message[..len].split(|b| *b == b'\n').find(|line| line.starts_with(b"READY="));
        let Some(ready) = ready else { return Ok(false) };
        self.tell(ready, main).map_err(|e| format!("NOTIFY_SOCKET: {}", io_text(&e)))?;
        Ok(true)
    }

    fn tell(&self, ready: &[u8], main: Option<i32>) -> std::io::Result<()> {
        self.manager.send(&[ready, b"\n"].concat())?;
        if let Some(pid) = main {
            self.manager.send(format!("MAINPID={pid}\n").as_bytes())?;
        }
        // The manager closes the pipe when it has read all that was sent before (sd_notify_barrier(3)).
        let (rx, tx) = fs::pipe()?;
        socket::send_fd(self.manager.as_fd(), b"BARRIER=1", tx.as_fd())?;
        drop(tx);
        match fs::poll([(rx.as_fd(), 0)], BARRIER_MS)? {
            [0] => Err(std::io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            _ => Ok(()),
        }
    }

    /// Waits until the container is ready or dead.
    ///
    /// # Errors
    /// As [`Notify::hear`].
    pub fn relay(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), String> {
        loop {
            let events = fs::poll([(self.as_fd(), libc::POLLIN), (pidfd, libc::POLLIN)], -1);
            match events.map_err(|f| f.to_string())? {
                [0, 0] => {}
                // Dead, and nothing more to be read.
                [0, _] => return Ok(()),
                _ if self.hear(Some(pid))? => return Ok(()),
                _ => {}
            }
        }
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }
}

/// A path, or a name in the abstract namespace, which begins with `@`.
fn connect(address: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(address)?,
    }
    Ok(socket)
}

/// By way of the directory's descriptor: its path may be longer than a socket's may be.
fn listen(dir: &Dir) -> std::io::Result<UnixDatagram> {
    let directory = std::fs::File::open(dir.file(DIRECTORY))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/notify.sock", directory.as_raw_fd()));
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket = UnixDatagram::bind(&path)?;
    // Whoever the container's process is; nobody outside can come near it.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
