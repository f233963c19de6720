//! What a command line asks for: one struct per command, every value read and checked, nothing defaulted from the host.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::global::Global;
use super::value::{SubCgroup, User};

/// A whole command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What stands before the command.
    pub global: Global,
    /// The command.
    pub command: Command,
    /// The base name of `argv[0]`: what the program calls itself in help, version and messages.
    pub name: String,
}

/// A table for people or JSON for programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// JSON.
    Json,
}

/// The command and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `create ID`.
    Create(Create),
    /// `run ID`.
    Run(Run),
    /// `start ID`.
    Start(Target),
    /// `state ID`.
    State(Target),
    /// `kill ID [SIGNAL]`.
    Kill(Kill),
    /// `delete ID`.
    Delete(Delete),
    /// `exec ID COMMAND…`.
    Exec(Exec),
    /// `list`.
    List(List),
    /// `ps ID [OPTIONS…]`.
    Ps(Ps),
    /// `pause ID`.
    Pause(Target),
    /// `resume ID`.
    Resume(Target),
    /// `update ID`.
    Update(Box<Update>),
    /// `events ID`.
    Events(Events),
    /// `checkpoint ID`.
    Checkpoint(Checkpoint),
    /// `restore ID`.
    Restore(Box<Restore>),
    /// `mounts add ID FILE`.
    MountsAdd(Mounts),
    /// `mounts remove ID FILE`.
    MountsRemove(Mounts),
    /// `spec`.
    Spec(SpecFile),
    /// `features`.
    Features,
    /// `explain [ID]`.
    Explain(Explain),
    /// `diff ID`.
    Diff(Report),
    /// `trace ID`.
    Trace(Trace),
    /// `doctor`.
    Doctor {
        /// `--json`.
        json: bool,
    },
    /// `top [ID…]`.
    Top(Top),
    /// `gc`.
    Gc {
        /// `--dry-run`: say what would be removed, remove nothing.
        dry_run: bool,
    },
    /// `completion SHELL`.
    Completion(Shell),
    /// `man [COMMAND]`: a manual page, troff.
    Man {
        /// The command whose page is wanted; `None` for the program's own.
        of: Option<String>,
    },
    /// `--help`, `help [COMMAND]`, `COMMAND --help`, or no command at all.
    Help {
        /// The command that help is wanted of; `None` for the program.
        of: Option<String>,
    },
    /// `--version`.
    Version,
}

/// A container and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The container, a valid id.
    pub id: String,
}

/// `create`, and the part of `run` that it shares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Create {
    /// The container, a valid id.
    pub id: String,
    /// `-b`; `None` is the current directory.
    pub bundle: Option<PathBuf>,
    /// `--console-socket`: gets the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`: gets a pidfd of the container's process.
    pub pidfd_socket: Option<PathBuf>,
    /// `--pid-file`, relative to the caller's directory.
    pub pid_file: Option<PathBuf>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// `--preserve-fds`: descriptors kept beyond standard streams and `$LISTEN_FDS`.
    pub preserve_fds: u32,
    /// `--strict`: an unknown property of the config is an error.
    pub strict: bool,
}

/// `run`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// What it shares with `create`.
    pub create: Create,
    /// `-d`.
    pub detach: bool,
    /// `--keep`: the stopped container stays.
    pub keep: bool,
    /// `--no-subreaper`.
    pub no_subreaper: bool,
}

/// `kill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The container, a valid id.
    pub id: String,
    /// The signal's number, 0–64.
    pub signal: i32,
    /// `-a`: every process of the container.
    pub all: bool,
}

/// `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The container, a valid id.
    pub id: String,
    /// `-f`.
    pub force: bool,
}

/// `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// The container, a valid id.
    pub id: String,
    /// The command; empty only where `process` is given.
    pub args: Vec<OsString>,
    /// `--console-socket`.
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<PathBuf>,
    /// `--cwd`, in the container.
    pub cwd: Option<PathBuf>,
    /// `-e`, in the order given.
    pub env: Vec<OsString>,
    /// `-t`.
    pub tty: bool,
    /// `-u`.
    pub user: Option<User>,
    /// `-g`, in the order given.
    pub additional_gids: Vec<u32>,
    /// `-p`: a process object of the specification, as JSON.
    pub process: Option<PathBuf>,
    /// `-d`.
    pub detach: bool,
    /// `--pid-file`, relative to the caller's directory.
    pub pid_file: Option<PathBuf>,
    /// `--process-label`.
    pub process_label: Option<String>,
    /// `--apparmor`.
    pub apparmor: Option<String>,
    /// `--no-new-privs`.
    pub no_new_privs: bool,
    /// `-c`, in the order given.
    pub caps: Vec<String>,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// `--cgroup`, in the order given.
    pub cgroups: Vec<SubCgroup>,
    /// `--ignore-paused`.
    pub ignore_paused: bool,
}

/// `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// `-f`.
    pub format: Format,
    /// `-q`: ids only.
    pub quiet: bool,
}

