//! The shim under the real daemon: a containerd of our own, driven by `ctr`, runc below.

// Helpers outside of a #[test] are test code as well, where an unwrap is an assertion.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Home, have, make_rootfs, runtime, shim_binary, wait_for, which};
use containerd_shim_tare::sha256;
use serde_json::json;

const NEEDS: &[&str] = &["containerd", "ctr", "busybox", "tar", "script"];

struct Daemon {
    home: Home,
    child: Option<Child>,
}

impl Daemon {
    fn start() -> Daemon {
        let home = Home::new();
        make_rootfs(&home.0.join("rootfs"));
        let path = |name: &str| home.0.join(name);
        // Also under the name of containerd's own shim: a drop-in is a promise.
        fs::create_dir(path("path")).unwrap();
        for name in ["containerd-shim-tare-v2", "containerd-shim-runc-v2"] {
            std::os::unix::fs::symlink(shim_binary(), path("path").join(name)).unwrap();
        }
        fs::write(path("options.toml"), format!("BinaryName = {:?}\nRoot = {:?}\n", runtime(), path("runtime")))
            .unwrap();
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
             \"io.containerd.internal.v1.opt\"]\n[grpc]\n  address = {:?}\n[debug]\n  level = \"trace\"\n",
            path("root"),
            path("state"),
            path("sock")
        );
        fs::write(path("config.toml"), text).unwrap();
        let mut daemon = Daemon { home, child: None };
        daemon.up();
        daemon
    }

    fn up(&mut self) {
        let own = self.home.0.join("path");
        let path =
            std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.0.join("log")).unwrap();
        let child = Command::new("containerd")
            .arg("-c")
            .arg(self.home.0.join("config.toml"))
            .env("PATH", path.unwrap())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("containerd", || self.ctr(&["version"]).status.success().then_some(()));
    }

    /// As a crash would: no goodbye.
    fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn ctr(&self, words: &[&str]) -> Output {
        self.client(words).stdin(Stdio::null()).output().unwrap()
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-k", "1", &common::long().as_secs().to_string(), "ctr", "-a"])
            .arg(self.home.0.join("sock"))
            .args(["-n", &self.home.name()])
            .args(words);
        command
    }

    fn run(&self, mode: &[&str], id: &str, command: &[&str]) -> Output {
        let options = self.home.0.join("options.toml").to_string_lossy().into_owned();
        self.run_as(&["--runtime", "io.containerd.tare.v2", "--runtime-config-path", &options], mode, id, command)
    }

    fn run_as(&self, runtime: &[&str], mode: &[&str], id: &str, command: &[&str]) -> Output {
        let rootfs = self.home.0.join("rootfs").to_string_lossy().into_owned();
        let cgroup = format!("/{}/{id}", self.home.name());
        let words = [&["run"], runtime, mode, &["--cgroup", &cgroup, "--rootfs", &rootfs, id], command].concat();
        self.ctr(&words)
    }

    fn tasks(&self) -> String {
        text(&self.ctr(&["task", "ls"]))
    }

    fn shims(&self) -> Vec<u32> {
        let state = self.home.0.join("state");
        let of_ours = |pid: &u32| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            cwd.starts_with(&state) && name.starts_with("containerd-shim")
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(of_ours).collect()
    }

    fn init_pid(&self, id: &str) -> u32 {
        let tasks = self.tasks();
        let line = tasks.lines().find(|l| l.split_whitespace().next() == Some(id)).unwrap_or_else(|| panic!("{tasks}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn nothing_is_left(&self) {
        wait_for("the shims' end", || self.shims().is_empty().then_some(()));
        let bundles = self.home.0.join("state/io.containerd.runtime.v2.task").join(self.home.name());
        let left = || fs::read_dir(&bundles).map_or(0, Iterator::count);
        wait_for("the bundles' end", || (left() == 0).then_some(()));
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.lines().any(|l| l.contains(&*self.home.0.join("state").to_string_lossy())), "{mounts}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for line in self.tasks().lines().skip(1) {
            let id = line.split_whitespace().next().unwrap_or_default();
            self.ctr(&["task", "rm", "-f", id]);
        }
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.home.0.join("log")).unwrap_or_default());
        }
        self.down();
        for shim in self.shims() {
            let _ = Command::new("kill").args(["-KILL", &shim.to_string()]).status();
        }
        let _ = Command::new("umount").args(["-l", "-R"]).arg(self.home.0.join("root")).stderr(Stdio::null()).status();
        common::remove_cgroups(&self.home.name());
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn runs_to_the_end_under_every_name() {
    if !have(NEEDS) {
        return;
    }
    let daemon = Daemon::start();
    let output = daemon.run(&["--rm"], "a", &["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((text(&output).as_str(), output.status.code()), ("out\n", Some(7)), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err"));
    let (runc, root) = (runtime(), daemon.home.0.join("runtime").to_string_lossy().into_owned());
    for (id, name) in [("alias", "io.containerd.runc.tare.v2"), ("dropin", "io.containerd.runc.v2")] {
        let mut words = vec!["--runtime", name];
        // This client knows runc options for the one name only; the other shows that it is ours by its process below.
        if id == "dropin" {
            words.extend(["--runc-binary", &runc, "--runc-root", &root]);
        } else {
            let options = daemon.home.0.join("options.toml").to_string_lossy().into_owned();
            words.extend(["--runtime-config-path", options.leak()]);
        }
        let output = daemon.run_as(&words, &["--rm"], id, &["/bin/echo", id]);
        assert_eq!(text(&output), format!("{id}\n"), "{output:?}");
    }
    let output = daemon.run(&["--rm"], "none", &["/no/such"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("OCI runtime create failed") && said.contains("no such file or directory"), "{said}");
    let command = format!(
        "ctr -a {0}/sock -n {1} run --rm -t --runtime io.containerd.tare.v2 --runtime-config-path {0}/options.toml --rootfs {0}/rootfs tty /bin/sh -c 'test -t 0 && echo a-terminal; exit 3'",
        daemon.home.0.display(),
        daemon.home.name()
    );
    let output = Command::new("timeout").args(["20", "script", "-qec", &command, "/dev/null"]).output().unwrap();
    assert!(text(&output).contains("a-terminal"), "{output:?}");
    assert_eq!(output.status.code(), Some(3));
    daemon.nothing_is_left();
}

#[test]
fn the_tasks_verbs_work() {
    if !have(NEEDS) {
        return;
    }
    let daemon = Daemon::start();
    assert!(daemon.run(&["-d"], "v", &["/bin/sleep", "1000"]).status.success());
    let output = daemon.ctr(&["task", "exec", "--exec-id", "e", "v", "/bin/sh", "-c", "echo in; exit 4"]);
    assert_eq!((text(&output).as_str(), output.status.code()), ("in\n", Some(4)));
    assert!(text(&daemon.ctr(&["task", "metrics", "v"])).contains("pids.current"));
    assert!(text(&daemon.ctr(&["task", "ps", "v"])).contains(&daemon.init_pid("v").to_string()));
    assert!(daemon.ctr(&["task", "pause", "v"]).status.success());
    assert!(daemon.tasks().contains("PAUSED"));
    assert!(daemon.ctr(&["task", "resume", "v"]).status.success());
    assert!(daemon.tasks().contains("RUNNING"));
    assert!(daemon.ctr(&["task", "kill", "-s", "KILL", "v"]).status.success());
    wait_for("the end", || daemon.tasks().contains("STOPPED").then_some(()));
    daemon.ctr(&["task", "rm", "v"]);
    assert!(!daemon.tasks().contains('v'.to_string().as_str()) || daemon.tasks().lines().count() == 1);
    daemon.nothing_is_left();
}

#[test]
fn input_reaches_an_exec_and_ends() {
    if !have(NEEDS) {
        return;
    }
    let daemon = Daemon::start();
    assert!(daemon.run(&["-d"], "in", &["/bin/sleep", "1000"]).status.success());
    // The client closes the input of what it executes when its own has ended, so the last word comes only if CloseIO works.
    let mut command = daemon.client(&["task", "exec", "--exec-id", "e", "in", "/bin/sh", "-c", "cat; echo over"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, &b"word\n".repeat(40000)).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(text(&output), "word\n".repeat(40000) + "over\n");
    daemon.ctr(&["task", "kill", "-s", "KILL", "in"]);
    wait_for("the end", || daemon.tasks().contains("STOPPED").then_some(()));
    daemon.ctr(&["task", "rm", "in"]);
    daemon.nothing_is_left();
}

#[test]
fn a_daemons_crash_loses_no_exit() {
    if !have(NEEDS) {
        return;
    }
    let mut daemon = Daemon::start();
    assert!(daemon.run(&["-d"], "stays", &["/bin/sleep", "1000"]).status.success());
    assert!(daemon.run(&["-d"], "ends", &["/bin/sleep", "1000"]).status.success());
    let pid = daemon.init_pid("ends");
    daemon.down();
    kill(pid);
    std::thread::sleep(Duration::from_millis(500));
    daemon.up();
    let tasks = wait_for("the exit", || Some(daemon.tasks()).filter(|t| t.contains("STOPPED")));
    assert!(tasks.contains("RUNNING"), "{tasks}");
    wait_for("the exit event", || {
        let log = fs::read_to_string(daemon.home.0.join("log")).unwrap();
        log.contains("topic=/tasks/exit").then_some(())
    });
    let output = daemon.ctr(&["task", "rm", "ends"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("137"), "{output:?}");
    assert!(daemon.ctr(&["task", "exec", "--exec-id", "e", "stays", "/bin/true"]).status.success());
}

#[test]
fn a_killed_shim_is_cleaned_up_by_the_daemon() {
    if !have(NEEDS) {
        return;
    }
    let daemon = Daemon::start();
    assert!(daemon.run(&["-d"], "k", &["/bin/sleep", "1000"]).status.success());
    let pid = daemon.init_pid("k");
    daemon.shims().into_iter().for_each(kill);
    wait_for("the container's end", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    daemon.nothing_is_left();
    wait_for("the task's end", || (!daemon.tasks().contains("RUNNING")).then_some(()));
    assert!(!daemon.home.0.join("runtime").join(daemon.home.name()).join("k").exists());
}

#[test]
fn an_images_layers_are_mounted_and_a_pod_has_one_shim() {
    if !have(NEEDS) {
        return;
    }
    let daemon = Daemon::start();
    let archive = image(&daemon.home.0, &daemon.home.0.join("rootfs"));
    let output = daemon.ctr(&["image", "import", "--all-platforms", &archive.to_string_lossy()]);
    assert!(output.status.success(), "{output:?}");
    let options = daemon.home.0.join("options.toml").to_string_lossy().into_owned();
    let runtime = ["--runtime", "io.containerd.tare.v2", "--runtime-config-path", &options];
    for id in ["pod", "member"] {
        let cgroup = format!("/{}/{id}", daemon.home.name());
        let words = [
            "--cgroup",
            &cgroup,
            "--annotation",
            "io.kubernetes.cri.sandbox-id=pod",
            "tare.test/busybox:1",
            id,
            "/bin/sleep",
            "1000",
        ];
        let output = daemon.ctr(&[&["run", "-d"], &runtime[..], &words].concat());
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(daemon.shims().len(), 1);
    let bundles = daemon.home.0.join("state/io.containerd.runtime.v2.task").join(daemon.home.name());
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(mounts.contains(&*bundles.join("member/rootfs").to_string_lossy()), "{mounts}");
    for id in ["pod", "member"] {
        daemon.ctr(&["task", "kill", "-s", "KILL", id]);
        wait_for("the end", || {
            daemon.tasks().lines().any(|l| l.starts_with(id) && l.contains("STOPPED")).then_some(())
        });
        daemon.ctr(&["task", "rm", id]);
    }
    daemon.nothing_is_left();
}

#[test]
fn fifty_containers_start_eight_at_a_time() {
    if !have(NEEDS) {
        return;
    }
    let daemon = Daemon::start();
    let next = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if n >= 50 {
                        return;
                    }
                    let script = format!("echo {n}; exit {n}");
                    let output = daemon.run(&["--rm"], &format!("n{n}"), &["/bin/sh", "-c", &script]);
                    let code = output.status.code().unwrap();
                    assert_eq!((text(&output), code), (format!("{n}\n"), i32::try_from(n).unwrap()), "{output:?}");
                }
            });
        }
    });
    daemon.nothing_is_left();
    let groups = common::cgroups_with(&format!("{}/n", daemon.home.name()));
    assert!(groups.is_empty(), "{groups:?}");
}

