//! Results of all runtimes, and the forms in which they are given out.

pub mod gather;
pub mod html;
pub mod junit;
pub mod known;
pub mod markdown;
pub mod tap;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::clause::{Clause, Level};
use crate::outcome::{Outcome, Verdict};

/// The message of a case that no file of `--from` has.
pub(crate) const NOT_RUN: &str = "was not run";

/// One case against one runtime.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// `chapter/name`.
    pub name: String,
    /// One sentence.
    pub title: String,
    /// Codes of clauses.
    pub clauses: Vec<String>,
    /// How strongly it binds.
    pub level: Level,
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub message: String,
    /// Milliseconds.
    pub millis: u64,
    /// Why the case is right although no runtime in use passes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why the runtime does not obey on purpose: see [`known`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_purpose: Option<String>,
}

impl Row {
    /// From a case and its outcome.
    pub fn new(case: &Case, clauses: &[Clause], outcome: Outcome) -> Self {
        Self {
            name: case.name.clone(),
            title: case.title.clone(),
            clauses: case.clauses.clone(),
            level: crate::cli::level_of(case, clauses),
            verdict: outcome.verdict,
            message: outcome.message,
            millis: outcome.millis,
            note: case.note.clone(),
            on_purpose: None,
        }
    }

    /// Whether it counts against the runtime.
    pub fn is_lost(&self) -> bool {
        matches!(self.verdict, Verdict::Fail | Verdict::Broken)
    }

    /// The part of the name before the first slash.
    pub fn chapter(&self) -> &str {
        self.name.split('/').next().unwrap_or(&self.name)
    }
}

/// One runtime on one host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Column {
    /// Its name in tables.
    pub name: String,
    /// What it says of itself.
    pub version: String,
    /// Kernel and cgroup version of the host that it ran on.
    pub host: String,
    /// How it was called.
    pub command: Vec<String>,
    /// Its outcomes, the same cases in the same order for every runtime.
    pub rows: Vec<Row>,
}

impl Column {
    /// How many rows of a level have a verdict.
    pub fn count(&self, level: Level, verdict: Verdict) -> usize {
        self.rows.iter().filter(|r| r.level == level && r.verdict == verdict).count()
    }

    /// How many cases the host could not tell, and how many were not run at all.
    pub fn skipped(&self) -> (usize, usize) {
        let all = self.rows.iter().filter(|r| r.verdict == Verdict::Skip);
        let (left_out, skipped): (Vec<_>, Vec<_>) = all.partition(|r| r.message == NOT_RUN);
        (skipped.len(), left_out.len())
    }

    /// Cases of a chapter: how many are obeyed, how many could be told, how many there are.
    pub fn of_chapter(&self, chapter: &str) -> (usize, usize, usize) {
        let rows = || self.rows.iter().filter(|r| r.chapter() == chapter);
        let told = rows().filter(|r| r.verdict != Verdict::Skip).count();
        (rows().filter(|r| r.verdict == Verdict::Pass).count(), told, rows().count())
    }

    /// The rows that are not obeyed on purpose.
    pub fn on_purpose(&self) -> impl Iterator<Item = (&Row, &str)> {
        self.rows.iter().filter_map(|r| Some((r, r.on_purpose.as_deref()?)))
    }

    /// What the rows of one clause say together.
    pub fn of_clause(&self, code: &str) -> Tally {
        let mut tally = Tally::default();
        for row in self.rows.iter().filter(|r| r.clauses.iter().any(|c| c == code)) {
            match row.verdict {
                Verdict::Pass => tally.pass += 1,
                Verdict::Fail => {
                    tally.fail += 1;
                    tally.on_purpose += usize::from(row.on_purpose.is_some());
                }
                Verdict::Skip => tally.skip += 1,
                Verdict::Broken => tally.broken += 1,
            }
        }
        tally
    }
}

/// How many cases of one clause ended in which way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Obeyed.
    pub pass: usize,
    /// Not obeyed.
    pub fail: usize,
    /// Not to be told on this host.
    pub skip: usize,
    /// Not to be told, because of the suite.
    pub broken: usize,
    /// Of those not obeyed, how many on purpose.
    pub on_purpose: usize,
}

impl Tally {
    /// Not obeyed, and not on purpose.
    pub fn is_lost(&self) -> bool {
        self.fail + self.broken > self.on_purpose
    }
}

/// Everything.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Results {
    /// The clauses, in the documents' order.
    pub clauses: Vec<Clause>,
    /// The runtimes, in the order of the command line.
    pub columns: Vec<Column>,
    /// Kernel and cgroup version of the host, or of the hosts.
    pub host: String,
}

