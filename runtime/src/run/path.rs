//! Paths inside a container: always by a handle of its root, never by a string that leads through it (rule R1).
//!
//! Nothing here allocates: paths are walked in buffers on the stack. Those of the ordinary case are short: a large one would
//! be pages that a container's init touches, and that nobody else has.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use super::handle::Handle;

use crate::sys::fs::{self, resolve};
use crate::sys::{Call, Fault, Result};

const INSIDE: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
/// Links that are followed while directories are made, as the kernel itself follows (MAXSYMLINKS).
const MAX_LINKS: usize = 40;
const PATH_MAX: usize = 4096;
/// What nearly all paths fit into.
const SHORT: usize = 256;
/// Of directories that are made.
pub const DIRECTORY_MODE: u32 = 0o755;

/// A path in a buffer of its own, always ended by NUL.
struct Buffer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Buffer<N> {
    fn new() -> Self {
        Buffer { bytes: [0; N], len: 0 }
    }

    fn push(&mut self, part: &[u8]) -> Result<()> {
        let end = self.len + part.len();
        if end >= N {
            return Err(Fault::new(Call::openat2, libc::ENAMETOOLONG));
        }
        self.bytes[self.len..end].copy_from_slice(part);
        self.bytes[end] = 0;
        self.len = end;
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
        self.bytes[len] = 0;
    }

    fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// Opens what a path inside the container leads to.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<Handle> {
    fs::openat2(root, path, flags, 0, INSIDE).map(Handle::from)
}

/// Opens a directory inside the container, making what is missing of it (mode 0755).
pub fn directory(root: BorrowedFd<'_>, path: &CStr) -> Result<Handle> {
    match open(root, path, libc::O_PATH | libc::O_DIRECTORY) {
        Err(f) if f.errno == libc::ENOENT => make_last(root, path),
        answer => answer,
    }
}

/// Mostly the last component alone is missing. Where more is, or a link leads to nothing, or the path is long, it is walked.
fn make_last(root: BorrowedFd<'_>, path: &CStr) -> Result<Handle> {
    let bytes = path.to_bytes();
    let cut = bytes.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    let (mut dir, mut name) = (Buffer::<SHORT>::new(), Buffer::<SHORT>::new());
    let fits = dir.push(b"/").and_then(|()| dir.push(&bytes[..cut])).and_then(|()| name.push(&bytes[cut..])).is_ok();
    if fits
        && let Ok(dir) = open(root, dir.as_cstr(), libc::O_PATH | libc::O_DIRECTORY)
        && fs::mkdirat(dir.as_fd(), name.as_cstr(), 0o755).is_ok()
    {
        let here = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        return fs::openat2(dir.as_fd(), name.as_cstr(), here, 0, resolve::BENEATH).map(Handle::from);
    }
    make_all(root, bytes, MAX_LINKS)
}

/// The directory of a path's last component, made where it is missing, and that component.
pub fn parent<'p>(root: BorrowedFd<'_>, path: &'p CStr) -> Result<(Handle, &'p CStr)> {
    let bytes = path.to_bytes_with_nul();
    let cut = bytes.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    let name = CStr::from_bytes_with_nul(&bytes[cut..]).unwrap_or_default();
    if name.is_empty() {
        return Err(Fault::new(Call::openat2, libc::EISDIR));
    }
    let dir = &bytes[..cut.saturating_sub(1)];
    let handle = if dir.len() + 1 < SHORT { absolute::<SHORT>(root, dir) } else { absolute::<PATH_MAX>(root, dir) };
    Ok((handle?, name))
}

/// [`directory`] of a path, with a slash before it.
#[inline(never)]
fn absolute<const N: usize>(root: BorrowedFd<'_>, path: &[u8]) -> Result<Handle> {
    let mut whole = Buffer::<N>::new();
    whole.push(b"/")?;
    whole.push(path)?;
    directory(root, whole.as_cstr())
}

