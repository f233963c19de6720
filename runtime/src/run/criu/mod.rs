//! CRIU, which saves processes to files and makes them again (criu.org): `criu swrk` takes one request on a socket that it
//! inherits, tells of what it does on the way, and ends (criu.org, RPC; rpc.proto in its sources).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use crate::sys::{Fault, fs, socket};

pub mod proto;

use proto::{Reader, Writer};

/// More than any answer takes (rule R11).
const MAX_MESSAGE: usize = 64 << 10;
const NOTIFY: i32 = 6;

/// What is asked for (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Save the processes.
    Dump,
    /// Make the processes.
    Restore,
    /// Save memory only; the processes go on.
    PreDump,
}

impl Kind {
    fn number(self) -> i32 {
        match self {
            Kind::Dump => 1,
            Kind::Restore => 2,
            Kind::PreDump => 4,
        }
    }

    /// CRIU's own word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Dump => "DUMP",
            Kind::Restore => "RESTORE",
            Kind::PreDump => "PRE_DUMP",
        }
    }
}

/// How a request is carried out (`criu_opts`). The numbers are those of its fields.
#[derive(Debug, Default)]
pub struct Options {
    /// The directory of the image files, a descriptor of ours.
    pub images: i32,
    /// The directory of the log, a descriptor of ours; without one, that of the images.
    pub work: Option<i32>,
    /// The name of the log.
    pub log: &'static str,
    /// The root process to be saved.
    pub pid: Option<i32>,
    /// The processes go on after they are saved.
    pub leave_running: bool,
    /// Unix sockets may lead outside.
    pub ext_unix_sk: bool,
    /// TCP connections may be open.
    pub tcp_established: bool,
    /// The session's leader may be outside.
    pub shell_job: bool,
    /// File locks are kept.
    pub file_locks: bool,
    /// Memory is fetched when it is used.
    pub lazy_pages: bool,
    /// Pages of the parent's images that newer ones replace are dropped.
    pub auto_dedup: bool,
    /// Where memory pages go instead of into a file.
    pub page_server: Option<(String, u16)>,
    /// The images of an earlier pre-dump, relative to these.
    pub parent_images: Option<String>,
    /// Changes of memory are followed, for the next of a row of dumps.
    pub track_memory: bool,
    /// The root filesystem: a mount point of the runtime's mount namespace when processes are made.
    pub root: String,
    /// How cgroups are treated (`criu_cg_mode`).
    pub cgroups_mode: Option<i32>,
    /// Where the cgroup of the saved root process now is: controllers, empty for all, and path.
    pub cgroup_roots: Vec<(String, String)>,
    /// The cgroup that holds the processes still while they are saved.
    pub freeze_cgroup: Option<String>,
    /// Mounts that lead outside: when saving, mount point and name; when making, name and path of the source.
    pub external_mounts: Vec<(String, String)>,
    /// Other things that are outside, in CRIU's notation.
    pub external: Vec<String>,
    /// Open files that the new processes get: their name, and a descriptor that CRIU inherits.
    pub inherited: Vec<(String, i32)>,
    /// Namespaces that are made and left empty (CLONE_NEW…).
    pub empty_namespaces: u32,
    /// A file with more options.
    pub config_file: Option<String>,
    /// Security module and profile.
    pub lsm_profile: Option<String>,
    /// Context of mounts.
    pub lsm_mount_context: Option<String>,
}

impl Options {
    fn encode(&self, kind: Kind) -> Writer {
        const LOG_DEBUG: i32 = 4;
        let mut w = Writer::default();
        let pair = |first: &str, second: &str| {
            let mut w = Writer::default();
            w.text(1, first);
            w.text(2, second);
            w
        };
        w.number(1, self.images);
        self.pid.inspect(|pid| w.number(2, *pid));
        w.flag(3, self.leave_running);
        w.flag(4, self.ext_unix_sk);
        w.flag(5, self.tcp_established);
        w.flag(6, kind == Kind::Restore); // evasive_devices
        w.flag(7, self.shell_job);
        w.flag(8, self.file_locks);
        w.number(9, LOG_DEBUG);
        w.text(10, self.log);
        if let Some((address, port)) = &self.page_server {
            let mut server = Writer::default();
            server.text(1, address);
            server.number(2, *port);
            w.message(11, &server);
        }
        w.flag(12, true); // notify_scripts
        w.text(13, &self.root);
        self.parent_images.as_ref().inspect(|path| w.text(14, path));
        w.flag(15, self.track_memory);
        w.flag(16, self.auto_dedup);
        self.work.inspect(|fd| w.number(17, *fd));
        self.external_mounts.iter().for_each(|(key, value)| w.message(23, &pair(key, value)));
        w.flag(24, true); // manage_cgroups
        for (controllers, path) in &self.cgroup_roots {
            let mut root = Writer::default();
            if !controllers.is_empty() {
                root.text(1, controllers);
            }
            root.text(2, path);
            w.message(25, &root);
        }
        w.flag(26, kind == Kind::Restore); // rst_sibling: the new root process is our child
        for (key, fd) in &self.inherited {
            let mut inherit = Writer::default();
            inherit.text(1, key);
            inherit.number(2, *fd);
            w.message(27, &inherit);
        }
        self.cgroups_mode.inspect(|mode| w.number(34, *mode));
        self.external.iter().for_each(|name| w.text(37, name));
        if self.empty_namespaces != 0 {
            w.number(38, self.empty_namespaces);
        }
        self.freeze_cgroup.as_ref().inspect(|path| w.text(44, path));
        w.flag(48, self.lazy_pages);
        w.flag(50, true); // orphan_pts_master
        self.config_file.as_ref().inspect(|path| w.text(51, path));
        self.lsm_profile.as_ref().inspect(|profile| w.text(53, profile));
        self.lsm_mount_context.as_ref().inspect(|context| w.text(63, context));
        w
    }
}

