//! The life of a container, told as short stories: create, start, kill, delete.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::compile::{self, Compiled};
use crate::error::{Problem, Problems};
use crate::facts::Facts;
use crate::notify::{self, Notify};
use crate::op::HookOp;
use crate::plan::Plan;
use crate::request::Request;
use crate::run::{cgroup, parent};
use crate::spec::Spec;
use crate::state::{self, Dir, Journal, Record, StateError};
use crate::sys::memory::forget_code;
use crate::sys::{fs, io_text, process};
use crate::time::Timestamp;
use crate::walk::{self, Means, Ready};
use crate::{check, host, parse, undo};

pub mod checkpoint;
pub mod diff;
pub mod exec;
pub mod gc;
pub mod images;
pub mod mounts;
pub mod pause;
pub mod restore;
pub mod status;
pub mod trace;
pub mod update;
pub mod usage;
pub mod watch;

pub use status::{Status, status};
use trace::{Trace, phase};
pub use watch::processes;

/// How long a killed process may take to go before that is an error.
const DEATH_MS: i32 = 10_000;
/// How long init may take to say something before it is asked whether it is frozen.
const ANSWER_MS: i32 = 100;

/// Why something could not be done to a container.
#[derive(Debug)]
pub struct Error {
    /// The sentence; it ends with what engines match.
    pub message: String,
    /// Whether it says that there is no such container.
    pub missing: bool,
    /// Whether it was a hook that failed.
    hook: bool,
}

/// The answer of an operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Error { message: message.into(), missing: false, hook: false }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<StateError> for Error {
    fn from(e: StateError) -> Self {
        Error { missing: e.missing, ..Error::new(e.message) }
    }
}

macro_rules! from_errors {
    ($($kind:ty),*) => { $(impl From<$kind> for Error {
        fn from(e: $kind) -> Self {
            Error::new(e.to_string())
        }
    })* };
}

impl From<walk::WalkError> for Error {
    fn from(e: walk::WalkError) -> Self {
        Error { hook: e.hook, ..Error::new(e.message) }
    }
}

from_errors!(Problems, host::HostError, cgroup::Error, crate::sys::Fault);

/// A configuration, and what in it no property of the specification explains.
pub type Config<'a> = (Spec<'a>, Vec<Problem>);

/// A bundle: its directory, and the text of its configuration.
pub struct Bundle {
    /// Absolute path.
    pub path: String,
    text: Vec<u8>,
}

impl Bundle {
    /// Reads the configuration of a bundle.
    ///
    /// # Errors
    /// There is no such directory, or no readable `config.json` in it.
    pub fn load(path: &Path) -> Result<Self> {
        let why = |path: &Path, e: &std::io::Error| Error::new(format!("bundle {}: {}", path.display(), io_text(e)));
        // By its handle: one call tells where it is, however long the path, and what is read is what was found there.
        let (handle, path) = state::resolve(path).map_err(|e| why(path, &e))?;
        let text = state::read_given(handle.as_fd(), c"config.json", parse::SIZE_LIMIT as u64 + 1);
        let text = text.map_err(|e| why(&path.join("config.json"), &e))?;
        let path = path.into_os_string().into_string().map_err(|_| Error::new("the bundle's path is no UTF-8"))?;
        Ok(Bundle { path, text })
    }

    /// The configuration, and what in it no property of the specification explains.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn spec(&self) -> Result<Config<'_>> {
        Ok(parse::config(&self.text)?)
    }
}

/// Reads a configuration as far as one may go, and one byte more, by which the reader knows that it is too long (rule R11).
///
/// # Errors
/// What the system says.
pub fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    state::read_given(fs::cwd(), &path, parse::SIZE_LIMIT as u64 + 1)
}

/// What `create` and `run` are asked for.
#[derive(Default)]
pub struct Create {
    /// Directory of all containers' states.
    pub root: PathBuf,
    /// What shapes the plan.
    pub request: Request,
    /// Where the terminal's master goes.
    pub console: Option<OwnedFd>,
    /// Whether an unknown property is an error.
    pub strict: bool,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Notes what takes how long, where that was asked for.
    pub trace: Option<Rc<Trace>>,
}