/// The directory that was last made something in: devices and links come in rows.
pub struct LastParent {
    path: Buffer<SHORT>,
    handle: Option<Handle>,
    /// Whether its path is the one above: a longer one is not remembered.
    named: bool,
    /// Whether it is the root of a filesystem that was made for this container, and that nobody else has seen yet.
    own: bool,
    /// Whether it is the working directory.
    entered: bool,
}

impl LastParent {
    /// None yet.
    pub(super) fn none() -> Self {
        LastParent { path: Buffer::new(), handle: None, named: false, own: false, entered: false }
    }

    /// Forgets it: something was mounted, and paths may lead elsewhere now.
    pub fn forget(&mut self) {
        self.handle = None;
        self.named = false;
        self.own = false;
        self.entered = false;
    }

    /// Takes the root of a filesystem of our own that was just mounted at a path.
    pub(super) fn own(&mut self, path: &CStr, root: Handle) {
        self.forget();
        self.path.truncate(0);
        self.named = self.path.push(path.to_bytes()).and_then(|()| self.path.push(b"/")).is_ok();
        self.handle = Some(root);
        self.own = self.named;
    }

    /// Whether it is the root of a filesystem of our own.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// The directory that a path leads to, if it is this one.
    pub(super) fn known(&self, path: &CStr) -> Option<BorrowedFd<'_>> {
        let is = self.named && self.path.as_cstr().to_bytes().strip_suffix(b"/") == Some(path.to_bytes());
        self.handle.as_ref().filter(|_| is).map(AsFd::as_fd)
    }

    /// Makes the directory of a path, where its parent is a filesystem of our own and has none of that name: it is empty, and
    /// the name leads to it and to nothing else.
    pub(super) fn make_in_own<'p>(&self, path: &'p CStr) -> Option<(BorrowedFd<'_>, &'p CStr)> {
        let handle = self.handle.as_ref().filter(|_| self.own)?;
        let name = path.to_bytes_with_nul().strip_prefix(self.path.as_cstr().to_bytes())?;
        let name = CStr::from_bytes_with_nul(name).ok().filter(|n| !n.to_bytes().contains(&b'/'))?;
        fs::mkdirat(handle.as_fd(), name, DIRECTORY_MODE).ok()?;
        Some((handle.as_fd(), name))
    }

    /// Makes it the working directory, if it is not.
    pub(super) fn enter(&mut self) -> Result<()> {
        if let Some(handle) = self.handle.as_ref().filter(|_| !self.entered) {
            fs::fchdir(handle.as_fd())?;
            self.entered = true;
        }
        Ok(())
    }

    /// The working directory is `/` again, if it was this one.
    pub(super) fn leave(&mut self) -> Result<()> {
        if std::mem::take(&mut self.entered) { fs::chdir(c"/") } else { Ok(()) }
    }

    /// [`parent`], from memory where the directory is the same as the last time.
    pub fn of<'p>(&mut self, root: BorrowedFd<'_>, path: &'p CStr) -> Result<(BorrowedFd<'_>, &'p CStr)> {
        let bytes = path.to_bytes();
        let cut = bytes.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        let known = self.named && self.handle.is_some() && self.path.as_cstr().to_bytes() == &bytes[..cut];
        if !known {
            let (handle, _) = parent(root, path)?;
            self.forget();
            self.path.truncate(0);
            self.named = self.path.push(&bytes[..cut]).is_ok();
            self.handle = Some(handle);
        }
        let name = CStr::from_bytes_with_nul(&path.to_bytes_with_nul()[cut..]).unwrap_or_default();
        match &self.handle {
            Some(handle) if !name.is_empty() => Ok((handle.as_fd(), name)),
            _ => Err(Fault::new(Call::openat2, libc::EISDIR)),
        }
    }
}

/// Opens a file to mount over (O_PATH), making an empty one where there is nothing. A link that leads to nothing is followed,
/// inside the root: images have such ones where engines mount (`/etc/resolv.conf` to a file below `/run`).
pub fn file(root: BorrowedFd<'_>, path: &CStr, nofollow: bool) -> Result<Handle> {
    file_by(root, path, nofollow, if nofollow { 0 } else { MAX_LINKS })
}

