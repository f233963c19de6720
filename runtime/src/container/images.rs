//! What `checkpoint` and `restore` share: where images lie, what lies outside of a container, what CRIU says.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Error, Result};
use crate::op::Kind as Namespace;
use crate::run::criu::{Failed, Options};
use crate::spec::Spec;
use crate::sys::{fs, io_text};

/// The file in which the names of the standard streams are kept, beside CRIU's own. Peers name it so, too.
pub(super) const STREAMS: &str = "descriptors.json";
/// No more of a log is read.
const MAX_LOG: u64 = 256 << 10;

/// How processes are saved and made.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// The CRIU program: a path, or a name that is looked for in `PATH`.
    pub program: String,
    /// The directory of the image files.
    pub path: PathBuf,
    /// The directory of the log; `None` is that of the images.
    pub work: Option<PathBuf>,
    /// TCP connections may be open.
    pub tcp_established: bool,
    /// Unix sockets may lead outside.
    pub ext_unix_sk: bool,
    /// The session's leader may be outside.
    pub shell_job: bool,
    /// Memory is fetched when it is used.
    pub lazy_pages: bool,
    /// File locks are kept.
    pub file_locks: bool,
    /// How cgroups are treated: CRIU's number.
    pub cgroups_mode: Option<i32>,
    /// Namespaces that are made and left empty.
    pub empty: Vec<Namespace>,
    /// Pages of the parent's images that newer ones replace are dropped.
    pub auto_dedup: bool,
}

/// Directories that must stay open while CRIU works.
pub(super) struct Open {
    images: OwnedFd,
    work: Option<OwnedFd>,
}

impl Images {
    /// Opens the directories, and removes the log of an earlier time: what it says is not of this one.
    pub(super) fn open(&self, log: &str) -> Result<Open> {
        let open = |path: &Path| {
            let opened = File::open(path).and_then(|f| {
                if f.metadata()?.is_dir() { Ok(f) } else { Err(std::io::ErrorKind::NotADirectory.into()) }
            });
            opened.map(OwnedFd::from).map_err(|e| Error::new(format!("{}: {}", path.display(), io_text(&e))))
        };
        if let Some(work) = &self.work {
            make(work)?;
        }
        let open = Open { images: open(&self.path)?, work: self.work.as_deref().map(open).transpose()? };
        let _ = std::fs::remove_file(self.work.as_ref().unwrap_or(&self.path).join(log));
        Ok(open)
    }

    /// What CRIU is told in either case.
    pub(super) fn options(&self, open: &Open, spec: &Spec<'_>, log: &'static str) -> Options {
        Options {
            images: open.images.as_raw_fd(),
            work: open.work.as_ref().map(|fd| fd.as_raw_fd()),
            log,
            ext_unix_sk: self.ext_unix_sk,
            tcp_established: self.tcp_established,
            shell_job: self.shell_job,
            lazy_pages: self.lazy_pages,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            cgroups_mode: self.cgroups_mode,
            empty_namespaces: self.empty.iter().fold(0, |all, kind| all | u32::try_from(kind.flag()).unwrap_or(0)),
            config_file: config_file(spec),
            ..Options::default()
        }
    }

    /// The program's path.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn program(&self) -> Result<String> {
        if self.program.contains('/') {
            return Ok(self.program.clone());
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let places = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| format!("{dir}/{}", self.program));
        let runs = |place: &String| CString::new(place.as_str()).is_ok_and(|p| fs::accessible(&p, libc::X_OK).is_ok());
        let hint = "(hint: install CRIU, or name it with --criu)";
        places.into_iter().find(runs).ok_or_else(|| {
            Error::new(format!(
                "checkpoint and restore {hint}: exec: {:?}: executable file not found in $PATH",
                self.program
            ))
        })
    }

    /// The sentence of a failure, with what the log has to say.
    pub(super) fn explain(&self, failed: Failed, log: &str) -> Error {
        let log = self.work.as_ref().unwrap_or(&self.path).join(log);
        let told = matches!(&failed, Failed::Refused { said, .. } if !said.is_empty());
        let hint = match last_error(&log).filter(|_| !told) {
            Some(line) => format!("(hint: {}: {line}) ", log.display()),
            None => format!("(hint: see {}) ", log.display()),
        };
        Error::new(match failed {
            Failed::OnTheWay(text) => text,
            Failed::Lost(text) => format!("{hint}criu: {text}"),
            Failed::Refused { kind, errno, said } => {
                let said = if told { format!("{}: ", said.trim()) } else { said };
                format!("{hint}{said}criu failed: type {} errno {errno}", kind.name())
            }
        })
    }
}

