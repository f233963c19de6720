//! `spec`: a configuration to begin with.

use std::io::Write as _;
use std::path::Path;

use super::Outcome;
use crate::cli::SpecFile;
use crate::container;
use crate::default_spec::default_config;
use crate::sys::process;

/// `spec`: writes `config.json` where there is none yet.
pub(super) fn spec(ask: &SpecFile) -> Outcome {
    let ids = ask.rootless.then(process::effective_ids);
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let path = ask.bundle.as_deref().unwrap_or(Path::new(".")).join("config.json");
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = file.and_then(|mut f| f.write_all(default_config(ids, unified).as_bytes()));
    match written {
        Ok(()) => Ok(0),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(container::Error::new(format!("File {} exists. Remove it first", path.display())).into())
        }
        Err(e) => Err(container::Error::new(format!("{}: {e}", path.display())).into()),
    }
}
