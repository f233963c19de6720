//! The mounts that an engine asks for below `rootfs`, and their end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::api::Mount;
use crate::sys::{self, idmap};

/// What mount(2) copies of the options.
const PAGE: usize = 4096;

/// Options as mount(2) takes them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parsed {
    flags: u64,
    propagation: Option<u64>,
    data: Vec<String>,
}

/// Mounts all of `mounts` in order; undoes them when one fails.
///
/// # Errors
/// A sentence with the index, the type and the system call.
pub fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), String> {
    for (index, one) in mounts.iter().enumerate() {
        if let Err(text) = mount_one(one, rootfs) {
            unmount(rootfs);
            return Err(format!("rootfs[{index}] ({} {}): {text}", one.kind, one.source));
        }
    }
    Ok(())
}

fn mount_one(request: &Mount, rootfs: &Path) -> Result<(), String> {
    let target = target(rootfs, &request.target)?;
    match Mapping::of(&request.options)? {
        None => mount_plain(request, &target),
        Some(mapping) => mapping.mount(request, &target),
    }
}

fn mount_plain(request: &Mount, target: &Path) -> Result<(), String> {
    let parsed = parse(&request.options);
    let data = parsed.data.join(",");
    let bind = MsFlags::from_bits_truncate(parsed.flags).contains(MsFlags::MS_BIND);
    let flags = MsFlags::from_bits_truncate(parsed.flags);
    let said = |errno: Errno| format!("mount to {}: {errno}", target.display());
    if data.len() < PAGE {
        let data = (!data.is_empty()).then_some(data.as_str());
        mount(Some(request.source.as_str()), target, Some(request.kind.as_str()), flags, data).map_err(said)?;
    } else {
        mount_long_overlay(request, target, flags, &parsed.data)?;
    }
    if bind && flags.intersects(MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC) {
        // A bind mount takes its flags only when it is remounted.
        mount(None::<&str>, target, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>).map_err(said)?;
    }
    if let Some(propagation) = parsed.propagation {
        let flags = MsFlags::from_bits_truncate(propagation);
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(said)?;
    }
    Ok(())
}

/// An engine's wish for a root file system whose ids are shifted into the container's user namespace.
struct Mapping {
    namespace: OwnedFd,
    rest: Vec<String>,
}

impl Mapping {
    /// The `uidmap=`/`gidmap=` options, `inside:outside:count`, several joined by commas.
    fn of(options: &[String]) -> Result<Option<Mapping>, String> {
        let lines = |name: &str| -> String {
            let given = options.iter().filter_map(|o| o.strip_prefix(name));
            given.flat_map(|list| list.split(',')).map(|map| format!("{}\n", map.replace(':', " "))).collect()
        };
        let (uids, gids) = (lines("uidmap="), lines("gidmap="));
        if uids.is_empty() && gids.is_empty() {
            return Ok(None);
        }
        let namespace = idmap::user_namespace(&uids, &gids).map_err(|e| format!("uidmap and gidmap: {e}"))?;
        let is_map = |o: &&String| o.starts_with("uidmap=") || o.starts_with("gidmap=");
        Ok(Some(Mapping { namespace, rest: options.iter().filter(|o| !is_map(o)).cloned().collect() }))
    }

    /// A mount's own mapping cannot be changed once it is in use, and an overlay is mapped by its layers. So layers are
    /// cloned, mapped and named to the overlay; other mounts are replaced by their mapped clone.
    fn mount(&self, request: &Mount, target: &Path) -> Result<(), String> {
        let plain = Mount { options: self.rest.clone(), ..request.clone() };
        if request.kind != "overlay" {
            mount_plain(&plain, target)?;
            let mapped = self.clone_of(target)?;
            unmount(target);
            return idmap::attach(&mapped, target).map_err(|e| format!("move_mount to {}: {e}", target.display()));
        }
        let mut layers = Layers(Vec::new());
        let mut options = Vec::new();
        for option in &self.rest {
            match option.strip_prefix("lowerdir=") {
                None => options.push(option.clone()),
                Some(list) => options.push(format!("lowerdir={}", self.layers(list, target, &mut layers)?)),
            }
        }
        // The overlay holds its layers by itself: their places go when `layers` does.
        mount_plain(&Mount { options, ..plain }, target)
    }

