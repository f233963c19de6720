//! The limits as properties of a unit (systemd.resource-control(5)): what systemd knows of, it writes anew whenever it
//! likes, at every `daemon-reload` for one; so it must know the same as the files.
//!
//! One table from files to properties serves `linux.resources` and its `unified` alike.

use super::{OnErr, Write};
use crate::op::unit::{Property, Value};
use crate::validate::cpu_list;

/// What systemd reads as "no limit" or "not set".
const INFINITY: u64 = u64::MAX;
/// The kernel's default period of a quota, in microseconds.
const PERIOD: u64 = 100_000;
const SECOND: u64 = 1_000_000;
/// systemd keeps a quota as a whole percentage of a second.
const PERCENT: u64 = SECOND / 100;

/// Sets a property: of one name, the last counts.
pub(super) fn set(all: &mut Vec<Property>, name: &str, value: Value) {
    match all.iter_mut().find(|p| p.name == name) {
        Some(property) => property.value = value,
        None => all.push(Property::new(name, value)),
    }
}

/// The properties that say the same as these writes, as far as systemd of this version has words for them.
pub fn of(writes: &[Write], version: u32) -> Vec<Property> {
    let mut all = Vec::new();
    for write in writes {
        let (file, value) = match &write.on_err {
            // BFQ's weight is its own; the other file is what the property stands for.
            OnErr::Else(_, file, value) => (&**file, value.as_str()),
            _ => (&*write.file, write.value.as_str()),
        };
        one(&mut all, file, value, version);
    }
    all
}

fn one(all: &mut Vec<Property>, file: &str, value: &str, version: u32) {
    let number = || number(value).map(Value::U64);
    let (name, value) = match file {
        "cpu.weight" | "cpu.idle" => return weight(all, file, value, version),
        "cpu.max" => return bandwidth(all, value, version),
        "cpu.cfs_quota_us" | "cpu.cfs_period_us" => return bandwidth_v1(all, file, value, version),
        "io.weight" => return io_weight(all, value),
        "io.max" | "io.latency" => return per_device(all, value),
        "devices.allow" | "devices.deny" => return device(all, file, value),
        "cpuset.cpus" if version >= 244 => ("AllowedCPUs", mask(value)),
        "cpuset.mems" if version >= 244 => ("AllowedMemoryNodes", mask(value)),
        "memory.min" => ("MemoryMin", number()),
        "memory.low" => ("MemoryLow", number()),
        "memory.high" => ("MemoryHigh", number()),
        "memory.max" => ("MemoryMax", number()),
        "memory.swap.max" => ("MemorySwapMax", number()),
        "memory.zswap.max" if version >= 253 => ("MemoryZSwapMax", number()),
        "memory.limit_in_bytes" => ("MemoryLimit", number()),
        "cpu.shares" => ("CPUShares", number()),
        "blkio.weight" | "blkio.bfq.weight" => ("BlockIOWeight", number()),
        // No tasks at all is nothing that systemd can say; one is init.
        "pids.max" => ("TasksMax", self::number(value).map(|n| Value::U64(n.max(1)))),
        _ => return,
    };
    // What cannot be said is left to the file alone.
    if let Some(value) = value {
        set(all, name, value);
    }
}

/// A number as the kernel reads it: `max` and −1 are none, and a letter multiplies.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if matches!(text, "max" | "-1") {
        return Some(INFINITY);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Idleness is a weight of 0 (systemd 252).
fn weight(all: &mut Vec<Property>, file: &str, value: &str, version: u32) {
    const NAME: &str = "CPUWeight";
    let idle = all.iter().any(|p| p.name == NAME && p.value == Value::U64(0));
    let weight = match (file, number(value)) {
        ("cpu.idle", Some(0)) if all.iter().any(|p| p.name == NAME) && !idle => return,
        ("cpu.idle", Some(0)) => INFINITY,
        ("cpu.idle", Some(1)) if version >= 252 => 0,
        ("cpu.weight", Some(weight)) if !idle => weight,
        _ => return,
    };
    set(all, NAME, Value::U64(weight));
}

/// `cpu.max`: `QUOTA PERIOD`, where the period may be left out.
fn bandwidth(all: &mut Vec<Property>, value: &str, version: u32) {
    let mut words = value.split_whitespace();
    let (Some(quota), period) = (words.next().and_then(number), words.next()) else { return };
    let period = period.map_or(Some(PERIOD), number);
    if let Some(period @ 1..) = period {
        quota_and_period(all, quota, period, version);
    }
}

