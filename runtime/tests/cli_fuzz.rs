//! Whatever stands on a command line, it is read or refused, and never more than that.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use tare::cli::*;

/// Words that mean something, so that the deeper paths are reached, between any bytes at all.
fn word() -> impl Strategy<Value = OsString> {
    const KNOWN: &[&str] = &[
        "create",
        "run",
        "exec",
        "ps",
        "kill",
        "update",
        "events",
        "list",
        "mounts",
        "restore",
        "help",
        "top",
        "c1",
        "--",
        "-",
        "--root",
        "/r",
        "--log=journald:x",
        "--format=json",
        "-f",
        "-q=",
        "--memory",
        "1.5g",
        "-1",
        "--interval=1m3.5s",
        "RTMIN+3",
        "--help",
        "-env",
        "--cgroup",
        "cpu:/x",
        "-u",
        "1:2",
        "--preserve-fds",
        "0x",
        "-=",
        "--page-server=a:1",
    ];
    prop_oneof![
        3 => proptest::sample::select(KNOWN).prop_map(OsString::from),
        1 => proptest::collection::vec(any::<u8>(), 0..12).prop_map(OsString::from_vec),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn no_command_line_panics_and_every_error_says_something(argv in proptest::collection::vec(word(), 0..10)) {
        if let Err(rejected) = parse(&argv) {
            prop_assert!(!rejected.error.message.is_empty());
            prop_assert!([1, 3, 255].contains(&rejected.error.exit_code));
        }
    }

    #[test]
    fn an_id_that_passes_is_one_plain_path_component(id in "[A-Za-z0-9_+./%~ -]{0,6}") {
        if validate_id(&id).is_ok() {
            let parts: Vec<_> = std::path::Path::new(&id).components().collect();
            prop_assert_eq!(parts, [std::path::Component::Normal(id.as_ref())]);
        }
    }

    #[test]
    fn numbers_and_signals_never_panic(text in "\\PC{0,24}") {
        let _ = parse_signal(&text);
        for flag in ["--memory", "--cpu-quota", "--resources"] {
            let _ = parse(&["tare".into(), "update".into(), flag.into(), text.clone().into(), "c".into()]);
        }
        let _ = parse(&["tare".into(), "events".into(), "--interval".into(), text.clone().into(), "c".into()]);
        let _ = tare::time::Timestamp::parse(&text);
    }

    #[test]
    fn a_log_line_is_one_line_whatever_is_said(message in any::<String>()) {
        use tare::log::{json_line, text_line};
        use tare::time::Timestamp;
        let now = Timestamp { seconds: 0, nanos: 0 };
        prop_assert_eq!(text_line(Level::Error, &message, now).lines().count(), 1);
        let line = json_line(Level::Error, &message, now);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(value["msg"].as_str(), Some(message.as_str()));
    }
}