/// A container that was made and stands ready.
pub struct Created {
    /// Its state directory, locked.
    pub dir: Dir,
    /// What it is.
    pub record: Record,
    /// Doubts about the configuration.
    pub warnings: Vec<Problem>,
    pid_file: Option<PathBuf>,
    plan: Plan,
    ready: Ready,
    trace: Option<Rc<Trace>>,
}

/// What this plan depends on of the host.
fn facts(spec: &Spec<'_>, request: &Request) -> Result<Facts> {
    let mut facts = host::facts(Some(spec))?;
    if request.systemd {
        facts.systemd = Some(host::systemd(request.rootless)?);
    }
    Ok(facts)
}

/// Compiles a bundle for this host.
///
/// # Errors
/// Every problem of the configuration.
pub fn compile(spec: &Spec<'_>, request: &Request) -> Result<Compiled> {
    let facts = facts(spec, request)?;
    let compiled = compile::compile(spec, &facts, request)?;
    check::check(&compiled.plan).map_err(|broken| {
        Error::new(format!("the plan is not sound, which is a defect of this program: {}", broken.join("; ")))
    })?;
    forget_code();
    Ok(compiled)
}

/// Makes a container from a bundle and its configuration, up to the point where its program could be executed. Whatever
/// fails is undone; after a hook that failed the poststop hooks run, and `warn` is told of those that fail, too.
///
/// # Errors
/// What is wrong with the configuration, or the step that failed.
pub fn create(bundle: &Bundle, config: &Config<'_>, ask: Create, warn: &mut dyn FnMut(String)) -> Result<Created> {
    let (spec, unknown) = config;
    if ask.strict && !unknown.is_empty() {
        return Err(Problems { errors: unknown.clone(), warnings: Vec::new() }.into());
    }
    let trace = ask.trace.clone();
    let compiled = compile(spec, &ask.request);
    phase(&trace, "probe the host, compile and check the plan");
    let Compiled { plan, warnings } = compiled?;
    parent::foresee(&plan).map_err(Error::new)?;
    let dir = state::create(&ask.root, &ask.request.id)?;
    let (id, pid_file) = (ask.request.id.clone(), ask.pid_file.clone());
    let made = walk_in(&dir, bundle, spec, &plan, ask);
    match made {
        Ok((record, ready)) => Ok(Created { dir, record, warnings, pid_file, plan, ready, trace }),
        Err(error) => {
            // runtime.md, Lifecycle, steps 3 to 5: after a hook that failed the life goes on at step 12.
            let hooks = if error.hook { compile::late_hooks(spec, &id, &bundle.path, "poststop") } else { Vec::new() };
            let error = withdraw(&dir, error);
            poststop(hooks, warn);
            phase(&trace, "undo all of it");
            Err(error)
        }
    }
}

/// Undoes a creation that failed for a reason, which is answered.
fn withdraw(dir: &Dir, why: Error) -> Error {
    let left = undo::replay(&dir.journal().undo);
    if !left.is_empty() {
        // What could not be undone stays on record: `delete --force` tries again.
        return Error::new(format!("(left behind: {}) {why}", left.join(", ")));
    }
    match dir.remove(true) {
        Ok(()) => why,
        Err(left) => Error::new(format!("({left}) {why}")),
    }
}

