//! What a case may ask the probe to do. Each action answers `{"ok": value}` or `{"err": "ENAME"}`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Stdio};

use conformance::{kernel, sys};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};

use crate::facts;

/// How the probe ends once it has reported.
pub(crate) enum End {
    /// With this exit code.
    Exit(u8),
    /// Never, until it is killed.
    Wait,
    /// At the first signal, which it names on standard output.
    Trap(SigSet),
}

impl End {
    /// The end that an action list asks for: `exit=N`, `wait`, `trap`, or else exit code 0.
    pub(crate) fn among(actions: &[String]) -> Self {
        for action in actions {
            match action.as_str() {
                "wait" => return Self::Wait,
                "trap" => return Self::Trap(SigSet::all()),
                other => {
                    if let Some(code) = other.strip_prefix("exit=").and_then(|c| c.parse().ok()) {
                        return Self::Exit(code);
                    }
                }
            }
        }
        Self::Exit(0)
    }

    /// Blocks the signals of a trap before the report is out: whoever reads the report may send one at once.
    pub(crate) fn prepare(&self) {
        if let Self::Trap(set) = self {
            let _always_valid = set.thread_block();
        }
    }

    /// Does it.
    pub(crate) fn reach(self) -> ExitCode {
        match self {
            Self::Exit(code) => ExitCode::from(code),
            Self::Wait => crate::hold::stay(),
            Self::Trap(set) => loop {
                match set.wait() {
                    Ok(Signal::SIGCHLD | Signal::SIGURG) => {}
                    Ok(signal) => {
                        crate::say(&json!({ "signal": signal.as_str() }));
                        return ExitCode::SUCCESS;
                    }
                    Err(_) => return ExitCode::FAILURE,
                }
            },
        }
    }
}

/// Runs one action.
pub(crate) fn run(action: &str) -> Value {
    let (verb, rest) = action.split_once('=').unwrap_or((action, ""));
    let done = match verb {
        "read" => fs::read_to_string(rest).map(|t| json!(t.trim_end())),
        "write" => put(rest),
        "open" => fs::File::open(rest).map(|_| Value::Null),
        "openw" => OpenOptions::new().write(true).open(rest).map(|_| Value::Null),
        "openrw" => OpenOptions::new().read(true).write(true).open(rest).map(|_| Value::Null),
        "get" => get(rest),
        "create" => create(rest),
        "mkdir" => fs::create_dir(rest).map(|()| Value::Null),
        "stat" => facts::stat(rest),
        "target" => fs::metadata(rest).map(|_| Value::Null),
        "ls" => ls(rest),
        "readlink" => fs::read_link(rest).map(|p| json!(p)),
        "atime" => atime(rest),
        "mknod" => mknod(rest, false),
        "device" => mknod(rest, true),
        "exec" => exec(rest),
        "call" => in_child(action),
        "chown" => chown(rest),
        "fill" => fill(rest),
        "pty" => pty(),
        _ => return Value::Null,
    };
    match done {
        Ok(value) => json!({ "ok": value }),
        Err(e) => json!({ "err": kernel::errno_name(&e) }),
    }
}

/// `PATH,TEXT` written in one piece.
fn put(rest: &str) -> io::Result<Value> {
    let (path, text) = rest.split_once(',').unwrap_or((rest, ""));
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())?;
    Ok(Value::Null)
}

/// The first bytes of a device, to see that it answers at all.
fn get(path: &str) -> io::Result<Value> {
    use std::io::Read as _;
    let mut bytes = [1u8; 4];
    let n = fs::File::open(path)?.read(&mut bytes)?;
    Ok(json!(bytes[..n].to_vec()))
}

fn create(path: &str) -> io::Result<Value> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    facts::stat(path)
}

fn ls(path: &str) -> io::Result<Value> {
    let mut names: Vec<_> =
        fs::read_dir(path)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(json!(names))
}

/// Whether reading a file that was last read long ago moves its access time.
fn atime(path: &str) -> io::Result<Value> {
    use std::os::linux::fs::MetadataExt as _;
    let before = fs::metadata(path)?.st_atime();
    fs::read(path)?;
    Ok(json!(fs::metadata(path)?.st_atime() != before))
}

/// `PATH,c|b|p,MAJOR,MINOR`: makes the node, and with `open` also opens it for `r`, `w` or `rw` (fifth word).
fn mknod(rest: &str, open: bool) -> io::Result<Value> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let words: Vec<&str> = rest.split(',').collect();
    let word = |i: usize| words.get(i).copied().unwrap_or("");
    let kind = match word(1) {
        "b" => SFlag::S_IFBLK,
        "p" => SFlag::S_IFIFO,
        _ => SFlag::S_IFCHR,
    };
    let number = makedev(word(2).parse().unwrap_or(0), word(3).parse().unwrap_or(0));
    mknod(word(0), kind, Mode::from_bits_truncate(0o666), number)?;
    if open {
        OpenOptions::new().read(word(4).contains('r')).write(word(4).contains('w')).open(word(0))?;
    }
    Ok(Value::Null)
}

fn exec(path: &str) -> io::Result<Value> {
    let status =
        Command::new(path).arg("exit=7").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok(json!({ "code": status.code(), "signal": status.signal() }))
}

fn chown(rest: &str) -> io::Result<Value> {
    let (path, id) = rest.split_once(',').unwrap_or((rest, "0"));
    let id: u32 = id.parse().unwrap_or(0);
    std::os::unix::fs::chown(path, Some(id), Some(id))?;
    Ok(Value::Null)
}

/// `PATH,BYTES`: a file of that many bytes that are no holes; answers how many it got to.
fn fill(rest: &str) -> io::Result<Value> {
    let (path, size) = rest.split_once(',').unwrap_or((rest, "0"));
    let mut file = fs::File::create(path)?;
    let done = io::copy(&mut io::Read::take(io::repeat(1), size.parse().unwrap_or(0)), &mut file)?;
    Ok(json!(done))
}

/// A new pseudoterminal pair from /dev/ptmx, and the name of its far end.
fn pty() -> io::Result<Value> {
    let master = nix::pty::posix_openpt(nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY)?;
    nix::pty::grantpt(&master)?;
    nix::pty::unlockpt(&master)?;
    Ok(json!(nix::pty::ptsname_r(&master)?))
}

/// `call=NAME,ARG…` in a child of its own, since the answer may be death.
fn in_child(action: &str) -> io::Result<Value> {
    let out = Command::new("/probe").args(["only", action]).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    if let Some(signal) = out.status.signal() {
        return Ok(json!(Signal::try_from(signal).map_or("?", Signal::as_str)));
    }
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let bad = io::Error::other("child");
    text.strip_prefix("errno ").map_or_else(|| if text == "ok" { Ok(json!("ok")) } else { Err(bad) }, |n| Ok(json!(n)))
}

/// The child of `call`: makes the call and prints `ok` or `errno NAME`.
pub(crate) fn only(action: &str) -> ExitCode {
    let mut words = action.trim_start_matches("call=").split(',');
    let Some(number) = words.next().and_then(kernel::syscall_number) else { return ExitCode::FAILURE };
    let mut args = [0u64; 6];
    for (slot, word) in args.iter_mut().zip(words) {
        *slot = word.parse().unwrap_or(0);
    }
    let answer = match sys::numbers(number, args) {
        Ok(_) => "ok".to_owned(),
        Err(e) => format!("errno {}", kernel::errno_name(&e)),
    };
    let _gone = io::stdout().lock().write_all(answer.as_bytes());
    ExitCode::SUCCESS
}
