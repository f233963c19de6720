//! `root`, `linux.rootfsPropagation`, `maskedPaths`, `readonlyPaths`: what is seen as `/`, and what of it is hidden.

use super::mounts::inside;
use super::{Chapter, cstring, host_path};
use crate::abi::propagation;
use crate::field::Field;
use crate::op::{EnterRoot, InitOp, Kind};
use crate::plan::{Step, Undo};

/// Propagation of what init sees, then the root handle.
pub(super) fn open(ch: &mut Chapter<'_>) {
    let Some(root) = &ch.spec.root else { return };
    let (private, _) = wanted_propagation(ch);
    if ch.namespaces.is_new(Kind::Mount) {
        // Before anything is mounted: nothing that happens in here may reach the host.
        let kind = if private { propagation::PRIVATE } else { propagation::SLAVE };
        let op = InitOp::Propagation { kind, recursive: true };
        ch.lanes.init.push(Step::init(op, Field::new("linux.rootfsPropagation")));
    }
    let field = Field::new("root.path");
    let text = host_path(&root.path, ch.request);
    let path = cstring(&text, &field, ch.problems);
    let private = private || !ch.namespaces.is_new(Kind::Mount);
    let mut step = Step::init(InitOp::OpenRoot { path, private }, field);
    if !ch.namespaces.is_new(Kind::Mount) {
        let namespace = ch.namespaces.joined.iter().find(|(k, ..)| *k == Kind::Mount).map(|(_, path, _)| path.clone());
        step = step.undo(Undo::Unmount { path: text, namespace, over: None });
    }
    ch.lanes.init.push(step);
}

/// Whether nothing of the host may come in, and what the container's root becomes at the end.
///
/// Whatever is asked for, the host must not see the container's mounts: `shared` makes a new peer group of the root alone
/// (config-linux.md, Rootfs Mount Propagation). A shared or unbindable root cannot be pivoted to, so that comes after.
fn wanted_propagation(ch: &Chapter<'_>) -> (bool, u64) {
    match ch.linux.rootfs_propagation.as_deref().map(|p| p.strip_prefix('r').unwrap_or(p)) {
        Some("private") => (true, 0),
        Some("shared") => (false, propagation::SHARED),
        Some("unbindable") => (true, propagation::UNBINDABLE),
        // The default of every runtime: mounts of the host may come in, nothing goes out.
        _ => (false, 0),
    }
}

/// Masked and read-only paths.
pub(super) fn cover(ch: &mut Chapter<'_>) {
    let linux = ch.linux;
    for (paths, name, mask) in
        [(&linux.masked_paths, "linux.maskedPaths[]", true), (&linux.readonly_paths, "linux.readonlyPaths[]", false)]
    {
        for (i, path) in paths.iter().enumerate() {
            let field = Field::at(name, &[i]);
            let path = cstring(&inside(path), &field, ch.problems);
            ch.lanes.init.push(Step::init(InitOp::Cover { path, mask }, field));
        }
    }
}

/// Makes the root read-only where asked, and makes it `/`.
pub(super) fn enter(ch: &mut Chapter<'_>) {
    let Some(root) = &ch.spec.root else { return };
    if root.readonly {
        ch.lanes.init.push(Step::init(InitOp::ReadonlyRoot, Field::new("root.readonly")));
    }
    let how = if !ch.namespaces.is_new(Kind::Mount) {
        EnterRoot::Chroot
    } else if ch.request.no_pivot {
        EnterRoot::Move
    } else {
        EnterRoot::Pivot
    };
    ch.lanes.init.push(Step::init(InitOp::EnterRoot(how), Field::new("root.path")));
    let (_, kind) = wanted_propagation(ch);
    if kind != 0 {
        let op = InitOp::Propagation { kind, recursive: false };
        ch.lanes.init.push(Step::init(op, Field::new("linux.rootfsPropagation")));
    }
}