/// Journal, walk, state: in this order, so that whatever is made is known before.
fn walk_in(dir: &Dir, bundle: &Bundle, spec: &Spec<'_>, plan: &Plan, ask: Create) -> Result<(Record, Ready)> {
    let mut journal = Journal { boot_id: dir.boot_id(), undo: plan.undos() };
    undo::foresee(&mut journal.undo);
    let theirs = |id: &str| state::open(&ask.root, id).map(|other| other.journal().undo).unwrap_or_default();
    let others = || state::ids(&ask.root).unwrap_or_default().into_iter().filter(|id| *id != dir.id);
    if let Some((group, id)) = undo::shared(&journal.undo, others, theirs) {
        let text =
            format!("linux.cgroupsPath: cgroup {group} is that of container {id}: deleting one would end the other");
        return Err(Error::new(text));
    }
    dir.write_journal(&journal)?;
    dir.write("config.json", &bundle.text)?;
    if ask.request.notify_socket.is_some() {
        dir.make_directory(notify::DIRECTORY)?;
    }
    let gate = if ask.request.gated { Some(dir.make_gate()?) } else { None };
    let rootfs = rootfs(bundle, spec);
    let trace = ask.trace;
    let watch = trace.as_ref().map(|trace| trace.watch(plan)).transpose()?.unwrap_or_default();
    phase(&trace, "make the state directory and its journal");
    let walked = walk::walk(plan, Means { gate, console: ask.console, watch });
    phase(&trace, trace::WALK);
    let ready = walked.map_err(|e| e.explained_in(Path::new(&rootfs)))?;
    undo::forget_unmade(&mut journal.undo, plan);
    let known = record(bundle, spec, journal, &ask.request, (ready.pid, ready.pidfd.as_fd()));
    let saved = known.and_then(|record| save(dir, &record, ask.pid_file.as_deref()).map(|()| record));
    phase(&trace, "save the state");
    match saved {
        Ok(record) => Ok((record, ready)),
        Err(error) => {
            let _ = process::pidfd_kill(ready.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait(ready.pidfd.as_fd(), true);
            Err(error)
        }
    }
}

fn save(dir: &Dir, record: &Record, pid_file: Option<&Path>) -> Result<()> {
    dir.save(record)?;
    pid_file.map_or(Ok(()), |path| write_pid_file(path, record.pid))
}

/// Digits only, and never half of them: written beside and renamed.
///
/// # Errors
/// What the system says.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{pid}"));
    let written = std::fs::write(&new, pid.to_string()).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&new);
        Error::new(format!("--pid-file {}: {}", path.display(), io_text(&e)))
    })
}

/// Absolute path of the root filesystem.
fn rootfs(bundle: &Bundle, spec: &Spec<'_>) -> String {
    let root = spec.root.as_ref().map_or("", |r| &r.path);
    if root.starts_with('/') { root.to_owned() } else { format!("{}/{root}", bundle.path) }
}

