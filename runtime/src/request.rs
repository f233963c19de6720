//! What the command line asks for, as far as it shapes the plan.

/// The part of a command line that a plan depends on.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Whether the program waits for `start`.
    pub gated: bool,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--cgroup-manager disabled`: no cgroups are made.
    pub no_cgroups: bool,
    /// `--systemd-cgroup`: systemd makes the cgroups.
    pub systemd: bool,
    /// `--rootless`: whether a cgroup that is denied, and that no limit needs, is done without. `None`: as the user is.
    pub rootless: Option<bool>,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that are passed on (`--preserve-fds`, plus those of socket activation).
    pub preserve_fds: u32,
    /// How many of them are those of socket activation (`LISTEN_FDS`).
    pub listen_fds: u32,
    /// `LISTEN_FDNAMES`, where it was given.
    pub listen_fdnames: Option<String>,
    /// Path inside the container of the socket that `NOTIFY_SOCKET` names, where readiness is relayed.
    pub notify_socket: Option<String>,
    /// Absolute path of the directory of the runtime's that holds this socket and is mounted where it is looked for.
    pub notify_directory: Option<String>,
}
