//! What a process can learn about itself and its surroundings, each chapter one function; what cannot be read is null.

use std::os::linux::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use conformance::{kernel, sys};
use serde_json::{Map, Value, json};

/// Every fact, as one object.
pub(crate) fn all() -> Value {
    json!({
        "time": now(),
        "args": env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "env": environment(),
        "cwd": env::current_dir().ok(),
        "exe": fs::read_link("/proc/self/exe").ok(),
        "pid": std::process::id(),
        "ids": ids(),
        "umask": umask(),
        "caps": capabilities(),
        "nnp": sys::no_new_privs().ok(),
        "seccomp": status("Seccomp"),
        "speculation": status("Speculation_Store_Bypass"),
        "rlimits": rlimits(),
        "oomScoreAdj": number("/proc/self/oom_score_adj"),
        "ns": kernel::namespaces("self"),
        "hostname": nix::unistd::gethostname().ok().map(|h| h.to_string_lossy().into_owned()),
        "domainname": text("/proc/sys/kernel/domainname"),
        "machine": nix::sys::utsname::uname().ok().map(|u| u.machine().to_string_lossy().into_owned()),
        "mounts": kernel::mounts("self"),
        "mountOrder": kernel::mount_order("self"),
        "fds": descriptors(),
        "tty": terminal(),
        "sched": scheduler(),
        "cpus": status("Cpus_allowed_list"),
        "ioprio": io_priority(),
        "mempolicy": memory_policy(),
        "personality": sys::personality().ok(),
        "cgroup": kernel::cgroups("self"),
        "dev": kernel::listing("/dev"),
        "timens": text("/proc/self/timens_offsets"),
        "label": text("/proc/self/attr/current"),
        "net": interfaces(),
        "processes": processes(),
    })
}

/// Nanoseconds of the realtime clock, which no namespace changes: hooks and commands are ordered by it.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// The environment as an object; a variable that stands twice keeps its first value, as getenv(3) finds it.
pub(crate) fn environment() -> Value {
    let mut map = Map::new();
    for (key, value) in env::vars_os() {
        map.entry(key.to_string_lossy().into_owned()).or_insert_with(|| json!(value.to_string_lossy()));
    }
    Value::Object(map)
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim_end_matches(['\n', '\0']).to_owned())
}

fn number(path: &str) -> Option<i64> {
    text(path)?.parse().ok()
}

/// One line of /proc/self/status.
fn status(key: &str) -> Option<String> {
    let all = fs::read_to_string("/proc/self/status").ok()?;
    all.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':').map(|v| v.trim().to_owned()))
}

fn status_numbers(key: &str) -> Option<Vec<u64>> {
    status(key)?.split_whitespace().map(|n| n.parse().ok()).collect()
}

fn ids() -> Value {
    json!({
        "uid": status_numbers("Uid"),
        "gid": status_numbers("Gid"),
        "groups": status_numbers("Groups"),
        "uidMap": map_of("/proc/self/uid_map"),
        "gidMap": map_of("/proc/self/gid_map"),
    })
}

/// A uid_map as rows of three numbers.
fn map_of(path: &str) -> Option<Vec<Vec<u64>>> {
    text(path)?.lines().map(|l| l.split_whitespace().map(|n| n.parse().ok()).collect()).collect()
}

fn umask() -> u32 {
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(old);
    old.bits()
}

fn capabilities() -> Value {
    let set = |key: &str| {
        let bits = u64::from_str_radix(&status(key)?, 16).ok()?;
        Some(
            kernel::CAPABILITIES
                .iter()
                .enumerate()
                .filter(|(i, _)| bits >> i & 1 == 1)
                .map(|(_, n)| *n)
                .collect::<Vec<_>>(),
        )
    };
    json!({
        "inheritable": set("CapInh"),
        "permitted": set("CapPrm"),
        "effective": set("CapEff"),
        "bounding": set("CapBnd"),
        "ambient": set("CapAmb"),
    })
}

fn rlimits() -> Value {
    let one = |(name, n): &(&str, u32)| {
        let (soft, hard) = sys::rlimit(*n).ok()?;
        Some(((*name).to_owned(), json!({ "soft": soft, "hard": hard })))
    };
    Value::Object(kernel::RLIMITS.iter().filter_map(one).collect())
}

