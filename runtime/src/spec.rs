//! The configuration of a container, as the OCI runtime specification 1.3 defines it (config.md, config-linux.md).
//!
//! The structs mirror the specification word for word and borrow from the text that they were read from. They hold no
//! policy: what a doubtful value means is said in [`crate::validate`] and in the chapters of [`crate::compile`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Deserializer};

/// A string of the configuration, borrowed from its text wherever no escape forced a copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Str<'a>(pub Cow<'a, str>);

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Str<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(s: &'a str) -> Self {
        Str(Cow::Borrowed(s))
    }
}

impl From<String> for Str<'_> {
    fn from(s: String) -> Self {
        Str(Cow::Owned(s))
    }
}

struct StrVisitor;

impl<'de> serde::de::Visitor<'de> for StrVisitor {
    type Value = Str<'de>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Str<'de>, E> {
        Ok(Str(Cow::Borrowed(s)))
    }
    fn visit_str<E>(self, s: &str) -> Result<Str<'de>, E> {
        Ok(Str(Cow::Owned(s.to_owned())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(StrVisitor)
    }
}

/// `null` reads as absent: engines written in Go write `null` for an empty list or map.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// A map whose keys the config's author chose, in the order of its keys.
pub type Map<'a, V> = BTreeMap<Str<'a>, V>;

/// The whole of `config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec<'a> {
    /// SemVer of the specification that the bundle complies with.
    #[serde(borrow)]
    pub oci_version: Str<'a>,
    /// The container's process; absent means that `start` must fail.
    #[serde(borrow)]
    pub process: Option<Process<'a>>,
    /// The root filesystem.
    #[serde(borrow)]
    pub root: Option<Root<'a>>,
    /// Host name in the container's UTS namespace.
    #[serde(borrow)]
    pub hostname: Option<Str<'a>>,
    /// NIS domain name in the container's UTS namespace.
    #[serde(borrow)]
    pub domainname: Option<Str<'a>>,
    /// Mounts beyond the root, in their order.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub mounts: Vec<Mount<'a>>,
    /// Programs to run at points of the lifecycle.
    #[serde(borrow)]
    pub hooks: Option<Hooks<'a>>,
    /// Free metadata.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub annotations: Map<'a, Str<'a>>,
    /// Linux's part.
    #[serde(borrow)]
    pub linux: Option<Linux<'a>>,
}

/// `process`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process<'a> {
    /// Whether a pseudoterminal is the process's standard streams.
    #[serde(default, deserialize_with = "nullable")]
    pub terminal: bool,
    /// The terminal's size in characters.
    pub console_size: Option<ConsoleSize>,
    /// Who the process is.
    #[serde(default, borrow, deserialize_with = "nullable")]
    pub user: User<'a>,
    /// The program and its arguments.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub args: Vec<Str<'a>>,
    /// Windows' form of `args`; refused here.
    #[serde(borrow)]
    pub command_line: Option<Str<'a>>,
    /// The environment, `KEY=VALUE` each.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub env: Vec<Str<'a>>,
    /// Working directory, absolute.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub cwd: Str<'a>,
    /// The five capability sets.
    #[serde(borrow)]
    pub capabilities: Option<Capabilities<'a>>,
    /// POSIX resource limits.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub rlimits: Vec<Rlimit<'a>>,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    #[serde(default, deserialize_with = "nullable")]
    pub no_new_privileges: bool,
    /// AppArmor profile entered at exec.
    #[serde(borrow)]
    pub apparmor_profile: Option<Str<'a>>,
    /// `oom_score_adj`; absent means unchanged.
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy.
    #[serde(borrow)]
    pub scheduler: Option<Scheduler<'a>>,
    /// SELinux label entered at exec.
    #[serde(borrow)]
    pub selinux_label: Option<Str<'a>>,
    /// I/O priority.
    #[serde(borrow, rename = "ioPriority")]
    pub io_priority: Option<IoPriority<'a>>,
    /// CPU affinity of `exec`.
    #[serde(borrow, rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity<'a>>,
}

/// `process.consoleSize`, in characters.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

/// `process.user`; ids are those of the container's user namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User<'a> {
    /// User id.
    #[serde(default, deserialize_with = "nullable")]
    pub uid: u32,
    /// Group id.
    #[serde(default, deserialize_with = "nullable")]
    pub gid: u32,
    /// File mode creation mask; absent means unchanged.
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(default, deserialize_with = "nullable")]
    pub additional_gids: Vec<u32>,
    /// Windows' user name; ignored here, as the specification leaves names to the engine.
    #[serde(borrow)]
    pub username: Option<Str<'a>>,
}

