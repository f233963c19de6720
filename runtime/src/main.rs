//! The `tare` binary: see [`tare::commands::main`].
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    tare::commands::main(&std::env::args_os().collect::<Vec<OsString>>())
}
