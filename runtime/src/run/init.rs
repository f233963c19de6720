//! The lane of the process that becomes the container's, and that of the joiner before it.
//!
//! From the clone to execve nothing here allocates or formats: whatever is needed was laid out before. A step that fails
//! sends its number and errno; the parent has the plan and writes the sentence.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::handle::Handle;
use super::mount::{self, Reason, Tree};
use super::path::LastParent;
use super::stopwatch::Stopwatch;
use super::wire::{self, Message, Word};
use super::{hook, identity, program, terminal};
use crate::abi::propagation;
use crate::op::{EnterRoot, InitOp, JoinerOp, MountSource, Tasks};
use crate::plan::{Act, Lane, OnErr, Plan};
use crate::sys::fs::{self, resolve};
use crate::sys::process::{self, Cloned, Pointers};
use crate::sys::{Call, Fault, Result, mount as sys_mount};
use crate::walk::Edges;

/// The gate between `create` and `start`: two named pipes of the container's state.
pub struct Gate {
    /// A byte in here starts the program.
    pub go: OwnedFd,
    /// In here goes what became of it.
    pub answer: OwnedFd,
}

/// Everything that init needs, made before the clone.
pub struct Kit<'p> {
    /// The plan.
    pub plan: &'p Plan,
    /// Who waits for whom.
    pub edges: Edges,
    /// Hooks of init's lane before the gate, by step.
    pub hooks: Vec<(usize, hook::Ready<'p>)>,
    /// What comes after the gate.
    pub late: Late,
    /// The gate; without one the program starts when the parent says so.
    pub gate: Option<Gate>,
    /// Where the terminal's master goes.
    pub console: Option<OwnedFd>,
    /// Notes the time of each step, where that was asked for.
    pub watch: Stopwatch,
}