/// `process.capabilities`: names such as `CAP_CHOWN`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Capabilities<'a> {
    /// Bounding set.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub bounding: Vec<Str<'a>>,
    /// Effective set.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub effective: Vec<Str<'a>>,
    /// Inheritable set.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub inheritable: Vec<Str<'a>>,
    /// Permitted set.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub permitted: Vec<Str<'a>>,
    /// Ambient set.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub ambient: Vec<Str<'a>>,
}

/// One of `process.rlimits`.
#[derive(Debug, Clone, Deserialize)]
pub struct Rlimit<'a> {
    /// `RLIMIT_…`.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// Ceiling of the soft limit.
    pub hard: u64,
    /// The limit enforced.
    pub soft: u64,
}

/// `process.scheduler`, see sched_setattr(2).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduler<'a> {
    /// `SCHED_…`.
    #[serde(borrow)]
    pub policy: Str<'a>,
    /// Nice value.
    #[serde(default, deserialize_with = "nullable")]
    pub nice: i32,
    /// Static priority.
    #[serde(default, deserialize_with = "nullable")]
    pub priority: i32,
    /// `SCHED_FLAG_…`.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub flags: Vec<Str<'a>>,
    /// Deadline scheduler: run time in nanoseconds.
    #[serde(default, deserialize_with = "nullable")]
    pub runtime: u64,
    /// Deadline scheduler: deadline in nanoseconds.
    #[serde(default, deserialize_with = "nullable")]
    pub deadline: u64,
    /// Deadline scheduler: period in nanoseconds.
    #[serde(default, deserialize_with = "nullable")]
    pub period: u64,
}

/// `process.ioPriority`, see ioprio_set(2).
#[derive(Debug, Clone, Deserialize)]
pub struct IoPriority<'a> {
    /// `IOPRIO_CLASS_…`.
    #[serde(borrow)]
    pub class: Str<'a>,
    /// 0 (highest) to 7.
    #[serde(default, deserialize_with = "nullable")]
    pub priority: i64,
}

/// `process.execCPUAffinity`: cpu lists.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ExecCpuAffinity<'a> {
    /// Before the process enters the container's cgroup.
    #[serde(borrow)]
    pub initial: Option<Str<'a>>,
    /// After it.
    #[serde(borrow, rename = "final")]
    pub last: Option<Str<'a>>,
}

/// `root`.
#[derive(Debug, Clone, Deserialize)]
pub struct Root<'a> {
    /// Absolute, or relative to the bundle.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// Whether the container sees its root read-only.
    #[serde(default, deserialize_with = "nullable")]
    pub readonly: bool,
}

/// One of `mounts`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount<'a> {
    /// Path inside the container.
    #[serde(borrow)]
    pub destination: Str<'a>,
    /// Filesystem type.
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    /// Device, or path of a bind mount (absolute, or relative to the bundle).
    #[serde(borrow)]
    pub source: Option<Str<'a>>,
    /// Options as in the table of config.md.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub options: Vec<Str<'a>>,
    /// Mapping of an id-mapped mount.
    #[serde(default, deserialize_with = "nullable")]
    pub uid_mappings: Vec<IdMapping>,
    /// Mapping of an id-mapped mount.
    #[serde(default, deserialize_with = "nullable")]
    pub gid_mappings: Vec<IdMapping>,
}

/// An extent of a uid or gid map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many ids.
    pub size: u32,
}

/// `hooks`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks<'a> {
    /// Deprecated; before `createRuntime`, in the runtime namespace.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub prestart: Vec<Hook<'a>>,
    /// During create, in the runtime namespace.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub create_runtime: Vec<Hook<'a>>,
    /// During create, in the container namespace, before pivot_root.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub create_container: Vec<Hook<'a>>,
    /// During start, in the container.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub start_container: Vec<Hook<'a>>,
    /// After the program was executed, in the runtime namespace.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub poststart: Vec<Hook<'a>>,
    /// After the container was destroyed, in the runtime namespace.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub poststop: Vec<Hook<'a>>,
}

/// One hook.
#[derive(Debug, Clone, Deserialize)]
pub struct Hook<'a> {
    /// Program, absolute.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// Its argv, argv[0] included.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub args: Vec<Str<'a>>,
    /// Its environment, exactly.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub env: Vec<Str<'a>>,
    /// Seconds until it is aborted.
    pub timeout: Option<i64>,
}

