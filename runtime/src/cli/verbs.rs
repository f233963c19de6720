//! Flags and operands into requests: one short function per command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::global::*;
use super::request::*;
use super::scan::{Parsed, invalid};
use super::{UsageError, value};

type Built = Result<Command, UsageError>;

/// The operand at `at`, as text.
fn operand<'a>(parsed: &Parsed<'a>, at: usize) -> Result<&'a str, UsageError> {
    let raw = parsed.operands.get(at).copied().unwrap_or(OsStr::new(""));
    raw.to_str().ok_or_else(|| UsageError::new(format!("argument {:?} is not UTF-8", raw.to_string_lossy())))
}

/// The operand at `at`, as a container's id.
fn id(parsed: &Parsed<'_>, at: usize) -> Result<String, UsageError> {
    let raw = parsed.operands.get(at).map(|raw| raw.to_string_lossy()).unwrap_or_default();
    value::validate_id(&raw).map_err(UsageError::new)?;
    Ok(raw.into_owned())
}

fn tail(parsed: &Parsed<'_>) -> Vec<OsString> {
    parsed.operands.iter().skip(1).map(|arg| (*arg).to_owned()).collect()
}

fn target(parsed: &Parsed<'_>) -> Result<Target, UsageError> {
    Ok(Target { id: id(parsed, 0)? })
}

fn owned(parsed: &Parsed<'_>, name: &'static str) -> Result<Option<String>, UsageError> {
    Ok(parsed.text(name)?.map(str::to_owned))
}

fn format(parsed: &Parsed<'_>) -> Result<Format, UsageError> {
    match parsed.text("format")? {
        None | Some("table") => Ok(Format::Table),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(UsageError::new(format!("--format {other:?}: invalid format option"))),
    }
}

fn interval(parsed: &Parsed<'_>, default: u64) -> Result<Duration, UsageError> {
    let interval = parsed.read("interval", value::duration)?.unwrap_or(Duration::from_secs(default));
    if interval.is_zero() {
        return Err(UsageError::new("duration interval must be greater than 0"));
    }
    Ok(interval)
}

/// The flags of `create`; the id is filled in by the caller, as it is not always required.
fn create_flags(parsed: &Parsed<'_>) -> Result<Create, UsageError> {
    Ok(Create {
        id: String::new(),
        bundle: parsed.path("bundle"),
        console_socket: parsed.path("console-socket"),
        pidfd_socket: parsed.path("pidfd-socket"),
        pid_file: parsed.path("pid-file"),
        no_pivot: parsed.switch("no-pivot"),
        no_new_keyring: parsed.switch("no-new-keyring"),
        preserve_fds: parsed.number("preserve-fds")?.unwrap_or(0),
        strict: parsed.switch("strict"),
    })
}

fn create_request(parsed: &Parsed<'_>) -> Result<Create, UsageError> {
    Ok(Create { id: id(parsed, 0)?, ..create_flags(parsed)? })
}

fn run_request(parsed: &Parsed<'_>) -> Result<Run, UsageError> {
    Ok(Run {
        create: create_request(parsed)?,
        detach: parsed.switch("detach"),
        keep: parsed.switch("keep"),
        no_subreaper: parsed.switch("no-subreaper"),
    })
}

pub(super) fn create(parsed: &Parsed<'_>) -> Built {
    create_request(parsed).map(Command::Create)
}

pub(super) fn run(parsed: &Parsed<'_>) -> Built {
    run_request(parsed).map(Command::Run)
}

pub(super) fn start(parsed: &Parsed<'_>) -> Built {
    target(parsed).map(Command::Start)
}

pub(super) fn state(parsed: &Parsed<'_>) -> Built {
    target(parsed).map(Command::State)
}

pub(super) fn pause(parsed: &Parsed<'_>) -> Built {
    target(parsed).map(Command::Pause)
}

pub(super) fn resume(parsed: &Parsed<'_>) -> Built {
    target(parsed).map(Command::Resume)
}

