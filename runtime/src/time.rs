//! Points in time as text: RFC 3339, as Go's `time.RFC3339` and `time.RFC3339Nano` write it, always in UTC.
//!
//! Days are counted from 0000-03-01, so that the leap day is the last of its year; four centuries are 146,097 days.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: i64 = 86_400;
const DAYS_A_CYCLE: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// A point in time, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    pub seconds: i64,
    /// Nanoseconds on top of them, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// The wall clock's now; 1970 if the clock stands before it.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
    }

    /// To the second: `2026-01-02T03:04:05Z`.
    pub fn rfc3339(self) -> String {
        self.text(false)
    }

    /// To the nanosecond, without trailing zeros: `2026-01-02T03:04:05.5Z`.
    pub fn rfc3339_nano(self) -> String {
        self.text(true)
    }

    fn text(self, fraction: bool) -> String {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(SECONDS_A_DAY));
        let second = self.seconds.rem_euclid(SECONDS_A_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut out = String::with_capacity(32);
        // Writing to a String cannot fail.
        let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if fraction && self.nanos != 0 {
            let _ = write!(out, ".{:09}", self.nanos);
            out.truncate(out.trim_end_matches('0').len());
        }
        out.push('Z');
        out
    }

    /// Reads RFC 3339 with any fraction (digits beyond the ninth are dropped) and any offset; `None` for anything else.
    ///
    /// ```
    /// use tare::time::Timestamp;
    /// let noon = Timestamp::parse("2026-01-02T12:00:00+02:00").map(Timestamp::rfc3339);
    /// assert_eq!(noon.as_deref(), Some("2026-01-02T10:00:00Z"));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if separators.iter().any(|&(at, byte)| bytes.get(at) != Some(&byte)) || !matches!(bytes.get(10)?, b'T' | b't') {
            return None;
        }
        let (year, month, day) = (number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?);
        let (hour, minute, second) = (number(text, 11, 13)?, number(text, 14, 16)?, number(text, 17, 19)?);
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return None;
        }
        let (nanos, zone) = fraction(text.get(19..)?)?;
        let seconds =
            days_from_civil(year, month, day) * SECONDS_A_DAY + hour * 3600 + minute * 60 + second - offset(zone)?;
        Some(Timestamp { seconds, nanos })
    }
}

fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    let digits = text.get(from..to)?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Splits `.5Z` into nanoseconds and the zone.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &rest[..rest.len() - zone.len()];
    if digits.is_empty() {
        return None;
    }
    let nanos = format!("{:0<9.9}", digits).parse().ok()?;
    Some((nanos, zone))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone.as_bytes().get(3) != Some(&b':') {
        return None;
    }
    let (hours, minutes) = (number(zone, 1, 3)?, number(zone, 4, 6)?);
    if hours > 23 || minutes > 59 { None } else { Some(sign * (hours * 3600 + minutes * 60)) }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The date of a day counted from 1970-01-01, as (year, month 1–12, day 1–31).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let (cycle, day_of_cycle) = (days.div_euclid(DAYS_A_CYCLE), days.rem_euclid(DAYS_A_CYCLE));
    // The last day of a fourth year, of a century and of the cycle would each start a year too early.
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / (DAYS_A_CYCLE - 1)) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // From March on the months' lengths follow 153 days in five months.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year_of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    cycle * DAYS_A_CYCLE + year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_centuries_goes_there_and_back_in_order() {
        let mut before = civil_from_days(-200_001);
        for day in -200_000..100_000 {
            let date = civil_from_days(day);
            assert_eq!(days_from_civil(date.0, date.1, date.2), day);
            assert!(date > before, "{before:?} then {date:?}");
            assert!(date.2 <= days_in(date.0, date.1), "{date:?}");
            before = date;
        }
    }

    #[test]
    fn known_moments() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_767_323_045, 0, "2026-01-02T03:04:05Z"),
            (1_767_323_045, 500_000_000, "2026-01-02T03:04:05.5Z"),
            (1_767_323_045, 1, "2026-01-02T03:04:05.000000001Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59Z"),
        ] {
            let stamp = Timestamp { seconds, nanos };
            assert_eq!(stamp.rfc3339_nano(), text);
            assert_eq!(Timestamp::parse(text), Some(stamp));
        }
        assert_eq!(Timestamp { seconds: 0, nanos: 7 }.rfc3339(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn offsets_and_long_fractions_are_read() {
        for (text, want) in [
            ("2026-01-02T03:04:05+01:30", "2026-01-02T01:34:05Z"),
            ("2026-01-02T03:04:05-00:01", "2026-01-02T03:05:05Z"),
            ("2026-01-02t03:04:05.1234567891z", "2026-01-02T03:04:05.123456789Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().rfc3339_nano(), want);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-13-02T03:04:05Z",
            "2026-02-29T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:60:05Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+1:00",
            "2026-01-02T03:04:05+01:00x",
            "+026-01-02T03:04:05Z",
            "2026-01-02T03:04:05+24:00",
            "é026-01-02T03:04:05Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