/// What init needs after the gate, allocated together and last: all else is dropped while it waits.
pub struct Late {
    /// The steps, with their numbers.
    pub steps: Vec<(usize, &'static InitOp)>,
    /// Hooks of these steps.
    pub hooks: Vec<(usize, hook::Ready<'static>)>,
    /// Where the program may be.
    pub candidates: &'static [CString],
    /// argv.
    pub args: Pointers<'static>,
    /// The environment, with room for HOME.
    pub env: Pointers<'static>,
    /// Where the allocator stood before.
    pub mark: usize,
}

impl Late {
    /// Copies what comes after the gate. The copies are never freed: this process ends or executes.
    pub fn of(plan: &Plan) -> Self {
        let mark = crate::sys::memory::mark();
        let init = plan.steps.iter().enumerate().filter_map(|(n, s)| match &s.act {
            Act::Init(op) => Some((n, op)),
            _ => None,
        });
        let behind = init.skip_while(|(_, op)| !matches!(op, InitOp::AwaitStart)).skip(1);
        let steps: Vec<(usize, &'static InitOp)> =
            behind.map(|(n, op)| (n, &*Box::leak(Box::new(op.clone())))).collect();
        let find = plan.steps.iter().find_map(|s| match &s.act {
            Act::Init(InitOp::FindProgram(candidates)) => Some(candidates.clone()),
            _ => None,
        });
        let mut late = Late {
            steps,
            hooks: Vec::new(),
            candidates: find.unwrap_or_default().leak(),
            args: Pointers::new(std::iter::empty(), 0),
            env: Pointers::new(std::iter::empty(), 0),
            mark,
        };
        for (n, op) in late.steps.clone() {
            match op {
                InitOp::Hook(hook) => late.hooks.push((n, hook::Ready::new(hook))),
                InitOp::Exec { args, env } => {
                    late.args = Pointers::new(args.iter().map(|s| s.as_c_str()), 0);
                    late.env = Pointers::new(env.iter().map(|s| s.as_c_str()), 1);
                }
                _ => {}
            }
        }
        late
    }
}

/// Why a step of this lane did not happen.
enum Stop {
    Fault(Fault),
    Hook(hook::Failed, usize),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

struct Init<'p> {
    kit: Kit<'p>,
    slots: Vec<Option<OwnedFd>>,
    rx: OwnedFd,
    tx: OwnedFd,
    heard: Option<usize>,
    root: Option<OwnedFd>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    parent: LastParent,
    reason: Reason,
    hook_output: [u8; wire::TEXT],
    home: [u8; program::HOME_MAX],
    program: usize,
    in_cwd: bool,
    umask: Option<u32>,
    /// The first descriptor that is not the container's.
    first_closed: i32,
}

/// Walks the joiner's lane, if there is one, and init's. Called in the child; never returns.
pub fn walk(kit: Kit<'_>, slots: Vec<Option<OwnedFd>>, rx: OwnedFd, tx: OwnedFd, joiner: bool) -> ! {
    let umask = Some(fs::umask(0));
    // The runtime ignores SIGPIPE; what it runs must not.
    let _ = process::default_signal(libc::SIGPIPE);
    let _ = crate::sys::signal::unblock_all();
    super::handle::decide(kit.plan.steps.len());
    let mut init = Init {
        kit,
        slots,
        rx,
        tx,
        heard: None,
        root: None,
        null: None,
        empty: None,
        parent: LastParent::none(),
        reason: Reason::new(),
        hook_output: [0; wire::TEXT],
        home: [0; program::HOME_MAX],
        program: 0,
        in_cwd: false,
        umask,
        first_closed: 3,
    };
    if joiner {
        init.lane(Lane::Joiner);
    }
    init.lane(Lane::Init);
    process::exit(1)
}

impl Init<'_> {
    fn lane(&mut self, lane: Lane) {
        let plan = self.kit.plan;
        for (n, step) in plan.steps.iter().enumerate() {
            if step.act.lane() != lane {
                continue;
            }
            let watch = self.kit.watch;
            watch.reaches(n);
            self.await_edge(n);
            if let Act::Init(InitOp::AwaitStart) = step.act {
                // The plan is gone when this returns: nothing of it may be looked at again.
                if let Err(fault) = self.await_start(n) {
                    self.fail(n, &Stop::Fault(fault));
                }
                watch.begins(n);
                watch.ends(n);
                return self.late();
            }
            watch.begins(n);
            let mut done = self.act(n, &step.act);
            if let Err(Stop::Fault(fault)) = &done {
                watch.meets(n, fault.errno);
                match &step.on_err {
                    OnErr::Skip(errnos) if errnos.contains(&fault.errno) => done = Ok(()),
                    OnErr::Else(errnos, act) if errnos.contains(&fault.errno) => done = self.act(n, act),
                    _ => {}
                }
            }
            if let Err(stop) = done {
                self.fail(n, &stop);
            }
            watch.ends(n);
            if self.kit.edges.awaited[n] && !matches!(step.act, Act::Init(InitOp::Seccomp(_))) {
                self.say(&Message::new(n, Word::Done, 0));
            }
        }
    }

    /// What comes after the gate. Of the plan nothing is left: what is needed of it was copied.
    fn late(&mut self) {
        for (n, op) in std::mem::take(&mut self.kit.late.steps) {
            self.kit.watch.begins(n);
            let done = match op {
                InitOp::Hook(hook) => self.late_hook(n, hook),
                InitOp::Seccomp(filter) => {
                    process::seccomp(&filter.program, filter.flags).map(drop).map_err(Stop::from)
                }
                InitOp::Exec { .. } => self.exec(n).map_err(Stop::from),
                op => self.become_process(op).map_err(Stop::from),
            };
            if let Err(stop) = done {
                self.fail(n, &stop);
            }
            self.kit.watch.ends(n);
        }
    }

    fn late_hook(&mut self, n: usize, op: &crate::op::HookOp) -> std::result::Result<(), Stop> {
        let Some((_, ready)) = self.kit.late.hooks.iter().find(|(step, _)| *step == n) else { return Ok(()) };
        hook::run(op, ready, process::getpid(), &mut self.hook_output).map_err(|(failed, len)| Stop::Hook(failed, len))
    }

    /// Waits until the parent has done what this step needs. A parent that is dead needs no init.
    fn await_edge(&mut self, n: usize) {
        let Some(needed) = self.kit.edges.waits[n] else { return };
        while self.heard.is_none_or(|heard| heard < needed) {
            match wire::receive(self.rx.as_fd()) {
                Ok(Some(message)) => self.heard = Some(usize::from(message.step)),
                _ => process::exit(1),
            }
        }
    }

    fn say(&self, message: &Message) {
        if wire::send(self.tx.as_fd(), message).is_err() {
            process::exit(1);
        }
    }

    fn fail(&self, n: usize, stop: &Stop) -> ! {
        let errno = if let Stop::Fault(fault) = stop { fault.errno } else { 0 };
        self.kit.watch.fails(n, errno);
        let message = match stop {
            Stop::Fault(fault) => Message::fault(n, *fault, self.reason.bytes()),
            Stop::Hook(hook::Failed::Call(fault), _) => Message::fault(n, *fault, b""),
            Stop::Hook(hook::Failed::TimedOut, _) => Message::new(n, Word::HookTimedOut, 0),
            Stop::Hook(hook::Failed::Ended(ended), len) => {
                let status = match ended {
                    process::Ended::Exited(status) => *status,
                    process::Ended::Killed(signal) => -signal,
                };
                Message::new(n, Word::HookEnded, status).with(&self.hook_output[..*len])
            }
        };
        self.say(&message);
        process::exit(1)
    }

    fn act(&mut self, n: usize, act: &Act) -> std::result::Result<(), Stop> {
        if !matches!(act, Act::Init(InitOp::Mount(op)) if matches!(op.source, MountSource::Bind { fresh: true, .. })) {
            self.parent.leave()?;
        }
        match act {
            Act::Parent(_) => Ok(()),
            Act::Joiner(op) => Ok(self.join(n, op)?),
            Act::Init(InitOp::Hook(op)) => self.hook(n, op),
            Act::Init(op) => Ok(self.init(n, op)?),
        }
    }

    fn slot(&self, slot: crate::op::Slot) -> Result<BorrowedFd<'_>> {
        let fd = self.slots.get(usize::from(slot.0)).and_then(Option::as_ref);
        fd.map(AsFd::as_fd).ok_or(Fault::new(Call::fcntl, libc::EBADF))
    }

    fn join(&mut self, n: usize, op: &JoinerOp) -> Result<()> {
        match op {
            JoinerOp::Join { kind, slot } => process::setns(self.slot(*slot)?, kind.flag()),
            JoinerOp::Undumpable => identity::undumpable(),
            JoinerOp::Attach(tasks) => self.attach(tasks),
            JoinerOp::Affinity(mask) => process::sched_setaffinity(mask),
            JoinerOp::OomScoreAdj(score) => {
                let file = fs::open(c"/proc/self/oom_score_adj", libc::O_WRONLY)?;
                fs::write(file.as_fd(), score.to_bytes()).map(drop)
            }
            JoinerOp::JoinProcess { process, kinds } => process::setns(self.slot(*process)?, *kinds),
            JoinerOp::UnshareTime => process::unshare(crate::abi::clone::NEWTIME),
            JoinerOp::TimeOffsets(text) => {
                let file = fs::open(c"/proc/self/timens_offsets", libc::O_WRONLY)?;
                fs::write(file.as_fd(), text.to_bytes()).map(drop)
            }
            JoinerOp::Clone { flags } => match process::clone3(*flags | crate::abi::clone::PARENT, None)? {
                Cloned::Child => Ok(()),
                Cloned::Parent(pid, _) => {
                    self.say(&Message::new(n, Word::Pid, pid));
                    process::exit(0)
                }
            },
        }
    }

    fn hook(&mut self, n: usize, op: &crate::op::HookOp) -> std::result::Result<(), Stop> {
        let Some((_, ready)) = self.kit.hooks.iter().find(|(step, _)| *step == n) else { return Ok(()) };
        // The specification: in the container's namespaces, the pid is the one that is seen there.
        hook::run(op, ready, process::getpid(), &mut self.hook_output).map_err(|(failed, len)| Stop::Hook(failed, len))
    }

    fn init(&mut self, n: usize, op: &InitOp) -> Result<()> {
        match op {
            InitOp::Attach(tasks) => self.attach(tasks),
            InitOp::Unshare(flags) => process::unshare(*flags),
            InitOp::BecomeRoot => identity::become_root(),
            InitOp::Session => process::setsid(),
            InitOp::Undumpable => identity::undumpable(),
            InitOp::Propagation { kind, recursive } => {
                sys_mount::setattr(fs::cwd(), c"/", *recursive, (0, 0), *kind, None)
            }
            InitOp::OpenRoot { path, private } => self.open_root(path, *private),
            InitOp::OwnRoot(slot) => self.own_root(*slot),
            InitOp::Procfs(slot) => {
                self.slots[usize::from(slot.0)] = Some(mount::procfs()?);
                Ok(())
            }
            InitOp::WriteProc { proc, path, value } => {
                let how = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS;
                let file = Handle::from(fs::openat2(self.slot(*proc)?, path, libc::O_WRONLY, 0, how)?);
                fs::write(file.as_fd(), value.to_bytes()).map(drop)
            }
            InitOp::SetName { host: true, name } => process::sethostname(name),
            InitOp::SetName { host: false, name } => process::setdomainname(name),
            InitOp::EnterRoot(how) => self.enter_root(*how),
            InitOp::Seccomp(filter) => {
                let listener = process::seccomp(&filter.program, filter.flags)?;
                if self.kit.edges.awaited[n] {
                    self.say(&Message::new(n, Word::Done, listener));
                }
                Ok(())
            }
            InitOp::Mount(_)
            | InitOp::Attributes { .. }
            | InitOp::Remount { .. }
            | InitOp::Device(_)
            | InitOp::Symlink { .. }
            | InitOp::Directory(_)
            | InitOp::Cover { .. }
            | InitOp::Terminal { .. }
            | InitOp::ReadonlyRoot => self.in_tree(op),
            _ => self.become_process(op),
        }
    }

    fn attach(&self, tasks: &Tasks) -> Result<()> {
        match tasks {
            Tasks::Slot(slot) => fs::write(self.slot(*slot)?, b"0").map(drop),
            Tasks::Path(path) => {
                let file = Handle::from(fs::open(path, libc::O_WRONLY)?);
                fs::write(file.as_fd(), b"0").map(drop)
            }
        }
    }

    fn open_root(&mut self, path: &CStr, private: bool) -> Result<()> {
        let place = Handle::from(fs::open(path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)?);
        let root = sys_mount::open_tree(place.as_fd(), c"", true, false)?;
        if private {
            sys_mount::setattr(root.as_fd(), c"", true, (0, 0), propagation::PRIVATE, None)?;
        }
        sys_mount::move_mount(root.as_fd(), place.as_fd())?;
        self.root = Some(root);
        Ok(())
    }

    fn own_root(&mut self, slot: Option<crate::op::Slot>) -> Result<()> {
        if let Some(slot) = slot {
            fs::fchdir(self.slot(slot)?)?;
            sys_mount::chroot(c".")?;
        }
        self.root = Some(fs::open(c"/", libc::O_PATH | libc::O_DIRECTORY)?);
        fs::chdir(c"/")
    }

    /// What is done to the container's tree, through the handle of its root.
    fn in_tree(&mut self, op: &InitOp) -> Result<()> {
        let root = self.root.as_ref().ok_or(Fault::new(Call::openat2, libc::EBADF))?;
        let (null, empty) = (self.null.take(), self.empty.take());
        let mut tree = Tree { root: root.as_fd(), null, empty, parent: &mut self.parent };
        let done = match op {
            InitOp::Mount(op) => mount::mount(&mut tree, op, &mut self.slots, &mut self.reason),
            InitOp::Attributes { path, set } => mount::attributes_at(&tree, path, *set),
            InitOp::Remount { path, flags, data } => mount::remount(&tree, path, *flags, data),
            InitOp::Device(op) => mount::device(&mut tree, op),
            InitOp::Symlink { target, path, only_if, replace } => {
                mount::symlink(&mut tree, target, path, only_if.as_deref(), *replace)
            }
            InitOp::Directory(path) => super::path::directory(tree.root, path).map(drop),
            InitOp::Cover { path, mask } => mount::cover(&mut tree, path, *mask),
            InitOp::Terminal { size, console } => {
                terminal::make(tree.root, *size, *console, self.kit.console.as_ref().map(AsFd::as_fd))
            }
            _ => sys_mount::setattr(tree.root, c"", false, (crate::abi::attr::RDONLY, 0), 0, None),
        };
        (self.null, self.empty) = (tree.null, tree.empty);
        done
    }

    fn enter_root(&mut self, how: EnterRoot) -> Result<()> {
        let root = Handle::from(self.root.take().ok_or(Fault::new(Call::pivot_root, libc::EBADF))?);
        fs::fchdir(root.as_fd())?;
        match how {
            EnterRoot::Pivot => {
                sys_mount::pivot_root()?;
                // The old root lies over the new one; with it goes everything of the host's that was to be seen.
                sys_mount::detach(c".")?;
            }
            EnterRoot::Move => {
                sys_mount::move_mount_onto_root(root.as_fd())?;
                sys_mount::chroot(c".")?;
            }
            EnterRoot::Chroot => sys_mount::chroot(c".")?,
        }
        fs::chdir(c"/")?;
        identity::own_null();
        Ok(())
    }

    /// What makes init the process of the config.
    fn become_process(&mut self, op: &InitOp) -> Result<()> {
        match op {
            InitOp::Keyring(name) => process::join_session_keyring(name),
            InitOp::Personality(domain) => process::personality(*domain),
            InitOp::MemoryPolicy { mode, nodes } => process::set_mempolicy(*mode, nodes),
            InitOp::Rlimit(l) => process::prlimit(0, l.resource, l.soft, l.hard),
            InitOp::Umask(mask) => {
                self.umask = None;
                fs::umask(*mask);
                Ok(())
            }
            InitOp::NoNewPrivileges => process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop),
            InitOp::Bounding { drop, .. } => identity::drop_bounding(*drop),
            InitOp::Groups(groups) => process::setgroups(groups),
            InitOp::Gid(gid) => process::setgid(*gid),
            InitOp::Uid(uid) => identity::set_uid(*uid),
            InitOp::Chdir(path) => self.chdir(path),
            InitOp::Capabilities(sets) => process::capset(*sets),
            InitOp::Ambient(set) => identity::raise_ambient(*set),
            InitOp::ReadBack(expected) => identity::read_back(expected),
            InitOp::Home(uid) => {
                program::home(*uid, &mut self.home);
                Ok(())
            }
            InitOp::FindProgram(candidates) => {
                self.program = program::find(candidates)?;
                Ok(())
            }
            InitOp::CloseFds(first) => {
                self.first_closed = i32::try_from(*first).unwrap_or(i32::MAX);
                fs::close_from_at_exec(*first)
            }
            _ => Err(Fault::new(Call::prctl, libc::ENOSYS)),
        }
    }