/// Makes a directory that nobody else may look into: images hold the memory of processes.
pub(super) fn make(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Error::new(format!("make {}: {}", path.display(), io_text(&e))))
}

/// More options of CRIU's from a file: that of the annotation, else that of the host. The second name is that of runc, for which
/// tare steps in.
fn config_file(spec: &Spec<'_>) -> Option<String> {
    let named = spec.annotations.get("org.criu.config").map(|path| path.to_string()).filter(|path| !path.is_empty());
    let there = |path: &&str| Path::new(path).exists();
    named.or_else(|| ["/etc/criu/tare.conf", "/etc/criu/runc.conf"].into_iter().find(there).map(str::to_owned))
}

/// The last line of a log that tells of an error.
fn last_error(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(MAX_LOG))).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rfind(|line| line.contains("Error ("))?;
    Some(line.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// Where a path inside a root really leads to, as the kernel names it there.
pub(super) fn resolved(root: BorrowedFd<'_>, path: &str) -> Option<String> {
    let text = CString::new(path).ok()?;
    let place = fs::openat2(root, &text, libc::O_PATH, 0, fs::resolve::IN_ROOT | fs::resolve::NO_MAGICLINKS).ok()?;
    let name = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?.into_os_string().into_string().ok();
    let (whole, above) = (name(place.as_raw_fd())?, name(root.as_raw_fd())?);
    let inside = if above == "/" { &whole } else { whole.strip_prefix(&above)? };
    inside.starts_with('/').then(|| inside.to_owned())
}

/// The namespaces that CRIU is given instead of making them: which, its word for the kind, its name in the images, the path.
pub(super) fn joined<'s>(spec: &'s Spec<'_>) -> Vec<(&'static str, &'static str, &'s str)> {
    let known = [("network", "net", "extRootNetNS"), ("pid", "pid", "extRootPidNS")];
    let list = spec.linux.iter().flat_map(|l| &l.namespaces);
    list.filter_map(|ns| {
        let (_, kind, name) = known.iter().find(|(word, ..)| *word == &*ns.kind)?;
        let path = ns.path.as_deref().filter(|path| !path.is_empty())?;
        Some((*kind, *name, path))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_path_resolves_inside_its_root() {
        let root = File::open("/").unwrap();
        assert_eq!(resolved(root.as_fd(), "/proc/../etc/./passwd").as_deref(), Some("/etc/passwd"));
        let etc = File::open("/etc").unwrap();
        assert_eq!(resolved(etc.as_fd(), "/../../passwd").as_deref(), Some("/passwd"));
        assert_eq!(resolved(etc.as_fd(), "/no/where"), None);
    }

    #[test]
    fn the_log_is_quoted() {
        let dir = std::env::temp_dir().join(format!("tare-images-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("dump.log"), "(0.1) ok\n(0.2) Error (criu/x.c:1): no\u{7}thing\n(0.3) bye\n").unwrap();
        let images = Images { path: dir.clone(), ..Images::default() };
        let failed = Failed::Refused { kind: crate::run::criu::Kind::Dump, errno: 3, said: String::new() };
        let text = images.explain(failed, "dump.log").message;
        assert!(text.contains("Error (criu/x.c:1): nothing)"), "{text}");
        assert!(text.ends_with("criu failed: type DUMP errno 3"), "{text}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
