//! Facts: what is true of this host for longer than one container lives.
//!
//! Nothing that a root filesystem controls is a fact. [`crate::host`] finds them; tests make them up.

use crate::op::unit::Manager;

/// What a plan depends on, of the host and of the runtime's own process.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Effective user id of the runtime.
    pub uid: u32,
    /// Effective group id of the runtime.
    pub gid: u32,
    /// Whether the runtime runs in a user namespace that is not the host's.
    pub in_user_namespace: bool,
    /// Whether setgroups(2) is denied in the runtime's own user namespace, and so in all below it.
    pub setgroups_denied: bool,
    /// The runtime's permitted capabilities, as bits.
    pub permitted: u64,
    /// The runtime's bounding set, as bits.
    pub bounding: u64,
    /// The highest capability that the kernel knows.
    pub last_cap: u8,
    /// The cgroup hierarchies.
    pub cgroups: Cgroups,
    /// The systemd that makes cgroups, where it is asked to.
    pub systemd: Option<Systemd>,
    /// Whether AppArmor is at work.
    pub apparmor: bool,
    /// Whether SELinux is at work.
    pub selinux: bool,
    /// SECCOMP_FILTER_FLAG_… bits that the kernel knows.
    pub seccomp_flags: u32,
}

impl Facts {
    /// Whether the runtime lacks the rights of the host's root.
    pub fn rootless(&self) -> bool {
        self.uid != 0 || self.in_user_namespace
    }

    /// Whether the runtime has the rights to mounts and namespaces, those of its own user namespace at least.
    pub fn administers(&self) -> bool {
        self.permitted & crate::abi::CAP_SYS_ADMIN != 0
    }

    /// The facts of an ordinary host: root, cgroup v2 with the usual controllers, no LSM. For goldens and examples.
    pub fn ordinary() -> Self {
        let names = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
        Facts {
            permitted: (1 << 41) - 1,
            bounding: (1 << 41) - 1,
            last_cap: 40,
            cgroups: Cgroups {
                v1: Vec::new(),
                v2: Some(Unified {
                    mount: "/sys/fs/cgroup".to_owned(),
                    controllers: names.map(str::to_owned).to_vec(),
                    own: "/".to_owned(),
                }),
            },
            seccomp_flags: 0b11_1111,
            ..Facts::default()
        }
    }
}

/// A running systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Systemd {
    /// How it is reached.
    pub manager: Manager,
    /// Its version: 257.
    pub version: u32,
    /// The cgroup below which its units are: `/`, or `/user.slice/user-1000.slice/user@1000.service`.
    pub cgroup: String,
}

/// The hierarchies that are mounted; a hybrid host has both kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Hierarchies of version 1.
    pub v1: Vec<Hierarchy>,
    /// The hierarchy of version 2.
    pub v2: Option<Unified>,
}

/// A hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted: `/sys/fs/cgroup/cpu,cpuacct`.
    pub mount: String,
    /// Its controllers: `cpu` and `cpuacct`, or `name=systemd` alone.
    pub controllers: Vec<String>,
    /// The runtime's own cgroup in it, as `/proc/self/cgroup` says.
    pub own: String,
}

/// The hierarchy of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unified {
    /// Where it is mounted: `/sys/fs/cgroup` or `/sys/fs/cgroup/unified`.
    pub mount: String,
    /// `cgroup.controllers` of its root.
    pub controllers: Vec<String>,
    /// The runtime's own cgroup in it, as `/proc/self/cgroup` says.
    pub own: String,
}
