//! Files and directories, by handles: openat2(2) and what is done relative to a directory.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Call, Result, check};

/// How openat2(2) resolves a path (linux/openat2.h).
pub mod resolve {
    /// Stay on one mount.
    pub const NO_XDEV: u64 = 0x01;
    /// Refuse links such as those of /proc/PID/fd.
    pub const NO_MAGICLINKS: u64 = 0x02;
    /// Refuse every symbolic link.
    pub const NO_SYMLINKS: u64 = 0x04;
    /// Refuse to leave the directory.
    pub const BENEATH: u64 = 0x08;
    /// The directory is `/` to absolute paths, links and `..`.
    pub const IN_ROOT: u64 = 0x10;
}

/// What fstat(2) tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// File type and permission bits.
    pub mode: u32,
    /// Device number, of a device.
    pub rdev: u64,
    /// Device that the file is on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: i64,
    /// Hard links; 0 when it was removed.
    pub links: u64,
}

impl Stat {
    /// The file type alone.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// The directory to which relative paths of the process are relative.
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is no descriptor that could be closed; every *at call takes it.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

fn owned(call: Call, answer: i64) -> Result<OwnedFd> {
    let fd = check(call, answer)?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// How often a resolution is tried that renames or mounts anywhere on the machine have disturbed.
const TRIES: u32 = 1024;

/// openat2(2). O_CLOEXEC is always set.
///
/// A confined resolution of `..` fails with EAGAIN when anything on the machine is renamed or mounted meanwhile, for the kernel
/// cannot tell then whether the path has left its root: it is tried again.
pub fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    let how = OpenHow { flags, mode: u64::from(mode), resolve };
    let mut tries = 0;
    loop {
        let opened = openat2_once(dir, path, &how);
        tries += 1;
        match opened {
            Err(f) if f.errno == libc::EAGAIN && resolve != 0 && tries < TRIES => {}
            opened => return opened,
        }
    }
}

fn openat2_once(dir: BorrowedFd<'_>, path: &CStr, how: &OpenHow) -> Result<OwnedFd> {
    // SAFETY: `path` ends with NUL and `how` is valid for its size; the kernel reads both and keeps neither.
    let answer = unsafe {
        libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), std::ptr::from_ref(how), size_of::<OpenHow>())
    };
    owned(Call::openat2, answer)
}

/// Opens a path of the runtime's own mount namespace.
pub fn open(path: &CStr, flags: i32) -> Result<OwnedFd> {
    openat2(cwd(), path, flags, 0, 0)
}

/// fstat(2); works on O_PATH descriptors.
pub fn fstat(fd: BorrowedFd<'_>) -> Result<Stat> {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `st` is writable and of the right size.
    check(Call::fstat, unsafe { libc::fstat(fd.as_raw_fd(), st.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded, so it filled the structure.
    let st = unsafe { st.assume_init() };
    Ok(Stat {
        mode: st.st_mode,
        rdev: st.st_rdev,
        dev: st.st_dev,
        ino: st.st_ino,
        uid: st.st_uid,
        gid: st.st_gid,
        size: st.st_size,
        links: st.st_nlink,
    })
}

/// The magic number of the filesystem that a path leads to (statfs(2)); `None` where it leads nowhere.
pub fn filesystem_at(path: &CStr) -> Option<i64> {
    let mut st = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with NUL; `st` is writable and of the right size.
    check(Call::statfs, unsafe { libc::statfs(path.as_ptr(), st.as_mut_ptr()) }).ok()?;
    // SAFETY: statfs succeeded, so it filled the structure.
    Some(unsafe { st.assume_init() }.f_type)
}

fn stat(path: &CStr) -> Result<libc::stat> {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `path` ends with NUL; `st` is writable and of the right size.
    check(Call::fstat, unsafe { libc::stat(path.as_ptr(), st.as_mut_ptr()) })?;
    // SAFETY: stat succeeded, so it filled the structure.
    Ok(unsafe { st.assume_init() })
}

/// Whether a path leads to anything that can be looked at (stat(2)).
pub fn exists(path: &CStr) -> bool {
    stat(path).is_ok()
}

/// The same of a name in a directory.
pub fn exists_in(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `name` ends with NUL; `st` is writable and of the right size.
    unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), st.as_mut_ptr(), 0) == 0 }
}

/// The inode that a path leads to (stat(2)).
pub fn inode(path: &CStr) -> Result<u64> {
    stat(path).map(|st| st.st_ino)
}

