//! The table clause × runtime as Markdown.

use std::fmt::Write as _;

use super::{Results, Tally};
use crate::clause::Level;
use crate::outcome::Verdict;

/// Summary, then one table a section, then what was not obeyed and why.
pub fn write(results: &Results) -> String {
    let mut out = "In a cell: cases obeyed / cases that the host can tell.\n\n".to_owned();
    summary(&mut out, results);
    chapters(&mut out, results);
    without_case(&mut out, results);
    passed_by_none(&mut out, results);
    let mut section = "";
    for clause in &results.clauses {
        if clause.section != section {
            section = &clause.section;
            head(&mut out, section, results);
        }
        let quote = clause.quote.replace('|', "\\|").replace('<', "&lt;");
        let _infallible = write!(out, "| `{}` | {} | {quote} |", clause.code, clause.level.word());
        for column in &results.columns {
            let tally = column.of_clause(&clause.code);
            let cell = match &clause.untestable {
                Some(_) if tally == Tally::default() => "–".to_owned(),
                _ => cell(tally, clause.level),
            };
            let _infallible = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    failures(&mut out, results);
    out
}

fn summary(out: &mut String, results: &Results) {
    out.push_str("| runtime | host | MUST | SHOULD | MAY | skipped |\n| --- | --- | --- | --- | --- | --- |\n");
    for column in &results.columns {
        let part = |level| {
            let ok = column.count(level, Verdict::Pass);
            let all = ok + column.count(level, Verdict::Fail) + column.count(level, Verdict::Broken);
            format!("{ok} / {all}")
        };
        let skipped = column.rows.iter().filter(|r| r.verdict == Verdict::Skip).count();
        let _infallible = writeln!(
            out,
            "| {} ({}) | {} | {} | {} | {} | {skipped} |",
            column.name,
            column.version,
            column.host,
            part(Level::Must),
            part(Level::Should),
            part(Level::May)
        );
    }
}

/// The clauses that no case can hold a runtime to, by the reason.
fn without_case(out: &mut String, results: &Results) {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for clause in &results.clauses {
        let Some(why) = clause.untestable.as_deref() else { continue };
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, codes)) => codes.push(&clause.code),
            None => reasons.push((why, vec![&clause.code])),
        }
    }
    let count: usize = reasons.iter().map(|(_, codes)| codes.len()).sum();
    let held = results.clauses.len() - count;
    let _infallible =
        writeln!(out, "\n### {count} clauses without a case, {held} with cases\n\n| why | clauses |\n| --- | --- |");
    for (why, codes) in reasons {
        let _infallible = writeln!(out, "| {why} | `{}` |", codes.join("` `"));
    }
}

/// The cases that somebody fails and nobody passes: each is a defect of the case until the sentence was read again.
fn passed_by_none(out: &mut String, results: &Results) {
    let rows = results.nobody_passes();
    if rows.is_empty() || results.columns.len() < 2 {
        return;
    }
    out.push_str("\n### Cases that none of these passes\n\n| case | level | sentence |\n| --- | --- | --- |\n");
    for row in rows {
        let clause = results.clauses.iter().find(|c| row.clauses.contains(&c.code));
        let quote = clause.map_or("", |c| &c.quote).replace('|', "\\|").replace('<', "&lt;");
        let note = row.note.as_ref().map(|note| format!(" *{note}*")).unwrap_or_default();
        let _infallible = writeln!(out, "| `{}`: {} | {} | {quote}{note} |", row.name, row.title, row.level.word());
    }
}

/// Cases obeyed of those that could be told, by chapter.
fn chapters(out: &mut String, results: &Results) {
    let names: String = results.columns.iter().map(|c| format!(" {} |", c.name)).collect();
    let rules = " --- |".repeat(results.columns.len());
    let _infallible = writeln!(out, "\n| chapter | cases |{names}\n| --- | --- |{rules}");
    for chapter in results.chapters() {
        let mine = |c: &'_ super::Column| c.rows.iter().filter(|r| r.chapter() == chapter).cloned().collect::<Vec<_>>();
        let all = results.columns.first().map_or(0, |c| mine(c).len());
        let _infallible = write!(out, "| {chapter} | {all} |");
        for column in &results.columns {
            let rows = mine(column);
            let pass = rows.iter().filter(|r| r.verdict == Verdict::Pass).count();
            let told = rows.iter().filter(|r| r.verdict != Verdict::Skip).count();
            let _infallible = write!(out, " {pass} / {told} |");
        }
        out.push('\n');
    }
}

fn head(out: &mut String, section: &str, results: &Results) {
    let names: String = results.columns.iter().map(|c| format!(" {} |", c.name)).collect();
    let rules = " --- |".repeat(results.columns.len());
    let _infallible = writeln!(out, "\n### {section}\n\n| code | level | clause |{names}\n| --- | --- | --- |{rules}");
}

fn cell(tally: Tally, level: Level) -> String {
    let told = tally.pass + tally.fail + tally.broken;
    match (told, tally.fail + tally.broken, tally.skip) {
        (0, _, 0) => "no case".into(),
        (0, _, _) => "skipped".into(),
        (_, 0, _) => format!("✓ {told}"),
        _ => format!("{} {}/{told}", if level == Level::Must { "✗" } else { "△" }, tally.pass),
    }
}

fn failures(out: &mut String, results: &Results) {
    for column in &results.columns {
        let lost: Vec<_> =
            column.rows.iter().filter(|r| matches!(r.verdict, Verdict::Fail | Verdict::Broken)).collect();
        if lost.is_empty() {
            continue;
        }
        let _infallible = writeln!(
            out,
            "\n### Not obeyed by {}\n\n| case | level | what was seen |\n| --- | --- | --- |",
            column.name
        );
        for row in lost {
            let message: String = row.message.replace('|', "\\|").replace(['\n', '<'], " ").chars().take(240).collect();
            let _infallible = writeln!(out, "| `{}` | {} | {message} |", row.name, row.level.word());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_say_what_is_known() {
        let text = super::write(&crate::report::tests::sample());
        assert!(text.contains("| a (a 1) | Linux | 1 / 1 | 0 / 1 | 0 / 0 | 1 |"));
        assert!(text.contains("| `A-2` | SHOULD | A &lt;directory> MUST exist \\| here | △ 0/1 | ✓ 1 |"));
        assert!(text.contains("| `A-3` | MUST | A &lt;directory> MUST exist \\| here | skipped | skipped |"));
        assert!(text.contains("| – | – |"));
        assert!(text.contains("\n### 1 clauses without a case, 3 with cases\n\n| why | clauses |\n| --- | --- |\n| concerns Windows | `A-4` |"));
        assert!(text.contains("| config | 3 | 1 / 2 | 2 / 2 |") && !text.contains("none of these"));
        let mut results = crate::report::tests::sample();
        results.columns[1].rows[1].verdict = crate::outcome::Verdict::Fail;
        assert!(super::write(&results).contains("| `config/two`: about two | SHOULD |"));
    }
}
