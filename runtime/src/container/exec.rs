//! `exec`: one more process for a container that is there.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Error, Result, Status, status, write_pid_file};
use crate::compile::cgroup::{Group, Version};
use crate::compile::exec::{self, Ask, Target};
use crate::error::Problem;
use crate::plan::Plan;
use crate::request::Request;
use crate::run::proc;
use crate::state::{self, Record};
use crate::sys::{fs, io_text, process};
use crate::walk::{self, Means, Ready};
use crate::{check, host, parse, undo};
use std::os::fd::AsFd as _;

/// What `exec` is asked for.
pub struct Exec<'a> {
    /// Directory of all containers' states.
    pub root: PathBuf,
    /// The container.
    pub id: String,
    /// The process.
    pub ask: Ask<'a>,
    /// Descriptors from 3 on that are passed on.
    pub preserve_fds: u32,
    /// Whether a paused container will do: the process is then frozen at once.
    pub ignore_paused: bool,
    /// Where the terminal's master goes.
    pub console: Option<OwnedFd>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Called when the process stands ready and has not yet run: its terminal, if any, was handed out.
    pub ready: &'a mut dyn FnMut(),
}

/// A process whose program runs.
pub struct Executed {
    /// Its pidfd; the process is the caller's child.
    pub pidfd: OwnedFd,
    /// Doubts about the process that was asked for.
    pub warnings: Vec<Problem>,
}

/// Puts a process into a container. On failure nothing of it is left.
///
/// # Errors
/// The container is not one that can be entered, what is wrong with the process, or the step that failed.
pub fn exec(ask: Exec<'_>) -> Result<Executed> {
    let dir = state::open(&ask.root, &ask.id)?;
    let record = enterable(status(&dir), &ask)?;
    let unreadable = |e: &dyn std::fmt::Display| Error::new(format!("{}: config.json of the container: {e}", ask.id));
    let text = dir.read("config.json").map_err(|e| unreadable(&e))?;
    let (spec, _) = parse::config(&text).map_err(|e| unreadable(&e))?;
    let target = target(&record)?;
    let request = Request {
        preserve_fds: ask.preserve_fds,
        listen_fds: 0,
        listen_fdnames: None,
        notify_socket: None,
        gated: false,
        ..record.request.clone()
    };
    let compiled = exec::compile(&spec, &ask.ask, &target, &host::facts_of_exec(&spec, &ask.ask)?, &request)?;
    check::check(&compiled.plan).map_err(|broken| {
        Error::new(format!("the plan is not sound, which is a defect of this program: {}", broken.join("; ")))
    })?;
    let means = Means { console: ask.console, ..Means::default() };
    let root = PathBuf::from(format!("/proc/{}/root", record.pid));
    let walked = walk::walk(&compiled.plan, means).map_err(|e| Error::from(e.explained_in(&root)));
    if walked.is_ok() {
        (ask.ready)();
    }
    let ready = walked.and_then(|ready| run(&compiled.plan, ready, ask.pid_file.as_deref(), &root));
    match ready {
        Ok(ready) => Ok(Executed { pidfd: ready.pidfd, warnings: compiled.warnings }),
        // What failed because the container ended meanwhile says so in the words that engines know.
        Err(e) if !super::status::is_alive(&record) => {
            Err(Error::new(format!("{}: {}: container not running", ask.id, e.message)))
        }
        Err(e) => Err(e),
    }
}

/// The states in which a container can be entered.
fn enterable((record, now): (Option<Record>, Status), ask: &Exec<'_>) -> Result<Record> {
    let id = &ask.id;
    match (record, now) {
        (Some(record), Status::Created | Status::Running) => Ok(record),
        (Some(record), Status::Paused) if ask.ignore_paused => Ok(record),
        (Some(_), Status::Paused) => Err(Error::new(format!("{id}: cannot exec in a paused container"))),
        (_, Status::Creating) => Err(Error::new(format!("{id}: is being created: container not running"))),
        _ => Err(Error::new(format!("{id}: cannot exec in a stopped container: container not running"))),
    }
}

/// What of the running container the plan depends on.
fn target(record: &Record) -> Result<Target> {
    let pid = record.pid;
    let hidden = |e: std::io::Error| {
        // Until it is executed nobody may look into init (CVE-2016-9962), and a plain user is not excepted.
        let denied = e.kind() == std::io::ErrorKind::PermissionDenied;
        let hint = if denied { " (hint: a plain user can enter a container once it is started)" } else { "" };
        Error::new(format!("{}: namespaces of init (pid {pid}){hint}: {}", record.id, io_text(&e)))
    };
    let kinds = proc::other_namespaces(pid).map_err(hidden)?;
    let groups = undo::groups(&record.undo);
    let user = kinds & crate::abi::clone::NEWUSER != 0;
    Ok(Target {
        pid,
        start_time: record.start_time,
        kinds,
        setgroups_denied: user && proc::denies_setgroups(pid),
        moved_to: groups.iter().find(|g| g.version == Version::V2).and_then(|g| moved(g, pid)),
        groups,
    })
}

/// Where init went below the container's cgroup, as an init that manages services does.
fn moved(group: &Group, pid: i32) -> Option<String> {
    let is = proc::unified_cgroup(pid)?;
    is.strip_prefix(&group.path).is_some_and(|rest| rest.starts_with('/')).then_some(is)
}

/// Lets the process go on to its program. One that cannot be told of must not run.
fn run(plan: &Plan, ready: Ready, pid_file: Option<&Path>, root: &Path) -> Result<Ready> {
    let told = pid_file.map_or(Ok(()), |path| write_pid_file(path, ready.pid));
    let ran = told.and_then(|()| {
        let executed = ready.release().and_then(|()| ready.until_executed(plan));
        executed.map_err(|e| Error::from(e.explained_in(root)))
    });
    let Err(error) = ran else { return Ok(ready) };
    let _ = process::pidfd_kill(ready.pidfd.as_fd(), libc::SIGKILL);
    let _ = fs::poll([(ready.pidfd.as_fd(), libc::POLLIN)], super::DEATH_MS);
    let _ = process::wait(ready.pidfd.as_fd(), false);
    if let Some(path) = pid_file {
        let _ = std::fs::remove_file(path);
    }
    Err(error)
}