/// `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ps {
    /// The container, a valid id.
    pub id: String,
    /// `-f`.
    pub format: Format,
    /// What stands after the id: options of ps(1).
    pub args: Vec<OsString>,
}

/// `update`; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// The container, a valid id.
    pub id: String,
    /// `-r`: where the resources are read from; the flags are ignored then.
    pub resources: Option<Source>,
    /// `--blkio-weight`, 10–1000.
    pub blkio_weight: Option<u16>,
    /// `--cpu-period`, µs.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, µs.
    pub cpu_quota: Option<i64>,
    /// `--cpu-burst`, µs.
    pub cpu_burst: Option<u64>,
    /// `--cpu-share`.
    pub cpu_share: Option<u64>,
    /// `--cpu-rt-period`, µs.
    pub cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`, µs.
    pub cpu_rt_runtime: Option<i64>,
    /// `--cpu-idle`, 0 or 1.
    pub cpu_idle: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--memory`, bytes, −1 for no limit.
    pub memory: Option<i64>,
    /// `--memory-reservation`, bytes, −1 for none.
    pub memory_reservation: Option<i64>,
    /// `--memory-swap`, bytes of memory and swap, −1 for no limit.
    pub memory_swap: Option<i64>,
    /// `--pids-limit`, −1 for no limit.
    pub pids_limit: Option<i64>,
    /// `--l3-cache-schema`.
    pub l3_cache_schema: Option<String>,
    /// `--mem-bw-schema`.
    pub mem_bw_schema: Option<String>,
    /// A kernel memory limit was named: the kernel has none any more, so it is only warned of.
    pub kernel_memory: bool,
}

/// Where `update` reads resources from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `-`.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The container, a valid id.
    pub id: String,
    /// `--stats`: one line, then exit.
    pub stats: bool,
    /// `--interval`, above zero.
    pub interval: Duration,
}

/// What `checkpoint` and `restore` share: the options that CRIU gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Criu {
    /// `--image-path`; `None` is `./checkpoint`.
    pub image_path: Option<PathBuf>,
    /// `--work-path`.
    pub work_path: Option<PathBuf>,
    /// `--tcp-established`.
    pub tcp_established: bool,
    /// `--ext-unix-sk`.
    pub ext_unix_sk: bool,
    /// `--shell-job`.
    pub shell_job: bool,
    /// `--lazy-pages`.
    pub lazy_pages: bool,
    /// `--file-locks`.
    pub file_locks: bool,
    /// `--manage-cgroups-mode`.
    pub manage_cgroups_mode: Option<CgroupsMode>,
    /// `--empty-ns`, namespace names as the specification has them.
    pub empty_ns: Vec<String>,
    /// `--auto-dedup`.
    pub auto_dedup: bool,
}

/// How CRIU treats cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Only what CRIU made.
    Soft,
    /// All.
    Full,
    /// All, and they must not exist.
    Strict,
    /// None.
    Ignore,
}

/// `checkpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The container, a valid id.
    pub id: String,
    /// What it shares with `restore`.
    pub criu: Criu,
    /// `--parent-path`.
    pub parent_path: Option<PathBuf>,
    /// `--leave-running`.
    pub leave_running: bool,
    /// `--status-fd`.
    pub status_fd: Option<i32>,
    /// `--page-server`: address and port.
    pub page_server: Option<(String, u16)>,
    /// `--pre-dump`.
    pub pre_dump: bool,
}

/// `restore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    /// What it shares with `create`.
    pub create: Create,
    /// What it shares with `checkpoint`.
    pub criu: Criu,
    /// `-d`.
    pub detach: bool,
    /// `--no-subreaper`.
    pub no_subreaper: bool,
    /// `--lsm-profile`: type and name.
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`.
    pub lsm_mount_context: Option<String>,
}

/// `mounts add` and `mounts remove`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounts {
    /// The container, a valid id.
    pub id: String,
    /// A JSON file: mounts as in the specification.
    pub file: PathBuf,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecFile {
    /// `-b`; `None` is the current directory.
    pub bundle: Option<PathBuf>,
    /// `--rootless`.
    pub rootless: bool,
}

/// `explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explain {
    /// The container that would be made; `None` where the id does not matter.
    pub id: Option<String>,
    /// What `create` would be given; its `id` is empty where none was named.
    pub create: Create,
    /// `--json`.
    pub json: bool,
}

/// `diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The container, a valid id.
    pub id: String,
    /// `--json`.
    pub json: bool,
}

/// `trace`: `run`, and the time of each step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// What is run.
    pub run: Run,
    /// `--json`.
    pub json: bool,
    /// `-o`: where the trace goes; `None` is standard error.
    pub output: Option<PathBuf>,
}

/// `top`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// The containers; empty for all.
    pub ids: Vec<String>,
    /// `--interval`, above zero.
    pub interval: Duration,
    /// `-n`: how many tables, then exit; `None` for no end.
    pub iterations: Option<u32>,
    /// `-f`.
    pub format: Format,
}

/// A shell that completion is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}
