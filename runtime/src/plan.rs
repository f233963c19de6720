//! A plan: a flat list of typed steps, ordered within each lane, with edges where one lane needs what another does first.

use crate::field::Field;
use crate::op::unit::Manager;
use crate::op::{InitOp, JoinerOp, ParentOp, Slot};

/// What one step does, and who does it.
#[derive(Debug)]
pub enum Act {
    /// The runtime's process.
    Parent(ParentOp),
    /// The process between, that joins namespaces.
    Joiner(JoinerOp),
    /// The process that becomes the container's.
    Init(InitOp),
}

/// One of the three who act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The runtime's process.
    Parent,
    /// The process between.
    Joiner,
    /// The container's process.
    Init,
}

impl Act {
    /// Who acts.
    pub fn lane(&self) -> Lane {
        match self {
            Act::Parent(_) => Lane::Parent,
            Act::Joiner(_) => Lane::Joiner,
            Act::Init(_) => Lane::Init,
        }
    }
}

/// What happens when a step fails.
#[derive(Debug)]
pub enum OnErr {
    /// The whole operation fails and is undone.
    Fail,
    /// These errnos are lived with; any other fails.
    Skip(&'static [i32]),
    /// At these errnos another op of the same lane is tried instead; any other fails.
    Else(&'static [i32], Box<Act>),
}

/// How a step's change of the host is undone. Each undo may be repeated, and may come before its step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Remove the cgroup, whatever was made in it, and those parents that were made for it.
    Cgroup {
        /// Mount point of the hierarchy.
        mount: String,
        /// Path below it.
        path: String,
        /// The hierarchy's controllers; version 2 has its own way of ending processes.
        controllers: Vec<String>,
        /// Whether the hierarchy is the unified one.
        unified: bool,
        /// Directories that were missing when the journal was written, parents first: these alone may be removed.
        made: Vec<String>,
    },
    /// Stop the unit, and let systemd forget it.
    Unit {
        /// Whom to ask.
        manager: Manager,
        /// Its name.
        name: String,
        /// What it describes itself as: another unit of that name is not ours to stop.
        description: String,
    },
    /// Detach what the plan mounted over this path.
    Unmount {
        /// Path in the mount namespace.
        path: String,
        /// Path of the mount namespace that was joined; `None` means the runtime's.
        namespace: Option<String>,
        /// The id of the mount that was uppermost there when the journal was written: it, and what is beneath it, stays.
        /// `None`: there was no such path, or nobody could look.
        #[serde(default)]
        over: Option<u64>,
    },
}

/// A point of one lane that steps of another wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// All cgroups are made and can be entered.
    CgroupsMade,
    /// Init is in its cgroups.
    Attached,
    /// All device rules of cgroup version 1 are written: from the first of them on everything was denied.
    DevicesRuled,
    /// Init's pid is known and the maps of its user namespace are written.
    MapsWritten,
    /// The trees that carry the container's own id mapping are ready to be mounted.
    TreesMapped,
    /// All mounts, devices and links are made.
    MountsDone,
    /// The network devices are in the container.
    NetDevicesMoved,
    /// The hooks of the runtime's namespaces have run.
    RuntimeHooksDone,
    /// The filter with the notification is loaded.
    FilterLoaded,
    /// The agent has the notification descriptor.
    ListenerSent,
    /// Init has done all that comes before `start`.
    Ready,
}

// A plan has a hundred of them, which are moved about while it is made: what is large is boxed.
const _: () = assert!(size_of::<Step>() <= 176);

/// One act, with all that is known of it.
#[derive(Debug)]
pub struct Step {
    /// Who does what.
    pub act: Act,
    /// The field of the configuration that asked for it.
    pub from: Field,
    /// What happens on failure.
    pub on_err: OnErr,
    /// How it is undone, where it changes the host.
    pub undo: Option<Box<Undo>>,
    /// What another lane must have reached first.
    pub waits: Option<Mark>,
    /// What is reached when this step is done.
    pub reaches: Option<Mark>,
}

impl Step {
    /// A step that fails the operation when it fails.
    pub fn new(act: Act, from: Field) -> Self {
        Step { act, from, on_err: OnErr::Fail, undo: None, waits: None, reaches: None }
    }

    /// A step of the parent.
    pub fn parent(op: ParentOp, from: Field) -> Self {
        Step::new(Act::Parent(op), from)
    }

    /// A step of the joiner.
    pub fn joiner(op: JoinerOp, from: Field) -> Self {
        Step::new(Act::Joiner(op), from)
    }

    /// A step of init.
    pub fn init(op: InitOp, from: Field) -> Self {
        Step::new(Act::Init(op), from)
    }

    /// The same, living with these errnos.
    #[must_use]
    pub fn skip(mut self, errnos: &'static [i32]) -> Self {
        self.on_err = OnErr::Skip(errnos);
        self
    }

