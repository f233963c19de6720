//! The walker: carries a plan out, each lane in its own order, meeting only at the plan's edges.
//!
//! The parent's lane runs here; at the clone the others begin, in [`crate::run::init`]. What fails says its step and errno,
//! and becomes a sentence with the help of the plan. Undoing is not the walker's: the journal holds what is to be undone,
//! written before the first step.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::op::{InitOp, JoinerOp, ParentOp};
use crate::plan::{Act, Lane, OnErr, Plan};
use crate::run::diagnose::{self, Program};
use crate::run::init::{Gate, Kit, Late};
use crate::run::stopwatch::Stopwatch;
use crate::run::wire::{self, Message, Word};
use crate::run::{cgroup, hook, init, net_device, parent};
use crate::sys::process::{self, Cloned, Ended};
use crate::sys::{Call, Fault, errno_text, fs};

/// For each step, which step of another lane it waits for, and whether another lane waits for it.
pub struct Edges {
    /// By step: the number of the step to be heard of first.
    pub waits: Vec<Option<usize>>,
    /// By step: whether to say when it is done.
    pub awaited: Vec<bool>,
}

impl Edges {
    /// The edges of a plan.
    pub fn of(plan: &Plan) -> Self {
        Edges {
            waits: plan.steps.iter().map(|s| s.waits.and_then(|mark| plan.reached_by(mark))).collect(),
            awaited: (0..plan.steps.len()).map(|n| plan.is_awaited(n)).collect(),
        }
    }
}

/// What went wrong while walking.
#[derive(Debug)]
pub struct WalkError {
    /// The whole sentence: field, what was tried, hint, and last what engines match.
    pub message: String,
    /// Where it was the program that could not be executed: which, and where in the sentence a hint belongs.
    pub program: Option<Box<(Program, usize)>>,
    /// Whether it was a hook that failed: the lifecycle goes on with the poststop hooks then.
    pub hook: bool,
}

impl WalkError {
    /// Looks for the cause of a program that could not be executed, in the root that it was to be executed in, and says it
    /// before what engines match.
    #[must_use]
    pub fn explained_in(mut self, root: &Path) -> Self {
        let Some((program, at)) = self.program.take().map(|p| *p) else { return self };
        let place = CString::new(root.as_os_str().as_bytes()).ok();
        let root = place.and_then(|place| fs::open(&place, libc::O_PATH | libc::O_DIRECTORY).ok());
        if let Some(hint) = root.and_then(|root| diagnose::program(root.as_fd(), &program)) {
            self.message.insert_str(at, &format!("(hint: {hint}) "));
        }
        self
    }
}

impl std::fmt::Display for WalkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WalkError {}

/// What the walker needs beside the plan.
#[derive(Default)]
pub struct Means {
    /// The gate behind which init waits for `start`; without one it starts when it is released.
    pub gate: Option<Gate>,
    /// Where the terminal's master goes.
    pub console: Option<OwnedFd>,
    /// Notes the time of each step, where that was asked for.
    pub watch: Stopwatch,
}

/// A container whose init stands ready, not yet released.
#[derive(Debug)]
pub struct Ready {
    /// Init's pid in the runtime's pid namespace.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    ready_step: usize,
    rx: OwnedFd,
    tx: OwnedFd,
    watch: Stopwatch,
}

/// The parent's lane while it is walked.
struct Walker<'p> {
    plan: &'p Plan,
    edges: Edges,
    means: Means,
    slots: Vec<Option<OwnedFd>>,
    child: Option<Child>,
    heard: Option<usize>,
    gathered: parent::Gathered,
}

struct Child {
    pid: i32,
    pidfd: OwnedFd,
    joiner: bool,
    rx: OwnedFd,
    tx: OwnedFd,
}

