//! Rule R5: nobody in a container can write to the runtime's file, by whatever he holds of it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::attacker;
use crate::support::{Case, TARE, case, ready, run, slowness};

/// All capabilities that the caller has: an attacker who may mount.
fn everything() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap();
    let bits = u64::from_str_radix(bounding.trim(), 16).unwrap();
    tare::abi::CAPABILITIES.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, n)| *n).collect()
}

/// A malicious image: `/evil` is a script whose interpreter is whatever executes it, which then waits for the attacker to take
/// hold of it; the loader and the C library of the image are the attacker's, too.
fn image(case: Case) -> Case {
    let case = attacker::bring(case).caps(&everything());
    let root = case.rootfs();
    std::fs::write(root.join("evil"), "#!/proc/self/exe --log=/fifo\n").unwrap();
    std::fs::set_permissions(root.join("evil"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    case
}

/// The runtime, in a copy that may come to harm, called as an engine calls it.
struct Runtime {
    file: PathBuf,
    root: PathBuf,
    before: Vec<u8>,
    /// Of a plain user: his ids.
    plain: Option<u32>,
}

impl Runtime {
    fn copied(case: &Case) -> Self {
        let (file, root) = (case.dir.join("runtime"), case.dir.join("state"));
        std::fs::copy(TARE, &file).unwrap();
        Runtime { before: std::fs::read(&file).unwrap(), file, root, plain: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.file);
        command.arg("--root").arg(&self.root).args(args);
        if let Some(id) = self.plain {
            let dir = self.root.parent().unwrap();
            command.uid(id).gid(id).env("XDG_RUNTIME_DIR", dir).current_dir(dir);
        }
        command
    }

    /// An attacker that has come so far as to wait, its output in a file. No command of ours runs any more, which would keep
    /// its file from being written (ETXTBSY).
    fn attacked(&self, args: &[&str], said: &Path) {
        let out = std::fs::File::create(said).unwrap();
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let status = loop {
            match command.status() {
                // What another thread is about to execute has the copy open for writing still.
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(2))
                }
                answer => break answer.unwrap(),
            }
        };
        assert!(status.success(), "{args:?}");
        until(said, "ATTACK waits");
    }

    /// The attack is over, did what it could, and in vain.
    #[track_caller]
    fn is_whole(&self, said: &Path) {
        until(said, "ATTACK ends");
        let out = std::fs::read_to_string(said).unwrap();
        let mut told = attacker::told(&out);
        // A copy in memory is its user's; its mode is nothing to the file.
        told.retain(|l| self.plain.is_none() || *l != "succeeded: chmod");
        assert!(told.iter().filter(|l| l.starts_with("refused: open for writing")).count() >= 4, "{out}");
        assert!(!told.iter().any(|l| l.starts_with("succeeded")), "{out}");
        assert!(std::fs::read(&self.file).unwrap() == self.before, "the runtime's file was changed");
    }
}

