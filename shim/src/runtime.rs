//! The only caller of the runtime binary: builds its command lines, waits for it, finds its words when it fails.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Deserialize;

use crate::bundle::Bundle;
use crate::options::Options;
use crate::reaper::Reaper;
use crate::sys::spawn::{Program, spawn};
use crate::{executor, log, sys};

/// How much of the runtime's output and log is read for its last words.
const LAST_WORDS: u64 = 64 << 10;

/// How long a killed command is waited for.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// A runtime binary and how one container is addressed with it.
pub struct Runtime {
    binary: PathBuf,
    name: String,
    root: String,
    options: Options,
    log: PathBuf,
    reaper: Rc<Reaper>,
}

/// The standard streams of a runtime command that hands them to the container.
pub type Stdio<'a> = [BorrowedFd<'a>; 3];

impl Runtime {
    /// The runtime of a container.
    ///
    /// # Errors
    /// A sentence that names the binary when it is not found in `PATH`.
    pub fn new(options: Options, namespace: &str, bundle: &Bundle, reaper: Rc<Reaper>) -> Result<Runtime, String> {
        let name = options.binary().to_owned();
        Ok(Runtime {
            binary: find(&name)?,
            name,
            root: options.root_of(namespace),
            options,
            log: bundle.file("log.json"),
            reaper,
        })
    }

    /// The options that this runtime was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The whole command line, the name first.
    #[must_use]
    pub fn command_line(&self, verb: &str, rest: &[&str]) -> Vec<String> {
        let log = self.log.to_string_lossy();
        let mut line: Vec<&str> = vec![&self.name, "--root", &self.root, "--log", &log, "--log-format", "json"];
        if self.options.systemd_cgroup {
            line.push("--systemd-cgroup");
        }
        line.push(verb);
        line.extend(rest);
        line.into_iter().map(str::to_owned).collect()
    }

    /// Runs a command whose words are of interest; gives its standard output.
    ///
    /// # Errors
    /// The runtime's last words.
    pub async fn run(&self, verb: &str, rest: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let (stdin, words) = scratch(input).map_err(|e| format!("memfd_create: {e}"))?;
        let status = self.exec(verb, rest, &[stdin.as_fd(), words.as_fd(), words.as_fd()]).await?;
        let said = tail(words);
        if status == 0 { Ok(said) } else { Err(self.last_words(verb, status, &said)) }
    }

    /// Runs a command that hands its streams to the container.
    ///
    /// # Errors
    /// The runtime's last words, which then stand in its log only.
    pub async fn run_with(&self, verb: &str, rest: &[&str], stdio: &Stdio<'_>) -> Result<(), String> {
        match self.exec(verb, rest, stdio).await? {
            0 => Ok(()),
            status => Err(self.last_words(verb, status, b"")),
        }
    }