/// `init`: its pid and its pidfd.
fn record(
    bundle: &Bundle,
    spec: &Spec<'_>,
    journal: Journal,
    request: &Request,
    init: (i32, BorrowedFd<'_>),
) -> Result<Record> {
    let (pid, pidfd) = init;
    let rootfs = rootfs(bundle, spec);
    let hooks = spec.hooks.as_ref();
    let pid_namespace = spec
        .linux
        .as_ref()
        .is_some_and(|l| l.namespaces.iter().any(|n| &*n.kind == "pid" && n.path.as_deref().unwrap_or("").is_empty()));
    // Without the time the pid would be nobody's, and the container would look stopped while it runs.
    let start_time = status::start_time(pid)
        .ok_or_else(|| Error::new(format!("init (pid {pid}): its start time cannot be read")))?;
    Ok(Record {
        oci_version: spec.oci_version.to_string(),
        id: request.id.clone(),
        pid,
        start_time,
        identity: process::pidfd_identity(pidfd)?,
        bundle: bundle.path.clone(),
        rootfs,
        created: Timestamp::now().rfc3339_nano(),
        owner: process::effective_ids().0,
        annotations: spec.annotations.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        boot_id: journal.boot_id,
        own_pid_namespace: pid_namespace,
        late_hooks: hooks.is_some_and(|h| !h.poststart.is_empty() || !h.poststop.is_empty()),
        no_process: spec.process.is_none(),
        request: request.clone(),
        undo: journal.undo,
    })
}

impl Created {
    /// Init's pidfd.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.ready.pidfd
    }

    /// The relay of `NOTIFY_SOCKET`, where there is one to be: to be opened before the program can use it.
    ///
    /// # Errors
    /// A socket that cannot be opened.
    pub fn notify(&self) -> Result<Option<Notify>> {
        Notify::of(&self.dir, &self.record).map_err(Error::new)
    }

    /// Undoes it all, for a reason of the caller's, which is answered.
    pub fn abandon(self, why: Error) -> Error {
        let _ = process::pidfd_kill(self.ready.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.ready.pidfd.as_fd(), true);
        self.forget_pid();
        match destroy(&self.dir, Some(&self.record), true) {
            Ok(()) => why,
            Err(left) => Error::new(format!("({left}) {why}")),
        }
    }

    /// The pid that was told is nobody's any more.
    fn forget_pid(&self) {
        if let Some(path) = &self.pid_file {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Lets init go on to the gate, or to its program.
    ///
    /// # Errors
    /// Init has died; the container is undone.
    pub fn release(self) -> Result<Started> {
        let released = self.ready.release();
        if let Err(error) = released {
            self.forget_pid();
            destroy(&self.dir, Some(&self.record), false)?;
            return Err(error.into());
        }
        if self.record.request.gated {
            self.dir.unlock();
        }
        Ok(Started { dir: self.dir, record: self.record, plan: self.plan, ready: self.ready, trace: self.trace })
    }
}

/// A container whose init was released.
pub struct Started {
    /// Its state directory, locked.
    pub dir: Dir,
    /// What it is.
    pub record: Record,
    plan: Plan,
    ready: Ready,
    trace: Option<Rc<Trace>>,
}

impl Started {
    /// Init's pidfd.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.ready.pidfd
    }

    /// Waits until the program runs, and runs the poststart hooks. Only for a container without a gate.
    ///
    /// # Errors
    /// The step or hook that failed; the container is deleted, and `warn` is told of poststop hooks that fail.
    pub fn until_running(&self, warn: &mut dyn FnMut(String)) -> Result<()> {
        let executed = self.ready.until_executed(&self.plan);
        let executed = executed.map_err(|e| Error::from(e.explained_in(Path::new(&self.record.rootfs))));
        phase(&self.trace, trace::RELEASE);
        let running = executed.and_then(|()| poststart(&self.dir, &self.record));
        phase(&self.trace, "run the poststart hooks");
        if running.is_err() {
            let _ = process::pidfd_kill(self.ready.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait(self.ready.pidfd.as_fd(), true);
            let hooks = late_hooks(&self.dir, &self.record, "poststop");
            let _ = destroy(&self.dir, Some(&self.record), true);
            poststop(hooks, warn);
        }
        self.dir.unlock();
        running
    }
}

/// Starts the program of a created container.
///
/// # Errors
/// The container is not created, or the step or hook that failed.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let dir = state::open(root, id)?;
    dir.lock()?;
    // That somebody stands behind the gate is all there is to know: init lives and waits. Whether it is frozen is asked only
    // where it does not answer.
    let record = dir.record();
    let go = if record.is_some() { dir.open_gate()? } else { None };
    let Some((record, go)) = record.zip(go) else { return Err(not_to_be_started(&dir)) };
    if record.no_process {
        return Err(Error::new(format!("{id}: process: is missing in the config: there is nothing to start")));
    }
    let answer = dir.open_answer()?;
    let notify = Notify::of(&dir, &record).map_err(Error::new)?;
    // Whoever takes this in has its end of the answer open, so that the answer ends, if only with its death.
    fs::write(go.as_fd(), b"!")?;
    drop(go);
    await_answer(&dir, &record, answer.as_fd())?;
    let executed = walk::until_executed(answer.as_fd(), || "see its exit status".to_owned());
    if let Err(stopped) = executed {
        let plan = replan(&dir, &record);
        return Err(stopped.explain(|| plan.as_ref()).explained_in(Path::new(&record.rootfs)).into());
    }
    poststart(&dir, &record)?;
    dir.unlock();
    let Some(notify) = notify else { return Ok(()) };
    match status::init(&record) {
        Some(pidfd) => notify.relay(record.pid, pidfd.as_fd()).map_err(Error::new),
        None => Ok(()),
    }
}

const PAUSED: &str = "cannot start a paused container: resume it first";

/// Why there is nobody behind the gate of a container.
fn not_to_be_started(dir: &Dir) -> Error {
    let (_, now) = status(dir);
    let why = match now {
        Status::Stopped => "cannot start a container that has stopped",
        Status::Creating => "cannot start a container that is being created",
        Status::Paused => PAUSED,
        _ => "cannot start an already running container",
    };
    Error::new(format!("{}: {why}", dir.id))
}

/// Waits until init answers. One that is frozen does not: then the word is taken back, and the container stays as it was.
fn await_answer(dir: &Dir, record: &Record, answer: BorrowedFd<'_>) -> Result<()> {
    let answered = || fs::poll([(answer, 0)], ANSWER_MS).is_ok_and(|ready| ready != [0]);
    if !answered() && status::is_paused(record) && dir.close_gate()? {
        return Err(Error::new(format!("{}: {PAUSED}", dir.id)));
    }
    Ok(())
}

/// The plan that a container was made by, for the sentence of a failure.
fn replan(dir: &Dir, record: &Record) -> Option<Plan> {
    let text = dir.read("config.json").ok()?;
    let (spec, _) = parse::config(&text).ok()?;
    Some(compile(&spec, &record.request).ok()?.plan)
}

fn late_hooks(dir: &Dir, record: &Record, kind: &'static str) -> Vec<HookOp> {
    if !record.late_hooks {
        return Vec::new();
    }
    read_late_hooks(dir, record, kind)
}

// Not inlined: few containers have such hooks, and reading a configuration takes pages of the stack.
#[inline(never)]
fn read_late_hooks(dir: &Dir, record: &Record, kind: &'static str) -> Vec<HookOp> {
    let Ok(text) = dir.read("config.json") else { return Vec::new() };
    match parse::config(&text) {
        Ok((spec, _)) => compile::late_hooks(&spec, &record.id, &record.bundle, kind),
        Err(_) => Vec::new(),
    }
}

/// A poststart hook that fails stops the container (runtime.md, Lifecycle, step 9).
fn poststart(dir: &Dir, record: &Record) -> Result<()> {
    for hook in late_hooks(dir, record, "poststart") {
        if let Err(text) = parent::run_late_hook(&hook, record.pid) {
            let _ = kill_init(record);
            return Err(Error::new(format!("hooks.poststart[{}]: {text}", hook.index)));
        }
    }
    Ok(())
}

/// The poststop hooks of a container that is gone: one that fails is warned of, and the rest go on (runtime.md, Lifecycle,
/// step 13).
fn poststop(hooks: Vec<HookOp>, warn: &mut dyn FnMut(String)) {
    for hook in hooks {
        if let Err(text) = parent::run_late_hook(&hook, 0) {
            warn(format!("hooks.poststop[{}]: {text}", hook.index));
        }
    }
}

/// Sends a signal to a container's process, or to all of its processes.
///
/// # Errors
/// `container not running`, unless all processes of a stopped one are meant.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<()> {
    let dir = state::open(root, id)?;
    let gone = || Error::new(format!("{id}: container not running"));
    let record = dir.record().ok_or_else(gone)?;
    if all {
        return kill_everyone(&record, signal);
    }
    let pidfd = status::init(&record).ok_or_else(gone)?;
    match process::pidfd_kill(pidfd.as_fd(), signal) {
        Err(f) if f.errno == libc::ESRCH => Err(gone()),
        Err(f) => Err(Error::new(format!("{id}: signal {signal}: {f}"))),
        Ok(()) if signal == libc::SIGKILL => thaw_the_dead(&record),
        Ok(()) => Ok(()),
    }
}

