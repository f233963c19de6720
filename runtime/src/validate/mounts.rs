//! `mounts`: config.md, "Mounts".

use super::{namespaces, no_nul};
use crate::error::Problems;
use crate::field::Field;
use crate::spec::{Linux, Mount};

pub(super) fn check(mounts: &[Mount<'_>], linux: Option<&Linux<'_>>, problems: &mut Problems) {
    let has_user_namespace = linux.is_some_and(|linux| namespaces::of(linux, "user").is_some());
    for (i, mount) in mounts.iter().enumerate() {
        paths(i, mount, problems);
        id_maps(i, mount, has_user_namespace, problems);
        if let Some(linux) = linux.filter(|_| !is_bind(mount)) {
            owner(i, mount, linux, problems);
        }
    }
}

/// A filesystem that is made in a user namespace knows its ids alone.
fn owner(i: usize, mount: &Mount<'_>, linux: &Linux<'_>, problems: &mut Problems) {
    for (j, option) in mount.options.iter().enumerate() {
        for (name, map) in [("uid=", &linux.uid_mappings), ("gid=", &linux.gid_mappings)] {
            let Some(id) = option.strip_prefix(name).and_then(|id| id.parse::<u32>().ok()) else { continue };
            if !map.is_empty() && !namespaces::maps(map, id) {
                let text = format!("is {option}, which the container's id map does not map");
                problems.error_hint(
                    Field::at("mounts[].options[]", &[i, j]),
                    text,
                    "leave it out, or map more ids than one",
                );
            }
        }
    }
}

fn has(mount: &Mount<'_>, options: &[&str]) -> bool {
    mount.options.iter().any(|option| options.contains(&&**option))
}

/// "A mount is a bind mount if it has either `bind` or `rbind` in the options"; engines rely on the type too.
fn is_bind(mount: &Mount<'_>) -> bool {
    mount.kind.as_deref() == Some("bind") || has(mount, &["bind", "rbind"])
}

fn paths(i: usize, mount: &Mount<'_>, problems: &mut Problems) {
    let destination = || Field::at("mounts[].destination", &[i]);
    if mount.destination.is_empty() {
        problems.error(destination(), "is empty");
    } else if !mount.destination.starts_with('/') {
        problems.warn(destination(), format!("{:?} is relative, which is deprecated; taken from /", mount.destination));
    }
    no_nul(&mount.destination, destination, problems);

    let kind = mount.kind.as_deref().unwrap_or_default();
    let source = mount.source.as_deref().unwrap_or_default();
    no_nul(kind, || Field::at("mounts[].type", &[i]), problems);
    no_nul(source, || Field::at("mounts[].source", &[i]), problems);
    for (j, option) in mount.options.iter().enumerate() {
        no_nul(option, || Field::at("mounts[].options[]", &[i, j]), problems);
    }
    if has(mount, &["remount"]) {
        return;
    }
    if is_bind(mount) {
        if source.is_empty() {
            problems.error(Field::at("mounts[].source", &[i]), "is required: this is a bind mount");
        }
    } else if kind.is_empty() && !changes_propagation_only(mount) {
        problems.error(Field::at("mounts[].type", &[i]), "is required: this is no bind mount");
    }
}

/// Whether the mount is none of its own, but a change to the one that is there.
fn changes_propagation_only(mount: &Mount<'_>) -> bool {
    const PROPAGATION: [&str; 8] =
        ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];
    !mount.options.is_empty() && mount.options.iter().all(|option| PROPAGATION.contains(&&**option))
}

/// The table row of `idmap`, and "POSIX-platform Mounts".
fn id_maps(i: usize, mount: &Mount<'_>, has_user_namespace: bool, problems: &mut Problems) {
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    let mapped = !uids.is_empty() || !gids.is_empty();
    let asked = has(mount, &["idmap", "ridmap"]);
    if !mapped && !asked {
        return;
    }
    if mapped && (uids.is_empty() || gids.is_empty()) {
        let (lacking, given) = if uids.is_empty() { ("uid", "gid") } else { ("gid", "uid") };
        let path = if uids.is_empty() { "mounts[].uidMappings" } else { "mounts[].gidMappings" };
        let text = format!("is required beside {given}Mappings");
        problems.error_hint(Field::at(path, &[i]), text, format!("map the {lacking}s as well"));
    }
    if !mapped && !has_user_namespace {
        let text = "has idmap, but neither uidMappings and gidMappings nor a user namespace to take them from";
        problems.error(Field::at("mounts[].options", &[i]), text);
    }
    if !is_bind(mount) {
        problems.error(Field::at("mounts[]", &[i]), "cannot be id-mapped: it is no bind mount");
    }
    let whole = |path| Field::at(path, &[i]);
    namespaces::mappings(
        uids,
        whole("mounts[].uidMappings"),
        |j| Field::at("mounts[].uidMappings[]", &[i, j]),
        problems,
    );
    namespaces::mappings(
        gids,
        whole("mounts[].gidMappings"),
        |j| Field::at("mounts[].gidMappings[]", &[i, j]),
        problems,
    );
}
