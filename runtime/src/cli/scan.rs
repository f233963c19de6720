//! Go-style flags: one dash or two, `--name value`, `--name=value`, `--switch`, `--switch=false`; `--` ends them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::table::Flag;
use super::{UsageError, value};

/// A flag that was given.
#[derive(Debug)]
struct Given<'a> {
    flag: &'static Flag,
    /// The name that was used.
    spelled: &'static str,
    /// Its value; of a switch `true` or `false` in one of Go's spellings.
    value: &'a OsStr,
}

/// Flags and operands of a command line, or of its part before the command.
#[derive(Debug, Default)]
pub(super) struct Parsed<'a> {
    given: Vec<Given<'a>>,
    /// What is no flag.
    pub(super) operands: Vec<&'a OsStr>,
    pub(super) help: bool,
    pub(super) version: bool,
}

/// Reads `argv` against `flags`. With `trailing`, the first operand ends the flags, and all from it on is an operand.
pub(super) fn scan<'a>(
    argv: &[&'a OsStr],
    flags: impl Iterator<Item = &'static Flag> + Clone,
    trailing: bool,
) -> Result<Parsed<'a>, UsageError> {
    let mut parsed = Parsed::default();
    let mut rest = argv.iter().copied();
    while let Some(arg) = rest.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            parsed.operands.extend(rest);
            break;
        }
        // A lone dash is an operand: "standard input".
        if bytes.first() != Some(&b'-') || bytes.len() == 1 {
            parsed.operands.push(arg);
            if trailing {
                parsed.operands.extend(rest);
                break;
            }
            continue;
        }
        let (name, attached) = split(arg)?;
        let (flag, spelled) = find(name, flags.clone())
            .ok_or_else(|| UsageError::new(format!("flag provided but not defined: -{}", name.to_string_lossy())))?;
        let value = match (flag.value, attached) {
            (None, None) => OsStr::new("true"),
            (None, Some(value)) => checked_truth(spelled, value)?,
            (Some(_), Some(value)) => value,
            (Some(_), None) => {
                rest.next().ok_or_else(|| UsageError::new(format!("flag needs an argument: -{spelled}")))?
            }
        };
        parsed.note(flag, spelled, value);
    }
    Ok(parsed)
}

/// Splits `--name=value` into its name and what stands behind the equals sign.
fn split(arg: &OsStr) -> Result<(&OsStr, Option<&OsStr>), UsageError> {
    let bytes = arg.as_bytes();
    let name = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).unwrap_or(bytes);
    if matches!(name.first(), None | Some(b'-' | b'=')) {
        return Err(UsageError::new(format!("bad flag syntax: {}", arg.to_string_lossy())));
    }
    Ok(match name.iter().position(|b| *b == b'=') {
        Some(at) => (OsStr::from_bytes(&name[..at]), Some(OsStr::from_bytes(&name[at + 1..]))),
        None => (OsStr::from_bytes(name), None),
    })
}

fn find(name: &OsStr, mut flags: impl Iterator<Item = &'static Flag>) -> Option<(&'static Flag, &'static str)> {
    flags.find_map(|flag| flag.names.iter().find(|known| name == **known).map(|known| (flag, *known)))
}

fn checked_truth<'a>(name: &str, value: &'a OsStr) -> Result<&'a OsStr, UsageError> {
    if value::truth(value.as_bytes()).is_some() {
        return Ok(value);
    }
    Err(UsageError::new(format!("invalid boolean value {:?} for -{name}: parse error", value.to_string_lossy())))
}

/// `invalid value "x" for flag -name: parse error`, as Go's flag package says it.
pub(super) fn invalid(name: &str, value: &OsStr) -> UsageError {
    UsageError::new(format!("invalid value {:?} for flag -{name}: parse error", value.to_string_lossy()))
}

impl<'a> Parsed<'a> {
    fn note(&mut self, flag: &'static Flag, spelled: &'static str, value: &'a OsStr) {
        let on = || value::truth(value.as_bytes()) == Some(true);
        match flag.names[0] {
            "help" => self.help = on(),
            "version" => self.version = on(),
            _ => self.given.push(Given { flag, spelled, value }),
        }
    }

    fn each(&self, name: &'static str) -> impl Iterator<Item = &Given<'a>> {
        self.given.iter().filter(move |given| given.flag.names[0] == name)
    }

    fn last(&self, name: &'static str) -> Option<&Given<'a>> {
        self.each(name).last()
    }

    /// Whether the switch is on; the last one counts.
    pub(super) fn switch(&self, name: &'static str) -> bool {
        self.last(name).is_some_and(|given| value::truth(given.value.as_bytes()) == Some(true))
    }

    /// A path; an empty one is none.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.last(name).filter(|given| !given.value.is_empty()).map(|given| PathBuf::from(given.value))
    }

    /// Text, which has to be UTF-8; an empty one is none.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, UsageError> {
        self.read(name, Some).map(|text| text.filter(|text| !text.is_empty()))
    }

    /// What `read` makes of the last value of a flag.
    pub(super) fn read<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, UsageError> {
        let Some(given) = self.last(name) else { return Ok(None) };
        given.value.to_str().and_then(read).map(Some).ok_or_else(|| invalid(given.spelled, given.value))
    }

    /// A number that fits `T`.
    pub(super) fn number<T: TryFrom<i128>>(&self, name: &'static str) -> Result<Option<T>, UsageError> {
        self.read(name, |text| value::integer(text).and_then(|number| T::try_from(number).ok()))
    }

    /// What `read` makes of every value of a flag, in the order given; its error is the message.
    pub(super) fn every<T>(
        &self,
        name: &'static str,
        read: impl Fn(&'a str) -> Result<T, String>,
    ) -> Result<Vec<T>, UsageError> {
        let one = |given: &Given<'a>| match given.value.to_str() {
            Some(text) => read(text).map_err(UsageError::new),
            None => Err(invalid(given.spelled, given.value)),
        };
        self.each(name).map(one).collect()
    }

    /// Every value of a flag, in the order given, as bytes.
    pub(super) fn every_raw(&self, name: &'static str) -> Vec<OsString> {
        self.each(name).map(|given| given.value.to_owned()).collect()
    }
}
