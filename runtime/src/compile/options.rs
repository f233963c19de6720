//! Mount options: the table of config.md, mount(8)'s names, and the two extensions of other runtimes that engines use.

use crate::abi::{attr, propagation};
use crate::op::Attr;

/// What the options of one mount say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options<'a> {
    /// Attributes and propagation.
    pub attr: Attr,
    /// `bind` or `rbind`; the latter is recursive.
    pub bind: Option<bool>,
    /// `remount`.
    pub remount: bool,
    /// `idmap` or `ridmap`; the latter is recursive.
    pub idmap: Option<bool>,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `copy-symlink`.
    pub copy_symlink: bool,
    /// `src-nofollow`.
    pub src_nofollow: bool,
    /// `dest-nofollow`.
    pub dest_nofollow: bool,
    /// MS_… flags as mount(2) would take them.
    pub ms: u64,
    /// Flags of the superblock that fsconfig(2) takes by name.
    pub sb: Vec<&'static str>,
    /// A flag was given that only mount(2) takes.
    pub only_ms: bool,
    /// What is left for the filesystem.
    pub data: Vec<&'a str>,
}

enum Means {
    /// (attributes set, attributes cleared, MS_ flags set, cleared, name for fsconfig)
    Flag(u64, u64, u64, u64, &'static str),
    Prop(u64, bool),
    Word,
}

const MS_RDONLY: u64 = 1;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_SYNCHRONOUS: u64 = 16;
const MS_MANDLOCK: u64 = 64;
const MS_DIRSYNC: u64 = 128;
const MS_NOSYMFOLLOW: u64 = 256;
const MS_NOATIME: u64 = 1024;
const MS_NODIRATIME: u64 = 2048;
const MS_SILENT: u64 = 1 << 15;
const MS_POSIXACL: u64 = 1 << 16;
const MS_RELATIME: u64 = 1 << 21;
const MS_I_VERSION: u64 = 1 << 23;
const MS_STRICTATIME: u64 = 1 << 24;
const MS_LAZYTIME: u64 = 1 << 25;
/// Flags that only mount(2) knows.
const ONLY_MS: u64 = MS_SILENT | MS_POSIXACL | MS_I_VERSION;

/// Every option that this runtime knows, for `features`; anything else is handed to the filesystem.
pub const KNOWN: &[&str] = &[
    "acl",
    "async",
    "atime",
    "bind",
    "copy-symlink",
    "defaults",
    "dest-nofollow",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "src-nofollow",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

fn meaning(option: &str) -> Option<Means> {
    use Means::{Flag, Prop, Word};
    Some(match option {
        "defaults" | "bind" | "rbind" | "remount" | "idmap" | "ridmap" | "tmpcopyup" | "copy-symlink"
        | "src-nofollow" | "dest-nofollow" => Word,
        "ro" => Flag(attr::RDONLY, 0, MS_RDONLY, 0, "ro"),
        "rw" => Flag(0, attr::RDONLY, 0, MS_RDONLY, "rw"),
        "nosuid" => Flag(attr::NOSUID, 0, MS_NOSUID, 0, ""),
        "suid" => Flag(0, attr::NOSUID, 0, MS_NOSUID, ""),
        "nodev" => Flag(attr::NODEV, 0, MS_NODEV, 0, ""),
        "dev" => Flag(0, attr::NODEV, 0, MS_NODEV, ""),
        "noexec" => Flag(attr::NOEXEC, 0, MS_NOEXEC, 0, ""),
        "exec" => Flag(0, attr::NOEXEC, 0, MS_NOEXEC, ""),
        "nosymfollow" => Flag(attr::NOSYMFOLLOW, 0, MS_NOSYMFOLLOW, 0, ""),
        "symfollow" => Flag(0, attr::NOSYMFOLLOW, 0, MS_NOSYMFOLLOW, ""),
        "nodiratime" => Flag(attr::NODIRATIME, 0, MS_NODIRATIME, 0, ""),
        "diratime" => Flag(0, attr::NODIRATIME, 0, MS_NODIRATIME, ""),
        // The access time modes exclude each other: the field is cleared, then one is set (relatime is the field's zero).
        "noatime" => Flag(attr::NOATIME, attr::ATIME, MS_NOATIME, MS_STRICTATIME | MS_RELATIME, ""),
        "strictatime" => Flag(attr::STRICTATIME, attr::ATIME, MS_STRICTATIME, MS_NOATIME | MS_RELATIME, ""),
        "relatime" => Flag(0, attr::ATIME, MS_RELATIME, MS_NOATIME | MS_STRICTATIME, ""),
        "atime" => Flag(0, attr::ATIME, 0, MS_NOATIME, ""),
        "nostrictatime" => Flag(0, attr::ATIME, 0, MS_STRICTATIME, ""),
        // What stays when no mode is set is relatime again (mount(2)): as an attribute this one takes nothing away.
        "norelatime" => Flag(0, 0, 0, MS_RELATIME, ""),
        "sync" => Flag(0, 0, MS_SYNCHRONOUS, 0, "sync"),
        "async" => Flag(0, 0, 0, MS_SYNCHRONOUS, "async"),
        "dirsync" => Flag(0, 0, MS_DIRSYNC, 0, "dirsync"),
        "lazytime" => Flag(0, 0, MS_LAZYTIME, 0, "lazytime"),
        "nolazytime" => Flag(0, 0, 0, MS_LAZYTIME, "nolazytime"),
        "mand" => Flag(0, 0, MS_MANDLOCK, 0, "mand"),
        "nomand" => Flag(0, 0, 0, MS_MANDLOCK, "nomand"),
        "silent" => Flag(0, 0, MS_SILENT, 0, ""),
        "loud" => Flag(0, 0, 0, MS_SILENT, ""),
        "acl" => Flag(0, 0, MS_POSIXACL, 0, ""),
        "noacl" => Flag(0, 0, 0, MS_POSIXACL, ""),
        "iversion" => Flag(0, 0, MS_I_VERSION, 0, ""),
        "noiversion" => Flag(0, 0, 0, MS_I_VERSION, ""),
        "private" => Prop(propagation::PRIVATE, false),
        "rprivate" => Prop(propagation::PRIVATE, true),
        "shared" => Prop(propagation::SHARED, false),
        "rshared" => Prop(propagation::SHARED, true),
        "slave" => Prop(propagation::SLAVE, false),
        "rslave" => Prop(propagation::SLAVE, true),
        "unbindable" => Prop(propagation::UNBINDABLE, false),
        "runbindable" => Prop(propagation::UNBINDABLE, true),
        _ => return None,
    })
}

/// The attributes of a recursive option: `r` before an option of the same table.
fn recursive(option: &str) -> Option<(u64, u64)> {
    let plain = option.strip_prefix('r')?;
    let known = [
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "nosymfollow",
        "symfollow",
        "nodiratime",
        "diratime",
        "noatime",
        "atime",
        "strictatime",
        "nostrictatime",
        "relatime",
        "norelatime",
    ];
    match meaning(known.into_iter().find(|k| *k == plain)?)? {
        Means::Flag(set, clear, ..) => Some((set, clear)),
        _ => None,
    }
}

/// Reads the options of one mount, the later one winning where two contradict each other.
pub fn parse<'a>(list: impl Iterator<Item = &'a str>) -> Options<'a> {
    let mut o = Options::default();
    for option in list {
        match meaning(option) {
            Some(Means::Flag(_, _, _, ms_clear, _)) if negates_another(option, o.attr.set) => o.ms &= !ms_clear,
            Some(Means::Flag(set, clear, ms, ms_clear, sb)) => {
                change(&mut o.attr.set, &mut o.attr.clear, set, clear);
                o.ms = (o.ms & !ms_clear) | ms;
                o.only_ms = o.ms & ONLY_MS != 0;
                if !sb.is_empty() {
                    o.sb.push(sb);
                }
            }
            Some(Means::Prop(kind, rec)) => {
                o.attr.propagation = kind;
                o.attr.rec_propagation = rec;
            }
            Some(Means::Word) => word(&mut o, option),
            None => match recursive(option) {
                Some(_) if negates_another(&option[1..], o.attr.rec_set) => {}
                Some((set, clear)) => change(&mut o.attr.rec_set, &mut o.attr.rec_clear, set, clear),
                None => o.data.push(option),
            },
        }
    }
    o
}

