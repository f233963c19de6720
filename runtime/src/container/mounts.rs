//! `mounts add` and `mounts remove`.
//!
//! A mount is made detached in the runtime's view; then a child enters the container's mount namespace and moves it into
//! place from handle to handle, resolving the destination inside the container's root (rules R1 and R2).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::{Error, Result, Status, status};
use crate::abi::clone;
use crate::compile::added::{Added, added};
use crate::compile::mounts::inside;
use crate::field::Field;
use crate::op::{InitOp, MountOp};
use crate::plan::Act;
use crate::run::wire::{self, Message, Word};
use crate::run::{failure, late_mount, parent};
use crate::state::Record;
use crate::sys::process::{self, Cloned};
use crate::sys::{Call, Fault, fs};
use crate::{host, parse, state};

/// Mounts what a list of mounts of the specification says into a container. All of them, or none.
///
/// # Errors
/// `container not running`; what is wrong with the list; the mount that failed.
pub fn add(root: &Path, id: &str, text: &[u8]) -> Result<()> {
    let (list, unknown) = parse::mounts(text)?;
    if let Some(problem) = unknown.first() {
        return Err(Error::new(problem.to_string()));
    }
    let dir = state::open(root, id)?;
    dir.lock()?;
    let (record, namespace) = enterable(&dir)?;
    let config = dir.read("config.json").map_err(|e| Error::new(format!("{id}: {e}")))?;
    let (spec, _) = parse::config(&config)?;
    let label = spec.linux.as_ref().and_then(|l| l.mount_label.as_deref());
    let plan = added(&list, label, &host::facts(None)?, &record.request)?;
    let made = make(&plan)?;
    in_namespace(namespace.as_fd(), |root| place_all(root, &plan.mounts, &made)).map_err(|(n, fault)| {
        match plan.mounts.into_iter().nth(n) {
            Some((field, op)) => sentence(&field, op, fault, ""),
            None => Error::new(format!("{id}: enter the container's mount namespace: {fault}")),
        }
    })
}

/// Unmounts the destinations of such a list from a container, the last one first.
///
/// # Errors
/// `container not running`; what is wrong with the list; the destination that is no mount.
pub fn remove(root: &Path, id: &str, text: &[u8]) -> Result<()> {
    let (list, _) = parse::mounts(text)?;
    let dir = state::open(root, id)?;
    dir.lock()?;
    let (_, namespace) = enterable(&dir)?;
    let mut paths = Vec::new();
    for (i, mount) in list.iter().enumerate() {
        let field = Field::at("mounts[].destination", &[i]);
        let path = inside(&mount.destination);
        if path == "/" {
            return Err(Error::new(format!("{field}: is the root")));
        }
        paths.push(CString::new(path).map_err(|_| Error::new(format!("{field}: holds a NUL byte")))?);
    }
    let take = |root: BorrowedFd<'_>| {
        let mut places = paths.iter().enumerate().rev();
        places.try_for_each(|(i, path)| late_mount::take_away(root, path).map_err(|fault| (i, fault)))
    };
    in_namespace(namespace.as_fd(), take).map_err(|(n, fault)| {
        let Some(path) = paths.get(n) else {
            return Error::new(format!("{id}: enter the container's mount namespace: {fault}"));
        };
        let why = if fault.errno == libc::EINVAL { " (hint: nothing is mounted there)" } else { "" };
        let field = Field::at("mounts[].destination", &[n]);
        Error::new(format!("{field}: unmount {}{why}: {fault}", path.to_string_lossy()))
    })
}

/// The container's mount namespace. It is opened while init is known to live.
fn enterable(dir: &state::Dir) -> Result<(Record, OwnedFd)> {
    let gone = || Error::new(format!("{}: container not running", dir.id));
    let (Some(record), Status::Created | Status::Running | Status::Paused) = status(dir) else { return Err(gone()) };
    let namespace = CString::new(format!("/proc/{}/ns/mnt", record.pid)).map_err(|_| gone())?;
    let namespace = fs::open(&namespace, libc::O_RDONLY)?;
    super::status::init(&record).ok_or_else(gone)?;
    let own = fs::open(c"/proc/self/ns/mnt", libc::O_RDONLY)?;
    if fs::fstat(own.as_fd())?.ino == fs::fstat(namespace.as_fd())?.ino {
        return Err(Error::new(format!("{}: has no mount namespace of its own", dir.id)));
    }
    Ok((record, namespace))
}

/// Every mount, made and attached nowhere.
fn make(plan: &Added) -> Result<Vec<OwnedFd>> {
    let mut slots: Vec<Option<OwnedFd>> = std::iter::repeat_with(|| None).take(plan.slots).collect();
    for step in &plan.steps {
        if let Act::Parent(op) = &step.act {
            let done = parent::act(op, None, &mut slots, &mut parent::Gathered::default());
            done.map_err(|failed| {
                Error::new(format!("{}: {}: {}", step.from, crate::explain::act(&step.act), failed.text))
            })?;
        }
    }
    let mut made = Vec::new();
    for (field, op) in &plan.mounts {
        let mount = late_mount::detached(op, &mut slots);
        made.push(mount.map_err(|(fault, said)| Error::new(format!("{field}: {said}{fault}")))?);
    }
    Ok(made)
}

fn place_all(
    root: BorrowedFd<'_>,
    mounts: &[(Field, Box<MountOp>)],
    made: &[OwnedFd],
) -> std::result::Result<(), (usize, Fault)> {
    for (n, ((_, op), mount)) in mounts.iter().zip(made).enumerate() {
        if let Err(fault) = late_mount::place(root, op, mount.as_fd()) {
            for (_, op) in mounts[..n].iter().rev() {
                let _ = late_mount::take_away(root, &op.destination);
            }
            return Err((n, fault));
        }
    }
    Ok(())
}

/// Does something in a mount namespace, in a child. What fails there is a number and a fault; before the first, `MAX`.
fn in_namespace(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce(BorrowedFd<'_>) -> std::result::Result<(), (usize, Fault)>,
) -> std::result::Result<(), (usize, Fault)> {
    const OUTSIDE: usize = u16::MAX as usize;
    let outside = |fault| (OUTSIDE, fault);
    let (rx, tx) = fs::pipe().map_err(outside)?;
    let Cloned::Parent(_, pidfd) = process::clone3(0, None).map_err(outside)? else {
        let entered = process::setns(namespace, clone::NEWNS);
        // Entering has made the namespace's own root that of this process.
        let root = entered.and_then(|()| fs::open(c"/", libc::O_PATH | libc::O_DIRECTORY));
        let message = match root.map_err(outside).and_then(|root| work(root.as_fd())) {
            Ok(()) => Message::new(0, Word::Done, 0),
            Err((n, fault)) => Message::fault(n, fault, b""),
        };
        process::exit(i32::from(wire::send(tx.as_fd(), &message).is_err()))
    };
    drop(tx);
    let answer = wire::receive(rx.as_fd());
    let _ = process::wait(pidfd.as_fd(), true);
    match answer.map_err(outside)? {
        Some(message) if message.word == Word::Done => Ok(()),
        Some(message) => Err((usize::from(message.step), Fault::new(message.call, message.value))),
        None => Err(outside(Fault::new(Call::setns, libc::ESRCH))),
    }
}

fn sentence(field: &Field, op: Box<MountOp>, fault: Fault, said: &str) -> Error {
    Error::new(format!("{field}: {}", failure::init(&InitOp::Mount(op), fault, said)))
}
