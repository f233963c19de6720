//! The values behind flags: ids, signals, sizes, durations, numbers.

use std::time::Duration;

mod parsed;

use parsed::{command, error, words};
use tare::cli::*;

#[test]
fn update_takes_sizes_and_numbers() {
    let line = "update --blkio-weight 100 --cpu-period 100000 --cpu-quota -1 --cpu-burst 5 --cpu-share 0x400 --cpu-rt-period 7 \
                --cpu-rt-runtime 8 --cpu-idle 1 --cpuset-cpus 0-1 --cpuset-mems 0 --memory 64M --memory-reservation 1.5g \
                --memory-swap -1 --pids-limit -1 --l3-cache-schema L3:0=f --mem-bw-schema MB:0=20 --kernel-memory 1m c1";
    let want = Update {
        id: "c1".into(),
        resources: None,
        blkio_weight: Some(100),
        cpu_period: Some(100_000),
        cpu_quota: Some(-1),
        cpu_burst: Some(5),
        cpu_share: Some(1024),
        cpu_rt_period: Some(7),
        cpu_rt_runtime: Some(8),
        cpu_idle: Some(1),
        cpuset_cpus: Some("0-1".into()),
        cpuset_mems: Some("0".into()),
        memory: Some(64 << 20),
        memory_reservation: Some(3 << 29),
        memory_swap: Some(-1),
        pids_limit: Some(-1),
        l3_cache_schema: Some("L3:0=f".into()),
        mem_bw_schema: Some("MB:0=20".into()),
        kernel_memory: true,
    };
    assert_eq!(command(line), Command::Update(Box::new(want)));
    let named_nothing = Update { id: "c1".into(), ..Update::default() };
    assert_eq!(command("update c1 --cpuset-cpus= --blkio-weight=0"), Command::Update(Box::new(named_nothing)));
}

#[test]
fn sizes() {
    for (text, want) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("1b", Some(1)),
        ("1K", Some(1024)),
        ("1kb", Some(1024)),
        ("1KiB", Some(1024)),
        ("1.5k", Some(1536)),
        ("2T", Some(2 << 40)),
        ("1p", Some(1 << 50)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("9999999p", None),
        ("-2", None),
        ("", None),
        ("k", None),
        ("1x", None),
        ("1i", None),
        ("1ib", None),
        ("1.k", None),
        (".5k", None),
        ("1.2.3", None),
        ("1bb", None),
    ] {
        let argv = vec!["tare".into(), "update".into(), format!("--memory={text}").into(), "c".into()];
        match (parse(&argv), want) {
            (Ok(Invocation { command: Command::Update(update), .. }), Some(_)) => {
                assert_eq!(update.memory, want, "{text}")
            }
            (Err(rejected), None) => {
                assert_eq!(rejected.error.message, format!("invalid value {text:?} for flag -memory: parse error"));
            }
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
}

#[test]
fn durations() {
    let interval = |text: &str| match parse(&words(&format!("tare events --interval={text} c"))) {
        Ok(Invocation { command: Command::Events(events), .. }) => Ok(events.interval),
        Ok(other) => panic!("{other:?}"),
        Err(rejected) => Err(rejected.error.message),
    };
    for (text, millis) in [
        ("5s", 5000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("1.s", 1000),
        ("250ms", 250),
        ("+1s", 1000),
    ] {
        assert_eq!(interval(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    assert_eq!(interval("3us"), Ok(Duration::from_micros(3)));
    assert_eq!(interval("3µs"), Ok(Duration::from_micros(3)));
    for text in ["0", "0s"] {
        assert_eq!(interval(text).unwrap_err(), "duration interval must be greater than 0");
    }
    for text in ["5", "s", "", ".s", "-1s", "1.2.3s", "1y", "99999999999999h"] {
        assert_eq!(interval(text).unwrap_err(), format!("invalid value {text:?} for flag -interval: parse error"));
    }
    assert_eq!(
        command("events c"),
        Command::Events(Events { id: "c".into(), stats: false, interval: Duration::from_secs(5) })
    );
}

#[test]
fn signals() {
    for (text, want) in [
        ("0", 0),
        ("9", 9),
        ("64", 64),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigkill", 9),
        ("term", 15),
        ("CHLD", 17),
        ("CLD", 17),
        ("IOT", 6),
        ("POLL", 29),
        ("WINCH", 28),
        ("RTMIN", 34),
        ("SIGRTMIN", 34),
        ("RTMIN+3", 37),
        ("SIGRTMIN+30", 64),
        ("RTMAX", 64),
        ("rtmax-14", 50),
        ("RTMAX-30", 34),
    ] {
        assert_eq!(parse_signal(text), Ok(want), "{text}");
    }
    for text in [
        "",
        "FOO",
        "SIG",
        "SIGSIGKILL",
        "65",
        "-1",
        "99999999999",
        "RTMIN-1",
        "RTMIN+31",
        "RTMAX+1",
        "RTMAX-31",
        "RTMIN+",
        "RTMIN++1",
        "RTMIN+-1",
        "RTMIé",
    ] {
        assert_eq!(parse_signal(text), Err(format!("unknown signal {text:?}")));
    }
}

#[test]
fn ids() {
    for id in ["a", "A-b_c.d+e", "...", "a..b", "-", "1".repeat(1024).as_str()] {
        assert_eq!(validate_id(id), Ok(()), "{id}");
    }
    for id in [".", "..", "a/b", "/", "a b", "a\0", "ü", "a\n", "%", "1".repeat(1025).as_str()] {
        assert!(validate_id(id).unwrap_err().ends_with("invalid container ID format"), "{id}");
    }
    assert_eq!(validate_id(""), Err("container id cannot be empty".into()));
    for line in [
        "create",
        "run",
        "start",
        "state",
        "kill",
        "delete",
        "delete --force",
        "exec",
        "ps",
        "pause",
        "resume",
        "update",
        "events",
        "checkpoint",
        "restore",
        "explain",
        "diff",
        "trace",
        "top",
    ] {
        // What keeps exec's command from being run has a code of its own.
        let (before, code) = if line == "exec" { ("exec failed: ", 255) } else { ("", 1) };
        let message = format!("{before}container id \"../x\": invalid container ID format");
        assert_eq!(error(&format!("{line} ../x")), (message, code));
        assert_eq!(error(&format!("{line} ''")).0, format!("{before}container id cannot be empty"));
    }
    assert!(error("mounts add a/b /f").0.ends_with("invalid container ID format"));
}
