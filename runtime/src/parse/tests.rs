use super::*;

const CONFIGS: [(&str, &[u8]); 12] = [
    ("containerd-seccomp", include_bytes!("../../tests/fixtures/configs/containerd-seccomp.json")),
    ("cri-container-allcaps", include_bytes!("../../tests/fixtures/configs/cri-container-allcaps.json")),
    ("cri-container-mount", include_bytes!("../../tests/fixtures/configs/cri-container-mount.json")),
    ("cri-container-seccomp", include_bytes!("../../tests/fixtures/configs/cri-container-seccomp.json")),
    ("cri-sandbox-userns", include_bytes!("../../tests/fixtures/configs/cri-sandbox-userns.json")),
    ("cri-sandbox", include_bytes!("../../tests/fixtures/configs/cri-sandbox.json")),
    ("docker-default", include_bytes!("../../tests/fixtures/configs/docker-default.json")),
    ("docker-limits", include_bytes!("../../tests/fixtures/configs/docker-limits.json")),
    ("docker-tty", include_bytes!("../../tests/fixtures/configs/docker-tty.json")),
    ("podman-default", include_bytes!("../../tests/fixtures/configs/podman-default.json")),
    ("podman-userns", include_bytes!("../../tests/fixtures/configs/podman-userns.json")),
    ("spec-default", include_bytes!("../../tests/fixtures/configs/spec-default.json")),
];

/// The one error of a text that must not be read.
fn refusal(text: impl AsRef<[u8]>) -> String {
    let problems = config(text.as_ref()).expect_err("must be refused");
    assert_eq!(problems.errors.len(), 1);
    problems.to_string()
}

/// The error of a config that is fine but for `rest`.
fn refusal_of(rest: &str) -> String {
    refusal(format!("{{\"ociVersion\":\"1.3.0\",\n{rest}}}"))
}

