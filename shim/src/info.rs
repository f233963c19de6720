//! `-info`: what the runtime can do, in the engine's words. Engines ask at their first Create and before they use id-mapped
//! or recursively read-only mounts.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use crate::api::{Any, RuntimeInfo, RuntimeVersion};
use crate::options::Options;
use crate::runtime::find;
use crate::wire::{Bytes, Message};

/// The type under which engines know the runtime's features.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
const INPUT: u64 = 1 << 20;

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
    let output = Command::new(&binary)
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", binary.display()))?;
    Ok((output.status.success() && !output.stdout.is_empty()).then_some(output.stdout))
}
