//! Crash at every system call: a runtime's command is traced with all its children, their state-changing system calls are
//! counted in one global order, and at point N something happens. Then it is looked at what is left.
//!
//! ```text
//! conformance-crash --runtime BINARY [--verb create,start,…] [--mode leader,all,EPERM,…] [--points N] [--at N]
//!
//! --verb    create start exec kill delete update pause resume (all)
//! --mode    leader: kill the command's own process; all: it and its children; EPERM and the like: the call fails so (leader,all)
//! --points  so many points of each verb and mode, evenly spread (all of them)
//! --at      this point alone
//! ```
//!
//! The rules after each point: (a) after `delete --force` no cgroup, mount, process or state is left; (b) the id can be used
//! again; (c) a second `delete --force` succeeds too; (d) a command that succeeds in spite of a failed call has done all of
//! what it was to do; (e) a `create` or `exec` that fails leaves nothing, before anything is deleted; (f) all of it in time.
//! One line of TAP for each verb and mode. Runs as root, in pid and mount namespaces of its own.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

mod bed;
mod calls;
mod sweep;
mod trace;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use trace::Harm;

/// In the environment of the process that is in the new namespaces.
const INSIDE: &str = "CONFORMANCE_CRASH_INSIDE";
const VERBS: [&str; 8] = ["create", "start", "exec", "kill", "delete", "update", "pause", "resume"];

struct Ask {
    runtime: PathBuf,
    verbs: Vec<String>,
    modes: Vec<Harm>,
    points: Option<usize>,
    at: Option<usize>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The command that is to be traced waits to be taken hold of.
    if let [first, program, rest @ ..] = args.as_slice()
        && first == trace::STOPPED
    {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
        eprintln!("{program}: {}", Command::new(program).args(rest).exec());
        return ExitCode::from(127);
    }
    let done = ask(&args).and_then(|ask| match std::env::var(INSIDE) {
        Ok(name) => inside(&ask, &name),
        Err(_) => outside(&args),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("conformance-crash: {text}");
            ExitCode::from(2)
        }
    }
}

fn ask(args: &[String]) -> Result<Ask, String> {
    let mut ask = Ask {
        runtime: PathBuf::new(),
        verbs: VERBS.map(str::to_owned).into(),
        modes: vec![Harm::Leader, Harm::All],
        points: None,
        at: None,
    };
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} wants a value"))?;
        let number = || value.parse::<usize>().map_err(|e| format!("{flag} {value}: {e}"));
        match flag.as_str() {
            "--runtime" => ask.runtime = std::path::absolute(value).map_err(|e| format!("{value}: {e}"))?,
            "--verb" => ask.verbs = value.split(',').map(str::to_owned).collect(),
            "--mode" => ask.modes = value.split(',').map(Harm::named).collect::<Result<_, _>>()?,
            "--points" => ask.points = Some(number()?),
            "--at" => ask.at = Some(number()?),
            _ => return Err(format!("unknown option {flag}")),
        }
    }
    match ask.verbs.iter().find(|v| !VERBS.contains(&v.as_str())) {
        Some(unknown) => Err(format!("--verb {unknown}: is none of {}", VERBS.join(" "))),
        None if !ask.runtime.is_file() => Err("--runtime must name the runtime's binary".to_owned()),
        None => Ok(ask),
    }
}

/// Starts the same command as the first process of a new pid namespace: whatever ends up with it is left over.
fn outside(args: &[String]) -> Result<bool, String> {
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)
        .map_err(|e| format!("unshare: {e} (root is needed)"))?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let name = format!("crash-{}", std::process::id());
    let status = Command::new(own).args(args).env(INSIDE, &name).status().map_err(|e| e.to_string())?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("ended with {status}")),
    }
}

fn inside(ask: &Ask, name: &str) -> Result<bool, String> {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let none: Option<&str> = None;
    let failed = |what: &'static str| move |e: nix::Error| format!("{what}: {e}");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(failed("make / private"))?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).map_err(failed("mount /proc"))?;
    let bed = bed::Bed::new(&ask.runtime, name)?;
    let mut good = true;
    for verb in &ask.verbs {
        for mode in &ask.modes {
            good &= sweep::sweep(&bed, verb, *mode, ask.points, ask.at)?;
        }
    }
    Ok(good)
}