    /// The same, trying another act at these errnos.
    #[must_use]
    pub fn or_else(mut self, errnos: &'static [i32], act: Act) -> Self {
        self.on_err = OnErr::Else(errnos, Box::new(act));
        self
    }

    /// The same, with its undo.
    #[must_use]
    pub fn undo(mut self, undo: Undo) -> Self {
        self.undo = Some(Box::new(undo));
        self
    }

    /// The same, after a point of another lane.
    #[must_use]
    pub fn after(mut self, mark: Mark) -> Self {
        self.waits = Some(mark);
        self
    }

    /// The same, reaching a point.
    #[must_use]
    pub fn reaches(mut self, mark: Mark) -> Self {
        self.reaches = Some(mark);
        self
    }
}

/// The list of steps that turns a bundle into a container.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps: each lane's own order is the order of this list.
    pub steps: Vec<Step>,
    /// What each slot is for.
    pub slots: Vec<&'static str>,
}

impl Plan {
    /// All undos, in the order of their steps. They are replayed backwards.
    pub fn undos(&self) -> Vec<Undo> {
        self.steps.iter().filter_map(|s| s.undo.as_deref().cloned()).collect()
    }

    /// The number of the step that reaches a mark.
    pub fn reached_by(&self, mark: Mark) -> Option<usize> {
        self.steps.iter().position(|s| s.reaches == Some(mark))
    }

    /// Whether another lane waits for this step.
    pub fn is_awaited(&self, step: usize) -> bool {
        self.steps[step].reaches.is_some_and(|mark| self.steps.iter().any(|s| s.waits == Some(mark)))
    }

    /// Whether the plan puts a process into a container that is there, instead of making one.
    pub fn joins_process(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.act, Act::Parent(ParentOp::OpenProcess { .. })))
    }

    /// Whether there is a joiner.
    pub fn has_joiner(&self) -> bool {
        self.steps.iter().any(|s| s.act.lane() == Lane::Joiner)
    }
}

/// The lanes while a plan is being compiled.
#[derive(Debug, Default)]
pub struct Lanes {
    /// The parent's steps before the clone.
    pub before: Vec<Step>,
    /// The joiner's.
    pub joiner: Vec<Step>,
    /// The parent's steps after the clone.
    pub parent: Vec<Step>,
    /// Init's.
    pub init: Vec<Step>,
    slots: Vec<&'static str>,
    holds: Vec<(usize, Mark)>,
}

impl Lanes {
    /// Lanes with room for what an ordinary container needs: they grow by being copied.
    pub fn roomy() -> Self {
        Lanes { parent: Vec::with_capacity(48), init: Vec::with_capacity(112), ..Lanes::default() }
    }

    /// Lets whatever init does next wait for a mark. The parent keeps its order, so that of two marks the later is enough.
    pub fn hold_init(&mut self, mark: Mark) {
        self.holds.retain(|(at, _)| *at != self.init.len());
        self.holds.push((self.init.len(), mark));
    }

    /// A new slot.
    pub fn slot(&mut self, what: &'static str) -> Slot {
        self.slots.push(what);
        Slot(u16::try_from(self.slots.len() - 1).unwrap_or(u16::MAX))
    }

    /// Weaves the lanes into one list that reads in an order in which the steps can happen: a lane is followed until it
    /// waits for another, or reaches what another may wait for.
    pub fn weave(mut self) -> Plan {
        for (i, mark) in self.holds {
            if let Some(step) = self.init.get_mut(i) {
                step.waits = step.waits.or(Some(mark));
            }
        }
        let lanes = [&self.before, &self.joiner, &self.parent, &self.init];
        let mut steps = Vec::with_capacity(lanes.iter().map(|lane| lane.len()).sum());
        // Every chapter may have something opened before the clone, whichever wrote the clone down.
        let is_clone = |s: &Step| matches!(s.act, Act::Parent(ParentOp::Clone { .. }));
        let (clone, before): (Vec<Step>, Vec<Step>) = self.before.into_iter().partition(is_clone);
        steps.extend(before);
        steps.extend(clone);
        steps.extend(self.joiner);
        let mut lanes = [self.parent.into_iter().peekable(), self.init.into_iter().peekable()];
        let mut turn = 0;
        let mut idle = 0;
        while idle < 2 {
            let reached = |steps: &[Step], mark: Mark| steps.iter().any(|s| s.reaches == Some(mark));
            let mut moved = false;
            while let Some(step) = lanes[turn].next_if(|s| s.waits.is_none_or(|m| reached(&steps, m))) {
                let met = step.reaches.is_some();
                steps.push(step);
                moved = true;
                if met {
                    break;
                }
            }
            idle = if moved { 0 } else { idle + 1 };
            turn = 1 - turn;
        }
        // What is left waits for a mark that nobody reaches: `check` says so.
        for lane in lanes {
            steps.extend(lane);
        }
        Plan { steps, slots: self.slots }
    }
}
