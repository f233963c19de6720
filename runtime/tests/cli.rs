//! The command line as engines write it, and as people get it wrong.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

mod parsed;

use parsed::{command, error, read, words};
use tare::cli::*;

fn containerd() -> Global {
    Global {
        log: LogTarget::File("/run/t/log.json".into()),
        log_format: LogFormat::Json,
        root: Some("/run/containerd/runc/k8s.io".into()),
        ..Global::default()
    }
}

fn target(id: &str) -> Target {
    Target { id: id.into() }
}

const CONTAINERD: &str = "--root /run/containerd/runc/k8s.io --log /run/t/log.json --log-format json";

#[test]
fn containerd_create_exec_and_the_rest() {
    let invocation = read(&format!(
        "{CONTAINERD} --systemd-cgroup create --bundle /run/t --pid-file /run/t/init.pid --console-socket /tmp/pty.sock \
         --no-pivot --no-new-keyring c1"
    ));
    assert_eq!(invocation.global, Global { systemd_cgroup: true, ..containerd() });
    assert_eq!(invocation.name, "tare");
    let create = Create {
        id: "c1".into(),
        bundle: Some("/run/t".into()),
        pid_file: Some("/run/t/init.pid".into()),
        console_socket: Some("/tmp/pty.sock".into()),
        no_pivot: true,
        no_new_keyring: true,
        ..Create::default()
    };
    assert_eq!(invocation.command, Command::Create(create));

    let invocation =
        read(&format!("{CONTAINERD} exec --process /tmp/runc-process1 --detach --pid-file /run/t/e.pid c1"));
    assert_eq!(invocation.global, containerd());
    let exec = Exec {
        id: "c1".into(),
        process: Some("/tmp/runc-process1".into()),
        detach: true,
        pid_file: Some("/run/t/e.pid".into()),
        ..Exec::default()
    };
    assert_eq!(invocation.command, Command::Exec(exec));

    for (line, want) in [
        ("start c1", Command::Start(target("c1"))),
        ("state c1", Command::State(target("c1"))),
        ("kill c1 9", Command::Kill(Kill { id: "c1".into(), signal: 9, all: false })),
        ("kill --all c1 15", Command::Kill(Kill { id: "c1".into(), signal: 15, all: true })),
        ("ps --format json c1", Command::Ps(Ps { id: "c1".into(), format: Format::Json, args: vec![] })),
        ("pause c1", Command::Pause(target("c1"))),
        ("resume c1", Command::Resume(target("c1"))),
        ("delete c1", Command::Delete(Delete { id: "c1".into(), force: false })),
        ("delete --force c1", Command::Delete(Delete { id: "c1".into(), force: true })),
        ("--version", Command::Version),
        ("features", Command::Features),
    ] {
        assert_eq!(
            read(&format!("{CONTAINERD} {line}")),
            Invocation { global: containerd(), command: want, name: "tare".into() }
        );
    }
    for line in ["update --resources=- c1", "update --resources - c1", "update -r - c1", "update c1 -r=-"] {
        let update = Update { id: "c1".into(), resources: Some(Source::Stdin), ..Update::default() };
        assert_eq!(command(line), Command::Update(Box::new(update)), "{line}");
    }
}

#[test]
fn go_runcs_single_dashes() {
    let run = Run {
        create: Create { id: "c1".into(), bundle: Some("/b".into()), no_pivot: true, ..Create::default() },
        detach: false,
        keep: true,
        no_subreaper: true,
    };
    for line in [
        "run -bundle /b -no-pivot -keep -no-subreaper c1",
        "run --bundle /b --no-pivot=true --keep=1 --no-subreaper=T c1",
        "run c1 -b=/b -no-pivot=TRUE --keep -no-subreaper",
        "run -b /b -no-pivot -keep -no-subreaper -detach -d=false -- c1",
    ] {
        assert_eq!(command(line), Command::Run(run.clone()), "{line}");
    }
    let line = "restore --image-path /i --work-path /w --bundle /b --pid-file /p --detach -no-subreaper c1";
    let restore = Restore {
        create: Create { id: "c1".into(), bundle: Some("/b".into()), pid_file: Some("/p".into()), ..Create::default() },
        criu: Criu { image_path: Some("/i".into()), work_path: Some("/w".into()), ..Criu::default() },
        detach: true,
        no_subreaper: true,
        ..Restore::default()
    };
    assert_eq!(command(line), Command::Restore(Box::new(restore)));
}

#[test]
fn buildkit_runs_in_the_foreground() {
    let run = Run {
        create: Create { id: "x".into(), bundle: Some("/b".into()), no_pivot: true, ..Create::default() },
        keep: true,
        ..Run::default()
    };
    assert_eq!(command("--log /l --log-format json run --bundle /b --no-pivot --keep x"), Command::Run(run));
    let exec = Exec { id: "x".into(), process: Some("/p".into()), ..Exec::default() };
    assert_eq!(command("exec --process /p x"), Command::Exec(exec));
}

