//! `mounts`: each entry becomes one mount, in the listed order; a cgroup mount becomes several.

use super::cgroups::Placed;
use super::options::{Options, parse};
use super::{Chapter, cstring, host_path, namespaces};
use crate::abi::{attr, clone};
use crate::field::Field;
use crate::op::{InitOp, Kind, MountOp, MountSource, ParentOp, Slot};
use crate::plan::{Act, Mark, Step};
use crate::spec::Mount;

/// Errnos at which sysfs and the like are refused inside a user namespace that does not own its network namespace.
const REFUSED: &[i32] = &[1 /* EPERM */];
/// EBADF: a source that the parent could not open.
const NOT_OPEN: &[i32] = &[9];
/// The longest value that fsconfig(2) takes, its NUL not counted.
const FSCONFIG_MAX: usize = 255;

/// All mounts of the config.
pub(super) fn all(ch: &mut Chapter<'_>, groups: &Placed) {
    let spec = ch.spec;
    for (i, mount) in spec.mounts.iter().enumerate() {
        let options = parse(mount.options.iter().map(|o| &**o));
        let field = Field::at("mounts[]", &[i]);
        let destination = inside(&mount.destination);
        if destination == "/" {
            ch.problems.error(Field::at("mounts[].destination", &[i]), "is the root, which root.path alone provides");
            continue;
        }
        let kind = mount.kind.as_deref().unwrap_or("");
        let bind = options.bind.or(match kind {
            "bind" => Some(false),
            "rbind" => Some(true),
            _ => None,
        });
        if options.remount {
            remount(ch, &destination, &options, &field);
        } else if let Some(recursive) = bind {
            bind_mount(ch, mount, i, &destination, &options, recursive);
        } else if matches!(kind, "cgroup" | "cgroup2") {
            super::cgroups::mount(ch, groups, i, &destination, &options, kind);
        } else {
            filesystem(ch, mount, i, &destination, &options);
        }
    }
}

/// The directory with the socket of `NOTIFY_SOCKET`.
pub(super) fn notify_socket(ch: &mut Chapter<'_>) {
    let request = ch.request;
    let (Some(socket), Some(source)) = (&request.notify_socket, &request.notify_directory) else { return };
    let field = Field::new("(NOTIFY_SOCKET)");
    let options = parse(["bind", "ro", "nosuid", "nodev", "noexec"].into_iter());
    let source = cstring(source, &field, ch.problems);
    let what = if (ch.namespaces.user && ch.facts.administers()) || ch.namespaces.joins(Kind::Mount) {
        let slot = ch.lanes.slot("bind source");
        let op = ParentOp::OpenTree { source, recursive: false, nofollow: true, slot };
        ch.lanes.before.push(Step::parent(op, field.clone()));
        MountSource::Tree(slot)
    } else {
        MountSource::Bind { source, recursive: false, nofollow: true, copy_symlink: false, fresh: false }
    };
    let directory = socket.rsplit_once('/').map_or("/", |(directory, _)| directory);
    let op = mount_op(ch, directory, what, &options, &field);
    ch.lanes.init.push(Step::init(InitOp::Mount(Box::new(op)), field));
}

/// A path inside the container: absolute, whatever the config's author left out.
pub fn inside(path: &str) -> String {
    let mut clean = String::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if part == ".." {
            clean.truncate(clean.rfind('/').unwrap_or(0));
        } else {
            clean.push('/');
            clean.push_str(part);
        }
    }
    if clean.is_empty() { "/".to_owned() } else { clean }
}

fn remount(ch: &mut Chapter<'_>, destination: &str, options: &Options<'_>, field: &Field) {
    const MS_REMOUNT: u64 = 32;
    const MS_BIND: u64 = 4096;
    let bind = if options.bind.is_some() { MS_BIND } else { 0 };
    let path = cstring(destination, field, ch.problems);
    let data = cstring(&options.data.join(","), field, ch.problems);
    let op = InitOp::Remount { path, flags: options.ms | MS_REMOUNT | bind, data };
    ch.lanes.init.push(Step::init(op, field.clone()));
}

