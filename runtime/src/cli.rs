//! Arguments → request: `argv` as engines write it, in Go's style, into one checked [`Invocation`].
//!
//! One static table of commands and flags (`table`) feeds the parser, help, completion and manual pages. Parsing
//! looks up the command first and reads only that command's flags. No file is touched here.

mod complete;
mod global;
mod help;
mod man;
mod request;
mod scan;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod verbs;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

pub use complete::completion;
pub use global::*;
pub use help::{help_text, version_text};
pub use man::man_page;
pub use request::*;
use scan::scan;
use table::{Arity, GLOBAL, Verb};
pub use value::{SubCgroup, User, parse_signal, validate_id};

/// What the program calls itself where `argv[0]` says nothing.
pub const PROGRAM: &str = "tare";

/// A command line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError {
    /// The sentence to log, in the words that runc has for it.
    pub message: String,
    /// The exit code: 1, but 3 for an unknown command and 255 for an `exec` of nothing.
    pub exit_code: u8,
}

impl UsageError {
    fn new(message: impl Into<String>) -> Self {
        UsageError { message: message.into(), exit_code: 1 }
    }
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UsageError {}

/// An error of the command line, with what of it was understood before: an engine that said `--log` gets the error there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The options before the command; the default ones where they are what is wrong.
    pub global: Global,
    /// What is wrong.
    pub error: UsageError,
    /// The base name of `argv[0]`.
    pub name: String,
}

/// Reads a command line, `argv[0]` included.
///
/// # Errors
/// The first thing that is wrong: an unknown flag or command, a missing value, too many or too few arguments, a value
/// that cannot be read, an id that is none.
///
/// ```
/// use tare::cli::{Command, Delete, parse};
/// let argv = ["tare", "delete", "web", "-force"].map(Into::into);
/// let asked = parse(&argv).map(|invocation| invocation.command);
/// assert_eq!(asked, Ok(Command::Delete(Delete { id: "web".into(), force: true })));
/// ```
pub fn parse(argv: &[OsString]) -> Result<Invocation, Box<Rejected>> {
    let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
    let name = program_name(argv.first().unwrap_or(&OsStr::new("")));
    let rejected = |global: &Global, error| Box::new(Rejected { global: global.clone(), error, name: name.clone() });
    let unread = Global::default();
    let before = scan(argv.get(1..).unwrap_or_default(), GLOBAL.iter(), true).map_err(|e| rejected(&unread, e))?;
    let global = verbs::global(&before).map_err(|e| rejected(&unread, e))?;
    let command = match before.operands.split_first() {
        _ if before.help => Command::Help { of: None },
        _ if before.version => Command::Version,
        None => Command::Help { of: None },
        Some((verb, rest)) => read_command(&name, verb, rest).map_err(|e| rejected(&global, e))?,
    };
    Ok(Invocation { global, command, name })
}

fn read_command(name: &str, verb: &OsStr, rest: &[&OsStr]) -> Result<Command, UsageError> {
    let verb = known_verb(verb)?;
    let parsed = scan(rest, verb.all_flags(), verb.trailing)?;
    if parsed.help {
        return Ok(Command::Help { of: Some(verb.name.to_owned()) });
    }
    check_arity(name, verb, parsed.operands.len())?;
    (verb.build)(&parsed)
}

/// The command of that name; `h` is help's other one.
fn known_verb(name: &OsStr) -> Result<&'static Verb, UsageError> {
    let wanted = if name == "h" { OsStr::new("help") } else { name };
    table::verb(wanted.as_bytes()).ok_or_else(|| {
        let message = format!("No help topic for '{}'", name.to_string_lossy());
        UsageError { exit_code: 3, ..UsageError::new(message) }
    })
}

fn check_arity(name: &str, verb: &Verb, given: usize) -> Result<(), UsageError> {
    let (bound, wanted) = match verb.arity {
        Arity::Exactly(wanted) if given != wanted => ("exactly", wanted),
        Arity::AtLeast(wanted) | Arity::Between(wanted, _) if given < wanted => ("a minimum of", wanted),
        Arity::Between(_, wanted) if given > wanted => ("a maximum of", wanted),
        _ => return Ok(()),
    };
    Err(UsageError::new(format!("{name}: {:?} requires {bound} {wanted} argument(s)", verb.name)))
}

/// The base name of `argv[0]`, so that a link named `runc` is runc in every message.
fn program_name(argv0: &OsStr) -> String {
    let base = argv0.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
    if base.is_empty() { PROGRAM.to_owned() } else { String::from_utf8_lossy(base).into_owned() }
}