/// Walks a plan up to the point where init waits. On failure init is dead and reaped; what the steps made is still there.
///
/// # Errors
/// The first step that failed, in any lane.
pub fn walk(plan: &Plan, means: Means) -> Result<Ready, WalkError> {
    let slots = std::iter::repeat_with(|| None).take(plan.slots.len()).collect();
    let edges = Edges::of(plan);
    let gathered = parent::Gathered::default();
    let mut walker = Walker { plan, edges, means, slots, child: None, heard: None, gathered };
    let walked = walker.parent_lane().and_then(|()| walker.until_ready());
    match walked {
        Ok(ready_step) => {
            // A command is about to end: the kernel closes its files by itself.
            std::mem::forget(std::mem::take(&mut walker.slots));
            std::mem::forget(std::mem::take(&mut walker.gathered));
            let child = walker.child.take().ok_or_else(|| sentence("the plan has no clone"))?;
            let watch = walker.means.watch;
            Ok(Ready { pid: child.pid, pidfd: child.pidfd, ready_step, rx: child.rx, tx: child.tx, watch })
        }
        Err(mut error) => {
            walker.end_child();
            // No journal leads to a namespace that only init and this process knew.
            for text in net_device::take_back(&walker.gathered.moved) {
                error.message.push_str("; ");
                error.message.push_str(&text);
            }
            Err(error)
        }
    }
}

fn sentence(text: impl Into<String>) -> WalkError {
    WalkError { message: text.into(), program: None, hook: false }
}

impl Ready {
    /// Lets init go on: the container's state is saved.
    ///
    /// # Errors
    /// Init has died meanwhile.
    pub fn release(&self) -> Result<(), WalkError> {
        let told = wire::send(&self.tx, &Message::new(self.ready_step, Word::Done, 0));
        told.map_err(|_| {
            // Whoever was not told would wait, and we for his end.
            let _ = process::pidfd_kill(self.pidfd.as_fd(), libc::SIGKILL);
            sentence(format!("the container's init died before it was started ({})", self.ended()))
        })
    }

    fn ended(&self) -> String {
        end_of(self.pidfd.as_fd())
    }

    /// Waits until the program is executed. Only for a container without a gate.
    ///
    /// # Errors
    /// The step that failed, or that init died.
    pub fn until_executed(&self, plan: &Plan) -> Result<(), WalkError> {
        until_executed(self.rx.as_fd(), || self.ended()).map_err(|stopped| stopped.explain(|| Some(plan)))?;
        // Nobody else can tell when execve(2) was done.
        if let Some(exec) = plan.steps.iter().position(|s| matches!(s.act, Act::Init(InitOp::Exec { .. }))) {
            self.watch.ends(exec);
        }
        Ok(())
    }
}

fn end_of(pidfd: BorrowedFd<'_>) -> String {
    match process::wait(pidfd, true) {
        Ok(Some(Ended::Killed(libc::SIGKILL))) => {
            "killed; the kernel's log tells whether for want of memory".to_owned()
        }
        Ok(Some(ended)) => ended.to_string(),
        _ => "unknown end".to_owned(),
    }
}

/// What kept a program from being executed.
pub enum Stopped {
    /// A step failed: the plan knows which.
    Step(Message),
    /// Something else.
    Other(String),
}

impl Stopped {
    /// The sentence. The plan is asked for only where a step failed.
    pub fn explain<'p>(self, plan: impl FnOnce() -> Option<&'p Plan>) -> WalkError {
        match self {
            Stopped::Step(message) => match plan() {
                Some(plan) => told(plan, &message),
                None => sentence(Fault::new(message.call, message.value).to_string()),
            },
            Stopped::Other(text) => sentence(text),
        }
    }
}

