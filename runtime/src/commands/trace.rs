//! `trace`: `run`, and where the time went.

use std::fs::File;
use std::io::Write as _;
use std::rc::Rc;

use super::{Context, Failure, Outcome, create};
use crate::cli;
use crate::container::trace::Trace;
use crate::container::{Error, Result};
use crate::sys::io_text;

/// `trace`: told as soon as the program runs, or when something has failed.
pub(super) fn trace(cx: &Context, ask: cli::Trace) -> Outcome {
    let open = |path: &std::path::PathBuf| {
        File::create(path).map_err(|e| Error::new(format!("--output {}: {}", path.display(), io_text(&e))))
    };
    let file = ask.output.as_ref().map(open).transpose()?;
    let trace = Trace::begin();
    let mut told = None;
    let outcome = create::run_traced(cx, ask.run, Some(Rc::clone(&trace)), &mut || {
        told = Some(tell(&trace, ask.json, file.as_ref()));
    });
    let told = told.unwrap_or_else(|| tell(&trace, ask.json, file.as_ref()));
    let code = outcome?;
    told.map_err(Failure::from)?;
    Ok(code)
}

/// To a file, or to standard error, as standard output is the program's.
fn tell(trace: &Trace, json: bool, file: Option<&File>) -> Result<()> {
    let report = trace.report();
    let text = if json {
        serde_json::to_string_pretty(&report).map_err(|e| Error::new(e.to_string()))? + "\n"
    } else {
        report.text()
    };
    // In one piece, that no line of the program's comes between.
    let written = match file {
        Some(mut file) => file.write_all(text.as_bytes()),
        None => std::io::stderr().write_all(text.as_bytes()),
    };
    written.map_err(|e| Error::new(format!("cannot write the trace: {}", io_text(&e))))
}
