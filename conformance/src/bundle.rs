//! The bundle that every case starts from: a small root filesystem with the probe in it, and the base config.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Directories of the root filesystem: enough for every usual mount.
const DIRS: [&str; 9] = ["proc", "sys", "dev", "tmp", "etc", "data", "data/sub", "mnt", "bin"];

/// Makes `bundle/rootfs`. The probe is linked, not copied, where the filesystem allows it.
///
/// # Errors
/// The directory or file that could not be made.
pub(crate) fn rootfs(bundle: &Path, probe: &Path) -> Result<(), String> {
    let root = bundle.join("rootfs");
    let say = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    for dir in DIRS {
        let path = root.join(dir);
        fs::create_dir_all(&path).map_err(|e| say(&path, e))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).map_err(|e| say(&root, e))?;
    for (name, text) in [("etc/file", "file of the image\n"), ("data/below", "below\n")] {
        fs::write(root.join(name), text).map_err(|e| say(&root.join(name), e))?;
    }
    let target = root.join("probe");
    fs::hard_link(probe, &target).or_else(|_| fs::copy(probe, &target).map(drop)).map_err(|e| say(&target, e))?;
    fs::write(bundle.join("config.json"), "{}").map_err(|e| say(bundle, e))
}
