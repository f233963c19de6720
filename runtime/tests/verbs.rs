//! The verbs that change or watch a running container, as whole commands on a real container.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use support::bed::{Bed, end, eventually, is_root, run};
use support::of_another_boot;

const FOREVER: &str = "exec sleep 1000";

fn read(path: std::path::PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

#[test]
fn pause_stops_all_and_resume_lets_them_go_on() {
    if !is_root() {
        return;
    }
    let bed = Bed::new("while :; do echo x >> /tmp/ticks; sleep 0.01; done");
    bed.tare(&["pause", "ID"]).fails("container does not exist");
    bed.started();
    bed.tare(&["resume", "ID"]).fails("container not paused");
    let ticks = || std::fs::metadata(bed.dir.join("bundle/rootfs/tmp/ticks")).map_or(0, |m| m.len());
    eventually(|| ticks() > 0);
    bed.tare(&["pause", "ID"]).ok();
    assert_eq!(bed.status(), "paused");
    let then = ticks();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(ticks(), then);
    bed.tare(&["pause", "ID"]).fails("container not running");
    bed.tare(&["delete", "ID"]).fails("cannot delete container that is not stopped: paused");
    bed.tare(&["resume", "ID"]).ok();
    assert_eq!(bed.status(), "running");
    eventually(|| ticks() > then);
    bed.tare(&["delete", "-f", "ID"]).ok();
    bed.nothing_left();
}

#[test]
fn a_paused_container_dies_of_sigkill_and_of_delete() {
    if !is_root() {
        return;
    }
    for kill in [&["kill", "ID", "KILL"][..], &["kill", "-a", "ID", "9"], &["delete", "--force", "ID"]] {
        let bed = Bed::new(FOREVER);
        bed.started();
        bed.tare(&["pause", "ID"]).ok();
        bed.tare(kill).ok();
        if kill[0] == "kill" {
            bed.until("stopped");
            bed.tare(&["delete", "ID"]).ok();
        }
        bed.nothing_left();
    }
}

#[test]
fn a_paused_creation_cannot_be_started_until_it_is_resumed() {
    if !is_root() {
        return;
    }
    let bed = Bed::new("true");
    bed.tare(&["create", "-b", "BUNDLE", "ID"]).ok();
    bed.tare(&["pause", "ID"]).ok();
    assert_eq!(bed.status(), "paused");
    bed.tare(&["start", "ID"]).fails("paused");
    bed.tare(&["resume", "ID"]).ok();
    assert_eq!(bed.status(), "created");
    bed.tare(&["start", "ID"]).ok();
    bed.until("stopped");
    bed.tare(&["pause", "ID"]).fails("container not running");
    bed.tare(&["resume", "ID"]).fails("container not paused");
}

/// What a `pause` or a `kill --all` leaves that was killed between the freeze and the thaw.
#[test]
fn a_command_killed_while_all_is_frozen_leaves_what_can_be_resumed() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    bed.started();
    let freezer = bed.cgroup("freezer");
    let (file, frozen) = match freezer.join("freezer.state").exists() {
        true => ("freezer.state", "FROZEN"),
        false => ("cgroup.freeze", "1"),
    };
    std::fs::write(freezer.join(file), frozen).unwrap();
    bed.until("paused");
    bed.tare(&["resume", "ID"]).ok();
    assert_eq!(bed.status(), "running");
}

#[test]
fn kill_all_reaches_everybody_with_any_signal() {
    if !is_root() {
        return;
    }
    let script = "trap 'echo child >> /tmp/got' RTMIN+3 2>/dev/null || trap 'echo child >> /tmp/got' 37;
        (trap 'echo grandchild >> /tmp/got' 37; echo ready > /tmp/ready; while :; do sleep 0.01; done) &
        while :; do sleep 0.01; done";
    let bed = Bed::new(script);
    bed.started();
    let tmp = bed.dir.join("bundle/rootfs/tmp");
    eventually(|| tmp.join("ready").exists());
    // The sleeps die of it as well, and are begun anew.
    bed.tare(&["kill", "--all", "ID", "37"]).ok();
    let got = || std::fs::read_to_string(tmp.join("got")).unwrap_or_default();
    eventually(|| got().contains("child\n") && got().contains("grandchild\n"));
    bed.tare(&["kill", "-a", "ID", "KILL"]).ok();
    bed.until("stopped");
    bed.tare(&["kill", "-a", "ID", "KILL"]).ok();
    for signal in ["0", "TERM", "KILL"] {
        bed.tare(&["kill", "ID", signal]).fails("container not running");
    }
    bed.tare(&["delete", "ID"]).ok();
    bed.tare(&["kill", "-a", "ID"]).fails("container does not exist");
}

