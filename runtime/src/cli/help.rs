//! Help and version texts, from the table.

use std::fmt::Write as _;

use super::table::{Flag, GLOBAL, VERBS, Verb, verb};
use crate::features::{COMMIT, SPEC_VERSION, VERSION};

const ABOUT: &str = "an OCI container runtime";

const DESCRIPTION: &str = "\
A container is made from a bundle: a directory with a config.json, as the OCI runtime specification has it, and a root
filesystem. Its id is chosen by the caller and is unique on the host.";

/// What `--version` prints. `name` is the program's own; three lines and the word \"version\" only in the first, as
/// engines split them: go-runc wants `NAME version`, `commit: ` and `spec: ` at the lines' starts, dockerd takes what
/// stands on either side of `version`.
pub fn version_text(name: &str) -> String {
    format!("{name} version {VERSION}\ncommit: {COMMIT}\nspec: {SPEC_VERSION}\n")
}

/// What `--help`, `help COMMAND` and `COMMAND --help` print. `name` is the program's own; an unknown command gets the
/// program's help.
pub fn help_text(name: &str, of: Option<&str>) -> String {
    match of.and_then(|of| verb(of.as_bytes())) {
        Some(verb) => verb_help(name, verb),
        None => program_help(name),
    }
}

fn program_help(name: &str) -> String {
    let mut out = format!("NAME:\n   {name} - {ABOUT}\n\n{DESCRIPTION}\n\n");
    let _ = write!(out, "USAGE:\n   {name} [global options] command [command options] [arguments...]\n\n");
    let _ = write!(out, "VERSION:\n   {VERSION}\n\nCOMMANDS:\n");
    let shown = || VERBS.iter().filter(|verb| !verb.hidden);
    columns(&mut out, shown().map(|verb| (verb.name.to_owned(), verb.about)));
    out.push_str("\nGLOBAL OPTIONS:\n");
    columns(&mut out, options(GLOBAL.iter()));
    out
}

fn verb_help(name: &str, verb: &Verb) -> String {
    let mut out = format!("NAME:\n   {name} {} - {}\n\n", verb.name, verb.about);
    let _ = write!(out, "USAGE:\n   {name} {}", usage(verb));
    if !verb.text.is_empty() {
        let _ = write!(out, "\n\nDESCRIPTION:\n{}", verb.text);
    }
    out.push_str("\n\nOPTIONS:\n");
    columns(&mut out, options(verb.all_flags()));
    out
}

/// `kill [command options] <container-id> [signal]`.
pub(super) fn usage(verb: &Verb) -> String {
    let space = if verb.operands.is_empty() { "" } else { " " };
    format!("{} [command options]{space}{}", verb.name, verb.operands)
}

/// The flags that help shows, each as its left column and its line.
pub(super) fn options(flags: impl Iterator<Item = &'static Flag>) -> impl Iterator<Item = (String, &'static str)> {
    flags.filter(|flag| !flag.hidden).map(|flag| (spelling(flag), flag.help))
}

/// `--bundle DIR, -b DIR`.
fn spelling(flag: &Flag) -> String {
    let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
    let names = flag.names.iter().map(|name| format!("{}{name}{value}", dashes(name)));
    names.collect::<Vec<_>>().join(", ")
}

/// One dash before a letter, two before a word; the parser takes either.
pub(super) fn dashes(name: &str) -> &'static str {
    if name.len() == 1 { "-" } else { "--" }
}

fn columns(out: &mut String, rows: impl Iterator<Item = (String, &'static str)>) {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        let _ = writeln!(out, "   {left:width$}  {right}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_is_in_help() {
        let program = help_text("runc", None);
        assert!(program.contains("runc [global options] command"));
        for verb in VERBS {
            assert_eq!(program.contains(&format!("\n   {} ", verb.name)), !verb.hidden, "{}", verb.name);
            let text = help_text("runc", Some(verb.name));
            assert!(text.starts_with(&format!("NAME:\n   runc {} - {}", verb.name, verb.about)));
            for flag in verb.all_flags() {
                let name = format!("--{}", flag.names[0]);
                let shown = text.split_whitespace().any(|word| word.trim_end_matches(',') == name);
                assert_eq!(shown, !flag.hidden, "{} {name}", verb.name);
            }
        }
    }

    #[test]
    fn flags_of_a_command_do_not_clash_and_all_say_something() {
        let own = VERBS.iter().map(|verb| (verb.name, verb.all_flags().collect::<Vec<_>>()));
        for (verb, flags) in own.chain([("global", GLOBAL.iter().collect())]) {
            let mut names: Vec<_> = flags.iter().flat_map(|flag| flag.names).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{verb}: {names:?}");
            assert!(flags.iter().all(|flag| !flag.help.is_empty() && !flag.help.contains('\n')), "{verb}");
        }
    }

    /// go-runc: the first line begins with `runc version `, later ones with `commit: ` and `spec: `; older releases want
    /// three lines that split in two at `version ` and `: `. dockerd: the word splits name from version.
    #[test]
    fn engines_read_the_version() {
        let text = version_text("runc");
        let lines: Vec<_> = text.trim().split('\n').collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].strip_prefix("runc version "), Some(VERSION));
        assert_eq!(lines[0].split("version ").count(), 2);
        assert_eq!(lines[1].strip_prefix("commit: "), Some(COMMIT));
        assert_eq!(lines[2].strip_prefix("spec: "), Some(SPEC_VERSION));
        assert!(lines[1..].iter().all(|line| !line.contains("version") && line.split(": ").count() == 2));
        assert_eq!(lines[0].split_whitespace().count(), 3);
        assert!(version_text("tare").starts_with("tare version "));
    }
}
