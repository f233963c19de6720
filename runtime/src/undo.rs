//! Replays undos: backwards, each as often as one likes, whether its step was ever done or not.

mod unmount;

use crate::compile::cgroup::{Group, Version};
use crate::op::ParentOp;
use crate::op::unit::Manager;
use crate::plan::{Act, Plan, Undo};
use crate::run::{cgroup, systemd};

/// Undoes everything that can be; answers what could not be, as sentences.
///
/// Units come first: systemd removes their cgroups, and only what it leaves of them is for us to remove.
pub fn replay(undos: &[Undo]) -> Vec<String> {
    let mut failed = Vec::new();
    let (units, others): (Vec<_>, Vec<_>) = undos.iter().rev().partition(|undo| matches!(undo, Undo::Unit { .. }));
    for undo in units.into_iter().chain(others) {
        let done = match undo {
            Undo::Unit { manager, name, description } => match systemd::stop(manager, name, description) {
                // A user's systemd ends with the last session, and its units with it.
                Err(e) if e.gone && groups(undos).iter().all(|g| cgroup::is_empty(&g.dir()) == Ok(true)) => Ok(()),
                stopped => stopped.map_err(|e| format!("stop {name}: {e}")),
            },
            Undo::Cgroup { mount, path, made, .. } => remove_cgroup(mount, path, made),
            Undo::Unmount { path, namespace, over } => unmount::undo(path, namespace.as_deref(), *over),
        };
        if let Err(text) = done {
            failed.push(text);
        }
    }
    failed
}

/// The cgroup goes with whatever is in it, but a hierarchy's root, or one that was there before, is nobody's to remove.
fn remove_cgroup(mount: &str, path: &str, made: &[String]) -> Result<(), String> {
    if path.is_empty() || made.is_empty() {
        return Ok(());
    }
    cgroup::remove(&format!("{mount}/{path}"), made).map_err(|e| e.to_string())
}

/// Removes what cgroups of a journal of another boot still lie around empty. Whatever holds anything by now is another's, who
/// has the same name for it.
pub fn sweep(undos: &[Undo]) {
    for undo in undos.iter().rev() {
        if let Undo::Cgroup { made, .. } = undo {
            for dir in made.iter().rev() {
                let _ = std::fs::remove_dir(dir);
            }
        }
    }
}

/// The cgroups that a journal names.
pub fn groups(undos: &[Undo]) -> Vec<Group> {
    let group = |undo: &Undo| match undo {
        Undo::Cgroup { mount, path, controllers, unified, .. } => Some(Group {
            mount: mount.clone(),
            path: path.clone(),
            controllers: controllers.clone(),
            version: if *unified { Version::V2 } else { Version::V1 },
            enable: Vec::new(),
            need: Vec::new(),
            optional: false,
        }),
        Undo::Unit { .. } | Undo::Unmount { .. } => None,
    };
    undos.iter().filter_map(group).collect()
}

/// Whether the cgroup was missing when the journal was written.
pub fn makes(undos: &[Undo], group: &Group) -> bool {
    undos.iter().any(|undo| {
        matches!(undo, Undo::Cgroup { mount, path, made, .. }
            if *mount == group.mount && *path == group.path && !made.is_empty())
    })
}

/// Fills in, before the first step, which directories the steps will make, and over what they will mount: those directories
/// and mounts alone may go again.
pub fn foresee(undos: &mut [Undo]) {
    for undo in &mut *undos {
        if let Undo::Unmount { path, namespace, over } = undo {
            *over = unmount::uppermost(path, namespace.as_deref());
        }
    }
    let groups = groups(undos);
    let by_systemd = unit(undos).is_some();
    let cgroups = undos.iter_mut().filter_map(|undo| match undo {
        Undo::Cgroup { made, .. } => Some(made),
        Undo::Unit { .. } | Undo::Unmount { .. } => None,
    });
    for (made, group) in cgroups.zip(&groups) {
        *made = cgroup::missing(group);
        if by_systemd && has_slices(group) {
            // The slices above are systemd's to remove.
            made.retain(|dir| *dir == group.dir());
        }
    }
}

/// Forgets the cgroups that a plan could do without and that were not made: what has their names now, or later, is another's.
pub fn forget_unmade(undos: &mut Vec<Undo>, plan: &Plan) {
    for step in &plan.steps {
        let Act::Parent(ParentOp::MakeCgroup(group)) = &step.act else { continue };
        if group.optional && cgroup::open(group).is_err() {
            undos.retain(|undo| !matches!(undo, Undo::Cgroup { mount, .. } if *mount == group.mount));
        }
    }
}

/// Whether systemd makes the slices of all units in this hierarchy.
fn has_slices(group: &Group) -> bool {
    const OF_VERSION_1: [&str; 7] = ["name=systemd", "cpu", "cpuacct", "blkio", "memory", "devices", "pids"];
    group.version == Version::V2 || group.controllers.iter().any(|c| OF_VERSION_1.contains(&c.as_str()))
}

/// The unit that systemd made for the container, and whom to ask for it.
pub fn unit(undos: &[Undo]) -> Option<(&Manager, &str)> {
    undos.iter().find_map(|undo| match undo {
        Undo::Unit { manager, name, .. } => Some((manager, name.as_str())),
        _ => None,
    })
}

/// A cgroup that was there before and is another container's, with that container's id. Whose it is, is asked only where one
/// was there.
pub fn shared<I: Iterator<Item = String>>(
    undos: &[Undo],
    others: impl FnOnce() -> I,
    theirs: impl Fn(&str) -> Vec<Undo>,
) -> Option<(String, String)> {
    let place = |undo: &Undo| match undo {
        Undo::Cgroup { mount, path, .. } if !path.is_empty() => Some(format!("{mount}/{path}")),
        _ => None,
    };
    let made = |undo: &Undo, place: &String| matches!(undo, Undo::Cgroup { made, .. } if made.contains(place));
    let old: Vec<_> = undos.iter().filter_map(|u| place(u).filter(|p| !made(u, p))).collect();
    if old.is_empty() {
        return None;
    }
    others().find_map(|id| {
        let common = theirs(&id).iter().filter_map(place).find(|p| old.contains(p))?;
        Some((common, id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mount_namespace_has_no_mount_to_undo() {
        let undo =
            |ns: &str| Undo::Unmount { path: "/no/where".to_owned(), namespace: Some(ns.to_owned()), over: Some(1) };
        let undos = ["/proc/self/ns/net", "/etc/passwd", "/no/namespace"].map(undo);
        assert_eq!(replay(&undos), Vec::<String>::new());
    }
}
