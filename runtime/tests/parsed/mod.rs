//! Command lines as tests write them, and what becomes of them.

use std::ffi::OsString;

use tare::cli::*;

/// The words of a line; `''` is an empty one.
pub(crate) fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(|word| if word == "''" { OsString::new() } else { word.into() }).collect()
}

/// What a line asks for.
pub(crate) fn read(line: &str) -> Invocation {
    match parse(&words(&format!("/usr/bin/tare {line}"))) {
        Ok(invocation) => invocation,
        Err(rejected) => panic!("{line}: {}", rejected.error),
    }
}

/// The command of it alone.
pub(crate) fn command(line: &str) -> Command {
    read(line).command
}

/// Why a line is refused, and the exit code.
pub(crate) fn error(line: &str) -> (String, u8) {
    match parse(&words(&format!("runc {line}"))) {
        Ok(invocation) => panic!("{line}: {invocation:?}"),
        Err(rejected) => (rejected.error.message, rejected.error.exit_code),
    }
}
