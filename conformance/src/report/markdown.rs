//! The table clause × runtime as Markdown. A dagger marks what is not obeyed on purpose.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Results, Tally};
use crate::clause::Level;
use crate::outcome::Verdict;

/// Summary, then one table a section, then what was not obeyed and why.
pub fn write(results: &Results) -> String {
    let mut out = "In a cell: cases obeyed / cases that the host can tell.\n\n".to_owned();
    summary(&mut out, results);
    on_purpose(&mut out, results);
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
            let meant = column.on_purpose().filter(|(r, _)| r.level == level).count();
            if meant == 0 { format!("{ok} / {all}") } else { format!("{ok} / {all} ({meant} †)") }
        };
        let skipped = match column.skipped() {
            (skipped, 0) => skipped.to_string(),
            (skipped, left_out) => format!("{skipped}; {left_out} not run"),
        };
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

/// What is not obeyed on purpose, with the reason, and whether there is anything else.
fn on_purpose(out: &mut String, results: &Results) {
    let columns: Vec<_> = results.columns.iter().filter(|c| c.on_purpose().next().is_some()).collect();
    if columns.is_empty() {
        return;
    }
    out.push_str("\n† On purpose:\n\n| case | level | runtimes | why |\n| --- | --- | --- | --- |\n");
    let mut rows: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for column in &columns {
        for (row, why) in column.on_purpose() {
            rows.entry((&row.name, row.level.word(), why)).or_default().push(&column.name);
        }
    }
    for ((name, level, why), names) in rows {
        let _infallible = writeln!(out, "| `{name}` | {level} | {} | {} |", names.join(", "), plain(why));
    }
    out.push('\n');
    for column in columns {
        let told = column.rows.iter().filter(|r| r.verdict != Verdict::Skip).count();
        let meant = column.on_purpose().count();
        let other = column.rows.iter().filter(|r| r.is_lost()).count() - meant;
        let rest = if other == 0 {
            format!("obeys every other case, {0} of {0}", told - meant)
        } else {
            format!("does not obey {other} of the {} other cases", told - meant)
        };
        let _infallible = writeln!(out, "* {} {rest}.", column.name);
    }
}

/// Text in a cell.
fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '<'], " ")
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
        let all = results.columns.first().map_or(0, |c| c.of_chapter(chapter).2);
        let _infallible = write!(out, "| {chapter} | {all} |");
        for column in &results.columns {
            let (pass, told, _) = column.of_chapter(chapter);
            let mark = if column.on_purpose().any(|(r, _)| r.chapter() == chapter) { " †" } else { "" };
            let _infallible = write!(out, " {pass} / {told}{mark} |");
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
        _ if !tally.is_lost() => format!("† {}/{told}", tally.pass),
        _ => format!("{} {}/{told}", if level == Level::Must { "✗" } else { "△" }, tally.pass),
    }
}

fn failures(out: &mut String, results: &Results) {
    for column in &results.columns {
        let lost: Vec<_> = column.rows.iter().filter(|r| r.is_lost()).collect();
        if lost.is_empty() {
            continue;
        }
        let _infallible = writeln!(
            out,
            "\n### Not obeyed by {}\n\n| case | level | what was seen |\n| --- | --- | --- |",
            column.name
        );
        for row in lost {
            let message: String = plain(&row.message).chars().take(240).collect();
            let mark = if row.on_purpose.is_some() { " †" } else { "" };
            let _infallible = writeln!(out, "| `{}`{mark} | {} | {message} |", row.name, row.level.word());
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

    #[test]
    fn what_is_on_purpose_is_counted_apart() {
        let mut results = crate::report::tests::sample();
        results.columns[0].rows[1].on_purpose = Some("because | of".into());
        let text = super::write(&results);
        assert!(text.contains("| a (a 1) | Linux | 1 / 1 | 0 / 1 (1 †) | 0 / 0 | 1 |"), "{text}");
        assert!(
            text.contains("| `config/two` | SHOULD | a | because \\| of |\n\n* a obeys every other case, 1 of 1.\n")
        );
        assert!(text.contains("| † 0/1 | ✓ 1 |") && text.contains("| `config/two` † | SHOULD | saw"), "{text}");
        assert!(text.contains("| config | 3 | 1 / 2 † | 2 / 2 |"));
        results.columns[0].rows[0].verdict = crate::outcome::Verdict::Fail;
        assert!(super::write(&results).contains("* a does not obey 1 of the 1 other cases."));
    }
}
