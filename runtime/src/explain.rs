//! A plan as an admin reads it: who does what, because of which field, after what, and how it is undone.

use std::ffi::CStr;
use std::fmt::Write as _;

use crate::abi::{CAPABILITIES, RLIMITS, attr, clone, file, propagation};
use crate::op::unit::Unit;
use crate::op::{
    Attr, CapSets, DeviceOp, EnterRoot, InitOp, JoinerOp, MountOp, MountSource, NodeMask, ParentOp, Rlimit, Scheduler,
    Tasks,
};
use crate::plan::{Act, Lane, Mark, OnErr, Plan, Undo};

fn text(s: &CStr) -> String {
    s.to_string_lossy().into_owned()
}

fn list(items: &[std::ffi::CString]) -> String {
    items.iter().map(|s| text(s)).collect::<Vec<_>>().join(" ")
}

/// What a step does, in one line.
pub fn act(act: &Act) -> String {
    match act {
        Act::Parent(op) => parent(op),
        Act::Joiner(op) => joiner(op),
        Act::Init(op) => init(op),
    }
}

fn parent(op: &ParentOp) -> String {
    match op {
        ParentOp::OpenNamespace { kind, path, .. } => format!("open {} namespace {}", kind.name(), text(path)),
        ParentOp::OpenTree { source, recursive, .. } => {
            format!("open bind source {}{}", text(source), if *recursive { " with all below" } else { "" })
        }
        ParentOp::MakeMapping { uid, gid, .. } => format!("make id mapping {}", maps(uid, gid)),
        ParentOp::MapTree { mapping, recursive, .. } => format!(
            "map ids of bind source by {}{}",
            if mapping.is_some() { "its mapping" } else { "the container's" },
            if *recursive { ", with all below" } else { "" }
        ),
        ParentOp::MakeCgroup(group) if group.optional => format!("make cgroup {}, unless that is denied", group.dir()),
        ParentOp::MakeCgroup(group) => format!("make cgroup {}", group.dir()),
        ParentOp::StartUnit(unit) => start_unit(unit),
        ParentOp::AdoptCgroup(group) => format!("complete systemd's cgroup {}", group.dir()),
        ParentOp::OpenCgroup { group, .. } => format!("open cgroup {}", group.dir()),
        ParentOp::WriteCgroup { group, write } => format!("write {:?} to {}/{}", write.value, group.dir(), write.file),
        ParentOp::AttachDevices { group, .. } => format!("attach device program to {}", group.dir()),
        ParentOp::Delegate { group, uid } => format!("give cgroup {} to user {uid}", group.dir()),
        ParentOp::OpenProcess { pid, .. } => format!("open the container's init, pid {pid}, and check that it is that"),
        ParentOp::OpenDirectory { path, .. } => format!("open {}", text(path)),
        ParentOp::Affinity(mask) => format!("run on CPUs {}", cpus(mask)),
        ParentOp::Clone { flags, cgroup, joiner } => {
            let who = if *joiner { "joiner" } else { "init" };
            let into = if cgroup.is_some() { ", into its cgroup" } else { "" };
            format!("clone {who}{}{into}", namespaces(*flags))
        }
        ParentOp::MeetInit => "learn init's pid from the joiner".to_owned(),
        ParentOp::DenySetgroups => "deny setgroups in the user namespace".to_owned(),
        ParentOp::WriteMap { file, text, helper } => {
            let by = match (helper, *file) {
                (false, _) => "",
                (true, "uid_map") => " by newuidmap",
                (true, _) => " by newgidmap",
            };
            format!("write {file} {}{by}", extents(text))
        }
        ParentOp::Rlimit(rlimit) => resource_limit(rlimit),
        ParentOp::OomScoreAdj(score) => format!("set oom_score_adj to {score}"),
        ParentOp::Scheduler { scheduler, .. } => scheduling(scheduler),
        ParentOp::IoPriority(value) => io_priority(*value),
        ParentOp::MoveNetDevice { name, inside } if name == inside => format!("move network device {name:?} inside"),
        ParentOp::MoveNetDevice { name, inside } => format!("move network device {name:?} inside as {inside:?}"),
        ParentOp::Hook(hook) => format!("run {} hook {}", hook.kind, text(&hook.path)),
        ParentOp::CheckCgroups(groups) => match groups.as_slice() {
            [one] => format!("check that init is in {}", one.dir()),
            many => format!("check that init is in its {} cgroups", many.len()),
        },
        ParentOp::SendListener { path, .. } => format!("send the notification descriptor to {}", text(path)),
    }
}

