//! Limits as cgroup version 1 takes them (Documentation/admin-guide/cgroup-v1).

use super::devices::{Key, Policy};
use super::errno::{EINVAL, ENOENT};
use super::{Mode, OnErr, Sink};
use crate::field::Field;
use crate::spec::{BlockIo, Cpu, HugepageLimit, Map, Memory, Network, Rdma, ThrottleDevice};

/// The kernel's own bounds; it clamps silently, so that a container would get another share than it was given.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

pub(super) fn cpuset(sink: &mut Sink<'_>, cpu: &Cpu<'_>) {
    if let Some(cpus) = cpu.cpus.as_deref().filter(|c| !c.is_empty()) {
        sink.put(Field::new("linux.resources.cpu.cpus"), "cpuset.cpus", cpus);
    }
    if let Some(mems) = cpu.mems.as_deref().filter(|m| !m.is_empty()) {
        sink.put(Field::new("linux.resources.cpu.mems"), "cpuset.mems", mems);
    }
}

pub(super) fn cpu(sink: &mut Sink<'_>, cpu: &Cpu<'_>) {
    let idle = Field::new("linux.resources.cpu.idle");
    if cpu.idle == Some(0) {
        sink.put(idle.clone(), "cpu.idle", 0);
    }
    if let Some(shares @ 1..) = cpu.shares {
        let from = Field::new("linux.resources.cpu.shares");
        // A cgroup that is SCHED_IDLE already refuses shares, and needs none.
        let on_err = if cpu.idle == Some(1) { OnErr::Ignore(&[EINVAL]) } else { OnErr::Fail };
        match SHARES.contains(&shares) {
            true => sink.put_or(from, "cpu.shares", shares, on_err),
            false => sink.problems.error(from, format!("{shares} is not between 2 and 262144")),
        }
    }
    if cpu.idle == Some(1) {
        sink.put(idle, "cpu.idle", 1);
    }
    bandwidth(sink, cpu);
    if let Some(period @ 1..) = cpu.realtime_period {
        sink.put(Field::new("linux.resources.cpu.realtimePeriod"), "cpu.rt_period_us", period);
    }
    if let Some(runtime @ (..=-1 | 1..)) = cpu.realtime_runtime {
        sink.put(Field::new("linux.resources.cpu.realtimeRuntime"), "cpu.rt_runtime_us", runtime);
    }
}

/// Period, quota and burst. The kernel checks each against the present value of the others, so on a cgroup in use a
/// shorter period may be taken only after the quota, or only before it: it is written both before and after.
fn bandwidth(sink: &mut Sink<'_>, cpu: &Cpu<'_>) {
    let quota = cpu.quota.filter(|q| *q != 0);
    let period_and_burst = |sink: &mut Sink<'_>, on_err: OnErr| {
        if let Some(period @ 1..) = cpu.period {
            sink.put_or(Field::new("linux.resources.cpu.period"), "cpu.cfs_period_us", period, on_err.clone());
        }
        if let Some(burst) = cpu.burst {
            sink.put_or(Field::new("linux.resources.cpu.burst"), "cpu.cfs_burst_us", burst, on_err);
        }
    };
    match (quota, sink.mode) {
        (None, _) => period_and_burst(sink, OnErr::Fail),
        (Some(quota), mode) => {
            let before = if mode == Mode::Create { OnErr::Fail } else { OnErr::Ignore(&[EINVAL]) };
            period_and_burst(sink, before);
            sink.put(Field::new("linux.resources.cpu.quota"), "cpu.cfs_quota_us", quota);
            if mode == Mode::Update {
                period_and_burst(sink, OnErr::Fail);
            }
        }
    }
}

