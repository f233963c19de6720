//! A container's life as stories: create, start, exec, pause, delete, and the end of its processes.

mod exec;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::api::{
    CreateRequest, Mount, TaskCheckpointed, TaskCreate, TaskDelete, TaskExit, TaskIo, TaskOnly, TaskStart, status,
};
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::executor::{self, Lock, Notify};
use crate::io::{ConsoleSocket, Context, Io, Streams};
use crate::logger::Subject;
use crate::options::Options;
use crate::policy::{self, Policy};
use crate::process::{Phase, Process};
use crate::reaper::{Exit, Reaper, Watch};
use crate::runtime::Runtime;
use crate::ttrpc::{Code, Status};
use crate::{events, log, mounts, oom, sys};

/// How long the init's exit waits for the exits of its execs, which the kernel has killed already.
const REST: Duration = Duration::from_secs(10);

/// What all containers of a shim share.
pub struct World {
    /// The engine's namespace.
    pub namespace: String,
    /// A directory that only we can enter.
    pub socket_dir: PathBuf,
    /// Waits for children.
    pub reaper: Rc<Reaper>,
    /// What the engine said about the runtime when it started the shim.
    pub options: Options,
    /// Tells the engine.
    pub publisher: Rc<events::Publisher>,
}

/// A container.
pub struct Container {
    /// Its name.
    pub id: String,
    /// Its bundle.
    pub bundle: Bundle,
    /// Its first process.
    pub init: Rc<Process>,
    /// Its other processes.
    pub execs: RefCell<BTreeMap<String, Rc<Process>>>,
    /// Where it is accounted.
    pub cgroup: RefCell<Option<Cgroup>>,
    /// `PAUSING` or `PAUSED`.
    pub paused: Cell<Option<u32>>,
    world: Rc<World>,
    runtime: Runtime,
    checkpoint: String,
    owns_pids: bool,
    policy: Policy,
    gone: Cell<bool>,
    turn: Lock,
    execs_starting: Cell<usize>,
    settled: Notify,
    oom: RefCell<Option<Rc<oom::Watch>>>,
}

type Done = Result<(), Status>;

/// The directory on which the container's root is mounted, taken away again unless the create succeeds.
struct Mounted(Option<PathBuf>);

impl Mounted {
    /// From here on the mount is the container's, until its delete.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(rootfs) = &self.0 {
            mounts::unmount(rootfs);
        }
    }
}

impl Container {
    /// Creates a container: its process exists and waits when this returns. With a checkpoint, nothing runs until the start.
    ///
    /// # Errors
    /// `OCI runtime create failed: …` or what else went wrong; nothing is left then.
    pub async fn create(world: Rc<World>, request: &CreateRequest, options: Options) -> Result<Rc<Container>, Status> {
        let bundle = Bundle::at(&request.bundle);
        let about = bundle.about().map_err(Status::unknown)?;
        let policy = policy(about.log_policy.as_deref(), &options)?;
        let runtime = Runtime::new(options, &world.namespace, &bundle, world.reaper.clone())
            .map_err(|e| Status::unknown(format!("OCI runtime create failed: {e}")))?;
        let mounted = mount(&bundle, &request.rootfs).map_err(Status::unknown)?;
        let streams = Streams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let container = Rc::new(Container {
            id: request.id.clone(),
            init: Rc::new(Process::new(String::new(), streams, Vec::new())),
            execs: RefCell::default(),
            cgroup: RefCell::default(),
            paused: Cell::new(None),
            runtime,
            checkpoint: request.checkpoint.clone(),
            owns_pids: about.owns_pids,
            policy,
            gone: Cell::new(false),
            turn: Lock::default(),
            execs_starting: Cell::new(0),
            settled: Notify::default(),
            oom: RefCell::default(),
            bundle,
            world,
        });
        container.bundle.begin(container.runtime.options()).map_err(|e| Status::unknown(format!("bundle: {e}")))?;
        if container.checkpoint.is_empty()
            && let Err(text) = container.launch_init("create").await
        {
            container.forget_failed().await;
            return Err(Status::unknown(format!("OCI runtime create failed: {text}")));
        }
        mounted.keep();
        container.tell_create(request);
        container.init.announced();
        sys::trim_memory();
        Ok(container)
    }

