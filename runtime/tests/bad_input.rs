//! What is wrong with what a command is given, or with where it runs: one clear error, the right exit code, and nothing
//! left behind.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::json;
use support::bed::{Bed, Said, TARE, is_root, run};

const FOREVER: &str = "exec sleep 1000";

/// A command of the bed behind a shell that prepares something first.
fn behind(bed: &Bed, prepare: &str, args: &[&str]) -> Said {
    let tare = bed.command(args);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("{prepare}\nexec \"$@\"")).arg("sh").arg(tare.get_program()).args(tare.get_args());
    run(shell.stdin(Stdio::null()))
}

#[test]
fn every_command_knows_nobody() {
    let bed = Bed::new(FOREVER);
    std::fs::create_dir(bed.dir.join("state")).unwrap();
    let resources = bed.dir.join("r.json");
    std::fs::write(&resources, "{}").unwrap();
    let resources = resources.to_str().unwrap();
    let commands: [&[&str]; 12] = [
        &["start", "ID"],
        &["state", "ID"],
        &["kill", "ID", "KILL"],
        &["kill", "-a", "ID"],
        &["delete", "ID"],
        &["pause", "ID"],
        &["resume", "ID"],
        &["update", "--resources", resources, "ID"],
        &["events", "ID"],
        &["events", "--stats", "ID"],
        &["ps", "ID"],
        &["ps", "-f", "json", "ID"],
    ];
    for command in commands {
        bed.tare(command).fails("container does not exist");
    }
    bed.tare(&["delete", "--force", "ID"]).ok();
    for id in ["", ".", "..", "a/b", "../x", "a\nb"] {
        for command in ["state", "start", "kill", "delete", "pause", "resume", "events", "ps", "update"] {
            let said = bed.tare(&[command, id]);
            assert_eq!(said.code, Some(1), "{command} {id:?}: {said:?}");
        }
        assert_eq!(bed.tare(&["delete", "--force", id]).code, Some(1), "{id:?}");
        assert_eq!(bed.tare(&["create", "-b", "BUNDLE", id]).code, Some(1), "{id:?}");
    }
    assert_eq!(std::fs::read_dir(bed.dir.join("state")).unwrap().count(), 0);
}

#[test]
fn a_bundle_that_cannot_be_read_is_said_to_be_so() {
    let bed = Bed::new(FOREVER);
    let config = bed.dir.join("bundle/config.json");
    let whole = std::fs::read(&config).unwrap();
    for (text, said) in [
        (&b""[..], "is empty"),
        (&whole[..whole.len() / 2], "the file ends"),
        (b"[]", "config.json"),
        (b"\xff\xfe{", "UTF-16"),
        (b"{}", "ociVersion"),
    ] {
        std::fs::write(&config, text).unwrap();
        for verb in ["create", "run"] {
            bed.tare(&[verb, "-b", "BUNDLE", "ID"]).fails(said);
        }
    }
    std::fs::remove_file(&config).unwrap();
    bed.tare(&["create", "-b", "BUNDLE", "ID"]).fails("no such file or directory");
    std::fs::create_dir(&config).unwrap();
    bed.tare(&["create", "-b", "BUNDLE", "ID"]).fails("is a directory");
    bed.tare(&["create", "-b", "/no/such/bundle", "ID"]).fails("no such file or directory");
    bed.nothing_left();
}

