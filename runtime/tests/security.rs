//! Classes of attacks that are known of other runtimes, each with a canary on the host that must stay as it is.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;
use support::{Case, case, ready};

/// A directory of the host, beside the bundle, that no container may touch.
struct Canary {
    dir: PathBuf,
    before: Vec<String>,
}

fn look(dir: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let text = std::fs::read(&path).unwrap_or_default();
        seen.push(format!("{} {} {:o} {} {}", path.display(), meta.ino(), meta.mode(), meta.ctime_nsec(), text.len()));
        if meta.is_dir() {
            seen.extend(look(&path));
        }
    }
    seen.sort();
    seen
}

impl Canary {
    fn beside(case: &Case) -> Self {
        let dir = case.dir.join("canary");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("file"), "untouched").unwrap();
        let before = look(&dir);
        Canary { dir, before }
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(look(&self.dir), self.before);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.to_str().unwrap()), "something is mounted on the canary");
    }
}

/// Replaces a directory of the image by a link.
fn swap(case: &Case, name: &str, target: &std::path::Path) {
    let path = case.rootfs().join(name);
    let _ = std::fs::remove_dir_all(&path);
    symlink(target, path).unwrap();
}

#[test]
fn a_root_that_is_a_link_to_a_directory_of_the_host() {
    if !ready() {
        return;
    }
    // CVE-2019-18837 and others: what the bundle's owner names is followed, what the image holds is not.
    let case = case().script("true");
    let canary = Canary::beside(&case);
    std::fs::rename(case.rootfs(), case.dir.join("real")).unwrap();
    symlink(&canary.dir, case.rootfs()).unwrap();
    let out = case.run();
    assert_ne!(out.code, 0, "there is no program in the canary: {out:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("canary"));
}

#[test]
fn proc_or_sys_as_a_link_in_the_image_stays_inside() {
    if !ready() {
        return;
    }
    // CVE-2019-19921, CVE-2023-27561, CVE-2025-54867.
    for name in ["proc", "sys", "dev"] {
        let case = case().script("echo ran");
        let canary = Canary::beside(&case);
        swap(&case, name, &canary.dir);
        let out = case.run();
        canary.is_untouched();
        // Either it is refused, or the link was followed inside the root.
        assert!(out.code == 1 || out.out.trim() == "ran", "{name}: {out:?}");
        assert_eq!(case.left(), Vec::<String>::new());
    }
    for name in ["proc", "sys", "dev"] {
        let case = case().script("true");
        let canary = Canary::beside(&case);
        swap(&case, name, std::path::Path::new("../../../../../../../../tmp"));
        let _ = case.run();
        canary.is_untouched();
    }
}

#[test]
fn destinations_through_links_stay_inside() {
    if !ready() {
        return;
    }
    for link in ["absolute", "relative"] {
        let case =
            case().mount("/out/new/dir", "tmpfs", "tmpfs", &[]).mount("/out/file", "bind", "config.json", &["bind"]);
        let canary = Canary::beside(&case);
        let target = if link == "absolute" { canary.dir.clone() } else { PathBuf::from("../canary") };
        swap(&case, "out", &target);
        let out = case.run();
        canary.is_untouched();
        assert!(out.code <= 1, "{out:?}");
    }
}

#[test]
fn devices_and_links_in_a_dev_that_is_a_link_stay_inside() {
    if !ready() {
        return;
    }
    // CVE-2026-47766, CVE-2026-41579: no tmpfs over /dev, and /dev leads out.
    let mut case = case().script("true");
    for mount in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        case = case.without_mount(mount);
    }
    let canary = Canary::beside(&case);
    swap(&case, "dev", &canary.dir);
    let _ = case.run();
    canary.is_untouched();
}

#[test]
fn a_magic_link_as_destination_is_not_followed() {
    if !ready() {
        return;
    }
    for target in ["/proc/self/root", "/proc/1/cwd", "/proc/self/fd/7", "/proc/self/exe"] {
        let case = case().mount("/evil/x", "tmpfs", "tmpfs", &[]);
        let canary = Canary::beside(&case);
        swap(&case, "evil", std::path::Path::new(target));
        let out = case.run();
        assert_eq!(out.code, 1, "{target}: {out:?}");
        canary.is_untouched();
    }
}

#[test]
fn masks_do_not_come_from_the_image() {
    if !ready() {
        return;
    }
    // CVE-2025-31133: the mask's source is the host's /dev/null, whatever the image has in its place.
    let mut case = case().set("/linux/maskedPaths", json!(["/secret"]));
    for mount in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        case = case.without_mount(mount);
    }
    std::fs::write(case.rootfs().join("secret"), "secret").unwrap();
    symlink("/etc/passwd", case.rootfs().join("dev/null")).unwrap();
    let canary = Canary::beside(&case);
    let case = case.script("cat /secret; stat -c %t:%T /secret");
    let out = case.run();
    canary.is_untouched();
    assert!(out.code == 1 || out.out.trim() == "1:3", "{out:?}");
    assert!(!out.out.contains("secret"));
}

