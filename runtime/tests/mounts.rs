//! `mounts`, `linux.devices`, masked and read-only paths, propagation: seen from inside.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::json;
use support::{Case, case, ready};

/// The options of a mount as /proc/mounts tells them, one to a line and sorted.
fn options_of(path: &str) -> String {
    format!("grep ' {path} ' /proc/mounts | tail -1 | cut -d' ' -f4 | tr ',' '\\n'")
}

/// A bundle with a host directory `source` that holds a file and a mount below.
fn with_source() -> Case {
    let case = case();
    let source = case.dir.join("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("file"), "content").unwrap();
    case
}

#[test]
fn a_tmpfs_with_its_options() {
    if !ready() {
        return;
    }
    let case = case().mount("/t", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "size=64k", "mode=700", "ro"]);
    let says = case.script(&format!("{}; stat -c %a /t", options_of("/t"))).says();
    for option in ["ro", "nosuid", "nodev", "noexec", "size=64k", "mode=700"] {
        assert!(says.lines().any(|l| l == option), "{option}: {says}");
    }
    assert!(says.ends_with("\n700"), "{says}");
}

#[test]
fn every_flag_and_its_opposite_on_a_bind_mount() {
    if !ready() {
        return;
    }
    let flags = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"];
    for flag in flags {
        let case = with_source().mount("/m", "bind", "source", &["bind", flag]).script(&options_of("/m"));
        let says = case.says();
        assert!(says.lines().any(|l| l == flag), "{flag}: {says}");
    }
    for (on, off) in [
        ("ro", "rw"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("noexec", "exec"),
        ("nosymfollow", "symfollow"),
        ("nodiratime", "diratime"),
    ] {
        let case = with_source().mount("/m", "bind", "source", &["bind", on, off]).script(&options_of("/m"));
        let says = case.says();
        assert!(!says.lines().any(|l| l == on), "{on},{off}: {says}");
    }
    for (option, is) in [("relatime", "relatime"), ("noatime", "noatime"), ("strictatime", "")] {
        let says = with_source().mount("/m", "bind", "source", &["bind", option]).script(&options_of("/m")).says();
        let atime: Vec<_> = says.lines().filter(|l| l.contains("atime")).collect();
        assert_eq!(atime.join(","), is, "{option}: {says}");
    }
}

#[test]
fn recursive_flags_reach_the_mounts_below() {
    if !ready() {
        return;
    }
    for (flag, is) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnosymfollow", "nosymfollow"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
    ] {
        let case = case()
            .mount("/a", "tmpfs", "tmpfs", &[])
            .mount("/a/below", "tmpfs", "tmpfs", &[])
            .mount("/a", "bind", "/dev", &["rbind", flag])
            .script(&format!("{}; echo; {}", options_of("/a"), options_of("/a/shm")));
        let says = case.says();
        assert_eq!(says.lines().filter(|l| *l == is).count(), 2, "{flag}: {says}");
    }
    let case = case().mount("/a", "bind", "/dev", &["rbind", "ro"]).script(&options_of("/a/shm"));
    assert!(!case.says().lines().any(|l| l == "ro"), "ro alone is not recursive");
}

#[test]
fn a_bind_mount_of_a_file_and_of_a_relative_source() {
    if !ready() {
        return;
    }
    with_source().mount("/f", "bind", "source/file", &["bind"]).args(&["cat", "/f"]).yields("content");
    with_source().mount("/d", "", "source", &["rbind"]).args(&["cat", "/d/file"]).yields("content");
    with_source().mount("/deep/er", "bind", "source/file", &[]).args(&["cat", "/deep/er"]).yields("content");
    case().mount("/d", "bind", "nowhere", &["bind"]).refused(&["mounts[7]", "no such file or directory"]);
    case()
        .mount("/bin", "bind", "config.json", &["bind"])
        .refused(&["mounts[7]", "must be mounted on ordinary directory"]);
}