/// Rounded up: a whole percentage below would be less than the container was given.
fn quota_and_period(all: &mut Vec<Property>, quota: u64, period: u64, version: u32) {
    let per_second = match quota {
        INFINITY => INFINITY,
        quota => quota.saturating_mul(SECOND).div_ceil(period).div_ceil(PERCENT).saturating_mul(PERCENT),
    };
    set(all, "CPUQuotaPerSecUSec", Value::U64(per_second));
    if version >= 242 {
        set(all, "CPUQuotaPeriodUSec", Value::U64(period));
    }
}

/// Version 1 has a file for each, the period first.
fn bandwidth_v1(all: &mut Vec<Property>, file: &str, value: &str, version: u32) {
    let Some(n) = number(value) else { return };
    let period = all.iter().find(|p| p.name == "CPUQuotaPeriodUSec").map(|p| p.value.clone());
    match (file, period) {
        ("cpu.cfs_period_us", _) if version >= 242 => set(all, "CPUQuotaPeriodUSec", Value::U64(n)),
        ("cpu.cfs_quota_us", Some(Value::U64(period @ 1..))) => quota_and_period(all, n, period, version),
        ("cpu.cfs_quota_us", _) => quota_and_period(all, n, PERIOD, version),
        _ => {}
    }
}

/// The mask of a list such as `0-3,7`.
fn mask(list: &str) -> Option<Value> {
    let ranges = cpu_list(list.trim()).ok()?;
    let highest = ranges.iter().map(|(_, last)| *last).max()?;
    let mut mask = vec![0u8; highest as usize / 8 + 1];
    for cpu in ranges.iter().flat_map(|(first, last)| *first..=*last) {
        mask[cpu as usize / 8] |= 1 << (cpu % 8);
    }
    Some(Value::Mask(mask))
}

/// The path by which systemd finds a device of these numbers.
fn node(kind: &str, number: &str) -> String {
    format!("/dev/{kind}/{number}")
}

fn io_weight(all: &mut Vec<Property>, value: &str) {
    match value.split_whitespace().collect::<Vec<_>>().as_slice() {
        [weight] | ["default", weight] => {
            if let Some(weight) = number(weight) {
                set(all, "IOWeight", Value::U64(weight));
            }
        }
        [device, weight] => {
            if let Some(weight) = number(weight) {
                add(all, "IODeviceWeight", node("block", device), weight);
            }
        }
        _ => {}
    }
}

/// `MAJOR:MINOR KEY=VALUE…`
fn per_device(all: &mut Vec<Property>, line: &str) {
    let mut words = line.split_whitespace();
    let Some(device) = words.next() else { return };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            "target" => "IODeviceLatencyTargetUSec",
            _ => continue,
        };
        if let Some(value) = number(value) {
            add(all, name, node("block", device), value);
        }
    }
}

/// Adds a device to a property that lists them.
fn add(all: &mut Vec<Property>, name: &str, device: String, value: u64) {
    if !all.iter().any(|p| p.name == name) {
        all.push(Property::new(name, Value::Devices(Vec::new())));
    }
    if let Some(Value::Devices(list)) = all.iter_mut().find(|p| p.name == name).map(|p| &mut p.value) {
        list.retain(|(known, _)| *known != device);
        list.push((device, value));
    }
}

/// Version 1 has systemd write the whole list of devices anew. One that denies some of all devices it cannot say.
fn device(all: &mut Vec<Property>, file: &str, rule: &str) {
    const ALLOW: &str = "DeviceAllow";
    match (file, rule) {
        ("devices.deny", "a") => {
            set(all, "DevicePolicy", Value::Text("strict".to_owned()));
            set(all, ALLOW, Value::Access(Vec::new()));
        }
        ("devices.allow", "a") => set(all, "DevicePolicy", Value::Text("auto".to_owned())),
        ("devices.allow", rule) => {
            let list = all.iter_mut().find(|p| p.name == ALLOW).map(|p| &mut p.value);
            if let (Some(Value::Access(list)), Some(entry)) = (list, device_entry(rule)) {
                list.push(entry);
            }
        }
        _ => {}
    }
}

