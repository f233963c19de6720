//! Annotations `org.systemd.property.NAME: VALUE`, as runc reads them: properties of the unit that no field of the
//! configuration stands for. The value is text of GVariant's, of the simple types that units use.

use crate::error::Problems;
use crate::field::Field;
use crate::op::unit::{Property, Value};
use crate::spec::{Map, Str};

const PREFIX: &str = "org.systemd.property.";

/// What the runtime itself must be sure of.
const OURS: [&str; 6] = ["PIDs", "PIDFDs", "Slice", "Delegate", "DelegateControllers", "DelegateSubgroup"];

/// The properties that annotations ask for. `taken` are those that the limits of the configuration have set.
pub(super) fn properties(notes: &Map<'_, Str<'_>>, taken: &[String], problems: &mut Problems) -> Vec<Property> {
    let mut all = Vec::new();
    for (key, text) in notes {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let field = || Field::new("annotations").key(key);
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            problems.error(field(), "is no name of a property: letters, three at the least");
            continue;
        }
        match property(name, text) {
            Ok(property) if OURS.contains(&property.name.as_str()) => {
                problems.error(field(), "is for the runtime to set");
            }
            Ok(property) if taken.contains(&property.name) => {
                problems.error(field(), "says again what linux.resources says");
            }
            Ok(property) => all.push(property),
            Err(why) => problems.error_hint(field(), format!("{text:?} {why}"), HINT),
        }
    }
    all
}

const HINT: &str = "values are true, 5, uint64 5, 'text' or ['one', 'two']";

/// Seconds become microseconds, which is all that systemd takes: `TimeoutStopSec` is `TimeoutStopUSec`.
fn property(name: &str, text: &str) -> Result<Property, &'static str> {
    let value = value(text.trim())?;
    let Some(stem) = name.strip_suffix("Sec").filter(|_| !name.ends_with("USec")) else {
        let value = match value {
            // A time has one type, so the word for it need not be written.
            Value::I32(n) if name.ends_with("USec") => Value::U64(u64::try_from(n).map_err(|_| "is negative")?),
            value => value,
        };
        return Ok(Property::new(name, value));
    };
    const SECOND: u64 = 1_000_000;
    let seconds = match value {
        Value::Byte(n) => Some(u64::from(n)),
        Value::U16(n) => Some(u64::from(n)),
        Value::U32(n) => Some(u64::from(n)),
        Value::U64(n) => Some(n),
        Value::I16(n) => u64::try_from(n).ok(),
        Value::I32(n) => u64::try_from(n).ok(),
        Value::I64(n) => u64::try_from(n).ok(),
        Value::F64(_) => return fraction(text.trim()).map(|n| Property::new(format!("{stem}USec"), Value::U64(n))),
        _ => None,
    };
    let usec = seconds.and_then(|s| s.checked_mul(SECOND)).ok_or("is no number of seconds")?;
    Ok(Property::new(format!("{stem}USec"), Value::U64(usec)))
}

/// Microseconds of `1.5` seconds.
fn fraction(text: &str) -> Result<u64, &'static str> {
    const WHY: &str = "is no number of seconds";
    let number = text.rsplit(' ').next().unwrap_or_default();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits: String = part.chars().chain(std::iter::repeat('0')).take(6).collect();
    let whole: u64 = whole.parse().map_err(|_| WHY)?;
    let part: u64 = digits.parse().map_err(|_| WHY)?;
    whole.checked_mul(1_000_000).and_then(|n| n.checked_add(part)).ok_or(WHY)
}

fn value(text: &str) -> Result<Value, &'static str> {
    let (kind, rest) = typed(text);
    let number = |min: i128, max: i128| {
        let n = match rest.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16),
            None => rest.parse::<i128>(),
        };
        n.map_err(|_| "is no number")
            .and_then(|n| if (min..=max).contains(&n) { Ok(n) } else { Err("is out of range") })
    };
    match kind {
        "b" => match rest {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("is neither true nor false"),
        },
        "y" => number(0, 0xff).map(|n| Value::Byte(u8::try_from(n).unwrap_or(0))),
        "n" => number(i16::MIN.into(), i16::MAX.into()).map(|n| Value::I16(i16::try_from(n).unwrap_or(0))),
        "q" => number(0, u16::MAX.into()).map(|n| Value::U16(u16::try_from(n).unwrap_or(0))),
        "i" => number(i32::MIN.into(), i32::MAX.into()).map(|n| Value::I32(i32::try_from(n).unwrap_or(0))),
        "u" => number(0, u32::MAX.into()).map(|n| Value::U32(u32::try_from(n).unwrap_or(0))),
        "x" => number(i64::MIN.into(), i64::MAX.into()).map(|n| Value::I64(i64::try_from(n).unwrap_or(0))),
        "t" => number(0, u64::MAX.into()).map(|n| Value::U64(u64::try_from(n).unwrap_or(0))),
        "d" => rest.parse::<f64>().map(|n| Value::F64(n.to_bits())).map_err(|_| "is no number"),
        "s" => match quoted(rest)? {
            (text, "") if !text.contains('\0') => Ok(Value::Text(text)),
            _ => Err("goes on after the text"),
        },
        "as" => texts(rest).map(Value::Texts),
        _ => Err("is of no type that is known here"),
    }
}