#[test]
fn reads_what_engines_write() {
    for (name, bytes) in CONFIGS {
        let (spec, unknown) = config(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(spec.process.is_some() && spec.root.is_some() && spec.linux.is_some(), "{name}");
        assert_eq!(unknown, [], "{name}");
    }
}

/// Field for field the same as serde_json reads.
#[test]
fn reads_the_same_as_serde_json() {
    for (name, bytes) in CONFIGS {
        let ours = config(bytes).unwrap().0;
        let theirs: Spec<'_> = serde_json::from_slice(bytes).unwrap();
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{name}");
    }
}

#[test]
fn borrows_and_unescapes() {
    let (spec, _) =
        config(br#"{"ociVersion":"1.3.0","hostname":"pl\u0061in\n\"\ud83d\ude00","annotations":{"a\tb":"c"}}"#)
            .unwrap();
    assert!(matches!(spec.oci_version.0, std::borrow::Cow::Borrowed(_)));
    assert_eq!(spec.hostname.as_deref(), Some("plain\n\"😀"));
    assert_eq!(spec.annotations.keys().map(|k| &**k).collect::<Vec<_>>(), ["a\tb"]);
}

#[test]
fn null_is_absent() {
    let text = br#"{"ociVersion":"1.3.0","mounts":null,"annotations":null,"process":{"user":{"uid":null},"cwd":null,"terminal":null,"oomScoreAdj":null},"linux":null}"#;
    let (spec, unknown) = config(text).unwrap();
    assert!(spec.mounts.is_empty() && spec.linux.is_none() && unknown.is_empty());
    assert_eq!(spec.process.unwrap().oom_score_adj, None);
    assert_eq!(refusal(r#"{"ociVersion": null}"#), "ociVersion: is null; expected a string (line 1, column 16)");
}

#[test]
fn names_the_field_of_a_wrong_type() {
    assert_eq!(
        refusal_of(r#""linux":{"resources":{"memory":{"limit":"64M"}}}"#),
        "linux.resources.memory.limit: is the string \"64M\"; expected an integer from -9223372036854775808 to 9223372036854775807 (line 2, column 41)"
    );
    assert_eq!(
        refusal_of(r#""mounts":[{"destination":"/a"},{"destination":"/b","options":["ro",7]}]"#),
        "mounts[1].options[1]: is 7; expected a string (line 2, column 68)"
    );
    assert_eq!(refusal_of(r#""mounts":{}"#), "mounts: is an object; expected an array (line 2, column 10)");
    assert_eq!(refusal_of(r#""root":[]"#), "root: is an array; expected an object (line 2, column 8)");
    assert_eq!(
        refusal_of(r#""root":{"path":"r","readonly":"yes"}"#),
        "root.readonly: is the string \"yes\"; expected true or false (line 2, column 31)"
    );
    assert_eq!(
        refusal_of(r#""linux":{"sysctl":{"net.core.x":1}}"#),
        "linux.sysctl[\"net.core.x\"]: is 1; expected a string (line 2, column 33)"
    );
    assert_eq!(refusal("[]"), "config.json: is an array; expected an object (line 1, column 1)");
    assert_eq!(refusal("null"), "config.json: is null; expected an object (line 1, column 1)");
    assert_eq!(refusal("7"), "config.json: is 7; expected an object (line 1, column 1)");
}

#[test]
fn names_the_field_of_a_number_out_of_range() {
    let user = |n: &str| refusal_of(&format!(r#""process":{{"user":{{"uid":{n}}}}}"#));
    let range = "expected an integer from 0 to 4294967295";
    assert_eq!(user("-1"), format!("process.user.uid: is -1; {range} (line 2, column 26)"));
    assert_eq!(user("4294967296"), format!("process.user.uid: is 4294967296; {range} (line 2, column 26)"));
    assert_eq!(
        user("99999999999999999999"),
        format!("process.user.uid: is 99999999999999999999; {range} (line 2, column 26)")
    );
    let plain = ", written without fraction and exponent (line 2, column 26)";
    assert_eq!(user("1e3"), format!("process.user.uid: is 1e3; {range}{plain}"));
    assert_eq!(user("1.0"), format!("process.user.uid: is 1.0; {range}{plain}"));
    assert!(config(br#"{"ociVersion":"1","process":{"user":{"uid":4294967295}}}"#).is_ok());
    assert!(config(br#"{"ociVersion":"1","linux":{"resources":{"memory":{"limit":-9223372036854775808}}}}"#).is_ok());
    assert!(
        config(br#"{"ociVersion":"1","process":{"rlimits":[{"type":"a","soft":18446744073709551615,"hard":0}]}}"#)
            .is_ok()
    );
}

#[test]
fn numbers_follow_the_grammar() {
    for bad in ["01", "-", "+1", ".5", "5.", "1e", "0x10", "1_000", "1.2.3", "NaN", "--1", "1a"] {
        let told = refusal_of(&format!("\"x\":{bad}"));
        assert!(told.contains("(line 2, column "), "{bad}: {told}");
    }
    for good in ["0", "-0", "1.5", "1e5", "1E+5", "1e-5", "-1.25e3"] {
        assert!(config(format!("{{\"ociVersion\":\"1\",\"x\":{good}}}").as_bytes()).is_ok(), "{good}");
    }
}

#[test]
fn names_what_is_missing() {
    assert_eq!(refusal("{}"), "ociVersion: is required (line 1, column 1)");
    assert_eq!(refusal_of(r#""mounts":[{"source":"/a"}]"#), "mounts[0].destination: is required (line 2, column 11)");
    assert_eq!(refusal_of(r#""root":{}"#), "root.path: is required (line 2, column 8)");
    assert_eq!(
        refusal_of(r#""process":{"rlimits":[{"type":"RLIMIT_CORE","soft":1}]}"#),
        "process.rlimits[0].hard: is required (line 2, column 23)"
    );
}

#[test]
fn refuses_a_key_twice() {
    assert_eq!(
        refusal("{\"ociVersion\":\"1.3.0\",\n \"ociVersion\":\"1.3.0\"}"),
        "config.json: has the key `ociVersion` twice, first at line 1, column 2 (line 2, column 2)"
    );
    assert_eq!(
        refusal_of(r#""root":{"path":"a","Path":"b"}"#),
        "root: has the keys `path` (line 2, column 9) and `Path`, which differ in case only (line 2, column 20)"
    );
    assert!(refusal_of(r#""linux":{"maskedPaths":[],"ma\u017fkedPaths":[]}"#).contains("differ in case only"));
    assert!(refusal_of(r#""linux":{"masKedPaths":[],"mas\u212aedPaths":[]}"#).contains("differ in case only"));
    assert!(refusal_of(r#""x":{"a":{"b":1,"\u0062":2}}"#).starts_with("x[\"a\"]: has the key `b` twice"));
    assert!(refusal_of(r#""annotations":{"a":"","a":""}"#).starts_with("annotations: has the key `a` twice"));
    // An annotation's key is the author's, and so is a network device's name: case counts.
    assert!(
        config(br#"{"ociVersion":"1","annotations":{"a":"","A":""},"linux":{"netDevices":{"a":{},"A":{}}}}"#).is_ok()
    );
}

#[test]
fn refuses_a_key_twice_among_many() {
    let many = |extra: &str| {
        let keys: Vec<String> = (0..1000).map(|i| format!("\"k{i}\":\"\"")).collect();
        format!("{{\"ociVersion\":\"1\",\"annotations\":{{{}{extra}}}}}", keys.join(","))
    };
    assert!(config(many("").as_bytes()).is_ok());
    assert!(refusal(many(",\"k500\":\"\"")).starts_with("annotations: has the key `k500` twice"));
    let unknown: Vec<String> = (0..100).map(|i| format!("\"k{i}\":0")).collect();
    assert!(refusal_of(&format!("{},\"K7\":0", unknown.join(","))).contains("`k7` (line 2"));
}

#[test]
fn yields_unknown_properties() {
    let text = br#"{"ociVersion":"1.3.0","Process":{"cwd":1},"windows":{},"linux":{"resources":{"memory":{"limits":5},"cpu":{"zzzzzzzz":[{"a":1}]}}}}"#;
    let (spec, unknown) = config(text).unwrap();
    assert!(spec.process.is_none());
    let told: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "Process: is no property of the specification (line 1, column 23) (hint: did you mean `process`?)",
            "linux.resources.memory.limits: is no property of the specification (line 1, column 88) (hint: did you mean `limit`?)",
            "linux.resources.cpu.zzzzzzzz: is no property of the specification (line 1, column 107)",
        ]
    );
}

#[test]
fn unknown_properties_are_bounded() {
    let keys: Vec<String> = (0..5000).map(|i| format!("\"unknown{i}\":0")).collect();
    let text = format!("{{\"ociVersion\":\"1\",{}}}", keys.join(","));
    assert_eq!(config(text.as_bytes()).unwrap().1.len(), 100);
}

#[test]
fn refuses_what_is_no_text() {
    assert_eq!(refusal(""), "config.json: is empty");
    assert_eq!(refusal(" \n"), "config.json: is empty");
    assert_eq!(refusal(b"\xef\xbb\xbf{}"), "config.json: begins with a byte order mark; write it as plain UTF-8");
    assert_eq!(refusal(b"\xff\xfe{\0}\0"), "config.json: is UTF-16; write it as UTF-8");
    assert_eq!(refusal(b"{\n\"a\": \"\xc3\x28\"}"), "config.json: is not UTF-8 (line 2, column 7)");
    assert_eq!(refusal(vec![b' '; SIZE_LIMIT + 1]), "config.json: is 4194305 bytes long; 4194304 is the limit");
}

#[test]
fn refuses_broken_json() {
    assert_eq!(refusal("{]"), "config.json: found ']' where a key in quotation marks is expected (line 1, column 2)");
    assert_eq!(refusal("{} x"), "ociVersion: is required (line 1, column 1)");
    assert_eq!(
        refusal("{\"ociVersion\":\"1\"} x"),
        "config.json: found 'x' where the end of the file is expected (line 1, column 20)"
    );
    assert_eq!(refusal_of("\"mounts\":[{},"), "mounts[0].destination: is required (line 2, column 11)");
    assert_eq!(refusal_of(r#""mounts":[ ,]"#), "mounts[0]: found ',' where a value is expected (line 2, column 12)");
    assert_eq!(refusal_of(r#""x":[1,]"#), "x[1]: found ']' where a value is expected (line 2, column 8)");
    assert_eq!(
        refusal_of(r#""x":{},"#),
        "config.json: found '}' where a key in quotation marks is expected (line 2, column 8)"
    );
    assert_eq!(refusal_of(r#""x" 1"#), "x: found '1' where `:` is expected (line 2, column 5)");
    assert_eq!(refusal_of(r#""x":1 "y":2"#), "config.json: found '\"' where `,` or `}` is expected (line 2, column 7)");
    assert_eq!(refusal_of(r#""x":tru"#), "x: found 't' where a value is expected (line 2, column 5)");
    assert_eq!(
        refusal_of("\"x\":\"a\nb\""),
        "x: a string holds the control character '\\n'; write it escaped (line 2, column 7)"
    );
    assert_eq!(refusal_of(r#""x":"\q""#), "x: a string holds an escape that JSON does not have (line 2, column 6)");
    assert_eq!(refusal_of(r#""x":"\u12g4""#), "x: \\u needs four hexadecimal digits (line 2, column 6)");
    for half in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800\n"] {
        assert!(refusal_of(&format!("\"x\":\"{half}\"")).contains("half of a surrogate pair"), "{half}");
    }
    assert_eq!(
        refusal("{\"ociVersion\":\"1"),
        "ociVersion: the file ends where the end of a string is expected (line 1, column 17)"
    );
}

#[test]
fn refuses_deep_nesting() {
    let nested = |n: usize| format!("{{\"ociVersion\":\"1\",\"x\":{}1{}}}", "[".repeat(n), "]".repeat(n));
    assert!(config(nested(63).as_bytes()).is_ok());
    assert!(refusal(nested(64)).contains("is nested deeper than 64 levels"));
    assert!(refusal(nested(1_000_000)).contains("is nested deeper than 64 levels"));
    assert!(refusal(format!("{{\"x\":{}", "{\"a\":".repeat(100_000))).contains("is nested deeper than 64 levels"));
}

#[test]
fn long_values_are_cut_in_messages() {
    let told = refusal_of(&format!("\"linux\":{{\"resources\":{{\"pids\":{{\"limit\":\"{}\"}}}}}}", "ä".repeat(5000)));
    assert!(told.len() < 400, "{told}");
}

#[test]
fn a_lone_process_and_lone_resources() {
    let (read, _) = process(br#"{"args":["true"],"cwd":"/"}"#).unwrap();
    assert_eq!(&*read.args[0], "true");
    assert_eq!(
        process(br#"{"args":[true]}"#).unwrap_err().to_string(),
        "process.args[0]: is true; expected a string (line 1, column 10)"
    );
    assert_eq!(process(b"").unwrap_err().to_string(), "process: is empty");
    let (read, unknown) = resources(br#"{"memory":{"limit":5},"cpus":1}"#).unwrap();
    assert_eq!(read.memory.unwrap().limit, Some(5));
    assert_eq!(unknown[0].field.to_string(), "linux.resources.cpus");
    assert_eq!(
        resources(br#"{"pids":{"limit":[]}}"#).unwrap_err().errors[0].field.to_string(),
        "linux.resources.pids.limit"
    );
}

#[test]
fn schema_examples() {
    for good in [
        &include_bytes!("../../tests/fixtures/schema/good/minimal.json")[..],
        include_bytes!("../../tests/fixtures/schema/good/minimal-for-start.json"),
        include_bytes!("../../tests/fixtures/schema/good/spec-example.json"),
        include_bytes!("../../tests/fixtures/schema/good/linux-netdevice.json"),
        include_bytes!("../../tests/fixtures/schema/good/linux-rdma.json"),
        include_bytes!("../../tests/fixtures/schema/good/zos-example.json"),
        include_bytes!("../../tests/fixtures/schema/good/zos-minimal.json"),
        include_bytes!("../../tests/fixtures/schema/good/freebsd-example.json"),
        include_bytes!("../../tests/fixtures/schema/good/freebsd-minimal.json"),
    ] {
        let (_, unknown) = config(good).unwrap();
        // The specification's own example still has a property of long ago.
        assert!(unknown.iter().all(|p| p.field.to_string() == "linux.resources.oomScoreAdj"), "{unknown:?}");
    }
    let netdevice = include_bytes!("../../tests/fixtures/schema/bad/linux-netdevice.json");
    assert!(refusal(netdevice).starts_with("linux.netDevices[\"eth0\"].name: is 23; expected a string"));
    let rdma = include_bytes!("../../tests/fixtures/schema/bad/linux-rdma.json");
    assert!(refusal(rdma).starts_with("linux.resources.rdma[\"mlx5_1\"].hcaHandles: is the string"));
    assert!(
        refusal(include_bytes!("../../tests/fixtures/schema/bad/invalid-json.json")).contains("(line 1, column 2)")
    );
}

/// Cut off anywhere, a config is refused, with a place.
#[test]
fn truncated_at_every_byte() {
    for (name, bytes) in [CONFIGS[5], CONFIGS[11]] {
        let whole = bytes.trim_ascii_end();
        for end in 0..whole.len() {
            let told = refusal(&whole[..end]);
            assert!(end == 0 || told.contains("(line "), "{name} {end}: {told}");
        }
    }
}

/// One token changed for another, everywhere in a real config: read, or refused with a place, and never a panic.
#[test]
fn one_token_changed() {
    const TOKENS: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "-1",
        "1e400",
        "\"a\"",
        "{}",
        "[[]]",
        "\u{0}",
        "99999999999999999999999",
    ];
    let (_, bytes) = CONFIGS[11];
    let text = std::str::from_utf8(bytes).unwrap();
    let bounds: Vec<usize> = std::iter::once(0)
        .chain(text.match_indices(['{', '}', '[', ']', ',', ':', '"', '\n']).flat_map(|(i, _)| [i, i + 1]))
        .collect();
    let mut refused = 0;
    for pair in bounds.windows(2) {
        for token in TOKENS {
            let changed = [&text[..pair[0]], token, &text[pair[1]..]].concat();
            if let Err(problems) = config(changed.as_bytes()) {
                refused += 1;
                assert!(problems.to_string().contains("(line "), "{problems}");
            }
        }
    }
    assert!(refused > bounds.len(), "only {refused} changes were refused");
}

fn fields(text: &str) -> Vec<String> {
    config(text.as_bytes()).expect_err("must be refused").errors.iter().map(|p| p.field.to_string()).collect()
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = r#"{"ociVersion": 1, "hostname": [], "hostname": "x", "root": {"path": 5, "readonly": "yes"},
        "process": {"cwd": 7, "args": ["a", 5, {}, "b"], "user": {"uid": -1, "gid": 4294967296}},
        "mounts": [{"destination": "/a"}, {"source": "b"}, 7, {"destination": 1, "options": "ro"}],
        "annotations": {"a": 1, "b": "c", "d": 2}}"#;
    assert_eq!(
        fields(text),
        [
            "ociVersion",
            "hostname",
            "config.json",
            "root.path",
            "root.readonly",
            "process.cwd",
            "process.args[1]",
            "process.args[2]",
            "process.user.uid",
            "process.user.gid",
            "mounts[1].destination",
            "mounts[2]",
            "mounts[3].destination",
            "mounts[3].options",
            "annotations[\"a\"]",
            "annotations[\"d\"]",
        ]
    );
}

#[test]
fn what_comes_after_a_broken_text_is_not_guessed_at() {
    assert_eq!(
        fields(r#"{"ociVersion": 1, "hostname": 2, "root": {"path": "a" "readonly": true}, "mounts": 5}"#).len(),
        3
    );
    assert_eq!(fields(r#"{"ociVersion": 1, "root": {"path": tru}, "mounts": 5}"#).len(), 2);
    assert_eq!(fields(r#"{"ociVersion": 1, "root": {"path": "#).len(), 2);
}

#[test]
fn errors_are_bounded() {
    let numbers = vec!["1"; 1000].join(",");
    let found = fields(&format!(r#"{{"ociVersion": "1.3.0", "process": {{"cwd": "/", "args": [{numbers}]}}}}"#));
    assert_eq!((found.len(), found[31].as_str(), found[32].as_str()), (33, "process.args[31]", "config.json"));
}

/// However many tokens are wrong, reading ends, and tells of each field once.
#[test]
fn many_wrong_tokens() {
    let (_, whole) = CONFIGS[6];
    let text = std::str::from_utf8(whole).unwrap();
    for (from, to) in [("\"", "5"), ("{", "["), ("true", "\"true\""), ("[", "{"), (":", ","), ("/", "\\")] {
        for nth in 1..6 {
            let pieces: Vec<_> = text.split(from).collect();
            let mut wrong = pieces[0].to_owned();
            for (i, piece) in pieces.iter().enumerate().skip(1) {
                wrong.push_str(if i % nth == 0 { to } else { from });
                wrong.push_str(piece);
            }
            if let Err(problems) = config(wrong.as_bytes()) {
                assert!((1..=33).contains(&problems.errors.len()), "{problems}");
            }
        }
    }
}