/// The file type of what a path leads to (stat(2)).
pub fn kind(path: &CStr) -> Result<u32> {
    stat(path).map(|st| st.st_mode & libc::S_IFMT)
}

/// The id, as in /proc/self/mountinfo, of the mount that a path leads to (statx(2), `STATX_MNT_ID`). A link at its end is not
/// followed.
///
/// # Errors
/// The path leads nowhere.
pub fn mount_id(path: &CStr) -> Result<u64> {
    let mut st = std::mem::MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    // By its number: the standard library names libc's function weakly, so that a static program may be linked without it.
    // SAFETY: `path` ends with NUL; `st` is writable and of the right size.
    let answer = unsafe {
        libc::syscall(libc::SYS_statx, libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_MNT_ID, st.as_mut_ptr())
    };
    check(Call::statx, answer)?;
    // SAFETY: statx succeeded, so it filled the structure.
    Ok(unsafe { st.assume_init() }.stx_mnt_id)
}

/// The magic number of the filesystem that a file is on (fstatfs(2)).
pub fn filesystem(fd: BorrowedFd<'_>) -> Result<i64> {
    let mut st = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `st` is writable and of the right size.
    check(Call::fstatfs, unsafe { libc::fstatfs(fd.as_raw_fd(), st.as_mut_ptr()) })?;
    // SAFETY: fstatfs succeeded, so it filled the structure.
    Ok(unsafe { st.assume_init() }.f_type)
}

/// Whether the mount by which a file was opened is read-only (fstatvfs(3)).
pub fn is_readonly(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut st = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `st` is writable and of the right size.
    check(Call::fstatfs, unsafe { libc::fstatvfs(fd.as_raw_fd(), st.as_mut_ptr()) })?;
    // SAFETY: fstatvfs succeeded, so it filled the structure.
    Ok(unsafe { st.assume_init() }.f_flag & libc::ST_RDONLY != 0)
}

/// Whether the mount by which a file was opened forbids execution (fstatvfs(3)).
pub fn is_noexec(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut st = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `st` is writable and of the right size.
    check(Call::fstatfs, unsafe { libc::fstatvfs(fd.as_raw_fd(), st.as_mut_ptr()) })?;
    // SAFETY: fstatvfs succeeded, so it filled the structure.
    Ok(unsafe { st.assume_init() }.f_flag & libc::ST_NOEXEC != 0)
}

/// mkdirat(2).
pub fn mkdirat(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `name` ends with NUL.
    check(Call::mkdirat, unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// mknodat(2).
pub fn mknodat(dir: BorrowedFd<'_>, name: &CStr, mode: u32, rdev: u64) -> Result<()> {
    // SAFETY: `name` ends with NUL.
    check(Call::mknodat, unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, rdev) }).map(drop)
}

