//! Device rules: what a list of them means, and the shortest table that says the same to cgroup version 1.
//!
//! The meaning is the specification's: everything is denied at first, rules apply in their order, and for each device
//! and each kind of access the last rule that names it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::Problems;
use crate::field::Field;
use crate::spec::DeviceRule;

/// Kinds of access, as bits of `BPF_DEVCG_ACC_…` (linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(pub u8);

impl Access {
    /// mknod(2).
    pub const MKNOD: u8 = 1;
    /// Opening for reading.
    pub const READ: u8 = 2;
    /// Opening for writing.
    pub const WRITE: u8 = 4;
    /// All of them.
    pub const ALL: Access = Access(7);
    const RW: u8 = Self::READ | Self::WRITE;

    fn has(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.0 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Block or character device, as `BPF_DEVCG_DEV_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Block device.
    Block = 1,
    /// Character device.
    Char = 2,
}

/// The devices that a rule names; `None` names all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Block or character.
    pub kind: Option<Kind>,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
}

fn wider<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.is_none() || a == b
}

fn meet<T: PartialEq + Copy>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
    match (a, b) {
        (Some(x), Some(y)) if x != y => None,
        (a, b) => Some(a.or(b)),
    }
}

impl Key {
    /// Whether every device of `other` is one of these.
    pub fn covers(&self, other: &Key) -> bool {
        wider(self.kind, other.kind) && wider(self.major, other.major) && wider(self.minor, other.minor)
    }

    /// The devices that both name, if there can be any.
    fn meet(&self, other: &Key) -> Option<Key> {
        Some(Key {
            kind: meet(self.kind, other.kind)?,
            major: meet(self.major, other.major)?,
            minor: meet(self.minor, other.minor)?,
        })
    }

    fn is_all(&self) -> bool {
        *self == Key { kind: None, major: None, minor: None }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            None => "a",
            Some(Kind::Block) => "b",
            Some(Kind::Char) => "c",
        })?;
        for (before, number) in [(" ", self.major), (":", self.minor)] {
            f.write_str(before)?;
            match number {
                Some(n) => write!(f, "{n}")?,
                None => f.write_str("*")?,
            }
        }
        Ok(())
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// Which devices.
    pub key: Key,
    /// Which access.
    pub access: Access,
    /// Index in `linux.resources.devices`; none for the devices that every container may use.
    pub origin: Option<usize>,
}

/// What every container may use, whatever its rules say: making any node, and the harmless devices of config-linux.md
/// ("Default Devices"), pseudoterminals and tun, as all runtimes allow.
const DEFAULTS: [(Kind, Option<u32>, Option<u32>, Access); 11] = [
    (Kind::Char, None, None, Access(Access::MKNOD)),
    (Kind::Block, None, None, Access(Access::MKNOD)),
    (Kind::Char, Some(1), Some(3), Access::ALL),
    (Kind::Char, Some(1), Some(5), Access::ALL),
    (Kind::Char, Some(1), Some(7), Access::ALL),
    (Kind::Char, Some(1), Some(8), Access::ALL),
    (Kind::Char, Some(1), Some(9), Access::ALL),
    (Kind::Char, Some(5), Some(0), Access::ALL),
    (Kind::Char, Some(5), Some(2), Access::ALL),
    (Kind::Char, Some(10), Some(200), Access::ALL),
    (Kind::Char, Some(136), None, Access::ALL),
];

/// A list of rules without those that change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether what no rule names is allowed.
    pub allow: bool,
    /// The rules; a later one wins.
    pub rules: Vec<Rule>,
}

/// A policy as one default and its exceptions, the form that cgroup version 1 knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The default.
    pub allow: bool,
    /// What is denied of an allowing default, or allowed of a denying one. Each key has a kind.
    pub exceptions: BTreeMap<Key, Access>,
}

impl Policy {
    /// The policy of `linux.resources.devices`, with the devices that every container may use.
    pub fn new(devices: &[DeviceRule<'_>], problems: &mut Problems) -> Policy {
        let mut rules: Vec<Rule> =
            devices.iter().enumerate().filter_map(|(i, rule)| parse(i, rule, problems)).collect();
        rules.extend(DEFAULTS.iter().map(|&(kind, major, minor, access)| {
            let key = Key { kind: Some(kind), major, minor };
            Rule { allow: true, key, access, origin: None }
        }));
        Policy::of(&rules)
    }

    /// The policy of a list of rules.
    pub fn of(rules: &[Rule]) -> Policy {
        let last = rules.iter().rposition(|r| r.key.is_all() && r.access == Access::ALL);
        let allow = last.is_some_and(|i| rules[i].allow);
        let rest = &rules[last.map_or(0, |i| i + 1)..];
        let mut kept: Vec<Rule> = Vec::new();
        for (i, rule) in rest.iter().enumerate() {
            let shadowed = rest[i + 1..].iter().any(|r| r.key.covers(&rule.key) && r.access.has(rule.access));
            let idle = rule.allow == allow
                && !kept
                    .iter()
                    .any(|k| k.allow != allow && k.access.0 & rule.access.0 != 0 && k.key.meet(&rule.key).is_some());
            if !shadowed && !idle {
                kept.push(*rule);
            }
        }
        Policy { allow, rules: kept }
    }

    /// Whether nothing is left to be enforced.
    pub fn allows_everything(&self) -> bool {
        self.allow && self.rules.is_empty()
    }

    /// Index in the configuration of the rule that names exactly these devices.
    pub fn origin(&self, key: &Key) -> Option<usize> {
        self.rules.iter().find(|r| r.key == *key || r.key == Key { kind: None, ..*key })?.origin
    }

    /// Whether one kind of access to one device is allowed.
    fn decides(&self, device: &Key, access: Access) -> (bool, Option<usize>) {
        let rule = self.rules.iter().rev().find(|r| r.key.covers(device) && r.access.has(access));
        rule.map_or((self.allow, None), |r| (r.allow, r.origin))
    }

    /// The policy as a table.
    ///
    /// # Errors
    /// The index of a rule that takes devices out of a wider exception before it: version 1 keeps exceptions, but no
    /// exceptions of exceptions.
    pub fn table(&self) -> Result<Table, Option<usize>> {
        let mut table = Table { allow: self.allow, exceptions: BTreeMap::new() };
        let mut hole = false;
        for rule in self.rules.iter().flat_map(split) {
            if rule.allow == table.allow {
                hole |= table.remove(&rule);
            } else {
                table.exceptions.entry(rule.key).or_insert(Access(0)).0 |= rule.access.0;
            }
        }
        if hole {
            self.compare(&table)?;
        }
        table.close();
        table.shorten();
        Ok(table)
    }

    /// Compares with a table on one device of each sort that the rules can tell apart.
    fn compare(&self, table: &Table) -> Result<(), Option<usize>> {
        let numbers = |number: fn(&Key) -> Option<u32>| {
            let mut all: BTreeSet<u32> = self.rules.iter().filter_map(|r| number(&r.key)).collect();
            all.extend((0..).find(|n| !all.contains(n)));
            all
        };
        let (majors, minors) = (numbers(|k| k.major), numbers(|k| k.minor));
        for kind in [Kind::Block, Kind::Char] {
            for (&major, &minor) in majors.iter().flat_map(|major| minors.iter().map(move |minor| (major, minor))) {
                let device = Key { kind: Some(kind), major: Some(major), minor: Some(minor) };
                for access in [Access::MKNOD, Access::READ, Access::WRITE].map(Access) {
                    let (allow, origin) = self.decides(&device, access);
                    if allow != table.decides(&device, access) {
                        return Err(origin);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Table {
    fn decides(&self, device: &Key, access: Access) -> bool {
        self.allow != self.exceptions.iter().any(|(key, a)| key.covers(device) && a.has(access))
    }

    /// Takes a rule's devices out of the exceptions; true if one of these is wider, so that it had to stay.
    fn remove(&mut self, rule: &Rule) -> bool {
        let mut hole = false;
        self.exceptions.retain(|key, access| {
            if rule.key.covers(key) {
                access.0 &= !rule.access.0;
            } else if key.meet(&rule.key).is_some() && access.0 & rule.access.0 != 0 {
                hole = true;
            }
            access.0 != 0
        });
        hole
    }

    /// The kernel wants a single exception to allow all of an access: where one allows reading and another writing,
    /// a third must allow both to whoever opens for both.
    fn close(&mut self) {
        while !self.allow {
            let pairs = self.exceptions.iter().flat_map(|a| self.exceptions.iter().map(move |b| (a, b)));
            let missing = pairs.into_iter().find_map(|((a, x), (b, y))| {
                let (key, both) = (a.meet(b)?, Access(x.0 | y.0));
                let covered = |(k, z): (&Key, &Access)| k.covers(&key) && z.has(Access(Access::RW));
                (both.has(Access(Access::RW)) && !self.exceptions.iter().any(covered)).then_some((key, both))
            });
            let Some((key, access)) = missing else { return };
            self.exceptions.entry(key).or_insert(Access(0)).0 |= access.0;
        }
    }

    fn shorten(&mut self) {
        let all = self.exceptions.clone();
        self.exceptions
            .retain(|key, access| !all.iter().any(|(wide, a)| wide != key && wide.covers(key) && a.has(*access)));
    }
}

/// The same rule for block and for character devices where it names both.
fn split(rule: &Rule) -> impl Iterator<Item = Rule> + use<> {
    let rule = *rule;
    [Kind::Block, Kind::Char].into_iter().filter_map(move |kind| {
        let key = Key { kind: Some(kind), ..rule.key };
        rule.key.covers(&key).then_some(Rule { key, ..rule })
    })
}

fn parse(i: usize, rule: &DeviceRule<'_>, problems: &mut Problems) -> Option<Rule> {
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => Some(None),
        Some("b") => Some(Some(Kind::Block)),
        Some("c") => Some(Some(Kind::Char)),
        Some(kind) => {
            let text = format!("{kind:?} is none of a, b and c");
            problems.error(Field::at("linux.resources.devices[].type", &[i]), text);
            None
        }
    };
    let major = number(rule.major, "linux.resources.devices[].major", i, problems);
    let minor = number(rule.minor, "linux.resources.devices[].minor", i, problems);
    let mut access = Access(0);
    for letter in rule.access.as_deref().filter(|a| !a.is_empty()).unwrap_or("rwm").chars() {
        access.0 |= match letter {
            'r' => Access::READ,
            'w' => Access::WRITE,
            'm' => Access::MKNOD,
            _ => {
                let text = format!("{letter:?} is none of r, w and m");
                problems.error(Field::at("linux.resources.devices[].access", &[i]), text);
                return None;
            }
        };
    }
    let key = Key { kind: kind?, major: major?, minor: minor? };
    Some(Rule { allow: rule.allow, key, access, origin: Some(i) })
}

fn number(number: Option<i64>, field: &'static str, i: usize, problems: &mut Problems) -> Option<Option<u32>> {
    match number {
        None | Some(-1) => Some(None),
        Some(n) => match u32::try_from(n) {
            Ok(n) => Some(Some(n)),
            Err(_) => {
                problems.error(Field::at(field, &[i]), format!("{n} is no device number; -1 stands for all"));
                None
            }
        },
    }
}
