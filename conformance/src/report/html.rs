//! The table as one page that needs nothing else: no script from elsewhere, no font, no network.

use std::fmt::Write as _;

use super::junit::escape;
use super::{Column, Results, Row, Tally};
use crate::clause::{Clause, Level};
use crate::outcome::Verdict;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn write(results: &Results) -> String {
    let mut out = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>OCI runtime conformance</title><style>{STYLE}</style></head><body>\
         <header><h1>OCI runtime conformance</h1><p>Every MUST, SHOULD and MAY of the runtime specification 1.3 for Linux, \
         held against {} on {}. <b>✓ 3</b>: all three cases of a clause are obeyed; <b>2 / 3</b>: two of them; <b>†</b>: not obeyed on \
         purpose, for a reason that is given.</p></header>",
        plural(results.columns.len()),
        escape(&results.host)
    );
    cards(&mut out, results);
    chapters(&mut out, results);
    controls(&mut out, results);
    table(&mut out, results);
    let _infallible = writeln!(out, "<script>{SCRIPT}</script></body></html>");
    out
}

const CONTROLS: &str = "<nav><input id=find type=search placeholder=\"code, words or case…\" aria-label=\"find\">\
    <label><input type=checkbox class=level value=MUST checked> MUST</label>\
    <label><input type=checkbox class=level value=SHOULD checked> SHOULD</label>\
    <label><input type=checkbox class=level value=MAY checked> MAY</label>\
    <select id=result aria-label=\"result\"><option value=all>every result</option><option value=lost>not obeyed by some</option>\
    <option value=kept>obeyed by all</option><option value=differ>runtimes differ</option>\
    <option value=meant>not obeyed on purpose</option>\
    <option value=skip>not to be told here</option><option value=none>without a case</option></select>";

/// The row of controls; the choice of chapters is that of the cases.
fn controls(out: &mut String, results: &Results) {
    out.push_str(CONTROLS);
    out.push_str("<select id=chapter aria-label=\"chapter\"><option value=\"\">every chapter</option>");
    for chapter in results.chapters() {
        let _infallible = write!(out, "<option>{}</option>", escape(chapter));
    }
    out.push_str("</select><span id=shown></span></nav>");
}

fn plural(n: usize) -> String {
    if n == 1 { "one runtime".into() } else { format!("{n} runtimes") }
}

/// A card a runtime: the share of each level as a bar.
fn cards(out: &mut String, results: &Results) {
    out.push_str("<section class=cards>");
    for column in &results.columns {
        let [name, version, host] = [&column.name, &column.version, &column.host].map(|text| escape(text));
        let _infallible = write!(out, "<article><h2>{name}</h2><p>{version}<br>{host}</p>");
        for level in [Level::Must, Level::Should, Level::May] {
            bar(out, column, level);
        }
        let (skipped, left_out) = column.skipped();
        let rest = if left_out == 0 { String::new() } else { format!(", {left_out} that were not run") };
        let _infallible = write!(out, "<p class=quiet>{skipped} cases that this host cannot tell{rest}</p>");
        on_purpose(out, column);
        failures(out, column);
        out.push_str("</article>");
    }
    out.push_str("</section>");
}

