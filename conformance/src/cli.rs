//! The command line: what to run, against which runtimes, and where the answers go.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::case::{self, Case, Suite};
use crate::clause::{self, Clause, Level};
use crate::outcome::{Outcome, Verdict};
use crate::report::known::Known;
use crate::report::{self, Column, Results, Row};
use crate::schedule::{self, Plan};
use crate::{preflight, selftest, tapdir};

/// What `--help` prints.
const HELP: &str = "\
conformance: hold OCI runtimes against the runtime specification 1.3 for Linux

usage: conformance --runtime PATH [--runtime PATH …] [options]

  --runtime [NAME=]CMD   a runtime, with arguments that always stand first; may stand several times
  --filter TEXT          only cases whose name or clause contains TEXT; may stand several times
  --tap FILE             TAP version 14 (`-` is standard output, the default when no other output is asked for)
  --junit FILE           JUnit XML
  --table md|html        the table clause × runtime on standard output
  --markdown FILE        the same table to a file
  --html FILE            the same as one self-contained page
  --json FILE            every outcome, for other programs
  --known NAME=FILE      what the runtime NAME fails on purpose, each below a comment with the reason: marked and counted apart
  --from FILE            no run: what --json wrote; several files, also of several hosts, become one table
  --tap-dir DIR          also run each program of DIR with RUNTIME=… in its environment and fold its TAP in
  --jobs N               workers at a time (default: number of CPUs)
  --limit S              seconds for one case (default 60); --call-limit S for one call of the runtime (default 15)
  --probe FILE           the probe (default: conformance-probe beside this program)
  --work DIR             a directory that does not exist yet (default: below the temporary directory,
                         or where devices work if they do not there)
  --show NAME            run one case and print everything that was seen
  --list, --clauses      print the cases; print the clauses with the number of cases of each
  --deaf                 run every case with its change left out: what then passes proves nothing
  --strict               a SHOULD that is not obeyed also makes the exit code 1
  --self-test            hold the cases against runtimes that lie; with --runtime also --deaf against that one
  --help, --version
exit code: 0 all obeyed but what is on purpose, 1 a MUST is not obeyed, 2 the suite itself failed or was asked amiss
";

/// Everything that the command line said.
#[derive(Debug, Default)]
struct Options {
    runtimes: Vec<(String, Vec<String>)>,
    filters: Vec<String>,
    sources: Vec<String>,
    known: Vec<(String, String)>,
    values: BTreeMap<String, String>,
    flags: Vec<String>,
}

impl Options {
    fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|f| f == name)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        let Some(text) = self.value(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|n| *n > 0);
        number.ok_or(format!("--{name} {text}: not a number from 1"))
    }
}

/// Runs the program and gives its exit code.
pub fn main(args: &[String]) -> ExitCode {
    match parse(args).and_then(|options| act(&options)) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            let _gone = writeln!(io::stderr().lock(), "conformance: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    const WITH_VALUE: [&str; 13] = [
        "tap",
        "junit",
        "table",
        "markdown",
        "html",
        "json",
        "tap-dir",
        "jobs",
        "limit",
        "call-limit",
        "probe",
        "work",
        "show",
    ];
    const REPEATED: [&str; 4] = ["runtime", "filter", "from", "known"];
    const FLAGS: [&str; 7] = ["list", "clauses", "deaf", "strict", "self-test", "help", "version"];
    let mut options = Options::default();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let word = if word == "-h" { "--help" } else { word };
        let name = word.strip_prefix("--").ok_or(format!("{word}: not an option; see --help"))?;
        let (name, given) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v.to_owned())));
        if FLAGS.contains(&name) {
            if let Some(value) = given {
                return Err(format!("--{name}={value}: --{name} takes no value"));
            }
            options.flags.push(name.to_owned());
            continue;
        }
        if !WITH_VALUE.contains(&name) && !REPEATED.contains(&name) {
            return Err(format!("--{name}: no such option; see --help"));
        }
        let value = given.or_else(|| words.next().cloned()).ok_or(format!("--{name} needs a value"))?;
        match name {
            "runtime" => options.runtimes.push(runtime(&value)?),
            "filter" => options.filters.push(value),
            "from" => options.sources.push(value),
            "known" => {
                let (name, file) = value.split_once('=').ok_or(format!("--known {value}: not NAME=FILE"))?;
                options.known.push((name.to_owned(), file.to_owned()));
            }
            "table" if !["md", "html"].contains(&value.as_str()) => return Err(format!("--table {value}: md or html")),
            _ => drop(options.values.insert(name.to_owned(), value)),
        }
    }
    Ok(options)
}

