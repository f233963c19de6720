//! The capability sets of a process: capabilities(7).

use std::collections::BTreeSet;

use crate::error::Problems;
use crate::field::Field;
use crate::spec::{Capabilities, Str};

/// The kernel's capabilities by number (include/uapi/linux/capability.h).
pub const NAMES: [&str; 41] = crate::abi::CAPABILITIES;

/// The number of a capability, if it has one. Names are taken literally, as other runtimes take them.
pub fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// A set as the kernel's bits; unknown names are left out.
pub fn mask(names: &[Str<'_>]) -> u64 {
    names.iter().filter_map(|name| number(name)).fold(0, |mask, bit| mask | 1 << bit)
}

/// The ambient set that the kernel will grant: only what is both permitted and inheritable can be raised.
pub fn ambient(sets: &Capabilities<'_>) -> u64 {
    mask(&sets.ambient) & mask(&sets.permitted) & mask(&sets.inheritable)
}

/// Adds what is wrong with the sets.
///
/// Unknown names are warned of and ignored, as config.md wants. So are ambient ones that cannot be raised: engines of
/// before 2022 wrote such sets, and the process gets less, never more, than was asked for.
pub(super) fn check(sets: &Capabilities<'_>, problems: &mut Problems) {
    let all = [&sets.bounding, &sets.effective, &sets.inheritable, &sets.permitted, &sets.ambient];
    let unknown: BTreeSet<&str> =
        all.into_iter().flatten().map(|name| &**name).filter(|name| number(name).is_none()).collect();
    if !unknown.is_empty() {
        let names = unknown.into_iter().collect::<Vec<_>>().join(" ");
        let text = format!("ignoring unknown or unavailable capabilities: [{names}]");
        problems.warn(Field::new("process.capabilities"), text);
    }
    let beyond = mask(&sets.effective) & !mask(&sets.permitted);
    if beyond != 0 {
        let text = format!("{} cannot be effective without being permitted", names(beyond).join(", "));
        problems.error(Field::new("process.capabilities.effective"), text);
    }
    for name in names(mask(&sets.ambient) & !ambient(sets)) {
        let text = format!("can't raise ambient capability {name}: it is not both permitted and inheritable");
        problems.warn(Field::new("process.capabilities.ambient"), text);
    }
}

/// The names of a set of bits, in the order of their numbers.
fn names(mask: u64) -> Vec<&'static str> {
    NAMES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| *name).collect()
}
