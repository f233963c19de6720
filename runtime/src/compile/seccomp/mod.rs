//! `linux.seccomp`: the profile becomes the program that seccomp(2) takes. `DESIGN.md` says why it looks as it does.

#![forbid(unsafe_code)]

mod arch;
mod body;
mod bpf;
mod calls;
mod conflict;
pub mod interpret;
mod rules;
mod table;
mod tree;
mod words;

pub use arch::{ARCHITECTURES, Arch, X32_BIT};
pub use bpf::{Insn, MAX_INSNS};
pub use calls::{call_multiplexed, call_number};
pub use words::{
    ACTIONS, FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV, FLAGS, OPERATORS,
};

pub use crate::op::seccomp::Filter;

use crate::error::Problems;
use crate::field::Field;
use crate::spec::Seccomp;
use arch::Named;
use bpf::{AT_ARCH, Backward, IF_EQ};
use rules::Rules;
use tree::Trees;
use words::{ACTION, ALLOW, KILL_THREAD, LOG, NOTIFY, TRACE};

/// Compiles `linux.seccomp` for a kernel of architecture `native`, which takes `kernel_flags` (bits of seccomp(2)).
///
/// `None` where there is nothing to install, or where errors were added to `problems`. The meaning of a profile is that
/// of the runtime specification where it says something, else that which runc gives it by way of libseccomp; `DESIGN.md`
/// lists the points.
pub fn compile(seccomp: &Seccomp<'_>, native: Arch, kernel_flags: u32, problems: &mut Problems) -> Option<Filter> {
    if seccomp.default_action.is_empty() && seccomp.syscalls.is_empty() {
        return None;
    }
    let errors = problems.errors.len();
    let default = default_verdict(seccomp, problems);
    let architectures = architectures(seccomp, native, problems);
    let mut rules = Rules::read(seccomp, default.unwrap_or(KILL_THREAD), problems);
    let notify = rules.notify;
    let flags = flags(seccomp, notify, kernel_flags, problems);
    listener(seccomp, notify, problems);
    if problems.errors.len() > errors {
        return None;
    }
    let (program, calls) = program(&mut rules, &architectures, problems);
    if program.len() > MAX_INSNS {
        let text = format!("the rules need {} instructions, the kernel takes {MAX_INSNS}", program.len());
        problems.error(Field::new("linux.seccomp.syscalls"), text);
    }
    (problems.errors.len() == errors).then_some(Filter { program, flags, notify, architectures, calls })
}

fn default_verdict(seccomp: &Seccomp<'_>, problems: &mut Problems) -> Option<u32> {
    let field = || Field::new("linux.seccomp.defaultAction");
    let errno_field = || Field::new("linux.seccomp.defaultErrnoRet");
    let verdict = words::verdict(&seccomp.default_action, seccomp.default_errno_ret, field, errno_field, problems)?;
    if verdict & ACTION == NOTIFY {
        problems.error(field(), "SCMP_ACT_NOTIFY cannot be used as default action");
    }
    Some(verdict)
}

/// The native architecture, listed or not (as in libseccomp), then the listed ones that this kernel can run.
fn architectures(seccomp: &Seccomp<'_>, native: Arch, problems: &mut Problems) -> Vec<Arch> {
    // No kernel is x32 only.
    let mut known = vec![if native == Arch::X32 { Arch::X86_64 } else { native }];
    for (i, name) in seccomp.architectures.iter().enumerate() {
        let field = || Field::at("linux.seccomp.architectures[]", &[i]);
        match arch::named(name, native) {
            Some(Named::Known(arch)) if known.contains(&arch) => {}
            Some(Named::Known(arch)) => known.push(arch),
            Some(Named::Foreign) => {}
            Some(Named::OtherEndian) => {
                problems.error(field(), format!("{name} has another byte order than {}", native.name()));
            }
            None => problems.error_hint(field(), format!("no architecture {name:?}"), ARCHITECTURES.join(", ")),
        }
    }
    known
}

/// The bits for seccomp(2).
///
/// The container's first process has one thread when it installs its filter, so TSYNC changes nothing and is left out
/// (with a listener the kernel would refuse it); WAIT_KILLABLE_RECV is about notified calls, and the kernel takes it
/// only where there can be any.
fn flags(seccomp: &Seccomp<'_>, notify: bool, kernel_flags: u32, problems: &mut Problems) -> u32 {
    let mut flags = 0;
    for (i, name) in seccomp.flags.iter().enumerate() {
        let field = || Field::at("linux.seccomp.flags[]", &[i]);
        match FLAGS.iter().find(|(known, _)| *known == &**name).map(|(_, bit)| *bit) {
            None => {
                let known: Vec<&str> = FLAGS.iter().map(|(known, _)| *known).collect();
                problems.error_hint(field(), format!("no seccomp flag {name:?}"), known.join(", "));
            }
            Some(FLAG_TSYNC) => {}
            Some(bit) if kernel_flags & bit == 0 => {
                problems.error(field(), format!("this kernel has no {name}"));
            }
            Some(FLAG_WAIT_KILLABLE_RECV) if !notify => {}
            Some(bit) => flags |= bit,
        }
    }
    if notify {
        if kernel_flags & FLAG_NEW_LISTENER == 0 {
            problems.error(Field::new("linux.seccomp.syscalls"), "this kernel has no SCMP_ACT_NOTIFY");
        }
        flags |= FLAG_NEW_LISTENER;
    }
    flags
}

fn listener(seccomp: &Seccomp<'_>, notify: bool, problems: &mut Problems) {
    if seccomp.listener_path.as_ref().is_some_and(|path| !path.is_empty()) {
        return;
    }
    if notify {
        let text = "SCMP_ACT_NOTIFY needs the socket of an agent";
        problems.error(Field::new("linux.seccomp.listenerPath"), text);
    }
    if seccomp.listener_metadata.as_ref().is_some_and(|metadata| !metadata.is_empty()) {
        let text = "must not be set without linux.seccomp.listenerPath";
        problems.error(Field::new("linux.seccomp.listenerMetadata"), text);
    }
}

/// The whole program, and the number of native calls with a rule.
fn program(rules: &mut Rules, architectures: &[Arch], problems: &mut Problems) -> (Vec<Insn>, usize) {
    // Tracers, and whoever only logs, want to see calls that they do not know.
    let enosys = !matches!(rules.default & ACTION, ALLOW | LOG | TRACE);
    let x32 = architectures.contains(&Arch::X32);
    let mut trees = Trees::new(rules, enosys);
    let mut out = Backward::with_capacity(1024);
    let mut calls = 0;
    let mut next = out.verdict(KILL_THREAD);
    for arch in architectures.iter().rev().filter(|arch| **arch != Arch::X32) {
        let segments = trees.segments(*arch, x32, problems);
        let tree = trees.write(&mut out, &segments, arch.wide());
        next = out.branch(IF_EQ, arch.audit(), tree, next);
        calls = trees.calls;
    }
    out.load(AT_ARCH, next);
    (out.finish(), calls)
}