/// The limits of a container, in the words of version 1 whichever version it has: quota, period, shares, tasks, memory.
fn limits(bed: &Bed) -> [String; 5] {
    let file = |controller: &str, name: &str| read(bed.cgroup(controller).join(name));
    let (pids, cpu) = (file("pids", "pids.max"), bed.cgroup("cpu"));
    if cpu.join("cpu.shares").exists() {
        let [quota, period, shares] = ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"].map(|f| file("cpu", f));
        return [quota, period, shares, pids, file("memory", "memory.limit_in_bytes")];
    }
    let max = file("cpu", "cpu.max");
    let (quota, period) = max.split_once(' ').unwrap();
    let shares = match file("cpu", "cpu.weight").as_str() {
        "59" => "512",
        "100" => "1024",
        weight => panic!("weight {weight}"),
    };
    [quota, period, shares, &pids, &file("memory", "memory.max")].map(str::to_owned)
}

/// What decides about devices: the list of version 1, or the ids of the programs of version 2.
fn devices(bed: &Bed) -> String {
    use std::os::fd::AsFd as _;
    let dir = bed.cgroup("devices");
    std::fs::read_to_string(dir.join("devices.list")).unwrap_or_else(|_| {
        let programs = tare::sys::bpf::device_programs(std::fs::File::open(&dir).unwrap().as_fd()).unwrap();
        assert_eq!(programs.len(), 1);
        format!("{programs:?}")
    })
}