/// A new filesystem.
fn filesystem(ch: &mut Chapter<'_>, mount: &Mount<'_>, i: usize, destination: &str, options: &Options<'_>) {
    let field = Field::at("mounts[]", &[i]);
    let Some(kind) = mount.kind.as_deref().filter(|k| !k.is_empty()) else {
        let at = Field::at("mounts[].type", &[i]);
        ch.problems.error_hint(at, "is missing", "only a mount with the option bind or rbind has no type");
        return;
    };
    if options.idmap.is_some() || !mount.uid_mappings.is_empty() {
        ch.problems.error(Field::at("mounts[].uidMappings", &[i]), "only a bind mount can be id-mapped");
        return;
    }
    if options.copy_up && kind != "tmpfs" {
        ch.problems.error(Field::at("mounts[].options", &[i]), "tmpcopyup is for a tmpfs only");
        return;
    }
    let at = Field::at("mounts[].options", &[i]);
    let mut source = new_filesystem(ch, kind, mount.source.as_deref().unwrap_or(kind), options, &at);
    if let MountSource::Filesystem { copy_up, .. } = &mut source {
        *copy_up = options.copy_up;
    }
    let mut op = mount_op(ch, destination, source, options, &field);
    let ours = kind == "proc"
        && options.attr.set & attr::RDONLY == 0
        && !options.data.iter().any(|o| o.starts_with("subset"))
        && ch.namespaces.is_new(Kind::Pid);
    if ours && ch.procfs.is_none() {
        let slot = ch.lanes.slot("the container's proc");
        ch.procfs = Some(slot);
        op.keep = Some(slot);
    }
    // sysfs belongs to a network namespace: who shares the host's sees it bound, as the kernel refuses a new one.
    let denied = (ch.namespaces.user || ch.facts.in_user_namespace) && !ch.namespaces.is_new(Kind::Network);
    let fallback = (kind == "sysfs" && denied).then(|| {
        let source = MountSource::Bind {
            source: c"/sys".to_owned(),
            recursive: true,
            nofollow: false,
            copy_symlink: false,
            fresh: false,
        };
        let mut bound = options.clone();
        (bound.attr.rec_set, bound.attr.rec_clear) = (bound.attr.set, 0);
        mount_op(ch, destination, source, &bound, &field)
    });
    let step = Step::init(InitOp::Mount(Box::new(op)), field);
    ch.lanes.init.push(match fallback {
        Some(op) => step.or_else(REFUSED, Act::Init(InitOp::Mount(Box::new(op)))),
        None => step,
    });
}

/// Lays out the options of a filesystem for fsconfig(2), or for mount(2) where they fit that call alone.
pub(super) fn new_filesystem(
    ch: &mut Chapter<'_>,
    kind: &str,
    source: &str,
    options: &Options<'_>,
    field: &Field,
) -> MountSource {
    let mut data: Vec<String> = options.data.iter().flat_map(|o| split(o)).filter(|o| !o.is_empty()).collect();
    let label = ch.linux.mount_label.as_deref().filter(|l| !l.is_empty());
    if let Some(label) = label.filter(|_| !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")) {
        data.push(format!("context=\"{label}\""));
    }
    let plain = |v: &str| v.trim_matches('"').to_owned();
    let legacy = (options.only_ms || data.iter().any(|o| o.len() > FSCONFIG_MAX)).then(|| {
        let text = cstring(&data.join(","), field, ch.problems);
        (options.ms, text)
    });
    let mut list = Vec::new();
    for name in &options.sb {
        list.push((cstring(name, field, ch.problems), None));
    }
    for option in &data {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(cstring(&plain(value), field, ch.problems))),
            None => (option.as_str(), None),
        };
        list.push((cstring(key, field, ch.problems), value));
    }
    MountSource::Filesystem {
        fstype: cstring(kind, field, ch.problems),
        options: list,
        legacy,
        source: cstring(source, field, ch.problems),
        copy_up: false,
    }
}

