//! `mounts add` and `mounts remove`.

use std::io::Read as _;
use std::path::Path;

use super::{Context, Outcome};
use crate::cli::Mounts;
use crate::container::{self, Error};
use crate::parse::SIZE_LIMIT;
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
    let limit = u64::try_from(SIZE_LIMIT).unwrap_or(u64::MAX) + 1;
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text));
    read.map_err(|e| Error::new(format!("{}: {}", path.display(), io_text(&e))))?;
    Ok(text)
}
