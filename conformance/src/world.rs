//! What a case lays out on the host before the runtime is called (`given`): files, mounts, namespaces to join, listeners.
//!
//! Everything lives below the case's directory or in the case's own namespaces, so that nothing needs undoing.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use serde_json::{Map, Value, json};

use crate::listen;

/// What `given` entries made that later steps refer to.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// `${NAME}` → value, for the config and the steps.
    pub(crate) names: Map<String, Value>,
    /// Processes that sit in namespaces; they end with the case's pid namespace.
    pub(crate) holders: Vec<Child>,
    /// Messages that listeners received.
    pub(crate) heard: listen::Heard,
}

const VERBS: [&str; 17] = [
    "dir",
    "file",
    "symlink",
    "node",
    "fifo",
    "mount",
    "remount",
    "share",
    "copy",
    "host-shared",
    "cgroup",
    "umask",
    "write",
    "hold",
    "run",
    "listen",
    "console",
];

/// Lays out one entry. Paths are below `dir` unless absolute.
///
/// # Errors
/// What could not be made, in words; the case then says nothing about the runtime.
pub(crate) fn lay(world: &mut World, dir: &Path, probe: &str, entry: &Value) -> Result<(), String> {
    let (verb, what) = verb(entry)?;
    let path = dir.join(what.as_str().unwrap_or_default());
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    let done: std::io::Result<()> = match verb {
        "dir" => fs::create_dir_all(&path),
        "file" => parent(&path).and_then(|()| fs::write(&path, text("text"))),
        "symlink" => parent(&path).and_then(|()| symlink(text("to"), &path)),
        "node" => parent(&path).and_then(|()| node(&path, entry)),
        "fifo" => parent(&path).and_then(|()| Ok(nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o644))?)),
        "mount" => fs::create_dir_all(&path).and_then(|()| mount_at(&path, entry)),
        "remount" | "share" => flag(&path, entry),
        "copy" => parent(&path).and_then(|()| fs::copy(probe, &path).map(drop)),
        // Most hosts have every mount shared; the runner made this one's private.
        "host-shared" => share_all(),
        "cgroup" => return group(world, what.as_str().unwrap_or_default(), entry),
        "umask" => {
            umask(Mode::from_bits_truncate(u32::from_str_radix(text("umask"), 8).unwrap_or(0o22)));
            return Ok(());
        }
        "write" => {
            fs::OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(text("text").as_bytes()))
        }
        "hold" => return hold(world, probe, what.as_str().unwrap_or_default(), text("as")),
        "run" => return run(dir, what),
        "listen" => UnixListener::bind(&path).map(|l| listen::serve(&l, &world.heard, None)),
        // "console", the last of VERBS.
        _ => UnixListener::bind(&path).map(|l| listen::serve(&l, &world.heard, Some(dir.join("out")))),
    };
    done.and_then(|()| dress(&path, entry)).map_err(|e| format!("given {verb} {}: {e}", path.display()))
}

/// What an entry lays out, and with which argument: the one member that is a verb. The others say how.
fn verb(entry: &Value) -> Result<(&'static str, &Value), String> {
    let mut found = VERBS.iter().filter_map(|verb| Some((*verb, entry.get(verb)?)));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(format!("not one verb in `given`: {entry}")),
    }
}

fn parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Mode and owner of what was made, where the entry names them.
fn dress(path: &Path, entry: &Value) -> std::io::Result<()> {
    let id = |key: &str| entry[key].as_u64().and_then(|n| u32::try_from(n).ok());
    if id("uid").or(id("gid")).is_some() {
        chown(path, id("uid"), id("gid"))?;
    }
    if let Some(mode) = entry["mode"].as_str().and_then(|m| u32::from_str_radix(m, 8).ok()) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn node(path: &Path, entry: &Value) -> std::io::Result<()> {
    let kind = if entry["type"] == "b" { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let number = makedev(entry["major"].as_u64().unwrap_or(0), entry["minor"].as_u64().unwrap_or(0));
    Ok(mknod(path, kind, Mode::from_bits_truncate(0o666), number)?)
}

fn mount_at(path: &Path, entry: &Value) -> std::io::Result<()> {
    let kind = entry["type"].as_str().unwrap_or("tmpfs");
    let flags = words(entry).fold(MsFlags::empty(), |all, word| all | flag_of(word));
    Ok(mount(Some("conformance"), path, Some(kind), flags, entry["data"].as_str())?)
}

fn share_all() -> std::io::Result<()> {
    let none: Option<&str> = None;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)?)
}

