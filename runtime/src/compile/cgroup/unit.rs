//! `linux.cgroupsPath` as `slice:prefix:name`: which systemd unit holds the container, and where its cgroups are.

use crate::error::Problems;
use crate::facts::{Cgroups, Systemd};
use crate::field::Field;
use crate::op::cgroup::{Group, Version};
use crate::op::unit::{Property, Unit, Value};
use crate::spec::{Map, Str};

use super::{Write, annotations, clean, properties};

/// Prefix of the unit of a container whose config names none.
const PREFIX: &str = "tare";
/// `UNIT_NAME_MAX` of systemd, without the end of the string.
const NAME_MAX: usize = 255;

/// The unit of a container: its name, and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `machine.slice`
    pub slice: String,
    /// `libpod-abc.scope`, or a slice's own name.
    pub unit: String,
    /// The cgroup, below that of the manager.
    pub path: String,
}

impl Name {
    /// Whether the unit is a slice, which needs no process to begin with.
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }
}

/// Reads `linux.cgroupsPath`. Without one, the container is `tare-ID.scope`; a part that is empty is `system.slice` (of a
/// user's manager `user.slice`), no prefix, and the container's id.
pub fn parse(path: Option<&str>, id: &str, user: bool, problems: &mut Problems) -> Option<Name> {
    let field = || Field::new("linux.cgroupsPath");
    let (slice, prefix, name) = match path.filter(|p| !p.is_empty()) {
        None => ("", PREFIX, ""),
        Some(path) => match path.split(':').collect::<Vec<_>>().as_slice() {
            [slice, prefix, name] => (*slice, *prefix, *name),
            _ => {
                let text = format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
                );
                let hint = "for a path, let the engine use cgroupfs, or leave out --systemd-cgroup";
                problems.error_hint(field(), text, hint);
                return None;
            }
        },
    };
    let slice = match slice {
        "" if user => "user.slice",
        "" => "system.slice",
        slice => slice,
    };
    let name = if name.is_empty() { id } else { name };
    let unit = match prefix {
        _ if name.ends_with(".slice") => name.to_owned(),
        "" if name.ends_with(".scope") => name.to_owned(),
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    let unit = escape(&unit);
    if unit.contains('/') || unit.len() > NAME_MAX {
        problems
            .error(field(), format!("{unit:?} is no name of a unit: it has a slash, or more than {NAME_MAX} bytes"));
        return None;
    }
    let place = if unit.ends_with(".slice") { expand(&unit) } else { expand(slice) };
    let Some(place) = place else {
        let wrong = if unit.ends_with(".slice") { &unit } else { slice };
        let text =
            format!("{wrong:?} is no slice: such a name is of parts between single dashes, and ends with .slice");
        problems.error(field(), text);
        return None;
    };
    let path = match unit.ends_with(".slice") {
        true => place,
        false if place.is_empty() => directory(&unit),
        false => format!("{place}/{}", directory(&unit)),
    };
    Some(Name { slice: slice.to_owned(), unit, path })
}

/// The cgroup of a slice, below that of the manager: `a-b.slice` is `a.slice/a-b.slice`, and `-.slice` the root
/// (systemd.slice(5)).
pub fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    if name.contains('/') {
        return None;
    }
    let mut path = String::new();
    for (i, _) in name.match_indices('-').chain([(name.len(), "")]) {
        let parent = &name[..i];
        if parent.is_empty() || parent.ends_with('-') {
            return None;
        }
        path.push_str(if path.is_empty() { "" } else { "/" });
        path.push_str(&directory(&escape(&format!("{parent}.slice"))));
    }
    Some(path)
}

/// What a unit's name cannot hold is written as systemd-escape(1) does. A slash stays, to be refused.
fn escape(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@/".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("\\x{b:02x}") }).collect()
}

/// The directory of a unit: a name that could be a file of the kernel's own gets an underscore before it.
fn directory(unit: &str) -> String {
    const FILES: [&str; 13] = [
        "cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "hugetlb", "rdma", "misc",
        "freezer",
    ];
    let first = unit.split('.').next().unwrap_or_default();
    match unit.starts_with(['_', '.']) || FILES.contains(&first) {
        true => format!("_{unit}"),
        false => unit.to_owned(),
    }
}

/// One cgroup in each hierarchy, where systemd has the unit's.
pub(super) fn lay_out(name: &Name, facts: &Cgroups, systemd: &Systemd) -> Vec<Group> {
    let base = clean(&systemd.cgroup);
    let path = if base.is_empty() { name.path.clone() } else { format!("{base}/{}", name.path) };
    let group = |mount: &str, controllers: &[String], version| Group {
        mount: mount.to_owned(),
        path: path.clone(),
        controllers: controllers.to_vec(),
        version,
        enable: if version == Version::V2 { controllers.to_vec() } else { Vec::new() },
        need: Vec::new(),
        optional: false,
    };
    let v1 = facts.v1.iter().map(|h| group(&h.mount, &h.controllers, Version::V1));
    let v2 = facts.v2.iter().map(|u| group(&u.mount, &u.controllers, Version::V2));
    v1.chain(v2).collect()
}