/// The unit with its properties, without those that all of them have.
fn start_unit(unit: &Unit) -> String {
    const USUAL: [&str; 4] = ["Description", "DefaultDependencies", "CollectMode", "Delegate"];
    let whose = if unit.manager.user { "the user's systemd" } else { "systemd" };
    let with = if unit.attach { " with init" } else { "" };
    let mut line = format!("let {whose} start {}{with}:", unit.name);
    let told = |name: &str| !USUAL.contains(&name) && !name.ends_with("Accounting");
    for property in unit.properties.iter().filter(|p| told(&p.name)) {
        let _ = write!(line, " {}={}", property.name, property.value);
    }
    line
}

fn resource_limit(rlimit: &Rlimit) -> String {
    let name = RLIMITS.get(rlimit.resource as usize).unwrap_or(&"?");
    let (soft, hard) = (limit(rlimit.soft), limit(rlimit.hard));
    if soft == hard { format!("set {name} to {soft}") } else { format!("set {name} to {soft}, at most {hard}") }
}

/// `bind on nodes 0 1, static`: the numbers of linux/mempolicy.h.
fn memory_policy(mode: u32, nodes: &NodeMask) -> String {
    const NAMES: [&str; 7] =
        ["default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted-interleave"];
    const FLAGS: [(u32, &str); 3] = [(1 << 13, "balancing"), (1 << 14, "relative"), (1 << 15, "static")];
    let mut line = (*NAMES.get((mode & 0xfff) as usize).unwrap_or(&"?")).to_owned();
    let set = (0..nodes.len() * 64).filter(|node| nodes[node / 64] >> (node % 64) & 1 != 0);
    for (i, node) in set.enumerate() {
        let _ = write!(line, "{}{node}", if i == 0 { " on nodes " } else { " " });
    }
    for (_, name) in FLAGS.iter().filter(|(bit, _)| mode & bit != 0) {
        let _ = write!(line, ", {name}");
    }
    line
}

fn scheduling(s: &Scheduler) -> String {
    let name =
        ["other", "fifo", "round-robin", "batch", "iso", "idle", "deadline"].get(s.policy as usize).unwrap_or(&"?");
    let mut line = format!("set scheduling to {name}");
    for (word, value) in [("nice", s.nice.to_string()), ("priority", s.priority.to_string())] {
        if value != "0" {
            let _ = write!(line, ", {word} {value}");
        }
    }
    if s.runtime != 0 {
        let _ = write!(line, ", {} ns before {} ns of each {} ns", s.runtime, s.deadline, s.period);
    }
    line
}

fn io_priority(value: i32) -> String {
    let class = match value >> 13 {
        1 => "real-time",
        2 => "best-effort",
        _ => "idle",
    };
    format!("set I/O priority to {class}, level {}", value & 0x1fff)
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() }
}

/// So many extents of an id mapping are told one by one.
const MANY: usize = 16;

fn extents(map: &str) -> String {
    let extent = |line: &str| {
        let mut n = line.split(' ');
        let (inside, outside, size) = (n.next()?, n.next()?, n.next()?);
        Some(format!("{inside} = {outside} ({size} ids)"))
    };
    let all: Vec<_> = map.lines().filter_map(extent).collect();
    match all.get(MANY..) {
        Some(more @ [_, ..]) => format!("{}, and {} more", all[..MANY].join(", "), more.len()),
        _ => all.join(", "),
    }
}

