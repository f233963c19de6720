//! The bundle directory: what the engine put there and what the shim leaves there for the `delete` action.
//!
//! | file | who writes it | who reads it |
//! | --- | --- | --- |
//! | `config.json` | engine | shim (annotations, pid namespace), runtime |
//! | `address` | `start` | containerd ≤ 1.7 after a restart |
//! | `options.json`, `runtime` | Create, before anything happens | `delete`: its presence means "the runtime may have something" |
//! | `init.pid`, `exec-ID.pid` | runtime | shim, `delete` |
//! | `log.json` | runtime | shim: the text of an error |

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::options::Options;
use crate::policy;

/// What of `config.json` concerns a supervisor.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config<'a> {
    /// Annotations: two for grouping, one for the log policy.
    #[serde(borrow)]
    pub annotations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// The Linux section.
    #[serde(borrow)]
    pub linux: Linux<'a>,
}

/// The `linux` section.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Linux<'a> {
    /// Namespaces.
    #[serde(borrow)]
    pub namespaces: Vec<Namespace<'a>>,
}

/// One namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace<'a> {
    /// Its type, `pid` for example.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Empty when a new one is made.
    #[serde(borrow)]
    pub path: Cow<'a, str>,
}

impl Config<'_> {
    /// Whether the container's end ends all its processes: the kernel does that for the init of an own pid namespace.
    #[must_use]
    pub fn owns_pid_namespace(&self) -> bool {
        self.linux.namespaces.iter().any(|n| n.kind == "pid" && n.path.is_empty())
    }

    /// The group that the container shares a shim with.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"]
            .iter()
            .find_map(|name| self.annotations.get(*name))
            .map(AsRef::as_ref)
            .filter(|group| !group.is_empty())
    }
}

/// What a supervisor takes from a `config.json`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Whether the container has its own pid namespace.
    pub owns_pids: bool,
    /// The group that it shares a shim with.
    pub group: Option<String>,
    /// Its log policy, unread.
    pub log_policy: Option<String>,
}

/// Reads a `config.json`.
///
/// # Errors
/// A sentence with the file and the place in it.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<About, String> {
    let config: Config<'_> = serde_json::from_slice(bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(About {
        owns_pids: config.owns_pid_namespace(),
        group: config.group().map(str::to_owned),
        log_policy: config.annotations.get(policy::ANNOTATION).map(|text| text.to_string()),
    })
}

/// A bundle.
#[derive(Debug, Clone)]
pub struct Bundle(PathBuf);

impl Bundle {
    /// The bundle at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Bundle {
        Bundle(path.into())
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where the container's root file system is mounted.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// What its `config.json` says.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn about(&self) -> Result<About, String> {
        let path = self.file("config.json");
        let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        parse(&path, &bytes)
    }

    /// Where something large may lie: containerd's `work` is on a disk, the bundle itself in memory.
    #[must_use]
    pub fn roomy(&self) -> PathBuf {
        let work = self.file("work");
        if work.is_dir() { work } else { self.0.clone() }
    }

    /// Says, before anything happens, which runtime is about to make a container here.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn begin(&self, options: &Options) -> io::Result<()> {
        fs::write(self.file("options.json"), serde_json::to_vec(options)?)?;
        fs::write(self.file("runtime"), options.binary())
    }

    /// Says that the runtime has nothing of this container any more.
    pub fn end(&self) {
        for name in ["runtime", "options.json", "init.pid"] {
            // A file that is absent already says the same.
            let _ = fs::remove_file(self.file(name));
        }
    }

    /// The options of a container that may still exist; `None` when there is none.
    #[must_use]
    pub fn begun(&self) -> Option<Options> {
        let runtime = fs::read_to_string(self.file("runtime")).ok()?;
        // The shim can have been killed between its two files or while it wrote one: the name of the runtime is enough.
        let mut options: Options =
            fs::read(self.file("options.json")).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        if options.binary_name.is_empty() && !runtime.trim().is_empty() {
            runtime.trim().clone_into(&mut options.binary_name);
        }
        Some(options)
    }

    /// The pid in a pid file; `None` when there is none.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        fs::read_to_string(self.file(name)).ok()?.trim().parse().ok().filter(|&pid| pid > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{About, parse};
    use std::path::Path;

    fn read(text: &str) -> About {
        parse(Path::new("config.json"), text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_of_the_two_annotations_wins() {
        let both = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"g"}}"#;
        assert_eq!(read(both).group.as_deref(), Some("g"));
        assert_eq!(
            read(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"p\u006fd"}}"#).group.as_deref(),
            Some("pod")
        );
        assert_eq!(read(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":""}}"#).group, None);
        assert_eq!(read("{}").group, None);
    }

    #[test]
    fn an_own_pid_namespace_is_one_without_a_path() {
        assert!(read(r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}"#).owns_pids);
        assert!(!read(r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#).owns_pids);
        assert!(!read(r#"{"linux":{"namespaces":[]}}"#).owns_pids);
        assert!(!read("{}").owns_pids);
    }

    #[test]
    fn a_broken_config_names_the_file() {
        assert!(parse(Path::new("/b/config.json"), b"{").unwrap_err().starts_with("/b/config.json: "));
    }
}
