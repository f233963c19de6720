//! `restore`: CRIU makes a container's processes again from files.

use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::images::{self, Images, Open, STREAMS};
use super::{Bundle, Error, Result, save, withdraw};
use crate::abi::{clone, propagation};
use crate::compile::cgroup::Version;
use crate::compile::restore::{Criu, outside};
use crate::compile::{self, Compiled};
use crate::error::Problem;
use crate::plan::Plan;
use crate::request::Request;
use crate::run::criu::{self, Kind, Notice, Options};
use crate::run::{cgroup, parent, path};
use crate::spec::Spec;
use crate::state::{self, Dir, Journal, Record};
use crate::sys::{Fault, fs, io_text, mount, process, socket};
use crate::walk::{self, Means, Ready};
use crate::{check, undo};

const LOG: &str = "restore.log";
const MS_REC: u64 = 1 << 14;
/// The names of three streams take no more.
const MAX_STREAMS: u64 = 16 << 10;
/// How long CRIU may take to go once it has answered.
const CRIU_END_MS: i32 = 10_000;

/// What `restore` is asked for.
#[derive(Default)]
pub struct Restore {
    /// Directory of all containers' states.
    pub root: PathBuf,
    /// What shapes the plan.
    pub request: Request,
    /// Where the images lie, and how they are read.
    pub images: Images,
    /// Where the terminal's master goes; without it the caller gets it.
    pub console: Option<OwnedFd>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Security module and profile, instead of the saved one.
    pub lsm_profile: Option<String>,
    /// Context of mounts, instead of the saved one.
    pub lsm_mount_context: Option<String>,
}

/// A container that runs again.
pub struct Restored {
    /// Its state directory.
    pub dir: Dir,
    /// What it is.
    pub record: Record,
    /// Its init, a child of this process.
    pub pidfd: OwnedFd,
    /// The master of its terminal, where nobody else was to get it.
    pub master: Option<OwnedFd>,
    /// Doubts about the configuration.
    pub warnings: Vec<Problem>,
}

/// Makes a container from the images of its processes. Whatever fails is undone.
///
/// # Errors
/// What is wrong with the configuration or the images, the step that failed, or what CRIU says.
pub fn restore(bundle: &Bundle, ask: Restore) -> Result<Restored> {
    if process::effective_ids().0 != 0 {
        return Err(Error::new(format!("{}: CRIU needs root: operation not permitted", ask.request.id)));
    }
    let (spec, _) = bundle.spec()?;
    let program = ask.images.program()?;
    own_mounts(&super::rootfs(bundle, &spec))?;
    let open = ask.images.open(LOG)?;
    let inherited = inherited(&spec, &ask.images.path)?;
    let (ours, theirs) = criu::socket()?;
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    let criu = Criu { program: &program, path: &path, fd: theirs.as_raw_fd() };
    let Compiled { plan, warnings } =
        compile::restore::compile(&spec, &super::facts(&spec, &ask.request)?, &ask.request, criu)?;
    check::check(&plan).map_err(|broken| {
        Error::new(format!("the plan is not sound, which is a defect of this program: {}", broken.join("; ")))
    })?;
    parent::foresee(&plan).map_err(Error::new)?;
    let dir = state::create(&ask.root, &ask.request.id)?;
    let making =
        Making { dir: &dir, bundle, spec: &spec, plan: &plan, ask, open, inherited, journal: Journal::default() };
    match making.make((ours, theirs)) {
        Ok((record, pidfd, master)) => {
            dir.unlock();
            Ok(Restored { dir, record, pidfd, master, warnings })
        }
        Err(error) => Err(withdraw(&dir, error)),
    }
}

/// CRIU wants the root filesystem to be a mount point. It becomes one in a mount namespace that this process alone has, as
/// long as it lives: nothing of that is seen by the host, and nothing can be left of it. What CRIU is given open must be opened
/// in that namespace, too.
fn own_mounts(root: &str) -> Result<()> {
    let wrong = |f: Fault| Error::new(format!("root.path: make a mount point of {root}: {f}"));
    let path = CString::new(root).map_err(|_| Error::new("root.path: holds a NUL byte"))?;
    process::unshare(clone::NEWNS).map_err(wrong)?;
    let slave = propagation::SLAVE | MS_REC;
    mount::mount(c"none", c"/", c"", slave, c"").map_err(wrong)?;
    let tree = mount::open_tree(fs::cwd(), &path, true, false).map_err(wrong)?;
    let place = fs::open(&path, libc::O_PATH | libc::O_DIRECTORY).map_err(wrong)?;
    mount::move_mount(tree.as_fd(), place.as_fd()).map_err(wrong)
}