/// `c 1:3 rwm`: systemd takes a number of a device as a path, and one for all of a major number by the number (240).
fn device_entry(rule: &str) -> Option<(String, String)> {
    let mut words = rule.split_whitespace();
    let (kind, number, access) = (words.next()?, words.next()?, words.next()?);
    let kind = if kind == "c" { "char" } else { "block" };
    let path = match number.split_once(':')? {
        ("*", "*") => format!("{kind}-*"),
        (major, "*") => format!("{kind}-{major}"),
        ("*", _) => return None,
        _ => node(kind, number),
    };
    Some((path, access.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::{When, errno};
    use super::*;
    use crate::field::Field;

    fn writes(files: &[(&'static str, &str)]) -> Vec<Write> {
        let write = |(file, value): &(&'static str, &str)| Write {
            group: 0,
            file: (*file).into(),
            value: (*value).to_owned(),
            when: When::BeforeAttach,
            from: Field::new("x"),
            on_err: OnErr::Fail,
        };
        files.iter().map(write).collect()
    }

    fn say(files: &[(&'static str, &str)], version: u32) -> String {
        let all = of(&writes(files), version);
        all.iter().map(|p| format!("{}={}", p.name, p.value)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn limits_become_properties() {
        let memory =
            [("memory.swap.max", "0"), ("memory.max", "536870912"), ("memory.low", "max"), ("memory.high", "1G")];
        let said = "MemorySwapMax=0 MemoryMax=536870912 MemoryLow=infinity MemoryHigh=1073741824";
        assert_eq!(say(&memory, 257), said);
        assert_eq!(say(&[("pids.max", "0")], 257), "TasksMax=1");
        assert_eq!(say(&[("pids.max", "max")], 257), "TasksMax=infinity");
        assert_eq!(
            say(&[("cpuset.cpus", "0-2,9"), ("cpuset.mems", "0")], 257),
            "AllowedCPUs=0,1,2,9 AllowedMemoryNodes=0"
        );
        assert_eq!(say(&[("cpuset.cpus", "0-2,9")], 243), "");
        assert_eq!(say(&[("hugetlb.2MB.max", "0"), ("rdma.max", "mlx hca_handle=1")], 257), "");
    }

    #[test]
    fn a_quota_is_never_less_than_was_given() {
        assert_eq!(say(&[("cpu.max", "50000 100000")], 257), "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000");
        assert_eq!(say(&[("cpu.max", "12345 50000")], 257), "CPUQuotaPerSecUSec=250000 CPUQuotaPeriodUSec=50000");
        assert_eq!(say(&[("cpu.max", "max 100000")], 257), "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=100000");
        assert_eq!(say(&[("cpu.max", "1000")], 241), "CPUQuotaPerSecUSec=10000");
        let v1 = [("cpu.cfs_period_us", "20000"), ("cpu.cfs_quota_us", "10000")];
        assert_eq!(say(&v1, 257), "CPUQuotaPeriodUSec=20000 CPUQuotaPerSecUSec=500000");
    }

    #[test]
    fn idleness_is_a_weight() {
        assert_eq!(say(&[("cpu.weight", "39"), ("cpu.idle", "1")], 257), "CPUWeight=0");
        assert_eq!(say(&[("cpu.idle", "0"), ("cpu.weight", "39")], 257), "CPUWeight=39");
        assert_eq!(say(&[("cpu.idle", "0")], 257), "CPUWeight=infinity");
        assert_eq!(say(&[("cpu.idle", "1")], 251), "");
    }

    #[test]
    fn devices_are_listed() {
        let io =
            [("io.max", "8:0 rbps=5"), ("io.max", "8:16 rbps=max"), ("io.max", "8:0 wiops=7"), ("io.weight", "8:0 9")];
        let said = "IOReadBandwidthMax=/dev/block/8:0 5, /dev/block/8:16 infinity IOWriteIOPSMax=/dev/block/8:0 7 \
                    IODeviceWeight=/dev/block/8:0 9";
        assert_eq!(say(&io, 257), said);
        let mut bfq = writes(&[("io.bfq.weight", "500")]);
        bfq[0].on_err = OnErr::Else(&[errno::ENOENT], "io.weight".into(), "4950".to_owned());
        assert_eq!(of(&bfq, 257), [Property::new("IOWeight", Value::U64(4950))]);
        let v1 = [
            ("devices.deny", "a"),
            ("devices.allow", "c *:* m"),
            ("devices.allow", "c 136:* rwm"),
            ("devices.allow", "b 8:0 r"),
        ];
        let said = "DevicePolicy=\"strict\" DeviceAllow=char-* m, char-136 rwm, /dev/block/8:0 r";
        assert_eq!(say(&v1, 257), said);
        assert_eq!(say(&[("devices.allow", "a"), ("devices.deny", "c 1:3 rwm")], 257), "DevicePolicy=\"auto\"");
    }
}
