//! Reads its own command line as the runtime would and says what it understood: for measuring what parsing costs.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use tare::cli::{self, Command};
use tare::log::Logger;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let invocation = match cli::parse(&argv) {
        Ok(invocation) => invocation,
        Err(rejected) => {
            Logger::open(&rejected.global).unwrap_or_else(|_| Logger::stderr()).error(&rejected.error.message);
            return ExitCode::from(rejected.error.exit_code);
        }
    };
    if let Err(message) = Logger::open(&invocation.global) {
        Logger::stderr().error(&message);
        return ExitCode::FAILURE;
    }
    let name = &invocation.name;
    let text = match &invocation.command {
        Command::Help { of } => cli::help_text(name, of.as_deref()),
        Command::Man { of } => cli::man_page(name, of.as_deref()),
        Command::Completion(shell) => cli::completion(name, *shell),
        Command::Version => cli::version_text(name),
        _ => String::new(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
