//! `process`: config.md, "Process".

use super::{absolute, capabilities, namespaces, no_nul};
use crate::error::Problems;
use crate::field::Field;
use crate::spec::{ExecCpuAffinity, IoPriority, Linux, Process, Rlimit, Scheduler, User};

/// getrlimit(2).
const RLIMITS: [&str; 16] = [
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
];

/// config.md's list; all are the kernel's own names.
const SCHEDULER_FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

/// The most CPUs that a kernel can be built for (NR_CPUS on x86).
const CPU_LIMIT: u32 = 8192;

pub(super) fn check(process: &Process<'_>, linux: Option<&Linux<'_>>, problems: &mut Problems) {
    if process.args.is_empty() {
        problems.error(Field::new("process.args"), "is empty; its first entry is the program to run");
    }
    for (i, arg) in process.args.iter().enumerate() {
        no_nul(arg, || Field::at("process.args[]", &[i]), problems);
    }
    if process.command_line.is_some() {
        problems.error(Field::new("process.commandLine"), "is for Windows only; use process.args");
    }
    for (i, entry) in process.env.iter().enumerate() {
        environment(entry, || Field::at("process.env[]", &[i]), problems);
    }
    absolute(&process.cwd, || Field::new("process.cwd"), problems);
    if let Some(size) = process.console_size.filter(|_| process.terminal) {
        for (path, value) in [("process.consoleSize.height", size.height), ("process.consoleSize.width", size.width)] {
            if u16::try_from(value).is_err() {
                problems.error(Field::new(path), format!("is {value}; a terminal has at most 65535"));
            }
        }
    }
    user(&process.user, linux, problems);
    if let Some(sets) = &process.capabilities {
        capabilities::check(sets, problems);
    }
    rlimits(&process.rlimits, problems);
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        problems.error(Field::new("process.oomScoreAdj"), format!("is {score}; it ranges from -1000 to 1000"));
    }
    if let Some(wanted) = &process.scheduler {
        scheduler(wanted, problems);
    }
    if let Some(wanted) = &process.io_priority {
        io_priority(wanted, problems);
    }
    if let Some(wanted) = &process.exec_cpu_affinity {
        affinity(wanted, problems);
    }
    for (path, label) in
        [("process.apparmorProfile", &process.apparmor_profile), ("process.selinuxLabel", &process.selinux_label)]
    {
        no_nul(label.as_deref().unwrap_or_default(), || Field::new(path), problems);
    }
}

/// An entry of `environ`: execve(2) would take anything, but a program could not find what has no name.
fn environment(entry: &str, field: impl Fn() -> Field, problems: &mut Problems) {
    match entry.find('=') {
        None => problems.error(field(), format!("{entry:?} has no `=`; it must be NAME=VALUE")),
        Some(0) => problems.error(field(), format!("{entry:?} has no name before its `=`")),
        Some(_) => {}
    }
    no_nul(entry, field, problems);
}

fn user(user: &User<'_>, linux: Option<&Linux<'_>>, problems: &mut Problems) {
    let (uids, gids) = linux.map_or((&[][..], &[][..]), |linux| (&*linux.uid_mappings, &*linux.gid_mappings));
    namespaces::id(user.uid, uids, || Field::new("process.user.uid"), problems);
    namespaces::id(user.gid, gids, || Field::new("process.user.gid"), problems);
    for (i, gid) in user.additional_gids.iter().enumerate() {
        namespaces::id(*gid, gids, || Field::at("process.user.additionalGids[]", &[i]), problems);
    }
    if let Some(umask) = user.umask.filter(|umask| *umask > 0o777) {
        let text = format!("is {umask} (0o{umask:o}); 511 (0o777) is the most");
        problems.error_hint(Field::new("process.user.umask"), text, "JSON has no octal: 0o022 is 18");
    }
}

