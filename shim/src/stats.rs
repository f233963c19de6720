//! Counters of a control group as containerd's metrics messages (`io.containerd.cgroups.v1.Metrics` and `.v2.Metrics`).
//!
//! A counter that the kernel does not offer is left out; a monitoring answer with a gap is better than none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::api::Any;
use crate::cgroup::Cgroup;
use crate::message;
use crate::wire::Packed;

/// The messages of a v1 host.
pub mod v1 {
    use super::{Packed, message};

    message! {
        /// All counters.
        Metrics { 1 hugetlb: Vec<Hugetlb>, 2 pids: Option<Pids>, 3 cpu: Option<Cpu>, 4 memory: Option<Memory>, 5 blkio: Option<Blkio>, 9 oom: Option<Oom> }
        /// One huge page size.
        Hugetlb { 1 usage: u64, 2 max: u64, 3 failcnt: u64, 4 pagesize: String }
        /// Processes.
        Pids { 1 current: u64, 2 limit: u64 }
        /// Processor time.
        Cpu { 1 usage: Option<CpuUsage>, 2 throttling: Option<Throttle> }
        /// Nanoseconds.
        CpuUsage { 1 total: u64, 2 kernel: u64, 3 user: u64, 4 per_cpu: Packed }
        /// Bandwidth control.
        Throttle { 1 periods: u64, 2 throttled_periods: u64, 3 throttled_time: u64 }
        /// Memory, in bytes or events. The second half counts the groups below, too.
        Memory {
            1 cache: u64, 2 rss: u64, 3 rss_huge: u64, 4 mapped_file: u64, 5 dirty: u64, 6 writeback: u64, 7 pgpgin: u64,
            8 pgpgout: u64, 9 pgfault: u64, 10 pgmajfault: u64, 11 inactive_anon: u64, 12 active_anon: u64,
            13 inactive_file: u64, 14 active_file: u64, 15 unevictable: u64, 16 hierarchical_memory_limit: u64,
            17 hierarchical_memsw_limit: u64, 18 total_cache: u64, 19 total_rss: u64, 20 total_rss_huge: u64,
            21 total_mapped_file: u64, 22 total_dirty: u64, 23 total_writeback: u64, 24 total_pgpgin: u64,
            25 total_pgpgout: u64, 26 total_pgfault: u64, 27 total_pgmajfault: u64, 28 total_inactive_anon: u64,
            29 total_active_anon: u64, 30 total_inactive_file: u64, 31 total_active_file: u64, 32 total_unevictable: u64,
            33 usage: Option<Entry>, 34 swap: Option<Entry>, 35 kernel: Option<Entry>, 36 kernel_tcp: Option<Entry>
        }
        /// One kind of memory.
        Entry { 1 limit: u64, 2 usage: u64, 3 max: u64, 4 failcnt: u64 }
        /// Out-of-memory state.
        Oom { 1 oom_kill_disable: u64, 2 under_oom: u64, 3 oom_kill: u64 }
        /// Block devices.
        Blkio { 1 service_bytes: Vec<BlkioEntry>, 2 serviced: Vec<BlkioEntry> }
        /// One operation on one device.
        BlkioEntry { 1 op: String, 2 device: String, 3 major: u64, 4 minor: u64, 5 value: u64 }
    }
}

/// The messages of a v2 host.
pub mod v2 {
    use super::message;

    message! {
        /// All counters.
        Metrics { 1 pids: Option<Pids>, 2 cpu: Option<Cpu>, 4 memory: Option<Memory>, 6 io: Option<Io>, 7 hugetlb: Vec<Hugetlb>, 8 memory_events: Option<MemoryEvents> }
        /// Processes.
        Pids { 1 current: u64, 2 limit: u64 }
        /// Processor time.
        Cpu {
            1 usage_usec: u64, 2 user_usec: u64, 3 system_usec: u64, 4 nr_periods: u64, 5 nr_throttled: u64,
            6 throttled_usec: u64, 8 nr_bursts: u64, 9 burst_usec: u64
        }
        /// Memory, in bytes or events.
        Memory {
            1 anon: u64, 2 file: u64, 3 kernel_stack: u64, 4 slab: u64, 5 sock: u64, 6 shmem: u64, 7 file_mapped: u64,
            8 file_dirty: u64, 9 file_writeback: u64, 10 anon_thp: u64, 11 inactive_anon: u64, 12 active_anon: u64,
            13 inactive_file: u64, 14 active_file: u64, 15 unevictable: u64, 16 slab_reclaimable: u64,
            17 slab_unreclaimable: u64, 18 pgfault: u64, 19 pgmajfault: u64, 20 workingset_refault: u64,
            21 workingset_activate: u64, 22 workingset_nodereclaim: u64, 23 pgrefill: u64, 24 pgscan: u64, 25 pgsteal: u64,
            26 pgactivate: u64, 27 pgdeactivate: u64, 28 pglazyfree: u64, 29 pglazyfreed: u64, 30 thp_fault_alloc: u64,
            31 thp_collapse_alloc: u64, 32 usage: u64, 33 usage_limit: u64, 34 swap_usage: u64, 35 swap_limit: u64,
            36 max_usage: u64, 37 swap_max_usage: u64
        }
        /// Events of the memory controller.
        MemoryEvents { 1 low: u64, 2 high: u64, 3 max: u64, 4 oom: u64, 5 oom_kill: u64, 6 oom_group_kill: u64 }
        /// Block devices.
        Io { 1 usage: Vec<IoEntry> }
        /// One device.
        IoEntry { 1 major: u64, 2 minor: u64, 3 rbytes: u64, 4 wbytes: u64, 5 rios: u64, 6 wios: u64 }
        /// One huge page size.
        Hugetlb { 1 current: u64, 2 max: u64, 3 pagesize: String, 4 failcnt: u64 }
    }
}

