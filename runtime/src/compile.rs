//! Spec + Facts + Request → Plan. Pure: no system call, no clock, no environment.
//!
//! Read [`compile`] first: the chapters of a container's life, in their order. Each chapter appends steps to the lanes;
//! what a step must wait for in another lane is a [`Mark`], and [`crate::check`] proves that the whole can be walked.

use std::ffi::CString;

use crate::error::{Problem, Problems};
use crate::facts::Facts;
use crate::field::Field;
use crate::op::{InitOp, Kind, ParentOp, Slot};
use crate::plan::{Lanes, Mark, Plan, Step};
use crate::request::Request;
use crate::spec::{Linux, Spec};

pub mod added;
pub mod cgroup;
mod cgroups;
mod devices;
pub mod exec;
mod hooks;
pub mod mounts;
pub mod namespaces;
mod net_devices;
pub mod options;
mod process;
pub mod restore;
mod rootfs;
pub mod seccomp;

use namespaces::Namespaces;

pub use hooks::late_hooks;

/// A plan, and what was doubtful about its config.
#[derive(Debug)]
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    /// Told once, and lived with.
    pub warnings: Vec<Problem>,
}

/// What every chapter reads and writes.
struct Chapter<'a> {
    spec: &'a Spec<'a>,
    linux: &'a Linux<'a>,
    facts: &'a Facts,
    request: &'a Request,
    namespaces: Namespaces,
    lanes: &'a mut Lanes,
    problems: &'a mut Problems,
    /// The proc filesystem that sysctls and labels are written to.
    procfs: Option<Slot>,
    /// The container that the process is put into, where it is not made by this plan.
    target: Option<&'a exec::Target>,
}

impl Chapter<'_> {
    /// A slot with a proc filesystem that is ours: that of `mounts` where there is one, else one made for the purpose, or
    /// the runtime's where the kernel would refuse that, whose pid namespace is none of the container's.
    fn procfs(&mut self, from: &Field) -> Slot {
        if let Some(slot) = self.procfs {
            return slot;
        }
        let makes = self.namespaces.is_new(Kind::Pid) || !(self.namespaces.user || self.facts.rootless());
        let slot = if makes && self.target.is_none() {
            let slot = self.lanes.slot("our own proc");
            self.lanes.init.push(Step::init(InitOp::Procfs(slot), from.clone()));
            slot
        } else {
            let slot = self.lanes.slot("the runtime's proc");
            let op = ParentOp::OpenDirectory { path: c"/proc".to_owned(), slot };
            self.lanes.before.push(Step::parent(op, from.clone()));
            slot
        };
        self.procfs = Some(slot);
        slot
    }
}

/// Compiles a configuration into the plan of its container.
///
/// # Errors
/// Every problem of the configuration at once, each with its field.
pub fn compile(spec: &Spec<'_>, facts: &Facts, request: &Request) -> Result<Compiled, Problems> {
    let mut problems = Problems::default();
    crate::validate::spec(spec, &mut problems);
    let mut lanes = Lanes::roomy();
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let mut chapter = Chapter {
        spec,
        linux,
        facts,
        request,
        namespaces: Namespaces::of(linux),
        lanes: &mut lanes,
        problems: &mut problems,
        procfs: None,
        target: None,
    };
    write_chapters(&mut chapter);
    if !problems.errors.is_empty() {
        return Err(problems);
    }
    Ok(Compiled { plan: lanes.weave(), warnings: problems.warnings })
}

fn write_chapters(ch: &mut Chapter<'_>) {
    refuse_what_waits(ch);
    let mut groups = cgroups::make(ch);
    namespaces::clone_and_join(ch, groups.start_in);
    process::oom_score_adj(ch);
    namespaces::map_ids(ch);
    cgroups::enter(ch, &mut groups);
    process::session(ch);
    rootfs::open(ch);
    mounts::all(ch, &groups);
    mounts::notify_socket(ch);
    process::working_directory(ch);
    devices::all(ch);
    process::terminal(ch);
    mark_last(&mut ch.lanes.init, Mark::MountsDone);
    net_devices::all(ch);
    hooks::runtime(ch);
    hooks::create_container(ch);
    namespaces::names(ch);
    namespaces::sysctl(ch);
    rootfs::cover(ch);
    rootfs::enter(ch);
    process::identity(ch);
    process::limits(ch);
    cgroups::verify(ch, &groups);
    process::run(ch);
}

fn mark_last(steps: &mut [Step], mark: Mark) {
    if let Some(last) = steps.last_mut() {
        last.reaches = last.reaches.or(Some(mark));
    }
}

/// What this version cannot do is refused, never ignored.
fn refuse_what_waits(ch: &mut Chapter<'_>) {
    let rootless = ch.facts.rootless();
    if rootless && !ch.namespaces.user && !ch.facts.in_user_namespace {
        ch.problems.error_hint(
            Field::new("linux.namespaces"),
            "a container of an unprivileged user needs a user namespace",
            "`spec --rootless` writes a config that has one",
        );
    }
    if ch.linux.mount_label.as_deref().is_some_and(|l| !l.is_empty()) && !ch.facts.selinux {
        ch.problems.error(Field::new("linux.mountLabel"), "is set, but SELinux is not enabled on this host");
    }
    if ch.namespaces.joins(Kind::Mount) && ch.request.no_pivot {
        ch.problems.error(Field::new("--no-pivot"), "has no meaning in a mount namespace that is joined");
    }
}

/// A string as the kernel takes it. A NUL byte inside is a problem of the config.
fn cstring(text: &str, field: &Field, problems: &mut Problems) -> CString {
    CString::new(text).unwrap_or_else(|_| {
        problems.error(field.clone(), "holds a NUL byte");
        CString::default()
    })
}

/// A path of the host: absolute, or relative to the bundle.
fn host_path(path: &str, request: &Request) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", request.bundle.trim_end_matches('/')) }
}
