//! Why a program could not be executed, beyond its errno: looked at from outside, by the parent, through a handle of the
//! container's root, and only after the failure. What is found is the image's, so every reading is bounded and every
//! number checked.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use super::path;
use crate::abi::file;
use crate::sys::fs::{self, Stat};

/// How much of a file is looked at: the kernel looks at 256 bytes, and program headers follow soon.
const HEAD: usize = 4096;
/// e_machine of the machines that are likely to meet (elf(5)).
const MACHINES: [(u16, &str); 9] = [
    (3, "i386"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

/// A program that was to be executed.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Where it was looked for, in this order.
    pub candidates: Vec<CString>,
    /// The working directory, from which relative candidates count.
    pub cwd: CString,
    /// What execve(2), or the search, said.
    pub errno: i32,
}

/// The hint, if there is something to tell.
pub fn program(root: BorrowedFd<'_>, program: &Program) -> Option<String> {
    program.candidates.iter().find_map(|candidate| {
        let at = absolute(&program.cwd, candidate);
        match path::open(root, &at, libc::O_PATH) {
            Ok(place) => Some(of_file(root, &at, place.as_fd(), program.errno)),
            Err(f) if f.errno == libc::ENOENT => dangling(root, &at).map(Some),
            Err(_) => None,
        }
    })?
}

fn absolute(cwd: &CStr, path: &CStr) -> CString {
    let (cwd, path) = (cwd.to_bytes(), path.to_bytes());
    let whole = if path.starts_with(b"/") { path.to_vec() } else { [cwd, b"/", path].concat() };
    CString::new(whole).unwrap_or_default()
}

fn shown(path: &CStr) -> String {
    path.to_string_lossy().into_owned()
}

/// A link whose target is missing looks like a missing program.
fn dangling(root: BorrowedFd<'_>, at: &CStr) -> Option<String> {
    let link = path::open(root, at, libc::O_PATH | libc::O_NOFOLLOW).ok()?;
    let mut target = [0u8; 256];
    let len = fs::readlinkat(link.as_fd(), c"", &mut target).ok()?;
    Some(format!("{} is a link to {}, which does not exist", shown(at), String::from_utf8_lossy(&target[..len])))
}

fn of_file(root: BorrowedFd<'_>, at: &CStr, place: BorrowedFd<'_>, errno: i32) -> Option<String> {
    let stat = fs::fstat(place).ok()?;
    match errno {
        libc::EACCES => denied(root, at, place, stat).or_else(|| of_content(root, at, stat, errno)),
        libc::ENOENT | libc::ENOEXEC => of_content(root, at, stat, errno),
        _ => None,
    }
}

fn denied(root: BorrowedFd<'_>, at: &CStr, place: BorrowedFd<'_>, stat: Stat) -> Option<String> {
    if stat.kind() == file::DIR {
        return Some(format!("{} is a directory", shown(at)));
    }
    if fs::is_noexec(place).unwrap_or(false) {
        return Some(format!("{} lies on a mount with the option noexec", shown(at)));
    }
    if stat.mode & 0o111 == 0 {
        return Some(format!("{} has no execute permission (mode {:04o})", shown(at), stat.mode & 0o7777));
    }
    let bytes = at.to_bytes();
    let above = (1..bytes.len()).filter(|i| bytes[*i] == b'/').map(|i| &bytes[..i]);
    above.filter_map(|dir| CString::new(dir).ok()).find_map(|dir| {
        let stat = fs::fstat(path::open(root, &dir, libc::O_PATH).ok()?.as_fd()).ok()?;
        (stat.mode & 0o001 == 0)
            .then(|| format!("directory {} cannot be searched by all (mode {:04o})", shown(&dir), stat.mode & 0o7777))
    })
}

fn of_content(root: BorrowedFd<'_>, at: &CStr, stat: Stat, errno: i32) -> Option<String> {
    // Nothing else is opened: a pipe would block, a device would act.
    if stat.kind() != file::REG {
        return None;
    }
    let open = path::open(root, at, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY).ok()?;
    let mut head = [0u8; HEAD];
    let len = fs::read(open.as_fd(), &mut head).ok()?;
    let head = &head[..len];
    if head.is_empty() {
        return Some(format!("{} is empty", shown(at)));
    }
    if let Some(script) = head.strip_prefix(b"#!") {
        return of_script(root, at, script, errno);
    }
    match elf(head) {
        Some(elf) => of_elf(root, at, &elf),
        None if errno == libc::ENOEXEC => {
            Some(format!("{} is neither a program nor a script with a #! line", shown(at)))
        }
        None => None,
    }
}

fn of_script(root: BorrowedFd<'_>, at: &CStr, script: &[u8], errno: i32) -> Option<String> {
    let line = script.split(|b| *b == b'\n').next().unwrap_or_default();
    let name = line.trim_ascii_start().split(|b| matches!(b, b' ' | b'\t')).next().unwrap_or_default();
    if name.ends_with(b"\r") {
        return Some(format!(
            "the #! line of {} ends with a carriage return, which the kernel takes for a part of {:?}: save it with LF line ends",
            shown(at),
            String::from_utf8_lossy(name)
        ));
    }
    let interpreter = CString::new(name).ok()?;
    match path::open(root, &interpreter, libc::O_PATH) {
        Err(f) if f.errno == libc::ENOENT => {
            Some(format!("the #! line of {} names {}, which does not exist", shown(at), shown(&interpreter)))
        }
        Ok(place) if errno == libc::EACCES => {
            let stat = fs::fstat(place.as_fd()).ok()?;
            denied(root, &interpreter, place.as_fd(), stat)
        }
        _ => None,
    }
}

/// What of an ELF file matters here.
struct Elf {
    machine: u16,
    interpreter: Option<CString>,
}

/// elf(5). `None` for what is no ELF file.
fn elf(head: &[u8]) -> Option<Elf> {
    if !head.starts_with(b"\x7fELF") || head.len() < 20 {
        return None;
    }
    let wide = head[4] == 2;
    let little = head[5] == 1;
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(len)?)?;
        let fold = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    let machine = u16::try_from(number(18, 2)?).ok()?;
    let interpreter = || {
        let (table, size, count) = if wide {
            (number(32, 8)?, number(54, 2)?, number(56, 2)?)
        } else {
            (number(28, 4)?, number(42, 2)?, number(44, 2)?)
        };
        let entry = |i: u64| usize::try_from(table.checked_add(i.checked_mul(size)?)?).ok();
        const PT_INTERP: u64 = 3;
        let found = (0..count.min(64)).filter_map(entry).find(|at| number(*at, 4) == Some(PT_INTERP))?;
        let at = if wide { number(found.checked_add(8)?, 8)? } else { number(found.checked_add(4)?, 4)? };
        CStr::from_bytes_until_nul(head.get(usize::try_from(at).ok()?..)?).ok().map(CStr::to_owned)
    };
    Some(Elf { machine, interpreter: interpreter() })
}

