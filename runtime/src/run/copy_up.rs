//! `tmpcopyup`: what a directory held goes into the tmpfs that will cover it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::abi::file;
use crate::sys::fs::{self, Stat, resolve};
use crate::sys::{Call, Fault, Result};

/// Deeper trees are refused: each level needs two descriptors and a buffer on the stack.
const MAX_DEPTH: u32 = 32;
const HERE: u64 = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_XDEV;

/// Copies all that `from` holds into `to`, with owners and modes.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let here = |fd| fs::openat2(fd, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0, 0);
    let (from, to) = (here(from)?, here(to)?);
    tree(from.as_fd(), to.as_fd(), MAX_DEPTH)
}

fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    if depth == 0 {
        return Err(Fault::new(Call::getdents64, libc::ELOOP));
    }
    let mut buf = [0u8; 2048];
    loop {
        let filled = fs::getdents(from, &mut buf)?;
        if filled == 0 {
            return Ok(());
        }
        let mut at = 0;
        while at + 19 < filled {
            // linux_dirent64: inode and offset (8 bytes each), length (2), type (1), name.
            let len = usize::from(u16::from_ne_bytes([buf[at + 16], buf[at + 17]]));
            let name = CStr::from_bytes_until_nul(&buf[at + 19..filled]).unwrap_or_default();
            if !matches!(name.to_bytes(), b"" | b"." | b"..") {
                entry(from, to, name, depth)?;
            }
            at += len.max(20);
        }
    }
}

fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let source = match fs::openat2(from, name, libc::O_PATH | libc::O_NOFOLLOW, 0, resolve::BENEATH | resolve::NO_XDEV)
    {
        // A mount of its own below: what it shows is not what the directory holds.
        Err(f) if f.errno == libc::EXDEV || f.errno == libc::ENOENT => return Ok(()),
        answer => answer?,
    };
    let stat = fs::fstat(source.as_fd())?;
    match stat.kind() {
        file::DIR => {
            fs::mkdirat(to, name, 0o700)?;
            let (inner_from, inner_to) = (open_dir(from, name)?, open_dir(to, name)?);
            tree(inner_from.as_fd(), inner_to.as_fd(), depth - 1)?;
        }
        file::LNK => {
            let mut target = [0u8; 4096];
            let len = fs::readlinkat(source.as_fd(), c"", &mut target[..4095])?;
            target[len] = 0;
            fs::symlinkat(CStr::from_bytes_until_nul(&target).unwrap_or_default(), to, name)?;
            return fs::fchownat(to, name, stat.uid, stat.gid);
        }
        file::REG => {
            let data = fs::openat2(from, name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0, HERE)?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let copy = fs::openat2(to, name, flags, 0o600, HERE)?;
            fs::copy(data.as_fd(), copy.as_fd())?;
        }
        _ => fs::mknodat(to, name, stat.mode & (file::FMT | 0o7777), stat.rdev)?,
    }
    owner_and_mode(to, name, &stat)
}

fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    fs::openat2(dir, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0, HERE)
}

fn owner_and_mode(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    fs::fchownat(to, name, stat.uid, stat.gid)?;
    fs::fchmodat(to, name, stat.mode & 0o7777)
}
