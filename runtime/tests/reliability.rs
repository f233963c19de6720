//! What happens beside the ordinary: races, want of everything, numbers that became somebody else's, processes that hang in
//! the kernel. `TARE_ROUNDS` asks for more rounds of what is repeated; an ordinary run ends within its time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails is to panic; a repeated one says how often"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{Case, TARE, case, of_another_boot, ready, run, slowness};

const SHORT: Duration = Duration::from_secs(12);

fn sleeper() -> Case {
    case().args(&["sleep", "1000"])
}

fn nothing() -> Vec<String> {
    Vec::new()
}

fn started(case: &Case) {
    case.create().ok();
    case.on("start").ok();
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// Repeats until the time is over, or as often as is asked for.
fn rounds(name: &str, few: u64, mut once: impl FnMut(u64)) {
    let wanted: Option<u64> = std::env::var("TARE_ROUNDS").ok().and_then(|n| n.parse().ok());
    let (begin, mut n) = (Instant::now(), 0);
    while wanted.map_or(n < few && begin.elapsed() < SHORT, |w| n < w) {
        once(n);
        n += 1;
    }
    println!("ROUNDS {name}: {n} in {:.1?}", begin.elapsed());
}

/// A filesystem of its own for the length of a test.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        mount(Some("small"), &at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        Mounted(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn one_cgroup_is_one_containers() {
    if !ready() {
        return;
    }
    // Promise P8. With the pid namespace shared, whatever is in the cgroup would die with the container.
    for shared in [false, true] {
        let first = sleeper();
        let path = format!("/{}", first.id);
        let first = first.set("/linux/cgroupsPath", json!(path));
        let first = if shared { first.without_namespace("pid") } else { first };
        let second = sleeper().set("/linux/cgroupsPath", json!(path));
        let mut second = if shared { second.without_namespace("pid") } else { second };
        second.global = vec!["--root".to_owned(), first.dir.join("state").display().to_string()];
        started(&first);
        second.create().refused(&["linux.cgroupsPath", &first.id]);
        assert_eq!(first.status(), "running");
        first.tare(&["kill", &first.id, "9"]).ok();
        first.until("stopped", || first.status() == "stopped");
        // It is empty, and still the first one's: deleting that would end the other.
        second.create().refused(&["linux.cgroupsPath", &first.id]);
        first.on("delete").ok();
        second.create().ok();
        second.on("delete").ok();
        assert_eq!(first.left(), nothing());
    }
}

#[test]
fn a_cgroup_that_was_there_is_left_with_what_is_in_it() {
    if !ready() {
        return;
    }
    let case = sleeper();
    let group = Path::new("/sys/fs/cgroup/pids").join(&case.id);
    if !Path::new("/sys/fs/cgroup/pids").is_dir() {
        return println!("SKIP: no pids hierarchy of version 1");
    }
    std::fs::create_dir_all(group.join("other")).unwrap();
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(group.join("other/cgroup.procs"), other.id().to_string()).unwrap();
    case.create().refused(&["container's cgroup is not empty"]);
    case.tare(&["delete", "--force", &case.id]).ok();
    assert!(other.try_wait().unwrap().is_none(), "somebody else's process was killed");
    assert!(group.join("other").is_dir());
    other.kill().unwrap();
    other.wait().unwrap();
    for dir in [group.join("other"), group] {
        case.until("the cgroup goes", || std::fs::remove_dir(&dir).is_ok() || !dir.exists());
    }
}

#[test]
fn paused_and_deleted() {
    if !ready() {
        return;
    }
    for shared in [false, true] {
        let case = if shared { sleeper().without_namespace("pid") } else { sleeper() };
        started(&case);
        case.on("pause").ok();
        case.on("delete").refused(&["not stopped"]);
        case.tare(&["delete", "--force", &case.id]).ok();
        assert_eq!(case.left(), nothing());
        started(&case);
        case.on("pause").ok();
        case.tare(&["kill", &case.id, "9"]).ok();
        case.until("stopped", || case.status() == "stopped");
        case.on("delete").ok();
        assert_eq!(case.left(), nothing());
    }
}