#[test]
fn what_is_wrong_with_a_mount_is_told_by_its_index() {
    if !ready() {
        return;
    }
    case().mount("/x", "ext9", "none", &[]).refused(&["mounts[7]", "ext9", "/proc/filesystems"]);
    case().mount("/x", "tmpfs", "tmpfs", &["sise=4"]).refused(&["mounts[7]", "sise"]);
    case().mount("", "tmpfs", "tmpfs", &[]).refused(&["mounts[7].destination"]);
    case().mount("/x", "", "x", &[]).refused(&["mounts[7].type"]);
    case().mount("/x", "bind", "", &[]).refused(&["mounts[7].source"]);
    case().mount("/", "tmpfs", "tmpfs", &[]).refused(&["mounts[7].destination"]);
    case().mount("/x", "proc", "proc", &["tmpcopyup"]).refused(&["mounts[7].options"]);
    case().mount("/x", "tmpfs", "tmpfs", &["idmap"]).refused(&["mounts[7]"]);
}

#[test]
fn propagation_of_a_mount() {
    if !ready() {
        return;
    }
    let fields = "grep ' /m ' /proc/self/mountinfo | sed 's/.* \\([a-z]*:[0-9]*\\) .*/\\1/; s/:.*//' | grep -E 'shared|master|unbindable' || grep -c ' /m .*unbindable' /proc/self/mountinfo";
    for (option, is) in [("shared", "shared"), ("rshared", "shared"), ("private", "0"), ("unbindable", "1")] {
        let says = case().mount("/m", "tmpfs", "tmpfs", &[option]).script(fields).run();
        assert_eq!(says.out.trim_end(), is, "{option}: {}", says.err);
    }
}

#[test]
fn root_propagation() {
    if !ready() {
        return;
    }
    let own =
        "grep ' / / ' /proc/self/mountinfo | head -1; grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo";
    for (value, holds, not) in [
        ("shared", "shared:", ""),
        ("private", "", "shared:"),
        ("slave", "", "shared:"),
        ("unbindable", "unbindable", "shared:"),
    ] {
        let case = case().set("/linux/rootfsPropagation", json!(value)).script(own);
        let says = case.says();
        assert!(says.contains(holds), "{value}: {says}");
        assert!(not.is_empty() || !says.contains(not), "{value}: {says}");
    }
    case().set("/linux/rootfsPropagation", json!("public")).refused(&["linux.rootfsPropagation"]);
}

#[test]
fn what_is_mounted_inside_is_not_seen_by_the_host() {
    if !ready() {
        return;
    }
    let case = case().caps(&["CAP_SYS_ADMIN"]).script("mkdir /new; mount -t tmpfs x /new && echo done; sleep 100");
    let case = case.set("/linux/rootfsPropagation", json!("shared"));
    case.write();
    case.tare(&["run", "-d", &case.id]).ok();
    case.until("mounted", || case.rootfs().join("new").exists());
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&case.id));
}

#[test]
fn tmpcopyup_keeps_what_was_there() {
    if !ready() {
        return;
    }
    let case = case().caps(&["CAP_DAC_OVERRIDE"]).mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let data = case.rootfs().join("data");
    std::fs::create_dir_all(data.join("dir")).unwrap();
    std::fs::write(data.join("dir/file"), "kept").unwrap();
    symlink("dir/file", data.join("link")).unwrap();
    nix::unistd::chown(&data.join("dir/file"), Some(12.into()), Some(34.into())).unwrap();
    let case = case.script("cat /data/link; stat -c ' %u:%g' /data/dir/file; echo new >/data/dir/file");
    case.yields("kept 12:34");
    assert_eq!(std::fs::read_to_string(data.join("dir/file")).unwrap(), "kept");
}

