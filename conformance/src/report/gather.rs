//! Results of several runs, and of several hosts, in one: each column keeps its host.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, NOT_RUN, Results, Row};
use crate::case::Case;
use crate::clause::Clause;
use crate::outcome::Verdict;

/// Puts together what `--json` wrote. Runs of one runtime on one host add up; of a case that ran twice the later outcome counts.
///
/// # Errors
/// A file that is no such result; the message names it.
pub fn gather(files: &[(String, String)], clauses: Vec<Clause>, cases: &[Case]) -> Result<Results, String> {
    let mut columns: Vec<Column> = Vec::new();
    for (name, text) in files {
        let results: Results = serde_json::from_str(text).map_err(|e| format!("{name}: {e}"))?;
        for column in results.columns {
            let same = |c: &&mut Column| c.name == column.name && c.version == column.version && c.host == column.host;
            match columns.iter_mut().find(same) {
                Some(known) => known.rows.extend(column.rows),
                None => columns.push(column),
            }
        }
    }
    for column in &mut columns {
        align(column, cases, &clauses);
    }
    let hosts: BTreeSet<&str> = columns.iter().map(|c| c.host.as_str()).collect();
    let host = hosts.into_iter().collect::<Vec<_>>().join("; ");
    Ok(Results { clauses, columns, host })
}

/// Every case once, in the suite's order, so that the rows of all columns stand beside each other.
fn align(column: &mut Column, cases: &[Case], clauses: &[Clause]) {
    let rows = std::mem::take(&mut column.rows);
    let mut known: BTreeMap<String, Row> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
    column.rows = cases
        .iter()
        .map(|case| {
            let outcome = crate::outcome::Outcome::new(Verdict::Skip, NOT_RUN.into());
            let mut row = Row::new(case, clauses, outcome);
            // What the case is about is told by the suite that is here, whatever suite it ran with.
            if let Some(ran) = known.remove(&case.name) {
                row = Row { verdict: ran.verdict, message: ran.message, millis: ran.millis, ..row };
            }
            row
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use crate::report::json;
    use crate::report::tests::sample;

    use super::*;

    #[test]
    fn runs_add_up_and_hosts_stand_apart() {
        let case = |name: &str| Case { name: format!("config/{name}"), ..Case::default() };
        let cases = ["one", "two", "three", "four"].map(case);
        let (first, mut second, mut other) = (sample(), sample(), sample());
        second.columns[0].rows[1].verdict = Verdict::Pass;
        for column in &mut other.columns {
            column.host = "elsewhere".into();
        }
        let files = [&first, &second, &other].map(|r| ("file".to_owned(), json(r)));
        let all = gather(&files, first.clauses.clone(), &cases).unwrap();
        let told: Vec<_> = all.columns.iter().map(|c| (c.name.as_str(), c.host.as_str(), c.rows.len())).collect();
        assert_eq!(told, [("a", "Linux", 4), ("b", "Linux", 4), ("a", "elsewhere", 4), ("b", "elsewhere", 4)]);
        assert_eq!(all.columns[0].rows[1].verdict, Verdict::Pass);
        assert_eq!(all.columns[2].rows[1].verdict, Verdict::Fail);
        assert_eq!((all.columns[0].rows[3].verdict, all.host.as_str()), (Verdict::Skip, "Linux; elsewhere"));
        assert_eq!(all.columns[0].skipped(), (1, 1), "one that the host cannot tell, one that was not run");
        assert!(all.columns[0].rows[0].clauses.is_empty(), "the case's own, not those of the file");
        assert!(gather(&[("bad".into(), "{}".into())], Vec::new(), &cases).unwrap_err().starts_with("bad: "));
    }
}
