//! Undoes the one mount that a plan makes in a namespace which it has not made: the root filesystem's, over its own path.
//!
//! What the caller had mounted there before is the caller's and stays, and so is what he mounts there when ours is gone. So the
//! journal holds the mount over which the plan is to mount, and only what stands upon that one goes. Ours cannot be without
//! it: whoever takes it away takes ours along.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::abi::clone;
use crate::sys::process::{self, Cloned, Ended};
use crate::sys::{Call, Fault, Result, fs, mount};

/// More than this is nobody's doing but a defect's (rule R11).
const MAX_STACKED: usize = 64;
/// The largest mountinfo that is read: what the kernel allows of mounts (`fs.mount-max`) has room.
const MAX_TABLE: usize = 64 << 20;

/// The id of the mount that is uppermost at a path, in the runtime's mount namespace or another. `None` where the path leads
/// nowhere, or nobody can look.
pub(super) fn uppermost(path: &str, namespace: Option<&str>) -> Option<u64> {
    let path = CString::new(path).ok()?;
    let Some(namespace) = namespace else { return fs::mount_id(&path).ok() };
    let ns = open_namespace(namespace)?;
    let (rx, tx) = fs::pipe().ok()?;
    let look = || {
        let id = fs::mount_id(&path)?;
        fs::write(tx.as_fd(), &id.to_ne_bytes()).map(drop)
    };
    inside(ns.as_fd(), look).then_some(())?;
    let mut id = [0; size_of::<u64>()];
    (fs::read(rx.as_fd(), &mut id) == Ok(id.len())).then(|| u64::from_ne_bytes(id))
}

/// Detaches what stands at a path upon the mount that was uppermost there. Nothing, if there was none.
///
/// # Errors
/// What could not be detached, as a sentence.
pub(super) fn undo(path: &str, namespace: Option<&str>, over: Option<u64>) -> std::result::Result<(), String> {
    let (Ok(text), Some(over)) = (CString::new(path), over) else { return Ok(()) };
    // By its handle: in a namespace that is joined there may be none.
    let proc = fs::open(c"/proc", libc::O_PATH | libc::O_DIRECTORY).map_err(|f| format!("detach {path}: {f}"))?;
    let Some(namespace) = namespace else {
        return detach(&text, over, proc.as_fd()).map_err(|f| format!("detach {path}: {f}"));
    };
    // A namespace that is gone has taken its mounts along.
    let Some(ns) = open_namespace(namespace) else { return Ok(()) };
    if inside(ns.as_fd(), || detach(&text, over, proc.as_fd())) {
        return Ok(());
    }
    Err(format!("detach {path} in the mount namespace {namespace}"))
}

/// `None` where it is gone, or its path is another's by now: nothing was ever mounted in what is no mount namespace.
fn open_namespace(path: &str) -> Option<OwnedFd> {
    let ns = fs::open(&CString::new(path).ok()?, libc::O_RDONLY).ok()?;
    (process::namespace_kind(ns.as_fd()) == Ok(clone::NEWNS)).then_some(ns)
}

/// Does something in a mount namespace: a child enters it and comes back as an exit status.
fn inside(ns: BorrowedFd<'_>, what: impl FnOnce() -> Result<()>) -> bool {
    match process::clone3(0, None) {
        Ok(Cloned::Child) => {
            let done = process::setns(ns, clone::NEWNS).and_then(|()| what());
            process::exit(i32::from(done.is_err()))
        }
        Ok(Cloned::Parent(_, pidfd)) => process::wait(pidfd.as_fd(), true) == Ok(Some(Ended::Exited(0))),
        Err(_) => false,
    }
}

fn detach(path: &CStr, over: u64, proc: BorrowedFd<'_>) -> Result<()> {
    for _ in 0..MAX_STACKED {
        let top = match fs::mount_id(path) {
            Err(f) if matches!(f.errno, libc::ENOENT | libc::ENOTDIR) => return Ok(()),
            top => top?,
        };
        if top == over || !stands_upon(&table(proc)?, top, over) {
            return Ok(());
        }
        mount::detach(path)?;
    }
    Err(Fault::new(Call::umount2, libc::EBUSY))
}

/// The mounts of this process's namespace, as proc_pid_mountinfo(5) lists them.
fn table(proc: BorrowedFd<'_>) -> Result<String> {
    let file = fs::openat2(proc, c"self/mountinfo", libc::O_RDONLY, 0, 0)?;
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(64 << 10);
        if fs::read_more(file.as_fd(), &mut bytes)? == 0 {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if bytes.len() > MAX_TABLE {
            return Err(Fault::new(Call::read, libc::EFBIG));
        }
    }
}

/// Whether a mount stands, through others at the same place, upon another.
fn stands_upon(table: &str, top: u64, below: u64) -> bool {
    let line = |id: u64| {
        let lines = table.lines().map(|line| {
            let mut words = line.split(' ');
            let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
            (number(), number(), words.nth(2))
        });
        lines.into_iter().find(|(own, ..)| *own == Some(id))
    };
    let Some((_, _, place)) = line(top) else { return false };
    let mut at = top;
    for _ in 0..MAX_STACKED {
        match line(at) {
            Some((_, Some(parent), there)) if there == place => {
                if parent == below {
                    return true;
                }
                at = parent;
            }
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 8:1 / / rw - ext4 x rw
30 22 8:1 / /run/root rw - tmpfs x rw
41 30 8:1 / /run/root rw - tmpfs x rw
42 41 8:1 / /run/root rw - tmpfs x rw
50 22 8:1 / /run/other rw - tmpfs x rw
60 42 0:5 / /run/root/proc rw - proc x rw
";

    #[test]
    fn only_what_stands_at_the_same_place_upon_it_is_ours() {
        for (top, below, is) in [
            (42, 30, true),
            (42, 41, true),
            (41, 30, true),
            (42, 22, true),
            // Not upon it, or beneath it, or elsewhere, or nowhere.
            (30, 41, false),
            (50, 30, false),
            (60, 30, false),
            (42, 99, false),
            (99, 22, false),
        ] {
            assert_eq!(stands_upon(TABLE, top, below), is, "{top} upon {below}");
        }
    }

    #[test]
    fn nothing_is_detached_where_nothing_was_mounted() {
        let id = uppermost("/proc", None).unwrap();
        assert_eq!(undo("/proc", None, Some(id)), Ok(()));
        // The mount that was there is gone: what is there is another's.
        assert_eq!(undo("/proc", None, Some(u64::MAX)), Ok(()));
        assert_eq!(undo("/no/where", None, Some(1)), Ok(()));
        assert_eq!(undo("/proc", None, None), Ok(()));
        assert_eq!(uppermost("/no/where", None), None);
        assert_eq!(uppermost("/", Some("/proc/self/ns/net")), None);
    }
}
