//! What can be known to be wrong before the first case: each gives one sentence that names the option.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::schedule::Plan;

/// The runtimes as they are called from any directory: a path becomes absolute, a name must be in PATH.
///
/// # Errors
/// A program that is not there or cannot be executed; a name that two runtimes have.
pub(crate) fn runtimes(given: &[(String, Vec<String>)]) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut names = BTreeSet::new();
    let found = given.iter().map(|(name, command)| {
        if !names.insert(name) {
            return Err(format!(
                "--runtime: two are named {name}; name one of them: --runtime OTHER={}",
                command.join(" ")
            ));
        }
        let (program, args) = command.split_first().ok_or("--runtime needs a program")?;
        let mut whole = vec![executable(program).map_err(|why| format!("--runtime {program}: {why}"))?];
        whole.extend_from_slice(args);
        Ok((name.clone(), whole))
    });
    found.collect()
}

/// Path of a program that can be executed.
fn executable(program: &str) -> Result<String, String> {
    let runs = |path: &Path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if !program.contains('/') {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|dir| runs(&dir.join(program)));
        return if found { Ok(program.to_owned()) } else { Err("no such program in PATH".into()) };
    }
    let path = std::path::absolute(program).map_err(|e| e.to_string())?;
    let about = fs::metadata(&path).map_err(|e| e.to_string())?;
    if about.is_dir() {
        return Err("is a directory".into());
    }
    if !runs(&path) {
        return Err("cannot be executed".into());
    }
    Ok(path.to_string_lossy().into_owned())
}

/// Whether the run can be made at all.
///
/// # Errors
/// Not root, no probe, or a working directory that is somebody's already and would be removed at the end.
pub(crate) fn run(plan: &Plan) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("cases make namespaces, mounts and cgroups: run it as root".into());
    }
    if !plan.probe.is_file() {
        return Err(format!("--probe {}: no such program; cargo build -p conformance makes it", plan.probe.display()));
    }
    match fs::symlink_metadata(&plan.work) {
        Ok(_) => Err(format!("--work {}: is there already; it is made and removed here", plan.work.display())),
        Err(_) => Ok(()),
    }
}

/// Whether the files of a report can be written. One that is new is left out again.
///
/// # Errors
/// The first that cannot, with its option.
pub(crate) fn outputs<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    for (option, path) in files.filter(|(_, path)| *path != "-") {
        let is_new = !Path::new(path).exists();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|e| format!("--{option} {path}: {e}"))?;
        if is_new {
            fs::remove_file(path).map_err(|e| format!("--{option} {path}: {e}"))?;
        }
    }
    Ok(())
}

/// Whether there is a folder of programs to run.
///
/// # Errors
/// There is none.
pub(crate) fn folder(option: &str, path: &str) -> Result<PathBuf, String> {
    fs::read_dir(path).map(|_| PathBuf::from(path)).map_err(|e| format!("--{option} {path}: {e}"))
}
