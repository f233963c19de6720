//! `binary://` log sinks: a program of the operator's that reads the container's output straight from its pipe.
//!
//! Path and arguments come from whoever creates the container, for some engines from a label of an image, and the program runs
//! as root on the host: `/bin/sh` with arguments would be the image's way out (CVE-2026-53488). So only programs are run that
//! the host's operator has listed ([`LIST`], [`KNOWN`]), from a regular file that only root, or the shim's own user, could have
//! written; they get no environment but the two documented variables, and no descriptor but the documented three.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use crate::executor::{self, READ, Source};
use crate::reaper::{Reaper, Watch};
use crate::runtime::{c_strings, errno_text};
use crate::sys;
use crate::sys::spawn::{Program, spawn};

/// How long a logger may take to say that it is ready.
const READY: Duration = Duration::from_secs(10);
/// How long it may take to end by itself once its pipes ended.
const FINISH: Duration = Duration::from_secs(1);
/// How long it may take after SIGTERM.
const TERM: Duration = Duration::from_secs(12);

/// The operator's list: a line for each program, its absolute path and the arguments that must come first; `#` begins a comment.
pub const LIST: &str = "/etc/containerd/tare-loggers";
/// The engine's environment may name another list.
const LIST_VARIABLE: &str = "TARE_SHIM_LOGGERS";
/// What is allowed without a list: how nerdctl calls itself.
const KNOWN: &str = "/usr/local/bin/nerdctl _NERDCTL_INTERNAL_LOGGING\n/usr/bin/nerdctl _NERDCTL_INTERNAL_LOGGING\n";

/// Who the output belongs to.
pub struct Subject<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The engine's namespace.
    pub namespace: &'a str,
}

/// A running logger. The shim keeps the reading ends too: if the logger dies, the container waits instead of dying of
/// SIGPIPE.
pub struct Logger {
    pid: u32,
    watch: Rc<Watch>,
    kept: Vec<OwnedFd>,
}

/// A `binary://` URI taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// The program.
    pub path: String,
    /// Its arguments: the query's keys and values in their order.
    pub args: Vec<String>,
    /// Whether it is ready by a byte only (`binary-v2://`): the end of the pipe is then that of the logger.
    pub speaks: bool,
}

/// Takes the part after `binary://` apart.
#[must_use]
pub fn address(rest: &str) -> Address {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut args = Vec::new();
    for item in query.split('&').filter(|item| !item.is_empty()) {
        match item.split_once('=') {
            Some((key, value)) => args.extend([unescape(key, true), unescape(value, true)]),
            None => args.push(unescape(item, true)),
        }
    }
    Address { path: unescape(path, false), args, speaks: false }
}

