//! Completion scripts, from the table. Container ids are asked of the program itself: `list -q`.

use std::fmt::Write as _;

use super::help::dashes;
use super::request::Shell;
use super::table::{Flag, GLOBAL, VERBS, Verb};

/// A completion script for the program called `name`.
pub fn completion(name: &str, shell: Shell) -> String {
    // The name becomes part of a script, and of a function's name in it.
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
    match shell {
        Shell::Bash => bash(&safe),
        Shell::Zsh => zsh(&safe),
        Shell::Fish => fish(&safe),
    }
}

fn shown() -> impl Iterator<Item = &'static Verb> {
    VERBS.iter().filter(|verb| !verb.hidden)
}

fn words(flags: impl Iterator<Item = &'static Flag>) -> String {
    let names = flags.filter(|flag| !flag.hidden).flat_map(|flag| flag.names);
    names.map(|name| format!("{}{name}", dashes(name))).collect::<Vec<_>>().join(" ")
}

/// The flags with a value, as a pattern of bash's and zsh's `case`.
fn valued(flags: impl Iterator<Item = &'static Flag>) -> String {
    let names = flags.filter(|flag| flag.value.is_some()).flat_map(|flag| flag.names);
    let mut names: Vec<_> = names.map(|name| format!("{}{name}", dashes(name))).collect();
    names.sort();
    names.dedup();
    names.join("|")
}

/// Words that may stand after the command.
fn operands(name: &str, verb: &Verb) -> String {
    match verb.name {
        "completion" => "bash zsh fish".into(),
        "mounts" => "add remove".into(),
        "help" => shown().map(|verb| verb.name).collect::<Vec<_>>().join(" "),
        _ if verb.operands.contains("container-id") => format!("$({name} list -q 2>/dev/null)"),
        _ => String::new(),
    }
}

/// One word to any of the shells.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn bash(name: &str) -> String {
    let function = name.replace(['-', '.'], "_");
    let mut out = format!("_{function}() {{\n    local cur=${{COMP_WORDS[COMP_CWORD]}} verb= i\n");
    out.push_str("    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n");
    let _ = writeln!(out, "        {}) ((i++)) ;;", valued(GLOBAL.iter()));
    out.push_str("        -*) ;;\n        *) verb=${COMP_WORDS[i]}; break ;;\n        esac\n    done\n");
    out.push_str("    local flags= words=\n    case $verb in\n");
    let verbs = shown().map(|verb| verb.name).collect::<Vec<_>>().join(" ");
    let _ = writeln!(out, "    '') flags='{}' words='{verbs}' ;;", words(GLOBAL.iter()));
    for verb in shown() {
        let (flags, operands) = (words(verb.all_flags()), operands(name, verb));
        let _ = writeln!(out, "    {}) flags='{flags}' words=\"{operands}\" ;;", verb.name);
    }
    out.push_str("    esac\n    case $cur in\n    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\")) ;;\n");
    out.push_str("    *) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\") $(compgen -f -- \"$cur\")) ;;\n    esac\n}\n");
    let _ = writeln!(out, "complete -o filenames -F _{function} {name}");
    out
}

fn zsh(name: &str) -> String {
    let function = name.replace(['-', '.'], "_");
    let mut out = format!("#compdef {name}\n_{function}() {{\n    local verb= i\n");
    out.push_str("    for ((i = 2; i < CURRENT; i++)); do\n        case $words[i] in\n");
    let _ = writeln!(out, "        {}) ((i++)) ;;", valued(GLOBAL.iter()));
    out.push_str("        -*) ;;\n        *) verb=$words[i]; break ;;\n        esac\n    done\n    case $verb in\n");
    let verbs =
        shown().map(|verb| quoted(&format!("{}:{}", verb.name, verb.about.replace(':', "\\:")))).collect::<Vec<_>>();
    let _ = writeln!(
        out,
        "    '') local -a verbs=({})\n        _describe command verbs\n        compadd -- {} ;;",
        verbs.join(" "),
        words(GLOBAL.iter())
    );
    for verb in shown() {
        let (flags, operands) = (words(verb.all_flags()), operands(name, verb));
        let _ = writeln!(out, "    {}) compadd -- {flags} {operands}\n        _files ;;", verb.name);
    }
    let _ = writeln!(out, "    esac\n}}\n_{function} \"$@\"");
    out
}

fn fish(name: &str) -> String {
    let mut out = String::new();
    for flag in GLOBAL.iter().filter(|flag| !flag.hidden) {
        let _ = writeln!(out, "complete -c {name} -n __fish_use_subcommand{}", fish_flag(flag));
    }
    for verb in shown() {
        let _ =
            writeln!(out, "complete -c {name} -f -n __fish_use_subcommand -a {} -d {}", verb.name, quoted(verb.about));
        let seen = format!("complete -c {name} -n '__fish_seen_subcommand_from {}'", verb.name);
        let operands = operands(name, verb).replace("$(", "(");
        if !operands.is_empty() {
            let _ = writeln!(out, "{seen} -f -a '{operands}'");
        }
        for flag in verb.all_flags().filter(|flag| !flag.hidden) {
            let _ = writeln!(out, "{seen}{}", fish_flag(flag));
        }
    }
    out
}

fn fish_flag(flag: &Flag) -> String {
    let names = flag.names.iter().map(|name| format!(" {} {name}", if name.len() == 1 { "-s" } else { "-l" }));
    let value = if flag.value.is_some() { " -r" } else { "" };
    format!("{}{value} -d {}", names.collect::<String>(), quoted(flag.help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_every_command_and_flag() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completion("runc", shell);
            for verb in shown() {
                assert!(script.contains(verb.name), "{shell:?} {}", verb.name);
                for flag in verb.all_flags().filter(|flag| !flag.hidden) {
                    assert!(script.contains(flag.names[0]), "{shell:?} {} {}", verb.name, flag.names[0]);
                }
            }
            assert!(script.contains("runc list -q"));
        }
    }

    #[test]
    fn a_name_cannot_inject_a_command() {
        let script = completion("a;rm -rf $x", Shell::Bash);
        assert!(script.ends_with("complete -o filenames -F _arm_rfx arm-rfx\n"));
    }

    #[test]
    fn a_quote_in_a_text_does_not_end_it() {
        assert_eq!(quoted("the bundle's"), "'the bundle'\\''s'");
    }
}