#[test]
fn update_keeps_what_is_not_named() {
    if !is_root() {
        return;
    }
    let bed = Bed::with(FOREVER, |config| {
        config["linux"]["resources"]["cpu"] = json!({"quota": 50_000, "period": 100_000, "shares": 512});
        config["linux"]["resources"]["pids"] = json!({"limit": 100});
        config["linux"]["resources"]["memory"] = json!({"limit": 128 << 20});
    });
    bed.started();
    assert_eq!(limits(&bed), ["50000", "100000", "512", "100", "134217728"]);
    let before = devices(&bed);

    bed.tare(&["update", "--cpu-quota", "20000", "ID"]).ok();
    assert_eq!(limits(&bed), ["20000", "100000", "512", "100", "134217728"]);
    bed.tare(&["update", "ID", "--cpu-period", "50000", "--pids-limit=-1"]).ok();
    assert_eq!(limits(&bed), ["20000", "50000", "512", "max", "134217728"]);
    bed.tare(&["update", "--memory", "64M", "--pids-limit", "20", "ID"]).ok();
    assert_eq!(limits(&bed), ["20000", "50000", "512", "20", "67108864"]);

    let file = bed.dir.join("resources.json");
    std::fs::write(
        &file,
        r#"{"devices":[{"allow":false,"access":"rwm"}],"memory":{"limit":33554432},"cpu":{"quota":30000}}"#,
    )
    .unwrap();
    bed.tare(&["update", "--resources", file.to_str().unwrap(), "ID"]).ok();
    assert_eq!(limits(&bed), ["30000", "50000", "512", "20", "33554432"]);
    assert_eq!(devices(&bed), before);

    let mut stdin = bed.command(&["update", "--resources=-", "ID"]);
    std::fs::write(&file, r#"{"cpu":{"shares":1024}}"#).unwrap();
    run(stdin.stdin(std::fs::File::open(&file).unwrap())).ok();
    assert_eq!(limits(&bed), ["30000", "50000", "1024", "20", "33554432"]);

    bed.tare(&["kill", "ID", "KILL"]).ok();
    bed.until("stopped");
    bed.tare(&["update", "--pids-limit", "5", "ID"]).fails("container not running");
}

#[test]
fn an_update_that_fails_changes_nothing() {
    if !is_root() {
        return;
    }
    let bed = Bed::with(FOREVER, |config| {
        config["linux"]["resources"]["cpu"] = json!({"quota": 50_000, "period": 100_000, "shares": 512});
        config["linux"]["resources"]["memory"] = json!({"limit": 128 << 20});
    });
    bed.started();
    let known = || std::fs::read(bed.state("resources.json")).ok();
    bed.tare(&["update", "--cpu-share", "1024", "ID"]).ok();
    let before = (limits(&bed), known());
    // Shares, quota and memory are written before the device that this machine does not have.
    let file = bed.dir.join("resources.json");
    std::fs::write(
        &file,
        r#"{"cpu":{"shares":512,"quota":10000},"memory":{"limit":67108864},"hugepageLimits":[],"pids":{"limit":7},
            "blockIO":{"throttleReadBpsDevice":[{"major":4095,"minor":77,"rate":5}]}}"#,
    )
    .unwrap();
    bed.tare(&["update", "-r", file.to_str().unwrap(), "ID"]).fails("no such device");
    assert_eq!((limits(&bed), known()), before);
    // And a limit below the usage is refused where that is asked for.
    std::fs::write(&file, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap();
    bed.tare(&["update", "-r", file.to_str().unwrap(), "ID"]).fails(
        match bed.cgroup("memory").join("memory.max").exists() {
            true => "rejecting memory limit 4096 <= usage",
            // Version 1's kernel refuses by itself.
            false => "bytes are in use and cannot be reclaimed",
        },
    );
    assert_eq!((limits(&bed), known()), before);
}

/// Memory and swap together, up and down, in one change or one after the other.
#[test]
fn memory_and_swap_go_up_and_down() {
    if !is_root() {
        return;
    }
    let bed = Bed::with(FOREVER, |config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "swap": 128 << 20});
    });
    bed.started();
    let dir = bed.cgroup("memory");
    let unified = dir.join("memory.max").exists();
    let is = || -> [i64; 2] {
        let files = if unified {
            ["memory.max", "memory.swap.max"]
        } else {
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        };
        let [limit, swap] = files.map(|f| read(dir.join(f)).parse::<i64>().unwrap() >> 20);
        [limit, if unified { limit + swap } else { swap }]
    };
    assert_eq!(is(), [64, 128]);
    for (args, then) in [
        (&["--memory", "256M", "--memory-swap", "512M"][..], [256, 512]),
        (&["--memory", "32M", "--memory-swap", "32M"], [32, 32]),
        (&["--memory-swap", "96M"], [32, 96]),
        (&["--memory", "48M"], [48, 96]),
        (&["--memory", "16M"], [16, 96]),
    ] {
        let args: Vec<&str> = ["update"].iter().chain(args).copied().chain(["ID"]).collect();
        bed.tare(&args).ok();
        assert_eq!(is(), then, "{args:?}");
    }
    bed.tare(&["update", "--memory", "128M", "ID"]).fails("linux.resources.memory.swap");
    assert_eq!(is(), [16, 96]);
}

#[test]
fn events_tell_statistics_and_end_with_the_container() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    bed.tare(&["events", "--stats", "ID"]).fails("container does not exist");
    bed.started();
    let line: Value = serde_json::from_str(&bed.tare(&["events", "--stats", "ID"]).ok()).unwrap();
    assert_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!(bed.id)));
    assert!(line["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{line}");
    assert_eq!(line["data"]["pids"]["current"], 1);

    let mut child = bed.command(&["events", "--interval", "20ms", "ID"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["type"], "stats");
    }
    bed.tare(&["delete", "-f", "ID"]).ok();
    assert!(end(&mut child).expect("it ends with the container").success());
}

#[test]
fn events_tell_of_the_oom_killer() {
    if !is_root() {
        return;
    }
    let bed = Bed::with(
        "trap '' TERM; while [ ! -e /tmp/go ]; do sleep 0.01; done; x=0123456789; while :; do x=$x$x; done",
        |config| config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20}),
    );
    bed.started();
    let mut child = bed.command(&["events", "--interval", "1h", "ID"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    std::fs::write(bed.dir.join("bundle/rootfs/tmp/go"), "").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), format!("{{\"type\":\"oom\",\"id\":\"{}\"}}", bed.id));
    assert!(end(&mut child).expect("it ends with the container").success());
}