#[test]
fn what_update_reads_may_be_bad() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    bed.started();
    let file = bed.dir.join("r.json");
    let path = file.to_str().unwrap();
    bed.tare(&["update", "-r", path, "ID"]).fails("no such file or directory");
    bed.tare(&["update", "-r", "/tmp", "ID"]).fails("is a directory");
    bed.tare(&["update", "-r", "-", "ID"]).fails("is empty");
    for (text, said) in [
        (r#"{"memory":{"limit":"#, "linux.resources"),
        (r#"{"memory":{"limit":"1G"}}"#, "linux.resources.memory.limit"),
        (r#"{"memory":{"limit":-5}}"#, "linux.resources.memory.limit"),
        (r#"{"cpu":{"idle":7}}"#, "linux.resources.cpu.idle"),
        (r#"{"cpu":{"burst":9,"quota":8}}"#, "linux.resources.cpu.burst"),
        (r#"{"unified":{"cgroup.procs":"1"}}"#, "would move processes"),
    ] {
        std::fs::write(&file, text).unwrap();
        bed.tare(&["update", "-r", path, "ID"]).fails(said);
    }
    std::fs::write(&file, vec![b' '; (4 << 20) + 1]).unwrap();
    bed.tare(&["update", "-r", path, "ID"]).fails("is the limit");
    bed.tare(&["update", "--memory", "64Q", "ID"]).fails("memory");
    bed.tare(&["update", "--cpu-quota", "1000", "--cpu-period", "5", "ID"]).fails("out of the kernel's range");
    assert!(!bed.state("resources.json").exists());
    assert_eq!(bed.status(), "running");
}

#[test]
fn signals_that_do_not_exist_are_refused() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    bed.started();
    for signal in ["65", "-1", "NOSUCH", "RTMAX+1", "9x"] {
        let said = bed.tare(&["kill", "ID", "--", signal]);
        assert_eq!(said.code, Some(1), "{signal:?}: {said:?}");
    }
    assert_eq!(bed.status(), "running");
}

#[test]
fn a_console_socket_must_be_a_socket_with_somebody_behind_it() {
    if !is_root() {
        return;
    }
    let bed = Bed::with(FOREVER, |config| config["process"]["terminal"] = json!(true));
    let path = bed.dir.join("console.sock");
    let at = path.to_str().unwrap();
    let create = ["create", "-b", "BUNDLE", "--console-socket", at, "ID"];
    bed.tare(&create).fails("no such file or directory");
    std::fs::write(&path, "").unwrap();
    bed.tare(&create).fails("connection refused");
    std::fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    bed.tare(&create).fails("connection refused");
    let long = format!("{}/{}", bed.dir.display(), "x".repeat(120));
    bed.tare(&["create", "-b", "BUNDLE", "--console-socket", &long, "ID"]).fails("file name too long");
    bed.tare(&["create", "-b", "BUNDLE", "ID"]).fails("console socket");
    bed.nothing_left();

    let bed = Bed::new(FOREVER);
    bed.tare(&["create", "-b", "BUNDLE", "--console-socket", at, "ID"]).fails("cannot use console socket");
    bed.nothing_left();
}

#[test]
fn a_pidfd_socket_whose_peer_goes_leaves_nothing() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    let path = bed.dir.join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let said = bed.tare(&["create", "-b", "BUNDLE", "--pidfd-socket", path.to_str().unwrap(), "ID"]);
    peer.join().unwrap();
    if said.code == Some(0) {
        // It was faster than the peer went.
        bed.tare(&["delete", "--force", "ID"]).ok();
    } else {
        said.fails("--pidfd-socket");
    }
    bed.tare(&["create", "-b", "BUNDLE", "--pidfd-socket", path.to_str().unwrap(), "ID"]).fails("connection refused");
    bed.nothing_left();
}

#[test]
fn a_pid_file_that_cannot_be_written_leaves_nothing() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    for (path, said) in [("/no/such/dir/pid", "no such file or directory"), ("/proc/pid", "--pid-file")] {
        bed.tare(&["create", "-b", "BUNDLE", "--pid-file", path, "ID"]).fails(said);
        bed.nothing_left();
        bed.tare(&["run", "-d", "-b", "BUNDLE", "--pid-file", path, "ID"]).fails(said);
        bed.nothing_left();
    }
}

/// With few descriptors a container is made wholly or not at all.
#[test]
fn want_of_descriptors_is_an_error_or_none() {
    if !is_root() {
        return;
    }
    let mut made = 0;
    for limit in (4..=24).chain([32, 48, 64]) {
        let bed = Bed::new(FOREVER);
        let said = behind(&bed, &format!("ulimit -S -n {limit}"), &["create", "-b", "BUNDLE", "ID"]);
        if said.code == Some(0) {
            made += 1;
            assert_eq!(bed.status(), "created", "limit {limit}");
            bed.tare(&["delete", "ID"]).ok();
        } else {
            said.fails("too many open files");
        }
        bed.nothing_left();
    }
    assert!(made > 0, "64 descriptors are enough");
}

/// A command that lacks descriptors harms no container: it does its work, or says that it could not.
#[test]
fn want_of_descriptors_does_not_take_a_container_for_dead() {
    if !is_root() {
        return;
    }
    for limit in 3..=12 {
        let bed = Bed::new(FOREVER);
        bed.started();
        let ulimit = format!("ulimit -S -n {limit}");
        for command in [&["state", "ID"][..], &["delete", "ID"], &["kill", "ID", "0"], &["pause", "ID"], &["ps", "ID"]]
        {
            let said = behind(&bed, &ulimit, command);
            assert!(matches!(said.code, Some(0 | 1)), "{command:?} with {limit}: {said:?}");
            for lie in ["stopped", "not running", "never wholly"] {
                let said = said.out.clone() + &said.err.replace("that is not stopped", "");
                assert!(!said.contains(lie), "{command:?} with {limit}: {said}");
            }
            if command[0] == "pause" {
                bed.tare(&["resume", "ID"]);
            }
            assert!(bed.state("journal.json").exists(), "{command:?} with {limit}: {said:?}");
        }
        let said = behind(&bed, &ulimit, &["delete", "--force", "ID"]);
        if said.code != Some(0) {
            assert!(bed.state("journal.json").exists(), "with {limit}: {said:?}");
            bed.tare(&["delete", "--force", "ID"]).ok();
        }
        bed.nothing_left();
    }
}

#[test]
fn a_full_state_directory_takes_no_half_container() {
    if !is_root() {
        return;
    }
    let mut full = 0;
    // Pages and inodes that the state directory may have.
    for (pages, inodes) in
        [(1, 100), (2, 100), (3, 100), (4, 100), (5, 100), (100, 2), (100, 3), (100, 4), (100, 5), (100, 7)]
    {
        let bed = Bed::new(FOREVER);
        let root = bed.dir.join("state");
        std::fs::create_dir(&root).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={}k,nr_inodes={inodes} none {root}\n{TARE} --root {root} create -b {} {id} \
             > {out} 2>&1 < /dev/null; code=$?\nif [ $code = 0 ]; then {TARE} --root {root} delete {id} || code=77; fi\n\
             ls -A {root} >> {out}; exit $code",
            pages * 4,
            bed.dir.join("bundle").display(),
            root = root.display(),
            id = bed.id,
            out = bed.dir.join("out").display(),
        );
        let said = run(Command::new("unshare").args(["-m", "sh", "-c", &script]));
        let out = std::fs::read_to_string(bed.dir.join("out")).unwrap();
        assert!(matches!(said.code, Some(0 | 1)), "{pages} {inodes}: {said:?} {out}");
        if said.code == Some(1) {
            full += 1;
            assert!(out.contains("no space left on device"), "{pages} {inodes}: {out}");
            assert_eq!(out.lines().count(), 1, "one error, and an empty directory: {out}");
        } else {
            assert_eq!(out, "", "{pages} {inodes}");
        }
        bed.nothing_left();
    }
    assert!(full > 3, "{full}");
}

/// Nothing of the runtime's may come to lie at 0, 1 or 2 where these are closed.
#[test]
fn closed_standard_streams_stay_empty() {
    if !is_root() {
        return;
    }
    let bed = Bed::new("for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done > /tmp/streams");
    for closed in ["exec <&-", "exec >&-", "exec 2>&-", "exec <&- >&- 2>&-"] {
        let said = behind(&bed, closed, &["run", "-b", "BUNDLE", "ID"]);
        assert_eq!(said.code, Some(0), "{closed}: {said:?}");
        let streams = std::fs::read_to_string(bed.dir.join("bundle/rootfs/tmp/streams")).unwrap();
        for stream in streams.lines() {
            let ours = std::path::Path::new(stream).starts_with(std::env::temp_dir()) || stream.starts_with("/tmp/");
            assert!(ours || stream == "/dev/null", "{closed}: {streams}");
        }
        bed.nothing_left();
    }
    // An error that nobody hears still is one.
    let said = behind(&bed, "exec <&- >&- 2>&-", &["start", "ID"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(1), "", ""));
}

#[test]
fn descriptors_to_be_preserved_must_be_open() {
    if !is_root() {
        return;
    }
    let bed = Bed::new("ls /proc/self/fd > /tmp/fds; cat <&3 > /tmp/three");
    let log = bed.dir.join("log");
    let bare = ["--log", log.to_str().unwrap(), "run", "--preserve-fds", "2", "-b", "BUNDLE", "ID"];
    let said = behind(&bed, "exec 3>&- 4>&-", &bare);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("unable to stat preserved-fd 0 (of 2)"), "{said:?}");
    bed.nothing_left();
    let said = behind(&bed, "echo hello > /dev/null; exec 3</etc/hostname 4</dev/null 5</dev/zero", &bare);
    assert_eq!(said.code, Some(0), "{said:?}");
    let tmp = bed.dir.join("bundle/rootfs/tmp");
    let fds = std::fs::read_to_string(tmp.join("fds")).unwrap();
    // The last is that of the listing itself.
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"]);
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(std::fs::read_to_string(tmp.join("three")).unwrap(), hostname);
}

