//! Limits as cgroup version 2 takes them (Documentation/admin-guide/cgroup-v2.rst), and the conversions of those that
//! the specification gives in terms of version 1.

use super::errno::{EINVAL, ENOENT, EOPNOTSUPP};
use super::{Check, Mode, OnErr, Sink, v1};
use crate::field::Field;
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, ThrottleDevice};

/// The kernel's default period, in microseconds.
const PERIOD: u64 = 100_000;

pub(super) fn cpuset(sink: &mut Sink<'_>, cpu: &Cpu<'_>) {
    v1::cpuset(sink, cpu);
}

pub(super) fn cpu(sink: &mut Sink<'_>, cpu: &Cpu<'_>) {
    let idle = Field::new("linux.resources.cpu.idle");
    if cpu.idle == Some(0) {
        sink.put(idle.clone(), "cpu.idle", 0);
    }
    if let Some(shares @ 1..) = cpu.shares {
        // A cgroup that is SCHED_IDLE already refuses a weight, and needs none.
        let on_err = if cpu.idle == Some(1) { OnErr::Ignore(&[EINVAL]) } else { OnErr::Fail };
        sink.put_or(Field::new("linux.resources.cpu.shares"), "cpu.weight", weight_of_shares(shares), on_err);
    }
    if cpu.idle == Some(1) {
        sink.put(idle, "cpu.idle", 1);
    }
    bandwidth(sink, cpu);
    if cpu.realtime_period.is_some_and(|p| p != 0) {
        sink.unsupported(Field::new("linux.resources.cpu.realtimePeriod"), "limits for realtime tasks");
    }
    if cpu.realtime_runtime.is_some_and(|r| r != 0) {
        sink.unsupported(Field::new("linux.resources.cpu.realtimeRuntime"), "limits for realtime tasks");
    }
}

/// Quota and period are one file. The kernel checks the burst against the present quota, so on a cgroup in use it is
/// written both before and after.
fn bandwidth(sink: &mut Sink<'_>, cpu: &Cpu<'_>) {
    let (quota, period) = (cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0));
    let burst = Field::new("linux.resources.cpu.burst");
    let max = quota != 0 || period != 0;
    if let (Some(value), true, Mode::Update) = (cpu.burst, max, sink.mode) {
        sink.put_or(burst.clone(), "cpu.max.burst", value, OnErr::Ignore(&[EINVAL]));
    }
    if max {
        let from = if quota == 0 { "linux.resources.cpu.period" } else { "linux.resources.cpu.quota" };
        let period = if period == 0 { PERIOD } else { period };
        let line = if quota > 0 { format!("{quota} {period}") } else { format!("max {period}") };
        sink.put(Field::new(from), "cpu.max", line);
    }
    if let Some(value) = cpu.burst {
        sink.put(burst, "cpu.max.burst", value);
    }
}

/// Shares of version 1 (2 to 262144, default 1024) as a weight of version 2 (1 to 10000, default 100).
///
/// A parabola in log-log space through the three pairs (2, 1), (1024, 100) and (262144, 10000), agreed on by the
/// runtimes in 2025: a straight line mapped the default shares to a weight of 39. <https://kep.k8s.io/2254>
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (f64::from(u32::try_from(shares).unwrap_or(u32::MAX))).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // Rounded up; what is a whole number but for the last bits of the logarithm stays that number.
            let weight = (10f64.powf(exponent) - 1e-9).ceil();
            (1..=10_000).find(|w: &u32| f64::from(*w) >= weight).map_or(10_000, u64::from)
        }
    }
}

/// Weight of version 1 (10 to 1000) as a weight of version 2 (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    let weight = u64::from(weight);
    match weight {
        0 => 0,
        _ => 1 + weight.clamp(10, 1000).saturating_sub(10) * 9999 / 990,
    }
}

pub(super) fn memory(sink: &mut Sink<'_>, memory: &Memory) {
    let limit = memory.limit.unwrap_or(0);
    if memory.check_before_update == Some(true) {
        check_usage(sink, memory);
    }
    swap(sink, limit, memory.swap.unwrap_or(0));
    if limit != 0 {
        sink.put(Field::new("linux.resources.memory.limit"), "memory.max", or_max(limit));
    }
    if let Some(low @ (..=-1 | 1..)) = memory.reservation {
        sink.put(Field::new("linux.resources.memory.reservation"), "memory.low", or_max(low));
    }
    let refused = [
        ("linux.resources.memory.kernel", "limit of kernel memory", memory.kernel.is_some_and(|k| k > 0)),
        ("linux.resources.memory.kernelTCP", "limit of TCP buffers", memory.kernel_tcp.is_some_and(|k| k > 0)),
        ("linux.resources.memory.swappiness", "swappiness of a cgroup", memory.swappiness.is_some()),
        (
            "linux.resources.memory.disableOOMKiller",
            "switch for the OOM killer",
            memory.disable_oom_killer == Some(true),
        ),
    ];
    for (field, what, asked) in refused {
        if asked {
            sink.unsupported(Field::new(field), what);
        }
    }
}