    fn layers(&self, list: &str, target: &Path, layers: &mut Layers) -> Result<String, String> {
        let beside = target.parent().unwrap_or(target);
        let mut paths = Vec::new();
        for (index, lower) in list.split(':').enumerate() {
            let place = beside.join(format!("lower-{index}"));
            fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
            layers.0.push(place.clone());
            let mapped = self.clone_of(Path::new(lower))?;
            idmap::attach(&mapped, &place).map_err(|e| format!("move_mount to {}: {e}", place.display()))?;
            paths.push(place.to_string_lossy().into_owned());
        }
        Ok(paths.join(":"))
    }

    fn clone_of(&self, path: &Path) -> Result<OwnedFd, String> {
        idmap::mapped_clone(path, self.namespace.as_fd())
            .map_err(|e| format!("id-mapped clone of {}: {e}", path.display()))
    }
}

/// Places where mapped layers are visible while an overlay is mounted.
struct Layers(Vec<PathBuf>);

impl Drop for Layers {
    fn drop(&mut self) {
        for place in &self.0 {
            unmount(place);
            // An empty directory of ours; if it stays, the engine removes it with the bundle.
            let _ = fs::remove_dir(place);
        }
    }
}

/// A target below rootfs, which the engine chose and the image did not; still, it may not climb out.
fn target(rootfs: &Path, below: &str) -> Result<PathBuf, String> {
    let below = Path::new(below.trim_start_matches('/'));
    if below.components().any(|c| matches!(c, std::path::Component::ParentDir)) {
        return Err(format!("target {}: leaves the root file system", below.display()));
    }
    Ok(if below.as_os_str().is_empty() { rootfs.to_owned() } else { rootfs.join(below) })
}

/// An overlay of many layers has more options than a page. Relative to the layers' common directory they fit, and only a
/// child can be in another directory without moving the shim.
fn mount_long_overlay(request: &Mount, target: &Path, flags: MsFlags, options: &[String]) -> Result<(), String> {
    let lower = options.iter().find_map(|o| o.strip_prefix("lowerdir=")).ok_or("its options exceed a page")?;
    let layers: Vec<&str> = lower.split(':').collect();
    let base = common_directory(&layers).ok_or("the lower directories have no common parent")?;
    let short: Vec<&str> = layers.iter().map(|l| l[base.len()..].trim_start_matches('/')).collect();
    let data: Vec<String> = options
        .iter()
        .map(|o| if o.starts_with("lowerdir=") { format!("lowerdir={}", short.join(":")) } else { o.clone() })
        .collect();
    let data = data.join(",");
    if data.len() >= PAGE {
        return Err(format!("its options need {} bytes, the kernel takes {PAGE}", data.len()));
    }
    match sys::fork().map_err(|e| format!("fork: {e}"))? {
        None => {
            let done = nix::unistd::chdir(base.as_str()).and_then(|()| {
                mount(Some(request.source.as_str()), target, Some(request.kind.as_str()), flags, Some(data.as_str()))
            });
            sys::exit_now(done.map_or_else(|errno| errno as i32, |()| 0));
        }
        Some(child) => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, errno)) => {
                    return Err(format!("mount to {}: {}", target.display(), Errno::from_raw(errno)));
                }
                Err(Errno::EINTR) => {}
                other => return Err(format!("mount helper: {other:?}")),
            }
        },
    }
}

/// The longest directory that all paths lie in.
fn common_directory(paths: &[&str]) -> Option<String> {
    let mut common: Vec<&str> = Path::new(paths.first()?).parent()?.to_str()?.split('/').collect();
    for path in paths {
        let parts: Vec<&str> = path.split('/').collect();
        let same = common.iter().zip(&parts).take_while(|(a, b)| a == b).count();
        // Never the whole path: something must be left to name.
        common.truncate(same.min(parts.len().saturating_sub(1)));
    }
    (common.len() > 1).then(|| common.join("/"))
}

fn parse(options: &[String]) -> Parsed {
    let mut parsed = Parsed::default();
    for option in options {
        match flag(option) {
            Some((true, bits)) => parsed.flags |= bits,
            Some((false, bits)) => parsed.flags &= !bits,
            None => match propagation(option) {
                Some(bits) => parsed.propagation = Some(bits),
                None if option == "defaults" || option == "loop" => {}
                None => parsed.data.push(option.clone()),
            },
        }
    }
    parsed
}

