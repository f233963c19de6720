//! One case, run by a process of its own: first outside (`enter`), then as the init of new namespaces (`run`).
//!
//! The pid namespace is what keeps the suite bounded: when its init ends, the kernel kills everything that the runtime left. The
//! mount, network, IPC and UTS namespaces are the runtime's "runtime namespaces": a case may change them freely.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::{Case, Expect};
use crate::outcome::{Outcome, Verdict};
use crate::patch::Patch;
use crate::steps::Story;
use crate::{bundle, check, needs, sys};

/// What a worker is told, on its standard input.
#[derive(Debug, Deserialize, Serialize)]
pub struct Job {
    /// The case.
    pub case: Case,
    /// The config that its patch changes.
    pub base: Value,
    /// The runtime and its first arguments.
    pub command: Vec<String>,
    /// The probe's path.
    pub probe: String,
    /// An empty directory for the case.
    pub dir: PathBuf,
    /// The cgroup path that the base config gets.
    pub cgroup: String,
    /// Seconds that one call of the runtime may take.
    pub call_limit: u64,
    /// Milliseconds that a program may take from start to its report.
    pub patience: u64,
    /// Whether the config stays as the base has it: what a runtime does that ignores what it is told.
    pub deaf: bool,
}

/// The argument by which the binary calls itself to make the namespaces.
pub const ENTER: &str = "__enter";
/// The argument by which it calls itself inside them.
pub const RUN: &str = "__run";
/// The argument after [`ENTER`] that has a program run in the namespaces in place of a case.
pub const EXEC: &str = "__exec";

/// Makes the namespaces, starts the init of the pid namespace and waits for it. `rest` is empty for a case, or [`EXEC`] and a
/// program.
pub fn enter(rest: &[String]) -> ExitCode {
    let next: &[String] = if rest.is_empty() { &[RUN.to_owned()] } else { rest };
    let flags = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let started = sys::die_with_parent().and_then(|()| Ok(unshare(flags)?));
    let done = started.and_then(|()| Command::new("/proc/self/exe").args(next).status());
    ExitCode::from(u8::from(!done.is_ok_and(|status| status.success())))
}

/// Runs the case whose job is on standard input; the outcome goes to standard output.
pub fn run() -> ExitCode {
    let mut text = String::new();
    let outcome = prepare()
        .and_then(|()| io::stdin().lock().read_to_string(&mut text).map_err(|e| format!("stdin: {e}")))
        .and_then(|_| serde_json::from_str::<Job>(&text).map_err(|e| format!("job: {e}")))
        .map_or_else(Outcome::broken, |job| perform(&job));
    let line = serde_json::to_string(&outcome).unwrap_or_default();
    ExitCode::from(u8::from(io::stdout().lock().write_all(line.as_bytes()).is_err()))
}