/// Where each open descriptor points, without the one that reads the list.
fn descriptors() -> Value {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Value::Null };
    let links = entries.flatten().filter_map(|e| {
        let link = fs::read_link(e.path()).ok()?;
        Some((e.file_name().to_string_lossy().into_owned(), json!(link)))
    });
    let own = format!("/proc/{}/fd", std::process::id());
    Value::Object(links.filter(|(_, link)| link.as_str() != Some(own.as_str())).collect())
}

fn terminal() -> Value {
    use std::io::IsTerminal as _;
    let size = sys::window(0).ok();
    json!({
        "stdin": std::io::stdin().is_terminal(),
        "stdout": std::io::stdout().is_terminal(),
        "stderr": std::io::stderr().is_terminal(),
        "width": size.map(|s| s.0),
        "height": size.map(|s| s.1),
        "controlling": fs::File::open("/dev/tty").is_ok(),
    })
}

fn scheduler() -> Value {
    const POLICIES: [&str; 7] =
        ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
    let Ok(a) = sys::sched_attr() else { return Value::Null };
    let policy = usize::try_from(a.policy).ok().and_then(|p| POLICIES.get(p));
    json!({ "policy": policy, "flags": a.flags, "nice": a.nice, "priority": a.priority,
            "runtime": a.runtime, "deadline": a.deadline, "period": a.period })
}

fn io_priority() -> Value {
    const CLASSES: [&str; 4] = ["IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];
    let Ok((class, level)) = sys::io_priority() else { return Value::Null };
    json!({ "class": usize::try_from(class).ok().and_then(|c| CLASSES.get(c)), "priority": level })
}

fn memory_policy() -> Value {
    const MODES: [&str; 7] = [
        "MPOL_DEFAULT",
        "MPOL_PREFERRED",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_LOCAL",
        "MPOL_PREFERRED_MANY",
        "MPOL_WEIGHTED_INTERLEAVE",
    ];
    const FLAGS: [(i32, &str); 3] =
        [(1 << 15, "MPOL_F_STATIC_NODES"), (1 << 14, "MPOL_F_RELATIVE_NODES"), (1 << 13, "MPOL_F_NUMA_BALANCING")];
    let Ok((mode, nodes)) = sys::memory_policy() else { return Value::Null };
    let flags: Vec<_> = FLAGS.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, name)| *name).collect();
    let plain = usize::try_from(mode & 0xfff).ok().and_then(|m| MODES.get(m));
    json!({ "mode": plain, "flags": flags, "nodes": nodes })
}

/// Each network interface with its state and global addresses.
fn interfaces() -> Value {
    let mut map = Map::new();
    let Ok(list) = nix::ifaddrs::getifaddrs() else { return Value::Null };
    for i in list {
        let up = i.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP);
        let entry = map.entry(i.interface_name).or_insert_with(|| json!({ "up": up, "addresses": [] }));
        let address = i.address.as_ref().and_then(|a| {
            a.as_sockaddr_in()
                .map(|v4| v4.ip().to_string())
                .or_else(|| a.as_sockaddr_in6().map(|v6| v6.ip().to_string()))
        });
        if let (Some(a), Some(all)) = (address, entry["addresses"].as_array_mut()) {
            all.push(json!(a));
        }
    }
    Value::Object(map)
}

/// How many processes /proc shows.
fn processes() -> Option<usize> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    Some(all.filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).count())
}

/// Mode, owner, type and device number of a path itself, as `stat` actions answer.
pub(crate) fn stat(path: &str) -> Result<Value, std::io::Error> {
    let m = fs::symlink_metadata(path)?;
    Ok(json!({
        "type": kernel::file_type(m.st_mode()), "mode": format!("{:04o}", m.st_mode() & 0o7777),
        "uid": m.st_uid(), "gid": m.st_gid(), "size": m.st_size(),
        "major": nix::sys::stat::major(m.st_rdev()), "minor": nix::sys::stat::minor(m.st_rdev()),
    }))
}
