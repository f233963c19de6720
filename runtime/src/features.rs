//! What this runtime knows: the features structure of the specification (features.md, features-linux.md, 1.3), and the
//! names that it is made of. Nothing here depends on the host.

use serde::Serialize;

pub use crate::compile::seccomp::{
    ACTIONS as SECCOMP_ACTIONS, ARCHITECTURES as SECCOMP_ARCHS, OPERATORS as SECCOMP_OPERATORS,
};

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, or `unknown` where it was not built from a checkout.
pub const COMMIT: &str = match option_env!("TARE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// The newest version of the runtime specification that is known.
pub const SPEC_VERSION: &str = "1.3.0";
/// The oldest one.
pub const SPEC_VERSION_MIN: &str = "1.0.0";

/// Every mount option that is an attribute, a propagation or a request to the runtime; all else in a mount's options is
/// the filesystem's own business. Sorted.
pub const MOUNT_OPTIONS: &[&str] = crate::compile::options::KNOWN;

/// Every capability, by its number: the place in this list (linux/capability.h).
pub const CAPABILITIES: &[&str] = &crate::abi::CAPABILITIES;

const HOOKS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// Annotations of a config that change what the runtime does, which an engine should not let untrusted users set; a dot at the
/// end stands for all that begin so.
pub const UNSAFE_ANNOTATIONS: &[&str] = &["org.systemd.property."];

/// The names that the seccomp compiler knows.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

impl Seccomp {
    /// All of the specification's actions, operators and flags, and the architectures named.
    pub const fn new(archs: &'static [&'static str]) -> Self {
        Seccomp {
            enabled: true,
            actions: SECCOMP_ACTIONS,
            operators: SECCOMP_OPERATORS,
            archs,
            known_flags: SECCOMP_FLAGS,
            supported_flags: SECCOMP_FLAGS,
        }
    }
}

/// The specification's seccomp flags.
pub const SECCOMP_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

const MEMORY_MODES: &[&str] = &[
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];
const MEMORY_FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: &'static [&'static str],
    linux: Linux,
    annotations: Annotations,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: &'static [&'static str],
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    memory_policy: MemoryPolicy,
    intel_rdt: IntelRdt,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: &'static [&'static str],
    flags: &'static [&'static str],
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

#[derive(Serialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.runc.checkpoint.enabled")]
    checkpoint: &'static str,
    #[serde(rename = "io.github.tare.commit")]
    commit: &'static str,
    #[serde(rename = "io.github.tare.version")]
    version: &'static str,
}

/// What `features` prints: the structure as indented JSON and a newline. `seccomp` is what the seccomp compiler says of
/// itself.
///
/// # Errors
/// None that can happen: the structure holds text and truth values only.
pub fn features_json(seccomp: Seccomp) -> Result<String, serde_json::Error> {
    let yes = || Enabled { enabled: true };
    let features = Features {
        oci_version_min: SPEC_VERSION_MIN,
        oci_version_max: SPEC_VERSION,
        hooks: HOOKS,
        mount_options: MOUNT_OPTIONS,
        linux: Linux {
            namespaces: NAMESPACES,
            capabilities: CAPABILITIES,
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp,
            apparmor: yes(),
            selinux: yes(),
            memory_policy: MemoryPolicy { modes: MEMORY_MODES, flags: MEMORY_FLAGS },
            intel_rdt: IntelRdt { enabled: false, schemata: false, monitoring: false },
            mount_extensions: MountExtensions { idmap: yes() },
            net_devices: yes(),
        },
        annotations: Annotations { checkpoint: "true", commit: COMMIT, version: VERSION },
        potentially_unsafe_config_annotations: UNSAFE_ANNOTATIONS,
    };
    let mut text = serde_json::to_string_pretty(&features)?;
    text.push('\n');
    Ok(text)
}
