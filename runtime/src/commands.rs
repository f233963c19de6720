//! The verbs, one short file each: it reads like the story of the verb.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::cli::{self, Command, Global, Invocation};
use crate::container;
use crate::log::Logger;
use crate::protect;
use crate::sys::{fs, process};

mod checkpoint;
mod create;
mod events;
mod exec;
mod explain;
mod features;
mod list;
mod mounts;
mod ps;
mod report;
mod spec;
mod top;
mod trace;
mod update;

/// What a command fails with: what is logged, once, and the exit code.
pub struct Failure {
    message: String,
    code: u8,
}

impl From<container::Error> for Failure {
    fn from(e: container::Error) -> Self {
        Failure { message: e.message, code: 1 }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure { message: crate::sys::io_text(&e), code: 1 }
    }
}

/// What a command ends with: its exit code.
pub type Outcome = Result<u8, Failure>;

/// What every command knows.
pub struct Context {
    /// The options before the command.
    pub global: Global,
    /// What the program calls itself.
    pub name: String,
    /// Where is logged.
    pub log: Logger,
}

impl Context {
    /// The directory of all containers' states, and whether the caller named it.
    pub fn root(&self) -> (PathBuf, bool) {
        match &self.global.root {
            Some(root) => (std::path::absolute(root).unwrap_or_else(|_| root.clone()), true),
            None => (default_root(), false),
        }
    }

    /// The same for a new container. In a runtime directory, what is old and not sticky may be swept by whoever keeps that
    /// (XDG Base Directory Specification).
    pub fn root_to_make_in(&self) -> PathBuf {
        let (root, named) = self.root();
        if !named && has_runtime_directory() {
            // Where either fails, making the container's directory says so.
            let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root);
            let _ = std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o1700));
        }
        root
    }

    /// Prints to standard output.
    ///
    /// # Errors
    /// What the system says; a reader that has gone is no error.
    pub fn print(&self, text: &str) -> Outcome {
        self.tell(text.as_bytes()).map(|_| 0)
    }

    /// The same; says whether there is still somebody who reads.
    ///
    /// # Errors
    /// What the system says.
    pub fn tell(&self, text: &[u8]) -> Result<bool, Failure> {
        match fs::print(text) {
            Err(f) if f.errno == libc::EPIPE => Ok(false),
            told => Ok(told.map(|()| true).map_err(std::io::Error::from)?),
        }
    }
}

/// `/run/tare`, or for who is not the host's root `$XDG_RUNTIME_DIR/tare`.
fn default_root() -> PathBuf {
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| Path::new(d).is_absolute())
        && has_runtime_directory()
    {
        return Path::new(&dir).join("tare");
    }
    PathBuf::from("/run/tare")
}

/// Whether `$XDG_RUNTIME_DIR` is meant for what this process keeps. The host's root has /run, whatever its session has set;
/// root of a user namespace is a plain user who is called so, or a whole system whose root logged in.
fn has_runtime_directory() -> bool {
    process::effective_ids().0 != 0
        || (crate::run::proc::in_user_namespace() && std::env::var_os("USER").is_none_or(|user| user != "root"))
}

