//! `top`: what containers use, again and again.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Context, Failure, Outcome};
use crate::cli::{Format, Top};
use crate::container::usage::{Sample, sample, sample_all};
use crate::container::{self, Error};
use crate::sys::signal::{self, SignalFd};
use crate::sys::{fs, process};
use crate::table;

/// CPU use is that between two looks: before the first table, they need not be as far apart as the caller asked.
const FIRST: Duration = Duration::from_millis(250);
/// The upper left corner, and nothing below it.
const CLEAR: &str = "\x1b[H\x1b[J";

/// A container, as it is shown.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    status: String,
    pid: i32,
    /// 100 is one CPU, since the look before; none of a container that was not there then.
    cpu_percent: Option<f64>,
    cpu_ns: Option<u64>,
    memory: Option<u64>,
    memory_limit: Option<u64>,
    pids: Option<u64>,
    pids_limit: Option<u64>,
    read_bytes: Option<u64>,
    written_bytes: Option<u64>,
}

/// `top`. Neither a signal that ends it nor a reader that has gone is a failure.
pub(super) fn top(cx: &Context, ask: &Top) -> Outcome {
    let signals = signal::block_all().map_err(Error::from)?;
    let mut before = look(cx, ask, true)?;
    let screen = ask.format == Format::Table && std::io::stdout().is_terminal();
    let (mut shown, mut pause) = (0, ask.interval.min(FIRST));
    while goes_on(&signals, pause)? {
        let now = look(cx, ask, false)?;
        if now.is_empty() && !ask.ids.is_empty() {
            break;
        }
        let rows = rows(&now, &before);
        let text = match ask.format {
            Format::Json => serde_json::to_string(&rows).map_err(|e| Error::new(e.to_string()))? + "\n",
            Format::Table if screen => format!("{CLEAR}{}", in_columns(&rows)),
            Format::Table if shown > 0 => format!("\n{}", in_columns(&rows)),
            Format::Table => in_columns(&rows),
        };
        shown += 1;
        if !cx.tell(text.as_bytes())? || ask.iterations == Some(shown) {
            break;
        }
        (before, pause) = (now, ask.interval);
    }
    Ok(0)
}

/// Looks at the containers. One that was named must be there at first; later it may have gone.
fn look(cx: &Context, ask: &Top, first: bool) -> container::Result<Vec<Sample>> {
    let root = cx.root().0;
    if ask.ids.is_empty() {
        return sample_all(&root);
    }
    let mut found = Vec::new();
    for id in &ask.ids {
        match sample(&root, id) {
            Ok(None) if first => return Err(Error::new(format!("{id}: container not running"))),
            Err(e) if first || !e.missing => return Err(e),
            sample => found.extend(sample.ok().flatten()),
        }
    }
    Ok(found)
}

/// Waits; says whether to go on, which is over with a signal that ends and with a reader that has gone.
fn goes_on(signals: &SignalFd, pause: Duration) -> Result<bool, Failure> {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        // Rounded up, or the last millisecond would be spent turning.
        let left = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        // Of the reader only its going is told, which needs not be asked for.
        let out = fs::standard_stream(1).map_err(Error::from)?;
        let [signal, gone] = fs::poll([(signals.as_fd(), libc::POLLIN), (out, 0)], left).map_err(Error::from)?;
        if gone & (libc::POLLERR | libc::POLLHUP) != 0 {
            return Ok(false);
        }
        match if signal == 0 { None } else { signals.next().map_err(Error::from)? } {
            Some(libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT) => return Ok(false),
            // Held back like all others, but meant for the terminal.
            Some(libc::SIGTSTP) => drop(process::kill(process::getpid(), libc::SIGSTOP)),
            _ => {}
        }
    }
}

fn rows(now: &[Sample], before: &[Sample]) -> Vec<Row> {
    now.iter().map(|sample| row(sample, before.iter().find(|b| b.id == sample.id && b.pid == sample.pid))).collect()
}

fn row(now: &Sample, before: Option<&Sample>) -> Row {
    let bare = Row { id: now.id.clone(), status: now.status.to_string(), pid: now.pid, ..Row::default() };
    let Some(used) = now.used else { return bare };
    let since = before.and_then(|b| Some((b.used?, now.when.saturating_duration_since(b.when))));
    Row {
        cpu_percent: since.map(|(then, passed)| percent(used.cpu.saturating_sub(then.cpu), passed)),
        cpu_ns: Some(used.cpu),
        memory: Some(used.memory),
        memory_limit: used.memory_limit,
        pids: Some(used.pids),
        pids_limit: used.pids_limit,
        read_bytes: Some(used.read),
        written_bytes: Some(used.written),
        ..bare
    }
}

/// To a tenth. More nanoseconds than a float holds exactly are more than a hundred days.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn percent(nanos: u64, passed: Duration) -> f64 {
    let passed = passed.as_secs_f64() * 1e9;
    if passed > 0.0 { (nanos as f64 / passed * 1000.0).round() / 10.0 } else { 0.0 }
}

fn in_columns(rows: &[Row]) -> String {
    let head = ["ID", "STATUS", "PID", "CPU%", "MEM", "MEM LIMIT", "PIDS", "PIDS LIMIT", "READ", "WRITTEN"];
    let cells = rows.iter().map(|r| {
        let count = |n: Option<u64>| n.map_or_else(dash, |n| n.to_string());
        let bytes = |n: Option<u64>| n.map_or_else(dash, size);
        [
            r.id.clone(),
            r.status.clone(),
            r.pid.to_string(),
            r.cpu_percent.map_or_else(dash, |p| format!("{p:.1}")),
            bytes(r.memory),
            bytes(r.memory_limit),
            count(r.pids),
            count(r.pids_limit),
            bytes(r.read_bytes),
            bytes(r.written_bytes),
        ]
    });
    table::columns(std::iter::once(head.map(str::to_owned)).chain(cells), 0, 2)
}

fn dash() -> String {
    "-".to_owned()
}

/// `12.3M`, in powers of 1024; as `update` reads sizes.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G", "T"] {
        if value < 1000.0 {
            return if unit.is_empty() { bytes.to_string() } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1}P")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Status;
    use crate::container::usage::Used;

    #[test]
    fn use_is_that_since_the_look_before() {
        let when = Instant::now();
        let used = Used { cpu: 1_000_000_000, memory: 5 << 20, pids: 3, ..Used::default() };
        let then = Sample { id: "a".into(), status: Status::Running, pid: 7, when, used: Some(used) };
        let later = Used { cpu: 1_250_000_000, memory_limit: Some(64 << 20), ..used };
        let now = Sample { when: when + Duration::from_millis(500), used: Some(later), ..then.clone() };
        let row = &rows(std::slice::from_ref(&now), std::slice::from_ref(&then))[0];
        assert_eq!((row.cpu_percent, row.memory, row.pids), (Some(50.0), Some(5 << 20), Some(3)));
        // Another container of the same name has used nothing yet.
        let other = Sample { pid: 8, ..then.clone() };
        assert_eq!(rows(std::slice::from_ref(&now), &[other])[0].cpu_percent, None);
        let text = in_columns(&rows(&[now], &[then]));
        let words: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["a", "running", "7", "50.0", "5.0M", "64.0M", "3", "-", "0", "0"]);
    }

    #[test]
    fn sizes_are_short() {
        let texts = [0, 999, 1000, 1536, 64 << 20, 1 << 30, u64::MAX].map(size);
        assert_eq!(texts, ["0", "999", "1.0K", "1.5K", "64.0M", "1.0G", "16384.0P"]);
    }
}