fn maps(uid: &str, gid: &str) -> String {
    if uid == gid { format!("ids {}", extents(uid)) } else { format!("uids {}, gids {}", extents(uid), extents(gid)) }
}

fn namespaces(flags: u64) -> String {
    let all = [
        (clone::NEWUSER, "user"),
        (clone::NEWPID, "pid"),
        (clone::NEWNET, "network"),
        (clone::NEWNS, "mount"),
        (clone::NEWIPC, "ipc"),
        (clone::NEWUTS, "uts"),
        (clone::NEWCGROUP, "cgroup"),
        (clone::NEWTIME, "time"),
    ];
    let names: Vec<_> = all.iter().filter(|(f, _)| flags & f != 0).map(|(_, n)| *n).collect();
    match names.as_slice() {
        [] => " in the runtime's namespaces".to_owned(),
        [one] => format!(" with new {one} namespace"),
        many => format!(" with new namespaces {}", many.join(", ")),
    }
}

fn joiner(op: &JoinerOp) -> String {
    match op {
        JoinerOp::Join { kind, .. } => format!("join {} namespace", kind.name()),
        JoinerOp::Undumpable => "forbid ptrace and core dumps until exec".to_owned(),
        JoinerOp::Attach(tasks) => attach(tasks),
        JoinerOp::Affinity(mask) => format!("run on CPUs {}", cpus(mask)),
        JoinerOp::OomScoreAdj(score) => format!("set oom_score_adj to {}", text(score)),
        JoinerOp::JoinProcess { kinds, .. } => {
            format!("join init's{}", namespaces(*kinds).replacen(" with new", "", 1))
        }
        JoinerOp::UnshareTime => "make a time namespace for its children".to_owned(),
        JoinerOp::TimeOffsets(offsets) => format!("set clock offsets: {}", clocks(&text(offsets))),
        JoinerOp::Clone { flags } => format!("clone init{}, as the runtime's child", namespaces(*flags)),
    }
}

fn attach(tasks: &Tasks) -> String {
    match tasks {
        Tasks::Path(path) => format!("enter {}", text(path).trim_end_matches("/tasks")),
        Tasks::Slot(_) => "enter cgroup by its open file".to_owned(),
    }
}

/// A mask of CPUs as numbers.
fn cpus(mask: &[u8]) -> String {
    let set = (0..mask.len() * 8).filter(|cpu| mask[cpu / 8] & (1 << (cpu % 8)) != 0);
    set.map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
}

