//! `features`: what this runtime can do, for engines.

use super::{Context, Outcome};
use crate::container;
use crate::features::{Seccomp, features_json};

/// The architectures that the seccomp compiler has tables of.
const ARCHS: &[&str] =
    &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];

/// `features`.
pub(super) fn features(cx: &Context) -> Outcome {
    let text = features_json(Seccomp::new(ARCHS)).map_err(|e| container::Error::new(e.to_string()))?;
    cx.print(&text)
}
