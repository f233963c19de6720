//! What a config must not say, as far as that can be known without looking at the host.
//!
//! Every rule of config.md and config-linux.md that the text alone can break, and every value that the kernel refuses
//! whatever the host looks like. All problems are collected, each with its field, so that a config is mended in one go.
//!
//! Elsewhere: the values of `linux.resources` (the cgroup chapter of compile knows the controllers), `linux.seccomp`
//! (its compiler knows actions and calls), and all that the host decides: whether a namespace's path is of its type,
//! which capabilities and filesystems the kernel has, whether a directory exists.

pub mod capabilities;
mod hooks;
mod linux;
mod memory;
mod mounts;
mod namespaces;
mod net_devices;
mod process;
pub mod sysctl;
#[cfg(test)]
mod tests;

pub use memory::memory_policy;
pub use process::cpu_list;

use crate::error::Problems;
use crate::field::Field;
use crate::spec::{Linux, Process, Spec};

/// Newest minor version of the specification whose properties are known here.
const MINOR: u64 = 3;

/// The kernel's `__NEW_UTS_LEN`, which bounds both names of a UTS namespace, in bytes.
const UTS_NAME_LIMIT: usize = 64;

/// Adds all that is wrong with a config to `problems`. A config without `process` is right: only `start` needs one.
pub fn spec(spec: &Spec<'_>, problems: &mut Problems) {
    version(&spec.oci_version, problems);
    match &spec.root {
        None => problems.error(Field::new("root"), "is required"),
        Some(root) if root.path.is_empty() => problems.error(Field::new("root.path"), "is empty"),
        Some(root) => no_nul(&root.path, || Field::new("root.path"), problems),
    }
    let linux = spec.linux.as_ref();
    if let Some(wanted) = &spec.process {
        process::check(wanted, linux, problems);
    }
    uts_name(spec.hostname.as_deref(), "hostname", linux, problems);
    uts_name(spec.domainname.as_deref(), "domainname", linux, problems);
    mounts::check(&spec.mounts, linux, problems);
    if let Some(wanted) = &spec.hooks {
        hooks::check(wanted, problems);
    }
    if spec.annotations.contains_key("") {
        problems.error(Field::new("annotations").key(""), "has an empty key");
    }
    if let Some(wanted) = linux {
        namespaces::check(wanted, problems);
        sysctl::check(wanted, problems);
        net_devices::check(wanted, problems);
        linux::check(wanted, problems);
    }
}

/// Adds all that is wrong with a lone process to `problems`: one that `exec` puts into a container whose config has
/// `linux`.
pub fn process(process: &Process<'_>, linux: Option<&Linux<'_>>, problems: &mut Problems) {
    process::check(process, linux, problems);
}

/// config.md, "Specification version".
/// Checks mounts by themselves, as `mounts add` takes them.
pub fn mounts(list: &[crate::spec::Mount<'_>], problems: &mut Problems) {
    mounts::check(list, None, problems);
}

fn version(version: &str, problems: &mut Problems) {
    let field = || Field::new("ociVersion");
    match semver(version) {
        None => problems.error_hint(field(), format!("{version:?} is no SemVer 2.0.0 version"), "write it as 1.3.0"),
        Some((1, minor)) if minor > MINOR => {
            let text = format!("{version} is newer than 1.{MINOR}; properties that it added are ignored");
            problems.warn(field(), text);
        }
        Some((1, _)) => {}
        Some((major, _)) => {
            problems.error(field(), format!("{version} has major version {major}; only 1 is supported"))
        }
    }
}

/// Major and minor of a version, if it is one: <https://semver.org/spec/v2.0.0.html>.
fn semver(version: &str) -> Option<(u64, u64)> {
    let (rest, build) = version.split_once('+').map_or((version, None), |(a, b)| (a, Some(b)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
    let number = |s: &str| {
        let plain = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) && (s == "0" || !s.starts_with('0'));
        if plain { s.parse::<u64>().ok() } else { None }
    };
    let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let good = build.is_none_or(|b| b.split('.').all(word))
        && pre.is_none_or(|p| p.split('.').all(|s| word(s) && (!digits(s) || number(s).is_some())));
    let mut parts = core.split('.').map(number);
    let (major, minor, _patch) = (parts.next()??, parts.next()??, parts.next()??);
    (good && parts.next().is_none()).then_some((major, minor))
}

/// A host or domain name; empty is absent.
fn uts_name(name: Option<&str>, path: &'static str, linux: Option<&Linux<'_>>, problems: &mut Problems) {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return };
    no_nul(name, || Field::new(path), problems);
    if name.len() > UTS_NAME_LIMIT {
        problems.error(Field::new(path), format!("is {} bytes long; {UTS_NAME_LIMIT} is the limit", name.len()));
    }
    if linux.is_none_or(|linux| namespaces::of(linux, "uts").is_none()) {
        problems.error(Field::new(path), namespaces::lacking("uts"));
    }
}

/// The kernel takes strings up to their first NUL: what stands behind one would be silently lost.
fn no_nul(text: &str, field: impl FnOnce() -> Field, problems: &mut Problems) {
    if text.as_bytes().contains(&0) {
        problems.error(field(), format!("{text:?} holds a NUL byte"));
    }
}

/// An absolute path.
fn absolute(path: &str, field: impl Fn() -> Field, problems: &mut Problems) {
    if !path.starts_with('/') {
        problems.error(field(), format!("{path:?} is no absolute path"));
    }
    no_nul(path, field, problems);
}