#[test]
fn a_stopped_shim_does_not_hang_the_daemon() {
    if !have(NEEDS) {
        return;
    }
    let mut daemon = Daemon::start();
    assert!(daemon.run(&["-d"], "stopped", &["/bin/sleep", "1000"]).status.success());
    let (shim, pid) = (daemon.shims()[0], daemon.init_pid("stopped"));
    common::signal(shim, "-STOP");
    let begun = std::time::Instant::now();
    let output = daemon.run(&["--rm"], "other", &["/bin/echo", "fine"]);
    assert_eq!(text(&output), "fine\n", "{output:?}");
    daemon.tasks();
    assert!(begun.elapsed() < common::long(), "{:?}", begun.elapsed());
    // A daemon that comes back gives such a shim up after five seconds; its `delete` may not wait for it either.
    daemon.down();
    daemon.up();
    let output = daemon.run(&["--rm"], "third", &["/bin/echo", "fine"]);
    assert_eq!(text(&output), "fine\n", "{output:?}");
    wait_for("the container's end", || common::has_ended(pid).then_some(()));
    let (root, group) = (daemon.home.0.join("runtime"), format!("{}/stopped", daemon.home.name()));
    let left = || common::cgroups_with(&group).len();
    if runtime().contains("tare") {
        wait_for("the groups' end", || (left() == 0).then_some(()));
        assert!(!root.join(daemon.home.name()).join("stopped").exists(), "the runtime's state");
    }
    // What nobody can end but its owner: the shim that does not answer. Its container is a zombie until then, and others than
    // ours wait for it in vain.
    assert_eq!(daemon.shims(), [shim]);
    common::signal(shim, "-KILL");
    let mut delete = Command::new(runtime());
    delete.arg("--root").arg(root.join(daemon.home.name())).args(["delete", "--force", "stopped"]);
    assert!(delete.output().unwrap().status.success());
    wait_for("the groups' end", || (left() == 0).then_some(()));
    daemon.nothing_is_left();
}

