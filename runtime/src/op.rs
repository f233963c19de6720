//! The acts of which plans are made.
//!
//! Who acts is a type: a [`ParentOp`] happens in the runtime's own process, in the runtime's namespaces; a [`JoinerOp`]
//! in a process between, which exists only where namespaces are joined or a time namespace is made; an [`InitOp`] in the
//! process that becomes the container's. Everything that an op needs is in it, laid out for the kernel: the init lane
//! neither allocates nor formats.

use std::ffi::CString;
use std::rc::Rc;

pub use crate::abi::{CapSets, NodeMask, Scheduler};

pub mod cgroup;
pub mod seccomp;
pub mod unit;

use cgroup::{DeviceProgram, Group, Write};
use seccomp::Filter;
use unit::Unit;

/// A place for a file descriptor that appears while walking: written once, before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// The eight kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `user`
    User,
    /// `pid`
    Pid,
    /// `network`
    Network,
    /// `mount`
    Mount,
    /// `ipc`
    Ipc,
    /// `uts`
    Uts,
    /// `cgroup`
    Cgroup,
    /// `time`
    Time,
}

/// What the runtime's own process does.
#[derive(Debug)]
pub enum ParentOp {
    /// Opens a namespace by path and checks its type (ioctl_ns(2), NS_GET_NSTYPE).
    OpenNamespace {
        /// The type that it must have.
        kind: Kind,
        /// Path in the runtime's mount namespace.
        path: CString,
        /// Receives the descriptor.
        slot: Slot,
    },
    /// Clones the source of a bind mount while the runtime's view and rights are at hand.
    OpenTree {
        /// Path in the runtime's mount namespace.
        source: CString,
        /// With all mounts below.
        recursive: bool,
        /// Whether a symbolic link as the last component is itself mounted, instead of what it leads to.
        nofollow: bool,
        /// Receives the detached tree.
        slot: Slot,
    },
    /// Makes a user namespace that serves as an id mapping only.
    MakeMapping {
        /// Text of uid_map.
        uid: String,
        /// Text of gid_map.
        gid: String,
        /// Receives the namespace.
        slot: Slot,
    },
    /// Applies an id mapping to a detached tree (mount_setattr(2), MOUNT_ATTR_IDMAP).
    MapTree {
        /// The tree.
        tree: Slot,
        /// The namespace whose mapping is applied; `None` means the container's own.
        mapping: Option<Slot>,
        /// With all mounts below.
        recursive: bool,
    },
    /// Makes the container's cgroup in one hierarchy.
    MakeCgroup(Box<Group>),
    /// Lets systemd make a transient unit, with its cgroups, and put init into it; waits until that is done.
    StartUnit(Box<Unit>),
    /// Readies the cgroup of such a unit in one hierarchy, and makes it where systemd does not care for the hierarchy.
    AdoptCgroup(Box<Group>),
    /// Opens a cgroup (v2: its directory; v1: its `tasks`), for the clone or the attach.
    OpenCgroup {
        /// The cgroup.
        group: Box<Group>,
        /// Receives the descriptor.
        slot: Slot,
    },
    /// Writes one limit.
    WriteCgroup {
        /// Where.
        group: Rc<Group>,
        /// What.
        write: Box<Write>,
    },
    /// Attaches the device program to a cgroup v2.
    AttachDevices {
        /// The cgroup.
        group: Box<Group>,
        /// The program.
        program: DeviceProgram,
    },
    /// Gives a cgroup v2 to the container's user (config-linux.md, "Cgroup ownership").
    Delegate {
        /// The cgroup.
        group: Box<Group>,
        /// The user, in the runtime's user namespace.
        uid: u32,
    },
    /// Opens the container's init (pidfd_open(2)) and checks that it is still that process and no other of its number.
    OpenProcess {
        /// Its pid in the runtime's pid namespace.
        pid: i32,
        /// When it started, in clock ticks since boot.
        start_time: u64,
        /// Receives the pidfd.
        slot: Slot,
    },
    /// Opens a directory of the runtime's view as a mere place (O_PATH).
    OpenDirectory {
        /// Path in the runtime's mount namespace.
        path: CString,
        /// Receives the descriptor.
        slot: Slot,
    },
    /// Moves the runtime itself, and so what it clones, to these CPUs (sched_setaffinity(2)).
    Affinity(Box<[u8]>),
    /// clone3(2): the container's init, or the joiner where there is one.
    Clone {
        /// Namespaces that the child gets new.
        flags: u64,
        /// The cgroup v2 that it starts in.
        cgroup: Option<Slot>,
        /// Whether the child is the joiner.
        joiner: bool,
    },
    /// Reads which process the joiner made.
    MeetInit,
    /// Denies setgroups(2) in the new user namespace, without which an unprivileged gid map is refused (CVE-2014-8989).
    DenySetgroups,
    /// Writes a map of the new user namespace.
    WriteMap {
        /// `uid_map` or `gid_map`.
        file: &'static str,
        /// Its text.
        text: String,
        /// Through newuidmap(1) or newgidmap(1), because the runtime is not privileged.
        helper: bool,
    },
    /// Sets a resource limit of init (prlimit(2)).
    Rlimit(Rlimit),
    /// Writes init's oom_score_adj.
    OomScoreAdj(i32),
    /// Sets init's scheduling (sched_setattr(2)).
    Scheduler {
        /// What it is to be.
        scheduler: Scheduler,
        /// Whether the container has CPUs of its own, which some policies do not bear.
        confined: bool,
    },
    /// Sets init's I/O priority (ioprio_set(2)).
    IoPriority(i32),
    /// Moves a network device into the container's network namespace, with its addresses, and sets it up.
    MoveNetDevice {
        /// Its name in the runtime's network namespace.
        name: String,
        /// Its name inside; with `%d` at the end the kernel finds a number.
        inside: String,
    },
    /// Runs a hook in the runtime's namespaces.
    Hook(Box<HookOp>),
    /// Reads back that init is in the cgroups that were planned.
    CheckCgroups(Vec<Group>),
    /// Fetches the seccomp notification descriptor from init and hands it to the agent.
    SendListener {
        /// Socket of the agent.
        path: CString,
        /// The container process state in three parts, between which the pid is written.
        message: Box<[String; 3]>,
    },
}

