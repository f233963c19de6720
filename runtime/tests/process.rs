//! `process`: each field, seen from inside the container.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use serde_json::json;
use support::{case, ready};

#[test]
fn args_and_env_arrive_as_they_are() {
    if !ready() {
        return;
    }
    case()
        .args(&["sh", "-c", "echo \"$0|$1|$A\"", "zero", "o n e"])
        .set("/process/env", json!(["PATH=/bin", "A=x=y"]))
        .yields("zero|o n e|x=y");
}

#[test]
fn exit_codes_are_those_of_the_program() {
    if !ready() {
        return;
    }
    assert_eq!(case().script("exit 37").run().code, 37);
    assert_eq!(case().script("kill -9 $$").namespaceless_pid().run().code, 137);
}

#[test]
fn a_missing_program_is_told_at_create() {
    if !ready() {
        return;
    }
    case().args(&["nothing-there"]).refused(&["process.args[0]", "executable file not found in $PATH"]);
    case().args(&["/bin/nothing"]).refused(&["process.args[0]", "no such file or directory"]);
    case().args(&["/etc"]).refused(&["process.args[0]", "permission denied"]);
    case().set("/process/args", json!([])).refused(&["process.args"]);
}

#[test]
fn an_env_without_a_path_still_finds_bin() {
    if !ready() {
        return;
    }
    case().script("echo $PATH").set("/process/env", json!([])).run().ok();
    case().set("/process/env", json!(["NOVALUE"])).refused(&["process.env[0]"]);
}

#[test]
fn cwd_is_entered_and_made_where_it_is_missing() {
    if !ready() {
        return;
    }
    case().args(&["pwd"]).set("/process/cwd", json!("/tmp")).yields("/tmp");
    case().args(&["pwd"]).set("/process/cwd", json!("/made/here")).yields("/made/here");
    case().set("/process/cwd", json!("relative")).refused(&["process.cwd"]);
    case().set("/process/cwd", json!("/bin/busybox")).refused(&["process.cwd"]);
}

#[test]
fn user_group_and_groups() {
    if !ready() {
        return;
    }
    case()
        .script("id -u; id -g; grep ^Groups /proc/self/status | tr '\\t' ' '")
        .set("/process/user", json!({"uid": 1001, "gid": 1002, "additionalGids": [7, 8]}))
        .yields("1001\n1002\nGroups: 7 8");
    for field in ["uid", "gid"] {
        case().set(&format!("/process/user/{field}"), json!(4_294_967_295u32)).refused(&["process.user", field]);
        case().set(&format!("/process/user/{field}"), json!(4_294_967_296u64)).refused(&["process.user", field]);
        case().set(&format!("/process/user/{field}"), json!(-1)).refused(&["process.user", field]);
    }
    case().set("/process/user/additionalGids", json!([4_294_967_295u32])).refused(&["process.user.additionalGids[0]"]);
}

#[test]
fn home_comes_from_the_images_passwd() {
    if !ready() {
        return;
    }
    let home = |uid: u32, passwd: &str| {
        let case = case().script("echo $HOME").set("/process/user/uid", json!(uid));
        std::fs::write(case.rootfs().join("etc/passwd"), passwd).unwrap();
        case.says()
    };
    assert_eq!(home(5, "x:x:4:4::/four:/bin/sh\ny:x:5:5::/five:/bin/sh\n"), "/five");
    assert_eq!(home(6, "x:x:4:4::/four:/bin/sh\n"), "/");
    assert_eq!(home(5, "5:x:0:0::/zero:/bin/sh\n"), "/", "a numeric name is no uid (CVE-2016-3697)");
}

#[test]
fn umask_is_set() {
    if !ready() {
        return;
    }
    case().script("umask").set("/process/user/umask", json!(0o027)).yields("0027");
    case().set("/process/user/umask", json!(0o1000)).refused(&["process.user.umask"]);
}

#[test]
fn capabilities_are_exactly_those_of_the_config() {
    if !ready() {
        return;
    }
    let sets = "grep ^Cap /proc/self/status | tr '\\t' ' '";
    case().script(sets).caps(&["CAP_KILL"]).yields(
        "CapInh: 0000000000000000\nCapPrm: 0000000000000020\nCapEff: 0000000000000020\nCapBnd: 0000000000000020\nCapAmb: 0000000000000000",
    );
    let all = ["CAP_KILL", "CAP_CHOWN"];
    case()
        .script(sets)
        .set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": ["CAP_CHOWN"]}))
        .set("/process/user/uid", json!(1000))
        .yields("CapInh: 0000000000000021\nCapPrm: 0000000000000001\nCapEff: 0000000000000001\nCapBnd: 0000000000000021\nCapAmb: 0000000000000001");
    case().script(sets).without("/process", "capabilities").yields(
        "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 0000000000000000\nCapAmb: 0000000000000000",
    );
}

