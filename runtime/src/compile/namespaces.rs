//! `linux.namespaces`, `uidMappings`, `gidMappings`, `timeOffsets`: who clones, who joins, what is mapped.

use super::{Chapter, cstring};
use crate::abi::clone;
use crate::field::Field;
use crate::op::{InitOp, JoinerOp, Kind, ParentOp, Slot};
use crate::plan::{Mark, OnErr, Step};
use crate::spec::{IdMapping, Linux};

/// The namespaces of a container: each kind is new, joined, or the runtime's own.
#[derive(Debug, Default, Clone)]
pub struct Namespaces {
    /// Flags of the kinds that are new.
    pub new: u64,
    /// The kinds that are joined, with their paths and indices.
    pub joined: Vec<(Kind, String, usize)>,
    /// Whether the user namespace is new or joined.
    pub user: bool,
}

impl Kind {
    /// The word of the specification.
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Pid => "pid",
            Kind::Network => "network",
            Kind::Mount => "mount",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// From the word of the specification.
    pub fn from_name(name: &str) -> Option<Kind> {
        [Kind::User, Kind::Pid, Kind::Network, Kind::Mount, Kind::Ipc, Kind::Uts, Kind::Cgroup, Kind::Time]
            .into_iter()
            .find(|k| k.name() == name)
    }

    /// The CLONE_NEW… flag.
    pub fn flag(self) -> u64 {
        match self {
            Kind::User => clone::NEWUSER,
            Kind::Pid => clone::NEWPID,
            Kind::Network => clone::NEWNET,
            Kind::Mount => clone::NEWNS,
            Kind::Ipc => clone::NEWIPC,
            Kind::Uts => clone::NEWUTS,
            Kind::Cgroup => clone::NEWCGROUP,
            Kind::Time => clone::NEWTIME,
        }
    }
}

impl Namespaces {
    /// Sorts the list of the config. Doubtful entries were reported by `validate`.
    pub fn of(linux: &Linux<'_>) -> Self {
        let mut all = Namespaces::default();
        for (i, ns) in linux.namespaces.iter().enumerate() {
            let Some(kind) = Kind::from_name(&ns.kind) else { continue };
            all.user |= kind == Kind::User;
            match ns.path.as_deref() {
                None | Some("") => all.new |= kind.flag(),
                Some(path) => all.joined.push((kind, path.to_owned(), i)),
            }
        }
        all
    }

    /// Whether the container has this kind to itself or shares it with a container, instead of with the runtime.
    pub fn has(&self, kind: Kind) -> bool {
        self.new & kind.flag() != 0 || self.joins(kind)
    }

    /// Whether this kind is new.
    pub fn is_new(&self, kind: Kind) -> bool {
        self.new & kind.flag() != 0
    }

    /// Whether this kind is joined.
    pub fn joins(&self, kind: Kind) -> bool {
        self.joined.iter().any(|(k, ..)| *k == kind)
    }

    /// Whether a process must stand between: joined namespaces and a time namespace reach only the children of whoever
    /// enters them, and a joined network of the host's cannot be entered from inside a new user namespace.
    pub fn needs_joiner(&self) -> bool {
        !self.joined.is_empty() || self.is_new(Kind::Time)
    }
}

/// The text of uid_map and gid_map.
pub fn map_text(mappings: &[IdMapping]) -> String {
    let mut text = String::new();
    for m in mappings {
        text.push_str(&format!("{} {} {}\n", m.container_id, m.host_id, m.size));
    }
    text
}

/// The id outside to which the container's root is mapped.
pub fn host_id(mappings: &[IdMapping], inside: u32) -> Option<u32> {
    mappings
        .iter()
        .find(|m| inside >= m.container_id && inside - m.container_id < m.size)
        .map(|m| m.host_id + (inside - m.container_id))
}

/// Opens what is joined, clones, joins.
pub(super) fn clone_and_join(ch: &mut Chapter<'_>, cgroup: Option<Slot>) {
    let ns = ch.namespaces.clone();
    let from = || Field::new("linux.namespaces");
    // The cgroup namespace must see the container's cgroup as its root, so it is made after the attach; the network
    // namespace takes the kernel half a millisecond, which init spends while the parent makes cgroups.
    let late = clone::NEWCGROUP | clone::NEWNET;
    let flags = ns.new & !late & !clone::NEWTIME;
    if !ns.needs_joiner() {
        ch.lanes.before.push(Step::parent(ParentOp::Clone { flags, cgroup, joiner: false }, from()));
    } else {
        let mut joins = Vec::new();
        for (kind, path, i) in &ns.joined {
            let field = Field::at("linux.namespaces[].path", &[*i]);
            let slot = ch.lanes.slot("joined namespace");
            let path = cstring(path, &field, ch.problems);
            ch.lanes.before.push(Step::parent(ParentOp::OpenNamespace { kind: *kind, path, slot }, field.clone()));
            joins.push((*kind, Step::joiner(JoinerOp::Join { kind: *kind, slot }, field)));
        }
        // Who has no rights gets them with a user namespace of its own, before all else.
        let first = if ch.facts.administers() { 0 } else { flags & clone::NEWUSER };
        ch.lanes.before.push(Step::parent(ParentOp::Clone { flags: first, cgroup, joiner: true }, from()));
        if ns.is_new(Kind::Time) {
            time_namespace(ch);
        }
        // Root, be it of a user namespace, joins what is its own first, for the rights to it end with the join of another user
        // namespace; anybody else has no rights but those that this join gives. The mount namespace comes last: it changes
        // what paths mean.
        let powerless = !ch.facts.administers();
        joins.sort_by_key(|(kind, _)| match kind {
            Kind::User => {
                if powerless {
                    0
                } else {
                    3
                }
            }
            Kind::Mount => 2,
            _ => 1,
        });
        ch.lanes.joiner.extend(joins.into_iter().map(|(_, step)| step));
        ch.lanes.joiner.push(Step::joiner(JoinerOp::Clone { flags: flags & !first }, from()));
        ch.lanes.parent.push(Step::parent(ParentOp::MeetInit, from()));
    }
    if ns.is_new(Kind::Network) {
        ch.lanes.init.push(Step::init(InitOp::Unshare(clone::NEWNET), from()));
    }
}