/// What CRIU tells of on the way (`criu_notify`).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// What has happened: `post-dump`, `setup-namespaces`, `post-restore`, …
    pub what: String,
    /// The new root process, in the runtime's pid namespace.
    pub pid: i32,
}

/// Why a request was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed {
    /// CRIU answered so; its log says why.
    Refused {
        /// What was asked.
        kind: Kind,
        /// The errno that CRIU names, or 0.
        errno: i32,
        /// Its own words, if any.
        said: String,
    },
    /// Something that was to be done on the way has failed, for this reason.
    OnTheWay(String),
    /// It ended without an answer, or cannot be talked to.
    Lost(String),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        match fault.errno {
            libc::ECONNRESET | libc::EPIPE => Failed::ended(),
            _ => Failed::Lost(fault.to_string()),
        }
    }
}

impl Failed {
    fn ended() -> Self {
        Failed::Lost("criu ended without an answer".to_owned())
    }
}

/// What answers a notice; a descriptor may come along.
pub type Heard<'a> = dyn FnMut(&Notice, Option<OwnedFd>) -> Result<(), String> + 'a;

/// Our end of the socket, and the end that `criu swrk` inherits.
///
/// # Errors
/// What socketpair(2) says.
pub fn socket() -> Result<(OwnedFd, OwnedFd), Fault> {
    let (ours, theirs) = socket::packet_pair()?;
    fs::pass_on(theirs.as_fd())?;
    Ok((ours, theirs))
}

/// Starts `criu swrk` beside us.
///
/// # Errors
/// A program that cannot be executed.
pub fn spawn(program: &str) -> Result<(OwnedFd, Child), String> {
    let (ours, theirs) = socket().map_err(|f| f.to_string())?;
    let mut command = Command::new(program);
    command.arg("swrk").arg(theirs.as_raw_fd().to_string()).stdin(Stdio::null());
    let child = command.spawn().map_err(|e| format!("{program}: {}", crate::sys::io_text(&e)))?;
    Ok((ours, child))
}

/// Asks for something and answers every notice until it is done. Answers the pid of the root process that was made.
///
/// # Errors
/// What CRIU answers, or what failed on the way.
pub fn ask(socket: &OwnedFd, kind: Kind, options: &Options, heard: &mut Heard<'_>) -> Result<i32, Failed> {
    let mut request = Writer::default();
    request.number(1, kind.number());
    request.message(2, &options.encode(kind));
    socket::send(socket.as_fd(), request.bytes())?;
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut on_the_way = None;
    loop {
        let (len, fd) = socket::receive(socket.as_fd(), &mut buffer)?;
        if len == 0 {
            return Err(on_the_way.unwrap_or_else(Failed::ended));
        }
        let answer = Answer::read(&buffer[..len]);
        if answer.kind != NOTIFY {
            return match on_the_way {
                Some(failed) => Err(failed),
                None => answer.done(kind),
            };
        }
        let done = heard(&answer.notice, fd);
        let mut reply = Writer::default();
        reply.number(1, NOTIFY);
        reply.number(3, i64::from(done.is_ok()));
        on_the_way = on_the_way.or(done.err().map(Failed::OnTheWay));
        socket::send(socket.as_fd(), reply.bytes())?;
    }
}