#[test]
fn nested_cgroups_with_processes_go_with_the_container() {
    if !ready() {
        return;
    }
    // A manager of its own inside: groups below groups, frozen ones among them, and processes that outlive init.
    let script = "for c in pids freezer memory; do mkdir -p /sys/fs/cgroup/$c/a/b/c; done; \
        for i in 1 2 3; do setsid sleep 1000 & for c in pids freezer memory; do echo $! >/sys/fs/cgroup/$c/a/b/c/cgroup.procs; done; done; \
        echo FROZEN >/sys/fs/cgroup/freezer/a/b/freezer.state; touch /tmp/done; exec sleep 1000";
    if !Path::new("/sys/fs/cgroup/freezer").is_dir() {
        return println!("SKIP: no freezer of version 1");
    }
    for shared in [false, true] {
        let case = case().script(script).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
        let case = if shared { case.without_namespace("pid") } else { case };
        started(&case);
        case.until("the groups are made", || case.rootfs().join("tmp/done").exists());
        case.tare(&["delete", "--force", &case.id]).ok();
        assert_eq!(case.left(), nothing());
    }
}

#[test]
fn exec_races_the_end_of_the_container() {
    if !ready() {
        return;
    }
    let case = case().args(&["sleep", "1000"]);
    case.write();
    let (mut entered, mut refused) = (0u32, 0u32);
    rounds("exec racing exit", 1000, |n| {
        case.on("create").ok();
        case.on("start").ok();
        let exec =
            case.command(&["exec", &case.id, "true"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(n * 137 % 5000));
        let _ = kill(Pid::from_raw(case.pid()), Signal::SIGKILL);
        let begin = Instant::now();
        let out = exec.wait_with_output().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5) * slowness(), "exec took {:?}", begin.elapsed());
        let said = String::from_utf8_lossy(&out.stderr);
        match out.status.code() {
            Some(0) => entered += 1,
            // Killed with the container; or it came too late, and says so in the words that engines know.
            Some(137) => entered += 1,
            Some(255) if said.contains("container not running") => refused += 1,
            code => panic!("round {n}: {code:?}: {said}"),
        }
        case.tare(&["delete", "--force", &case.id]).ok();
        assert_eq!(case.left(), nothing(), "round {n}");
    });
    println!("{entered} entered, {refused} came too late");
}

#[test]
fn eight_creators_and_deleters_of_one_id() {
    if !ready() {
        return;
    }
    let case = sleeper();
    case.write();
    rounds("creators and deleters of one id", 1000, |n| {
        // A container that was made keeps what it was given open: a pipe would not end.
        let said = |i: u32| case.dir.join(format!("said-{i}"));
        let racers: Vec<_> = (0..8)
            .map(|i| {
                let words = if i % 2 == 0 { vec!["create", &case.id] } else { vec!["delete", "--force", &case.id] };
                let out = std::fs::File::create(said(i)).unwrap();
                case.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(out).spawn().unwrap()
            })
            .collect();
        for (i, mut racer) in (0..8).zip(racers) {
            let (status, said) = (racer.wait().unwrap(), std::fs::read_to_string(said(i)).unwrap());
            assert!(status.code().is_some_and(|c| c <= 1), "round {n}: {status}: {said}");
            let known = ["already exists", "does not exist", "is that of container", "not empty", "died", "no such"];
            assert!(status.success() || known.iter().any(|k| said.contains(k)), "round {n}: {said}");
        }
        if n % 10 == 0 {
            case.tare(&["delete", "--force", &case.id]).ok();
            case.until_nothing_is_left();
        }
    });
    case.tare(&["delete", "--force", &case.id]).ok();
    case.until_nothing_is_left();
}

