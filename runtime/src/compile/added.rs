//! `mounts add` and `mounts remove`: the mounts of a container that runs already.
//!
//! The sources are the runtime's: whatever is mounted is made before anybody enters the container, so that nothing that
//! the container controls is met with the runtime's view of the host.

use super::cgroups::Placed;
use super::namespaces::Namespaces;
use super::{Chapter, mounts, options};
use crate::error::Problems;
use crate::facts::Facts;
use crate::field::Field;
use crate::op::{InitOp, Kind, MountOp};
use crate::plan::{Act, Lanes, Step};
use crate::request::Request;
use crate::spec::{Linux, Mount, Spec};

/// Filesystems that show the namespaces of whoever mounts them, which would be the runtime's.
const OF_NAMESPACES: &[&str] = &["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// What is to be made, and then moved into place.
#[derive(Debug, Default)]
pub struct Added {
    /// The runtime's steps, which open the sources.
    pub steps: Vec<Step>,
    /// Each mount, with its field.
    pub mounts: Vec<(Field, Box<MountOp>)>,
    /// How many slots there are.
    pub slots: usize,
}

/// Compiles mounts that are added to a running container. `label` is its `linux.mountLabel`.
///
/// # Errors
/// Every problem at once, each with its field.
pub fn added(mounts: &[Mount<'_>], label: Option<&str>, facts: &Facts, request: &Request) -> Result<Added, Problems> {
    let mut problems = Problems::default();
    crate::validate::mounts(mounts, &mut problems);
    refuse(mounts, &mut problems);
    let linux = Linux { mount_label: label.map(Into::into), ..Linux::default() };
    let spec = Spec { mounts: mounts.to_vec(), ..Spec::default() };
    let mut lanes = Lanes::default();
    // As in a joined mount namespace, the runtime opens all sources.
    let namespaces = Namespaces { joined: vec![(Kind::Mount, String::new(), 0)], ..Namespaces::default() };
    let (lanes_ref, problems_ref) = (&mut lanes, &mut problems);
    let mut chapter = Chapter {
        spec: &spec,
        linux: &linux,
        facts,
        request,
        namespaces,
        lanes: lanes_ref,
        problems: problems_ref,
        procfs: None,
        target: None,
    };
    mounts::all(&mut chapter, &Placed::nowhere());
    if !problems.errors.is_empty() {
        return Err(problems);
    }
    let plan = lanes.weave();
    let mut out = Added { slots: plan.slots.len(), ..Added::default() };
    for step in plan.steps {
        match step.act {
            Act::Init(InitOp::Mount(op)) => out.mounts.push((step.from, op)),
            Act::Parent(_) => out.steps.push(step),
            Act::Init(_) | Act::Joiner(_) => {}
        }
    }
    Ok(out)
}

/// What can only be done while a container is made.
fn refuse(mounts: &[Mount<'_>], problems: &mut Problems) {
    for (i, mount) in mounts.iter().enumerate() {
        let options = options::parse(mount.options.iter().map(|o| &**o));
        let kind = mount.kind.as_deref().unwrap_or_default();
        let field = || Field::at("mounts[].options", &[i]);
        if OF_NAMESPACES.contains(&kind) {
            let text = format!("a {kind:?} belongs to namespaces and cannot be brought into a running container");
            problems.error(Field::at("mounts[].type", &[i]), text);
        }
        if options.remount {
            problems.error(field(), "remount is not an addition");
        }
        if options.copy_up || options.copy_symlink {
            problems.error(field(), "tmpcopyup and copy-symlink are for a container that is being made");
        }
        if options.idmap.is_some() && mount.uid_mappings.is_empty() {
            problems.error(field(), "idmap needs uidMappings and gidMappings here");
        }
        if options.only_ms {
            problems.error(field(), "holds an option that only mount(2) takes");
        }
    }
}