fn kill_everyone(record: &Record, signal: i32) -> Result<()> {
    let groups = undo::groups(&record.undo);
    if groups.is_empty() {
        let Some(init) = status::init(record) else { return Ok(()) };
        // Init goes last: with it go the others, and until then no pid can have become another namespace's.
        let others = watch::without_cgroup(record).into_iter().filter(|pid| *pid != record.pid);
        let sent = others.map(|pid| process::kill(pid, signal)).chain([process::pidfd_kill(init.as_fd(), signal)]);
        return match sent.filter_map(std::result::Result::err).find(|f| f.errno != libc::ESRCH) {
            Some(fault) => Err(fault.into()),
            None => Ok(()),
        };
    }
    cgroup::signal_all(&groups, signal)?;
    if signal == libc::SIGKILL { thaw_the_dead(record) } else { Ok(()) }
}

/// A frozen process dies of SIGKILL only when it is thawed, and does nothing else before.
fn thaw_the_dead(record: &Record) -> Result<()> {
    let groups = undo::groups(&record.undo);
    match cgroup::freeze::state(&groups) {
        Ok(cgroup::freeze::State::Thawed) => {}
        // Gone, or never to be frozen.
        Err(e) if e.errno.is_none() || e.is_missing() => return Ok(()),
        Err(e) => return Err(e.into()),
        Ok(_) => cgroup::freeze::thaw(&groups)?,
    }
    Ok(cgroup::thaw_below(&groups)?)
}

