//! The entry: words in, one action, words out, one exit code.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use containerd_shim_tare::cli::{Action, Arguments};
use containerd_shim_tare::{delete, info, start};

fn main() -> ExitCode {
    let done = Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments));
    match done {
        Ok(answer) => match print(&answer) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(text) => {
            warn(&text);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<u8>, String> {
    match arguments.action() {
        Some(Action::Start) => {
            let answer = start::start(arguments)?;
            print(&answer.text).map_err(|e| format!("standard output: {e}"))?;
            answer.delivered();
            Ok(Vec::new())
        }
        Some(Action::Delete) => {
            let (answer, warnings) = delete::delete(arguments)?;
            warnings.iter().for_each(|text| warn(text));
            Ok(answer)
        }
        Some(Action::Info) => info::info(),
        Some(Action::Version) => {
            Ok(format!("containerd-shim-tare-v2:\n  Version:  {}\n", env!("CARGO_PKG_VERSION")).into_bytes())
        }
        None => Err("an action is missing (known: start, delete)".to_owned()),
    }
}

fn print(answer: &[u8]) -> std::io::Result<()> {
    std::io::stdout().write_all(answer).and_then(|()| std::io::stdout().flush())
}

/// Engines show the standard error of an action; if it is closed, nobody reads it.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "containerd-shim-tare-v2: {text}");
}