#[test]
fn ps_shows_the_containers_processes() {
    if !is_root() {
        return;
    }
    let bed = Bed::new("sleep 1000 & exec sleep 1000");
    bed.started();
    eventually(|| bed.tare(&["ps", "-f", "json", "ID"]).ok().split(',').count() == 2);
    let pids: Vec<i32> = serde_json::from_str(&bed.tare(&["ps", "--format", "json", "ID"]).ok()).unwrap();
    assert!(pids.contains(&bed.pid()));
    if std::process::Command::new("ps").arg("--version").output().is_ok() {
        let table = bed.tare(&["ps", "ID"]).ok();
        let head: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(table.lines().count(), 3, "{table}");
        let chosen = bed.tare(&["ps", "ID", "-e", "-o", "pid,comm"]).ok();
        assert_eq!(chosen.lines().count(), 3, "{chosen}");
        bed.tare(&["ps", "ID", "-e", "-o", "comm"]).fails("couldn't find PID field");
    }
    bed.tare(&["kill", "ID", "KILL"]).ok();
    bed.until("stopped");
    assert_eq!(bed.tare(&["ps", "-f", "json", "ID"]).ok(), "[]\n");
    bed.tare(&["ps", "ID"]).ok();
}

/// What the service manager was told: text, and whether a descriptor came along.
fn told(manager: &std::os::unix::net::UnixDatagram) -> String {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let (mut text, mut space) = ([0; 256], nix::cmsg_space!(std::os::fd::RawFd));
    let mut parts = [std::io::IoSliceMut::new(&mut text)];
    let fd = std::os::fd::AsRawFd::as_raw_fd(manager);
    let message = recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(fds) = part {
            fds.into_iter().for_each(|fd| nix::unistd::close(fd).unwrap());
        }
    }
    let len = message.bytes;
    String::from_utf8_lossy(&text[..len]).into_owned()
}

#[test]
fn readiness_is_relayed_to_the_service_manager() {
    if !is_root() {
        return;
    }
    let script = "env > /tmp/env; stat -c %F /run/notify/notify.sock > /tmp/kind; touch /run/notify/x 2> /tmp/refused; \
        touch /tmp/up; exec sleep 1000";
    for detached in [true, false] {
        let bed = Bed::new(script);
        let manager = std::os::unix::net::UnixDatagram::bind(bed.dir.join("manager")).unwrap();
        manager.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let command = |args: &[&str]| {
            let mut command = bed.command(args);
            command.env("NOTIFY_SOCKET", bed.dir.join("manager"));
            command
        };
        let tmp = bed.dir.join("bundle/rootfs/tmp");
        let mut child = if detached {
            run(&mut command(&["create", "-b", "BUNDLE", "ID"])).ok();
            command(&["start", "ID"]).spawn().unwrap()
        } else {
            command(&["run", "-b", "BUNDLE", "ID"]).spawn().unwrap()
        };
        eventually(|| tmp.join("up").exists());
        assert!(read(tmp.join("env")).lines().any(|l| l == "NOTIFY_SOCKET=/run/notify/notify.sock"));
        assert_eq!(read(tmp.join("kind")), "socket");
        assert!(read(tmp.join("refused")).contains("Read-only file system"));
        let container = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let socket = std::path::PathBuf::from(format!("/proc/{}/root/run/notify/notify.sock", bed.pid()));
        container.send_to(b"STATUS=almost", &socket).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "not ready yet");
        container.send_to(b"STATUS=there\nREADY=1\n", &socket).unwrap();
        assert_eq!(told(&manager), "READY=1\n");
        if detached {
            assert_eq!(told(&manager), format!("MAINPID={}\n", bed.pid()));
        }
        assert_eq!(told(&manager), "BARRIER=1");
        if detached {
            assert!(end(&mut child).expect("start is done").success());
        }
        bed.tare(&["kill", "ID", "KILL"]).ok();
        if !detached {
            assert_eq!(end(&mut child).expect("run is done").code(), Some(137));
        }
        bed.tare(&["delete", "-f", "ID"]).ok();
        bed.nothing_left();
    }
    // A container that dies before it is ready ends the waiting, and a manager that is not there is an error.
    let bed = Bed::new("exit 3");
    let manager = std::os::unix::net::UnixDatagram::bind(bed.dir.join("manager")).unwrap();
    let run = |args: &[&str]| run(bed.command(args).env("NOTIFY_SOCKET", bed.dir.join("manager")));
    run(&["create", "-b", "BUNDLE", "ID"]).ok();
    run(&["start", "ID"]).ok();
    run(&["delete", "-f", "ID"]).ok();
    drop(manager);
    run(&["run", "-b", "BUNDLE", "ID"]).fails("connection refused");
    bed.nothing_left();
}

