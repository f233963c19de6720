//! From create to delete, and every way of not getting there: what may follow what, crashes, races, torn files.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails is to panic; a repeated one says how often"
)]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{Case, case, of_another_boot, ready, slowness};

fn sleeper() -> Case {
    case().args(&["sleep", "100"])
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn only_what_is_created_can_be_started() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.on("start").refused(&["container does not exist"]);
    case.create().ok();
    case.on("start").ok();
    case.on("start").refused(&["cannot start an already running container"]);
    case.tare(&["kill", &case.id, "9"]).ok();
    case.until("stopped", || case.status() == "stopped");
    case.on("start").refused(&["cannot start a container that has stopped"]);
}

/// config.md, "process": create needs none, start does, and what cannot be started stays created.
#[test]
fn without_a_process_there_is_a_container_and_nothing_to_start() {
    if !ready() {
        return;
    }
    let case = case().without("", "process");
    case.create().ok();
    case.on("start").refused(&["process: is missing in the config"]);
    assert_eq!(case.status(), "created");
    assert_ne!(case.pid(), 0);
    let mnt = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_ne!(mnt(&case.pid().to_string()), mnt("self"), "its namespaces are there");
    case.tare(&["delete", &case.id]).ok();
    assert_eq!(case.left(), nothing());
    case.run().refused(&["process: is missing: there is nothing to start"]);
    assert_eq!(case.left(), nothing());
}

#[test]
fn an_id_is_one_containers() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.create().ok();
    case.create().refused(&["container with given ID already exists"]);
    assert_eq!(case.status(), "created", "the refusal leaves the first alone");
}

#[test]
fn delete_wants_it_stopped_or_force() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.on("delete").refused(&["container does not exist"]);
    case.tare(&["delete", "--force", &case.id]).ok();
    case.create().ok();
    case.on("delete").ok();
    assert_eq!(case.left(), nothing(), "a created container may be deleted");
    case.create().ok();
    case.on("start").ok();
    case.on("delete").refused(&["cannot delete container that is not stopped"]);
    case.tare(&["delete", &case.id, "--force"]).ok();
    assert_eq!(case.left(), nothing());
}

#[test]
fn kill_reaches_init_and_says_when_it_is_gone() {
    if !ready() {
        return;
    }
    let case = case().script("trap 'exit 7' USR1; while true; do sleep 0.05; done");
    case.on("kill").refused(&["container does not exist"]);
    case.create().ok();
    case.on("start").ok();
    std::thread::sleep(Duration::from_millis(200));
    case.tare(&["kill", &case.id, "SIGUSR1"]).ok();
    case.until("stopped", || case.status() == "stopped");
    for signal in ["0", "KILL", "15"] {
        case.tare(&["kill", &case.id, signal]).refused(&["container not running"]);
    }
    case.tare(&["kill", "--all", &case.id, "KILL"]).ok();
    case.tare(&["kill", &case.id, "NOSUCH"]).refused(&["NOSUCH"]);
}

#[test]
fn a_created_container_can_be_killed() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.create().ok();
    case.tare(&["kill", &case.id, "KILL"]).ok();
    case.until("stopped", || case.status() == "stopped");
    case.on("delete").ok();
    assert_eq!(case.left(), nothing());
}

#[test]
fn without_a_pid_namespace_delete_takes_all_processes() {
    if !ready() {
        return;
    }
    let case = case().without_namespace("pid").script("sleep 100 & setsid sleep 100 & sleep 0.2");
    case.create().ok();
    case.on("start").ok();
    case.until("stopped", || case.status() == "stopped");
    case.on("delete").ok();
    assert_eq!(case.left(), nothing());
}

#[test]
fn list_knows_all_of_a_root() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.tare(&["list"]).refused(&["no such file or directory"]);
    case.create().ok();
    assert_eq!(case.tare(&["list", "-q"]).ok(), case.id);
    let list: serde_json::Value = serde_json::from_str(&case.tare(&["list", "-f", "json"]).ok()).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!(case.id), &json!("created")));
    let table = case.tare(&["list"]).ok();
    let words: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
}