pub(super) fn memory(sink: &mut Sink<'_>, memory: &Memory) {
    limit_and_swap(sink, memory);
    if let Some(soft @ (..=-1 | 1..)) = memory.reservation {
        sink.put(Field::new("linux.resources.memory.reservation"), "memory.soft_limit_in_bytes", soft);
    }
    if let Some(kernel @ (..=-1 | 1..)) = memory.kernel {
        let from = Field::new("linux.resources.memory.kernel");
        if kernel > 0 {
            sink.problems.warn(from.clone(), "limits nothing since kernel 5.16, which takes it without a word");
        }
        sink.put(from, "memory.kmem.limit_in_bytes", kernel);
    }
    if let Some(tcp @ (..=-1 | 1..)) = memory.kernel_tcp {
        sink.put(Field::new("linux.resources.memory.kernelTCP"), "memory.kmem.tcp.limit_in_bytes", tcp);
    }
    // A new cgroup has the OOM killer unless it is told otherwise; one in use may have to get it back.
    if let Some(off) = memory.disable_oom_killer.filter(|off| *off || sink.mode == Mode::Update) {
        sink.put(Field::new("linux.resources.memory.disableOOMKiller"), "memory.oom_control", u8::from(off));
    }
    if let Some(swappiness) = memory.swappiness {
        sink.put(Field::new("linux.resources.memory.swappiness"), "memory.swappiness", swappiness);
    }
    if memory.use_hierarchy == Some(true) {
        sink.put(Field::new("linux.resources.memory.useHierarchy"), "memory.use_hierarchy", 1);
    }
}

/// The kernel keeps `limit ≤ memsw` at every moment: on a cgroup in use memsw goes first when both grow and last when
/// both shrink, so it is written on either side of the limit.
fn limit_and_swap(sink: &mut Sink<'_>, memory: &Memory) {
    const MEMSW: &str = "memory.memsw.limit_in_bytes";
    let limit = memory.limit.filter(|l| *l != 0);
    let (swap, on_missing) = match (limit, memory.swap.filter(|s| *s != 0)) {
        // Unlimited memory without a word on swap means both; a kernel without swap accounting has no second limit.
        (Some(-1), None) => (Some(-1), OnErr::Ignore(&[ENOENT])),
        (_, swap @ Some(-1)) => (swap, OnErr::Ignore(&[ENOENT])),
        (_, swap) => (swap, OnErr::Fail),
    };
    let from = Field::new("linux.resources.memory.swap");
    if let (Some(swap), Some(_), Mode::Update) = (swap, limit, sink.mode) {
        sink.put_or(from.clone(), MEMSW, swap, OnErr::Ignore(&[EINVAL, ENOENT]));
    }
    if let Some(limit) = limit {
        sink.put(Field::new("linux.resources.memory.limit"), "memory.limit_in_bytes", limit);
    }
    if let Some(swap) = swap {
        sink.put_or(from, MEMSW, swap, on_missing);
    }
}

pub(super) fn block_io(sink: &mut Sink<'_>, io: &BlockIo) {
    // The weights belong to the scheduler: `blkio.weight` is CFQ's, which is gone since kernel 5.0, the other BFQ's.
    if let Some(weight @ 1..) = io.weight {
        let bfq = OnErr::Else(&[ENOENT], "blkio.bfq.weight".into(), weight.to_string());
        sink.put_or(Field::new("linux.resources.blockIO.weight"), "blkio.weight", weight, bfq);
    }
    if let Some(weight @ 1..) = io.leaf_weight {
        sink.put(Field::new("linux.resources.blockIO.leafWeight"), "blkio.leaf_weight", weight);
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        if let Some(weight @ 1..) = device.weight {
            let line = format!("{}:{} {weight}", device.major, device.minor);
            let bfq = OnErr::Else(&[ENOENT], "blkio.bfq.weight_device".into(), line.clone());
            let from = Field::at("linux.resources.blockIO.weightDevice[].weight", &[i]);
            sink.put_or(from, "blkio.weight_device", line, bfq);
        }
        if let Some(weight @ 1..) = device.leaf_weight {
            let from = Field::at("linux.resources.blockIO.weightDevice[].leafWeight", &[i]);
            sink.put(from, "blkio.leaf_weight_device", format!("{}:{} {weight}", device.major, device.minor));
        }
    }
    for (file, field, devices) in throttles(io) {
        for (i, d) in devices.iter().enumerate() {
            let line = format!("{}:{} {}", d.major, d.minor, d.rate);
            sink.put(Field::at(field, &[i]), format!("blkio.throttle.{file}"), line);
        }
    }
}

fn throttles(io: &BlockIo) -> [(&'static str, &'static str, &[ThrottleDevice]); 4] {
    [
        ("read_bps_device", "linux.resources.blockIO.throttleReadBpsDevice[]", &io.throttle_read_bps_device),
        ("write_bps_device", "linux.resources.blockIO.throttleWriteBpsDevice[]", &io.throttle_write_bps_device),
        ("read_iops_device", "linux.resources.blockIO.throttleReadIOPSDevice[]", &io.throttle_read_iops_device),
        ("write_iops_device", "linux.resources.blockIO.throttleWriteIOPSDevice[]", &io.throttle_write_iops_device),
    ]
}