#[test]
fn a_pidfd_socket_gets_a_pidfd_of_the_containers_process() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    let path = bed.dir.join("pidfd.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let peer = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        tare::sys::socket::receive_fd(std::os::fd::AsFd::as_fd(&stream)).unwrap().unwrap()
    });
    bed.tare(&["create", "-b", "BUNDLE", "--pidfd-socket", path.to_str().unwrap(), "ID"]).ok();
    let pidfd = peer.join().unwrap();
    let info = read(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd)).into());
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).map(str::trim);
    assert_eq!(pid, Some(bed.pid().to_string().as_str()));
}

#[test]
fn mounts_come_into_a_running_container_and_go() {
    if !is_root() {
        return;
    }
    for user in [false, true] {
        let bed = Bed::with(FOREVER, |config| {
            if user {
                let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
            }
        });
        if user {
            std::process::Command::new("chmod").arg("-R").arg("a+rwx").arg(&bed.dir).status().unwrap();
        }
        bed.started();
        let source = bed.dir.join("source");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("file"), "hello").unwrap();
        // A link that leads out of the root is the container's own affair.
        std::os::unix::fs::symlink("/../../../../outside", bed.dir.join("bundle/rootfs/link")).unwrap();
        let list = bed.dir.join("mounts.json");
        let write = |value: Value| std::fs::write(&list, value.to_string()).unwrap();
        let path = list.to_str().unwrap().to_owned();
        let inside = |name: &str| std::path::PathBuf::from(format!("/proc/{}/root/{name}", bed.pid()));
        write(json!([
            {"destination": "/mnt/a", "type": "bind", "source": source, "options": ["bind", "ro"]},
            {"destination": "/link/b", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "nosuid"]},
            {"destination": "/etc/one", "source": source.join("file"), "options": ["bind"]}
        ]));
        bed.tare(&["mounts", "add", "ID", &path]).ok();
        assert_eq!(read(inside("mnt/a/file")), "hello");
        assert!(std::fs::write(inside("mnt/a/file"), "").is_err(), "read-only");
        assert_eq!(read(inside("etc/one")), "hello");
        std::fs::write(inside("outside/b/x"), "y").unwrap();
        assert!(!bed.dir.join("bundle/rootfs/outside/b/x").exists(), "on the tmpfs, not beneath it");
        assert!(!std::path::Path::new("/outside").exists());
        let table = read(format!("/proc/{}/mountinfo", bed.pid()).into());
        assert!(!table.lines().any(|l| l.contains("/mnt/a") && l.contains("shared:")), "{table}");
        bed.tare(&["mounts", "remove", "ID", &path]).ok();
        assert!(!inside("mnt/a/file").exists() && !inside("outside/b/x").exists());
        bed.tare(&["mounts", "remove", "ID", &path]).fails("mounts[2].destination: unmount /etc/one");

        // All or none.
        write(json!([
            {"destination": "/mnt/a", "type": "bind", "source": source, "options": ["bind"]},
            {"destination": "/bin/busybox/x", "type": "tmpfs", "source": "tmpfs"}
        ]));
        bed.tare(&["mounts", "add", "ID", &path]).fails("mounts[1]");
        assert!(!inside("mnt/a/file").exists());
        for (mount, said) in [
            (json!({"destination": "/p", "type": "proc", "source": "proc"}), "mounts[0].type"),
            (json!({"destination": "/p", "type": "ext9", "source": "x"}), "no such device"),
            (json!({"destination": "/", "type": "tmpfs", "source": "x"}), "mounts[0].destination"),
            (json!({"destination": "/p", "source": "/no/such", "options": ["bind"]}), "no such file or directory"),
            (json!({"destination": "/p", "type": "tmpfs", "source": "x", "options": ["size=lots"]}), "mounts[0]"),
        ] {
            write(json!([mount]));
            bed.tare(&["mounts", "add", "ID", &path]).fails(said);
        }
        bed.tare(&["delete", "-f", "ID"]).ok();
        bed.tare(&["mounts", "add", "ID", &path]).fails("container does not exist");
        bed.nothing_left();
    }
}

