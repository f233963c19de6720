//! TAP version 14: one stream, each runtime a run of points.

use std::fmt::Write as _;

use super::{Results, Row};
use crate::clause::Level;
use crate::outcome::Verdict;

/// The stream.
pub fn write(results: &Results) -> String {
    let total: usize = results.columns.iter().map(|c| c.rows.len()).sum();
    let mut out = format!("TAP version 14\n1..{total}\n");
    let mut number = 0;
    for column in &results.columns {
        let _infallible = writeln!(out, "# {}: {} on {}", column.name, column.version, results.host);
        for row in &column.rows {
            number += 1;
            point(&mut out, number, &column.name, row);
        }
    }
    out
}

/// One point. A SHOULD or MAY that is not obeyed is a TODO: seen, but no failure of the run; so is what is on purpose.
fn point(out: &mut String, number: usize, runtime: &str, row: &Row) {
    let ok = if matches!(row.verdict, Verdict::Fail | Verdict::Broken) { "not ok" } else { "ok" };
    let after = match (row.verdict, row.level) {
        (Verdict::Fail, _) if row.on_purpose.is_some() => {
            format!(" # TODO on purpose: {}", plain(row.on_purpose.as_deref().unwrap_or_default()))
        }
        (Verdict::Skip, _) => format!(" # SKIP {}", plain(&row.message)),
        (Verdict::Fail, Level::Should | Level::May) => format!(" # TODO {}", row.level.word()),
        _ => String::new(),
    };
    let name = format!("{runtime} {} [{} {}]", row.name, row.level.word(), row.clauses.join(" "));
    let _infallible = writeln!(out, "{ok} {number} - {}{after}", plain(&name));
    if ok == "not ok" {
        let text = serde_json::to_string(&row.message).unwrap_or_default();
        let _infallible = writeln!(out, "  ---\n  message: {text}\n  duration_ms: {}\n  ...", row.millis);
    }
}

/// One line without the sign that starts a directive.
fn plain(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('#', "\\#")
}

#[cfg(test)]
mod tests {
    #[test]
    fn points_directives_and_details() {
        let text = super::write(&crate::report::tests::sample());
        assert!(text.starts_with("TAP version 14\n1..6\n# a: a 1 on Linux\nok 1 - a config/one [MUST A-1]\n"));
        assert!(text.contains("not ok 2 - a config/two [SHOULD A-2] # TODO SHOULD\n  ---\n"));
        assert!(text.contains("ok 3 - a config/three [MUST A-3] # SKIP no such host\n"));
        let mut meant = crate::report::tests::sample();
        meant.columns[0].rows[1].on_purpose = Some("of #7".into());
        assert!(super::write(&meant).contains("[SHOULD A-2] # TODO on purpose: of \\#7\n"));
    }
}