/// `NAME=CMD` or `CMD`; the name is the program's, and the command may have arguments.
fn runtime(text: &str) -> Result<(String, Vec<String>), String> {
    let named = text.split_once('=').filter(|(name, _)| !name.contains(['/', ' ']));
    let words: Vec<String> = named.map_or(text, |(_, c)| c).split_whitespace().map(str::to_owned).collect();
    let program = words.first().ok_or("--runtime needs a program")?;
    let file = Path::new(program).file_name().map_or_else(|| program.clone(), |n| n.to_string_lossy().into_owned());
    Ok((named.map_or(file, |(name, _)| name.to_owned()), words))
}

fn act(options: &Options) -> Result<u8, String> {
    if options.flag("help") {
        return print(HELP);
    }
    if options.flag("version") {
        return print(concat!("conformance ", env!("CARGO_PKG_VERSION"), ", OCI runtime specification 1.3.0\n"));
    }
    let clauses = clause::load()?;
    let suite = case::load()?;
    selftest::consistent(&clauses, &suite.cases)?;
    let cases: Vec<Case> = suite.cases.iter().filter(|c| wanted(options, c)).cloned().collect();
    if options.flag("list") {
        return print(&cases.iter().map(listed).collect::<String>());
    }
    if options.flag("clauses") {
        return print(&report::coverage(&clauses, &cases));
    }
    let known = known(options, &suite.cases)?;
    preflight::outputs(OUTPUTS.iter().filter_map(|(name, _)| Some((*name, options.value(name)?))))?;
    let mut results = if options.sources.is_empty() {
        let plan = plan(options)?;
        let runtimes = preflight::runtimes(&options.runtimes)?;
        if runtimes.is_empty() && !options.flag("self-test") {
            return Err("no --runtime; see --help".into());
        }
        preflight::run(&plan)?;
        if options.flag("self-test") {
            return selftest::run(&plan, &suite, &cases, &runtimes);
        }
        if let Some(name) = options.value("show") {
            return show(&plan, &suite, name, &runtimes[0].1);
        }
        let programs = options.value("tap-dir").map(|path| preflight::folder("tap-dir", path)).transpose()?;
        if cases.is_empty() && programs.is_none() {
            return Err(format!("--filter {}: no case has that", options.filters.join(" --filter ")));
        }
        measure(&plan, &suite, &cases, clauses, &runtimes, programs.as_deref())?
    } else {
        let read = |path: &String| Ok((path.clone(), fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?));
        let files: Vec<_> = options.sources.iter().map(read).collect::<Result<_, String>>()?;
        report::gather::gather(&files, clauses, &cases)?
    };
    for (name, known) in &known {
        report::known::mark(&mut results, name, known)?;
    }
    write_all(options, &results)?;
    Ok(results.exit_code(options.flag("strict")))
}

/// Runtime by runtime, what it fails on purpose.
fn known(options: &Options, cases: &[Case]) -> Result<Vec<(String, Known)>, String> {
    let read = |(name, file): &(String, String)| {
        let say = |e: String| format!("--known {name}={file}: {e}");
        let text = fs::read_to_string(file).map_err(|e| say(e.to_string()))?;
        Ok((name.clone(), report::known::parse(&text, cases).map_err(say)?))
    };
    options.known.iter().map(read).collect()
}