    fn chdir(&mut self, path: &CStr) -> Result<()> {
        if self.in_cwd {
            return Ok(());
        }
        fs::chdir(path)?;
        self.in_cwd = fs::cwd_is_inside()?;
        if self.in_cwd { Ok(()) } else { Err(Fault::new(Call::getcwd, libc::ENOENT)) }
    }

    /// Says that all is ready and waits to be released by the parent, which by then has saved the container's state; then,
    /// behind a gate, for `start`.
    fn await_start(&mut self, n: usize) -> Result<()> {
        if let Some(mask) = self.umask.take() {
            fs::umask(mask);
        }
        self.say(&Message::new(n, Word::Done, 0));
        while self.heard.is_none_or(|heard| heard < n) {
            match wire::receive(self.rx.as_fd()) {
                Ok(Some(message)) => self.heard = Some(usize::from(message.step)),
                _ => process::exit(1),
            }
        }
        let Some(gate) = self.kit.gate.take() else { return Ok(()) };
        fs::close_all_but(self.first_closed, [gate.go.as_fd(), gate.answer.as_fd()])?;
        // What these owned is closed; nothing may close it again.
        std::mem::forget(std::mem::replace(&mut self.tx, gate.answer));
        let parked = crate::sys::memory::park(gate.go.as_fd(), self.kit.late.mark);
        // Closed by execve: until then it is what says that the container was not started.
        std::mem::forget(gate.go);
        parked
    }

    fn exec(&mut self, n: usize) -> Result<()> {
        let late = &mut self.kit.late;
        let program = late.candidates.get(self.program).ok_or(Fault::new(Call::execve, libc::ENOENT))?;
        let home = CStr::from_bytes_until_nul(&self.home).unwrap_or_default();
        // From here on the silence of the pipe means success: whoever reads knows that init came this far.
        if wire::send(self.tx.as_fd(), &Message::new(n, Word::Executing, 0)).is_err() {
            process::exit(1);
        }
        if home.is_empty() {
            return Err(process::execve(program, &late.args, &late.env));
        }
        Err(process::execve_with(program, &late.args, &mut late.env, home))
    }
}
