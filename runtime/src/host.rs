//! Finds the facts of this host, by fixed probes: nothing whose cost grows with what else runs here.

pub mod doctor;

use std::ffi::CStr;

use crate::abi::CAPABILITIES;
use crate::compile::exec::Ask;
use crate::facts::{Cgroups, Facts, Systemd};
use crate::run::{cgroup, proc, systemd};
use crate::spec::{Process, Spec};
use crate::sys::{fs, process};

/// What could not be found out.
#[derive(Debug)]
pub struct HostError(String);

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostError {}

/// What a plan depends on, beside what every plan does.
#[derive(Clone, Copy)]
struct Need {
    cgroups: bool,
    apparmor: bool,
    selinux: bool,
    filter: bool,
}

/// Probes the host, as far as a configuration depends on it; without one, whatever any could depend on.
///
/// # Errors
/// /proc cannot be read, or the cgroup filesystem is mounted in a way that is none of the known ones.
pub fn facts(spec: Option<&Spec<'_>>) -> Result<Facts, HostError> {
    let process = |label: fn(&Process<'_>) -> bool| spec.is_none_or(|s| s.process.as_ref().is_some_and(label));
    let mount_label = spec.is_none_or(|s| s.linux.as_ref().is_some_and(|l| l.mount_label.is_some()));
    probe(Need {
        cgroups: true,
        apparmor: process(|p| p.apparmor_profile.is_some()),
        selinux: mount_label || process(|p| p.selinux_label.is_some()),
        filter: spec.is_none_or(has_filter),
    })
}

/// Probes the host as far as a process depends on it that is put into a container: its cgroups are known already.
///
/// # Errors
/// /proc cannot be read.
pub fn facts_of_exec(spec: &Spec<'_>, ask: &Ask<'_>) -> Result<Facts, HostError> {
    let process = |label: fn(&Process<'_>) -> bool| {
        spec.process.as_ref().is_some_and(label) || ask.process.as_ref().is_some_and(label)
    };
    probe(Need {
        cgroups: false,
        apparmor: ask.flags.apparmor.is_some() || process(|p| p.apparmor_profile.is_some()),
        selinux: ask.flags.process_label.is_some() || process(|p| p.selinux_label.is_some()),
        filter: has_filter(spec),
    })
}

fn has_filter(spec: &Spec<'_>) -> bool {
    spec.linux.as_ref().is_some_and(|l| l.seccomp.is_some())
}

fn probe(need: Need) -> Result<Facts, HostError> {
    let (permitted, bounding) = held()?;
    let (uid, gid) = process::effective_ids();
    let in_user_namespace = proc::in_user_namespace();
    Ok(Facts {
        uid,
        gid,
        in_user_namespace,
        systemd: None,
        setgroups_denied: in_user_namespace && proc::denies_setgroups("self"),
        permitted,
        bounding,
        last_cap: last_cap(),
        cgroups: if need.cgroups { cgroup::probe().map_err(|e| HostError(e.to_string()))? } else { Cgroups::default() },
        apparmor: need.apparmor && is_yes(c"/sys/module/apparmor/parameters/enabled"),
        selinux: need.selinux && fs::inode(c"/sys/fs/selinux/enforce").is_ok(),
        seccomp_flags: if need.filter { seccomp_flags() } else { 0 },
    })
}

/// Finds the systemd that is to make the cgroups. `rootless` says whether it is the user's own; `None`: as the user is.
///
/// # Errors
/// There is none, or it does not answer.
pub fn systemd(rootless: Option<bool>) -> Result<Systemd, HostError> {
    systemd::find(rootless).map_err(|e| HostError(format!("--systemd-cgroup: {e}{HINT}")))
}

const HINT: &str = " (hint: let the engine use cgroupfs, or --cgroup-manager cgroupfs)";

/// The permitted and the bounding set.
fn held() -> Result<(u64, u64), HostError> {
    let path = c"/proc/thread-self/status";
    let status = fs::read_whole_small(path, 8192)
        .map_err(|f| HostError(format!("cannot read {}: {f}", path.to_string_lossy())))?;
    let status = String::from_utf8_lossy(&status);
    let set = |name| {
        let text = status.lines().find_map(|line| line.strip_prefix(name));
        text.and_then(|t| u64::from_str_radix(t.trim(), 16).ok()).unwrap_or(0)
    };
    Ok((set("CapPrm:"), set("CapBnd:")))
}

/// The highest capability that the kernel knows: those of the table are asked for from above, mostly once.
fn last_cap() -> u8 {
    const PR_CAPBSET_READ: i32 = 23;
    let top = CAPABILITIES.len() - 1;
    let known = (0..=top).rev().find(|c| process::prctl(PR_CAPBSET_READ, *c as u64).is_ok());
    u8::try_from(known.unwrap_or(0)).unwrap_or(0)
}

fn is_yes(path: &CStr) -> bool {
    let mut buf = [0; 8];
    fs::read_small(path, &mut buf).is_ok_and(|n| n > 0 && buf[0] == b'Y')
}

/// Which flags of seccomp(2) this kernel knows. Two of them go only with another.
fn seccomp_flags() -> u32 {
    const NEW_LISTENER: u32 = 8;
    const WAIT_KILLABLE_RECV: u32 = 32;
    let knows = |flag| match flag {
        WAIT_KILLABLE_RECV => process::seccomp_knows(flag | NEW_LISTENER),
        flag => process::seccomp_knows(flag),
    };
    (0..6).map(|bit| 1 << bit).filter(|flag| knows(*flag)).fold(0, |all, flag| all | flag)
}
