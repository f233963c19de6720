//! Containers of a plain user, with the config of `spec --rootless` and no cgroup delegated; and of root in a user namespace.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails is to panic; a skipped one says why")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::unistd::chown;
use serde_json::{Value, json};
use support::{Case, Output, TARE, case, ready, run};

/// A user who need not be in /etc/passwd.
const UID: u32 = 61_234;
/// Its group.
const GID: u32 = 61_235;

/// A case that belongs to a plain user.
struct Plain {
    case: Case,
    uid: u32,
    gid: u32,
}

fn give_all(path: &Path, uid: u32, gid: u32) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            give_all(&entry.path(), uid, gid);
        }
    }
    chown(path, Some(uid.into()), Some(gid.into())).unwrap();
}

impl Plain {
    fn of(uid: u32, gid: u32) -> Option<Plain> {
        if !ready() {
            return None;
        }
        let mut case = case();
        let mut config: Value =
            serde_json::from_str(&tare::default_spec::default_config(Some((uid, gid)), false)).unwrap();
        for kept in ["args", "terminal"] {
            config["process"][kept] = case.config["process"][kept].take();
        }
        config["root"]["readonly"] = json!(false);
        case.config = config;
        give_all(&case.dir, uid, gid);
        Some(Plain { case, uid, gid })
    }

    fn new() -> Option<Plain> {
        Plain::of(UID, GID)
    }

    fn with(self, change: impl FnOnce(Case) -> Case) -> Plain {
        let Plain { case, uid, gid } = self;
        Plain { case: change(case), uid, gid }
    }

    /// A command as the user.
    fn become_user(&self, mut command: Command) -> Command {
        command.uid(self.uid).gid(self.gid).env("XDG_RUNTIME_DIR", &self.case.dir).current_dir(&self.case.dir);
        command
    }

    fn tare(&self, args: &[&str]) -> Output {
        run(&mut self.become_user(self.case.command(args)))
    }

    fn on(&self, verb: &str) -> Output {
        self.tare(&[verb, &self.case.id])
    }

    fn run(&self) -> Output {
        self.case.write();
        self.on("run")
    }

    #[track_caller]
    fn yields(&self, script: &str, expected: &str) {
        let case = json!(["sh", "-c", script]);
        let mut config = self.case.config.clone();
        config["process"]["args"] = case;
        std::fs::write(self.case.dir.join("config.json"), config.to_string()).unwrap();
        assert_eq!(self.on("run").ok(), expected);
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        self.run().refused(parts);
        assert_eq!(self.case.left(), Vec::<String>::new(), "left behind");
    }

    /// A process of the user's in new namespaces, until it is dropped.
    fn elsewhere(&self, flags: &[&str]) -> Elsewhere {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sleep", "60"]);
        let child = self.become_user(command).spawn().unwrap();
        let pid = child.id();
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let mapped = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "sleep");
        self.case.until("unshare", || {
            mapped() && std::fs::read_link(format!("/proc/{pid}/ns/user")).is_ok_and(|ns| ns != own)
        });
        Elsewhere(child)
    }
}

struct Elsewhere(Child);

impl Elsewhere {
    fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_config_of_spec_runs() {
    let Some(plain) = Plain::new() else { return };
    plain.yields(
        "id -u; cat /proc/self/uid_map; cat /proc/self/setgroups",
        &format!("0\n         0 {UID:>10}          1\ndeny"),
    );
    plain.yields("echo x >/dev/null; head -c 3 /dev/zero | wc -c; ls /dev/pts /sys/class >/dev/null && echo y", "3\ny");
    plain.yields("touch /sys/x 2>/dev/null || echo no; touch /sys/fs/cgroup/x 2>/dev/null || echo no", "no\nno");
}

#[test]
fn state_lies_in_the_runtime_directory() {
    let Some(plain) = Plain::new() else { return };
    plain.case.write();
    let mut command = Command::new(TARE);
    command.args(["create", &plain.case.id]);
    run(&mut plain.become_user(command)).ok();
    let root = plain.case.dir.join("tare");
    // Sticky, so that nobody sweeps it (XDG Base Directory Specification).
    assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o1700);
    for (verb, holds) in [("list", "created"), ("delete", "")] {
        let mut command = Command::new(TARE);
        command.arg(verb).args((verb == "delete").then_some(&plain.case.id));
        assert!(run(&mut plain.become_user(command)).ok().contains(holds));
    }
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
}