/// A case as `--list` shows it: name, clauses, and what the self-test must know of it.
fn listed(case: &Case) -> String {
    let changed = !case.patch().is_empty() || case.raw.is_some();
    let marks = [(case.bare, "bare"), (case.blind.is_some(), "blind"), (changed, "changed")];
    let marks: Vec<_> = marks.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
    format!("{}\t{}\t{}\n", case.name, case.clauses.join(" "), marks.join(" "))
}

fn wanted(options: &Options, case: &Case) -> bool {
    let fits = |f: &String| case.name.contains(f.as_str()) || case.clauses.iter().any(|c| c.contains(f.as_str()));
    options.filters.is_empty() || options.filters.iter().any(fits)
}

fn plan(options: &Options) -> Result<Plan, String> {
    let worker = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let beside = worker.with_file_name("conformance-probe");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Plan {
        work: options.value("work").map_or_else(work_place, PathBuf::from),
        probe: options.value("probe").map_or(beside, PathBuf::from),
        worker,
        jobs: usize::try_from(options.number("jobs", cpus as u64)?).unwrap_or(cpus),
        limit: options.number("limit", 60)?,
        call_limit: options.number("call-limit", 15)?,
        // A host on which calls take longer is slow for programs, too.
        patience: options.number("call-limit", 15)?.saturating_mul(400),
        deaf: options.flag("deaf"),
    })
}

/// A directory to be made for this run, where devices, programs and set-user-ID bits work: the temporary directory if it allows
/// them. Bundles on a mount that forbids one of them would make good runtimes fail.
fn work_place() -> PathBuf {
    let name = format!("conformance-{}", std::process::id());
    let temporary = std::env::temp_dir();
    let places = [temporary.clone(), "/var/tmp".into(), "/var/lib".into(), "/root".into()];
    let found = places.iter().find(|place| forbids(place).is_none()).unwrap_or(&temporary);
    if let Some(word) = forbids(&temporary) {
        let (from, to) = (temporary.display(), found.display());
        let _gone =
            writeln!(io::stderr().lock(), "conformance: {from} is mounted {word}; bundles are laid out in {to}");
    }
    found.join(name)
}

/// The first option of the mount below a directory that bundles cannot live with.
fn forbids(dir: &Path) -> Option<&'static str> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let Ok(about) = statvfs(dir) else { return Some("not at all") };
    let flags = about.flags();
    let words = [
        (FsFlags::ST_NODEV, "nodev"),
        (FsFlags::ST_NOEXEC, "noexec"),
        (FsFlags::ST_NOSUID, "nosuid"),
        (FsFlags::ST_RDONLY, "ro"),
    ];
    words.iter().find(|(flag, _)| flags.contains(*flag)).map(|(_, word)| *word)
}

/// Runs everything against every runtime.
fn measure(
    plan: &Plan,
    suite: &Suite,
    cases: &[Case],
    clauses: Vec<Clause>,
    runtimes: &[(String, Vec<String>)],
    programs: Option<&Path>,
) -> Result<Results, String> {
    let mut columns = Vec::new();
    for (name, command) in runtimes {
        let progress = |case: &Case, outcome: &Outcome| {
            let mark = match outcome.verdict {
                Verdict::Pass | Verdict::Skip => return,
                Verdict::Fail => "not ok",
                Verdict::Broken => "broken",
            };
            let _gone = writeln!(io::stderr().lock(), "{name}: {mark} {}: {}", case.name, outcome.message);
        };
        let outcomes = schedule::run(plan, &suite.base, cases, command, &progress)?;
        let mut rows: Vec<Row> = cases.iter().zip(outcomes).map(|(c, o)| Row::new(c, &clauses, o)).collect();
        if let Some(dir) = programs {
            rows.extend(tapdir::run(dir, command, plan.limit)?);
        }
        let (name, command) = (name.clone(), command.clone());
        columns.push(Column { name, version: version(&command), host: report::host(), command, rows });
    }
    let clauses = tapdir::with_programs(clauses, &columns);
    Ok(Results { clauses, columns, host: report::host() })
}

