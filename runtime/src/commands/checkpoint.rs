//! `checkpoint` and `restore`.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::create::{self, console};
use super::{Context, Failure, Outcome};
use crate::cli::{self, CgroupsMode};
use crate::container::checkpoint::{self, Checkpoint};
use crate::container::images::Images;
use crate::container::restore::{self, Restore};
use crate::container::{self, Bundle};
use crate::monitor::Monitor;
use crate::op::Kind;
use crate::request::Request;

/// Where images lie when nobody says.
const DEFAULT_PATH: &str = "checkpoint";

fn images(cx: &Context, ask: &cli::Criu) -> Result<Images, Failure> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let empty = ask.empty_ns.iter().map(|name| {
        let unknown = || Failure { message: format!("--empty-ns {name:?}: is no namespace type"), code: 1 };
        Kind::from_name(name).ok_or_else(unknown)
    });
    Ok(Images {
        program: cx.global.criu.as_deref().map_or_else(|| "criu".to_owned(), |p| p.to_string_lossy().into_owned()),
        path: absolute(ask.image_path.as_deref().unwrap_or(Path::new(DEFAULT_PATH))),
        work: ask.work_path.as_deref().map(absolute),
        tcp_established: ask.tcp_established,
        ext_unix_sk: ask.ext_unix_sk,
        shell_job: ask.shell_job,
        lazy_pages: ask.lazy_pages,
        file_locks: ask.file_locks,
        // The numbers of CRIU's criu_cg_mode.
        cgroups_mode: ask.manage_cgroups_mode.map(|mode| match mode {
            CgroupsMode::Ignore => 0,
            CgroupsMode::Soft => 3,
            CgroupsMode::Full => 4,
            CgroupsMode::Strict => 5,
        }),
        empty: empty.collect::<Result<_, _>>()?,
        auto_dedup: ask.auto_dedup,
    })
}

/// `checkpoint`.
pub(super) fn checkpoint(cx: &Context, ask: cli::Checkpoint) -> Outcome {
    let request = Checkpoint {
        images: images(cx, &ask.criu)?,
        id: ask.id,
        parent: ask.parent_path,
        leave_running: ask.leave_running,
        pre_dump: ask.pre_dump,
        status_fd: ask.status_fd,
        page_server: ask.page_server,
    };
    checkpoint::checkpoint(&cx.root().0, &request, &mut |text| cx.log.warn(&text))?;
    Ok(0)
}

/// `restore`.
pub(super) fn restore(cx: &Context, ask: cli::Restore) -> Outcome {
    let bundle = Bundle::load(ask.create.bundle.as_deref().unwrap_or(Path::new(".")))?;
    let (spec, _) = bundle.spec()?;
    let wants_terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    let console = if wants_terminal && !ask.detach && ask.create.console_socket.is_none() {
        None
    } else {
        console(ask.create.console_socket.as_deref(), wants_terminal, ask.detach)?
    };
    let pidfd_socket = create::connect(ask.create.pidfd_socket.as_deref())?;
    let images = images(cx, &ask.criu)?;
    let monitor = if ask.detach { None } else { Some(Monitor::begin().map_err(container::Error::from)?) };
    let request = Restore {
        root: cx.root_to_make_in(),
        request: Request { gated: false, ..create::request(cx, &ask.create, &bundle) },
        images,
        console,
        pid_file: ask.create.pid_file.as_ref().map(|p: &PathBuf| std::path::absolute(p).unwrap_or_else(|_| p.clone())),
        lsm_profile: ask.lsm_profile,
        lsm_mount_context: ask.lsm_mount_context,
    };
    let restored = restore::restore(&bundle, request)?;
    for warning in &restored.warnings {
        cx.log.warn(&warning.to_string());
    }
    create::send_pidfd(pidfd_socket, &restored.pidfd)?;
    let Some(monitor) = monitor else { return Ok(0) };
    let ended = monitor.wait(restored.pidfd.as_fd(), restored.master).map_err(container::Error::from)?;
    container::delete(&cx.root().0, &restored.record.id, true, &mut |text| cx.log.warn(&text))?;
    Ok(u8::try_from(ended.status() & 0xff).unwrap_or(255))
}
