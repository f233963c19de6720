//! What `explain` says of real bundles and of the cases that differ most. `UPDATE_GOLDEN=1` writes what it says now.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::path::{Path, PathBuf};

use tare::facts::{Cgroups, Facts, Hierarchy, Systemd, Unified};
use tare::op::unit::Manager;
use tare::request::Request;
use tare::{check, compile, explain, parse};

/// A host with a hierarchy for each controller of version 1, and an empty one of version 2.
fn hybrid() -> Facts {
    let controllers = [
        "cpuset",
        "cpu,cpuacct",
        "blkio",
        "memory",
        "devices",
        "freezer",
        "net_cls,net_prio",
        "hugetlb",
        "pids",
        "rdma",
    ];
    let named = std::iter::once(("systemd", vec!["name=systemd".to_owned()]));
    let ordinary = controllers.map(|c| (c, c.split(',').map(str::to_owned).collect()));
    let v1 = named.chain(ordinary).map(|(dir, controllers)| Hierarchy {
        mount: format!("/sys/fs/cgroup/{dir}"),
        controllers,
        own: "/".to_owned(),
    });
    let v2 = Unified { mount: "/sys/fs/cgroup/unified".to_owned(), controllers: Vec::new(), own: "/".to_owned() };
    Facts { cgroups: Cgroups { v1: v1.collect(), v2: Some(v2) }, ..Facts::ordinary() }
}

fn explained(config: &Path, facts: &Facts) -> String {
    let mut text = std::fs::read(config).unwrap();
    let systemd = facts.systemd.is_some();
    if systemd {
        let mut all: serde_json::Value = serde_json::from_slice(&text).unwrap();
        all["linux"]["cgroupsPath"] = "machine-made.slice:engine:box".into();
        all["annotations"]["org.systemd.property.TimeoutStopSec"] = "7".into();
        text = serde_json::to_vec(&all).unwrap();
    }
    let (spec, _) = parse::config(&text).unwrap_or_else(|e| panic!("{}: {e}", config.display()));
    let request = Request { id: "box".into(), bundle: "/bundle".into(), gated: true, systemd, ..Request::default() };
    match compile::compile(&spec, facts, &request) {
        Ok(compiled) => {
            check::check(&compiled.plan).unwrap_or_else(|broken| panic!("{}: {broken:?}", config.display()));
            explain::plan(&compiled.plan)
        }
        Err(problems) => format!("refused: {problems}\n"),
    }
}

/// Those that differ most where systemd makes the cgroups.
const SYSTEMD: [&str; 4] = ["docker-limits", "podman-userns", "case-joined-pid-and-network", "spec-default"];

fn golden(facts: &Facts, suffix: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut configs: Vec<PathBuf> =
        std::fs::read_dir(tests.join("fixtures/configs")).unwrap().map(|e| e.unwrap().path()).collect();
    configs.sort();
    assert!(configs.len() > 15, "the fixtures are not there");
    if facts.systemd.is_some() {
        configs.retain(|config| SYSTEMD.contains(&config.file_stem().unwrap().to_str().unwrap()));
        assert_eq!(configs.len(), SYSTEMD.len());
    }
    let mut differ = Vec::new();
    for config in configs {
        let name = config.file_stem().unwrap().to_str().unwrap();
        let file = tests.join(format!("golden/{name}{suffix}.txt"));
        let says = explained(&config, facts);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, says).unwrap();
        } else if std::fs::read_to_string(&file).unwrap_or_default() != says {
            differ.push(file.display().to_string());
        }
    }
    assert!(differ.is_empty(), "UPDATE_GOLDEN=1 writes, `git diff` shows what changed in:\n{}", differ.join("\n"));
}

#[test]
fn plans_read_as_they_did() {
    golden(&Facts::ordinary(), "");
}

#[test]
fn plans_of_a_hybrid_host_read_as_they_did() {
    golden(&hybrid(), ".hybrid");
}

fn with_systemd(facts: Facts) -> Facts {
    let manager = Manager { socket: "/run/systemd/private".into(), bus: false, user: false };
    Facts { systemd: Some(Systemd { manager, version: 257, cgroup: "/".into() }), ..facts }
}

#[test]
fn plans_with_units_of_systemd_read_as_they_did() {
    golden(&with_systemd(Facts::ordinary()), ".systemd");
    golden(&with_systemd(hybrid()), ".systemd-hybrid");
    let manager = Manager { socket: "/run/user/1000/systemd/private".into(), bus: false, user: true };
    let cgroup = "/user.slice/user-1000.slice/user@1000.service".to_owned();
    let systemd = Some(Systemd { manager, version: 257, cgroup });
    golden(&Facts { uid: 1000, gid: 1000, permitted: 0, systemd, ..Facts::ordinary() }, ".systemd-user");
}

/// The config of `spec --rootless`, on a host that has delegated no cgroup.
#[test]
fn the_plan_of_a_plain_user_reads_as_it_did() {
    let text = tare::default_spec::default_config(Some((1000, 1000)), false);
    let facts = Facts { uid: 1000, gid: 1000, permitted: 0, ..hybrid() };
    let (spec, _) = parse::config(text.as_bytes()).unwrap();
    let request = Request { id: "box".into(), bundle: "/bundle".into(), gated: true, ..Request::default() };
    let plan = compile::compile(&spec, &facts, &request).unwrap().plan;
    check::check(&plan).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rootless.txt");
    let says = explain::plan(&plan);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &says).unwrap();
    }
    assert!(std::fs::read_to_string(&file).unwrap_or_default() == says, "UPDATE_GOLDEN=1 writes; now:\n{says}");
}