pub(super) fn hugetlb(sink: &mut Sink<'_>, limits: &[HugepageLimit<'_>]) {
    hugepages(sink, limits, "limit_in_bytes");
}

/// Usage, and where the kernel counts them (5.7), reservations as well.
pub(super) fn hugepages(sink: &mut Sink<'_>, limits: &[HugepageLimit<'_>], file: &str) {
    for (i, HugepageLimit { page_size, limit }) in limits.iter().enumerate() {
        if !is_page_size(page_size) {
            let from = Field::at("linux.resources.hugepageLimits[].pageSize", &[i]);
            sink.problems.error(from, format!("{:?} is no size such as 64KB, 2MB or 1GB", &**page_size));
            continue;
        }
        let from = Field::at("linux.resources.hugepageLimits[].limit", &[i]);
        sink.put(from.clone(), format!("hugetlb.{page_size}.{file}"), limit);
        sink.put_or(from, format!("hugetlb.{page_size}.rsvd.{file}"), limit, OnErr::Ignore(&[ENOENT]));
    }
}

fn is_page_size(size: &str) -> bool {
    let digits = size.strip_suffix("KB").or_else(|| size.strip_suffix("MB")).or_else(|| size.strip_suffix("GB"));
    digits.is_some_and(|d| !d.is_empty() && !d.starts_with('0') && d.bytes().all(|b| b.is_ascii_digit()))
}

/// `rdma.max`, alike in both versions.
pub(super) fn rdma(sink: &mut Sink<'_>, devices: &Map<'_, Rdma>) {
    for (name, limits) in devices {
        let from = Field::new("linux.resources.rdma").key(name);
        let mut line = name.to_string();
        for (what, limit) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
            if let Some(limit) = limit {
                line.push_str(&format!(" {what}={limit}"));
            }
        }
        if name.is_empty() || name.contains(char::is_whitespace) {
            sink.problems.error(from, format!("{:?} is no device", &**name));
        } else if line.len() == name.len() {
            sink.problems.error(from, "has neither hcaHandles nor hcaObjects");
        } else {
            sink.put(from, "rdma.max", line);
        }
    }
}

pub(super) fn net_cls(sink: &mut Sink<'_>, network: &Network<'_>) {
    if let Some(id @ 1..) = network.class_id {
        sink.put(Field::new("linux.resources.network.classID"), "net_cls.classid", id);
    }
}

pub(super) fn net_prio(sink: &mut Sink<'_>, network: &Network<'_>) {
    for (i, p) in network.priorities.iter().enumerate() {
        let from = Field::at("linux.resources.network.priorities[]", &[i]);
        if p.name.is_empty() || p.name.contains(char::is_whitespace) {
            sink.problems.error(from, format!("{:?} is no interface", &*p.name));
        } else {
            sink.put(from, "net_prio.ifpriomap", format!("{} {}", p.name, p.priority));
        }
    }
}

/// The whole policy, from "all" on: what the new cgroup inherited from its parent must not shine through.
pub(super) fn devices(sink: &mut Sink<'_>, policy: &Policy) {
    let from = |key: &Key| match policy.origin(key) {
        Some(i) => Field::at("linux.resources.devices[]", &[i]),
        None => Field::new("linux.resources.devices"),
    };
    let table = match policy.table() {
        Ok(table) => table,
        Err(i) => {
            let from =
                i.map_or(Field::new("linux.resources.devices"), |i| Field::at("linux.resources.devices[]", &[i]));
            let text = "takes devices from a wider rule before it, which cgroup v1 cannot express";
            return sink.problems.error_hint(from, text, "list the devices one by one, or use a host with cgroup v2");
        }
    };
    let (base, exception) = match table.allow {
        true => ("devices.allow", "devices.deny"),
        false => ("devices.deny", "devices.allow"),
    };
    sink.put(Field::new("linux.resources.devices"), base, "a");
    for (key, access) in &table.exceptions {
        sink.put(from(key), exception, format!("{key} {access}"));
    }
}