/// The descriptors that CRIU inherits, by the names that the images have for them.
struct Inherited {
    named: Vec<(String, i32)>,
    /// Open until CRIU was started.
    _namespaces: Vec<OwnedFd>,
}

/// The caller's streams take the place of the pipes that were saved, namespaces that of those that were joined.
fn inherited(spec: &Spec<'_>, images: &Path) -> Result<Inherited> {
    let (mut named, mut namespaces) = (Vec::new(), Vec::new());
    for (fd, name) in (0..).zip(streams(images)?) {
        if name.starts_with("pipe:") {
            named.push((name, fd));
        }
    }
    for (_, name, place) in images::joined(spec) {
        let wrong = |why: String| Error::new(format!("linux.namespaces: {place}: {why}"));
        let text = CString::new(place).map_err(|_| wrong("holds a NUL byte".to_owned()))?;
        let fd = fs::open(&text, libc::O_RDONLY).and_then(|fd| fs::pass_on(fd.as_fd()).map(|()| fd));
        let fd = fd.map_err(|f| wrong(f.to_string()))?;
        named.push((name.to_owned(), fd.as_raw_fd()));
        namespaces.push(fd);
    }
    Ok(Inherited { named, _namespaces: namespaces })
}

/// What the standard streams were. Images that hold no such file leave them as they are.
fn streams(images: &Path) -> Result<Vec<String>> {
    let path = images.join(STREAMS);
    let wrong = |why: String| Error::new(format!("{}: {why}", path.display()));
    let file =
        match std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file.map_err(|e| wrong(io_text(&e)))?,
        };
    let mut text = String::new();
    File::take(file, MAX_STREAMS).read_to_string(&mut text).map_err(|e| wrong(io_text(&e)))?;
    let names: Vec<String> = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if names.len() > 3 {
        return Err(wrong(format!("names {} standard streams", names.len())));
    }
    Ok(names)
}

/// All that a restore needs while it is under way.
struct Making<'a> {
    dir: &'a Dir,
    bundle: &'a Bundle,
    spec: &'a Spec<'a>,
    plan: &'a Plan,
    ask: Restore,
    open: Open,
    inherited: Inherited,
    journal: Journal,
}

type Made = (Record, OwnedFd, Option<OwnedFd>);