/// mount(8): `atime` takes back `noatime` and nothing else, `nostrictatime` only `strictatime`. The modes share one field, so
/// an option that takes back another than the one chosen before must leave it alone.
fn negates_another(option: &str, set: u64) -> bool {
    match option {
        "atime" => set & attr::ATIME == attr::STRICTATIME,
        "nostrictatime" => set & attr::ATIME == attr::NOATIME,
        _ => false,
    }
}

fn word(o: &mut Options<'_>, option: &str) {
    match option {
        "bind" => o.bind = o.bind.or(Some(false)),
        "rbind" => o.bind = Some(true),
        "remount" => o.remount = true,
        "idmap" => o.idmap = o.idmap.or(Some(false)),
        "ridmap" => o.idmap = Some(true),
        "tmpcopyup" => o.copy_up = true,
        "copy-symlink" => o.copy_symlink = true,
        "src-nofollow" => o.src_nofollow = true,
        "dest-nofollow" => o.dest_nofollow = true,
        _ => {}
    }
}

/// Applies one option to a pair of masks. A multi-bit field (access time) is cleared as a whole and then set: that is
/// the form in which mount_setattr(2) takes it.
fn change(all_set: &mut u64, all_clear: &mut u64, set: u64, clear: u64) {
    *all_set = (*all_set & !clear) | set;
    *all_clear |= clear;
    if clear & attr::ATIME == 0 {
        *all_clear &= !set;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opts(list: &'static str) -> Options<'static> {
        parse(list.split(','))
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        let o = opts("ro,nosuid,rw,suid,nodev");
        assert_eq!((o.attr.set, o.attr.clear), (attr::NODEV, attr::RDONLY | attr::NOSUID));
        let o = opts("rw,ro");
        assert_eq!((o.attr.set, o.attr.clear), (attr::RDONLY, 0));
    }

    #[test]
    fn access_times_clear_their_field() {
        let o = opts("relatime,noatime");
        assert_eq!((o.attr.set, o.attr.clear), (attr::NOATIME, attr::ATIME));
        let o = opts("noatime,strictatime,nodiratime");
        assert_eq!((o.attr.set, o.attr.clear), (attr::STRICTATIME | attr::NODIRATIME, attr::ATIME));
        assert_eq!(opts("strictatime,relatime").attr.set, 0);
    }

    #[test]
    fn an_access_time_is_taken_back_by_its_own_opposite_only() {
        for (list, set) in [
            ("noatime,norelatime", attr::NOATIME),
            ("noatime,nostrictatime", attr::NOATIME),
            ("strictatime,norelatime", attr::STRICTATIME),
            ("strictatime,atime", attr::STRICTATIME),
            ("noatime,atime", 0),
            ("strictatime,nostrictatime", 0),
        ] {
            let recursive: String = list.split(',').map(|o| format!("r{o},")).collect();
            assert_eq!((opts(list).attr.set, parse(recursive.split(',')).attr.rec_set), (set, set), "{list}");
        }
        assert_eq!((opts("norelatime").attr.set, opts("norelatime").attr.clear), (0, 0));
        assert_eq!(opts("relatime,norelatime").ms | opts("noatime,atime").ms, 0);
        assert_eq!(opts("noatime,nostrictatime").ms, MS_NOATIME);
    }

    #[test]
    fn recursive_ones_are_told_from_rbind_and_relatime() {
        let o = opts("rbind,rro,rnosuid,relatime,rrw");
        assert_eq!(o.bind, Some(true));
        assert_eq!((o.attr.rec_set, o.attr.rec_clear), (attr::NOSUID, attr::RDONLY));
        assert_eq!(o.attr.clear, attr::ATIME);
    }

    #[test]
    fn unknown_ones_are_the_filesystems() {
        assert_eq!(opts("mode=755,newinstance,ro").data, ["mode=755", "newinstance"]);
    }

    #[test]
    fn every_known_one_is_understood() {
        for option in KNOWN {
            assert!(meaning(option).is_some() || recursive(option).is_some(), "{option}");
        }
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn flags_of_the_old_call_are_kept_for_it() {
        assert!(opts("silent").only_ms && !opts("silent,loud").only_ms && opts("iversion").ms == MS_I_VERSION);
    }
}
