//! The JUnit report against its schema and, element by element, against the results that it was made from.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use conformance::clause::Level;
use conformance::outcome::Verdict;
use conformance::report::{Column, Results, Row, junit};

/// What runtimes say: markup, quotes, line ends, a terminal's escapes, what XML 1.0 cannot carry at all, other scripts.
const NASTY: &str = "]]> <a b=\"c\" d='e'> &amp; & \u{1b}[31m\n\r\t\0 \u{b} \u{ffff} \u{85} ünï → 🦀";

fn results() -> Results {
    let row = |n: usize, verdict, on_purpose: Option<&str>| Row {
        name: format!("chap<ter/case \"{n}\""),
        title: String::new(),
        clauses: Vec::new(),
        level: Level::Must,
        verdict,
        message: NASTY.into(),
        millis: 1005,
        note: None,
        on_purpose: on_purpose.map(str::to_owned),
    };
    let rows = vec![
        row(1, Verdict::Pass, None),
        row(2, Verdict::Fail, None),
        row(3, Verdict::Fail, Some(NASTY)),
        row(4, Verdict::Skip, None),
        row(5, Verdict::Broken, None),
        row(6, Verdict::Fail, None),
    ];
    let column = |name: &str, rows| Column {
        name: name.into(),
        version: NASTY.into(),
        host: "Linux".into(),
        command: vec![name.into()],
        rows,
    };
    Results {
        clauses: Vec::new(),
        columns: vec![column("a & b", rows), column("none", Vec::new())],
        host: "Linux".into(),
    }
}

/// An element with its attributes; a closing tag is `/name`.
type Tag = (String, BTreeMap<String, String>);

/// Reads a document, and fails where it is not well-formed.
fn tags(text: &str) -> Vec<Tag> {
    let body = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap();
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for piece in body.split('<').skip(1) {
        let (tag, after) = piece.split_once('>').unwrap();
        assert!(after.trim().is_empty(), "text between elements: {after:?}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = BTreeMap::new();
        while !rest.is_empty() {
            let (key, value) = rest.split_once("=\"").unwrap();
            let (value, more) = value.split_once('"').unwrap();
            assert!(attributes.insert(key.trim().to_owned(), unescaped(value)).is_none(), "{key} stands twice");
            rest = more.trim_start();
        }
        if !empty {
            open.push(name.to_owned());
        }
        found.push((name.to_owned(), attributes));
    }
    assert!(open.is_empty(), "{open:?} is never closed");
    found
}

fn unescaped(text: &str) -> String {
    assert!(text.chars().all(|c| !c.is_control() && c != '\u{ffff}'), "{text:?}");
    let known = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let bare = known.iter().fold(text.to_owned(), |t, (name, _)| t.replace(name, ""));
    assert!(!bare.contains('&'), "{text:?}");
    known.iter().fold(text.to_owned(), |t, (name, sign)| t.replace(name, sign))
}

#[test]
fn counts_are_those_of_the_cases_and_text_comes_back() {
    let tags = tags(&junit::write(&results()));
    let of = |name: &str| tags.iter().filter(|t| t.0 == name).map(|t| t.1.clone()).collect::<Vec<_>>();
    let counts =
        |map: &BTreeMap<String, String>| ["tests", "failures", "errors", "skipped", "time"].map(|k| map[k].clone());
    assert_eq!(counts(&of("testsuites")[0]), ["6", "2", "1", "2", "6.030"]);
    assert_eq!(counts(&of("testsuite")[0]), ["6", "2", "1", "2", "6.030"]);
    assert_eq!(counts(&of("testsuite")[1]), ["0", "0", "0", "0", "0.000"]);
    assert_eq!([of("testcase").len(), of("failure").len(), of("error").len(), of("skipped").len()], [6, 2, 1, 2]);
    assert_eq!(of("testcase")[0]["classname"], "a & b.chap<ter");
    assert_eq!(of("testcase")[0]["name"], "case \"1\"");
    let plain: String = NASTY.chars().map(|c| if c.is_control() || c == '\u{ffff}' { ' ' } else { c }).collect();
    assert_eq!(of("failure")[0]["message"], plain);
    assert_eq!(of("skipped")[0]["message"], format!("on purpose: {plain}"));
}

/// Where xmllint is installed: the schema, by somebody else's reading of it.
#[test]
fn the_schema_holds() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/junit.xsd");
    let begun = Command::new("xmllint")
        .args(["--noout", "--schema"])
        .arg(schema)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut lint) = begun else { return };
    std::io::Write::write_all(&mut lint.stdin.take().unwrap(), junit::write(&results()).as_bytes()).unwrap();
    let out = lint.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
