//! Runtime options: what an engine may say about the runtime binary, in the two types in which it says it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::{Any, RuncOptions, RuntimeOptions};
use crate::wire::{Malformed, Message};

/// The runtime that is used when nobody names one.
pub const DEFAULT_RUNTIME: &str = "tare";
/// Where the runtime keeps its state when nobody says: one directory per namespace below it.
pub const DEFAULT_ROOT: &str = "/run/containerd/tare";
/// How long a command of the runtime may take when nobody says: hooks may pull, images of checkpoints may be large.
pub const RUNTIME_TIMEOUT: Duration = Duration::from_secs(600);
/// The same for a command that only signals, freezes, changes or removes.
const SHORT_TIMEOUT: Duration = Duration::from_secs(60);

/// Options after defaults; this is also what `options.json` holds for the `delete` action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The runtime binary, a name or a path; empty is [`DEFAULT_RUNTIME`].
    pub binary_name: String,
    /// The runtime's `--root` without the namespace; empty is [`DEFAULT_ROOT`].
    pub root: String,
    /// Whether systemd makes the cgroups.
    pub systemd_cgroup: bool,
    /// `--no-pivot`.
    pub no_pivot_root: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// The cgroup of the shim itself.
    pub shim_cgroup: String,
    /// Owner of the container's pipes.
    pub io_uid: u32,
    /// Group of the container's pipes.
    pub io_gid: u32,
    /// Where a restore reads its image.
    pub criu_image_path: String,
    /// Where CRIU writes its logs.
    pub criu_work_path: String,
    /// What happens to output that nobody takes, unless a container says otherwise ([`crate::policy`]).
    pub log_policy: String,
    /// How many seconds a command of the runtime may take; 0 is [`RUNTIME_TIMEOUT`].
    pub runtime_timeout: u64,
}

impl Options {
    /// The runtime's name or path.
    #[must_use]
    pub fn binary(&self) -> &str {
        if self.binary_name.is_empty() { DEFAULT_RUNTIME } else { &self.binary_name }
    }

    /// The runtime's `--root` for a namespace.
    #[must_use]
    pub fn root_of(&self, namespace: &str) -> String {
        let root = if self.root.is_empty() { DEFAULT_ROOT } else { &self.root };
        format!("{}/{namespace}", root.trim_end_matches('/'))
    }

    /// How long the runtime may take for `verb`.
    #[must_use]
    pub fn limit(&self, verb: &str) -> Duration {
        let given = match self.runtime_timeout {
            0 => RUNTIME_TIMEOUT,
            seconds => Duration::from_secs(seconds),
        };
        let may_be_long = matches!(verb, "create" | "start" | "exec" | "checkpoint" | "restore");
        if may_be_long { given } else { given.min(SHORT_TIMEOUT) }
    }

    /// Reads the options that the engine sent. Unknown types are ignored: they are for another shim.
    ///
    /// # Errors
    /// [`Malformed`] when the message of a known type is none.
    pub fn from_any(any: Option<&Any>) -> Result<Options, Malformed> {
        let Some(any) = any else { return Ok(Options::default()) };
        match any.type_name() {
            "containerd.runc.v1.Options" => Ok(RuncOptions::decode(&any.value.0)?.into()),
            "runtimeoptions.v1.Options" => {
                let given = RuntimeOptions::decode(&any.value.0)?;
                let body = if given.config_body.0.is_empty() && !given.config_path.is_empty() {
                    std::fs::read(&given.config_path).unwrap_or_default()
                } else {
                    given.config_body.0
                };
                Ok(from_toml(&String::from_utf8_lossy(&body)))
            }
            _ => Ok(Options::default()),
        }
    }
}