#[test]
fn id_mapped_mounts() {
    if !ready() {
        return;
    }
    let owner = "stat -c %u:%g /m/file";
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let mount = json!({"destination": "/m", "type": "bind", "source": "source", "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map});
    with_source().set("/mounts/-", mount.clone()).script(owner).yields("1000:1000");
    let mut lacking = mount.clone();
    lacking.as_object_mut().unwrap().remove("gidMappings");
    with_source().set("/mounts/-", lacking).refused(&["mounts[7].gidMappings"]);
    for option in ["idmap", "ridmap"] {
        with_source()
            .user_namespace(65536)
            .mount("/m", "bind", "source", &["rbind", option])
            .script(owner)
            .yields("0:0");
    }
    with_source().mount("/m", "bind", "source", &["bind", "idmap"]).refused(&["mounts[7].options"]);
}

#[test]
fn links_as_source_and_destination() {
    if !ready() {
        return;
    }
    let linked = |options: &[&str]| {
        let case = with_source().mount("/m", "bind", "link", options).script("readlink /m || ls /m");
        symlink("source", case.dir.join("link")).unwrap();
        case
    };
    linked(&["bind"]).yields("file\nsub");
    linked(&["bind", "copy-symlink"]).yields("source");
    linked(&["bind", "src-nofollow"]).yields("source");
    let case = with_source().mount("/link", "bind", "source", &["bind", "dest-nofollow"]);
    symlink("/tmp", case.rootfs().join("link")).unwrap();
    case.run().refused(&["mounts[7]"]);
}

#[test]
fn remount_changes_what_is_there() {
    if !ready() {
        return;
    }
    let case = case().mount("/t", "tmpfs", "tmpfs", &[]).mount("/t", "", "", &["remount", "ro", "nosuid"]);
    let says = case.script(&options_of("/t")).says();
    assert!(says.lines().any(|l| l == "ro"), "{says}");
    let case = with_source().mount("/m", "bind", "source", &["bind"]).mount("/m", "", "", &["remount", "bind", "ro"]);
    let says = case.script(&options_of("/m")).says();
    assert!(says.lines().any(|l| l == "ro"), "{says}");
}

#[test]
fn devices_are_there_and_more_can_be_asked_for() {
    if !ready() {
        return;
    }
    case()
        .script("for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done; for l in fd ptmx stdout; do readlink /dev/$l; done")
        .yields("/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n/dev/tty 5:0 666\n/proc/self/fd\npts/ptmx\n/proc/self/fd/1");
    let device = json!({"path": "/dev/my", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4});
    case()
        .set("/linux/devices", json!([device]))
        .script("stat -c '%F %t:%T %a %u:%g' /dev/my")
        .yields("character special file 1:5 640 3:4");
    let fifo = json!({"path": "/fifo", "type": "p"});
    case().set("/linux/devices", json!([fifo])).script("stat -c %F /fifo").yields("fifo");
    for (device, field) in [
        (json!({"path": "/dev/x", "type": "q", "major": 1, "minor": 1}), "linux.devices[0].type"),
        (json!({"path": "/dev/x", "type": "c", "minor": 1}), "linux.devices[0].major"),
        (json!({"path": "dev/x", "type": "c", "major": 1, "minor": 1}), "linux.devices[0].path"),
    ] {
        case().set("/linux/devices", json!([device])).refused(&[field]);
    }
}

#[test]
fn a_file_in_a_devices_place_is_refused() {
    if !ready() {
        return;
    }
    let case =
        case().without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue").without_mount("/dev");
    std::fs::write(case.rootfs().join("dev/null"), "not the device").unwrap();
    case.refused(&["/dev/null"]);
}

#[test]
fn device_rules_hold() {
    if !ready() {
        return;
    }
    let open = "mknod /dev/k c 1 11 && { head -c 0 </dev/k && echo open || echo denied; } 2>/dev/null; head -c 1 /dev/zero | wc -c";
    case().caps(KMSG_CAPS).script(open).yields("denied\n1");
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"});
    case().caps(KMSG_CAPS).set("/linux/resources/devices/-", rule).script(open).yields("open\n1");
    let wrong = json!({"allow": true, "type": "c", "access": "x"});
    case().set("/linux/resources/devices/-", wrong).refused(&["linux.resources.devices[1]"]);
}

const KMSG_CAPS: &[&str] = &["CAP_MKNOD", "CAP_SYSLOG"];

#[test]
fn masked_and_read_only_paths() {
    if !ready() {
        return;
    }
    let case = case().set("/linux/maskedPaths", json!(["/secret", "/secrets", "/not/there", "/proc/kcore"]));
    let case = case.set("/linux/readonlyPaths", json!(["/tmp", "/not/there"]));
    std::fs::write(case.rootfs().join("secret"), "s").unwrap();
    std::fs::create_dir(case.rootfs().join("secrets")).unwrap();
    std::fs::write(case.rootfs().join("secrets/one"), "s").unwrap();
    case.script("cat /secret; ls /secrets; cat /proc/kcore | head -c 10; touch /tmp/x 2>/dev/null || echo read-only")
        .yields("read-only");
    support::case().set("/linux/maskedPaths", json!(["relative"])).refused(&["linux.maskedPaths[0]"]);
    support::case().set("/linux/readonlyPaths", json!(["relative"])).refused(&["linux.readonlyPaths[0]"]);
}

#[test]
fn a_masked_directory_stays_masked_however_often() {
    if !ready() {
        return;
    }
    let case = case().set("/linux/maskedPaths", json!(["/a", "/b", "/c", "/a"]));
    for name in ["a", "b", "c"] {
        std::fs::create_dir(case.rootfs().join(name)).unwrap();
        std::fs::write(case.rootfs().join(name).join("x"), "").unwrap();
    }
    case.script("ls /a /b /c").yields("/a:\n\n/b:\n\n/c:");
}

#[test]
fn the_cgroup_mount_shows_the_containers_own() {
    if !ready() {
        return;
    }
    for namespaced in [false, true] {
        for mode in ["ro", "rw"] {
            let case = case().without_mount("/sys/fs/cgroup").mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &["nosuid", "noexec", "nodev", "relatime", mode],
            );
            let case = if namespaced { case.namespace("cgroup", None) } else { case };
            let case = case.script(
                "d=/sys/fs/cgroup/pids; test -d $d || d=/sys/fs/cgroup; grep -qx 1 $d/cgroup.procs && echo own; mkdir $d/sub 2>/dev/null && echo rw && rmdir $d/sub || echo ro; ls /sys/fs/cgroup | wc -l",
            );
            let says = case.run();
            let lines: Vec<_> = says.out.lines().collect();
            assert_eq!(lines.get(..2), Some(&["own", mode][..]), "{namespaced} {mode}: {says:?}");
        }
    }
}

#[test]
fn proc_and_sys_are_the_containers() {
    if !ready() {
        return;
    }
    case()
        .script("ls -d /proc/[0-9]* | head -1; ls /sys/class/net; touch /sys/x 2>/dev/null || echo ro")
        .yields("/proc/1\nlo\nro");
    case()
        .script("ls /dev/pts; ls -ld /dev/shm | cut -c1-10; ls -d /dev/mqueue")
        .yields("ptmx\ndrwxrwxrwt\n/dev/mqueue");
}

#[test]
fn long_options_of_an_overlay_are_taken() {
    if !ready() {
        return;
    }
    let case = case();
    let long = "d".repeat(120);
    for dir in [format!("{long}1"), format!("{long}2"), format!("{long}3"), "upper".into(), "work".into()] {
        std::fs::create_dir(case.dir.join(dir)).unwrap();
    }
    std::fs::write(case.dir.join(format!("{long}3")).join("deep"), "").unwrap();
    let at = |name: &str| case.dir.join(name).display().to_string();
    let lower = format!("lowerdir={}:{}:{}", at(&format!("{long}1")), at(&format!("{long}2")), at(&format!("{long}3")));
    // The upper layer must lie on a filesystem that overlayfs takes as one: a tmpfs always is.
    let case = case.mount("/o", "overlay", "overlay", &[&lower, "ro"]);
    case.script("ls /o").yields("deep");
}

#[test]
fn a_mount_over_a_path_that_is_made_leaves_plain_files() {
    if !ready() {
        return;
    }
    let case = with_source().mount("/new/file", "bind", "source/file", &["bind"]);
    case.run().ok();
    let made = std::fs::metadata(case.rootfs().join("new/file")).unwrap();
    assert_eq!((made.len(), made.mode() & 0o777), (0, 0o644));
}