impl Results {
    /// 0 all obeyed but what is on purpose, 1 a MUST (or, `strict`, a SHOULD) is not obeyed, 2 the suite failed.
    pub fn exit_code(&self, strict: bool) -> u8 {
        let rows = || self.columns.iter().flat_map(|c| &c.rows);
        if rows().any(|r| r.verdict == Verdict::Broken) {
            return 2;
        }
        let binds = |r: &Row| r.level == Level::Must || strict && r.level == Level::Should;
        u8::from(rows().any(|r| r.verdict == Verdict::Fail && r.on_purpose.is_none() && binds(r)))
    }

    /// The chapters of the cases, in their order.
    pub fn chapters(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for row in self.columns.iter().flat_map(|c| &c.rows) {
            if !all.contains(&row.chapter()) {
                all.push(row.chapter());
            }
        }
        all
    }

    /// Names of cases that no runtime passes although some could be told: either the case or everybody is wrong.
    pub fn nobody_passes(&self) -> Vec<&Row> {
        let Some(first) = self.columns.first() else { return Vec::new() };
        let at = |i: usize| self.columns.iter().filter_map(move |c| c.rows.get(i));
        let lost = |i: &usize| at(*i).all(|r| r.verdict != Verdict::Pass) && at(*i).any(|r| r.verdict == Verdict::Fail);
        (0..first.rows.len()).filter(lost).map(|i| &first.rows[i]).collect()
    }
}

/// One line about this host.
pub fn host() -> String {
    let kernel = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mounts = crate::kernel::cgroup_mounts();
    let cgroups = match (mounts.contains_key("unified"), mounts.len()) {
        (true, 1) => "cgroup v2",
        (true, _) => "cgroup v1 with a v2 hierarchy beside it",
        _ => "cgroup v1",
    };
    format!("Linux {kernel}, {cgroups}")
}

/// Everything as JSON.
pub fn json(results: &Results) -> String {
    serde_json::to_string_pretty(results).unwrap_or_default()
}

/// Each clause with the number of its cases, or why it has none: what `--clauses` prints.
pub fn coverage(clauses: &[Clause], cases: &[Case]) -> String {
    let mut out = String::new();
    for clause in clauses {
        let n = cases.iter().filter(|c| c.clauses.contains(&clause.code)).count();
        let why = clause.untestable.as_deref().unwrap_or_default();
        let _infallible = writeln!(out, "{}\t{}\t{n}\t{}\t{why}", clause.code, clause.level.word(), clause.quote);
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two runtimes, three cases: a pass, a fail with markup in its message, a skip.
    pub(crate) fn sample() -> Results {
        let clause = |code: &str, level, untestable: Option<&str>| Clause {
            code: code.into(),
            level,
            section: "config.md: Root".into(),
            quote: "A <directory> MUST exist | here".into(),
            untestable: untestable.map(str::to_owned),
        };
        let row = |name: &str, code: &str, level, verdict, message: &str| Row {
            name: format!("config/{name}"),
            title: format!("about {name}"),
            clauses: vec![code.into()],
            level,
            verdict,
            message: message.into(),
            millis: 12,
            note: None,
            on_purpose: None,
        };
        let column = |name: &str, verdict| Column {
            name: name.into(),
            version: format!("{name} 1"),
            host: "Linux".into(),
            command: vec![format!("/bin/{name}")],
            rows: vec![
                row("one", "A-1", Level::Must, Verdict::Pass, ""),
                row("two", "A-2", Level::Should, verdict, "saw <b> & \"c\"\nand more"),
                row("three", "A-3", Level::Must, Verdict::Skip, "no such host"),
            ],
        };
        Results {
            clauses: vec![
                clause("A-1", Level::Must, None),
                clause("A-2", Level::Should, None),
                clause("A-3", Level::Must, None),
                clause("A-4", Level::May, Some("concerns Windows")),
            ],
            columns: vec![column("a", Verdict::Fail), column("b", Verdict::Pass)],
            host: "Linux".into(),
        }
    }

    #[test]
    fn a_should_fails_only_when_strict() {
        assert_eq!(sample().exit_code(false), 0);
        assert_eq!(sample().exit_code(true), 1);
    }

    #[test]
    fn a_case_that_nobody_passes_is_found() {
        let mut results = sample();
        assert!(results.nobody_passes().is_empty());
        results.columns[1].rows[1].verdict = Verdict::Fail;
        assert_eq!(results.nobody_passes()[0].name, "config/two");
    }
}