#[test]
fn a_masked_path_that_is_a_link_out_stays_inside() {
    if !ready() {
        return;
    }
    let case = case().set("/linux/maskedPaths", json!(["/mask"])).set("/linux/readonlyPaths", json!(["/ro"]));
    let canary = Canary::beside(&case);
    swap(&case, "mask", &canary.dir.join("file"));
    swap(&case, "ro", &canary.dir);
    let _ = case.run();
    canary.is_untouched();
    std::fs::write(canary.dir.join("file"), "untouched").unwrap();
}

#[test]
fn sysctls_cannot_leave_their_directory() {
    if !ready() {
        return;
    }
    // CVE-2022-0811 and its kin.
    for key in [
        "kernel.shm_rmid_forced\n+kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net...kernel.core_pattern",
        "net./../kernel/core_pattern",
        "/kernel/core_pattern",
        "",
    ] {
        let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let mut sysctl = serde_json::Map::new();
        sysctl.insert(key.to_owned(), json!("|/bin/evil"));
        case().set("/linux/sysctl", json!(sysctl)).refused(&["linux.sysctl"]);
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

#[test]
fn a_working_directory_outside_the_root_is_refused() {
    if !ready() {
        return;
    }
    // CVE-2024-21626: a descriptor that leaked into init is no way out.
    // What such a descriptor leads to may lie inside, as the container's own /proc does: then its path leads there as well.
    let script = "here=$(stat -c %d:%i .); cd \"$(pwd)\" && test $here = $(stat -c %d:%i .) && echo inside";
    for fd in 3..14 {
        let path = format!("/proc/self/fd/{fd}");
        let named = case().script(script).set("/process/cwd", json!(path));
        let linked = case().script(script).set("/process/cwd", json!("/link"));
        symlink(&path, linked.rootfs().join("link")).unwrap();
        for out in [named.run(), linked.run()] {
            assert!(out.code == 1 || out.out == "inside\n", "{fd}: {out:?}");
        }
    }
}

#[test]
fn a_program_that_is_a_descriptor_of_ours_is_not_executed() {
    if !ready() {
        return;
    }
    // CVE-2019-5736: /proc/self/exe of init is the runtime.
    for program in ["/proc/self/exe", "/proc/self/fd/3", "/proc/self/fd/5"] {
        let out = case().args(&[program, "--version"]).run();
        assert!(out.code != 0 || !out.out.contains("tare"), "{program}: {out:?}");
    }
}

#[test]
fn labels_and_sysctls_go_to_a_proc_of_our_own() {
    if !ready() {
        return;
    }
    // CVE-2019-16884, CVE-2025-52881: a tmpfs over /proc with a file of that name in it must not swallow the write.
    let mut case = case().without_mount("/proc").mount("/proc", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let fake = case.rootfs().join("proc/sys/net/ipv4");
    std::fs::create_dir_all(&fake).unwrap();
    std::fs::write(fake.join("ip_forward"), "fake").unwrap();
    case = case.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    let case = case.script("cat /proc/sys/net/ipv4/ip_forward");
    case.yields("fake");
    assert_eq!(std::fs::read_to_string(fake.join("ip_forward")).unwrap(), "fake");
}

#[test]
fn inheritable_capabilities_are_empty_unless_asked_for() {
    if !ready() {
        return;
    }
    // CVE-2022-29162, CVE-2022-27650.
    case().script("grep CapInh /proc/self/status | cut -f2").yields("0000000000000000");
}

#[test]
fn supplementary_groups_of_the_caller_are_gone() {
    if !ready() {
        return;
    }
    // CVE-2023-25173 and before: what is not asked for is not there.
    case().script("grep ^Groups /proc/self/status | tr -d ' \\t'").yields("Groups:");
}

#[test]
fn the_state_is_for_the_owner_alone() {
    if !ready() {
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let case = case().args(&["sleep", "100"]);
    case.create().ok();
    for path in [case.dir.join("state"), case.state_dir()] {
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o077, 0, "{}", path.display());
    }
    for entry in std::fs::read_dir(case.state_dir()).unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{}", entry.path().display());
    }
}

#[test]
fn init_cannot_be_traced_before_it_is_executed() {
    if !ready() {
        return;
    }
    // CVE-2016-9962: files in /proc of an undumpable process belong to root of the host.
    let case = case().args(&["sleep", "100"]).user_namespace(65536).set("/process/user/uid", json!(1000));
    case.create().ok();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(format!("/proc/{}/environ", case.pid())).unwrap().uid(), 0);
}