/// What the joiner does.
#[derive(Debug)]
pub enum JoinerOp {
    /// setns(2).
    Join {
        /// Which kind.
        kind: Kind,
        /// The namespace.
        slot: Slot,
    },
    /// Nobody in the container may ptrace the joiner, or what it clones, from the moment they meet (CVE-2016-9962).
    Undumpable,
    /// Enters a cgroup v1, before anybody in the container can see the process.
    Attach(Tasks),
    /// sched_setaffinity(2): the mask of CPUs, as the kernel takes it.
    Affinity(Box<[u8]>),
    /// Writes its own oom_score_adj, which init inherits.
    OomScoreAdj(CString),
    /// setns(2) by pidfd: all of these kinds at once, or none.
    JoinProcess {
        /// The pidfd of the container's init.
        process: Slot,
        /// CLONE_NEW… flags.
        kinds: u64,
    },
    /// unshare(2): a time namespace for the children.
    UnshareTime,
    /// Writes the offsets of that time namespace.
    TimeOffsets(CString),
    /// clone3(2) with CLONE_PARENT: init becomes the runtime's own child.
    Clone {
        /// Namespaces that init gets new.
        flags: u64,
    },
}

/// What the process does that becomes the container's.
#[derive(Debug, Clone)]
pub enum InitOp {
    /// Enters a cgroup v1 by writing `0` to its `tasks`: a pid written to `cgroup.procs` would wait for an RCU grace period.
    Attach(Tasks),
    /// unshare(2).
    Unshare(u64),
    /// Becomes root of the new user namespace.
    BecomeRoot,
    /// Starts a session (setsid(2)).
    Session,
    /// Nobody may ptrace init or follow its links in /proc until it is executed (CVE-2016-9962).
    Undumpable,
    /// Changes the propagation of what init sees as `/`.
    Propagation {
        /// MS_SLAVE, MS_PRIVATE, …
        kind: u64,
        /// And that of all mounts below.
        recursive: bool,
    },
    /// Puts a clone of the root filesystem over itself and keeps a handle of it, from which all paths are resolved.
    OpenRoot {
        /// Path in the mount namespace that init is in by then: the runtime's, as it was cloned, or the one that was joined.
        path: CString,
        /// Whether mounts of the host may still come in (slave), or not (private).
        private: bool,
    },
    /// Takes the root that the process has as the handle of all paths; a slot holds the root of the container's init, which is
    /// entered first, where the mount namespace alone does not lead to it.
    OwnRoot(Option<Slot>),
    /// Mounts something.
    Mount(Box<MountOp>),
    /// Changes the attributes of what is mounted at a path, and of all below.
    Attributes {
        /// Path inside the container.
        path: CString,
        /// Attributes set.
        set: u64,
    },
    /// mount(2) with MS_REMOUNT (`remount`).
    Remount {
        /// Path inside the container.
        path: CString,
        /// MS_… flags.
        flags: u64,
        /// The filesystem's own options.
        data: CString,
    },
    /// Makes a device, unless the right one is there.
    Device(DeviceOp),
    /// Makes a symbolic link, unless there is something.
    Symlink {
        /// Where it points to.
        target: CString,
        /// Path inside the container.
        path: CString,
        /// Only where this path exists inside the container.
        only_if: Option<CString>,
        /// Whether what stands at the path gives way.
        replace: bool,
    },
    /// Makes a directory inside the container, unless there is one.
    Directory(CString),
    /// Makes a path unreadable or read-only.
    Cover {
        /// Path inside the container.
        path: CString,
        /// Unreadable, or only read-only.
        mask: bool,
    },
    /// Opens a proc filesystem of our own that no path leads to.
    Procfs(Slot),
    /// Writes a file of our own proc filesystem: a sysctl, a label.
    WriteProc {
        /// The filesystem.
        proc: Slot,
        /// Path in it.
        path: CString,
        /// What is written.
        value: CString,
    },
    /// sethostname(2) or setdomainname(2).
    SetName {
        /// Host name, else domain name.
        host: bool,
        /// The name.
        name: CString,
    },
    /// Runs a hook where init stands.
    Hook(Box<HookOp>),
    /// Makes the pseudoterminal in the container's devpts and hands its other end out.
    Terminal {
        /// Columns and rows.
        size: Option<(u16, u16)>,
        /// Whether `/dev/console` is bound to it.
        console: bool,
    },
    /// Makes the root read-only.
    ReadonlyRoot,
    /// The root handle becomes `/`; standard streams that are the host's `/dev/null` become the container's.
    EnterRoot(EnterRoot),
    /// Joins a new session keyring (keyctl(2)).
    Keyring(CString),
    /// personality(2).
    Personality(u64),
    /// set_mempolicy(2).
    MemoryPolicy {
        /// MPOL_…, with the flags or-ed in.
        mode: u32,
        /// The nodes; none of them is no mask at all.
        nodes: Box<NodeMask>,
    },
    /// umask(2).
    Umask(u32),
    /// prctl(2), PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
    /// Drops capabilities from the bounding set.
    Bounding {
        /// Those that stay.
        keep: u64,
        /// Those that are dropped: the ones that can be there at all.
        drop: u64,
    },
    /// setgroups(2).
    Groups(Vec<u32>),
    /// setresgid(2).
    Gid(u32),
    /// setresuid(2), keeping the permitted set.
    Uid(u32),
    /// chdir(2), unless that was done, and a check that the directory lies inside the root (CVE-2024-21626).
    Chdir(CString),
    /// capset(2).
    Capabilities(CapSets),
    /// Raises ambient capabilities.
    Ambient(u64),
    /// Fills HOME from the container's /etc/passwd, which engines leave to the runtime.
    Home(u32),
    /// Finds which of the candidates can be executed.
    FindProgram(Vec<CString>),
    /// close_range(2): every descriptor from this one on goes at exec.
    CloseFds(u32),
    /// Tells that all is ready, then waits for `start`.
    AwaitStart,
    /// Sets a resource limit of its own (prlimit(2)).
    Rlimit(Rlimit),
    /// Reads back ids, capabilities, no_new_privs and compares them with the plan.
    ReadBack(ReadBack),
    /// seccomp(2).
    Seccomp(Filter),
    /// execve(2).
    Exec {
        /// argv.
        args: Vec<CString>,
        /// The environment.
        env: Vec<CString>,
    },
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// Number of the resource.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// How init enters a cgroup v1.
#[derive(Debug, Clone)]
pub enum Tasks {
    /// By the path of `tasks`.
    Path(CString),
    /// By a descriptor that the parent opened with its own rights.
    Slot(Slot),
}

/// How a directory becomes the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnterRoot {
    /// pivot_root(".", "."), and the old root is detached.
    Pivot,
    /// The mount is moved over `/`, for an initramfs that cannot be pivoted (`--no-pivot`).
    Move,
    /// chroot(2): there is no mount namespace of the container's own.
    Chroot,
}

