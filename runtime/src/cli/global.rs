//! What the options before the command ask for.

use std::path::PathBuf;

/// The options before the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Global {
    /// `--debug`: debug lines are logged.
    pub debug: bool,
    /// `--log`: where log lines go.
    pub log: LogTarget,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--log-level`, crun's; `--debug` wins over it.
    pub log_level: Option<Level>,
    /// `--root`: where state lies; never empty and never `/`. `None` is the default, which depends on the user.
    pub root: Option<PathBuf>,
    /// `--systemd-cgroup`.
    pub systemd_cgroup: bool,
    /// `--cgroup-manager`, crun's; it wins over `--systemd-cgroup`.
    pub cgroup_manager: Option<CgroupManager>,
    /// `--rootless`.
    pub rootless: Rootless,
    /// `--criu`: the program for checkpoint and restore.
    pub criu: Option<PathBuf>,
}

/// Where log lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// A file, appended to: `--log FILE` or crun's `--log file:FILE`.
    File(PathBuf),
    /// The journal, under this identifier: crun's `--log journald:IDENTIFIER`.
    Journald(String),
    /// The system log, under this identifier: crun's `--log syslog:IDENTIFIER`.
    Syslog(String),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`.
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

/// How much a log line matters; the names are logrus'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the command failed of.
    Error,
    /// What was lived with.
    Warning,
    /// What is worth knowing.
    Info,
    /// What was done, step by step.
    Debug,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupManager {
    /// This program, in the cgroup file system.
    Cgroupfs,
    /// systemd, asked over D-Bus.
    Systemd,
    /// Nobody: the container stays in the caller's cgroup.
    Disabled,
}

/// Whether cgroup permission errors are lived with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rootless {
    /// By who runs the program.
    #[default]
    Auto,
    /// Yes.
    True,
    /// No.
    False,
}