pub(super) fn kill(parsed: &Parsed<'_>) -> Built {
    let id = id(parsed, 0)?;
    let signal = match operand(parsed, 1)? {
        "" => libc::SIGTERM,
        text => value::parse_signal(text).map_err(UsageError::new)?,
    };
    Ok(Command::Kill(Kill { id, signal, all: parsed.switch("all") }))
}

pub(super) fn delete(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Delete(Delete { id: id(parsed, 0)?, force: parsed.switch("force") }))
}

/// What keeps a command from being run has a code of its own, and its words before it.
fn not_run(error: UsageError) -> UsageError {
    UsageError { exit_code: 255, ..UsageError::new(format!("exec failed: {}", error.message)) }
}

pub(super) fn exec(parsed: &Parsed<'_>) -> Built {
    let user = |text| value::user(text).map_err(UsageError::new);
    let request = Exec {
        id: id(parsed, 0).map_err(not_run)?,
        args: tail(parsed),
        console_socket: parsed.path("console-socket"),
        pidfd_socket: parsed.path("pidfd-socket"),
        cwd: parsed.path("cwd"),
        env: parsed.every_raw("env"),
        tty: parsed.switch("tty"),
        user: parsed.text("user")?.map(user).transpose().map_err(not_run)?,
        additional_gids: parsed.every("additional-gids", |text| value::id_number(text, "gid")).map_err(not_run)?,
        process: parsed.path("process"),
        detach: parsed.switch("detach"),
        pid_file: parsed.path("pid-file"),
        process_label: owned(parsed, "process-label")?,
        apparmor: owned(parsed, "apparmor")?,
        no_new_privs: parsed.switch("no-new-privs"),
        caps: parsed.every("cap", |text| Ok(text.to_owned()))?,
        preserve_fds: parsed.number("preserve-fds")?.unwrap_or(0),
        cgroups: parsed.every("cgroup", value::sub_cgroup).map_err(not_run)?,
        ignore_paused: parsed.switch("ignore-paused"),
    };
    if request.process.is_none() && request.args.is_empty() {
        return Err(not_run(UsageError::new("process args cannot be empty")));
    }
    Ok(Command::Exec(request))
}

pub(super) fn list(parsed: &Parsed<'_>) -> Built {
    Ok(Command::List(List { format: format(parsed)?, quiet: parsed.switch("quiet") }))
}

pub(super) fn ps(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Ps(Ps { id: id(parsed, 0)?, format: format(parsed)?, args: tail(parsed) }))
}

pub(super) fn update(parsed: &Parsed<'_>) -> Built {
    let source = |path: PathBuf| if path.as_os_str() == "-" { Source::Stdin } else { Source::File(path) };
    let size = |name| parsed.read(name, value::size);
    // runc's flag is a number whose zero means "not named".
    let weight = parsed.number("blkio-weight")?.filter(|weight| *weight != 0_u16);
    Ok(Command::Update(Box::new(Update {
        id: id(parsed, 0)?,
        resources: parsed.path("resources").map(source),
        blkio_weight: weight,
        cpu_period: parsed.number("cpu-period")?,
        cpu_quota: parsed.number("cpu-quota")?,
        cpu_burst: parsed.number("cpu-burst")?,
        cpu_share: parsed.number("cpu-share")?,
        cpu_rt_period: parsed.number("cpu-rt-period")?,
        cpu_rt_runtime: parsed.number("cpu-rt-runtime")?,
        cpu_idle: parsed.number("cpu-idle")?,
        cpuset_cpus: owned(parsed, "cpuset-cpus")?,
        cpuset_mems: owned(parsed, "cpuset-mems")?,
        memory: size("memory")?,
        memory_reservation: size("memory-reservation")?,
        memory_swap: size("memory-swap")?,
        pids_limit: parsed.number("pids-limit")?,
        l3_cache_schema: owned(parsed, "l3-cache-schema")?,
        mem_bw_schema: owned(parsed, "mem-bw-schema")?,
        kernel_memory: size("kernel-memory")?.is_some() | size("kernel-memory-tcp")?.is_some(),
    })))
}

pub(super) fn events(parsed: &Parsed<'_>) -> Built {
    let interval = interval(parsed, 5)?;
    Ok(Command::Events(Events { id: id(parsed, 0)?, stats: parsed.switch("stats"), interval }))
}