/// Cases by chapter: how many each runtime obeys of those that its host can tell.
fn chapters(out: &mut String, results: &Results) {
    out.push_str("<details class=chapters><summary>by chapter</summary><table><thead><tr><th>chapter<th>cases");
    for column in &results.columns {
        let _infallible = write!(out, "<th>{}", escape(&column.name));
    }
    out.push_str("</thead><tbody>");
    for chapter in results.chapters() {
        let all = results.columns.first().map_or(0, |c| c.of_chapter(chapter).2);
        let _infallible = write!(out, "<tr><th>{}<td>{all}", escape(chapter));
        for column in &results.columns {
            let (pass, told, _) = column.of_chapter(chapter);
            let meant = column.on_purpose().filter(|(r, _)| r.chapter() == chapter).count();
            let (class, text) = match told - pass {
                _ if told == 0 => ("none", "·".to_owned()),
                0 => ("pass", format!("{pass} / {told}")),
                lost if lost == meant => ("meant", format!("† {pass} / {told}")),
                _ => ("warn", format!("{pass} / {told}")),
            };
            let _infallible = write!(out, "<td class={class}>{text}");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></details>");
}

/// What a runtime does otherwise on purpose, with the reason; open, as it is short and nothing is to be hidden.
fn on_purpose(out: &mut String, column: &Column) {
    let count = column.on_purpose().count();
    if count == 0 {
        return;
    }
    let _infallible =
        write!(out, "<details class=lost open><summary class=meant>† {count} not obeyed on purpose</summary><ul>");
    for (row, why) in column.on_purpose() {
        let [name, title, why] = [&row.name, &row.title, why].map(escape);
        let level = row.level.word();
        let _infallible =
            write!(out, "<li><b class=meant>{level}</b> <code>{name}</code> {title}<div class=why>{why}</div></li>");
    }
    out.push_str("</ul></details>");
}

/// What else a runtime does not obey, the strongest first: what was seen, and how to see it again.
fn failures(out: &mut String, column: &Column) {
    let lost = |r: &&Row| r.is_lost() && r.on_purpose.is_none();
    let mut rows: Vec<&Row> = column.rows.iter().filter(lost).collect();
    rows.sort_by_key(|r| r.level);
    if rows.is_empty() {
        let told = column.rows.iter().filter(|r| r.verdict != Verdict::Skip).count() - column.on_purpose().count();
        let else_ = if told == 0 || column.on_purpose().next().is_none() { "" } else { "other " };
        let _infallible = write!(out, "<p class=kept>✓ obeys every {else_}case: {told} of {told}</p>");
        return;
    }
    let _infallible = write!(out, "<details class=lost><summary>{} not obeyed</summary><ul>", rows.len());
    for row in rows {
        let class = if row.level == Level::Must { "fail" } else { "warn" };
        let [name, title, message] = [&row.name, &row.title, &row.message].map(|text| escape(text));
        let _infallible = write!(
            out,
            "<li><b class={class}>{}</b> <code>{name}</code> {title}<div class=why>{message}</div><pre>{}</pre></li>",
            row.level.word(),
            escape(&again(column, row))
        );
    }
    out.push_str("</ul></details>");
}

/// The command that runs one case again and prints everything that was seen.
fn again(column: &Column, row: &Row) -> String {
    format!("conformance --runtime '{}' --show {}", column.command.join(" "), row.name)
}

fn bar(out: &mut String, column: &Column, level: Level) {
    let ok = column.count(level, Verdict::Pass);
    let lost = column.count(level, Verdict::Fail) + column.count(level, Verdict::Broken);
    let share = (ok * 1000).checked_div(ok + lost).unwrap_or(1000);
    let _infallible = write!(
        out,
        "<div class=bar><span>{}</span><meter min=0 max=1000 value={share}></meter><b>{}.{} %</b><i>{ok} of {}</i></div>",
        level.word(),
        share / 10,
        share % 10,
        ok + lost
    );
}

fn table(out: &mut String, results: &Results) {
    out.push_str("<main><table><thead><tr><th>clause<th>");
    for column in &results.columns {
        let _infallible = write!(out, "<th>{}", escape(&column.name));
    }
    out.push_str("</thead>");
    let mut section = "";
    for clause in &results.clauses {
        if clause.section != section {
            let end = if section.is_empty() { "" } else { "</tbody>" };
            section = &clause.section;
            let span = results.columns.len() + 2;
            let _infallible =
                write!(out, "{end}<tbody><tr class=section><th colspan={span}>{}</th></tr>", escape(section));
        }
        row(out, clause, results);
    }
    out.push_str("</tbody></table></main>");
}

fn row(out: &mut String, clause: &Clause, results: &Results) {
    let tallies: Vec<Tally> = results.columns.iter().map(|c| c.of_clause(&clause.code)).collect();
    let bad = |t: &Tally| t.is_lost();
    let lost = tallies.iter().any(bad);
    let differ = lost && tallies.iter().any(|t| !bad(t) && t.pass > 0);
    let none = tallies.iter().all(|t| *t == Tally::default());
    let told = tallies.iter().any(|t| t.pass + t.fail + t.broken > 0);
    let meant = tallies.iter().any(|t| t.on_purpose > 0);
    let words = [
        ("lost", lost),
        ("differ", differ),
        ("none", none),
        ("meant", meant),
        ("kept", told && !lost && !meant),
        ("skip", !told && !none),
    ];
    let result: Vec<&str> = words.iter().filter(|(_, is)| *is).map(|(word, _)| *word).collect();
    let word = clause.level.word();
    let _infallible = write!(
        out,
        "<tr class=clause data-level={word} data-result=\"{}\" data-chapter=\"{}\"><td><span class=\"tag {word}\">{word}</span><code>{}</code>\
         <td class=text>{}",
        result.join(" "),
        chapters_of(&clause.code, results).join(" "),
        escape(&clause.code),
        marked(&clause.quote)
    );
    if let Some(reason) = clause.untestable.as_ref().filter(|_| none) {
        let _infallible = write!(out, "<p class=quiet>no case: {}</p>", escape(reason));
    }
    details(out, &clause.code, results);
    for tally in tallies {
        cell(out, tally, clause.level);
    }
    out.push_str("</tr>");
}

/// The chapters that have cases of a clause.
fn chapters_of<'r>(code: &str, results: &'r Results) -> Vec<&'r str> {
    let rows = results.columns.first().into_iter().flat_map(|c| &c.rows);
    let mut all: Vec<&str> = rows.filter(|r| r.clauses.iter().any(|c| c == code)).map(Row::chapter).collect();
    all.dedup();
    all
}