#[test]
fn a_pid_that_became_another_processs_is_not_touched() {
    if !ready() {
        return;
    }
    // In a pid namespace of its own the kernel's next pid can be chosen (proc(5), ns_last_pid).
    let case = sleeper();
    case.write();
    let script = "set -e; t=\"$1 --root $2\"; $t create $3; p=$($t state $3 | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); kill -9 $p; \
        while [ -e /proc/$p/exe ] && ! grep -q 'State:.*Z' /proc/$p/status; do :; done; sleep 0.1; \
        for i in 1 2 3 4 5 6 7 8 9; do echo $((p - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 & [ $! = $p ] && break; kill -9 $!; done; \
        [ $! = $p ] || { echo no reuse; exit 3; }; $t state $3 | grep -q '\"stopped\"'; ! $t kill $3 9; $t delete --force $3; \
        grep -q sleep /proc/$p/comm && echo spared; kill -9 $p";
    let args = ["-pf", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", TARE];
    let out = run(Command::new("unshare").args(args).arg(case.dir.join("state")).arg(&case.id).current_dir(&case.dir));
    assert_eq!((out.code, out.out.trim()), (0, "spared"), "{out:?}");
}

#[test]
fn another_boots_container_does_not_cost_this_boots_process() {
    if !ready() {
        return;
    }
    let case = sleeper();
    started(&case);
    let pid = case.pid();
    for file in ["state.json", "journal.json"] {
        let path = case.state_dir().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, of_another_boot(&text)).unwrap();
    }
    assert_eq!(case.status(), "stopped");
    assert_ne!(case.tare(&["kill", &case.id, "9"]).code, 0);
    case.tare(&["delete", "--force", &case.id]).ok();
    assert!(alive(pid), "a process of this boot was killed for a container of another");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    case.until("it is gone", || !alive(pid));
    for group in case.cgroups() {
        case.until("its cgroup goes", || std::fs::remove_dir(&group).is_ok() || !group.exists());
    }
}