/// `CLOCK SECONDS NANOSECONDS`, a line for each clock.
fn clocks(offsets: &str) -> String {
    let one = |line: &str| {
        let mut words = line.split(' ');
        let (clock, secs, nanos) = (words.next()?, words.next()?, words.next()?);
        let sign = if secs.starts_with('-') { "" } else { "+" };
        let nanos = if nanos == "0" { String::new() } else { format!(" and {nanos} ns") };
        Some(format!("{clock} {sign}{secs} s{nanos}"))
    };
    offsets.lines().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// What a step of init's does, in one line.
pub fn init(op: &InitOp) -> String {
    match op {
        InitOp::Attach(tasks) => attach(tasks),
        InitOp::Unshare(flags) => format!("make{}", namespaces(*flags).replacen(" with", "", 1)),
        InitOp::BecomeRoot => "become root of the user namespace".to_owned(),
        InitOp::Session => "start a session".to_owned(),
        InitOp::Undumpable => "forbid ptrace and core dumps until exec".to_owned(),
        InitOp::Propagation { kind, recursive } => match (*kind, *recursive) {
            (propagation::SLAVE, true) => "make all mounts slaves: none of the container's reaches the host".to_owned(),
            (propagation::PRIVATE, true) => "make all mounts private: none passes from or to the host".to_owned(),
            (kind, all) => format!("make /{} {}", if all { " with all below" } else { "" }, propagation_name(kind)),
        },
        InitOp::OpenRoot { path, .. } => format!("clone root {} over itself", text(path)),
        InitOp::OwnRoot(Some(_)) => "enter the root of the container's init".to_owned(),
        InitOp::OwnRoot(None) => "open the root".to_owned(),
        InitOp::Mount(op) => mount(op),
        InitOp::Attributes { path, set } => {
            let mut words = Vec::new();
            attributes(&Attr { set: *set, ..Attr::default() }, &mut words);
            format!("make {} {} with all below", text(path), words.join(","))
        }
        InitOp::Remount { path, flags, data } => remount(path, *flags, data),
        InitOp::Device(op) => device(op),
        InitOp::Symlink { target, path, only_if, .. } => {
            let only = only_if.as_ref().map(|p| format!(" if {} exists", text(p))).unwrap_or_default();
            format!("link {} to {}{only}", text(path), text(target))
        }
        InitOp::Directory(path) => format!("make directory {}", text(path)),
        InitOp::Cover { path, mask: true } => format!("mask {}", text(path)),
        InitOp::Cover { path, mask: false } => format!("make {} read-only", text(path)),
        InitOp::Procfs(_) => "open a proc filesystem of our own".to_owned(),
        InitOp::WriteProc { path, value, .. } => format!("write {:?} to our own proc's {}", text(value), text(path)),
        InitOp::SetName { host: true, name } => format!("set host name {}", text(name)),
        InitOp::SetName { host: false, name } => format!("set domain name {}", text(name)),
        InitOp::Hook(hook) => format!("run {} hook {}", hook.kind, text(&hook.path)),
        InitOp::Terminal { size, console } => format!(
            "make terminal{}{}",
            size.map(|(c, r)| format!(" of {c}×{r}")).unwrap_or_default(),
            if *console { " and bind /dev/console" } else { "" }
        ),
        InitOp::ReadonlyRoot => "make root read-only".to_owned(),
        InitOp::EnterRoot(EnterRoot::Pivot) => "pivot into root, detach the old one".to_owned(),
        InitOp::EnterRoot(EnterRoot::Move) => "move root over /".to_owned(),
        InitOp::EnterRoot(EnterRoot::Chroot) => "chroot into root".to_owned(),
        op => process(op),
    }
}

fn process(op: &InitOp) -> String {
    match op {
        InitOp::Keyring(name) => format!("join session keyring {}", text(name)),
        InitOp::Personality(domain) => format!("set personality {}", if *domain == 0 { "LINUX" } else { "LINUX32" }),
        InitOp::MemoryPolicy { mode, nodes } => format!("set memory policy {}", memory_policy(*mode, nodes)),
        InitOp::Rlimit(rlimit) => resource_limit(rlimit),
        InitOp::Umask(mask) => format!("set umask {mask:04o}"),
        InitOp::NoNewPrivileges => "set no_new_privs".to_owned(),
        InitOp::Bounding { keep, .. } => format!("keep in bounding set {}", capabilities(*keep)),
        InitOp::Groups(groups) if groups.is_empty() => "set no supplementary groups".to_owned(),
        InitOp::Groups(groups) => {
            format!("set groups {}", groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
        }
        InitOp::Gid(gid) => format!("become group {gid}"),
        InitOp::Uid(uid) => format!("become user {uid}"),
        InitOp::Chdir(path) => format!("enter working directory {}", text(path)),
        InitOp::Capabilities(sets) => format!("set capabilities: {}", sets_text(*sets)),
        InitOp::Ambient(set) => format!("raise ambient {}", capabilities(*set)),
        InitOp::Home(uid) => format!("find the home of user {uid}"),
        InitOp::FindProgram(candidates) => match candidates.as_slice() {
            [one] => format!("check program {}", text(one)),
            many => format!("find program in {}", list(many).replace(' ', ":")),
        },
        InitOp::CloseFds(first) => format!("let descriptors from {first} on close at exec"),
        InitOp::AwaitStart => "say ready, await start".to_owned(),
        InitOp::ReadBack(_) => "read back ids, capabilities and no_new_privs".to_owned(),
        InitOp::Seccomp(f) => format!(
            "load seccomp filter: {} told apart, {} instructions{}",
            if f.calls == 1 { "1 call".to_owned() } else { format!("{} calls", f.calls) },
            f.program.len(),
            if f.notify { ", with a listener" } else { "" }
        ),
        InitOp::Exec { args, .. } => format!("execute {}", list(args)),
        _ => String::new(),
    }
}

fn propagation_name(kind: u64) -> &'static str {
    match kind {
        propagation::SHARED => "shared",
        propagation::SLAVE => "slave",
        propagation::UNBINDABLE => "unbindable",
        _ => "private",
    }
}

fn mount(op: &MountOp) -> String {
    let to = text(&op.destination);
    let (what, mut words) = match &op.source {
        MountSource::Filesystem { fstype, options, source, copy_up, .. } => {
            let name = match (text(fstype), text(source)) {
                (kind, source) if kind == source || kind.starts_with("cgroup") => kind,
                (kind, source) => format!("{kind} {source:?}"),
            };
            let mut words: Vec<String> = Vec::new();
            for (key, value) in options.iter().filter(|(k, _)| k.as_c_str() != c"ro") {
                words.push(value.as_ref().map_or_else(|| text(key), |v| format!("{}={}", text(key), text(v))));
            }
            if *copy_up {
                words.push("keeping what was there".to_owned());
            }
            (format!("mount {name} on {to}"), words)
        }
        MountSource::Bind { source, recursive, .. } => {
            (format!("bind {}{} on {to}", text(source), if *recursive { " with all below" } else { "" }), Vec::new())
        }
        MountSource::Tree(_) => (format!("bind the opened source on {to}"), Vec::new()),
    };
    attributes(&op.attr, &mut words);
    if words.is_empty() { what } else { format!("{what} ({})", words.join(",")) }
}

fn attributes(a: &Attr, words: &mut Vec<String>) {
    let names = [
        (attr::RDONLY, "ro", "rw"),
        (attr::NOSUID, "nosuid", "suid"),
        (attr::NODEV, "nodev", "dev"),
        (attr::NOEXEC, "noexec", "exec"),
        (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
        (attr::NODIRATIME, "nodiratime", "diratime"),
        (attr::NOATIME, "noatime", ""),
        (attr::STRICTATIME, "strictatime", ""),
    ];
    for (set, clear, r) in [(a.set, a.clear, ""), (a.rec_set, a.rec_clear, "r")] {
        for (bit, on, off) in names {
            if set & bit != 0 {
                words.push(format!("{r}{on}"));
            } else if clear & bit != 0 && !off.is_empty() {
                words.push(format!("{r}{off}"));
            }
        }
        if clear & attr::ATIME != 0 && set & attr::ATIME == 0 {
            words.push(format!("{r}relatime"));
        }
    }
    if a.propagation != 0 {
        words.push(format!("{}{}", if a.rec_propagation { "r" } else { "" }, propagation_name(a.propagation)));
    }
}

fn remount(path: &CStr, flags: u64, data: &CStr) -> String {
    let mut words = Vec::new();
    for (bit, name) in [(1, "ro"), (2, "nosuid"), (4, "nodev"), (8, "noexec"), (1024, "noatime"), (4096, "bind")] {
        if flags & bit != 0 {
            words.push(name.to_owned());
        }
    }
    if !data.is_empty() {
        words.push(text(data));
    }
    format!("remount {} ({})", text(path), words.join(","))
}

fn device(op: &DeviceOp) -> String {
    let kind = match op.mode & file::FMT {
        file::CHR => "c",
        file::BLK => "b",
        _ => "p",
    };
    let number = if kind == "p" { String::new() } else { format!(" {}:{}", major(op.rdev), minor(op.rdev)) };
    let how = if op.bind { "bind" } else { "make" };
    let owner = if op.uid | op.gid == 0 { String::new() } else { format!(" of {}:{}", op.uid, op.gid) };
    format!("{how} device {} {kind}{number} {:04o}{owner}", text(&op.path), op.mode & 0o7777)
}

fn major(rdev: u64) -> u64 {
    ((rdev >> 32) & 0xffff_f000) | ((rdev >> 8) & 0xfff)
}

fn minor(rdev: u64) -> u64 {
    ((rdev >> 12) & 0xffff_ff00) | (rdev & 0xff)
}

fn capabilities(set: u64) -> String {
    let all = (1u64 << CAPABILITIES.len()) - 1;
    match set {
        0 => return "nothing".to_owned(),
        set if set == all => return "all".to_owned(),
        _ => {}
    }
    let names = CAPABILITIES.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
    names.map(|(_, n)| n.trim_start_matches("CAP_").to_ascii_lowercase()).collect::<Vec<_>>().join(",")
}

fn sets_text(sets: CapSets) -> String {
    let same = if sets.effective == sets.permitted {
        format!("effective and permitted {}", capabilities(sets.permitted))
    } else {
        format!("effective {}; permitted {}", capabilities(sets.effective), capabilities(sets.permitted))
    };
    if sets.inheritable == 0 { same } else { format!("{same}; inheritable {}", capabilities(sets.inheritable)) }
}

/// A step of a plan in words, for programs.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepInWords {
    step: usize,
    lane: &'static str,
    from: String,
    does: String,
    /// The number of the step of another lane that must be done before.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<usize>,
    /// Errnos that are no failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    at_errors: Vec<String>,
    /// What is done at these errnos; nothing where they are lived with.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<Undo>,
    /// Whether `create` does it; the rest comes with `start`.
    in_create: bool,
}

/// A plan as a list of steps, counted from 1 as in the text.
pub fn steps(plan: &Plan) -> Vec<StepInWords> {
    let created = created(plan);
    let words = plan.steps.iter().enumerate().map(|(n, step)| {
        let (at_errors, instead) = match &step.on_err {
            OnErr::Fail => (&[][..], None),
            OnErr::Skip(errnos) => (*errnos, None),
            OnErr::Else(errnos, other) => (*errnos, Some(act(other))),
        };
        StepInWords {
            step: n + 1,
            lane: lane(&step.act),
            from: step.from.to_string(),
            does: act(&step.act),
            after: step.waits.and_then(|mark| plan.reached_by(mark)).map(|n| n + 1),
            at_errors: at_errors.iter().map(|e| errno_name(*e)).collect(),
            instead,
            undo: step.undo.as_deref().cloned(),
            in_create: n < created || plan.joins_process(),
        }
    });
    words.collect()
}

/// Who acts, in a word.
pub fn lane(act: &Act) -> &'static str {
    match act.lane() {
        Lane::Parent => "parent",
        Lane::Joiner => "joiner",
        Lane::Init => "init",
    }
}

