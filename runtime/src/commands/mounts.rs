//! `mounts add` and `mounts remove`.

use std::path::Path;

use super::{Context, Outcome};
use crate::cli::Mounts;
use crate::container::{self, Error};
use crate::sys::io_text;

/// `mounts add`.
pub(super) fn add(cx: &Context, ask: &Mounts) -> Outcome {
    container::mounts::add(&cx.root().0, &ask.id, &read(&ask.file)?)?;
    Ok(0)
}

/// `mounts remove`.
pub(super) fn remove(cx: &Context, ask: &Mounts) -> Outcome {
    container::mounts::remove(&cx.root().0, &ask.id, &read(&ask.file)?)?;
    Ok(0)
}

fn read(path: &Path) -> container::Result<Vec<u8>> {
    container::read_bounded(path).map_err(|e| Error::new(format!("{}: {}", path.display(), io_text(&e))))
}