fn time_namespace(ch: &mut Chapter<'_>) {
    ch.lanes.joiner.push(Step::joiner(JoinerOp::UnshareTime, Field::new("linux.namespaces")));
    let offsets = &ch.linux.time_offsets;
    if offsets.is_empty() {
        return;
    }
    let mut text = String::new();
    for (clock, offset) in offsets {
        text.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    }
    let field = Field::new("linux.timeOffsets");
    let text = cstring(&text, &field, ch.problems);
    ch.lanes.joiner.push(Step::joiner(JoinerOp::TimeOffsets(text), field));
}

/// Writes the maps of a new user namespace, and makes init its root.
pub(super) fn map_ids(ch: &mut Chapter<'_>) {
    if !ch.namespaces.user {
        return;
    }
    if ch.namespaces.is_new(Kind::User) {
        // One id, the runtime's own, may be mapped by anybody; more needs privilege or the helpers of the shadow suite.
        let own = |maps: &[IdMapping], id: u32| matches!(maps, [m] if m.size == 1 && m.host_id == id);
        let unprivileged = ch.facts.uid != 0;
        let (uids, gids) = (&ch.linux.uid_mappings, &ch.linux.gid_mappings);
        let uid_helper = unprivileged && !own(uids, ch.facts.uid);
        let gid_helper = unprivileged && !own(gids, ch.facts.gid);
        if unprivileged && !gid_helper {
            ch.lanes.parent.push(Step::parent(ParentOp::DenySetgroups, Field::new("linux.gidMappings")));
        }
        let gid = ParentOp::WriteMap { file: "gid_map", text: map_text(gids), helper: gid_helper };
        ch.lanes.parent.push(Step::parent(gid, Field::new("linux.gidMappings")));
        let uid = ParentOp::WriteMap { file: "uid_map", text: map_text(uids), helper: uid_helper };
        ch.lanes.parent.push(Step::parent(uid, Field::new("linux.uidMappings")).reaches(Mark::MapsWritten));
        ch.lanes.init.push(Step::init(InitOp::BecomeRoot, Field::new("linux.uidMappings")).after(Mark::MapsWritten));
    } else {
        ch.lanes.init.push(Step::init(InitOp::BecomeRoot, Field::new("linux.namespaces")));
    }
}

/// Host name and domain name.
pub(super) fn names(ch: &mut Chapter<'_>) {
    let names = [("hostname", ch.spec.hostname.as_deref(), true), ("domainname", ch.spec.domainname.as_deref(), false)];
    for (field, name, host) in names {
        let Some(name) = name.filter(|n| !n.is_empty()) else { continue };
        let field = Field::new(field);
        let name = cstring(name, &field, ch.problems);
        ch.lanes.init.push(Step::init(InitOp::SetName { host, name }, field));
    }
}

/// Kernel parameters, written through a proc filesystem of our own.
pub(super) fn sysctl(ch: &mut Chapter<'_>) {
    for (key, value) in &ch.linux.sysctl {
        let field = Field::new("linux.sysctl").key(key);
        // sysctl(8): dots separate, unless the first separator is a slash; then a dot is part of a name.
        let slash_first = key.find(['.', '/']).is_some_and(|i| key.as_bytes()[i] == b'/');
        let path = if slash_first {
            format!("sys/{}", &**key)
        } else {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            };
            format!("sys/{}", key.chars().map(swap).collect::<String>())
        };
        let proc = ch.procfs(&field);
        let (path, value) = (cstring(&path, &field, ch.problems), cstring(value, &field, ch.problems));
        ch.lanes.init.push(Step::init(InitOp::WriteProc { proc, path, value }, field));
    }
}

/// A descriptor of a mapping for an id-mapped mount.
pub(super) fn mapping(ch: &mut Chapter<'_>, uid: &[IdMapping], gid: &[IdMapping], field: &Field) -> Slot {
    let slot = ch.lanes.slot("id mapping");
    let op = ParentOp::MakeMapping { uid: map_text(uid), gid: map_text(gid), slot };
    ch.lanes.before.push(Step { on_err: OnErr::Fail, ..Step::parent(op, field.clone()) });
    slot
}

/// The link name of a namespace kind in `/proc/PID/ns`.
pub fn proc_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "net",
        Kind::Mount => "mnt",
        kind => kind.name(),
    }
}
