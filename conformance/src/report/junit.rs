//! JUnit XML: a suite per runtime, a class per chapter.

use std::fmt::Write as _;

use super::{Results, Row};
use crate::outcome::Verdict;

/// The document.
pub fn write(results: &Results) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"conformance\">\n");
    for column in &results.columns {
        let n = |v: Verdict| column.rows.iter().filter(|r| r.verdict == v).count();
        let _infallible = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            escape(&column.name),
            column.rows.len(),
            n(Verdict::Fail),
            n(Verdict::Broken),
            n(Verdict::Skip)
        );
        for row in &column.rows {
            case(&mut out, &column.name, row);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn case(out: &mut String, runtime: &str, row: &Row) {
    let name = row.name.split_once('/').map_or(row.name.as_str(), |(_, n)| n);
    let class = format!("{runtime}.{}", row.chapter());
    let time = format!("{}.{:03}", row.millis / 1000, row.millis % 1000);
    let _infallible =
        write!(out, "    <testcase classname=\"{}\" name=\"{}\" time=\"{time}\"", escape(&class), escape(name));
    let message = escape(&row.message);
    let inner = match row.verdict {
        Verdict::Pass => {
            out.push_str("/>\n");
            return;
        }
        Verdict::Fail => format!("<failure type=\"{}\" message=\"{message}\"/>", row.level.word()),
        Verdict::Broken => format!("<error message=\"{message}\"/>"),
        Verdict::Skip => format!("<skipped message=\"{message}\"/>"),
    };
    let _infallible = writeln!(out, ">{inner}</testcase>");
}

/// Text for XML and HTML: the five signs, and no control characters, which XML 1.0 cannot carry.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_and_escapes() {
        let text = super::write(&crate::report::tests::sample());
        assert!(text.contains("<testsuite name=\"a\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\">"));
        assert!(text.contains("message=\"saw &lt;b&gt; &amp; &quot;c&quot; and more\""));
        assert!(text.contains("<testcase classname=\"b.config\" name=\"one\" time=\"0.012\"/>"));
    }
}