/// symlinkat(2).
pub fn symlinkat(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: both strings end with NUL.
    check(Call::symlinkat, unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// readlinkat(2); an empty name reads the link that `dir` itself is. Answers how much of `buf` was filled.
pub fn readlinkat(dir: BorrowedFd<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `name` ends with NUL and `buf` is writable for its length.
    let n = unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    check(Call::readlinkat, i64::try_from(n).unwrap_or(-1)).map(|n| usize::try_from(n).unwrap_or(0))
}

/// unlinkat(2), of a file or, with AT_REMOVEDIR, of a directory.
pub fn unlinkat(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<()> {
    // SAFETY: `name` ends with NUL.
    check(Call::unlinkat, unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

/// renameat(2) within a directory; what had the name `to` is gone.
pub fn renameat(dir: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<()> {
    let fd = dir.as_raw_fd();
    // SAFETY: both names end with NUL.
    check(Call::renameat, unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) }).map(drop)
}

/// fchownat(2), never following a link; an empty name means `dir` itself.
pub fn fchownat(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: `name` ends with NUL.
    check(Call::fchownat, unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// fchmodat(2) of a name that was just made and cannot be a link.
pub fn fchmodat(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `name` ends with NUL.
    check(Call::fchmodat, unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode, 0) }).map(drop)
}

/// faccessat2(2) with the effective ids.
pub fn accessible(path: &CStr, mode: i32) -> Result<()> {
    // SAFETY: `path` ends with NUL.
    let answer = unsafe { libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    check(Call::faccessat2, answer).map(drop)
}

/// read(2), again when a signal came between.
pub fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize> {
    loop {
        // SAFETY: `buf` is writable for its length.
        let n = unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
        match check(Call::read, i64::try_from(n).unwrap_or(-1)) {
            Err(f) if f.errno == libc::EINTR => {}
            answer => return answer.map(|n| usize::try_from(n).unwrap_or(0)),
        }
    }
}

/// Reads a file that is read in one go, as those of /proc are, and that must be shorter than `max`. Like [`read_small`], but
/// what it touches of memory is as long as the file.
pub fn read_whole_small(path: &CStr, max: usize) -> Result<Vec<u8>> {
    use std::os::fd::AsFd as _;
    let mut bytes = Vec::with_capacity(max);
    read_more(open(path, libc::O_RDONLY)?.as_fd(), &mut bytes)?;
    let is_whole = bytes.len() < max;
    bytes.shrink_to_fit();
    if is_whole { Ok(bytes) } else { Err(super::Fault::new(Call::read, libc::EFBIG)) }
}

/// read(2) into the room that a vector has behind its bytes. Answers how many came.
pub fn read_more(fd: BorrowedFd<'_>, bytes: &mut Vec<u8>) -> Result<usize> {
    let room = bytes.spare_capacity_mut();
    let (start, len) = (room.as_mut_ptr().cast::<u8>(), room.len());
    loop {
        // SAFETY: the room is writable for its length; the kernel does not read it.
        let n = unsafe { libc::read(fd.as_raw_fd(), start.cast(), len) };
        match check(Call::read, i64::try_from(n).unwrap_or(-1)) {
            Err(f) if f.errno == libc::EINTR => {}
            Err(f) => return Err(f),
            Ok(n) => {
                let n = usize::try_from(n).unwrap_or(0);
                // SAFETY: the kernel has just filled that many bytes of the room.
                unsafe { bytes.set_len(bytes.len() + n) };
                return Ok(n);
            }
        }
    }
}

/// write(2), again when a signal came between.
pub fn write(fd: BorrowedFd<'_>, buf: &[u8]) -> Result<usize> {
    loop {
        // SAFETY: `buf` is readable for its length.
        let n = unsafe { libc::write(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len()) };
        match check(Call::write, i64::try_from(n).unwrap_or(-1)) {
            Err(f) if f.errno == libc::EINTR => {}
            answer => return answer.map(|n| usize::try_from(n).unwrap_or(0)),
        }
    }
}

/// Reads a small file of /proc or /sys with one read(2): those give all that there is at once, if there is room for it.
///
/// # Errors
/// What open and read say; a file that does not fit is an error, too.
pub fn read_small(path: &CStr, buf: &mut [u8]) -> Result<usize> {
    use std::os::fd::AsFd as _;
    let file = open(path, libc::O_RDONLY)?;
    let n = read(file.as_fd(), buf)?;
    if n < buf.len() { Ok(n) } else { Err(super::Fault::new(Call::read, libc::EFBIG)) }
}

/// getdents64(2): fills `buf` with directory entries; 0 at the end.
pub fn getdents(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `buf` is writable for its length.
    let n = unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buf.as_mut_ptr(), buf.len()) };
    check(Call::getdents64, n).map(|n| usize::try_from(n).unwrap_or(0))
}

/// copy_file_range(2) or, where filesystems forbid it, sendfile(2), from the files' positions to the end.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    const CHUNK: usize = 1 << 30;
    loop {
        // SAFETY: null offsets make the kernel use the files' own positions.
        let n = unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), std::ptr::null_mut(), CHUNK) };
        match check(Call::copy_file_range, i64::try_from(n).unwrap_or(-1)) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(f) if f.errno == libc::EINTR => {}
            Err(f) => return Err(f),
        }
    }
}

/// pipe2(2), both ends close-on-exec: (read end, write end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(Call::pipe2, unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((owned(Call::pipe2, fds[0].into())?, owned(Call::pipe2, fds[1].into())?))
}

/// memfd_create(2), close-on-exec, sealable.
pub fn memfd(name: &CStr) -> Result<OwnedFd> {
    // SAFETY: `name` ends with NUL.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    owned(Call::memfd_create, fd.into())
}

