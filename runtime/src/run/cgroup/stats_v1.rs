//! Statistics of cgroup version 1.

use super::fs::Dir;
use super::stats::{BlkioEntry, Hugetlb, MemoryEntry, Stats, number, page_sizes, table};

/// Nanoseconds in a tick of `cpuacct.stat` (USER_HZ is 100 on every architecture that matters).
const TICK: u64 = 10_000_000;

pub(super) fn read(dir: &Dir, controller: &str, stats: &mut Stats) {
    match controller {
        "cpu" => cpu(dir, stats),
        "cpuacct" => cpuacct(dir, stats),
        "cpuset" => cpuset(dir, stats),
        "memory" => memory(dir, stats),
        "pids" => {
            stats.pids.current = number(dir, "pids.current").unwrap_or(0);
            stats.pids.limit = number(dir, "pids.max").filter(|n| *n != u64::MAX).unwrap_or(0);
        }
        "blkio" => blkio(dir, stats),
        "hugetlb" => hugetlb(dir, stats),
        _ => {}
    }
}

fn cpu(dir: &Dir, stats: &mut Stats) {
    let stat = table(dir, "cpu.stat");
    let get = |key| stat.get(key).copied().unwrap_or(0);
    stats.cpu.throttling.periods = get("nr_periods");
    stats.cpu.throttling.throttled_periods = get("nr_throttled");
    stats.cpu.throttling.throttled_time = get("throttled_time");
}

fn cpuacct(dir: &Dir, stats: &mut Stats) {
    let usage = &mut stats.cpu.usage;
    usage.total = number(dir, "cpuacct.usage").unwrap_or(0);
    let percpu = dir.read("cpuacct.usage_percpu").unwrap_or_default();
    usage.percpu = percpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let stat = table(dir, "cpuacct.stat");
    usage.user = stat.get("user").map_or(0, |n| n * TICK);
    usage.kernel = stat.get("system").map_or(0, |n| n * TICK);
    // A line of names, and then for each CPU: number, user, system.
    for line in dir.read("cpuacct.usage_all").unwrap_or_default().lines().skip(1) {
        if let [_, user, system] = line.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<u64>>()[..] {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(system);
        }
    }
}

/// `0-3,7` as single numbers.
fn list(text: &str) -> Vec<u16> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

fn cpuset(dir: &Dir, stats: &mut Stats) {
    let flag = |name: &str| number(dir, &format!("cpuset.{name}")).unwrap_or(0);
    let set = &mut stats.cpuset;
    set.cpus = list(&dir.read("cpuset.cpus").unwrap_or_default());
    set.mems = list(&dir.read("cpuset.mems").unwrap_or_default());
    set.cpu_exclusive = flag("cpu_exclusive");
    set.mem_hardwall = flag("mem_hardwall");
    set.mem_exclusive = flag("mem_exclusive");
    set.memory_migrate = flag("memory_migrate");
    set.memory_spread_page = flag("memory_spread_page");
    set.memory_spread_slab = flag("memory_spread_slab");
    set.memory_pressure = flag("memory_pressure");
    set.sched_load_balance = flag("sched_load_balance");
    let level = dir.read("cpuset.sched_relax_domain_level");
    set.sched_relax_domain_level = level.ok().and_then(|n| n.parse().ok()).unwrap_or(0);
}

fn memory(dir: &Dir, stats: &mut Stats) {
    let entry = |what: &str| MemoryEntry {
        limit: number(dir, &format!("memory.{what}limit_in_bytes")).unwrap_or(0),
        usage: number(dir, &format!("memory.{what}usage_in_bytes")).unwrap_or(0),
        max: number(dir, &format!("memory.{what}max_usage_in_bytes")).unwrap_or(0),
        failcnt: number(dir, &format!("memory.{what}failcnt")).unwrap_or(0),
    };
    let memory = &mut stats.memory;
    memory.usage = entry("");
    memory.swap = entry("memsw.");
    memory.kernel = entry("kmem.");
    memory.kernel_tcp = entry("kmem.tcp.");
    memory.raw = table(dir, "memory.stat");
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
}

/// The first of the files that has anything to say: BFQ's numbers where BFQ schedules, else those of throttling.
fn entries(dir: &Dir, files: [&str; 3]) -> Vec<BlkioEntry> {
    let read = |file: &str| dir.read(file).unwrap_or_default().lines().filter_map(entry).collect::<Vec<_>>();
    files.into_iter().map(read).find(|e| !e.is_empty()).unwrap_or_default()
}

/// `8:0 Read 4096`
fn entry(line: &str) -> Option<BlkioEntry> {
    let mut words = line.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let (op, value) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    Some(BlkioEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value })
}

fn blkio(dir: &Dir, stats: &mut Stats) {
    let bytes = [
        "blkio.bfq.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes",
    ];
    let operations =
        ["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"];
    stats.blkio.io_service_bytes_recursive = entries(dir, bytes);
    stats.blkio.io_serviced_recursive = entries(dir, operations);
}

fn hugetlb(dir: &Dir, stats: &mut Stats) {
    for size in page_sizes() {
        let read = |what: &str| {
            let file = |rsvd: &str| number(dir, &format!("hugetlb.{size}.{rsvd}{what}"));
            file("rsvd.").or_else(|| file(""))
        };
        let Some(usage) = read("usage_in_bytes") else { continue };
        let (max, failcnt) = (read("max_usage_in_bytes").unwrap_or(0), read("failcnt").unwrap_or(0));
        stats.hugetlb.insert(size, Hugetlb { usage, max, failcnt });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(list(""), Vec::<u16>::new());
        let want = BlkioEntry { major: 8, minor: 16, op: "Read".into(), value: 9 };
        assert_eq!((entry("8:16 Read 9"), entry("Total 9")), (Some(want), None));
    }
}