#[track_caller]
fn until(said: &Path, line: &str) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(18) * slowness();
    while !std::fs::read_to_string(said).unwrap().contains(line) {
        assert!(std::time::Instant::now() < end, "{line:?} is not in: {}", std::fs::read_to_string(said).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn attack() -> Vec<String> {
    attacker::command("hold_the_runtimes_file_and_write_to_it")
}

#[test]
fn exec_into_a_malicious_image_leaves_the_runtime_whole() {
    if !ready() {
        return;
    }
    // CVE-2019-5736 as it was found: the container waits for an `exec` whose program is /proc/self/exe.
    for program in ["/evil", "/proc/self/exe --log=/fifo nothing"] {
        let case = image(case()).set("/process/args", json!(attack()));
        case.write();
        let (runtime, said) = (Runtime::copied(&case), case.dir.join("said"));
        let bundle = case.dir.to_str().unwrap();
        runtime.attacked(&["run", "--detach", "-b", bundle, &case.id], &said);
        let words: Vec<&str> = ["exec", &case.id].into_iter().chain(program.split(' ')).collect();
        let out = run(&mut runtime.command(&words));
        assert!(!matches!(out.code, 0 | 255), "the runtime inside must run and fail: {out:?}");
        runtime.is_whole(&said);
    }
}

#[test]
fn create_and_start_of_a_malicious_image_leave_the_runtime_whole() {
    if !ready() {
        return;
    }
    // The attacker is there before the program is: it takes hold of init while that stands behind its gate, or when it
    // executes the runtime anew. The pod's pid namespace is not init's, so that the attacker outlives it.
    let case = image(case());
    let pod = crate::support::case().args(&["sleep", "100"]).set("/root/path", json!(case.rootfs()));
    pod.create().ok();
    pod.on("start").ok();
    let case = case.args(&["/evil"]).namespace("pid", Some(&format!("/proc/{}/ns/pid", pod.pid())));
    case.write();
    let (runtime, said) = (Runtime::copied(&case), case.dir.join("said"));
    run(&mut runtime.command(&["create", "-b", case.dir.to_str().unwrap(), &case.id])).ok();
    let attack = attack();
    let words: Vec<&str> =
        ["exec", "--detach", &case.id].into_iter().chain(attack.iter().map(String::as_str)).collect();
    runtime.attacked(&words, &said);
    run(&mut runtime.command(&["start", &case.id])).ok();
    runtime.is_whole(&said);
    // The pod has the same root: it goes first.
    pod.tare(&["delete", "--force", &pod.id]).ok();
}

#[test]
fn run_beside_an_attacker_leaves_the_runtime_whole() {
    if !ready() {
        return;
    }
    // A pod: two containers with one pid namespace and one volume.
    for verb in ["run", "create"] {
        let holder = image(case()).set("/process/args", json!(attack()));
        holder.write();
        let (runtime, said) = (Runtime::copied(&holder), holder.dir.join("said"));
        runtime.attacked(&["run", "--detach", "-b", holder.dir.to_str().unwrap(), &holder.id], &said);
        let pid = holder.pid();
        let evil = case().args(&["/evil"]).namespace("pid", Some(&format!("/proc/{pid}/ns/pid"))).caps(&everything());
        let evil = evil.set("/root/path", json!(holder.rootfs()));
        evil.write();
        let bundle = evil.dir.to_str().unwrap();
        if verb == "run" {
            run(&mut runtime.command(&["run", "--detach", "-b", bundle, &evil.id])).ok();
        } else {
            run(&mut runtime.command(&["create", "-b", bundle, &evil.id])).ok();
            run(&mut runtime.command(&["start", &evil.id])).ok();
        }
        runtime.is_whole(&said);
        run(&mut runtime.command(&["delete", "--force", &evil.id])).ok();
    }
}

#[test]
fn a_container_of_a_plain_user_leaves_his_runtime_whole() {
    if !ready() {
        return;
    }
    // He has no mount to clone, so his runtime runs from a sealed copy in memory. The file is his own, and root inside is he.
    const ID: u32 = 61_236;
    let mut case = case();
    let spec = tare::default_spec::default_config(Some((ID, ID)), false);
    case.config = serde_json::from_str(&spec).unwrap();
    let case = image(case).set("/process/args", json!(attack())).set("/process/terminal", json!(false));
    let case = case.set("/root/readonly", json!(false));
    // What is bound must be to be reached by him.
    let program = case.rootfs().join("bin/attack");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let case = case.without_mount("/bin/attack");
    case.write();
    let (mut runtime, said) = (Runtime::copied(&case), case.dir.join("said"));
    runtime.plain = Some(ID);
    for path in [case.dir.clone(), runtime.file.clone(), case.rootfs(), program, case.rootfs().join("fifo")] {
        std::os::unix::fs::chown(path, Some(ID), Some(ID)).unwrap();
    }
    runtime.attacked(&["run", "--detach", "-b", case.dir.to_str().unwrap(), &case.id], &said);
    let out = run(&mut runtime.command(&["exec", &case.id, "/evil"]));
    assert!(!matches!(out.code, 0 | 255), "the runtime inside must run and fail: {out:?}");
    runtime.is_whole(&said);
}

#[test]
fn a_hostile_loader_or_library_is_not_executed() {
    if !ready() {
        return;
    }
    // The runtime executed inside: were it linked dynamically, the image's own loader and library would be its code.
    let case = attacker::bring(case()).args(&["/proc/self/exe", "--version"]);
    let case = case.set("/process/env/-", json!("LD_PRELOAD=/lib64/evil.so"));
    for (dir, file) in [("lib64", "ld-linux-x86-64.so.2"), ("lib", "ld-linux-aarch64.so.1"), ("lib64", "evil.so")] {
        std::fs::create_dir_all(case.rootfs().join(dir)).unwrap();
        std::fs::write(case.rootfs().join(dir).join(file), "#!/bin/sh\necho ATTACK\n").unwrap();
    }
    let out = case.run();
    assert!(!out.out.contains("ATTACK"), "{out:?}");
    // An interpreter of its own would be a program header of type 3 (elf(5), PT_INTERP).
    let elf = std::fs::read(TARE).unwrap();
    let number = |at: usize, len: usize| elf[at..at + len].iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!((0..count).all(|i| number(table + i * size, 4) != 3), "the runtime has an interpreter");
}

#[test]
fn a_program_that_is_a_descriptor_of_ours_is_not_executed() {
    if !ready() {
        return;
    }
    for program in ["/proc/self/fd/3", "/proc/self/fd/4", "/proc/self/fd/5", "/proc/self/fd/6"] {
        let out = case().args(&[program, "--version"]).run();
        assert!(out.code != 0 || !out.out.contains("tare"), "{program}: {out:?}");
    }
}

#[test]
fn a_read_only_mount_of_the_hosts_is_no_protection() {
    if !ready() {
        return;
    }
    // What is read-only today is remounted for tomorrow's upgrade, while a container still holds the file: the runtime
    // executes its own detached clone even then.
    let case = case().args(&["sleep", "100"]);
    case.write();
    let place = case.dir.join("ro");
    std::fs::create_dir(&place).unwrap();
    let none: Option<&str> = None;
    nix::mount::mount(Some("x"), &place, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    // Not written by this process: a test beside this one may fork while the file is open, and it would be busy then.
    assert!(Command::new("cp").arg(TARE).arg(place.join("tare")).status().unwrap().success());
    let flags = nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_RDONLY;
    nix::mount::mount(Some("x"), &place, none, flags, none).unwrap();
    let root = case.dir.join("state");
    let out =
        run(Command::new(place.join("tare")).arg("--root").arg(root).args(["create", &case.id]).current_dir(&case.dir));
    let exe = (out.code == 0).then(|| std::fs::read_link(format!("/proc/{}/exe", case.pid())).unwrap());
    case.tare(&["delete", "--force", &case.id]).ok();
    nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert_eq!(exe.as_deref(), Some(Path::new("/")), "{out:?}");
}
