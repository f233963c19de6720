//! What a container has used: the numbers of `events --stats`, in the structure that runc's users read.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fs::Dir;
use super::{Result, stats_v1, stats_v2};
use crate::compile::cgroup::{Group, Version};

/// All statistics; times are in nanoseconds, sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// CPU sets (version 1).
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Intel's resource director: none.
    pub intel_rdt: Empty,
    /// Network interfaces: none, they are not the runtime's.
    pub network_interfaces: Option<()>,
}

/// An object without members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

fn zero(n: &u64) -> bool {
    *n == 0
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Psi {
    /// Some tasks waited.
    pub some: PsiData,
    /// All tasks waited.
    pub full: PsiData,
}

/// A line of pressure stall information.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PsiData {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Consumed.
    pub usage: CpuUsage,
    /// Withheld.
    pub throttling: Throttling,
    /// Pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Consumed CPU time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// By CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By CPU, in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By CPU, in user space.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// CPU time withheld because of a quota.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods passed.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// Time withheld.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// Files of version 1's cpuset.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpuset {
    /// CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// `cpuset.cpu_exclusive`
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// `cpuset.mem_hardwall`
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`
    pub sched_relax_domain_level: i64,
}

/// One kind of memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The limit; 2⁶⁴ − 1 where version 2 has none.
    pub limit: u64,
    /// In use now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// In use at the most.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together, as version 1 counts.
    pub swap: MemoryEntry,
    /// Kernel memory (version 1).
    pub kernel: MemoryEntry,
    /// TCP buffers (version 1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// At the most; absent for no limit.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// A number of one block device.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// Its major number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Its minor number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// Bytes or operations.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Hugetlb {
    /// In use now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// In use at the most.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Reads the statistics of a container from its cgroups; what a kernel does not count is zero or absent.
///
/// # Errors
/// A cgroup that is gone.
pub fn stats(groups: &[Group]) -> Result<Stats> {
    let mut stats = Stats::default();
    let only_v2 = groups.iter().all(|g| g.version == Version::V2);
    for group in groups {
        let dir = match Dir::open(&group.dir()) {
            Err(_) if group.optional => continue,
            dir => dir?,
        };
        for controller in &group.controllers {
            match group.version {
                Version::V1 => stats_v1::read(&dir, controller, &mut stats),
                Version::V2 => stats_v2::read(&dir, controller, &mut stats),
            }
        }
        if only_v2 {
            stats_v2::always(&dir, &mut stats);
        }
    }
    Ok(stats)
}

/// A file with one number; `max` is the largest.
pub(super) fn number(dir: &Dir, file: &str) -> Option<u64> {
    match dir.read(file).ok()?.as_str() {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

/// A file with a name and a number in each line.
pub(super) fn table(dir: &Dir, file: &str) -> BTreeMap<String, u64> {
    let text = dir.read(file).unwrap_or_default();
    text.lines().filter_map(|l| l.split_once(' ')).filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?))).collect()
}

/// The sizes of huge pages, as cgroup files name them: `2MB`.
pub(super) fn page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let sizes = entries.filter_map(|e| {
        let kilobytes: u64 = e.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kilobytes {
            0x10_0000.. => format!("{}GB", kilobytes >> 20),
            0x400.. => format!("{}MB", kilobytes >> 10),
            _ => format!("{kilobytes}KB"),
        })
    });
    sizes.collect()
}
