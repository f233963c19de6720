//! What is asked amiss is answered with one sentence and status 2, before anything runs.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::process::{Command, Output};
use std::{env, fs};

fn conformance(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_conformance")).args(args).output().unwrap()
}

/// The one line of an error.
fn refused(args: &[&str]) -> String {
    let out = conformance(args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
    assert!(out.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    let line = text.strip_prefix("conformance: ").and_then(|t| t.strip_suffix('\n')).unwrap_or("");
    assert!(!line.is_empty() && !line.contains('\n'), "{args:?}: {text}");
    line.to_owned()
}

#[test]
fn a_runtime_that_cannot_be_called_is_named() {
    assert_eq!(refused(&[]), "no --runtime; see --help");
    assert_eq!(refused(&["--runtime", "/no/such"]), "--runtime /no/such: No such file or directory (os error 2)");
    assert_eq!(refused(&["--runtime", "no-such-runtime"]), "--runtime no-such-runtime: no such program in PATH");
    assert_eq!(refused(&["--runtime", "/etc/passwd"]), "--runtime /etc/passwd: cannot be executed");
    assert_eq!(refused(&["--runtime", "/etc"]), "--runtime /etc: is a directory");
    let twice = refused(&["--runtime", "/bin/true", "--runtime", "/usr/bin/true"]);
    assert!(twice.starts_with("--runtime: two are named true"), "{twice}");
}

#[test]
fn files_that_cannot_be_read_or_written_are_named() {
    let run = ["--runtime", "/bin/true"];
    let with = |rest: &[&str]| refused(&[&run, rest].concat());
    assert_eq!(with(&["--html", "/no/such/page"]), "--html /no/such/page: No such file or directory (os error 2)");
    assert_eq!(with(&["--json", "/etc"]), "--json /etc: Is a directory (os error 21)");
    assert!(with(&["--known", "true=/no/such"]).starts_with("--known true=/no/such: "));
    assert_eq!(refused(&["--from", "/no/such"]), "/no/such: No such file or directory (os error 2)");
}

#[test]
fn numbers_and_words_are_checked() {
    let run = ["--runtime", "/bin/true"];
    let with = |rest: &[&str]| refused(&[&run, rest].concat());
    assert_eq!(with(&["--jobs", "many"]), "--jobs many: not a number from 1");
    assert_eq!(with(&["--limit", "0"]), "--limit 0: not a number from 1");
    assert_eq!(with(&["--call-limit=-1"]), "--call-limit -1: not a number from 1");
    assert_eq!(with(&["--table", "xml"]), "--table xml: md or html");
}

#[test]
fn what_only_root_gets_to_is_checked_too() {
    if !nix::unistd::geteuid().is_root() {
        assert!(refused(&["--runtime", "/bin/true"]).ends_with("run it as root"));
        return;
    }
    let run = ["--runtime", "/bin/true"];
    let with = |rest: &[&str]| refused(&[&run, rest].concat());
    assert!(with(&["--probe", "/no/such"]).starts_with("--probe /no/such: no such program"));
    assert!(with(&["--tap-dir", "/no/such"]).starts_with("--tap-dir /no/such: "));
    assert_eq!(with(&["--filter", "no-such-case"]), "--filter no-such-case: no case has that");
    assert_eq!(with(&["--show", "no/such"]), "no/such: no such case");
}

/// It is removed at the end of a run: nobody's files may be in it.
#[test]
fn a_working_directory_that_is_there_is_left_alone() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = env::temp_dir().join(format!("conformance-work-test-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("precious"), "").unwrap();
    let text = refused(&["--runtime", "/bin/true", "--filter", "bundle/root-", "--work", dir.to_str().unwrap()]);
    let kept = dir.join("precious").exists();
    fs::remove_dir_all(&dir).unwrap();
    assert!(text.contains("is there already") && kept, "{text}");
}

#[test]
fn help_and_version_are_no_errors() {
    for (args, begins) in
        [(["--help"], "conformance: hold OCI"), (["-h"], "conformance: hold OCI"), (["--version"], "conformance 0.")]
    {
        let out = conformance(&args);
        assert!(out.status.success() && out.stderr.is_empty());
        assert!(String::from_utf8_lossy(&out.stdout).starts_with(begins));
    }
}

/// A file of known failures: what it names is marked in every form of the report and no longer makes the run fail.
#[test]
fn what_is_known_does_not_fail_the_run() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = env::temp_dir().join(format!("conformance-known-test-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let [known, json] = ["known", "json"].map(|n| dir.join(n).to_string_lossy().into_owned());
    fs::write(&known, "# It is a liar.\nbundle/root-relative\n").unwrap();
    let liar = format!("liar={} silent", env!("CARGO_BIN_EXE_conformance-liar"));
    let run = conformance(&["--runtime", &liar, "--filter", "bundle/root-relative", "--json", &json]);
    let from = |rest: &[&str]| conformance(&[&["--from", &json, "--filter", "bundle/root-relative"], rest].concat());
    let (plain, told) = (from(&["--table", "md"]), from(&["--table", "md", "--known", &format!("liar={known}")]));
    let other = from(&["--known", &format!("nobody={known}")]);
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!([run.status.code(), plain.status.code(), told.status.code()], [Some(1), Some(1), Some(0)]);
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(text.contains("| 0 / 1 (1 †) |") && text.contains("| It is a liar. |"), "{text}");
    assert!(!String::from_utf8_lossy(&plain.stdout).contains('†'));
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn a_program_in_sealed_memory_is_that_program_and_cannot_be_written_to() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting /proc a second time takes root");
        return;
    }
    let sealed = concat!(env!("CARGO_MANIFEST_DIR"), "/sealed");
    let cli = env!("CARGO_BIN_EXE_conformance");
    // Out of another pid namespace, as the suite runs it.
    let inside = r#"echo "$0"; readlink "$0"; "$0" --version; echo x >>"$0" && echo written"#;
    let out = Command::new(sealed)
        .args([cli, "unshare", "--pid", "--fork", "--mount-proc", "sh", "-c"])
        .args([&format!("{inside}; exit 7"), "{}"])
        .output()
        .unwrap();
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(7), "{text}{errors}");
    let version = String::from_utf8(conformance(&["--version"]).stdout).unwrap();
    let lines: Vec<&str> = text.splitn(3, '\n').collect();
    assert!(lines[1].starts_with("/memfd:sealed"), "{text}");
    assert_eq!(lines[2], version, "{errors}");
    let folder = lines[0].split("/fd/").next().unwrap().rsplit_once('/').unwrap().0.to_owned();
    assert!(!std::path::Path::new(&folder).exists(), "{folder} was left");
    let missing = Command::new(sealed).args(["/no/such", "true"]).output().unwrap();
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("/no/such"));
}
