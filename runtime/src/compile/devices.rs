//! `linux.devices`, the default devices and the links of `/dev`.

use super::mounts::inside;
use super::options::parse;
use super::{Chapter, cstring};
use crate::abi::{file, makedev};
use crate::field::Field;
use crate::op::{DeviceOp, InitOp};
use crate::plan::{Act, Step};
use crate::spec::Device;

/// EPERM: mknod(2) is refused in a user namespace, and by a device cgroup above.
const REFUSED: &[i32] = &[1];

/// The devices that every container has (config-linux.md, Default Devices).
pub(super) const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links (runtime-linux.md, Dev symbolic links), each with what must exist inside for it.
const LINKS: [(&str, &str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd", "/proc/self/fd"),
    ("/proc/self/fd/0", "/dev/stdin", "/proc/self/fd"),
    ("/proc/self/fd/1", "/dev/stdout", "/proc/self/fd"),
    ("/proc/self/fd/2", "/dev/stderr", "/proc/self/fd"),
    ("/proc/kcore", "/dev/core", "/proc/kcore"),
];

/// Devices and links, unless the whole of `/dev` is bound from elsewhere and thus another's.
pub(super) fn all(ch: &mut Chapter<'_>) {
    if ch.spec.root.is_none() {
        return;
    }
    let bound = ch.spec.mounts.iter().any(|m| {
        inside(&m.destination) == "/dev"
            && (parse(m.options.iter().map(|o| &**o)).bind.is_some() || m.kind.as_deref() == Some("bind"))
    });
    let linux = ch.linux;
    if !bound {
        for (path, major, minor) in DEFAULT {
            if !linux.devices.iter().any(|d| inside(&d.path) == path) {
                let mode = file::CHR | 0o666;
                push(ch, path, mode, makedev(major, minor), (0, 0), Field::new("(default devices)"));
            }
        }
        let from = || Field::new("(default links)");
        for (target, path, only_if) in LINKS {
            let [target, path, only_if] = [target, path, only_if].map(|s| cstring(s, &from(), ch.problems));
            let op = InitOp::Symlink { target, path, only_if: Some(only_if), replace: false };
            ch.lanes.init.push(Step::init(op, from()));
        }
        let (target, path) = (c"pts/ptmx".to_owned(), c"/dev/ptmx".to_owned());
        let op = InitOp::Symlink { target, path, only_if: None, replace: true };
        ch.lanes.init.push(Step::init(op, from()));
    }
    for (i, device) in linux.devices.iter().enumerate() {
        configured(ch, device, i);
    }
}

fn configured(ch: &mut Chapter<'_>, device: &Device<'_>, i: usize) {
    let kind = match &*device.kind {
        "c" | "u" => file::CHR,
        "b" => file::BLK,
        "p" => file::FIFO,
        // `validate` has said so.
        _ => return,
    };
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let rdev = match (kind, number(device.major), number(device.minor)) {
        (file::FIFO, ..) => 0,
        (_, Some(major), Some(minor)) => makedev(major, minor),
        _ => return,
    };
    let mode = kind | (device.file_mode.unwrap_or(0o666) & 0o7777);
    let owner = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    push(ch, &inside(&device.path), mode, rdev, owner, Field::at("linux.devices[]", &[i]));
}

fn push(ch: &mut Chapter<'_>, path: &str, mode: u32, rdev: u64, (uid, gid): (u32, u32), field: Field) {
    let bind = (ch.namespaces.user || ch.facts.rootless()) && mode & file::FMT != file::FIFO;
    let path = cstring(path, &field, ch.problems);
    let op = DeviceOp { host: path.clone(), path, mode, rdev, uid, gid, bind };
    let step = Step::init(InitOp::Device(op.clone()), field);
    ch.lanes.init.push(if bind || mode & file::FMT == file::FIFO {
        step
    } else {
        step.or_else(REFUSED, Act::Init(InitOp::Device(DeviceOp { bind: true, ..op })))
    });
}