#[test]
fn conmon_podman_and_cri_o() {
    let line = "--systemd-cgroup --root=/run/crio create --bundle /b --pid-file pidfile ctr-1_a+b.c";
    let invocation = read(line);
    assert!(invocation.global.systemd_cgroup);
    assert_eq!(invocation.global.root, Some("/run/crio".into()));
    let line = "exec --pid-file /p --process /f --detach --tty --console-socket /s c1";
    let exec = Exec {
        id: "c1".into(),
        pid_file: Some("/p".into()),
        process: Some("/f".into()),
        detach: true,
        tty: true,
        console_socket: Some("/s".into()),
        ..Exec::default()
    };
    assert_eq!(command(line), Command::Exec(exec));
    assert_eq!(command("kill -a c1 KILL"), Command::Kill(Kill { id: "c1".into(), signal: 9, all: true }));
    assert_eq!(command("kill c1"), Command::Kill(Kill { id: "c1".into(), signal: 15, all: false }));
    assert_eq!(command("checkpoint --help"), Command::Help { of: Some("checkpoint".into()) });
    let checkpoint = Checkpoint {
        id: "c1".into(),
        criu: Criu { image_path: Some("/i".into()), work_path: Some("/w".into()), ..Criu::default() },
        leave_running: true,
        ..Checkpoint::default()
    };
    assert_eq!(
        command("checkpoint --image-path /i --work-path /w --leave-running c1"),
        Command::Checkpoint(checkpoint)
    );
    assert_eq!(read("--cgroup-manager disabled state c").global.cgroup_manager, Some(CgroupManager::Disabled));
}

#[test]
fn in_exec_and_ps_all_after_the_id_is_the_commands() {
    let Command::Exec(exec) = command(
        "exec -t -e A=1,2 -env=B= --env C -u 1000:100 -g 5 -g 6 -c CAP_KILL -cap CAP_BPF \
                                       --cgroup cpu,memory:/sub --cgroup all --cwd /w c1 sh -c --tty -- x",
    ) else {
        panic!()
    };
    assert!(exec.tty);
    assert_eq!(exec.env, ["A=1,2", "B=", "C"]);
    assert_eq!(exec.user, Some(User { uid: 1000, gid: Some(100) }));
    assert_eq!(exec.additional_gids, [5, 6]);
    assert_eq!(exec.caps, ["CAP_KILL", "CAP_BPF"]);
    assert_eq!(exec.cgroups[0], SubCgroup { controllers: vec!["cpu".into(), "memory".into()], path: "/sub".into() });
    assert_eq!(exec.cgroups[1], SubCgroup { controllers: vec![], path: "all".into() });
    assert_eq!(exec.args, ["sh", "-c", "--tty", "--", "x"]);
    let Command::Exec(exec) = command("exec -- c1 -x --help") else { panic!() };
    assert_eq!(exec.args, ["-x", "--help"]);
    let Command::Ps(ps) = command("ps c1 -f json -o pid") else { panic!() };
    assert_eq!((ps.format, ps.args), (Format::Table, ["-f", "json", "-o", "pid"].map(Into::into).to_vec()));
}

#[test]
fn bytes_that_are_no_text_pass_where_they_are_data() {
    let raw = OsString::from_vec(vec![b'/', 0xff]);
    let argv =
        [words("tare exec -e"), vec![raw.clone(), "--cwd".into(), raw.clone(), "c1".into(), raw.clone()]].concat();
    let Command::Exec(exec) = parse(&argv).unwrap().command else { panic!() };
    assert_eq!((exec.env, exec.args), (vec![raw.clone()], vec![raw.clone()]));
    assert_eq!(exec.cwd.unwrap().into_os_string(), raw);
    let argv = [words("tare state"), vec![raw.clone()]].concat();
    assert!(parse(&argv).unwrap_err().error.message.ends_with("invalid container ID format"));
    let argv = [words("tare exec --process-label"), vec![raw, "c".into(), "x".into()]].concat();
    assert!(parse(&argv).unwrap_err().error.message.ends_with("for flag -process-label: parse error"));
}

