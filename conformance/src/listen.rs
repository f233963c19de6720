//! Sockets that a runtime speaks to: the seccomp agent's and the console's.

use std::fs::OpenOptions;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

/// Messages in the order of their arrival, each with its text and the number of descriptors that came along.
pub(crate) type Heard = Arc<Mutex<Vec<Value>>>;

/// Listens in a thread until the process ends. With `console`, what comes out of a received terminal goes to that file.
pub(crate) fn serve(listener: &UnixListener, heard: &Heard, console: Option<PathBuf>) {
    let (Ok(listener), heard) = (listener.try_clone(), Arc::clone(heard)) else { return };
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            let (message, fds) = receive(stream);
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            match &console {
                Some(out) => fds.into_iter().for_each(|fd| relay(fd, out.clone())),
                // A seccomp descriptor that is closed makes the blocked calls fail: it is kept while the case runs.
                None => kept.extend(fds),
            }
        }
    });
}

/// One message to its end.
fn receive(mut stream: UnixStream) -> (Value, Vec<OwnedFd>) {
    let mut text = vec![0u8; 1 << 16];
    let (got, fds, more) = first(&stream, &mut text);
    text.truncate(got);
    let mut rest = Vec::new();
    let closed = !more || stream.read_to_end(&mut rest).is_ok();
    text.extend(rest);
    let shown = String::from_utf8_lossy(&text).into_owned();
    let parsed = serde_json::from_str::<Value>(&shown).unwrap_or(Value::Null);
    (json!({ "text": shown, "json": parsed, "fds": fds.len(), "closed": closed }), fds)
}

/// The first packet with its descriptors; the third value is false when the stream has failed.
fn first(stream: &UnixStream, text: &mut [u8]) -> (usize, Vec<OwnedFd>, bool) {
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(text)];
    let Ok(message) = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
    else {
        return (0, Vec::new(), false);
    };
    let mut fds = Vec::new();
    for part in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(list) = part {
            fds.extend(list.into_iter().map(crate::sys::own));
        }
    }
    (message.bytes, fds, true)
}

/// Copies a terminal's output to a file until its last user is gone.
fn relay(fd: OwnedFd, out: PathBuf) {
    thread::spawn(move || {
        let mut master = std::fs::File::from(fd);
        let Ok(mut file) = OpenOptions::new().append(true).create(true).open(out) else { return };
        let mut buffer = [0u8; 4096];
        while let Ok(n) = master.read(&mut buffer) {
            if n == 0 || file.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    });
}
