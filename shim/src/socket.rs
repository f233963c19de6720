//! A shim's socket: making it, and finding out whether anybody answers there.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use crate::sys;

/// Binds the socket. `None` when a living shim has it; a dead one's is taken over.
///
/// # Errors
/// `mkdir`'s, `bind`'s, `connect`'s.
pub fn listen(path: &Path) -> io::Result<Option<UnixListener>> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // The mode must be right from the first moment, so it is the mask that sets it.
    let mask = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(path);
    umask(mask);
    bound
}

fn bind(path: &Path) -> io::Result<Option<UnixListener>> {
    // A second try after a dead shim's socket was removed; a third if somebody else was faster than us.
    for _ in 0..3 {
        match UnixListener::bind(path) {
            Ok(listener) => return Ok(Some(listener)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(e),
        }
        match is_served(path) {
            Ok(true) => return Ok(None),
            Ok(false) => fs::remove_file(path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Marks the socket as this process's own. Before that it is the `start` action's, which has made it and is gone.
///
/// # Errors
/// `listen`'s.
pub fn own(listener: &UnixListener) -> io::Result<()> {
    // The kernel notes who called this last, and tells everybody who connects (unix(7), SO_PEERCRED).
    Ok(nix::sys::socket::listen(listener, nix::sys::socket::Backlog::MAXCONN)?)
}

/// Whether a living shim has the socket at `path`.
///
/// A connection alone does not tell: a runtime that was being started when its shim was killed holds a copy of the socket until
/// its exec.
///
/// # Errors
/// `connect`'s: `NotFound` when there is no socket.
pub fn is_served(path: &Path) -> io::Result<bool> {
    match sys::connect(path) {
        Ok(stream) => Ok(!sys::peer_pid(&stream).is_ok_and(has_ended)),
        // It lives and is behind with its work.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a process is known to have ended. One of another pid namespace has no number here, and nothing is known of it.
fn has_ended(pid: u32) -> bool {
    if pid == 0 {
        return false;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::{has_ended, is_served, listen, own};

    #[test]
    fn a_living_listeners_socket_is_left_alone_and_a_dead_ones_is_taken_over() {
        let path = std::env::temp_dir().join(format!("served-{}", std::process::id()));
        let first = listen(&path).unwrap().expect("free");
        own(&first).unwrap();
        assert!(is_served(&path).unwrap());
        assert!(listen(&path).unwrap().is_none());
        drop(first);
        assert!(!is_served(&path).unwrap());
        assert!(listen(&path).unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(is_served(&path).is_err());
    }

    #[test]
    fn who_is_known_to_have_ended() {
        assert!(has_ended(u32::MAX) && !has_ended(std::process::id()) && !has_ended(0));
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !has_ended(child.id()) {
            assert!(std::time::Instant::now() < until, "a zombie has ended");
        }
        child.wait().unwrap();
    }
}