#[test]
fn shims_killed_at_any_moment_leave_nothing_to_the_daemon() {
    if !have(NEEDS) {
        return;
    }
    let daemon = Daemon::start();
    for delay in (0..200).step_by(40) {
        let id = format!("d{delay}");
        std::thread::scope(|scope| {
            let run = scope.spawn(|| daemon.run(&["--rm"], &id, &["/bin/sleep", "1"]));
            let shim = wait_for("a shim", || daemon.shims().first().copied());
            std::thread::sleep(Duration::from_millis(delay));
            common::signal(shim, "-KILL");
            // Whether the client has success depends on the moment; that it ends does not.
            assert_ne!(run.join().unwrap().status.code(), Some(124), "{id}: the client hangs");
        });
        daemon.ctr(&["task", "rm", "-f", &id]);
        daemon.ctr(&["container", "rm", &id]);
        daemon.nothing_is_left();
        let state = daemon.home.0.join("runtime").join(daemon.home.name()).join(&id);
        assert!(!state.exists(), "{id}: the runtime's state");
        if runtime().contains("tare") {
            // Others can be killed between a group and the note of it.
            let group = format!("{}/{id}", daemon.home.name());
            wait_for("the groups' end", || common::cgroups_with(&group).is_empty().then_some(()));
        }
    }
}

