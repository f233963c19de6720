//! Every flag of every command in all of Go's forms: each is read, each form means the same, and each says something.

use std::ffi::OsString;

use super::table::{Flag, GLOBAL, VERBS, Verb};
use super::*;

/// A value that the flag takes and that is not its default.
fn sample(flag: &Flag) -> &'static str {
    match flag.names[0] {
        "format" | "log-format" => "json",
        "log-level" => "debug",
        "cgroup-manager" => "systemd",
        "rootless" => "true",
        "manage-cgroups-mode" => "full",
        "interval" => "7s",
        "page-server" => "host:7",
        "user" => "7:8",
        "cgroup" => "cpu:/x",
        _ => match flag.value {
            Some("N" | "GID" | "USEC" | "WEIGHT" | "SHARES" | "0|1" | "SIZE" | "FD") => "7",
            _ => "/x",
        },
    }
}

/// All ways to write one flag.
fn forms(flag: &Flag) -> Vec<Vec<String>> {
    let mut forms = Vec::new();
    for name in flag.names {
        for dashed in [format!("-{name}"), format!("--{name}")] {
            if flag.value.is_some() {
                forms.push(vec![format!("{dashed}={}", sample(flag))]);
                forms.push(vec![dashed, sample(flag).into()]);
            } else {
                forms.extend(["1", "t", "T", "true", "TRUE", "True"].map(|yes| vec![format!("{dashed}={yes}")]));
                forms.push(vec![dashed]);
            }
        }
    }
    forms
}

/// Operands that satisfy the command.
fn operands(verb: &Verb) -> &'static [&'static str] {
    match verb.name {
        "exec" => &["c", "sh"],
        "mounts" => &["add", "c", "/f"],
        "completion" => &["bash"],
        "help" | "man" => &["run"],
        _ if verb.operands.contains("container-id") => &["c"],
        _ => &[],
    }
}

fn read(words: &[&[String]]) -> Invocation {
    let argv: Vec<OsString> = words.concat().into_iter().map(OsString::from).collect();
    match parse(&argv) {
        Ok(invocation) => invocation,
        Err(rejected) => panic!("{argv:?}: {rejected:?}"),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn every_flag_of_every_command_in_every_form() {
    for verb in VERBS {
        let (start, operands) = (owned(&["tare", verb.name]), owned(operands(verb)));
        let without = read(&[&start, &operands]);
        for flag in verb.all_flags() {
            let mut meanings = Vec::new();
            for form in forms(flag) {
                meanings.push(read(&[&start, &form, &operands]));
                if !verb.trailing {
                    meanings.push(read(&[&start, &operands, &form]));
                }
            }
            let what = format!("{} {:?}", verb.name, flag.names);
            assert!(meanings.iter().all(|meaning| *meaning == meanings[0]), "{what}: {meanings:?}");
            // exec's obsolete one is accepted for old callers and means nothing.
            let ignored = verb.name == "exec" && flag.names[0] == "no-subreaper";
            assert_eq!(meanings[0] == without, ignored, "{what} changes nothing");
        }
    }
}

#[test]
fn every_switch_can_be_switched_off_and_the_last_one_counts() {
    for verb in VERBS {
        let (start, operands) = (owned(&["tare", verb.name]), owned(operands(verb)));
        let without = read(&[&start, &operands]);
        for name in verb.all_flags().filter(|flag| flag.value.is_none()).flat_map(|flag| flag.names) {
            for no in ["0", "f", "F", "false", "FALSE", "False"] {
                let off = owned(&[&format!("-{name}"), &format!("--{name}={no}")]);
                assert_eq!(read(&[&start, &off, &operands]), without, "{} {name}", verb.name);
            }
        }
    }
}

#[test]
fn every_global_flag_in_every_form() {
    let (start, command) = (owned(&["tare"]), owned(&["list"]));
    let without = read(&[&start, &command]);
    for flag in GLOBAL {
        let meanings: Vec<_> = forms(flag).iter().map(|form| read(&[&start, form, &command])).collect();
        assert!(meanings.iter().all(|meaning| *meaning == meanings[0]), "{:?}: {meanings:?}", flag.names);
        assert_ne!(meanings[0], without, "{:?}", flag.names);
    }
}

#[test]
fn every_flag_with_a_value_says_that_it_is_missing() {
    for verb in VERBS {
        for name in verb.all_flags().filter(|flag| flag.value.is_some()).flat_map(|flag| flag.names) {
            let argv = ["tare", verb.name, &format!("--{name}")].map(OsString::from);
            let message = parse(&argv).map_err(|rejected| rejected.error.message);
            assert_eq!(message, Err(format!("flag needs an argument: -{name}")), "{}", verb.name);
        }
    }
}

/// The body of a test in `tests/FILE.rs`, from `file::name`.
fn body(test: &str) -> Option<String> {
    let (file, name) = test.split_once("::")?;
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source = std::fs::read_to_string(tests.join(format!("{file}.rs"))).ok()?;
    let (_, rest) = source.split_once(&format!("#[test]\nfn {name}() {{\n"))?;
    Some(rest.split("\n}\n").next().unwrap_or(rest).to_owned())
}

/// Whether a line of the text holds the flag as a word of its own, with one dash or two.
fn spells(text: &str, name: &str) -> bool {
    let flag = format!("-{name}");
    text.match_indices(&flag).any(|(at, _)| {
        let before = text[..at].trim_end_matches('-').chars().next_back();
        let after = text[at + flag.len()..].chars().next();
        before.is_some_and(|c| c == '"' || c == ' ') && after.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-')
    })
}

#[test]
fn every_flag_has_a_test_that_runs_it() {
    // These read command lines and run nothing.
    const READERS: [&str; 3] = ["cli::", "cli_values::", "cli_fuzz::"];
    let own = VERBS.iter().map(|verb| (verb.name, verb.all_flags().collect::<Vec<_>>()));
    let all = [("(global)", GLOBAL.iter().collect())].into_iter().chain(own);
    let wanted: Vec<String> = all
        .flat_map(|(verb, flags)| flags.into_iter().map(move |f| format!("| {verb} | `{}` |", f.names.join(", "))))
        .collect();
    let page: Vec<&str> =
        include_str!("FLAGS.md").lines().filter(|l| l.starts_with("| ") && l.contains("::")).collect();
    for row in &page {
        assert!(wanted.iter().any(|w| row.starts_with(w)), "no such flag: {row}");
    }
    for flag in &wanted {
        let row = page.iter().find_map(|row| row.strip_prefix(flag.as_str()));
        let row = row.unwrap_or_else(|| panic!("FLAGS.md names no test for {flag}"));
        let tests: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!tests.iter().any(|test| READERS.iter().any(|r| test.starts_with(r))), "{flag} {tests:?}");
        let bodies: String = tests
            .iter()
            .map(|test| body(test).unwrap_or_else(|| panic!("{flag} there is no test {test} in runtime/tests")))
            .collect();
        let names = flag.split('`').nth(1).unwrap_or_default();
        for name in names.split(", ") {
            assert!(spells(&bodies, name), "{flag}: none of {tests:?} says -{name}");
        }
    }
}