#[test]
fn the_global_options() {
    assert_eq!(read("list").global, Global::default());
    let global =
        read("--debug -log=/l -root /r --rootless=true --log-level warn --criu /c --cgroup-manager=systemd list")
            .global;
    let want = Global {
        debug: true,
        log: LogTarget::File("/l".into()),
        log_format: LogFormat::Text,
        log_level: Some(Level::Warning),
        root: Some("/r".into()),
        systemd_cgroup: false,
        cgroup_manager: Some(CgroupManager::Systemd),
        rootless: Rootless::True,
        criu: Some("/c".into()),
    };
    assert_eq!(global, want);
    for (text, want) in [
        ("file:/x", LogTarget::File("/x".into())),
        ("journald:me", LogTarget::Journald("me".into())),
        ("syslog:me", LogTarget::Syslog("me".into())),
        ("odd:name", LogTarget::File("odd:name".into())),
        ("''", LogTarget::Stderr),
    ] {
        assert_eq!(read(&format!("--log {text} list")).global.log, want);
    }
    for root in ["/", "//", "/.", "/..", "/a/..", "''"] {
        let (message, code) = error(&format!("--root {root} list"));
        assert!(message.ends_with("invalid root directory"), "{message}");
        assert_eq!(code, 1);
    }
    assert_eq!(read("--root relative/x list").global.root, Some("relative/x".into()));
    for (text, want) in [("auto", Rootless::Auto), ("false", Rootless::False), ("1", Rootless::True)] {
        assert_eq!(read(&format!("--rootless {text} list")).global.rootless, want);
    }
}

#[test]
fn what_is_wrong_is_said_in_runcs_words() {
    for (line, message, code) in [
        ("bogus", "No help topic for 'bogus'", 3),
        ("help bogus", "No help topic for 'bogus'", 3),
        ("--bogus list", "flag provided but not defined: -bogus", 1),
        ("start --bogus", "flag provided but not defined: -bogus", 1),
        ("start c -v", "flag provided but not defined: -v", 1),
        ("list -fjson", "flag provided but not defined: -fjson", 1),
        ("list ---q", "bad flag syntax: ---q", 1),
        ("list --=x", "bad flag syntax: --=x", 1),
        ("create --bundle", "flag needs an argument: -bundle", 1),
        ("exec -p", "flag needs an argument: -p", 1),
        ("--log", "flag needs an argument: -log", 1),
        ("create --preserve-fds x id", "invalid value \"x\" for flag -preserve-fds: parse error", 1),
        ("create --preserve-fds -1 id", "invalid value \"-1\" for flag -preserve-fds: parse error", 1),
        ("list -q=maybe", "invalid boolean value \"maybe\" for -q: parse error", 1),
        ("--debug=foo list", "invalid boolean value \"foo\" for -debug: parse error", 1),
        ("start", "runc: \"start\" requires exactly 1 argument(s)", 1),
        ("start a b", "runc: \"start\" requires exactly 1 argument(s)", 1),
        ("list x", "runc: \"list\" requires exactly 0 argument(s)", 1),
        ("list -- -q", "runc: \"list\" requires exactly 0 argument(s)", 1),
        ("list -", "runc: \"list\" requires exactly 0 argument(s)", 1),
        ("kill", "runc: \"kill\" requires a minimum of 1 argument(s)", 1),
        ("kill a 15 9", "runc: \"kill\" requires a maximum of 2 argument(s)", 1),
        ("kill a FOO", "unknown signal \"FOO\"", 1),
        ("ps", "runc: \"ps\" requires a minimum of 1 argument(s)", 1),
        ("exec --tty", "runc: \"exec\" requires a minimum of 1 argument(s)", 1),
        ("exec c1", "exec failed: process args cannot be empty", 255),
        ("exec -u x c1 sh", "exec failed: parsing x as int for uid failed: invalid syntax", 255),
        ("exec -u 1:4294967295 c1 sh", "exec failed: parsing 4294967295 as int for gid failed: invalid syntax", 255),
        ("exec -g -1 c1 sh", "exec failed: parsing -1 as int for gid failed: invalid syntax", 255),
        ("exec --cgroup cpu: c1 sh", "exec failed: invalid --cgroup argument: cpu:", 255),
        ("exec --cgroup :/x c1 sh", "exec failed: invalid --cgroup argument: :/x", 255),
        ("list --format yaml", "--format \"yaml\": invalid format option", 1),
        ("ps -f yaml c", "--format \"yaml\": invalid format option", 1),
        ("--log-format xml list", "invalid log-format: xml", 1),
        ("--log-level loud list", "invalid value \"loud\" for flag -log-level: parse error", 1),
        ("--log journald: list", "invalid value \"journald:\" for flag -log: parse error", 1),
        ("--rootless foo list", "invalid value \"foo\" for flag -rootless: parse error", 1),
        ("--cgroup-manager x list", "invalid value \"x\" for flag -cgroup-manager: parse error", 1),
        ("checkpoint --manage-cgroups-mode x c", "invalid manage-cgroups-mode value: x", 1),
        ("checkpoint --page-server x c", "invalid value \"x\" for flag -page-server: parse error", 1),
        ("mounts put c /f", "mounts \"put\": add or remove is wanted", 1),
        ("completion tcsh", "completion \"tcsh\": bash, zsh or fish is wanted", 1),
        ("update --cpu-share x c", "invalid value \"x\" for flag -cpu-share: parse error", 1),
        ("update --cpu-share -1 c", "invalid value \"-1\" for flag -cpu-share: parse error", 1),
    ] {
        assert_eq!(error(line), (message.to_owned(), code), "{line}");
    }
}

