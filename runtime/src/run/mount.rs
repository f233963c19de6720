//! Init's mounts: made detached, given their attributes, then moved into place from handle to handle (rule R2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::handle::Handle;
use super::{copy_up, path};
use crate::abi::{file, makedev};
use crate::op::{Attr, DeviceOp, MountOp, MountSource, Slot};
use crate::sys::fs::{self, Stat};
use crate::sys::{Call, Fault, Result, mount};

const NONE: (u64, u64) = (0, 0);

/// What init knows of the tree that it builds.
pub(super) struct Tree<'s> {
    /// The container's root.
    pub root: BorrowedFd<'s>,
    /// `/dev/null` of the host, for masks: taken once, and checked.
    pub null: Option<OwnedFd>,
    /// An empty read-only tmpfs, for masks: made once.
    pub empty: Option<OwnedFd>,
    /// The directory that was last made something in.
    pub parent: &'s mut path::LastParent,
}

/// Where the kernel said why: the log of a filesystem that refused its configuration.
pub(super) struct Reason {
    text: [u8; 96],
    len: usize,
}

impl Reason {
    /// Nothing said yet.
    pub(super) const fn new() -> Self {
        Reason { text: [0; 96], len: 0 }
    }

    /// What was said.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    fn ask(&mut self, fs: BorrowedFd<'_>) {
        let mut buf = [0u8; 96];
        if let Ok(len) = fs::read(fs, &mut buf) {
            (self.text, self.len) = (buf, len);
        }
    }
}

/// Carries a mount out. A handle of it is put into `keep` where the plan asks for one.
pub(super) fn mount(
    tree: &mut Tree<'_>,
    op: &MountOp,
    slots: &mut [Option<OwnedFd>],
    reason: &mut Reason,
) -> Result<()> {
    let mut fresh = false;
    let made = match &op.source {
        MountSource::Filesystem { legacy: Some((flags, data)), fstype, source, .. } => {
            let onto = path::directory(tree.root, &op.destination)?;
            fs::fchdir(onto.as_fd())?;
            mount::mount(source, c".", fstype, *flags, data)?;
            fs::chdir(c"/")?;
            path::open(tree.root, &op.destination, libc::O_PATH)?
        }
        MountSource::Filesystem { .. } => {
            let (made, in_own) = filesystem(tree, op, reason)?;
            fresh = in_own;
            made
        }
        MountSource::Bind { source, recursive, fresh: true, .. } => {
            let own = tree.parent.is_own();
            let (dir, name) = tree.parent.of(tree.root, &op.destination)?;
            match fs::mkdirat(dir, name, path::DIRECTORY_MODE) {
                // By what was tried before this.
                Err(f) if f.errno == libc::EEXIST && own => {}
                answer => answer?,
            }
            // Made just now, in a filesystem that nobody else has seen yet: the name leads to it and to nothing else. That
            // its attributes come later, for all of them at once, lets one call do what takes two with a handle.
            tree.parent.enter()?;
            return mount::bind(source, name, *recursive);
        }
        MountSource::Bind { source, recursive, nofollow, copy_symlink, .. } => {
            if *copy_symlink && copy_link(tree, source, &op.destination)? {
                return Ok(());
            }
            place_tree(tree, op, mount::open_tree(fs::cwd(), source, *recursive, *nofollow)?.into())?
        }
        MountSource::Tree(slot) => {
            let made = slots[usize::from(slot.0)].take().ok_or(Fault::new(Call::open_tree, libc::EBADF))?;
            place_tree(tree, op, made.into())?
        }
    };
    propagate(made.as_fd(), &op.attr)?;
    let tmpfs =
        matches!(&op.source, MountSource::Filesystem { fstype, legacy: None, .. } if fstype.as_c_str() == c"tmpfs");
    match op.keep {
        Some(Slot(i)) => slots[usize::from(i)] = made.into_fd(),
        // What is mounted in the directory that is known changes nothing about the way to it.
        None if fresh => return Ok(()),
        None if tmpfs => {
            tree.parent.own(&op.destination, made);
            return Ok(());
        }
        None => {}
    }
    tree.parent.forget();
    Ok(())
}