/// Escaped text with what stands between back quotes as code.
fn marked(text: &str) -> String {
    let mut parts = text.split('`').enumerate().peekable();
    let mut out = String::new();
    while let Some((i, part)) = parts.next() {
        // A quote that was cut short may leave its last back quote without a partner.
        let code = i % 2 == 1 && parts.peek().is_some();
        let (open, close) = if code { ("<code>", "</code>") } else { ("", "") };
        let _infallible = write!(out, "{open}{}{close}", escape(part));
    }
    out
}

fn cell(out: &mut String, tally: Tally, level: Level) {
    let told = tally.pass + tally.fail + tally.broken;
    let (class, text) = match (told, tally.fail + tally.broken, tally.skip) {
        (0, _, 0) => ("none", "·".to_owned()),
        (0, _, n) => ("skip", format!("skipped {n}")),
        (_, 0, _) => ("pass", format!("✓ {told}")),
        _ if !tally.is_lost() => ("meant", format!("† {} / {told}", tally.pass)),
        _ => (if level == Level::Must { "fail" } else { "warn" }, format!("{} / {told}", tally.pass)),
    };
    let _infallible = write!(out, "<td class={class}>{text}");
}

/// The cases of a clause, each with its outcome for every runtime, folded away.
fn details(out: &mut String, code: &str, results: &Results) {
    let Some(first) = results.columns.first() else { return };
    let mut begun = false;
    for (i, row) in first.rows.iter().enumerate().filter(|(_, r)| r.clauses.iter().any(|c| c == code)) {
        if !begun {
            out.push_str("<details><summary>cases</summary><ul>");
            begun = true;
        }
        let _infallible = write!(out, "<li><code>{}</code> {}", escape(&row.name), escape(&row.title));
        for column in &results.columns {
            let Some(own) = column.rows.get(i).filter(|r| r.verdict != Verdict::Pass) else { continue };
            let class = match own.verdict {
                Verdict::Skip => "skip",
                _ if own.on_purpose.is_some() => "meant",
                _ if own.level == Level::Must => "fail",
                _ => "warn",
            };
            let name = escape(&column.name);
            let _infallible = write!(out, "<div class=why><b class={class}>{name}</b> {}</div>", escape(&own.message));
        }
        out.push_str("</li>");
    }
    if begun {
        out.push_str("</ul></details>");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn back_quotes_become_code() {
        assert_eq!(super::marked("a `b<` c `d"), "a <code>b&lt;</code> c d");
    }

    #[test]
    fn the_page_is_whole_and_needs_nothing_else() {
        let page = super::write(&crate::report::tests::sample());
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(!page.contains("http:") && !page.contains("https:"));
        assert!(page.contains("saw &lt;b&gt; &amp; &quot;c&quot;"));
        assert!(page.contains("no case: concerns Windows"));
        assert!(page.contains("<tr><th>config<td>3<td class=warn>1 / 2<td class=pass>2 / 2</tr>"), "{page}");
        assert_eq!(page.matches("<details").count(), page.matches("</details>").count());
        assert!(page.contains("<pre>conformance --runtime &#39;/bin/a&#39; --show config/two</pre>"), "{page}");
        assert!(page.contains("data-level=SHOULD data-result=\"lost differ\" data-chapter=\"config\""));
        assert!(page.contains("data-result=\"none\"") && page.contains("data-result=\"skip\""));
        assert!(page.contains("<p class=kept>✓ obeys every case: 2 of 2</p>"), "{page}");
    }

    #[test]
    fn what_is_on_purpose_stands_apart() {
        let mut results = crate::report::tests::sample();
        results.columns[0].rows[1].on_purpose = Some("because <b>".into());
        let page = super::write(&results);
        assert!(
            page.contains("† 1 not obeyed on purpose</summary>") && page.contains("<div class=why>because &lt;b&gt;")
        );
        assert!(page.contains("<p class=kept>✓ obeys every other case: 1 of 1</p>"), "{page}");
        assert!(page.contains("data-result=\"meant\"") && page.contains("<td class=meant>† 0 / 1"), "{page}");
        assert!(!page.contains("<td class=warn>"));
    }
}
