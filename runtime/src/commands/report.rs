//! `diff`, `gc` and `doctor`: what is, in words or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Context, Outcome};
use crate::cli::Report;
use crate::container::{self, Error};
use crate::host::doctor::{self, Verdict};

/// Prints a list, as JSON or a line for each; nothing at all is `none`.
fn print<T: Serialize>(cx: &Context, json: bool, list: &[T], none: &str, line: impl Fn(&T) -> String) -> Outcome {
    if json {
        let text = serde_json::to_string_pretty(list).map_err(|e| Error::new(e.to_string()))?;
        return cx.print(&(text + "\n"));
    }
    let mut text = String::new();
    for entry in list {
        let _ = writeln!(text, "{}", line(entry));
    }
    cx.print(if list.is_empty() { none } else { &text })
}

/// `diff`: as diff(1), 1 where something differs.
pub(super) fn diff(cx: &Context, ask: &Report) -> Outcome {
    let drift = container::diff::diff(&cx.root().0, &ask.id)?;
    let line = |d: &container::diff::Drift| format!("{}: planned {}, is {}", d.what, d.planned, d.is);
    print(cx, ask.json, &drift, "as planned\n", line)?;
    Ok(if drift.is_empty() { 0 } else { 1 })
}

/// `gc`.
pub(super) fn gc(cx: &Context, dry_run: bool) -> Outcome {
    let found = container::gc::gc(&cx.root().0, dry_run)?;
    let mut text = String::new();
    for garbage in &found {
        let done = if dry_run { "would remove" } else { "removed" };
        let _ = match &garbage.left {
            None => writeln!(text, "{done} {}: it {}", garbage.id, garbage.why),
            Some(left) => writeln!(text, "could not remove {}: {left}", garbage.id),
        };
    }
    cx.print(&text)?;
    Ok(if found.iter().all(|f| f.left.is_none()) { 0 } else { 1 })
}

/// `doctor`: 1 where something is missing without which containers cannot be made.
pub(super) fn doctor(cx: &Context, json: bool) -> Outcome {
    let found = doctor::examine();
    let line = |f: &doctor::Finding| {
        let hint = if f.hint.is_empty() { String::new() } else { format!("  ({})", f.hint) };
        format!("{:<8} {:<22} {}{hint}", f.verdict.word(), f.what, f.is)
    };
    print(cx, json, &found, "", line)?;
    let ill = found.iter().any(|f| f.verdict == Verdict::Missing);
    Ok(if ill { 1 } else { 0 })
}
