//! JUnit XML: a suite per runtime, a class per chapter. `tests/junit.xsd` is the form that consumers agree on.

use std::fmt::Write as _;

use super::{Column, Results, Row};
use crate::outcome::Verdict;

/// The document. What is not obeyed on purpose is skipped with its reason, so that a build may be held to everything else.
pub fn write(results: &Results) -> String {
    let all: Vec<Counts> = results.columns.iter().map(Counts::of).collect();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"conformance\"");
    Counts::sum(&all).write(&mut out);
    out.push_str(">\n");
    for (column, counts) in results.columns.iter().zip(&all) {
        suite(&mut out, column, counts);
    }
    out.push_str("</testsuites>\n");
    out
}

/// What consumers show without reading the cases.
#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
    millis: u64,
}

impl Counts {
    fn of(column: &Column) -> Self {
        let n = |is: fn(&Row) -> bool| column.rows.iter().filter(|r| is(r)).count();
        Self {
            tests: column.rows.len(),
            failures: n(|r| r.verdict == Verdict::Fail && r.on_purpose.is_none()),
            errors: n(|r| r.verdict == Verdict::Broken),
            skipped: n(|r| r.verdict == Verdict::Skip || r.on_purpose.is_some()),
            millis: column.rows.iter().map(|r| r.millis).sum(),
        }
    }

    fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, one| Self {
            tests: sum.tests + one.tests,
            failures: sum.failures + one.failures,
            errors: sum.errors + one.errors,
            skipped: sum.skipped + one.skipped,
            millis: sum.millis + one.millis,
        })
    }

    fn write(&self, out: &mut String) {
        let _infallible = write!(
            out,
            " tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\"",
            self.tests,
            self.failures,
            self.errors,
            self.skipped,
            seconds(self.millis)
        );
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

fn suite(out: &mut String, column: &Column, counts: &Counts) {
    let _infallible = write!(out, "  <testsuite name=\"{}\"", escape(&column.name));
    counts.write(out);
    out.push_str(">\n    <properties>\n");
    for (name, value) in [("version", &column.version), ("host", &column.host)] {
        let _infallible = writeln!(out, "      <property name=\"{name}\" value=\"{}\"/>", escape(value));
    }
    out.push_str("    </properties>\n");
    for row in &column.rows {
        case(out, &column.name, row);
    }
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, runtime: &str, row: &Row) {
    let name = row.name.split_once('/').map_or(row.name.as_str(), |(_, n)| n);
    let class = format!("{runtime}.{}", row.chapter());
    let time = seconds(row.millis);
    let _infallible =
        write!(out, "    <testcase classname=\"{}\" name=\"{}\" time=\"{time}\"", escape(&class), escape(name));
    let message = escape(&row.message);
    let inner = match (row.verdict, &row.on_purpose) {
        (Verdict::Pass, _) => {
            out.push_str("/>\n");
            return;
        }
        (Verdict::Fail, Some(why)) => format!("<skipped message=\"on purpose: {}\"/>", escape(why)),
        (Verdict::Fail, None) => format!("<failure type=\"{}\" message=\"{message}\"/>", row.level.word()),
        (Verdict::Broken, _) => format!("<error type=\"suite\" message=\"{message}\"/>"),
        (Verdict::Skip, _) => format!("<skipped message=\"{message}\"/>"),
    };
    let _infallible = writeln!(out, ">{inner}</testcase>");
}

/// Text for XML and HTML: the five signs, and nothing that XML 1.0 cannot carry (section 2.2, "Characters").
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
