//! Statistics of cgroup version 2.

use super::fs::Dir;
use super::stats::{BlkioEntry, Hugetlb, MemoryEntry, Psi, PsiData, Stats, number, page_sizes, table};

pub(super) fn read(dir: &Dir, controller: &str, stats: &mut Stats) {
    match controller {
        "memory" => memory(dir, stats),
        "pids" => {
            stats.pids.current = number(dir, "pids.current").unwrap_or(0);
            stats.pids.limit = number(dir, "pids.max").filter(|n| *n != u64::MAX).unwrap_or(0);
        }
        "io" => io(dir, stats),
        "hugetlb" => hugetlb(dir, stats),
        _ => {}
    }
}

/// What every cgroup counts, whatever controllers it has.
pub(super) fn always(dir: &Dir, stats: &mut Stats) {
    let stat = table(dir, "cpu.stat");
    let nanoseconds = |key| stat.get(key).map_or(0, |n: &u64| n.saturating_mul(1000));
    stats.cpu.usage.total = nanoseconds("usage_usec");
    stats.cpu.usage.user = nanoseconds("user_usec");
    stats.cpu.usage.kernel = nanoseconds("system_usec");
    stats.cpu.throttling.periods = stat.get("nr_periods").copied().unwrap_or(0);
    stats.cpu.throttling.throttled_periods = stat.get("nr_throttled").copied().unwrap_or(0);
    stats.cpu.throttling.throttled_time = nanoseconds("throttled_usec");
    stats.cpu.psi = pressure(dir, "cpu.pressure");
    stats.memory.psi = pressure(dir, "memory.pressure");
    stats.blkio.psi = pressure(dir, "io.pressure");
}

/// None where the kernel was booted without.
fn pressure(dir: &Dir, file: &str) -> Option<Psi> {
    psi(&dir.read(file).ok()?)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn psi(text: &str) -> Option<Psi> {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let data: &mut PsiData = match words.next()? {
            "some" => &mut psi.some,
            "full" => &mut psi.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            match key {
                "avg10" => data.avg10 = value.parse().ok()?,
                "avg60" => data.avg60 = value.parse().ok()?,
                "avg300" => data.avg300 = value.parse().ok()?,
                "total" => data.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    Some(psi)
}

fn memory(dir: &Dir, stats: &mut Stats) {
    let events = table(dir, "memory.events");
    let swap_events = table(dir, "memory.swap.events");
    let memory = &mut stats.memory;
    memory.usage = MemoryEntry {
        limit: number(dir, "memory.max").unwrap_or(0),
        usage: number(dir, "memory.current").unwrap_or(0),
        max: number(dir, "memory.peak").unwrap_or(0),
        failcnt: events.get("max").copied().unwrap_or(0),
    };
    // Memory and swap together, as in version 1; the peak of both together is not known.
    memory.swap = MemoryEntry {
        limit: number(dir, "memory.swap.max").unwrap_or(0).saturating_add(memory.usage.limit),
        usage: number(dir, "memory.swap.current").unwrap_or(0).saturating_add(memory.usage.usage),
        max: 0,
        failcnt: swap_events.get("max").copied().unwrap_or(0),
    };
    memory.raw = table(dir, "memory.stat");
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn io(dir: &Dir, stats: &mut Stats) {
    for line in dir.read("io.stat").unwrap_or_default().lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|d| d.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let op = match key.as_bytes().first() {
                Some(b'r') => "Read",
                Some(b'w') => "Write",
                Some(b'd') => "Discard",
                _ => continue,
            };
            let list = match &key[1..] {
                "bytes" => &mut stats.blkio.io_service_bytes_recursive,
                "ios" => &mut stats.blkio.io_serviced_recursive,
                _ => continue,
            };
            let value = value.parse().unwrap_or(0);
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
}

fn hugetlb(dir: &Dir, stats: &mut Stats) {
    for size in page_sizes() {
        let (usage, rsvd) = match number(dir, &format!("hugetlb.{size}.rsvd.current")) {
            Some(usage) => (Some(usage), "rsvd."),
            None => (number(dir, &format!("hugetlb.{size}.current")), ""),
        };
        let Some(usage) = usage else { continue };
        let events = table(dir, &format!("hugetlb.{size}.{rsvd}events"));
        let events = if events.is_empty() { table(dir, &format!("hugetlb.{size}.events")) } else { events };
        let failcnt = events.get("max").copied().unwrap_or(0);
        stats.hugetlb.insert(size, Hugetlb { usage, max: 0, failcnt });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5";
        let psi = psi(text).unwrap();
        assert_eq!((psi.some.avg10, psi.some.avg60, psi.some.total, psi.full.total), (1.5, 0.25, 77, 5));
    }
}