/// Version 1 limits memory and swap together, version 2 swap alone.
fn swap(sink: &mut Sink<'_>, limit: i64, both: i64) {
    let from = Field::new("linux.resources.memory.swap");
    let value = match (both, limit) {
        (-1, _) | (0, -1) => "max".to_owned(),
        (0, _) => return,
        (_, ..=0) => return sink.problems.error(from, "needs linux.resources.memory.limit to be set as well"),
        (both, limit) => (both.saturating_sub(limit)).max(0).to_string(),
    };
    // A kernel without swap accounting has no such file, and also no swap to limit for those who want none or all.
    let on_err = if value == "max" || value == "0" { OnErr::Ignore(&[ENOENT]) } else { OnErr::Fail };
    sink.put_or(from, "memory.swap.max", value, on_err);
}

/// Lowering the limit below the usage calls the OOM killer here, where version 1 refuses it.
fn check_usage(sink: &mut Sink<'_>, memory: &Memory) {
    let limits = [
        ("memory+swap", Field::new("linux.resources.memory.swap"), memory.swap),
        ("memory", Field::new("linux.resources.memory.limit"), memory.limit),
    ];
    for (name, from, limit) in limits {
        if let Some(limit @ 1..) = limit {
            let (group, limit) = (sink.group, limit.unsigned_abs());
            sink.checks.push(Check { group, file: "memory.current", limit, name, from });
        }
    }
}

fn or_max(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

pub(super) fn block_io(sink: &mut Sink<'_>, io: &BlockIo) {
    // BFQ, where it is the scheduler, takes the weight as it is; the cost model has its own range.
    if let Some(weight @ 1..) = io.weight {
        let cost = OnErr::Else(&[ENOENT], "io.weight".into(), io_weight(weight).to_string());
        sink.put_or(Field::new("linux.resources.blockIO.weight"), "io.bfq.weight", weight, cost);
    }
    if io.leaf_weight.is_some_and(|w| w != 0) {
        sink.unsupported(Field::new("linux.resources.blockIO.leafWeight"), "leaf weight");
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        if let Some(weight @ 1..) = device.weight {
            let number = format!("{}:{}", device.major, device.minor);
            // EOPNOTSUPP: the kernel has BFQ, but another scheduler is at work on that device.
            let line = format!("{number} {}", io_weight(weight));
            let cost = OnErr::Else(&[ENOENT, EOPNOTSUPP], "io.weight".into(), line);
            let from = Field::at("linux.resources.blockIO.weightDevice[].weight", &[i]);
            sink.put_or(from, "io.bfq.weight", format!("{number} {weight}"), cost);
        }
        if device.leaf_weight.is_some_and(|w| w != 0) {
            sink.unsupported(Field::at("linux.resources.blockIO.weightDevice[].leafWeight", &[i]), "leaf weight");
        }
    }
    let throttles: [(&str, &'static str, &[ThrottleDevice]); 4] = [
        ("rbps", "linux.resources.blockIO.throttleReadBpsDevice[]", &io.throttle_read_bps_device),
        ("wbps", "linux.resources.blockIO.throttleWriteBpsDevice[]", &io.throttle_write_bps_device),
        ("riops", "linux.resources.blockIO.throttleReadIOPSDevice[]", &io.throttle_read_iops_device),
        ("wiops", "linux.resources.blockIO.throttleWriteIOPSDevice[]", &io.throttle_write_iops_device),
    ];
    for (key, field, devices) in throttles {
        for (i, d) in devices.iter().enumerate() {
            // Zero lifts the limit in version 1, and is refused here.
            let rate = if d.rate == 0 { "max".to_owned() } else { d.rate.to_string() };
            sink.put(Field::at(field, &[i]), "io.max", format!("{}:{} {key}={rate}", d.major, d.minor));
        }
    }
}

pub(super) fn hugetlb(sink: &mut Sink<'_>, limits: &[HugepageLimit<'_>]) {
    v1::hugepages(sink, limits, "max");
}
