//! The rest of `linux`: devices, paths, propagation, personality, and what is not supported.

use super::{absolute, memory, namespaces, no_nul};
use crate::error::Problems;
use crate::field::Field;
use crate::spec::{Device, Linux};

/// The kernel's dev_t: twelve bits of major and twenty of minor number.
const MAJOR_LIMIT: i64 = 1 << 12;
/// See [`MAJOR_LIMIT`].
const MINOR_LIMIT: i64 = 1 << 20;

/// The part of a mode that says what kind of file it is.
const S_IFMT: u32 = 0o170_000;

pub(super) fn check(linux: &Linux<'_>, problems: &mut Problems) {
    for (i, device) in linux.devices.iter().enumerate() {
        self::device(i, device, problems);
        let same = |other: &Device<'_>| other.path == device.path;
        if let Some(first) = linux.devices[..i].iter().position(same)
            && !alike(&linux.devices[first], device)
        {
            let text = format!("{:?} is another device already in linux.devices[{first}]", device.path);
            problems.error(Field::at("linux.devices[].path", &[i]), text);
        }
    }
    for (path, paths) in
        [("linux.maskedPaths[]", &linux.masked_paths), ("linux.readonlyPaths[]", &linux.readonly_paths)]
    {
        for (i, value) in paths.iter().enumerate() {
            absolute(value, || Field::at(path, &[i]), problems);
        }
    }
    propagation(linux.rootfs_propagation.as_deref().unwrap_or_default(), problems);
    for (path, value) in [("linux.mountLabel", &linux.mount_label), ("linux.cgroupsPath", &linux.cgroups_path)] {
        no_nul(value.as_deref().unwrap_or_default(), || Field::new(path), problems);
    }
    personality(linux, problems);
    if let Some(policy) = &linux.memory_policy {
        memory::check(policy, problems);
    }
    unsupported(linux, problems);
}

/// config-linux.md, "Devices".
fn device(i: usize, device: &Device<'_>, problems: &mut Problems) {
    let field = |path| Field::at(path, &[i]);
    let kind = &*device.kind;
    let file_type = match kind {
        "c" | "u" => 0o020_000,
        "b" => 0o060_000,
        "p" => 0o010_000,
        _ => {
            problems.error(field("linux.devices[].type"), format!("{kind:?} is no type of device; c, b, u or p are"));
            0
        }
    };
    absolute(&device.path, || field("linux.devices[].path"), problems);
    for (path, number, limit) in
        [("linux.devices[].major", device.major, MAJOR_LIMIT), ("linux.devices[].minor", device.minor, MINOR_LIMIT)]
    {
        match number {
            None if kind != "p" => problems.error(field(path), format!("is required for type {kind:?}")),
            Some(number) if kind != "p" && !(0..limit).contains(&number) => {
                problems.error(field(path), format!("is {number}; it ranges from 0 to {}", limit - 1));
            }
            _ => {}
        }
    }
    // Some engines leave the file's type in the mode that they read from the host's device.
    if let Some(mode) = device.file_mode
        && (mode & !(S_IFMT | 0o7777) != 0 || (mode & S_IFMT != 0 && mode & S_IFMT != file_type))
    {
        let text = format!("is {mode} (0o{mode:o}), which is no mode of a device of type {kind:?}");
        problems.error_hint(field("linux.devices[].fileMode"), text, "JSON has no octal: 0o666 is 438");
    }
    for (path, id) in [("linux.devices[].uid", device.uid), ("linux.devices[].gid", device.gid)] {
        namespaces::id(id.unwrap_or_default(), &[], || field(path), problems);
    }
}

/// Whether two entries for one path ask for the same.
fn alike(a: &Device<'_>, b: &Device<'_>) -> bool {
    let parts = |d: &Device<'_>| (d.major, d.minor, d.file_mode, d.uid, d.gid);
    a.kind == b.kind && parts(a) == parts(b)
}

/// config-linux.md, "Rootfs Mount Propagation"; with a leading `r`, as engines write it, for all mounts below too.
fn propagation(value: &str, problems: &mut Problems) {
    let plain = ["", "private", "shared", "slave", "unbindable"].contains(&value);
    let recursive = ["rprivate", "rshared", "rslave", "runbindable"].contains(&value);
    if !plain && !recursive {
        let text = format!("{value:?} is no propagation");
        problems.error_hint(Field::new("linux.rootfsPropagation"), text, "shared, slave, private or unbindable");
    }
}

/// config-linux.md, "Personality".
fn personality(linux: &Linux<'_>, problems: &mut Problems) {
    let Some(personality) = &linux.personality else { return };
    let domain = &*personality.domain;
    if !matches!(domain, "LINUX" | "LINUX32") {
        let text = format!("{domain:?} is no execution domain; LINUX and LINUX32 are");
        problems.error(Field::new("linux.personality.domain"), text);
    }
    for (i, flag) in personality.flags.iter().enumerate() {
        let text = format!("{flag:?} is no flag: the specification has none");
        problems.error(Field::at("linux.personality.flags[]", &[i]), text);
    }
}

/// "Runtimes MUST generate an error when … unsupported values are encountered" (config.md, "Valid values").
fn unsupported(linux: &Linux<'_>, problems: &mut Problems) {
    if linux.intel_rdt.is_some() {
        problems.error(Field::new("linux.intelRdt"), "is not supported by this version");
    }
}
