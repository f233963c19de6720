//! What stands behind a flag, read: ids, signals, sizes, durations, numbers, users, sub-cgroups.

use std::time::Duration;

/// Checks a container's id: 1 to 1,024 of `[A-Za-z0-9_+.-]`, not `.` and not `..`.
///
/// Every command calls this before any path is made of the id.
///
/// # Errors
/// The sentence to print; it ends as runc's does: `invalid container ID format`.
///
/// ```
/// assert!(tare::cli::validate_id("web-1.a+b_c").is_ok());
/// assert!(tare::cli::validate_id("../etc").is_err());
/// ```
pub fn validate_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("container id cannot be empty".into());
    }
    if id.len() > 1024 {
        return Err(format!("container id of {} characters, 1024 are allowed: invalid container ID format", id.len()));
    }
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b));
    if plain && id != "." && id != ".." {
        return Ok(());
    }
    Err(format!("container id {id:?}: invalid container ID format"))
}

/// The first real-time signal that a program may use: the C library keeps the kernel's first two, 32 and 33, for itself.
const RTMIN: i32 = 34;
/// The last real-time signal; the kernel's `_NSIG`.
const RTMAX: i32 = 64;

/// Names as in signal(7), without `SIG`; synonyms behind the usual name.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// Reads a signal: a number 0–64, or a name in any case, with or without `SIG`, real-time ones as `RTMIN+n` and `RTMAX-n`.
///
/// # Errors
/// `unknown signal "X"`, as runc says it.
///
/// ```
/// use tare::cli::parse_signal;
/// assert_eq!(parse_signal("SIGKILL"), Ok(9));
/// assert_eq!(parse_signal("rtmin+3"), Ok(37));
/// ```
pub fn parse_signal(text: &str) -> Result<i32, String> {
    let unknown = || format!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    real_time(name).ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let (base, rest) = match name.get(..5)? {
        "RTMIN" => (RTMIN, &name[5..]),
        "RTMAX" => (RTMAX, &name[5..]),
        _ => return None,
    };
    if rest.is_empty() {
        return Some(base);
    }
    let digits = rest.strip_prefix(if base == RTMIN { '+' } else { '-' })?;
    let step = if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse::<i32>().ok()? } else { return None };
    let number = if base == RTMIN { base.checked_add(step)? } else { base.checked_sub(step)? };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// Reads a size in bytes: digits, a fraction, one of `k m g t p` in either case (powers of 1,024), `i` and `b` behind it
/// allowed; `-1` is unlimited.
pub(super) fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let factor = 1_u128 << (10 * power(&unit)?);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 18 {
        return None;
    }
    let whole = whole.parse::<u128>().ok()?.checked_mul(factor)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let bytes = whole.checked_add(fraction.parse::<u128>().ok()? * factor / scale)?;
    i64::try_from(bytes).ok()
}

/// The power of 1,024 that a lower-case unit stands for.
fn power(unit: &str) -> Option<u32> {
    let letter = unit.strip_suffix('b').unwrap_or(unit);
    let letter = letter.strip_suffix('i').unwrap_or(letter);
    match letter {
        "" if unit.starts_with('i') => None,
        "" => Some(0),
        _ => [(1, "k"), (2, "m"), (3, "g"), (4, "t"), (5, "p")]
            .iter()
            .find(|(_, known)| *known == letter)
            .map(|(n, _)| *n),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Reads a duration as Go writes it: `5s`, `1m30s`, `1.5h`, `100ms`; `0` needs no unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0_u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanos = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, nanos)?)?;
        rest = tail;
    }
    // Go's durations end at 2^63 ns.
    i64::try_from(total).ok().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

/// A decimal number times `factor`, rounded down; one side of the point may be empty, as Go allows.
fn scaled(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 || fraction.len() > 18 {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(read(whole)? * factor + read(fraction)? * factor / scale)
}

/// Reads a whole number as Go's flags do: decimal, or `0x`, `0o`, `0b`, a leading `0` for octal.
pub(super) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// Reads a truth value as Go does.
pub(super) fn truth(text: &[u8]) -> Option<bool> {
    match text {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

/// The user that `exec --user` names: numbers only, the container's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id, where one was named.
    pub gid: Option<u32>,
}

/// Reads `uid[:gid]`.
pub(super) fn user(text: &str) -> Result<User, String> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let gid = gid.map(|gid| id_number(gid, "gid")).transpose()?;
    Ok(User { uid: id_number(uid, "uid")?, gid })
}

/// Reads a user or group id; 4294967295 is the kernel's "no id".
pub(super) fn id_number(text: &str, what: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number != u32::MAX => Ok(number),
        _ => Err(format!("parsing {text} as int for {what} failed: invalid syntax")),
    }
}

/// Where below the container's own cgroup `exec --cgroup` puts the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubCgroup {
    /// The cgroup v1 controllers that this is for; empty for all (and on cgroup v2).
    pub controllers: Vec<String>,
    /// A path below the container's cgroup, as it was given.
    pub path: String,
}

/// Reads `[controller[,controller…]:]path`.
pub(super) fn sub_cgroup(text: &str) -> Result<SubCgroup, String> {
    let (controllers, path) = match text.split_once(':') {
        Some((controllers, path)) => (controllers.split(',').map(str::to_owned).collect(), path),
        None => (Vec::new(), text),
    };
    if path.is_empty() || controllers.iter().any(String::is_empty) {
        return Err(format!("invalid --cgroup argument: {text}"));
    }
    Ok(SubCgroup { controllers, path: path.to_owned() })
}
