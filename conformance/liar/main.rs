//! Runtimes that lie, for the suite's test of itself: `conformance-liar MODE` stands where a runtime would stand.
//!
//! A case that one of them passes is a defect of the case.

mod books;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("silent") => ExitCode::SUCCESS,
        Some("plausible") => books::answer(&args[1..], false),
        Some("bare") => books::answer(&args[1..], true),
        Some("init") => books::init(&args[1..]),
        _ => {
            let _gone = std::io::Write::write_all(&mut std::io::stderr().lock(), b"refused: invalid config: no\n");
            ExitCode::FAILURE
        }
    }
}
