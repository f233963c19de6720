//! The suite's own rules: every clause has a case or a reason, every patch fits, and liars are found out.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use conformance::case::Expect;
use conformance::{case, clause, selftest};

#[test]
fn every_clause_has_a_case_or_a_reason() {
    let (clauses, suite) = (clause::load().unwrap(), case::load().unwrap());
    assert_eq!(selftest::uncovered(&clauses, &suite.cases), Vec::<&str>::new());
    selftest::consistent(&clauses, &suite.cases).unwrap();
    assert!(suite.cases.len() >= 600, "{} cases", suite.cases.len());
}

#[test]
fn every_patch_and_twin_fits_the_base_config() {
    let suite = case::load().unwrap();
    for case in &suite.cases {
        case.patch().apply(&suite.base).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let twin = case.twin.clone().unwrap_or_default();
        twin.apply(&suite.base).unwrap_or_else(|e| panic!("{}: twin: {e}", case.name));
    }
}

#[test]
fn every_refusal_differs_from_its_twin() {
    let suite = case::load().unwrap();
    for case in suite.cases.iter().filter(|c| c.expect != Expect::Works) {
        let bad = case.patch().apply(&suite.base).unwrap();
        let good = case.twin.clone().unwrap_or_default().apply(&suite.base).unwrap();
        assert!(bad != good || case.raw.is_some(), "{}", case.name);
    }
}

#[test]
fn unsafe_stands_in_sys_alone_and_no_file_is_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["src", "src/report", "src/steps", "probe", "liar"] {
        for entry in
            fs::read_dir(root.join(dir)).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|x| x == "rs"))
        {
            let text = fs::read_to_string(entry.path()).unwrap();
            assert!(text.lines().count() < 500, "{}", entry.path().display());
            assert!(entry.file_name() == "sys.rs" || !text.contains("unsafe {"), "{}", entry.path().display());
        }
    }
}

/// The whole `--self-test` takes minutes and runs in CI by itself; this keeps one chapter honest in every test run.
#[test]
fn liars_are_found_out() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let out = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["--self-test", "--filter", "bundle/root-", "--filter", "runtime/delete-", "--jobs", "4"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text.matches("believed by 0 cases").count(), selftest::LIARS.len(), "{text}");
}

#[test]
fn a_folder_of_tap_programs_is_folded_in() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = env::temp_dir().join(format!("conformance-tapdir-test-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let program = dir.join("one");
    fs::write(&program, "#!/bin/sh\necho 1..2\necho \"ok 1 - $RUNTIME\"\necho 'not ok 2 - broken'\n").unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["--runtime", "/bin/true", "--filter", "no-such-case", "--tap", "-", "--tap-dir"])
        .arg(&dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("ok 1 - true tap:one/1 "), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("not ok 2 - true tap:one/2 broken"), "{text}");
    assert_eq!(out.status.code(), Some(1));
    let table = ["--runtime", "/bin/true", "--filter", "no-such-case", "--table", "md", "--tap-dir"];
    let out = Command::new(env!("CARGO_BIN_EXE_conformance")).args(table).arg(&dir).output().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("| `tap:one` | MUST | program `one` | ✗ 1/2 |"));
}