/// The names of mount(8) for the flags of mount(2), and whether a name sets or clears.
fn flag(name: &str) -> Option<(bool, u64)> {
    let (set, bits) = match name {
        "ro" => (true, MsFlags::MS_RDONLY),
        "rw" => (false, MsFlags::MS_RDONLY),
        "nosuid" => (true, MsFlags::MS_NOSUID),
        "suid" => (false, MsFlags::MS_NOSUID),
        "nodev" => (true, MsFlags::MS_NODEV),
        "dev" => (false, MsFlags::MS_NODEV),
        "noexec" => (true, MsFlags::MS_NOEXEC),
        "exec" => (false, MsFlags::MS_NOEXEC),
        "sync" => (true, MsFlags::MS_SYNCHRONOUS),
        "async" => (false, MsFlags::MS_SYNCHRONOUS),
        "dirsync" => (true, MsFlags::MS_DIRSYNC),
        "remount" => (true, MsFlags::MS_REMOUNT),
        "mand" => (true, MsFlags::MS_MANDLOCK),
        "nomand" => (false, MsFlags::MS_MANDLOCK),
        "noatime" => (true, MsFlags::MS_NOATIME),
        "atime" => (false, MsFlags::MS_NOATIME),
        "nodiratime" => (true, MsFlags::MS_NODIRATIME),
        "diratime" => (false, MsFlags::MS_NODIRATIME),
        "bind" => (true, MsFlags::MS_BIND),
        "rbind" => (true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
        "relatime" => (true, MsFlags::MS_RELATIME),
        "norelatime" => (false, MsFlags::MS_RELATIME),
        "strictatime" => (true, MsFlags::MS_STRICTATIME),
        "nostrictatime" => (false, MsFlags::MS_STRICTATIME),
        _ => return None,
    };
    Some((set, bits.bits()))
}

fn propagation(name: &str) -> Option<u64> {
    let (bits, recursive) = match name.strip_prefix('r').unwrap_or(name) {
        "private" => (MsFlags::MS_PRIVATE, name != "private"),
        "shared" => (MsFlags::MS_SHARED, name != "shared"),
        "slave" => (MsFlags::MS_SLAVE, name != "slave"),
        "unbindable" => (MsFlags::MS_UNBINDABLE, name != "unbindable"),
        _ => return None,
    };
    Some(if recursive { bits | MsFlags::MS_REC } else { bits }.bits())
}

/// Takes everything away that is mounted on `rootfs`, however often; submounts go with it.
pub fn unmount(rootfs: &Path) {
    // Bounded: nobody stacks more mounts than this by accident, and a runaway would be an attack.
    for _ in 0..64 {
        if umount2(rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_err() {
            return;
        }
    }
}

/// Makes the directory on which the root file system is mounted.
///
/// # Errors
/// `mkdir`'s, except that it exists.
pub fn make_rootfs(rootfs: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o711).create(rootfs) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, common_directory, parse, target};
    use nix::mount::MsFlags;
    use std::path::Path;

    #[test]
    fn options_are_flags_or_data() {
        let given = ["rbind", "ro", "nosuid", "suid", "rprivate", "lowerdir=/a:/b", "defaults"].map(str::to_owned);
        let flags = (MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY).bits();
        let propagation = Some((MsFlags::MS_PRIVATE | MsFlags::MS_REC).bits());
        assert_eq!(parse(&given), Parsed { flags, propagation, data: vec!["lowerdir=/a:/b".into()] });
    }

    #[test]
    fn the_common_directory_leaves_a_name_for_each() {
        let paths = ["/var/lib/s/1/fs", "/var/lib/s/22/fs"];
        assert_eq!(common_directory(&paths).as_deref(), Some("/var/lib/s"));
        assert_eq!(common_directory(&["/a/b/c", "/a/b"]).as_deref(), Some("/a"));
        assert_eq!(common_directory(&["/a", "/b"]), None);
        assert_eq!(common_directory(&["rel/a", "/b"]), None);
    }

    #[test]
    fn a_target_stays_inside() {
        assert!(target(Path::new("/r"), "../x").is_err());
        assert_eq!(target(Path::new("/r"), "/data").unwrap(), Path::new("/r/data"));
        assert_eq!(target(Path::new("/r"), "").unwrap(), Path::new("/r"));
    }
}