/// `linux`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux<'a> {
    /// Map of the user namespace.
    #[serde(default, deserialize_with = "nullable")]
    pub uid_mappings: Vec<IdMapping>,
    /// Map of the user namespace.
    #[serde(default, deserialize_with = "nullable")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters of the container's namespaces.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub sysctl: Map<'a, Str<'a>>,
    /// Limits.
    #[serde(borrow)]
    pub resources: Option<Resources<'a>>,
    /// Where in the cgroup hierarchies.
    #[serde(borrow)]
    pub cgroups_path: Option<Str<'a>>,
    /// Namespaces, new or by path.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub namespaces: Vec<Namespace<'a>>,
    /// Devices beyond the default ones.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub devices: Vec<Device<'a>>,
    /// Network devices to move into the container, by host name.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub net_devices: Map<'a, NetDevice<'a>>,
    /// System call filter.
    #[serde(borrow)]
    pub seccomp: Option<Seccomp<'a>>,
    /// `private`, `shared`, `slave` or `unbindable`, each also with a leading `r`.
    #[serde(borrow)]
    pub rootfs_propagation: Option<Str<'a>>,
    /// Paths that cannot be read.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub masked_paths: Vec<Str<'a>>,
    /// Paths that cannot be written.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub readonly_paths: Vec<Str<'a>>,
    /// SELinux context of mounts.
    #[serde(borrow)]
    pub mount_label: Option<Str<'a>>,
    /// Intel resource director.
    #[serde(borrow)]
    pub intel_rdt: Option<IntelRdt<'a>>,
    /// NUMA memory policy.
    #[serde(borrow)]
    pub memory_policy: Option<MemoryPolicy<'a>>,
    /// Execution domain.
    #[serde(borrow)]
    pub personality: Option<Personality<'a>>,
    /// Offsets of a new time namespace, by clock.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub time_offsets: Map<'a, TimeOffset>,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace<'a> {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// An existing namespace to join; absent or empty means a new one.
    #[serde(borrow)]
    pub path: Option<Str<'a>>,
}

/// One of `linux.devices`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device<'a> {
    /// `c`, `b`, `u` or `p`.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// Path inside the container.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// Major number.
    pub major: Option<i64>,
    /// Minor number.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Owner in the container's user namespace.
    pub uid: Option<u32>,
    /// Group in the container's user namespace.
    pub gid: Option<u32>,
}

/// One of `linux.netDevices`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NetDevice<'a> {
    /// Its name inside the container.
    #[serde(borrow)]
    pub name: Option<Str<'a>>,
}

/// `linux.resources`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources<'a> {
    /// Device rules, in their order.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub devices: Vec<DeviceRule<'a>>,
    /// Memory limits.
    pub memory: Option<Memory>,
    /// CPU limits.
    #[serde(borrow)]
    pub cpu: Option<Cpu<'a>>,
    /// Task limit.
    pub pids: Option<Pids>,
    /// Block I/O limits.
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    /// Huge page limits.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub hugepage_limits: Vec<HugepageLimit<'a>>,
    /// Network classes (cgroup v1 only).
    #[serde(borrow)]
    pub network: Option<Network<'a>>,
    /// RDMA limits, by device.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub rdma: Map<'a, Rdma>,
    /// Files of cgroup v2 and what to write in them, applied last.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub unified: Map<'a, Str<'a>>,
}

/// One of `linux.resources.devices`.
#[derive(Debug, Clone, Deserialize)]
pub struct DeviceRule<'a> {
    /// Allowed or denied.
    pub allow: bool,
    /// `a`, `c` or `b`; absent or empty means `a`.
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    /// Absent or −1 means all.
    pub major: Option<i64>,
    /// Absent or −1 means all.
    pub minor: Option<i64>,
    /// Some of `r`, `w`, `m`; absent or empty means all three.
    #[serde(borrow)]
    pub access: Option<Str<'a>>,
}

/// `linux.resources.memory`, bytes; −1 is unlimited.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Limit of memory plus swap.
    pub swap: Option<i64>,
    /// Kernel memory.
    pub kernel: Option<i64>,
    /// Kernel TCP buffers.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100.
    pub swappiness: Option<u64>,
    /// Whether tasks over the limit wait instead of being killed.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Whether children share the limits.
    pub use_hierarchy: Option<bool>,
    /// Whether a limit below the usage is refused.
    pub check_before_update: Option<bool>,
}

/// `linux.resources.cpu`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu<'a> {
    /// Relative weight.
    pub shares: Option<u64>,
    /// Microseconds per period; −1 is unlimited.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds, realtime scheduler.
    pub realtime_runtime: Option<i64>,
    /// Microseconds, realtime scheduler.
    pub realtime_period: Option<u64>,
    /// CPU list.
    #[serde(borrow)]
    pub cpus: Option<Str<'a>>,
    /// Memory node list.
    #[serde(borrow)]
    pub mems: Option<Str<'a>>,
    /// 1 makes the cgroup SCHED_IDLE.
    pub idle: Option<i64>,
}

