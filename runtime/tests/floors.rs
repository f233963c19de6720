//! The floors of `lib.rs` hold: imports go downward only, unsafe code stands in `sys/` alone, what compiles a plan cannot
//! touch the system, and no file or function outgrows its reader.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files that may be longer than 800 lines, and why.
const LONG_FILES: &[(&str, &str)] = &[];
/// Functions that may be longer than 80 lines, and why.
const LONG_FUNCTIONS: &[(&str, &str)] = &[
    ("run/init.rs: act", "one arm for each op of init: it is a table"),
    ("compile/options.rs: meaning", "one arm for each mount option: it is a table"),
    ("explain.rs: init", "one arm for each op of init: it is a table"),
];
/// What floors 1 and 2 may not name.
const IMPURE: &[&str] = &["std::fs", "std::process", "std::env", "std::net", "std::time", "nix::", "libc::"];

struct Source {
    /// Path below `src`, with slashes.
    name: String,
    /// The text without comments, and without the tests at its end.
    text: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut todo) = (Vec::new(), vec![root.clone()]);
    while let Some(dir) = todo.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(read(&root, path));
            }
        }
    }
    found.retain(|s| !s.name.contains("tests"));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 50, "only {} files found", found.len());
    found
}

fn read(root: &Path, path: PathBuf) -> Source {
    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let whole = std::fs::read_to_string(path).unwrap();
    let lines = whole.lines().count();
    let code = whole.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let text =
        code.lines().map(|l| if l.trim_start().starts_with("//") { "" } else { l }).collect::<Vec<_>>().join("\n");
    Source { name, text, lines }
}

/// The floor of each module, from the table in lib.rs.
fn floors() -> BTreeMap<String, u32> {
    let lib = include_str!("../src/lib.rs");
    let mut floors = BTreeMap::new();
    for row in lib.lines().filter_map(|l| l.strip_prefix("//! | F")) {
        let (floor, modules) = row.split_once(" | ").unwrap();
        for module in modules.split('`').skip(1).step_by(2) {
            assert_eq!(floors.insert(module.to_owned(), floor.parse().unwrap()), None, "{module} stands there twice");
        }
    }
    floors
}

/// The first module of a file's path.
fn module(name: &str) -> &str {
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The modules of this crate that a text names by `crate::…`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (i, _) in text.match_indices("crate::") {
        let rest = &text[i + "crate::".len()..];
        let word = |t: &str| t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let (mut depth, mut start) = (0, true);
                for (at, c) in list.char_indices() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            found.push(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_module_has_a_floor() {
    let floors = floors();
    let lib = include_str!("../src/lib.rs");
    for module in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")).map(|l| l.trim_end_matches(';')) {
        assert!(floors.contains_key(module), "{module} is not in the table of lib.rs");
    }
}

#[test]
fn imports_go_downward_only() {
    let (floors, mut upward) = (floors(), Vec::new());
    for source in sources() {
        let Some(own) = floors.get(module(&source.name)) else { continue };
        for import in imports(&source.text) {
            if floors.get(&import).is_some_and(|floor| floor > own) {
                upward.push(format!("{} (F{own}) imports {import} (F{})", source.name, floors[&import]));
            }
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn the_reading_of_imports_is_right() {
    assert_eq!(imports("use crate::a::b; crate::{c, d::{e, f}, g}; x(crate::h())"), ["a", "c", "d", "g", "h"]);
}

#[test]
fn unsafe_code_stands_in_sys_alone() {
    let is_unsafe = |l: &str| ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|w| l.contains(w));
    let mut found = 0;
    for source in sources() {
        for line in source.text.lines().filter(|l| is_unsafe(l)) {
            assert!(source.name.starts_with("sys/"), "{}: {line}", source.name);
            found += 1;
        }
    }
    assert!(found > 20, "the search finds nothing");
}

#[test]
fn plans_are_compiled_without_the_system() {
    let (floors, mut impure) = (floors(), Vec::new());
    for source in sources() {
        if !matches!(floors.get(module(&source.name)), Some(1 | 2)) {
            continue;
        }
        for word in IMPURE.iter().filter(|w| source.text.contains(**w)) {
            impure.push(format!("{} names {word}", source.name));
        }
    }
    assert!(impure.is_empty(), "{}", impure.join("\n"));
}

#[test]
fn no_file_outgrows_its_chapter() {
    for source in sources().iter().filter(|s| !LONG_FILES.iter().any(|(name, _)| *name == s.name)) {
        assert!(source.lines <= 800, "{} has {} lines", source.name, source.lines);
    }
}

#[test]
fn no_function_outgrows_a_screen() {
    let mut long = Vec::new();
    for source in sources() {
        let mut open: Option<(usize, usize, String)> = None;
        for (n, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let head = ["pub(super) ", "pub(crate) ", "pub ", "const ", "unsafe "]
                .iter()
                .fold(head, |h, w| h.strip_prefix(w).unwrap_or(h));
            if let Some(rest) = head.strip_prefix("fn ").filter(|_| open.is_none()) {
                open = Some((n, indent, rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()));
            }
            if let Some((start, at, name)) = &open
                && line.trim_start().starts_with('}')
                && indent == *at
            {
                if n - start > 80 {
                    long.push((format!("{}: {name}", source.name), n - start + 1));
                }
                open = None;
            }
        }
    }
    long.retain(|(name, _)| !LONG_FUNCTIONS.iter().any(|(allowed, _)| allowed == name));
    assert!(long.is_empty(), "{long:?}");
}