/// Reads a command line, `argv[0]` included, and does what it says. An error is printed once.
pub fn main(argv: &[OsString]) -> u8 {
    let Invocation { global, command, name } = match cli::parse(argv) {
        Ok(invocation) => invocation,
        Err(rejected) => {
            Logger::open(&rejected.global).unwrap_or_else(|_| Logger::stderr()).error(&rejected.error.message);
            return rejected.error.exit_code;
        }
    };
    if matches!(command, Command::Create(_) | Command::Run(_) | Command::Trace(_) | Command::Exec(_))
        && let Err(fault) = protect::executable()
    {
        let (before, code) = if matches!(command, Command::Exec(_)) { ("exec failed: ", 255) } else { ("", 1) };
        let text = format!("{before}cannot protect {name} from the container: {fault}");
        Logger::open(&global).unwrap_or_else(|_| Logger::stderr()).error(&text);
        return code;
    }
    let inherited = match &command {
        Command::Create(ask)
        | Command::Run(cli::Run { create: ask, .. })
        | Command::Trace(cli::Trace { run: cli::Run { create: ask, .. }, .. }) => create::inherited(ask.preserve_fds),
        Command::Exec(ask) => create::inherited(ask.preserve_fds).map_err(|f| Failure { code: 255, ..f }),
        _ => Ok(()),
    };
    let log = match Logger::open(&global) {
        Ok(log) => log,
        Err(message) => {
            Logger::stderr().error(&message);
            return if matches!(command, Command::Exec(_)) { 255 } else { 1 };
        }
    };
    let cx = Context { global, name, log };
    match inherited.and_then(|()| run(&cx, command)) {
        Ok(code) => code,
        Err(failure) => {
            cx.log.error(&failure.message);
            failure.code
        }
    }
}

fn run(cx: &Context, command: Command) -> Outcome {
    let (root, _) = cx.root();
    let mut warn = |text: String| cx.log.warn(&text);
    match command {
        Command::Create(ask) => create::create(cx, ask),
        Command::Run(ask) => create::run(cx, ask),
        Command::Trace(ask) => trace::trace(cx, ask),
        Command::Exec(ask) => exec::exec(cx, ask),
        Command::Start(ask) => done(container::start(&root, &ask.id)),
        Command::State(ask) => list::state(cx, &ask.id),
        Command::Kill(ask) => done(container::kill(&root, &ask.id, ask.signal, ask.all)),
        Command::Delete(ask) => done(container::delete(&root, &ask.id, ask.force, &mut warn)),
        command => run_seldom(cx, command, &root),
    }
}

/// Apart from those that every container needs: what lies together is read together.
#[cold]
#[inline(never)]
fn run_seldom(cx: &Context, command: Command, root: &Path) -> Outcome {
    match command {
        Command::Pause(ask) => done(container::pause::pause(root, &ask.id)),
        Command::Resume(ask) => done(container::pause::resume(root, &ask.id)),
        Command::Checkpoint(ask) => checkpoint::checkpoint(cx, ask),
        Command::Restore(ask) => checkpoint::restore(cx, *ask),
        Command::Update(ask) => update::update(cx, &ask),
        Command::Events(ask) => events::events(cx, &ask),
        Command::Top(ask) => top::top(cx, &ask),
        Command::Ps(ask) => ps::ps(cx, &ask),
        Command::MountsAdd(ask) => mounts::add(cx, &ask),
        Command::MountsRemove(ask) => mounts::remove(cx, &ask),
        Command::Diff(ask) => report::diff(cx, &ask),
        Command::Gc { dry_run } => report::gc(cx, dry_run),
        Command::Doctor { json } => report::doctor(cx, json),
        Command::List(ask) => list::list(cx, &ask),
        Command::Spec(ask) => spec::spec(&ask),
        Command::Features => features::features(cx),
        Command::Explain(ask) => explain::explain(cx, &ask),
        Command::Help { of } => cx.print(&cli::help_text(&cx.name, of.as_deref())),
        Command::Version => cx.print(&cli::version_text(&cx.name)),
        Command::Completion(shell) => cx.print(&cli::completion(&cx.name, shell)),
        Command::Man { of } => cx.print(&cli::man_page(&cx.name, of.as_deref())),
        // Those are done already.
        Command::Create(_)
        | Command::Run(_)
        | Command::Trace(_)
        | Command::Exec(_)
        | Command::Start(_)
        | Command::State(_)
        | Command::Kill(_)
        | Command::Delete(_) => Ok(0),
    }
}

fn done(result: container::Result<()>) -> Outcome {
    Ok(result.map(|()| 0)?)
}