/// `criu_resp`.
#[derive(Debug, Default)]
struct Answer {
    kind: i32,
    success: bool,
    pid: i32,
    notice: Notice,
    errno: i32,
    said: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let mut answer = Answer::default();
        for (field, value) in Reader(bytes) {
            match (field, value) {
                (1, kind) => answer.kind = kind.int(),
                (2, success) => answer.success = success.int() == 1,
                (4, proto::Value::Bytes(restore)) => {
                    answer.pid = Reader(restore).find(|(field, _)| *field == 1).map_or(0, |(_, pid)| pid.int());
                }
                (5, proto::Value::Bytes(notify)) => {
                    for (field, value) in Reader(notify) {
                        match field {
                            1 => answer.notice.what = value.text(),
                            2 => answer.notice.pid = value.int(),
                            _ => {}
                        }
                    }
                }
                (7, errno) => answer.errno = errno.int(),
                (9, said) => answer.said = said.text(),
                _ => {}
            }
        }
        answer
    }

    fn done(self, kind: Kind) -> Result<i32, Failed> {
        if self.success && self.kind == kind.number() {
            return Ok(self.pid);
        }
        Err(Failed::Refused { kind, errno: self.errno, said: self.said })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CRIU that says these things, one for each thing it hears.
    fn peer(theirs: OwnedFd, says: Vec<Writer>) -> std::thread::JoinHandle<Vec<Vec<u8>>> {
        std::thread::spawn(move || {
            let mut heard = Vec::new();
            for what in says {
                let mut buffer = vec![0; MAX_MESSAGE];
                let (len, _) = socket::receive(theirs.as_fd(), &mut buffer).unwrap();
                heard.push(buffer[..len].to_vec());
                socket::send(theirs.as_fd(), what.bytes()).unwrap();
            }
            heard
        })
    }

    fn notice(what: &str, pid: i32) -> Writer {
        let (mut inner, mut outer) = (Writer::default(), Writer::default());
        inner.text(1, what);
        inner.number(2, pid);
        outer.number(1, NOTIFY);
        outer.number(2, 1);
        outer.message(5, &inner);
        outer
    }

    fn answer(kind: Kind, success: bool, pid: i32) -> Writer {
        let (mut restore, mut outer) = (Writer::default(), Writer::default());
        restore.number(1, pid);
        outer.number(1, kind.number());
        outer.number(2, i64::from(success));
        outer.message(4, &restore);
        outer.number(7, 52);
        outer
    }

    #[test]
    fn notices_are_answered_until_it_is_done() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let peer = peer(
            theirs,
            vec![notice("setup-namespaces", 7), notice("post-restore", 7), answer(Kind::Restore, true, 7)],
        );
        let mut seen = Vec::new();
        let options = Options { images: 5, log: "restore.log", root: "/r".to_owned(), ..Options::default() };
        let pid = ask(&ours, Kind::Restore, &options, &mut |notice, _| {
            seen.push((notice.what.clone(), notice.pid));
            Ok(())
        });
        assert_eq!(pid, Ok(7));
        assert_eq!(seen, [("setup-namespaces".to_owned(), 7), ("post-restore".to_owned(), 7)]);
        let heard = peer.join().unwrap();
        assert_eq!(Reader(&heard[0]).next().map(|(n, v)| (n, v.int())), Some((1, 2)));
        // Both notices were answered with success.
        assert!(heard[1..].iter().all(|reply| Reader(reply).any(|(n, v)| (n, v.int()) == (3, 1))));
    }

    #[test]
    fn what_fails_on_the_way_is_told_and_wins() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let peer = peer(theirs, vec![notice("post-restore", 7), answer(Kind::Restore, false, 0)]);
        let failed = ask(&ours, Kind::Restore, &Options::default(), &mut |_, _| Err("no".to_owned()));
        assert_eq!(failed, Err(Failed::OnTheWay("no".to_owned())));
        let heard = peer.join().unwrap();
        assert!(Reader(&heard[1]).any(|(n, v)| (n, v.int()) == (3, 0)));
    }

    #[test]
    fn a_refusal_and_a_death_are_errors() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let one = peer(theirs, vec![answer(Kind::Dump, false, 0)]);
        let failed = ask(&ours, Kind::Dump, &Options::default(), &mut |_, _| Ok(()));
        assert_eq!(failed, Err(Failed::Refused { kind: Kind::Dump, errno: 52, said: String::new() }));
        one.join().unwrap();
        let (ours, theirs) = socket::packet_pair().unwrap();
        let dies = peer(theirs, vec![notice("pre-dump", 0)]);
        assert!(matches!(ask(&ours, Kind::Dump, &Options::default(), &mut |_, _| Ok(())), Err(Failed::Lost(_))));
        dies.join().unwrap();
        // An answer to something else is none.
        let (ours, theirs) = socket::packet_pair().unwrap();
        let other = peer(theirs, vec![answer(Kind::Dump, true, 0)]);
        assert!(ask(&ours, Kind::Restore, &Options::default(), &mut |_, _| Ok(())).is_err());
        other.join().unwrap();
    }
}