/// Sets the named fields of a message from the kernel's `key value` lines; fields keep the kernel's own keys.
macro_rules! from_keys {
    ($map:expr, $made:expr; $($field:ident),* $(,)?) => { $( $made.$field = $map.get(stringify!($field)).copied().unwrap_or(0); )* };
}

/// The counters of a group; `None` when the group is gone.
#[must_use]
pub fn of(cgroup: &Cgroup) -> Option<Any> {
    match cgroup {
        Cgroup::V1(dirs) => dirs
            .values()
            .any(|dir| dir.exists())
            .then(|| Any::of("io.containerd.cgroups.v1.Metrics", &metrics_v1(cgroup))),
        Cgroup::V2(dir) => dir.exists().then(|| Any::of("io.containerd.cgroups.v2.Metrics", &metrics_v2(dir))),
    }
}

fn metrics_v1(cgroup: &Cgroup) -> v1::Metrics {
    let number = |controller, name| cgroup.file(controller, name).map_or(0, |path| number(&path));
    let pairs = |controller, name| cgroup.file(controller, name).map_or_else(BTreeMap::new, |path| pairs(&path));
    let text = |controller, name| cgroup.file(controller, name).and_then(|p| fs::read_to_string(p).ok());
    let throttle = pairs("cpu", "cpu.stat");
    let oom = pairs("memory", "memory.oom_control");
    let get = |map: &BTreeMap<String, u64>, key: &str| map.get(key).copied().unwrap_or(0);
    v1::Metrics {
        hugetlb: hugetlb_v1(cgroup),
        pids: Some(v1::Pids { current: number("pids", "pids.current"), limit: number("pids", "pids.max") }),
        cpu: Some(v1::Cpu {
            usage: Some(v1::CpuUsage {
                total: number("cpuacct", "cpuacct.usage"),
                kernel: number("cpuacct", "cpuacct.usage_sys"),
                user: number("cpuacct", "cpuacct.usage_user"),
                per_cpu: Packed(
                    text("cpuacct", "cpuacct.usage_percpu")
                        .unwrap_or_default()
                        .split_whitespace()
                        .filter_map(|n| n.parse().ok())
                        .collect(),
                ),
            }),
            throttling: Some(v1::Throttle {
                periods: get(&throttle, "nr_periods"),
                throttled_periods: get(&throttle, "nr_throttled"),
                throttled_time: get(&throttle, "throttled_time"),
            }),
        }),
        memory: Some(memory_v1(cgroup)),
        blkio: Some(v1::Blkio {
            service_bytes: blkio(text("blkio", "blkio.throttle.io_service_bytes_recursive")),
            serviced: blkio(text("blkio", "blkio.throttle.io_serviced_recursive")),
        }),
        oom: Some(v1::Oom {
            oom_kill_disable: get(&oom, "oom_kill_disable"),
            under_oom: get(&oom, "under_oom"),
            oom_kill: get(&oom, "oom_kill"),
        }),
    }
}

fn memory_v1(cgroup: &Cgroup) -> v1::Memory {
    let stat = cgroup.file("memory", "memory.stat").map_or_else(BTreeMap::new, |path| pairs(&path));
    let entry = |kind: &str| {
        let file = |name: &str| cgroup.file("memory", &format!("memory.{kind}{name}")).map_or(0, |path| number(&path));
        let (limit, usage) = (file("limit_in_bytes"), file("usage_in_bytes"));
        Some(v1::Entry { limit, usage, max: file("max_usage_in_bytes"), failcnt: file("failcnt") })
    };
    let mut made = v1::Memory {
        usage: entry(""),
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        ..v1::Memory::default()
    };
    from_keys!(stat, made; cache, rss, rss_huge, mapped_file, dirty, writeback, pgpgin, pgpgout, pgfault, pgmajfault,
        inactive_anon, active_anon, inactive_file, active_file, unevictable, hierarchical_memory_limit,
        hierarchical_memsw_limit, total_cache, total_rss, total_rss_huge, total_mapped_file, total_dirty, total_writeback,
        total_pgpgin, total_pgpgout, total_pgfault, total_pgmajfault, total_inactive_anon, total_active_anon,
        total_inactive_file, total_active_file, total_unevictable);
    made
}

