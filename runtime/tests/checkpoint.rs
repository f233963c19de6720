//! `checkpoint` and `restore`: with CRIU itself where that works on this kernel, and everywhere with one that speaks its
//! protocol and does as it is told.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails is to panic; a skipped one says why")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Case, case};

/// The one that does as it is told, in a directory of the case's.
struct Fake(PathBuf);

impl Fake {
    fn new(case: &Case, behaviour: &str) -> Self {
        let dir = case.dir.join("fake");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/criu.py"), dir.join("criu")).unwrap();
        std::fs::write(dir.join("behaviour"), behaviour).unwrap();
        Fake(dir)
    }

    fn path(&self) -> String {
        self.0.join("criu").to_str().unwrap().to_owned()
    }

    fn request(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.join("request")).unwrap()).unwrap()
    }

    /// The values of an option, by its number in CRIU's own description.
    fn option(&self, number: u64) -> Vec<Value> {
        let all = self.request()["options"].as_array().unwrap().clone();
        all.into_iter().filter(|o| o[0] == number).map(|o| o[1].clone()).collect()
    }
}

fn running() -> Case {
    let case = case().args(&["sleep", "60"]).mount("/data", "bind", "/etc", &["rbind", "ro"]);
    case.write();
    case.tare(&["run", "-d", &case.id]).ok();
    case
}

fn images(case: &Case) -> PathBuf {
    case.dir.join("images")
}