#[test]
fn an_error_after_the_command_still_knows_the_log() {
    let rejected = parse(&words(&format!("tare {CONTAINERD} start ../x"))).unwrap_err();
    assert_eq!(rejected.global, containerd());
    assert_eq!(rejected.name, "tare");
}

#[test]
fn help_and_version_in_all_forms() {
    for line in ["", "--help", "-h", "-help", "help", "h", "--debug", "--help list"] {
        assert_eq!(command(line), Command::Help { of: None }, "{line}");
    }
    for line in ["--version", "-v", "-version", "--version list"] {
        assert_eq!(command(line), Command::Version, "{line}");
    }
    for verb in [
        "create",
        "run",
        "start",
        "state",
        "kill",
        "delete",
        "exec",
        "list",
        "ps",
        "pause",
        "resume",
        "update",
        "events",
        "checkpoint",
        "restore",
        "mounts",
        "spec",
        "features",
        "explain",
        "diff",
        "trace",
        "doctor",
        "top",
        "gc",
        "completion",
        "man",
        "help",
    ] {
        let want = Command::Help { of: Some(verb.into()) };
        for line in [
            format!("{verb} --help"),
            format!("{verb} -h"),
            format!("{verb} -help"),
            format!("help {verb}"),
            format!("h {verb}"),
        ] {
            assert_eq!(command(&line), want, "{line}");
        }
        assert!(help_text("runc", Some(verb)).contains(&format!("runc {verb} [command options]")));
        if !["exec", "ps"].contains(&verb) {
            assert_eq!(command(&format!("{verb} a b c --help")), want);
        }
    }
    assert_eq!(parse(&[]).unwrap().name, "tare");
    assert_eq!(parse(&words("./bin/runc --help")).unwrap().name, "runc");
    assert_eq!(parse(&words("runc/ list")).unwrap().name, "tare");
}

#[test]
fn the_rest_of_the_commands() {
    for (line, want) in [
        ("list", Command::List(List { format: Format::Table, quiet: false })),
        ("list -q -f json", Command::List(List { format: Format::Json, quiet: true })),
        ("-- list", Command::List(List { format: Format::Table, quiet: false })),
        ("delete -f c", Command::Delete(Delete { id: "c".into(), force: true })),
        ("delete c -f=false", Command::Delete(Delete { id: "c".into(), force: false })),
        ("delete -- -f", Command::Delete(Delete { id: "-f".into(), force: false })),
        ("kill c sigusr1 -a", Command::Kill(Kill { id: "c".into(), signal: 10, all: true })),
        ("kill c ''", Command::Kill(Kill { id: "c".into(), signal: 15, all: false })),
        ("events --stats c", Command::Events(Events { id: "c".into(), stats: true, interval: Duration::from_secs(5) })),
        ("spec", Command::Spec(SpecFile::default())),
        ("spec -b /b --rootless", Command::Spec(SpecFile { bundle: Some("/b".into()), rootless: true })),
        ("mounts add c /f", Command::MountsAdd(Mounts { id: "c".into(), file: "/f".into() })),
        ("mounts remove c /f", Command::MountsRemove(Mounts { id: "c".into(), file: "/f".into() })),
        ("explain", Command::Explain(Explain::default())),
        ("diff --json c", Command::Diff(Report { id: "c".into(), json: true })),
        ("doctor --json", Command::Doctor { json: true }),
        (
            "top --once --interval 1s a b -f json",
            Command::Top(Top {
                ids: vec!["a".into(), "b".into()],
                interval: Duration::from_secs(1),
                iterations: Some(1),
                format: Format::Json,
            }),
        ),
        (
            "top -n 0",
            Command::Top(Top {
                ids: vec![],
                interval: Duration::from_secs(2),
                iterations: None,
                format: Format::Table,
            }),
        ),
        ("gc -n", Command::Gc { dry_run: true }),
        ("completion zsh", Command::Completion(Shell::Zsh)),
        ("man", Command::Man { of: None }),
        ("man run", Command::Man { of: Some("run".into()) }),
    ] {
        assert_eq!(command(line), want, "{line}");
    }
    let create = Create { id: "c".into(), bundle: Some("/b".into()), strict: true, ..Create::default() };
    let explain = Explain { id: Some("c".into()), create: create.clone(), json: true };
    assert_eq!(command("explain -b /b --strict --json c"), Command::Explain(explain));
    let trace = Trace { run: Run { create, ..Run::default() }, json: false, output: None };
    assert_eq!(command("trace -b /b --strict c"), Command::Trace(trace));
}