/// A plan as text.
pub fn plan(plan: &Plan) -> String {
    let mut out = String::new();
    let width = plan.steps.iter().map(|s| s.from.to_string().chars().count()).max().unwrap_or(0).min(40);
    let created = created(plan);
    for (n, step) in plan.steps.iter().enumerate() {
        let lane = lane(&step.act);
        let mut line = format!("{:>3} {lane:<6}  {:<width$}  {}", n + 1, step.from.to_string(), act(&step.act));
        if let Some(mark) = step.waits {
            let after = plan.reached_by(mark).map_or_else(|| "nothing".to_owned(), |n| (n + 1).to_string());
            let _ = write!(line, "  ⟵ after {after}, {}", mark_name(mark));
        }
        match &step.on_err {
            OnErr::Fail => {}
            OnErr::Skip(errnos) => {
                let _ = write!(line, "  [if {}: go on]", errno_names(errnos));
            }
            OnErr::Else(errnos, other) => {
                let _ = write!(line, "  [if {}: {}]", errno_names(errnos), instead(other));
            }
        }
        match step.undo.as_deref() {
            None => {}
            Some(Undo::Unit { .. }) => line.push_str("  (undo: stop it)"),
            Some(Undo::Cgroup { .. }) => line.push_str("  (undo: remove it)"),
            Some(Undo::Unmount { .. }) => line.push_str("  (undo: detach it)"),
        }
        let _ = writeln!(out, "{line}");
        if n + 1 == created && !plan.joins_process() {
            let _ = writeln!(out, "    ──── create ends here; start goes on ────");
        }
    }
    match long_cgroup(plan) {
        Some(path) => format!("<cgroup> is {path}\n{}", out.replace(path, "<cgroup>")),
        None => out,
    }
}

