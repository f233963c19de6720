//! What is known of the host's cgroup hierarchies: slow-changing facts, read once by [`crate::run::cgroup::probe`].

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