fn of_elf(root: BorrowedFd<'_>, at: &CStr, elf: &Elf) -> Option<String> {
    let own = std::env::consts::ARCH;
    let name = MACHINES.iter().find(|(n, _)| *n == elf.machine).map(|(_, name)| *name);
    let runs = name == Some(own) || (own == "x86_64" && name == Some("i386"));
    if !runs {
        let name = name.map_or_else(|| format!("machine {}", elf.machine), str::to_owned);
        return Some(format!("{} is built for {name}, this host is {own}", shown(at)));
    }
    let interpreter = elf.interpreter.as_ref()?;
    match path::open(root, interpreter, libc::O_PATH) {
        Err(f) if f.errno == libc::ENOENT => {
            Some(format!("{} needs the loader {}, which does not exist", shown(at), shown(interpreter)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A root with one file `/d/f`, looked at for an errno.
    fn hint(content: &[u8], mode: u32, errno: i32) -> Option<String> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tare-diagnose-{}-{n}", std::process::id()));
        std::fs::create_dir_all(dir.join("d")).unwrap();
        let at = dir.join("d/f");
        std::fs::write(&at, content).unwrap();
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode)).unwrap();
        symlink("/gone", dir.join("d/link")).unwrap();
        let root = fs::open(&CString::new(dir.to_str().unwrap()).unwrap(), libc::O_PATH).unwrap();
        let name = if content == b"link" { c"link" } else { c"f" };
        let asked = Program { candidates: vec![c"/no".to_owned(), name.to_owned()], cwd: c"/d".to_owned(), errno };
        let answer = program(root.as_fd(), &asked);
        std::fs::remove_dir_all(dir).unwrap();
        answer
    }

    fn program_for(machine: u8, loader: &[u8]) -> Vec<u8> {
        let mut elf = vec![0u8; 120];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = machine;
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        (elf[64], elf[72]) = (3, 120);
        elf.extend_from_slice(loader);
        elf
    }

    #[test]
    fn each_cause_is_told() {
        let told = |content: &[u8], mode, errno| hint(content, mode, errno).unwrap_or_default();
        assert!(told(b"#!/no/sh -e\n", 0o755, libc::ENOENT).ends_with("names /no/sh, which does not exist"));
        assert!(told(b"#!/bin/sh\r\n", 0o755, libc::ENOENT).contains("carriage return"));
        assert!(told(b"x", 0o644, libc::EACCES).ends_with("has no execute permission (mode 0644)"));
        assert!(told(b"", 0o755, libc::ENOEXEC).ends_with("is empty"));
        assert!(told(b"echo", 0o755, libc::ENOEXEC).contains("neither a program nor a script"));
        assert!(told(b"link", 0o755, libc::ENOENT).ends_with("is a link to /gone, which does not exist"));
        let foreign = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
        assert!(told(&program_for(foreign, b"/ld.so\0"), 0o755, libc::ENOEXEC).contains("is built for"));
        let own = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        let loader = told(&program_for(own, b"/ld.so\0"), 0o755, libc::ENOENT);
        assert!(loader.ends_with("needs the loader /ld.so, which does not exist"), "{loader}");
    }

    #[test]
    fn torn_headers_say_nothing_and_do_no_harm() {
        let whole = program_for(62, b"/ld.so\0");
        for len in 0..whole.len() {
            let _ = elf(&whole[..len]);
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] = 0xff;
            let _ = elf(&wrong);
        }
        assert_eq!(hint(b"echo", 0o755, libc::EPERM), None);
    }
}