/// Seals a memfd against every change (fcntl(2), F_ADD_SEALS).
pub fn seal(fd: BorrowedFd<'_>) -> Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: F_ADD_SEALS takes an integer.
    check(Call::fcntl, unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// Whether a file is sealed against writing; only a memfd can be.
pub fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GET_SEALS takes nothing.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & libc::F_SEAL_WRITE != 0
}

/// mkfifo(3) below a directory, mode 0600.
pub fn mkfifo(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    mknodat(dir, name, libc::S_IFIFO | 0o600, 0)
}

/// flock(2), exclusive; waits unless told not to.
pub fn lock(fd: BorrowedFd<'_>, wait: bool) -> Result<()> {
    let how = libc::LOCK_EX | if wait { 0 } else { libc::LOCK_NB };
    loop {
        // SAFETY: flock takes integers.
        match check(Call::flock, unsafe { libc::flock(fd.as_raw_fd(), how) }) {
            Err(f) if f.errno == libc::EINTR => {}
            answer => return answer.map(drop),
        }
    }
}

/// flock(2), LOCK_UN: whoever shares the open file loses the lock, too.
pub fn unlock(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: flock takes integers.
    check(Call::flock, unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) }).map(drop)
}

/// dup3(2) onto a standard stream.
pub fn dup_onto(fd: BorrowedFd<'_>, target: i32) -> Result<()> {
    // SAFETY: dup3 takes integers; the targets are the standard streams, which no OwnedFd owns.
    let answer = unsafe { libc::dup3(fd.as_raw_fd(), target, 0) };
    match check(Call::dup3, answer) {
        // Equal descriptors: nothing to do but to let it pass exec.
        Err(f) if f.errno == libc::EINVAL => Ok(()),
        answer => answer.map(drop),
    }
}

/// fcntl(2), F_SETFD: the descriptor passes execve(2).
pub fn pass_on(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: this command of fcntl takes integers.
    check(Call::fcntl, unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }).map(drop)
}

/// close_range(2): every descriptor from `first` on is closed at exec.
pub fn close_from_at_exec(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: with CLOEXEC no descriptor is closed now, so no owner is betrayed.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    check(Call::close_range, answer).map(drop)
}