/// Changes of a mount's attributes, see mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// Set on the mount.
    pub set: u64,
    /// Cleared on the mount.
    pub clear: u64,
    /// Set on the mount and all below.
    pub rec_set: u64,
    /// Cleared on the mount and all below.
    pub rec_clear: u64,
    /// Propagation type, or 0.
    pub propagation: u64,
    /// Whether the propagation is that of all mounts below, too.
    pub rec_propagation: bool,
}

/// A mount.
#[derive(Debug, Clone)]
pub struct MountOp {
    /// Path inside the container.
    pub destination: CString,
    /// What is mounted.
    pub source: MountSource,
    /// Its attributes.
    pub attr: Attr,
    /// The destination's last component must not be a symbolic link.
    pub dest_nofollow: bool,
    /// Keeps a handle of the mount.
    pub keep: Option<Slot>,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum MountSource {
    /// A new filesystem.
    Filesystem {
        /// Type, as /proc/filesystems names it.
        fstype: CString,
        /// Options, with a value or without.
        options: Vec<(CString, Option<CString>)>,
        /// MS_… flags and text for mount(2), where an option is none that fsconfig(2) takes: longer than its 255 bytes, or
        /// a flag of the old call alone.
        legacy: Option<(u64, CString)>,
        /// The source as the filesystem sees it.
        source: CString,
        /// Whether what the destination held is copied into the new filesystem first (`tmpcopyup`).
        copy_up: bool,
    },
    /// A bind mount by path.
    Bind {
        /// Path in the runtime's mount namespace.
        source: CString,
        /// With all mounts below.
        recursive: bool,
        /// A symbolic link as the source's last component is itself mounted, instead of what it leads to.
        nofollow: bool,
        /// A source that is a symbolic link becomes the same link in the container (`copy-symlink`).
        copy_symlink: bool,
        /// The source is known to be a directory, and the destination known to be missing.
        fresh: bool,
    },
    /// A bind mount of a tree that the parent opened.
    Tree(Slot),
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOp {
    /// Path inside the container.
    pub path: CString,
    /// File type and permission bits.
    pub mode: u32,
    /// Device number.
    pub rdev: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Path of the same device in the runtime's namespace: bound where mknod(2) is refused.
    pub host: CString,
    /// Whether to bind without trying mknod(2).
    pub bind: bool,
}

/// A hook, with everything laid out.
#[derive(Debug, Clone)]
pub struct HookOp {
    /// `prestart`, `createRuntime`, …
    pub kind: &'static str,
    /// Its index among its kind.
    pub index: usize,
    /// Program.
    pub path: CString,
    /// argv.
    pub args: Vec<CString>,
    /// Environment.
    pub env: Vec<CString>,
    /// Seconds.
    pub timeout: Option<u32>,
    /// The container's state in two parts, between which the pid is written.
    pub state: [String; 2],
}

/// What the process must be just before it is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The three sets; `None` where capabilities are those that the kernel left.
    pub caps: Option<CapSets>,
    /// no_new_privs.
    pub no_new_privileges: bool,
}
