//! `process.apparmorProfile` and `exec --apparmor`, with a profile that is loaded for the test; and what is said where a
//! security module is not at work.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails is to panic; a skipped one says why")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Case, case, ready};

fn enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// A profile that denies one file, until it is dropped.
struct Profile(String);

impl Profile {
    fn load() -> Option<Profile> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        if !ready() || !enabled() {
            println!("SKIP: needs a host where AppArmor is at work");
            return None;
        }
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let profile = Profile(format!("tare-t{}-{next}", support::unique()));
        profile.parse("--replace");
        Some(profile)
    }

    fn parse(&self, how: &str) {
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  network,\n  signal,\n  \
             mount,\n  umount,\n  ptrace,\n  deny /etc/denied rw,\n}}\n",
            self.0
        );
        let mut parser = Command::new("apparmor_parser").arg(how).stdin(Stdio::piped()).spawn().unwrap();
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success());
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parse("--remove");
    }
}

const SHOW: &str = "cat /proc/self/attr/current; cat /etc/denied 2>/dev/null || echo denied";

fn confined(profile: &str) -> Case {
    let case = case().set("/process/apparmorProfile", json!(profile)).script(SHOW);
    std::fs::write(case.rootfs().join("etc/denied"), "open\n").unwrap();
    case
}

#[test]
fn a_profile_confines_the_program() {
    let Some(profile) = Profile::load() else { return };
    let says = format!("{} (enforce)\ndenied", profile.0);
    confined(&profile.0).yields(&says);
    // With no_new_privs a profile may be entered by who has none, and without it too.
    confined(&profile.0).set("/process/noNewPrivileges", json!(true)).yields(&says);
    confined(&profile.0).set("/process/noNewPrivileges", json!(false)).yields(&says);
    confined(&profile.0).set("/process/user", json!({"uid": 1000, "gid": 1000})).yields(&says);
    confined("unconfined").yields("unconfined\nopen");
    confined("").yields("unconfined\nopen");
}

#[test]
fn a_profile_confines_whatever_proc_the_container_sees() {
    let Some(profile) = Profile::load() else { return };
    let says = format!("{} (enforce)\ndenied", profile.0);
    confined(&profile.0).user_namespace(65536).yields(&says);
    let nothing = "cat /etc/denied 2>/dev/null || echo denied";
    confined(&profile.0).script(nothing).without_mount("/proc").yields("denied");
    confined(&profile.0).without_mount("/proc").mount("/proc", "proc", "proc", &["ro"]).yields(&says);
    let shared = |case: Case| case.without_namespace("pid").without_mount("/proc");
    shared(confined(&profile.0)).mount("/proc", "bind", "/proc", &["rbind"]).yields(&says);
    shared(confined(&profile.0).user_namespace(65536)).mount("/proc", "bind", "/proc", &["rbind"]).yields(&says);
    // Something else that is called /proc takes no label (CVE-2019-16884).
    confined(&profile.0).script(nothing).without_mount("/proc").mount("/proc", "tmpfs", "tmpfs", &[]).yields("denied");
}

#[test]
fn a_profile_confines_what_is_executed() {
    let Some(profile) = Profile::load() else { return };
    let said = |case: &Case, options: &[&str]| {
        let args = [&["exec"], options, &[&case.id, "sh", "-c", SHOW]].concat();
        case.tare(&args).ok()
    };
    let confining = format!("{} (enforce)\ndenied", profile.0);
    let case = confined("unconfined").args(&["sleep", "60"]);
    case.create().ok();
    assert_eq!(said(&case, &["--apparmor", &profile.0]), confining, "in a created container");
    case.on("start").ok();
    assert_eq!(said(&case, &[]), "unconfined\nopen");
    assert_eq!(said(&case, &["--apparmor", &profile.0]), confining);
    let missing = case.tare(&["exec", "--apparmor", "tare-nonesuch", &case.id, "id"]);
    assert_eq!(missing.code, 255);
    assert!(missing.err.contains("process.apparmorProfile: ") && missing.err.contains("tare-nonesuch"), "{missing:?}");
    let case = confined(&profile.0).args(&["sleep", "60"]);
    case.create().ok();
    case.on("start").ok();
    assert_eq!(said(&case, &[]), confining, "as the container's own");
    assert_eq!(said(&case, &["--apparmor", "unconfined"]), "unconfined\nopen");
}

#[test]
fn a_profile_that_is_not_loaded_is_named_and_nothing_is_left() {
    if Profile::load().is_none() {
        return;
    }
    confined("tare-nonesuch").refused(&[
        "process.apparmorProfile: ",
        "tare-nonesuch",
        "no AppArmor profile of that name is loaded",
        "no such file or directory",
    ]);
}

#[test]
fn a_label_of_a_module_that_is_not_at_work_is_an_error() {
    if !ready() {
        return;
    }
    if !enabled() {
        confined("tare-any").refused(&["process.apparmorProfile: ", "AppArmor is not enabled on this host"]);
        confined("unconfined").script("true").yields("");
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let label = json!("system_u:system_r:container_t:s0");
        let case = case().set("/process/selinuxLabel", label.clone());
        case.refused(&["process.selinuxLabel: ", "SELinux is not enabled on this host"]);
        let case = support::case().set("/linux/mountLabel", label);
        case.refused(&["linux.mountLabel: ", "SELinux is not enabled on this host"]);
    }
}