/// `linux.resources.pids`.
#[derive(Debug, Clone, Deserialize)]
pub struct Pids {
    /// Tasks at the most; −1 is unlimited.
    pub limit: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Default weight.
    pub weight: Option<u16>,
    /// Weight against the cgroup's children.
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(default, deserialize_with = "nullable")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes per second.
    #[serde(default, deserialize_with = "nullable")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes per second.
    #[serde(default, deserialize_with = "nullable")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Operations per second.
    #[serde(default, rename = "throttleReadIOPSDevice", deserialize_with = "nullable")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Operations per second.
    #[serde(default, rename = "throttleWriteIOPSDevice", deserialize_with = "nullable")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// One of `blockIO.weightDevice`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Weight.
    pub weight: Option<u16>,
    /// Weight against the cgroup's children.
    pub leaf_weight: Option<u16>,
}

/// One of `blockIO.throttle…Device`.
#[derive(Debug, Clone, Deserialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// One of `linux.resources.hugepageLimits`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit<'a> {
    /// `2MB`, `1GB`, …
    #[serde(borrow)]
    pub page_size: Str<'a>,
    /// Bytes.
    pub limit: u64,
}

/// `linux.resources.network`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Network<'a> {
    /// net_cls.classid.
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// net_prio.ifpriomap.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub priorities: Vec<InterfacePriority<'a>>,
}

/// One of `network.priorities`.
#[derive(Debug, Clone, Deserialize)]
pub struct InterfacePriority<'a> {
    /// Interface.
    #[serde(borrow)]
    pub name: Str<'a>,
    /// Priority.
    pub priority: u32,
}

/// One of `linux.resources.rdma`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rdma {
    /// hca_handles at the most.
    pub hca_handles: Option<u32>,
    /// hca_objects at the most.
    pub hca_objects: Option<u32>,
}

/// `linux.seccomp`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp<'a> {
    /// What happens to calls that no rule names.
    #[serde(borrow)]
    pub default_action: Str<'a>,
    /// errno of the default action.
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub architectures: Vec<Str<'a>>,
    /// `SECCOMP_FILTER_FLAG_…`.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub flags: Vec<Str<'a>>,
    /// Socket of the agent that serves `SCMP_ACT_NOTIFY`.
    #[serde(borrow)]
    pub listener_path: Option<Str<'a>>,
    /// Opaque data for that agent.
    #[serde(borrow)]
    pub listener_metadata: Option<Str<'a>>,
    /// The rules.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub syscalls: Vec<SyscallRule<'a>>,
}

/// One of `linux.seccomp.syscalls`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyscallRule<'a> {
    /// System calls.
    #[serde(borrow)]
    pub names: Vec<Str<'a>>,
    /// `SCMP_ACT_…`.
    #[serde(borrow)]
    pub action: Str<'a>,
    /// errno (or trace value) of the action.
    pub errno_ret: Option<u32>,
    /// Conditions on the arguments, all of which must hold.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub args: Vec<SyscallArg<'a>>,
}

/// One of `linux.seccomp.syscalls[].args`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyscallArg<'a> {
    /// 0 to 5.
    pub index: u32,
    /// Compared with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// The value of `SCMP_CMP_MASKED_EQ`.
    #[serde(default, deserialize_with = "nullable")]
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    #[serde(borrow)]
    pub op: Str<'a>,
}

/// `linux.intelRdt`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct IntelRdt<'a> {
    /// Class of service.
    #[serde(borrow, rename = "closID")]
    pub clos_id: Option<Str<'a>>,
    /// Lines of the class's `schemata`.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub schemata: Vec<Str<'a>>,
    /// Schema of the L3 cache.
    #[serde(borrow, rename = "l3CacheSchema")]
    pub l3_cache_schema: Option<Str<'a>>,
    /// Schema of the memory bandwidth.
    #[serde(borrow, rename = "memBwSchema")]
    pub mem_bw_schema: Option<Str<'a>>,
    /// Whether the container gets a monitoring group of its own.
    #[serde(rename = "enableMonitoring", default, deserialize_with = "nullable")]
    pub enable_monitoring: bool,
}

/// `linux.memoryPolicy`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct MemoryPolicy<'a> {
    /// `MPOL_…`.
    #[serde(borrow)]
    pub mode: Str<'a>,
    /// Node list.
    #[serde(borrow)]
    pub nodes: Option<Str<'a>>,
    /// `MPOL_F_…`.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub flags: Vec<Str<'a>>,
}

/// `linux.personality`.
#[derive(Debug, Clone, Deserialize)]
pub struct Personality<'a> {
    /// `LINUX` or `LINUX32`.
    #[serde(borrow)]
    pub domain: Str<'a>,
    /// None are defined.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub flags: Vec<Str<'a>>,
}

/// One of `linux.timeOffsets`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(default, deserialize_with = "nullable")]
    pub secs: i64,
    /// Nanoseconds.
    #[serde(default, deserialize_with = "nullable")]
    pub nanosecs: u32,
}