#[test]
fn systemd_makes_the_cgroup_when_it_is_asked_to() {
    if !have(NEEDS) {
        return;
    }
    if !Path::new("/run/systemd/system").is_dir() {
        println!("SKIPPED: no systemd here");
        return;
    }
    let daemon = Daemon::start();
    let file = daemon.home.0.join("systemd.toml");
    let binary = runtime();
    fs::write(
        &file,
        format!("BinaryName = {binary:?}\nRoot = {:?}\nSystemdCgroup = true\n", daemon.home.0.join("runtime")),
    )
    .unwrap();
    let rootfs = daemon.home.0.join("rootfs").to_string_lossy().into_owned();
    let (options, group) = (file.to_string_lossy().into_owned(), format!("system.slice:{}:sd", daemon.home.name()));
    let output = daemon.ctr(&[
        "run",
        "-d",
        "--runtime",
        "io.containerd.tare.v2",
        "--runtime-config-path",
        &options,
        "--cgroup",
        &group,
        "--rootfs",
        &rootfs,
        "sd",
        "/bin/sleep",
        "1000",
    ]);
    assert!(output.status.success(), "{output:?}");
    let pid = daemon.init_pid("sd");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains(&format!("/system.slice/{}-sd.scope", daemon.home.name())), "{groups}");
    assert!(text(&daemon.ctr(&["task", "metrics", "sd"])).contains("pids.current"));
    daemon.ctr(&["task", "kill", "-s", "KILL", "sd"]);
    wait_for("the end", || daemon.tasks().contains("STOPPED").then_some(()));
    daemon.ctr(&["task", "rm", "sd"]);
    daemon.nothing_is_left();
}

/// An OCI image archive of one layer, made by hand: no registry is needed.
fn image(home: &Path, rootfs: &Path) -> PathBuf {
    let dir = home.join("image");
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let layer = home.join("layer.tar");
    assert!(which("tar").is_some());
    assert!(Command::new("tar").arg("-cf").arg(&layer).arg("-C").arg(rootfs).arg(".").status().unwrap().success());
    let put = |bytes: &[u8]| {
        let digest = sha256::hex(bytes);
        fs::write(blobs.join(&digest), bytes).unwrap();
        (format!("sha256:{digest}"), bytes.len())
    };
    let (layer_digest, layer_size) = put(&fs::read(&layer).unwrap());
    let config = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, "os": "linux",
        "config": {"Env": ["PATH=/bin"]}, "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    });
    let (config_digest, config_size) = put(config.to_string().as_bytes());
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer_size}],
    });
    let (digest, size) = put(manifest.to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": manifest_type, "digest": digest, "size": size,
            "annotations": {"io.containerd.image.name": "tare.test/busybox:1", "org.opencontainers.image.ref.name": "1"}}],
    });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let archive = home.join("image.tar");
    assert!(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&dir).arg(".").status().unwrap().success());
    archive
}