/// The type of a value, as it is written before it or as it can be seen.
fn typed(text: &str) -> (&str, &str) {
    const WORDS: [(&str, &str); 10] = [
        ("boolean", "b"),
        ("byte", "y"),
        ("int16", "n"),
        ("uint16", "q"),
        ("int32", "i"),
        ("uint32", "u"),
        ("int64", "x"),
        ("uint64", "t"),
        ("double", "d"),
        ("string", "s"),
    ];
    if let Some((word, rest)) = text.split_once(' ') {
        if let Some(signature) = word.strip_prefix('@') {
            return (signature, rest.trim());
        }
        if let Some((_, signature)) = WORDS.iter().find(|(w, _)| *w == word) {
            return (signature, rest.trim());
        }
    }
    let kind = match text.chars().next() {
        Some('\'' | '"') => "s",
        Some('[') => "as",
        Some('-' | '+' | '0'..='9') if text.contains('.') => "d",
        Some('-' | '+' | '0'..='9') => "i",
        _ => "b",
    };
    (kind, text)
}

/// A text in quotes of either kind, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or("is no text in quotes")?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(c @ ('\\' | '\'' | '"')) => out.push(c),
                _ => return Err("has an escape that is not known here"),
            },
            c if c == quote => return Ok((out, text[i + 1..].trim_start())),
            c => out.push(c),
        }
    }
    Err("has a text without an end")
}

fn texts(text: &str) -> Result<Vec<String>, &'static str> {
    const WHY: &str = "is no list of texts";
    let mut rest = text.strip_prefix('[').ok_or(WHY)?.trim_start();
    let mut all = Vec::new();
    while rest != "]" {
        let (one, after) = quoted(rest)?;
        all.push(one);
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after == "]" => after,
            None => return Err(WHY),
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(name: &str, text: &str) -> String {
        match property(name, text) {
            Ok(p) => format!("{}={} {}", p.name, p.value, p.value.signature()),
            Err(why) => why.to_owned(),
        }
    }

    #[test]
    fn values_are_read_as_runc_reads_them() {
        let cases = [
            ("SendSIGHUP", "true", "SendSIGHUP=yes b"),
            ("CollectMode", "'inactive-or-failed'", "CollectMode=\"inactive-or-failed\" s"),
            ("CollectMode", "\"a'b\"", "CollectMode=\"a'b\" s"),
            ("TimeoutStopUSec", "uint64 5", "TimeoutStopUSec=5 t"),
            ("TimeoutStopUSec", "@t 5", "TimeoutStopUSec=5 t"),
            ("TimeoutStopUSec", "5", "TimeoutStopUSec=5 t"),
            ("TimeoutStopSec", "5", "TimeoutStopUSec=5000000 t"),
            ("TimeoutStopSec", "uint32 5", "TimeoutStopUSec=5000000 t"),
            ("TimeoutStopSec", "1.25", "TimeoutStopUSec=1250000 t"),
            ("Nice", "-5", "Nice=-5 i"),
            ("Mode", "byte 0x1f", "Mode=31 y"),
            ("After", "['a.service', 'b.service']", "After=[\"a.service\", \"b.service\"] as"),
            ("After", "@as []", "After=[] as"),
        ];
        for (name, text, said) in cases {
            assert_eq!(is(name, text), said, "{name} {text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let cases = [
            ("After", "maybe"),
            ("After", "['a"),
            ("After", "['a' 'b']"),
            ("After", "'a' 'b'"),
            ("Nice", "99999999999"),
            ("Nice", "uint32 -1"),
            ("Mode", "byte 256"),
            ("Mode", "@(ss) x"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "-1.5"),
            ("TimeoutStopSec", "'5'"),
            ("TimeoutStopUSec", "-5"),
            ("After", "'\\q'"),
            ("After", ""),
        ];
        for (name, text) in cases {
            assert!(property(name, text).is_err(), "{name} {text}");
        }
    }

    #[test]
    fn what_the_runtime_sets_is_not_to_be_set() {
        let config = br#"{"ociVersion":"1.3.0","annotations":{"org.systemd.property.Slice":"'x.slice'",
            "org.systemd.property.a b":"true","org.systemd.property.MemoryMax":"uint64 5",
            "org.systemd.property.KillMode":"'mixed'","other":"x"}}"#;
        let (spec, _) = crate::parse::config(config).unwrap();
        let mut problems = Problems::default();
        let all = properties(&spec.annotations, &["MemoryMax".to_owned()], &mut problems);
        assert_eq!(all, [Property::new("KillMode", Value::Text("mixed".to_owned()))]);
        let text = problems.to_string();
        for part in ["is for the runtime to set", "is no name of a property", "says again what linux.resources says"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains("annotations[\"org.systemd.property.Slice\"]"), "{text}");
    }
}
