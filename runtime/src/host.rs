//! Finds the facts of this host, by fixed probes: nothing whose cost grows with what else runs here.

pub mod doctor;

use crate::facts::Facts;
use crate::run::cgroup;
use crate::sys::process;

/// What could not be found out.
#[derive(Debug)]
pub struct HostError(String);

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostError {}

/// Probes the host.
///
/// # Errors
/// /proc cannot be read, or the cgroup filesystem is mounted in a way that is none of the known ones.
pub fn facts() -> Result<Facts, HostError> {
    let status = read("/proc/thread-self/status")?;
    let hex = |name| field(&status, name).and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or(0);
    let (permitted, bounding) = (hex("CapPrm:"), hex("CapBnd:"));
    let (uid, gid) = process::effective_ids();
    Ok(Facts {
        uid,
        gid,
        in_user_namespace: uid_map_is_partial()?,
        permitted,
        bounding,
        last_cap: last_cap(permitted | bounding),
        cgroups: cgroup::probe().map_err(|e| HostError(e.to_string()))?,
        apparmor: is_yes("/sys/module/apparmor/parameters/enabled"),
        selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
        seccomp_flags: seccomp_flags(),
    })
}

fn read(path: &str) -> Result<String, HostError> {
    std::fs::read_to_string(path).map_err(|e| HostError(format!("cannot read {path}: {e}")))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The host's own user namespace maps every id to itself; any other map means that this is another namespace.
fn uid_map_is_partial() -> Result<bool, HostError> {
    let map = read("/proc/self/uid_map")?;
    Ok(map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

/// The highest capability that anyone here could have; the kernel says it where the runtime has fewer.
fn last_cap(held: u64) -> u8 {
    let said = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    let said = said.and_then(|text| text.trim().parse::<u8>().ok());
    said.unwrap_or_else(|| u8::try_from(63 - held.leading_zeros().min(63)).unwrap_or(0))
}

fn is_yes(path: &str) -> bool {
    std::fs::read(path).is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Which flags of seccomp(2) this kernel knows.
fn seccomp_flags() -> u32 {
    (0..6).map(|bit| 1 << bit).filter(|flag| process::seccomp_knows(*flag)).fold(0, |all, flag| all | flag)
}