#[test]
fn a_life_without_cgroups() {
    let Some(plain) = Plain::new() else { return };
    let plain = plain.with(|c| c.args(&["sleep", "60"]));
    plain.case.write();
    plain.on("create").ok();
    assert_eq!(plain.case.cgroups(), Vec::<PathBuf>::new());
    let state = plain.on("state").ok();
    assert!(state.contains("\"created\""), "{state}");
    let early = plain.tare(&["exec", &plain.case.id, "id"]);
    assert!(early.code == 255 && early.err.contains("once it is started"), "{early:?}");
    plain.on("start").ok();
    assert_eq!(plain.tare(&["exec", &plain.case.id, "id", "-u"]).ok(), "0");
    plain.tare(&["exec", "-d", &plain.case.id, "sleep", "60"]).ok();
    let pids: Vec<i32> = serde_json::from_str(&plain.tare(&["ps", "-f", "json", &plain.case.id]).ok()).unwrap();
    assert_eq!(pids.len(), 2, "{pids:?}");
    plain.on("pause").refused(&["no cgroup that can freeze it"]);
    plain.tare(&["update", "--memory", "64M", &plain.case.id]).refused(&["has no cgroup"]);
    plain.tare(&["events", "--stats", &plain.case.id]).ok();
    plain.tare(&["kill", "-a", &plain.case.id, "KILL"]).ok();
    plain.case.until("stopped", || plain.on("state").ok().contains("\"stopped\""));
    plain.on("delete").ok();
    assert_eq!(plain.case.left(), Vec::<String>::new());
}

#[test]
fn a_limit_or_a_path_that_is_asked_for_is_not_done_without() {
    let Some(plain) = Plain::new() else { return };
    let plain =
        plain.with(|c| c.set("/linux/resources", json!({"pids": {"limit": -1}, "devices": [{"allow": false}]})));
    plain.run().ok();
    let plain = plain.with(|c| c.set("/linux/resources", json!({"pids": {"limit": 9}})));
    plain.refused(&["permission denied", "not delegated to you"]);
    let plain = plain.with(|c| c.without("/linux", "resources").set("/linux/cgroupsPath", json!("/tare-t-denied")));
    plain.refused(&["linux.cgroupsPath: ", "permission denied", "not delegated to you"]);
}

#[test]
fn a_cgroup_of_the_same_name_is_anothers() {
    let Some(plain) = Plain::new() else { return };
    let group = Path::new("/sys/fs/cgroup/pids").join(&plain.case.id);
    if std::fs::create_dir(&group).is_err() {
        println!("SKIP: needs a hierarchy of version 1 at /sys/fs/cgroup/pids");
        return;
    }
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(group.join("tasks"), other.id().to_string()).unwrap();
    let ran = plain.run();
    plain.case.write();
    let created = plain.on("create");
    // As root, who could do it.
    let deleted = plain.case.tare(&["delete", "--force", &plain.case.id]);
    let alive = other.try_wait().unwrap().is_none();
    let (_, _) = (other.kill(), other.wait());
    std::fs::remove_dir(&group).unwrap();
    assert!(alive, "{deleted:?}");
    for said in [ran, created, deleted] {
        said.ok();
    }
}

#[test]
fn binds_are_the_users_own() {
    let Some(plain) = Plain::new() else { return };
    let source = plain.case.dir.join("source");
    std::fs::write(&source, "text").unwrap();
    let plain = plain.with(|c| c.mount("/tmp/file", "bind", source.to_str().unwrap(), &["bind", "ro"]));
    plain.yields("cat /tmp/file; echo >/tmp/file || echo no", "textno");
    let plain = plain.with(|c| c.mount("/tmp/missing", "bind", "/no/such", &["bind"]));
    plain.refused(&["mounts[8]: ", "the source of a bind mount must exist"]);
    let plain =
        plain.with(|c| c.set("/mounts/8/source", json!("/etc")).set("/mounts/8/options", json!(["bind", "idmap"])));
    plain.refused(&["mounts[8].options: ", "operation not permitted"]);
}

#[test]
fn ids_that_are_not_mapped_are_named() {
    let Some(plain) = Plain::new() else { return };
    let plain = plain.with(|c| c.set("/mounts/2/options/-", json!("gid=5")).set("/mounts/1/options/-", json!("uid=9")));
    plain.refused(&["mounts[2].options[5]: is gid=5", "mounts[1].options[4]: is uid=9", "does not map"]);
    let plain = Plain::new().unwrap().with(|c| c.set("/process/user/additionalGids", json!([0])));
    plain.refused(&["process.user.additionalGids: ", "newgidmap(1)"]);
}

