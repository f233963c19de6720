//! Programs that were built elsewhere, that take `RUNTIME=` and answer in TAP: their points become rows of the table.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clause::{Clause, Level};
use crate::outcome::Verdict;
use crate::report::{Column, Row};
use crate::worker::{ENTER, EXEC};

/// Most that is read of a program's output.
const OUTPUT: u64 = 4 << 20;

/// Runs every executable file of a directory in namespaces of its own, sorted by name.
///
/// # Errors
/// The directory cannot be read, or the runtime has arguments, which `RUNTIME=` cannot carry.
pub fn run(dir: &Path, command: &[String], limit: u64) -> Result<Vec<Row>, String> {
    let [runtime] = command else { return Err("--tap-dir: RUNTIME= cannot carry a runtime's arguments".into()) };
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let executable = |p: &PathBuf| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let mut programs: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(executable).collect();
    programs.sort();
    Ok(programs.iter().flat_map(|p| program(p, runtime, limit)).collect())
}

/// The clauses and, after them, a row for each program that ran, so that it stands in the same table.
pub fn with_programs(mut clauses: Vec<Clause>, columns: &[Column]) -> Vec<Clause> {
    let rows = columns.iter().flat_map(|c| &c.rows).filter(|r| r.name.starts_with("tap:"));
    for code in rows.flat_map(|r| &r.clauses) {
        if !clauses.iter().any(|c| c.code == *code) {
            clauses.push(Clause {
                code: code.clone(),
                level: Level::Must,
                section: "TAP programs".into(),
                quote: format!("program `{}`", code.trim_start_matches("tap:")),
                untestable: None,
            });
        }
    }
    clauses
}

/// One program to its end, or to the limit.
fn program(path: &Path, runtime: &str, limit: u64) -> Vec<Row> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let begin = Instant::now();
    let out = std::env::temp_dir().join(format!("conformance-tap-{}", std::process::id()));
    let text = output(path, runtime, &out, Duration::from_secs(limit));
    let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _never_made = fs::remove_file(&out);
    match text {
        Ok(text) => parse(&name, &text, millis),
        Err(message) => vec![row(&name, "run", Verdict::Broken, message, millis)],
    }
}

fn output(path: &Path, runtime: &str, out: &Path, limit: Duration) -> Result<String, String> {
    let say = |e: std::io::Error| format!("{}: {e}", path.display());
    let full = fs::canonicalize(path).map_err(say)?;
    let runtime = if runtime.contains('/') { fs::canonicalize(runtime).map_err(say)? } else { PathBuf::from(runtime) };
    let mut child = Command::new("/proc/self/exe")
        .args([ENTER, EXEC])
        .arg(&full)
        .env("RUNTIME", runtime)
        .current_dir(full.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(File::create(out).map_err(say)?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(say)?;
    let begin = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begin.elapsed() > limit {
            let _already_gone = child.kill().and_then(|()| child.wait());
            return Err(format!("took longer than {} s", limit.as_secs()));
        }
        sleep(Duration::from_millis(10));
    }
    let mut text = String::new();
    File::open(out).and_then(|f| f.take(OUTPUT).read_to_string(&mut text)).map_err(say)?;
    Ok(text)
}

/// The points of a TAP stream. A plan that promises more points than came is one more failure.
fn parse(name: &str, text: &str, millis: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut planned = 0;
    for line in text.lines() {
        if let Some(n) = line.strip_prefix("1..").and_then(|n| n.split_whitespace().next()?.parse().ok()) {
            planned = n;
        }
        let (ok, rest) = match (line.strip_prefix("ok"), line.strip_prefix("not ok")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => continue,
        };
        let (what, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
        let what = what.trim().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches([' ', '-']);
        let word = directive.trim_start().to_ascii_lowercase();
        let verdict = match (ok, word.starts_with("skip"), word.starts_with("todo")) {
            (_, true, _) | (false, _, true) => Verdict::Skip,
            (true, ..) => Verdict::Pass,
            (false, ..) => Verdict::Fail,
        };
        let message = match verdict {
            Verdict::Pass => "",
            Verdict::Skip if word.starts_with("skip") => directive.trim_start()["skip".len()..].trim(),
            Verdict::Skip => directive.trim(),
            _ => what.trim(),
        };
        rows.push(row(name, &format!("{} {what}", rows.len() + 1), verdict, message.to_owned(), millis));
    }
    if rows.len() < planned || rows.is_empty() {
        let message = format!("{} of {planned} planned points came", rows.len());
        rows.push(row(name, "plan", Verdict::Fail, message, millis));
    }
    rows
}

fn row(program: &str, point: &str, verdict: Verdict, message: String, millis: u64) -> Row {
    Row {
        name: format!("tap:{program}/{point}"),
        title: point.to_owned(),
        clauses: vec![format!("tap:{program}")],
        level: Level::Must,
        verdict,
        message,
        millis,
        note: None,
        on_purpose: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_directives_and_a_short_plan() {
        let rows = parse(
            "p",
            "TAP version 13\n1..5\nok 1 - fine\nnot ok 2 - bad\nok 3 - s # SKIP why\nnot ok 4 # TODO later\n",
            1,
        );
        let verdicts: Vec<_> = rows.iter().map(|r| r.verdict).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Fail, Verdict::Skip, Verdict::Skip, Verdict::Fail]);
        assert_eq!(rows[0].title, "1 fine");
        assert_eq!([1, 2, 3].map(|i| rows[i].message.as_str()), ["bad", "why", "TODO later"]);
        assert!(rows[4].message.contains("4 of 5"));
    }

    #[test]
    fn silence_is_a_failure() {
        assert_eq!(parse("p", "", 1)[0].verdict, Verdict::Fail);
    }
}
