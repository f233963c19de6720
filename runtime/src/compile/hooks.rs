//! `hooks`: each kind at its point of the lifecycle, with the state that the specification names for it.

use super::{Chapter, cstring};
use crate::error::Problems;
use crate::field::Field;
use crate::op::{HookOp, InitOp, ParentOp};
use crate::plan::{Mark, Step};
use crate::spec::{Hook, Spec};

/// The version of the specification that states comply with.
pub(super) const OCI_VERSION: &str = "1.3.0";

/// The container's state up to its pid, and from there on (runtime.md, State).
pub(super) fn state(spec: &Spec<'_>, id: &str, bundle: &str, status: &str) -> [String; 2] {
    let text = |s: &str| serde_json::Value::from(s).to_string();
    let mut annotations = String::new();
    for (key, value) in &spec.annotations {
        let comma = if annotations.is_empty() { "" } else { "," };
        annotations.push_str(&format!("{comma}{}:{}", text(key), text(value)));
    }
    let head = format!("{{\"ociVersion\":\"{OCI_VERSION}\",\"id\":{},\"status\":\"{status}\",\"pid\":", text(id));
    let tail = format!(",\"bundle\":{},\"annotations\":{{{annotations}}}}}", text(bundle));
    [head, tail]
}

/// Lays a hook out for execve(2).
fn lay_out(hook: &Hook<'_>, kind: &'static str, index: usize, state: [String; 2], problems: &mut Problems) -> HookOp {
    let field = Field::at(field_of(kind), &[index]);
    let mut text = |s: &str| cstring(s, &field, problems);
    let path = text(&hook.path);
    let mut args: Vec<_> = hook.args.iter().map(|a| text(a)).collect();
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = hook.env.iter().map(|e| text(e)).collect();
    let timeout = hook.timeout.and_then(|t| u32::try_from(t).ok());
    HookOp { kind, index, path, args, env, timeout, state }
}

fn field_of(kind: &str) -> &'static str {
    match kind {
        "prestart" => "hooks.prestart[]",
        "createRuntime" => "hooks.createRuntime[]",
        "createContainer" => "hooks.createContainer[]",
        "startContainer" => "hooks.startContainer[]",
        "poststart" => "hooks.poststart[]",
        _ => "hooks.poststop[]",
    }
}

/// `prestart` and `createRuntime`, in the runtime's namespaces: all mounts are made, the root is not yet entered.
pub(super) fn runtime(ch: &mut Chapter<'_>) {
    let Some(hooks) = &ch.spec.hooks else { return };
    let mut steps = Vec::new();
    for (list, kind) in [(&hooks.prestart, "prestart"), (&hooks.create_runtime, "createRuntime")] {
        for (i, hook) in list.iter().enumerate() {
            let state = state(ch.spec, &ch.request.id, &ch.request.bundle, "creating");
            let op = lay_out(hook, kind, i, state, ch.problems);
            steps.push(Step::parent(ParentOp::Hook(Box::new(op)), Field::at(field_of(kind), &[i])));
        }
    }
    if let Some(first) = steps.first_mut() {
        first.waits = Some(Mark::MountsDone);
    }
    if let Some(last) = steps.last_mut() {
        last.reaches = Some(Mark::RuntimeHooksDone);
        ch.lanes.parent.extend(steps);
        ch.lanes.hold_init(Mark::RuntimeHooksDone);
    }
}

/// `createContainer`, in the container's namespaces.
pub(super) fn create_container(ch: &mut Chapter<'_>) {
    let Some(hooks) = &ch.spec.hooks else { return };
    for (i, hook) in hooks.create_container.iter().enumerate() {
        let state = state(ch.spec, &ch.request.id, &ch.request.bundle, "creating");
        let op = lay_out(hook, "createContainer", i, state, ch.problems);
        ch.lanes.init.push(Step::init(InitOp::Hook(Box::new(op)), Field::at(field_of("createContainer"), &[i])));
    }
}

/// `startContainer`, in the container, just before the program.
pub(super) fn start_container(ch: &mut Chapter<'_>) {
    let Some(hooks) = &ch.spec.hooks else { return };
    for (i, hook) in hooks.start_container.iter().enumerate() {
        let state = state(ch.spec, &ch.request.id, &ch.request.bundle, "created");
        let mut op = lay_out(hook, "startContainer", i, state, ch.problems);
        if let Some(process) = ch.spec.process.as_ref().filter(|_| hook.env.is_empty()) {
            op.env = super::process::strings(ch, &process.env, "process.env[]");
        }
        ch.lanes.init.push(Step::init(InitOp::Hook(Box::new(op)), Field::at(field_of("startContainer"), &[i])));
    }
}

/// Hooks that run outside of a plan: `poststart` with status `running`, `poststop` with `stopped`; and, where CRIU makes the
/// namespaces, `prestart` and `createRuntime` with `creating`.
///
/// A hook that cannot be laid out was refused when the container was created.
pub fn late_hooks(spec: &Spec<'_>, id: &str, bundle: &str, kind: &'static str) -> Vec<HookOp> {
    let (list, status) = match (&spec.hooks, kind) {
        (Some(hooks), "prestart") => (&hooks.prestart, "creating"),
        (Some(hooks), "createRuntime") => (&hooks.create_runtime, "creating"),
        (Some(hooks), "poststart") => (&hooks.poststart, "running"),
        (Some(hooks), _) => (&hooks.poststop, "stopped"),
        (None, _) => return Vec::new(),
    };
    let mut problems = Problems::default();
    let lay = |(i, hook)| lay_out(hook, kind, i, state(spec, id, bundle, status), &mut problems);
    list.iter().enumerate().map(lay).collect()
}
