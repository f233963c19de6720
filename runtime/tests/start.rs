//! The program starts libc itself where it can (`src/sys/libc_start.rs`): what libc's own start would have made is there, and
//! where that one is to be asked, it is.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use support::{TARE, case, ready, run, unique};

/// A copy of the program that anyone can execute; removed when it goes.
struct Copy(PathBuf);

impl Copy {
    fn with_mode(mode: u32) -> Self {
        let path = Path::new("/var/tmp").join(format!("{}-tare", unique()));
        std::fs::copy(TARE, &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Copy(path)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Copies of this size go past the cache, in pieces of pages, if the bound for that is wrong: glibc 2.36 then never ends.
#[test]
fn large_texts_are_copied_whole() {
    if !ready() {
        return;
    }
    // Each byte tells where it belongs.
    let long: String =
        (0..3_500_000u32).map(|i| char::from(b'!' + u8::try_from(i % 89).unwrap()).to_string()).collect();
    let long = long.replace(['"', '\\'], "~");
    let case = case().set("/annotations", json!({ "long": long, "short": "x" })).args(&["sleep", "1000"]);
    case.write();
    case.create().ok();
    let state = case.state();
    assert!(state["annotations"]["long"] == json!(long), "another text came back");
    assert_eq!(state["annotations"]["short"], "x");
    case.tare(&["delete", "--force", &case.id]).ok();
}

#[test]
fn the_environment_and_every_argument_are_there() {
    let words: Vec<String> = (0..3000).map(|i| format!("word-{i}")).collect();
    let refused = run(Command::new(TARE).arg("state").args(&words));
    assert!(refused.code != 0 && refused.err.contains("state"), "{}", refused.err);
    // As the environment has it: whether the root of all states is that of a plain user.
    let mut command = Command::new(TARE);
    command.args(["state", "nobody-has-this-id"]).env_clear().env("XDG_RUNTIME_DIR", "/nowhere/at/all");
    let text = run(&mut command).err;
    assert!(text.contains("container does not exist"), "{text}");
    // What tunes glibc tunes nothing here, and hurts nothing.
    let tuned = run(Command::new(TARE).arg("--version").env("GLIBC_TUNABLES", "glibc.malloc.perturb=165")).ok();
    assert!(tuned.starts_with("tare version"), "{tuned}");
}

/// With more privilege than its caller it leaves the start to libc, which takes precautions then.
#[test]
fn a_program_with_more_privilege_than_its_caller_starts() {
    if !ready() {
        return;
    }
    let copy = Copy::with_mode(0o4755);
    let mut command = Command::new(&copy.0);
    command.arg("--version").env("GLIBC_TUNABLES", "glibc.malloc.check=3").uid(65534).gid(65534).current_dir("/");
    let version = run(&mut command).ok();
    assert!(version.contains("tare version"), "{version}");
}