/// Says, too, whether it was mounted in a filesystem that was made just before.
fn filesystem(tree: &Tree<'_>, op: &MountOp, reason: &mut Reason) -> Result<(Handle, bool)> {
    let MountSource::Filesystem { fstype, options, source, copy_up, .. } = &op.source else {
        return Err(Fault::new(Call::fsopen, libc::EINVAL));
    };
    let tmpfs = fstype.as_c_str() == c"tmpfs" && !options.iter().any(|(key, _)| key.as_c_str() == c"mode");
    if !*copy_up && let Some((dir, name)) = tree.parent.make_in_own(&op.destination) {
        let fs = Handle::from(mount::fsopen(fstype)?);
        let mode = tmpfs.then_some(path::DIRECTORY_MODE);
        let made = Handle::from(configure(fs.as_fd(), source, options, mode, op.attr.set, reason)?);
        mount::move_mount_to(made.as_fd(), dir, name)?;
        return Ok((made, true));
    }
    let onto = path::directory(tree.root, &op.destination)?;
    let fs = Handle::from(mount::fsopen(fstype)?);
    let mode = if tmpfs { Some(fs::fstat(onto.as_fd())?.mode) } else { None };
    let made = Handle::from(configure(fs.as_fd(), source, options, mode, op.attr.set, reason)?);
    if *copy_up {
        copy_up::copy(onto.as_fd(), made.as_fd())?;
    }
    mount::move_mount(made.as_fd(), onto.as_fd())?;
    Ok((made, false))
}

/// Gives a filesystem its options, and makes its mount. `mode` is that of a tmpfs whose options name none.
pub(super) fn configure(
    fs: BorrowedFd<'_>,
    source: &CStr,
    options: &[(CString, Option<CString>)],
    mode: Option<u32>,
    attr: u64,
    reason: &mut Reason,
) -> Result<OwnedFd> {
    let configure = || {
        mount::fsconfig(fs, c"source", Some(source))?;
        for (key, value) in options {
            mount::fsconfig(fs, key, value.as_deref())?;
        }
        if let Some(mode) = mode {
            mount::fsconfig(fs, c"mode", Some(octal(mode, &mut [0; 8])))?;
        }
        mount::fsmount(fs, attr)
    };
    configure().inspect_err(|_| reason.ask(fs))
}

/// The permission bits as tmpfs takes them, without an allocation.
fn octal(mode: u32, buf: &mut [u8; 8]) -> &CStr {
    *buf = [0; 8];
    for (i, digit) in buf[..4].iter_mut().enumerate() {
        let shift = 9 - 3 * u32::try_from(i).unwrap_or(0);
        *digit = b'0' + u8::try_from((mode >> shift) & 7).unwrap_or(0);
    }
    CStr::from_bytes_until_nul(buf).unwrap_or_default()
}

/// Gives a detached tree its attributes and puts it in place. A file is mounted over a file.
fn place_tree(tree: &Tree<'_>, op: &MountOp, made: Handle) -> Result<Handle> {
    attributes(made.as_fd(), &op.attr)?;
    let onto = if fs::fstat(made.as_fd())?.kind() == file::DIR && !op.dest_nofollow {
        path::directory(tree.root, &op.destination)?
    } else if fs::fstat(made.as_fd())?.kind() == file::DIR {
        drop(path::directory(tree.root, &op.destination));
        path::open(tree.root, &op.destination, libc::O_PATH | libc::O_NOFOLLOW)?
    } else {
        path::file(tree.root, &op.destination, op.dest_nofollow)?
    };
    mount::move_mount(made.as_fd(), onto.as_fd())?;
    Ok(made)
}

/// Sets what is asked for, and nothing else: what the source's mount had stays.
pub(super) fn attributes(made: BorrowedFd<'_>, attr: &Attr) -> Result<()> {
    if attr.rec_set | attr.rec_clear != 0 {
        mount::setattr(made, c"", true, (attr.rec_set, attr.rec_clear), 0, None)?;
    }
    if attr.set | attr.clear != 0 {
        mount::setattr(made, c"", false, (attr.set, attr.clear), 0, None)?;
    }
    Ok(())
}

