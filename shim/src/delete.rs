//! The `delete` action: the engine calls it after every end of a shim, so usually there is nothing left to do, and then
//! nothing is done. Else it removes what a dead shim left.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use crate::api::DeleteResponse;
use crate::bundle::Bundle;
use crate::cli::Arguments;
use crate::options::Options;
use crate::reaper::Reaper;
use crate::runtime::{Runtime, find};
use crate::wire::Message;
use crate::{mounts, socket, stray, sys};

/// The engine gives up after five seconds; a hanging runtime must not take the rest of the clean-up with it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// 128 + SIGKILL: how a container ends that outlived its shim.
const KILLED: u32 = 137;

/// Runs the action; gives what is to be printed and what is to be warned of.
///
/// # Errors
/// When it is not even known which container is meant.
pub fn delete(arguments: &Arguments) -> Result<(Vec<u8>, Vec<String>), String> {
    let until = Instant::now() + PATIENCE;
    let bundle = Bundle::at(bundle(arguments)?);
    let mut warnings = Vec::new();
    let pid = bundle.pid("init.pid").unwrap_or(0);
    let turn = turn(&bundle, until);
    if let Some(options) = bundle.begun() {
        match turn.as_ref().map_err(Clone::clone).and_then(|_| delete_container(arguments, options, &bundle, until)) {
            Ok(()) => bundle.end(),
            Err(text) => warnings.push(text),
        }
    }
    mounts::unmount(&bundle.rootfs());
    remove_dead_socket(&bundle);
    let answer = DeleteResponse { pid, exit_status: KILLED, exited_at: Some(SystemTime::now().into()) };
    Ok((answer.encode(), warnings))
}

/// The bundle: as told, or beside the current one, because an engine may run this in another group member's.
fn bundle(arguments: &Arguments) -> Result<PathBuf, String> {
    if let Some(path) = &arguments.bundle {
        return Ok(path.clone());
    }
    if arguments.id.is_empty() || arguments.id.contains('/') || arguments.id.starts_with('.') {
        return Err(format!("-id {:?} is no valid name", arguments.id));
    }
    let here = std::env::current_dir().map_err(|e| format!("current directory: {e}"))?;
    here.parent().map(|above| above.join(&arguments.id)).ok_or_else(|| "the current directory has no parent".to_owned())
}

/// Lets one action at a time work on a bundle: containerd 1.6 runs two at once for a shim that does not answer when it comes
/// back, and the second would take the first one's runtime for a stray. The kernel takes the lock back from the dead.
fn turn(bundle: &Bundle, until: Instant) -> Result<Option<File>, String> {
    // Without a bundle there is nothing to take turns at.
    let Ok(dir) = File::open(bundle.path()) else { return Ok(None) };
    loop {
        match dir.try_lock() {
            Ok(()) => return Ok(Some(dir)),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(format!("{}: another delete is at work here: {error}", bundle.path().display())),
        }
    }
}

fn delete_container(arguments: &Arguments, options: Options, bundle: &Bundle, until: Instant) -> Result<(), String> {
    stray::end(&bundle.file("log.json"));
    let binary = find(options.binary())?;
    let runtime = Runtime::new(options, &arguments.namespace, bundle, Rc::new(Reaper::default()))?;
    let line = runtime.command_line("delete", &["--force", &arguments.id]);
    let child = Command::new(binary)
        .args(&line[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{}: {e}", line[0]))?;
    match finish(child, until).map_err(|e| format!("{} delete --force {}: {e}", line[0], arguments.id))? {
        status if status.success() => Ok(()),
        status => Err(format!(
            "{} delete --force {}: {status}{}",
            line[0],
            arguments.id,
            runtime.logged().map(|words| format!(": {words}")).unwrap_or_default()
        )),
    }
}

/// Waits for a command that leads a process group, and ends the group when it takes longer than `until`.
///
/// # Errors
/// `waitpid`'s; a sentence with the time that there was.
pub(crate) fn finish(mut child: Child, until: Instant) -> Result<ExitStatus, String> {
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => return Ok(status),
            None if Instant::now() > until => {
                // It is told to end; whether it does is not waited for.
                let _ = i32::try_from(child.id()).map(|pid| sys::kill(-pid, libc::SIGKILL));
                return Err(format!("no end within {PATIENCE:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The socket that `start` noted, if nobody answers there any more.
fn remove_dead_socket(bundle: &Bundle) {
    let Ok(address) = fs::read_to_string(bundle.file("address")) else { return };
    let Some(path) = address.trim().strip_prefix("unix://").map(Path::new) else { return };
    if socket::is_served(path).is_ok_and(|served| !served) {
        // Somebody else may have removed it meanwhile.
        let _ = fs::remove_file(path);
    }
}
