//! Rules R10 and R11: what is on disk is for its owner alone, and nothing that a container says is without a bound.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{case, ready, slowness};

#[test]
fn the_state_is_for_the_owner_alone() {
    if !ready() {
        return;
    }
    // CVE-2021-41103, CVE-2024-25621: even where the caller's umask hides nothing.
    let case = case().args(&["sleep", "100"]);
    case.write();
    let root = case.dir.join("state");
    let script = format!("umask 0; exec {} --root {} create {}", crate::support::TARE, root.display(), case.id);
    crate::support::run(std::process::Command::new("sh").arg("-c").arg(script).current_dir(&case.dir)).ok();
    for path in [case.dir.join("state"), case.state_dir()] {
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o077, 0, "{}", path.display());
    }
    for entry in std::fs::read_dir(case.state_dir()).unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{}", entry.path().display());
    }
}

#[test]
fn a_passwd_without_end_is_not_read_to_its_end() {
    if !ready() {
        return;
    }
    // CVE-2026-47262 and its kin: files of the image that are looked at are bounded, and regular.
    let case = case().set("/process/env", json!(["PATH=/bin"])).script("echo $HOME");
    let path = case.rootfs().join("etc/passwd");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(8 << 30).unwrap();
    let begin = Instant::now();
    case.yields("/");
    assert!(begin.elapsed() < Duration::from_secs(3) * slowness(), "{:?}", begin.elapsed());
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    case.yields("/");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    case.yields("/");
}

#[test]
fn a_hook_that_never_stops_talking_is_bounded() {
    if !ready() {
        return;
    }
    // CVE-2022-31030, CVE-2025-64329: output that is kept is kept up to a bound, and the talker is not waited for.
    let case = case();
    let size = case.dir.join("size");
    // What the file that it talks into holds, in blocks of 512 bytes.
    let talk = format!("yes talk | head -c 10000000; stat -L -c %b /proc/self/fd/2 >{}; exit 3", size.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", talk], "timeout": 15});
    let begin = Instant::now();
    let case = case.set("/hooks/createRuntime/-", hook);
    let out = case.create();
    assert_eq!(out.code, 1);
    assert!(out.err.contains("hook") && out.err.len() < 4096, "{} bytes", out.err.len());
    assert!(begin.elapsed() < Duration::from_secs(15) * slowness());
    let kept = 512 * std::fs::read_to_string(size).unwrap().trim().parse::<u64>().unwrap();
    assert!((1..=1 << 20).contains(&kept), "{kept} bytes were kept");
}

#[test]
fn a_config_without_end_is_refused() {
    if !ready() {
        return;
    }
    // Rule R11: neither a device nor a file of gigabytes is read into memory.
    let case = case();
    case.write();
    let config = case.dir.join("config.json");
    for endless in ["zero", "large"] {
        std::fs::remove_file(&config).unwrap();
        if endless == "zero" {
            std::os::unix::fs::symlink("/dev/zero", &config).unwrap();
        } else {
            std::fs::File::create(&config).unwrap().set_len(64 << 30).unwrap();
        }
        for verb in ["create", "run"] {
            let out = case.on(verb);
            assert_eq!(out.code, 1, "{endless}: {out:?}");
            assert!(out.err.contains("is the limit"), "{endless}: {out:?}");
        }
    }
}