#[test]
fn a_create_that_hangs_does_not_hang_others() {
    if !ready() {
        return;
    }
    // Promise P6: whoever waits for another command does not wait for ever.
    let case = sleeper();
    let mark = case.dir.join("hook-runs");
    let script = format!("touch {}; exec sleep 1000", mark.display());
    let case = case.set("/hooks/createRuntime/-", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
    case.write();
    let mut create = case.command(&["create", &case.id]).stderr(Stdio::null()).spawn().unwrap();
    case.until("the hook runs", || mark.exists());
    assert_eq!(case.tare(&["state", &case.id]).code, 0);
    let begin = Instant::now();
    case.tare(&["delete", "--force", &case.id]).refused(&["another command"]);
    assert!(begin.elapsed() < Duration::from_secs(18) * slowness(), "{:?}", begin.elapsed());
    create.kill().unwrap();
    create.wait().unwrap();
    case.tare(&["delete", "--force", &case.id]).ok();
    case.until_nothing_is_left();
}

#[test]
fn a_state_directory_that_is_full() {
    if !ready() {
        return;
    }
    let case = sleeper();
    let (mut made, mut refused) = (0, 0);
    for options in (1..16).map(|n| format!("nr_inodes={n}")).chain((1..8).map(|n| format!("size={}k", n * 4))) {
        let _full = Mounted::tmpfs(case.dir.join("state"), &options);
        let out = case.create();
        if out.code == 0 {
            made += 1;
            case.on("start").ok();
            let updated = case.tare(&["update", "--pids-limit", "50", &case.id]);
            assert!(updated.code <= 1, "{options}: {updated:?}");
            assert_eq!(case.status(), "running", "{options}");
        } else {
            refused += 1;
            assert!(out.err.contains("no space left on device"), "{options}: {out:?}");
            assert_eq!(case.cgroups(), Vec::<PathBuf>::new(), "{options}: {}", out.err);
        }
        case.tare(&["delete", "--force", &case.id]).ok();
        case.until("nothing is left", || !case.state_dir().exists() && case.cgroups().is_empty());
    }
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
}

#[test]
fn a_container_of_one_process() {
    if !ready() {
        return;
    }
    let case = sleeper().set("/linux/resources/pids/limit", json!(1));
    started(&case);
    let begin = Instant::now();
    let out = case.tare(&["exec", &case.id, "true"]);
    assert!(out.code != 0 && begin.elapsed() < Duration::from_secs(5) * slowness(), "{out:?}");
    assert_eq!(case.status(), "running");
    case.tare(&["delete", "--force", &case.id]).ok();
    assert_eq!(case.left(), nothing());
}

#[test]
fn a_runtime_that_may_make_few_processes() {
    if !ready() {
        return;
    }
    let group = Path::new("/sys/fs/cgroup/pids").join(format!("tare-few-{}", std::process::id()));
    if !Path::new("/sys/fs/cgroup/pids").is_dir() {
        return println!("SKIP: no pids hierarchy of version 1");
    }
    std::fs::create_dir_all(&group).unwrap();
    let hook = json!({"path": "/bin/true"});
    let case = sleeper().set("/hooks/createRuntime/-", hook).set("/linux/cgroupsPath", json!("/tare-few-case"));
    case.write();
    let (mut made, mut refused) = (0, 0);
    for limit in 1..5 {
        std::fs::write(group.join("pids.max"), limit.to_string()).unwrap();
        let script = "echo 0 >$1/cgroup.procs; shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&group).arg(TARE).arg("--root").arg(case.dir.join("state"));
        let out = run(command.args(["create", &case.id]).current_dir(&case.dir));
        if out.code == 0 {
            made += 1;
        } else {
            refused += 1;
            assert_eq!(case.left(), nothing(), "pids.max {limit}: {out:?}");
        }
        case.tare(&["delete", "--force", &case.id]).ok();
        case.until_nothing_is_left();
    }
    case.until("the cgroup goes", || std::fs::remove_dir(&group).is_ok() || !group.exists());
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
}

/// How long a command takes at best.
fn best(mut command: impl FnMut() -> Command) -> Duration {
    let once = |command: &mut Command| {
        let begin = Instant::now();
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
        begin.elapsed()
    };
    (0..5).map(|_| once(&mut command())).min().unwrap()
}

#[test]
fn ten_thousand_mounts_of_the_host() {
    if !ready() {
        return;
    }
    // Cloning a mount namespace costs the kernel something for each mount; the runtime must not add to that. All of it
    // happens in a mount namespace of the test's own.
    let case = case().args(&["true"]);
    case.write();
    let exe = std::env::current_exe().unwrap();
    let inside = "host_of_ten_thousand_mounts";
    let mut command = Command::new("unshare");
    command.args(["-m"]).arg(exe).args(["--ignored", "--exact", inside, "--nocapture"]);
    // Making the mounts takes a busy machine longer than any command of ours may take.
    let out = command.env("TARE_MOUNTS", &case.dir).env("TARE_ID", &case.id).output().unwrap();
    println!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{out:?}");
}

#[test]
#[ignore = "run by ten_thousand_mounts_of_the_host, in a mount namespace of its own"]
fn host_of_ten_thousand_mounts() {
    let (dir, id) = (PathBuf::from(std::env::var_os("TARE_MOUNTS").unwrap()), std::env::var("TARE_ID").unwrap());
    let tare = || {
        let mut command = Command::new(TARE);
        command.arg("--root").arg(dir.join("state")).args(["run", &id]).current_dir(&dir);
        command
    };
    let kernel = || {
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "unchanged", "true"]);
        command
    };
    let (tare_few, kernel_few) = (best(tare), best(kernel));
    let many = dir.join("many");
    std::fs::create_dir(&many).unwrap();
    let none: Option<&str> = None;
    mount(Some("many"), &many, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(none, &many, none, MsFlags::MS_PRIVATE, none).unwrap();
    for n in 0..10_000 {
        let at = many.join(n.to_string());
        std::fs::create_dir(&at).unwrap();
        mount(Some(&many), &at, none, MsFlags::MS_BIND, none).unwrap();
    }
    let (tare_many, kernel_many) = (best(tare), best(kernel));
    umount2(&many, MntFlags::MNT_DETACH).unwrap();
    let (ours, floor) = (tare_many.saturating_sub(tare_few), kernel_many.saturating_sub(kernel_few));
    println!("MOUNTS run {tare_few:.1?} → {tare_many:.1?}, unshare -m {kernel_few:.1?} → {kernel_many:.1?}");
    // A clone of the namespace, and its end: as much again for a machine that others use.
    assert!(ours < floor * 3 + Duration::from_millis(100), "grew by {ours:?}, the kernel's own work by {floor:?}");
}