/// The path of the container's cgroups, where it would make every line that names it too long to read.
fn long_cgroup(plan: &Plan) -> Option<&str> {
    const LONG: usize = 24;
    let path = plan.steps.iter().find_map(|s| match &s.act {
        Act::Parent(ParentOp::MakeCgroup(group)) => Some(group.path.as_str()),
        _ => None,
    })?;
    let is_everywhere = |act: &Act| !matches!(act, Act::Parent(ParentOp::MakeCgroup(g)) if g.path != path);
    (path.len() > LONG && plan.steps.iter().all(|s| is_everywhere(&s.act))).then_some(path)
}

/// How many steps `create` walks: up to the await of the start, and what the parent does to an init that awaits it.
fn created(plan: &Plan) -> usize {
    let gate = plan.steps.iter().position(|s| matches!(s.act, Act::Init(InitOp::AwaitStart))).unwrap_or(0);
    let behind = plan.steps.iter().skip(gate + 1).take_while(|s| s.act.lane() == Lane::Parent).count();
    gate + 1 + behind
}

/// What is tried instead, where the line has said already what it is about.
fn instead(other: &Act) -> String {
    match other {
        Act::Init(InitOp::Device(DeviceOp { bind: true, .. })) => "bind the host's".to_owned(),
        Act::Parent(ParentOp::WriteCgroup { write, .. }) => format!("write {:?} to {}", write.value, write.file),
        other => act(other),
    }
}