/// close_range(2): closes every descriptor from `first` on but two, for good. Whoever owned them must never run again:
/// this is for init behind its gate, which only ever executes or ends.
pub fn close_all_but(first: i32, keep: [BorrowedFd<'_>; 2]) -> Result<()> {
    let mut keep = keep.map(|fd| fd.as_raw_fd());
    keep.sort_unstable();
    let ranges = [(first, keep[0] - 1), (keep[0] + 1, keep[1] - 1), (keep[1] + 1, i32::MAX)];
    for (from, to) in ranges {
        let from = from.max(first);
        if from <= to {
            // SAFETY: by this function's contract nobody uses or closes these descriptors again.
            let answer = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
            check(Call::close_range, answer)?;
        }
    }
    Ok(())
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends with NUL.
    check(Call::chdir, unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// fchdir(2).
pub fn fchdir(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: fchdir takes an integer.
    check(Call::fchdir, unsafe { libc::fchdir(fd.as_raw_fd()) }).map(drop)
}

/// Whether the working directory lies inside the root: getcwd(2) begins with a slash only then.
pub fn cwd_is_inside() -> Result<bool> {
    match cwd_begins_with_slash::<256>() {
        Err(f) if f.errno == libc::ERANGE => cwd_begins_with_slash::<4096>(),
        answer => answer,
    }
}

#[inline(never)]
fn cwd_begins_with_slash<const N: usize>() -> Result<bool> {
    let mut buf = [0u8; N];
    // SAFETY: `buf` is writable for its length.
    let n = unsafe { libc::syscall(libc::SYS_getcwd, buf.as_mut_ptr(), buf.len()) };
    check(Call::getcwd, n).map(|_| buf[0] == b'/')
}

/// umask(2); answers the former one.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: umask takes and returns an integer and cannot fail.
    unsafe { libc::umask(mask) }
}

/// poll(2) for one event set on up to a few descriptors. Answers the revents; all 0 when the time is over.
pub fn poll<const N: usize>(fds: [(BorrowedFd<'_>, i16); N], timeout_ms: i32) -> Result<[i16; N]> {
    let mut list = fds.map(|(fd, events)| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
    let count = libc::nfds_t::try_from(N).unwrap_or(0);
    loop {
        // SAFETY: `list` is an array of N pollfds.
        match check(Call::poll, unsafe { libc::poll(list.as_mut_ptr(), count, timeout_ms) }) {
            Err(f) if f.errno == libc::EINTR && timeout_ms < 0 => {}
            Err(f) if f.errno == libc::EINTR => return Ok([0; N]),
            answer => return answer.map(|_| list.map(|p| p.revents)),
        }
    }
}

/// A memfd of a fixed size for output that must have an end: writes beyond it fail.
pub fn bounded_memfd(name: &CStr, size: i64) -> Result<OwnedFd> {
    let fd = memfd(name)?;
    // SAFETY: ftruncate takes integers.
    check(Call::ftruncate, unsafe { libc::ftruncate(fd.as_raw_fd(), size) })?;
    let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: F_ADD_SEALS takes an integer.
    check(Call::fcntl, unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(fd)
}

/// What was written so far to a file whose position writers share, from its beginning; answers how much of `buf` is it.
pub fn written(fd: BorrowedFd<'_>, buf: &mut [u8]) -> usize {
    // SAFETY: lseek takes integers.
    let end = unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_CUR) };
    let len = usize::try_from(end).unwrap_or(0).min(buf.len());
    // SAFETY: `buf` is writable for `len`.
    let n = unsafe { libc::pread(fd.as_raw_fd(), buf.as_mut_ptr().cast(), len, 0) };
    usize::try_from(n).unwrap_or(0)
}

/// Makes reads and writes of a descriptor return instead of waiting, or wait again (fcntl(2), O_NONBLOCK).
pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> Result<()> {
    // SAFETY: F_GETFL takes nothing.
    let flags = check(Call::fcntl, unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let flags = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    set_status_flags(fd, flags)
}

/// Sets the status flags of an open file, such as O_NONBLOCK, whatever they were (fcntl(2), F_SETFL).
pub fn set_status_flags(fd: BorrowedFd<'_>, flags: i32) -> Result<()> {
    // SAFETY: F_SETFL takes an integer.
    check(Call::fcntl, unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// Whether a descriptor of that number is open.
pub fn is_open(number: i32) -> bool {
    // SAFETY: F_GETFD takes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Opens /dev/null where a standard stream is closed: nothing that the runtime opens may come to lie there.
pub fn fill_standard_streams() {
    let mut list = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: `list` is an array of three pollfds.
    if unsafe { libc::poll(list.as_mut_ptr(), 3, 0) } <= 0 {
        return;
    }
    for _ in list.iter().filter(|p| p.revents & libc::POLLNVAL != 0) {
        // SAFETY: the path ends with NUL. The lowest free number is what is wanted, and nobody owns it.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}

/// One of the three standard streams, with what fstat(2) tells of it. Fails where it is closed.
pub fn standard_stream_stat(number: i32) -> Result<(BorrowedFd<'static>, Stat)> {
    // SAFETY: nobody in this program owns or closes the standard streams; of a closed one nothing but an errno comes.
    let stream = unsafe { BorrowedFd::borrow_raw(number) };
    fstat(stream).map(|stat| (stream, stat))
}

/// Writes all of a text to standard output.
pub fn print(mut bytes: &[u8]) -> Result<()> {
    // SAFETY: nobody in this program owns or closes the standard streams; of a closed one nothing but an errno comes.
    let stdout = unsafe { BorrowedFd::borrow_raw(1) };
    while !bytes.is_empty() {
        bytes = &bytes[write(stdout, bytes)?..];
    }
    Ok(())
}

/// One of the three standard streams. Fails where it is closed.
pub fn standard_stream(number: i32) -> Result<BorrowedFd<'static>> {
    // SAFETY: F_GETFD takes nothing.
    check(Call::fcntl, unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and nobody in this program owns or closes the standard streams.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn renames_elsewhere_do_not_disturb_a_confined_path() {
        let dir = std::env::temp_dir().join(format!("tare-openat2-{}", std::process::id()));
        for sub in ["from", "root/x", "root/y"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let root = std::fs::File::open(dir.join("root")).unwrap();
        let done = AtomicBool::new(false);
        let lost = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(dir.join("from"), dir.join("to")).unwrap();
                    std::fs::rename(dir.join("to"), dir.join("from")).unwrap();
                }
            });
            let opened = |_| openat2(root.as_fd(), c"x/../y", libc::O_PATH, 0, resolve::IN_ROOT).err();
            let lost: Vec<_> = (0..20_000).filter_map(opened).collect();
            done.store(true, Ordering::Relaxed);
            lost
        });
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(lost, []);
    }
}
