//! `restore`: the container's cgroups are made and CRIU is started in them; all the rest it makes from its images.

use super::namespaces::Namespaces;
use super::{Chapter, Compiled, cgroups, cstring, host_path, mounts, namespaces};
use crate::error::Problems;
use crate::facts::Facts;
use crate::field::Field;
use crate::op::InitOp;
use crate::plan::{Lanes, Mark, Step};
use crate::request::Request;
use crate::spec::{Linux, Mount, Spec};

/// A mount whose source is outside of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// Path inside the container.
    pub destination: String,
    /// Path of the host.
    pub source: String,
    /// Whether its mount point lies in the root filesystem itself, and not in another mount.
    pub in_root: bool,
}

/// CRIU, as it is started.
#[derive(Debug, Clone, Copy)]
pub struct Criu<'a> {
    /// Path of the program.
    pub program: &'a str,
    /// Where it finds the tools that it needs, those of the firewall among them (`PATH`).
    pub path: &'a str,
    /// The socket that it inherits.
    pub fd: i32,
}

/// Compiles the plan that starts `criu swrk FD` in the container's cgroups.
///
/// # Errors
/// Every problem of the configuration at once, each with its field.
pub fn compile(spec: &Spec<'_>, facts: &Facts, request: &Request, criu: Criu<'_>) -> Result<Compiled, Problems> {
    let mut problems = Problems::default();
    crate::validate::spec(spec, &mut problems);
    let mut lanes = Lanes::default();
    let none = Linux::default();
    let mut chapter = Chapter {
        spec,
        linux: spec.linux.as_ref().unwrap_or(&none),
        facts,
        request,
        namespaces: Namespaces::default(),
        lanes: &mut lanes,
        problems: &mut problems,
        procfs: None,
        target: None,
    };
    write_chapters(&mut chapter, criu);
    if !problems.errors.is_empty() {
        return Err(problems);
    }
    Ok(Compiled { plan: lanes.weave(), warnings: problems.warnings })
}

fn write_chapters(ch: &mut Chapter<'_>, criu: Criu<'_>) {
    let field = || Field::new("restore");
    let mut groups = cgroups::make(ch);
    namespaces::clone_and_join(ch, groups.start_in);
    cgroups::enter(ch, &mut groups);
    let args = ["criu", "swrk", &criu.fd.to_string()].map(|arg| cstring(arg, &field(), ch.problems)).to_vec();
    let found = vec![cstring(criu.program, &field(), ch.problems)];
    ch.lanes.init.push(Step::init(InitOp::FindProgram(found), field()));
    ch.lanes.init.push(Step::init(InitOp::AwaitStart, field()).reaches(Mark::Ready));
    let env = vec![cstring(&format!("PATH={}", criu.path), &field(), ch.problems)];
    ch.lanes.init.push(Step::init(InitOp::Exec { args, env }, field()));
    cgroups::verify(ch, &groups);
}

fn is_bind(mount: &Mount<'_>) -> bool {
    mount.kind.as_deref() == Some("bind") || mount.options.iter().any(|o| matches!(&**o, "bind" | "rbind"))
}

/// The mounts and devices of a configuration whose sources CRIU does not save.
pub fn outside(spec: &Spec<'_>, request: &Request) -> Vec<Outside> {
    let mut found: Vec<Outside> = Vec::new();
    let mut over: Vec<String> = Vec::new();
    for mount in &spec.mounts {
        let destination = mounts::inside(&mount.destination);
        let below = |over: &String| destination.strip_prefix(over.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let in_root = !over.iter().any(below);
        if is_bind(mount) {
            let source = host_path(mount.source.as_deref().unwrap_or_default(), request);
            found.push(Outside { destination: destination.clone(), source, in_root });
        }
        over.push(destination);
    }
    // Where mknod(2) was refused the device of the host is mounted.
    for device in spec.linux.iter().flat_map(|l| &l.devices) {
        let destination = mounts::inside(&device.path);
        found.push(Outside { source: destination.clone(), destination, in_root: false });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_found() {
        let text = br#"{"ociVersion":"1.3.0","root":{"path":"r"},"mounts":[
            {"destination":"/dev","type":"tmpfs","source":"tmpfs"},
            {"destination":"/dev/x","type":"bind","source":"/host/x"},
            {"destination":"/data/","source":"data","options":["rbind","ro"]},
            {"destination":"/device","type":"tmpfs","source":"tmpfs"}]}"#;
        let (spec, _) = crate::parse::config(text).unwrap();
        let request = Request { bundle: "/b".to_owned(), ..Request::default() };
        let is = |d: &str, s: &str, in_root| Outside { destination: d.to_owned(), source: s.to_owned(), in_root };
        assert_eq!(outside(&spec, &request), [is("/dev/x", "/host/x", false), is("/data", "/b/data", true)]);
    }

    #[test]
    fn the_plan_is_sound_and_ends_as_criu() {
        let text =
            br#"{"ociVersion":"1.3.0","root":{"path":"r"},"linux":{"namespaces":[{"type":"pid"},{"type":"cgroup"}]}}"#;
        let (spec, _) = crate::parse::config(text).unwrap();
        let request = Request { id: "x".to_owned(), bundle: "/b".to_owned(), ..Request::default() };
        let plan = compile(&spec, &Facts::ordinary(), &request, Criu { program: "/sbin/criu", path: "/sbin", fd: 7 })
            .unwrap()
            .plan;
        assert_eq!(crate::check::check(&plan), Ok(()));
        let Some(crate::plan::Act::Init(InitOp::Exec { args, .. })) =
            plan.steps.iter().rev().map(|s| &s.act).find(|a| a.lane() == crate::plan::Lane::Init)
        else {
            panic!("no program")
        };
        assert_eq!(args.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>(), ["criu", "swrk", "7"]);
    }
}