#[test]
fn an_unknown_capability_is_warned_of_and_one_that_we_lack_is_refused() {
    if !ready() {
        return;
    }
    let out = case().set("/process/capabilities/bounding/-", json!("CAP_NO_SUCH")).run();
    assert_eq!(out.code, 0, "{}", out.err);
    assert!(out.err.contains("ignoring unknown or unavailable capabilities: [CAP_NO_SUCH]"), "{}", out.err);
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = ours.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).unwrap();
    if u64::from_str_radix(bounding, 16).unwrap() & (1 << 24) == 0 {
        case().caps(&["CAP_SYS_RESOURCE"]).refused(&[
            "process.capabilities",
            "CAP_SYS_RESOURCE",
            "operation not permitted",
        ]);
    }
}

#[test]
fn no_new_privileges() {
    if !ready() {
        return;
    }
    for (wanted, is) in [(true, "1"), (false, "0")] {
        case()
            .script("grep ^NoNewPrivs /proc/self/status | cut -f2")
            .set("/process/noNewPrivileges", json!(wanted))
            .yields(is);
    }
}

#[test]
fn rlimits_are_set_and_wrong_ones_refused() {
    if !ready() {
        return;
    }
    let limit =
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    case()
        .script("ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Hc")
        .set("/process/rlimits", limit)
        .yields("100\n200\n0\n0");
    case()
        .set("/process/rlimits", json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]))
        .refused(&["process.rlimits[0].type"]);
    case()
        .set("/process/rlimits", json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]))
        .refused(&["process.rlimits[0].soft"]);
    let twice = json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]);
    case().set("/process/rlimits", twice).refused(&["process.rlimits[1].type"]);
}

#[test]
fn oom_score_adj() {
    if !ready() {
        return;
    }
    case().script("cat /proc/self/oom_score_adj").set("/process/oomScoreAdj", json!(321)).yields("321");
    case().set("/process/oomScoreAdj", json!(1001)).refused(&["process.oomScoreAdj"]);
}

#[test]
fn scheduler_and_io_priority() {
    if !ready() {
        return;
    }
    case()
        .script("cut -d' ' -f41 /proc/self/stat")
        .set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}))
        .yields("3");
    case()
        .script("cut -d' ' -f19 /proc/self/stat")
        .set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 7}))
        .yields("7");
    case().set("/process/scheduler", json!({"policy": "SCHED_X"})).refused(&["process.scheduler.policy"]);
    case()
        .script("ionice -p $$")
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}))
        .yields("best-effort: prio 6");
    case()
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_X", "priority": 1}))
        .refused(&["process.ioPriority.class"]);
}

#[test]
fn labels_without_their_module_are_refused() {
    if !ready() {
        return;
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        case().set("/process/selinuxLabel", json!("a_u:b_r:c_t:s0")).refused(&["process.selinuxLabel"]);
    }
    if !std::path::Path::new("/sys/module/apparmor/parameters/enabled").exists() {
        case().set("/process/apparmorProfile", json!("some")).refused(&["process.apparmorProfile"]);
    }
    case().set("/process/apparmorProfile", json!("unconfined")).run().ok();
}

#[test]
fn descriptors_of_the_caller_do_not_leak() {
    if !ready() {
        return;
    }
    case().script("ls /proc/self/fd | tr '\\n' ' '").yields("0 1 2 3");
    let case = case().script("ls /proc/self/fd | tr '\\n' ' '");
    case.write();
    let (tare, root, id) = (support::TARE, case.dir.join("state"), &case.id);
    let script =
        format!("exec 3</etc/passwd 4</etc/hosts; exec {tare} --root {} run --preserve-fds 1 {id}", root.display());
    let out = support::run(std::process::Command::new("sh").arg("-c").arg(script).current_dir(&case.dir));
    assert_eq!(out.ok(), "0 1 2 3 4", "descriptor 3 is passed, 4 not (the listing itself opens one)");
}

#[test]
fn a_session_of_its_own_and_pid_one() {
    if !ready() {
        return;
    }
    case().script("echo $$ $(cut -d' ' -f5,6 /proc/1/stat)").yields("1 1 1");
}

#[test]
fn exec_cpu_affinity_is_checked() {
    if !ready() {
        return;
    }
    case().set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"})).run().ok();
    case().set("/process/execCPUAffinity", json!({"initial": "3-1"})).refused(&["process.execCPUAffinity.initial"]);
}

#[test]
fn a_terminal_without_a_socket_is_refused_when_detached() {
    if !ready() {
        return;
    }
    let case = case().set("/process/terminal", json!(true));
    case.create().refused(&["cannot allocate tty if runc will detach without setting console socket"]);
}

impl support::Case {
    /// Without a pid namespace: a program that is pid 1 in its own could not kill itself.
    fn namespaceless_pid(self) -> Self {
        self.without_namespace("pid")
    }
}