/// Reads what init says after it was started, until its end of the pipe is closed: by execve, if it said so before.
///
/// # Errors
/// The step that failed, or that init died on the way.
pub fn until_executed(rx: BorrowedFd<'_>, ended: impl FnOnce() -> String) -> Result<(), Stopped> {
    let mut executing = false;
    // Its last words and its end of the pipe come together, mostly: one wait is for both.
    let _ = fs::poll([(rx, 0)], -1);
    loop {
        match wire::receive(rx) {
            Ok(Some(message)) if message.word == Word::Executing => executing = true,
            Ok(Some(message)) if message.word == Word::Done => {}
            Ok(Some(message)) => return Err(Stopped::Step(message)),
            Ok(None) if executing => return Ok(()),
            Ok(None) => {
                let text = format!("the container's init died before its program ran ({})", ended());
                return Err(Stopped::Other(text));
            }
            Err(fault) => return Err(Stopped::Other(fault.to_string())),
        }
    }
}

impl<'p> Walker<'p> {
    fn parent_lane(&mut self) -> Result<(), WalkError> {
        let plan = self.plan;
        for (n, step) in plan.steps.iter().enumerate() {
            let Act::Parent(op) = &step.act else { continue };
            let watch = self.means.watch;
            watch.reaches(n);
            if let Some(needed) = self.edges.waits[n] {
                self.hear(needed)?;
            }
            watch.begins(n);
            let mut done = match op {
                // What it hears of is told with its own field already.
                ParentOp::MeetInit => Ok(self.meet_init()?),
                op => self.act(n, op),
            };
            if let Err(parent::Failed { errno: Some(errno), .. }) = &done {
                watch.meets(n, *errno);
                match &step.on_err {
                    OnErr::Skip(errnos) if errnos.contains(errno) => done = Ok(()),
                    OnErr::Else(errnos, act) if errnos.contains(errno) => {
                        if let Act::Parent(op) = &**act {
                            done = self.act(n, op);
                        }
                    }
                    _ => {}
                }
            }
            if let Err(failed) = done {
                watch.fails(n, failed.errno.unwrap_or(0));
                // Init may have failed first, and the parent's failure be no more than the echo of it.
                self.hear_failure()?;
                let hook = matches!(step.act, Act::Parent(ParentOp::Hook(_)));
                let field = failed.about.map_or_else(|| step.from.to_string(), str::to_owned);
                return Err(WalkError { hook, ..sentence(format!("{field}: {}", failed.text)) });
            }
            watch.ends(n);
            if self.edges.awaited[n]
                && let Some(child) = &self.child
            {
                match wire::send(&child.tx, &Message::new(n, Word::Done, 0)) {
                    // Where init is dead, the next thing heard of it says so. Else it would wait for ever for what was not said.
                    Err(f) if f.errno != libc::EPIPE => return Err(sentence(format!("{}: tell init: {f}", step.from))),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, n: usize, op: &'p ParentOp) -> Result<(), parent::Failed> {
        match op {
            ParentOp::Clone { flags, cgroup, joiner } => self.clone_child(*flags, *cgroup, *joiner),
            op => {
                let child = self.child.as_ref().map(|c| (c.pid, c.pidfd.as_fd()));
                parent::act(op, child, &mut self.slots, &mut self.gathered)
                    .map_err(|failed| failed.of_step(n, self.plan))
            }
        }
    }

    fn clone_child(&mut self, flags: u64, cgroup: Option<crate::op::Slot>, joiner: bool) -> Result<(), parent::Failed> {
        let (init_rx, tx) = fs::pipe()?;
        let (rx, init_tx) = fs::pipe()?;
        let kit = self.kit();
        let into = cgroup.and_then(|s| self.slots[usize::from(s.0)].as_ref());
        let cloned = match process::clone3(flags, into.map(AsFd::as_fd)) {
            Ok(cloned) => cloned,
            Err(fault) => {
                // Another clone may be tried instead, which needs these again.
                (self.means.gate, self.means.console) = (kit.gate, kit.console);
                let hint = into.and_then(|_| cgroup::enter_hint(fault.errno));
                let failed = parent::Failed::from(fault);
                return Err(match hint {
                    // It was the namespaces' step, and they were not what the kernel minded.
                    Some(hint) => failed.hint(hint).about("linux.cgroupsPath"),
                    None => failed,
                });
            }
        };
        match cloned {
            Cloned::Child => {
                // The parent's end must not stay open here, or nobody would ever learn of the parent's death. The other one
                // does no harm until exec.
                drop(tx);
                std::mem::forget(rx);
                init::walk(kit, std::mem::take(&mut self.slots), init_rx, init_tx, joiner)
            }
            Cloned::Parent(pid, pidfd) => {
                self.child = Some(Child { pid, pidfd, joiner, rx, tx });
                Ok(())
            }
        }
    }

    /// Lays out what init needs: after the clone it allocates nothing.
    fn kit(&mut self) -> Kit<'p> {
        let plan = self.plan;
        let gate = plan.steps.iter().position(|s| matches!(s.act, Act::Init(InitOp::AwaitStart)));
        let mut hooks = Vec::new();
        for (n, step) in plan.steps.iter().enumerate().take(gate.unwrap_or(0)) {
            if let Act::Init(InitOp::Hook(op)) = &step.act {
                hooks.push((n, hook::Ready::new(op)));
            }
        }
        let edges = Edges { waits: self.edges.waits.clone(), awaited: self.edges.awaited.clone() };
        let (gate, console) = (self.means.gate.take(), self.means.console.take());
        Kit { plan, edges, hooks, late: Late::of(plan), gate, console, watch: self.means.watch }
    }

    /// The joiner says who init is, and goes. Init is on its way already, and what it says may come first.
    fn meet_init(&mut self) -> Result<(), WalkError> {
        let plan = self.plan;
        let lost = || sentence("the process that joins the namespaces died");
        let fault = |f: Fault| sentence(f.to_string());
        let mut failed = None;
        loop {
            let child = self.child.as_mut().ok_or_else(lost)?;
            // Init, if it is there, holds the pipe as well: only the joiner's own end tells that nobody will say who init is.
            // An init that is not known ends by itself when this end of its pipe is closed.
            let fds = [(child.rx.as_fd(), libc::POLLIN), (child.pidfd.as_fd(), libc::POLLIN)];
            let heard = match fs::poll(fds, -1).map_err(fault)? {
                [0, _] => last_word(child.rx.as_fd()),
                _ => wire::receive(child.rx.as_fd()),
            };
            let Some(message) = heard.map_err(fault)? else { return Err(lost()) };
            let by_joiner = plan.steps.get(usize::from(message.step)).is_some_and(|s| s.act.lane() == Lane::Joiner);
            match message.word {
                Word::Pid => {
                    process::wait(child.pidfd.as_fd(), true).map_err(fault)?;
                    // Init is our own child and not yet reaped: the pid cannot be another's.
                    child.pidfd = process::pidfd_open(message.value).map_err(fault)?;
                    child.pid = message.value;
                    child.joiner = false;
                    return failed.map_or(Ok(()), |message| Err(told(plan, &message)));
                }
                Word::Done => self.note(&message),
                _ if by_joiner => return Err(told(plan, &message)),
                _ => failed = Some(message),
            }
        }
    }

    fn note(&mut self, message: &Message) {
        self.heard = Some(usize::from(message.step));
        self.gathered.yielded = message.value;
    }

    /// Waits until init has done a step.
    fn hear(&mut self, needed: usize) -> Result<(), WalkError> {
        while self.heard.is_none_or(|heard| heard < needed) {
            let child =
                self.child.as_ref().ok_or_else(|| sentence("the plan waits for a process that it does not make"))?;
            match wire::receive(child.rx.as_fd()) {
                Ok(Some(message)) if message.word == Word::Done => self.note(&message),
                Ok(Some(message)) => return Err(told(self.plan, &message)),
                Ok(None) => {
                    let end = end_of(child.pidfd.as_fd());
                    return Err(sentence(format!("the container's init died while it was set up ({end})")));
                }
                Err(fault) => return Err(sentence(fault.to_string())),
            }
        }
        Ok(())
    }

    /// Returns init's own failure if there is one to be read already.
    fn hear_failure(&self) -> Result<(), WalkError> {
        let Some(child) = &self.child else { return Ok(()) };
        while fs::poll([(child.rx.as_fd(), libc::POLLIN)], 0).is_ok_and(|[r]| r & libc::POLLIN != 0) {
            match wire::receive(child.rx.as_fd()) {
                Ok(Some(message)) if message.word == Word::Done => {}
                Ok(Some(message)) => return Err(told(self.plan, &message)),
                _ => break,
            }
        }
        Ok(())
    }

    fn until_ready(&mut self) -> Result<usize, WalkError> {
        let ready = self.plan.steps.iter().position(|s| matches!(s.act, Act::Init(InitOp::AwaitStart)));
        let ready = ready.ok_or_else(|| sentence("the plan does not wait for a start"))?;
        self.hear(ready)?;
        Ok(ready)
    }

    /// Nobody is left behind: what was cloned is killed and reaped.
    fn end_child(&mut self) {
        let Some(child) = self.child.take() else { return };
        if child.joiner {
            // The joiner may have made init already, whose pid is still in the pipe.
            let _ = process::pidfd_kill(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait(child.pidfd.as_fd(), true);
            while let Ok(Some(message)) = last_word(child.rx.as_fd()) {
                if message.word == Word::Pid
                    && let Ok(pidfd) = process::pidfd_open(message.value)
                {
                    end(pidfd.as_fd());
                    return;
                }
            }
            return;
        }
        end(child.pidfd.as_fd());
    }
}

fn last_word(rx: BorrowedFd<'_>) -> Result<Option<Message>, Fault> {
    match fs::poll([(rx, libc::POLLIN)], 0)? {
        [r] if r & libc::POLLIN != 0 => wire::receive(rx),
        _ => Ok(None),
    }
}

fn end(pidfd: BorrowedFd<'_>) {
    let _ = process::pidfd_kill(pidfd, libc::SIGKILL);
    let _ = process::wait(pidfd, true);
}

/// Makes the sentence of a failure that another lane reported.
fn told(plan: &Plan, message: &Message) -> WalkError {
    let n = usize::from(message.step);
    let Some(step) = plan.steps.get(n) else { return sentence("a step that the plan does not have failed") };
    let said = String::from_utf8_lossy(&message.text[..usize::from(message.len)]);
    let said = said.trim();
    let lane = if step.act.lane() == Lane::Joiner { "joiner: " } else { "" };
    let text = match (&step.act, message.word) {
        (Act::Init(InitOp::Hook(op)), word) => parent::hook_text(op, word, message.value, message.call, said),
        (Act::Init(op), _) => crate::run::failure::init(op, Fault::new(message.call, message.value), said),
        // Its init ended between the looking and the entering.
        (Act::Joiner(JoinerOp::JoinProcess { .. }), _) if message.value == libc::ESRCH => {
            format!("{}: container not running", crate::explain::act(&step.act))
        }
        _ => format!("{}{}", crate::explain::act(&step.act), failure(message.call, message.value)),
    };
    let field = format!("{}: {lane}", step.from);
    let program = program_of(plan, &step.act, message.value).map(|program| Box::new((program, field.len())));
    let hook = matches!(step.act, Act::Init(InitOp::Hook(_)));
    WalkError { message: field + &text, program, hook }
}

/// The program that a step looked for or executed.
fn program_of(plan: &Plan, act: &Act, errno: i32) -> Option<Program> {
    if !matches!(act, Act::Init(InitOp::FindProgram(_) | InitOp::Exec { .. })) {
        return None;
    }
    let mut program = Program { errno, ..Program::default() };
    for step in &plan.steps {
        match &step.act {
            Act::Init(InitOp::FindProgram(candidates)) => program.candidates.clone_from(candidates),
            Act::Init(InitOp::Chdir(cwd)) => program.cwd.clone_from(cwd),
            _ => {}
        }
    }
    Some(program)
}

fn failure(call: Call, errno: i32) -> String {
    format!(" ({}): {}", call.name(), errno_text(errno))
}