fn file_by(root: BorrowedFd<'_>, path: &CStr, nofollow: bool, links: usize) -> Result<Handle> {
    let flags = libc::O_PATH | if nofollow { libc::O_NOFOLLOW } else { 0 };
    match open(root, path, flags) {
        Err(f) if f.errno == libc::ENOENT => {}
        answer => return answer,
    }
    let (dir, name) = parent(root, path)?;
    let exclusive = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
    match fs::openat2(dir.as_fd(), name, exclusive, 0o644, resolve::BENEATH | resolve::NO_SYMLINKS) {
        Ok(_) => {}
        // Made by another meanwhile, or a link that leads to nothing: opening says which.
        Err(f) if f.errno == libc::EEXIST => {
            return match open(root, path, flags) {
                Err(f) if f.errno == libc::ENOENT && links > 0 => {
                    file_behind(root, dir.as_fd(), (path, name), nofollow, links - 1)
                }
                answer => answer,
            };
        }
        Err(f) => return Err(f),
    }
    let how = resolve::BENEATH | resolve::NO_SYMLINKS;
    fs::openat2(dir.as_fd(), name, libc::O_PATH | libc::O_NOFOLLOW, 0, how).map(Handle::from)
}

#[inline(never)]
fn file_behind(
    root: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    (path, name): (&CStr, &CStr),
    nofollow: bool,
    links: usize,
) -> Result<Handle> {
    file_by(root, behind(dir, path, name)?.as_cstr(), nofollow, links)
}

/// The path that a link stands for; `name` is the last component of `path`.
fn behind(dir: BorrowedFd<'_>, path: &CStr, name: &CStr) -> Result<Buffer<PATH_MAX>> {
    let mut target = [0u8; PATH_MAX];
    let len = fs::readlinkat(dir, name, &mut target)?;
    let mut whole = Buffer::<PATH_MAX>::new();
    if target[0] != b'/' {
        let before = path.to_bytes().len() - name.to_bytes().len();
        whole.push(&path.to_bytes()[..before])?;
    }
    whole.push(&target[..len])?;
    Ok(whole)
}

