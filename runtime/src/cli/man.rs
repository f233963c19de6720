//! Manual pages, from the table: one for the program, one for each command.

use std::fmt::Write as _;

use super::help::{options, usage};
use super::table::{GLOBAL, VERBS, Verb, verb};
use crate::features::VERSION;

/// A manual page in troff's man(7) macros; `of` names a command, `None` or an unknown one gives the program's page.
pub fn man_page(name: &str, of: Option<&str>) -> String {
    match of.and_then(|of| verb(of.as_bytes())) {
        Some(verb) => verb_page(name, verb),
        None => program_page(name),
    }
}

fn program_page(name: &str) -> String {
    let mut out = head(name, name, "an OCI container runtime");
    let _ =
        write!(out, ".SH SYNOPSIS\n.B {0}\n[global options] command [command options] [arguments...]\n", escaped(name));
    out.push_str(".SH COMMANDS\n");
    for verb in VERBS.iter().filter(|verb| !verb.hidden) {
        let _ = write!(out, ".TP\n.B {}\n{}\n", escaped(verb.name), escaped(verb.about));
    }
    out.push_str(".SH OPTIONS\n");
    terms(&mut out, options(GLOBAL.iter()));
    out.push_str(".SH EXIT STATUS\n0 on success, 1 on failure, 3 for an unknown command.\n.B exec\n");
    out.push_str("answers 255 when the command could not be run;\n.B run\nand\n.B exec\nin the foreground answer ");
    out.push_str("what the process answered, or 128 and the signal that ended it.\n");
    out
}

fn verb_page(name: &str, verb: &Verb) -> String {
    let mut out = head(name, &format!("{name}-{}", verb.name), verb.about);
    let _ = write!(out, ".SH SYNOPSIS\n.B {}\n{}\n", escaped(name), escaped(&usage(verb)));
    if !verb.text.is_empty() {
        let _ = write!(out, ".SH DESCRIPTION\n{}\n", escaped(verb.text));
    }
    out.push_str(".SH OPTIONS\n");
    terms(&mut out, options(verb.all_flags()));
    let _ = write!(out, ".SH SEE ALSO\n.BR {} (8)\n", escaped(name));
    out
}

fn head(name: &str, page: &str, about: &str) -> String {
    let title = escaped(page).to_uppercase();
    format!(
        ".TH {title} 8 \"\" \"{0} {VERSION}\"\n.SH NAME\n{1} \\- {2}\n",
        escaped(name),
        escaped(page),
        escaped(about)
    )
}

fn terms(out: &mut String, rows: impl Iterator<Item = (String, &'static str)>) {
    for (left, right) in rows {
        let _ = write!(out, ".TP\n.B {}\n{}\n", escaped(&left), escaped(right));
    }
}

/// Backslashes, dashes, and dots and quotes at a line's start mean something to troff.
fn escaped(text: &str) -> String {
    let plain = text.replace('\\', "\\e").replace('-', "\\-");
    let lines =
        plain.split('\n').map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.into() });
    lines.collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_every_flag_and_no_line_is_an_accidental_request() {
        let known = [".TH", ".SH", ".TP", ".B", ".BR"];
        for of in VERBS.iter().map(|verb| Some(verb.name)).chain([None]) {
            let page = man_page("tare", of);
            for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
                assert!(known.contains(&line.split(' ').next().unwrap()), "{line}");
            }
            assert!(page.contains("\\-\\-help"));
        }
        assert!(man_page("tare", Some("create")).contains(".B \\-\\-bundle DIR, \\-b DIR"));
    }

    #[test]
    fn troff_does_not_see_the_text() {
        assert_eq!(escaped(".so x\n'a\\b-c"), "\\&.so x\n\\&'a\\eb\\-c");
    }
}