impl Making<'_> {
    /// Journal, cgroups, CRIU: in this order, so that whatever is made is known before.
    fn make(mut self, (ours, theirs): (OwnedFd, OwnedFd)) -> Result<Made> {
        self.journal = Journal { boot_id: self.dir.boot_id(), undo: self.plan.undos() };
        undo::foresee(&mut self.journal.undo);
        self.dir.write_journal(&self.journal)?;
        self.dir.write("config.json", &self.bundle.text)?;
        self.mount_points()?;
        let criu = walk::walk(self.plan, Means::default())?;
        // Only when its last other end goes does the socket tell of CRIU's end.
        drop(theirs);
        let begun = criu.release().and_then(|()| criu.until_executed(self.plan));
        let done = begun.map_err(Error::from).and_then(|()| self.drive(&ours));
        drop(ours);
        end(&criu, done.is_err());
        if done.is_err() {
            let _ = cgroup::kill_all(&undo::groups(&self.journal.undo));
        }
        done
    }

    fn drive(&mut self, socket: &OwnedFd) -> Result<Made> {
        let options = self.options()?;
        let (mut made, mut master) = (None, None);
        let console = self.ask.console.take();
        let done = criu::ask(socket, Kind::Restore, &options, &mut |notice: &Notice, fd| {
            match (notice.what.as_str(), fd, &console) {
                ("setup-namespaces", ..) => self.hooks(notice.pid)?,
                // Its processes go on only after the answer: by then the container must be known.
                ("post-restore", ..) => made = Some(self.record(notice.pid).map_err(|e| e.message)?),
                ("orphan-pts-master", Some(fd), Some(console)) => {
                    let sent = socket::send_fd(console.as_fd(), b"/dev/ptmx", fd.as_fd());
                    sent.map_err(|f| format!("--console-socket: {f}"))?;
                }
                ("orphan-pts-master", Some(fd), None) => master = Some(fd),
                _ => {}
            }
            Ok(())
        });
        done.map_err(|failed| self.ask.images.explain(failed, LOG))?;
        let lost = || Error::new("criu has made no process");
        let (record, pidfd) = made.ok_or_else(lost)?;
        Ok((record, pidfd, master))
    }

    fn options(&self) -> Result<Options> {
        let groups = undo::groups(&self.journal.undo);
        let v1 = groups.iter().any(|g| g.version == Version::V1);
        let mut cgroup_roots = Vec::new();
        for group in groups.iter().filter(|g| v1 == (g.version == Version::V1)) {
            let path = format!("/{}", group.path);
            if v1 {
                cgroup_roots.extend(group.controllers.iter().map(|c| (c.clone(), path.clone())));
            } else {
                cgroup_roots.push((String::new(), path));
            }
        }
        Ok(Options {
            root: super::rootfs(self.bundle, self.spec),
            cgroup_roots,
            external_mounts: self.external_mounts()?,
            inherited: self.inherited.named.clone(),
            lsm_profile: self.ask.lsm_profile.clone(),
            lsm_mount_context: self.ask.lsm_mount_context.clone(),
            ..self.ask.images.options(&self.open, self.spec, LOG)
        })
    }

    /// What lay outside when the container was saved, and what takes its place.
    fn external_mounts(&self) -> Result<Vec<(String, String)>> {
        let root = self.rootfs()?;
        let mut found = Vec::new();
        for mount in outside(self.spec, &self.ask.request) {
            let place = images::resolved(root.as_fd(), &mount.destination).unwrap_or(mount.destination);
            found.push((place, mount.source));
        }
        found.extend(super::checkpoint::cgroup_mounts(self.spec, &self.journal.undo));
        found.push(("/dev/null".to_owned(), "/dev/null".to_owned()));
        Ok(found)
    }

    fn rootfs(&self) -> Result<OwnedFd> {
        let path = super::rootfs(self.bundle, self.spec);
        let opened = CString::new(path.as_str()).ok().map(|path| fs::open(&path, libc::O_PATH | libc::O_DIRECTORY));
        match opened {
            Some(Ok(root)) => Ok(root),
            Some(Err(f)) => Err(Error::new(format!("root.path: {path}: {f}"))),
            None => Err(Error::new("root.path: holds a NUL byte")),
        }
    }

    /// A root filesystem that was unpacked anew lacks the mount points that `create` had made.
    fn mount_points(&self) -> Result<()> {
        let root = self.rootfs()?;
        for mount in outside(self.spec, &self.ask.request).into_iter().filter(|m| m.in_root) {
            let wrong = |why: String| Error::new(format!("mount point {}: {why}", mount.destination));
            let source =
                std::fs::metadata(&mount.source).map_err(|e| wrong(format!("{}: {}", mount.source, io_text(&e))))?;
            let place = CString::new(mount.destination.as_str()).map_err(|_| wrong("holds a NUL byte".to_owned()))?;
            let made = if source.is_dir() {
                path::directory(root.as_fd(), &place).map(drop)
            } else {
                path::parent(root.as_fd(), &place).and_then(|(dir, name)| {
                    match fs::mknodat(dir.as_fd(), name, libc::S_IFREG | 0o755, 0) {
                        Err(f) if f.errno == libc::EEXIST => Ok(()),
                        made => made,
                    }
                })
            };
            made.map_err(|f| wrong(f.to_string()))?;
        }
        Ok(())
    }

    fn hooks(&self, pid: i32) -> std::result::Result<(), String> {
        let request = &self.ask.request;
        for kind in ["prestart", "createRuntime"] {
            for hook in compile::late_hooks(self.spec, &request.id, &self.bundle.path, kind) {
                parent::run_late_hook(&hook, pid).map_err(|text| format!("hooks.{kind}[{}]: {text}", hook.index))?;
            }
        }
        Ok(())
    }

    fn record(&self, pid: i32) -> Result<(Record, OwnedFd)> {
        let pidfd = process::pidfd_open(pid)?;
        let init = (pid, pidfd.as_fd());
        let record = super::record(self.bundle, self.spec, self.journal.clone(), &self.ask.request, init)?;
        save(self.dir, &record, self.ask.pid_file.as_deref())?;
        Ok((record, pidfd))
    }
}

/// Waits for CRIU to go; one that was refused something, or lingers, is killed.
fn end(criu: &Ready, at_once: bool) {
    let pidfd = criu.pidfd.as_fd();
    let wait = if at_once { 0 } else { CRIU_END_MS };
    if !fs::poll([(pidfd, libc::POLLIN)], wait).is_ok_and(|[gone]| gone != 0) {
        let _ = process::pidfd_kill(pidfd, libc::SIGKILL);
    }
    let _ = process::wait(pidfd, true);
}
