//! `exec`.

use std::ffi::OsStr;
use std::path::Path;

use super::create::{console, receive_master, send_pidfd};
use super::{Context, Failure, Outcome};
use crate::cli;
use crate::compile::exec::{Ask, Flags, SubCgroup};
use crate::container::{self, exec::Exec};
use crate::monitor::Monitor;
use crate::parse;
use crate::sys::{errno_text, fs, socket};

/// `exec`: whatever keeps the command from running is its own exit code.
pub(super) fn exec(cx: &Context, ask: cli::Exec) -> Outcome {
    execute(cx, ask).map_err(|f| Failure { message: format!("exec failed: {}", f.message), code: 255 })
}

fn execute(cx: &Context, ask: cli::Exec) -> Outcome {
    let text = ask.process.as_deref().map(read).transpose()?;
    let process = match &text {
        Some(text) => Some(parse::process(text).map_err(container::Error::from)?.0),
        None => None,
    };
    present(ask.preserve_fds)?;
    let wants_terminal = ask.tty || process.as_ref().is_some_and(|p| p.terminal);
    let mut ours = None;
    let console = if wants_terminal && !ask.detach && ask.console_socket.is_none() {
        let (one, other) = socket::pair().map_err(container::Error::from)?;
        ours = Some(one);
        Some(other)
    } else {
        console(ask.console_socket.as_deref(), wants_terminal, ask.detach)?
    };
    let pidfd_socket = super::create::connect(ask.pidfd_socket.as_deref())?;
    // Held back from here on, so that none is lost between the clone and the wait.
    let monitor = if ask.detach { None } else { Some(Monitor::begin().map_err(container::Error::from)?) };
    let mut master = Ok(None);
    let executed = container::exec::exec(Exec {
        root: cx.root().0,
        id: ask.id.clone(),
        ask: Ask { process, flags: flags(&ask)?, cgroups: ask.cgroups.into_iter().map(sub_cgroup).collect() },
        preserve_fds: ask.preserve_fds,
        ignore_paused: ask.ignore_paused,
        console,
        // Before the program can write its first line.
        ready: &mut || master = receive_master(ours.take()),
        pid_file: ask.pid_file.map(|p| std::path::absolute(&p).unwrap_or(p)),
    })?;
    for warning in &executed.warnings {
        cx.log.warn(&warning.to_string());
    }
    send_pidfd(pidfd_socket, &executed.pidfd)?;
    let Some(monitor) = monitor else { return Ok(0) };
    let ended = monitor.wait(std::os::fd::AsFd::as_fd(&executed.pidfd), master?).map_err(container::Error::from)?;
    Ok(u8::try_from(ended.status() & 0xff).unwrap_or(255))
}

fn failed(message: String) -> Failure {
    Failure { message, code: 255 }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    container::read_bounded(path).map_err(|e| {
        let reason = e.raw_os_error().map_or_else(|| e.to_string(), errno_text);
        failed(format!("--process {}: {reason}", path.display()))
    })
}

/// A descriptor that is promised to the program must be there.
fn present(preserve: u32) -> Result<(), Failure> {
    let missing = (3..3i32.saturating_add_unsigned(preserve)).find(|fd| fs::standard_stream(*fd).is_err());
    match missing {
        Some(fd) => Err(failed(format!("--preserve-fds: descriptor {fd} (of {preserve} from 3 on) is not open"))),
        None => Ok(()),
    }
}

fn sub_cgroup(ask: cli::SubCgroup) -> SubCgroup {
    SubCgroup { controllers: ask.controllers, path: ask.path }
}

fn flags(ask: &cli::Exec) -> Result<Flags, Failure> {
    let text = |s: &OsStr, what: &str| {
        s.to_str().map(str::to_owned).ok_or_else(|| failed(format!("{what} {s:?} is no UTF-8")))
    };
    let all = |list: &[std::ffi::OsString], what: &str| list.iter().map(|s| text(s, what)).collect::<Result<_, _>>();
    Ok(Flags {
        args: all(&ask.args, "argument")?,
        cwd: ask.cwd.as_ref().map(|p| text(p.as_os_str(), "--cwd")).transpose()?,
        env: all(&ask.env, "--env")?,
        tty: ask.tty,
        uid: ask.user.map(|u| u.uid),
        gid: ask.user.and_then(|u| u.gid),
        additional_gids: ask.additional_gids.clone(),
        process_label: ask.process_label.clone(),
        apparmor: ask.apparmor.clone(),
        no_new_privs: ask.no_new_privs,
        caps: ask.caps.clone(),
    })
}