/// The unit, with what is always set, what the limits say, and what the annotations `org.systemd.property.…` ask for.
pub fn unit(
    name: &Name,
    (id, bundle): (&str, &str),
    systemd: &Systemd,
    writes: &[Write],
    notes: &Map<'_, Str<'_>>,
    problems: &mut Problems,
) -> Unit {
    let mut all = Vec::new();
    let text = |text: &str| Value::Text(text.to_owned());
    let ours = format!("container {id}, bundle {bundle}");
    properties::set(&mut all, "Description", Value::Text(format!("tare {ours}")));
    if !name.is_slice() {
        properties::set(&mut all, "Slice", text(&name.slice));
        properties::set(&mut all, "Delegate", Value::Bool(true));
    }
    properties::set(&mut all, "DefaultDependencies", Value::Bool(false));
    properties::set(&mut all, "CollectMode", text("inactive-or-failed"));
    let v1 = writes.iter().any(|w| w.file.starts_with("devices."));
    let io = if v1 { "BlockIOAccounting" } else { "IOAccounting" };
    for accounting in ["CPUAccounting", "MemoryAccounting", io, "TasksAccounting"] {
        properties::set(&mut all, accounting, Value::Bool(true));
    }
    // systemd's own default would limit what the config does not.
    properties::set(&mut all, "TasksMax", Value::U64(u64::MAX));
    let limits = properties::of(writes, systemd.version);
    let taken: Vec<String> = limits.iter().map(|p| p.name.clone()).collect();
    for Property { name, value } in limits {
        properties::set(&mut all, &name, value);
    }
    for Property { name, value } in annotations::properties(notes, &taken, problems) {
        let value = match (name.as_str(), value) {
            // The unit is known by it.
            ("Description", Value::Text(text)) => Value::Text(format!("{text} ({ours})")),
            (_, value) => value,
        };
        properties::set(&mut all, &name, value);
    }
    Unit { manager: systemd.manager.clone(), name: name.unit.clone(), attach: !name.is_slice(), properties: all }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: Option<&str>, user: bool) -> (String, String, String) {
        let mut problems = Problems::default();
        let name = parse(path, "box", user, &mut problems).unwrap_or_else(|| panic!("{problems}"));
        (name.slice, name.unit, name.path)
    }

    fn refused(path: &str) -> String {
        let mut problems = Problems::default();
        assert_eq!(parse(Some(path), "box", false, &mut problems), None, "{path}");
        problems.to_string()
    }

    #[test]
    fn what_engines_send_is_where_they_look_for_it() {
        let is = |path, slice: &str, unit: &str, place: &str| {
            assert_eq!(read(path, false), (slice.to_owned(), unit.to_owned(), place.to_owned()));
        };
        is(Some("machine.slice:libpod:0a"), "machine.slice", "libpod-0a.scope", "machine.slice/libpod-0a.scope");
        is(Some("system.slice:docker:0a"), "system.slice", "docker-0a.scope", "system.slice/docker-0a.scope");
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        let slice = "kubepods-burstable-pod1_2.slice";
        let path = format!("{slice}:cri-containerd:0a");
        is(Some(&path), slice, "cri-containerd-0a.scope", &format!("{pod}/cri-containerd-0a.scope"));
        is(None, "system.slice", "tare-box.scope", "system.slice/tare-box.scope");
        is(Some(""), "system.slice", "tare-box.scope", "system.slice/tare-box.scope");
        is(Some("::"), "system.slice", "box.scope", "system.slice/box.scope");
        is(Some("a.slice::b.scope"), "a.slice", "b.scope", "a.slice/b.scope");
        is(Some("-.slice:p:n"), "-.slice", "p-n.scope", "p-n.scope");
        is(Some("::a-b.slice"), "system.slice", "a-b.slice", "a.slice/a-b.slice");
        assert_eq!(read(Some(":libpod:0a"), true).2, "user.slice/libpod-0a.scope");
    }

    #[test]
    fn names_are_as_systemd_writes_them() {
        assert_eq!(read(Some("::a+b é"), false).1, r"a\x2bb\x20\xc3\xa9.scope");
        assert_eq!(read(Some("::_a"), false).2, "system.slice/__a.scope");
        assert_eq!(read(Some("::memory.a"), false).2, "system.slice/_memory.a.scope");
        assert_eq!(expand("a-b-c.slice").unwrap(), "a.slice/a-b.slice/a-b-c.slice");
        for wrong in ["a", "a--b.slice", "-a.slice", "a-.slice", ".slice", "a/b.slice", "--.slice"] {
            assert_eq!(expand(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_unit_is_refused_by_name() {
        let text = refused("/a/b");
        assert!(
            text.starts_with("linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\""),
            "{text}"
        );
        assert!(refused("a:b").contains("got \"a:b\" instead"));
        assert!(refused("a:b:c").contains("\"a\" is no slice"));
        assert!(refused("a.slice:b:c/d").contains("is no name of a unit"));
        assert!(refused(&format!("::{}", "x".repeat(300))).contains("is no name of a unit"));
    }
}