/// Walks a path from the root, making each directory that is missing on the handle of the one before.
#[inline(never)]
fn make_all(root: BorrowedFd<'_>, path: &[u8], links: usize) -> Result<Handle> {
    let mut walked = Buffer::<PATH_MAX>::new();
    walked.push(b"/")?;
    let mut here = open(root, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    let mut rest = path;
    while let Some(start) = rest.iter().position(|b| *b != b'/') {
        rest = &rest[start..];
        let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let before = walked.len;
        walked.push(name)?;
        let mut one = Buffer::<SHORT>::new();
        one.push(name)?;
        let step = open(root, walked.as_cstr(), libc::O_PATH | libc::O_DIRECTORY);
        here = match step {
            Ok(dir) => dir,
            Err(f) if f.errno != libc::ENOENT => return Err(f),
            Err(_) => match fs::mkdirat(here.as_fd(), one.as_cstr(), 0o755) {
                Ok(()) => open(root, walked.as_cstr(), libc::O_PATH | libc::O_DIRECTORY)?,
                Err(f) if f.errno == libc::EEXIST && links > 0 => {
                    walked.truncate(before);
                    return through_link(root, here.as_fd(), one.as_cstr(), &walked, after, links - 1);
                }
                Err(f) => return Err(f),
            },
        };
        walked.push(b"/")?;
        rest = after;
    }
    Ok(here)
}

/// A link whose target is missing: the target is made instead, inside the same root.
fn through_link(
    root: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    walked: &Buffer<PATH_MAX>,
    after: &[u8],
    links: usize,
) -> Result<Handle> {
    let mut target = [0u8; PATH_MAX];
    let len = match fs::readlinkat(dir, name, &mut target) {
        // No link: another made the directory meanwhile.
        Err(f) if f.errno == libc::EINVAL => 0,
        answer => answer?,
    };
    let mut whole = Buffer::<PATH_MAX>::new();
    if len == 0 || target[0] != b'/' {
        whole.push(walked.as_cstr().to_bytes())?;
    }
    whole.push(if len == 0 { name.to_bytes() } else { &target[..len] })?;
    whole.push(after)?;
    let mut clean = Buffer::<PATH_MAX>::new();
    normalise(whole.as_cstr().to_bytes(), &mut clean)?;
    match open(root, clean.as_cstr(), libc::O_PATH | libc::O_DIRECTORY) {
        Err(f) if f.errno == libc::ENOENT => make_all(root, clean.as_cstr().to_bytes(), links),
        answer => answer,
    }
}

/// Takes `.` and `..` out of a path, as if nothing lay above its first slash.
fn normalise(path: &[u8], clean: &mut Buffer<PATH_MAX>) -> Result<()> {
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => clean.truncate(clean.bytes[..clean.len].iter().rposition(|b| *b == b'/').unwrap_or(0)),
            part => {
                clean.push(b"/")?;
                clean.push(part)?;
            }
        }
    }
    if clean.len == 0 { clean.push(b"/") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test looks at what was made")]

    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (std::path::PathBuf, std::os::fd::OwnedFd) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tare-path-{}-{n}", std::process::id()));
        std::fs::create_dir_all(dir.join("root")).unwrap();
        let root = std::ffi::CString::new(dir.join("root").to_str().unwrap()).unwrap();
        let fd = fs::open(&root, libc::O_PATH | libc::O_DIRECTORY).unwrap();
        (dir, fd)
    }

    #[test]
    fn directories_are_made_and_found_again() {
        let (dir, root) = tree();
        directory(root.as_fd(), c"/a/b/c").unwrap();
        assert!(dir.join("root/a/b/c").is_dir());
        directory(root.as_fd(), c"/a/b/c").unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn links_out_of_the_root_stay_in_it() {
        let (dir, root) = tree();
        symlink("/outside", dir.join("root/abs")).unwrap();
        symlink("../../outside", dir.join("root/rel")).unwrap();
        directory(root.as_fd(), c"/abs/x").unwrap();
        directory(root.as_fd(), c"/rel/y").unwrap();
        file(root.as_fd(), c"/abs/f/g", false).unwrap();
        assert!(dir.join("root/outside/x").is_dir() && dir.join("root/outside/y").is_dir());
        assert!(dir.join("root/outside/f/g").is_file());
        assert!(!dir.join("outside").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_behind_a_link_to_nothing_is_made_inside() {
        let (dir, root) = tree();
        std::fs::create_dir_all(dir.join("root/etc")).unwrap();
        for (name, target) in
            [("abs", "/run/a/abs"), ("rel", "../run/b/rel"), ("out", "../../../outside/out"), ("two", "abs2")]
        {
            symlink(target, dir.join("root/etc").join(name)).unwrap();
        }
        symlink("/run/c/two", dir.join("root/etc/abs2")).unwrap();
        for (name, made) in [("abs", "run/a/abs"), ("rel", "run/b/rel"), ("out", "outside/out"), ("two", "run/c/two")] {
            let path = std::ffi::CString::new(format!("/etc/{name}")).unwrap();
            file(root.as_fd(), &path, false).unwrap();
            assert!(dir.join("root").join(made).is_file(), "{name}");
        }
        assert!(!dir.join("outside").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_loop_of_links_ends() {
        let (dir, root) = tree();
        symlink("/b", dir.join("root/a")).unwrap();
        symlink("/a", dir.join("root/b")).unwrap();
        assert_eq!(directory(root.as_fd(), c"/a/x").map(drop).unwrap_err().errno, libc::ELOOP);
        assert_eq!(file(root.as_fd(), c"/a", false).map(drop).unwrap_err().errno, libc::ELOOP);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let (dir, root) = tree();
        std::fs::write(dir.join("root/f"), "").unwrap();
        assert_eq!(directory(root.as_fd(), c"/f/x").map(drop).unwrap_err().errno, libc::ENOTDIR);
        assert_eq!(parent(root.as_fd(), c"/").map(drop).unwrap_err().errno, libc::EISDIR);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
