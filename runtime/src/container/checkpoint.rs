//! `checkpoint`: CRIU saves a container's processes to files.

use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::images::{self, Images, STREAMS};
use super::{Error, Result, Status, destroy, late_hooks, poststop, status};
use crate::compile::cgroup::{Group, Version};
use crate::compile::restore::outside;
use crate::op::Kind as Namespace;
use crate::plan::Undo;
use crate::run::criu::{self, Failed, Kind, Options};
use crate::spec::Spec;
use crate::state::{self, Record};
use crate::sys::{fs, io_text, process};
use crate::{parse, undo};

const LOG: &str = "dump.log";

/// What `checkpoint` is asked for.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The container.
    pub id: String,
    /// Where, and how.
    pub images: Images,
    /// The images of an earlier pre-dump, relative to these.
    pub parent: Option<PathBuf>,
    /// The container goes on.
    pub leave_running: bool,
    /// Memory only; the container goes on.
    pub pre_dump: bool,
    /// A descriptor of the caller's that gets a zero byte once lazy pages can be fetched.
    pub status_fd: Option<i32>,
    /// Where memory pages are sent.
    pub page_server: Option<(String, u16)>,
}

/// Saves a container. Unless it is to go on, it is deleted then; `warn` is told of poststop hooks that fail.
///
/// # Errors
/// A container that does not run, or what CRIU could not save: then it goes on as before.
pub fn checkpoint(root: &Path, ask: &Checkpoint, warn: &mut dyn FnMut(String)) -> Result<()> {
    let id = &ask.id;
    if process::effective_ids().0 != 0 {
        return Err(Error::new(format!("{id}: CRIU needs root: operation not permitted")));
    }
    let dir = state::open(root, id)?;
    dir.lock()?;
    let (record, now) = status(&dir);
    let Some(record) = record.filter(|_| matches!(now, Status::Running | Status::Paused)) else {
        return Err(Error::new(format!("{id}: Container cannot be checkpointed in {now} state")));
    };
    let program = ask.images.program()?;
    let text = dir.read("config.json").map_err(|e| Error::new(format!("{id}: config.json: {}", io_text(&e))))?;
    let (spec, _) = parse::config(&text)?;
    images::make(&ask.images.path)?;
    let parent = parent_images(ask)?;
    let open = ask.images.open(LOG)?;
    let kind = if ask.pre_dump { Kind::PreDump } else { Kind::Dump };
    let mut options = Options {
        pid: Some(record.pid),
        leave_running: ask.leave_running || ask.pre_dump,
        root: record.rootfs.clone(),
        track_memory: ask.pre_dump || parent.is_some(),
        parent_images: parent,
        page_server: ask.page_server.clone(),
        freeze_cgroup: freezer(&undo::groups(&record.undo)),
        external: external(&spec, record.pid)?,
        ..ask.images.options(&open, &spec, LOG)
    };
    if !ask.pre_dump {
        options.external_mounts = external_mounts(&spec, &record)?;
        note_streams(&ask.images.path, record.pid)?;
    }
    dump(&program, kind, &options, ask)?;
    if ask.leave_running || ask.pre_dump {
        return Ok(());
    }
    let hooks = late_hooks(&dir, &record, "poststop");
    destroy(&dir, Some(&record), false)?;
    poststop(hooks, warn);
    Ok(())
}

/// Has CRIU do it, and waits until it is gone.
fn dump(program: &str, kind: Kind, options: &Options, ask: &Checkpoint) -> Result<()> {
    let (socket, mut child) = criu::spawn(program).map_err(Error::new)?;
    let mut heard = |notice: &criu::Notice, _| match (notice.what.as_str(), ask.status_fd) {
        ("status-ready", Some(fd)) => tell_ready(fd).map_err(|e| format!("--status-fd {fd}: {}", io_text(&e))),
        _ => Ok(()),
    };
    let done = criu::ask(&socket, kind, options, &mut heard);
    // After a pre-dump it waits for the next one.
    if kind == Kind::PreDump || matches!(done, Err(Failed::Lost(_))) {
        let _ = child.kill();
    }
    drop(socket);
    let _ = child.wait();
    done.map(drop).map_err(|failed| ask.images.explain(failed, LOG))
}

fn tell_ready(fd: i32) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}"))?.write_all(&[0])
}

/// CRIU looks for the parent's images from the place of the new ones.
fn parent_images(ask: &Checkpoint) -> Result<Option<String>> {
    let Some(parent) = &ask.parent else { return Ok(None) };
    let wrong = |what: &str| Err(Error::new(format!("--parent-path {}: {what}", parent.display())));
    if parent.is_absolute() {
        return wrong("must be relative to --image-path");
    }
    match (ask.images.path.join(parent).is_dir(), parent.to_str()) {
        (true, Some(text)) => Ok(Some(text.to_owned())),
        _ => wrong("no such file or directory"),
    }
}

