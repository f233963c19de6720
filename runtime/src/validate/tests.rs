#![allow(clippy::disallowed_methods, reason = "tests read the configs of the fixtures")]

mod process_rules;

use super::*;
use crate::parse;

/// Errors and warnings of a text.
fn told_of(text: &[u8]) -> (Vec<String>, Vec<String>) {
    let (read, _) = parse::config(text).unwrap_or_else(|e| panic!("{e}"));
    let mut problems = Problems::default();
    spec(&read, &mut problems);
    let lines = |list: Vec<crate::error::Problem>| list.iter().map(ToString::to_string).collect();
    (lines(problems.errors), lines(problems.warnings))
}

/// Errors and warnings of a config that is right but for `rest`.
fn told(rest: &str) -> (Vec<String>, Vec<String>) {
    told_of(format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"rootfs"}}{rest}}}"#).as_bytes())
}

fn process(rest: &str) -> (Vec<String>, Vec<String>) {
    told(&format!(r#","process":{{"args":["true"],"cwd":"/"{rest}}}"#))
}

fn linux(rest: &str) -> (Vec<String>, Vec<String>) {
    told(&format!(r#","linux":{{{rest}}}"#))
}

/// Nothing is wrong.
#[track_caller]
fn fine(told: (Vec<String>, Vec<String>)) {
    assert_eq!(told, (vec![], vec![]));
}

/// Exactly these are wrong: each told line begins with its.
#[track_caller]
fn wrong(told: (Vec<String>, Vec<String>), begins: &[&str]) {
    let matches =
        told.0.len() == begins.len() && told.0.iter().zip(begins).all(|(line, begin)| line.starts_with(begin));
    assert!(matches && told.1.is_empty(), "told {told:#?}, wanted {begins:#?}");
}

/// Nothing but these warnings.
#[track_caller]
fn warned(told: (Vec<String>, Vec<String>), lines: &[&str]) {
    assert_eq!((&*told.0, &*told.1), (&[][..], lines.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice()));
}

#[test]
fn engines_write_what_is_right() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/configs");
    let mut count = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(told_of(&std::fs::read(&path).unwrap()), (vec![], vec![]), "{}", path.display());
        count += 1;
    }
    assert!(count >= 12, "{count}");
}

#[test]
fn schema_examples() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/schema/good/");
    let file = |name: &str| told_of(&std::fs::read(format!("{dir}{name}.json")).unwrap());
    fine(file("minimal"));
    fine(file("minimal-for-start"));
    fine(file("linux-rdma"));
    // The other examples are for another major version or another platform.
    wrong(file("linux-netdevice"), &["linux.netDevices[\"ens4\"]: needs its own network namespace"]);
}

#[test]
fn versions() {
    let version = |v: &str| told_of(format!(r#"{{"ociVersion":"{v}","root":{{"path":"r"}}}}"#).as_bytes());
    for good in ["1.0.0", "1.3.0", "1.0.2-dev", "1.0.0-rc5-dev", "1.2.0+build.01", "1.0.0-alpha.1.x-y+z"] {
        fine(version(good));
    }
    for bad in [
        "",
        "1",
        "1.3",
        "1.3.0.0",
        "v1.3.0",
        "01.3.0",
        "1.3.00",
        "1.0.0-",
        "1.0.0-01",
        "1.0.0-a..b",
        "1.0.0+",
        "1.0.0-é",
        "1.x.0",
        "1.0.0 ",
        "99999999999999999999.0.0",
    ] {
        wrong(version(bad), &[&format!("ociVersion: {bad:?} is no SemVer")]);
    }
    wrong(version("2.0.0"), &["ociVersion: 2.0.0 has major version 2"]);
    wrong(version("0.5.0-dev"), &["ociVersion: 0.5.0-dev has major version 0"]);
    warned(version("1.4.0"), &["ociVersion: 1.4.0 is newer than 1.3; properties that it added are ignored"]);
}

#[test]
fn root() {
    wrong(told_of(br#"{"ociVersion":"1.3.0"}"#), &["root: is required"]);
    wrong(told_of(br#"{"ociVersion":"1.3.0","root":{"path":""}}"#), &["root.path: is empty"]);
    wrong(told_of(br#"{"ociVersion":"1.3.0","root":{"path":"a\u0000b"}}"#), &["root.path: \"a\\0b\" holds a NUL"]);
}

#[test]
fn everything_at_once() {
    let told =
        told(r#","hostname":"h","annotations":{"":"x"},"process":{"args":[],"cwd":"x"},"mounts":[{"destination":""}]"#);
    wrong(
        told,
        &[
            "process.args: is empty",
            "process.cwd: \"x\" is no absolute path",
            "hostname: needs its own uts",
            "mounts[0].destination: is empty",
            "mounts[0].type: is required",
            "annotations[\"\"]: has an empty key",
        ],
    );
}

#[test]
fn uts_names() {
    let named = |name: &str| {
        told(&format!(r#","hostname":"{name}","domainname":"{name}","linux":{{"namespaces":[{{"type":"uts"}}]}}"#))
    };
    fine(named("a"));
    fine(named(&"x".repeat(64)));
    wrong(named(&"x".repeat(65)), &["hostname: is 65 bytes long; 64", "domainname: is 65 bytes"]);
    wrong(named("a\\u0000"), &["hostname: \"a\\0\" holds a NUL", "domainname: "]);
    fine(told(r#","hostname":"","domainname":"""#));
    fine(told(r#","hostname":"a","linux":{"namespaces":[{"type":"uts","path":"/proc/1/ns/uts"}]}"#));
    wrong(told(r#","domainname":"a""#), &["domainname: needs its own uts namespace"]);
}

#[test]
fn namespace_lists() {
    let all: Vec<String> = ["pid", "network", "mount", "ipc", "uts", "cgroup", "time"]
        .iter()
        .map(|k| format!(r#"{{"type":"{k}"}}"#))
        .collect();
    fine(linux(&format!(r#""namespaces":[{}]"#, all.join(","))));
    fine(linux(
        r#""namespaces":[{"type":"pid","path":""},{"type":"network","path":"/a"},{"type":"user","path":"/b"}]"#,
    ));
    wrong(
        linux(
            r#""namespaces":[{"type":"pid"},{"type":"net"},{"type":"pid","path":"/x"},{"type":"ipc","path":"x"},{"type":"uts","path":"/\u0000"}]"#,
        ),
        &[
            "linux.namespaces[1].type: \"net\" is no type",
            "linux.namespaces[2].type: \"pid\" stands there twice, first as linux.namespaces[0]",
            "linux.namespaces[3].path: \"x\" is no absolute",
            "linux.namespaces[4].path: \"/\\0\" holds a NUL",
        ],
    );
}

#[test]
fn id_maps() {
    let maps = |namespaces: &str, uid: &str, gid: &str| {
        linux(&format!(r#""namespaces":[{namespaces}],"uidMappings":[{uid}],"gidMappings":[{gid}]"#))
    };
    let m = |c: u64, h: u64, s: u64| format!(r#"{{"containerID":{c},"hostID":{h},"size":{s}}}"#);
    let new = r#"{"type":"user"}"#;
    let join = r#"{"type":"user","path":"/proc/1/ns/user"}"#;
    let good = m(0, 1000, 10);
    fine(maps(new, &good, &good));
    fine(maps(join, &good, &good));
    fine(maps(join, "", ""));
    fine(maps("", "", ""));
    fine(maps(new, &format!("{},{}", m(0, 1000, 10), m(10, 1010, 5)), &m(0, 0, 4_294_967_295)));
    wrong(maps("", &good, &good), &["linux.uidMappings: needs its own user", "linux.gidMappings: needs its own user"]);
    wrong(maps(new, "", ""), &["linux.uidMappings: is required", "linux.gidMappings: is required"]);
    wrong(maps(new, &good, ""), &["linux.gidMappings: is required"]);
    wrong(maps(new, &m(0, 0, 0), &good), &["linux.uidMappings[0]: maps no ids"]);
    wrong(
        maps(new, &m(1, 0, 4_294_967_295), &m(0, 4_294_967_295, 1)),
        &[
            "linux.uidMappings[0]: containerID 1 and size 4294967295 go beyond",
            "linux.gidMappings[0]: hostID 4294967295 and size 1 go beyond",
        ],
    );
    wrong(
        maps(new, &format!("{},{}", m(0, 1000, 10), m(9, 2000, 10)), &good),
        &["linux.uidMappings[1]: maps container ids that entry 0 maps"],
    );
    wrong(
        maps(join, &format!("{},{}", m(0, 1000, 10), m(10, 1009, 10)), &good),
        &["linux.uidMappings[1]: maps host ids that entry 0 maps"],
    );
    let many: Vec<String> = (0..341).map(|i| m(i, i, 1)).collect();
    wrong(maps(new, &many.join(","), &many[..340].join(",")), &["linux.uidMappings: has 341 entries"]);
}

#[test]
fn time_offsets() {
    let offsets =
        |namespace: &str, offsets: &str| linux(&format!(r#""namespaces":[{namespace}],"timeOffsets":{{{offsets}}}"#));
    let new = r#"{"type":"time"}"#;
    fine(offsets(new, r#""monotonic":{"secs":-5,"nanosecs":999999999},"boottime":{}"#));
    fine(offsets("", ""));
    wrong(offsets("", r#""monotonic":{"secs":1}"#), &["linux.timeOffsets: needs its own time"]);
    wrong(
        offsets(r#"{"type":"time","path":"/x"}"#, r#""boottime":{"secs":1}"#),
        &["linux.timeOffsets: needs a new time"],
    );
    wrong(
        offsets(new, r#""realtime":{"secs":1},"boottime":{"nanosecs":1000000000}"#),
        &[
            "linux.timeOffsets[\"boottime\"]: nanosecs is 1000000000",
            "linux.timeOffsets[\"realtime\"]: \"realtime\" is no clock",
        ],
    );
}

#[test]
fn sysctls() {
    let sysctls = |namespaces: &str, map: &str| {
        let list: Vec<String> = namespaces
            .split(' ')
            .filter(|k| !k.is_empty())
            .map(|k| format!(r#"{{"type":"{k}","path":"/x"}}"#))
            .collect();
        linux(&format!(r#""namespaces":[{}],"sysctl":{{{map}}}"#, list.join(",")))
    };
    fine(sysctls(
        "ipc",
        r#""kernel.msgmax":"1","kernel/shmmni":"1","fs.mqueue.msg_max":"1","kernel.sem":"1 2 3 4","kernel.shm_rmid_forced":"1""#,
    ));
    fine(sysctls("network", r#""net.ipv4.ip_forward":"1","net/ipv4/conf/eth0.1/forwarding":"1""#));
    fine(sysctls("uts", r#""kernel.domainname":"a""#));
    fine(sysctls("user", r#""user.max_user_namespaces":"1""#));
    wrong(
        sysctls(
            "",
            r#""fs.mqueue.msg_max":"1","kernel.domainname":"a","kernel.msgmax":"1","net.core.somaxconn":"1","user.max_user_namespaces":"1""#,
        ),
        &[
            "linux.sysctl[\"fs.mqueue.msg_max\"]: needs its own ipc",
            "linux.sysctl[\"kernel.domainname\"]: needs its own uts",
            "linux.sysctl[\"kernel.msgmax\"]: needs its own ipc",
            "linux.sysctl[\"net.core.somaxconn\"]: needs its own network",
            "linux.sysctl[\"user.max_user_namespaces\"]: needs its own user",
        ],
    );
    let all = "ipc uts network user mount pid";
    wrong(
        sysctls(all, r#""kernel.hostname":"a""#),
        &["linux.sysctl[\"kernel.hostname\"]: is set by the property `hostname`"],
    );
    wrong(
        sysctls(all, r#""kernel.core_pattern":"|x","vm.swappiness":"1""#),
        &["linux.sysctl[\"kernel.core_pattern\"]: belongs to no namespace", "linux.sysctl[\"vm.swappiness\"]: belongs"],
    );
    wrong(
        sysctls(all, r#""net.ipv4.ip_forward":"1","net/ipv4/ip_forward":"0""#),
        &["linux.sysctl[\"net/ipv4/ip_forward\"]: is the same parameter as \"net.ipv4.ip_forward\""],
    );
    wrong(sysctls(all, r#""net.core.a":"\u0000""#), &["linux.sysctl[\"net.core.a\"]: \"\\0\" holds a NUL"]);
    for bad in [
        "",
        "net",
        "net..a",
        ".net.a",
        "net.a.",
        "net/../kernel/core_pattern",
        "net/./a",
        "net/a\\nb",
        "net/a b",
        "net/a\\u0000",
        "/net/a",
        "net.//.a",
    ] {
        let (errors, _) = sysctls(all, &format!(r#""{bad}":"1""#));
        assert!(errors.len() == 1 && errors[0].contains("is no name of a kernel parameter"), "{bad}: {errors:?}");
    }
}

#[test]
fn devices() {
    fine(linux(
        r#""devices":[{"type":"c","path":"/dev/a","major":0,"minor":1048575,"fileMode":438,"uid":0,"gid":5},{"type":"p","path":"/dev/p"},{"type":"b","path":"/dev/b","major":4095,"minor":0,"fileMode":25008},{"type":"u","path":"/u","major":1,"minor":1}]"#,
    ));
    let twice = r#"{"type":"c","path":"/dev/a","major":1,"minor":3}"#;
    fine(linux(&format!(r#""devices":[{twice},{twice}]"#)));
    wrong(
        linux(&format!(r#""devices":[{twice},{{"type":"c","path":"/dev/a","major":1,"minor":5}}]"#)),
        &["linux.devices[1].path: \"/dev/a\" is another device already in linux.devices[0]"],
    );
    wrong(
        linux(
            r#""devices":[{"type":"x","path":"dev/a","major":1,"minor":1},{"type":"c","path":"/a"},{"type":"b","path":"/b","major":-1,"minor":1048576},{"type":"c","path":"/\u0000","major":4096,"minor":1,"uid":4294967295,"gid":4294967295}]"#,
        ),
        &[
            "linux.devices[0].type: \"x\" is no type",
            "linux.devices[0].path: \"dev/a\" is no absolute",
            "linux.devices[1].major: is required",
            "linux.devices[1].minor: is required",
            "linux.devices[2].major: is -1; it ranges from 0 to 4095",
            "linux.devices[2].minor: is 1048576",
            "linux.devices[3].path: \"/\\0\" holds a NUL",
            "linux.devices[3].major: is 4096",
            "linux.devices[3].uid: is 4294967295",
            "linux.devices[3].gid: is 4294967295",
        ],
    );
    // Bits beyond a mode, and a block device's type on a character device.
    for mode in [1 << 16, 0o060_666, u32::MAX] {
        wrong(
            linux(&format!(r#""devices":[{{"type":"c","path":"/a","major":1,"minor":1,"fileMode":{mode}}}]"#)),
            &["linux.devices[0].fileMode: is "],
        );
    }
}

#[test]
fn masked_and_readonly_paths() {
    fine(linux(r#""maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"]"#));
    wrong(
        linux(r#""maskedPaths":["/a","b"],"readonlyPaths":["","/\u0000"]"#),
        &[
            "linux.maskedPaths[1]: \"b\" is no",
            "linux.readonlyPaths[0]: \"\" is no",
            "linux.readonlyPaths[1]: \"/\\0\" holds",
        ],
    );
}

#[test]
fn propagations_and_labels() {
    for good in ["", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"] {
        fine(linux(&format!(r#""rootfsPropagation":"{good}""#)));
    }
    wrong(linux(r#""rootfsPropagation":"public""#), &["linux.rootfsPropagation: \"public\" is no"]);
    wrong(linux(r#""mountLabel":"\u0000","cgroupsPath":"/\u0000""#), &["linux.mountLabel: ", "linux.cgroupsPath: "]);
}

#[test]
fn personalities() {
    fine(linux(r#""personality":{"domain":"LINUX"}"#));
    fine(linux(r#""personality":{"domain":"LINUX32","flags":[]}"#));
    wrong(
        linux(r#""personality":{"domain":"BSD","flags":["ADDR_NO_RANDOMIZE"]}"#),
        &["linux.personality.domain: \"BSD\"", "linux.personality.flags[0]: \"ADDR_NO_RANDOMIZE\""],
    );
}

#[test]
fn memory_policies() {
    fine(linux(r#""memoryPolicy":{"mode":"MPOL_BIND","nodes":"0"}"#));
    wrong(
        linux(r#""memoryPolicy":{"mode":"MPOL_BIND"}"#),
        &["linux.memoryPolicy.nodes: invalid memory policy: MPOL_BIND"],
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    wrong(linux(r#""intelRdt":{"schemata":["a"]}"#), &["linux.intelRdt: is not supported"]);
}

#[test]
fn network_devices() {
    fine(linux(r#""netDevices":{}"#));
    let devices = |list: &str| linux(&format!(r#""namespaces":[{{"type":"network"}}],"netDevices":{{{list}}}"#));
    fine(devices(r#""eth0":{},"eth1":{"name":"port%d"},"eth2":{"name":"port%d"},"eth3":{"name":""}"#));
    for (list, told) in [
        (r#""":{}"#, r#"linux.netDevices[""]: "" is no name"#),
        (r#""a/b":{}"#, r#"linux.netDevices["a/b"]: "a/b" is no name"#),
        (r#""a":{"name":"b:1"}"#, r#"linux.netDevices["a"]: name "b:1" is no name"#),
        (r#""a":{"name":".."}"#, r#"linux.netDevices["a"]: name ".." is no name"#),
        (r#""a":{"name":"0123456789abcdef"}"#, r#"linux.netDevices["a"]: name "0123456789abcdef" is 16 bytes long"#),
        (r#""a":{"name":"p%dq"}"#, r#"linux.netDevices["a"]: name "p%dq" has a %"#),
        (r#""a":{"name":"p%s"}"#, r#"linux.netDevices["a"]: name "p%s" has a %"#),
        (r#""a":{"name":"b"},"b":{}"#, r#"linux.netDevices["b"]: is named "b" inside, as linux.netDevices["a"] is"#),
    ] {
        wrong(devices(list), &[told]);
    }
}

#[test]
fn hook_lists() {
    fine(told(
        r#","hooks":{"prestart":[{"path":"/a","args":["a","b"],"env":["x"],"timeout":1}],"poststop":[{"path":"/b"}]}"#,
    ));
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let told = told(&format!(
            r#","hooks":{{"{kind}":[{{"path":"/ok"}},{{"path":"a","timeout":0,"args":["\u0000"],"env":["a=\u0000"]}},{{"path":"/\u0000","timeout":-1}}]}}"#
        ));
        wrong(
            told,
            &[
                &format!("hooks.{kind}[1].path: \"a\" is no absolute"),
                &format!("hooks.{kind}[1].args[0]: \"\\0\" holds a NUL"),
                &format!("hooks.{kind}[1].env[0]: \"a=\\0\" holds a NUL"),
                &format!("hooks.{kind}[1].timeout: is 0 seconds"),
                &format!("hooks.{kind}[2].path: \"/\\0\" holds a NUL"),
                &format!("hooks.{kind}[2].timeout: is -1 seconds"),
            ],
        );
    }
}

#[test]
fn mount_points() {
    let mount = |m: &str| told(&format!(r#","mounts":[{{"destination":"/ok","type":"proc"}},{{{m}}}]"#));
    fine(mount(r#""destination":"/a","type":"tmpfs","source":"tmpfs","options":["size=1k"]"#));
    fine(mount(r#""destination":"/a","source":"/b","options":["rbind"]"#));
    fine(mount(r#""destination":"/a","type":"bind","source":"b""#));
    fine(mount(r#""destination":"/a","options":["remount","ro"]"#));
    fine(mount(r#""destination":"/a","options":["rshared"]"#));
    warned(
        mount(r#""destination":"a","type":"proc""#),
        &["mounts[1].destination: \"a\" is relative, which is deprecated; taken from /"],
    );
    wrong(mount(r#""destination":"","type":"proc""#), &["mounts[1].destination: is empty"]);
    wrong(mount(r#""destination":"/a","type":"bind""#), &["mounts[1].source: is required"]);
    wrong(mount(r#""destination":"/a","source":"","options":["bind"]"#), &["mounts[1].source: is required"]);
    wrong(mount(r#""destination":"/a","source":"x""#), &["mounts[1].type: is required"]);
    wrong(
        mount(r#""destination":"/\u0000","type":"\u0000","source":"\u0000","options":["a","\u0000"]"#),
        &["mounts[1].destination: ", "mounts[1].type: ", "mounts[1].source: ", "mounts[1].options[1]: "],
    );
}

#[test]
fn id_mapped_mounts() {
    let mount = |m: &str, linux: &str| {
        told(&format!(r#","mounts":[{{"destination":"/a","source":"/b",{m}}}],"linux":{{{linux}}}"#))
    };
    let maps = r#""uidMappings":[{"containerID":0,"hostID":5,"size":1}],"gidMappings":[{"containerID":0,"hostID":5,"size":1}]"#;
    let joined = r#""namespaces":[{"type":"user","path":"/x"}]"#;
    fine(mount(&format!(r#""options":["bind","idmap"],{maps}"#), ""));
    fine(mount(&format!(r#""options":["rbind"],{maps}"#), ""));
    fine(mount(r#""options":["rbind","ridmap"]"#, joined));
    wrong(mount(r#""options":["rbind","ridmap"]"#, ""), &["mounts[0].options: has idmap, but neither"]);
    wrong(mount(&format!(r#""type":"tmpfs",{maps}"#), ""), &["mounts[0]: cannot be id-mapped"]);
    wrong(mount(r#""type":"tmpfs","options":["idmap"]"#, joined), &["mounts[0]: cannot be id-mapped"]);
    wrong(
        mount(r#""options":["bind","idmap"],"uidMappings":[{"containerID":0,"hostID":5,"size":1}]"#, joined),
        &["mounts[0].gidMappings: is required beside uidMappings"],
    );
    wrong(
        mount(r#""options":["bind","idmap"],"gidMappings":[{"containerID":0,"hostID":5,"size":0}]"#, ""),
        &["mounts[0].uidMappings: is required beside gidMappings", "mounts[0].gidMappings[0]: maps no ids"],
    );
}

/// One value of a real config changed for another, everywhere: told of or let pass, and never a panic.
#[test]
fn one_value_changed() {
    let values =
        ["\"\"", "\"\\u0000\"", "0", "-1", "4294967295", "18446744073709551615", "[]", "{}", "null", "\"../..\""];
    let text = include_str!("../../tests/fixtures/configs/docker-limits.json");
    let mut checked = 0;
    for (i, line) in text.lines().enumerate().filter(|(i, _)| !(330..780).contains(i)) {
        let Some((key, _)) = line.split_once(": ") else { continue };
        let end = if line.ends_with(',') { "," } else { "" };
        if line.ends_with(['[', '{']) {
            continue;
        }
        for value in values {
            let changed: Vec<String> = text
                .lines()
                .enumerate()
                .map(|(j, line)| if i == j { format!("{key}: {value}{end}") } else { line.to_owned() })
                .collect();
            match parse::config(changed.join("\n").as_bytes()) {
                Ok((read, _)) => {
                    spec(&read, &mut Problems::default());
                    checked += 1;
                }
                Err(problems) => assert!(problems.to_string().contains("(line "), "{problems}"),
            }
        }
    }
    assert!(checked > 100, "only {checked} changes could be read");
}