    async fn exec(&self, verb: &str, rest: &[&str], stdio: &Stdio<'_>) -> Result<u32, String> {
        let mark = fs::metadata(&self.log).map_or(0, |m| m.len());
        if mark > LAST_WORDS {
            // Warnings of many commands pile up; the engine has had its chance to read them.
            let _ = fs::write(&self.log, b"");
        }
        let args = c_strings(self.command_line(verb, rest))?;
        let env = environment();
        let path = CString::new(self.binary.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        let program = Program { path: &path, args: &args, env: &env, fds: stdio, is_runtime: true };
        let pid = spawn(&program).map_err(|e| format!("exec {}: {}", self.binary.display(), errno_text(&e)))?;
        let watch = self.reaper.watch(pid);
        let limit = self.options.limit(verb);
        if let Some(exit) = executor::timeout(limit, watch.exit()).await {
            return Ok(exit.code);
        }
        self.end(pid);
        // A process in the kernel's hands may not end even so; it is not waited for twice.
        executor::timeout(LAST_BREATH, watch.exit()).await;
        Err(format!("{} {verb}: no end within {} s, killed (option RuntimeTimeout)", self.name, limit.as_secs()))
    }

    /// Ends a command and what it started in its own process group, hooks for example.
    fn end(&self, pid: u32) {
        log::warn(&format!("{}: process {pid} hangs and is killed", self.name));
        if let Ok(pid) = i32::try_from(pid) {
            // It is our unreaped child and leads its group, so neither number can be another's.
            let _ = sys::kill(-pid, libc::SIGKILL);
        }
    }

    /// The last error in the runtime's log.
    #[must_use]
    pub fn logged(&self) -> Option<String> {
        File::open(&self.log).ok().map(tail).and_then(|bytes| last_error(&bytes))
    }

    fn last_words(&self, verb: &str, status: u32, said: &[u8]) -> String {
        let words = self.logged().unwrap_or_else(|| {
            let said = String::from_utf8_lossy(said).trim().to_owned();
            if said.is_empty() { format!("{} {verb}: exit status {status}", self.name) } else { said }
        });
        go_tail(words)
    }
}

/// Engines look for the kernel's sentence as Go writes it, in lower case, to tell "not found" from "not executable"; a runtime
/// in C writes it with a capital.
fn go_tail(mut words: String) -> String {
    for sentence in ["No such file or directory", "Permission denied"] {
        if words.ends_with(sentence) {
            let start = words.len() - sentence.len();
            words.replace_range(start.., &sentence.to_lowercase());
        }
    }
    words
}

/// The message of the last record whose level is `error` in a runtime's JSON log. runc has each on a line of its own, crun of late
/// spreads one over several; the log's head may be cut off in the middle of one.
fn last_error(log: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Record {
        level: String,
        msg: String,
    }
    let starts = (0..log.len()).rev().filter(|&at| log[at] == b'{');
    let record = |at: usize| serde_json::Deserializer::from_slice(&log[at..]).into_iter::<Record>().next()?.ok();
    starts.filter_map(record).find(|record| record.level == "error").map(|record| record.msg)
}

/// An input to read from and a file for the output. Files in memory: a runtime that says much can neither block nor
/// make the shim read while it waits.
fn scratch(input: &[u8]) -> io::Result<(File, File)> {
    let make = || memfd_create(c"runtime", MFdFlags::MFD_CLOEXEC).map(File::from);
    let stdin = if input.is_empty() {
        File::open("/dev/null")?
    } else {
        let mut file = make()?;
        file.write_all(input)?;
        file.rewind()?;
        file
    };
    Ok((stdin, make()?))
}

fn tail(mut file: File) -> Vec<u8> {
    let length = file.metadata().map_or(0, |m| m.len());
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS))).is_ok() {
        // What could be read is better than nothing.
        let _ = file.take(LAST_WORDS).read_to_end(&mut bytes);
    }
    bytes
}

/// The file of a binary that is named by path or looked for in `PATH`.
///
/// # Errors
/// A sentence that says which name was looked for.
pub fn find(name: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let usable = |file: &Path| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| usable(file)).ok_or_else(|| {
        format!("OCI runtime {name:?}: executable file not found in $PATH (set BinaryName to use another one)")
    })
}

/// The environment for a program: ours, without the socket that would make a runtime speak to systemd in our name.
#[must_use]
pub fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter(|(key, _)| key != "NOTIFY_SOCKET")
        .filter_map(|(key, value)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}

/// Arguments for a program.
///
/// # Errors
/// When one holds a NUL.
pub fn c_strings(list: Vec<String>) -> Result<Vec<CString>, String> {
    list.into_iter().map(|s| CString::new(s).map_err(|_| "an argument holds a NUL byte".to_owned())).collect()
}

/// The kernel's sentence as engines compare it: lower case, without Rust's "(os error N)".
#[must_use]
pub fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{find, last_error};

    #[test]
    fn the_last_error_is_found_among_others() {
        let log = b"{\"level\":\"error\",\"msg\":\"first\",\"time\":\"t\"}\n{\"level\":\"error\",\"msg\":\"second \\\"x\\\"\"}\n{\"level\":\"warning\",\"msg\":\"third\"}\nnot json\n";
        assert_eq!(last_error(log).as_deref(), Some("second \"x\""));
        assert_eq!(last_error(b"{\"level\":\"warning\",\"msg\":\"w\"}"), None);
        let spread =
            b"\": \"cut off\"\n}\n{\n  \"msg\": \"no {\\\"x\\\"\",\n  \"level\": \"error\",\n  \"time\": \"t\"\n}\n";
        assert_eq!(last_error(spread).as_deref(), Some("no {\"x\""), "crun 1.28");
    }

    #[test]
    fn the_kernels_sentence_is_told_as_engines_know_it() {
        let crun = "executable file `/x` not found in $PATH: No such file or directory".to_owned();
        assert!(super::go_tail(crun).ends_with("$PATH: no such file or directory"));
        assert_eq!(super::go_tail("Permission denied: else".into()), "Permission denied: else");
    }

    #[test]
    fn a_missing_runtime_is_named() {
        let text = find("no-such-runtime-at-all").unwrap_err();
        assert!(
            text.contains("\"no-such-runtime-at-all\"") && text.contains("executable file not found in $PATH"),
            "{text}"
        );
        assert!(find("sh").unwrap().ends_with("sh"));
    }
}
