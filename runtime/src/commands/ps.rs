//! `ps`: the container's processes, as ps(1) of the host shows them.

use std::process::{Command, Stdio};

use super::{Context, Outcome};
use crate::cli::{Format, Ps};
use crate::container::{self, Error};
use crate::sys::io_text;
use crate::table;

/// `ps`.
#[inline(never)]
pub(super) fn ps(cx: &Context, ask: &Ps) -> Outcome {
    let pids = container::processes(&cx.root().0, &ask.id)?;
    if ask.format == Format::Json {
        return cx.print(&table::ps_json(&pids));
    }
    let mut command = Command::new("ps");
    if ask.args.is_empty() {
        command.arg("-ef");
    }
    let output = command.args(&ask.args).stdin(Stdio::null()).output();
    let output = output
        .map_err(|e| Error::new(format!("ps(1) of the host: {} (hint: --format json does without it)", io_text(&e))))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("ps: {}: {}", output.status, said.trim())).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    cx.print(&table::ps_filter(&text, &pids).map_err(Error::new)?)
}
