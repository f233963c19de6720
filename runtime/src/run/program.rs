//! What init looks up inside the container: the program, and the user's home.

use std::ffi::CString;
use std::os::fd::AsFd;

use crate::abi::file;
use crate::sys::fs;
use crate::sys::{Call, Fault, Result};

/// The longest `HOME=…` with its NUL.
pub(super) const HOME_MAX: usize = 256;
/// No more of /etc/passwd is read: it is the image's, and may be anything.
const PASSWD_MAX: usize = 1 << 20;

/// Which candidate can be executed. The errno is that of the best of them: EACCES where one exists but cannot be.
pub(super) fn find(candidates: &[CString]) -> Result<usize> {
    let mut errno = libc::ENOENT;
    for (i, path) in candidates.iter().enumerate() {
        let found = fs::accessible(path, libc::X_OK).and_then(|()| {
            let stat = fs::fstat(fs::open(path, libc::O_PATH)?.as_fd())?;
            if stat.kind() == file::DIR { Err(Fault::new(Call::faccessat2, libc::EACCES)) } else { Ok(()) }
        });
        match found {
            Ok(()) => return Ok(i),
            Err(f) if f.errno == libc::EACCES => errno = libc::EACCES,
            Err(f) if f.errno == libc::ENOENT => {}
            // Anything else of a lone path is worth telling: ELOOP, ENAMETOOLONG, ENOTDIR.
            Err(f) if candidates.len() == 1 => return Err(f),
            Err(_) => {}
        }
    }
    Err(Fault::new(Call::faccessat2, errno))
}

/// Fills `HOME=…` from the container's /etc/passwd; `/` where that has no line for the user.
pub(super) fn home(uid: u32, entry: &mut [u8; HOME_MAX]) {
    *entry = [0; HOME_MAX];
    entry[..6].copy_from_slice(b"HOME=/");
    // A pipe or a device in its place must not block or answer.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let Ok(passwd) = fs::open(c"/etc/passwd", flags) else { return };
    if !fs::fstat(passwd.as_fd()).is_ok_and(|s| s.kind() == file::REG) {
        return;
    }
    let (mut line, mut len, mut total) = ([0u8; 512], 0, 0);
    let mut chunk = [0u8; 1024];
    while let Ok(n @ 1..) = fs::read(passwd.as_fd(), &mut chunk) {
        total += n;
        for byte in &chunk[..n] {
            if *byte == b'\n' {
                if take_home(&line[..len.min(line.len())], uid, entry) {
                    return;
                }
                len = 0;
            } else {
                if let Some(place) = line.get_mut(len) {
                    *place = *byte;
                }
                len += 1;
            }
        }
        if total >= PASSWD_MAX {
            return;
        }
    }
    take_home(&line[..len.min(line.len())], uid, entry);
}

/// Takes the sixth field of a line whose third is the uid.
fn take_home(line: &[u8], uid: u32, entry: &mut [u8; HOME_MAX]) -> bool {
    let mut fields = line.split(|b| *b == b':');
    let id = fields.nth(2).and_then(|f| std::str::from_utf8(f).ok()).and_then(|f| f.parse::<u32>().ok());
    if id != Some(uid) {
        return false;
    }
    match fields.nth(2) {
        Some(home) if home.first() == Some(&b'/') && home.len() + 6 < HOME_MAX && !home.contains(&0) => {
            entry[5..5 + home.len()].copy_from_slice(home);
            true
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(line: &str, uid: u32) -> (bool, String) {
        let mut entry = [0; HOME_MAX];
        entry[..6].copy_from_slice(b"HOME=/");
        let found = take_home(line.as_bytes(), uid, &mut entry);
        let end = entry.iter().position(|b| *b == 0).unwrap();
        (found, String::from_utf8_lossy(&entry[..end]).into_owned())
    }

    #[test]
    fn the_home_is_that_of_the_number_and_never_of_a_name() {
        assert_eq!(from("a:x:1000:1000::/home/a:/bin/sh", 1000), (true, "HOME=/home/a".into()));
        assert!(!from("1000:x:0:0::/root:/bin/sh", 1000).0);
        assert_eq!(from("a:x:1000:1000::relative:/bin/sh", 1000), (true, "HOME=/".into()));
        assert_eq!(from("torn:x:1000", 1000), (true, "HOME=/".into()));
        assert_eq!(from(&format!("a:x:5:5::/{}:", "x".repeat(500)), 5), (true, "HOME=/".into()));
    }

    #[test]
    fn the_best_errno_is_kept() {
        let list = |paths: &[&str]| paths.iter().map(|p| CString::new(*p).unwrap()).collect::<Vec<_>>();
        assert_eq!(find(&list(&["/no/sh", "/bin/sh"])), Ok(1));
        assert_eq!(find(&list(&["/no/sh"])).unwrap_err().errno, libc::ENOENT);
        assert_eq!(find(&list(&["/etc/passwd", "/no/sh"])).unwrap_err().errno, libc::EACCES);
        assert_eq!(find(&list(&["/etc"])).unwrap_err().errno, libc::EACCES);
    }
}
