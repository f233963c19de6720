//! What a runtime does otherwise on purpose: a file of case names, each below the comment that says why.
//!
//! Such a case stays not obeyed in every count. It is marked and counted apart, so that a reader sees what else there is.

use std::collections::BTreeMap;

use super::{Column, Results};
use crate::case::Case;
use crate::outcome::Verdict;

/// Case name → why the runtime does not obey it.
pub type Known = BTreeMap<String, String>;

/// Reads `# reason` paragraphs, each with the names of cases below it. An empty line ends a paragraph that no name followed.
///
/// # Errors
/// A name without a reason, or that stands twice, or of no case: with its line.
pub fn parse(text: &str, cases: &[Case]) -> Result<Known, String> {
    let mut known = Known::new();
    let mut reason = String::new();
    let mut named = false;
    for (i, line) in text.lines().map(str::trim).enumerate() {
        let wrong = |what: &str| format!("line {}: {line}: {what}", i + 1);
        if let Some(words) = line.strip_prefix('#') {
            if std::mem::take(&mut named) {
                reason.clear();
            }
            if !reason.is_empty() {
                reason.push(' ');
            }
            reason.push_str(words.trim());
        } else if line.is_empty() {
            reason.clear();
        } else if reason.is_empty() {
            return Err(wrong("has no reason: a comment right above it"));
        } else if !cases.iter().any(|c| c.name == line) {
            return Err(wrong("no such case"));
        } else if known.insert(line.to_owned(), reason.clone()).is_some() {
            return Err(wrong("stands twice"));
        } else {
            named = true;
        }
    }
    Ok(known)
}

/// Marks the cases that the runtime `name` fails on purpose: in the column of that name, and in those of that name on several
/// hosts, `name-…`.
///
/// # Errors
/// There is no such column.
pub fn mark(results: &mut Results, name: &str, known: &Known) -> Result<(), String> {
    let is_its =
        |c: &&mut Column| c.name == name || c.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    let mut found = false;
    for column in results.columns.iter_mut().filter(is_its) {
        found = true;
        for row in column.rows.iter_mut().filter(|r| r.verdict == Verdict::Fail) {
            row.on_purpose = known.get(&row.name).cloned();
        }
    }
    if found { Ok(()) } else { Err(format!("--known {name}=…: no runtime of that name")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    fn cases() -> Vec<Case> {
        ["config/one", "config/two"].map(|name| Case { name: name.into(), ..Case::default() }).into()
    }

    #[test]
    fn a_reason_is_the_comment_above() {
        let text = "# about the file\n\n# because of\n# this\nconfig/one\n# or that\nconfig/two\n";
        let known = parse(text, &cases()).unwrap();
        assert_eq!(known["config/one"], "because of this");
        assert_eq!(known["config/two"], "or that");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let wrong = |text: &str| parse(text, &cases()).unwrap_err();
        assert_eq!(wrong("# about\n\nconfig/one\n"), "line 3: config/one: has no reason: a comment right above it");
        assert_eq!(wrong("# why\nconfig/three\n"), "line 2: config/three: no such case");
        assert_eq!(wrong("# why\nconfig/one\nconfig/one\n"), "line 3: config/one: stands twice");
    }

    #[test]
    fn only_what_fails_is_marked_and_only_in_the_runtime_s_columns() {
        let mut results = sample();
        let known = parse("# why\nconfig/one\nconfig/two\n", &cases()).unwrap();
        mark(&mut results, "a", &known).unwrap();
        assert_eq!(results.columns[0].rows[1].on_purpose.as_deref(), Some("why"));
        assert!(results.columns[0].rows[0].on_purpose.is_none(), "it passes");
        assert!(results.columns[1].rows.iter().all(|r| r.on_purpose.is_none()));
        assert!(mark(&mut results, "c", &known).unwrap_err().contains("no runtime"));
        results.columns[1].name = "a-v2".into();
        results.columns[1].rows[1].verdict = Verdict::Fail;
        mark(&mut results, "a", &known).unwrap();
        assert!(results.columns[1].rows[1].on_purpose.is_some());
    }
}
