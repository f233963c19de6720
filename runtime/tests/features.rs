//! The features structure against the specification's schema, property by property, and what engines look for in it.

use serde_json::Value;
use tare::features::*;

fn features() -> Value {
    let text = features_json(Seccomp::new(SECCOMP_ARCHS)).expect("text and truth values");
    serde_json::from_str(&text).expect("JSON")
}

/// Checks that `value` has exactly the shape of `shape`: the same keys, and a value of the same kind at each.
fn assert_shape(path: &str, value: &Value, shape: &Value) {
    match (value, shape) {
        (Value::Object(value), Value::Object(shape)) => {
            let keys = |map: &serde_json::Map<String, Value>| {
                let mut keys: Vec<_> = map.keys().cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(value), keys(shape), "{path}");
            for (key, value) in value {
                assert_shape(&format!("{path}.{key}"), value, &shape[key]);
            }
        }
        (Value::Array(items), Value::Array(_)) => {
            assert!(items.iter().all(Value::is_string), "{path}");
            assert!(!items.is_empty(), "{path}");
            let mut names: Vec<_> = items.iter().map(Value::to_string).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), items.len(), "{path} names one twice");
        }
        (Value::Bool(_), Value::Bool(_)) | (Value::String(_), Value::String(_)) => {}
        _ => panic!("{path}: {value}"),
    }
}

#[test]
fn every_property_of_1_3_is_there_and_nothing_else() {
    let shape = serde_json::json!({
        "ociVersionMin": "", "ociVersionMax": "", "hooks": [], "mountOptions": [],
        "linux": {
            "namespaces": [], "capabilities": [],
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": { "enabled": true, "actions": [], "operators": [], "archs": [], "knownFlags": [], "supportedFlags": [] },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "memoryPolicy": { "modes": [], "flags": [] },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true }
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "", "io.github.tare.commit": "", "io.github.tare.version": ""
        },
        "potentiallyUnsafeConfigAnnotations": []
    });
    assert_shape("features", &features(), &shape);
}

/// An engine goes by these: what the runtime would refuse must not be claimed, what it does must be.
#[test]
fn what_is_claimed_is_true() {
    let features = features();
    let problems = |linux: &str| {
        let text = format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"linux":{linux}}}"#);
        let (spec, _) = tare::parse::config(text.as_bytes()).expect("a config");
        let mut problems = tare::error::Problems::default();
        tare::validate::spec(&spec, &mut problems);
        problems.errors.len()
    };
    assert_eq!(
        features["linux"]["netDevices"]["enabled"],
        problems(r#"{"namespaces":[{"type":"network"}],"netDevices":{"eth0":{}}}"#) == 0
    );
    assert_eq!(features["linux"]["intelRdt"]["enabled"], problems(r#"{"intelRdt":{"closID":"a"}}"#) == 0);
    for key in ["schemata", "monitoring"] {
        assert_eq!(features["linux"]["intelRdt"][key], features["linux"]["intelRdt"]["enabled"]);
    }
    for key in ["systemd", "systemdUser"] {
        assert_eq!(features["linux"]["cgroup"][key], true);
    }
    assert_eq!(features["potentiallyUnsafeConfigAnnotations"], serde_json::json!(["org.systemd.property."]));
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
    let policy = &features["linux"]["memoryPolicy"];
    for mode in policy["modes"].as_array().expect("modes") {
        let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].iter().any(|m| mode == m) { "" } else { "0" };
        assert_eq!(problems(&format!(r#"{{"memoryPolicy":{{"mode":{mode},"nodes":"{nodes}"}}}}"#)), 0, "{mode}");
    }
    for flag in policy["flags"].as_array().expect("flags") {
        let text = format!(r#"{{"memoryPolicy":{{"mode":"MPOL_BIND","nodes":"0","flags":[{flag}]}}}}"#);
        assert_eq!(problems(&text), 0, "{flag}");
    }
}

#[test]
fn engines_find_what_they_look_for() {
    let features = features();
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    for option in
        ["rro", "ro", "rbind", "idmap", "ridmap", "tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow"]
    {
        assert!(features["mountOptions"].as_array().unwrap().contains(&option.into()), "{option}");
    }
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&"time".into()));
}

#[test]
fn names_are_as_the_schema_has_them() {
    assert_eq!(CAPABILITIES.len(), 41);
    assert!(CAPABILITIES.iter().all(|name| {
        name.strip_prefix("CAP_")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
    }));
    assert!(MOUNT_OPTIONS.is_sorted());
    assert!(SECCOMP_ACTIONS.iter().all(|name| name.starts_with("SCMP_ACT_")));
    assert!(SECCOMP_OPERATORS.iter().all(|name| name.starts_with("SCMP_CMP_")));
    assert!(SECCOMP_FLAGS.iter().all(|name| name.starts_with("SECCOMP_FILTER_FLAG_")));
    assert!(SECCOMP_ARCHS.iter().all(|name| name.starts_with("SCMP_ARCH_")));
}

/// The kernel's own numbers; capability.h has them in this order.
#[test]
fn a_capability_stands_at_its_number() {
    for (number, name) in [
        (0, "CAP_CHOWN"),
        (7, "CAP_SETUID"),
        (21, "CAP_SYS_ADMIN"),
        (31, "CAP_SETFCAP"),
        (38, "CAP_PERFMON"),
        (40, "CAP_CHECKPOINT_RESTORE"),
    ] {
        assert_eq!(CAPABILITIES[number], name);
    }
}