/// Propagation comes last: a tree that is shared or unbindable could not be moved into place.
pub(super) fn propagate(made: BorrowedFd<'_>, attr: &Attr) -> Result<()> {
    match attr.propagation {
        0 => Ok(()),
        kind => mount::setattr(made, c"", attr.rec_propagation, NONE, kind, None),
    }
}

/// A source that is a link becomes the same link inside. Says whether it was one.
#[inline(never)]
fn copy_link(tree: &Tree<'_>, source: &CStr, destination: &CStr) -> Result<bool> {
    let link = fs::open(source, libc::O_PATH | libc::O_NOFOLLOW)?;
    if fs::fstat(link.as_fd())?.kind() != file::LNK {
        return Ok(false);
    }
    let mut target = [0u8; 4096];
    let len = fs::readlinkat(link.as_fd(), c"", &mut target[..4095])?;
    target[len] = 0;
    let target = CStr::from_bytes_until_nul(&target).unwrap_or_default();
    let (dir, name) = path::parent(tree.root, destination)?;
    match fs::symlinkat(target, dir.as_fd(), name) {
        Err(f) if f.errno == libc::EEXIST => {}
        answer => return answer.map(|()| true),
    }
    let mut there = [0u8; 4096];
    let len = fs::readlinkat(dir.as_fd(), name, &mut there)?;
    if &there[..len] == target.to_bytes() { Ok(true) } else { Err(Fault::new(Call::symlinkat, libc::EEXIST)) }
}

/// Sets attributes of what is mounted at a path inside, and of all below.
pub(super) fn attributes_at(tree: &Tree<'_>, at: &CStr, set: u64) -> Result<()> {
    if let Some(known) = tree.parent.known(at) {
        return mount::setattr(known, c"", true, (set, 0), 0, None);
    }
    let onto = path::open(tree.root, at, libc::O_PATH | libc::O_DIRECTORY)?;
    mount::setattr(onto.as_fd(), c"", true, (set, 0), 0, None)
}

/// mount(2) with MS_REMOUNT on what a path inside leads to.
pub(super) fn remount(tree: &Tree<'_>, at: &CStr, flags: u64, data: &CStr) -> Result<()> {
    let onto = path::open(tree.root, at, libc::O_PATH | libc::O_DIRECTORY)?;
    fs::fchdir(onto.as_fd())?;
    mount::mount(c"none", c".", c"", flags, data)?;
    fs::chdir(c"/")
}

/// Makes a device, or sees that the one which is there is the same.
pub(super) fn device(tree: &mut Tree<'_>, op: &DeviceOp) -> Result<()> {
    if op.bind {
        return bind_device(tree, op);
    }
    let (dir, name) = tree.parent.of(tree.root, &op.path)?;
    match fs::mknodat(dir, name, op.mode, op.rdev) {
        Err(f) if f.errno == libc::EEXIST => {
            let there = fs::openat2(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0, fs::resolve::NO_MAGICLINKS)?;
            return if same(&fs::fstat(there.as_fd())?, op) { Ok(()) } else { Err(f) };
        }
        answer => answer?,
    }
    if op.uid != 0 || op.gid != 0 {
        fs::fchownat(dir, name, op.uid, op.gid)?;
    }
    Ok(())
}

fn same(there: &Stat, op: &DeviceOp) -> bool {
    there.kind() == op.mode & file::FMT && (there.rdev == op.rdev || there.kind() == file::FIFO)
}