/// The names of the errnos that plans live with (asm-generic/errno-base.h, errno.h).
fn errno_name(errno: i32) -> String {
    let names = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (9, "EBADF"),
        (13, "EACCES"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (20, "ENOTDIR"),
        (22, "EINVAL"),
        (30, "EROFS"),
        (38, "ENOSYS"),
        (40, "ELOOP"),
        (95, "EOPNOTSUPP"),
    ];
    names.iter().find(|(n, _)| *n == errno).map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_owned())
}

fn errno_names(errnos: &[i32]) -> String {
    errnos.iter().map(|e| errno_name(*e)).collect::<Vec<_>>().join(" or ")
}

fn mark_name(mark: Mark) -> &'static str {
    match mark {
        Mark::CgroupsMade => "cgroups made",
        Mark::DevicesRuled => "device rules written",
        Mark::Attached => "init in its cgroups",
        Mark::MapsWritten => "ids mapped",
        Mark::TreesMapped => "bind sources mapped",
        Mark::MountsDone => "mounts done",
        Mark::NetDevicesMoved => "network devices moved",
        Mark::RuntimeHooksDone => "runtime hooks done",
        Mark::FilterLoaded => "filter loaded",
        Mark::ListenerSent => "listener sent",
        Mark::Ready => "init ready",
    }
}