fn criu(parsed: &Parsed<'_>) -> Result<Criu, UsageError> {
    let mode = match parsed.text("manage-cgroups-mode")? {
        None => None,
        Some("soft") => Some(CgroupsMode::Soft),
        Some("full") => Some(CgroupsMode::Full),
        Some("strict") => Some(CgroupsMode::Strict),
        Some("ignore") => Some(CgroupsMode::Ignore),
        Some(other) => return Err(UsageError::new(format!("invalid manage-cgroups-mode value: {other}"))),
    };
    Ok(Criu {
        image_path: parsed.path("image-path"),
        work_path: parsed.path("work-path"),
        tcp_established: parsed.switch("tcp-established"),
        ext_unix_sk: parsed.switch("ext-unix-sk"),
        shell_job: parsed.switch("shell-job"),
        lazy_pages: parsed.switch("lazy-pages"),
        file_locks: parsed.switch("file-locks"),
        manage_cgroups_mode: mode,
        empty_ns: parsed.every("empty-ns", |text| Ok(text.to_owned()))?,
        auto_dedup: parsed.switch("auto-dedup"),
    })
}

fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    if host.is_empty() { None } else { Some((host.to_owned(), port.parse().ok()?)) }
}

pub(super) fn checkpoint(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Checkpoint(Checkpoint {
        id: id(parsed, 0)?,
        criu: criu(parsed)?,
        parent_path: parsed.path("parent-path"),
        leave_running: parsed.switch("leave-running"),
        status_fd: parsed.number("status-fd")?.filter(|fd| *fd >= 0),
        page_server: parsed.read("page-server", address)?,
        pre_dump: parsed.switch("pre-dump"),
    }))
}

pub(super) fn restore(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Restore(Box::new(Restore {
        create: create_request(parsed)?,
        criu: criu(parsed)?,
        detach: parsed.switch("detach"),
        no_subreaper: parsed.switch("no-subreaper"),
        lsm_profile: owned(parsed, "lsm-profile")?,
        lsm_mount_context: owned(parsed, "lsm-mount-context")?,
    })))
}

pub(super) fn mounts(parsed: &Parsed<'_>) -> Built {
    let request = Mounts { id: id(parsed, 1)?, file: parsed.operands.get(2).map(PathBuf::from).unwrap_or_default() };
    match operand(parsed, 0)? {
        "add" => Ok(Command::MountsAdd(request)),
        "remove" => Ok(Command::MountsRemove(request)),
        other => Err(UsageError::new(format!("mounts {other:?}: add or remove is wanted"))),
    }
}

pub(super) fn spec(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Spec(SpecFile { bundle: parsed.path("bundle"), rootless: parsed.switch("rootless") }))
}

pub(super) fn features(_: &Parsed<'_>) -> Built {
    Ok(Command::Features)
}

pub(super) fn explain(parsed: &Parsed<'_>) -> Built {
    let id = if parsed.operands.is_empty() { None } else { Some(id(parsed, 0)?) };
    let create = Create { id: id.clone().unwrap_or_default(), ..create_flags(parsed)? };
    Ok(Command::Explain(Explain { id, create, json: parsed.switch("json") }))
}

pub(super) fn diff(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Diff(Report { id: id(parsed, 0)?, json: parsed.switch("json") }))
}

pub(super) fn trace(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Trace(Trace { run: run_request(parsed)?, json: parsed.switch("json"), output: parsed.path("output") }))
}

pub(super) fn doctor(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Doctor { json: parsed.switch("json") })
}

pub(super) fn top(parsed: &Parsed<'_>) -> Built {
    let ids = (0..parsed.operands.len()).map(|at| id(parsed, at)).collect::<Result<_, _>>()?;
    let iterations = if parsed.switch("once") { Some(1) } else { parsed.number("iterations")?.filter(|n| *n > 0) };
    Ok(Command::Top(Top { ids, interval: interval(parsed, 2)?, iterations, format: format(parsed)? }))
}