#[test]
fn an_oom_score_is_kept_where_it_cannot_be_lowered() {
    let Some(plain) = Plain::new() else { return };
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    for (asked, is) in [(-900, own.trim()), (777, "777")] {
        let plain = Plain::new().unwrap().with(|c| c.set("/process/oomScoreAdj", json!(asked)));
        plain.yields("cat /proc/self/oom_score_adj", is);
    }
    let plain = plain.with(|c| c.args(&["sleep", "60"]).set("/process/oomScoreAdj", json!(555)));
    plain.case.write();
    plain.on("create").ok();
    plain.on("start").ok();
    assert_eq!(plain.tare(&["exec", &plain.case.id, "cat", "/proc/self/oom_score_adj"]).ok(), "555");
}

#[test]
fn rlimits_are_lowered_and_not_raised() {
    let Some(plain) = Plain::new() else { return };
    let limit = |n: u64| json!([{"type": "RLIMIT_NOFILE", "soft": n, "hard": n}]);
    let plain = plain.with(|c| c.set("/process/rlimits", limit(33)));
    plain.yields("ulimit -n", "33");
    plain
        .with(|c| c.set("/process/rlimits", limit(1 << 31)))
        .refused(&["process.rlimits[0]: ", "operation not permitted"]);
}

#[test]
fn a_time_namespace_is_owned_by_the_containers_user_namespace() {
    let Some(plain) = Plain::new() else { return };
    let plain =
        plain.with(|c| c.namespace("time", None).set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}})));
    plain.yields("cut -d. -f1 /proc/uptime | grep -c .......", "1");
}

#[test]
fn sysctls_go_to_a_network_of_its_own() {
    let Some(plain) = Plain::new() else { return };
    let plain = plain.with(|c| {
        c.namespace("network", None)
            .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
            .without_mount("/sys")
            .mount("/sys", "sysfs", "sysfs", &["ro"])
    });
    plain.yields("cat /proc/sys/net/ipv4/ip_forward; ls /sys/class/net", "1\nlo");
}

#[test]
fn a_new_sysfs_that_is_refused_is_the_hosts() {
    let Some(plain) = Plain::new() else { return };
    let plain = plain.with(|c| c.without_mount("/sys").mount("/sys", "sysfs", "sysfs", &["ro", "nosuid"]));
    plain.yields("ls -d /sys/kernel; touch /sys/fs/cgroup/x 2>/dev/null || echo no", "/sys/kernel\nno");
}

#[test]
fn a_user_namespace_is_joined_and_what_it_owns() {
    let Some(plain) = Plain::new() else { return };
    let there = plain.elsewhere(&["--map-root-user", "--net"]);
    let plain = plain.with(|c| {
        let c = c.namespace("user", Some(&there.namespace("user"))).namespace("network", Some(&there.namespace("net")));
        c.without("/linux", "uidMappings").without("/linux", "gidMappings")
    });
    plain.yields("id -u; cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '", "0\nlo");
}

#[test]
fn root_in_a_user_namespace_is_a_plain_user_too() {
    let Some(plain) = Plain::new() else { return };
    let mut config: Value = serde_json::from_str(&tare::default_spec::default_config(None, false)).unwrap();
    config["process"]["terminal"] = json!(false);
    config["root"]["readonly"] = json!(false);
    let plain = plain.with(|mut c| {
        c.config = config;
        c.set("/mounts/2/options", json!(["newinstance", "ptmxmode=0666"])).without("/linux", "resources")
    });
    let inside = |flags: &[&str], script: &str, case: &Case| {
        let mut config = case.config.clone();
        config["process"]["args"] = json!(["sh", "-c", script]);
        std::fs::write(case.dir.join("config.json"), config.to_string()).unwrap();
        let mut command = Command::new("unshare");
        command
            .arg("--map-root-user")
            .args(flags)
            .arg(TARE)
            .arg("--root")
            .arg(case.dir.join("state"))
            .arg("run")
            .arg("--bundle")
            .arg(&case.dir)
            .arg(&case.id);
        run(&mut plain.become_user(command)).ok()
    };
    let script = "id -u; cat /proc/self/setgroups; echo x >/dev/null; ls -d /sys/kernel";
    assert_eq!(inside(&[], script, &plain.case), "0\ndeny\n/sys/kernel");
    assert_eq!(inside(&["--mount"], script, &plain.case), "0\ndeny\n/sys/kernel");
    // A user namespace below it, whose bind source the runtime opens where it owns its mounts, and init where not.
    let source = plain.case.dir.join("config.json");
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let config = plain.case.config.clone();
    let mut nested = case();
    nested.config = config;
    let nested = nested
        .namespace("user", None)
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .mount("/tmp/config", "bind", source.to_str().unwrap(), &["bind", "ro"]);
    give_all(&nested.dir, UID, GID);
    for flags in [&[][..], &["--mount"]] {
        assert_eq!(inside(flags, "grep -c namespaces /tmp/config; id -u", &nested), "1\n0");
    }
}

