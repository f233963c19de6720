//! `conformance`: see `conformance --help`.

use std::process::ExitCode;

use conformance::{cli, worker};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(worker::ENTER) => worker::enter(&args[1..]),
        Some(worker::RUN) => worker::run(),
        Some(worker::EXEC) => worker::exec(&args[1..]),
        _ => cli::main(&args),
    }
}