pub(super) fn gc(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Gc { dry_run: parsed.switch("dry-run") })
}

pub(super) fn completion(parsed: &Parsed<'_>) -> Built {
    match operand(parsed, 0)? {
        "bash" => Ok(Command::Completion(Shell::Bash)),
        "zsh" => Ok(Command::Completion(Shell::Zsh)),
        "fish" => Ok(Command::Completion(Shell::Fish)),
        other => Err(UsageError::new(format!("completion {other:?}: bash, zsh or fish is wanted"))),
    }
}

pub(super) fn man(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Man { of: topic(parsed)? })
}

pub(super) fn help(parsed: &Parsed<'_>) -> Built {
    Ok(Command::Help { of: topic(parsed)? })
}

/// The command that help or a manual page is asked of.
fn topic(parsed: &Parsed<'_>) -> Result<Option<String>, UsageError> {
    match parsed.operands.first() {
        None => Ok(None),
        Some(name) => super::known_verb(name).map(|verb| Some(verb.name.to_owned())),
    }
}

/// The options before the command.
pub(super) fn global(parsed: &Parsed<'_>) -> Result<Global, UsageError> {
    Ok(Global {
        debug: parsed.switch("debug"),
        log: log_target(parsed)?,
        log_format: match parsed.text("log-format")? {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(UsageError::new(format!("invalid log-format: {other}"))),
        },
        log_level: parsed.read("log-level", level)?,
        root: root(parsed)?,
        systemd_cgroup: parsed.switch("systemd-cgroup"),
        cgroup_manager: parsed.read("cgroup-manager", manager)?,
        rootless: parsed.read("rootless", rootless)?.unwrap_or_default(),
        criu: parsed.path("criu"),
    })
}

fn log_target(parsed: &Parsed<'_>) -> Result<LogTarget, UsageError> {
    let Some(path) = parsed.path("log") else { return Ok(LogTarget::Stderr) };
    let Some((kind, rest)) = path.to_str().and_then(|text| text.split_once(':')) else {
        return Ok(LogTarget::File(path));
    };
    match (kind, rest) {
        ("file" | "journald" | "syslog", "") => Err(invalid("log", path.as_os_str())),
        ("file", rest) => Ok(LogTarget::File(rest.into())),
        ("journald", rest) => Ok(LogTarget::Journald(rest.to_owned())),
        ("syslog", rest) => Ok(LogTarget::Syslog(rest.to_owned())),
        _ => Ok(LogTarget::File(path)),
    }
}

fn level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Some(Level::Error),
        "warning" | "warn" => Some(Level::Warning),
        "info" => Some(Level::Info),
        "debug" => Some(Level::Debug),
        _ => None,
    }
}

fn manager(text: &str) -> Option<CgroupManager> {
    match text {
        "cgroupfs" => Some(CgroupManager::Cgroupfs),
        "systemd" => Some(CgroupManager::Systemd),
        "disabled" => Some(CgroupManager::Disabled),
        _ => None,
    }
}

fn rootless(text: &str) -> Option<Rootless> {
    match (text, value::truth(text.as_bytes())) {
        ("auto", _) => Some(Rootless::Auto),
        (_, Some(true)) => Some(Rootless::True),
        (_, Some(false)) => Some(Rootless::False),
        _ => None,
    }
}

/// State below `/` itself would make every directory there a container to be deleted.
fn root(parsed: &Parsed<'_>) -> Result<Option<PathBuf>, UsageError> {
    use std::path::Component::{CurDir, Normal, ParentDir, RootDir};
    let Some(path) = parsed.read("root", |text| Some(PathBuf::from(text)))? else { return Ok(None) };
    let mut depth = 0_u32;
    for part in path.components() {
        match part {
            Normal(_) => depth += 1,
            ParentDir => depth = depth.saturating_sub(1),
            CurDir | RootDir | std::path::Component::Prefix(_) => {}
        }
    }
    if path.as_os_str().is_empty() || (path.is_absolute() && depth == 0) {
        return Err(UsageError::new(format!("--root {path:?}: state cannot be kept there: invalid root directory")));
    }
    Ok(Some(path))
}