/// A user with a range of subordinate ids, until it is dropped.
struct Ranged {
    name: String,
    uid: u32,
    first: u32,
}

impl Ranged {
    fn add() -> Option<Ranged> {
        let found = |name: &str| Command::new(name).arg("--help").output().is_ok();
        if !ready() || !found("newuidmap") || !found("useradd") {
            println!("SKIP: needs newuidmap (package uidmap) and useradd");
            return None;
        }
        let unique = std::process::id() % 10_000;
        let name = format!("tare-t{unique}");
        let (uid, first) = (50_000 + unique, 700_000_000 + unique * 1000);
        let ok = |command: &mut Command| assert!(command.output().unwrap().status.success(), "{command:?}");
        ok(Command::new("useradd").args(["--no-create-home", "--user-group", "--uid", &uid.to_string(), &name]));
        let range = format!("{first}-{}", first + 999);
        ok(Command::new("usermod").args(["--add-subuids", &range, "--add-subgids", &range, &name]));
        Some(Ranged { name, uid, first })
    }
}

impl Drop for Ranged {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

#[test]
fn more_ids_come_by_the_helpers_of_the_system() {
    let Some(user) = Ranged::add() else { return };
    let Some(plain) = Plain::of(user.uid, user.uid) else { return };
    let map = json!([
        {"containerID": 0, "hostID": user.uid, "size": 1}, {"containerID": 1, "hostID": user.first, "size": 1000}
    ]);
    let plain = plain.with(|c| {
        c.set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
            .set("/process/user", json!({"uid": 5, "gid": 6, "additionalGids": [7, 8]}))
            .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]))
            .set("/mounts/2/options/-", json!("gid=5"))
    });
    plain.yields("id; ulimit -n; cat /proc/self/setgroups", "uid=5 gid=6 groups=7,8\n33\nallow");
    let plain = plain.with(|c| c.args(&["sleep", "60"]));
    plain.case.write();
    plain.on("create").ok();
    plain.on("start").ok();
    assert_eq!(
        plain.tare(&["exec", "-u", "9:10", "-g", "11", &plain.case.id, "id"]).ok(),
        "uid=9 gid=10 groups=7,8,11"
    );
    plain.tare(&["delete", "--force", &plain.case.id]).ok();
    let foreign = json!([{"containerID": 0, "hostID": 1, "size": 10}]);
    let plain = plain.with(|c| c.set("/linux/uidMappings", foreign));
    plain.refused(&["linux.uidMappings: ", "by newuidmap", "not allowed"]);
}

/// config-linux.md, "Cgroup ownership".
#[test]
fn a_cgroup_that_the_container_may_write_is_its_users() {
    if !ready() {
        return;
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        println!("SKIP: needs cgroup v2 alone");
        return;
    }
    let owners =
        "cd /sys/fs/cgroup; stat -c %u . cgroup.procs cgroup.subtree_control pids.max memory.max | tr '\\n' ' '";
    let writable = |c: Case| {
        c.namespace("cgroup", None).without_mount("/sys/fs/cgroup").mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev"],
        )
    };
    let outside = |case: &Case| {
        case.create().ok();
        use std::os::unix::fs::MetadataExt as _;
        let owner = |file: &str| std::fs::metadata(case.cgroups()[0].join(file)).unwrap().uid();
        let is = [".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "pids.max", "memory.max"].map(owner);
        case.tare(&["delete", "--force", &case.id]).ok();
        is
    };
    let case = writable(case().user_namespace(65536)).script(&format!("{owners}; mkdir sub && echo made"));
    case.yields("0 0 0 65534 65534 made");
    assert_eq!(outside(&case), [100_000, 100_000, 100_000, 100_000, 0, 0]);
    let user = writable(support::case()).set("/process/user", json!({"uid": 1234, "gid": 1234}));
    assert_eq!(outside(&user)[..2], [1234, 1234]);
    let readonly = support::case().namespace("cgroup", None).set("/process/user", json!({"uid": 1234, "gid": 1234}));
    assert_eq!(outside(&readonly)[..2], [0, 0]);
    let shared =
        writable(support::case()).without_namespace("cgroup").set("/process/user", json!({"uid": 1234, "gid": 1}));
    assert_eq!(outside(&shared)[..2], [0, 0]);
}