#[test]
fn without_cgroups_none_are_made() {
    if !is_root() {
        return;
    }
    let disabled = ["--cgroup-manager", "disabled", "create", "-b", "BUNDLE", "ID"];
    let bed = Bed::with(FOREVER, |config| {
        config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    });
    bed.tare(&disabled).ok();
    bed.tare(&["start", "ID"]).ok();
    for controller in ["memory", "pids", "freezer"] {
        assert!(!bed.cgroup(controller).exists());
    }
    assert_eq!(bed.status(), "running");
    assert_eq!(bed.tare(&["ps", "-f", "json", "ID"]).ok(), format!("[{}]\n", bed.pid()));
    bed.tare(&["pause", "ID"]).fails("no cgroup that can freeze");
    bed.tare(&["kill", "-a", "ID", "KILL"]).ok();
    bed.until("stopped");
    bed.tare(&["delete", "ID"]).ok();
    bed.nothing_left();

    let bed = Bed::with(FOREVER, |config| config["linux"]["resources"]["pids"] = json!({"limit": 7}));
    bed.tare(&disabled).fails("linux.resources.pids.limit");
    for driver in [&["--systemd-cgroup"][..], &["--cgroup-manager", "systemd"]] {
        let args: Vec<_> = driver.iter().chain(&["create", "-b", "BUNDLE", "ID"]).copied().collect();
        let why = match std::path::Path::new("/run/systemd/system").is_dir() {
            true => "linux.cgroupsPath: expected cgroupsPath to be of format",
            false => "systemd support for managing cgroups is not available",
        };
        bed.tare(&args).fails(why);
        let args: Vec<_> = driver.iter().chain(&["delete", "--force", "ID"]).copied().collect();
        bed.tare(&args).ok();
    }
    bed.nothing_left();
}