/// Changes flags or propagation of a mount of ours; a directory becomes a mount first.
fn flag(path: &Path, entry: &Value) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    let none: Option<&str> = None;
    if entry.get("bind").is_some() {
        mount(Some(path), path, none, MsFlags::MS_BIND, none)?;
    }
    for word in words(entry) {
        let flag = flag_of(word);
        let propagation = MsFlags::MS_SHARED | MsFlags::MS_SLAVE | MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE;
        let how = if propagation.contains(flag) { flag } else { flag | MsFlags::MS_REMOUNT | MsFlags::MS_BIND };
        mount(none, path, none, how, none)?;
    }
    Ok(())
}

fn words(entry: &Value) -> impl Iterator<Item = &str> {
    entry["options"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn flag_of(word: &str) -> MsFlags {
    match word {
        "ro" => MsFlags::MS_RDONLY,
        "nosuid" => MsFlags::MS_NOSUID,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "noatime" => MsFlags::MS_NOATIME,
        "relatime" => MsFlags::MS_RELATIME,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "nosymfollow" => MsFlags::from_bits_retain(256),
        "strictatime" => MsFlags::MS_STRICTATIME,
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "private" => MsFlags::MS_PRIVATE,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => MsFlags::empty(),
    }
}

/// Makes the container's group of one v1 controller beforehand and writes a file of it. The ancestors get the value too where the
/// kernel shares it out (realtime budgets).
fn group(world: &World, controller: &str, entry: &Value) -> Result<(), String> {
    let path = world.names.get("CGROUP").and_then(Value::as_str).unwrap_or_default();
    let file = entry["key"].as_str().unwrap_or_default();
    let mounts = crate::kernel::cgroup_mounts();
    let mount = mounts.get(controller).ok_or(format!("given cgroup: no {controller} here"))?;
    let full = PathBuf::from(format!("{mount}{path}"));
    let say = |e: std::io::Error| format!("given cgroup {}/{file}: {e}", full.display());
    fs::create_dir_all(&full).map_err(say)?;
    if let Some(above) = full.parent().filter(|_| file.contains("rt_runtime")) {
        fs::write(above.join(file), entry["text"].as_str().unwrap_or_default()).map_err(say)?;
    }
    fs::write(full.join(file), entry["text"].as_str().unwrap_or_default()).map_err(say)
}

/// Starts a process in new namespaces; `${name}` becomes its pid.
fn hold(world: &mut World, probe: &str, list: &str, name: &str) -> Result<(), String> {
    let mut child = Command::new(probe)
        .args(["hold", list])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("hold {list}: {e}"))?;
    let mut line = String::new();
    let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    let pid: u32 = line.trim().parse().map_err(|_| format!("hold {list}: no such namespaces here ({read:?})"))?;
    world.names.insert(name.to_owned(), json!(pid.to_string()));
    let spaces = crate::kernel::namespaces(&pid.to_string());
    world.names.insert(format!("{name}:ns"), spaces);
    world.holders.push(child);
    Ok(())
}

/// Runs a host tool, such as ip(8).
fn run(dir: &Path, what: &Value) -> Result<(), String> {
    let words: Vec<&str> = what.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (program, args) = words.split_first().ok_or("an empty command")?;
    let out = Command::new(program).args(args).current_dir(dir).output().map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        Ok(())
    } else {
        Err(format!("{words:?}: {}", String::from_utf8_lossy(&out.stderr).trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_given_of_the_suite_has_one_verb() {
        let mut seen = 0;
        for case in crate::case::load().unwrap().cases {
            let later = case.steps.iter().filter(|step| step["do"] == "given").map(|step| &step["what"]);
            for entry in case.given.iter().chain(later) {
                assert!(verb(entry).is_ok(), "{}: {entry}", case.name);
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen}");
        assert!(verb(&json!({"file": "a", "dir": "b"})).is_err() && verb(&json!({"text": "a"})).is_err());
    }
}