/// What holds the container's processes still while they are saved.
fn freezer(groups: &[Group]) -> Option<String> {
    let v1 = groups.iter().find(|g| g.version == Version::V1 && g.controllers.iter().any(|c| c == "freezer"));
    let any_v1 = groups.iter().any(|g| g.version == Version::V1);
    v1.or_else(|| groups.iter().find(|g| !any_v1 && g.version == Version::V2)).map(Group::dir)
}

/// Namespaces that were joined are not saved: they are given when the processes are made again.
fn external(spec: &Spec<'_>, pid: i32) -> Result<Vec<String>> {
    let of = |(kind, name, _): (&str, &str, &str)| {
        let path = CString::new(format!("/proc/{pid}/ns/{kind}")).unwrap_or_default();
        let inode = fs::inode(&path).map_err(|f| Error::new(format!("{}: {f}", path.to_string_lossy())))?;
        Ok(format!("{kind}[{inode}]:{name}"))
    };
    images::joined(spec).into_iter().map(of).collect()
}

/// Mounts that lead outside, by where they are in the container, and under that name.
fn external_mounts(spec: &Spec<'_>, record: &Record) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{}/root", record.pid);
    let root = CString::new(path.clone()).unwrap_or_default();
    let root = fs::open(&root, libc::O_PATH | libc::O_DIRECTORY).map_err(|f| Error::new(format!("{path}: {f}")))?;
    let root = root.as_fd();
    let mut found = Vec::new();
    for mount in outside(spec, &record.request) {
        let place = images::resolved(root, &mount.destination).unwrap_or(mount.destination);
        found.push((place.clone(), place));
    }
    for (place, _) in cgroup_mounts(spec, &record.undo) {
        found.push((place.clone(), place));
    }
    for masked in spec.linux.iter().flat_map(|l| &l.masked_paths) {
        if let Some(place) = masked_file(root, masked) {
            found.push((place, "/dev/null".to_owned()));
        }
    }
    Ok(found)
}

/// A file that is masked is covered by `/dev/null` of the host; a directory by a filesystem of its own, which is saved.
fn masked_file(root: BorrowedFd<'_>, path: &str) -> Option<String> {
    let place = images::resolved(root, path)?;
    let text = CString::new(place.as_str()).ok()?;
    let found = fs::openat2(root, &text, libc::O_PATH, 0, fs::resolve::IN_ROOT | fs::resolve::NO_MAGICLINKS).ok()?;
    (fs::fstat(found.as_fd()).ok()?.kind() != crate::abi::file::DIR).then_some(place)
}

/// Without a cgroup namespace, what a mount of cgroups shows is bound from the host: where, and from where.
pub(super) fn cgroup_mounts(spec: &Spec<'_>, undos: &[Undo]) -> Vec<(String, String)> {
    let own = spec.linux.iter().flat_map(|l| &l.namespaces).any(|ns| &*ns.kind == Namespace::Cgroup.name());
    let groups = undo::groups(undos);
    if own {
        return Vec::new();
    }
    let v1 = groups.iter().any(|g| g.version == Version::V1);
    let mut found = Vec::new();
    for mount in &spec.mounts {
        let at = &*mount.destination;
        match mount.kind.as_deref() {
            // A filesystem of its own, with a mount in it for each hierarchy.
            Some("cgroup") if v1 => found.extend(groups.iter().map(|group| {
                let name = group.mount.rsplit('/').next().unwrap_or_default();
                (format!("{at}/{name}"), group.dir())
            })),
            Some("cgroup" | "cgroup2") => {
                let group = groups.iter().find(|g| g.version == Version::V2);
                found.extend(group.map(|group| (at.to_owned(), group.dir())));
            }
            _ => {}
        }
    }
    found
}

/// Writes down what the standard streams are, so that a restore can put the caller's in place of its pipes.
fn note_streams(images: &Path, pid: i32) -> Result<()> {
    let name = |fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).map(|p| p.to_string_lossy().into_owned());
    let names: Vec<String> = (0..3).map(|fd| name(fd).unwrap_or_default()).collect();
    let path = images.join(STREAMS);
    let write = |mut file: File| {
        file.write_all(serde_json::to_string(&names)?.as_bytes())?;
        Ok(())
    };
    let flags = libc::O_NOFOLLOW;
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(&path);
    file.and_then(write).map_err(|e| Error::new(format!("write {}: {}", path.display(), io_text(&e))))
}
