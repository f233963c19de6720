//! `-info`: what the runtime can do, in the engine's words. Engines ask at their first Create and before they use id-mapped
//! or recursively read-only mounts.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::api::{Any, RuntimeInfo, RuntimeVersion};
use crate::delete::{PATIENCE, finish};
use crate::options::Options;
use crate::runtime::find;
use crate::wire::{Bytes, Message};

/// The type under which engines know the runtime's features.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
const INPUT: u64 = 1 << 20;
const OUTPUT: u64 = 1 << 20;

/// Builds the answer from the options on standard input.
///
/// # Errors
/// A sentence when the input is no message or the runtime cannot be asked.
pub fn info() -> Result<Vec<u8>, String> {
    let mut input = Vec::new();
    io::stdin().take(INPUT).read_to_end(&mut input).map_err(|e| format!("standard input: {e}"))?;
    let any = match input.is_empty() {
        true => None,
        false => Some(Any::decode(&input).map_err(|e| format!("standard input: {e}"))?),
    };
    let options = Options::from_any(any.as_ref()).map_err(|e| format!("standard input: {e}"))?;
    let features = ask(&options, "features")?;
    // An old runtime has no such command, which is an answer, too.
    let features = features.map(|json| Any { type_url: FEATURES.to_owned(), value: Bytes(json) });
    let made = RuntimeInfo {
        name: "io.containerd.tare.v2".to_owned(),
        version: Some(RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_owned(), revision: String::new() }),
        options: any,
        features,
        annotations: Vec::new(),
    };
    Ok(made.encode())
}

/// The standard output of a runtime command, `None` when the command fails.
fn ask(options: &Options, command: &str) -> Result<Option<Vec<u8>>, String> {
    let binary = find(options.binary())?;
    let failed = |e: io::Error| format!("{}: {e}", binary.display());
    // A file in memory: whatever it says, it can neither block nor make us read while we watch the time.
    let mut words = memfd_create(c"features", MFdFlags::MFD_CLOEXEC).map(File::from).map_err(|e| failed(e.into()))?;
    let child = Command::new(&binary)
        .arg(command)
        .stdin(Stdio::null())
        .stdout(words.try_clone().map_err(failed)?)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let status =
        finish(child, Instant::now() + PATIENCE).map_err(|e| format!("{} {command}: {e}", binary.display()))?;
    let mut output = Vec::new();
    words.rewind().and_then(|()| words.take(OUTPUT).read_to_end(&mut output)).map_err(failed)?;
    Ok((status.success() && !output.is_empty()).then_some(output))
}