/// Numbers that differ from run to run, and can be had again from what a failure prints.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// The ids of the mounts at a path, or below it.
fn mounts_at(path: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = |line: &&str| Path::new(line.split(' ').nth(4).unwrap()).starts_with(path);
    table.lines().filter(at).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn without_a_mount_namespace_the_callers_mounts_at_the_root_stay() {
    if !ready() {
        return;
    }
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let proc = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    let case = sleeper().set("/linux/namespaces", json!([{"type": "pid"}, {"type": "ipc"}])).set("/mounts", proc);
    let case = case.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([])).without("", "hostname");
    case.write();
    let (root, none) = (case.rootfs(), None::<&str>);
    for _ in 0..2 {
        mount(Some(&root), &root, none, MsFlags::MS_BIND, none).unwrap();
        // Else the second would come below the first, too, where the host's mounts are shared.
        mount(none, &root, none, MsFlags::MS_PRIVATE, none).unwrap();
    }
    let callers = mounts_at(&root);
    assert_eq!(callers.len(), 2);
    let began = std::time::Instant::now();
    case.create().ok();
    let whole = began.elapsed();
    assert!(mounts_at(&root).len() >= 4, "the root and /proc: {:?}", mounts_at(&root));
    case.on("start").ok();
    case.tare(&["delete", "--force", &case.id]).ok();
    let once = mounts_at(&root);
    // Killed at random, and deleted twice.
    let mut seed = u64::from(std::process::id());
    let (mut rounds, mut mounted) = (Vec::new(), 0);
    while rounds.len() < 60 || (mounted < 5 && rounds.len() < 300) {
        let delay = whole.mul_f64(random(&mut seed) as f64 / f64::from(1u32 << 31));
        let mut create = case.command(&["create", &case.id]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        create.kill().unwrap();
        create.wait().unwrap();
        mounted += usize::from(mounts_at(&root).len() > callers.len());
        let deleted = [(); 2].map(|()| case.tare(&["delete", "--force", &case.id]).code);
        rounds.push((delay, deleted, mounts_at(&root)));
    }
    // A mount of the caller's in the place of that over which the runtime mounted is not the runtime's.
    case.create().ok();
    umount2(&root, MntFlags::MNT_DETACH).unwrap();
    umount2(&root, MntFlags::MNT_DETACH).unwrap();
    mount(Some("x"), &root, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let last = mounts_at(&root);
    let deleted = case.tare(&["delete", "--force", &case.id]);
    let after = mounts_at(&root);
    while umount2(&root, MntFlags::MNT_DETACH).is_ok() {}
    deleted.ok();
    assert_eq!(once, callers);
    for (delay, deleted, left) in rounds {
        assert_eq!((deleted, &left), ([0, 0], &callers), "killed after {delay:?}");
    }
    assert!(mounted > 0, "no round came as far as to mount");
    assert_eq!(after, last);
}

#[test]
fn a_create_that_was_killed_leaves_what_delete_force_removes() {
    if !ready() {
        return;
    }
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut seed = u64::from(began.subsec_nanos());
    let case = sleeper().namespace("cgroup", None);
    case.write();
    for round in 0..60 {
        let delay = Duration::from_micros(random(&mut seed) % 10_000);
        let mut create = case.command(&["create", &case.id]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        create.kill().unwrap();
        create.wait().unwrap();
        let deleted = case.tare(&["delete", "--force", &case.id]);
        assert_eq!(deleted.code, 0, "round {round}, killed after {delay:?}: {}", deleted.err);
        // An orphaned init sees the end of its pipe and goes by itself.
        let end = std::time::Instant::now() + Duration::from_secs(2) * slowness();
        while case.left() != nothing() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(case.left(), nothing(), "round {round}, killed after {delay:?}");
        case.tare(&["delete", "--force", &case.id]).ok();
    }
    case.create().ok();
    case.on("delete").ok();
}

#[test]
fn a_torn_file_never_makes_a_container_undeletable() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.create().ok();
    let files: Vec<_> =
        ["state.json", "journal.json"].map(|f| (f, std::fs::read(case.state_dir().join(f)).unwrap())).into();
    case.on("delete").ok();
    for (name, whole) in &files {
        // Every byte of the journal and state in steps that end within the time of a test, both ends included.
        let step = (whole.len() / 12).max(1);
        for cut in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            case.create().ok();
            let path = case.state_dir().join(name);
            let now = std::fs::read(&path).unwrap();
            std::fs::write(&path, &now[..cut.min(now.len())]).unwrap();
            for verb in ["state", "list", "kill"] {
                let out = if verb == "list" { case.tare(&["list"]) } else { case.on(verb) };
                assert!(out.code <= 1, "{verb} with {name} cut at {cut}: {out:?}");
            }
            let deleted = case.tare(&["delete", "--force", &case.id]);
            assert_eq!(deleted.code, 0, "{name} cut at {cut}: {}", deleted.err);
            case.until("nothing is left", || case.left() == nothing());
        }
    }
}

#[test]
fn files_torn_at_every_byte_can_be_deleted() {
    if !ready() {
        return;
    }
    // Promise P5. The container is gone and its files are laid down again for each cut: with it, see the test before.
    let case = sleeper();
    case.create().ok();
    let root = case.dir.join("state");
    let files = ["state.json", "journal.json"].map(|f| (f, std::fs::read(case.state_dir().join(f)).unwrap()));
    case.on("delete").ok();
    let mut cuts = 0;
    for (torn, whole) in &files {
        for cut in 0..whole.len() {
            std::fs::create_dir(case.state_dir()).unwrap();
            for (name, bytes) in &files {
                let bytes = if name == torn { &bytes[..cut] } else { &bytes[..] };
                std::fs::write(case.state_dir().join(name), bytes).unwrap();
            }
            if cut % 64 == 0 {
                let out = case.on("state");
                assert!(out.code == 0 || (out.code == 1 && out.err.contains(&case.id)), "{torn} cut at {cut}: {out:?}");
            }
            let deleted = tare::container::delete(&root, &case.id, true, &mut |_| {});
            assert!(deleted.is_ok(), "{torn} cut at {cut}: {}", deleted.unwrap_err());
            assert!(!case.state_dir().exists(), "{torn} cut at {cut}");
            cuts += 1;
        }
    }
    println!("{cuts} cuts");
    case.create().ok();
    case.on("delete").ok();
}

#[test]
fn a_state_of_another_boot_is_stopped_and_deletable() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.create().ok();
    let pid = case.pid();
    let path = case.state_dir().join("state.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, of_another_boot(&text)).unwrap();
    assert_eq!(case.status(), "stopped");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    case.on("delete").ok();
}

#[test]
fn a_process_that_has_the_pid_of_a_dead_init_is_nobodys() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.create().ok();
    let (pid, path) = (case.pid(), case.state_dir().join("state.json"));
    let whole = std::fs::read_to_string(&path).unwrap();
    let known: serde_json::Value = serde_json::from_str(&whole).unwrap();
    // Known by the time alone, as with kernels before 6.9, and as it is here.
    let mut others = vec![json!({ "identity": null, "startTime": 1 })];
    others.extend(known["identity"].as_u64().map(|inode| json!({ "identity": inode + 1 })));
    for other in others {
        let mut state = known.clone();
        state.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        std::fs::write(&path, state.to_string()).unwrap();
        assert_eq!(case.status(), "stopped", "{other}");
        case.tare(&["kill", &case.id, "KILL"]).refused(&["container not running"]);
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "{other}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(case.status(), "created");
    case.tare(&["delete", "--force", &case.id]).ok();
}

/// No boot leaves there what another could find.
#[test]
fn of_what_lies_in_memory_the_boot_is_not_noted() {
    if !ready() {
        return;
    }
    let case = sleeper();
    let root = format!("/dev/shm/{}", case.id);
    let on = |verb: &[&str]| case.tare(&[&["--root", &root], verb, &[&case.id]].concat()).ok();
    case.write();
    on(&["create"]);
    let state = std::fs::read_to_string(Path::new(&root).join(&case.id).join("state.json")).unwrap();
    assert!(state.contains(r#""bootId":"""#), "{state}");
    assert!(on(&["state"]).contains("created"));
    on(&["start"]);
    assert!(on(&["state"]).contains("running"));
    on(&["delete", "--force"]);
    std::fs::remove_dir(&root).unwrap();
}

#[test]
fn of_many_creates_of_one_id_one_wins() {
    if !ready() {
        return;
    }
    for _ in 0..5 {
        let case = sleeper();
        case.write();
        let spawn = || case.command(&["create", &case.id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut racers: Vec<_> = (0..4).map(|_| spawn()).collect();
        let won = racers.iter_mut().filter_map(|r| r.wait().unwrap().success().then_some(())).count();
        assert_eq!(won, 1);
        assert_eq!(case.status(), "created");
        case.on("start").ok();
    }
}

#[test]
fn creators_and_deleters_of_one_id_leave_nothing() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    for _ in 0..8 {
        let spawn = |args: &[&str]| case.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut racers = [
            spawn(&["create", &case.id]),
            spawn(&["delete", "-f", &case.id]),
            spawn(&["create", &case.id]),
            spawn(&["delete", "-f", &case.id]),
        ];
        for racer in &mut racers {
            assert!(racer.wait().unwrap().code().is_some_and(|c| c <= 1));
        }
    }
    case.tare(&["delete", "--force", &case.id]).ok();
    case.until("nothing is left", || case.left() == nothing());
}

#[test]
fn whatever_fails_in_create_leaves_nothing() {
    if !ready() {
        return;
    }
    let failing = [
        case().args(&["/no/such/program"]),
        case().mount("/x", "ext9", "x", &[]),
        case().set("/process/cwd", json!("/bin/busybox")),
        case().set("/linux/sysctl", json!({"net.no.such": "1"})),
        case().set("/hooks/createContainer/-", json!({"path": "/bin/false"})),
        case().set("/hooks/createRuntime/-", json!({"path": "/bin/false"})),
        case().set("/linux/resources/cpu", json!({"cpus": "4000"})),
        case().namespace("ipc", Some("/etc/passwd")),
    ];
    for case in failing {
        let out = case.create();
        assert_eq!(out.code, 1, "{out:?}");
        assert_eq!(case.left(), nothing(), "{}", out.err);
    }
}

#[test]
fn a_runtime_that_is_killed_while_a_hook_hangs_can_be_cleaned_up() {
    if !ready() {
        return;
    }
    let case = case();
    let mark = case.dir.join("hook-runs");
    let script = format!("touch {}; exec sleep 30", mark.display());
    let case = case.set("/hooks/createRuntime/-", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
    case.write();
    let mut create = case.command(&["create", &case.id]).stderr(Stdio::null()).spawn().unwrap();
    case.until("the hook runs", || mark.exists());
    create.kill().unwrap();
    create.wait().unwrap();
    case.tare(&["delete", "--force", &case.id]).ok();
    case.until("nothing is left", || case.left() == nothing());
}

#[test]
fn errors_are_told_once_and_in_the_log_as_json() {
    if !ready() {
        return;
    }
    let mut case = case().args(&["/no/such/program"]);
    let log = case.dir.join("log.json");
    case.global = ["--log", log.to_str().unwrap(), "--log-format", "json"].map(str::to_owned).into();
    let err = case.create().refused(&["no such file or directory"]);
    assert_eq!(err.lines().count(), 1, "{err}");
    let text = std::fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("process.args[0]") && line["time"].is_string(), "{line}");
}
