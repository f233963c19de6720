//! Rule R3: what is written to proc goes to a proc of our own, and only where it was meant to.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::canary::Canary;
use crate::support::{case, ready};

#[test]
fn sysctls_go_to_a_proc_of_our_own() {
    if !ready() {
        return;
    }
    // CVE-2019-16884, CVE-2023-28642, CVE-2025-52881, CVE-2025-62596: a filesystem over /proc with a file of that name in it
    // must not swallow the write. Labels take the same way (`InitOp::WriteProc`).
    let canary = Canary::new();
    let case = case().without_mount("/proc").mount("/proc", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let case = case.mount("/real", "proc", "proc", &[]);
    let fake = case.rootfs().join("proc/sys/net/ipv4");
    std::fs::create_dir_all(&fake).unwrap();
    std::fs::write(fake.join("ip_forward"), "fake\n").unwrap();
    let case = case.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    let case = case.script("cat /proc/sys/net/ipv4/ip_forward /real/sys/net/ipv4/ip_forward");
    case.yields("fake\n1");
    assert_eq!(std::fs::read_to_string(fake.join("ip_forward")).unwrap(), "fake\n");
    canary.is_untouched();
}

#[test]
fn a_sysctl_is_not_redirected_by_links() {
    if !ready() {
        return;
    }
    // CVE-2025-52881: the same, with a link to a file of the host in the place of the parameter.
    let canary = Canary::new();
    let case = case().without_mount("/proc").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    let fake = case.rootfs().join("proc/sys/net/ipv4");
    std::fs::create_dir_all(&fake).unwrap();
    symlink(canary.dir.join("file"), fake.join("ip_forward")).unwrap();
    let case = case.mount("/real", "proc", "proc", &[]).script("cat /real/sys/net/ipv4/ip_forward");
    case.yields("1");
    canary.is_untouched();
}

#[test]
fn sysctls_cannot_leave_their_directory() {
    if !ready() {
        return;
    }
    // CVE-2022-0811 and its kin.
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for key in [
        "kernel.shm_rmid_forced\n+kernel.core_pattern",
        "kernel.shm_rmid_forced+kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net...kernel.core_pattern",
        "net./../kernel/core_pattern",
        "/kernel/core_pattern",
        "kernel.core_pattern",
        "",
    ] {
        let case = case().set("/linux/sysctl", json!({key: before.trim_end()}));
        case.refused(&["linux.sysctl"]);
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

#[test]
fn a_label_that_cannot_be_set_is_refused() {
    if !ready() {
        return;
    }
    // Rule R8: where the kernel has no such module, a label is an error and never silence.
    let enabled = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if !enabled.contains("apparmor") {
        case().set("/process/apparmorProfile", json!("x")).refused(&["process.apparmorProfile"]);
    }
    if !enabled.contains("selinux") {
        case().set("/process/selinuxLabel", json!("x:y:z:s0")).refused(&["process.selinuxLabel"]);
    }
}