/// Splits at commas outside of quotes.
fn split(option: &str) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in option.chars() {
        quoted ^= c == '"';
        match parts.last_mut() {
            Some(part) if c != ',' || quoted => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts
}

pub(super) fn mount_op(
    ch: &mut Chapter<'_>,
    destination: &str,
    source: MountSource,
    options: &Options<'_>,
    field: &Field,
) -> MountOp {
    let mut attr = options.attr;
    if matches!(source, MountSource::Filesystem { .. }) {
        // A new mount has no attributes yet: there is nothing to clear.
        (attr.clear, attr.rec_clear) = (0, 0);
        attr.set |= std::mem::take(&mut attr.rec_set);
    }
    MountOp {
        destination: cstring(destination, field, ch.problems),
        source,
        attr,
        dest_nofollow: options.dest_nofollow,
        keep: None,
    }
}

fn bind_mount(
    ch: &mut Chapter<'_>,
    mount: &Mount<'_>,
    i: usize,
    destination: &str,
    options: &Options<'_>,
    recursive: bool,
) {
    let at = Field::at("mounts[].source", &[i]);
    let Some(source) = mount.source.as_deref().filter(|s| !s.is_empty()) else {
        ch.problems.error(at, "is missing");
        return;
    };
    let source = cstring(&host_path(source, ch.request), &at, ch.problems);
    let mapping = id_mapping(ch, mount, i, options);
    // In a user namespace the source may lie where the container's root cannot go, so the parent opens it.
    let field = Field::at("mounts[]", &[i]);
    let mut mapped = false;
    let by_path = MountSource::Bind {
        source: source.clone(),
        recursive,
        nofollow: options.src_nofollow,
        copy_symlink: options.copy_symlink,
        fresh: false,
    };
    let wanted = mapping.is_some() || ch.namespaces.joins(Kind::Mount);
    if mapping.is_some() && !ch.facts.administers() {
        ch.problems.error_hint(
            Field::at("mounts[].options", &[i]),
            "a plain user cannot have ids of a mount mapped: operation not permitted",
            "the filesystem's own user namespace, mostly the host's, must be administered for that",
        );
        return;
    }
    if !wanted && (!ch.namespaces.user || !ch.facts.administers()) {
        let op = mount_op(ch, destination, by_path, options, &field);
        ch.lanes.init.push(Step::init(InitOp::Mount(Box::new(op)), field));
        return;
    }
    let slot = ch.lanes.slot("bind source");
    let open = Step::parent(ParentOp::OpenTree { source, recursive, nofollow: options.src_nofollow, slot }, at);
    // Root of a user namespace may own its mount namespace, or may not: then init tries with the rights that it has.
    let unsure = !wanted && ch.facts.rootless();
    ch.lanes.before.push(if unsure { open.skip(REFUSED) } else { open });
    if let Some(mapping) = mapping {
        mapped = map_tree(ch, slot, mapping, options, i);
    }
    let op = mount_op(ch, destination, MountSource::Tree(slot), options, &field);
    let step = Step::init(InitOp::Mount(Box::new(op)), field.clone());
    let step = if unsure {
        let op = mount_op(ch, destination, by_path, options, &field);
        step.or_else(NOT_OPEN, Act::Init(InitOp::Mount(Box::new(op))))
    } else {
        step
    };
    ch.lanes.init.push(if mapped { step.after(Mark::TreesMapped) } else { step });
}

/// Which mapping a mount carries: `Some(None)` is the container's own.
fn id_mapping(ch: &mut Chapter<'_>, mount: &Mount<'_>, i: usize, options: &Options<'_>) -> Option<Option<Slot>> {
    if mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty() {
        return options.idmap.filter(|_| ch.namespaces.user).map(|_| None);
    }
    let field = Field::at("mounts[].uidMappings", &[i]);
    Some(Some(namespaces::mapping(ch, &mount.uid_mappings, &mount.gid_mappings, &field)))
}

/// Maps a tree; says whether init must wait for it.
fn map_tree(ch: &mut Chapter<'_>, tree: Slot, mapping: Option<Slot>, options: &Options<'_>, i: usize) -> bool {
    let recursive = options.idmap == Some(true);
    let step = Step::parent(ParentOp::MapTree { tree, mapping, recursive }, Field::at("mounts[].options", &[i]));
    let own = mapping.is_none() && ch.namespaces.new & clone::NEWUSER != 0;
    if !own && mapping.is_some() {
        ch.lanes.before.push(step);
        return false;
    }
    // The container's own mapping exists only after the clone: one mark for all such trees, on the last of them.
    for earlier in ch.lanes.parent.iter_mut().filter(|s| s.reaches == Some(Mark::TreesMapped)) {
        earlier.reaches = None;
    }
    ch.lanes.parent.push(step.reaches(Mark::TreesMapped));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_are_absolute_and_clean() {
        for (from, to) in [("/a//b/./c", "/a/b/c"), ("x/y", "/x/y"), ("/..", "/"), ("/a/../../b", "/b"), ("", "/")] {
            assert_eq!(inside(from), to);
        }
    }

    #[test]
    fn commas_in_quotes_do_not_split() {
        assert_eq!(split("a=1,context=\"x:c1,c2\",b"), ["a=1", "context=\"x:c1,c2\"", "b"]);
    }
}
