//! `linux.netDevices`: config-linux.md, "Network Devices".

use super::namespaces;
use crate::error::Problems;
use crate::field::Field;
use crate::spec::Linux;

/// The kernel's IFNAMSIZ, in bytes and with the NUL at the end.
const NAME_ROOM: usize = 16;

pub(super) fn check(linux: &Linux<'_>, problems: &mut Problems) {
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (name, device) in &linux.net_devices {
        let field = || Field::new("linux.netDevices").key(name);
        if let Some(text) = wrong(name) {
            problems.error(field(), text);
        }
        let new = device.name.as_deref().unwrap_or_default();
        let stem = new.strip_suffix("%d").unwrap_or(new);
        if stem.contains('%') {
            problems.error(field(), format!("name {new:?} has a % elsewhere than in a last %d"));
        } else if let Some(text) = wrong(new).filter(|_| !new.is_empty()) {
            problems.error(field(), format!("name {text}"));
        }
        let inside = if new.is_empty() { name } else { new };
        match taken.iter().find(|(other, _)| *other == inside && stem == new) {
            Some((_, first)) => {
                problems.error(field(), format!("is named {inside:?} inside, as linux.netDevices[{first:?}] is"));
            }
            None => taken.push((inside, name)),
        }
    }
    if let Some((name, _)) = linux.net_devices.iter().next()
        && namespaces::of(linux, "network").is_none()
    {
        problems.error(Field::new("linux.netDevices").key(name), namespaces::lacking("network"));
    }
}

/// What the kernel has against a name (dev_valid_name in net/core/dev.c).
fn wrong(name: &str) -> Option<String> {
    let bad = |c: char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace() || c == '\u{b}';
    if name.is_empty() || name == "." || name == ".." || name.contains(bad) {
        return Some(format!("{name:?} is no name of a network device"));
    }
    let most = NAME_ROOM - 1;
    (name.len() > most).then(|| format!("{name:?} is {} bytes long; {most} is the limit", name.len()))
}