/// Percent-decoding; in a query `+` is a space. What is no escape stays as it is.
#[must_use]
pub fn unescape(text: &str, query: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let hex = |d: &u8| char::from(*d).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let pair = (hex)(tail.first().unwrap_or(&b' ')).zip((hex)(tail.get(1).unwrap_or(&b' ')));
        rest = tail;
        match (byte, pair) {
            (b'%', Some((high, low))) => {
                out.push(high << 4 | low);
                rest = &tail[2..];
            }
            (b'+', _) if query => out.push(b' '),
            (other, _) => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Logger {
    /// Starts the logger and waits until it is ready. Gives the writing ends for stdout and stderr, too.
    ///
    /// # Errors
    /// A sentence that names the program and what is wrong with it.
    pub async fn start(
        address: &Address,
        who: &Subject<'_>,
        reaper: &Rc<Reaper>,
    ) -> Result<(Logger, [OwnedFd; 2]), String> {
        let name = &address.path;
        trusted(name)?;
        allowed(address)?;
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("pipe for {name}: {e}"));
        let ((out, out_end), (err, err_end), (ready, ready_end)) = (pipe()?, pipe()?, pipe()?);
        let null = File::options().read(true).write(true).open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
        let path = CString::new(name.as_str()).map_err(|e| e.to_string())?;
        let args = c_strings(std::iter::once(name).chain(&address.args).cloned().collect())?;
        let env =
            c_strings(vec![format!("CONTAINER_ID={}", who.id), format!("CONTAINER_NAMESPACE={}", who.namespace)])?;
        let fds = [null.as_fd(), null.as_fd(), null.as_fd(), out.as_fd(), err.as_fd(), ready_end.as_fd()];
        let program = Program { path: &path, args: &args, env: &env, fds: &fds, is_runtime: false };
        let pid = spawn(&program).map_err(|e| format!("exec {name}: {}", errno_text(&e)))?;
        let logger = Logger { pid, watch: reaper.watch(pid), kept: vec![out, err] };
        drop(ready_end);
        if let Err(text) = logger.ready(ready, address.speaks).await {
            logger.signal(Signal::SIGKILL);
            return Err(format!("logger {name}: {text}"));
        }
        Ok((logger, [out_end, err_end]))
    }

    /// A byte or, unless it `speaks`, the end of the ready pipe.
    async fn ready(&self, pipe: OwnedFd, speaks: bool) -> Result<(), String> {
        let watched = Source::new(pipe, READ).map_err(|e| e.to_string())?;
        // A fresh source counts as ready, and this pipe may block: wait for the edge itself.
        watched.clear(READ);
        executor::timeout(READY, watched.ready(READ)).await.ok_or("did not become ready")?;
        let mut byte = [0u8; 1];
        let said = nix::unistd::read(watched.get(), &mut byte).map_err(|e| e.to_string())?;
        match self.watch.ended() {
            Some(exit) if said == 0 => Err(format!("ended with status {} before it was ready", exit.code)),
            None if said == 0 && speaks => Err("closed descriptor 5 without a byte".to_owned()),
            _ => Ok(()),
        }
    }

    /// Lets the logger end: by itself at the end of its pipes, else by SIGTERM, at last by SIGKILL. The caller waits for
    /// the first of the three only.
    pub async fn finish(mut self) {
        self.kept.clear();
        if executor::timeout(FINISH, self.watch.exit()).await.is_some() {
            return;
        }
        self.signal(Signal::SIGTERM);
        executor::spawn(async move {
            if executor::timeout(TERM, self.watch.exit()).await.is_none() {
                self.signal(Signal::SIGKILL);
            }
        });
    }

    fn signal(&self, signal: Signal) {
        if let (None, Ok(pid)) = (self.watch.ended(), i32::try_from(self.pid)) {
            // It is our unreaped child, so the number is still its own.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Refuses what the operator has not listed.
fn allowed(address: &Address) -> Result<(), String> {
    let file = std::env::var(LIST_VARIABLE).unwrap_or_else(|_| LIST.to_owned());
    let list = match fs::read_to_string(&file) {
        Ok(list) => {
            trusted(&file)?;
            list
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(format!("list of loggers {file}: {}", errno_text(&e))),
    };
    if is_listed(KNOWN, address) || is_listed(&list, address) {
        return Ok(());
    }
    Err(format!(
        "logger {}: permission denied: neither it nor its arguments are in {file} (a line there with its path allows it)",
        address.path
    ))
}

fn is_listed(list: &str, address: &Address) -> bool {
    list.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace()).any(|mut words| {
        words.next() == Some(&address.path) && {
            let first: Vec<&str> = words.collect();
            address.args.len() >= first.len() && first.iter().zip(&address.args).all(|(want, have)| want == have)
        }
    })
}

/// Refuses a program that somebody else could have put there.
fn trusted(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("logger {path:?}: the path must be absolute"));
    }
    let meta = fs::metadata(path).map_err(|e| format!("logger {path}: {}", errno_text(&e)))?;
    let owner_is_safe = meta.uid() == 0 || meta.uid() == sys::own_uid();
    if !meta.is_file() || !owner_is_safe || meta.mode() & 0o022 != 0 {
        return Err(format!("logger {path}: must be a regular file that only root can write"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Address, KNOWN, address, is_listed, trusted, unescape};

    #[test]
    fn only_what_is_listed_is_run() {
        let list = "# ours\n/opt/log  --container # the rest is free\n/opt/any\n\n";
        for (uri, fine) in [
            ("/opt/any", true),
            ("/opt/any?x=y", true),
            ("/opt/log?--container=a&b=c", true),
            ("/opt/log", false),
            ("/opt/log?-c=--container", false),
            ("/bin/sh?-c=id", false),
            ("/opt/any/../../bin/sh", false),
            ("", false),
        ] {
            assert_eq!(is_listed(list, &address(uri)), fine, "{uri}");
        }
        assert!(is_listed(KNOWN, &address("/usr/local/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl")));
        assert!(!is_listed(KNOWN, &address("/usr/local/bin/nerdctl?run=--privileged")));
    }

    #[test]
    fn a_query_becomes_arguments_in_order() {
        let parsed = address("/usr/bin/log%20ger?z=1&a=b%2Fc&flag&e=");
        let args = ["z", "1", "a", "b/c", "flag", "e", ""].map(str::to_owned).to_vec();
        assert_eq!(parsed, Address { path: "/usr/bin/log ger".into(), args, speaks: false });
        assert_eq!(address("/x").args, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(unescape("100%", true), "100%");
        assert_eq!(unescape("%zz+%4", true), "%zz %4");
        assert_eq!(unescape("a+b", false), "a+b");
    }

    #[test]
    fn only_roots_files_are_run() {
        assert!(trusted("relative").is_err());
        assert!(trusted("/etc").is_err());
        assert!(trusted("/no/such/file").unwrap_err().contains("no such file or directory"));
        let file = std::env::temp_dir().join(format!("shim-logger-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let mode = |m| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(m)).unwrap();
        mode(0o755);
        assert!(trusted(file.to_str().unwrap()).is_ok());
        mode(0o777);
        assert!(trusted(file.to_str().unwrap()).is_err());
        std::fs::remove_file(&file).unwrap();
    }
}