/// The host's own device over an empty file. What the host has at that path is checked before it is used (rule R6).
fn bind_device(tree: &Tree<'_>, op: &DeviceOp) -> Result<()> {
    if let Ok(there) = path::open(tree.root, &op.path, libc::O_PATH | libc::O_NOFOLLOW) {
        let there = fs::fstat(there.as_fd())?;
        if same(&there, op) {
            return Ok(());
        }
        if there.kind() != file::REG || there.size != 0 {
            return Err(Fault::new(Call::mknodat, libc::EEXIST));
        }
    }
    let made = Handle::from(mount::open_tree(fs::cwd(), &op.host, false, true)?);
    if !same(&fs::fstat(made.as_fd())?, op) {
        return Err(Fault::new(Call::open_tree, libc::ENODEV));
    }
    let onto = path::file(tree.root, &op.path, true)?;
    mount::move_mount(made.as_fd(), onto.as_fd())
}

/// Makes a symbolic link unless something is there; a `replace` removes that first.
pub(super) fn symlink(
    tree: &mut Tree<'_>,
    target: &CStr,
    at: &CStr,
    only_if: Option<&CStr>,
    replace: bool,
) -> Result<()> {
    if let Some(needed) = only_if {
        match path::open(tree.root, needed, libc::O_PATH | libc::O_NOFOLLOW) {
            Err(f) if matches!(f.errno, libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV) => return Ok(()),
            there => drop(there?),
        }
    }
    let (dir, name) = tree.parent.of(tree.root, at)?;
    match fs::symlinkat(target, dir, name) {
        Err(f) if f.errno == libc::EEXIST && replace => {
            fs::unlinkat(dir, name, 0)?;
            fs::symlinkat(target, dir, name)
        }
        Err(f) if f.errno == libc::EEXIST => Ok(()),
        answer => answer,
    }
}

/// Makes a path unreadable, or read-only with all that is mounted below it. What does not exist needs no cover.
pub(super) fn cover(tree: &mut Tree<'_>, at: &CStr, mask: bool) -> Result<()> {
    let onto = match path::open(tree.root, at, libc::O_PATH) {
        Err(f) if f.errno == libc::ENOENT || f.errno == libc::ENOTDIR => return Ok(()),
        answer => answer?,
    };
    if !mask {
        let made = Handle::from(mount::open_tree_with(onto.as_fd(), c"", true, crate::abi::attr::RDONLY)?);
        return mount::move_mount(made.as_fd(), onto.as_fd());
    }
    if fs::fstat(onto.as_fd())?.kind() == file::DIR {
        return cover_directory(tree, onto.as_fd());
    }
    let made = Handle::from(null(tree)?);
    mount::move_mount(made.as_fd(), onto.as_fd())
}

/// One empty tmpfs serves all masks: a clone of a mount is cheaper than a filesystem.
fn cover_directory(tree: &mut Tree<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    if let Some(empty) = &tree.empty {
        let made = Handle::from(mount::open_tree(empty.as_fd(), c"", false, false)?);
        return mount::move_mount(made.as_fd(), onto);
    }
    let fs = Handle::from(mount::fsopen(c"tmpfs")?);
    mount::fsconfig(fs.as_fd(), c"mode", Some(c"555"))?;
    mount::fsconfig(fs.as_fd(), c"nr_inodes", Some(c"1"))?;
    let made = mount::fsmount(fs.as_fd(), crate::abi::attr::RDONLY | 0xe)?;
    let moved = mount::move_mount(made.as_fd(), onto);
    tree.empty = Some(made);
    moved
}

fn null(tree: &mut Tree<'_>) -> Result<OwnedFd> {
    if tree.null.is_none() {
        let null = fs::open(c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW)?;
        let stat = fs::fstat(null.as_fd())?;
        if stat.kind() != file::CHR || stat.rdev != makedev(1, 3) {
            return Err(Fault::new(Call::open_tree, libc::ENODEV));
        }
        tree.null = Some(null);
    }
    let null = tree.null.as_ref().ok_or(Fault::new(Call::open_tree, libc::EBADF))?;
    mount::open_tree(null.as_fd(), c"", false, false)
}

/// A proc filesystem of our own, attached nowhere.
pub(super) fn procfs() -> Result<OwnedFd> {
    let fs = mount::fsopen(c"proc")?;
    mount::fsmount(fs.as_fd(), 0xe)
}