#[test]
fn diff_tells_drift_and_nothing_else() {
    if !is_root() {
        return;
    }
    let bed = Bed::with(FOREVER, |config| {
        config["linux"]["resources"]["pids"] = json!({"limit": 100});
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    });
    bed.tare(&["diff", "ID"]).fails("container does not exist");
    bed.started();
    assert_eq!(bed.tare(&["diff", "ID"]).ok(), "as planned\n");
    bed.tare(&["update", "--pids-limit", "50", "ID"]).ok();
    assert_eq!(bed.tare(&["diff", "ID"]).ok(), "as planned\n");
    std::fs::write(bed.cgroup("pids").join("pids.max"), "70").unwrap();
    let said = bed.tare(&["diff", "ID", "--json"]);
    assert_eq!(said.code, Some(1));
    let drift: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(drift, json!([{"what": "pids.max", "planned": "50", "is": "70"}]));
    let said = bed.tare(&["diff", "ID"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("pids.max: planned 50, is 70\n", ""));
}

#[test]
fn shares_of_who_is_idle_are_no_drift_and_come_back() {
    let idle =
        ["/sys/fs/cgroup/cpu/cpu.idle", "/sys/fs/cgroup/system.slice/cpu.idle", "/sys/fs/cgroup/init.scope/cpu.idle"];
    if !is_root() || !idle.iter().any(|path| std::path::Path::new(path).exists()) {
        return;
    }
    let bed = Bed::with(FOREVER, |config| config["linux"]["resources"]["cpu"] = json!({"shares": 512}));
    bed.started();
    // The same share, as either version tells it.
    let share = || {
        let cgroup = bed.cgroup("cpu");
        ["cpu.shares", "cpu.weight"].iter().find_map(|file| std::fs::read_to_string(cgroup.join(file)).ok()).unwrap()
    };
    let planned = share();
    for (change, is) in [
        (&["--cpu-idle", "1"][..], None),
        (&["--cpu-share", "256"], None),
        (&["--cpu-share", "512"], None),
        (&["--cpu-idle", "0"], Some(&planned)),
        (&["--cpu-idle", "1", "--cpu-share", "2048"], None),
        (&["--cpu-idle", "0", "--cpu-share", "512"], Some(&planned)),
    ] {
        bed.tare(&[&["update"], change, &["ID"]].concat()).ok();
        assert_eq!(bed.tare(&["diff", "ID"]).ok(), "as planned\n", "after {change:?}");
        assert!(is.is_none_or(|is| *is == share()), "after {change:?}: {}", share());
    }
}

#[test]
fn gc_removes_what_nobody_can_delete() {
    if !is_root() {
        return;
    }
    let bed = Bed::new(FOREVER);
    assert_eq!(bed.tare(&["gc"]).ok(), "");
    bed.started();
    let root = bed.dir.join("state");
    // One whose creation was killed: a journal, a cgroup, no state.
    let journal = std::fs::read_to_string(bed.state("journal.json")).unwrap();
    let half = format!("{}-half", bed.id);
    std::fs::create_dir(root.join(&half)).unwrap();
    std::fs::write(root.join(&half).join("journal.json"), journal.replace(&bed.id, &half)).unwrap();
    let cgroup = bed.cgroup("pids").with_file_name(&half);
    std::fs::create_dir(&cgroup).unwrap();
    // One of another boot, whose cgroups have the name of the one that runs.
    let state = std::fs::read_to_string(bed.state("state.json")).unwrap();
    std::fs::create_dir(root.join("old")).unwrap();
    for (name, text) in [("journal.json", &journal), ("state.json", &state)] {
        std::fs::write(root.join("old").join(name), of_another_boot(text)).unwrap();
    }
    let would = bed.tare(&["gc", "--dry-run"]).ok();
    assert_eq!(would.lines().count(), 2, "{would}");
    assert!(would.contains("would remove old: it is of another boot"), "{would}");
    assert!(root.join("old").exists() && cgroup.exists());
    let removed = bed.tare(&["gc"]).ok();
    assert!(removed.contains(&format!("removed {half}: it was never wholly created")), "{removed}");
    assert!(!root.join("old").exists() && !root.join(&half).exists() && !cgroup.exists());
    assert_eq!(bed.status(), "running");
}

#[test]
fn doctor_says_what_is_missing() {
    let bed = Bed::new(FOREVER);
    let text = bed.tare(&["doctor"]).ok();
    assert!(text.lines().any(|l| l.starts_with("ok") && l.contains("kernel")), "{text}");
    let list: Value = serde_json::from_str(&bed.tare(&["doctor", "--json"]).ok()).unwrap();
    assert_eq!(list.as_array().unwrap().len(), text.lines().count());
    let none = run(bed.command(&["doctor"]).env("PATH", "/nowhere")).ok();
    assert!(none.lines().any(|l| l.starts_with("absent") && l.contains("not in PATH")), "{none}");
}

/// The runtime opens some sources with its own view of the host: mounts that the container makes below them stay its own.
#[test]
fn what_the_runtime_opens_is_not_shared_with_the_host() {
    if !is_root() {
        return;
    }
    let bed = Bed::with(FOREVER, |config| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
        let source = format!("/tmp/verbs-shared-{}", support::unique());
        let bind = json!({"destination": "/mnt/a", "type": "bind", "source": source, "options": ["rbind"]});
        config["mounts"].as_array_mut().unwrap().push(bind);
    });
    std::process::Command::new("chmod").arg("-R").arg("a+rwx").arg(&bed.dir).status().unwrap();
    let source = format!("/tmp/verbs-shared-{}", support::unique());
    std::fs::create_dir(&source).unwrap();
    let list = bed.dir.join("mounts.json");
    let mount = json!([{"destination": "/mnt/b", "type": "bind", "source": source, "options": ["rbind"]}]);
    std::fs::write(&list, mount.to_string()).unwrap();
    let script = format!(
        "mount -t tmpfs none {source} && mount --make-shared {source} || exit 9
        {tare} create -b {dir}/bundle --pid-file {dir}/pid {id} || exit 8
        {tare} mounts add {id} {dir}/mounts.json || exit 7
        grep ' /mnt/[ab] ' /proc/$(cat {dir}/pid)/mountinfo; {tare} delete --force {id}",
        tare = format_args!("{} --root {}/state", support::TARE, bed.dir.display()),
        dir = bed.dir.display(),
        id = bed.id,
    );
    let said = run(std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).stdin(Stdio::null()));
    std::fs::remove_dir(&source).unwrap();
    let table = said.ok();
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.lines().all(|l| l.contains(" master:") && !l.contains("shared:")), "{table}");
}
