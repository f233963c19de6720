//! `hooks`: config.md, "POSIX-platform Hooks".

use super::{absolute, no_nul};
use crate::error::Problems;
use crate::field::Field;
use crate::spec::{Hook, Hooks};

/// Where the parts of a kind of hook are in a config.
struct Paths {
    path: &'static str,
    args: &'static str,
    env: &'static str,
    timeout: &'static str,
}

macro_rules! paths {
    ($kind:literal) => {
        Paths {
            path: concat!("hooks.", $kind, "[].path"),
            args: concat!("hooks.", $kind, "[].args[]"),
            env: concat!("hooks.", $kind, "[].env[]"),
            timeout: concat!("hooks.", $kind, "[].timeout"),
        }
    };
}

pub(super) fn check(hooks: &Hooks<'_>, problems: &mut Problems) {
    for (paths, hooks) in [
        (paths!("prestart"), &hooks.prestart),
        (paths!("createRuntime"), &hooks.create_runtime),
        (paths!("createContainer"), &hooks.create_container),
        (paths!("startContainer"), &hooks.start_container),
        (paths!("poststart"), &hooks.poststart),
        (paths!("poststop"), &hooks.poststop),
    ] {
        for (i, wanted) in hooks.iter().enumerate() {
            hook(&paths, i, wanted, problems);
        }
    }
}

fn hook(paths: &Paths, i: usize, hook: &Hook<'_>, problems: &mut Problems) {
    absolute(&hook.path, || Field::at(paths.path, &[i]), problems);
    for (j, arg) in hook.args.iter().enumerate() {
        no_nul(arg, || Field::at(paths.args, &[i, j]), problems);
    }
    for (j, entry) in hook.env.iter().enumerate() {
        no_nul(entry, || Field::at(paths.env, &[i, j]), problems);
    }
    if let Some(seconds) = hook.timeout.filter(|seconds| *seconds <= 0) {
        let text = format!("is {seconds} seconds; it must be greater than zero");
        problems.error(Field::at(paths.timeout, &[i]), text);
    }
}