/// A FUSE filesystem that answers its greeting and then nothing: what waits for it hangs in the kernel (fuse(4)).
struct Silent {
    device: std::fs::File,
    at: PathBuf,
}

impl Silent {
    fn mounted(at: PathBuf) -> Option<Self> {
        use std::os::fd::AsRawFd as _;
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("silent"), &at, Some("fuse"), MsFlags::empty(), Some(options.as_str())).ok()?;
        let silent = Silent { device, at };
        silent.greet();
        Some(silent)
    }

    /// FUSE_INIT: a header of 16 bytes and `fuse_init_out` of 64 (linux/fuse.h).
    fn greet(&self) {
        use std::io::{Read as _, Write as _};
        let mut request = vec![0; 1 << 17];
        assert!((&self.device).read(&mut request).unwrap() > 0);
        let mut answer = Vec::new();
        answer.extend(80u32.to_ne_bytes());
        answer.extend(0u32.to_ne_bytes());
        answer.extend(&request[8..16]);
        for field in [7u32, 31, 0, 0] {
            answer.extend(field.to_ne_bytes());
        }
        answer.extend([0; 4]);
        answer.extend(4096u32.to_ne_bytes());
        answer.resize(80, 0);
        (&self.device).write_all(&answer).unwrap();
    }

    /// Answers what is asked about the root until something is looked up in it: that is taken and never answered, so that
    /// whoever asked cannot even be killed.
    fn swallow(device: &std::fs::File) {
        use std::io::{Read as _, Write as _};
        let mut request = vec![0; 1 << 17];
        while let Ok(16..) = (&*device).read(&mut request) {
            let mut body = Vec::new();
            match u32::from_ne_bytes(request[4..8].try_into().unwrap()) {
                1 => return,
                // FORGET and BATCH_FORGET want none.
                2 | 42 => continue,
                // GETATTR: valid for long, inode 1, a directory.
                3 => {
                    body.extend(1000u64.to_ne_bytes());
                    body.extend([0; 8]);
                    body.extend(1u64.to_ne_bytes());
                    body.extend([0; 52]);
                    body.extend(0o40755u32.to_ne_bytes());
                    body.extend(1u32.to_ne_bytes());
                    body.resize(104, 0);
                }
                _ => {}
            }
            let error = if body.is_empty() { -libc_enosys() } else { 0 };
            let mut answer = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
            answer.extend(error.to_ne_bytes());
            answer.extend(&request[8..16]);
            answer.extend(body);
            let _ = (&*device).write_all(&answer);
        }
    }
}

fn libc_enosys() -> i32 {
    nix::errno::Errno::ENOSYS as i32
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

#[test]
fn an_init_that_cannot_die_is_told_of_in_time() {
    if !ready() {
        return;
    }
    // Promise P6: it hangs in the kernel; `delete` says so within its bound, takes nothing away that would be missing later,
    // and succeeds once the kernel lets go.
    let case = case().args(&["ls", "-l", "/silent/x"]);
    let hung = case.dir.join("hung");
    let Some(silent) = Silent::mounted(hung.clone()) else {
        return println!("SKIP: no /dev/fuse");
    };
    let case = case.mount("/silent", "bind", hung.to_str().unwrap(), &["bind"]);
    let device = silent.device.try_clone().unwrap();
    let server = std::thread::spawn(move || Silent::swallow(&device));
    case.create().ok();
    case.on("start").ok();
    server.join().unwrap();
    let begin = Instant::now();
    let out = case.tare(&["delete", "--force", &case.id]);
    assert!(begin.elapsed() < Duration::from_secs(15) * slowness(), "{:?}", begin.elapsed());
    out.refused(&["does not die"]);
    assert!(case.state_dir().join("journal.json").exists());
    // The connection ends, and with it every wait.
    drop(silent);
    case.until("init is gone", || case.status() == "stopped");
    case.tare(&["delete", "--force", &case.id]).ok();
    assert_eq!(case.left(), nothing());
}
