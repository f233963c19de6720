//! The phrases that scripts and engines match, each provoked by a real command.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use serde_json::json;
use support::{Case, case, ready};

fn up(case: Case) -> Case {
    case.create().ok();
    case.on("start").ok();
    case
}

fn sleeper() -> Case {
    case().args(&["sleep", "1000"])
}

#[test]
fn of_cgroups() {
    if !ready() {
        return;
    }
    let first = up(sleeper());
    let second = case().set("/linux/cgroupsPath", json!(format!("/{}", first.id)));
    second.refused(&["linux.cgroupsPath: ", "container's cgroup is not empty"]);

    let frozen = case();
    let file = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup"].map(|mount| format!("{mount}/{}", frozen.id));
    let freeze = |path: &str| {
        let (file, word) = if std::path::Path::new(path).join("freezer.state").exists() {
            ("freezer.state", "FROZEN")
        } else {
            ("cgroup.freeze", "1")
        };
        std::fs::write(format!("{path}/{file}"), word).unwrap();
    };
    let v1 = std::path::Path::new("/sys/fs/cgroup/freezer").is_dir();
    let path = &file[usize::from(!v1)];
    std::fs::create_dir(path).unwrap();
    freeze(path);
    let said = frozen.run();
    std::fs::remove_dir(path).unwrap();
    said.refused(&["container's cgroup unexpectedly frozen"]);

    let paused = up(sleeper());
    paused.on("pause").ok();
    let said = paused.tare(&["exec", &paused.id, "true"]);
    assert!(said.code == 255 && said.err.contains("cannot exec in a paused container"), "{said:?}");
    paused.on("resume").ok();
    for (cgroup, phrase) in [("../up", "bad sub cgroup path: ../up"), ("nosuch:x", "unknown controller nosuch")] {
        let said = paused.tare(&["exec", "--cgroup", cgroup, &paused.id, "true"]);
        assert!(said.code == 255 && said.err.contains(phrase), "{said:?}");
    }
}

#[test]
fn of_memory() {
    if !ready() {
        return;
    }
    let case = up(sleeper());
    if !case.cgroups().iter().any(|g| g.join("memory.max").exists()) {
        // Version 1's kernel refuses by itself, in words of its own.
        return;
    }
    let file = case.dir.join("r.json");
    std::fs::write(&file, r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#).unwrap();
    case.tare(&["update", "-r", file.to_str().unwrap(), &case.id]).refused(&["rejecting memory limit"]);
}

#[test]
fn of_mounts_and_programs() {
    if !ready() {
        return;
    }
    let bind = case();
    std::fs::create_dir(bind.dir.join("source")).unwrap();
    let source = bind.dir.join("source").to_str().unwrap().to_owned();
    bind.mount("/bin/busybox", "bind", &source, &["bind"]).refused(&["must be mounted on ordinary directory"]);
    let script = case().args(&["/etc/script"]);
    std::fs::write(script.rootfs().join("etc/script"), "#!/no/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(script.rootfs().join("etc/script"), mode).unwrap();
    for (case, phrase) in [
        (case().args(&["/no/such"]), "exec /no/such: no such file or directory\""),
        (case().args(&["nosuch"]), "executable file not found in $PATH\""),
        (case().args(&["/etc"]), "exec /etc: permission denied\""),
        (script, "exec /etc/script: no such file or directory\""),
    ] {
        let said = case.run().refused(&[phrase]);
        assert!(said.trim_end().ends_with(phrase), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn of_hooks() {
    if !ready() {
        return;
    }
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let fails = json!([{"path": "/bin/true"}, {"path": "/bin/false"}]);
        let case = case().set(&format!("/hooks/{kind}"), fails);
        case.refused(&[&format!("error running {kind} hook #1:")]);
    }
}

#[test]
fn of_capabilities() {
    if !ready() {
        return;
    }
    let said = case().set("/process/capabilities/ambient", json!(["CAP_KILL"])).run();
    assert!(said.err.contains("can't raise ambient capability CAP_KILL"), "{said:?}");
    let said = case().caps(&["CAP_KILL", "CAP_WALK", "CAP_FLY"]).run();
    assert!(said.code == 0 && said.err.contains("level=warning"), "{said:?}");
    assert!(said.err.contains("ignoring unknown or unavailable capabilities: [CAP_FLY CAP_WALK]"), "{said:?}");
}

#[test]
fn of_the_process() {
    if !ready() {
        return;
    }
    let policy = json!({"mode": "MPOL_BIND"});
    case().set("/linux/memoryPolicy", policy).refused(&["invalid memory policy"]);
    case()
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/agent",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
        )
        .refused(&["failed to connect with seccomp agent"]);
}

#[test]
fn of_a_deadline_on_some_cpus() {
    let two = std::thread::available_parallelism().is_ok_and(|n| n.get() >= 2);
    let deadline =
        json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 2_000_000, "period": 2_000_000});
    if !ready() || !two || case().args(&["true"]).set("/process/scheduler", deadline.clone()).run().code != 0 {
        return;
    }
    let confined = case().set("/process/scheduler", deadline.clone()).set("/linux/resources/cpu", json!({"cpus": "0"}));
    confined.refused(&["process.scheduler: ", "process scheduler can't be used together with AllowedCPUs"]);
    let confined = up(sleeper().set("/linux/resources/cpu", json!({"cpus": "0"})));
    let file = confined.dir.join("p.json");
    std::fs::write(&file, json!({"args": ["true"], "cwd": "/", "scheduler": deadline}).to_string()).unwrap();
    let said = confined.tare(&["exec", "--process", file.to_str().unwrap(), &confined.id]);
    assert!(said.code == 255 && said.err.contains("can't be used together with AllowedCPUs"), "{said:?}");
}
