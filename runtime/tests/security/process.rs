//! Rules R4, R7 and R8: who the program is, and what it got that nobody gave it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::attacker;
use crate::support::{Case, TARE, case, ready, run};

/// Runs the case through another program that changes the caller first.
fn run_by(case: &Case, wrapper: &[&str]) -> crate::support::Output {
    case.write();
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(TARE).arg("--root").arg(case.dir.join("state")).args(["run", &case.id]);
    run(command.current_dir(&case.dir))
}

fn can(wrapper: &[&str]) -> bool {
    let can = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output().is_ok_and(|o| o.status.success());
    assert!(can || std::env::var_os("CI").is_none_or(|v| v != "true"), "{wrapper:?} cannot be run");
    if !can {
        println!("SKIP: {wrapper:?} cannot be run");
    }
    can
}

#[test]
fn names_that_look_like_numbers_are_nobodys() {
    if !ready() {
        return;
    }
    // CVE-2016-3697: a line of the image's passwd whose name is a number must not give that number another's ids.
    let case = case().set("/process/user/uid", json!(1000)).set("/process/user/gid", json!(1000));
    let case = case.set("/process/env", json!(["PATH=/bin"])).script("id -u; id -g; echo $HOME");
    std::fs::write(case.rootfs().join("etc/passwd"), "1000:x:0:0::/root:/bin/sh\nu:x:1000:5::/home/u:/bin/sh\n")
        .unwrap();
    std::fs::write(case.rootfs().join("etc/group"), "1000:x:0:1000\nwheel:x:10:u,1000\n").unwrap();
    case.yields("1000\n1000\n/home/u");
}

#[test]
fn a_user_that_is_no_number_is_refused() {
    if !ready() {
        return;
    }
    // CVE-2026-30892: what cannot be read as a user must not be read as root. CVE-2024-40635: nor what overflows.
    let case = case().args(&["sleep", "100"]).set("/process/user/uid", json!(1000));
    case.create().ok();
    case.on("start").ok();
    let overflow = ["4294967295", "4294967296", "18446744073709551616", "-1", "-4294967296", "0x0", "1e3"];
    let words =
        ["root", ":", ":0", "1000:", "1000:root", "1000:4294967295", "1000:0:0", "0 ", " 0", "nobody", "1000\n0"];
    for user in overflow.into_iter().chain(words) {
        let out = case.tare(&["exec", "--user", user, &case.id, "id", "-u"]);
        assert_ne!(out.code, 0, "{user:?}: {out:?}");
        assert_eq!(out.out, "", "{user:?}");
    }
    assert_eq!(case.tare(&["exec", &case.id, "id", "-u"]).ok(), "1000");
    assert_eq!(case.tare(&["exec", "--user", "7:8", &case.id, "sh", "-c", "id -u; id -g"]).ok(), "7\n8");
}

#[test]
fn ids_that_overflow_are_refused() {
    if !ready() {
        return;
    }
    // CVE-2024-40635: the kernel takes 4294967295 for "leave it", which is root.
    for id in [json!(4_294_967_295_u64), json!(4_294_967_296_u64), json!(-1), json!(1e20), json!("0"), json!(0.5)] {
        for field in ["uid", "gid"] {
            let at = format!("/process/user/{field}");
            case().script("id -u").set(&at, id.clone()).refused(&[&format!("process.user.{field}")]);
        }
        case().set("/process/user/additionalGids", json!([id])).refused(&["process.user.additionalGids[0]"]);
    }
}

#[test]
fn supplementary_groups_of_the_caller_are_gone() {
    if !ready() {
        return;
    }
    // CVE-2023-25173 and before: what is not asked for is not there, in run and in exec.
    let wrapper = ["setpriv", "--groups", "4242,4243"];
    if !can(&wrapper) {
        return;
    }
    let groups = "grep ^Groups /proc/self/status | tr -d ' \\t'";
    assert_eq!(run_by(&case().script(groups), &wrapper).ok(), "Groups:");
    let user = case().script(groups).user_namespace(65536);
    assert_eq!(run_by(&user, &wrapper).ok(), "Groups:");
    let asked = case().script(groups).set("/process/user/additionalGids", json!([7]));
    assert_eq!(run_by(&asked, &wrapper).ok(), "Groups:7");
    let init = case().args(&["sleep", "100"]);
    init.create().ok();
    init.on("start").ok();
    let mut exec = Command::new(wrapper[0]);
    exec.args(&wrapper[1..]).arg(TARE).arg("--root").arg(init.dir.join("state"));
    assert_eq!(run(exec.args(["exec", &init.id, "sh", "-c", groups])).ok(), "Groups:");
}

#[test]
fn inheritable_capabilities_are_empty_unless_asked_for() {
    if !ready() {
        return;
    }
    // CVE-2022-29162, CVE-2022-27650, GHSA-c9cp, CVE-2025-27612: neither from the caller nor by `exec`.
    let caps = "grep -e CapInh -e CapAmb /proc/self/status | cut -f2";
    let none = "0000000000000000\n0000000000000000";
    let wrapper = ["setpriv", "--inh-caps", "+chown,+kill", "--ambient-caps", "+chown"];
    if can(&wrapper) {
        assert_eq!(run_by(&case().script(caps), &wrapper).ok(), none);
        assert_eq!(run_by(&case().script(caps).set("/process/user/uid", json!(1000)), &wrapper).ok(), none);
    }
    case().script(caps).yields(none);
    let init = case().args(&["sleep", "100"]);
    init.create().ok();
    init.on("start").ok();
    for args in [&["exec"][..], &["exec", "--user", "1000"], &["exec", "--cap", "CAP_NET_RAW"]] {
        let args: Vec<&str> = args.iter().copied().chain([init.id.as_str(), "sh", "-c", caps]).collect();
        assert_eq!(init.tare(&args).ok(), none, "{args:?}");
    }
}