fn rlimits(rlimits: &[Rlimit<'_>], problems: &mut Problems) {
    for (i, limit) in rlimits.iter().enumerate() {
        let kind = &*limit.kind;
        if !RLIMITS.contains(&kind) {
            problems
                .error(Field::at("process.rlimits[].type", &[i]), format!("{kind:?} is no resource limit of Linux"));
        }
        if let Some(first) = rlimits[..i].iter().position(|other| other.kind == limit.kind) {
            let text = format!("{kind} is limited twice, first by process.rlimits[{first}]");
            problems.error(Field::at("process.rlimits[].type", &[i]), text);
        }
        if limit.soft > limit.hard {
            let text = format!("is {}, which is more than the hard limit {}", limit.soft, limit.hard);
            problems.error(Field::at("process.rlimits[].soft", &[i]), text);
        }
    }
}

/// What sched_setattr(2) would refuse on any host (kernel/sched/syscalls.c).
fn scheduler(wanted: &Scheduler<'_>, problems: &mut Problems) {
    let policy = &*wanted.policy;
    let realtime = matches!(policy, "SCHED_FIFO" | "SCHED_RR");
    match policy {
        "SCHED_OTHER" | "SCHED_BATCH" | "SCHED_IDLE" | "SCHED_FIFO" | "SCHED_RR" | "SCHED_DEADLINE" => {}
        "SCHED_ISO" => problems.error(Field::new("process.scheduler.policy"), "SCHED_ISO is in no kernel"),
        _ => problems.error(Field::new("process.scheduler.policy"), format!("{policy:?} is no scheduling policy")),
    }
    if !(-20..=19).contains(&wanted.nice) {
        let text = format!("is {}; it ranges from -20 to 19", wanted.nice);
        problems.error(Field::new("process.scheduler.nice"), text);
    }
    if realtime && !(1..=99).contains(&wanted.priority) {
        let text = format!("is {}; {policy} takes 1 to 99", wanted.priority);
        problems.error(Field::new("process.scheduler.priority"), text);
    } else if !realtime && wanted.priority != 0 {
        let text = format!("is {}; only SCHED_FIFO and SCHED_RR take a priority", wanted.priority);
        problems.error(Field::new("process.scheduler.priority"), text);
    }
    for (i, flag) in wanted.flags.iter().enumerate() {
        if !SCHEDULER_FLAGS.contains(&&**flag) {
            let text = format!("{flag:?} is no scheduling flag");
            problems.error(Field::at("process.scheduler.flags[]", &[i]), text);
        }
    }
    deadline(wanted, problems);
}

/// The three times of the deadline scheduler, in nanoseconds (kernel/sched/deadline.c, __checkparam_dl).
fn deadline(wanted: &Scheduler<'_>, problems: &mut Problems) {
    let Scheduler { runtime, deadline, period, .. } = *wanted;
    let fields = [
        ("process.scheduler.runtime", runtime),
        ("process.scheduler.deadline", deadline),
        ("process.scheduler.period", period),
    ];
    if &*wanted.policy != "SCHED_DEADLINE" {
        for (path, _) in fields.into_iter().filter(|(_, value)| *value != 0) {
            problems.error(Field::new(path), "is for SCHED_DEADLINE only");
        }
        return;
    }
    for (path, value) in fields {
        if value >> 63 != 0 {
            problems.error(Field::new(path), format!("is {value}; it must be below 2^63"));
        }
    }
    // The kernel reckons in units of 1024 ns, and takes an absent period for the deadline.
    if runtime < 1024 {
        problems.error(Field::new("process.scheduler.runtime"), format!("is {runtime}; 1024 ns is the least"));
    }
    if deadline < runtime {
        let text = format!("is {deadline}, which is less than the runtime {runtime}");
        problems.error(Field::new("process.scheduler.deadline"), text);
    }
    if period != 0 && period < deadline {
        let text = format!("is {period}, which is less than the deadline {deadline}");
        problems.error(Field::new("process.scheduler.period"), text);
    }
}

/// ioprio_set(2).
fn io_priority(wanted: &IoPriority<'_>, problems: &mut Problems) {
    let class = &*wanted.class;
    if !matches!(class, "IOPRIO_CLASS_RT" | "IOPRIO_CLASS_BE" | "IOPRIO_CLASS_IDLE") {
        problems.error(Field::new("process.ioPriority.class"), format!("{class:?} is no class of I/O priority"));
    }
    if !(0..=7).contains(&wanted.priority) {
        let text = format!("is {}; it ranges from 0 to 7", wanted.priority);
        problems.error(Field::new("process.ioPriority.priority"), text);
    }
}

fn affinity(wanted: &ExecCpuAffinity<'_>, problems: &mut Problems) {
    for (path, list) in
        [("process.execCPUAffinity.initial", &wanted.initial), ("process.execCPUAffinity.final", &wanted.last)]
    {
        if let Err(text) = cpu_list(list.as_deref().unwrap_or_default()) {
            problems.error(Field::new(path), text);
        }
    }
}

/// The ranges, first and last, of a list such as `0-3,7`. Blanks around and empty elements are let pass; a list
/// without any CPU is no list and gives none.
///
/// ```
/// assert_eq!(tare::validate::cpu_list("0-3, 7"), Ok(vec![(0, 3), (7, 7)]));
/// assert_eq!(tare::validate::cpu_list("3-1").unwrap_err(), "\"3-1\" is no list of CPUs: 3-1 runs backwards");
/// ```
///
/// # Errors
///
/// What is wrong, as the text of a problem.
pub fn cpu_list(list: &str) -> Result<Vec<(u32, u32)>, String> {
    let wrong = |what: String| format!("{list:?} is no list of CPUs: {what}");
    let cpu = |text: &str| match text.trim().parse::<u32>() {
        Ok(cpu) if cpu < CPU_LIMIT && !text.trim().starts_with('+') => Ok(cpu),
        Ok(_) if !text.trim().starts_with('+') => {
            Err(wrong(format!("{} is beyond the {CPU_LIMIT} of a kernel", text.trim())))
        }
        _ => Err(wrong(format!("{text:?} is no number"))),
    };
    let mut ranges = Vec::new();
    for element in list.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        let (first, last) = match element.split_once('-') {
            Some((first, last)) => (cpu(first)?, cpu(last)?),
            None => (cpu(element)?, cpu(element)?),
        };
        if first > last {
            return Err(wrong(format!("{element} runs backwards")));
        }
        ranges.push((first, last));
    }
    Ok(ranges)
}