impl From<RuncOptions> for Options {
    fn from(o: RuncOptions) -> Self {
        Options {
            binary_name: o.binary_name,
            root: o.root,
            systemd_cgroup: o.systemd_cgroup,
            no_pivot_root: o.no_pivot_root,
            no_new_keyring: o.no_new_keyring,
            shim_cgroup: o.shim_cgroup,
            io_uid: o.io_uid,
            io_gid: o.io_gid,
            criu_image_path: o.criu_image_path,
            criu_work_path: o.criu_work_path,
            ..Options::default()
        }
    }
}

/// The `options` section of an engine's configuration: `Key = value` lines with strings, booleans and numbers, which is all
/// that such a section holds. Anything else is for somebody else and is skipped.
fn from_toml(text: &str) -> Options {
    let mut made = Options::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim().trim_matches('"'), value.trim());
        let on = value.starts_with("true");
        let number = || value.split('#').next().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        match key {
            "BinaryName" => made.binary_name = toml_string(value),
            "Root" => made.root = toml_string(value),
            "ShimCgroup" => made.shim_cgroup = toml_string(value),
            "CriuImagePath" => made.criu_image_path = toml_string(value),
            "CriuWorkPath" => made.criu_work_path = toml_string(value),
            "LogPolicy" => made.log_policy = toml_string(value),
            "RuntimeTimeout" => made.runtime_timeout = number().into(),
            "SystemdCgroup" => made.systemd_cgroup = on,
            "NoPivotRoot" => made.no_pivot_root = on,
            "NoNewKeyring" => made.no_new_keyring = on,
            "IoUid" => made.io_uid = number(),
            "IoGid" => made.io_gid = number(),
            _ => {}
        }
    }
    made
}

/// A TOML string: literal in single quotes, or basic in double quotes with its escapes of quote and backslash.
fn toml_string(value: &str) -> String {
    if let Some(literal) = value.strip_prefix('\'') {
        return literal.split('\'').next().unwrap_or_default().to_owned();
    }
    let Some(basic) = value.strip_prefix('"') else { return String::new() };
    let mut out = String::new();
    let mut chars = basic.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => out.extend(chars.next()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Options, from_toml};
    use crate::api::{Any, RuncOptions, RuntimeOptions};
    use crate::wire::Bytes;

    #[test]
    fn runc_options_are_read() {
        let sent =
            RuncOptions { binary_name: "crun".into(), systemd_cgroup: true, io_uid: 7, ..RuncOptions::default() };
        let read = Options::from_any(Some(&Any::of("containerd.runc.v1.Options", &sent))).unwrap();
        assert_eq!((read.binary(), read.systemd_cgroup, read.io_uid), ("crun", true, 7));
    }

    #[test]
    fn a_toml_section_is_read() {
        let body = b"[options]\n  BinaryName = \"/usr/bin/a \\\"b\"\n SystemdCgroup = true # yes\nIoGid = 12\nRoot = '/r'\nOdd = [1]\n";
        let sent = RuntimeOptions { config_body: Bytes(body.to_vec()), ..RuntimeOptions::default() };
        let read = Options::from_any(Some(&Any::of("runtimeoptions.v1.Options", &sent))).unwrap();
        assert_eq!(read.binary_name, "/usr/bin/a \"b");
        assert_eq!((read.systemd_cgroup, read.io_gid), (true, 12));
        assert_eq!(read.root_of("ns"), "/r/ns");
    }

    #[test]
    fn unknown_types_and_absence_mean_defaults() {
        let odd = Any { type_url: "some.other.Type".into(), value: Bytes(vec![0xff]) };
        assert_eq!(Options::from_any(Some(&odd)).unwrap(), Options::default());
        assert_eq!(Options::from_any(None).unwrap().binary(), "tare");
        assert_eq!(Options::default().root_of("k8s.io"), "/run/containerd/tare/k8s.io");
        assert!(
            Options::from_any(Some(&Any { type_url: "containerd.runc.v1.Options".into(), value: Bytes(vec![0xff]) }))
                .is_err()
        );
    }

    #[test]
    fn false_is_not_true() {
        assert!(!from_toml("SystemdCgroup = false").systemd_cgroup);
    }
}