/// Kills init and waits until it is gone.
fn kill_init(record: &Record) -> Result<()> {
    let Some(pidfd) = status::init(record) else { return Ok(()) };
    let _ = process::pidfd_kill(pidfd.as_fd(), libc::SIGKILL);
    thaw_the_dead(record)?;
    let [gone] = fs::poll([(pidfd.as_fd(), libc::POLLIN)], DEATH_MS)?;
    if gone == 0 {
        return Err(Error::new(format!(
            "{}: init (pid {}) does not die of SIGKILL: it hangs in the kernel",
            record.id, record.pid
        )));
    }
    Ok(())
}

/// Deletes a container and everything that was made for it.
///
/// # Errors
/// It runs and is not forced, or what could not be removed. Forced, a container that does not exist is fine.
pub fn delete(root: &Path, id: &str, force: bool, warn: &mut dyn FnMut(String)) -> Result<()> {
    let dir = match state::open(root, id).and_then(|dir| dir.lock().map(|()| dir)) {
        Err(e) if e.missing && force => return Ok(()),
        dir => dir?,
    };
    let (record, now) = status(&dir);
    if !force && matches!(now, Status::Running | Status::Paused) {
        return Err(Error::new(format!("{id}: cannot delete container that is not stopped: {now}")));
    }
    if record.is_none() && !force {
        return Err(Error::new(format!("{id}: was never wholly created: delete --force removes what there is of it")));
    }
    let hooks = record.as_ref().map(|r| late_hooks(&dir, r, "poststop")).unwrap_or_default();
    destroy(&dir, record.as_ref(), now == Status::Stopped)?;
    poststop(hooks, warn);
    Ok(())
}

/// Ends what is left of a container's processes, replays the undo list, removes the state.
/// `dead`: init is known to be.
fn destroy(dir: &Dir, record: Option<&Record>, dead: bool) -> Result<()> {
    if record.is_none()
        && let Err(e) = dir.read("journal.json")
        && e.kind() != std::io::ErrorKind::NotFound
    {
        // Not the same as having none: with the directory, what is to be undone would be forgotten.
        return Err(Error::new(format!("{}: the journal of its creation: {}", dir.id, io_text(&e))));
    }
    // Whichever of the two can be read: they say the same.
    let journal;
    let (undos, boot) = match record {
        Some(record) => (&record.undo, &record.boot_id),
        None => {
            journal = dir.journal();
            (&journal.undo, &journal.boot_id)
        }
    };
    if state::is_another_boot(boot) {
        undo::sweep(undos);
        return Ok(dir.remove(true)?);
    }
    if let Some(record) = record.filter(|_| !dead) {
        kill_init(record)?;
    }
    // With the init of a pid namespace all in it are gone.
    if !record.is_some_and(|r| r.own_pid_namespace) {
        // Until there is a record nobody but init was in them, and it does not outlive its creator: who is in one that was
        // there before is another's.
        let mut groups = undo::groups(undos);
        groups.retain(|g| record.is_some() || undo::makes(undos, g));
        cgroup::kill_all(&groups)?;
    }
    let left = undo::replay(undos);
    if !left.is_empty() {
        return Err(Error::new(format!("{}: cannot remove: {}", dir.id, left.join(", "))));
    }
    Ok(dir.remove(record.is_none_or(|r| r.request.gated))?)
}

/// Removes a container whose process has ended in the foreground.
///
/// # Errors
/// What could not be removed.
pub fn clean_up(started: &Started, warn: &mut dyn FnMut(String)) -> Result<()> {
    match started.dir.lock() {
        // Another command has deleted it meanwhile.
        Err(e) if e.missing => return Ok(()),
        locked => locked?,
    }
    let hooks = late_hooks(&started.dir, &started.record, "poststop");
    destroy(&started.dir, Some(&started.record), true)?;
    poststop(hooks, warn);
    Ok(())
}
