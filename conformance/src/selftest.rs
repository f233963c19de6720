//! The suite against itself: codes and cases fit, and runtimes that lie are found out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::case::{Case, Suite};
use crate::clause::Clause;
use crate::outcome::Verdict;
use crate::schedule::{self, Plan};

/// The liars in the tree, and what each one does.
pub const LIARS: [(&str, &str); 4] = [
    ("silent", "answers 0 and does nothing"),
    ("refuse", "refuses every command"),
    ("plausible", "keeps books and answers plausible state, but runs nothing"),
    ("bare", "runs the process without any isolation"),
];

/// Whether every code that a case names is a clause's, and none of a clause that is said to be untestable.
///
/// # Errors
/// The cases and codes that do not fit.
pub fn consistent(clauses: &[Clause], cases: &[Case]) -> Result<(), String> {
    let codes: BTreeSet<&str> = clauses.iter().filter(|c| c.untestable.is_none()).map(|c| c.code.as_str()).collect();
    let mut out = String::new();
    for case in cases {
        for code in case.clauses.iter().filter(|c| !codes.contains(c.as_str())) {
            let _infallible = writeln!(out, "{}: no testable clause {code}", case.name);
        }
    }
    if out.is_empty() { Ok(()) } else { Err(out) }
}

/// Clauses that have neither a case nor a reason.
pub fn uncovered<'a>(clauses: &'a [Clause], cases: &[Case]) -> Vec<&'a str> {
    let covered: BTreeSet<&str> = cases.iter().flat_map(|c| c.clauses.iter().map(String::as_str)).collect();
    let open = clauses.iter().filter(|c| c.untestable.is_none() && !covered.contains(c.code.as_str()));
    open.map(|c| c.code.as_str()).collect()
}

/// Runs the cases against every liar, and deaf and plainly against the runtimes given. Answers 1 when a lie was believed.
///
/// # Errors
/// The suite cannot run.
pub fn run(plan: &Plan, suite: &Suite, cases: &[Case], runtimes: &[(String, Vec<String>)]) -> Result<u8, String> {
    let mut bad = 0;
    // A liar's program never comes: there is no use in waiting long, nor in keeping to the number of CPUs while waiting.
    let hasty = Plan { patience: 700, jobs: plan.jobs.max(8), ..plan.clone() };
    for (mode, what) in LIARS {
        let liar = plan.worker.with_file_name("conformance-liar");
        let command = [liar.to_string_lossy().into_owned(), mode.to_owned()];
        let believed = passes(&hasty, suite, cases, &command, |c| mode != "bare" || !c.bare)?;
        bad += say(&format!("{mode} ({what})"), "believed by", &believed);
    }
    for (name, command) in runtimes {
        let told: Vec<Case> = cases.iter().filter(|c| !c.patch().is_empty() || c.raw.is_some()).cloned().collect();
        let deaf = Plan { deaf: true, ..plan.clone() };
        let believed = passes(&deaf, suite, &told, command, |c| c.blind.is_none())?;
        bad += say(&format!("{name}, deaf to the config"), "believed by", &believed);
    }
    let mut nobody: Option<BTreeSet<String>> = None;
    for (_, command) in runtimes {
        let failed = failures(plan, suite, cases, command)?;
        nobody = Some(nobody.map_or_else(|| failed.clone(), |n| n.intersection(&failed).cloned().collect()));
    }
    let suspects: Vec<String> = nobody.unwrap_or_default().into_iter().collect();
    say("every runtime given", "fails", &suspects);
    Ok(u8::from(bad > 0))
}

/// Cases that pass although they may not.
fn passes(
    plan: &Plan,
    suite: &Suite,
    cases: &[Case],
    command: &[String],
    counts: impl Fn(&Case) -> bool,
) -> Result<Vec<String>, String> {
    let outcomes = schedule::run(plan, &suite.base, cases, command, &|_, _| ())?;
    let both = cases.iter().zip(outcomes);
    Ok(both.filter(|(c, o)| o.verdict == Verdict::Pass && counts(c)).map(|(c, _)| c.name.clone()).collect())
}

fn failures(plan: &Plan, suite: &Suite, cases: &[Case], command: &[String]) -> Result<BTreeSet<String>, String> {
    let outcomes = schedule::run(plan, &suite.base, cases, command, &|_, _| ())?;
    let both = cases.iter().zip(outcomes);
    Ok(both.filter(|(_, o)| o.verdict == Verdict::Fail).map(|(c, _)| c.name.clone()).collect())
}

/// Prints one line a liar, and the cases below it.
fn say(who: &str, verb: &str, names: &[String]) -> usize {
    let mut text = format!("{who}: {verb} {} cases\n", names.len());
    for name in names {
        let _infallible = writeln!(text, "  {name}");
    }
    let _gone = io::stdout().lock().write_all(text.as_bytes());
    names.len()
}