#[test]
fn a_dump_tells_criu_what_lies_outside_and_ends_the_container() {
    if !ready() {
        return;
    }
    let case = running();
    let (fake, pid) = (Fake::new(&case, ""), case.pid());
    case.tare(&["--criu", &fake.path(), "checkpoint", "--image-path", "images", "--tcp-established", &case.id]).ok();
    assert_eq!(fake.request()["kind"], 1);
    assert_eq!(fake.option(2), [json!(pid)]);
    assert_eq!(fake.option(5), [json!(1)], "tcp_established");
    assert_eq!(fake.option(13), [json!(case.rootfs().to_str().unwrap())]);
    let outside = fake.option(23);
    assert!(outside.contains(&json!(["/data", "/data"])), "{outside:?}");
    assert!(outside.contains(&json!(["/proc/keys", "/dev/null"])), "{outside:?}");
    let streams: Vec<String> =
        serde_json::from_slice(&std::fs::read(images(&case).join("descriptors.json")).unwrap()).unwrap();
    assert_eq!(streams.len(), 3);
    assert_eq!(streams[0], "/dev/null");
    case.on("state").refused(&["does not exist"]);
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn a_dump_may_leave_the_container_running() {
    if !ready() {
        return;
    }
    let case = running();
    let fake = Fake::new(&case, "");
    let criu = fake.path();
    case.tare(&["--criu", &criu, "checkpoint", "--image-path", "a", "--pre-dump", &case.id]).ok();
    assert_eq!((fake.request()["kind"].clone(), fake.option(15)), (json!(4), vec![json!(1)]));
    let rest = ["--parent-path", "../a", "--leave-running", "--image-path", "b", &case.id];
    case.tare(&[&["--criu", &criu, "checkpoint"], &rest[..]].concat()).ok();
    assert_eq!((fake.option(3), fake.option(14)), (vec![json!(1)], vec![json!("../a")]));
    assert_eq!(case.status(), "running");
    let gone = ["checkpoint", "--parent-path", "../none", "--image-path", "b", &case.id];
    case.tare(&[&["--criu", &criu], &gone[..]].concat())
        .refused(&["--parent-path ../none", "no such file or directory"]);
    let absolute = ["checkpoint", "--parent-path", "/", "--image-path", "b", &case.id];
    case.tare(&[&["--criu", &criu], &absolute[..]].concat()).refused(&["must be relative"]);
}

#[test]
fn a_dump_that_fails_leaves_the_container_as_it_was() {
    if !ready() {
        return;
    }
    let case = running();
    let fake = Fake::new(&case, "refuses");
    let args = ["--criu", &fake.path(), "checkpoint", "--image-path", "images", &case.id];
    let said = case.tare(&args).refused(&["dump.log", "cannot do it", "criu failed: type DUMP errno 52"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    std::fs::write(fake.0.join("behaviour"), "dies").unwrap();
    case.tare(&args).refused(&["criu ended without an answer"]);
    assert_eq!(case.status(), "running");
    case.tare(&["--criu", "/no/criu", "checkpoint", &case.id]).refused(&["/no/criu", "no such file or directory"]);
    let mut bare = case.command(&["checkpoint", &case.id]);
    support::run(bare.env("PATH", "/no/where")).refused(&["executable file not found in $PATH"]);
    case.tare(&["delete", "--force", &case.id]).ok();
    case.create().ok();
    case.tare(&args).refused(&["Container cannot be checkpointed in created state"]);
}

#[test]
fn a_restore_starts_criu_in_the_containers_cgroups() {
    if !ready() {
        return;
    }
    let case = case().mount("/data/x/y", "bind", "/etc", &["rbind"]).set("/linux/resources/pids", json!({"limit": 40}));
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat > $OUT/hook"], "env": [format!("OUT={}", case.dir.display())]}]);
    let case = case.set("/hooks/createRuntime", hook);
    case.write();
    let fake = Fake::new(&case, "");
    std::fs::create_dir(images(&case)).unwrap();
    std::fs::write(images(&case).join("descriptors.json"), r#"["/dev/null","pipe:[77]","pipe:[78]"]"#).unwrap();
    let pid_file = case.dir.join("pid");
    let args = ["restore", "-d", "--image-path", "images", "--pid-file", pid_file.to_str().unwrap(), &case.id];
    case.tare(&[&["--criu", &fake.path()], &args[..]].concat()).ok();
    assert_eq!(fake.request()["kind"], 2);
    assert_eq!(fake.option(27), [json!(["pipe:[77]", 1]), json!(["pipe:[78]", 2])]);
    assert!(fake.option(23).contains(&json!(["/data/x/y", "/etc"])), "{:?}", fake.option(23));
    assert!(case.rootfs().join("data/x/y").is_dir());
    assert!(!fake.option(25).is_empty(), "where its cgroups are");
    let request = fake.request();
    assert!(request["cgroup"].as_str().unwrap().contains(&format!("/{}", case.id)), "{request}");
    // The root is a mount point for CRIU, and for nobody else.
    let root = case.rootfs();
    let mounts = request["mounts"].as_array().unwrap();
    assert!(mounts.contains(&json!(root.to_str().unwrap())), "{mounts:?}");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(root.to_str().unwrap()));
    assert_eq!(case.status(), "running");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), case.pid().to_string());
    let state: Value = serde_json::from_slice(&std::fs::read(case.dir.join("hook")).unwrap()).unwrap();
    assert_eq!((state["pid"].clone(), state["status"].clone()), (json!(case.pid()), json!("creating")));
    case.tare(&["delete", "--force", &case.id]).ok();
    assert_eq!(case.left(), Vec::<String>::new());
}

/// `checkpoint` that leaves the container running, with these flags.
#[track_caller]
fn dump(case: &Case, fake: &Fake, more: &[&str]) {
    let line = ["--criu", &fake.path(), "checkpoint", "--leave-running", "--image-path", "images"];
    case.tare(&[&line[..], more, &[&case.id]].concat()).ok();
}

/// A case that was saved by somebody, and is not there.
fn saved() -> Case {
    let case = case().args(&["sleep", "60"]);
    case.write();
    std::fs::create_dir(images(&case)).unwrap();
    std::fs::write(images(&case).join("descriptors.json"), r#"["/dev/null","/dev/null","/dev/null"]"#).unwrap();
    case
}

/// `restore` with these flags; what it made is deleted again.
#[track_caller]
fn restore(case: &Case, fake: &Fake, more: &[&str]) {
    let line = ["--criu", &fake.path(), "restore", "--detach", "--image-path", "images"];
    case.tare(&[&line[..], more, &[&case.id]].concat()).ok();
    assert_eq!(case.status(), "running", "{more:?}");
    case.tare(&["delete", "--force", &case.id]).ok();
}

#[test]
fn flags_of_both_verbs_reach_criu() {
    if !ready() {
        return;
    }
    // The number in `criu_opts`, and the value.
    let flags: [(&[&str], u64, i64); 12] = [
        (&["--ext-unix-sk"], 4, 1),
        (&["--tcp-established"], 5, 1),
        (&["--shell-job"], 7, 1),
        (&["--file-locks"], 8, 1),
        (&["--auto-dedup"], 16, 1),
        (&["--lazy-pages"], 48, 1),
        (&["--manage-cgroups-mode", "ignore"], 34, 0),
        (&["--manage-cgroups-mode", "soft"], 34, 3),
        (&["--manage-cgroups-mode", "full"], 34, 4),
        (&["--manage-cgroups-mode", "strict"], 34, 5),
        (&["--empty-ns", "network"], 38, 0x4000_0000),
        (&["--empty-ns", "network", "--empty-ns", "ipc"], 38, 0x4800_0000),
    ];
    let (up, down) = (running(), saved());
    for (case, verb) in [(&up, dump as fn(&Case, &Fake, &[&str])), (&down, restore)] {
        let fake = Fake::new(case, "");
        verb(case, &fake, &[]);
        for number in flags.iter().map(|(_, number, _)| *number).chain([11, 17, 53, 63]) {
            assert_eq!(fake.option(number), Vec::<Value>::new(), "nobody asked for {number}");
        }
        for (flags, number, value) in &flags {
            verb(case, &fake, flags);
            assert_eq!(fake.option(*number), [json!(value)], "{flags:?}");
        }
        let work = case.dir.join("work");
        verb(case, &fake, &["--work-path", work.to_str().unwrap()]);
        assert_eq!((fake.option(17).len(), work.is_dir()), (1, true), "work");
        // The later one counts: another directory of images.
        std::fs::create_dir_all(case.dir.join("others")).unwrap();
        std::fs::write(case.dir.join("others/descriptors.json"), r#"["/dev/null","pipe:[5]","/dev/null"]"#).unwrap();
        verb(case, &fake, &["--image-path", "others"]);
        assert_eq!(fake.option(27).len(), usize::from(fake.request()["kind"] == 2), "of these images");
    }
}

#[test]
fn flags_of_checkpoint_reach_criu() {
    if !ready() {
        return;
    }
    let case = running();
    let fake = Fake::new(&case, "ready");
    dump(&case, &fake, &["--page-server", "localhost:7777"]);
    assert_eq!(fake.option(11), [json!(["localhost", 7777])]);
    // One byte, when CRIU is ready for who fetches the pages.
    let told = case.dir.join("told");
    let script = format!("exec 7>{}; \"$@\" --status-fd 7 {}", told.display(), case.id);
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh", support::TARE, "--root"]).arg(case.dir.join("state"));
    shell.args(["--criu", &fake.path(), "checkpoint", "--leave-running", "--image-path"]).arg(images(&case));
    support::run(&mut shell).ok();
    assert_eq!(std::fs::read(&told).unwrap(), [0]);
    assert_eq!(case.status(), "running");
}

#[test]
fn flags_of_restore_reach_criu() {
    if !ready() {
        return;
    }
    let case = saved();
    let fake = Fake::new(&case, "");
    restore(&case, &fake, &["--lsm-profile", "apparmor:some"]);
    assert_eq!(fake.option(53), [json!("apparmor:some")]);
    restore(&case, &fake, &["--lsm-mount-context", "u:r:t:s0"]);
    assert_eq!(fake.option(63), [json!("u:r:t:s0")]);
    for bundle in ["--bundle", "-b"] {
        let rest =
            ["--no-pivot", "--no-new-keyring", "--no-subreaper", "--preserve-fds", "0", "--strict", "-d", "--detach"];
        restore(&case, &fake, &[&[bundle, case.dir.to_str().unwrap()], &rest[..]].concat());
        assert_eq!(fake.option(13), [json!(case.rootfs().to_str().unwrap())], "the bundle's root");
    }
    // Whoever is at the socket gets a handle of the process that was made.
    let socket = case.dir.join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    restore(&case, &fake, &["--pidfd-socket", socket.to_str().unwrap()]);
    let (peer, _) = listener.accept().unwrap();
    let mut room = [0; 64];
    let mut io = [std::io::IoSliceMut::new(&mut room)];
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let (fd, none) = (std::os::fd::AsRawFd::as_raw_fd(&peer), nix::sys::socket::MsgFlags::empty());
    let got = nix::sys::socket::recvmsg::<()>(fd, &mut io, Some(&mut space), none).unwrap();
    let rights = |c| matches!(c, nix::sys::socket::ControlMessageOwned::ScmRights(fds) if fds.len() == 1);
    assert!(got.cmsgs().unwrap().any(rights), "no descriptor came");
    let line = ["--criu", &fake.path(), "restore", "--image-path", "images", &case.id];
    case.tare(&[&line[..], &["-d", "--pidfd-socket", "/no/where"]].concat()).refused(&["socket /no/where: connect"]);
    assert_eq!(case.left(), Vec::<String>::new());
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    if !ready() {
        return;
    }
    let case = case();
    case.write();
    let fake = Fake::new(&case, "refuses");
    let criu = fake.path();
    std::fs::create_dir(images(&case)).unwrap();
    let restore = |more: &[&str]| {
        case.tare(&[&["--criu", &criu, "restore", "-d", "--image-path", "images"], more, &[&case.id]].concat())
    };
    let nothing = || assert_eq!(case.left(), Vec::<String>::new());
    restore(&[]).refused(&["restore.log", "cannot do it", "criu failed: type RESTORE errno 52"]);
    nothing();
    std::fs::write(fake.0.join("behaviour"), "dies").unwrap();
    restore(&[]).refused(&["criu ended without an answer"]);
    nothing();
    // What fails on the way is what is told: here the pid file, after the processes were made.
    std::fs::write(fake.0.join("behaviour"), "").unwrap();
    restore(&["--pid-file", "/no/where/pid"]).refused(&["/no/where/pid", "no such file or directory"]);
    nothing();
    for torn in ["", "[", "{}", "[1]", r#"["a","b","c","d"]"#] {
        std::fs::write(images(&case).join("descriptors.json"), torn).unwrap();
        restore(&[]).refused(&["descriptors.json"]);
        nothing();
    }
    case.tare(&["--criu", &criu, "restore", "--image-path", "/no/images", &case.id])
        .refused(&["/no/images: no such file"]);
    case.tare(&["--criu", &criu, "restore", "--empty-ns", "nothing", &case.id])
        .refused(&["--empty-ns", "is no namespace type"]);
    nothing();
}

/// The one that does as it is told is a script.
fn ready() -> bool {
    let python = Command::new("python3").arg("--version").output().is_ok();
    if !python {
        println!("SKIP: needs python3");
    }
    python && support::ready()
}

/// CRIU itself; older ones do not know newer kernels.
fn criu_works() -> bool {
    let works = Command::new("criu").arg("check").output().is_ok_and(|o| o.status.success());
    if !works {
        println!("SKIP: criu is missing, or does not work on this kernel (criu check)");
    }
    works
}

#[test]
fn a_container_goes_on_where_it_was_saved() {
    if !support::ready() || !criu_works() {
        return;
    }
    let case = case()
        .script("i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done")
        .mount("/data", "bind", "/etc", &["rbind", "ro"])
        .set("/linux/resources/pids", json!({"limit": 40}));
    case.write();
    case.tare(&["run", "-d", &case.id]).ok();
    let count = || -> u64 {
        std::fs::read_to_string(case.rootfs().join("tmp/n")).unwrap_or_default().trim().parse().unwrap_or(0)
    };
    case.until("it counts", || count() > 5);
    case.tare(&["checkpoint", "--image-path", "images", &case.id]).ok();
    case.on("state").refused(&["does not exist"]);
    let saved = count();
    // CRIU wants the files that were open as they were.
    let number = std::fs::read(case.rootfs().join("tmp/n")).unwrap();
    for _ in 0..2 {
        std::fs::write(case.rootfs().join("tmp/n"), &number).unwrap();
        case.tare(&["restore", "-d", "--image-path", "images", &case.id]).ok();
        assert_eq!(case.status(), "running");
        case.until("it goes on counting", || count() > saved + 3);
        assert!(count() < saved + 500, "it began anew");
        assert_eq!(
            case.tare(&["exec", &case.id, "cat", "/data/hostname"]).ok(),
            std::fs::read_to_string("/etc/hostname").unwrap().trim()
        );
        case.tare(&["kill", &case.id, "KILL"]).ok();
        case.until("it stops", || case.status() == "stopped");
        case.on("delete").ok();
        assert_eq!(case.left(), Vec::<String>::new());
    }
    assert!(Path::new(&images(&case)).join("pstree.img").exists());
}