    fn tell_create(&self, request: &CreateRequest) {
        let event = TaskCreate {
            container_id: self.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIo {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
            }),
            checkpoint: request.checkpoint.clone(),
            pid: self.init.pid.get(),
        };
        self.publish("/tasks/create", "TaskCreate", &event);
    }

    /// Runs the runtime's `create` or `restore` and takes over what it made.
    async fn launch_init(self: &Rc<Self>, verb: &str) -> Result<(), String> {
        let bundle = self.bundle.path().to_string_lossy().into_owned();
        let pid_file = self.bundle.file("init.pid").to_string_lossy().into_owned();
        let options = self.runtime.options();
        let mut args = vec!["--bundle", &bundle, "--pid-file", &pid_file];
        if options.no_pivot_root {
            args.push("--no-pivot");
        }
        if options.no_new_keyring && verb == "create" {
            args.push("--no-new-keyring");
        }
        let work_path = self.work_path();
        if verb == "restore" {
            args.extend(["--detach", "--image-path", &self.checkpoint, "--work-path", &work_path, "-no-subreaper"]);
        }
        let claim = self.world.reaper.claim();
        let pid = self.launch(&self.init, verb, &args, "init.pid").await?;
        *self.cgroup.borrow_mut() = Cgroup::of(pid).ok();
        self.watch_oom();
        let watch = self.world.reaper.watch(pid);
        drop(claim);
        executor::spawn(self.clone().outlive(self.init.clone(), watch));
        Ok(())
    }

    /// Opens the streams, runs a command that makes a process with them, and gives its pid.
    async fn launch(&self, process: &Process, verb: &str, args: &[&str], pid_file: &str) -> Result<u32, String> {
        let world = &self.world;
        let context = Context {
            who: Subject { id: &self.id, namespace: &world.namespace },
            owner: (self.runtime.options().io_uid, self.runtime.options().io_gid),
            reaper: &world.reaper,
            policy: if process.is_init() { self.policy } else { Policy::Block },
            dir: &self.bundle.roomy(),
        };
        let (mut io, ends) = Io::open(&process.streams, &context).await?;
        let console = match process.streams.terminal {
            true => Some(ConsoleSocket::new(&world.socket_dir).map_err(|e| format!("console socket: {e}"))?),
            false => None,
        };
        let console_path = console.as_ref().map(|c| c.path().to_string_lossy().into_owned());
        let mut args = args.to_vec();
        if let Some(path) = &console_path {
            args.extend(["--console-socket", path]);
        }
        args.push(&self.id);
        process.announcing.set(true);
        self.runtime.run_with(verb, &args, &ends.fds()).await?;
        drop(ends);
        if let Some(console) = console {
            let master = console.master().map_err(|e| format!("the runtime sent no terminal: {e}"))?;
            io.attach(master).map_err(|e| format!("terminal: {e}"))?;
        }
        if let Some((columns, rows)) = process.size.get() {
            // A terminal that is gone already has no size to set.
            let _ = io.resize(columns, rows);
        }
        let pid = self.bundle.pid(pid_file).ok_or_else(|| format!("{verb} left no pid in {pid_file}"))?;
        process.pid.set(pid);
        if process.input_ended.get() {
            io.close_input();
        }
        *process.io.borrow_mut() = Some(io);
        Ok(pid)
    }

    async fn forget_failed(&self) {
        self.init.announced();
        self.init.io.take();
        // The runtime has failed; what it left, if anything, is not of interest to the user of this call.
        let _ = self.runtime.run("delete", &["--force", &self.id], b"").await;
        self.bundle.end();
    }

    fn watch_oom(self: &Rc<Self>) {
        let Some(cgroup) = self.cgroup.borrow().clone() else { return };
        let (publisher, id) = (self.world.publisher.clone(), self.id.clone());
        let tell = move || publisher.publish("/tasks/oom", "TaskOOM", &TaskOnly { container_id: id.clone() });
        match oom::Watch::start(&cgroup, tell) {
            Ok(watch) => *self.oom.borrow_mut() = Some(watch),
            Err(error) => log::debug(&format!("{}: no out-of-memory watch: {error}", self.id)),
        }
    }

    /// Starts the init.
    ///
    /// # Errors
    /// `FailedPrecondition` unless it is created; the runtime's words.
    pub async fn start(self: &Rc<Self>) -> Result<u32, Status> {
        let _turn = self.turn.lock().await;
        let init = &self.init;
        match init.phase.get() {
            Phase::Created => {}
            Phase::Running => return Err(Status::new(Code::FailedPrecondition, "cannot start a running process")),
            Phase::Stopped => return Err(Status::new(Code::FailedPrecondition, "cannot start a stopped process")),
        }
        init.announcing.set(true);
        let started = if self.checkpoint.is_empty() || init.pid.get() != 0 {
            self.runtime.run("start", &[&self.id], b"").await.map(drop)
        } else {
            self.launch_init("restore").await
        };
        if let Err(text) = started {
            init.announced();
            return Err(Status::unknown(format!("OCI runtime start failed: {text}")));
        }
        if init.phase.get() == Phase::Created {
            init.enter(Phase::Running);
        }
        let pid = init.pid.get();
        self.publish("/tasks/start", "TaskStart", &TaskStart { container_id: self.id.clone(), pid });
        init.announced();
        Ok(pid)
    }

    /// The story of a process's end: told once, after its start was told, and the init's after everybody else's.
    async fn outlive(self: Rc<Self>, process: Rc<Process>, watch: Rc<Watch>) {
        let exit = watch.exit().await;
        process.reaped.set(true);
        process.changed.until(|| (!process.announcing.get()).then_some(())).await;
        if process.is_init() {
            self.last_rites().await;
        }
        let event = TaskExit {
            container_id: self.id.clone(),
            id: if process.is_init() { self.id.clone() } else { process.exec_id.clone() },
            pid: process.pid.get(),
            exit_status: exit.code,
            exited_at: Some(exit.at.into()),
        };
        self.publish("/tasks/exit", "TaskExit", &event);
        process.end(exit);
        self.settled.notify();
    }

    /// What must have happened before the init's exit is told.
    async fn last_rites(&self) {
        if self.paused.take().is_some() {
            // Whoever is frozen cannot die.
            let _ = self.runtime.run("resume", &[&self.id], b"").await;
        }
        executor::timeout(REST, self.settled.until(|| (self.execs_starting.get() == 0).then_some(()))).await;
        if !self.owns_pids {
            // No pid namespace died with the init, so its processes have not either.
            let killed = self.runtime.run("kill", &["--all", &self.id, "KILL"], b"").await;
            if let Err(text) = killed {
                log::debug(&format!("{}: kill --all: {text}", self.id));
            }
        }
        let running = || self.execs.borrow().values().any(|exec| exec.phase.get() == Phase::Running);
        executor::timeout(REST, self.settled.until(|| (!running()).then_some(()))).await;
        if let Some(watch) = self.oom.take() {
            watch.last_look();
        }
    }

    /// Sends a signal to a process or, with `all`, to everything in the container.
    ///
    /// # Errors
    /// `NotFound` after its end, `FailedPrecondition` before its start; the runtime's words.
    pub async fn kill(&self, process: &Process, signal: u32, all: bool) -> Done {
        // A frozen process takes a signal only when it is thawed, which is the runtime's business.
        let needs_runtime = process.is_init() && (all || self.paused.get().is_some());
        if !needs_runtime {
            return process.signal(signal);
        }
        if process.reaped.get() && !all {
            return Err(Status::new(Code::NotFound, "process already finished"));
        }
        let number = signal.to_string();
        let args: &[&str] = if all { &["--all", &self.id, &number] } else { &[&self.id, &number] };
        self.runtime.run("kill", args, b"").await.map(drop).map_err(|text| {
            let gone = ["process already finished", "container not running", "no such process", "does not exist"];
            let code = if gone.iter().any(|g| text.contains(g)) { Code::NotFound } else { Code::Unknown };
            Status::new(code, if code == Code::NotFound { "process already finished".to_owned() } else { text })
        })
    }

    /// Freezes the container.
    ///
    /// # Errors
    /// The runtime's words; `FailedPrecondition` when it does not run.
    pub async fn pause(&self) -> Done {
        let _turn = self.turn.lock().await;
        self.must_live("pause")?;
        self.paused.set(Some(status::PAUSING));
        let done = self.runtime.run("pause", &[&self.id], b"").await;
        self.paused.set(done.is_ok().then_some(status::PAUSED));
        done.map_err(Status::unknown)?;
        self.publish("/tasks/paused", "TaskPaused", &TaskOnly { container_id: self.id.clone() });
        Ok(())
    }

    /// Thaws the container.
    ///
    /// # Errors
    /// The runtime's words; `FailedPrecondition` when it does not run.
    pub async fn resume(&self) -> Done {
        let _turn = self.turn.lock().await;
        self.must_live("resume")?;
        self.runtime.run("resume", &[&self.id], b"").await.map_err(Status::unknown)?;
        self.paused.set(None);
        self.publish("/tasks/resumed", "TaskResumed", &TaskOnly { container_id: self.id.clone() });
        Ok(())
    }

    /// Changes limits; `resources` is the JSON of the specification.
    ///
    /// # Errors
    /// The runtime's words; `FailedPrecondition` when it is stopped.
    pub async fn update(&self, resources: &[u8]) -> Done {
        let _turn = self.turn.lock().await;
        self.must_live("update")?;
        self.runtime.run("update", &["--resources", "-", &self.id], resources).await.map(drop).map_err(Status::unknown)
    }

    fn must_live(&self, what: &str) -> Done {
        match self.init.phase.get() {
            Phase::Stopped => Err(Status::new(Code::FailedPrecondition, format!("cannot {what} a stopped container"))),
            _ => Ok(()),
        }
    }

    /// Writes a checkpoint with the runtime's help.
    ///
    /// # Errors
    /// `… path= FILE` with the log of CRIU, which is kept in the bundle.
    pub async fn checkpoint(&self, path: &str, options: &[String], work_path: &str) -> Done {
        let _turn = self.turn.lock().await;
        self.must_live("checkpoint")?;
        let own_work = self.work_path();
        let work = if work_path.is_empty() { &own_work } else { work_path };
        let mut args = vec!["--image-path", path, "--work-path", work];
        args.extend(options.iter().map(String::as_str));
        args.push(&self.id);
        if let Err(text) = self.runtime.run("checkpoint", &args, b"").await {
            let kept = self.bundle.file("criu-dump.log");
            // Without the log the runtime's own words must do.
            let _ = fs::copy(PathBuf::from(work).join("dump.log"), &kept);
            return Err(Status::unknown(format!("{text} path= {}", kept.display())));
        }
        let event = TaskCheckpointed { container_id: self.id.clone(), checkpoint: path.to_owned() };
        self.publish("/tasks/checkpointed", "TaskCheckpointed", &event);
        Ok(())
    }

    fn work_path(&self) -> String {
        let chosen = &self.runtime.options().criu_work_path;
        if chosen.is_empty() { self.bundle.file("work").to_string_lossy().into_owned() } else { chosen.clone() }
    }

    /// Deletes the container. When this returns, nothing is left of it but the answer.
    ///
    /// # Errors
    /// `FailedPrecondition` while it runs, `NotFound` when another call was faster, the runtime's words.
    pub async fn delete(&self) -> Result<(u32, Option<Exit>), Status> {
        let _turn = self.turn.lock().await;
        if self.gone.get() {
            return Err(Status::new(Code::NotFound, "container not created"));
        }
        let init = &self.init;
        if init.phase.get() == Phase::Running {
            return Err(Status::new(Code::FailedPrecondition, "cannot delete a running process"));
        }
        if init.phase.get() == Phase::Created && init.pid.get() != 0 {
            // Its end is told like any other. It may have come this very moment.
            let _ = init.signal(9);
            executor::timeout(REST, init.ended()).await;
        }
        let io = init.io.take();
        if let Some(io) = io {
            io.finish().await;
        }
        self.delete_from_runtime().await?;
        mounts::unmount(&self.bundle.rootfs());
        self.bundle.end();
        self.gone.set(true);
        if let Some(watch) = self.oom.take() {
            watch.stop();
        }
        let exit = init.exit.get();
        let event = TaskDelete {
            container_id: self.id.clone(),
            pid: init.pid.get(),
            exit_status: exit.map_or(0, |e| e.code),
            exited_at: exit.map(|e| e.at.into()),
            id: String::new(),
        };
        self.publish("/tasks/delete", "TaskDelete", &event);
        Ok((init.pid.get(), exit))
    }

    async fn delete_from_runtime(&self) -> Done {
        if self.init.pid.get() == 0 {
            return Ok(());
        }
        let Err(text) = self.runtime.run("delete", &[&self.id], b"").await else { return Ok(()) };
        if text.contains("does not exist") {
            return Ok(());
        }
        log::warn(&format!("{}: delete: {text}; trying --force", self.id));
        self.runtime.run("delete", &["--force", &self.id], b"").await.map(drop).map_err(Status::unknown)
    }

    fn publish(&self, topic: &'static str, kind: &str, event: &impl crate::wire::Message) {
        self.world.publisher.publish(topic, kind, event);
    }
}

/// The container's own choice, else the engine's.
fn policy(annotation: Option<&str>, options: &Options) -> Result<Policy, Status> {
    let (source, text) = match annotation {
        Some(text) => (policy::ANNOTATION, text),
        None => ("option LogPolicy", options.log_policy.as_str()),
    };
    Policy::parse(text).map_err(|e| Status::new(Code::InvalidArgument, format!("{source}: {e}")))
}

fn mount(bundle: &Bundle, list: &[Mount]) -> Result<Mounted, String> {
    let rootfs = bundle.rootfs();
    if list.is_empty() {
        return Ok(Mounted(None));
    }
    mounts::make_rootfs(&rootfs).map_err(|e| format!("{}: {e}", rootfs.display()))?;
    mounts::mount_all(list, &rootfs)?;
    Ok(Mounted(Some(rootfs)))
}
