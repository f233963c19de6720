//! Whatever is compiled, on whatever host, is a sound plan that can be told; what is not is refused with a field.
//!
//! The first byte chooses the host and the command, the rest is the configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tare::facts::{Cgroups, Facts, Hierarchy, Systemd};
use tare::request::Request;
use tare::{check, compile, explain, parse};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, config)) = bytes.split_first() else { return };
    let Ok((spec, _)) = parse::config(config) else { return };
    let facts = facts(*choice);
    let request = Request {
        id: "box".into(),
        bundle: "/bundle".into(),
        gated: choice & 0x10 != 0,
        no_pivot: choice & 0x20 != 0,
        systemd: choice & 4 != 0,
        rootless: Some(choice & 8 != 0),
        ..Request::default()
    };
    match compile::compile(&spec, &facts, &request) {
        Ok(compiled) => {
            assert_eq!(check::check(&compiled.plan), Ok(()));
            assert!(!explain::plan(&compiled.plan).is_empty());
            assert!(serde_json::to_string(&compiled.plan.undos()).is_ok());
        }
        Err(problems) => {
            assert!(!problems.errors.is_empty());
            assert!(problems.errors.iter().all(|p| !p.field.to_string().is_empty() && !p.text.is_empty()));
        }
    }
});

fn facts(choice: u8) -> Facts {
    let mut facts = Facts::ordinary();
    if choice & 1 != 0 {
        let v1 = ["cpu", "memory", "pids", "devices", "freezer", "cpuset", "blkio"].map(|name| Hierarchy {
            mount: format!("/sys/fs/cgroup/{name}"),
            controllers: vec![name.into()],
            own: "/".into(),
        });
        facts.cgroups = Cgroups { v1: v1.into(), v2: None };
    }
    if choice & 2 != 0 {
        facts.permitted = 0xffff;
    }
    if choice & 4 != 0 {
        facts.systemd = Some(Systemd { version: 257, cgroup: "/".into(), ..Systemd::default() });
    }
    if choice & 8 != 0 {
        (facts.uid, facts.gid, facts.permitted) = (1000, 1000, 0);
    }
    facts
}