/// Runs a program inside the namespaces and passes its exit code on.
pub fn exec(command: &[String]) -> ExitCode {
    let Some((program, args)) = command.split_first() else { return ExitCode::FAILURE };
    match prepare().and_then(|()| Command::new(program).args(args).status().map_err(|e| e.to_string())) {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(message) => {
            let _gone = writeln!(io::stderr().lock(), "{program}: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The surroundings of every case: own mounts, own /proc, a network with a loopback, a name.
fn prepare() -> Result<(), String> {
    let none: Option<&str> = None;
    sys::die_with_parent().map_err(|e| format!("prctl: {e}"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|e| format!("mount / private: {e}"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(|e| format!("mount /proc: {e}"))?;
    nix::unistd::sethostname("conformance-host").map_err(|e| format!("sethostname: {e}"))
}

fn perform(job: &Job) -> Outcome {
    if let Err(reason) = needs::all(&job.case.needs, &job.command) {
        return Outcome::new(Verdict::Skip, reason);
    }
    let mut outcome = match job.case.expect {
        Expect::Works => works(job),
        Expect::Refused | Expect::RefusedLate => refused(job),
        Expect::WorksOrRefused => {
            let first = works(job);
            if first.verdict == Verdict::Pass { first } else { either(job, first) }
        }
    };
    outcome.cgroups.sort();
    outcome.cgroups.dedup();
    outcome
}

/// The second chance of a value that a runtime may refuse: the refusal must then be a proper one.
fn either(job: &Job, first: Outcome) -> Outcome {
    let mut other = in_another_place(job, "refusal");
    other.case.check.clear();
    let mut second = refused(&other);
    second.cgroups.extend(first.cgroups);
    if second.verdict == Verdict::Fail {
        second.message = format!("{}; nor is it refused: {}", first.message, second.message);
    }
    second
}

/// The case as its patch has it: all steps as they say, all checks true.
fn works(job: &Job) -> Outcome {
    let patch = if job.deaf { Patch::default() } else { job.case.patch() };
    attempt(job, &patch, &job.case.given, &job.case.actions, |story| {
        if job.case.steps.is_empty() {
            story.all(&default_steps(&job.case))?;
        } else {
            story.all(&job.case.steps)?;
        }
        story.finish();
        judge(&job.case, story)
    })
}

/// Create, start, report; for a program that waits, nothing more is needed: the pid namespace ends it.
fn default_steps(case: &Case) -> Vec<Value> {
    let mut steps = vec!["create", "cgroups", "start", "report"];
    if case.check.iter().any(|c| c.first().and_then(Value::as_str).is_some_and(|p| p.starts_with("events"))) {
        steps.extend(["gone", "delete"]);
    }
    steps.into_iter().map(|s| serde_json::json!({ "do": s })).collect()
}

fn judge(case: &Case, story: &Story) -> Result<(), String> {
    let filled = case.check.iter().map(|c| story.fill(c));
    let failed: Vec<String> = filled.filter_map(|c| check::holds(story.seen(), &c).err()).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// The config must be refused, and its twin, which differs in the bad value alone, must work.
fn refused(job: &Job) -> Outcome {
    let case = &job.case;
    let patch = if job.deaf { case.twin.clone().unwrap_or_default() } else { case.patch() };
    let late = case.expect != Expect::Refused;
    let bad = attempt(job, &patch, &case.given, &case.actions, |story| {
        story.refusal(late)?;
        judge(case, story)
    });
    if bad.verdict != Verdict::Pass {
        return bad;
    }
    let other = in_another_place(job, "twin");
    let twin = case.twin.clone().unwrap_or_default();
    let mut good = attempt(&other, &twin, &case.given, &[], |story| {
        story.all(&["create", "start", "report"].map(|s| serde_json::json!({ "do": s })))
    });
    good.cgroups.extend(bad.cgroups);
    if good.verdict == Verdict::Fail {
        good.message = format!("refuses the good twin too: {}", good.message);
    }
    good
}

/// The same job in a directory and cgroup of its own.
fn in_another_place(job: &Job, name: &str) -> Job {
    let case = Case { raw: None, ..job.case.clone() };
    let cgroup = format!("{}-{name}", job.cgroup);
    let raw = job.case.raw.clone().filter(|_| name != "twin");
    Job {
        case: Case { raw, ..case },
        base: job.base.clone(),
        command: job.command.clone(),
        probe: job.probe.clone(),
        dir: job.dir.join(name),
        cgroup,
        call_limit: job.call_limit,
        patience: job.patience,
        deaf: job.deaf,
    }
}

/// Lays out bundle and world, then lets `act` run and judge.
fn attempt(
    job: &Job,
    patch: &Patch,
    given: &[Value],
    actions: &[String],
    act: impl FnOnce(&mut Story) -> Result<(), String>,
) -> Outcome {
    let laid = fs::create_dir_all(&job.dir)
        .map_err(|e| e.to_string())
        .and_then(|()| bundle::rootfs(&job.dir.join("bundle"), Path::new(&job.probe)))
        .and_then(|()| Story::new(job, patch, given, actions, Duration::from_secs(job.call_limit)));
    match laid {
        Err(reason) if reason.starts_with("given ") || reason.starts_with("hold ") || reason.starts_with('[') => {
            Outcome::new(Verdict::Skip, format!("the host cannot set the case up: {reason}"))
        }
        Err(reason) => Outcome::broken(reason),
        Ok(mut story) => {
            let result = act(&mut story);
            let cgroups = story.cgroups();
            let mut outcome = match result {
                Ok(()) => Outcome::new(Verdict::Pass, String::new()),
                Err(message) => Outcome::new(Verdict::Fail, message),
            };
            outcome.seen = story.seen().clone();
            outcome.cgroups = cgroups;
            outcome
        }
    }
}