#[test]
fn sockets_of_activation_are_passed_on() {
    if !is_root() {
        return;
    }
    let script = "env > /tmp/env; cat <&3 > /tmp/three; readlink /proc/self/fd/4 > /tmp/four; readlink /proc/self/fd/5 > /tmp/five";
    let bed = Bed::new(script);
    let tmp = bed.dir.join("bundle/rootfs/tmp");
    let run = ["run", "-b", "BUNDLE", "ID"];
    let open = "exec 3</etc/hostname 4</dev/null 5</dev/null; export LISTEN_FDS=2 LISTEN_FDNAMES=a:b";
    let said = behind(&bed, &format!("{open} LISTEN_PID=$$"), &run);
    assert_eq!(said.code, Some(1), "the last command of the script fails: {said:?}");
    let env = std::fs::read_to_string(tmp.join("env")).unwrap();
    for line in ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"] {
        assert!(env.lines().any(|l| l == line), "{env}");
    }
    assert_eq!(std::fs::read_to_string(tmp.join("three")).unwrap(), std::fs::read_to_string("/etc/hostname").unwrap());
    assert_eq!(std::fs::read_to_string(tmp.join("four")).unwrap(), "/dev/null\n");
    assert_eq!(std::fs::read_to_string(tmp.join("five")).unwrap(), "");
    // Meant for another process: not ours to pass on.
    behind(&bed, &format!("{open} LISTEN_PID=1"), &run);
    assert!(!std::fs::read_to_string(tmp.join("env")).unwrap().contains("LISTEN_"));
    assert_eq!(std::fs::read_to_string(tmp.join("four")).unwrap(), "");
    let said = behind(&bed, "exec 3>&-; export LISTEN_FDS=1 LISTEN_PID=$$", &run);
    assert!(said.err.contains("LISTEN_FDS=1: descriptor 3 is not open"), "{said:?}");
}
