//! Namespaces, the id maps of user namespaces, the offsets of time namespaces.

use super::absolute;
use crate::error::Problems;
use crate::field::Field;
use crate::spec::{IdMapping, Linux, Namespace};

/// The kernel's UID_GID_MAP_MAX_EXTENTS.
const EXTENT_LIMIT: usize = 340;

const KINDS: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

/// The entry of a type, if the container has a namespace of that type to itself or joins one.
pub(super) fn of<'l, 'a>(linux: &'l Linux<'a>, kind: &str) -> Option<&'l Namespace<'a>> {
    linux.namespaces.iter().find(|namespace| &*namespace.kind == kind)
}

/// Whether the container makes this namespace instead of joining it.
fn is_new(namespace: &Namespace<'_>) -> bool {
    namespace.path.as_deref().is_none_or(str::is_empty)
}

/// What is told of a property that would reach into the host.
pub(super) fn lacking(kind: &str) -> String {
    format!("needs its own {kind} namespace; linux.namespaces has none")
}

pub(super) fn check(linux: &Linux<'_>, problems: &mut Problems) {
    for (i, namespace) in linux.namespaces.iter().enumerate() {
        let kind = &*namespace.kind;
        if !KINDS.contains(&kind) {
            let text = format!("{kind:?} is no type of namespace");
            problems.error_hint(
                Field::at("linux.namespaces[].type", &[i]),
                text,
                format!("one of {}", KINDS.join(", ")),
            );
        }
        if let Some(first) = linux.namespaces[..i].iter().position(|other| other.kind == namespace.kind) {
            let text = format!("{kind:?} stands there twice, first as linux.namespaces[{first}]");
            problems.error(Field::at("linux.namespaces[].type", &[i]), text);
        }
        if let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty()) {
            absolute(path, || Field::at("linux.namespaces[].path", &[i]), problems);
        }
    }
    user(linux, problems);
    time(linux, problems);
}

/// A new user namespace needs both maps. One that is joined has its own already: maps beside it are what the engine
/// believes them to be.
fn user(linux: &Linux<'_>, problems: &mut Problems) {
    let namespace = of(linux, "user");
    for (path, entry, map) in [
        ("linux.uidMappings", "linux.uidMappings[]", &linux.uid_mappings),
        ("linux.gidMappings", "linux.gidMappings[]", &linux.gid_mappings),
    ] {
        match namespace {
            None if !map.is_empty() => problems.error(Field::new(path), lacking("user")),
            Some(namespace) if is_new(namespace) && map.is_empty() => {
                problems.error(Field::new(path), "is required: linux.namespaces has a new user namespace");
            }
            _ => mappings(map, Field::new(path), |i| Field::at(entry, &[i]), problems),
        }
    }
}

/// What the kernel would refuse of a map (kernel/user_namespace.c, map_write). `whole` names the map.
pub(super) fn mappings(map: &[IdMapping], whole: Field, field: impl Fn(usize) -> Field, problems: &mut Problems) {
    if map.len() > EXTENT_LIMIT {
        let text = format!("has {} entries; the kernel takes {EXTENT_LIMIT}", map.len());
        return problems.error(whole, text);
    }
    for (i, entry) in map.iter().enumerate() {
        if entry.size == 0 {
            problems.error(field(i), "maps no ids: its size is 0");
        }
        for (name, first) in [("containerID", entry.container_id), ("hostID", entry.host_id)] {
            // The last id of all, 4294967295, means "no id" and cannot be mapped.
            if u64::from(first) + u64::from(entry.size) > u64::from(u32::MAX) {
                let text = format!("{name} {first} and size {} go beyond the last id, 4294967294", entry.size);
                problems.error(field(i), text);
            }
        }
        for (j, other) in map[..i].iter().enumerate() {
            for (name, a, b) in
                [("container", entry.container_id, other.container_id), ("host", entry.host_id, other.host_id)]
            {
                if overlap(a, entry.size, b, other.size) {
                    problems.error(field(i), format!("maps {name} ids that entry {j} maps too"));
                }
            }
        }
    }
}

fn overlap(a: u32, a_size: u32, b: u32, b_size: u32) -> bool {
    let (a, a_end) = (u64::from(a), u64::from(a) + u64::from(a_size));
    let (b, b_end) = (u64::from(b), u64::from(b) + u64::from(b_size));
    a < b_end && b < a_end
}

/// Whether an id of the container is mapped to one outside.
pub(super) fn maps(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|m| id >= m.container_id && id - m.container_id < m.size)
}

/// A user or group id of the container, which must be one and, if there is a map, be mapped.
pub(super) fn id(id: u32, map: &[IdMapping], field: impl Fn() -> Field, problems: &mut Problems) {
    if id == u32::MAX {
        problems.error(field(), "is 4294967295, which is no id: it means \"no change\"");
    } else if !map.is_empty() && !maps(map, id) {
        problems.error(field(), format!("is {id}, which the container's id map does not map"));
    }
}

/// config-linux.md, "Offset for Time Namespace"; time_namespaces(7).
fn time(linux: &Linux<'_>, problems: &mut Problems) {
    if linux.time_offsets.is_empty() {
        return;
    }
    let field = || Field::new("linux.timeOffsets");
    match of(linux, "time") {
        None => problems.error(field(), lacking("time")),
        Some(namespace) if !is_new(namespace) => {
            problems.error(field(), "needs a new time namespace: those of a joined one cannot be changed");
        }
        Some(_) => {}
    }
    for (clock, offset) in &linux.time_offsets {
        if !matches!(&**clock, "monotonic" | "boottime") {
            let text = format!("{clock:?} is no clock of a time namespace; they are monotonic and boottime");
            problems.error(field().key(clock), text);
        }
        if offset.nanosecs >= 1_000_000_000 {
            let text = format!("nanosecs is {}; 999999999 is the most", offset.nanosecs);
            problems.error(field().key(clock), text);
        }
    }
}