#[test]
fn a_capability_dropped_is_dropped_everywhere() {
    if !ready() {
        return;
    }
    // Promise P3: what the program has is what the config says, in all five sets.
    let case = case().caps(&["CAP_CHOWN"]).set("/process/noNewPrivileges", json!(true));
    let sets = "grep -e '^Cap' -e ^NoNewPrivs /proc/self/status | cut -f2 | tr '\\n' ' '";
    let one = "0000000000000001";
    let zero = "0000000000000000";
    case.script(sets).yields(&format!("{zero} {one} {one} {one} {zero} 1"));
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

#[test]
fn whoever_enters_a_container_cannot_be_reached() {
    if !ready() {
        return;
    }
    // CVE-2016-9962 as it was found: root of a container, who may trace, waits for `exec` to come in with descriptors of the host.
    let case = attacker::bring(case()).user_namespace(65536).caps(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    let case = case.set("/process/args", json!(attacker::command("reach_into_whoever_comes_in")));
    nix::unistd::chown(&case.rootfs().join("tmp"), Some(100_000.into()), Some(100_000.into())).unwrap();
    case.write();
    let said = case.dir.join("said");
    let out = std::fs::File::create(&said).unwrap();
    let init = case.command(&["run", &case.id]).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
    let init = std::cell::RefCell::new(init);
    let waits = || std::fs::read_to_string(&said).unwrap().contains("ATTACK waits");
    case.until("the attacker waits", || waits() || init.borrow_mut().try_wait().unwrap().is_some());
    for _ in 0..40 {
        case.tare(&["exec", &case.id, "true"]);
        if std::fs::read_to_string(&said).unwrap().contains("succeeded") {
            break;
        }
    }
    std::fs::write(case.rootfs().join("tmp/stop"), "").unwrap();
    init.borrow_mut().wait().unwrap();
    let out = std::fs::read_to_string(&said).unwrap();
    assert!(!out.contains("succeeded"), "{out}");
    let met = attacker::told(&out).iter().find_map(|l| l.strip_prefix("met ")?.parse::<u32>().ok());
    assert!(met.is_some_and(|met| met > 0), "the attacker met nobody: {out}");
}

#[test]
fn a_container_is_in_its_cgroups_and_nowhere_else() {
    if !ready() {
        return;
    }
    // CVE-2025-47291: a container that escapes its limits because it was never put under them.
    let case = case().args(&["sleep", "100"]);
    case.create().ok();
    case.on("start").ok();
    let whose = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    // A hierarchy that nobody has mounted here is none of the container's.
    let mounted = |l: &str| {
        let controllers = l.split(':').nth(1).unwrap().trim_start_matches("name=");
        Path::new("/sys/fs/cgroup").join(controllers).join("cgroup.procs").exists()
    };
    let is_wrong = |l: &&str| mounted(l) && !l.ends_with(&format!(":/{}", case.id));
    let wrong = |text: &str| text.lines().find(is_wrong).map(str::to_owned);
    assert_eq!(wrong(&whose(case.pid())), None);
    let pid_file = case.dir.join("pid");
    let exec = ["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), &case.id, "sleep", "100"];
    case.tare(&exec).ok();
    let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert_eq!(wrong(&whose(pid)), None);
}

#[test]
fn a_cgroup_filesystem_that_is_read_only_is_so_without_its_namespace() {
    if !ready() {
        return;
    }
    // CVE-2023-25809: without a cgroup namespace the whole hierarchy of the host is seen, and must not be written.
    for user in [false, true] {
        let case = case().without_namespace("cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid"]);
        let case = if user { case.user_namespace(65536) } else { case };
        let script = "cd /sys/fs/cgroup; find . -type d -maxdepth 2 | while read d; do mkdir $d/escaped 2>/dev/null && echo $d; done";
        let case = case.script(&format!("{script}; find . -name cgroup.procs | head -n 1 | wc -l"));
        case.yields("1");
    }
}

#[test]
fn lengths_in_a_config_have_no_narrower_place() {
    if !ready() {
        return;
    }
    // CVE-2021-43784: attributes whose length is kept in 16 bits. Nothing of a config travels as a message here: what is
    // long arrives as it is or is refused.
    let long = "x".repeat(70_000);
    case().args(&["sh", "-c", "echo ${#1}", "sh", &long]).yields("70000");
    let case = crate::support::case().user_namespace(65536);
    let maps: Vec<_> = (0..250).map(|i| json!({"containerID": i, "hostID": 200_000 + i * 2, "size": 1})).collect();
    let all = case.set("/linux/uidMappings", json!(maps)).set("/linux/gidMappings", json!(maps));
    nix::unistd::chown(&all.rootfs(), Some(200_000.into()), Some(200_000.into())).unwrap();
    all.script("wc -l </proc/self/uid_map").yields("250");
    let more: Vec<_> = (0..70_000).map(|i| json!({"containerID": i, "hostID": 200_000 + i * 2, "size": 1})).collect();
    crate::support::case()
        .namespace("user", None)
        .set("/linux/uidMappings", json!(more))
        .refused(&["linux.uidMappings"]);
    crate::support::case().namespace("ipc", Some(&format!("/{long}"))).refused(&["linux.namespaces["]);
}