/// The first line of `--version`.
fn version(command: &[String]) -> String {
    let Some((program, first)) = command.split_first() else { return String::new() };
    let out = Command::new(program).args(first).arg("--version").output();
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("no version").trim().to_owned()
}

/// A form of output.
type Writer = fn(&Results) -> String;

/// The options that name a file, and what goes into it.
const OUTPUTS: [(&str, Writer); 5] = [
    ("tap", report::tap::write),
    ("junit", report::junit::write),
    ("markdown", report::markdown::write),
    ("html", report::html::write),
    ("json", report::json),
];

fn write_all(options: &Options, results: &Results) -> Result<(), String> {
    let mut written = false;
    for (name, write) in OUTPUTS {
        if let Some(path) = options.value(name) {
            written = true;
            put(path, &write(results))?;
        }
    }
    match options.value("table") {
        Some("md") => put("-", &report::markdown::write(results)),
        Some(_) => put("-", &report::html::write(results)),
        None if written => Ok(()),
        None => put("-", &report::tap::write(results)),
    }
}

fn put(path: &str, text: &str) -> Result<(), String> {
    if path == "-" {
        return print(text).map(drop);
    }
    fs::write(path, text).map_err(|e| format!("{path}: {e}"))
}

fn print(text: &str) -> Result<u8, String> {
    io::stdout().lock().write_all(text.as_bytes()).map_err(|e| format!("standard output: {e}"))?;
    Ok(0)
}

/// Runs one case and prints what was seen.
fn show(plan: &Plan, suite: &Suite, name: &str, command: &[String]) -> Result<u8, String> {
    let case = suite.cases.iter().find(|c| c.name == name).ok_or(format!("{name}: no such case"))?;
    let outcomes = schedule::run(plan, &suite.base, std::slice::from_ref(case), command, &|_, _| ())?;
    let text = serde_json::to_string_pretty(&outcomes).map_err(|e| e.to_string())?;
    print(&format!("{text}\n"))?;
    Ok(u8::from(outcomes.iter().any(|o| o.verdict == Verdict::Fail)))
}

/// The level that a case binds with: its own, or the strongest of its clauses.
pub fn level_of(case: &Case, clauses: &[Clause]) -> Level {
    let strongest = || clauses.iter().filter(|c| case.clauses.contains(&c.code)).map(|c| c.level).min();
    case.level.or_else(strongest).unwrap_or(Level::May)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The options as JSON.
    fn parsed(words: &[&str]) -> Result<Value, String> {
        let options = parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())?;
        Ok(json!({ "runtimes": options.runtimes, "values": options.values, "flags": options.flags }))
    }

    #[test]
    fn options_take_both_forms() {
        let got = parsed(&["--runtime", "new=/x/runc --debug", "--runtime=/y/crun", "--tap", "-", "--strict"]).unwrap();
        assert_eq!(got["runtimes"], json!([["new", ["/x/runc", "--debug"]], ["crun", ["/y/crun"]]]));
        assert_eq!(got["values"]["tap"], "-");
        assert_eq!(got["flags"], json!(["strict"]));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parsed(&["--nonsense", "x"]).unwrap_err().contains("--nonsense"));
        assert!(parsed(&["--tap"]).unwrap_err().contains("needs a value"));
        assert!(parsed(&["word"]).is_err());
        assert_eq!(parsed(&["--nonsense"]).unwrap_err(), "--nonsense: no such option; see --help");
        assert_eq!(parsed(&["--strict=yes"]).unwrap_err(), "--strict=yes: --strict takes no value");
        assert_eq!(parsed(&["--table", "xml"]).unwrap_err(), "--table xml: md or html");
        assert_eq!(parsed(&["--known", "file"]).unwrap_err(), "--known file: not NAME=FILE");
    }
}