fn hugetlb_v1(cgroup: &Cgroup) -> Vec<v1::Hugetlb> {
    let Some(dir) = cgroup.file("hugetlb", "") else { return Vec::new() };
    let sizes = page_sizes(&dir, ".usage_in_bytes");
    let read = |size: &str, name: &str| number(&dir.join(format!("hugetlb.{size}.{name}")));
    sizes
        .into_iter()
        .map(|size| v1::Hugetlb {
            usage: read(&size, "usage_in_bytes"),
            max: read(&size, "max_usage_in_bytes"),
            failcnt: read(&size, "failcnt"),
            pagesize: size,
        })
        .collect()
}

/// Lines `MAJOR:MINOR OPERATION NUMBER`; the last one, `Total NUMBER`, is a sum.
fn blkio(text: Option<String>) -> Vec<v1::BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = (words.next()?, words.next()?);
        Some(v1::BlkioEntry {
            op: op.to_owned(),
            device: String::new(),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            value: value.parse().ok()?,
        })
    };
    text.unwrap_or_default().lines().filter_map(entry).collect()
}

fn metrics_v2(dir: &Path) -> v2::Metrics {
    let cpu_stat = pairs(&dir.join("cpu.stat"));
    let mut cpu = v2::Cpu::default();
    from_keys!(cpu_stat, cpu; usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec, nr_bursts, burst_usec);
    let events = pairs(&dir.join("memory.events"));
    let mut memory_events = v2::MemoryEvents::default();
    from_keys!(events, memory_events; low, high, max, oom, oom_kill, oom_group_kill);
    v2::Metrics {
        pids: Some(v2::Pids { current: number(&dir.join("pids.current")), limit: number(&dir.join("pids.max")) }),
        cpu: Some(cpu),
        memory: Some(memory_v2(dir)),
        io: Some(v2::Io { usage: io_v2(&fs::read_to_string(dir.join("io.stat")).unwrap_or_default()) }),
        hugetlb: page_sizes(dir, ".current")
            .into_iter()
            .map(|size| v2::Hugetlb {
                current: number(&dir.join(format!("hugetlb.{size}.current"))),
                max: number(&dir.join(format!("hugetlb.{size}.max"))),
                failcnt: pairs(&dir.join(format!("hugetlb.{size}.events"))).get("max").copied().unwrap_or(0),
                pagesize: size,
            })
            .collect(),
        memory_events: Some(memory_events),
    }
}

fn memory_v2(dir: &Path) -> v2::Memory {
    let stat = pairs(&dir.join("memory.stat"));
    let file = |name: &str| number(&dir.join(name));
    let mut made = v2::Memory {
        usage: file("memory.current"),
        usage_limit: file("memory.max"),
        swap_usage: file("memory.swap.current"),
        swap_limit: file("memory.swap.max"),
        max_usage: file("memory.peak"),
        swap_max_usage: file("memory.swap.peak"),
        ..v2::Memory::default()
    };
    from_keys!(stat, made; anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty, file_writeback, anon_thp,
        inactive_anon, active_anon, inactive_file, active_file, unevictable, slab_reclaimable, slab_unreclaimable, pgfault,
        pgmajfault, workingset_refault, workingset_activate, workingset_nodereclaim, pgrefill, pgscan, pgsteal, pgactivate,
        pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc, thp_collapse_alloc);
    // Newer kernels count refaults of the two kinds apart; the message knows their sum.
    let sum = |key: &str| ["anon", "file"].iter().filter_map(|kind| stat.get(&format!("{key}_{kind}"))).sum::<u64>();
    made.workingset_refault += sum("workingset_refault");
    made.workingset_activate += sum("workingset_activate");
    made
}

/// Lines `MAJOR:MINOR key=number …`.
fn io_v2(text: &str) -> Vec<v2::IoEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let mut made = v2::IoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, ..v2::IoEntry::default() };
        for (key, value) in rest.split(' ').filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => made.rbytes = value,
                "wbytes" => made.wbytes = value,
                "rios" => made.rios = value,
                "wios" => made.wios = value,
                _ => {}
            }
        }
        Some(made)
    };
    text.lines().filter_map(entry).collect()
}

/// The sizes in file names `hugetlb.SIZE<suffix>`.
fn page_sizes(dir: &Path, suffix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let size = |name: &str| Some(name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned());
    let mut sizes: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str().and_then(size))
        .filter(|size| !size.contains("rsvd"))
        .collect();
    sizes.sort();
    sizes
}

/// One number; `max` means no limit.
fn number(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let text = text.trim();
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

/// Lines `key number`.
fn pairs(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::{blkio, io_v2};

    #[test]
    fn device_lines_are_read_and_sums_are_not() {
        let read = blkio(Some("8:16 Read 4096\n8:16 Write 7\n8:16 Total 4103\nTotal 4103\n".into()));
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].major, read[0].minor, read[0].op.as_str(), read[0].value), (8, 16, "Read", 4096));
    }

    #[test]
    fn io_stat_lines_are_read() {
        let read = io_v2("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\nodd\n");
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].major, read[0].rbytes, read[0].wbytes, read[0].rios, read[0].wios), (254, 1, 2, 3, 4));
    }
}
