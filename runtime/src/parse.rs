//! From the text of a configuration to its structs.
//!
//! One pass of our own reader ([`reader`]) drives serde's derived code ([`de`]); nothing is read twice, and what costs
//! time (paths, lines, likeness of names) is worked out only when there is something to tell. A text that cannot be read is
//! read again without what is wrong with it, until all that is wrong is known. It is stricter than JSON
//! readers are wont to be, because two readers that understand one file differently are how a check is walked around:
//!
//! * the same key twice in an object is an error, and so are two properties that differ in case only, which a reader
//!   written in Go takes for one;
//! * an integer is written as an integer: `1e3` and `1.0` are refused, as Go's reader refuses them;
//! * `null` reads as absent wherever a property is optional;
//! * a byte order mark, broken UTF-8, a lone surrogate, a text behind the object, more than 4 MiB or 64 levels: errors.
//!
//! ```
//! let (spec, unknown) = tare::parse::config(br#"{"ociVersion": "1.3.0", "hostnam": "a"}"#).unwrap();
//! assert_eq!(&*spec.oci_version, "1.3.0");
//! assert_eq!(unknown[0].to_string(), "hostnam: is no property of the specification (line 1, column 25) (hint: did you mean `hostname`?)");
//!
//! let wrong = tare::parse::config(br#"{"ociVersion": "1.3.0", "mounts": [{"destination": 5}]}"#).unwrap_err();
//! assert_eq!(wrong.to_string(), "mounts[0].destination: is 5; expected a string (line 1, column 52)");
//! ```

mod de;
mod reader;
mod report;
mod string;
#[cfg(test)]
mod tests;
mod unknown;

use serde::Deserialize;

use crate::error::{Problem, Problems};
use crate::field::Field;
use crate::spec::{Mount, Process, Resources, Spec};
use reader::Reader;
use report::{ERROR_LIMIT, Found};

/// Largest text that is read, in bytes.
pub const SIZE_LIMIT: usize = 4 << 20;

/// Reads a whole `config.json`.
///
/// Out come the config, borrowed from `bytes`, and its unknown properties, which the specification wants ignored
/// (config.md, "Extensibility") and a strict reader may want to see.
///
/// # Errors
///
/// All that cannot be read, each with its field, line and column; where the text is no JSON, what comes before that.
pub fn config(bytes: &[u8]) -> Result<(Spec<'_>, Vec<Problem>), Problems> {
    read(bytes, "", "config.json")
}

/// Reads a lone process, as `exec --process` takes it. Fields are named as in a config: `process.args`.
///
/// # Errors
///
/// As those of [`config`].
pub fn process(bytes: &[u8]) -> Result<(Process<'_>, Vec<Problem>), Problems> {
    read(bytes, "process", "process")
}

/// Reads lone resources, as `update --resources` takes them. Fields are named as in a config: `linux.resources.cpu`.
///
/// # Errors
///
/// As those of [`config`].
pub fn resources(bytes: &[u8]) -> Result<(Resources<'_>, Vec<Problem>), Problems> {
    read(bytes, "linux.resources", "linux.resources")
}

/// Reads a list of mounts, as `mounts add` takes it. Fields are named as in a config: `mounts[0].source`.
///
/// # Errors
///
/// As those of [`config`].
pub fn mounts(bytes: &[u8]) -> Result<(Vec<Mount<'_>>, Vec<Problem>), Problems> {
    read(bytes, "mounts", "mounts")
}

/// Reads a `T` whose fields are named behind `root`; `whole` names the text itself.
fn read<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    root: &'static str,
    whole: &'static str,
) -> Result<(T, Vec<Problem>), Problems> {
    let text = text(bytes).map_err(|what| {
        let mut problems = Problems::default();
        problems.error(Field::new(whole), what);
        problems
    })?;
    let mut found = Found::default();
    let mut refused = Vec::new();
    loop {
        let mut reader = Reader::new(text, root);
        reader.refused = refused;
        let error = match T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)) {
            Ok(value) if found.problems.errors.is_empty() => return Ok((value, reader.unknown)),
            Ok(_) => return Err(found.problems),
            Err(error) => error,
        };
        let Some(offset) = reader.report(error, whole, &mut found) else { return Err(found.problems) };
        if found.problems.errors.len() >= ERROR_LIMIT {
            found.problems.error(Field::new(whole), format!("may have more errors than these {ERROR_LIMIT}"));
            return Err(found.problems);
        }
        refused = reader.refused;
        refused.push(offset);
    }
}

/// The bytes as text, or why they are none.
fn text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > SIZE_LIMIT {
        return Err(format!("is {} bytes long; {SIZE_LIMIT} is the limit", bytes.len()));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err("begins with a byte order mark; write it as plain UTF-8".to_owned());
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("is UTF-16; write it as UTF-8".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let (line, column) = position(bytes, e.valid_up_to());
        format!("is not UTF-8 (line {line}, column {column})")
    })?;
    if text.trim_ascii().is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text)
}

/// Line and column, from 1 and the column in bytes, of an offset.
fn position(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    (before.iter().filter(|b| **b == b'\n').count() + 1, before.len() - line_start + 1)
}
